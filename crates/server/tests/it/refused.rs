//! Goal: what cannot be answered is refused with the right status, in problem+json, and before anything else is looked at.

use std::time::Duration;

use serde_json::json;
use treehold_server::{AdmissionConfig, ServerConfig};

use crate::harness::{KEY, Server, USER};

#[tokio::test]
async fn every_route_but_health_needs_the_key() {
    let server = Server::start().await;
    for target in
        ["/projects", "/projects/x", "/files/x/y", "/files/x/%zz", "/nowhere", "/healthz/", "//healthz", "/HEALTHZ"]
    {
        for key in [None, Some("wrong"), Some("")] {
            let headers: Vec<_> = key.iter().map(|key| ("X-Internal-API-Key", *key)).collect();
            let reply = server.send_plain("GET", target, &headers, "").await;
            assert_eq!(reply.problem(), (401, "unauthorized".into()), "{target} {key:?}");
        }
    }
    let twice = [("X-Internal-API-Key", KEY), ("X-Internal-API-Key", KEY)];
    assert_eq!(server.send_plain("GET", "/projects", &twice, "").await.status, 401);
    assert_eq!(server.send_plain("GET", "/projects", &[("X-Internal-API-Key", "another-key")], "").await.status, 200);
    assert_eq!(server.send_plain("GET", "/healthz", &[], "").await.json(), json!({"status": "ok"}));
    assert_eq!(server.send_plain("GET", "/readyz", &[], "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_key_comes_before_the_body() {
    let server = Server::start().await;
    let reply = server.send_plain("PUT", "/pending/x/y/z", &[], vec![b'x'; 3_000_000]).await;
    assert_eq!(reply.problem(), (401, "unauthorized".into()));
    assert_eq!(reply.header("connection"), Some("close"));
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_keys_lets_nobody_in() {
    let server = Server::with_keys(&["", ""], ServerConfig::default()).await;
    for target in ["/projects", "/nowhere"] {
        assert_eq!(server.send_plain("GET", target, &[("X-Internal-API-Key", "")], "").await.status, 401);
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let server = Server::start().await;
    let unknown = [
        "/projects/",
        "/projects/p/forks",
        "/openapi.yaml",
        "/docs/",
        "/files",
        "/files/",
        "/pending/p",
        "/pending/p/",
        "/projects/p/git/tags/x",
        "/projects/p/archive.tar",
        "/projects/p/%73tatus",
        "/projects/p/status/",
    ];
    for target in unknown {
        assert_eq!(server.get(target).await.problem(), (404, "route_not_found".into()), "{target}");
    }
    // These match a route as they are; nothing is normalised to make them another.
    for target in ["/files//x", "/files/../projects"] {
        assert_eq!(server.get(target).await.problem(), (404, "project_not_found".into()), "{target}");
    }
    let wrong = [
        ("POST", "/healthz", "GET,HEAD"),
        ("POST", "/files/p/x", "GET,HEAD,PUT,DELETE"),
        ("POST", "/projects/p", "PUT,GET,HEAD,PATCH,DELETE"),
        ("PUT", "/pending/p/u", "GET,HEAD,POST,DELETE"),
        ("GET", "/projects/p/commit", "POST"),
        ("BREW", "/projects", "POST,GET,HEAD"),
    ];
    for (method, target, allow) in wrong {
        let reply = server.send(method, target, &[], "").await;
        assert_eq!(reply.problem(), (405, "method_not_allowed".into()), "{method} {target}");
        let mut allowed: Vec<_> = reply.header("allow").unwrap().split(',').map(str::trim).collect();
        let mut expected: Vec<_> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {target}");
    }
    server.stop().await;
}

#[tokio::test]
async fn malformed_requests_name_what_is_wrong() {
    let server = Server::start().await;
    let project = server.project().await;
    let get = [
        ("/files/{p}/a%".to_owned(), "bad_encoding"),
        ("/files/{p}/a%2".to_owned(), "bad_encoding"),
        ("/files/%FF/a".to_owned(), "bad_encoding"),
        ("/files/{p}?ref=%FF".to_owned(), "bad_encoding"),
        ("/files/{p}?ref=a&ref=b".to_owned(), "bad_parameter"),
        ("/files/{p}?limit=ten".to_owned(), "bad_parameter"),
        ("/files/{p}?user=me".to_owned(), "bad_uuid"),
        ("/pending/{p}/me".to_owned(), "bad_uuid"),
        ("/pending/{p}/me/x".to_owned(), "bad_uuid"),
        ("/projects/{p}/conflicts".to_owned(), "bad_parameter"),
        ("/projects/{p}/git/blobs/12".to_owned(), "bad_oid"),
    ];
    for (target, code) in get {
        let reply = server.get(&target.replace("{p}", &project)).await;
        assert_eq!(reply.problem(), (400, code.into()), "{target}");
    }
    let put = |target: &str| format!("/pending/{project}/{USER}/{target}");
    for (target, code) in [
        (put("x?mode=644"), "bad_parameter"),
        (put("x?base=1"), "bad_oid"),
        (put("x?action=removed"), "bad_parameter"),
        (put("x?action=deleted"), "bad_parameter"),
        (put("x?branch=a&branch=a"), "bad_parameter"),
    ] {
        assert_eq!(server.send("PUT", &target, &[], "x").await.problem(), (400, code.into()), "{target}");
    }
    for header in [("If-Match", "bare"), ("If-None-Match", "\"x\""), ("Content-Range", "bytes 0-0/1")] {
        let reply = server.send("PUT", &put("x"), &[header], "x").await;
        assert_eq!(reply.problem(), (400, "bad_header".into()), "{header:?}");
    }
    assert_eq!(server.send("PUT", "/projects/not-a-uuid", &[], "").await.problem(), (400, "bad_uuid".into()));
    server.stop().await;
}

#[tokio::test]
async fn json_routes_judge_type_syntax_and_shape() {
    let server = Server::start().await;
    let project = server.project().await;
    let json = ("Content-Type", "application/json");
    for route in ["commit", "commits", "read", "sync", "push"] {
        let target = format!("/projects/{project}/{route}");
        assert_eq!(
            server.send("POST", &target, &[], "{}").await.problem(),
            (415, "unsupported_media_type".into()),
            "{route}"
        );
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        assert_eq!(server.send("POST", &target, &[form], "{}").await.status, 415, "{route}");
        assert_eq!(server.send("POST", &target, &[json], "{").await.problem(), (400, "bad_json".into()), "{route}");
        assert_eq!(server.send("POST", &target, &[json], "[]").await.problem(), (422, "bad_shape".into()), "{route}");
        let unknown = server.send("POST", &target, &[json], "{\"surprise\":1}").await;
        assert_eq!(unknown.problem(), (422, "bad_shape".into()), "{route}");
    }
    let gzip = [("Content-Encoding", "gzip"), json];
    let read = format!("/projects/{project}/read");
    assert_eq!(server.send("POST", &read, &gzip, "{\"paths\":[]}").await.problem().0, 415);
    let many = json!({"paths": ["a", "b", "c", "d", "e", "f"]});
    let reply = server.json("POST", &read, &many).await;
    assert_eq!(reply.problem(), (413, "too_large".into()));
    assert_eq!((&reply.json()["limit"], &reply.json()["unit"]), (&json!(5), &json!("paths")));
    server.stop().await;
}

#[tokio::test]
async fn problems_do_not_differ_between_requests() {
    let server = Server::start().await;
    let (first, second) = (server.get("/projects/nobody").await, server.get("/projects/nobody").await);
    assert_eq!(first.problem(), (404, "project_not_found".into()));
    assert_eq!(first.body, second.body);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    let named = server.send("GET", "/projects/nobody", &[("X-Request-Id", "mine-1")], "").await;
    assert_eq!((named.header("x-request-id"), &named.body), (Some("mine-1"), &first.body));
    let odd = server.send("GET", "/projects/nobody", &[("X-Request-Id", "a b\"c")], "").await;
    assert_ne!(odd.header("x-request-id"), Some("a b\"c"));
    server.stop().await;
}

#[tokio::test]
async fn what_never_fits_into_memory_is_too_large() {
    let admission = AdmissionConfig { memory_bytes: 200_000, ..AdmissionConfig::default() };
    let server = Server::with(ServerConfig { admission, ..ServerConfig::default() }).await;
    let project = server.project().await;
    let target = format!("/pending/{project}/{USER}/a");
    let reply = server.send("PUT", &target, &[], vec![b'x'; 150_000]).await;
    assert_eq!(reply.problem(), (413, "too_large".into()));
    for _ in 0..4 {
        assert_eq!(server.send("PUT", &target, &[], vec![b'x'; 60_000]).await.status / 100, 2, "memory is given back");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_verb_that_takes_too_long_is_answered_for() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("http://{}/", silent.local_addr().unwrap());
    let config = ServerConfig { long_timeout: Duration::from_millis(50), ..ServerConfig::default() };
    let server = Server::with_remote(&remote, config).await;
    let made = server.json("POST", "/projects", &json!({"remote": {"url": format!("{remote}a.git")}})).await;
    let sync = format!("/projects/{}/sync", made.json()["id"].as_str().unwrap());
    assert_eq!(server.send("POST", &sync, &[], "").await.problem(), (504, "timeout".into()));
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn secrets_and_names_stay_out_of_the_log() {
    let log = crate::harness::log();
    let server = Server::start().await;
    let project = server.project().await;
    let token = [("X-Remote-Token", "ghs_CANARY_token")];
    for route in ["sync", "push", "sync?x=CANARY_query"] {
        server.send("POST", &format!("/projects/{project}/{route}"), &token, "").await;
    }
    let target = format!("/pending/{project}/{USER}/CANARY_path");
    assert_eq!(server.send("PUT", &target, &token, "CANARY_content").await.status, 201);
    server.send_plain("GET", "/projects", &[("X-Internal-API-Key", "CANARY_key")], "").await;
    server.stop().await;
    let text = log.text();
    assert!(text.contains("/pending/{project}/{user}/{*path}"), "routes are logged");
    let ours = text.lines().filter(|line| line.contains("treehold_server"));
    assert!(ours.clone().count() >= 4);
    for line in ours {
        assert!(!line.contains("CANARY") && !line.contains(KEY), "{line}");
    }
    for secret in ["CANARY_token", "CANARY_key", KEY] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}
