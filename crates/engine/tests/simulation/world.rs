//! What an engine stands on, and what outlives it: the database file, the bucket, the remote, the clock.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tempfile::TempDir;
use treehold_catalog::Catalog;
use treehold_engine::remote::{GitRemote, RemoteTimeouts};
use treehold_engine::{Ambient, Engine, EngineConfig, Limits, Remote};
use treehold_fault::{Faults, Moment};
use treehold_store::{Bucket, DirectoryBucket, FaultRates, Faulty, MemoryBucket, ObjectStore, StoreOptions};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::bucket::StormyBucket;
use crate::gate::{Gate, Rates};
use crate::remote::FaultyRemote;

/// Above it, pending content goes to the bucket.
pub const INLINE_BYTES: u64 = 100;
/// After so long without a sign of life an operation is dead.
pub const OP_TIMEOUT: Duration = Duration::from_secs(60);
/// So old an answer of the remote about its refs may be, for what the engine reckons with.
const LAG: Duration = Duration::from_secs(600);
/// So long the bytes of emptied keys stay.
pub const GRACE: Duration = Duration::from_secs(3600);

/// Time and chance, from the seed.
#[derive(Debug)]
pub struct Clock {
    now_ms: AtomicI64,
    random: Mutex<StdRng>,
    gate: Arc<Gate>,
}

impl Clock {
    pub fn pass(&self, time: Duration) {
        self.now_ms.fetch_add(i64::try_from(time.as_millis()).expect("not so long"), Ordering::Relaxed);
    }

    /// The time, which does not pass by that.
    pub fn shows_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

impl Ambient for Clock {
    fn now_ms(&self) -> i64 {
        self.now_ms.fetch_add(1, Ordering::Relaxed)
    }

    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.lock().expect("a lock").random()).into_uuid()
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.random.lock().expect("a lock").fill_bytes(&mut bytes);
        bytes
    }

    /// Whoever waits takes turns with the others, and then the time has passed: nobody's machine says how many steps that is.
    fn rest(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A rest cannot fail; it comes late, or the process dies in it.
            _ = self.gate.decide("rest", Moment::At).await;
            self.pass(time);
        })
    }
}

/// How an episode is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    pub seed: u64,
    /// With a remote that is pushed to and pulled from.
    pub remote: bool,
    /// Where there is a remote, some commits are not pushed; and its answers of the past are not older than the engine allows for.
    pub stays: bool,
    /// With a second project, which has no remote, in the same catalog and bucket from the start.
    pub second: bool,
    /// Projects are forked, and deleted while their forks live.
    pub forks: bool,
    /// Engines on the same catalog and bucket.
    pub engines: usize,
    /// Values in files, not in memory.
    pub directory: bool,
    /// Reads from the bucket are cut or wrong now and then.
    pub spoiled: bool,
}

impl Plan {
    /// Whether the remote may answer with a past that nobody reckons with. Its commits are then taken for gone that are not, and an edit
    /// may conflict with what its own user has committed.
    pub fn misleads(&self) -> bool {
        self.remote && !self.stays
    }
}

pub struct World {
    pub plan: Plan,
    pub dir: TempDir,
    pub bucket: Arc<StormyBucket>,
    pub remote: Arc<FaultyRemote>,
    pub clock: Arc<Clock>,
    /// The repository behind the remote.
    pub origin: Repo,
}

impl World {
    pub fn new(plan: Plan, gate: &Arc<Gate>) -> World {
        _ = rustls::crypto::ring::default_provider().install_default();
        let memory = PathBuf::from("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.expect("a directory");
        let spool_dir = dir.path().join("spool");
        std::fs::create_dir(&spool_dir).expect("a directory");
        let sound: Arc<dyn Bucket> = match plan.directory {
            true => Arc::new(DirectoryBucket::open(&dir.path().join("bucket"), &spool_dir).expect("a bucket")),
            false => Arc::new(MemoryBucket::new()),
        };
        let rates = FaultRates { cut: 1, flip: 1, ..FaultRates::default() };
        let spoiled: Arc<dyn Bucket> = match plan.spoiled {
            true => Arc::new(Faulty::seeded(Arc::clone(&sound), plan.seed, rates)),
            false => Arc::clone(&sound),
        };
        let bucket = Arc::new(StormyBucket::new(sound, spoiled, gate));
        let remote = git_remote(spool_dir.clone());
        let random = Mutex::new(StdRng::seed_from_u64(plan.seed ^ 1));
        let clock = Clock { now_ms: AtomicI64::new(1_800_000_000_000), random, gate: Arc::clone(gate) };
        let clock = Arc::new(clock);
        let lag = if plan.misleads() { Duration::MAX } else { LAG };
        let remote = Arc::new(FaultyRemote::new(Arc::new(remote), gate, spool_dir, (Arc::clone(&clock), lag)));
        let origin = Repo::init_bare(dir.path().join("origin.git"));
        World { plan, dir, bucket, remote, clock, origin }
    }

    /// With a commit at its remote, and nothing goes wrong but what a test does itself.
    pub fn calm(engines: usize) -> World {
        let gate = Arc::new(Gate::new(1, Rates::default(), Vec::new()));
        let world = World::new(Plan { seed: 1, remote: true, engines, ..Plan::default() }, &gate);
        world.outsider(1);
        world
    }

    /// Its remote as it is.
    pub fn git_remote(&self) -> GitRemote {
        git_remote(self.dir.path().join("spool"))
    }

    /// What is at its remote, as a project of the engine.
    pub async fn imported(&self, engine: &Engine) -> String {
        let source = self.origin.path().to_str().expect("UTF-8");
        engine.import(source, Some("p"), Some("main"), 0, &()).await.expect("an import").project.id.to_string()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("catalog.sqlite")
    }

    /// Engines as new processes have them: nothing is remembered but what is stored.
    pub async fn engines(&self) -> Vec<Engine> {
        let catalog = self.catalog().await;
        let engine = |_| self.engine_on(Arc::clone(&catalog), Arc::clone(&self.remote) as _);
        (0..self.plan.engines).map(engine).collect()
    }

    /// One engine, with this remote.
    pub async fn engine_with(&self, remote: Arc<dyn Remote>) -> Engine {
        self.engine_on(self.catalog().await, remote)
    }

    async fn catalog(&self) -> Arc<dyn Catalog> {
        let url = format!("sqlite://{}", self.database().display());
        let catalog = treehold_catalog::open_catalog(&url).await.expect("a catalog");
        catalog.migrate().await.expect("a schema");
        catalog
    }

    fn engine_on(&self, catalog: Arc<dyn Catalog>, remote: Arc<dyn Remote>) -> Engine {
        let spool_dir = self.dir.path().join("spool");
        let mut options = StoreOptions::new(spool_dir.clone());
        options.cache.memory_bytes = 20_000;
        let config = EngineConfig {
            limits: Limits { inline_bytes: INLINE_BYTES, ..Limits::default() },
            spool_dir,
            remote_token: None,
            author: ("T".to_owned(), "t@example.org".to_owned()),
            merge_attempts: 3,
            sole: self.plan.engines == 1,
            op_timeout: OP_TIMEOUT,
            feed: treehold_engine::FeedRetention::default(),
            key_grace: GRACE,
            tree_cache_bytes: 100_000,
        };
        let store = ObjectStore::new(Arc::clone(&self.bucket) as _, options);
        Engine::new(catalog, store, remote, Arc::clone(&self.clock) as _, config)
    }

    /// Somebody else commits to the remote, past us.
    pub fn outsider(&self, number: u32) {
        let from = if self.origin.refs().contains_key("refs/heads/main") { "from refs/heads/main^0\n" } else { "" };
        let content = format!("outside {number}\n");
        let stream = format!(
            "commit refs/heads/main\ncommitter O <o@example.org> {} +0000\ndata 7\noutside\n{from}M 100644 inline outside/{}\n\
             data {}\n{content}\n",
            1_700_000_000 + number,
            number % 3,
            content.len()
        );
        self.origin.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
    }
}

fn git_remote(spool_dir: PathBuf) -> GitRemote {
    GitRemote::new(Vec::new(), spool_dir, RemoteTimeouts::default()).expect("a remote")
}
