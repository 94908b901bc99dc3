//! Raw objects, and diffs.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply};
use crate::history::whole_project;
use crate::verifications::{percent, text};

async fn raw(d: &Deployment, project: Uuid, kind: &str, oid: &str) -> Reply {
    let request = d.request("GET", &format!("/projects/{project}/git/{kind}/{oid}"));
    d.send(request.header("Accept", "application/octet-stream")).await
}

async fn diff(d: &Deployment, project: Uuid, query: &str) -> String {
    let reply = d.get(&format!("/projects/{project}/diff?{query}")).await;
    reply.ok(200);
    assert_eq!(reply.header("content-type"), "text/x-diff; charset=utf-8");
    reply.text()
}

/// What stock git prints for the same, with oids as short as ours and without its guess which function a hunk is in.
fn git_diff(repo: &Repo, from: &str, to: &str) -> String {
    let git = repo.git().clone().config("core.attributesFile", "/dev/null").config("core.quotePath", "true");
    let git = git.config("diff.noprefix", "false");
    let args = ["diff", "--no-renames", "--no-color", "--abbrev=7", "--diff-algorithm=histogram", from, to];
    let printed = String::from_utf8_lossy(&git.bytes(args)).into_owned();
    let line = |line: &str| match line.strip_prefix("@@ ").and_then(|rest| rest.split_once(" @@")) {
        Some((range, rest)) if rest.starts_with(' ') => format!("@@ {range} @@\n"),
        _ => line.to_owned(),
    };
    printed.split_inclusive('\n').map(line).collect()
}

both! {
    /// Goal: every object of a history reads back as git has it, as JSON in GitHub's shape and as raw bytes.
    async fn raw_objects(d) {
        let remote = d.remote("docs", 31);
        let project = whole_project(&d, "docs").await;
        let objects = remote.reachable();
        for oid in objects.iter().step_by(23) {
            let kind = remote.git().run(["cat-file", "-t", oid]);
            let reply = raw(&d, project, &format!("{kind}s"), oid).await;
            if remote.git().output(["merge-base", "--is-ancestor", oid, "main"]).status.code() == Some(1) {
                reply.problem(404, "not_found");
                continue;
            }
            if reply.status == 404 {
                // Reached by another branch only.
                let ours = remote.git().run(["rev-list", "--objects", "--no-object-names", "main"]);
                assert!(kind == "tag" || !ours.lines().any(|line| line == oid), "{kind} {oid} is missing");
                continue;
            }
            reply.ok(200);
            assert_eq!(reply.body, remote.cat_file(oid), "{kind} {oid}");
            assert_eq!(reply.header("etag"), format!("\"{oid}\""));
            assert_eq!(reply.header("content-type"), "application/octet-stream");
        }
        let head = remote.rev_parse("main");
        let commit = d.get(&format!("/projects/{project}/git/commits/{head}")).await.ok(200);
        assert_eq!((&commit["sha"], &commit["tree"]["sha"]), (&json!(head), &json!(remote.rev_parse("main^{tree}"))));
        let names = remote.git().run(["log", "-1", "--format=%an%x00%ae%x00%cn", "main"]);
        let names: Vec<&str> = names.split('\0').collect();
        assert_eq!(json!(names), json!([commit["author"]["name"], commit["author"]["email"], commit["committer"]["name"]]));
        let root = remote.rev_parse("main^{tree}");
        let tree = d.get(&format!("/projects/{project}/git/trees/{root}")).await.ok(200);
        let format = "--format=%(objectmode) %(objecttype) %(objectname) %(objectsize) %(path)";
        let listed = remote.git().run(["ls-tree", format, &root]);
        let text = |value: &Value| value.as_str().map_or_else(|| value.as_u64().map_or("-".into(), |n| n.to_string()), str::to_owned);
        let shown: Vec<String> = tree["tree"].as_array().expect("entries").iter()
            .map(|e| ["mode", "type", "sha", "size", "path"].map(|key| text(&e[key])).join(" ")).collect();
        assert_eq!(shown, listed.lines().collect::<Vec<_>>());
        for method in ["GET", "HEAD"] {
            for (name, tag, status) in [
                ("If-None-Match", &root, 304), ("If-None-Match", &head, 200), ("If-Match", &root, 200), ("If-Match", &head, 412),
            ] {
                let url = format!("/projects/{project}/git/trees/{root}");
                let reply = d.send(d.request(method, &url).header(name, format!("\"{tag}\""))).await;
                assert_eq!(reply.status, status, "{method} {name} {tag}");
            }
        }
        let binary = remote.rev_parse("main:assets/logo.bin");
        let blob = d.get(&format!("/projects/{project}/git/blobs/{binary}")).await.ok(200);
        let content = BASE64_STANDARD.decode(blob["content"].as_str().expect("content")).expect("base64");
        assert_eq!(content, remote.cat_file(&binary));
        assert_eq!((&blob["size"], &blob["encoding"]), (&json!(content.len()), &json!("base64")));
    }

    /// Goal: absent, foreign and of another kind are one answer, byte for byte; pending content is its project's alone.
    async fn unreadable_objects(d) {
        let remote = d.remote("docs", 32);
        let other = d.remote("other", 33);
        let project = d.connect("docs").await;
        let foreign = d.connect("other").await;
        let user = Uuid::new_v4();
        let saved = d.put(&format!("/pending/{project}/{user}/note.txt"), "only here\n").await.ok(201);
        let pending = saved["oid"].as_str().expect("an oid").to_owned();
        assert_eq!(raw(&d, project, "blobs", &pending).await.text(), "only here\n");
        let (ours, theirs) = (remote.rev_parse("main:assets/large.csv"), other.rev_parse("main:assets/large.csv"));
        raw(&d, project, "blobs", &ours).await.ok(200);
        raw(&d, foreign, "blobs", &theirs).await.ok(200);
        let wrong = [
            (project, "blobs", theirs),
            (project, "blobs", "1".repeat(40)),
            (project, "trees", ours.clone()),
            (project, "commits", ours),
            (project, "blobs", remote.rev_parse("main")),
            (project, "commits", remote.rev_parse("main~1")),
            (project, "commits", other.rev_parse("main")),
            (foreign, "blobs", pending.clone()),
            (project, "trees", pending.clone()),
        ];
        let mut answers = BTreeSet::new();
        for (project, kind, oid) in wrong {
            let reply = d.get(&format!("/projects/{project}/git/{kind}/{oid}")).await;
            reply.problem(404, "not_found");
            answers.insert(reply.text());
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        d.get(&format!("/projects/{project}/git/blobs/xyz")).await.ok(400);
    }

    /// Goal: a diff is what `git diff` prints, and stock `git apply` makes the one tree from the other with it.
    async fn diffs_of_commits(d) {
        d.remote("docs", 34);
        let (_dir, clone) = d.clone_remote("docs");
        clone.commit_files(&[
            ("quote \"and\" tab\t.txt", Some(b"one\ntwo\n")),
            ("no end.txt", Some(b"a\nb")),
            ("empty.new", Some(b"")),
            ("dir/turns", Some(b"file\n")),
            ("turns.bin", Some(b"\0binary\n")),
        ], "Odd names");
        clone.commit_files(&[
            ("no end.txt", Some(b"a\nb\nc")),
            ("empty.new", None),
            ("dir/turns", None),
            ("dir/turns/into/dir", Some(b"deep\n")),
            ("assets/windows.txt", Some(b"one\r\ntwo\r\nthree\r\n")),
        ], "Change them");
        clone.git().run(["update-index", "--chmod=+x", "no end.txt"]);
        clone.git().run(["commit", "-q", "-m", "Executable"]);
        std::fs::remove_file(clone.path().join("no end.txt")).expect("remove");
        std::os::unix::fs::symlink("elsewhere", clone.path().join("no end.txt")).expect("link");
        std::fs::remove_file(clone.path().join("turns.bin")).expect("remove");
        std::os::unix::fs::symlink("elsewhere", clone.path().join("turns.bin")).expect("link");
        clone.git().run(["add", "-A"]);
        clone.git().run(["commit", "-q", "-m", "A link"]);
        clone.git().run(["push", "-q", "origin", "HEAD"]);
        let project = whole_project(&d, "docs").await;
        let head = clone.rev_parse("HEAD");
        for (from, to) in [("HEAD~1", "HEAD"), ("HEAD~2", "HEAD~1"), ("HEAD~3", "HEAD"), ("HEAD", "HEAD~4"), ("HEAD~20", "HEAD")] {
            let (from, to) = (clone.rev_parse(from), clone.rev_parse(to));
            let shown = diff(&d, project, &format!("from={from}&to={to}")).await;
            assert_eq!(shown, git_diff(&clone, &from, &to), "{from} {to}");
            clone.git().run(["read-tree", &from]);
            // Git refuses its own text diffs of binary files, too, and says which.
            if shown.contains("Binary files") {
                let applied = clone.git().output_of(["apply", "--cached", "-"], shown.as_bytes());
                let words = String::from_utf8_lossy(&applied.stderr).into_owned();
                assert!(!applied.status.success() && words.contains("cannot apply binary patch to"), "{words}");
            } else if !shown.is_empty() {
                clone.git().run_with(["apply", "--cached", "--whitespace=nowarn", "-"], shown.as_bytes());
                assert_eq!(clone.git().run(["write-tree"]), clone.rev_parse(&format!("{to}^{{tree}}")));
            }
        }
        assert_eq!(diff(&d, project, &format!("from={head}")).await, "");
        let from = clone.rev_parse("HEAD~20");
        let request = d.request("GET", &format!("/projects/{project}/diff?from={from}&to=main"));
        let shown = d.send(request.header("Accept", "application/json")).await.ok(200);
        assert_eq!((&shown["from"], &shown["to"]), (&json!(from), &json!(head)));
        let counted = clone.git().run(["diff", "--no-renames", "--numstat", "--diff-algorithm=histogram", &from, "HEAD"]);
        let mut counted: Vec<(String, String)> = counted.lines().map(|line| {
            let parts: Vec<&str> = line.splitn(3, '\t').collect();
            (parts[0].to_owned(), parts[1].to_owned())
        }).collect();
        let files = shown["files"].as_array().expect("files");
        let mut sums: Vec<(String, String)> = files.iter().map(|f| match f["binary"].as_bool() {
            Some(true) => ("-".to_owned(), "-".to_owned()),
            _ => (f["additions"].to_string(), f["deletions"].to_string()),
        }).collect();
        counted.sort();
        sums.sort();
        assert_eq!(sums, counted);
        d.get(&format!("/projects/{project}/diff")).await.problem(400, "bad_request");
        d.get(&format!("/projects/{project}/diff?from={}", "1".repeat(40))).await.problem(404, "ref_not_found");
    }

    /// Goal: the diff of pending work applies to the head and gives the user's view.
    async fn diff_of_pending_work(d) {
        let remote = d.remote("docs", 35);
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let files: Vec<_> = remote.ls_tree("main").into_iter().filter(|l| l.mode == "100644" && l.path.ends_with(b".md")).collect();
        let url = |path: &str| format!("/pending/{project}/{user}/{path}");
        d.put(&url(&percent(&files[0].path)), "changed\n").await.ok(201);
        d.put(&format!("{}?action=deleted", url(&percent(&files[1].path))), "").await.ok(201);
        d.put(&url("new/file.txt"), "new\nlines").await.ok(201);
        d.put(&format!("{}?mode=100755", url("new/run")), "#!/bin/sh\n").await.ok(201);
        let shown = diff(&d, project, &format!("user={user}")).await;
        let (_dir, clone) = d.clone_remote("docs");
        clone.git().run_with(["apply", "--index", "-"], shown.as_bytes());
        let tree = clone.git().run(["write-tree"]);
        std::fs::write(clone.path().join("check"), "").expect("write");
        assert_eq!(shown, git_diff(&clone, "HEAD", &tree));
        let list = d.get(&format!("/files/{project}?user={user}&limit=10000")).await.ok(200);
        let listed: Vec<String> = list["files"].as_array().expect("files").iter()
            .map(|f| format!("{} {} {}", f["mode"].as_str().expect("mode"), f["oid"].as_str().expect("oid"), f["path"].as_str().expect("path")))
            .collect();
        let expected: Vec<String> = clone.ls_tree(&tree).iter().map(|l| format!("{} {} {}", l.mode, l.oid, text(&l.path))).collect();
        assert_eq!(listed, expected);
        assert_eq!(diff(&d, project, &format!("user={}", Uuid::new_v4())).await, "");
        d.get(&format!("/projects/{project}/diff?user={user}&to=main")).await.problem(400, "bad_request");
        assert_eq!(diff(&d, project, &format!("user={user}&from=main")).await, shown);
    }
}
