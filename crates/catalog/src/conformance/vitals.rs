use super::*;
use crate::{AttemptState, Vitals};

pub(super) async fn tell_what_is_under_way(case: Case) {
    let (catalog, project) = (&case.catalog, case.project().await);
    assert_eq!(catalog.vitals().await.expect("vitals"), Vitals::default());
    let op = case.op(project).await;
    case.register(op, &[object("a"), object("b")]).await;
    catalog.heartbeat(op, NOW + 5).await.expect("heartbeat");
    let vitals = catalog.vitals().await.expect("vitals");
    assert_eq!(vitals.ops, Some((1, NOW + 5)));
    catalog.end_op(op).await.expect("end");
    case.publish(project, vec![update("refs/heads/main", None, Some(oid("a")))]).await;
    assert_eq!(catalog.vitals().await.expect("vitals").unpushed_branches, 1);
    case.remote_refs(project, &[("refs/heads/main", Some(oid("a")))]).await;
    assert_eq!(catalog.vitals().await.expect("vitals"), Vitals::default());
    let attempt = attempts::attempt(project, "main");
    catalog.insert_attempt(&attempt).await.expect("attempt");
    let vitals = catalog.vitals().await.expect("vitals");
    assert_eq!(vitals.attempts, [(AttemptState::Prepared, 1, NOW)]);
    let over = attempts::to(&attempt, 0, AttemptState::Superseded);
    catalog.change_attempt(&over, NOW).await.expect("change").expect("the fence");
    let late = case.op(project).await;
    catalog.reserve(late, &["objects/late".to_owned()]).await.expect("reserve");
    catalog.end_op(late).await.expect("end");
    let vitals = catalog.vitals().await.expect("vitals");
    assert_eq!(vitals, Vitals { doomed_keys: 1, ..Vitals::default() });
}
