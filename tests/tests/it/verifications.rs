//! The main job, by the names of its seven verifications: connect, read, autosave, batch read, commit, pull, multi-device.

use serde_json::{Value, json};
use treehold_tests::git_http::Logged;
use uuid::Uuid;

use crate::both;
use crate::deployment::blob_oid;

fn pushes(requests: &[Logged]) -> Vec<&Logged> {
    requests.iter().filter(|r| r.method == "POST" && r.path.ends_with("/git-receive-pack")).collect()
}

both! {
    /// Goal: choosing a repository puts its objects into the bucket and its rows into the database.
    async fn connect(d) {
        let remote = d.remote("docs", 1);
        let project = d.connect("docs").await;
        let head = remote.rev_parse("HEAD");
        let shown = d.get(&format!("/projects/{project}")).await.ok(200);
        assert_eq!(shown["head"], json!(head));
        let list = d.get(&format!("/files/{project}?limit=10000")).await.ok(200);
        assert_eq!(list["commit"], json!(head));
        let expected: Vec<Value> = remote
            .ls_tree("HEAD")
            .into_iter()
            .map(|line| json!([text(&line.path), line.mode, line.oid]))
            .collect();
        let listed = list["files"].as_array().expect("files");
        let listed: Vec<Value> = listed.iter().map(|f| json!([f["path"], f["mode"], f["oid"]])).collect();
        assert_eq!(listed, expected);
        let stats = d.cli(&["admin", "stats", "--json"]).await;
        let stats: Value = serde_json::from_slice(&stats.stdout).expect("JSON");
        assert!(stats["objects"].as_u64().expect("a count") >= expected.len() as u64, "{stats}");
    }

    /// Goal: every file reads back as git has it.
    async fn read(d) {
        let remote = d.remote("docs", 2);
        let project = d.connect("docs").await;
        for line in remote.ls_tree("HEAD").into_iter().filter(|line| line.mode != "160000").step_by(17) {
            let path = format!("/files/{project}/{}", percent(&line.path));
            let reply = d.get(&path).await;
            reply.ok(200);
            assert_eq!(blob_oid(&reply.body), line.oid);
            assert_eq!(reply.header("etag"), format!("\"{}\"", line.oid));
            assert_eq!(reply.header("git-mode"), line.mode);
            assert_eq!(reply.header("git-commit"), remote.rev_parse("HEAD"));
            let again = d.request("GET", &path).header("If-None-Match", format!("\"{}\"", line.oid));
            assert_eq!(d.send(again).await.status, 304);
        }
    }

    /// Goal: an edit is kept, counted and shown in the user's view only.
    async fn autosave(d) {
        d.remote("docs", 3);
        let project = d.connect("docs").await;
        let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
        let path = d.get(&format!("/files/{project}?limit=1")).await.ok(200)["files"][0]["path"].clone();
        let path = percent(path.as_str().expect("a path"));
        let before = d.get(&format!("/files/{project}/{path}")).await.text();
        let mut last = 0;
        for n in 0..5 {
            let saved = d.put(&format!("/pending/{project}/{user}/{path}"), format!("edit {n}\n")).await;
            let saved = saved.ok(if n == 0 { 201 } else { 200 });
            assert_eq!(saved["action"], "modified");
            let revision = saved["revision"].as_i64().expect("a revision");
            assert_eq!(revision, last + 1);
            last = revision;
        }
        assert_eq!(d.get(&format!("/files/{project}/{path}?user={user}")).await.text(), "edit 4\n");
        assert_eq!(d.get(&format!("/files/{project}/{path}?user={other}")).await.text(), before);
        assert_eq!(d.get(&format!("/files/{project}/{path}")).await.text(), before);
        let list = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
        assert_eq!(list["revision"], json!(last));
        assert_eq!(list["changes"].as_array().map(Vec::len), Some(1));
    }

    /// Goal: 100 files at one snapshot in one call, in request order, each as git has it.
    async fn batch_read(d) {
        let remote = d.remote("docs", 4);
        let project = d.connect("docs").await;
        let lines: Vec<_> = remote.ls_tree("HEAD").into_iter().filter(|l| l.mode != "160000").take(100).collect();
        assert_eq!(lines.len(), 100);
        let mut paths: Vec<Value> = lines.iter().map(|line| json!(text(&line.path))).collect();
        paths.insert(50, json!("no/such/file"));
        let read = d.post(&format!("/projects/{project}/read"), json!({"paths": paths})).await.ok(200);
        let mut files = read["files"].as_array().expect("files").clone();
        assert_eq!(files.remove(50)["error"]["code"], "file_not_found");
        for (file, line) in files.iter().zip(&lines) {
            assert_eq!(file["path"], json!(text(&line.path)));
            assert_eq!(file["oid"], json!(line.oid));
            let content = file["content"].as_str().expect("content");
            let content = match file["encoding"].as_str() {
                Some("utf-8") => content.as_bytes().to_vec(),
                _ => {
                    use base64::Engine as _;
                    base64::prelude::BASE64_STANDARD.decode(content).expect("base64")
                }
            };
            assert_eq!(blob_oid(&content), line.oid);
        }
    }

    /// Goal: pending work becomes one commit at the remote by exactly one push, with the oid that git gives it.
    async fn commit(d) {
        let remote = d.remote("docs", 5);
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let head = remote.rev_parse("HEAD");
        let first = remote.ls_tree("HEAD").into_iter().find(|line| line.mode == "100644").expect("a file");
        d.put(&format!("/pending/{project}/{user}/{}", percent(&first.path)), "changed\n").await.ok(201);
        d.put(&format!("/pending/{project}/{user}/new/deep/file.txt"), "new\n").await.ok(201);
        d.git.reset_requests();
        let body = json!({"user": user, "message": "Change two files",
            "author": {"name": "Ann Author", "email": "ann@example.org", "date": "@1700000000 +0200"}});
        let answer = d.post(&format!("/projects/{project}/commit"), body).await.ok(200);
        assert_eq!(answer["pushed"], json!(true));
        let requests = d.git.requests();
        assert_eq!(pushes(&requests).len(), 1, "{requests:?}");
        assert!(requests.iter().all(|r| r.service.as_deref() != Some("git-receive-pack") || r.method == "POST"));
        let commit = answer["commit"].as_str().expect("an oid");
        assert_eq!(remote.rev_parse("HEAD"), commit);
        assert_eq!(remote.rev_parse("HEAD^"), head);
        remote.fsck_strict();

        // The same commit by stock git has the same oid.
        let (_dir, clone) = d.clone_remote("docs");
        clone.git().run(["reset", "--quiet", "--hard", &head]);
        std::fs::write(clone.path().join(text(&first.path)), "changed\n").expect("write");
        std::fs::create_dir_all(clone.path().join("new/deep")).expect("mkdir");
        std::fs::write(clone.path().join("new/deep/file.txt"), "new\n").expect("write");
        let git = clone.git().clone()
            .env("GIT_AUTHOR_NAME", "Ann Author").env("GIT_AUTHOR_EMAIL", "ann@example.org")
            .env("GIT_COMMITTER_NAME", "Ann Author").env("GIT_COMMITTER_EMAIL", "ann@example.org")
            .env("GIT_AUTHOR_DATE", "@1700000000 +0200").env("GIT_COMMITTER_DATE", "@1700000000 +0200");
        git.run(["add", "-A"]);
        git.run(["commit", "--quiet", "-m", "Change two files"]);
        assert_eq!(clone.rev_parse("HEAD"), commit);

        let pending = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
        assert_eq!(pending["changes"], json!([]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("refs/heads/main"), commit);
        assert_eq!(export.ls_tree("main").len(), remote.ls_tree("HEAD").len());
    }

    /// Goal: a change made at the remote by stock git is read here after a sync; pending work on it is reported, not touched.
    async fn pull(d) {
        let remote = d.remote("docs", 6);
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let file = remote.ls_tree("HEAD").into_iter().find(|line| line.mode == "100644").expect("a file");
        d.put(&format!("/pending/{project}/{user}/{}", percent(&file.path)), "mine\n").await.ok(201);
        let (_dir, clone) = d.clone_remote("docs");
        clone.commit_file(&text(&file.path), "theirs\n");
        clone.commit_file("from/remote.txt", "hello\n");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        let synced = d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        assert_eq!(synced["to"], json!(clone.rev_parse("HEAD")));
        assert_eq!(synced["changed_count"], json!(2));
        assert_eq!(synced["pending"], json!([{"user": user, "path": text(&file.path), "state": "conflict"}]));
        assert_eq!(d.get(&format!("/files/{project}/from/remote.txt")).await.text(), "hello\n");
        let mine = d.get(&format!("/files/{project}/{}?user={user}", percent(&file.path))).await;
        assert_eq!(mine.text(), "mine\n");
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main"), clone.rev_parse("HEAD"));
    }

    /// Goal: what device A saved, device B sees, and a stale save of B is told so.
    async fn multi_device(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let url = format!("/pending/{project}/{user}/notes.md");
        let from_a = d.put(&url, "from A\n").await.ok(201);
        let seen = d.get(&url).await;
        assert_eq!(seen.text(), "from A\n");
        let seen = seen.header("etag").to_owned();
        assert_eq!(seen, format!("\"{}\"", from_a["oid"].as_str().expect("an oid")));
        let from_b = d.send(d.request("PUT", &url).header("If-Match", &seen).body("from B\n")).await.ok(200);
        let stale = d.send(d.request("PUT", &url).header("If-Match", &seen).body("A again\n")).await;
        let stale = stale.problem(412, "precondition_failed");
        assert_eq!(stale["oid"], from_b["oid"]);
        assert_eq!(stale["revision"], from_b["revision"]);
        assert_eq!(d.get(&url).await.text(), "from B\n");
    }
}

/// A path of the samples, which are all UTF-8.
pub fn text(path: &[u8]) -> String {
    String::from_utf8(path.to_vec()).expect("a UTF-8 path")
}

/// A path as it stands in a URL.
pub fn percent(path: impl AsRef<[u8]>) -> String {
    let byte = |&b: &u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => (b as char).to_string(),
        other => format!("%{other:02X}"),
    };
    path.as_ref().iter().map(byte).collect()
}
