//! From settings to an engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::UnixStream;
use treehold_catalog::{Catalog, MigrationReport, NameState, PostgresOptions};
use treehold_engine::remote::{GitRemote, RemoteTimeouts};
use treehold_engine::{Ambient, Engine, EngineConfig, EngineError, Progress};
use treehold_github::GitHub;
use treehold_store::{Bucket, Metered, ObjectStore, RetryPolicy, Retrying, StoreOptions};

use crate::ambient::Host;
use crate::cache;
use crate::control::client;
use crate::elsewhere::Elsewhere;
use crate::failure::Failure;
use crate::home::{self, Home, Lock};
use crate::operation::Operation;
use crate::settings::Settings;

/// How long a command waits for another command to end, and a start for the bucket.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an attempt is made again when the remote moved meanwhile.
const MERGE_ATTEMPTS: u32 = 10;
/// How old an operation's last sign of life may be before it counts as dead.
const OP_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Names of the bucket that a start looks at.
const KEYS_LOOKED_AT: usize = 1000;
/// Clocks that differ by more are worth a warning, milliseconds.
const CLOCK_OFFSET_MS: i64 = 5_000;
/// How long emptied keys keep their bytes beside a database that can be set back to any time of the last week.
const KEY_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The same for the embedded database, which is backed up with its store or not at all.
const KEY_GRACE_EMBEDDED: Duration = Duration::from_secs(24 * 3600);

/// An engine, with what it stands on.
#[derive(Debug)]
pub struct Opened {
    /// The verbs.
    pub engine: Engine,
    catalog: Arc<dyn Catalog>,
    bucket: Arc<dyn Bucket>,
    /// Where database and store lie, if both are files here.
    places: Option<Places>,
    /// Held to the end: dropped after the engine.
    _locks: Vec<Lock>,
}

/// Database and store of the embedded set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The SQLite file.
    pub database: PathBuf,
    /// The directory that holds `objects`.
    pub store: PathBuf,
}

impl Places {
    /// `None` if either is elsewhere.
    pub fn of(settings: &Settings) -> Option<Self> {
        Some(Self { database: settings.database_file()?.to_owned(), store: store_dir(settings)? })
    }
}

impl Opened {
    /// Where database and store lie, if both are files here.
    pub fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// Everything that is not object bytes.
    pub fn catalog(&self) -> &dyn Catalog {
        &*self.catalog
    }

    /// After the database was set back in time: nothing that was under way then can finish. The epoch from now on. Refused, and nothing
    /// changed, where the bucket is another database's; one that does not answer is looked at before anything is written to it.
    pub async fn fence(&self) -> Result<i64, Failure> {
        let answers = match self.engine.check_set_back().await {
            Ok(()) => true,
            Err(error @ (EngineError::Conflict { .. } | EngineError::Damaged { .. })) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(cause = ?error, "whether the bucket is this database's was not found out: {error}");
                false
            }
        };
        let fenced = self.catalog.set_back(Host.now_ms()).await;
        let epoch = fenced.map_err(|error| Failure::failed("cannot fence off what was under way").because(error))?;
        if answers {
            // It may have been set back to before the two were tied to each other.
            self.engine.tie_set_back().await?;
        }
        Ok(epoch)
    }

    /// Refuses a database that knows nothing of a store that is full: it was lost, or is not the store's. Whoever worked with it would
    /// take everything in the store for garbage.
    pub async fn check_ledger(&self) -> Result<(), Failure> {
        let unreadable = |error| Failure::failed("the database does not answer").because(error);
        if !self.catalog.stored_keys(0, 1).await.map_err(unreadable)?.is_empty() {
            return Ok(());
        }
        // Whether the bucket answers is told elsewhere, and nothing hangs on it.
        let Ok(page) = self.bucket.list("objects/pack/", None, KEYS_LOOKED_AT).await else { return Ok(()) };
        let names: Vec<String> = page.entries.into_iter().map(|(key, _)| key).collect();
        let packs = names.iter().filter(|name| name.ends_with(".pack")).cloned().collect::<Vec<_>>();
        let states = self.catalog.name_states(&packs).await.map_err(unreadable)?;
        match packs.is_empty() || states.iter().any(|state| *state != NameState::Unknown) {
            true => Ok(()),
            false => Err(Failure::failed(
                "the store holds packs, but the database knows of none: check `store_url` and `database_url`; if the database was \
                 lost, restore it, or run `treehold admin rebuild`",
            )),
        }
    }

    /// Refuses a bucket that is another database's, or does not say whose it is, before anything is written to it. One that does not answer
    /// is told of elsewhere; nothing is written to it and nothing deleted until it was found out, which the engine does before either.
    pub async fn check_store(&self) -> Result<(), Failure> {
        match tokio::time::timeout(PATIENCE, self.engine.tie_store_once()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ (EngineError::Conflict { .. } | EngineError::Damaged { .. }))) => Err(error.into()),
            Ok(Err(error)) => {
                tracing::warn!(cause = ?error, "whether the bucket is this database's was not found out: {error}");
                Ok(())
            }
            Err(_) => {
                tracing::warn!("whether the bucket is this database's was not found out: it does not answer in time");
                Ok(())
            }
        }
    }

    /// Says in the log how far the database's clock is from ours. Nothing is decided by clocks alone, but grace and leases are
    /// measured by them.
    pub async fn compare_clocks(&self) {
        match self.catalog.clock_ms().await {
            Ok(None) => {}
            Ok(Some(theirs)) => {
                let ahead_ms = Host.now_ms().saturating_sub(theirs);
                match ahead_ms.abs() > CLOCK_OFFSET_MS {
                    true => tracing::warn!(ahead_ms, "this clock and the database's differ: keep both with NTP"),
                    false => tracing::info!(ahead_ms, "this clock and the database's agree"),
                }
            }
            Err(error) => tracing::warn!(%error, "the database's clock could not be read"),
        }
    }

    /// Brings the schema up to date.
    pub async fn migrate(&self) -> Result<MigrationReport, Failure> {
        migrate(&*self.catalog).await
    }

    /// Says in the log if the bucket lets a key be written twice, or does not answer. Nothing depends on it, but an
    /// operator should know.
    pub async fn probe(&self) {
        // It writes; whoever wants to write next is told why not.
        if self.engine.tie_store_once().await.is_err() {
            return;
        }
        match treehold_store::keeps_first_value(&*self.bucket).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the bucket ignores conditional writes: give nobody else write access to it"),
            Err(error) => {
                tracing::warn!(cause = ?error, "the bucket does not answer as it should (`treehold doctor` says more): {error}")
            }
        }
    }
}

async fn migrate(catalog: &dyn Catalog) -> Result<MigrationReport, Failure> {
    catalog
        .migrate()
        .await
        .map_err(|error| Failure::failed("cannot bring the database's schema up to date").because(error))
}

/// Whether opening brings the schema up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// It does, as for a server.
    Migrate,
    /// It does, if this process alone uses the database; a shared one must have a schema already.
    MigrateOwn,
    /// It does not.
    Leave,
}

/// Opens database, bucket and engine. `locks` are those of [`own`], empty for a shared database.
pub async fn open(settings: &Settings, home: &Home, locks: Vec<Lock>, schema: Schema) -> Result<Opened, Failure> {
    if let Some(lock) = locks.first() {
        home.prepare(lock, settings.database_file())?;
    }
    let options = PostgresOptions { connections_max: settings.load.database_connections, ..PostgresOptions::default() };
    let catalog = treehold_catalog::open_catalog_with(&settings.database_url, options).await.map_err(|error| {
        Failure::failed("cannot open the database; check `database_url` and that it runs; `treehold doctor` says more")
            .because(error)
    })?;
    warn_if_newer(&*catalog).await;
    match schema {
        Schema::Leave => {}
        Schema::MigrateOwn if !settings.embedded() => {
            let version = catalog.schema_version().await;
            let version = version.map_err(|error| Failure::failed("the database does not answer").because(error))?;
            if version == 0 {
                return Err(Failure::failed("the database has no schema yet: run `treehold admin migrate` first"));
            }
        }
        Schema::Migrate | Schema::MigrateOwn => {
            let report = migrate(&*catalog).await?;
            if !report.applied.is_empty() {
                tracing::info!(applied = ?report.applied, "the database's schema was brought up to date");
            }
        }
    }
    if schema != Schema::Leave {
        refuse_half_rebuilt(&*catalog).await?;
    }
    assemble(settings, home, catalog, locks, schema == Schema::Migrate).await
}

/// What a rebuild has not read yet would look like garbage.
async fn refuse_half_rebuilt(catalog: &dyn Catalog) -> Result<(), Failure> {
    // A schema from before there were jobs has no rebuild either.
    let jobs = catalog.jobs().await.unwrap_or_default();
    match jobs.iter().any(|job| job.name == "rebuild" && job.progress.is_some()) {
        false => Ok(()),
        true => Err(Failure::failed("a rebuild was cut off: run `treehold admin rebuild` until it is done")),
    }
}

/// A release works with the schema of the next one; of later ones nobody knows.
async fn warn_if_newer(catalog: &dyn Catalog) {
    if let Ok(version) = catalog.schema_version().await
        && version > catalog.schema_known()
    {
        let known = catalog.schema_known();
        tracing::warn!(
            version,
            known,
            "the database's schema is newer than this program: bring all servers to one release"
        );
    }
}

/// Takes the locks of an embedded database: the data directory's, and the database file's own if it lies elsewhere.
/// `None` if another process has one.
pub fn own(settings: &Settings, home: &Home) -> Result<Option<Vec<Lock>>, Failure> {
    let Some(database) = settings.database_file() else { return Ok(Some(Vec::new())) };
    let Some(lock) = home.try_lock()? else { return Ok(None) };
    let mut locks = vec![lock];
    if database.parent() != Some(home.dir()) {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        match home::lock(Path::new(&name))? {
            Some(lock) => locks.push(lock),
            None => return Ok(None),
        }
    }
    Ok(Some(locks))
}

/// Runs the operation: on the server elsewhere that is named, else in the running server if there is one, else here.
pub async fn execute(settings: &Settings, operation: &Operation, progress: &dyn Progress) -> Result<Value, Failure> {
    if let Some(elsewhere) = Elsewhere::named(settings)? {
        return elsewhere.run(operation, progress).await;
    }
    if looks_only(operation) {
        check_store(settings)?;
    }
    // Made anew, a store has nothing to rebuild from: its place was misspelled.
    if let Operation::AdminRebuild { .. } = operation
        && let Some(objects) = store_dir(settings).map(|store| store.join("objects")).filter(|dir| !dir.exists())
    {
        return Err(Failure::failed(format!("there is no store here: {} is missing", objects.display())));
    }
    let home = Home::open(&settings.data_dir)?;
    let schema = match operation {
        Operation::AdminMigrate {} | Operation::AdminRebuild { .. } => Schema::Leave,
        _ => Schema::MigrateOwn,
    };
    match reach(settings, &home, schema).await? {
        Reached::Here(opened) => run_here(operation, &opened, progress).await,
        Reached::Server(_) if matches!(operation, Operation::AdminRebuild { .. }) => {
            Err(Failure::failed("a server is at work on this database: stop it, then rebuild"))
        }
        Reached::Server(_) if matches!(operation, Operation::AdminFence {}) => Err(Failure::failed(
            "a server is at work on this database: its readers would lose the feed; stop it, then fence",
        )),
        Reached::Server(stream) => client::call(stream, operation, progress).await,
    }
}

/// Where a command works.
#[derive(Debug)]
pub enum Reached {
    /// In the server that runs beside it, through its control socket.
    Server(UnixStream),
    /// In its own process.
    Here(Box<Opened>),
}

/// The running server if there is one, else everything opened here.
pub async fn reach(settings: &Settings, home: &Home, schema: Schema) -> Result<Reached, Failure> {
    if !settings.embedded() {
        return open(settings, home, Vec::new(), schema).await.map(|opened| Reached::Here(Box::new(opened)));
    }
    let began = Instant::now();
    loop {
        if let Some(stream) = client::connect(home).await? {
            return Ok(Reached::Server(stream));
        }
        if let Some(locks) = own(settings, home)? {
            return open(settings, home, locks, schema).await.map(|opened| Reached::Here(Box::new(opened)));
        }
        // Another command has the lock, or a server that is not listening yet.
        if began.elapsed() >= PATIENCE {
            return Err(home.busy());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn looks_only(operation: &Operation) -> bool {
    match operation {
        Operation::AdminRepack { dry_run, .. } => *dry_run,
        Operation::AdminGc { apply, .. } => !apply,
        Operation::AdminVerify { .. } => true,
        _ => false,
    }
}

/// Whether it may write to the store. A rebuild and a fence look for themselves whose it is.
fn may_write(operation: &Operation) -> bool {
    match operation {
        Operation::Import { .. } | Operation::AdminManifest {} => true,
        Operation::AdminGc { apply, .. } => *apply,
        Operation::AdminRepack { dry_run, .. } => !dry_run,
        Operation::AdminVerify { repair, .. } => *repair,
        _ => false,
    }
}

/// What only looks makes nothing: without a store there is nothing to look at, and its place was misspelled.
fn check_store(settings: &Settings) -> Result<(), Failure> {
    let objects = store_dir(settings).map(|store| store.join("objects"));
    let database = settings.database_file().map(Path::to_owned);
    match objects.into_iter().chain(database).find(|path| !path.exists()) {
        None => Ok(()),
        Some(path) => {
            Err(Failure::failed(format!("there is no store here: {} is missing; check --data-dir", path.display())))
        }
    }
}

/// Runs the operation in this process, which then cleans up after itself: no server may be there to do it.
async fn run_here(operation: &Operation, opened: &Opened, progress: &dyn Progress) -> Result<Value, Failure> {
    if may_write(operation) {
        opened.check_store().await?;
    }
    let answer = operation.run(opened, progress).await;
    if let Operation::Import { .. } = operation
        && let Err(error) = opened.engine.sweep().await
    {
        tracing::warn!(code = error.code(), cause = ?error, "a server will have to remove what was stored twice: {error}");
    }
    answer
}

fn engine_config(settings: &Settings, home: &Home) -> EngineConfig {
    EngineConfig {
        limits: settings.limits.clone(),
        spool_dir: home.spool_dir(),
        remote_token: settings.remote_token.clone(),
        author: settings.author.clone(),
        merge_attempts: MERGE_ATTEMPTS,
        sole: settings.embedded(),
        op_timeout: OP_TIMEOUT,
        key_grace: if settings.embedded() { KEY_GRACE_EMBEDDED } else { KEY_GRACE },
        tree_cache_bytes: settings.tree_cache_bytes,
        feed: settings.feed,
    }
}

async fn assemble(
    settings: &Settings,
    home: &Home,
    catalog: Arc<dyn Catalog>,
    locks: Vec<Lock>,
    serving: bool,
) -> Result<Opened, Failure> {
    let mut options = StoreOptions::new(home.spool_dir());
    options.cache = cache::options(settings, home, store_dir(settings).as_deref(), serving)?;
    let temp_dir = match store_dir(settings) {
        Some(store) => {
            home::make_private(&store.join("objects"))?;
            store_temp_dir(&store, home)
        }
        None => home.temp_dir(),
    };
    let bucket = treehold_store::open_bucket(&settings.store_url, &temp_dir)
        .await
        .map_err(|error| Failure::failed("cannot open the store; check `store_url`").because(error))?;
    let bucket: Arc<dyn Bucket> = Arc::new(Retrying::new(Arc::new(Metered::new(bucket)), RetryPolicy::default()));
    let remote = GitRemote::new(settings.allow_remote.clone(), home.spool_dir(), RemoteTimeouts::default())
        .map_err(|error| Failure::usage(format!("`allow_remote`: {error}")))?;
    let store = ObjectStore::new(bucket.clone(), options);
    let github = GitHub::new(&settings.github, Arc::new(Host)).map_err(|error| Failure::usage(error.to_string()))?;
    let engine = Engine::new(catalog.clone(), store, Arc::new(remote), Arc::new(Host), engine_config(settings, home));
    let engine = engine.with_forge(Arc::new(github));
    let engine = match &settings.signer {
        Some(signer) => engine.with_signer(signer.clone()),
        None => engine,
    };
    Ok(Opened { engine, catalog, bucket, places: Places::of(settings), _locks: locks })
}

/// The directory of a directory store.
fn store_dir(settings: &Settings) -> Option<PathBuf> {
    url::Url::parse(&settings.store_url).ok().and_then(|url| url.to_file_path().ok())
}

/// Files on their way into a directory store are renamed, so they must lie on its file system, but not in it.
pub fn store_temp_dir(store: &Path, home: &Home) -> PathBuf {
    if store.parent() == Some(home.dir()) {
        return home.temp_dir();
    }
    let mut name = store.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
