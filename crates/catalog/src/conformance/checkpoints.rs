use super::*;
use crate::{CatalogError, Checkpoint, CheckpointOutcome, CheckpointRow, HistoryPolicy, KeptByUsers, NewCheckpoint};

const NOTHING: HistoryPolicy = HistoryPolicy { all_ms: 0, hourly_ms: 0, daily_ms: 0 };

fn named(name: &str, at: i64) -> NewCheckpoint {
    NewCheckpoint {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        message: "why".to_owned(),
        replace: false,
        expected_revision: None,
        limit: 3,
        now_ms: NOW + at,
    }
}

impl Case {
    async fn checkpoint(&self, key: &WorkspaceKey, new: &NewCheckpoint) -> Checkpoint {
        match self.catalog.create_checkpoint(key, new).await.expect("a checkpoint") {
            CheckpointOutcome::Created(checkpoint) => checkpoint,
            other => panic!("refused: {other:?}"),
        }
    }
}

pub(super) async fn remember_everything_pending(case: Case) {
    let key = case.workspace().await;
    let gone = PendingWrite {
        origin: Origin::default(),
        path: "gone".into(),
        expect: RowExpectation::Any,
        change: PendingChange::Set {
            action: Action::Deleted,
            mode: 0,
            oid: None,
            size: 0,
            base_oid: Some(oid("base")),
            base_mode: Some(0o100644),
            content: Content::None,
        },
    };
    case.write(&key, &[edit("b", "22"), edit("a", "1"), gone]).await;
    let new = named("first", 5);
    let made = case.checkpoint(&key, &new).await;
    let expected = Checkpoint {
        id: new.id,
        branch: "main".to_owned(),
        name: "first".to_owned(),
        message: "why".to_owned(),
        revision: 3,
        changes: 3,
        created_at_ms: NOW + 5,
    };
    assert_eq!(made, expected);
    // Whatever happens to the workspace, and to its history.
    case.write(&key, &[edit("a", "new"), reset("b"), reset("gone")]).await;
    case.catalog.thin_history(None, &NOTHING, 100, NOW + 9).await.expect("thin");
    let (found, rows) = case.catalog.checkpoint(key.project, key.user, new.id).await.expect("read").expect("it");
    assert_eq!(found, expected);
    let row = |path: &str, action, content: Option<&str>| CheckpointRow {
        path: path.into(),
        action,
        mode: content.map_or(0, |_| 0o100644),
        oid: content.map(oid),
        size: content.map_or(0, |content| content.len() as u64),
        base_oid: Some(oid("base")),
        base_mode: Some(0o100644),
    };
    assert_eq!(
        rows,
        [
            row("a", Action::Modified, Some("1")),
            row("b", Action::Modified, Some("22")),
            row("gone", Action::Deleted, None)
        ]
    );
    let contents = case.catalog.pending_contents(key.project, &[oid("1"), oid("22")]).await.expect("contents");
    assert_eq!(contents, [Some("1".into()), Some("22".into())]);
    assert_eq!(case.catalog.lost_checkpoint_rows(key.project, 9).await.expect("look"), []);
    let none = case.catalog.checkpoint(key.project, Uuid::new_v4(), new.id).await.expect("read");
    assert_eq!(none, None, "it is its user's");
    case.backend.execute("DELETE FROM pending_contents WHERE size = 1").await;
    let lost = case.catalog.lost_checkpoint_rows(key.project, 9).await.expect("look");
    assert_eq!(lost, [("first".to_owned(), "a".into(), oid("1"))]);
}

pub(super) async fn have_names(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1")]).await;
    let first = case.checkpoint(&key, &named("x", 1)).await;
    let outcome = async |new: NewCheckpoint| case.catalog.create_checkpoint(&key, &new).await.expect("an outcome");
    assert_eq!(outcome(named("x", 2)).await, CheckpointOutcome::NameTaken);
    let moved = NewCheckpoint { expected_revision: Some(7), ..named("y", 2) };
    assert_eq!(outcome(moved).await, CheckpointOutcome::WorkspaceMoved(1));
    case.write(&key, &[edit("a", "2")]).await;
    let replaced = NewCheckpoint { replace: true, expected_revision: Some(2), ..named("x", 2) };
    let second = case.checkpoint(&key, &replaced).await;
    assert_eq!(case.catalog.checkpoint(key.project, key.user, first.id).await.expect("read"), None);
    let (y, z) = (case.checkpoint(&key, &named("y", 3)).await, case.checkpoint(&key, &named("z", 3)).await);
    assert_eq!(outcome(named("one more", 4)).await, CheckpointOutcome::TooMany);
    let branch = WorkspaceKey { branch: "other".to_owned(), ..key.clone() };
    let elsewhere = case.checkpoint(&branch, &named("x", 9)).await;
    assert_eq!((elsewhere.revision, elsewhere.changes), (0, 0), "a workspace that was never written");
    let mut late = [y, z];
    late.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.id));
    let [y, z] = late;
    let list = async |branch, after, limit| {
        case.catalog.checkpoints(key.project, key.user, branch, after, limit).await.expect("a list")
    };
    assert_eq!(list(Some("main"), None, 9).await, [y.clone(), z.clone(), second.clone()]);
    assert_eq!(list(None, None, 2).await, [elsewhere.clone(), y.clone()]);
    assert_eq!(list(None, Some((y.created_at_ms, y.id)), 9).await, [z, second]);
    assert_eq!(case.catalog.checkpoints(key.project, Uuid::new_v4(), None, None, 9).await.expect("a list"), []);
    let gone = WorkspaceKey { project: Uuid::new_v4(), ..key };
    let refused = case.catalog.create_checkpoint(&gone, &named("x", 1)).await;
    assert!(matches!(refused, Err(CatalogError::NoProject)), "{refused:?}");
}

pub(super) async fn go_with_what_only_they_name(case: Case) {
    let key = case.workspace().await;
    case.write(&key, &[edit("a", "1"), edit("b", "2")]).await;
    let made = case.checkpoint(&key, &named("x", 1)).await;
    case.write(&key, &[edit("a", "new")]).await;
    case.catalog.thin_history(None, &NOTHING, 100, NOW + 9).await.expect("thin");
    let delete = async |user| case.catalog.delete_checkpoint(key.project, user, made.id).await.expect("delete");
    assert!(!delete(Uuid::new_v4()).await, "it is its user's");
    assert!(delete(key.user).await);
    assert!(!delete(key.user).await);
    let contents = case.catalog.pending_contents(key.project, &[oid("1"), oid("2")]).await.expect("contents");
    assert_eq!(contents, [None, Some("2".into())], "what is pending stays");
    // A project takes its checkpoints with it.
    case.checkpoint(&key, &named("y", 1)).await;
    assert!(case.catalog.delete_project(key.project).await.expect("delete"));
    assert_eq!(case.backend.execute("UPDATE checkpoints SET message = ''").await, 0);
    assert_eq!(case.backend.execute("UPDATE checkpoint_rows SET mode = 0").await, 0);
}

/// Goal: a large content that only a checkpoint names, and what it started from, are roots, so that the collector leaves them alone.
pub(super) async fn are_roots(case: Case) {
    let key = case.workspace().await;
    let op = case.op(key.project).await;
    let registered = case.register(op, &[object("large"), object("base"), object("nobody's")]).await;
    let large = PendingWrite {
        origin: Origin::default(),
        path: "a".into(),
        expect: RowExpectation::Any,
        change: PendingChange::Set {
            action: Action::Modified,
            mode: 0o100644,
            oid: Some(oid("large")),
            size: 5,
            base_oid: Some(oid("base")),
            base_mode: Some(0o100644),
            content: Content::Bucket,
        },
    };
    case.write(&key, &[large]).await;
    case.catalog.end_op(op).await.expect("end");
    let named_by = async || case.catalog.roots(i64::MAX, None).await.expect("roots").kept;
    let both: RoaringTreemap = registered[..2].iter().map(|object| object.number).collect();
    assert_eq!(named_by().await, KeptByUsers { pending: both.clone(), ..KeptByUsers::default() });
    let made = case.checkpoint(&key, &named("x", 1)).await;
    case.write(&key, &[reset("a")]).await;
    let expected = KeptByUsers { history: both.clone(), checkpoints: both.clone(), ..KeptByUsers::default() };
    assert_eq!(named_by().await, expected, "and why they stay");
    case.catalog.thin_history(None, &NOTHING, 100, NOW + 9).await.expect("thin");
    assert_eq!(named_by().await, KeptByUsers { checkpoints: both, ..KeptByUsers::default() });
    let held = async || {
        let roots = case.catalog.roots(i64::MAX, None).await.expect("roots");
        assert_eq!(roots.missing, []);
        registered
            .iter()
            .map(|object| {
                roots.sets.iter().any(|set| set.firm.contains(object.number) || set.loose.contains(object.number))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(held().await, [true, true, false]);
    assert!(case.catalog.delete_checkpoint(key.project, key.user, made.id).await.expect("delete"));
    assert_eq!(held().await, [false, false, false]);
}
