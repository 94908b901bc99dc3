//! What another engine sees of the remote between a push and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use treehold_engine::api::{CommitAnswer, CommitRequest, PutPending, RefRequest};
use treehold_engine::{Engine, VerifyOptions};
use treehold_fault::{Decision, Faults, Injected, Moment};
use uuid::Uuid;

use crate::ALONE;
use crate::life::Deed;
use crate::people::{self, Done, Person};
use crate::world::World;

const SIDE: &str = "side";

/// Before the next publication that ends an attempt, when it is known what it will say, something else is done.
struct Between {
    ends: AtomicBool,
    deed: Mutex<Option<Deed<()>>>,
}

impl Between {
    fn armed(deed: impl Future<Output = ()> + Send + 'static) -> Arc<Between> {
        let between = Between { ends: AtomicBool::new(false), deed: Mutex::new(Some(Box::pin(deed))) };
        let between = Arc::new(between);
        treehold_fault::arm(Arc::clone(&between) as _);
        between
    }

    /// It is over, and it was done.
    fn passed(&self) {
        treehold_fault::disarm();
        assert!(self.deed.lock().expect("a lock").is_none(), "nothing came between");
    }
}

impl Faults for Between {
    fn decide<'a>(&'a self, point: &'static str, moment: Moment) -> Decision<'a> {
        Box::pin(async move {
            self.ends.fetch_or(point == "U5", Ordering::Relaxed);
            let now = point == "publish" && moment == Moment::Before && self.ends.load(Ordering::Relaxed);
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

/// Saves a text on a branch beside the default one, and commits it with a push.
async fn committed(engine: &Engine, project: &str, user: Uuid, text: &'static str) -> CommitAnswer {
    let put = PutPending { branch: Some(SIDE.to_owned()), ..people::edit(Some(text)) };
    engine.put_pending(project, user, b"file", put).await.expect("a save");
    let request = CommitRequest { branch: Some(SIDE.to_owned()), ..people::request(user, text, true) };
    engine.commit(project, &request, None, None).await.expect("a commit")
}

/// Goal: a branch that is deleted while a push of it is on its way comes back with all of its history.
/// Method: two commits are pushed to a branch; the second one has landed, and is about to be recorded, when the branch is deleted.
#[tokio::test]
async fn a_branch_that_comes_back_has_its_history() {
    let _alone = ALONE.lock();
    let world = World::calm(1);
    let engine = world.engine_with(Arc::new(world.git_remote()) as _).await;
    let (project, user) = (world.imported(&engine).await, Uuid::from_u128(1));
    let oid = world.origin.rev_parse("main").parse().expect("an oid");
    let made = RefRequest { oid, expected_oid: None, force: false, restore: false, ephemeral: None, expires_in: None };
    engine.put_ref(&project, &format!("refs/heads/{SIDE}"), &made).await.expect("a branch");
    committed(&engine, &project, user, "one").await;

    let (deletes, of) = (engine.clone(), project.clone());
    let deed = async move { deletes.delete_ref(&of, &format!("refs/heads/{SIDE}"), None).await.expect("a deletion") };
    let between = Between::armed(deed);
    let answer = committed(&engine, &project, user, "two").await;
    between.passed();
    assert_eq!(world.origin.rev_parse(SIDE), answer.commit.to_string());
    let options = VerifyOptions { full: true, restart: true, ..VerifyOptions::default() };
    let report = engine.verify(&options, &()).await.expect("a verification");
    assert_eq!((report.errors, report.findings.len()), (0, 0), "{:?}", report.findings);
}
