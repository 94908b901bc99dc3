//! Files: lists, reads with conditions and ranges, commits of one file.

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};
use crate::verifications::{percent, text};

async fn pages(d: &Deployment, project: Uuid, query: &str, limit: usize) -> Vec<Value> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    for _ in 0..2_000 {
        let page = d.get(&format!("/files/{project}?{query}&limit={limit}&cursor={cursor}")).await.ok(200);
        let files = page["files"].as_array().expect("files");
        assert!(files.len() <= limit);
        found.extend(files.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return found,
        }
    }
    panic!("the list has no end");
}

fn paths(files: &[Value]) -> Vec<&str> {
    files.iter().map(|file| file["path"].as_str().expect("a path")).collect()
}

/// The entries that stock git lists, in the API's shape.
fn expected(remote: &Repo, prefix: &str) -> Vec<Value> {
    let lines = remote.ls_tree("HEAD").into_iter().filter(|line| line.path.starts_with(prefix.as_bytes()));
    let size = |kind: &str, oid: &str| if kind == "commit" { 0 } else { remote.cat_file(oid).len() };
    lines
        .map(|line| {
            json!({"path": text(&line.path), "mode": line.mode, "oid": line.oid, "size": size(&line.kind, &line.oid),
            "source": "committed"})
        })
        .collect()
}

both! {
    /// Goal: lists are recursive, in byte order, with modes, sizes, symlinks and gitlinks as git has them; pages join to the whole.
    async fn list(d) {
        let remote = d.remote("docs", 11);
        let project = d.connect("docs").await;
        let all = expected(&remote, "");
        assert!(all.iter().any(|file| file["mode"] == "120000") && all.iter().any(|file| file["mode"] == "160000"));
        assert_eq!(pages(&d, project, "", 10_000).await, all);
        assert_eq!(pages(&d, project, "", 37).await, all);
        let some = &all[all.len() / 2];
        let some = some["path"].as_str().expect("a path");
        let dir = some.split_inclusive('/').next().expect("a directory");
        for prefix in [dir, some, &some[..some.len() - 1], "zzz/none", "."] {
            let query = format!("prefix={}", percent(prefix));
            assert_eq!(pages(&d, project, &query, 11).await, expected(&remote, prefix), "{prefix}");
        }
        for (limit, most) in [("0", 1), ("999999999999999999999999", usize::MAX)] {
            let page = d.get(&format!("/files/{project}?limit={limit}")).await.ok(200);
            assert_eq!(page["files"].as_array().map(Vec::len), Some(all.len().min(most)));
        }
        d.get(&format!("/files/{project}?cursor=nonsense")).await.problem(400, "bad_request");
        d.get(&format!("/files/{project}?ref=nope")).await.problem(404, "ref_not_found");
        for name in ["main", "refs/heads/main", &remote.rev_parse("HEAD")] {
            let list = d.get(&format!("/files/{project}?limit=1&ref={name}")).await.ok(200);
            assert_eq!(list["commit"], json!(remote.rev_parse("HEAD")), "{name}");
        }
    }

    /// Goal: a user's list is the head with the pending set on top, on every page size, also where deletions thin it out.
    async fn list_of_a_user(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        for path in ["a", "b/1", "b/2", "b.c", "d", "e"] {
            d.put(&format!("/files/{project}/{path}"), path).await.ok(200);
        }
        for path in ["a", "b/1", "b/2", "e"] {
            d.put(&format!("/pending/{project}/{user}/{path}?action=deleted"), "").await.ok(201);
        }
        d.put(&format!("/pending/{project}/{user}/d"), "changed").await.ok(201);
        d.put(&format!("/pending/{project}/{user}/b/3"), "new").await.ok(201);
        d.put(&format!("/pending/{project}/{user}/z"), "new").await.ok(201);
        for limit in [1, 2, 3, 100] {
            let seen = pages(&d, project, &format!("user={user}"), limit).await;
            assert_eq!(paths(&seen), ["b.c", "b/3", "d", "z"], "limit {limit}");
            let sources: Vec<&Value> = seen.iter().map(|file| &file["source"]).collect();
            assert_eq!(json!(sources), json!(["committed", "pending", "pending", "pending"]));
            assert_eq!(paths(&pages(&d, project, &format!("user={user}&prefix=b/"), limit).await), ["b/3"]);
            assert_eq!(paths(&pages(&d, project, "", limit).await), ["a", "b.c", "b/1", "b/2", "d", "e"]);
        }
        let page = d.get(&format!("/files/{project}?user={user}&limit=100")).await.ok(200);
        assert_eq!((&page["revision"], &page["files"][2]["size"]), (&json!(7), &json!(7)));
        assert_eq!(page["files"][2]["oid"], json!(blob_oid(b"changed")));
    }

    /// Goal: a cursor stays with the commit of its first page though the branch moves.
    async fn list_at_one_commit(d) {
        let project = d.local_project().await;
        for path in ["a", "b", "c"] {
            d.put(&format!("/files/{project}/{path}"), path).await.ok(200);
        }
        let first = d.get(&format!("/files/{project}?limit=1")).await.ok(200);
        d.put(&format!("/files/{project}/b"), "other").await.ok(200);
        d.put(&format!("/files/{project}/bb"), "new").await.ok(200);
        let cursor = first["next_cursor"].as_str().expect("a cursor");
        let rest = d.get(&format!("/files/{project}?cursor={cursor}")).await.ok(200);
        assert_eq!(rest["commit"], first["commit"]);
        assert_eq!(paths(rest["files"].as_array().expect("files")), ["b", "c"]);
        assert_eq!(rest["files"][0]["oid"], json!(blob_oid(b"b")));
    }

    /// Goal: with a user a cursor stays with the pending work of its first page, too: pages of two states are no state that ever was.
    async fn list_of_one_view(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        for path in ["a", "b", "c"] {
            d.put(&format!("/files/{project}/{path}"), path).await.ok(200);
        }
        d.put(&format!("/pending/{project}/{user}/c"), "mine").await.ok(201);
        let page = async || d.get(&format!("/files/{project}?user={user}&limit=1")).await.ok(200);
        let rest = async |first: &Value| {
            let cursor = first["next_cursor"].as_str().expect("a cursor");
            d.get(&format!("/files/{project}?user={user}&cursor={cursor}")).await
        };
        let first = page().await;
        assert_eq!(rest(&first).await.ok(200)["files"][1]["oid"], json!(blob_oid(b"mine")));
        d.put(&format!("/pending/{project}/{user}/other"), "new").await.ok(201);
        rest(&first).await.problem(409, "snapshot_moved");
        let first = page().await;
        let body = json!({"user": user, "message": "m", "author": {"name": "A", "email": "a@example.org"}});
        d.post(&format!("/projects/{project}/commit"), body).await.ok(200);
        rest(&first).await.problem(409, "snapshot_moved");
    }

    /// Goal: GET and HEAD agree; conditions and ranges are RFC 9110's; what is no file says what it is.
    async fn read(d) {
        let project = d.local_project().await;
        let made = d.put(&format!("/files/{project}/dir/f.txt?mode=100755"), "0123456789").await.ok(200);
        d.put(&format!("/files/{project}/empty"), "").await.ok(200);
        let url = format!("/files/{project}/dir/f.txt?ref={}", made["commit"].as_str().expect("an oid"));
        let oid = blob_oid(b"0123456789");
        let tag = format!("\"{oid}\"");
        let whole = d.get(&url).await;
        assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
        let head = d.send(d.request("HEAD", &url)).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for (name, value) in [("etag", tag.as_str()), ("git-mode", "100755"), ("content-length", "10"),
            ("git-commit", made["commit"].as_str().expect("an oid")), ("accept-ranges", "bytes"),
            ("content-type", "application/octet-stream"), ("x-content-type-options", "nosniff")] {
            assert_eq!((whole.header(name), head.header(name)), (value, value), "{name}");
        }
        for (range, status, bytes, place) in [
            ("bytes=0-0", 206, "0", "bytes 0-0/10"), ("bytes=2-4", 206, "234", "bytes 2-4/10"),
            ("bytes=5-", 206, "56789", "bytes 5-9/10"), ("bytes=-3", 206, "789", "bytes 7-9/10"),
            ("bytes=8-99", 206, "89", "bytes 8-9/10"), ("bytes=-99", 206, "0123456789", "bytes 0-9/10"),
            ("bytes=4-2", 200, "0123456789", ""), ("lines=1-2", 200, "0123456789", ""), ("bytes=x-", 200, "0123456789", ""),
        ] {
            let part = d.send(d.request("GET", &url).header("Range", range)).await;
            assert_eq!((part.status, part.text().as_str(), part.header("content-range")), (status, bytes, place), "{range}");
        }
        for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
            let none = d.send(d.request("GET", &url).header("Range", range)).await;
            none.problem(416, "range_not_satisfiable");
            assert_eq!(none.header("content-range"), "bytes */10");
        }
        let other = blob_oid(b"other");
        for (name, value, status) in [
            ("If-None-Match", tag.clone(), 304), ("If-None-Match", format!("W/{tag}"), 304), ("If-None-Match", "*".into(), 304),
            ("If-None-Match", format!("\"{other}\", {tag}"), 304), ("If-None-Match", format!("\"{other}\""), 200),
            ("If-Match", tag.clone(), 200), ("If-Match", format!("\"{other}\""), 412), ("If-Match", "*".into(), 200),
            ("If-Match", "bare".into(), 400),
        ] {
            for method in ["GET", "HEAD"] {
                let reply = d.send(d.request(method, &url).header(name, &value)).await;
                assert_eq!(reply.status, status, "{method} {name}: {value}");
                assert_eq!(reply.body.is_empty(), status == 304 || method == "HEAD");
            }
        }
        let fresh = d.request("GET", &url).header("Range", "bytes=0-1").header("If-Range", &tag);
        assert_eq!(d.send(fresh).await.status, 206);
        let stale = d.request("GET", &url).header("Range", "bytes=0-1").header("If-Range", format!("\"{other}\""));
        assert_eq!(d.send(stale).await.status, 200);
        let empty = d.get(&format!("/files/{project}/empty")).await;
        assert_eq!((empty.status, empty.header("content-length"), empty.body.len()), (200, "0", 0));
        d.get(&format!("/files/{project}/dir")).await.problem(404, "is_directory");
        d.get(&format!("/files/{project}/none")).await.problem(404, "file_not_found");
        d.get(&format!("/files/{project}/dir/f.txt/x")).await.problem(404, "file_not_found");
        d.get(&format!("/files/{project}/empty?ref=none")).await.problem(404, "ref_not_found");
    }

    /// Goal: symlinks read as their target and are never followed; gitlinks are no files; a user goes with a branch only.
    async fn odd_entries(d) {
        let remote = d.remote("docs", 12);
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let lines = remote.ls_tree("HEAD");
        let link = lines.iter().find(|line| line.mode == "120000").expect("a symlink");
        let reply = d.get(&format!("/files/{project}/{}", percent(&link.path))).await;
        assert_eq!((reply.status, reply.header("git-mode")), (200, "120000"));
        assert_eq!(reply.body, remote.cat_file(&link.oid));
        let below = format!("/files/{project}/{}/x", percent(&link.path));
        d.get(&below).await.problem(404, "file_not_found");
        let gitlink = lines.iter().find(|line| line.mode == "160000").expect("a gitlink");
        d.get(&format!("/files/{project}/{}", percent(&gitlink.path))).await.problem(404, "is_submodule");
        let head = remote.rev_parse("HEAD");
        d.send(d.request("PUT", &format!("/projects/{project}/refs/tags/t"))
            .header("Content-Type", "application/json").body(json!({"oid": head}).to_string())).await.ok(201);
        let file = percent(&lines[0].path);
        for (name, status, code) in [("t", 422, "not_a_branch"), ("refs/tags/t", 422, "not_a_branch"),
            (head.as_str(), 422, "not_a_branch"), ("none", 404, "ref_not_found")] {
            d.get(&format!("/files/{project}/{file}?user={user}&ref={name}")).await.problem(status, code);
            d.get(&format!("/files/{project}?user={user}&ref={name}")).await.problem(status, code);
        }
        for name in ["main", "refs/heads/main"] {
            assert_eq!(d.get(&format!("/files/{project}/{file}?user={user}&ref={name}")).await.status, 200);
        }
    }

    /// Goal: PUT and DELETE make one commit each, as asked and under conditions; what is refused changes nothing.
    async fn write(d) {
        let project = d.local_project().await;
        let url = format!("/files/{project}/bin/run.sh");
        let made = d.send(d.request("PUT", &format!("{url}?mode=100755&message=Add+it&author_name=Ann%20A&author_email=a@example.org"))
            .header("If-None-Match", "*").body("#!/bin/sh\n")).await;
        let first = made.ok(200);
        let oid = blob_oid(b"#!/bin/sh\n");
        assert_eq!(made.header("etag"), format!("\"{oid}\""));
        assert_eq!(first["files"], json!([{"path": "bin/run.sh", "action": "created", "oid": oid}]));
        assert_eq!(json!([first["parents"], first["branch"], first["pushed"], first["objects"]]), json!([[], "main", false, 4]));
        let exists = d.send(d.request("PUT", &url).header("If-None-Match", "*").body("x")).await;
        assert_eq!(exists.problem(412, "precondition_failed")["oid"], json!(oid));
        let stale = d.send(d.request("PUT", &url).header("If-Match", format!("\"{}\"", blob_oid(b"?"))).body("x")).await;
        assert_eq!(stale.problem(412, "precondition_failed")["oid"], json!(oid));
        let absent = d.request("PUT", &format!("/files/{project}/none")).header("If-Match", "*").body("x");
        assert_eq!(d.send(absent).await.problem(412, "precondition_failed")["oid"], Value::Null);
        d.put(&url, "#!/bin/sh\n").await.problem(422, "nothing_to_commit");
        d.delete(&format!("/files/{project}/none")).await.problem(404, "file_not_found");
        assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], first["commit"]);
        // The exec bit stays on an edit, weak tags count, any content type is taken as the bytes that it is.
        let edit = d.request("PUT", &url).header("If-Match", format!("W/\"{oid}\"")).header("Content-Type", "application/json");
        let second = d.send(edit.body("{not json")).await.ok(200);
        assert_eq!((&second["parents"], &second["files"][0]["action"]), (&json!([first["commit"]]), &json!("modified")));
        let stale = d.send(d.request("DELETE", &url).header("If-Match", format!("\"{oid}\""))).await;
        stale.problem(412, "precondition_failed");
        d.put(&format!("/files/{project}/keep"), "kept\n").await.ok(200);
        let gone = d.delete(&url).await.ok(200);
        assert_eq!(gone["files"], json!([{"path": "bin/run.sh", "action": "deleted", "oid": null}]));
        let (_dir, export) = d.export(project).await;
        let log = export.git().run(["log", "--reverse", "--format=%an <%ae>|%cn|%s", "main"]);
        let default = "Treehold <treehold@localhost>|Treehold|";
        let lines: Vec<String> = vec!["Ann A <a@example.org>|Ann A|Add it".into(), format!("{default}Update bin/run.sh"),
            format!("{default}Update keep"), format!("{default}Delete bin/run.sh")];
        assert_eq!(log.lines().collect::<Vec<_>>(), lines);
        assert_eq!(export.git().run(["ls-tree", "main~1", "bin/"]).split(' ').next(), Some("100755"));
        assert_eq!(export.cat_file("main~1:bin/run.sh"), b"{not json");
        assert_eq!(export.git().run(["ls-tree", "--name-only", "main"]), "keep", "the emptied directory is gone");
        // The last file goes too: an empty root tree is fine.
        d.delete(&format!("/files/{project}/keep")).await.ok(200);
        assert_eq!(d.get(&format!("/files/{project}")).await.ok(200)["files"], json!([]));
        d.export(project).await;
    }

    /// Goal: writes go to the branch that is named, also to one that is unborn only in a project without branches.
    async fn branches(d) {
        let project = d.local_project().await;
        d.put(&format!("/files/{project}/a?branch=topic"), "a").await.ok(200);
        let refs = d.get(&format!("/projects/{project}/refs")).await.ok(200);
        assert_eq!(refs["refs"].as_array().map(Vec::len), Some(1));
        d.put(&format!("/files/{project}/a?branch=other"), "a").await.problem(404, "ref_not_found");
        d.put(&format!("/files/{project}/b"), "b").await.ok(200);
        assert_eq!(d.get(&format!("/files/{project}/a?ref=topic")).await.text(), "a");
        d.get(&format!("/files/{project}/a?ref=main")).await.problem(404, "file_not_found");
        for bad in ["-x", "a..b", "a%20b", "x.lock", ""] {
            d.put(&format!("/files/{project}/a?branch={bad}"), "a").await.problem(422, "bad_ref");
            d.put(&format!("/pending/{project}/{}/a?branch={bad}", Uuid::new_v4()), "a").await.problem(422, "bad_ref");
        }
        if d.setup == Setup::Embedded {
            for bad in ["a%0ab", "x%00y"] {
                d.put(&format!("/files/{project}/a?author_name={bad}"), "z").await.problem(422, "bad_author");
            }
        }
    }
}
