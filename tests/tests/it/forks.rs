//! Forks, and branches that come back.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;

fn commit_body(path: &str, content: &str) -> Value {
    let author = json!({"name": "A", "email": "a@example.org"});
    let actions = json!([{"action": "create", "path": path, "content": content}]);
    json!({"message": path, "author": author, "actions": actions, "push": false})
}

both! {
    /// Goal: a fork has the same refs and answers like its source; no object is stored for it; from then on each goes its own way.
    async fn the_same_refs(d) {
        d.remote("upstream", 1);
        let source = d.connect("upstream").await;
        d.post(&format!("/projects/{source}/commits"), commit_body("ours.txt", "ours\n")).await.ok(200);
        let head = d.get(&format!("/projects/{source}")).await.ok(200)["head"].clone();
        d.put_json(&format!("/projects/{source}/refs/tags/v1"), json!({"oid": head})).await.ok(201);
        let user = Uuid::new_v4();
        d.put(&format!("/pending/{source}/{user}/draft.txt"), "draft\n").await.ok(201);
        let objects = d.cli(&["admin", "stats", "--json"]).await.stdout;

        let reply = d.post(&format!("/projects/{source}/fork"), json!({"name": "copy"})).await;
        let fork = reply.ok(201);
        assert_eq!(reply.header("location"), format!("/projects/{}", fork["id"].as_str().unwrap()));
        assert_eq!((&fork["head"], &fork["remote"], &fork["name"]), (&head, &Value::Null, &json!("copy")));
        let counted = |stats: &[u8]| serde_json::from_slice::<Value>(stats).expect("JSON")["objects"].clone();
        assert_eq!(counted(&d.cli(&["admin", "stats", "--json"]).await.stdout), counted(&objects), "nothing was stored");
        for path in ["refs", "log?limit=1000", "diff?from=v1&to=main"] {
            let shown = d.get(&format!("/projects/copy/{path}")).await.ok(200);
            assert_eq!(shown, d.get(&format!("/projects/{source}/{path}")).await.ok(200), "{path}");
        }
        assert_eq!(d.get("/files/copy").await.ok(200), d.get(&format!("/files/{source}")).await.ok(200));
        assert_eq!(d.get(&format!("/pending/copy/{user}")).await.ok(200)["changes"], json!([]), "drafts stay where they are");

        d.post("/projects/copy/commits", commit_body("theirs.txt", "theirs\n")).await.ok(200);
        assert_eq!(d.get(&format!("/projects/{source}")).await.ok(200)["head"], head);
        d.get(&format!("/files/{source}/theirs.txt")).await.problem(404, "file_not_found");
        let theirs = d.get("/projects/copy").await.ok(200)["head"].as_str().unwrap().to_owned();
        d.get(&format!("/projects/{source}/git/commits/{theirs}")).await.ok(404);
        d.delete(&format!("/projects/{source}")).await.ok(204);
        assert!(d.cli(&["admin", "gc", "--apply", "--grace", "0s", "--force"]).await.status.success());
        assert!(d.cli(&["admin", "verify", "--full"]).await.status.success());
        d.export(fork["id"].as_str().unwrap().parse().unwrap()).await;
    }

    /// Goal: what only the source's remote was seen to have is not the fork's before it has fetched it.
    async fn without_the_remote(d) {
        d.remote("upstream", 2);
        let source = Uuid::new_v4();
        let remote = json!({"url": d.git.url("upstream")});
        d.put_json(&format!("/projects/{source}"), json!({"remote": remote})).await.ok(201);
        let tip = d.post(&format!("/projects/{source}/sync"), json!({"depth": 0})).await.ok(200)["to"].clone();
        let log = d.get(&format!("/projects/{source}/log?limit=2")).await.ok(200);
        let back = log["commits"][1]["commit"].clone();
        let rewind = json!({"oid": back, "expected_oid": tip, "force": true});
        d.put_json(&format!("/projects/{source}/refs/heads/main"), rewind).await.ok(200);
        let read = async |project: &str| d.get(&format!("/projects/{project}/git/commits/{}", tip.as_str().unwrap())).await.status;
        assert_eq!(read(&source.to_string()).await, 200);

        let fork = d.post(&format!("/projects/{source}/fork"), json!({"name": "alone"})).await.ok(201);
        assert_eq!((&fork["head"], read("alone").await), (&back, 404));
        d.post("/projects/alone/push", json!({})).await.problem(422, "no_remote");
        d.post(&format!("/projects/{source}/fork"), json!({"name": "same", "remote": remote})).await.ok(201);
        assert_eq!(read("same").await, 404, "whoever names a URL has not fetched from there");
        let synced = d.post("/projects/same/sync", json!({})).await.ok(200);
        assert_eq!((&synced["to"], read("same").await), (&tip, 200));
        assert!(d.cli(&["admin", "verify"]).await.status.success());
    }

    /// Goal: refusals change nothing.
    async fn refusals(d) {
        let source = d.local_project().await;
        let fork = format!("/projects/{source}/fork");
        d.post(&format!("/projects/{}/fork", Uuid::new_v4()), json!({})).await.problem(404, "project_not_found");
        d.post(&fork, json!({"name": "a/b"})).await.problem(422, "bad_name");
        d.post(&fork, json!({"remote": {"url": "http://169.254.169.254/x"}})).await.problem(403, "remote_not_allowed");
        d.post(&fork, json!({"default_branch": "nowhere"})).await.problem(422, "unknown_ref");
        let id = Uuid::new_v4();
        d.post(&fork, json!({"id": id, "name": "one"})).await.ok(201);
        d.post(&fork, json!({"id": id, "name": "two"})).await.problem(409, "project_exists");
        d.post(&fork, json!({"name": "one"})).await.problem(409, "name_taken");
        d.post(&fork, json!({"nmae": "one"})).await.ok(422);
        assert_eq!(d.get("/projects").await.ok(200)["projects"].as_array().unwrap().len(), 2);
    }

    /// Goal: a deleted branch comes back with everything that only it had, and only where its reflog says so.
    async fn branches_come_back(d) {
        let project = d.local_project().await;
        d.post(&format!("/projects/{project}/commits"), commit_body("a.txt", "a\n")).await.ok(200);
        let head = d.get(&format!("/projects/{project}")).await.ok(200)["head"].clone();
        let side = format!("/projects/{project}/refs/heads/side");
        d.put_json(&side, json!({"oid": head})).await.ok(201);
        let mut body = commit_body("side.txt", "only here\n");
        body["branch"] = json!("side");
        let lost = d.post(&format!("/projects/{project}/commits"), body).await.ok(200)["commit"].clone();
        d.put_json(&side, json!({"oid": lost, "restore": true})).await.problem(409, "ref_moved");
        d.delete(&side).await.ok(204);
        d.get(&format!("/projects/{project}/git/commits/{}", lost.as_str().unwrap())).await.ok(404);
        d.put_json(&side, json!({"oid": lost})).await.problem(422, "unknown_oid");

        let log = d.get(&format!("/projects/{project}/reflog?ref=heads/side")).await.ok(200);
        let moves: Vec<_> = log["entries"].as_array().unwrap().iter().map(|entry| (&entry["from"], &entry["to"])).collect();
        assert_eq!(moves, [(&lost, &Value::Null), (&head, &lost), (&Value::Null, &head)]);
        let page = d.get(&format!("/projects/{project}/reflog?ref=heads/side&limit=2")).await.ok(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        let rest = d.get(&format!("/projects/{project}/reflog?ref=heads/side&limit=2&cursor={cursor}")).await.ok(200);
        assert_eq!((&rest["entries"][0], &rest["next_cursor"]), (&log["entries"][2], &Value::Null));

        let other = format!("/projects/{project}/refs/heads/other");
        d.put_json(&other, json!({"oid": lost, "restore": true})).await.problem(422, "unknown_oid");
        d.put_json(&side, json!({"oid": lost, "restore": true})).await.ok(201);
        assert_eq!(d.get(&format!("/files/{project}/side.txt?ref=side")).await.text(), "only here\n");
        assert!(d.cli(&["admin", "verify", "--full"]).await.status.success());
        d.export(project).await;

        // What was collected meanwhile stays gone.
        d.delete(&side).await.ok(204);
        let gc = ["admin", "gc", "--apply", "--project", &project.to_string(), "--now", "--force"];
        assert!(d.cli(&gc).await.status.success());
        d.put_json(&side, json!({"oid": lost, "restore": true})).await.problem(422, "unknown_oid");
        assert!(d.cli(&["admin", "verify", "--full"]).await.status.success());
    }
}
