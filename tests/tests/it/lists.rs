//! Lists of files: prefixes, limits, pages and overlays.

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};
use crate::verifications::{percent, text};

/// Path, mode, oid and source of each file, over all pages.
async fn list(d: &Deployment, project: Uuid, query: &str, limit: usize) -> Vec<[String; 4]> {
    let (mut files, mut cursor, mut commit) = (Vec::new(), String::new(), None::<Value>);
    loop {
        let page = d.get(&format!("/files/{project}?limit={limit}{query}{cursor}")).await.ok(200);
        files.extend(shown(&page));
        assert!(page["files"].as_array().expect("files").len() <= limit);
        assert_eq!(commit.get_or_insert_with(|| page["commit"].clone()), &page["commit"]);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return files,
        }
    }
}

fn shown(page: &Value) -> Vec<[String; 4]> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let files = page["files"].as_array().expect("files").iter();
    files.map(|file| ["path", "mode", "oid", "source"].map(|key| text(&file[key]))).collect()
}

fn committed(repo: &Repo, revision: &str, prefix: &str) -> Vec<[String; 4]> {
    let lines = repo.ls_tree(revision).into_iter();
    let mut files: Vec<[String; 4]> =
        lines.map(|line| [text(&line.path), line.mode, line.oid, "committed".to_owned()]).collect();
    files.retain(|file| file[0].starts_with(prefix));
    files.sort();
    files
}

fn paths(files: &[[String; 4]]) -> Vec<&str> {
    files.iter().map(|file| file[0].as_str()).collect()
}

both! {
    /// Goal: pages of any size, put together, are the whole list as `git ls-tree` has it, with any prefix.
    async fn pages_are_the_whole_list(d) {
        let remote = d.remote("docs", 51);
        let project = d.connect("docs").await;
        for limit in [1000, 97, 10] {
            assert_eq!(list(&d, project, "", limit).await, committed(&remote, "main", ""), "by {limit}");
        }
        for prefix in ["docs/", "docs", "d", "src/net/http/", "order/a", "order/a/", "lib/a/b/c/d/na", "assets/logo.bin", "nothing/"] {
            let expected = committed(&remote, "main", prefix);
            assert_eq!(expected.is_empty(), prefix == "nothing/");
            for limit in [1000, 3] {
                let query = format!("&prefix={}", percent(prefix));
                assert_eq!(list(&d, project, &query, limit).await, expected, "{prefix} by {limit}");
            }
        }
        let sizes = d.get(&format!("/files/{project}?limit=10000")).await.ok(200);
        for file in sizes["files"].as_array().expect("files").iter().step_by(13).filter(|file| file["mode"] != "160000") {
            let size = remote.git().run(["cat-file", "-s", file["oid"].as_str().expect("an oid")]);
            assert_eq!(file["size"].to_string(), size);
        }
    }

    /// Goal: as lines, a list comes whole, or goes on where its limit was reached; pending work is in its place.
    async fn lists_stream_as_lines(d) {
        let remote = d.remote("docs", 56);
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let lines = async |query: &str| -> Vec<Value> {
            let request = d.request("GET", &format!("/files/{project}?{query}"));
            let reply = d.send(request.header("Accept", "application/x-ndjson")).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-ndjson"), "{}", reply.text());
            reply.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
        };
        let page = d.get(&format!("/files/{project}?limit=100000")).await.ok(200);
        let all = lines("").await;
        let (first, files, last) = (&all[0], &all[1..all.len() - 1], &all[all.len() - 1]);
        assert_eq!(*first, json!({"commit": page["commit"], "revision": null}));
        assert_eq!((files, last), (page["files"].as_array().expect("files").as_slice(), &json!({"next_cursor": null})));
        assert_eq!(shown(&json!({"files": files})), committed(&remote, "main", ""));
        let some = lines("limit=7&prefix=docs/").await;
        let cursor = some[8]["next_cursor"].as_str().expect("a cursor");
        let rest = lines(&format!("prefix=docs/&cursor={cursor}")).await;
        let joined: Vec<Value> = some[1..8].iter().chain(&rest[1..rest.len() - 1]).cloned().collect();
        assert_eq!(shown(&json!({"files": joined})), committed(&remote, "main", "docs/"));
        d.put(&format!("/pending/{project}/{user}/docs/zz%20new"), "pending").await.ok(201);
        let seen = lines(&format!("user={user}&prefix=docs/zz")).await;
        assert_eq!(seen[0]["revision"], 1);
        let expected = json!({"path": "docs/zz new", "mode": "100644", "oid": blob_oid(b"pending"), "size": 7, "source": "pending"});
        assert_eq!(seen[1..], [expected, json!({"next_cursor": null})]);
        let empty = d.local_project().await;
        let reply = d.send(d.request("GET", &format!("/files/{empty}")).header("Accept", "application/x-ndjson")).await;
        assert_eq!(reply.text(), "{\"commit\":null,\"revision\":null}\n{\"next_cursor\":null}\n");
        let missing = d.send(d.request("GET", "/files/none").header("Accept", "application/x-ndjson")).await;
        missing.problem(404, "project_not_found");
    }

    /// Goal: limits are clamped, not refused; what is no limit and no cursor is.
    async fn limits_are_clamped(d) {
        let remote = d.remote("docs", 52);
        let project = d.connect("docs").await;
        let all = committed(&remote, "main", "").len();
        for (limit, expected) in [("-1", 1), ("0", 1), ("1", 1), ("10001", all), ("99999999999", all)] {
            let page = d.get(&format!("/files/{project}?limit={limit}")).await.ok(200);
            assert_eq!(page["files"].as_array().map(Vec::len), Some(expected), "{limit}");
        }
        for query in ["limit=many", "cursor=nonsense"] {
            d.get(&format!("/files/{project}?{query}")).await.ok(400);
        }
        let empty = d.local_project().await;
        let page = d.get(&format!("/files/{empty}")).await.ok(200);
        assert_eq!(page, json!({"commit": null, "files": [], "next_cursor": null}));
    }

    /// Goal: later pages stay at the commit of the first one while the branch moves on, and a cursor is of no use elsewhere.
    async fn cursors_stay_at_their_commit(d) {
        let remote = d.remote("docs", 53);
        let project = d.connect("docs").await;
        let before = committed(&remote, "main", "");
        let first = d.get(&format!("/files/{project}?limit=50")).await.ok(200);
        let cursor = first["next_cursor"].as_str().expect("a cursor").to_owned();
        let body = json!({"message": "Move", "author": {"name": "A", "email": "a@example.org"}, "push": false, "actions": [
            {"action": "create", "path": "zzz/new.txt", "content": "new\n"},
            {"action": "delete", "path": before[60][0]},
            {"action": "update", "path": before[70][0], "content": "updated\n"}]});
        let moved = d.post(&format!("/projects/{project}/commits"), body).await;
        let moved = moved.ok(200);
        let second = d.get(&format!("/files/{project}?limit=10000&cursor={cursor}")).await.ok(200);
        assert_eq!((&second["commit"], &second["next_cursor"]), (&first["commit"], &Value::Null));
        let mut together = shown(&first);
        together.extend(shown(&second));
        assert_eq!(together, before);
        let fresh = d.get(&format!("/files/{project}?limit=10000")).await.ok(200);
        assert_eq!(fresh["commit"], moved["commit"]);
        assert_eq!(shown(&fresh).len(), before.len());
        d.remote("other", 54);
        let other = d.connect("other").await;
        d.get(&format!("/files/{other}?cursor={cursor}")).await.problem(400, "bad_request");
    }

    /// Goal: a user's view is listed with created, changed and deleted files in their places, across the borders of pages.
    async fn views_page_like_lists(d) {
        let remote = d.remote("docs", 55);
        let project = d.connect("docs").await;
        let (user, other) = (Uuid::new_v4(), Uuid::new_v4());
        let mut expected = committed(&remote, "main", "");
        let url = |path: &str| format!("/pending/{project}/{user}/{}", percent(path));
        let plain: Vec<[String; 4]> = expected.iter().filter(|file| file[1] == "100644").cloned().collect();
        for file in plain.iter().take(30) {
            d.put(&format!("{}?action=deleted", url(&file[0])), "").await.ok(201);
            expected.retain(|there| there[0] != file[0]);
        }
        for file in plain.iter().skip(30).step_by(9).take(10) {
            let content = format!("changed {}\n", file[0]);
            d.put(&url(&file[0]), content.clone()).await.ok(201);
            let there = expected.iter_mut().find(|there| there[0] == file[0]).expect("a file");
            *there = [file[0].clone(), file[1].clone(), blob_oid(content.as_bytes()), "pending".to_owned()];
        }
        for path in ["!first", "docs/aaa.txt", "docs/zzz/deep/er.txt", "order/a-", "zzz/last 日本", "src~"] {
            d.put(&url(path), path).await.ok(201);
            expected.push([path.to_owned(), "100644".to_owned(), blob_oid(path.as_bytes()), "pending".to_owned()]);
        }
        expected.sort();
        for limit in [1000, 41, 7, 2] {
            let listed = list(&d, project, &format!("&user={user}"), limit).await;
            assert_eq!(paths(&listed), paths(&expected), "by {limit}");
            assert_eq!(listed, expected, "by {limit}");
        }
        let docs: Vec<_> = expected.iter().filter(|file| file[0].starts_with("docs/")).cloned().collect();
        assert_eq!(list(&d, project, &format!("&user={user}&prefix=docs/"), 5).await, docs);
        assert_eq!(list(&d, project, &format!("&user={other}"), 1000).await, committed(&remote, "main", ""));
        let empty = d.local_project().await;
        d.put(&format!("/pending/{empty}/{user}/b"), "b").await.ok(201);
        d.put(&format!("/pending/{empty}/{user}/a/c"), "c").await.ok(201);
        let listed = list(&d, empty, &format!("&user={user}"), 1).await;
        assert_eq!(paths(&listed), ["a/c", "b"]);
    }
}
