//! Local history and checkpoints: nothing that was saved is lost, and what was taken back can be taken back in turn.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, blob_oid};
use crate::probe;

async fn versions(d: &Deployment, project: Uuid, user: Uuid, query: &str) -> Vec<Value> {
    let list = d.get(&format!("/projects/{project}/history?user={user}{query}")).await.ok(200);
    list["versions"].as_array().expect("versions").clone()
}

fn id(version: &Value) -> &str {
    version["id"].as_str().expect("an id")
}

async fn text(d: &Deployment, project: Uuid, user: Uuid, path: &str) -> String {
    let reply = d.get(&format!("/files/{project}/{path}?user={user}")).await;
    if reply.status == 200 { reply.text() } else { reply.status.to_string() }
}

async fn diff(d: &Deployment, url: &str) -> Reply {
    d.send(d.request("GET", url).header("Accept", "text/x-diff")).await
}

/// A version is its user's alone, and its project's.
async fn is_nobody_elses(d: &Deployment, project: Uuid, user: Uuid, version: &str) {
    let stranger = Uuid::new_v4();
    assert_eq!(versions(d, project, stranger, "").await, Vec::<Value>::new());
    let elsewhere = d.local_project().await;
    for url in [
        format!("/projects/{project}/history/{version}?user={stranger}"),
        format!("/projects/{elsewhere}/history/{version}?user={user}"),
        format!("/projects/{project}/history/nonsense?user={user}"),
    ] {
        d.get(&url).await.problem(404, "version_not_found");
    }
}

/// A checkpoint is its user's alone, and deleted once.
async fn goes_for_its_user(d: &Deployment, one: &str, user: Uuid) {
    let stranger = Uuid::new_v4();
    d.get(&format!("{one}?user={stranger}")).await.problem(404, "checkpoint_not_found");
    d.delete(&format!("{one}?user={stranger}")).await.problem(404, "checkpoint_not_found");
    d.delete(&format!("{one}?user={user}")).await.ok(204);
    d.get(&format!("{one}?user={user}")).await.problem(404, "checkpoint_not_found");
    d.post(&format!("{one}/restore?user={user}"), json!({})).await.problem(404, "checkpoint_not_found");
}

both! {
    /// Goal: every version of a file can be listed, read, compared and restored, and a restoration undone; of nobody else.
    async fn versions_come_back(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "head\n").await.ok(200);
        let url = format!("/pending/{project}/{user}");
        let large = "large\n".repeat(50_000);
        for content in ["one\n", large.as_str(), "three\n"] {
            d.put(&format!("{url}/f"), content.to_owned()).await;
        }
        d.put(&format!("{url}/other"), "o").await.ok(201);
        d.delete(&format!("{url}/other")).await.ok(200);
        let of_f = versions(&d, project, user, "&path=f").await;
        let shown: Vec<_> = of_f.iter().map(|v| (v["oid"].clone(), v["revision"].clone(), v["replaced_at"].is_null())).collect();
        assert_eq!(shown, [
            (json!(blob_oid(b"three\n")), json!(3), true),
            (json!(blob_oid(large.as_bytes())), json!(2), false),
            (json!(blob_oid(b"one\n")), json!(1), false),
        ]);
        assert_eq!((&of_f[2]["action"], &of_f[2]["mode"], &of_f[2]["size"], &of_f[2]["base_oid"], &of_f[2]["path"]),
            (&json!("modified"), &json!("100644"), &json!(4), &json!(blob_oid(b"head\n")), &json!("f")));
        let all = versions(&d, project, user, "").await;
        assert_eq!((all.len(), &all[0]["path"]), (4, &json!("other")), "what was dropped, too");
        let page = d.get(&format!("/projects/{project}/history?user={user}&limit=3")).await.ok(200);
        let rest = versions(&d, project, user, &format!("&cursor={}", page["next_cursor"].as_str().expect("a cursor"))).await;
        assert_eq!(rest, all[3..]);
        let at = |version: &Value| format!("/projects/{project}/history/{}", id(version));
        let one = d.get(&format!("{}?user={user}", at(&of_f[2]))).await;
        assert_eq!((one.text().as_str(), one.header("etag")), ("one\n", format!("\"{}\"", blob_oid(b"one\n")).as_str()));
        assert_eq!(d.get(&format!("{}?user={user}", at(&of_f[1]))).await.text(), large);
        let shown = diff(&d, &format!("{}/diff?user={user}", at(&of_f[2]))).await.text();
        assert!(shown.ends_with("@@ -1 +1 @@\n-one\n+three\n"), "{shown}");
        let shown = diff(&d, &format!("{}/diff?user={user}&against=head", at(&of_f[2]))).await.text();
        assert!(shown.ends_with("-one\n+head\n"), "{shown}");
        let shown = diff(&d, &format!("{}/diff?user={user}&against={}", at(&of_f[0]), id(&of_f[2]))).await.text();
        assert!(shown.ends_with("-three\n+one\n"), "{shown}");
        let other = format!("{}/diff?user={user}&against={}", at(&of_f[0]), id(&all[0]));
        d.get(&other).await.problem(422, "bad_version");
        // Restore, undo, and both with a condition.
        let restore = async |version: &Value, held: &str| {
            let request = d.request("POST", &format!("{}/restore?user={user}", at(version)));
            d.send(request.header("If-Match", format!("\"{held}\""))).await
        };
        restore(&of_f[1], &blob_oid(b"one\n")).await.problem(412, "precondition_failed");
        let restored = restore(&of_f[1], &blob_oid(b"three\n")).await.ok(200);
        assert_eq!((&restored["status"], &restored["oid"], &restored["revision"]),
            (&json!("applied"), &json!(blob_oid(large.as_bytes())), &json!(6)));
        assert_eq!(text(&d, project, user, "f").await, large);
        let undo = versions(&d, project, user, "&path=f").await;
        assert_eq!(undo[1]["oid"], json!(blob_oid(b"three\n")));
        restore(&undo[1], &blob_oid(large.as_bytes())).await.ok(200);
        assert_eq!(text(&d, project, user, "f").await, "three\n");
        // What was dropped comes back.
        d.post(&format!("{}/restore?user={user}", at(&all[0])), json!({})).await.ok(200);
        assert_eq!(text(&d, project, user, "other").await, "o");
        is_nobody_elses(&d, project, user, id(&of_f[2])).await;
        d.get(&at(&of_f[2])).await.problem(400, "bad_parameter");
    }

    /// Goal: committed work is in local history, a deletion is a version without bytes, and a restored commit's text is an edit like any.
    async fn after_a_commit(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "head").await.ok(200);
        let url = format!("/pending/{project}/{user}");
        d.put(&format!("{url}/f"), "work").await.ok(201);
        let commit = json!({"user": user, "message": "m", "author": {"name": "A", "email": "a@example.org"}});
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        d.put(&format!("{url}/f?action=deleted"), "").await.ok(201);
        let all = versions(&d, project, user, "&path=f").await;
        assert_eq!((all.len(), &all[0]["action"], &all[1]["oid"]), (2, &json!("deleted"), &json!(blob_oid(b"work"))));
        let at = |version: &Value| format!("/projects/{project}/history/{}", id(version));
        d.get(&format!("{}?user={user}", at(&all[0]))).await.problem(404, "version_deletion");
        // It equals the head: nothing is pending any more.
        let restored = d.post(&format!("{}/restore?user={user}", at(&all[1])), json!({})).await.ok(200);
        assert_eq!(restored["oid"], json!(blob_oid(b"work")));
        assert_eq!(d.get(&url).await.ok(200)["changes"], json!([]));
        d.post(&format!("{}/restore?user={user}", at(&all[0])), json!({})).await.ok(200);
        assert_eq!(d.get(&url).await.ok(200)["changes"][0]["action"], "deleted");
    }

    /// Goal: a checkpoint holds everything pending; restoring it is one step, and can be undone and done again.
    async fn checkpoints(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        for path in ["a", "b", "dir/c"] {
            d.put(&format!("/files/{project}/{path}"), "head\n").await.ok(200);
        }
        let url = format!("/pending/{project}/{user}");
        let large = "l".repeat(200_000);
        d.put(&format!("{url}/a"), "then\n").await.ok(201);
        d.put(&format!("{url}/b?action=deleted"), "").await.ok(201);
        d.put(&format!("{url}/large"), large.clone()).await.ok(201);
        let all = format!("/projects/{project}/checkpoints");
        let made = d.post(&all, json!({"user": user, "name": "draft 1", "message": "why"})).await.ok(201);
        assert_eq!((&made["name"], &made["message"], &made["revision"], &made["changes"], &made["branch"]),
            (&json!("draft 1"), &json!("why"), &json!(3), &json!(3), &json!("main")));
        d.post(&all, json!({"user": user, "name": "draft 1"})).await.problem(409, "checkpoint_exists");
        d.post(&all, json!({"user": user, "name": ""})).await.problem(422, "bad_name");
        d.post(&all, json!({"user": user, "name": "x", "branch": "none"})).await.problem(404, "ref_not_found");
        // Everything changes.
        d.put(&format!("{url}/a"), "now\n").await.ok(200);
        d.delete(&format!("{url}/b")).await.ok(200);
        d.delete(&format!("{url}/large")).await.ok(200);
        d.put(&format!("{url}/large/new"), "n").await.ok(201);
        let one = format!("{all}/{}", made["id"].as_str().expect("an id"));
        let shown = d.get(&format!("{one}?user={user}")).await.ok(200);
        let files: Vec<_> = shown["files"].as_array().expect("files").iter().map(|f| (f["path"].clone(), f["action"].clone())).collect();
        assert_eq!(files, [(json!("a"), json!("modified")), (json!("b"), json!("deleted")), (json!("large"), json!("created"))]);
        let compared = d.send(d.request("GET", &format!("{one}/diff?user={user}")).header("Accept", "application/json")).await.ok(200);
        let files: Vec<_> = compared["files"].as_array().expect("files").iter().map(|f| (f["path"].clone(), f["action"].clone())).collect();
        assert_eq!(files, [(json!("a"), json!("modified")), (json!("b"), json!("created")), (json!("large"), json!("deleted")),
            (json!("large/new"), json!("created"))]);
        let state = async || {
            let list = d.get(&url).await.ok(200);
            let changes = list["changes"].as_array().expect("changes").iter();
            changes.map(|c| (c["path"].as_str().expect("a path").to_owned(), c["action"].clone(), c["oid"].clone(), c["base_oid"].clone()))
                .collect::<Vec<_>>()
        };
        let now = state().await;
        let restored = d.post(&format!("{one}/restore?user={user}"), json!({})).await.ok(200);
        assert_eq!((&restored["changed"], &restored["before"]["name"]), (&json!(4), &json!("before restore of draft 1")));
        assert_eq!(text(&d, project, user, "a").await, "then\n");
        assert_eq!(text(&d, project, user, "b").await, "404");
        assert_eq!(text(&d, project, user, "large").await, large);
        let then = state().await;
        assert_eq!(then.len(), 3);
        let again = d.post(&format!("{one}/restore?user={user}"), json!({})).await.ok(200);
        assert_eq!((&again["changed"], &again["before"]), (&json!(0), &Value::Null));
        // Undo, and redo.
        let undo = format!("{all}/{}", restored["before"]["id"].as_str().expect("an id"));
        let undone = d.post(&format!("{undo}/restore?user={user}"), json!({})).await.ok(200);
        assert_eq!(state().await, now);
        let redo = format!("{all}/{}", undone["before"]["id"].as_str().expect("an id"));
        d.post(&format!("{redo}/restore?user={user}"), json!({})).await.ok(200);
        assert_eq!(state().await, then);
        let list = d.get(&format!("{all}?user={user}&branch=main")).await.ok(200);
        assert_eq!(list["checkpoints"].as_array().map(Vec::len), Some(3));
        let page = d.get(&format!("{all}?user={user}&limit=2")).await.ok(200);
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        let rest = d.get(&format!("{all}?user={user}&cursor={cursor}")).await.ok(200);
        assert_eq!(rest["checkpoints"].as_array().map(Vec::len), Some(1));
        // A collection leaves alone what only a checkpoint names.
        d.delete(&url).await.ok(200);
        let collected = d.cli(&["admin", "gc", "--apply", "--grace", "0s", "--force"]).await;
        assert!(collected.status.success(), "{}", String::from_utf8_lossy(&collected.stderr));
        assert!(probe::in_bucket(&d, &blob_oid(large.as_bytes())).await);
        d.post(&format!("{one}/restore?user={user}"), json!({})).await.ok(200);
        assert_eq!(text(&d, project, user, "large").await, large);
        let verified = d.cli(&["admin", "verify"]).await;
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        goes_for_its_user(&d, &one, user).await;
    }

    /// Goal: a restoration takes the head of today into account: what was edited then merges with it, as any pending work.
    async fn checkpoint_on_a_moved_head(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let base = "1\n2\n3\n4\n5\n6\n7\n";
        d.put(&format!("/files/{project}/f"), base).await.ok(200);
        let url = format!("/pending/{project}/{user}");
        d.put(&format!("{url}/f"), base.replace('1', "mine")).await.ok(201);
        let all = format!("/projects/{project}/checkpoints");
        let made = d.post(&all, json!({"user": user, "name": "x"})).await.ok(201);
        d.delete(&url).await.ok(200);
        d.put(&format!("/files/{project}/f"), base.replace('7', "theirs")).await.ok(200);
        d.post(&format!("{all}/{}/restore?user={user}", made["id"].as_str().expect("an id")), json!({})).await.ok(200);
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        assert_eq!(status["changes"][0]["state"], "outdated");
        let commit = json!({"user": user, "message": "m", "author": {"name": "A", "email": "a@example.org"}});
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        assert_eq!(d.get(&format!("/files/{project}/f")).await.text(), base.replace('1', "mine").replace('7', "theirs"));
    }
}
