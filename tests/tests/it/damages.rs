//! Damage of every kind, done to the files of a bucket and the rows of a database, and undone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use treehold_catalog::{Catalog, Job, Located, RoaringTreemap};
use treehold_engine::remote::{GitRemote, RemoteTimeouts};
use treehold_engine::{Ambient, Code, Engine, EngineConfig, Limits};
use treehold_object::{ObjectId, second_opinion};
use treehold_store::{Bucket, DirectoryBucket, Location, Object, ObjectStore, StoreError, StoreOptions};
use uuid::Uuid;

use crate::deployment::{Deployment, Setup};

/// Kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    FlippedByte,
    TruncatedPack,
    MissingPack,
    MissingIndex,
    CorruptIndex,
    SwappedPacks,
    UnknownPack,
    ForeignName,
    DeletedRow,
    WrongOffset,
    WrongLength,
    WrongSize,
    WrongType,
    WrongSha256,
    WrongKey,
    Condemned,
    DoomedKey,
    ReachTooSmall,
    ReachTooLarge,
    ReachDead,
    ReachUnreadable,
    BrokenRef,
    StaleCommit,
    DeletedCommit,
    DeletedParent,
    StaleTree,
    WrongPending,
    LostPending,
    LostVersion,
    FarHorizon,
}

impl Kind {
    pub const ALL: [Kind; 30] = [
        Kind::FlippedByte,
        Kind::TruncatedPack,
        Kind::MissingPack,
        Kind::MissingIndex,
        Kind::CorruptIndex,
        Kind::SwappedPacks,
        Kind::UnknownPack,
        Kind::ForeignName,
        Kind::DeletedRow,
        Kind::WrongOffset,
        Kind::WrongLength,
        Kind::WrongSize,
        Kind::WrongType,
        Kind::WrongSha256,
        Kind::WrongKey,
        Kind::Condemned,
        Kind::DoomedKey,
        Kind::ReachTooSmall,
        Kind::ReachTooLarge,
        Kind::ReachDead,
        Kind::ReachUnreadable,
        Kind::BrokenRef,
        Kind::StaleCommit,
        Kind::DeletedCommit,
        Kind::DeletedParent,
        Kind::StaleTree,
        Kind::WrongPending,
        Kind::LostPending,
        Kind::LostVersion,
        Kind::FarHorizon,
    ];

    /// What adding can make good, if the bytes are somewhere else.
    pub const REPAIRABLE: [Kind; 15] = [
        Kind::FlippedByte,
        Kind::TruncatedPack,
        Kind::MissingPack,
        Kind::MissingIndex,
        Kind::CorruptIndex,
        Kind::DeletedRow,
        Kind::WrongOffset,
        Kind::WrongLength,
        Kind::WrongKey,
        Kind::Condemned,
        Kind::DoomedKey,
        Kind::ReachTooSmall,
        Kind::ReachDead,
        Kind::DeletedCommit,
        Kind::DeletedParent,
    ];
}

/// Damage that was done.
pub struct Damaged {
    /// One of these is found.
    pub codes: Vec<Code>,
    /// About this, if only one thing can be meant.
    pub subject: Option<String>,
    pub undo: Undo,
}

/// How to undo it.
#[derive(Default)]
pub struct Undo {
    /// Files as they were; `None`: there was none.
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Statements.
    sql: Vec<String>,
}

#[derive(Debug)]
struct Host;

impl Ambient for Host {
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        i64::try_from(since.as_millis()).expect("a time")
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}

/// Engines in this process over what a deployment has stored, without a cache, and hands on all of it.
pub struct Lab {
    setup: Setup,
    url: String,
    catalog: Arc<dyn Catalog>,
    bucket: Arc<dyn Bucket>,
    objects: PathBuf,
    dir: TempDir,
}

impl Lab {
    pub async fn open(d: &Deployment) -> Self {
        let file = format!("sqlite://{}", d.data.path().join("treehold.db").display());
        let url = d.database_url.clone().unwrap_or(file);
        let catalog = treehold_catalog::open_catalog(&url).await.expect("the catalog");
        let objects = d.objects_dir().await;
        // Both kinds of store are files in the end.
        let dir =
            tempfile::tempdir_in(objects.parent().expect("a store").parent().expect("beside it")).expect("a directory");
        let store = objects.parent().expect("a store").to_owned();
        let bucket = DirectoryBucket::open(&store, &dir.path().join("tmp")).expect("the bucket");
        Self { setup: d.setup, url, catalog, bucket: Arc::new(bucket), objects, dir }
    }

    fn store(&self) -> ObjectStore {
        let mut options = StoreOptions::new(self.dir.path().join("spool"));
        options.cache.memory_bytes = 0;
        ObjectStore::new(Arc::clone(&self.bucket), options)
    }

    /// An engine that has nothing at hand.
    pub fn engine(&self) -> Engine {
        let spool_dir = self.dir.path().join("spool");
        std::fs::create_dir_all(&spool_dir).expect("a spool directory");
        let remote = GitRemote::new(Vec::new(), spool_dir.clone(), RemoteTimeouts::default()).expect("a remote");
        let config = EngineConfig {
            limits: Limits::default(),
            spool_dir,
            remote_token: None,
            author: ("T".to_owned(), "t@example.org".to_owned()),
            merge_attempts: 1,
            sole: false,
            op_timeout: Duration::from_secs(900),
            feed: treehold_engine::FeedRetention::default(),
            key_grace: Duration::from_secs(3600),
            tree_cache_bytes: 0,
        };
        Engine::new(Arc::clone(&self.catalog), self.store(), Arc::new(remote), Arc::new(Host), config)
    }

    /// What is on record of the verification.
    pub async fn job(&self) -> Job {
        let jobs = self.catalog.jobs().await.expect("jobs");
        jobs.into_iter().find(|job| job.name == "verify").expect("the job")
    }

    /// Names in the bucket.
    pub async fn names(&self) -> BTreeSet<String> {
        let page = self.bucket.list("objects/", None, 100_000).await.expect("a list");
        page.entries.into_iter().map(|(name, _)| name).collect()
    }

    /// Other copies of all objects, which no row names: every other one loose, the others in a pack that is doomed.
    pub async fn keep_copies(&self) {
        let numbers = self.ints("SELECT number FROM objects ORDER BY number").await;
        let numbers: Vec<u64> = numbers.into_iter().map(|number| number as u64).collect();
        let located = self.catalog.locate_numbers(&numbers).await.expect("locate");
        let objects: Vec<Object> =
            self.read(located).await.into_iter().map(|read| read.expect("a whole object")).collect();
        let (loose, packed): (Vec<_>, Vec<_>) = objects.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let store = self.store();
        store.put_loose_many(loose.into_iter().map(|(_, object)| object).collect()).await.expect("loose objects");
        let pack = store.build_pack(packed.into_iter().map(|(_, object)| object).collect()).await.expect("a pack");
        let name = treehold_store::pack_key(&pack.checksum, Uuid::new_v4().into_bytes());
        store.put_pack(&pack, &name).await.expect("a pack");
        let op = self.uuid(Uuid::new_v4());
        let values = format!("('{name}', 'doomed', 1, {op}, 9000000000000)");
        self.execute(format!("INSERT INTO s3_keys (s3_key, state, kept, op_id, doomed_at) VALUES {values}")).await;
    }

    /// From the bucket, by the ledger's word.
    async fn read(&self, located: Vec<Located>) -> Vec<Result<Object, StoreError>> {
        let chains = self.catalog.chains(&located).await.expect("chains");
        let locations: Vec<Location> = located
            .into_iter()
            .zip(chains)
            .map(|(Located { oid, kind, size, key, offset, length, .. }, bases)| Location {
                oid,
                kind,
                size,
                key,
                offset,
                length,
                bases,
            })
            .collect();
        self.store().get_many(&locations).await
    }

    /// Reads every object of the ledger, each at its place, and those of the project as its users would: what comes is right. How many
    /// could be read at their places, and how many there are.
    pub async fn serves_nothing_wrong(&self, project: Uuid) -> [usize; 2] {
        let numbers: Vec<u64> =
            self.ints("SELECT number FROM objects ORDER BY number").await.into_iter().map(|n| n as u64).collect();
        let Ok(located) = self.catalog.locate_numbers(&numbers).await else { return [0, numbers.len()] };
        let engine = self.engine();
        for object in located.iter().step_by(7) {
            if let Ok(raw) = engine.raw_object(&project.to_string(), object.kind, object.oid).await {
                assert_eq!(second_opinion(raw.kind, &raw.content), object.oid, "wrong bytes were served");
            }
        }
        let mut served = 0;
        for read in self.read(located).await.into_iter().flatten() {
            assert_eq!(second_opinion(read.kind, &read.content), read.oid, "wrong bytes were served");
            served += 1;
        }
        [served, numbers.len()]
    }

    /// Breaks the stored bytes of one object for good.
    pub async fn spoil(&self, oid: &str) {
        let oid = ObjectId::from_hex(oid.as_bytes()).expect("an oid");
        let object = self.catalog.locate(&[oid]).await.expect("locate").pop().flatten().expect("its place");
        self.flip(&object, object.offset + object.length / 2);
    }

    /// All pending work that started from something started from this, it says from now on.
    pub async fn rebase(&self, oid: &str) {
        let oid = self.bytes(ObjectId::from_hex(oid.as_bytes()).expect("an oid").as_slice());
        self.execute(format!("UPDATE pending SET base_oid = {oid} WHERE base_oid IS NOT NULL")).await;
    }

    pub async fn undo(&self, undo: Undo) {
        for (path, bytes) in undo.files {
            match bytes {
                Some(bytes) => overwrite(&path, &bytes),
                None => std::fs::remove_file(&path).expect("remove"),
            }
        }
        for sql in undo.sql {
            self.execute(sql).await;
        }
    }

    pub async fn damage(&self, kind: Kind, project: Uuid, random: &mut StdRng) -> Damaged {
        match kind {
            Kind::FlippedByte
            | Kind::TruncatedPack
            | Kind::MissingPack
            | Kind::MissingIndex
            | Kind::CorruptIndex
            | Kind::SwappedPacks
            | Kind::UnknownPack
            | Kind::ForeignName => self.damage_files(kind, random).await,
            Kind::DeletedRow
            | Kind::WrongOffset
            | Kind::WrongLength
            | Kind::WrongSize
            | Kind::WrongType
            | Kind::WrongSha256
            | Kind::WrongKey
            | Kind::Condemned => self.damage_object(kind, project, random).await,
            Kind::ReachTooSmall | Kind::ReachTooLarge | Kind::ReachDead | Kind::ReachUnreadable => {
                self.damage_reach(kind, project, random).await
            }
            _ => self.damage_rows(kind, project, random).await,
        }
    }

    async fn damage_files(&self, kind: Kind, random: &mut StdRng) -> Damaged {
        let packs = self.packs().await;
        let name = packs.choose(random).expect("a pack").clone();
        let idx = treehold_store::idx_key(&name).expect("a pack");
        let (pack_path, idx_path) = (self.path(&name), self.path(&idx));
        let (pack, index) = (read(&pack_path), read(&idx_path));
        let mut undo = Undo {
            files: vec![(pack_path.clone(), Some(pack.clone())), (idx_path.clone(), Some(index.clone()))],
            ..Undo::default()
        };
        let (codes, subject) = match kind {
            Kind::FlippedByte => {
                let object = self.some_object("1 = 1", random).await;
                let path = self.path(&object.key);
                undo.files = vec![(path.clone(), Some(read(&path)))];
                self.flip(&object, object.offset + random.random_range(0..object.length));
                (vec![Code::ObjectCorrupt], Some(object.oid.to_string()))
            }
            Kind::TruncatedPack => {
                overwrite(&pack_path, &pack[..random.random_range(0..pack.len())]);
                (vec![Code::KeyTruncated, Code::PackCorrupt], Some(name))
            }
            Kind::MissingPack => {
                std::fs::remove_file(&pack_path).expect("remove");
                (vec![Code::KeyMissing], Some(name))
            }
            Kind::MissingIndex => {
                std::fs::remove_file(&idx_path).expect("remove");
                (vec![Code::IdxMissing], Some(name))
            }
            Kind::CorruptIndex => {
                let mut index = index;
                let at = random.random_range(0..index.len());
                index[at] ^= 1 << random.random_range(0..8);
                overwrite(&idx_path, &index);
                (vec![Code::IdxCorrupt], Some(name))
            }
            Kind::SwappedPacks => {
                let other = packs.iter().find(|other| **other != name).expect("another pack");
                let other_path = self.path(other);
                let bytes = read(&other_path);
                overwrite(&other_path, &pack);
                overwrite(&pack_path, &bytes);
                undo.files.push((other_path, Some(bytes)));
                (vec![Code::PackCorrupt, Code::KeyTruncated], Some(name))
            }
            Kind::UnknownPack => {
                let name = format!("objects/pack/pack-{:040x}.pack", random.random::<u128>());
                undo.files = vec![(self.path(&name), None)];
                overwrite(&self.path(&name), &pack);
                (vec![Code::KeyUnknown], Some(name))
            }
            _ => {
                let name = format!("objects/pack/tmp_pack_{}", random.random::<u16>());
                undo.files = vec![(self.path(&name), None)];
                overwrite(&self.path(&name), b"junk");
                (vec![Code::NameForeign], Some(name))
            }
        };
        Damaged { codes, subject, undo }
    }

    /// One row of the ledger, of an object that the project reaches.
    async fn damage_object(&self, kind: Kind, project: Uuid, random: &mut StdRng) -> Damaged {
        let reach = self.catalog.reach(project).await.expect("reach");
        let object = loop {
            let object = self.some_object("1 = 1", random).await;
            if reach.contains(object.number) {
                break object;
            }
        };
        let row = format!("number = {}", object.number);
        let undo = self.saved("objects", &row).await;
        let (set, codes) = match kind {
            Kind::DeletedRow => (String::new(), vec![Code::ObjectMissing, Code::RefBroken, Code::PendingMissing]),
            Kind::WrongOffset => (format!("off = off + {}", random.random_range(1..100)), vec![Code::IdxDisagrees]),
            Kind::WrongLength => {
                (format!("len = len + {}", [-1, 1, 50].choose(random).expect("one")), vec![Code::IdxDisagrees])
            }
            Kind::WrongSize => ("size = size + 1".to_owned(), vec![Code::ObjectCorrupt]),
            Kind::WrongType => ("type = type % 4 + 1".to_owned(), vec![Code::ObjectKind, Code::ObjectCorrupt]),
            Kind::WrongSha256 => {
                (format!("sha256 = {}", self.bytes(&random.random::<[u8; 32]>())), vec![Code::ObjectSha256])
            }
            Kind::WrongKey => ("key_id = key_id + 1000000".to_owned(), vec![Code::LedgerMisplaced]),
            _ => ("state = 'C'".to_owned(), vec![Code::ObjectCondemned, Code::PendingMissing]),
        };
        match kind {
            Kind::DeletedRow => self.execute(format!("DELETE FROM objects WHERE {row}")).await,
            _ => self.execute(format!("UPDATE objects SET {set} WHERE {row}")).await,
        }
        Damaged { codes, subject: Some(object.oid.to_string()), undo }
    }

    async fn damage_reach(&self, kind: Kind, project: Uuid, random: &mut StdRng) -> Damaged {
        let of = format!("project = {}", self.uuid(project));
        let undo = self.saved("reach", &of).await;
        let mut reach = self.catalog.reach(project).await.expect("reach");
        let numbers: Vec<u64> = reach.iter().collect();
        let code = match kind {
            Kind::ReachTooSmall => {
                // Of a number that is a row's: an import may have left others.
                let known = self.ints("SELECT number FROM objects").await;
                let known: Vec<u64> = numbers.into_iter().filter(|n| known.contains(&(*n as i64))).collect();
                reach.remove(*known.choose(random).expect("a number"));
                Code::ReachMissing
            }
            Kind::ReachTooLarge => {
                let others = self.ints("SELECT number FROM objects").await.into_iter().map(|number| number as u64);
                let others: Vec<u64> = others.filter(|number| !reach.contains(*number)).collect();
                reach.insert(*others.choose(random).expect("an object of another project"));
                Code::ReachExtra
            }
            Kind::ReachDead => {
                reach.insert(numbers.last().expect("a number") + random.random_range(100_000..200_000));
                Code::ReachDead
            }
            _ => Code::ReachInvalid,
        };
        let bytes = match kind {
            Kind::ReachUnreadable => b"junk".to_vec(),
            _ => serialized(&reach),
        };
        self.execute(format!("UPDATE reach SET bitmap = {} WHERE {of}", self.bytes(&bytes))).await;
        Damaged { codes: vec![code], subject: Some(project.to_string()), undo }
    }

    async fn damage_rows(&self, kind: Kind, project: Uuid, random: &mut StdRng) -> Damaged {
        let of = format!("project = {}", self.uuid(project));
        let (table, row, change, codes) = match kind {
            Kind::DoomedKey => {
                let object = self.some_object("1 = 1", random).await;
                let row = format!("key_id = {}", object.key_id);
                ("s3_keys", row, "state = 'doomed', kept = 1, doomed_at = 9000000000000", vec![Code::LedgerMisplaced])
            }
            Kind::BrokenRef => ("refs", format!("{of} AND name = 'refs/heads/main'"), "oid = $", vec![Code::RefBroken]),
            Kind::StaleCommit => {
                ("commits", self.some_row("commits", random).await, "tree = $", vec![Code::CommitRowStale])
            }
            Kind::DeletedCommit => {
                ("commits", self.some_row("commits", random).await, "", vec![Code::CommitRowMissing])
            }
            Kind::DeletedParent => {
                ("commit_parents", self.some_row("commit_parents", random).await, "", vec![Code::CommitParentsStale])
            }
            Kind::StaleTree => ("trees", self.some_row("trees", random).await, "raw = $", vec![Code::TreeRowStale]),
            Kind::WrongPending => {
                let row = format!("{of} AND content IS NOT NULL");
                ("pending_contents", row, "encoding = 0, size = 20, content = $", vec![Code::PendingCorrupt])
            }
            Kind::LostPending => ("pending_contents", of.clone(), "", vec![Code::PendingMissing]),
            Kind::LostVersion => {
                let row = format!("{of} AND oid NOT IN (SELECT oid FROM pending WHERE oid IS NOT NULL)");
                ("pending_contents", row, "", vec![Code::HistoryMissing])
            }
            _ => ("gc_state", "id = 1".to_owned(), "horizon = epoch + 5", vec![Code::HorizonAhead]),
        };
        let undo = self.saved(table, &row).await;
        let change = change.replace('$', &self.bytes(&random.random::<[u8; 20]>()));
        match change.is_empty() {
            true => self.execute(format!("DELETE FROM {table} WHERE {row}")).await,
            false => self.execute(format!("UPDATE {table} SET {change} WHERE {row}")).await,
        }
        Damaged { codes, subject: None, undo }
    }

    /// How to put rows back as they are now.
    async fn saved(&self, table: &str, row: &str) -> Undo {
        let copy = format!("saved_{}", Uuid::new_v4().simple());
        self.execute(format!("CREATE TABLE {copy} AS SELECT * FROM {table} WHERE {row}")).await;
        // Rows that changed so that they are no longer named by `row` do not occur: keys stay.
        let row = row.replace(" AND content IS NOT NULL", "");
        let back = match table {
            "pending_contents" => format!("DELETE FROM {table} WHERE {row} AND oid IN (SELECT oid FROM {copy})"),
            _ => format!("DELETE FROM {table} WHERE {row}"),
        };
        let sql = vec![
            back,
            format!("INSERT INTO {table} {} SELECT * FROM {copy}", self.overriding(table)),
            format!("DROP TABLE {copy}"),
        ];
        Undo { files: Vec::new(), sql }
    }

    /// Postgres makes the ids of keys itself unless it is told not to.
    fn overriding(&self, table: &str) -> &'static str {
        if self.setup == Setup::Cluster && table == "s3_keys" { "OVERRIDING SYSTEM VALUE" } else { "" }
    }

    async fn some_object(&self, condition: &str, random: &mut StdRng) -> Located {
        let numbers = self.ints(&format!("SELECT number FROM objects WHERE {condition} ORDER BY number")).await;
        let number = *numbers.choose(random).expect("an object") as u64;
        self.catalog.locate_numbers(&[number]).await.expect("locate").pop().expect("its place")
    }

    /// A condition that one row of a table meets.
    async fn some_row(&self, table: &str, random: &mut StdRng) -> String {
        let hex = if self.setup == Setup::Cluster { "encode(oid, 'hex')" } else { "hex(oid)" };
        let oids = self.texts(&format!("SELECT {hex} FROM {table} ORDER BY oid")).await;
        let oid = oids.choose(random).expect("a row");
        let oid = ObjectId::from_hex(oid.to_lowercase().as_bytes()).expect("an oid");
        format!("oid = {}", self.bytes(oid.as_slice()))
    }

    /// Packs that are in use.
    async fn packs(&self) -> Vec<String> {
        self.texts("SELECT s3_key FROM s3_keys WHERE state = 'present' AND s3_key LIKE '%.pack' ORDER BY key_id").await
    }

    fn path(&self, key: &str) -> PathBuf {
        self.objects.join(key.strip_prefix("objects/").expect("a key"))
    }

    fn flip(&self, object: &Located, at: u64) {
        let path = self.path(&object.key);
        let mut bytes = read(&path);
        // All bits: single ones can be the filling behind a stream.
        bytes[usize::try_from(at).expect("an offset")] ^= 0xff;
        overwrite(&path, &bytes);
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.setup == Setup::Cluster { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") }
    }

    fn uuid(&self, id: Uuid) -> String {
        if self.setup == Setup::Cluster { format!("'{id}'::uuid") } else { self.bytes(id.as_bytes()) }
    }

    async fn execute(&self, sql: String) {
        let done = match self.setup {
            Setup::Cluster => {
                let mut connection = PgConnection::connect(&self.url).await.expect("Postgres");
                sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut connection).await.map(drop)
            }
            Setup::Embedded => {
                let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
                sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut connection).await.map(drop)
            }
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn ints(&self, sql: &str) -> Vec<i64> {
        match self.setup {
            Setup::Cluster => {
                let mut connection = PgConnection::connect(&self.url).await.expect("Postgres");
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect("numbers")
            }
            Setup::Embedded => {
                let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect("numbers")
            }
        }
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        match self.setup {
            Setup::Cluster => {
                let mut connection = PgConnection::connect(&self.url).await.expect("Postgres");
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect("texts")
            }
            Setup::Embedded => {
                let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect("texts")
            }
        }
    }
}

fn serialized(bitmap: &RoaringTreemap) -> Vec<u8> {
    let mut bytes = Vec::new();
    bitmap.serialize_into(&mut bytes).expect("memory");
    bytes
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Stored files may be read-only.
fn overwrite(path: &Path, bytes: &[u8]) {
    _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
