use crate::{FoundKey, RebuildFrom};

use super::*;

/// A value of the bucket with these blobs, one after the other.
fn found(name: &str, contents: &[&str]) -> FoundKey {
    let mut offset = 12;
    let objects = contents.iter().map(|content| {
        let object = NewObject { offset, ..object(content) };
        offset += object.length;
        object
    });
    FoundKey { name: format!("objects/pack/pack-{name}.pack"), objects: objects.collect() }
}

const JOB: &str = "rebuild";

/// Who has the job from now on.
async fn taken(case: &Case) -> Uuid {
    let holder = Uuid::new_v4();
    case.catalog.take_job(JOB, holder, i64::MAX, NOW).await.expect("take").expect("the job");
    holder
}

/// What the job says of how far it is.
async fn progress(case: &Case) -> Option<String> {
    let jobs = case.catalog.jobs().await.expect("jobs");
    jobs.into_iter().find(|job| job.name == JOB).and_then(|job| job.progress)
}

pub(super) async fn records_what_the_bucket_holds(case: Case) {
    let (catalog, project) = (&case.catalog, case.project().await);
    let holder = taken(&case).await;
    assert!(catalog.begin_rebuild(RebuildFrom::Empty, JOB, holder, "begun").await.expect("begin"));
    let keys = [found("one", &["a", "b"]), found("two", &["b", "a"]), found("three", &["b", "c"])];
    assert_eq!(catalog.adopt(&keys, NOW).await.expect("adopt"), [Some(2), Some(0), Some(1)]);
    let again = [found("one", &["x"]), found("four", &["d"])];
    assert_eq!(catalog.adopt(&again, NOW).await.expect("adopt"), [None, Some(1)], "a known key is left alone");
    let located = catalog.locate(&[oid("a"), oid("b"), oid("c"), oid("d"), oid("x")]).await.expect("locate");
    let keys: Vec<Option<&str>> = located.iter().map(|found| found.as_ref().map(|found| &found.key[18..])).collect();
    assert_eq!(keys, [Some("one.pack"), Some("one.pack"), Some("three.pack"), Some("four.pack"), None]);
    let names = ["one", "two", "five"].map(|name| found(name, &[]).name);
    let known = async || {
        catalog
            .name_states(&names)
            .await
            .expect("look up")
            .iter()
            .map(|state| *state != crate::NameState::Unknown)
            .collect::<Vec<_>>()
    };
    assert_eq!(known().await, [true, true, false]);
    // Nothing of it goes before the grace has passed, whatever is reaped.
    catalog.reap_ops(NOW + 1).await.expect("reap");
    assert_eq!(catalog.doomed_never_live(10).await.expect("list"), []);
    let doomed = catalog.doomed_before(NOW + 1, 10).await.expect("list");
    assert_eq!(doomed.iter().map(|(_, name)| &name[18..]).collect::<Vec<_>>(), ["two.pack"]);
    let reach: RoaringTreemap = located.iter().flatten().map(|found| found.number).collect();
    catalog.set_reach(project, reach.clone()).await.expect("set");
    assert_eq!(catalog.reach(project).await.expect("reach"), reach);
    let collision = FoundKey {
        name: "objects/pack/pack-evil.pack".to_owned(),
        objects: vec![NewObject { sha256: [0; 32], ..object("a") }],
    };
    let refused = catalog.adopt(&[found("five", &["e"]), collision], NOW).await.expect_err("a collision");
    assert!(matches!(refused, crate::CatalogError::Collision(id) if id == oid("a")), "{refused:?}");
    assert_eq!(known().await, [true, true, false], "all or none");
}

pub(super) async fn begins_only_where_nothing_is_lost(case: Case) {
    let (catalog, project) = (&case.catalog, case.project().await);
    let op = case.op(project).await;
    let numbers: Vec<u64> = case.register(op, &[object("a")]).await.iter().map(|row| row.number).collect();
    catalog.set_reach(project, numbers.iter().copied().collect()).await.expect("set");
    let holder = taken(&case).await;
    let begin = async |from, progress| catalog.begin_rebuild(from, JOB, holder, progress).await;
    assert!(!begin(RebuildFrom::Empty, "one").await.expect("begin"), "the ledger is not empty");
    assert_eq!(catalog.reach(project).await.expect("reach").len(), 1, "nothing changed");
    assert_eq!(progress(&case).await, None, "nothing changed");
    assert!(begin(RebuildFrom::Interrupted, "two").await.expect("begin"));
    assert_eq!(progress(&case).await.as_deref(), Some("two"), "with the transaction that emptied something");
    assert!(catalog.locate(&[oid("a")]).await.expect("locate")[0].is_some(), "what was done is kept");
    assert!(catalog.reach(project).await.expect("reach").is_empty(), "its numbers may mean anything now");
    assert!(begin(RebuildFrom::Anything, "three").await.expect("begin"));
    assert_eq!(progress(&case).await.as_deref(), Some("three"));
    assert_eq!(catalog.locate(&[oid("a")]).await.expect("locate"), [None]);
    catalog.adopt(&[found("one", &["b"])], NOW).await.expect("adopt");
    let number = catalog.locate(&[oid("b")]).await.expect("locate")[0].as_ref().expect("it").number;
    assert!(!numbers.contains(&number), "no number is given twice");
    let other = taken(&case).await;
    let lost = begin(RebuildFrom::Anything, "four").await;
    assert!(matches!(lost, Err(crate::CatalogError::OpLost)), "somebody else has the job: {lost:?}");
    assert!(catalog.locate(&[oid("b")]).await.expect("locate")[0].is_some(), "nothing changed");
    assert!(catalog.renew_job(JOB, other, NOW, None).await.expect("renew"));
    // What was under way before is fenced off.
    let late = catalog.publish(&publication(project, op, vec![update("refs/heads/x", None, Some(oid("a")))])).await;
    assert!(matches!(late, Err(crate::CatalogError::OpLost)), "{late:?}");
}

pub(super) async fn fences_off_what_was_begun_before(case: Case) {
    let (catalog, project) = (&case.catalog, case.project().await);
    let op = case.op(project).await;
    case.register(op, &[object("a")]).await;
    let name = "objects/pack/pack-reserved.pack".to_owned();
    catalog.reserve(op, &[name]).await.expect("reserve");
    let before = case.catalog.begin_op(Uuid::new_v4(), None, OpKind::Refs, NOW).await.expect("begin").epoch;
    let epoch = catalog.set_back(NOW).await.expect("set back");
    assert!(epoch >= before + 1000, "{epoch} after {before}");
    let late = catalog.publish(&publication(project, op, vec![update("refs/heads/x", None, Some(oid("a")))])).await;
    assert!(matches!(late, Err(crate::CatalogError::OpLost)), "{late:?}");
    assert_eq!(catalog.doomed_never_live(10).await.expect("list").len(), 1, "what was reserved goes");
    assert!(catalog.locate(&[oid("a")]).await.expect("locate")[0].is_some(), "what was registered stays");
    let outcome = case.publish(project, vec![update("refs/heads/x", None, Some(oid("a")))]).await;
    assert_eq!(outcome, crate::PublishOutcome::Published, "new work goes on");
}
