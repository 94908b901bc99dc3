//! Commits that the forge makes, whose answer comes to nothing.
//!
//! No world of the simulation has such commits: the tests here are of their own.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use treehold_engine::api::{
    CommitAnswer, CommitRequest, GithubFacts, PullChange, PullFilter, PullPage, PullSpec, PullView, SignBy, Status,
    SyncRequest,
};
use treehold_engine::remote::{
    Delivery, Endpoint, FetchSpec, Fetching, Forge, ForgeSite, GitRemote, HostedCommit, Hosting, PushSpec, Pushed,
    RemoteError, RemoteRefs, Reported,
};
use treehold_engine::{Engine, EngineError, Remote, Secret};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::ALONE;
use crate::newer::Between;
use crate::people::{self, Done, Person};
use crate::world::World;

const USER: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const KEY: &str = "one request";

/// A remote that cannot be reached for a while.
#[derive(Debug)]
struct Away {
    inner: GitRemote,
    away: AtomicBool,
    /// How often it was asked for its refs.
    asked: AtomicUsize,
}

#[async_trait]
impl Remote for Away {
    /// The host is asked about this one, though it is a directory.
    fn check_url(&self, _: &str) -> Result<(), RemoteError> {
        Ok(())
    }

    fn names_host(&self, url: &str) -> bool {
        self.inner.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.away.load(Ordering::Relaxed) {
            true => Err(RemoteError::Timeout),
            false => self.inner.refs(at, prefixes).await,
        }
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        self.inner.fetch(at, spec).await
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        self.inner.push(at, spec).await
    }
}

/// The host of the world's repository.
struct Host {
    origin: Repo,
    /// What is done while it makes the next commit.
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    /// It makes nothing, and does not say so.
    silent: AtomicBool,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// Makes the commit if the branch is where it is to be.
    fn made(&self, commit: &HostedCommit) -> Hosting {
        let branch = format!("refs/heads/{}", commit.branch);
        if self.origin.refs().get(&branch) != Some(&commit.parent.to_string()) {
            return Hosting::Moved;
        }
        let message = format!("{}\n\n{}\n", commit.words.0, commit.words.1);
        let mut stream = format!(
            "commit {branch}\ncommitter H <h@example.org> 1700000500 +0000\ndata {}\n{message}\nfrom {}\n",
            message.len(),
            commit.parent
        )
        .into_bytes();
        for path in &commit.deletions {
            stream.extend(format!("D {path}\n").into_bytes());
        }
        for (path, content) in &commit.additions {
            stream.extend(format!("M 100644 inline {path}\ndata {}\n", content.len()).into_bytes());
            stream.extend_from_slice(content);
            stream.push(b'\n');
        }
        self.origin.git().run_with(["fast-import", "--quiet"], &stream);
        let oid = self.origin.refs()[&branch].clone();
        Hosting::Made(oid.parse::<treehold_engine::api::Oid>().expect("an oid").0)
    }
}

fn none<T>() -> Result<T, EngineError> {
    Err(EngineError::BadRequest("nobody asks for this".to_owned()))
}

#[async_trait]
impl Forge for Host {
    fn has(&self, _: &str) -> bool {
        true
    }

    async fn credentials(&self, _: &str) -> Result<Option<Secret>, RemoteError> {
        Ok(None)
    }

    async fn renew(&self, _: &str, _: &Secret) -> Result<Option<Secret>, RemoteError> {
        Ok(None)
    }

    async fn open_pull(&self, _: &ForgeSite, _: &str, _: &str, _: &PullSpec) -> Result<(PullView, bool), EngineError> {
        none()
    }

    async fn change_pull(&self, _: &ForgeSite, _: u64, _: &PullChange) -> Result<PullView, EngineError> {
        none()
    }

    async fn pulls(&self, _: &ForgeSite, _: &PullFilter) -> Result<PullPage, EngineError> {
        none()
    }

    async fn facts(&self, _: &ForgeSite, _: &str) -> Result<GithubFacts, EngineError> {
        none()
    }

    async fn commit(&self, _: &ForgeSite, commit: &HostedCommit) -> Result<Hosting, EngineError> {
        let meanwhile = self.meanwhile.lock().expect("a lock").take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        match self.silent.load(Ordering::Relaxed) {
            true => Ok(Hosting::Unknown("no answer".to_owned())),
            false => Ok(self.made(commit)),
        }
    }

    fn takes_webhooks(&self) -> bool {
        false
    }

    fn read_webhook(&self, _: &Delivery<'_>) -> Result<Option<Reported>, EngineError> {
        Ok(None)
    }
}

struct Case {
    world: World,
    remote: Arc<Away>,
    host: Arc<Host>,
    engine: Engine,
    project: String,
}

impl Case {
    /// A project at a forge, with a new file in pending work.
    async fn begun() -> Case {
        let world = World::calm(1);
        let inner = world.git_remote();
        let remote = Arc::new(Away { inner, away: AtomicBool::new(false), asked: AtomicUsize::new(0) });
        let origin = Repo::open(world.origin.path());
        let host = Arc::new(Host { origin, meanwhile: Mutex::default(), silent: AtomicBool::new(false) });
        let engine = world.engine_with(Arc::clone(&remote) as _).await.with_forge(Arc::clone(&host) as _);
        let project = world.imported(&engine).await;
        let case = Case { world, remote, host, engine, project };
        people::save(&case.engine, &case.project, USER, "file", Some("one")).await;
        case
    }

    /// The same request, whenever it is sent.
    async fn commit(&self) -> Result<CommitAnswer, EngineError> {
        self.commit_of(USER, KEY, Some(KEY)).await
    }

    /// Another one: whose work, with which words, under which key.
    async fn commit_of(&self, user: Uuid, words: &str, key: Option<&str>) -> Result<CommitAnswer, EngineError> {
        let plain = people::request(user, words, true);
        let request = CommitRequest { push: None, sign: Some(SignBy::Github), ..plain };
        self.engine.commit(&self.project, &request, None, key).await
    }

    /// The forge makes the commit, and nobody hears of it.
    async fn commit_in_vain(&self) {
        self.remote.away.store(true, Ordering::Relaxed);
        let answer = self.commit().await;
        assert!(answer.is_err(), "{answer:?}");
        self.remote.away.store(false, Ordering::Relaxed);
        assert_eq!(self.made().len(), 1, "the forge has made it");
    }

    /// A commit that the forge does not make.
    async fn commit_here(&self, user: Uuid, push: bool) {
        let done = Person::new(user).commit(0, self.engine.clone(), self.project.clone(), push).await;
        assert!(matches!(done, Done::Committed(_, _, Ok(_))), "{done:?}");
    }

    async fn status(&self, user: Uuid) -> Status {
        self.engine.status(&self.project, Some(user), None).await.expect("a status")
    }

    /// What the user sees of the file.
    async fn view(&self) -> Option<Vec<u8>> {
        people::view(&self.engine, &self.project, USER, "file").await
    }

    /// Commits of the request at the remote.
    fn made(&self) -> Vec<String> {
        let log = self.world.origin.git().run(["log", "--format=%H %s", "main"]);
        let lines = log.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(_, subject)| *subject == KEY).map(|(oid, _)| oid.to_owned()).collect()
    }
}

/// Goal: the same request has one answer, its commit, also where a pull brought that first.
/// Method: the commit is made and cannot be fetched; it is synced, then the request is repeated.
#[tokio::test]
async fn a_commit_that_a_pull_brought_is_the_answer() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.commit_in_vain().await;
    let done = people::sync(case.engine.clone(), case.project.clone()).await;
    assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}");
    let answer = case.commit().await.expect("the commit that was made");
    assert_eq!(case.made(), [answer.commit.to_string()]);
}

/// Goal: at most one commit lands for a request.
/// Method: the commit is made and cannot be fetched; its user goes on editing, then the request is repeated.
#[tokio::test]
async fn an_edit_meanwhile_makes_no_second_commit() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.commit_in_vain().await;
    people::save(&case.engine, &case.project, USER, "other", Some("two")).await;
    let answer = case.commit().await.expect("the commit that was made");
    assert_eq!(case.made(), [answer.commit.to_string()]);
    let pending = case.engine.list_pending(&case.project, USER, None, None, None).await.expect("a list");
    assert_eq!(pending.changes.len(), 1, "the later edit is not committed: {pending:?}");
}

/// Goal: a commit whose request nobody repeats is taken by housekeeping, and what was undone before that stays undone.
/// Method: the commit is made and cannot be fetched; its file is deleted, a round goes by. The answer is on record then: no remote is asked.
#[tokio::test]
async fn housekeeping_takes_what_was_made() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.commit_in_vain().await;
    people::save(&case.engine, &case.project, USER, "file", None).await;
    case.world.clock.pass(Duration::from_secs(180));
    case.engine.housekeep().await.expect("a round of housekeeping");
    assert_eq!(people::view(&case.engine, &case.project, USER, "file").await, None);
    case.remote.away.store(true, Ordering::Relaxed);
    let answer = case.commit().await.expect("the commit that was made");
    assert_eq!(case.made(), [answer.commit.to_string()]);
}

/// Goal: a request whose commit may be made yet says so, and not that the branch moved; repeated, it makes one commit.
/// Method: the forge neither makes the commit nor says so, whenever it is asked; then the request is repeated, and it does.
#[tokio::test]
async fn a_silent_forge_has_failed() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.host.silent.store(true, Ordering::Relaxed);
    let answer = case.commit().await;
    assert!(matches!(answer, Err(EngineError::RemoteFailed { code: "remote_failed", .. })), "{answer:?}");
    assert!(!case.status(USER).await.attempts.is_empty());
    case.host.silent.store(false, Ordering::Relaxed);
    let answer = case.commit().await.expect("a commit");
    assert_eq!(case.made(), [answer.commit.to_string()]);
    let status = case.status(USER).await;
    assert_eq!((status.changes.len(), status.attempts.len()), (0, 0), "{status:?}");
}

/// Goal: an edit that is undone while its commit is made stays undone.
/// Method: the new file is deleted while the forge makes the commit that has it.
#[tokio::test]
async fn what_is_undone_meanwhile_stays_undone() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let (engine, project) = (case.engine.clone(), case.project.clone());
    let undo: BoxFuture<'static, ()> =
        Box::pin(async move { people::save(&engine, &project, USER, "file", None).await });
    *case.host.meanwhile.lock().expect("a lock") = Some(undo);
    case.commit().await.expect("a commit");
    assert_eq!(people::view(&case.engine, &case.project, USER, "file").await, None);
}

/// Goal: nobody's edit conflicts with what they themselves have committed, though nobody heard of that.
/// Method: the commit is made and cannot be fetched; its file is edited, and committed by us, or by the forge for another request.
#[tokio::test]
async fn the_next_commit_takes_what_was_made() {
    let _alone = ALONE.lock();
    for by_the_forge in [false, true] {
        let case = Case::begun().await;
        case.commit_in_vain().await;
        people::save(&case.engine, &case.project, USER, "file", Some("two")).await;
        match by_the_forge {
            false => case.commit_here(USER, true).await,
            true => _ = case.commit_of(USER, "Say more", Some("another request")).await.expect("a commit on top"),
        }
        let status = case.status(USER).await;
        let left = (status.changes.len(), status.attempts.len(), status.behind);
        assert_eq!(left, (0, 0, 0), "{by_the_forge}: {status:?}");
        assert_eq!(case.view().await, Some(b"two".to_vec()));
        assert_eq!(case.made().len(), 1);
    }
}

/// Goal: what was made on top of another commit that nobody heard of is taken with that.
/// Method: two users ask, one after the other, and neither commit can be fetched; the first one's file is edited, and committed by us.
#[tokio::test]
async fn a_plain_commit_takes_all_that_was_made() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    people::save(&case.engine, &case.project, OTHER, "other", Some("other")).await;
    case.commit_in_vain().await;
    let request = SyncRequest { dry_run: true, ..SyncRequest::default() };
    case.engine.sync(&case.project, &request, None, &()).await.expect("a look at the remote");
    case.remote.away.store(true, Ordering::Relaxed);
    let answer = case.commit_of(OTHER, "Say more", None).await;
    assert!(answer.is_err(), "{answer:?}");
    case.remote.away.store(false, Ordering::Relaxed);
    case.engine.sync(&case.project, &request, None, &()).await.expect("a look at the remote");
    people::save(&case.engine, &case.project, USER, "file", Some("two")).await;
    case.commit_here(USER, true).await;
    for user in [USER, OTHER] {
        let status = case.status(user).await;
        assert_eq!((status.changes.len(), status.attempts.len(), status.behind), (0, 0, 0), "{status:?}");
    }
    assert_eq!(case.view().await, Some(b"two".to_vec()));
}

/// Goal: an edit that says nothing until the commit is known that it undoes is not taken for a part of that commit.
/// Method: the commit is made and cannot be fetched; its file is deleted. Once the remote was seen, another request commits in the same words.
#[tokio::test]
async fn what_is_undone_is_not_in_what_was_made() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.commit_in_vain().await;
    people::save(&case.engine, &case.project, USER, "file", None).await;
    let request = SyncRequest { dry_run: true, ..SyncRequest::default() };
    case.engine.sync(&case.project, &request, None, &()).await.expect("a look at the remote");
    case.commit_of(USER, KEY, Some("another request")).await.expect("a commit of the deletion");
    assert_eq!(case.made().len(), 2);
    assert_eq!(case.view().await, None);
}

/// Goal: what the forge made and our branch cannot go to is settled by the merge, as what we push: a deletion that was answered is kept.
/// Method: the commit is made and cannot be fetched; somebody commits here. The request is repeated, its file deleted, and the two are merged.
#[tokio::test]
async fn what_was_made_beside_a_commit_waits_for_the_merge() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.commit_in_vain().await;
    people::save(&case.engine, &case.project, OTHER, "other", Some("other")).await;
    case.commit_here(OTHER, false).await;
    let answer = case.commit().await.expect("the commit that was made");
    assert_eq!(case.made(), [answer.commit.to_string()]);
    let status = case.status(USER).await;
    let waiting: Vec<_> = status.attempts.iter().map(|attempt| (attempt.state.as_str(), attempt.commit)).collect();
    assert_eq!((status.changes.len(), waiting), (1, vec![("landed", answer.commit)]));
    people::save(&case.engine, &case.project, USER, "file", None).await;
    let done = people::sync(case.engine.clone(), case.project.clone()).await;
    assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}");
    assert_eq!(case.view().await, None);
    let status = case.status(USER).await;
    assert_eq!((status.changes.len(), status.attempts.len()), (1, 0), "{status:?}");
    assert_eq!(case.commit().await.expect("the same answer").commit, answer.commit);
}

/// Goal: a commit that the forge has made is the answer, also if our branch moves when it is about to be taken.
/// Method: it is fetched, and where our branch is to go is known; then another engine commits here.
#[tokio::test]
async fn what_was_made_is_taken_though_our_branch_moves() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let (other, project) = (case.world.engine_with(Arc::clone(&case.remote) as _).await, case.project.clone());
    people::save(&other, &project, OTHER, "other", Some("other")).await;
    let between = Between::armed(async move {
        let done = Person::new(OTHER).commit(1, other, project, false).await;
        assert!(matches!(done, Done::Committed(_, _, Ok(_))), "{done:?}");
    });
    let answer = case.commit().await;
    between.passed();
    let answer = answer.expect("the commit that was made");
    assert_eq!(case.made(), [answer.commit.to_string()]);
    let status = case.status(USER).await;
    let waiting: Vec<_> = status.attempts.iter().map(|attempt| (attempt.state.as_str(), attempt.commit)).collect();
    assert_eq!((status.ahead, status.behind, waiting), (1, 1, vec![("landed", answer.commit)]));
}

/// Goal: a round of housekeeping looks at a branch once, however many commits of it are looked for.
/// Method: two users ask for commits, and the remote cannot be seen after that; then it can.
#[tokio::test]
async fn a_branch_is_looked_at_once_in_a_round() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    people::save(&case.engine, &case.project, OTHER, "other", Some("other")).await;
    case.commit_in_vain().await;
    case.remote.away.store(true, Ordering::Relaxed);
    let answer = case.commit_of(OTHER, "Say more", None).await;
    assert!(answer.is_err(), "{answer:?}");
    case.remote.away.store(false, Ordering::Relaxed);
    for user in [USER, OTHER] {
        assert_eq!(case.status(user).await.attempts.len(), 1);
    }
    case.world.clock.pass(Duration::from_secs(180));
    case.remote.asked.store(0, Ordering::Relaxed);
    case.engine.housekeep().await.expect("a round of housekeeping");
    assert_eq!(case.remote.asked.load(Ordering::Relaxed), 1);
    assert_eq!((case.status(USER).await.attempts.len(), case.status(OTHER).await.attempts.len()), (0, 1));
}

/// Goal: a deletion that was answered is kept, also where our branch cannot go to what the forge made before a merge; and the request keeps its
/// answer.
/// Method: another engine commits here while the forge makes the commit of a new file; that is deleted, then the two are merged, and a round of
/// housekeeping takes the commit.
#[tokio::test]
async fn a_deletion_outlives_the_merge_of_what_the_forge_made() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let (other, project) = (case.world.engine_with(Arc::clone(&case.remote) as _).await, case.project.clone());
    let beside: BoxFuture<'static, ()> = Box::pin(async move {
        let mut second = Person::new(OTHER);
        people::save(&other, &project, second.id, "other", Some("other")).await;
        let done = second.commit(1, other, project, false).await;
        assert!(matches!(done, Done::Committed(_, _, Ok(_))), "{done:?}");
    });
    *case.host.meanwhile.lock().expect("a lock") = Some(beside);
    let answer = case.commit().await.expect("a commit");
    people::save(&case.engine, &case.project, USER, "file", None).await;
    let done = people::sync(case.engine.clone(), case.project.clone()).await;
    assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}");
    assert_eq!(people::view(&case.engine, &case.project, USER, "file").await, None);
    case.world.clock.pass(Duration::from_secs(180));
    case.engine.housekeep().await.expect("a round of housekeeping");
    assert_eq!(people::view(&case.engine, &case.project, USER, "file").await, None);
    let status = case.engine.status(&case.project, Some(USER), None).await.expect("a status");
    assert_eq!((status.changes.len(), status.attempts.len()), (1, 0), "{status:?}");
    assert_eq!(case.commit().await.expect("the same answer"), answer);
}
