use super::usage::holds;
use super::*;
use crate::{
    AttemptState, CatalogError, CommitRow, Guard, KeyId, PendingOutcome, Prepared, PublishOutcome, SnapshotRow,
    StoreCommit,
};

const NAME: &str = "objects/pack/pack-commit.pack";

/// An attempt at a root commit that takes nothing pending.
fn attempt(project: Uuid, branch: &str) -> crate::Attempt {
    crate::Attempt { base: None, snapshot: Vec::new(), ..super::attempts::attempt(project, branch) }
}

impl Prepared {
    fn key(self) -> KeyId {
        match self {
            Self::Ready(key) => key,
            other => panic!("not prepared: {other:?}"),
        }
    }
}

fn stored(op: Uuid, key: KeyId, of: &crate::Attempt, contents: &[&'static str]) -> StoreCommit {
    StoreCommit {
        op,
        key,
        objects: contents.iter().map(object).collect(),
        trees: vec![(oid("tree"), "a tree".into())],
        commit: CommitRow {
            oid: oid("commit"),
            tree: oid("tree"),
            parents: vec![oid("base")],
            generation: 7,
            time: NOW / 1000,
            raw: "a commit".into(),
        },
        attempt: attempts::to(of, of.fence, AttemptState::Stored),
        now_ms: NOW,
    }
}

/// What a commit of these contents has written so far: its attempt's state, and how much of it others find.
async fn seen(case: &Case, of: Uuid) -> (Option<AttemptState>, [bool; 3]) {
    let state = case.catalog.attempt(of).await.expect("attempt").map(|attempt| attempt.state);
    let object = case.catalog.locate(&[oid("a")]).await.expect("locate")[0].is_some();
    let tree = case.catalog.trees(&[oid("tree")]).await.expect("trees")[0].is_some();
    let commit = case.catalog.commits(&[oid("commit")]).await.expect("commits")[0].is_some();
    (state, [object, tree, commit])
}

pub(super) async fn are_recorded_step_by_step(case: Case) {
    let project = case.project().await;
    let mut attempt = attempt(project, "main");
    let op = Uuid::new_v4();
    let key = case.catalog.prepare_commit(&attempt, op, NAME, NOW).await.expect("prepare").key();
    assert_eq!(case.catalog.attempt(attempt.id).await.expect("attempt"), Some(attempt.clone()));
    assert_eq!(seen(&case, attempt.id).await, (Some(AttemptState::Prepared), [false; 3]));
    case.catalog.heartbeat(op, NOW).await.expect("the operation is open");
    let again = case.catalog.prepare_commit(&attempt, op, NAME, NOW).await.expect("prepare again");
    assert_eq!(again, Prepared::Ready(key), "a repetition after a lost answer");

    let done = case.catalog.store_commit(&stored(op, key, &attempt, &["a", "b"])).await.expect("store").expect("ours");
    attempt.fence = done.fence;
    assert_eq!(seen(&case, attempt.id).await, (Some(AttemptState::Stored), [true; 3]));
    let located = case.catalog.locate(&[oid("a"), oid("b")]).await.expect("locate");
    let numbers: Vec<u64> = located.iter().flatten().map(|object| object.number).collect();
    assert_eq!(done.numbers, numbers);
    assert!(located.iter().flatten().all(|object| object.key == NAME));
    assert_eq!(case.catalog.commits(&[oid("commit")]).await.expect("commits")[0].as_ref().expect("one").generation, 7);
    let update = vec![update("refs/heads/main", None, Some(oid("commit")))];
    case.catalog.publish(&publication(project, op, update)).await.expect("the operation can publish");
}

/// A commit that is not pushed: all of it moves in one transaction, or nothing does and the road in steps is still open.
pub(super) async fn land_at_once(case: Case) {
    let project = case.project().await;
    // One of its objects is known, and the project reaches it: it is counted once.
    let known = case.op(project).await;
    let reached = case.register(known, &[object("bb")]).await[0].number;
    let reached = Publish { reached: [reached].into_iter().collect(), ..publication(project, known, Vec::new()) };
    case.catalog.publish(&reached).await.expect("publish");
    let main = attempt(project, "main");
    let op = Uuid::new_v4();
    let key = case.catalog.prepare_commit(&main, op, NAME, NOW).await.expect("prepare").key();
    let store = stored(op, key, &main, &["a", "bb", "ccc"]);
    let to = AttemptState::CommittedLocal;
    let mut publish =
        publication(project, op, vec![update("refs/heads/main", Some(oid("other")), Some(oid("commit")))]);
    publish.attempt = Some(attempts::to(&main, main.fence, to));

    let landed = case.catalog.land_commit(&store, &publish).await.expect("land");
    assert_eq!(landed, PublishOutcome::Moved("refs/heads/main".to_owned(), None));
    assert_eq!(seen(&case, main.id).await, (Some(AttemptState::Prepared), [false; 3]));
    holds(&case, project, 2).await;
    publish.refs[0].expected = None;
    let elsewhere = Publish { project: case.project().await, ..publish.clone() };
    let refused = case.catalog.land_commit(&store, &elsewhere).await;
    assert!(matches!(refused, Err(CatalogError::OpLost)), "an operation is its project's: {refused:?}");
    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Published);
    assert_eq!(seen(&case, main.id).await, (Some(to), [true; 3]));
    assert_eq!(case.catalog.reference(project, "refs/heads/main").await.expect("ref"), Some(oid("commit")));
    let held = case.catalog.held(project).await.expect("held").expect("the project");
    let located = case.catalog.locate(&[oid("a"), oid("bb"), oid("ccc")]).await.expect("locate");
    assert_eq!(held.reach, located.iter().flatten().map(|object| object.number).collect());
    holds(&case, project, 6).await;
    let again = case.catalog.land_commit(&store, &publish).await;
    assert!(matches!(again, Err(CatalogError::OpLost)), "it is over: {again:?}");

    // Somebody else took the attempt.
    let taken = attempt(project, "main");
    let op = Uuid::new_v4();
    let key = case.catalog.prepare_commit(&taken, op, "objects/pack/pack-2.pack", NOW).await.expect("prepare").key();
    let change = attempts::to(&taken, 0, AttemptState::Superseded);
    case.catalog.change_attempt(&change, NOW).await.expect("change").expect("its fence");
    let (store, mut publish) = (stored(op, key, &taken, &["d"]), publication(project, op, Vec::new()));
    publish.attempt = Some(attempts::to(&taken, 0, to));
    assert!(matches!(case.catalog.land_commit(&store, &publish).await, Err(CatalogError::OpLost)));
    assert!(case.catalog.locate(&[oid("d")]).await.expect("locate")[0].is_none());
    case.catalog.heartbeat(op, NOW).await.expect("the operation is open");
}

/// A commit of a user's edits onto what the branch has: what it took goes to local history, what changed since stays, and all of it is
/// told; where the branch or the attempt is not what it should be, nothing moves.
pub(super) async fn land_with_what_they_took(case: Case) {
    let key = case.workspace().await;
    let (main, base) = ("refs/heads/main", oid("base"));
    case.publish(key.project, vec![update(main, None, Some(base))]).await;
    case.catalog.claim(key.project, "key", &[1; 32], NOW).await.expect("claim");
    case.write(&key, &[edit("a", "1"), edit("b", "22")]).await;
    let (first, op) = (taking(&key, base, &[("a", 1, "1"), ("b", 2, "22")]), Uuid::new_v4());
    let pack = case.catalog.prepare_commit(&first, op, NAME, NOW).await.expect("prepare").key();
    let store = stored(op, pack, &first, &["1", "22", "tree"]);
    let publish = landing(&key, &first, op, oid("commit"));

    let mut wrong = publish.clone();
    wrong.refs[0].expected = Some(oid("other"));
    let landed = case.catalog.land_commit(&store, &wrong).await.expect("land");
    assert_eq!(landed, PublishOutcome::Moved(main.to_owned(), Some(base)));
    let mut wrong = publish.clone();
    wrong.attempt.as_mut().expect("one").fence += 1;
    assert!(matches!(case.catalog.land_commit(&store, &wrong).await, Err(CatalogError::OpLost)));
    assert_eq!(seen(&case, first.id).await, (Some(AttemptState::Prepared), [false; 3]));
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1.len(), 2);
    let before = case.catalog.feed_ends(key.project).await.expect("ends").expect("a project").last;

    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Published);
    assert_eq!(case.catalog.reference(key.project, main).await.expect("ref"), Some(oid("commit")));
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!((revision, rows.len()), (4, 0));
    for (path, content, taken) in [("a", "1", 1), ("b", "22", 2)] {
        let history = case.catalog.pending_history(&key, &path.into(), 9).await.expect("history");
        assert_eq!(history.len(), 1, "{path}");
        assert_eq!((history[0].row.oid, history[0].row.revision), (Some(oid(content)), taken));
    }
    let located = case.catalog.locate(&[oid("1"), oid("22"), oid("tree")]).await.expect("locate");
    let numbers: Vec<u64> = located.iter().flatten().map(|object| object.number).collect();
    assert!(numbers.len() == 3 && numbers.is_sorted(), "in the pack's order: {numbers:?}");
    assert_eq!(case.catalog.reach(key.project).await.expect("reach"), numbers.into_iter().collect());
    let done = case.catalog.attempt(first.id).await.expect("attempt").expect("one");
    assert_eq!((done.state, done.fence), (AttemptState::CommittedLocal, first.fence + 1));
    let claim = case.catalog.claim(key.project, "key", &[1; 32], NOW).await.expect("claim");
    assert_eq!(claim, crate::Claim::Answered("answer".to_owned()));
    let log = case.catalog.reflog(key.project, Some(main), None, 1).await.expect("reflog");
    assert_eq!((log[0].old, log[0].new), (Some(base), Some(oid("commit"))));
    assert_eq!(case.catalog.feed_ends(key.project).await.expect("ends").expect("a project").last, before + 3);

    // One row is written again after it was taken.
    case.write(&key, &[edit("a", "3"), edit("b", "4")]).await;
    let (second, op) = (taking(&key, oid("commit"), &[("a", 5, "3"), ("b", 6, "4")]), Uuid::new_v4());
    let pack = case.catalog.prepare_commit(&second, op, "objects/pack/pack-2.pack", NOW).await.expect("prepare").key();
    case.write(&key, &[edit("a", "5")]).await;
    let mut store = stored(op, pack, &second, &["3", "4"]);
    store.commit.oid = oid("second");
    let publish = landing(&key, &second, op, oid("second"));
    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Published);
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    let rows: Vec<_> = rows.iter().map(|row| (row.path.to_string(), row.oid, row.base_oid, row.revision)).collect();
    assert_eq!(rows, [("a".to_owned(), Some(oid("5")), Some(oid("3")), 7)]);
    assert_eq!(revision, 9, "one row went, one has another base");
    assert_eq!(case.catalog.reference(key.project, main).await.expect("ref"), Some(oid("second")));
}

/// What a landing rests on is judged as for a publication: reach loses something, then somebody works on a branch that must be idle.
pub(super) async fn land_if_what_they_rest_on_holds(case: Case) {
    let key = case.workspace().await;
    let (main, base) = ("refs/heads/main", oid("base"));
    case.publish(key.project, vec![update(main, None, Some(base))]).await;
    let (new, op) = (crate::Attempt { base: Some(base), ..attempt(key.project, "new") }, Uuid::new_v4());
    let pack = case.catalog.prepare_commit(&new, op, NAME, NOW).await.expect("prepare").key();
    let store = stored(op, pack, &new, &["a"]);
    let before = case.catalog.ref_state(key.project).await.expect("state");
    let gone = Publish {
        replace_reach: true,
        ..publication(key.project, case.op(key.project).await, vec![update(main, Some(base), None)])
    };
    assert_eq!(case.catalog.publish(&gone).await.expect("publish"), PublishOutcome::Published);

    let on_new = vec![update("refs/heads/new", None, Some(oid("commit")))];
    let mut publish = Publish { refs: on_new, guard: Some(Guard::Kept(before)), ..landing(&key, &new, op, base) };
    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Overtaken);
    assert_eq!(seen(&case, new.id).await, (Some(AttemptState::Prepared), [false; 3]));
    publish.guard = Some(Guard::Kept(case.catalog.ref_state(key.project).await.expect("state")));
    case.write(&key, &[edit("a", "1")]).await;
    publish.idle = Some(key.branch.clone());
    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Overtaken);
    publish.idle = None;
    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Published);
    assert_eq!(seen(&case, new.id).await, (Some(AttemptState::CommittedLocal), [true; 3]));
}

/// A commit with nothing unusual about it.
pub(super) async fn land_as_usual(case: Case) {
    let key = case.workspace().await;
    let (main, base) = ("refs/heads/main", oid("base"));
    case.publish(key.project, vec![update(main, None, Some(base))]).await;
    case.write(&key, &[edit("a", "1")]).await;
    let (taken, op) = (taking(&key, base, &[("a", 1, "1")]), Uuid::new_v4());
    let pack = case.catalog.prepare_commit(&taken, op, NAME, NOW).await.expect("prepare").key();
    let (store, publish) = (stored(op, pack, &taken, &["1", "tree"]), landing(&key, &taken, op, oid("commit")));
    assert_eq!(case.catalog.land_commit(&store, &publish).await.expect("land"), PublishOutcome::Published);
}

/// An edit that is undone while a commit that takes it is prepared: one of the two comes first, and the other one knows of it.
pub(super) async fn race_with_undoing(case: Case) {
    let key = case.workspace().await;
    let undo = || PendingWrite { change: PendingChange::Undo, ..reset("a") };
    for round in 0..20 {
        let revision = case.write(&key, &[edit("a", "a")]).await.1[0].expect("a new row");
        let taken = crate::Attempt { base: None, ..taking(&key, oid("base"), &[("a", revision, "a")]) };
        let preparing = {
            let (catalog, taken, name) =
                (case.catalog.clone(), taken.clone(), format!("objects/pack/pack-{round}.pack"));
            async move { catalog.prepare_commit(&taken, Uuid::new_v4(), &name, NOW).await.expect("prepare") }
        };
        let undoing = {
            let (catalog, key, undo) = (case.catalog.clone(), key.clone(), undo());
            async move { catalog.write_pending(&key, None, &[undo], NOW).await.expect("write") }
        };
        let (prepared, undone) = (tokio::spawn(preparing), tokio::spawn(undoing));
        let (prepared, undone) = (prepared.await.expect("a task"), undone.await.expect("a task"));
        if let Prepared::Ready(_) = prepared {
            assert_eq!(undone, PendingOutcome::CommitUnderWay(0));
            let change = attempts::to(&taken, 0, AttemptState::Superseded);
            case.catalog.change_attempt(&change, NOW).await.expect("change").expect("its fence");
            case.write(&key, &[undo()]).await;
        } else {
            assert_eq!(prepared, Prepared::Undone);
            assert!(matches!(undone, PendingOutcome::Written { .. }), "{undone:?}");
        }
        assert!(case.catalog.pending(&key, None).await.expect("pending").1.is_empty());
    }
}

/// An attempt that takes a user's rows onto `base`: path, revision and content of each.
fn taking(key: &WorkspaceKey, base: ObjectId, rows: &[(&str, i64, &'static str)]) -> crate::Attempt {
    let row = |(path, revision, content): &(&str, i64, &'static str)| SnapshotRow {
        path: (*path).into(),
        revision: Some(*revision),
        oid: Some(oid(content)),
        mode: 0o100644,
    };
    crate::Attempt {
        base: Some(base),
        user: Some(key.user),
        snapshot: rows.iter().map(row).collect(),
        ..attempt(key.project, &key.branch)
    }
}

/// The publication that lands it as `commit`.
fn landing(key: &WorkspaceKey, of: &crate::Attempt, op: Uuid, commit: ObjectId) -> Publish {
    let rows = of
        .snapshot
        .iter()
        .filter_map(|row| Some(crate::ClearedRow { path: row.path.clone(), revision: row.revision?, oid: row.oid }));
    Publish {
        clear_pending: Some(crate::ClearPending {
            branch: key.branch.clone(),
            user: key.user,
            rows: rows.collect(),
            cause: crate::ClearCause::Committed,
        }),
        attempt: Some(attempts::to(of, of.fence, AttemptState::CommittedLocal)),
        answer: Some(crate::FinalAnswer { key: "key".to_owned(), body: "answer".to_owned() }),
        reason: "commit",
        ..publication(key.project, op, vec![update("refs/heads/main", of.base, Some(commit))])
    }
}

pub(super) async fn are_recorded_whole_or_not_at_all(case: Case) {
    let project = case.project().await;
    let first = attempt(project, "main");
    let (op, other) = (Uuid::new_v4(), Uuid::new_v4());
    let key = case.catalog.prepare_commit(&first, op, NAME, NOW).await.expect("prepare").key();
    // A name that somebody else has: neither the attempt nor the operation is there.
    let second = attempt(project, "main");
    assert_eq!(case.catalog.prepare_commit(&second, other, NAME, NOW).await.expect("prepare"), Prepared::NameTaken);
    assert_eq!(case.catalog.attempt(second.id).await.expect("attempt"), None);
    assert!(matches!(case.catalog.heartbeat(other, NOW).await, Err(CatalogError::OpLost)));
    let gone = attempt(Uuid::new_v4(), "main");
    let refused = case.catalog.prepare_commit(&gone, other, "objects/pack/pack-2.pack", NOW).await;
    assert!(matches!(refused, Err(CatalogError::NoProject)), "{refused:?}");

    // Another engine took the attempt: nothing is registered, and the key is doomed with the operation.
    let change = attempts::to(&first, 0, AttemptState::Superseded);
    case.catalog.change_attempt(&change, NOW).await.expect("change").expect("its fence");
    assert_eq!(case.catalog.store_commit(&stored(op, key, &first, &["a"])).await.expect("store"), None);
    assert_eq!(seen(&case, first.id).await, (Some(AttemptState::Superseded), [false; 3]));
    case.catalog.end_op(op).await.expect("end");
    assert_eq!(case.catalog.doomed_never_live(9).await.expect("doomed"), [(key, NAME.to_owned())]);
    // So it is where the operation is over, and where what is stored differs from what the ledger has.
    let third = attempt(project, "main");
    let refused = case.catalog.store_commit(&stored(op, key, &third, &["a"])).await;
    assert!(matches!(refused, Err(CatalogError::OpLost)), "{refused:?}");
    let op = Uuid::new_v4();
    let name = "objects/pack/pack-3.pack";
    let key = case.catalog.prepare_commit(&third, op, name, NOW).await.expect("prepare").key();
    let known = case.op(project).await;
    case.register(known, &[object("b")]).await;
    let mut forged = stored(op, key, &third, &["a", "b"]);
    forged.objects[1].sha256 = [7; 32];
    let refused = case.catalog.store_commit(&forged).await;
    assert!(matches!(refused, Err(CatalogError::Collision(_))), "{refused:?}");
    assert_eq!(seen(&case, third.id).await, (Some(AttemptState::Prepared), [false; 3]));
}

/// Two commits that make the same objects at the same time: both are recorded, and each object has one place.
pub(super) async fn may_make_the_same_objects(case: Case) {
    let project = case.project().await;
    let racing = (0..8).map(|racer| {
        let (catalog, attempt) = (case.catalog.clone(), attempt(project, "main"));
        async move {
            let (op, name) = (Uuid::new_v4(), format!("objects/pack/pack-{racer}.pack"));
            let key = catalog.prepare_commit(&attempt, op, &name, NOW).await.expect("prepare").key();
            let mut contents = ["a", "b", "c", "d"];
            contents.rotate_left(racer % 4);
            let done = catalog.store_commit(&stored(op, key, &attempt, &contents)).await.expect("store");
            let mut numbers = done.expect("its own attempt").numbers;
            numbers.rotate_right(racer % 4);
            numbers
        }
    });
    let numbers = together(racing).await;
    assert!(numbers.iter().all(|of_one| *of_one == numbers[0]), "{numbers:?}");
}

/// The operation keeps alive what refs name when it begins: a parent that none names any more could be collected under it.
pub(super) async fn start_from_what_the_project_has(case: Case) {
    let project = case.project().await;
    let base = oid("base");
    let onto = crate::Attempt { base: Some(base), ..attempt(project, "main") };
    let prepare =
        async |name: &str| case.catalog.prepare_commit(&onto, Uuid::new_v4(), name, NOW).await.expect("prepare");
    assert_eq!(prepare(NAME).await, Prepared::Moved);
    assert_eq!(case.catalog.attempt(onto.id).await.expect("attempt"), None);
    case.publish(project, vec![update("refs/heads/other", None, Some(base))]).await;
    prepare(NAME).await.key();

    // A branch has gone on: it still reaches what it was.
    let op = case.op(project).await;
    let number = case.register(op, &[object("base")]).await[0].number;
    let onward = vec![update("refs/heads/other", Some(base), Some(oid("later")))];
    let publish = Publish { reached: [number].into_iter().collect(), ..publication(project, op, onward) };
    case.catalog.publish(&publish).await.expect("publish");
    prepare("objects/pack/pack-second.pack").await.key();
}

/// An edit that is undone before a commit that took it is known is not committed; after that, undoing it leaves a trace.
pub(super) async fn know_what_was_undone(case: Case) {
    let key = case.workspace().await;
    let undo = || PendingWrite { change: PendingChange::Undo, ..reset("a") };
    let (_, rows) = case.write(&key, &[edit("a", "a")]).await;
    let mut taken = attempt(key.project, "main");
    taken.user = Some(key.user);
    taken.snapshot = vec![SnapshotRow { path: "a".into(), revision: rows[0], oid: Some(oid("a")), mode: 0o100644 }];
    let prepare = async || case.catalog.prepare_commit(&taken, Uuid::new_v4(), NAME, NOW).await.expect("prepare");
    let wrote = case.catalog.write_pending(&key, None, &[undo()], NOW).await.expect("write");
    assert!(matches!(wrote, PendingOutcome::Written { .. }), "{wrote:?}");
    assert_eq!(prepare().await, Prepared::Undone);
    assert_eq!(case.catalog.attempt(taken.id).await.expect("attempt"), None);

    case.write(&key, &[edit("a", "b")]).await;
    prepare().await.key();
    let refused = case.catalog.write_pending(&key, None, &[edit("c", "c"), undo()], NOW).await.expect("write");
    assert_eq!(refused, PendingOutcome::CommitUnderWay(1));
    assert_eq!(case.catalog.pending(&key, None).await.expect("pending").1.len(), 1, "nothing was written");
    // Another user's commit is not in the way, nor is one that was given up.
    let other = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    case.write(&other, &[edit("a", "a")]).await;
    case.write(&other, &[undo()]).await;
    let change = attempts::to(&taken, 0, AttemptState::Superseded);
    case.catalog.change_attempt(&change, NOW).await.expect("change").expect("its fence");
    case.write(&key, &[undo()]).await;
    assert!(case.catalog.pending(&key, None).await.expect("pending").1.is_empty());
}
