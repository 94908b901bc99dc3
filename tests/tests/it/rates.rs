//! Rate limits: who is counted for what, and what is not. The figures are so small that no test waits until there is room again.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, json_body};
use crate::scopes::Token;

#[track_caller]
fn refused(reply: &Reply, name: &str) {
    let problem = reply.problem(429, "rate_limited");
    assert_eq!((&problem["rate"]["name"], &problem["rate"]["seconds"]), (&json!(name), &json!(60)));
    let seconds: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(reply.header("ratelimit"), format!("\"{name}\";r=0;t={seconds}"));
    assert!(reply.header("ratelimit-policy").ends_with(";w=60"));
}

/// Two reads and two writes a minute and user, and one sync of a project.
async fn limited(d: &mut Deployment) {
    for (variable, value) in [("LIMITS", "on"), ("READS", "2"), ("WRITES", "2"), ("SYNCS", "1")] {
        d.set(&format!("TREEHOLD_RATE_{variable}"), value);
    }
    d.stop().await;
    d.up().await;
}

both! {
    /// Goal: one user's writes and reads of one project are counted, wherever the user is named; nobody else's are touched by it.
    async fn count_a_user_in_a_project(d) {
        let mut d = d;
        limited(&mut d).await;
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let (project, other) = (d.local_project().await, d.local_project().await);
        let save = |project: Uuid, user: Uuid| d.request("PUT", &format!("/pending/{project}/{user}/a.txt")).body("a\n");
        let batch = |user: Uuid| {
            let ops: Vec<_> = (0..50).map(|n| json!({"op": "put", "path": format!("f{n}"), "content": "x"})).collect();
            json_body(d.request("POST", &format!("/pending/{project}/{user}")), &json!({"ops": ops}))
        };
        d.send(save(project, ann)).await.ok(201);
        d.send(batch(ann)).await.ok(200);
        refused(&d.send(save(project, ann)).await, "writes");
        refused(&d.send(batch(ann)).await, "writes");
        let body = json!({"user": ann, "message": "m", "author": {"name": "A", "email": "a@example.org"}});
        refused(&d.post(&format!("/projects/{project}/commit"), body).await, "writes");
        d.send(save(project, bob)).await.ok(201);
        d.send(save(other, ann)).await.ok(201);

        let read = |user: Uuid| {
            let body = json!({"paths": ["a.txt", "f1", "f2"], "user": user});
            json_body(d.request("POST", &format!("/projects/{project}/read")), &body)
        };
        d.send(read(ann)).await.ok(200);
        d.get(&format!("/files/{project}?user={ann}")).await.ok(200);
        for refusal in [d.send(read(ann)).await, d.get(&format!("/pending/{project}/{ann}")).await] {
            refused(&refusal, "reads");
        }
        d.send(read(bob)).await.ok(200);
        // Refused writes have changed nothing, and a key that names nobody is not counted.
        for _ in 0..5 {
            d.get(&format!("/files/{project}?limit=1")).await.ok(200);
            d.put(&format!("/files/{project}/c.txt"), Uuid::new_v4().to_string()).await.ok(200);
        }
        let changes = d.get(&format!("/pending/{other}/{ann}")).await.ok(200);
        assert_eq!(changes["revision"], 1);
    }

    /// Goal: syncs count for the project, tokens for their user or themselves; health and metrics are never counted.
    async fn count_projects_and_tokens(d) {
        let mut d = d;
        limited(&mut d).await;
        let (ann, project) = (Uuid::new_v4(), d.local_project().await);
        let sync = format!("/projects/{project}/sync");
        d.post(&sync, json!({})).await.problem(422, "no_remote");
        refused(&d.post(&sync, json!({})).await, "syncs");
        let hers = Token::new(&d, project, "files:read,pending", Some(ann)).await;
        let ci = Token::new(&d, project, "files:read", None).await;
        let shown = format!("/projects/{project}");
        for token in [&hers, &ci] {
            token.get(&shown).await.ok(200);
            token.get(&shown).await.ok(200);
            refused(&token.get(&shown).await, "reads");
        }
        // Hers counted for her.
        refused(&d.get(&format!("/files/{project}?user={ann}")).await, "reads");
        for path in ["/healthz", "/readyz", "/metrics", "/projects"] {
            for _ in 0..3 {
                assert_eq!(d.get(path).await.status, 200, "{path}");
            }
        }
        // Where they are off again, all of it goes.
        d.set("TREEHOLD_RATE_LIMITS", "off");
        d.stop().await;
        d.up().await;
        for _ in 0..5 {
            d.get(&format!("/files/{project}?user={ann}")).await.ok(200);
        }
    }

    /// Goal: an agent's calls count as the routes that do the same, for the same user; what is no call does not.
    async fn count_the_calls_of_agents(d) {
        let mut d = d;
        limited(&mut d).await;
        let (ann, project) = (Uuid::new_v4(), d.local_project().await);
        let ask = |method: &str, params: Value| {
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            json_body(d.request("POST", "/mcp"), &message)
                .header("Accept", "application/json, text/event-stream")
                .header("Treehold-Project", project.to_string())
                .header("Treehold-User", ann.to_string())
        };
        let call = |name: &str, arguments: Value| ask("tools/call", json!({"name": name, "arguments": arguments}));
        let refused_call = |answer: Value, name: &str| {
            let result = &answer["result"];
            assert_eq!(result["isError"], true, "{answer}");
            let problem = &result["_meta"]["treehold/problem"];
            assert_eq!((&problem["code"], &problem["rate"]["name"]), (&json!("rate_limited"), &json!(name)), "{answer}");
            assert!((1..=60).contains(&problem["retry_after"].as_u64().expect("seconds")), "{answer}");
            assert!(result["content"][0]["text"].as_str().expect("text").contains("retry_after: "), "{answer}");
        };
        for path in ["a", "b"] {
            let saved = d.send(call("write_file", json!({"path": path, "content": "x"}))).await.ok(200);
            assert_eq!(saved["result"]["isError"], false, "{saved}");
        }
        let more = d.send(call("write_file", json!({"path": "c", "content": "x"}))).await.ok(200);
        refused_call(more, "writes");
        refused_call(d.send(call("commit", json!({"message": "m"}))).await.ok(200), "writes");
        // One count for the user, whichever way.
        refused(&d.send(d.request("PUT", &format!("/pending/{project}/{ann}/c")).body("x")).await, "writes");
        for _ in 0..3 {
            assert!(d.send(ask("tools/list", json!({}))).await.ok(200)["result"]["tools"].is_array());
        }
        assert_eq!(d.send(call("status", json!({}))).await.ok(200)["result"]["structuredContent"]["changes_total"], 2);
        assert!(d.send(ask("resources/list", json!({}))).await.ok(200)["result"]["resources"].is_array());
        refused_call(d.send(call("list_files", json!({}))).await.ok(200), "reads");
        let listed = d.send(ask("resources/list", json!({}))).await.ok(200);
        assert_eq!(listed["error"]["data"]["code"], "rate_limited", "{listed}");
        d.send(call("sync", json!({}))).await.ok(200);
        refused_call(d.send(call("sync", json!({}))).await.ok(200), "syncs");
    }
}
