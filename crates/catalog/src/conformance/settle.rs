use treehold_object::BString;

use super::*;
use crate::{
    Attempt, AttemptState, CatalogError, Claim, ClearCause, ClearPending, ClearedRow, FinalAnswer, PublishOutcome,
};

fn clear(key: &WorkspaceKey, rows: &[(&str, i64, Option<&str>)]) -> Option<ClearPending> {
    let row = |(path, revision, blob): &(&str, i64, Option<&str>)| ClearedRow {
        path: BString::from(*path),
        revision: *revision,
        oid: blob.map(oid),
    };
    Some(ClearPending {
        branch: key.branch.clone(),
        user: key.user,
        rows: rows.iter().map(row).collect(),
        cause: ClearCause::Committed,
    })
}

pub(super) async fn removes_what_was_committed_and_rebases_the_rest(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("kept", "k1"), edit("later", "l1"), edit("taken", "t1"), edit("vanishes", "v1")]).await;
    let (revision, _) = case.write(&key, &[edit("later", "l2"), edit("vanishes", "v2")]).await;
    assert_eq!(revision, 6);
    let mut publish = publication(key.project, case.op(key.project).await, Vec::new());
    publish.clear_pending = clear(
        &key,
        &[("taken", 3, Some("t1")), ("later", 2, Some("l1")), ("vanishes", 4, None), ("never there", 9, Some("n"))],
    );
    publish.now_ms = NOW + 5;
    let read = case.catalog.pending(&key, Some(&["later".into()])).await.expect("pending").1;
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    // Who read the row before would bring its old base back, and conflict with what was committed.
    let late = PendingWrite { expect: RowExpectation::of(&read[0]), ..edit("later", "l3") };
    let refused = case.catalog.write_pending(&key, None, &[late], NOW).await.expect("an answer");
    assert_eq!(refused, crate::PendingOutcome::Mismatch(0));

    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!(revision, 9, "one row went, two have another base");
    let rows: Vec<_> = rows.iter().map(|row| (row.path.to_string(), row.oid, row.base_oid, row.revision)).collect();
    assert_eq!(
        rows,
        [
            ("kept".to_owned(), Some(oid("k1")), Some(oid("base")), 1),
            ("later".to_owned(), Some(oid("l2")), Some(oid("l1")), 5),
            ("vanishes".to_owned(), Some(oid("v2")), Some(oid("v1")), 6),
        ]
    );
    let history = case.catalog.pending_history(&key, &"taken".into(), 10).await.expect("history");
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].row.oid, history[0].row.revision, history[0].replaced_at_ms), (Some(oid("t1")), 3, NOW + 5));
    let contents = case.catalog.pending_contents(key.project, &[oid("t1")]).await.expect("contents");
    assert_eq!(contents, [Some("t1".into())], "local history keeps what it names");
    // The same settlement again changes nothing: a repetition after a lost answer is safe.
    publish.op = case.op(key.project).await;
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    assert_eq!(case.catalog.workspace_revision(&key).await.expect("revision"), 9);
}

/// Who says what an edit starts from, while a commit of what was there before is under way, is not told otherwise by it; nor is one whose
/// work another branch got.
pub(super) async fn keeps_a_base_that_was_set_meanwhile(case: Case) {
    let key = case.workspace().await;
    let onto_head = |path: &str, content| {
        let mut write = edit(path, content);
        if let PendingChange::Set { base_oid, .. } = &mut write.change {
            *base_oid = Some(oid("head"));
        }
        write
    };
    case.write(&key, &[edit("resolved", "1"), edit("later", "1")]).await;
    case.write(&key, &[onto_head("resolved", "1"), edit("later", "2")]).await;
    let settle = async |cause| {
        let mut publish = publication(key.project, case.op(key.project).await, Vec::new());
        let taken = clear(&key, &[("resolved", 1, Some("m")), ("later", 2, Some("m"))]);
        publish.clear_pending = taken.map(|taken| ClearPending { cause, ..taken });
        assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
        let rows = case.catalog.pending(&key, None).await.expect("pending").1;
        rows.iter().map(|row| (row.path.to_string(), row.base_oid)).collect::<Vec<_>>()
    };
    let based = |later| [("later".to_owned(), Some(oid(later))), ("resolved".to_owned(), Some(oid("head")))];
    assert_eq!(settle(ClearCause::CommittedElsewhere).await, based("base"));
    assert_eq!(settle(ClearCause::Committed).await, based("1"));
    assert_eq!(settle(ClearCause::Committed).await, based("1"));
}

/// What landed goes only while no commit is under way that may have taken it, and what changed since keeps its base.
pub(super) async fn settles_what_landed(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("landed", "x1"), edit("later", "l1")]).await;
    case.write(&key, &[edit("later", "l2")]).await;
    let attempt = Attempt {
        user: Some(key.user),
        pending_branch: key.branch.clone(),
        snapshot: Vec::new(),
        ..attempts::attempt(key.project, &key.branch)
    };
    case.catalog.insert_attempt(&attempt).await.expect("insert");
    let settle = async || {
        let mut publish = publication(key.project, case.op(key.project).await, Vec::new());
        let landed = clear(&key, &[("landed", 1, Some("x1")), ("later", 2, Some("l1"))]);
        publish.clear_pending = landed.map(|landed| ClearPending { cause: ClearCause::Landed, ..landed });
        assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
        let rows = case.catalog.pending(&key, None).await.expect("pending").1;
        rows.iter().map(|row| (row.path.to_string(), row.oid, row.base_oid)).collect::<Vec<_>>()
    };
    let later = ("later".to_owned(), Some(oid("l2")), Some(oid("base")));
    assert_eq!(settle().await, [("landed".to_owned(), Some(oid("x1")), Some(oid("base"))), later.clone()]);
    let ended = attempts::to(&attempt, 0, AttemptState::Rejected);
    assert_eq!(case.catalog.change_attempt(&ended, NOW).await.expect("change"), Some(1));
    assert_eq!(settle().await, [later]);
}

/// What a commit merged into a file is not undone by an edit that came meanwhile: it starts from what was taken.
pub(super) async fn rebases_modes(case: Case) {
    let key = case.workspace().await;
    let with_mode = |path: &str, content, mode| {
        let mut write = edit(path, content);
        if let PendingChange::Set { mode: row, .. } = &mut write.change {
            *row = mode;
        }
        write
    };
    case.write(&key, &[edit("edited", "1"), edit("changed", "1"), edit("deleted", "1"), edit("thinned", "1")]).await;
    let later = [edit("edited", "2"), with_mode("changed", "1", 0o100755), edit("deleted", "2"), edit("thinned", "2")];
    case.write(&key, &later).await;
    case.backend.execute("DELETE FROM pending_history WHERE revision = 4").await;
    let mut publish = publication(key.project, case.op(key.project).await, Vec::new());
    publish.clear_pending = clear(
        &key,
        &[("edited", 1, Some("m")), ("changed", 2, Some("m")), ("deleted", 3, None), ("thinned", 4, Some("m"))],
    );
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    let modes: Vec<_> = rows.iter().map(|row| (row.path.to_string(), row.mode, row.base_mode)).collect();
    assert_eq!(
        modes,
        [
            ("changed".to_owned(), 0o100755, Some(0o100644)),
            ("deleted".to_owned(), 0o100644, Some(0o100644)),
            ("edited".to_owned(), 0o100644, Some(0o100644)),
            ("thinned".to_owned(), 0o100644, Some(0o100644)),
        ]
    );
    // The committed blob may be a merge, which the later edit has not seen.
    let bases: Vec<_> = rows.iter().map(|row| row.base_oid).collect();
    assert_eq!(bases, [Some(oid("1")), Some(oid("1")), Some(oid("1")), Some(oid("base"))]);
    publish.op = case.op(key.project).await;
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    assert_eq!(
        case.catalog.workspace_revision(&key).await.expect("revision"),
        revision,
        "a repetition changes nothing"
    );
}

pub(super) async fn moves_with_the_refs_or_not_at_all(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1")]).await;
    let wrong = update("refs/heads/main", Some(oid("x")), Some(oid("y")));
    let mut publish = publication(key.project, case.op(key.project).await, vec![wrong]);
    publish.clear_pending = clear(&key, &[("a", 1, Some("1"))]);
    assert!(matches!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Moved(..)));
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1.len(), 1);
    // Somebody without a workspace has nothing to settle.
    publish.refs.clear();
    publish.clear_pending = clear(&WorkspaceKey { user: Uuid::new_v4(), ..key.clone() }, &[("a", 1, None)]);
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1.len(), 1);
}

pub(super) async fn finishes_attempt_and_request(case: Case) {
    let project = case.project().await;
    let attempt = attempts::attempt(project, "main");
    case.catalog.claim(project, "key", &[1; 32], NOW).await.expect("claim");
    case.catalog.insert_attempt(&attempt).await.expect("insert");
    let main = update("refs/heads/main", None, Some(attempt.commit));
    let mut publish = publication(project, case.op(project).await, vec![main]);
    let finish = |fence| attempts::to(&attempt, fence, AttemptState::Finalized);
    publish.answer = Some(FinalAnswer { key: "key".to_owned(), body: "answer".to_owned() });

    publish.attempt = Some(finish(attempt.fence + 1));
    let outcome = case.catalog.publish(&publish).await;
    assert!(matches!(outcome, Err(CatalogError::OpLost)), "another one moved the attempt: {outcome:?}");
    assert_eq!(case.catalog.references(project, "").await.expect("refs"), []);
    assert_eq!(case.catalog.claim(project, "key", &[1; 32], NOW).await.expect("claim"), Claim::Open);

    publish.attempt = Some(finish(attempt.fence));
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    let stored = case.catalog.attempt(attempt.id).await.expect("attempt").expect("there");
    assert_eq!((stored.state, stored.fence), (AttemptState::Finalized, attempt.fence + 1));
    let claim = case.catalog.claim(project, "key", &[1; 32], NOW).await.expect("claim");
    assert_eq!(claim, Claim::Answered("answer".to_owned()));
}
