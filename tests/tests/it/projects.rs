//! Projects: made, shown, listed, deleted, and kept apart.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{blob_oid, json_body};
use crate::probe;

both! {
    /// Goal: creation with the caller's id can be repeated; what differs, or takes a name, is refused and changes nothing.
    async fn create(d) {
        let id = Uuid::new_v4();
        let body = json!({"name": "docs"});
        let made = d.put_json(&format!("/projects/{id}"), body.clone()).await;
        let shown = made.ok(201);
        assert_eq!(made.header("location"), format!("/projects/{id}"));
        let created_at = shown["created_at"].as_str().expect("a time");
        assert!(created_at.ends_with('Z') && created_at.contains('T'), "{created_at}");
        let expected = json!({"id": id, "name": "docs", "default_branch": "main", "remote": null, "head": null,
            "receive": {"deny_non_fast_forwards": false, "deny_deletes": false}, "created_at": created_at,
            "usage": {"bytes": 0, "quota_bytes": null}});
        assert_eq!(shown, expected);
        assert_eq!(d.put_json(&format!("/projects/{id}"), body.clone()).await.ok(200), expected);
        for name in [id.to_string(), id.to_string().to_uppercase(), id.simple().to_string(), "docs".to_owned()] {
            assert_eq!(d.get(&format!("/projects/{name}")).await.ok(200), expected);
        }
        d.put_json(&format!("/projects/{id}"), json!({})).await.problem(409, "project_exists");
        d.put_json(&format!("/projects/{id}"), json!({"name": "docs", "default_branch": "trunk"})).await
            .problem(409, "project_exists");
        d.put_json(&format!("/projects/{}", Uuid::new_v4()), body.clone()).await.problem(409, "name_taken");
        d.post("/projects", body).await.problem(409, "name_taken");
        let ours = d.send(d.request("POST", "/projects")).await;
        let ours_id: Uuid = ours.ok(201)["id"].as_str().and_then(|id| id.parse().ok()).expect("an id of ours");
        assert_eq!(ours.header("location"), format!("/projects/{ours_id}"));
        let all = d.get("/projects").await.ok(200);
        let mut ids = vec![id, ours_id];
        ids.sort();
        let listed: Vec<&Value> = all["projects"].as_array().expect("projects").iter().map(|p| &p["id"]).collect();
        assert_eq!(json!(listed), json!(ids));
        assert_eq!(d.get(&format!("/projects/{id}")).await.ok(200), expected);
    }

    /// Goal: names are unambiguous in a URL, and default branches are names that git takes.
    async fn names(d) {
        let uuid_like = Uuid::new_v4().to_string();
        let long = "n".repeat(201);
        for bad in ["", "a b", "a/b", ".git", "-x", "é", "docs.git", "a\u{0}", &uuid_like, &long] {
            d.post("/projects", json!({"name": bad})).await.problem(422, "bad_name");
        }
        for bad in ["", "-x", "a..b", "a b", "x.lock", "a\\b", "@", "a@{b", "/x", "x/", "a//b", ".x", "HEAD"] {
            d.post("/projects", json!({"default_branch": bad})).await.problem(422, "bad_ref");
        }
        assert_eq!(d.get("/projects").await.ok(200)["projects"], json!([]));
        let id = Uuid::new_v4();
        let made = d.put_json(&format!("/projects/{id}"), json!({"default_branch": "release/2.x"})).await.ok(201);
        assert_eq!(made["default_branch"], "release/2.x");
        d.put(&format!("/files/{id}/a"), "a").await.ok(200);
        let refs = d.get(&format!("/projects/{id}/refs")).await.ok(200);
        assert_eq!(refs["refs"][0]["name"], "refs/heads/release/2.x");
    }

    /// Goal: a remote outside of the allowed ones is refused when the project is made, and no project comes of it.
    async fn remotes(d) {
        let allowed = d.git.url("docs");
        let (scheme, rest) = allowed.split_once("://").expect("a URL");
        for url in [
            "http://127.0.0.1:9/x.git".to_owned(),
            "https://github.com.evil.example/o/r".to_owned(),
            "https://github.com@evil.example/o/r".to_owned(),
            "ssh://git@github.com/o/r".to_owned(),
            "git@github.com:o/r".to_owned(),
            "file:///etc".to_owned(),
            "/etc".to_owned(),
            "http://169.254.169.254/latest".to_owned(),
            String::new(),
            format!("{scheme}://user:canary-pw@{rest}"),
            format!("{scheme}://user@{rest}"),
        ] {
            let refused = d.post("/projects", json!({"remote": {"url": url}})).await;
            refused.problem(403, "remote_not_allowed");
            assert!(!refused.text().contains("canary-pw"));
        }
        assert_eq!(d.get("/projects").await.ok(200)["projects"], json!([]));
        let made = d.post("/projects", json!({"remote": {"url": allowed}})).await.ok(201);
        assert_eq!(made["remote"], json!({"url": allowed}));
    }

    /// Goal: pages join to the whole list; limits are clamped, cursors checked.
    async fn pages(d) {
        let mut ids: Vec<Uuid> = Vec::new();
        for _ in 0..5 {
            ids.push(d.local_project().await);
        }
        ids.sort();
        for limit in ["0", "1", "2", "4", "5", "99999999999999999999999999"] {
            let mut found = Vec::new();
            let mut cursor = String::new();
            for _ in 0..6 {
                let page = d.get(&format!("/projects?limit={limit}&cursor={cursor}")).await.ok(200);
                found.extend(page["projects"].as_array().expect("projects").iter().map(|p| p["id"].clone()));
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = next.to_owned();
            }
            assert_eq!(json!(found), json!(ids), "limit {limit}");
        }
        for bad in ["limit=abc", "limit=", "limit=1&limit=2", "cursor=nonsense", "cursor=%ff"] {
            assert_eq!(d.get(&format!("/projects?{bad}")).await.status, 400, "{bad}");
        }
    }

    /// Goal: deletion takes refs and pending work at once and for good; the name is free again, the bytes wait for gc.
    async fn delete(d) {
        let id = Uuid::new_v4();
        let user = Uuid::new_v4();
        d.put_json(&format!("/projects/{id}"), json!({"name": "gone"})).await.ok(201);
        d.put("/files/gone/a.txt", "committed\n").await.ok(200);
        d.put(&format!("/pending/{id}/{user}/b.txt"), "pending\n").await.ok(201);
        let raw = format!("/projects/{id}/git/blobs/{}", blob_oid(b"committed\n"));
        d.get(&raw).await.ok(200);
        assert_eq!((probe::count(&d, "refs", id).await, probe::count(&d, "workspaces", id).await), (1, 1));
        let gone = d.delete("/projects/gone").await;
        assert_eq!((gone.status, gone.body.len()), (204, 0));
        for table in ["refs", "workspaces", "pending_contents", "reach", "attempts", "reflog"] {
            assert_eq!(probe::count(&d, table, id).await, 0, "{table}");
        }
        for path in [format!("/projects/{id}"), "/projects/gone".into(), format!("/files/{id}/a.txt"), raw.clone(),
            format!("/files/{id}"), format!("/pending/{id}/{user}"), format!("/pending/{id}/{user}/b.txt")] {
            d.get(&path).await.problem(404, "project_not_found");
        }
        d.put(&format!("/pending/{id}/{user}/b.txt"), "late\n").await.problem(404, "project_not_found");
        d.put(&format!("/files/{id}/b.txt"), "late\n").await.problem(404, "project_not_found");
        d.delete(&format!("/projects/{id}")).await.problem(404, "project_not_found");
        assert!(probe::in_bucket(&d, &blob_oid(b"committed\n")).await, "bytes go by gc alone");
        // Whoever takes the id or the name next finds nothing of what was there.
        d.put_json(&format!("/projects/{id}"), json!({"name": "gone"})).await.ok(201);
        assert_eq!(d.get("/files/gone").await.ok(200)["files"], json!([]));
        assert_eq!(d.get(&format!("/pending/gone/{user}")).await.ok(200)["changes"], json!([]));
        assert_eq!(d.get(&raw).await.status, 404);
    }

    /// Goal: the first write makes the root commit of an unborn branch, by each way of writing.
    async fn unborn(d) {
        let author = json!({"name": "A", "email": "a@example.org"});
        let one = d.local_project().await;
        let empty = d.get(&format!("/files/{one}")).await.ok(200);
        assert_eq!(empty, json!({"commit": null, "files": [], "next_cursor": null}));
        d.get(&format!("/files/{one}/a.txt")).await.problem(404, "file_not_found");
        let first = d.put(&format!("/files/{one}/a.txt"), "a\n").await.ok(200);
        assert_eq!((&first["parents"], &first["branch"], &first["pushed"]), (&json!([]), &json!("main"), &json!(false)));
        let two = d.local_project().await;
        let user = Uuid::new_v4();
        let saved = d.put(&format!("/pending/{two}/{user}/a.txt"), "a\n").await.ok(201);
        assert_eq!((&saved["action"], &saved["base_oid"]), (&json!("created"), &Value::Null));
        let body = json!({"user": user, "message": "First", "author": author});
        assert_eq!(d.post(&format!("/projects/{two}/commit"), body).await.ok(200)["parents"], json!([]));
        let three = d.local_project().await;
        let actions = json!([{"action": "create", "path": "a.txt", "content": "a\n"}]);
        let body = json!({"message": "First", "author": author, "actions": actions});
        assert_eq!(d.post(&format!("/projects/{three}/commits"), body).await.ok(200)["parents"], json!([]));
        for project in [one, two, three] {
            let (_dir, export) = d.export(project).await;
            assert_eq!(export.git().run(["rev-list", "--count", "main"]), "1");
            assert_eq!(export.cat_file("main:a.txt"), b"a\n");
        }
    }

    /// Goal: what one project has is, for another, exactly what nobody has: same status, same bytes.
    async fn isolation(d) {
        let (a, b) = (d.local_project().await, d.local_project().await);
        let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
        d.put(&format!("/files/{a}/shared.txt"), "the same\n").await.ok(200);
        d.put(&format!("/files/{b}/shared.txt"), "the same\n").await.ok(200);
        let made = d.put(&format!("/files/{a}/secret.txt"), "only in A\n").await.ok(200);
        d.put(&format!("/pending/{a}/{user}/draft.txt"), "pending in A\n").await.ok(201);
        let big = vec![b'x'; 150_000];
        d.put(&format!("/pending/{a}/{user}/big.bin"), big.clone()).await.ok(201);
        let shared = blob_oid(b"the same\n");
        for project in [a, b] {
            d.get(&format!("/projects/{project}/git/blobs/{shared}")).await.ok(200);
        }
        let text = |value: &Value| value.as_str().expect("an oid").to_owned();
        let of_a = [
            ("blobs", blob_oid(b"only in A\n")), ("blobs", blob_oid(b"pending in A\n")), ("blobs", blob_oid(&big)),
            ("trees", text(&made["tree"])), ("commits", text(&made["commit"])),
        ];
        for (kind, oid) in &of_a {
            d.get(&format!("/projects/{a}/git/{kind}/{oid}")).await.ok(200);
            let here = d.get(&format!("/projects/{b}/git/{kind}/{oid}")).await;
            let never = d.get(&format!("/projects/{b}/git/{kind}/{}", "1234567890".repeat(4))).await;
            assert_eq!((here.status, never.status), (404, 404));
            assert_eq!(here.body, never.body, "{kind} {oid}");
            let names = |reply: &crate::deployment::Reply| {
                let mut names: Vec<String> = reply.headers.keys().map(|name| name.to_string()).collect();
                names.sort();
                names
            };
            assert_eq!(names(&here), names(&never));
            // Nor does a ref, a base, an expected object or a new ref tell.
            for oid in [oid.as_str(), &"1234567890".repeat(4)] {
                d.get(&format!("/files/{b}?ref={oid}")).await.problem(404, "ref_not_found");
                let base = d.put(&format!("/pending/{b}/{other}/x.txt?base={oid}"), "x\n").await;
                base.problem(422, "unknown_base");
                let body = json!({"oid": oid});
                let created = json_body(d.request("PUT", &format!("/projects/{b}/refs/heads/x")), &body);
                d.send(created).await.problem(422, "unknown_oid");
            }
        }
        // A user's work stays in its project, and a write of the same bytes gives no access to what they are part of.
        assert_eq!(d.get(&format!("/pending/{b}/{user}")).await.ok(200)["changes"], json!([]));
        d.get(&format!("/files/{b}/draft.txt?user={user}")).await.problem(404, "file_not_found");
        d.put(&format!("/pending/{b}/{other}/mine.txt"), "only in A\n").await.ok(201);
        d.get(&format!("/projects/{b}/git/blobs/{}", of_a[0].1)).await.ok(200);
        d.get(&format!("/projects/{b}/git/trees/{}", of_a[3].1)).await.problem(404, "not_found");
        d.delete(&format!("/projects/{a}")).await;
        assert_eq!(d.get(&format!("/files/{b}/shared.txt")).await.text(), "the same\n");
    }
}
