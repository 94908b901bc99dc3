//! What a remote answered, and when that was true.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use treehold_engine::remote::{Endpoint, FetchSpec, Fetching, GitRemote, PushSpec, Pushed, RemoteError, RemoteRefs};
use treehold_engine::{Engine, Remote};
use uuid::Uuid;

use crate::ALONE;
use crate::people::{self, Done, Person};
use crate::world::World;

/// Loses the answer to the next push, and then answers once with refs of the past.
#[derive(Debug)]
struct Forgetful {
    inner: GitRemote,
    past: Mutex<Option<RemoteRefs>>,
    loses: Mutex<bool>,
}

#[async_trait]
impl Remote for Forgetful {
    fn check_url(&self, url: &str) -> Result<(), RemoteError> {
        self.inner.check_url(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        let past = self.past.lock().expect("a lock").take();
        match past {
            Some(past) => Ok(past),
            None => self.inner.refs(at, prefixes).await,
        }
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        self.inner.fetch(at, spec).await
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        let pushed = self.inner.push(at, spec).await;
        match std::mem::take(&mut *self.loses.lock().expect("a lock")) {
            true => Pushed::Unknown("the answer is lost".to_owned()),
            false => pushed,
        }
    }
}

/// Goal: refs from before a push are no reason to give its commit up, which may have landed.
/// Method: the answer to a push that landed is lost, and the look after it shows where the branch was two commits ago.
#[tokio::test]
async fn refs_of_the_past_settle_nothing() {
    let _alone = ALONE.lock();
    let world = World::calm(1);
    let inner = world.git_remote();
    let forgetful = Arc::new(Forgetful { inner, past: Mutex::default(), loses: Mutex::default() });
    let engine = world.engine_with(Arc::clone(&forgetful) as _).await;
    let project = world.imported(&engine).await;
    let url = world.origin.path().to_str().expect("UTF-8").to_owned();
    let at = Endpoint { url, credentials: None, operator: true };
    let past = forgetful.refs(&at, &["refs/heads/main".to_owned()]).await.expect("refs");
    let mut person = Person::new(Uuid::from_u128(1));
    let first = saved_and_committed(&engine, &project, &mut person, "one").await;
    (*forgetful.past.lock().expect("a lock"), *forgetful.loses.lock().expect("a lock")) = (Some(past), true);
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
