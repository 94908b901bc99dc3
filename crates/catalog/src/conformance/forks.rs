use roaring::RoaringTreemap;

use super::*;
use crate::{CatalogError, Fork, ForkOutcome, PublishOutcome, RefState};

const MAIN: &str = "refs/heads/main";

/// A project with two branches, a cut, a remote branch and a reach.
async fn source(case: &Case) -> Uuid {
    let project = case.project().await;
    let op = case.op(project).await;
    let refs = vec![update(MAIN, None, Some(oid("1"))), update("refs/tags/v1", None, Some(oid("2")))];
    let publish = Publish {
        remote_refs: vec![(MAIN.to_owned(), Some(oid("r")))],
        reached: RoaringTreemap::from_iter([1, 2, 3]),
        shallow: Some(vec![oid("s")]),
        ..publication(project, op, refs)
    };
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    project
}

async fn seen(case: &Case, project: Uuid) -> RefState {
    case.catalog.ref_state(project).await.expect("state")
}

fn fork(source: Uuid, seen: RefState, name: Option<&str>) -> Fork {
    let project = new_project(Uuid::new_v4(), name);
    Fork { source, seen, project, reach: None, now_ms: NOW }
}

pub(super) async fn begin_with_the_refs_of_another(case: Case) {
    let source = source(&case).await;
    let fork = fork(source, seen(&case, source).await, Some("copy"));
    let new = fork.project.id;
    assert_eq!(case.catalog.fork_project(&fork).await.expect("fork"), ForkOutcome::Forked);
    let refs = async |project| case.catalog.references(project, "").await.expect("refs");
    assert_eq!(refs(new).await, refs(source).await);
    assert_eq!(case.catalog.shallow(new).await.expect("shallow"), [oid("s")]);
    assert_eq!(case.catalog.reach(new).await.expect("reach"), RoaringTreemap::from_iter([1, 2, 3]));
    assert_eq!(case.catalog.remote_references(new, "").await.expect("remote refs"), []);
    let logged = case.catalog.reflog(new, None, None, 9).await.expect("reflog");
    let logged: Vec<_> = logged.iter().map(|entry| (&*entry.name, entry.old, entry.new, &*entry.reason)).collect();
    assert_eq!(logged.len(), 2);
    assert!(logged.contains(&(MAIN, None, Some(oid("1")), "fork")), "{logged:?}");

    // From here on each goes its own way.
    case.publish(new, vec![update(MAIN, Some(oid("1")), Some(oid("3")))]).await;
    assert_eq!(case.catalog.reference(source, MAIN).await.expect("ref"), Some(oid("1")));
    assert!(case.catalog.delete_project(source).await.expect("delete"));
    assert_eq!(refs(new).await.len(), 2);
}

pub(super) async fn take_what_they_are_told(case: Case) {
    let source = source(&case).await;
    let state = seen(&case, source).await;
    let reach = Some(RoaringTreemap::from_iter([1]));
    let told = Fork { reach, ..fork(source, state, None) };
    assert_eq!(case.catalog.fork_project(&told).await.expect("fork"), ForkOutcome::Forked);
    assert_eq!(case.catalog.reach(told.project.id).await.expect("reach"), RoaringTreemap::from_iter([1]));
}

pub(super) async fn are_refused_whole(case: Case) {
    let source = source(&case).await;
    let state = seen(&case, source).await;
    let fork_it = async |fork: &Fork| case.catalog.fork_project(fork).await;
    let first = fork(source, state, Some("taken"));
    assert_eq!(fork_it(&first).await.expect("fork"), ForkOutcome::Forked);
    assert_eq!(fork_it(&first).await.expect("fork"), ForkOutcome::Exists);
    assert_eq!(fork_it(&fork(source, state, Some("taken"))).await.expect("fork"), ForkOutcome::NameTaken);
    let nobody = fork(Uuid::new_v4(), state, None);
    assert!(matches!(fork_it(&nobody).await, Err(CatalogError::NoProject)));
    case.publish(source, vec![update("refs/heads/x", None, Some(oid("x")))]).await;
    let late = fork(source, state, None);
    assert_eq!(fork_it(&late).await.expect("fork"), ForkOutcome::Overtaken);
    assert_eq!(case.catalog.project(&crate::ProjectKey::Id(late.project.id)).await.expect("project"), None);
}
