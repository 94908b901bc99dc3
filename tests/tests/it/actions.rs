//! Commits with actions, and of one file: each action's rules, conditions, and what stays as it was.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};
use crate::remote_tools::*;

/// Mode and oid of a path at the project's head, from an export.
async fn entry(d: &Deployment, project: Uuid, path: &str) -> Option<(String, String)> {
    let (_dir, export) = d.export(project).await;
    let found = export.ls_tree("main").into_iter().find(|line| line.path == path.as_bytes());
    found.map(|line| (line.mode, line.oid))
}

fn entry_of(mode: &str, content: &str) -> Option<(String, String)> {
    Some((mode.to_owned(), blob_oid(content.as_bytes())))
}

both! {
    /// Goal: all five actions in one commit, pushed once; modes and symlinks stay as they are unless told otherwise.
    async fn all_five(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        d.git.reset_requests();
        let answer = actions(&d, project, json!([
            {"action": "create", "path": "new/file.txt", "content": "new\n"},
            {"action": "create", "path": "new/bytes", "content": "AP8=", "encoding": "base64"},
            {"action": "update", "path": "run.sh", "content": "#!/bin/sh\nexit 1\n", "expected_oid": blob_oid(b"#!/bin/sh\n")},
            {"action": "update", "path": "link", "content": "dir/a.txt"},
            {"action": "delete", "path": "dir/b.txt"},
            {"action": "move", "from": "dir/a.txt", "path": "moved/a.txt"},
            {"action": "chmod", "path": "text.txt", "mode": "100755"},
        ])).await.ok(200);
        assert_eq!(answer["pushed"], json!(true));
        assert_eq!(pushes(&d).len(), 1);
        assert_eq!(json!(remote.head()), answer["commit"]);
        remote.bare.fsck_strict();
        let tree: Vec<(String, String)> = remote
            .bare
            .ls_tree("main")
            .into_iter()
            .map(|line| (format!("{} {}", line.mode, String::from_utf8(line.path).expect("UTF-8")), line.oid))
            .collect();
        let expected: Vec<(String, String)> = [
            ("120000 link", &b"dir/a.txt"[..]), ("100644 moved/a.txt", b"a\n"), ("100644 new/bytes", b"\0\xff"),
            ("100644 new/file.txt", b"new\n"), ("100755 run.sh", b"#!/bin/sh\nexit 1\n"), ("100755 text.txt", TEXT.as_bytes()),
        ].into_iter().map(|(name, content)| (name.to_owned(), blob_oid(content))).collect();
        assert_eq!(tree, expected);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main"), remote.head());
    }

    /// Goal: what does not hold refuses the whole commit, says which path, and asks nobody.
    async fn refusals(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let (before, there) = (head(&d, project).await, remote.head());
        d.git.reset_requests();
        let wrong = "1".repeat(40);
        let good = json!({"action": "create", "path": "good.txt", "content": "x"});
        let cases = [
            (json!({"action": "create", "path": "text.txt", "content": "x"}), 422, "file_exists"),
            (json!({"action": "update", "path": "none.txt", "content": "x"}), 422, "file_missing"),
            (json!({"action": "delete", "path": "none.txt"}), 422, "file_missing"),
            (json!({"action": "chmod", "path": "none.txt", "mode": "100755"}), 422, "file_missing"),
            (json!({"action": "move", "path": "x.txt", "from": "none.txt"}), 422, "file_missing"),
            (json!({"action": "move", "path": "dir/a.txt", "from": "dir/b.txt"}), 422, "file_exists"),
            (json!({"action": "move", "path": "x.txt"}), 422, "bad_action"),
            (json!({"action": "create", "path": "x.txt"}), 422, "bad_action"),
            (json!({"action": "chmod", "path": "text.txt"}), 422, "bad_action"),
            (json!({"action": "create", "path": "good.txt", "content": "y"}), 422, "duplicate_path"),
            (json!({"action": "create", "path": "x", "content": "!", "encoding": "base64"}), 422, "bad_content"),
            (json!({"action": "update", "path": "text.txt", "content": "x", "expected_oid": wrong}), 412, "precondition_failed"),
            (json!({"action": "delete", "path": "text.txt", "expected_oid": wrong}), 412, "precondition_failed"),
            (json!({"action": "move", "path": "y", "from": "text.txt", "expected_oid": wrong}), 412, "precondition_failed"),
            (json!({"action": "create", "path": "a/../b", "content": "x"}), 422, "bad_path"),
            (json!({"action": "create", "path": "TEXT.txt", "content": "x"}), 422, "bad_path"),
            (json!({"action": "create", "path": "dir", "content": "x"}), 422, "path_conflict"),
        ];
        for (action, status, code) in cases {
            let reply = actions(&d, project, json!([good, action])).await;
            assert_eq!((reply.status, reply.ok(reply.status)["code"].as_str()), (status, Some(code)), "{action}");
        }
        actions(&d, project, json!([])).await.problem(422, "nothing_to_commit");
        let same = json!([{"action": "update", "path": "text.txt", "content": TEXT}]);
        actions(&d, project, same).await.problem(422, "nothing_to_commit");
        assert_eq!(d.git.requests(), []);
        assert_eq!((head(&d, project).await, remote.head()), (before, there));
        assert_eq!(number(&d, "SELECT count(*) FROM attempts").await, 0);
    }

    /// Goal: PUT and DELETE of a file are commits of one file, not pushed, under the caller's conditions.
    async fn one_file(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let there = remote.head();
        let url = format!("/files/{project}/dir/a.txt");
        let wrong = format!("\"{}\"", "1".repeat(40));
        let right = format!("\"{}\"", blob_oid(b"a\n"));
        let stale = d.send(d.request("PUT", &url).header("If-Match", &wrong).body("x\n")).await;
        assert_eq!(stale.problem(412, "precondition_failed")["oid"], json!(blob_oid(b"a\n")));
        d.send(d.request("PUT", &url).header("If-None-Match", "*").body("x\n")).await.problem(412, "precondition_failed");
        d.send(d.request("DELETE", &url).header("If-Match", &wrong)).await.problem(412, "precondition_failed");
        assert_eq!(head(&d, project).await, there);
        d.git.reset_requests();
        let put = d.send(d.request("PUT", &url).header("If-Match", &right).body("x\n")).await;
        let answer = put.ok(200);
        assert_eq!(put.header("etag"), format!("\"{}\"", blob_oid(b"x\n")));
        assert_eq!((&answer["pushed"], &answer["parents"]), (&json!(false), &json!([there])));
        d.put(&format!("/files/{project}/run.sh"), "#!/bin/sh\nexit 2\n").await.ok(200);
        assert_eq!(entry(&d, project, "run.sh").await, entry_of("100755", "#!/bin/sh\nexit 2\n"));
        d.put(&format!("/files/{project}/run.sh?mode=100644"), "#!/bin/sh\nexit 2\n").await.ok(200);
        assert_eq!(entry(&d, project, "run.sh").await, entry_of("100644", "#!/bin/sh\nexit 2\n"));
        let named = format!("{url}?message=Gone&author_name=Bob&author_email=bob%40example.org");
        d.delete(&named).await.ok(200);
        assert_eq!(entry(&d, project, "dir/a.txt").await, None);
        d.delete(&url).await.problem(404, "file_not_found");
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.git().run(["log", "-1", "--format=%s|%an|%ae", "main"]), "Gone|Bob|bob@example.org");
        assert_eq!(export.git().run(["log", "-1", "--format=%an|%ae", "main~1"]), "Treehold|treehold@localhost");
        // Other contents, the same key: refused.
        let keyed = |body: &'static str, query: &str| {
            d.request("PUT", &format!("/files/{project}/k.txt{query}")).header("Idempotency-Key", "k").body(body)
        };
        let first = d.send(keyed("k\n", "")).await.ok(200);
        assert_eq!(d.send(keyed("k\n", "")).await.ok(200), first);
        d.send(keyed("l\n", "")).await.problem(422, "idempotency_key_reused");
        d.send(keyed("k\n", "?mode=100755")).await.problem(422, "idempotency_key_reused");
        assert_eq!(d.git.requests(), []);
        assert_eq!(remote.head(), there);
        let user = Uuid::new_v4();
        let shown: Value = status(&d, project, user).await;
        assert_eq!(shown["ahead"], json!(5));
    }
}
