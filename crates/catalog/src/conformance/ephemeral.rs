use uuid::Uuid;

use super::*;
use crate::{CatalogError, Ephemeral, Fork, ForkOutcome, Guard, Publish, PublishOutcome, Ref, RefUpdate};

const TRY: &str = "refs/heads/try";

/// Moves refs at a time, and says how long branches stay.
async fn publish(case: &Case, project: Uuid, now_ms: i64, refs: Vec<RefUpdate>, lifetimes: &[(&str, Option<i64>)]) {
    let lifetimes = lifetimes.iter().map(|(name, lifetime)| ((*name).to_owned(), *lifetime)).collect();
    let publish = Publish { lifetimes, now_ms, ..publication(project, case.op(project).await, refs) };
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
}

/// Lifetime and end of a branch that is there.
async fn end(case: &Case, project: Uuid, name: &str) -> Option<(i64, i64)> {
    let found = case.catalog.references(project, name).await.expect("refs");
    let found = found.into_iter().find(|found| found.name == name).expect("the ref");
    found.ephemeral.map(|Ephemeral { lifetime_ms, expires_at_ms }| (lifetime_ms, expires_at_ms))
}

async fn expired(case: &Case, before_ms: i64) -> Vec<String> {
    let found = case.catalog.expired_branches(before_ms, None, 10).await.expect("expired");
    found.into_iter().map(|(_, Ref { name, .. })| name).collect()
}

pub(super) async fn end_a_while_after_their_last_move(case: Case) {
    let project = case.project().await;
    let refs = vec![update(TRY, None, Some(oid("1"))), update("refs/heads/main", None, Some(oid("1")))];
    publish(&case, project, 100, refs, &[(TRY, Some(50))]).await;
    assert_eq!(end(&case, project, TRY).await, Some((50, 150)));
    assert_eq!(end(&case, project, "refs/heads/main").await, None);
    assert_eq!(expired(&case, 150).await, Vec::<String>::new());
    assert_eq!(expired(&case, 151).await, [TRY]);
    let found = case.catalog.expired_branches(151, None, 10).await.expect("expired");
    let ephemeral = Some(Ephemeral { lifetime_ms: 50, expires_at_ms: 150 });
    assert_eq!(found, [(project, Ref { name: TRY.to_owned(), oid: oid("1"), ephemeral })]);

    publish(&case, project, 140, vec![update(TRY, Some(oid("1")), Some(oid("2")))], &[]).await;
    assert_eq!(end(&case, project, TRY).await, Some((50, 190)), "a move begins its time anew");
    publish(&case, project, 145, Vec::new(), &[(TRY, Some(10))]).await;
    assert_eq!(end(&case, project, TRY).await, Some((10, 155)));
    publish(&case, project, 146, vec![update(TRY, Some(oid("2")), None)], &[]).await;
    publish(&case, project, 147, vec![update(TRY, None, Some(oid("1")))], &[]).await;
    assert_eq!(end(&case, project, TRY).await, None, "one that is made again is another one");
}

pub(super) async fn stay_once_they_are_promoted(case: Case) {
    let project = case.project().await;
    publish(&case, project, 100, vec![update(TRY, None, Some(oid("1")))], &[(TRY, Some(50))]).await;
    let seen = case.catalog.ref_state(project).await.expect("state");
    publish(&case, project, 120, Vec::new(), &[(TRY, None)]).await;
    assert_eq!(end(&case, project, TRY).await, None);
    assert_eq!(expired(&case, i64::MAX).await, Vec::<String>::new());
    // Whoever was about to delete it is too late, though it has not moved.
    let mut late = publication(project, case.op(project).await, vec![update(TRY, Some(oid("1")), None)]);
    late.guard = Some(Guard::Unmoved(seen));
    assert_eq!(case.catalog.publish(&late).await.expect("publish"), PublishOutcome::Overtaken);
    publish(&case, project, 130, vec![update(TRY, Some(oid("1")), Some(oid("2")))], &[]).await;
    assert_eq!(end(&case, project, TRY).await, None);
}

pub(super) async fn stay_where_somebody_has_pending_work(case: Case) {
    let key = WorkspaceKey { branch: "try/ä".to_owned(), ..case.workspace().await };
    let name = format!("refs/heads/{}", key.branch);
    publish(&case, key.project, 100, vec![update(&name, None, Some(oid("1")))], &[(&name, Some(50))]).await;
    let other = case.project().await;
    publish(&case, other, 90, vec![update(&name, None, Some(oid("1")))], &[(&name, Some(50))]).await;
    assert_eq!(expired(&case, 1_000).await.len(), 2);
    let mut found = Vec::new();
    for of in [other, key.project] {
        let page = case.catalog.expired_branches(1_000, found.last(), 1).await.expect("expired");
        assert_eq!(page.iter().map(|(of, _)| *of).collect::<Vec<_>>(), [of], "the first one first");
        found.extend(page);
    }
    assert_eq!(case.catalog.expired_branches(1_000, found.last(), 1).await.expect("expired"), []);
    case.write(&key, &[edit("a", "one")]).await;
    let left: Vec<Uuid> = case
        .catalog
        .expired_branches(1_000, None, 10)
        .await
        .expect("expired")
        .into_iter()
        .map(|(project, _)| project)
        .collect();
    assert_eq!(left, [other], "that of another project is no reason");
    // Whoever was about to delete it when the work came is too late.
    let gone = vec![update(&name, Some(oid("1")), None)];
    for (project, outcome) in [(key.project, PublishOutcome::Overtaken), (other, PublishOutcome::Published)] {
        let mut ends = publication(project, case.op(project).await, gone.clone());
        ends.idle = Some(key.branch.clone());
        assert_eq!(case.catalog.publish(&ends).await.expect("publish"), outcome);
    }
    // Work on another branch is no reason either.
    let beside = WorkspaceKey { branch: "try".to_owned(), ..key.clone() };
    case.write(&beside, &[edit("a", "one")]).await;
    publish(&case, other, 90, vec![update(&name, None, Some(oid("1")))], &[(&name, Some(50))]).await;
    case.write(&key, &[reset("a")]).await;
    assert_eq!(expired(&case, 1_000).await.len(), 2);
    let mut ends = publication(key.project, case.op(key.project).await, gone);
    ends.idle = Some(key.branch.clone());
    assert_eq!(case.catalog.publish(&ends).await.expect("publish"), PublishOutcome::Published);
    // Nor is there anything to lock of a project that is gone.
    case.catalog.delete_project(other).await.expect("delete");
    let mut late = publication(other, Uuid::new_v4(), Vec::new());
    late.idle = Some(key.branch.clone());
    let outcome = case.catalog.publish(&late).await;
    assert!(matches!(outcome, Err(CatalogError::NoProject)), "{outcome:?}");
}

pub(super) async fn end_in_forks_too(case: Case) {
    let source = case.project().await;
    let refs = ["refs/heads/main", TRY, "refs/heads/other"].map(|name| update(name, None, Some(oid("1")))).to_vec();
    publish(&case, source, 100, refs, &[(TRY, Some(50)), ("refs/heads/other", Some(60))]).await;
    let mut project = new_project(Uuid::new_v4(), None);
    project.default_branch = "other".to_owned();
    let seen = case.catalog.ref_state(source).await.expect("state");
    let fork = Fork { source, seen, project: project.clone(), reach: None, now_ms: 120 };
    assert_eq!(case.catalog.fork_project(&fork).await.expect("fork"), ForkOutcome::Forked);
    assert_eq!(end(&case, project.id, TRY).await, Some((50, 150)));
    assert_eq!(end(&case, project.id, "refs/heads/other").await, None, "its default branch stays");
    assert_eq!(end(&case, project.id, "refs/heads/main").await, None);
}
