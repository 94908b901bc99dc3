use treehold_object::BString;

use super::*;
use crate::{BranchView, ClearCause, ClearPending, ClearedRow, CommitRow, PendingRow, ProjectKey, ViewKey};

fn key(project: Uuid, branch: Option<&str>, user: Option<Uuid>) -> ViewKey {
    ViewKey { project: ProjectKey::Id(project), branch: branch.map(str::to_owned), user }
}

async fn view(case: &Case, key: &ViewKey, paths: Option<&[BString]>) -> BranchView {
    case.catalog.view(key, paths).await.expect("a view").expect("a project")
}

/// A commit in the graph with a tree of its own.
async fn commit(case: &Case, name: &str) -> (ObjectId, ObjectId) {
    let (oid, tree) = (oid(name), oid(format!("tree of {name}")));
    let row = CommitRow { oid, tree, parents: Vec::new(), generation: 1, time: 0, raw: name.to_owned().into() };
    case.catalog.put_commits(&[row]).await.expect("a commit");
    (oid, tree)
}

fn paths_of(rows: &[PendingRow]) -> Vec<&[u8]> {
    rows.iter().map(|row| row.path.as_slice()).collect()
}

pub(super) async fn show_what_single_reads_show(case: Case) {
    let (project, user) = (case.project().await, Uuid::new_v4());
    let (main, main_tree) = commit(&case, "main").await;
    let (side, side_tree) = commit(&case, "side").await;
    let unknown = oid("not in the graph");
    let names = [("refs/heads/main", main), ("refs/heads/side", side), ("refs/heads/tag", unknown)];
    case.publish(project, names.map(|(name, oid)| update(name, None, Some(oid))).to_vec()).await;
    let stored = case.catalog.project(&ProjectKey::Id(project)).await.expect("read").expect("a project");
    for (branch, commit, tree) in [
        (None, Some(main), Some(main_tree)),
        (Some("main"), Some(main), Some(main_tree)),
        (Some("side"), Some(side), Some(side_tree)),
        (Some("tag"), Some(unknown), None),
        (Some("none"), None, None),
        (Some("SIDE"), None, None),
        (Some("refs/heads/main"), None, None),
    ] {
        let expected = BranchView { project: stored.clone(), commit, tree, pending: None };
        assert_eq!(view(&case, &key(project, branch, None), None).await, expected, "{branch:?}");
        let expected = BranchView { pending: Some((0, Vec::new())), ..expected };
        assert_eq!(view(&case, &key(project, branch, Some(user)), None).await, expected, "{branch:?}");
        assert_eq!(view(&case, &key(project, branch, Some(user)), Some(&[])).await, expected, "{branch:?}");
    }
    let nowhere = [ProjectKey::Id(Uuid::new_v4()), ProjectKey::Name("nothing".to_owned())];
    for nowhere in nowhere {
        let key = ViewKey { project: nowhere, branch: None, user: Some(user) };
        assert_eq!(case.catalog.view(&key, None).await.expect("read"), None);
    }
    let named = new_project(Uuid::new_v4(), Some("by-name"));
    case.catalog.create_project(&named).await.expect("create");
    let by_name = ViewKey { project: ProjectKey::Name("by-name".to_owned()), branch: None, user: None };
    let expected = BranchView { project: named, commit: None, tree: None, pending: None };
    assert_eq!(view(&case, &by_name, None).await, expected);
}

pub(super) async fn carry_pending_rows(case: Case) {
    let workspace = case.workspace().await;
    let other = WorkspaceKey { branch: "side".to_owned(), ..workspace.clone() };
    let theirs = WorkspaceKey { user: Uuid::new_v4(), ..workspace.clone() };
    case.write(&workspace, &[edit("b", "1"), edit(b"a\xff", "2"), edit("c/d", "3"), reset("b"), edit("b", "4")]).await;
    case.write(&other, &[edit("side", "5")]).await;
    case.write(&theirs, &[edit("theirs", "6")]).await;
    for (key_of, branch) in [(&workspace, None), (&workspace, Some("main")), (&other, Some("side")), (&theirs, None)] {
        let key = key(key_of.project, branch, Some(key_of.user));
        let expected = case.catalog.pending(key_of, None).await.expect("pending");
        assert_eq!(view(&case, &key, None).await.pending, Some(expected));
        let some = [BString::from("c/d"), BString::from("x"), BString::from("b")];
        let expected = case.catalog.pending(key_of, Some(&some)).await.expect("pending");
        assert_eq!(view(&case, &key, Some(&some)).await.pending, Some(expected));
    }
    let (revision, rows) =
        view(&case, &key(workspace.project, None, Some(workspace.user)), None).await.pending.expect("rows");
    assert_eq!((revision, paths_of(&rows)), (5, vec![&b"a\xff"[..], b"b", b"c/d"]));
    assert_eq!(view(&case, &key(workspace.project, None, None), None).await.pending, None);
}

/// A publication moves the head and takes the committed rows away: a view shows both or neither.
pub(super) async fn see_a_publication_whole_or_not_at_all(case: Case) {
    let workspace = case.workspace().await;
    let mut heads = vec![None];
    for round in 0..30 {
        heads.push(Some(commit(&case, &format!("commit {round}")).await.0));
    }
    let writer = Case { backend: case.backend.clone(), catalog: case.catalog.clone() };
    let (of_writer, at, last) = (workspace.clone(), heads.clone(), heads.len() - 1);
    let writing = tokio::spawn(async move {
        for round in 0..last {
            let (revision, _) = writer.write(&of_writer, &[edit("a", "content")]).await;
            let op = writer.op(of_writer.project).await;
            let moved = vec![update("refs/heads/main", at[round], at[round + 1])];
            let rows = vec![ClearedRow { path: "a".into(), revision, oid: Some(oid("content")) }];
            let clear_pending = Some(ClearPending {
                branch: of_writer.branch.clone(),
                user: of_writer.user,
                rows,
                cause: ClearCause::Committed,
            });
            let publish = Publish { clear_pending, ..publication(of_writer.project, op, moved) };
            assert_eq!(writer.catalog.publish(&publish).await.expect("publish"), crate::PublishOutcome::Published);
        }
    });
    let key = key(workspace.project, None, Some(workspace.user));
    let mut reached = 0;
    while reached < last {
        let seen = view(&case, &key, None).await;
        let (revision, rows) = seen.pending.expect("rows");
        let round = heads.iter().position(|head| *head == seen.commit).expect("a head that was published");
        assert!(round >= reached, "the head went back");
        reached = round;
        // Each round counts up once for the edit and once for its settlement.
        assert_eq!(revision, 2 * round as i64 + i64::from(!rows.is_empty()), "{} rows in round {round}", rows.len());
    }
    writing.await.expect("the writer");
}

/// A branch is deleted under an edit that was judged before: the edit is there as those are that came earlier, and none is lost.
pub(super) async fn outlive_their_branch(case: Case) {
    let work = WorkspaceKey { branch: "side".to_owned(), ..case.workspace().await };
    let side = |expected, new| vec![update("refs/heads/side", expected, new)];
    let (head, _) = commit(&case, "side").await;
    case.publish(work.project, side(None, Some(head))).await;
    case.write(&work, &[edit("early", "e")]).await;
    case.publish(work.project, side(Some(head), None)).await;
    assert_eq!(case.write(&work, &[edit("late", "l")]).await, (2, vec![Some(2)]));
    let key = key(work.project, Some("side"), Some(work.user));
    for now in [None, Some(head)] {
        if now.is_some() {
            case.publish(work.project, side(None, now)).await;
        }
        let seen = view(&case, &key, None).await;
        let (revision, rows) = seen.pending.expect("of a user");
        assert_eq!((seen.commit, revision, paths_of(&rows)), (now, 2, vec![&b"early"[..], &b"late"[..]]));
        assert_eq!(case.catalog.pending(&work, None).await.expect("pending"), (2, rows));
        let contents = case.catalog.pending_contents(work.project, &[oid("e"), oid("l")]).await.expect("contents");
        assert_eq!(contents, [Some("e".into()), Some("l".into())]);
    }
}

/// A page, and what is below a directory, are parts of what a read of all shows, with the same revision.
pub(super) async fn show_parts_of_a_workspace(case: Case) {
    let key = case.workspace().await;
    let other = WorkspaceKey { user: Uuid::new_v4(), ..key.clone() };
    let paths = ["a", "a-", "a/b", "a/c/d", "a0", "b", "z"];
    case.write(&key, &paths.map(|path| edit(path, "1"))).await;
    case.write(&other, &[edit("a/other", "2")]).await;
    let (_, all) = case.catalog.pending(&key, None).await.expect("all");
    let some = |expected: &[&str]| {
        all.iter().filter(|row| expected.iter().any(|path| row.path == *path)).cloned().collect::<Vec<_>>()
    };
    for (after, limit, expected) in [
        ("", 3, &["a", "a-", "a/b"][..]),
        ("a/b", 3, &["a/c/d", "a0", "b"]),
        ("a/b/", 1, &["a/c/d"]),
        ("b", 9, &["z"]),
        ("z", 9, &[]),
    ] {
        let page = case.catalog.pending_page(&key, &after.into(), limit).await.expect("a page");
        assert_eq!(page, (7, some(expected)), "{limit} after {after:?}");
    }
    for (dir, paths, expected) in [
        ("a", &["b", "missing"][..], &["a/b", "a/c/d", "b"][..]),
        ("a/c", &[], &["a/c/d"]),
        ("a/c", &["a"], &["a", "a/c/d"]),
        ("missing", &[], &[]),
    ] {
        let paths: Vec<BString> = paths.iter().map(|path| BString::from(*path)).collect();
        let below = case.catalog.pending_below(&key, &dir.into(), &paths).await.expect("a part");
        assert_eq!(below, (7, some(expected)), "below {dir:?} and {paths:?}");
    }
    let nobody = WorkspaceKey { user: Uuid::new_v4(), ..key };
    assert_eq!(case.catalog.pending_page(&nobody, &"".into(), 9).await.expect("a page"), (0, Vec::new()));
    assert_eq!(case.catalog.pending_below(&nobody, &"a".into(), &[]).await.expect("a part"), (0, Vec::new()));
}
