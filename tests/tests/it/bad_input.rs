//! What is malformed, unknown, too large or not allowed: the same answer each time, in one shape.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment, json_body};
use crate::probe;

/// Status, code and body without what the request id header says.
async fn twice(d: &Deployment, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let send = async || {
        let request = d.request(method, path);
        let request = match &body {
            Some(body) => json_body(request, body),
            None => request,
        };
        d.send(request).await
    };
    let (one, two) = (send().await, send().await);
    assert_eq!(one.body, two.body, "{method} {path}");
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    assert!(!one.header("x-request-id").is_empty());
    assert_eq!(one.header("content-type"), "application/problem+json", "{method} {path}: {}", one.text());
    let problem: Value = serde_json::from_slice(&one.body).expect("JSON");
    assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(one.status)));
    assert!(
        problem["title"].is_string() && problem["detail"].as_str().is_some_and(|detail| detail.len() > 10),
        "{problem}"
    );
    let text = one.text().to_lowercase();
    for word in ["select ", "sqlx", "sqlite", "postgres", "panicked", ".rs:", "/tmp", API_KEY] {
        assert!(!text.contains(word), "{method} {path} shows {word:?}: {text}");
    }
    (one.status, problem)
}

both! {
    /// Goal: no key, a wrong key, two keys and a key elsewhere are 401 before anything else is looked at.
    async fn keys(d) {
        let project = d.local_project().await;
        let right = format!("X-Internal-API-Key: {API_KEY}\r\n");
        let mut bodies = Vec::new();
        for lines in [String::new(), "X-Internal-API-Key: wrong\r\n".into(), "X-Internal-API-Key: \r\n".into(), format!("{right}{right}"),
            format!("{right}X-Internal-API-Key: wrong\r\n"), format!("Authorization: Bearer {API_KEY}\r\n"),
            format!("X-Internal-API-Key: {API_KEY}x\r\n"), format!("X-Internal-API-Key: {API_KEY},{API_KEY}\r\n"),
            format!("X-Internal-API-Key: {}\r\n", &API_KEY[1..])] {
            for (method, target) in [("GET", format!("/projects/{project}")), ("GET", "/projects/none".into()), ("PUT", format!("/files/{project}/a")),
                ("GET", "/no/such/route".into()), ("GET", "/console.js".into()), ("GET", "/consoles".into()), ("PATCH", "/projects".into()), ("GET", format!("/files/{project}/..")),
                ("GET", format!("/projects?x=&internal_api_key={API_KEY}"))] {
                let reply = probe::raw_head(&d, method, &target, &format!("{lines}Content-Length: 0\r\n"), b"").await;
                reply.problem(401, "unauthorized");
                bodies.push(reply.body);
            }
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "nothing tells the cases apart");
        for open in ["/healthz", "/readyz", "/console", "/console/console.js"] {
            assert_eq!(probe::raw_head(&d, "GET", open, "", b"").await.status, 200, "{open}");
        }
        let front = probe::raw_head(&d, "GET", "/", "", b"").await;
        assert_eq!((front.status, front.header("location")), (302, "console"));
        assert_eq!(d.get(&format!("/files/{project}")).await.ok(200)["files"], json!([]));
    }

    /// Goal: unknown projects, bad ids and bad parameters have one answer each, the same from request to request.
    async fn names(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let unknown = Uuid::new_v4();
        for name in [unknown.to_string(), "nobody".into(), "a%2Fb".into(), "%2e%2e".into(), "a%00b".into(), "%20".into()] {
            for path in [format!("/projects/{name}"), format!("/files/{name}"), format!("/files/{name}/a"), format!("/pending/{name}/{user}"),
                format!("/pending/{name}/{user}/a"), format!("/projects/{name}/status?user={user}"), format!("/projects/{name}/log"),
                format!("/projects/{name}/refs")] {
                // Clients resolve encoded dots themselves, so this one goes as bytes.
                let reply = probe::raw(&d, "GET", &path, b"").await;
                reply.problem(404, "project_not_found");
            }
        }
        for (method, path, body, status, code) in [
            ("GET", format!("/projects/{unknown}"), None, 404, "project_not_found"),
            ("DELETE", format!("/projects/{unknown}"), None, 404, "project_not_found"),
            ("POST", format!("/projects/{unknown}/read"), Some(json!({"paths": []})), 404, "project_not_found"),
            ("PUT", "/projects/not-a-uuid".into(), Some(json!({})), 400, "bad_uuid"),
            ("GET", format!("/pending/{project}/me"), None, 400, "bad_uuid"),
            ("PUT", format!("/pending/{project}/me/a"), None, 400, "bad_uuid"),
            ("GET", format!("/files/{project}?user=me"), None, 400, "bad_uuid"),
            ("GET", format!("/files/{project}/a?user="), None, 400, "bad_uuid"),
            ("GET", format!("/projects/{project}/status?user=%zz"), None, 400, "bad_encoding"),
            ("GET", format!("/files/{project}?ref=%ff"), None, 400, "bad_encoding"),
            ("GET", format!("/files/{project}?ref=a&ref=b"), None, 400, "bad_parameter"),
            ("GET", format!("/files/{project}?limit=x"), None, 400, "bad_parameter"),
            ("GET", format!("/projects/{project}/git/blobs/123"), None, 400, "bad_oid"),
            ("GET", format!("/projects/{project}/git/blobs/{}", "0".repeat(40)), None, 404, "not_found"),
            ("GET", format!("/files/{project}?ref=a%00b"), None, 404, "ref_not_found"),
            ("GET", format!("/files/{project}?ref={}", "z".repeat(5_000)), None, 404, "ref_not_found"),
            ("GET", format!("/files/{project}/none"), None, 404, "file_not_found"),
        ] {
            let (found, problem) = twice(&d, method, &path, body).await;
            assert_eq!((found, &problem["code"]), (status, &json!(code)), "{method} {path}: {problem}");
        }
        let prefix = d.get(&format!("/files/{project}?prefix=a%00b")).await.ok(200);
        assert_eq!(prefix["files"], json!([]));
    }

    /// Goal: what a route does not know is refused, not ignored: a mistyped `branch` writes nowhere. Routes whose queries others make up, or
    /// nobody reads, take any.
    async fn unknown_parameters(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let (file, pending) = (format!("/files/{project}/a"), format!("/pending/{project}/{user}"));
        for (method, path, parameter) in [
            ("PUT", format!("{file}?brnach=next"), "brnach"),
            ("PUT", format!("{pending}/a?branch=main&Mode=100755"), "Mode"),
            ("PUT", format!("{pending}/?brnach=next"), "brnach"),
            ("DELETE", format!("{pending}?user={user}"), "user"),
            ("POST", format!("{pending}?brnach=next"), "brnach"),
            ("GET", format!("{file}?branch=next"), "branch"),
            ("HEAD", format!("{file}?branch=next"), ""),
            ("POST", format!("/projects/{project}/read?ref=next"), "ref"),
            ("POST", format!("/projects/{project}/commit?dry_run=true"), "dry_run"),
            ("GET", format!("/projects/{project}/status?user={user}&user={user}"), "user"),
            ("GET", format!("/projects/{project}?%zz"), ""),
        ] {
            let reply = probe::raw(&d, method, &path, b"{}").await;
            assert_eq!(reply.status, 400, "{method} {path}");
            if !parameter.is_empty() {
                let problem = reply.problem(400, "bad_parameter");
                assert_eq!(problem["parameter"], parameter, "{method} {path}: {problem}");
            }
        }
        let problem = d.put(&format!("{file}?brnach=next"), "x").await.problem(400, "bad_parameter");
        let known = "`brnach` is no query parameter of this route; those that it takes: `branch`, `message`, `author_name`, `author_email`, `mode`";
        assert_eq!(problem["detail"], known);
        assert_eq!(d.get(&format!("/files/{project}?user={user}")).await.ok(200)["files"], json!([]));
        assert_eq!(d.get(&format!("/projects/{project}/refs")).await.ok(200)["refs"], json!([]));
        for open in ["/healthz?x=1", "/readyz?x=1", "/metrics?x=1", "/openapi.json?x=1", "/docs?x=1"] {
            assert_eq!(d.get(open).await.status, 200, "{open}");
        }
        let refs = format!("/git/{project}.git/info/refs?service=git-upload-pack&x=1");
        let git = d.request("GET", &refs).basic_auth("git", Some(API_KEY));
        assert_eq!(d.send(git).await.status, 200);
        d.post("/mcp?x=1", json!({})).await.problem(400, "bad_header");
        d.get("/no/such/route?x=1").await.problem(404, "route_not_found");
        d.send(d.request("PATCH", "/projects?x=1")).await.problem(405, "method_not_allowed");
    }

    /// Goal: broken JSON is 400, JSON of a wrong shape 422 (and says where), another content type 415.
    async fn json_bodies(d) {
        let project = d.local_project().await;
        let author = json!({"name": "A", "email": "a@example.org"});
        let routes = [format!("/projects/{project}/read"), format!("/projects/{project}/commit"), format!("/projects/{project}/commits"),
            "/projects".to_owned(), format!("/projects/{project}/sync")];
        for route in &routes {
            let post = |kind: &'static str, body: &[u8]| d.request("POST", route).header("Content-Type", kind).body(body.to_vec());
            for broken in [&b"{"[..], b"nope", b"{\"a\":1}}", b"{\"a\":01}", b"\xff\xfe", b"{\"a\":\"\xff\"}", b"{'a':1}", b"[1,", b"{\"a\" 1}"] {
                d.send(post("application/json", broken)).await.problem(400, "bad_json");
            }
            for shape in ["[]", "1", "\"x\"", "null", "true", "{\"no_such_field\":1}"] {
                d.send(post("application/json; charset=utf-8", shape.as_bytes())).await.problem(422, "bad_shape");
            }
            for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"] {
                d.send(post(kind, b"{}")).await.problem(415, "unsupported_media_type");
            }
            d.send(d.request("POST", route).body("{}")).await.problem(415, "unsupported_media_type");
            let packed = d.request("POST", route).header("Content-Type", "application/json").header("Content-Encoding", "gzip");
            d.send(packed.body("x")).await.problem(415, "unsupported_encoding");
            let nested = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
            let reply = d.send(post("application/json", &nested)).await;
            assert!([413, 422].contains(&reply.status), "{}", reply.text());
        }
        let wrong = json!({"message": "M", "author": author, "actions": [{"action": "create", "path": "a", "content": 1}]});
        let (status, problem) = twice(&d, "POST", &format!("/projects/{project}/commits"), Some(wrong)).await;
        assert_eq!((status, &problem["code"], &problem["at"]), (422, &json!("bad_shape"), &json!("actions[0].content")));
        // Bodies of files are taken as they are, whatever they call themselves.
        for kind in ["application/json", "text/plain", "multipart/form-data", "nonsense"] {
            let saved = d.request("PUT", &format!("/pending/{project}/{}/a", Uuid::new_v4())).header("Content-Type", kind);
            d.send(saved.body("{")).await.ok(201);
        }
    }

    /// Goal: no route and no method are problems too; Allow names what a route takes.
    async fn fallbacks(d) {
        let project = d.local_project().await;
        for path in ["/nothing", "/projects/", "/files", "/pending", &format!("/projects/{project}/nothing"), &format!("/projects/{project}/git/tags/x"),
            &format!("/pending/{project}"), "/admin", "/files/a/../b/../../etc"] {
            let (status, problem) = twice(&d, "GET", path, None).await;
            assert_eq!((status, &problem["code"]), (404, &json!("route_not_found")), "{path}");
        }
        for (method, path, allowed) in [("PATCH", "/projects".to_owned(), ["GET", "POST"]), ("POST", format!("/files/{project}/a"), ["PUT", "DELETE"]),
            ("DELETE", "/projects".to_owned(), ["GET", "POST"]), ("PUT", format!("/pending/{project}/{}", Uuid::new_v4()), ["GET", "DELETE"])] {
            let reply = d.send(d.request(method, &path)).await;
            reply.problem(405, "method_not_allowed");
            let allow = reply.header("allow").to_owned();
            assert!(allowed.iter().all(|method| allow.contains(method)) && !allow.contains(method), "{method} {path}: {allow}");
        }
    }

    /// Goal: limits answer 413 and say which, before the body is taken in; nothing is stored.
    async fn limits(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let limit = 100 << 20;
        for target in [format!("/pending/{project}/{user}/big"), format!("/files/{project}/big")] {
            // Only the head is sent: the answer does not wait for the body.
            let lines = format!("X-Internal-API-Key: {API_KEY}\r\nContent-Length: {}\r\n", limit + 1);
            let problem = probe::raw_head(&d, "PUT", &target, &lines, b"").await.problem(413, "too_large");
            assert_eq!(json!([problem["what"], problem["limit"], problem["unit"]]), json!(["the file", limit, "bytes"]));
        }
        let author = json!({"name": "A", "email": "a@example.org"});
        d.put(&format!("/pending/{project}/{user}/f"), "x").await.ok(201);
        let message = "m".repeat((1 << 20) + 1);
        let commit = json!({"user": user, "message": message, "author": author});
        let problem = d.post(&format!("/projects/{project}/commit"), commit).await.problem(413, "too_large");
        assert!(problem["what"].is_string() && problem["limit"].is_number(), "{problem}");
        let large = json!({"name": "n".repeat(100_000)});
        let problem = d.post("/projects", large).await.problem(413, "too_large");
        assert_eq!((&problem["what"], &problem["unit"]), (&json!("the request body"), &json!("bytes")));
        assert_eq!(d.get(&format!("/files/{project}")).await.ok(200)["files"], json!([]));
        assert_eq!(d.get(&format!("/pending/{project}/{user}")).await.ok(200)["revision"], 1);
    }

    /// Goal: how large a request in JSON may be is the operator's to say, and the document tells it.
    async fn configured(d) {
        let mut d = d;
        d.stop().await;
        d.set("TREEHOLD_LIMIT_JSON_BYTES", "100000");
        d.up().await;
        let project = d.local_project().await;
        let document = d.get("/openapi.json").await.ok(200);
        assert_eq!(document["x-treehold-limits"]["json_bytes"]["value"], json!(100_000));
        let (url, author) = (format!("/projects/{project}/commits"), json!({"name": "A", "email": "a@example.org"}));
        let commit = |content: String| {
            json!({"message": "Act", "author": &author, "actions": [{"action": "create", "path": "a", "content": content}]})
        };
        let problem = d.post(&url, commit("x".repeat(100_000))).await.problem(413, "too_large");
        let told = json!([problem["what"], problem["limit"], problem["unit"]]);
        assert_eq!(told, json!(["the request body", 100_000, "bytes"]));
        d.post(&url, commit("x".repeat(90_000))).await.ok(200);
    }
}
