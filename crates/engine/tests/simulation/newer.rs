//! What others do between the last look of a commit and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use treehold_engine::api::{Author, CommitAnswer, CommitRequest, Oid, OnConflict, PutPending, RefRequest, SyncRequest};
use treehold_engine::{Engine, EngineError, VerifyOptions};
use treehold_fault::{Decision, Faults, Injected, Moment};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::ALONE;
use crate::life::Deed;
use crate::people::{self, Done, Person};
use crate::world::World;

const SIDE: &str = "side";
const USER: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

/// Before the next publication that ends an attempt, when it is known what it will say, something else is done.
pub struct Between {
    ends: AtomicBool,
    deed: Mutex<Option<Deed<()>>>,
}

impl Between {
    pub fn armed(deed: impl Future<Output = ()> + Send + 'static) -> Arc<Between> {
        let between = Between { ends: AtomicBool::new(false), deed: Mutex::new(Some(Box::pin(deed))) };
        let between = Arc::new(between);
        treehold_fault::arm(Arc::clone(&between) as _);
        between
    }

    /// It is over, and it was done.
    pub fn passed(&self) {
        treehold_fault::disarm();
        assert!(self.deed.lock().expect("a lock").is_none(), "nothing came between");
    }
}

impl Faults for Between {
    fn decide<'a>(&'a self, point: &'static str, moment: Moment) -> Decision<'a> {
        Box::pin(async move {
            self.ends.fetch_or(point == "U5", Ordering::Relaxed);
            let ends = matches!(point, "publish" | "land a commit") && moment == Moment::Before;
            let now = ends && self.ends.load(Ordering::Relaxed);
            let deed = if now { self.deed.lock().expect("a lock").take() } else { None };
            if let Some(deed) = deed {
                deed.await;
            }
            Ok(())
        })
    }

    fn decide_blocking(&self, _: &'static str) -> Result<(), Injected> {
        Ok(())
    }
}

/// Before each publication that ends an attempt, the branch beside the default one goes from the one of two commits to the other.
struct Restless {
    engine: Engine,
    project: String,
    /// Where it is, and where it goes next.
    places: Mutex<[Oid; 2]>,
    ends: AtomicBool,
    /// The move is a publication, too.
    moves: AtomicBool,
}

impl Faults for Restless {
    fn decide<'a>(&'a self, point: &'static str, moment: Moment) -> Decision<'a> {
        Box::pin(async move {
            self.ends.fetch_or(point == "U5", Ordering::Relaxed);
            let now = point == "publish" && moment == Moment::Before && self.ends.load(Ordering::Relaxed);
            if now && !self.moves.swap(true, Ordering::Relaxed) {
                let [next, here] = {
                    let mut places = self.places.lock().expect("a lock");
                    places.swap(0, 1);
                    *places
                };
                self.engine.put_ref(&self.project, &branch(SIDE), &to(next, Some(here))).await.expect("a move");
                self.moves.store(false, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn decide_blocking(&self, _: &'static str) -> Result<(), Injected> {
        Ok(())
    }
}

/// Goal: an engine that is slow to end its push does not set back what another one has seen of the remote since.
/// Method: the push has landed, and is about to be recorded; somebody commits on top of it at the remote, and another engine pulls.
#[tokio::test]
async fn what_was_seen_of_the_remote_since_a_push_stays_known() {
    let _alone = ALONE.lock();
    let world = Arc::new(World::calm(2));
    let remote = Arc::new(world.git_remote());
    let (engine, other) =
        (world.engine_with(Arc::clone(&remote) as _).await, world.engine_with(Arc::clone(&remote) as _).await);
    let project = world.imported(&engine).await;
    let mut person = Person::new(Uuid::from_u128(1));
    people::save(&engine, &project, person.id, "file", Some("one")).await;

    let (outside, pulled) = (Arc::clone(&world), project.clone());
    let deed = async move {
        outside.outsider(2);
        let done = people::sync(other, pulled).await;
        assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}");
    };
    let between = Between::armed(deed);
    let done = person.commit(0, engine.clone(), project.clone(), true).await;
    between.passed();
    assert!(matches!(done, Done::Committed(_, _, Ok(_))), "{done:?}");

    let status = engine.status(&project, Some(person.id), None).await.expect("a status");
    let known = status.remote_head.expect("a branch of the remote").to_string();
    assert_eq!(known, world.origin.rev_parse("refs/heads/main"));
    assert_eq!((status.ahead, status.behind), (0, 0), "our branch went there by the pull");
    assert!(status.changes.is_empty() && status.attempts.is_empty(), "{status:?}");
    assert_eq!(people::view(&engine, &project, person.id, "file").await, Some(b"one".to_vec()));
}

/// A project with a remote and a branch beside the default one, which is where that is.
struct Case {
    world: World,
    engine: Engine,
    project: String,
}

impl Case {
    async fn begun() -> Case {
        let world = World::calm(1);
        let engine = world.engine_with(Arc::new(world.git_remote()) as _).await;
        let project = world.imported(&engine).await;
        let case = Case { world, engine, project };
        let head = case.world.origin.rev_parse("main").parse().expect("an oid");
        case.engine.put_ref(&case.project, &branch(SIDE), &to(head, None)).await.expect("a branch");
        case
    }

    async fn saved(&self, user: Uuid, branch: &str, path: &str, text: &'static str) {
        let put = PutPending { branch: Some(branch.to_owned()), ..people::edit(Some(text)) };
        self.engine.put_pending(&self.project, user, path.as_bytes(), put).await.expect("a save");
    }

    async fn committed(&self, user: Uuid, branch: &str, push: bool) -> CommitAnswer {
        self.commit(user, branch, push).await.expect("a commit")
    }

    async fn commit(&self, user: Uuid, branch: &str, push: bool) -> Result<CommitAnswer, EngineError> {
        let request = CommitRequest {
            user,
            message: "Say it".to_owned(),
            author: Author { name: "A".to_owned(), email: "a@example.org".to_owned(), date: None },
            branch: Some(branch.to_owned()),
            paths: None,
            expected_head_sha: None,
            on_conflict: OnConflict::Branch,
            push: Some(push),
            dry_run: false,
            trailers: false,
            sign: None,
        };
        self.engine.commit(&self.project, &request, None, None).await
    }

    /// A commit that is not pushed, onto the branch beside the default one.
    async fn begun_aside(&self, user: Uuid) {
        self.saved(user, SIDE, "first", "first").await;
        self.committed(user, SIDE, false).await;
    }

    /// The same as `committed`; when it is known what its end will say, something else is done.
    async fn committed_while(&self, user: Uuid, push: bool, deed: Deed<()>) -> CommitAnswer {
        let between = Between::armed(deed);
        let answer = self.committed(user, SIDE, push).await;
        between.passed();
        answer
    }

    /// Deletes the branch beside the default one.
    fn deletes_side(&self) -> Deed<()> {
        let (engine, project) = (self.engine.clone(), self.project.clone());
        Box::pin(async move { engine.delete_ref(&project, &branch(SIDE), None).await.expect("a deletion") })
    }

    /// Whatever refs lead to is there, and the project's to read.
    async fn is_whole(&self) {
        let options = VerifyOptions { full: true, restart: true, ..VerifyOptions::default() };
        let report = self.engine.verify(&options, &()).await.expect("a verification");
        assert_eq!((report.errors, report.findings.len()), (0, 0), "{:?}", report.findings);
    }
}

fn branch(name: &str) -> String {
    format!("refs/heads/{name}")
}

/// A branch goes there: it is made, or set elsewhere from where it is expected.
fn to(oid: Oid, expected_oid: Option<Oid>) -> RefRequest {
    let force = expected_oid.is_some();
    RefRequest { oid, expected_oid, force, restore: false, ephemeral: None, expires_in: None }
}

/// Goal: a branch that is deleted while a push of it is on its way comes back with all of its history.
/// Method: two commits are pushed to a branch; the second one has landed, and is about to be recorded, when the branch is deleted.
#[tokio::test]
async fn a_branch_that_comes_back_has_its_history() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.saved(USER, SIDE, "file", "one").await;
    case.committed(USER, SIDE, true).await;
    case.saved(USER, SIDE, "file", "two").await;
    let answer = case.committed_while(USER, true, case.deletes_side()).await;
    assert_eq!(case.world.origin.rev_parse(SIDE), answer.commit.to_string());
    case.is_whole().await;
}

/// Goal: a commit that makes a branch of its own has its history there, also if the branch that it started from goes meanwhile.
/// Method: an edit that does not merge is committed to a branch of its own, pushed or not, on top of a commit that only the deleted branch has.
#[tokio::test]
async fn a_branch_of_its_own_has_its_history() {
    let _alone = ALONE.lock();
    for push in [false, true] {
        let case = Case::begun().await;
        case.begun_aside(USER).await;
        case.saved(OTHER, SIDE, "file", "theirs").await;
        case.saved(USER, SIDE, "file", "ours").await;
        case.committed(USER, SIDE, false).await;
        let answer = case.committed_while(OTHER, push, case.deletes_side()).await;
        assert_ne!(answer.branch, SIDE);
        assert_eq!(answer.pushed, push);
        let refs = case.engine.refs(&case.project, Some(&branch(&answer.branch)), None, None).await.expect("refs");
        assert_eq!(refs.refs.iter().map(|found| found.oid).collect::<Vec<_>>(), [answer.commit]);
        case.is_whole().await;
    }
}

/// Goal: the remote's branch, as it is recorded at the end of a push, has its history, also where ours cannot go there.
/// Method: a commit that was not pushed goes with the push of the next one; before that is recorded, the branch is set elsewhere.
#[tokio::test]
async fn the_remotes_branch_has_its_history() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    case.begun_aside(USER).await;
    case.saved(OTHER, "main", "other", "other").await;
    let elsewhere = case.committed(OTHER, "main", false).await.commit;
    case.saved(USER, SIDE, "file", "one").await;
    let (engine, project) = (case.engine.clone(), case.project.clone());
    let deed = Box::pin(async move {
        let known = engine.refs(&project, Some(&branch(SIDE)), None, None).await.expect("refs");
        let expected_oid = known.refs.first().map(|found| found.oid);
        engine.put_ref(&project, &branch(SIDE), &to(elsewhere, expected_oid)).await.expect("a move");
    });
    let answer = case.committed_while(USER, true, deed).await;
    assert_eq!(case.world.origin.rev_parse(SIDE), answer.commit.to_string());
    case.is_whole().await;
}

/// Goal: nobody is told to plan a commit again that the remote has: it is ended later, and its edits are committed once.
/// Method: before each try to record that a push has landed, our branch is moved; then housekeeping comes by.
#[tokio::test]
async fn a_push_that_cannot_be_recorded_is_busy() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let first = case.world.origin.rev_parse("main").parse().expect("an oid");
    case.saved(OTHER, "main", "other", "other").await;
    let second = case.committed(OTHER, "main", false).await.commit;
    case.engine.put_ref(&case.project, &branch(SIDE), &to(second, None)).await.expect("a move");
    case.saved(USER, SIDE, "file", "one").await;
    let restless = Restless {
        engine: case.engine.clone(),
        project: case.project.clone(),
        places: Mutex::new([second, first]),
        ends: AtomicBool::new(false),
        moves: AtomicBool::new(false),
    };
    treehold_fault::arm(Arc::new(restless) as _);
    let answer = case.commit(USER, SIDE, true).await;
    treehold_fault::disarm();
    assert!(matches!(answer, Err(EngineError::Busy)), "{answer:?}");
    let status = case.engine.status(&case.project, Some(USER), Some(SIDE)).await.expect("a status");
    let states: Vec<_> = status.attempts.iter().map(|attempt| attempt.state.as_str()).collect();
    assert_eq!((states, status.changes.len()), (vec!["landed"], 1), "{status:?}");
    case.world.clock.pass(Duration::from_secs(3600));
    case.engine.housekeep().await.expect("a round");
    let status = case.engine.status(&case.project, Some(USER), Some(SIDE)).await.expect("a status");
    assert_eq!((status.attempts.len(), status.changes.len()), (0, 0), "{status:?}");
    assert_eq!(status.head.map(|oid| oid.to_string()), Some(case.world.origin.rev_parse(SIDE)));
    case.is_whole().await;
}

/// Goal: what was taken back while it was pushed, and is at the remote no more either, is not the project's to read.
/// Method: before the end of a push is recorded, the branch is set back here and elsewhere at the remote, and another engine pulls.
#[tokio::test]
async fn what_is_nowhere_any_more_is_not_reached() {
    let _alone = ALONE.lock();
    let case = Case::begun().await;
    let first = case.world.origin.rev_parse("main").parse().expect("an oid");
    case.saved(USER, SIDE, "file", "one").await;
    let ours = case.committed(USER, SIDE, false).await.commit;
    case.world.outsider(2);
    let (origin, theirs) = (Repo::open(case.world.origin.path()), case.world.origin.rev_parse("main"));
    let other = case.world.engine_with(Arc::new(case.world.git_remote()) as _).await;
    let (engine, project) = (case.engine.clone(), case.project.clone());
    let between = Between::armed(async move {
        engine.put_ref(&project, &branch(SIDE), &to(first, Some(ours))).await.expect("a move");
        origin.git().run(["update-ref", "refs/heads/side", theirs.as_str()]);
        let request = SyncRequest { branch: Some(SIDE.to_owned()), ..SyncRequest::default() };
        other.sync(&project, &request, None, &()).await.expect("a sync");
    });
    let answer = case.engine.push(&case.project, Some(SIDE), None).await.expect("a push");
    between.passed();
    assert_eq!((answer.to, answer.pushed), (ours, true));
    let again = case.engine.put_ref(&case.project, &branch("again"), &to(ours, None)).await;
    assert!(matches!(&again, Err(error) if error.code() == "unknown_oid"), "{again:?}");
    case.is_whole().await;
}
