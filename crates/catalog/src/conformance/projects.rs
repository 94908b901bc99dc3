use uuid::Uuid;

use super::*;
use crate::{CatalogError, CreateOutcome, EditSpot, FinalAnswer, PolicyChange, ProjectKey, Scope, ViewKey};

pub(super) async fn are_created_once(case: Case) {
    let id = Uuid::new_v4();
    let racing = (0..8).map(|index| {
        let (catalog, new) = (case.catalog.clone(), new_project(id, Some(&format!("name {index}"))));
        async move { catalog.create_project(&new).await.expect("create") }
    });
    let outcomes = together(racing).await;
    let created = outcomes.iter().filter_map(|outcome| match outcome {
        CreateOutcome::Created(project) => Some(project.clone()),
        _ => None,
    });
    let created: Vec<_> = created.collect();
    assert_eq!(created.len(), 1, "{outcomes:?}");
    for outcome in outcomes {
        match outcome {
            CreateOutcome::Created(_) => {}
            CreateOutcome::Exists(stored) => assert_eq!(stored, created[0]),
            CreateOutcome::NameTaken => panic!("no other project has these names"),
        }
    }
    assert_eq!(case.catalog.project(&ProjectKey::Id(id)).await.expect("find").as_ref(), Some(&created[0]));
    assert_eq!(case.catalog.project(&ProjectKey::Id(Uuid::new_v4())).await.expect("find"), None);
}

pub(super) async fn have_unique_names(case: Case) {
    let racing = (0..8).map(|_| {
        let (catalog, new) = (case.catalog.clone(), new_project(Uuid::new_v4(), Some("docs")));
        async move { catalog.create_project(&new).await.expect("create") }
    });
    let outcomes = together(racing).await;
    let created = outcomes.iter().filter(|outcome| matches!(outcome, CreateOutcome::Created(_))).count();
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, CreateOutcome::NameTaken)).count();
    assert_eq!((created, refused), (1, 7), "{outcomes:?}");
    let docs = case.catalog.project(&ProjectKey::Name("docs".to_owned())).await.expect("find").expect("docs");

    let mut other = new_project(Uuid::new_v4(), None);
    case.catalog.create_project(&other).await.expect("create");
    other.name = Some("docs".to_owned());
    assert_eq!(case.catalog.update_project(&other).await.expect("update"), None, "the name is taken");
    let mut renamed = docs.clone();
    renamed.name = Some("manual".to_owned());
    renamed.default_branch = "trunk".to_owned();
    renamed.remote_url = None;
    assert_eq!(case.catalog.update_project(&renamed).await.expect("update"), Some(renamed.clone()));
    assert_eq!(case.catalog.update_project(&other).await.expect("update"), Some(other), "the name is free again");
    let missing = new_project(Uuid::new_v4(), None);
    assert!(matches!(case.catalog.update_project(&missing).await, Err(CatalogError::NoProject)));
}

pub(super) async fn are_listed_in_order_of_id(case: Case) {
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(case.project().await);
    }
    ids.sort_unstable();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = case.catalog.projects(after, 3).await.expect("list");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        listed.extend(page.iter().map(|project| project.id));
    }
    assert_eq!(listed, ids);
}

pub(super) async fn carry_what_pushes_are_refused(case: Case) {
    let catalog = &case.catalog;
    let mut new = new_project(Uuid::new_v4(), Some("docs"));
    new.receive.deny_deletes = true;
    catalog.create_project(&new).await.expect("create");
    // Two people change one flag each, at the same time.
    let forwards = PolicyChange { deny_non_fast_forwards: Some(true), ..PolicyChange::default() };
    let deletes = PolicyChange { deny_deletes: Some(false), ..PolicyChange::default() };
    let racing = [forwards, deletes].map(|change| {
        let (catalog, id) = (catalog.clone(), new.id);
        async move { catalog.set_policy(id, &change).await.expect("set") }
    });
    together(racing).await;
    new.receive = ReceivePolicy { deny_non_fast_forwards: true, deny_deletes: false };
    // Whoever shows the project shows its policy.
    let key = ProjectKey::Name("docs".to_owned());
    assert_eq!(catalog.project(&key).await.expect("find").as_ref(), Some(&new));
    assert_eq!(catalog.projects(None, 1).await.expect("list"), [new.clone()]);
    let view = ViewKey { project: key.clone(), branch: None, user: None };
    assert_eq!(catalog.view(&view, None).await.expect("view").expect("the project").project, new);
    let spot = EditSpot { project: key, branch: None, user: Uuid::new_v4(), path: "a".into() };
    assert_eq!(catalog.edit_base(&spot).await.expect("base").expect("the project").project, new);
    assert_eq!(catalog.set_policy(new.id, &PolicyChange::default()).await.expect("set"), new, "nothing to change");
    let again = Project { receive: ReceivePolicy::default(), ..new.clone() };
    assert_eq!(catalog.update_project(&again).await.expect("update"), Some(new), "an update leaves it");
    let missing = catalog.set_policy(Uuid::new_v4(), &forwards).await;
    assert!(matches!(missing, Err(CatalogError::NoProject)), "{missing:?}");
}

pub(super) async fn take_everything_with_them(case: Case) {
    let key = case.workspace().await;
    let (project, catalog) = (key.project, &case.catalog);
    let op = case.op(project).await;
    let number = case.register(op, &[object("one")]).await[0].number;
    case.write(&key, &[edit("a", "1"), edit("b", "2")]).await;
    case.write(&key, &[edit("a", "3")]).await;
    catalog.claim(project, "key", &[1; 32], NOW).await.expect("claim");
    catalog.answer(project, &FinalAnswer { key: "key".to_owned(), body: "{}".to_owned() }).await.expect("answer");
    let attempt = attempts::attempt(project, "main");
    catalog.insert_attempt(&attempt).await.expect("insert");
    let mut publish = publication(project, op, vec![update("refs/heads/main", None, Some(oid("one")))]);
    publish.remote_refs = vec![("refs/heads/main".to_owned(), Some(oid("one")))];
    publish.reached.insert(number);
    publish.shallow = Some(vec![oid("one")]);
    catalog.publish(&publish).await.expect("publish");

    assert!(catalog.delete_project(project).await.expect("delete"));
    assert!(!catalog.delete_project(project).await.expect("delete"), "there is none any more");
    assert_eq!(catalog.project(&ProjectKey::Id(project)).await.expect("find"), None);
    assert_eq!(catalog.references(project, "").await.expect("refs"), []);
    assert_eq!(catalog.remote_references(project, "").await.expect("refs"), []);
    assert!(catalog.shallow(project).await.expect("shallow").is_empty());
    assert!(catalog.reach(project).await.expect("reach").is_empty());
    assert_eq!(catalog.pending(&key, None).await.expect("pending"), (0, Vec::new()));
    assert_eq!(catalog.pending_history(&key, &"a".into(), 10).await.expect("history"), []);
    assert_eq!(catalog.pending_contents(project, &[oid("3")]).await.expect("contents"), [None]);
    assert_eq!(catalog.attempt(attempt.id).await.expect("attempt"), None);
    assert_eq!(catalog.may_read(project, &[oid("one"), oid("3")]).await.expect("may read"), [false, false]);
    assert!(catalog.locate(&[oid("one")]).await.expect("locate")[0].is_some(), "objects stay");
    let left = "UPDATE reflog SET at = at";
    assert_eq!(case.backend.execute(left).await, 0);
    // A project of the same id starts with nothing.
    catalog.create_project(&new_project(project, None)).await.expect("create");
    assert_eq!(catalog.claim(project, "key", &[2; 32], NOW).await.expect("claim"), crate::Claim::Open);
    assert_eq!(case.write(&key, &[edit("a", "1")]).await.0, 1);
}

pub(super) async fn stay_if_something_is_in_them(case: Case) {
    let catalog = &case.catalog;
    let worked_on = case.workspace().await;
    case.write(&worked_on, &[edit("a", "1")]).await;
    let committed = case.project().await;
    let op = case.op(committed).await;
    let number = case.register(op, &[object("one")]).await[0].number;
    let mut publish = publication(committed, op, vec![update("refs/heads/main", None, Some(oid("one")))]);
    publish.reached.insert(number);
    catalog.publish(&publish).await.expect("publish");
    let known = case.project().await;
    catalog.create_token(&tokens::token(known, Scope::FilesRead), &[1; 32]).await.expect("create");
    for project in [worked_on.project, committed, known] {
        assert!(!catalog.delete_empty_project(project).await.expect("delete"));
        assert!(catalog.project(&ProjectKey::Id(project)).await.expect("find").is_some());
    }
    // What is known of a remote is not the project's own.
    let empty = case.project().await;
    let op = case.op(empty).await;
    let mut publish = publication(empty, op, Vec::new());
    publish.remote_refs = vec![("refs/heads/main".to_owned(), Some(oid("one")))];
    catalog.publish(&publish).await.expect("publish");
    assert!(catalog.delete_empty_project(empty).await.expect("delete"));
    assert_eq!(catalog.project(&ProjectKey::Id(empty)).await.expect("find"), None);
    assert!(!catalog.delete_empty_project(empty).await.expect("delete"), "there is none any more");
}

pub(super) async fn are_missed_by_every_writer(case: Case) {
    let gone = Uuid::new_v4();
    let key = WorkspaceKey { project: gone, branch: "main".to_owned(), user: Uuid::new_v4() };
    let catalog = &case.catalog;
    let missing =
        |result: Result<(), CatalogError>| assert!(matches!(result, Err(CatalogError::NoProject)), "{result:?}");
    missing(catalog.write_pending(&key, None, &[edit("a", "1")], NOW).await.map(drop));
    missing(catalog.clear_pending(&key, &crate::Origin::default(), NOW).await.map(drop));
    missing(catalog.claim(gone, "key", &[0; 32], NOW).await.map(drop));
    missing(catalog.insert_attempt(&attempts::attempt(gone, "main")).await);
    missing(catalog.begin_op(Uuid::new_v4(), Some(gone), OpKind::Import, NOW).await.map(drop));
    let op = case.op(case.project().await).await;
    missing(catalog.publish(&publication(gone, op, Vec::new())).await.map(drop));
}

pub(super) async fn can_be_migrated_and_pinged(case: Case) {
    let version = case.catalog.schema_version().await.expect("version");
    assert!(version >= 1);
    let again = case.catalog.migrate().await.expect("migrate");
    assert_eq!((again.applied, again.current), (Vec::new(), version), "there was nothing left to do");
    case.catalog.ping().await.expect("ping");
}
