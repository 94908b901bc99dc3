use crate::{FoundToken, ProjectSnapshot, Scopes, Token, WorkspaceSnapshot};

use super::*;

pub(super) async fn come_back_as_they_were(case: Case) {
    let (catalog, key) = (&case.catalog, case.workspace().await);
    let op = case.op(key.project).await;
    let mut publish = publication(key.project, op, vec![update("refs/heads/main", None, Some(oid("tip")))]);
    publish.remote_refs = vec![("refs/heads/main".to_owned(), Some(oid("theirs")))];
    publish.shallow = Some(vec![oid("cut")]);
    catalog.publish(&publish).await.expect("publish");
    case.write(&key, &[edit("a", "one"), edit(b"\xff", "two"), edit("b", "three")]).await;
    case.write(&key, &[reset("b")]).await;
    let token = Token {
        id: Uuid::new_v4(),
        project: key.project,
        name: Some("ci".to_owned()),
        user: Some(Uuid::new_v4()),
        scopes: Scopes::all(),
        created_at_ms: NOW,
        expires_at_ms: Some(NOW + 1),
    };
    catalog.create_token(&token, &[7; 32]).await.expect("create a token");
    let snapshot: ProjectSnapshot = catalog.snapshot(key.project).await.expect("read").expect("it is there");
    let [WorkspaceSnapshot { revision: 4, rows, .. }] = &snapshot.workspaces[..] else { panic!("{snapshot:?}") };
    assert_eq!(rows.len(), 2);
    assert_eq!(snapshot.tokens, [(token.clone(), [7; 32])]);
    assert!(!catalog.restore_project(&snapshot, NOW + 9).await.expect("restore"), "it is there");
    assert!(catalog.delete_project(key.project).await.expect("delete"));
    assert_eq!(catalog.snapshot(key.project).await.expect("read"), None);
    assert!(catalog.restore_project(&snapshot, NOW + 9).await.expect("restore"));
    assert_eq!(catalog.snapshot(key.project).await.expect("read").as_ref(), Some(&snapshot));
    assert_eq!(catalog.find_token(&[7; 32]).await.expect("find"), Some(FoundToken { token, project_name: None }));
    assert_eq!(catalog.may_read(key.project, &[oid("one"), oid("three")]).await.expect("check"), [true, false]);
    assert_eq!(catalog.pending_contents(key.project, &[oid("one")]).await.expect("read"), [None], "in the bucket");
    let (revision, _) = case.write(&key, &[edit("c", "four")]).await;
    assert_eq!(revision, 5, "revisions go on");
}

pub(super) async fn are_published_by_a_living_operation(case: Case) {
    let (catalog, holder) = (&case.catalog, Uuid::new_v4());
    let begin = async || {
        let id = Uuid::new_v4();
        catalog.begin_op(id, None, OpKind::Manifest, NOW).await.expect("begin").id
    };
    catalog.take_job("manifest", holder, NOW, NOW + 100).await.expect("take").expect("free");
    let (first, second) = (begin().await, begin().await);
    let other = catalog.publish_report(first, "manifest", Uuid::new_v4(), NOW, "{}").await;
    assert!(matches!(other, Err(crate::CatalogError::OpLost)), "somebody else has the job: {other:?}");
    catalog.publish_report(first, "manifest", holder, NOW + 1, "{\"commits\":[]}").await.expect("publish");
    let job = catalog.jobs().await.expect("list").remove(0);
    assert_eq!((job.holder, job.finished), (None, Some((NOW + 1, "{\"commits\":[]}".to_owned()))));
    catalog.take_job("manifest", holder, NOW, NOW + 100).await.expect("take").expect("free");
    catalog.set_back(NOW).await.expect("fence");
    let late = catalog.publish_report(second, "manifest", holder, NOW + 2, "{}").await;
    assert!(matches!(late, Err(crate::CatalogError::OpLost)), "the operation was overtaken: {late:?}");
    assert_eq!(catalog.jobs().await.expect("list").remove(0).finished.expect("the first").0, NOW + 1);
}
