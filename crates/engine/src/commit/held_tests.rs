//! Commits that take long, beside another engine that looks for what was left behind; and refusals behind lost answers.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use treehold_catalog::{Attempt, AttemptState, Catalog};
use treehold_store::{Bucket, ListPage, MemoryBucket, ObjectStore, Payload, Put, StoreError, StoreOptions};
use treehold_tests::git::Repo;
use uuid::Uuid;

use super::LEFT_AFTER_MS;
use crate::api::{
    Author, CommitAnswer, CommitRequest, Condition, OnConflict, Origin, PendingBody, PutPending, SyncRequest,
};
use crate::remote::{
    Endpoint, FetchSpec, Fetching, GitRemote, PushSpec, Pushed, RemoteError, RemoteRefs, RemoteTimeouts,
};
use crate::{Ambient, Engine, EngineConfig, EngineError, Limits, Remote, Result};

/// Operations are silent after so long.
const OP_TIMEOUT: Duration = Duration::from_secs(60);
/// Looks of the other engine while one call hangs.
const LOOKS: usize = 12;
/// Signs of life that are waited for before each of them.
const BEATS: usize = 25;
/// What takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Clock(AtomicI64);

impl Ambient for Clock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}

/// A door that calls wait at while it is shut.
#[derive(Debug)]
struct Door {
    open: Semaphore,
    waiting: Semaphore,
}

impl Door {
    fn open() -> Self {
        Self { open: Semaphore::new(1), waiting: Semaphore::new(0) }
    }

    async fn pass(&self) {
        self.waiting.add_permits(1);
        drop(self.open.acquire().await);
    }

    /// Shuts it; the answer opens it again.
    async fn shut(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.waiting.forget_permits(usize::MAX >> 4);
        self.open.acquire().await.expect("a door")
    }

    /// Until somebody waits.
    async fn somebody(&self) {
        self.waiting.acquire().await.expect("a door").forget();
    }
}

/// A bucket whose writes may take long, or are refused.
#[derive(Debug)]
struct SlowBucket(MemoryBucket, Arc<Door>, Arc<AtomicBool>);

#[async_trait]
impl Bucket for SlowBucket {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> std::result::Result<Put, StoreError> {
        self.1.pass().await;
        if self.2.load(Ordering::Relaxed) {
            return Err(StoreError::Refused { action: "put", store: self.name(), source: "it is full".into() });
        }
        self.0.put(key, payload).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> std::result::Result<Option<Bytes>, StoreError> {
        self.0.get(key, range).await
    }

    async fn head(&self, key: &str) -> std::result::Result<Option<u64>, StoreError> {
        self.0.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> std::result::Result<ListPage, StoreError> {
        self.0.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &str) -> std::result::Result<(), StoreError> {
        self.0.delete(key).await
    }
}

/// What becomes of a push on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nobody hears of it; it arrives when it is let go.
    Lost,
    /// A hook refuses it.
    Refused,
    /// The credentials are not accepted.
    Auth,
}

/// A remote whose pushes may take long, and go as the tests say.
#[derive(Debug)]
struct OddRemote {
    inner: GitRemote,
    door: Arc<Door>,
    ways: Mutex<Vec<Way>>,
    late: Mutex<Vec<(Endpoint, PushSpec)>>,
    spool: std::path::PathBuf,
}

impl OddRemote {
    /// What was lost arrives.
    async fn arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().expect("a lock"));
        for (at, spec) in late {
            assert_eq!(self.inner.push(&at, &spec).await, Pushed::Landed);
        }
    }
}

#[async_trait]
impl Remote for OddRemote {
    fn check_url(&self, url: &str) -> std::result::Result<(), RemoteError> {
        self.inner.check_url(url)
    }

    fn names_host(&self, url: &str) -> bool {
        self.inner.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> std::result::Result<RemoteRefs, RemoteError> {
        self.inner.refs(at, prefixes).await
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> std::result::Result<Fetching, RemoteError> {
        self.inner.fetch(at, spec).await
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        self.door.pass().await;
        let way = self.ways.lock().expect("a lock").pop();
        match way {
            None => self.inner.push(at, spec).await,
            Some(Way::Refused) => Pushed::Rejected("no".to_owned()),
            Some(Way::Auth) => Pushed::Auth,
            Some(Way::Lost) => {
                let pack = self.spool.join(format!("late-{}", Uuid::new_v4()));
                std::fs::copy(&spec.pack, &pack).expect("a copy");
                let spec = PushSpec { name: spec.name.clone(), old: spec.old, new: spec.new, pack };
                self.late.lock().expect("a lock").push((at.clone(), spec));
                Pushed::Unknown("no answer".to_owned())
            }
        }
    }
}

/// Two engines on one catalog, bucket and remote.
struct Pair {
    one: Engine,
    other: Engine,
    clock: Arc<Clock>,
    uploads: Arc<Door>,
    /// The bucket refuses writes.
    full: Arc<AtomicBool>,
    pushes: Arc<Door>,
    remote: Arc<OddRemote>,
    catalog: Arc<dyn Catalog>,
    project: String,
    user: Uuid,
    origin: Repo,
    _dir: TempDir,
}

impl Pair {
    /// `sole`: each believes that it is the only one.
    async fn new(sole: bool) -> Pair {
        _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a directory");
        let spool = dir.path().join("spool");
        std::fs::create_dir(&spool).expect("a spool directory");
        let url = format!("sqlite://{}", dir.path().join("catalog.sqlite").display());
        let catalog = treehold_catalog::open_catalog(&url).await.expect("a catalog");
        catalog.migrate().await.expect("a schema");
        let (uploads, pushes) = (Arc::new(Door::open()), Arc::new(Door::open()));
        let full = Arc::new(AtomicBool::new(false));
        let bucket = Arc::new(SlowBucket(MemoryBucket::new(), Arc::clone(&uploads), Arc::clone(&full)));
        let clock = Arc::new(Clock(AtomicI64::new(1_800_000_000_000)));
        let inner = GitRemote::new(Vec::new(), spool.clone(), RemoteTimeouts::default()).expect("a remote");
        let (ways, late) = (Mutex::default(), Mutex::default());
        let remote = Arc::new(OddRemote { inner, door: Arc::clone(&pushes), ways, late, spool: spool.clone() });
        let engine = || {
            let config = EngineConfig {
                limits: Limits::default(),
                spool_dir: spool.clone(),
                remote_token: None,
                author: ("T".to_owned(), "t@example.org".to_owned()),
                merge_attempts: 2,
                sole,
                op_timeout: OP_TIMEOUT,
                feed: crate::FeedRetention::default(),
                key_grace: Duration::from_secs(3600),
                tree_cache_bytes: EngineConfig::TREE_CACHE_BYTES,
            };
            let store = ObjectStore::new(Arc::clone(&bucket) as _, StoreOptions::new(spool.clone()));
            Engine::new(Arc::clone(&catalog), store, Arc::clone(&remote) as _, Arc::clone(&clock) as _, config)
        };
        let (one, other) = (engine(), engine());
        let work = Repo::init(dir.path().join("work"));
        work.commit_file("file", "first\n");
        let origin = work.bare_clone(dir.path().join("origin.git"));
        let source = origin.path().to_str().expect("UTF-8");
        let imported = one.import(source, Some("p"), Some("main"), 0, &()).await.expect("an import");
        let (project, user) = (imported.project.id.to_string(), Uuid::new_v4());
        Pair { one, other, clock, uploads, full, pushes, remote, catalog, project, user, origin, _dir: dir }
    }

    async fn save(&self, content: &str) {
        let put = PutPending {
            branch: None,
            mode: None,
            base: None,
            condition: Condition::default(),
            body: PendingBody::Content(content.to_owned().into()),
            origin: Origin::default(),
        };
        self.one.put_pending(&self.project, self.user, b"file", put).await.expect("a save");
    }

    async fn commit(&self, engine: &Engine, key: &str) -> Result<CommitAnswer> {
        let author = Author { name: "A".to_owned(), email: "a@example.org".to_owned(), date: None };
        let request = CommitRequest {
            user: self.user,
            message: key.to_owned(),
            author,
            branch: None,
            paths: None,
            expected_head_sha: None,
            on_conflict: OnConflict::Merge,
            push: Some(true),
            dry_run: false,
            trailers: false,
            sign: None,
        };
        engine.commit(&self.project, &request, None, Some(key)).await
    }

    /// Long time passes, in which the other engine looks again and again for what was left.
    async fn long_time(&self) {
        for _ in 0..LOOKS {
            let now_ms = self.clock.0.fetch_add(LEFT_AFTER_MS / 4, Ordering::Relaxed) + LEFT_AFTER_MS / 4;
            for _ in 0..BEATS {
                tokio::time::sleep(crate::writer::HEARTBEAT).await;
                let open = self.open().await;
                if open.iter().all(|attempt| attempt.updated_at_ms >= now_ms) {
                    break;
                }
            }
            self.other.housekeep().await.expect("housekeeping");
        }
    }

    async fn open(&self) -> Vec<Attempt> {
        self.catalog.open_attempts(None, 10).await.expect("attempts")
    }

    /// The next pushes go so.
    fn go(&self, ways: &[Way]) {
        *self.remote.ways.lock().expect("a lock") = ways.iter().rev().copied().collect();
    }

    /// The commit is at the remote, once, and everything is settled.
    async fn landed_once(&self, answer: &CommitAnswer) {
        assert_eq!(self.origin.rev_parse("main"), answer.commit.to_string());
        assert_eq!(self.origin.git().run(["rev-list", "--count", "main"]), "2");
        self.clock.0.fetch_add(2 * LEFT_AFTER_MS, Ordering::Relaxed);
        self.one.housekeep().await.expect("housekeeping");
        assert_eq!(self.open().await, []);
        let status = self.one.status(&self.project, Some(self.user), None).await.expect("a status");
        assert_eq!((status.ahead, status.behind, status.changes.len()), (0, 0, 0));
    }
}

/// Goal: however long an upload takes, another engine leaves the commit to whoever makes it.
#[tokio::test]
async fn a_long_upload_is_not_given_up() {
    let pair = Pair::new(false).await;
    pair.save("second\n").await;
    let shut = pair.uploads.shut().await;
    let slow = async {
        pair.uploads.somebody().await;
        pair.long_time().await;
        drop(shut);
    };
    let (made, ()) = tokio::join!(pair.commit(&pair.one, "k"), slow);
    pair.landed_once(&made.expect("a commit")).await;
}

/// Goal: a commit that cannot be stored is over when its request is told so: none of its edits count as on their way, on any engine.
#[tokio::test]
async fn what_cannot_be_stored_is_over_at_once() {
    let pair = Pair::new(false).await;
    pair.save("second\n").await;
    pair.full.store(true, Ordering::Relaxed);
    for key in ["k", "k", "l"] {
        let failed = pair.commit(&pair.one, key).await;
        assert!(failed.is_err(), "{failed:?}");
        assert_eq!(pair.open().await, []);
    }
    let status = pair.one.status(&pair.project, Some(pair.user), None).await.expect("a status");
    assert_eq!(status.changes.len(), 1, "the edit is kept");
    pair.full.store(false, Ordering::Relaxed);
    let made = pair.commit(&pair.other, "k").await.expect("a commit");
    pair.landed_once(&made).await;
}

/// Goal: however long a push takes, nobody sends it once more, and its operation is there in the end.
#[tokio::test]
async fn a_long_push_is_not_repeated() {
    let pair = Pair::new(false).await;
    pair.save("second\n").await;
    let shut = pair.pushes.shut().await;
    let slow = async {
        pair.pushes.somebody().await;
        pair.long_time().await;
        assert_eq!(pair.pushes.waiting.available_permits(), 0, "it was sent once more");
        drop(shut);
    };
    let (made, ()) = tokio::join!(pair.commit(&pair.one, "k"), slow);
    pair.landed_once(&made.expect("a commit")).await;
}

/// Goal: housekeeping does not wait for a push that is under way in its own process.
#[tokio::test]
async fn housekeeping_passes_over_a_busy_branch() {
    let pair = Pair::new(true).await;
    pair.save("second\n").await;
    let shut = pair.pushes.shut().await;
    let round = async {
        pair.pushes.somebody().await;
        // Without an end, it would wait for the push, which waits for it.
        let ended = tokio::time::timeout(HANGS_AFTER, pair.one.housekeep()).await;
        drop(shut);
        ended.expect("a round that ends").expect("housekeeping");
    };
    let (made, ()) = tokio::join!(pair.commit(&pair.one, "k"), round);
    pair.landed_once(&made.expect("a commit")).await;
}

/// Goal: a refusal says nothing of an earlier push whose answer was lost: when that lands, its request hears of it.
#[tokio::test]
async fn a_refusal_behind_a_lost_answer_is_not_final() {
    for ways in [&[Way::Lost, Way::Refused][..], &[Way::Lost, Way::Auth]] {
        let pair = Pair::new(true).await;
        pair.save("second\n").await;
        pair.go(ways);
        let first = pair.commit(&pair.one, "k").await;
        let waits = matches!(first, Err(EngineError::PushUnknown { .. } | EngineError::RemoteAuth { .. }));
        assert!(waits, "{first:?}");
        // In later requests, too.
        pair.go(&[Way::Refused]);
        let second = pair.commit(&pair.one, "k").await;
        assert!(matches!(second, Err(EngineError::PushUnknown { .. })), "{second:?}");
        pair.remote.arrive().await;
        let made = pair.commit(&pair.one, "k").await.expect("what has landed");
        pair.landed_once(&made).await;
    }
}

/// Goal: once an earlier push cannot land any more, a refusal is final. If it lands all the same, its request hears of that.
#[tokio::test]
async fn a_refusal_is_final_in_the_end() {
    let pair = Pair::new(true).await;
    pair.save("second\n").await;
    pair.go(&[Way::Lost, Way::Refused]);
    let first = pair.commit(&pair.one, "k").await;
    assert!(matches!(first, Err(EngineError::PushUnknown { .. })), "{first:?}");
    pair.clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    for _ in 0..2 {
        pair.go(&[Way::Refused]);
        let refused = pair.commit(&pair.one, "k").await;
        assert!(matches!(refused, Err(EngineError::PushRejected { .. })), "{refused:?}");
    }
    assert_eq!(pair.open().await, []);
    pair.remote.arrive().await;
    pair.one.sync(&pair.project, &SyncRequest::default(), None, &()).await.expect("a sync");
    let made = pair.commit(&pair.one, "k").await.expect("what has landed");
    assert_eq!(pair.open().await.iter().map(|attempt| attempt.state).collect::<Vec<_>>(), [AttemptState::Landed]);
    pair.landed_once(&made).await;
}
