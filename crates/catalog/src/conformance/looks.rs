use bytes::Bytes;

use super::pending::{expecting, inline};
use super::*;
use crate::{CommitRow, EditBase, EditSpot, PendingOutcome, ProjectKey, Seen};

pub(super) fn spot(project: ProjectKey, branch: Option<&str>, user: Uuid, path: &str) -> EditSpot {
    EditSpot { project, branch: branch.map(str::to_owned), user, path: path.into() }
}

pub(super) async fn shows_what_an_edit_starts_from(case: Case) {
    let project = new_project(Uuid::new_v4(), Some("named"));
    case.catalog.create_project(&project).await.expect("create");
    let key = WorkspaceKey { project: project.id, branch: "main".to_owned(), user: Uuid::new_v4() };
    let ask = async |spot: EditSpot| case.catalog.edit_base(&spot).await.expect("edit base");
    let by_id = || ProjectKey::Id(project.id);
    let mut expected = EditBase {
        project: project.clone(),
        branch: "main".to_owned(),
        head: None,
        tree: None,
        workspace: None,
        revision: 0,
        row: None,
    };
    assert_eq!(ask(spot(by_id(), None, key.user, "a")).await, Some(expected.clone()), "an unborn branch");
    assert_eq!(ask(spot(ProjectKey::Id(Uuid::new_v4()), None, key.user, "a")).await, None);
    assert_eq!(ask(spot(ProjectKey::Name("other".to_owned()), None, key.user, "a")).await, None);

    case.publish(project.id, vec![update("refs/heads/main", None, Some(oid("head")))]).await;
    case.write(&key, &[edit("a", "1"), edit("b", "2")]).await;
    expected.head = Some(oid("head"));
    expected.revision = 2;
    expected.project.bytes = 2;
    expected.row = case.catalog.pending(&key, Some(&["b".into()])).await.expect("pending").1.pop();
    assert!(expected.row.is_some());
    expected.workspace = ask(spot(by_id(), None, key.user, "b")).await.and_then(|base| base.workspace);
    assert!(expected.workspace.is_some());
    assert_eq!(ask(spot(by_id(), None, key.user, "b")).await, Some(expected.clone()), "not in the graph");
    let (tree, raw) = (oid("tree"), Bytes::from_static(b"raw"));
    let row = CommitRow { oid: oid("head"), tree, parents: Vec::new(), generation: 1, time: 0, raw };
    case.catalog.put_commits(&[row]).await.expect("put");
    expected.tree = Some(tree);
    for project in [by_id(), ProjectKey::Name("named".to_owned())] {
        for branch in [None, Some("main")] {
            assert_eq!(ask(spot(project.clone(), branch, key.user, "b")).await, Some(expected.clone()));
        }
    }
    // Another path, user or branch.
    let elsewhere = EditBase { row: None, ..expected };
    assert_eq!(ask(spot(by_id(), None, key.user, "c")).await, Some(elsewhere.clone()));
    let untouched = EditBase { workspace: None, revision: 0, ..elsewhere };
    assert_eq!(ask(spot(by_id(), None, Uuid::new_v4(), "b")).await, Some(untouched.clone()));
    let unborn = EditBase { branch: "topic".to_owned(), head: None, tree: None, ..untouched };
    assert_eq!(ask(spot(by_id(), Some("topic"), key.user, "b")).await, Some(unborn));
}

/// Questions of many users at once may share a statement, but nobody gets another one's answer, nor waits for one that fails.
pub(super) async fn answers_questions_that_arrive_together_apart(case: Case) {
    let keys = [case.workspace().await, case.workspace().await, case.workspace().await];
    for (index, key) in keys.iter().enumerate() {
        for content in &["x", "y", "z"][..=index] {
            case.write(key, &[edit("path", content)]).await;
        }
    }
    let asking = (0..200_usize).map(|index| {
        let (catalog, key) = (case.catalog.clone(), keys[index % 3].clone());
        async move {
            let project = match index % 5 {
                3 => ProjectKey::Id(Uuid::new_v4()),
                // Not every database takes every text.
                4 => ProjectKey::Name(format!("no\0name {index}")),
                _ => ProjectKey::Id(key.project),
            };
            catalog.edit_base(&spot(project, None, key.user, "path")).await
        }
    });
    for (index, answer) in together(asking).await.into_iter().enumerate() {
        let key = &keys[index % 3];
        match index % 5 {
            3 => assert_eq!(answer.expect("an answer"), None),
            4 => assert!(!matches!(answer, Ok(Some(_))), "{answer:?}"),
            _ => {
                let base = answer.expect("an answer").expect("its project");
                let row = base.row.expect("its row");
                assert_eq!((base.project.id, base.revision), (key.project, index as i64 % 3 + 1));
                assert_eq!(row.oid, Some(oid(["x", "y", "z"][index % 3])));
            }
        }
    }
}

/// Writers who look first, four at each of two paths: whoever was overtaken is told, and looks again.
pub(super) async fn loses_no_write_of_those_who_looked(case: Case) {
    let key = case.workspace().await;
    let racing = (0..8).map(|racer| {
        let (catalog, key) = (case.catalog.clone(), key.clone());
        async move {
            for round in 0..5 {
                while !look_and_write(&catalog, &key, racer, round).await {}
            }
        }
    });
    together(racing).await;
    let (revision, rows) = case.catalog.pending(&key, None).await.expect("pending");
    assert_eq!((revision, rows.len()), (40, 2));
    let mut revisions: Vec<i64> = rows.iter().map(|row| row.revision).collect();
    for path in ["a", "b"] {
        let history = case.catalog.pending_history(&key, &path.into(), 99).await.expect("history");
        revisions.extend(history.iter().map(|version| version.row.revision));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=40).collect::<Vec<i64>>(), "each version is there once");
    let ends = case.catalog.feed_ends(key.project).await.expect("ends").expect("a project");
    assert_eq!(ends.last - ends.floor, 40);
}

/// Whether nobody came in between.
async fn look_and_write(catalog: &Arc<dyn Catalog>, key: &WorkspaceKey, racer: usize, round: usize) -> bool {
    let path = ["a", "b"][racer % 2];
    let spot = spot(ProjectKey::Id(key.project), Some(&key.branch), key.user, path);
    let base = catalog.edit_base(&spot).await.expect("edit base").expect("a project");
    let expect = base.row.as_ref().map_or(RowExpectation::Absent, RowExpectation::of);
    // Some care for all of the workspace.
    let expected = (racer < 2).then_some(base.revision);
    let seen = base.workspace.map(|workspace| Seen { workspace, revision: base.revision, row: base.row });
    let write = expecting(expect, inline(path, format!("{racer} {round}").as_bytes()));
    match catalog.write_seen(key, seen, expected, write, NOW).await.expect("write") {
        PendingOutcome::Written { revision, rows } => {
            assert_eq!(rows, [Some(revision)]);
            true
        }
        PendingOutcome::Mismatch(0) | PendingOutcome::WorkspaceMoved(_) => false,
        other => panic!("{other:?}"),
    }
}
