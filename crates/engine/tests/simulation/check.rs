//! What must hold, judged without the engine: by the rows themselves and by stock git on a copy of the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sqlx::{Connection, SqliteConnection};
use treehold_store::Bucket;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::people::Edit;
use crate::world::World;

/// How far a key is on its one way.
fn rank(state: &str) -> u8 {
    match state {
        "reserved" => 0,
        "present" => 1,
        "doomed" => 2,
        "deleted" => 3,
        _ => panic!("a key is {state}"),
    }
}

/// What was seen before, to which nothing may go back.
#[derive(Debug, Default)]
pub struct Past {
    /// Looks are many, and opening costs more than looking.
    db: Option<SqliteConnection>,
    keys: BTreeMap<i64, (String, u8)>,
    horizon: i64,
    epoch: i64,
}

async fn open(world: &World) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", world.database().display())).await.expect("the database")
}

impl Past {
    /// I3 and I4: keys go one way, and so does the horizon.
    pub async fn moved_on(&mut self, world: &World) {
        if self.db.is_none() {
            self.db = Some(open(world).await);
        }
        let db = self.db.as_mut().expect("a connection");
        let rows: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT key_id, s3_key, state FROM s3_keys").fetch_all(&mut *db).await.expect("keys");
        for (id, name, state) in rows {
            let now = rank(&state);
            let (known, before) = self.keys.entry(id).or_insert_with(|| (name.clone(), now));
            assert_eq!(*known, name, "a key has another name");
            assert!(now >= *before, "{name} went back to {state}");
            *before = now;
        }
        let (epoch, horizon): (i64, i64) =
            sqlx::query_as("SELECT epoch, horizon FROM gc_state").fetch_one(db).await.expect("gc_state");
        assert!(horizon >= self.horizon && epoch >= self.epoch, "the horizon went back");
        (self.horizon, self.epoch) = (horizon, epoch);
    }
}

/// Rows that must not be there once everything was settled.
const LEFT: [(&str, &str); 9] = [
    ("open operations", "SELECT count(*) FROM ops WHERE state = 'open'"),
    ("reserved keys", "SELECT count(*) FROM s3_keys WHERE state = 'reserved'"),
    ("doomed keys that were never live", "SELECT count(*) FROM s3_keys WHERE state = 'doomed' AND kept = 0"),
    (
        "attempts half done",
        "SELECT count(*) FROM attempts WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED')",
    ),
    (
        "objects in keys that are not there",
        "SELECT count(*) FROM objects o LEFT JOIN s3_keys k ON k.key_id = o.key_id
         WHERE k.state IS NULL OR k.state <> 'present'",
    ),
    (
        "pending work without content",
        "SELECT count(*) FROM pending p JOIN workspaces w ON w.id = p.workspace
         LEFT JOIN pending_contents c ON c.project = w.project AND c.oid = p.oid AND c.content IS NOT NULL
         LEFT JOIN objects o ON o.oid = p.oid
         WHERE p.oid IS NOT NULL AND c.oid IS NULL AND o.oid IS NULL",
    ),
    (
        "history without content",
        "SELECT count(*) FROM pending_history p JOIN workspaces w ON w.id = p.workspace
         LEFT JOIN pending_contents c ON c.project = w.project AND c.oid = p.oid AND c.content IS NOT NULL
         LEFT JOIN objects o ON o.oid = p.oid
         WHERE p.oid IS NOT NULL AND c.oid IS NULL AND o.oid IS NULL",
    ),
    (
        "refs without a commit row",
        "SELECT count(*) FROM refs r LEFT JOIN commits c ON c.oid = r.oid WHERE c.oid IS NULL",
    ),
    (
        "present keys without an object",
        "SELECT count(*) FROM s3_keys k WHERE state = 'present'
         AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.key_id = k.key_id)",
    ),
];

/// After everything was settled: nothing is half done, I1, I2 and I6. Answers the bucket with the refs as git sees them.
pub async fn settled(world: &World) -> Repo {
    let mut db = open(world).await;
    for (what, query) in LEFT {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut db).await.expect("a number");
        assert_eq!(count, 0, "{what}");
    }
    let dir = world.dir.path().join("copy.git");
    _ = std::fs::remove_dir_all(&dir);
    let copy = Repo::init_bare(&dir);
    copy_bucket(&*world.bucket.sound, &dir).await;
    let rows: Vec<(Uuid, String, Vec<u8>)> =
        sqlx::query_as("SELECT project, name, oid FROM refs").fetch_all(&mut db).await.expect("refs");
    for (project, name, oid) in &rows {
        copy.git().run(["update-ref", &copied(&project.to_string(), name), &hex(oid)]);
    }
    copy.fsck_strict();
    let ledger: Vec<(Vec<u8>, i64, i64, String)> =
        sqlx::query_as("SELECT oid, type, size, state FROM objects").fetch_all(&mut db).await.expect("objects");
    objects_are_there(&copy, &ledger);
    let live: BTreeSet<String> = ledger.iter().filter(|(.., state)| state == "L").map(|(oid, ..)| hex(oid)).collect();
    for oid in copy.reachable() {
        assert!(live.contains(&oid), "{oid} is reached by a ref, and not live in the ledger");
    }
    copy
}

/// I2: every row of the ledger is an object that git finds in the bucket, of that type and size.
fn objects_are_there(copy: &Repo, ledger: &[(Vec<u8>, i64, i64, String)]) {
    let asked: String = ledger.iter().map(|(oid, ..)| format!("{}\n", hex(oid))).collect();
    let found = copy.git().run_with(["cat-file", "--batch-check=%(objectname) %(objectsize)"], asked.as_bytes());
    for ((oid, _, size, _), found) in ledger.iter().zip(found.lines()) {
        assert_eq!(found, format!("{} {size}", hex(oid)), "what the ledger has is not in the bucket");
    }
}

fn hex(oid: &[u8]) -> String {
    oid.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn copy_bucket(bucket: &dyn Bucket, to: &Path) {
    let mut after = None;
    loop {
        let page = bucket.list("objects/", after.as_deref(), 1000).await.expect("a list");
        for (key, _) in page.entries {
            let path = to.join(&key);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, bucket.get(&key, None).await.expect("a value").expect("a value")).expect("a file");
        }
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}

/// What a ref of a project is called in the copy of the bucket, which is everybody's.
pub fn copied(project: &str, name: &str) -> String {
    format!("refs/{project}/{}", name.strip_prefix("refs/").expect("a full name"))
}

/// A commit as git shows it.
#[derive(Debug)]
pub struct Shown {
    pub oid: String,
    pub subject: String,
    /// What it changes of its parent, by path.
    pub changes: Vec<Edit>,
}

/// All commits that a branch has and that are no merges.
pub fn commits(copy: &Repo, branch: &str) -> Vec<Shown> {
    let log = ["log", "--no-merges", "--no-renames", "--raw", "--no-abbrev", "--format=%H %s", branch];
    let mut commits: Vec<Shown> = Vec::new();
    for line in copy.git().run(log).lines().filter(|line| !line.is_empty()) {
        let Some(change) = line.strip_prefix(':') else {
            let (oid, subject) = line.split_once(' ').expect("a commit");
            commits.push(Shown { oid: oid.to_owned(), subject: subject.to_owned(), changes: Vec::new() });
            continue;
        };
        // Two modes, two ids and a letter; then the path.
        let (facts, path) = change.split_once('\t').expect("a change");
        let facts: Vec<&str> = facts.split(' ').collect();
        let there = (facts[4] != "D").then(|| facts[3].to_owned());
        commits.last_mut().expect("its commit").changes.push((path.to_owned(), there));
    }
    commits
}

/// What is in a project's pending work, that work's history, or reached by the project's refs.
pub async fn kept(world: &World, copy: &Repo, project: &str) -> BTreeSet<String> {
    let mut db = open(world).await;
    let id: Uuid = project.parse().expect("an id");
    let rows: Vec<(Vec<u8>,)> = sqlx::query_as(
        "SELECT p.oid FROM pending p JOIN workspaces w ON w.id = p.workspace WHERE w.project = $1 AND p.oid IS NOT NULL
         UNION SELECT p.oid FROM pending_history p JOIN workspaces w ON w.id = p.workspace
         WHERE w.project = $1 AND p.oid IS NOT NULL",
    )
    .bind(id)
    .fetch_all(&mut db)
    .await
    .expect("oids");
    let refs = format!("--glob={}*", copied(project, "refs/"));
    let reached = copy.git().run(["rev-list", "--objects", "--no-object-names", refs.as_str()]);
    rows.iter().map(|(oid,)| hex(oid)).chain(reached.lines().map(str::to_owned)).collect()
}
