use std::collections::HashSet;

use uuid::Uuid;

use super::*;
use crate::{CatalogError, FoundToken, Scope, Scopes, Token};

pub(super) fn token(project: Uuid, scope: Scope) -> Token {
    let (id, scopes) = (Uuid::new_v4(), [scope].into_iter().collect());
    Token { id, project, user: None, name: None, scopes, created_at_ms: NOW, expires_at_ms: None }
}

/// Of a project without a name.
fn found(token: Token) -> Option<FoundToken> {
    Some(FoundToken { token, project_name: None })
}

pub(super) async fn come_back_by_their_hash(case: Case) {
    let (project, catalog) = (case.project().await, &case.catalog);
    let plain = token(project, Scope::FilesRead);
    let mut whole = token(project, Scope::GitWrite);
    whole.name = Some("the \"build\" – 1".to_owned());
    whole.expires_at_ms = Some(NOW - 1);
    whole.user = Some(Uuid::new_v4());
    whole.scopes = "files:write,pending".parse().expect("scopes");
    let mut bare = token(project, Scope::Admin);
    bare.scopes = Scopes::default();
    catalog.create_token(&plain, &[1; 32]).await.expect("create");
    catalog.create_token(&whole, &[2; 32]).await.expect("create");
    catalog.create_token(&bare, &[4; 32]).await.expect("create");
    assert_eq!(catalog.find_token(&[1; 32]).await.expect("find"), found(plain));
    assert_eq!(catalog.find_token(&[2; 32]).await.expect("find"), found(whole), "an expired one too");
    assert_eq!(catalog.find_token(&[3; 32]).await.expect("find"), None);
    assert_eq!(catalog.find_token(&[4; 32]).await.expect("find"), found(bare), "one that allows nothing");
}

pub(super) async fn name_their_project_as_it_is_called(case: Case) {
    let catalog = &case.catalog;
    let mut project = new_project(Uuid::new_v4(), Some("docs"));
    catalog.create_project(&project).await.expect("create");
    let of_it = token(project.id, Scope::Pending);
    catalog.create_token(&of_it, &[1; 32]).await.expect("create");
    for name in [Some("docs"), Some("other"), None] {
        project.name = name.map(str::to_owned);
        catalog.update_project(&project).await.expect("update").expect("the name is free");
        let expected = FoundToken { token: of_it.clone(), project_name: project.name.clone() };
        assert_eq!(catalog.find_token(&[1; 32]).await.expect("find"), Some(expected));
    }
}

pub(super) async fn are_created_once(case: Case) {
    let (project, catalog) = (case.project().await, &case.catalog);
    let first = token(project, Scope::FilesRead);
    let racing = (0..8).map(|_| {
        let (catalog, token) = (catalog.clone(), first.clone());
        async move { catalog.create_token(&token, &[1; 32]).await }
    });
    for outcome in together(racing).await {
        outcome.expect("repeating it is safe");
    }
    let other = Token { scopes: Scopes::all(), ..first.clone() };
    catalog.create_token(&other, &[2; 32]).await.expect("the id is there");
    assert_eq!(catalog.tokens(None, None, 10).await.expect("list"), [first], "the first one counts");
    assert_eq!(catalog.find_token(&[2; 32]).await.expect("find"), None);
    let same_secret = catalog.create_token(&token(project, Scope::GitWrite), &[1; 32]).await;
    assert!(matches!(same_secret, Err(CatalogError::Failed { .. })), "{same_secret:?}");
    let nowhere = catalog.create_token(&token(Uuid::new_v4(), Scope::FilesRead), &[4; 32]).await;
    assert!(matches!(nowhere, Err(CatalogError::NoProject)), "{nowhere:?}");
}

pub(super) async fn are_listed_by_project_and_in_all(case: Case) {
    let (one, two, catalog) = (case.project().await, case.project().await, &case.catalog);
    for number in 0..9_u8 {
        let project = if number % 3 == 0 { two } else { one };
        catalog.create_token(&token(project, Scope::FilesRead), &[number; 32]).await.expect("create");
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = catalog.tokens(None, after, 4).await.expect("list");
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        all.extend(page);
    }
    assert!(all.is_sorted_by_key(|token| token.id));
    assert_eq!(all.iter().map(|token| token.id).collect::<HashSet<_>>().len(), 9);
    let of_one: Vec<_> = all.iter().filter(|token| token.project == one).cloned().collect();
    assert_eq!(catalog.tokens(Some(one), None, 100).await.expect("list"), of_one);
    assert_eq!(catalog.tokens(Some(one), Some(of_one[1].id), 2).await.expect("list"), of_one[2..4]);
    assert_eq!(catalog.tokens(Some(Uuid::new_v4()), None, 100).await.expect("list"), []);
}

pub(super) async fn are_revoked_at_once(case: Case) {
    let (project, catalog) = (case.project().await, &case.catalog);
    let (gone, kept) = (token(project, Scope::FilesRead), token(project, Scope::GitWrite));
    catalog.create_token(&gone, &[1; 32]).await.expect("create");
    catalog.create_token(&kept, &[2; 32]).await.expect("create");
    let racing = (0..8).map(|_| {
        let (catalog, id) = (catalog.clone(), gone.id);
        async move { catalog.revoke_token(id).await.expect("revoke") }
    });
    assert_eq!(together(racing).await.into_iter().filter(|revoked| *revoked).count(), 1);
    assert_eq!(catalog.find_token(&[1; 32]).await.expect("find"), None);
    assert_eq!(catalog.find_token(&[2; 32]).await.expect("find"), found(kept), "the other one stays");
}

pub(super) async fn go_with_their_project(case: Case) {
    let (project, other, catalog) = (case.project().await, case.project().await, &case.catalog);
    catalog.create_token(&token(project, Scope::FilesRead), &[1; 32]).await.expect("create");
    catalog.create_token(&token(other, Scope::FilesRead), &[2; 32]).await.expect("create");
    assert!(catalog.delete_project(project).await.expect("delete"));
    assert_eq!(catalog.find_token(&[1; 32]).await.expect("find"), None);
    // A project of the same id starts without tokens.
    catalog.create_project(&new_project(project, None)).await.expect("create");
    assert_eq!(catalog.tokens(Some(project), None, 10).await.expect("list"), []);
    assert_eq!(catalog.tokens(None, None, 10).await.expect("list").len(), 1);
}

/// Goal: tokens of before there were scopes open git, and nothing else.
pub(super) async fn of_before_are_for_git(case: Case) {
    let (project, catalog) = (case.project().await, &case.catalog);
    let stored = token(project, Scope::Admin);
    catalog.create_token(&stored, &[1; 32]).await.expect("create");
    let scopes_of = |found: Option<FoundToken>| found.expect("a token").token.scopes;
    case.backend.execute("UPDATE tokens SET access = 'read', scopes = NULL").await;
    assert_eq!(scopes_of(catalog.find_token(&[1; 32]).await.expect("find")), "git:read".parse().expect("scopes"));
    case.backend.execute("UPDATE tokens SET access = 'write'").await;
    let of_git: Scopes = "git:write".parse().expect("scopes");
    assert_eq!(scopes_of(catalog.find_token(&[1; 32]).await.expect("find")), of_git);
    assert_eq!(catalog.tokens(Some(project), None, 1).await.expect("list")[0].scopes, of_git);
    case.backend.execute("UPDATE tokens SET access = NULL, scopes = 'git:read,unheard:of'").await;
    assert_eq!(scopes_of(catalog.find_token(&[1; 32]).await.expect("find")), "git:read".parse().expect("scopes"));
}
