//! Pushes that wait for credentials or are on their way, where what they push is taken back meanwhile.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use treehold_engine::api::{CommitAnswer, Oid, Origin, RefRequest};
use treehold_engine::remote::{
    Endpoint, FetchSpec, Fetching, GitRemote, PushSpec, Pushed, RemoteError, RemoteRefs, RemoteTimeouts,
};
use treehold_engine::{Engine, EngineError, Remote, VerifyOptions};
use uuid::Uuid;

use crate::ALONE;
use crate::gate::{Gate, Rates};
use crate::life::Deed;
use crate::people::{self, Done, Person};
use crate::world::{Plan, World};

const MAIN: &str = "refs/heads/main";
const USER: Uuid = Uuid::from_u128(1);

/// A remote that takes no pushes for a while.
struct Refusing {
    inner: GitRemote,
    refuses: AtomicBool,
    /// What is done while the next push is on its way.
    meanwhile: Mutex<Option<Deed<()>>>,
}

impl fmt::Debug for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusing").finish_non_exhaustive()
    }
}

#[async_trait]
impl Remote for Refusing {
    fn check_url(&self, url: &str) -> Result<(), RemoteError> {
        self.inner.check_url(url)
    }

    fn names_host(&self, url: &str) -> bool {
        self.inner.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        self.inner.refs(at, prefixes).await
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        self.inner.fetch(at, spec).await
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        if self.refuses.load(Ordering::Relaxed) {
            return Pushed::Auth;
        }
        let meanwhile = self.meanwhile.lock().expect("a lock").take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.inner.push(at, spec).await
    }
}

/// A project with a new file in pending work.
struct Case {
    world: World,
    remote: Arc<Refusing>,
    engine: Engine,
    project: String,
    /// Where the branch is at first, here and at the remote.
    first: Oid,
}

impl Case {
    async fn begun() -> Case {
        let gate = Arc::new(Gate::new(1, Rates::default(), Vec::new()));
        let world = World::new(Plan { seed: 1, remote: true, engines: 1, ..Plan::default() }, &gate);
        world.outsider(1);
        let inner =
            GitRemote::new(Vec::new(), world.dir.path().join("spool"), RemoteTimeouts::default()).expect("a remote");
        let remote = Arc::new(Refusing { inner, refuses: AtomicBool::new(false), meanwhile: Mutex::default() });
        let engine = world.engine_with(Arc::clone(&remote) as _).await;
        let source = world.origin.path().to_str().expect("UTF-8").to_owned();
        let imported = engine.import(&source, Some("p"), Some("main"), 0, &()).await.expect("an import");
        let (project, first) = (imported.project.id.to_string(), imported.project.head.expect("a head"));
        people::save(&engine, &project, USER, "file", Some("one")).await;
        Case { world, remote, engine, project, first }
    }

    /// Commits what is pending; a request of its own for each kind.
    async fn committed(&self, push: bool) -> Result<CommitAnswer, EngineError> {
        let mut person = Person::new(USER);
        let done = person.commit(usize::from(push), self.engine.clone(), self.project.clone(), push).await;
        let Done::Committed(_, _, outcome) = done else { panic!("{done:?}") };
        outcome
    }

    /// The remote takes no push of what is done.
    async fn refused<T>(&self, done: impl Future<Output = Result<T, EngineError>>) {
        self.remote.refuses.store(true, Ordering::Relaxed);
        assert!(matches!(done.await, Err(EngineError::RemoteAuth { .. })));
        self.remote.refuses.store(false, Ordering::Relaxed);
    }

    async fn pushed(&self) -> bool {
        self.engine.push(&self.project, None, None).await.expect("a push").pushed
    }

    /// The branch is set back to where it was at first.
    fn sets_back(&self, from: Oid) -> Deed<()> {
        let (engine, project) = (self.engine.clone(), self.project.clone());
        let (oid, expected_oid) = (self.first, Some(from));
        let back = RefRequest { oid, expected_oid, force: true, restore: false, ephemeral: None, expires_in: None };
        Box::pin(async move {
            engine.put_ref(&project, MAIN, &back).await.expect("a move");
        })
    }

    /// Where the branch is here, and at the remote.
    async fn heads(&self) -> (Option<Oid>, Option<Oid>) {
        let status = self.engine.status(&self.project, Some(USER), None).await.expect("a status");
        assert!(status.attempts.is_empty(), "{status:?}");
        assert_eq!(status.remote_head.map(|oid| oid.to_string()), Some(self.world.origin.rev_parse(MAIN)));
        (status.head, status.remote_head)
    }
}

/// Goal: what was taken back before it was sent is not sent later.
/// Method: the push of a commit is refused for its credentials, and the branch set back; then it is pushed again.
#[tokio::test]
async fn what_was_taken_back_is_not_pushed() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let ours = case.committed(false).await.expect("a commit").commit;
    case.refused(case.engine.push(&case.project, None, None)).await;
    case.sets_back(ours).await;
    assert!(!case.pushed().await);
    assert_eq!(case.heads().await, (Some(case.first), Some(case.first)));
}

/// Goal: what a commit that waits for credentials was made on is not sent with it, if it was taken back; the commit's own edit stays.
/// Method: a commit is not pushed, the push of the next one is refused for its credentials, and the branch set back below both; then the branch
/// is pushed, or the request is repeated.
#[tokio::test]
async fn what_is_below_and_was_taken_back_is_not_pushed() {
    let _alone = ALONE.lock();
    for is_repeated in [false, true] {
        let case = Case::begun().await;
        let ours = case.committed(false).await.expect("a commit").commit;
        people::save(&case.engine, &case.project, USER, "file", Some("two")).await;
        case.refused(case.committed(true)).await;
        case.sets_back(ours).await;
        match is_repeated {
            false => assert!(!case.pushed().await),
            true => {
                let again = case.committed(true).await;
                assert!(matches!(again, Err(EngineError::MergeConflict(_))), "{again:?}");
            }
        }
        assert_eq!(case.heads().await, (Some(case.first), Some(case.first)));
        assert_eq!(people::view(&case.engine, &case.project, USER, "file").await, Some(b"two".to_vec()));
    }
}

/// Goal: an edit that is discarded while its commit waits for credentials is not pushed with somebody else's.
/// Method: the push of the commit is refused for its credentials, and the edit discarded; then the branch is pushed.
#[tokio::test]
async fn what_was_discarded_is_not_pushed() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.refused(case.committed(true)).await;
    let gone = case.engine.drop_all_pending(&case.project, USER, None, Origin::default()).await.expect("a discard");
    assert_eq!(gone.dropped, 1);
    assert!(!case.pushed().await);
    assert_eq!(case.heads().await, (Some(case.first), Some(case.first)));
    assert_eq!(people::view(&case.engine, &case.project, USER, "file").await, None);
}

/// Goal: an edit is published once.
/// Method: the push of its commit is refused for its credentials; it is committed again and not pushed, then the branch is pushed.
#[tokio::test]
async fn what_was_committed_since_is_pushed_once() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.refused(case.committed(true)).await;
    let ours = case.committed(false).await.expect("a commit").commit;
    assert!(case.pushed().await);
    assert_eq!(case.heads().await, (Some(ours), Some(ours)));
}

/// Goal: a branch that is set back while it is pushed stays where it was set; what the remote has is known, and whole.
/// Method: that is done while the push is on its way.
#[tokio::test]
async fn a_branch_that_was_set_back_stays_there() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let ours = case.committed(false).await.expect("a commit").commit;
    *case.remote.meanwhile.lock().expect("a lock") = Some(case.sets_back(ours));
    assert!(case.pushed().await);
    assert_eq!(case.heads().await, (Some(case.first), Some(ours)));
    let options = VerifyOptions { full: true, restart: true, ..VerifyOptions::default() };
    let report = case.engine.verify(&options, &()).await.expect("a verification");
    assert_eq!((report.errors, report.findings.len()), (0, 0), "{:?}", report.findings);
}
