//! A commit that stays here, beside another engine's push on its way to the same branch.
//!
//! The push lands at the remote and our branch cannot go there until a merge. What was committed stays in its user's pending work until
//! then, with what it started from, and the attempt waits. In the worlds of the simulation that comes by chance; here it comes for certain, and
//! with what those keep away from: a user who commits and does not push while their own push waits.

use std::sync::Arc;
use std::time::Duration;

use treehold_engine::Engine;
use treehold_engine::api::{Oid, Status};
use treehold_engine::remote::RemoteRefs;
use uuid::Uuid;

use crate::ALONE;
use crate::people::{self, Done, Person};
use crate::staged::Staged;
use crate::world::World;

/// Where one has pushed and the other has committed meanwhile.
struct Crossed {
    /// Its files, the database, the clock.
    world: World,
    engine: Engine,
    remote: Arc<Staged>,
    project: String,
    /// Whose commit of `file` the remote has, and our branch has not.
    person: Person,
}

async fn crossed() -> Crossed {
    let world = World::calm(2);
    let remote = Arc::new(Staged::new(world.git_remote()));
    let (engine, other) =
        (world.engine_with(Arc::clone(&remote) as _).await, world.engine_with(Arc::clone(&remote) as _).await);
    let project = world.imported(&engine).await;
    let (mut person, mut second) = (Person::new(Uuid::from_u128(1)), Person::new(Uuid::from_u128(2)));
    people::save(&engine, &project, person.id, "file", Some("one")).await;
    people::save(&engine, &project, second.id, "other", Some("other")).await;
    let meanwhile = second.commit(1, other, project.clone(), false);
    *remote.meanwhile.lock().expect("a lock") = Some(meanwhile);
    committed(&engine, &project, &mut person, true).await;
    let status = engine.status(&project, None, None).await.expect("a status");
    assert_eq!((status.ahead, status.behind), (1, 1), "both have a commit that the other lacks");
    Crossed { world, engine, remote, project, person }
}

async fn committed(engine: &Engine, project: &str, person: &mut Person, push: bool) {
    person.open = None;
    let done = person.commit(0, engine.clone(), project.to_owned(), push).await;
    assert!(matches!(done, Done::Committed(_, _, Ok(_))), "{done:?}");
}

async fn seen(engine: &Engine, project: &str, person: &Person) -> Status {
    engine.status(project, Some(person.id), None).await.expect("a status")
}

/// How many paths are pending, and in which states attempts wait.
fn left(status: &Status) -> (usize, Vec<&str>) {
    (status.changes.len(), status.attempts.iter().map(|attempt| attempt.state.as_str()).collect())
}

async fn synced(engine: &Engine, project: &str) {
    let done = people::sync(engine.clone(), project.to_owned()).await;
    assert!(matches!(done, Done::Other(_, Ok(()))), "{done:?}");
    engine.housekeep().await.expect("a round of housekeeping");
}

/// Goal: a deletion that was answered is kept, also where the file is in a commit that our branch has not merged yet.
/// Method: the commit of a new file lands at the remote beside a commit of ours; its user deletes the file, then the two are merged.
#[tokio::test]
async fn a_deletion_outlives_the_merge_of_what_it_deletes() {
    let _alone = ALONE.lock();
    let Crossed { world: _world, engine, project, person, .. } = crossed().await;
    people::save(&engine, &project, person.id, "file", None).await;
    synced(&engine, &project).await;
    assert_eq!(people::view(&engine, &project, person.id, "file").await, None);
}

/// Goal: nobody's edit conflicts with what they themselves have committed.
/// Method: as above, with another edit in the place of the deletion, which is then committed.
#[tokio::test]
async fn an_edit_after_a_commit_that_is_not_merged_yet_merges_with_it() {
    let _alone = ALONE.lock();
    let Crossed { world: _world, engine, project, mut person, .. } = crossed().await;
    people::save(&engine, &project, person.id, "file", Some("two")).await;
    synced(&engine, &project).await;
    committed(&engine, &project, &mut person, true).await;
    assert_eq!(people::view(&engine, &project, person.id, "file").await, Some(b"two".to_vec()));
}

/// Goal: the same where the user commits something else here meanwhile: the deletion, which changes nothing here yet, is not taken with it.
/// Method: as above, with a commit of the deletion and of another file that is not pushed, before the merge.
#[tokio::test]
async fn a_deletion_outlives_a_commit_beside_it() {
    let _alone = ALONE.lock();
    let Crossed { world: _world, engine, project, mut person, .. } = crossed().await;
    people::save(&engine, &project, person.id, "file", None).await;
    people::save(&engine, &project, person.id, "third", Some("three")).await;
    committed(&engine, &project, &mut person, false).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (1, vec!["landed"]));
    synced(&engine, &project).await;
    assert_eq!(people::view(&engine, &project, person.id, "file").await, None);
    committed(&engine, &project, &mut person, true).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (0, Vec::new()));
    assert_eq!(people::view(&engine, &project, person.id, "file").await, None);
    assert_eq!(people::view(&engine, &project, person.id, "third").await, Some(b"three".to_vec()));
}

/// Goal: the request is answered, and answered alike when it is asked again; its work is pending until the merge, and not any more then.
/// Method: the same key before the merge, and the status before and after it.
#[tokio::test]
async fn what_was_committed_is_settled_by_the_merge() {
    let _alone = ALONE.lock();
    let Crossed { world: _world, engine, project, mut person, .. } = crossed().await;
    let waiting = seen(&engine, &project, &person).await;
    assert_eq!(left(&waiting), (1, vec!["landed"]));
    let again = person.commit(0, engine.clone(), project.clone(), true).await;
    let Done::Committed(_, _, Ok(answer)) = &again else { panic!("{again:?}") };
    assert_eq!((answer.commit, answer.pushed), (waiting.attempts[0].commit, true));
    // A round of housekeeping finds nothing to do, and changes nothing.
    engine.housekeep().await.expect("a round of housekeeping");
    assert_eq!(seen(&engine, &project, &person).await, waiting);
    synced(&engine, &project).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (0, Vec::new()));
    assert_eq!(people::view(&engine, &project, person.id, "file").await, Some(b"one".to_vec()));
}

/// Goal: nothing waits for what the remote has given up, and no edit is lost.
/// Method: the remote's branch is set back before the merge; once that cannot be an answer of the past, the work is committed again.
#[tokio::test]
async fn a_commit_that_the_remote_gave_up_is_pending_work_again() {
    let _alone = ALONE.lock();
    let Crossed { world, engine, project, mut person, .. } = crossed().await;
    world.origin.git().run(["update-ref", "refs/heads/main", "refs/heads/main^"]);
    synced(&engine, &project).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (1, vec!["landed"]));
    world.clock.pass(Duration::from_secs(3600));
    synced(&engine, &project).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (1, Vec::new()));
    committed(&engine, &project, &mut person, true).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (0, Vec::new()));
    assert_eq!(people::view(&engine, &project, person.id, "file").await, Some(b"one".to_vec()));
}

/// Goal: a commit is given up only after a look at the remote, never for what was seen of it long ago.
/// Method: the remote's branch is set back, which a sync sees, and goes forward again, which nobody sees. Once the sighting is old, a round of
/// housekeeping goes by; then the two are merged.
#[tokio::test]
async fn an_old_sighting_gives_no_commit_up() {
    let _alone = ALONE.lock();
    let Crossed { engine, project, person, world, .. } = crossed().await;
    let landed = world.origin.refs()["refs/heads/main"].clone();
    world.origin.git().run(["update-ref", "refs/heads/main", "refs/heads/main^"]);
    synced(&engine, &project).await;
    world.origin.git().run(["update-ref", "refs/heads/main", &landed]);
    world.clock.pass(Duration::from_secs(3600));
    engine.housekeep().await.expect("a round of housekeeping");
    assert_eq!(left(&seen(&engine, &project, &person).await), (1, vec!["landed"]));
    people::save(&engine, &project, person.id, "file", None).await;
    synced(&engine, &project).await;
    assert_eq!(
        people::view(&engine, &project, person.id, "file").await,
        None,
        "what was undone meanwhile stays undone"
    );
}

/// Goal: refs of before a push end no wait, however much later they are judged.
/// Method: soon after the push, a sync is shown where the remote's branch was before it; much later, nobody having looked again, a round of
/// housekeeping comes by.
#[tokio::test]
async fn an_answer_of_the_past_ends_no_wait() {
    let _alone = ALONE.lock();
    let Crossed { world, engine, remote, project, person } = crossed().await;
    let before = world.origin.rev_parse("main^").parse::<Oid>().expect("an oid");
    let past = RemoteRefs { refs: vec![("refs/heads/main".to_owned(), before.0)], head: None };
    *remote.past.lock().expect("a lock") = Some(past);
    synced(&engine, &project).await;
    assert_eq!(seen(&engine, &project, &person).await.remote_head, Some(before));
    world.clock.pass(Duration::from_secs(3600));
    engine.housekeep().await.expect("a round of housekeeping");
    assert_eq!(left(&seen(&engine, &project, &person).await), (1, vec!["landed"]));
    synced(&engine, &project).await;
    assert_eq!(left(&seen(&engine, &project, &person).await), (0, Vec::new()));
}
