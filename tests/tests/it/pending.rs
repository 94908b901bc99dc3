//! Pending work: what a save answers, what is kept, and what concurrent saves come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};
use crate::probe;

fn tag(oid: &str) -> String {
    format!("\"{oid}\"")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// `revision action oid` of each replaced version of a project's pending work.
async fn history(d: &Deployment, project: Uuid) -> Vec<String> {
    let oid = probe::hex(d, "h.oid");
    let sql = format!(
        "SELECT CAST(h.revision AS text) || ' ' || COALESCE({oid}, '-') FROM pending_history h
         JOIN workspaces w ON w.id = h.workspace WHERE w.project = {} ORDER BY h.revision",
        probe::uuid(d, project)
    );
    probe::rows(d, sql).await
}

both! {
    /// Goal: a save answers with what is pending now; revisions count by one; the list shows the same.
    async fn save(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/old.txt"), "old\n").await.ok(200);
        let base = blob_oid(b"old\n");
        let url = format!("/pending/{project}/{user}");
        let saved = d.put(&format!("{url}/old.txt"), "new\n").await;
        let new = blob_oid(b"new\n");
        assert_eq!(saved.ok(201), json!({"path": "old.txt", "action": "modified", "mode": "100644", "oid": new, "size": 4,
            "base_oid": base, "revision": 1}));
        assert_eq!(saved.header("etag"), tag(&new));
        let made = d.put(&format!("{url}/dir/new.sh?mode=100755"), "x").await.ok(201);
        assert_eq!(made, json!({"path": "dir/new.sh", "action": "created", "mode": "100755", "oid": blob_oid(b"x"), "size": 1,
            "base_oid": null, "revision": 2}));
        let again = d.put(&format!("{url}/dir/new.sh"), "").await.ok(200);
        assert_eq!(json!([again["mode"], again["size"], again["revision"], again["action"]]), json!(["100755", 0, 3, "created"]));
        // The same bytes again change nothing.
        assert_eq!(d.put(&format!("{url}/dir/new.sh"), "").await.ok(200), again);
        let list = d.get(&url).await.ok(200);
        assert_eq!(list["revision"], 3);
        let changes = list["changes"].as_array().expect("changes");
        let at = text(&changes[0]["updated_at"]);
        assert!(at.ends_with('Z') && at.contains('T'));
        assert_eq!(changes[0], json!({"path": "dir/new.sh", "action": "created", "mode": "100755", "oid": blob_oid(b""),
            "size": 0, "base_oid": null, "revision": 3, "updated_at": at}));
        assert_eq!((&changes[1]["path"], &changes[1]["revision"], changes.len()), (&json!("old.txt"), &json!(1), 2));
        let page = d.get(&format!("{url}?limit=1")).await.ok(200);
        assert_eq!(page["changes"], json!([changes[0]]));
        let rest = d.get(&format!("{url}?limit=0&cursor={}", text(&page["next_cursor"]))).await.ok(200);
        assert_eq!((&rest["changes"], &rest["next_cursor"]), (&json!([changes[1]]), &Value::Null));
        let file = d.get(&format!("{url}/old.txt")).await;
        assert_eq!((file.text().as_str(), file.header("etag"), file.header("git-mode")), ("new\n", tag(&new).as_str(), "100644"));
        let head = d.send(d.request("HEAD", &format!("{url}/old.txt"))).await;
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "4", 0));
        let part = d.send(d.request("GET", &format!("{url}/old.txt")).header("Range", "bytes=1-2")).await;
        assert_eq!((part.status, part.text().as_str()), (206, "ew"));
        let known = d.send(d.request("GET", &format!("{url}/old.txt")).header("If-None-Match", tag(&new))).await;
        assert_eq!(known.status, 304);
        d.get(&format!("{url}/none")).await.problem(404, "nothing_pending");
    }

    /// Goal: pending work outlives its branch, which may be deleted under an edit: it is listed and read as before, takes no more edits, can
    /// be dropped, and is committed once the branch is back.
    async fn outlives_its_branch(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let head = d.put(&format!("/files/{project}/run.sh"), "run\n").await.ok(200)["commit"].clone();
        let side = format!("/projects/{project}/refs/heads/side");
        d.put_json(&side, json!({"oid": head})).await.ok(201);
        let url = format!("/pending/{project}/{user}");
        d.put(&format!("{url}/new.txt?branch=side"), "new\n").await.ok(201);
        d.put(&format!("{url}/dropped.txt?branch=side"), "dropped\n").await.ok(201);
        let ops = json!({"ops": [{"op": "chmod", "path": "run.sh", "mode": "100755"}]});
        d.post(&format!("{url}?branch=side"), ops).await.ok(200);
        let before = d.get(&format!("{url}?branch=side")).await.ok(200);
        d.delete(&side).await.ok(204);
        assert_eq!(d.get(&format!("{url}?branch=side")).await.ok(200), before);
        assert_eq!(d.get(&format!("{url}/new.txt?branch=side")).await.text(), "new\n");
        assert_eq!(d.get(&format!("{url}/run.sh?branch=side")).await.text(), "run\n");
        d.put(&format!("{url}/new.txt?branch=side"), "newer\n").await.problem(404, "ref_not_found");
        let commit = json!({"user": user, "branch": "side", "message": "Side", "author": {"name": "A", "email": "a@example.org"}});
        d.post(&format!("/projects/{project}/commit"), commit.clone()).await.problem(404, "ref_not_found");
        d.delete(&format!("{url}/dropped.txt?branch=side")).await.ok(200);
        d.put_json(&side, json!({"oid": head, "restore": true})).await.ok(201);
        let done = d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        let files: Vec<_> = done["files"].as_array().expect("files").iter().map(|file| (&file["path"], &file["action"])).collect();
        assert_eq!(files, [(&json!("new.txt"), &json!("created")), (&json!("run.sh"), &json!("modified"))]);
        assert_eq!(d.get(&format!("{url}?branch=side")).await.ok(200)["changes"], json!([]));
        d.export(project).await;
    }

    /// Goal: the conditions compare with the caller's view: pending, else head.
    async fn conditions(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "head").await.ok(200);
        let url = format!("/pending/{project}/{user}/f");
        let save = async |name: &str, value: &str, body: &str| {
            d.send(d.request("PUT", &url).header(name, value).body(body.to_owned())).await
        };
        let head = blob_oid(b"head");
        let wrong = save("If-Match", &tag(&blob_oid(b"else")), "1").await;
        let problem = wrong.problem(412, "precondition_failed");
        assert_eq!((&problem["oid"], &problem["revision"]), (&json!(head), &json!(0)));
        save("If-None-Match", "*", "1").await.problem(412, "precondition_failed");
        let one = save("If-Match", &tag(&head), "1").await.ok(201);
        assert_eq!(one["base_oid"], json!(head));
        let stale = save("If-Match", &tag(&head), "2").await.problem(412, "precondition_failed");
        assert_eq!((&stale["oid"], &stale["revision"]), (&one["oid"], &json!(1)));
        save("If-Match", &format!("W/{}", tag(text(&one["oid"]))), "2").await.ok(200);
        save("If-Match", "*", "3").await.ok(200);
        save("If-Match", text(&one["oid"]), "4").await.problem(400, "bad_header");
        save("If-None-Match", &tag(&head), "4").await.problem(400, "bad_header");
        // A path that is pending as deleted is not there.
        d.put(&format!("{url}?action=deleted"), "").await.ok(200);
        let gone = save("If-Match", "*", "4").await.problem(412, "precondition_failed");
        assert_eq!(gone["oid"], Value::Null);
        let back = save("If-None-Match", "*", "5").await.ok(200);
        assert_eq!((&back["action"], &back["base_oid"]), (&json!("modified"), &json!(head)));
        // A deletion takes conditions too.
        let url = format!("{url}?action=deleted");
        let stale = d.send(d.request("PUT", &url).header("If-Match", tag(&head))).await;
        stale.problem(412, "precondition_failed");
        let gone = d.send(d.request("PUT", &url).header("If-Match", tag(&blob_oid(b"5")))).await.ok(200);
        assert_eq!(json!([gone["action"], gone["mode"], gone["oid"], gone["size"]]), json!(["deleted", null, null, 0]));
    }

    /// Goal: a discard with a condition takes what its caller saw, or nothing. Method: two devices save, and the first one discards.
    async fn conditional_discard(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "head").await.ok(200);
        let all = format!("/pending/{project}/{user}");
        let url = format!("{all}/f");
        let discard = async |name: &str, value: &str| d.send(d.request("DELETE", &url).header(name, value)).await;
        let head = blob_oid(b"head");
        discard("If-Match", &tag(&head)).await.problem(404, "nothing_pending");
        let one = d.put(&url, "one").await.ok(201);
        let two = d.put(&url, "two").await.ok(200);
        let stale = discard("If-Match", &tag(text(&one["oid"]))).await.problem(412, "precondition_failed");
        assert_eq!((&stale["oid"], &stale["revision"]), (&two["oid"], &json!(2)));
        discard("If-None-Match", "*").await.problem(412, "precondition_failed");
        discard("If-Match", text(&two["oid"])).await.problem(400, "bad_header");
        for name in ["If-Match", "If-None-Match"] {
            d.send(d.request("DELETE", &all).header(name, "*")).await.problem(400, "bad_header");
        }
        assert_eq!(d.get(&url).await.text(), "two");
        assert_eq!(discard("If-Match", &tag(text(&two["oid"]))).await.ok(200), json!({"revision": 3, "dropped": 1}));
        // What is pending as deleted is no file.
        d.put(&format!("{url}?action=deleted"), "").await.ok(201);
        let gone = discard("If-Match", "*").await.problem(412, "precondition_failed");
        assert_eq!(gone["oid"], Value::Null);
        assert_eq!(discard("If-None-Match", "*").await.ok(200)["dropped"], 1);
        // A change of mode alone has the content that the branch has by now.
        d.put(&format!("{url}?mode=100755"), "head").await.ok(201);
        d.put(&format!("/files/{project}/f"), "later").await.ok(200);
        let stale = discard("If-Match", &tag(&head)).await.problem(412, "precondition_failed");
        assert_eq!(stale["oid"], json!(blob_oid(b"later")));
        assert_eq!(discard("If-Match", &tag(&blob_oid(b"later"))).await.ok(200)["dropped"], 1);
    }

    /// Goal: a deletion is pending work: gone from the view, told apart from nothing, dropped and committed like an edit.
    async fn deletion(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/dir/f"), "f").await.ok(200);
        d.put(&format!("/files/{project}/keep"), "k").await.ok(200);
        let url = format!("/pending/{project}/{user}/dir/f");
        let body = d.put(&format!("{url}?action=deleted"), "bytes").await;
        body.problem(400, "bad_parameter");
        d.put(&format!("{url}?action=removed"), "").await.problem(400, "bad_parameter");
        d.put(&format!("/pending/{project}/{user}/none?action=deleted"), "").await.problem(404, "file_not_found");
        d.put(&format!("/pending/{project}/{user}/dir?action=deleted"), "").await.problem(404, "file_not_found");
        d.put(&format!("{url}?action=deleted"), "").await.ok(201);
        d.get(&url).await.problem(404, "pending_deletion");
        d.get(&format!("/files/{project}/dir/f?user={user}")).await.problem(404, "pending_deletion");
        assert_eq!(d.get(&format!("/files/{project}/dir/f")).await.text(), "f");
        let dropped = d.delete(&url).await.ok(200);
        assert_eq!((&dropped["dropped"], &dropped["revision"]), (&json!(1), &json!(2)));
        d.delete(&url).await.problem(404, "nothing_pending");
        assert_eq!(d.get(&format!("/files/{project}/dir/f?user={user}")).await.text(), "f");
        // A file that only pending work has is gone without a trace.
        d.put(&format!("/pending/{project}/{user}/new"), "n").await.ok(201);
        let gone = d.put(&format!("/pending/{project}/{user}/new?action=deleted"), "").await.ok(200);
        assert_eq!((&gone["action"], &gone["revision"]), (&json!("none"), &json!(4)));
        d.put(&format!("{url}?action=deleted"), "").await.ok(201);
        let commit = json!({"user": user, "message": "Delete", "author": {"name": "A", "email": "a@example.org"}});
        let made = d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        assert_eq!(made["files"], json!([{"path": "dir/f", "action": "deleted", "oid": null}]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.git().run(["ls-tree", "-r", "--name-only", "main"]), "keep");
    }

    /// Goal: a write that equals the head takes the row away, whatever stood there; revisions go on.
    async fn equal_to_the_head(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let made = d.put(&format!("/files/{project}/f"), "head").await.ok(200);
        let url = format!("/pending/{project}/{user}/f");
        let none = d.put(&url, "head").await.ok(200);
        let head = blob_oid(b"head");
        assert_eq!(none, json!({"path": "f", "action": "none", "mode": "100644", "oid": head, "size": 4, "base_oid": head,
            "revision": 0}));
        assert_eq!(probe::count(&d, "workspaces", project).await, 0, "nothing was written");
        d.put(&url, "edit").await.ok(201);
        let back = d.put(&url, "head").await.ok(200);
        assert_eq!((&back["action"], &back["revision"]), (&json!("none"), &json!(2)));
        assert_eq!(d.get(&format!("/pending/{project}/{user}")).await.ok(200)["changes"], json!([]));
        let mode = d.put(&format!("{url}?mode=100755"), "head").await.ok(201);
        assert_eq!((&mode["action"], &mode["mode"], &mode["revision"]), (&json!("modified"), &json!("100755"), &json!(3)));
        d.put(&format!("{url}?mode=100644"), "head").await.ok(200);
        d.put(&format!("{url}?action=deleted"), "").await.ok(201);
        assert_eq!(d.put(&url, "head").await.ok(200)["action"], "none");
        let commit = json!({"user": user, "message": "M", "author": {"name": "A", "email": "a@example.org"}});
        d.post(&format!("/projects/{project}/commit"), commit).await.problem(422, "nothing_to_commit");
        assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], made["commit"]);
    }

    /// Goal: the last write wins, and what it replaced or what was dropped stays in local history.
    async fn local_history(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let url = format!("/pending/{project}/{user}");
        for content in ["one", "two", "two", "three"] {
            d.put(&format!("{url}/f"), content).await;
        }
        d.put(&format!("{url}/g"), "other").await.ok(201);
        let kept = |n: u64, content: &[u8]| format!("{n} {}", blob_oid(content));
        assert_eq!(history(&d, project).await, [kept(1, b"one"), kept(2, b"two")]);
        assert_eq!(d.get(&format!("{url}/f")).await.text(), "three");
        d.delete(&format!("{url}/f")).await.ok(200);
        let dropped = d.delete(&url).await.ok(200);
        assert_eq!((&dropped["dropped"], &dropped["revision"]), (&json!(1), &json!(6)));
        let all = [kept(1, b"one"), kept(2, b"two"), kept(3, b"three"), kept(4, b"other")];
        assert_eq!(history(&d, project).await, all);
        assert_eq!(d.delete(&url).await.ok(200), json!({"revision": 6, "dropped": 0}));
        // The replaced bytes are there too, to be read by those who had them.
        for content in [&b"one"[..], b"two", b"three", b"other"] {
            let oid = blob_oid(content);
            let sql = format!("SELECT {} FROM pending_contents WHERE project = {}", probe::hex(&d, "oid"), probe::uuid(&d, project));
            assert!(probe::rows(&d, sql).await.contains(&oid), "{oid}");
        }
    }

    /// Goal: `base` says where an edit started: it is kept, and the head's oid as base resolves a conflict.
    async fn base(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "v1\n").await.ok(200);
        let (v1, v2) = (blob_oid(b"v1\n"), blob_oid(b"v2\n"));
        let url = format!("/pending/{project}/{user}/f");
        assert_eq!(d.put(&url, "mine\n").await.ok(201)["base_oid"], json!(v1));
        d.put(&format!("/files/{project}/f"), "v2\n").await.ok(200);
        assert_eq!(d.put(&url, "mine too\n").await.ok(200)["base_oid"], json!(v1), "the row's base stays");
        let state = async || {
            let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
            json!([status["changes"][0]["state"], status["changes"][0]["base_oid"], status["changes"][0]["head_oid"]])
        };
        assert_eq!(state().await, json!(["conflict", v1, v2]));
        let commit = json!({"user": user, "message": "M", "author": {"name": "A", "email": "a@example.org"}});
        let refused = d.post(&format!("/projects/{project}/commit"), commit.clone()).await.problem(409, "conflict");
        let ours = blob_oid(b"mine too\n");
        assert_eq!(refused["conflicts"], json!([{"path": "f", "base": v1, "ours": ours, "theirs": v2}]));
        assert_eq!(d.get(&url).await.text(), "mine too\n");
        d.put(&format!("{url}?base={}", blob_oid(b"unknown")), "x").await.problem(422, "unknown_base");
        d.put(&format!("{url}?base=xyz"), "x").await.problem(400, "bad_oid");
        // The same bytes with another base are a change.
        let solved = d.put(&format!("{url}?base={v2}"), "mine too\n").await.ok(200);
        assert_eq!((&solved["base_oid"], &solved["revision"]), (&json!(v2), &json!(3)));
        assert_eq!(state().await, json!(["clean", v2, v2]));
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.cat_file("main:f"), b"mine too\n");
    }

    /// Goal: half of a rename that is dropped leaves a view that no tree can have; the commit says so and nothing is lost.
    async fn half_a_change(d) {
        let project = d.local_project().await;
        let commit = |user: Uuid| json!({"user": user, "message": "M", "author": {"name": "A", "email": "a@example.org"}});
        for path in ["a", "Name"] {
            d.put(&format!("/files/{project}/{path}"), "old").await.ok(200);
        }
        let head = d.get(&format!("/projects/{project}")).await.ok(200)["head"].clone();
        for (old, new, code) in [("a", "a/b", "path_conflict"), ("Name", "name", "bad_path")] {
            let user = Uuid::new_v4();
            let url = format!("/pending/{project}/{user}");
            d.put(&format!("{url}/{old}?action=deleted"), "").await.ok(201);
            d.put(&format!("{url}/{new}"), "new").await.ok(201);
            d.delete(&format!("{url}/{old}")).await.ok(200);
            d.post(&format!("/projects/{project}/commit"), commit(user)).await.problem(422, code);
            assert_eq!(d.get(&format!("{url}/{new}")).await.text(), "new");
            assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], head);
            // The new name stays editable, and with the old one gone again the change is whole.
            d.put(&format!("{url}/{new}"), "newer").await.ok(200);
            d.put(&format!("{url}/{old}?action=deleted"), "").await.ok(201);
            let dry = {
                let mut body = commit(user);
                body["dry_run"] = json!(true);
                body
            };
            d.post(&format!("/projects/{project}/commit"), dry).await.ok(200);
        }
    }

    /// Goal: workspaces of users and branches are apart, each with a revision of its own.
    async fn workspaces(d) {
        let project = d.local_project().await;
        let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
        let made = d.put(&format!("/files/{project}/f"), "head").await.ok(200);
        let create = d.request("PUT", &format!("/projects/{project}/refs/heads/topic"));
        d.send(crate::deployment::json_body(create, &json!({"oid": made["commit"]}))).await.ok(201);
        let on = |user: Uuid, branch: &str| format!("/pending/{project}/{user}/f?branch={branch}");
        assert_eq!(d.put(&on(user, "main"), "1").await.ok(201)["revision"], 1);
        assert_eq!(d.put(&on(user, "topic"), "2").await.ok(201)["revision"], 1);
        assert_eq!(d.put(&on(other, "main"), "3").await.ok(201)["revision"], 1);
        assert_eq!(d.put(&format!("/pending/{project}/{user}/f"), "4").await.ok(200)["revision"], 2);
        for (user, branch, content) in [(user, "main", "4"), (user, "topic", "2"), (other, "main", "3")] {
            assert_eq!(d.get(&on(user, branch)).await.text(), content);
            assert_eq!(d.get(&format!("/files/{project}/f?user={user}&ref={branch}")).await.text(), content);
        }
        d.put(&on(user, "none"), "x").await.problem(404, "ref_not_found");
        d.get(&format!("/files/{project}/f?user={other}&ref=none")).await.problem(404, "ref_not_found");
        assert_eq!(d.delete(&format!("/pending/{project}/{user}?branch=topic")).await.ok(200)["dropped"], 1);
        assert_eq!(d.get(&on(user, "main")).await.text(), "4");
        assert_eq!(d.get(&on(user, "topic")).await.status, 404);
    }

    /// Goal: content over 100,000 bytes goes to the bucket, before its row; smaller content does not; both are read and committed.
    async fn large_content(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let large: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (edge, over) = (vec![b'e'; 100_000], vec![b'o'; 100_001]);
        for (path, bytes, stored) in [("large", &large, true), ("edge", &edge, false), ("over", &over, true)] {
            let url = format!("/pending/{project}/{user}/{path}");
            let saved = d.put(&url, bytes.clone()).await.ok(201);
            assert_eq!((&saved["oid"], &saved["size"]), (&json!(blob_oid(bytes)), &json!(bytes.len())));
            assert_eq!(probe::in_bucket(&d, &blob_oid(bytes)).await, stored, "{path}");
            let sql = format!("SELECT CAST(content IS NULL AS text) FROM pending_contents WHERE project = {} AND {} = '{}'",
                probe::uuid(&d, project), probe::hex(&d, "oid"), blob_oid(bytes));
            let in_bucket = probe::rows(&d, sql).await;
            assert_eq!(in_bucket.len(), 1);
            assert_eq!(["1", "true"].contains(&in_bucket[0].as_str()), stored, "{path}");
            assert!(d.get(&url).await.body == *bytes && d.get(&format!("/files/{project}/{path}?user={user}")).await.body == *bytes);
            let part = d.send(d.request("GET", &url).header("Range", "bytes=99990-")).await;
            assert!(part.body == bytes[99_990..]);
        }
        // Replaced, and written again: the same object is good again.
        let url = format!("/pending/{project}/{user}/large");
        d.put(&url, "small").await.ok(200);
        d.put(&url, large.clone()).await.ok(200);
        let commit = json!({"user": user, "message": "Large", "author": {"name": "A", "email": "a@example.org"}});
        let made = d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        assert_eq!((made["files"].as_array().map(Vec::len), &made["objects"]), (Some(3), &json!(5)));
        assert!(d.get(&format!("/files/{project}/large")).await.body == large);
        let (_dir, export) = d.export(project).await;
        assert!(export.cat_file("main:large") == large && export.cat_file("main:edge") == edge);
    }

    /// Goal: saves that arrive together get revisions without gap or repeat, and one `If-Match` wins.
    async fn concurrent_saves(d) {
        let d = Arc::new(d);
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "head").await.ok(200);
        let url = format!("/pending/{project}/{user}/f");
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..20 {
            let (d, url) = (d.clone(), url.clone());
            tasks.spawn(async move { (n, d.put(&url, format!("save {n}")).await) });
        }
        let mut revisions = BTreeSet::new();
        let mut last = (0, 0);
        while let Some(done) = tasks.join_next().await {
            let (n, reply) = done.expect("a task");
            assert!([200, 201].contains(&reply.status), "{}", reply.text());
            let revision = reply.ok(reply.status)["revision"].as_u64().expect("a revision");
            assert!(revisions.insert(revision), "revision {revision} was given twice");
            last = last.max((revision, n));
        }
        assert_eq!(revisions, (1..=20).collect());
        assert_eq!(d.get(&url).await.text(), format!("save {}", last.1));
        assert_eq!(history(&d, project).await.len(), 19);
        // Twenty devices that saw the same version: one wins.
        let seen = tag(&blob_oid(format!("save {}", last.1).as_bytes()));
        for n in 0..20 {
            let (d, url, seen) = (d.clone(), url.clone(), seen.clone());
            tasks.spawn(async move {
                (n, d.send(d.request("PUT", &url).header("If-Match", seen).body(format!("device {n}"))).await)
            });
        }
        let mut winners = Vec::new();
        while let Some(done) = tasks.join_next().await {
            let (n, reply) = done.expect("a task");
            match reply.status {
                200 => winners.push(n),
                412 => _ = reply.problem(412, "precondition_failed"),
                other => panic!("{other}: {}", reply.text()),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(d.get(&url).await.text(), format!("device {}", winners[0]));
        let list = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
        assert_eq!(list["revision"], json!(21));
    }

    /// Goal: two creations that cannot both be are not both taken, whichever comes first.
    async fn concurrent_conflict(d) {
        let d = Arc::new(d);
        let project = d.local_project().await;
        let rounds = if d.setup == Setup::Embedded { 20 } else { 10 };
        for _ in 0..rounds {
            let user = Uuid::new_v4();
            let save = |path: &str| {
                let (d, url) = (d.clone(), format!("/pending/{project}/{user}/{path}"));
                tokio::spawn(async move { d.put(&url, "x").await })
            };
            for (one, two, code) in [("a", "a/b", "path_conflict"), ("Case", "case", "bad_path")] {
                let (one, two) = (save(one), save(two));
                let (one, two) = (one.await.expect("a task"), two.await.expect("a task"));
                let mut statuses = [one.status, two.status];
                statuses.sort_unstable();
                assert_eq!(statuses, [201, 422], "{} {}", one.text(), two.text());
                if one.status == 422 { one.problem(422, code) } else { two.problem(422, code) };
            }
            let list = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
            assert_eq!((list["changes"].as_array().map(Vec::len), &list["revision"]), (Some(2), &json!(2)));
        }
    }
}
