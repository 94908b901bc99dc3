//! What projects hold, and may hold.

use super::*;
use crate::{Fork, ForkOutcome, HistoryPolicy, PolicyChange, Project, ProjectKey, PublishOutcome};

async fn project(case: &Case, id: Uuid) -> Project {
    case.catalog.project(&ProjectKey::Id(id)).await.expect("find").expect("the project")
}

async fn bytes(case: &Case, id: Uuid) -> u64 {
    project(case, id).await.bytes
}

/// The figure is what a count from nothing comes to.
pub(super) async fn holds(case: &Case, id: Uuid, expected: u64) {
    let held = case.catalog.held(id).await.expect("held").expect("the project");
    let reached = case.catalog.sum_sizes(&held.reach).await.expect("sizes");
    assert_eq!(
        (held.counted as u64, reached + held.pending_bytes, bytes(case, id).await),
        (expected, expected, expected)
    );
}

/// Publishes that a project reaches these objects; with `whole` nothing else any more.
async fn reach(case: &Case, project: Uuid, contents: &[&str], whole: bool) {
    let op = case.op(project).await;
    let objects: Vec<NewObject> = contents.iter().map(object).collect();
    let registered = case.register(op, &objects).await;
    let mut publish = publication(project, op, Vec::new());
    publish.reached = registered.iter().map(|row| row.number).collect();
    publish.replace_reach = whole;
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
}

pub(super) async fn counts_contents_of_pending_work(case: Case) {
    let key = case.workspace().await;
    holds(&case, key.project, 0).await;
    case.write(&key, &[edit("a", "1234"), edit("b", "12")]).await;
    holds(&case, key.project, 6).await;
    // Known contents are no more, under whatever path and whosever; a new version is, beside the one that it replaces.
    case.write(&key, &[edit("a", "1234"), edit("c", "12")]).await;
    case.write(&WorkspaceKey { user: Uuid::new_v4(), ..key.clone() }, &[edit("b", "12")]).await;
    holds(&case, key.project, 6).await;
    case.write(&key, &[edit("a", "123")]).await;
    case.write(&key, &[edit("a", "1234"), reset("c")]).await;
    holds(&case, key.project, 9).await;
    // Another project is charged for the same contents.
    let other = case.workspace().await;
    case.write(&other, &[edit("a", "1234"), edit("b", "12")]).await;
    holds(&case, other.project, 6).await;
    // What nothing names any more is held no longer.
    let nothing = HistoryPolicy { all_ms: 0, hourly_ms: 0, daily_ms: 0 };
    case.write(&key, &[reset("a")]).await;
    case.catalog.thin_history(None, &nothing, 100, NOW + 9).await.expect("thin");
    holds(&case, key.project, 2).await;
    holds(&case, other.project, 6).await;
}

pub(super) async fn counts_what_refs_reach(case: Case) {
    let (one, two) = (case.project().await, case.project().await);
    reach(&case, one, &["1", "22", "333"], false).await;
    holds(&case, one, 6).await;
    // What the store has from another project counts as what it has not.
    reach(&case, two, &["22", "333"], false).await;
    reach(&case, two, &["4444"], false).await;
    holds(&case, two, 9).await;
    reach(&case, one, &["22"], false).await;
    holds(&case, one, 6).await;
    reach(&case, one, &["333"], true).await;
    holds(&case, one, 3).await;
    let stats = case.catalog.stats().await.expect("stats");
    assert_eq!(
        (stats.held_bytes, stats.content_bytes),
        (3 + 9, 10),
        "what both hold counts for both, and is stored once"
    );
    assert_eq!(case.catalog.held_bytes().await.expect("held"), stats.held_bytes);
    let seen = case.catalog.ref_state(two).await.expect("state");
    let fork = Fork { source: two, seen, project: new_project(Uuid::new_v4(), None), reach: None, now_ms: NOW };
    assert_eq!(case.catalog.fork_project(&fork).await.expect("fork"), ForkOutcome::Forked);
    holds(&case, fork.project.id, 9).await;
}

pub(super) async fn tells_what_is_charged_already(case: Case) {
    use crate::Charged::{Pending, Reached};
    let (one, two) = (case.workspace().await, case.workspace().await);
    case.write(&one, &[edit("a", "pending"), edit("b", "gone")]).await;
    case.write(&one, &[edit("b", "after")]).await;
    reach(&case, one.project, &["reached"], false).await;
    case.write(&two, &[edit("a", "theirs")]).await;
    reach(&case, two.project, &["stored"], false).await;
    let asked = ["pending", "gone", "reached", "theirs", "stored", "nobody's", "pending"].map(oid);
    let of = async |project, charged| case.catalog.charged(project, charged, &asked).await.expect("charged");
    assert_eq!(of(one.project, Pending).await, [true, true, false, false, false, false, true]);
    assert_eq!(of(one.project, Reached).await, [false, false, true, false, false, false, false]);
    assert_eq!(of(two.project, Pending).await, [false, false, false, true, false, false, false]);
    assert_eq!(of(two.project, Reached).await, [false, false, false, false, true, false, false]);
    assert_eq!(of(Uuid::new_v4(), Reached).await, [false; 7]);
    assert!(case.catalog.charged(one.project, Pending, &[]).await.expect("nothing").is_empty());
    // More than one question's worth.
    let many: Vec<ObjectId> = (0..2_500).map(|number| oid(number.to_string())).chain([asked[0]]).collect();
    let charged = case.catalog.charged(one.project, Pending, &many).await.expect("many");
    assert_eq!(
        (charged.len(), charged.iter().filter(|known| **known).count(), charged.last()),
        (2_501, 1, Some(&true))
    );
}

pub(super) async fn corrects_figures(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1234")]).await;
    case.backend.execute("UPDATE feeds SET bytes = 1").await;
    let held = case.catalog.held(key.project).await.expect("held").expect("the project");
    assert_eq!((held.counted, held.pending_bytes), (1, 4));
    // What comes between the look and the correction counts.
    case.write(&key, &[edit("b", "12")]).await;
    assert!(case.catalog.correct_usage(key.project, 3).await.expect("correct"));
    holds(&case, key.project, 6).await;
    assert!(case.catalog.correct_usage(key.project, -100).await.expect("correct"), "never less than nothing");
    assert_eq!(bytes(&case, key.project).await, 0);
    let nobody = Uuid::new_v4();
    assert!(!case.catalog.correct_usage(nobody, 1).await.expect("correct"));
    assert_eq!(case.catalog.held(nobody).await.expect("held"), None);
}

/// Many writers at once: no charge is lost, none comes twice.
pub(super) async fn counts_beside_other_writers(case: Case) {
    let project = case.project().await;
    let writing = (0..8).map(|writer: u8| {
        let case = Case { backend: case.backend.clone(), catalog: case.catalog.clone() };
        async move {
            let key = WorkspaceKey { project, branch: "main".to_owned(), user: Uuid::new_v4() };
            for round in 0..5 {
                let content: &'static str = Box::leak(format!("{writer} {round}").into_boxed_str());
                let shared = ["all 0", "all 1", "all 2", "all 3", "all 4"][round];
                case.write(&key, &[edit("a", content), edit("b", shared)]).await;
                reach(&case, project, &[content], false).await;
            }
        }
    });
    together(writing).await;
    holds(&case, project, 8 * 5 * 3 * 2 + 5 * 5).await;
}

pub(super) async fn keeps_quotas(case: Case) {
    let new = Project { quota_bytes: Some(7), ..new_project(Uuid::new_v4(), None) };
    case.catalog.create_project(&new).await.expect("create");
    assert_eq!(project(&case, new.id).await, new);
    let set = async |quota_bytes| {
        let change = PolicyChange { quota_bytes, ..PolicyChange::default() };
        case.catalog.set_policy(new.id, &change).await.expect("set").quota_bytes
    };
    assert_eq!(set(None).await, Some(7), "not named");
    assert_eq!(set(Some(Some(u64::from(u32::MAX) * 4))).await, Some(u64::from(u32::MAX) * 4));
    assert_eq!(set(Some(None)).await, None);
    assert_eq!(project(&case, new.id).await.quota_bytes, None);
}
