//! Several writes at once: what they do, what they refuse, and what becomes of a client that was away.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, blob_oid, json_body};

async fn keyed(d: &Deployment, url: &str, key: &str, body: &Value) -> Reply {
    d.send(json_body(d.request("POST", url).header("Idempotency-Key", key), body)).await
}

fn statuses(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().expect("results");
    results.iter().map(|result| result["status"].as_str().expect("a status")).collect()
}

async fn text(d: &Deployment, project: Uuid, user: Uuid, path: &str) -> String {
    let reply = d.get(&format!("/files/{project}/{path}?user={user}")).await;
    if reply.status == 200 { reply.text() } else { reply.status.to_string() }
}

both! {
    /// Goal: every verb does what it says, later ones see what earlier ones did, and the answer is what is pending then.
    async fn every_verb(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        for (path, content) in [("edit.txt", "one\ntwo\nthree\n"), ("patch.txt", "a\nb\nc\n"), ("move.txt", "m"), ("gone", "g"),
            ("run.sh", "#!")] {
            d.put(&format!("/files/{project}/{path}"), content).await.ok(200);
        }
        let url = format!("/pending/{project}/{user}");
        let ops = json!([
            {"op": "put", "path": "new/a.txt", "content": "aGk=", "encoding": "base64"},
            {"op": "edit", "path": "edit.txt", "old_string": "two", "new_string": "2", "expected_oid": blob_oid(b"one\ntwo\nthree\n")},
            {"op": "patch", "path": "patch.txt", "diff": "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
            {"op": "move", "from": "move.txt", "path": "new/moved.txt"},
            {"op": "edit", "path": "new/moved.txt", "old_string": "m", "new_string": "moved"},
            {"op": "delete", "path": "gone"},
            {"op": "chmod", "path": "run.sh", "mode": "100755"},
            {"op": "put", "path": "null", "content": "n", "expected_oid": null},
        ]);
        let answer = d.post(&url, json!({"ops": ops})).await.ok(200);
        assert_eq!(statuses(&answer), ["applied"; 8]);
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results[1], json!({"path": "edit.txt", "status": "applied", "oid": blob_oid(b"one\n2\nthree\n"), "size": 12,
            "mode": "100644", "base_oid": blob_oid(b"one\ntwo\nthree\n"), "revision": 2}));
        assert_eq!(results[5]["oid"], Value::Null);
        assert_eq!((&results[6]["mode"], &results[6]["oid"]), (&json!("100755"), &json!(blob_oid(b"#!"))));
        let list = d.get(&url).await.ok(200);
        assert_eq!(list["revision"], answer["revision"]);
        let shown: Vec<_> = list["changes"].as_array().expect("changes").iter()
            .map(|change| (change["path"].as_str().expect("a path"), change["action"].as_str().expect("an action"))).collect();
        assert_eq!(shown, [("edit.txt", "modified"), ("gone", "deleted"), ("move.txt", "deleted"), ("new/a.txt", "created"),
            ("new/moved.txt", "created"), ("null", "created"), ("patch.txt", "modified"), ("run.sh", "modified")]);
        for (path, content) in [("edit.txt", "one\n2\nthree\n"), ("patch.txt", "a\nB\nc\n"), ("new/a.txt", "hi"),
            ("new/moved.txt", "moved"), ("gone", "404"), ("run.sh", "#!")] {
            assert_eq!(text(&d, project, user, path).await, content, "{path}");
        }
        let commit = d.post(&format!("/projects/{project}/commit"),
            json!({"user": user, "message": "all", "author": {"name": "A", "email": "a@example.org"}})).await.ok(200);
        assert_eq!(commit["files"].as_array().map(Vec::len), Some(8));
        assert_eq!(d.get(&format!("/files/{project}/new/moved.txt")).await.text(), "moved");
        let (_dir, repo) = d.export(project).await;
        repo.fsck_strict();
        assert_eq!(d.get(&url).await.ok(200)["changes"], json!([]));
    }

    /// Goal: an atomic batch that cannot be done whole changes nothing and says which operation is at fault and why.
    async fn all_or_nothing(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "a a").await.ok(200);
        let url = format!("/pending/{project}/{user}");
        let good = json!({"op": "put", "path": "good", "content": "x"});
        for (op, status, code, inner) in [
            (json!({"op": "edit", "path": "f", "old_string": "a", "new_string": "b"}), 422, "batch_failed", "ambiguous_match"),
            (json!({"op": "edit", "path": "f", "old_string": "z", "new_string": "b"}), 422, "batch_failed", "no_match"),
            (json!({"op": "patch", "path": "f", "diff": "@@ -1 +1 @@\n-z\n+y\n"}), 422, "batch_failed", "patch_failed"),
            (json!({"op": "patch", "path": "f", "diff": "nonsense"}), 422, "batch_failed", "bad_diff"),
            (json!({"op": "put", "path": "f", "content": "x", "expected_oid": blob_oid(b"z")}), 412, "precondition_failed",
                "precondition_failed"),
            (json!({"op": "put", "path": "f", "content": "x", "expected_oid": null}), 412, "precondition_failed",
                "precondition_failed"),
            (json!({"op": "put", "path": "f", "content": "x", "base": "00".repeat(20)}), 422, "batch_failed", "unknown_base"),
            (json!({"op": "put", "path": "f/below", "content": "x"}), 422, "batch_failed", "path_conflict"),
            (json!({"op": "put", "path": "F", "content": "x"}), 422, "batch_failed", "bad_path"),
            (json!({"op": "put", "path": "good/below", "content": "x"}), 422, "batch_failed", "path_conflict"),
            (json!({"op": "put", "path": ".git/config", "content": "x"}), 422, "batch_failed", "bad_path"),
            (json!({"op": "put", "path": "x", "content": "%", "encoding": "base64"}), 422, "batch_failed", "bad_content"),
            (json!({"op": "put", "path": "x"}), 422, "batch_failed", "bad_op"),
            (json!({"op": "delete", "path": "f", "content": "x"}), 422, "batch_failed", "bad_op"),
            (json!({"op": "delete", "path": "none"}), 422, "batch_failed", "file_not_found"),
            (json!({"op": "chmod", "path": "none", "mode": "100755"}), 422, "batch_failed", "file_not_found"),
            (json!({"op": "move", "from": "f", "path": "good"}), 422, "batch_failed", "file_exists"),
            (json!({"op": "put", "path": "link", "mode": "120000", "content": "/etc/passwd"}), 422, "batch_failed", "bad_path"),
        ] {
            let problem = d.post(&url, json!({"ops": [good, op, {"op": "put", "path": "last", "content": "x"}]})).await.problem(status, code);
            assert_eq!(problem["error"]["code"], inner, "{op}: {problem}");
            assert_eq!(problem["index"], 1, "{op}");
            assert_eq!(statuses(&problem), ["not_applied", "failed", "not_applied"], "{op}");
        }
        let problem = d.post(&url, json!({"ops": [{"op": "edit", "path": "f", "old_string": "a", "new_string": "b"}]})).await;
        assert_eq!(problem.problem(422, "batch_failed")["error"]["occurrences"], 2);
        let list = d.get(&url).await.ok(200);
        assert_eq!((&list["revision"], &list["changes"]), (&json!(0), &json!([])), "nothing was written");
        // Shapes are refused as a whole, before anything is looked at.
        d.post(&url, json!({"ops": [{"op": "explode", "path": "f"}]})).await.problem(422, "bad_shape");
        d.post(&url, json!({"ops": [{"op": "put", "path": "f", "what": 1}]})).await.problem(422, "bad_shape");
        d.post(&url, json!({"ops": vec![json!({"op": "delete", "path": "x"}); 10_001]})).await.problem(413, "too_large");
        d.post(&format!("{url}?branch=none"), json!({"ops": [good]})).await.problem(404, "ref_not_found");
        d.post(&format!("/pending/{}/{user}", Uuid::new_v4()), json!({"ops": []})).await.problem(404, "project_not_found");
    }

    /// Goal: item by item, each operation has its own result; two that cannot both be do not take the others with them.
    async fn each_for_itself(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "f").await.ok(200);
        let url = format!("/pending/{project}/{user}");
        let answer = d.post(&url, json!({"atomic": false, "ops": [
            {"op": "put", "path": "a", "content": "1"},
            {"op": "put", "path": "a/b", "content": "2"},
            {"op": "move", "from": "f", "path": "A"},
            {"op": "edit", "path": "f", "old_string": "none", "new_string": "x"},
            {"op": "put", "path": "f", "content": "f"},
            {"op": "move", "from": "f", "path": "c"},
            {"op": "delete", "path": "f"},
        ]})).await.ok(200);
        assert_eq!(statuses(&answer), ["applied", "failed", "failed", "failed", "duplicate", "applied", "duplicate"]);
        let codes: Vec<_> = answer["results"].as_array().expect("results").iter().map(|r| r["error"]["code"].clone()).collect();
        assert_eq!(codes[1..4], [json!("path_conflict"), json!("bad_path"), json!("no_match")]);
        let paths: Vec<_> = d.get(&url).await.ok(200)["changes"].as_array().expect("changes").iter()
            .map(|change| change["path"].as_str().expect("a path").to_owned()).collect();
        assert_eq!(paths, ["a", "c", "f"]);
    }

    /// Goal: a device that was away replays its edits, and each is applied, merged, a duplicate or a conflict whose both texts are kept;
    /// nothing of the other device is overwritten.
    async fn offline_replay(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let lines = |change: &[(usize, &str)]| {
            let line = |n: usize| change.iter().find(|(at, _)| *at == n).map_or(format!("line {n}\n"), |(_, text)| format!("{text}\n"));
            (0..9).map(line).collect::<String>()
        };
        let base = lines(&[]);
        for path in ["merged", "conflict", "same", "calm", "edited", "patched"] {
            d.put(&format!("/files/{project}/{path}"), base.clone()).await.ok(200);
        }
        let url = format!("/pending/{project}/{user}");
        // The other device, online.
        let theirs = lines(&[(1, "theirs")]);
        for path in ["merged", "conflict", "edited", "patched"] {
            d.put(&format!("{url}/{path}"), theirs.clone()).await.ok(201);
        }
        d.put(&format!("{url}/same"), lines(&[(7, "both")])).await.ok(201);
        let seen = blob_oid(base.as_bytes());
        let ours = lines(&[(1, "ours")]);
        let diff = "@@ -6,3 +6,3 @@\n line 5\n-line 6\n+patched\n line 7\n";
        let put = |path: &str, content: &str| json!({"op": "put", "path": path, "content": content, "base": seen});
        let ops = json!([
            put("merged", &lines(&[(7, "ours")])),
            put("conflict", &ours),
            put("same", &lines(&[(7, "both")])),
            put("calm", &lines(&[(3, "ours")])),
            {"op": "edit", "path": "edited", "old_string": "line 8", "new_string": "edited", "base": seen},
            {"op": "patch", "path": "patched", "diff": diff, "base": seen},
            {"op": "put", "path": "fresh", "content": "new", "expected_oid": null},
        ]);
        let body = json!({"atomic": false, "on_conflict": "merge", "base_revision": 0, "ops": ops});
        let answer = keyed(&d, &url, "replay-1", &body).await.ok(200);
        assert_eq!(statuses(&answer), ["merged", "conflict", "duplicate", "applied", "merged", "merged", "applied"]);
        for (path, content) in [
            ("merged", lines(&[(1, "theirs"), (7, "ours")])),
            ("conflict", theirs.clone()),
            ("same", lines(&[(7, "both")])),
            ("calm", lines(&[(3, "ours")])),
            ("edited", lines(&[(1, "theirs"), (8, "edited")])),
            ("patched", lines(&[(1, "theirs"), (6, "patched")])),
        ] {
            assert_eq!(text(&d, project, user, path).await, content, "{path}");
        }
        let conflict = &answer["results"][1]["error"]["conflict"];
        assert_eq!((&conflict["base"], &conflict["ours"], &conflict["theirs"]),
            (&json!(seen), &json!(blob_oid(ours.as_bytes())), &json!(blob_oid(theirs.as_bytes()))));
        let version = conflict["version"].as_str().expect("a version");
        assert_eq!(d.get(&format!("/projects/{project}/history/{version}?user={user}")).await.text(), ours);
        for oid in ["base", "ours", "theirs"] {
            let blob = conflict[oid].as_str().expect("an oid");
            assert_eq!(d.get(&format!("/projects/{project}/git/blobs/{blob}")).await.status, 200, "{oid}");
        }
        // The answer did not arrive: the same request again has the same answer, and does nothing.
        let before = d.get(&url).await.ok(200);
        assert_eq!(keyed(&d, &url, "replay-1", &body).await.ok(200), answer);
        assert_eq!(d.get(&url).await.ok(200), before);
        let other = json!({"ops": [{"op": "put", "path": "x", "content": "y"}]});
        keyed(&d, &url, "replay-1", &other).await.problem(422, "idempotency_key_reused");
        // The user takes the own text after all.
        let restored = d.post(&format!("/projects/{project}/history/{version}/restore?user={user}"), json!({})).await.ok(200);
        assert_eq!(restored["status"], "applied");
        assert_eq!(text(&d, project, user, "conflict").await, ours);
        // Without the wish to merge, what is not as expected fails, and an old revision is no licence to overwrite.
        let refused = d.post(&url, json!({"atomic": false, "base_revision": 0, "ops": [
            put("merged", "mine"), {"op": "put", "path": "merged", "content": "mine"}]})).await.ok(200);
        assert_eq!(statuses(&refused), ["failed", "failed"]);
        assert_eq!(refused["results"][1]["error"]["code"], "precondition_failed");
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        assert!(status["changes"].as_array().expect("changes").iter().all(|change| change["state"] == "clean"), "{status}");
        // Without a user it is about the branch alone.
        let alone = d.get(&format!("/projects/{project}/status")).await.ok(200);
        assert_eq!((&alone["head"], &alone["changes"], &alone["revision"]), (&status["head"], &json!([]), &json!(0)));
    }

    /// Goal: deletions and moves of a device that was away neither lose what changed meanwhile nor fail where they are done already.
    async fn offline_moves(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        for path in ["moved", "deleted", "gone", "mode"] {
            d.put(&format!("/files/{project}/{path}"), "old").await.ok(200);
        }
        let url = format!("/pending/{project}/{user}");
        for path in ["moved", "deleted", "mode"] {
            d.put(&format!("{url}/{path}"), "new").await.ok(201);
        }
        d.put(&format!("{url}/gone?action=deleted"), "").await.ok(201);
        let old = blob_oid(b"old");
        let ops = json!([
            {"op": "move", "from": "moved", "path": "there", "expected_oid": old},
            {"op": "delete", "path": "deleted", "expected_oid": old},
            {"op": "delete", "path": "gone", "expected_oid": old},
            {"op": "chmod", "path": "mode", "mode": "100755", "expected_oid": old},
        ]);
        let answer = d.post(&url, json!({"atomic": false, "on_conflict": "merge", "ops": ops})).await.ok(200);
        assert_eq!(statuses(&answer), ["merged", "conflict", "duplicate", "merged"]);
        assert_eq!(text(&d, project, user, "there").await, "new");
        assert_eq!(text(&d, project, user, "deleted").await, "new");
        let mode = d.get(&format!("{url}/mode")).await;
        assert_eq!((mode.text().as_str(), mode.header("git-mode")), ("new", "100755"));
    }

    /// Goal: large files, a thousand operations and a repeated request at the same time: all is there once.
    async fn many_and_large(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let url = format!("/pending/{project}/{user}");
        let large = "x".repeat(300_000);
        let mut ops: Vec<Value> = (0..1000).map(|n| json!({"op": "put", "path": format!("d{}/f{n}", n % 20), "content": format!("{n}")}))
            .collect();
        ops.push(json!({"op": "put", "path": "large", "content": large}));
        ops.push(json!({"op": "move", "from": "large", "path": "larger"}));
        ops.push(json!({"op": "edit", "path": "larger", "old_string": large, "new_string": format!("{large}!")}));
        let body = json!({"ops": ops});
        let (one, two) = tokio::join!(keyed(&d, &url, "k", &body), keyed(&d, &url, "k", &body));
        assert_eq!(one.ok(200), two.ok(200));
        let list = d.get(&format!("{url}?limit=10000")).await.ok(200);
        assert_eq!((list["changes"].as_array().map(Vec::len), &list["revision"]), (Some(1001), &one.ok(200)["revision"]));
        assert_eq!(d.get(&format!("{url}/larger")).await.body.len(), 300_001);
        assert_eq!(d.get(&format!("{url}/d7/f27")).await.text(), "27");
        let commit = d.post(&format!("/projects/{project}/commit"),
            json!({"user": user, "message": "all", "author": {"name": "A", "email": "a@example.org"}})).await.ok(200);
        assert_eq!(commit["files"].as_array().map(Vec::len), Some(1001));
    }
}
