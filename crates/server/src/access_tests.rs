//! Goal: no route without a line in the table, and none that opens more than it says.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse as _;
use tower::ServiceExt as _;
use treehold_engine::api::{Scopes, TokenSpec};

use super::*;
use crate::app::App;
use crate::auth::git_access_tests::Stage;

fn path(template: &str, project: &str, user: &str) -> String {
    let path = template.replace("{project}", project).replace("{user}", user);
    path.replace("{*path}", "a/b")
        .replace("{*name}", "heads/x")
        .replace("{id}", user)
        .replace("{number}", "1")
        .replace("{name}", "x")
        + if template.contains("{oid}") { "?" } else { "" }
}

async fn asked(app: &App, method: &str, uri: &str, secret: &str) -> (StatusCode, serde_json::Value) {
    let request = http::Request::builder().method(method).uri(uri.replace("{oid}", &"1".repeat(40)));
    // Keys and tokens alike.
    let request = request.header("x-internal-api-key", secret).body(Body::empty()).unwrap();
    let response = app.router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn every_route_is_in_the_table() {
    let listed: BTreeSet<&str> = ROUTES.iter().map(|(template, _)| *template).collect();
    assert_eq!(listed.len(), ROUTES.len(), "each once");
    let of_git = BTreeSet::from(["/git/{repo}/{*rest}"]);
    let routed = crate::router::templates();
    assert_eq!(routed, listed.union(&of_git).map(|template| (*template).to_owned()).collect());

    let stage = Stage::set().await;
    for (template, methods) in ROUTES {
        let uri = path(template, "nowhere", "no-user");
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let (status, _) = asked(&stage.app, method, &uri, "second-key").await;
            let routed = status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(routed, methods.iter().any(|(known, _)| *known == method), "{method} {template}: {status}");
        }
    }
}

#[tokio::test]
async fn a_token_without_the_scopes_is_refused_by_every_route() {
    let stage = Stage::set().await;
    let project = stage.project.to_string();
    let user = Uuid::from_u128(5).to_string();
    let secret_of = async |scopes: Scopes| {
        let spec = TokenSpec { name: None, user: None, scopes, lifetime: Some(Duration::from_secs(60)) };
        stage.app.engine().create_token(&project, &spec).await.unwrap().secret.expose().to_owned()
    };
    let of_git = secret_of("git:write".parse().unwrap()).await;
    let all = secret_of(Scopes::all()).await;
    for (template, methods) in ROUTES {
        let (here, elsewhere) = (path(template, &project, &user), path(template, &Uuid::nil().to_string(), &user));
        for (method, needs) in *methods {
            let what = format!("{method} {template}");
            let (status, body) = asked(&stage.app, method, &here, &of_git).await;
            match needs {
                Needs::Nothing => continue,
                Needs::Key => assert_eq!((status.as_u16(), &body["code"]), (403, &"key_required".into()), "{what}"),
                Needs::Scopes([]) => assert_eq!(status, 200, "{what}"),
                Needs::Scopes([first, ..]) => {
                    assert_eq!((status.as_u16(), &body["code"]), (403, &"scope_missing".into()), "{what}");
                    assert_eq!(body["scope"], first.name(), "{what}");
                }
            }
            let (status, body) = asked(&stage.app, method, &elsewhere, &all).await;
            let expected = match needs {
                Needs::Key => (403, "key_required"),
                // It names its project in a header.
                _ if *template == AGENTS => (400, "bad_header"),
                _ => (404, "project_not_found"),
            };
            assert_eq!((status.as_u16(), body["code"].as_str()), (expected.0, Some(expected.1)), "{what}");
        }
        let (status, body) = asked(&stage.app, "TRACE", &here, &all).await;
        assert!(matches!(status.as_u16(), 401 | 405) || is_open(template), "{template}: {body}");
    }
}

#[tokio::test]
async fn each_scope_that_a_route_needs_is_asked_for() {
    let stage = Stage::set().await;
    let project = stage.project.to_string();
    for (template, methods) in ROUTES {
        for (method, needs) in *methods {
            let Needs::Scopes(needed) = needs else { continue };
            for missing in *needed {
                let others: Scopes = needed.iter().copied().filter(|scope| scope != missing).collect();
                let scopes = if others.is_empty() { "git:read".parse().unwrap() } else { others };
                let spec = TokenSpec { name: None, user: None, scopes, lifetime: None };
                let made = stage.app.engine().create_token(&project, &spec).await.unwrap();
                let uri = path(template, &project, &Uuid::nil().to_string());
                let (status, body) = asked(&stage.app, method, &uri, made.secret.expose()).await;
                let told = (status.as_u16(), body["scope"].as_str());
                assert_eq!(told, (403, Some(missing.name())), "{method} {template} with {scopes}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_with_scopes_opens_what_they_say_in_all_projects() {
    let stage = Stage::set().await;
    let (project, user) = (stage.project.to_string(), Uuid::nil().to_string());
    for (template, methods) in ROUTES {
        for (method, needs) in *methods {
            let missing = match needs {
                Needs::Scopes([first, ..]) => *first,
                Needs::Key => Scope::Admin,
                Needs::Scopes([]) | Needs::Nothing => continue,
            };
            let uri = path(template, &project, &user);
            let (status, body) = asked(&stage.app, method, &uri, "git-key").await;
            let told = (status.as_u16(), body["scope"].as_str());
            assert_eq!(told, (403, Some(missing.name())), "{method} {template}");
        }
    }
    assert_eq!(asked(&stage.app, "GET", &format!("/projects/{project}"), "git-key").await.0, 200);
    assert_eq!(asked(&stage.app, "GET", "/projects", "admin-key").await.0, 200);
    assert_eq!(asked(&stage.app, "GET", &format!("/files/{project}"), "admin-key").await.0, 403);
    let elsewhere = asked(&stage.app, "GET", &format!("/projects/{user}"), "git-key").await;
    assert_eq!(elsewhere.1["code"], "project_not_found");
    assert_eq!(asked(&stage.app, "PATCH", "/projects", "admin-key").await.0, 405);
}

#[tokio::test]
async fn what_is_in_no_line_is_for_keys() {
    assert_eq!(needs("/projects/{project}/unheard-of", &Method::GET), None);
    assert_eq!(needs("/projects/{project}", &Method::TRACE), None);
    assert_eq!(needs("/files/{project}", &Method::HEAD), Some(READ));
    assert!(is_open("/healthz") && !is_open("/metrics") && !is_open(""));
    let problem = method_not_allowed(methods("/projects/{project}/pulls").unwrap());
    assert_eq!(problem.into_response().headers()["allow"], "POST,GET,HEAD");
}
