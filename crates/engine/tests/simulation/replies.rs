//! What a remote answered, and when that was true.

use std::sync::Arc;

use treehold_engine::remote::Endpoint;
use treehold_engine::{Engine, Remote};
use uuid::Uuid;

use crate::ALONE;
use crate::people::{self, Done, Person};
use crate::staged::Staged;
use crate::world::World;

/// Goal: refs from before a push are no reason to give its commit up, which may have landed.
/// Method: the answer to a push that landed is lost, and the look after it shows where the branch was two commits ago.
#[tokio::test]
async fn refs_of_the_past_settle_nothing() {
    let _alone = ALONE.lock();
    let world = World::calm(1);
    let remote = Arc::new(Staged::new(world.git_remote()));
    let engine = world.engine_with(Arc::clone(&remote) as _).await;
    let project = world.imported(&engine).await;
    let url = world.origin.path().to_str().expect("UTF-8").to_owned();
    let at = Endpoint { url, credentials: None, operator: true };
    let past = remote.refs(&at, &["refs/heads/main".to_owned()]).await.expect("refs");
    let mut person = Person::new(Uuid::from_u128(1));
    let first = saved_and_committed(&engine, &project, &mut person, "one").await;
    (*remote.past.lock().expect("a lock"), *remote.loses.lock().expect("a lock")) = (Some(past), true);
    let second = saved_and_committed(&engine, &project, &mut person, "two").await;
    assert_eq!(world.origin.git().run(["log", "--format=%H", "-2", "main"]), format!("{second}\n{first}"));
    let pending = engine.list_pending(&project, person.id, None, None, None).await.expect("a list");
    assert!(pending.changes.is_empty(), "{pending:?}");
}

async fn saved_and_committed(engine: &Engine, project: &str, person: &mut Person, text: &'static str) -> String {
    people::save(engine, project, person.id, "file", Some(text)).await;
    person.open = None;
    match person.commit(0, engine.clone(), project.to_owned(), true).await {
        Done::Committed(_, _, Ok(answer)) => answer.commit.to_string(),
        other => panic!("{other:?}"),
    }
}
