//! What happened to a file: blame, the log of a path, and diffs against any tree the caller holds.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};
use crate::history::whole_project;
use crate::isolation;
use crate::verifications::percent;

async fn blame(d: &Deployment, project: Uuid, path: &str, query: &str) -> Value {
    d.get(&format!("/projects/{project}/blame/{}?{query}", percent(path.as_bytes()))).await.ok(200)
}

/// All pages of a list, put together.
async fn pages(d: &Deployment, url: &str, entries: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..2000 {
        let page = d.get(&format!("{url}{cursor}")).await.ok(200);
        all.extend(page[entries].as_array().expect("entries").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
    panic!("no end");
}

async fn commit(d: &Deployment, project: Uuid, message: &str, actions: Value) -> String {
    let author = json!({"name": "Ann", "email": "ann@example.org", "date": "@1700000000 +0000"});
    let body = json!({"message": message, "author": author, "actions": actions});
    let made = d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    made["commit"].as_str().expect("an oid").to_owned()
}

both! {
    /// Goal: lines that end before they begin are refused; lines behind the end of the file are none.
    async fn lines_the_wrong_way_round(d) {
        let project = d.local_project().await;
        d.put(&format!("/files/{project}/f"), "1\n2\n3\n").await.ok(200);
        let url = format!("/projects/{project}/blame/f");
        for query in ["start_line=3&end_line=2", "end_line=0"] {
            d.get(&format!("{url}?{query}")).await.problem(400, "bad_request");
        }
        assert_eq!(blame(&d, project, "f", "start_line=8&end_line=9").await["ranges"], json!([]));
        assert_eq!(blame(&d, project, "f", "start_line=2&end_line=2").await["ranges"][0]["lines"], 1);
    }

    /// Goal: in a real repository, the log of each of some paths is `git log -- path`, and blame names the commits that git names.
    async fn as_git(d) {
        let remote = d.remote("docs", 81);
        let project = whole_project(&d, "docs").await;
        let git = remote.git();
        let files: Vec<String> = remote.ls_tree("main").into_iter().filter(|line| line.mode.starts_with("100"))
            .map(|line| String::from_utf8(line.path).expect("UTF-8")).collect();
        let mut lines = 0;
        for path in files.iter().step_by(files.len() / 6) {
            let url = format!("/projects/{project}/log?limit=3&path={}", percent(path.as_bytes()));
            let shown: Vec<Value> = pages(&d, &url, "commits").await.iter().map(|c| c["commit"].clone()).collect();
            let expected = git.run(["log", "--date-order", "--format=%H", "main", "--", path]);
            assert_eq!(json!(shown), json!(expected.lines().collect::<Vec<_>>()), "{path}");
            let content = remote.cat_file(&format!("main:{path}"));
            if content.contains(&0) {
                let url = format!("/projects/{project}/blame/{}", percent(path.as_bytes()));
                d.get(&url).await.problem(422, "binary_file");
                continue;
            }
            let told = blame(&d, project, path, "").await;
            assert_eq!((&told["oid"], &told["path"]), (&json!(blob_oid(&content)), &json!(path)));
            let names: Vec<String> = told["ranges"].as_array().expect("ranges").iter().flat_map(|range| {
                let commit = range["commit"].as_str().expect("a commit").to_owned();
                vec![commit; range["lines"].as_u64().expect("a number") as usize]
            }).collect();
            let expected = git.run(["blame", "--no-abbrev", "-s", "-l", "--root", "main", "--", path]);
            let expected: Vec<&str> = expected.lines().map(|line| &line[..40]).collect();
            assert_eq!(names, expected, "{path}");
            assert_eq!(told["total_lines"], json!(expected.len()));
            lines += expected.len();
        }
        assert!(lines > 20, "{lines}");
        let url = format!("/projects/{project}/log?limit=5&path=docs/");
        let shown: Vec<Value> = pages(&d, &url, "commits").await.iter().map(|c| c["commit"].clone()).collect();
        let expected = git.run(["log", "--date-order", "--format=%H", "main", "--", "docs/"]);
        assert_eq!(json!(shown), json!(expected.lines().collect::<Vec<_>>()));
        let none = d.get(&format!("/projects/{project}/log?path=no/such")).await.ok(200);
        assert_eq!((&none["commits"], &none["next_cursor"]), (&json!([]), &Value::Null));
        d.get(&format!("/projects/{project}/log?path=..%2Fx")).await.problem(422, "bad_path");
    }

    /// Goal: whose lines are whose, through a move, under pending work, by ranges; and what has no blame.
    async fn lines(d) {
        let project = d.local_project().await;
        let first = commit(&d, project, "First\n\nbody", json!([{"action": "create", "path": "a", "content": "1\n2\n3\n4\n"}])).await;
        let second = commit(&d, project, "Second", json!([{"action": "update", "path": "a", "content": "1\n2x\n3\n4\n"}])).await;
        commit(&d, project, "Move", json!([{"action": "move", "from": "a", "path": "d/b"}])).await;
        let told = blame(&d, project, "d/b", "").await;
        let author = json!({"name": "Ann", "email": "ann@example.org", "date": "2023-11-14T22:13:20+00:00"});
        let date = |range: &Value| range["author"]["date"].as_str().expect("a date").replace('Z', "+00:00");
        assert_eq!(date(&told["ranges"][0]), author["date"].as_str().expect("a date"));
        let shown: Vec<Value> = told["ranges"].as_array().expect("ranges").iter().map(|range| {
            json!([range["start_line"], range["lines"], range["commit"], range["summary"], range["original_path"], range["original_line"]])
        }).collect();
        assert_eq!(json!(shown), json!([[1, 1, first, "First", "a", 1], [2, 1, second, "Second", "a", 2], [3, 2, first, "First", "a", 3]]));
        assert_eq!(told["revision"], Value::Null);
        let part = blame(&d, project, "d/b", "start_line=2&end_line=3").await;
        let parts: Vec<Value> = part["ranges"].as_array().expect("ranges").iter().map(|r| json!([r["start_line"], r["lines"]])).collect();
        assert_eq!(json!(parts), json!([[2, 1], [3, 1]]));
        assert_eq!(blame(&d, project, "d/b", "start_line=9").await["ranges"], json!([]));
        assert_eq!(blame(&d, project, "a", &format!("ref={first}")).await["ranges"][0]["lines"], 4);
        let user = Uuid::new_v4();
        d.put(&format!("/pending/{project}/{user}/d/b"), "0\n1\n2x\n3y\n4\n").await.ok(201);
        d.put(&format!("/pending/{project}/{user}/new"), "n\n").await.ok(201);
        d.send(d.request("PUT", &format!("/pending/{project}/{user}/gone"))).await.ok(201);
        let told = blame(&d, project, "d/b", &format!("user={user}")).await;
        let shown: Vec<Value> = told["ranges"].as_array().expect("ranges").iter()
            .map(|range| json!([range["start_line"], range["lines"], range["pending"], range["commit"]])).collect();
        assert_eq!(json!(shown), json!([[1, 1, true, null], [2, 1, null, first], [3, 1, null, second], [4, 1, true, null],
            [5, 1, null, first]]));
        assert_eq!(told["revision"], 3);
        let new = blame(&d, project, "new", &format!("user={user}")).await;
        assert_eq!(new["ranges"], json!([{"start_line": 1, "lines": 1, "pending": true}]));
        d.send(d.request("PUT", &format!("/pending/{project}/{user}/d/b?action=deleted"))).await.ok(200);
        let url = format!("/projects/{project}/blame");
        d.get(&format!("{url}/d/b?user={user}")).await.problem(404, "pending_deletion");
        d.get(&format!("{url}/nothing")).await.problem(404, "file_not_found");
        d.get(&format!("{url}/d")).await.problem(404, "is_directory");
        d.get(&format!("{url}/a%2F..%2Fb")).await.problem(422, "bad_path");
        d.get(&format!("{url}/d/b?start_line=x")).await.problem(400, "bad_parameter");
        d.get(&format!("{url}/d/b?ref=nope")).await.problem(404, "ref_not_found");
    }

    /// Goal: a caller that holds a tree learns what differs from it, page by page, also to a user's view, with renames; as git tells it.
    async fn diff_from_a_tree(d) {
        let remote = d.remote("docs", 82);
        let project = whole_project(&d, "docs").await;
        let git = remote.git();
        let old = git.run(["rev-parse", "main~9^{tree}"]);
        let url = format!("/projects/{project}/diff?from={old}&to=main&patch=false");
        let shown = d.get(&format!("{url}&limit=10000")).await.ok(200);
        let raw = git.run(["-c", "core.quotePath=false", "diff-tree", "-r", "--no-renames", "--no-abbrev", &old, "main"]);
        let line = |file: &Value| {
            let text = |name: &str, none: &str| file[name].as_str().unwrap_or(none).to_owned();
            let zero = "0".repeat(40);
            format!(":{} {} {} {} {}", text("old_mode", "000000"), text("new_mode", "000000"), text("old_oid", &zero),
                text("new_oid", &zero), text("path", ""))
        };
        let mut expected: Vec<String> = raw.lines().map(|line| {
            let (head, path) = line.split_once('\t').expect("a path");
            format!("{} {path}", head.rsplit_once(' ').expect("a status").0)
        }).collect();
        expected.sort_by_key(|line| line.splitn(5, ' ').nth(4).map(str::to_owned));
        let files = shown["files"].as_array().expect("files");
        assert_eq!(files.iter().map(line).collect::<Vec<_>>(), expected);
        assert!(files.len() > 2);
        assert_eq!((&shown["from"], &shown["from_tree"]), (&json!(old), &json!(old)));
        assert_eq!(shown["to_tree"], json!(git.run(["rev-parse", "main^{tree}"])));
        assert_eq!(json!(pages(&d, &format!("{url}&limit=2"), "files").await), shown["files"]);
        // With texts: the same in pages of JSON, and whole as text.
        let with_text = format!("/projects/{project}/diff?from={old}&to=main");
        let text = d.get(&with_text).await.text();
        let printed = String::from_utf8_lossy(&git.bytes(["-c", "core.quotePath=true", "diff", "--no-renames", "--no-color", "--abbrev=7", &old, "main"])).into_owned();
        let heads = |text: &str| text.lines().filter(|line| line.starts_with("diff --git")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(heads(&text), heads(&printed));
        let request = d.request("GET", &format!("{with_text}&limit=1")).header("Accept", "application/json");
        let page = d.send(request).await.ok(200);
        assert_eq!((page["files"].as_array().map(Vec::len), page["next_cursor"].is_string()), (Some(1), true));
        d.get(&format!("{with_text}&limit=1")).await.problem(400, "bad_parameter");
        // Everything is what differs from the empty tree.
        let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let all = pages(&d, &format!("/projects/{project}/diff?from={empty}&to=main&patch=false&limit=10000"), "files").await;
        assert_eq!(all.len(), remote.ls_tree("main").len());
        let user = Uuid::new_v4();
        d.put(&format!("/pending/{project}/{user}/mine"), "mine\n").await.ok(201);
        let view = d.get(&format!("/projects/{project}/diff?from={old}&user={user}&patch=false&limit=10000")).await.ok(200);
        let mine: Vec<&Value> = view["files"].as_array().expect("files").iter().filter(|file| !files.contains(file)).collect();
        assert_eq!(mine.iter().map(|file| &file["path"]).collect::<Vec<_>>(), [&json!("mine")]);
        assert_eq!((&view["revision"], &view["to_tree"]), (&json!(1), &Value::Null));
        let page = d.get(&format!("/projects/{project}/diff?from={old}&user={user}&patch=false&limit=1")).await.ok(200);
        d.put(&format!("/pending/{project}/{user}/more"), "more\n").await.ok(201);
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        d.get(&format!("/projects/{project}/diff?from={old}&user={user}&patch=false&cursor={cursor}")).await.problem(409, "snapshot_moved");
    }

    /// Goal: a moved file is told as one where asked for; a foreign tree is one that nobody has.
    async fn renames_and_isolation(d) {
        let project = d.local_project().await;
        let first = commit(&d, project, "First", json!([{"action": "create", "path": "a", "content": "text\n"}])).await;
        commit(&d, project, "Move", json!([{"action": "move", "from": "a", "path": "d/b"}])).await;
        let url = format!("/projects/{project}/diff?from={first}&to=main");
        let shown = d.get(&format!("{url}&patch=false&renames=true")).await.ok(200);
        let oid = blob_oid(b"text\n");
        assert_eq!(shown["files"], json!([{"path": "d/b", "action": "renamed", "old_path": "a", "old_oid": oid, "new_oid": oid,
            "old_mode": "100644", "new_mode": "100644"}]));
        let plain = d.get(&format!("{url}&patch=false")).await.ok(200);
        assert_eq!(plain["files"].as_array().map(Vec::len), Some(2));
        let text = d.get(&format!("{url}&renames=true")).await.text();
        assert_eq!(text, "diff --git a/a b/d/b\nsimilarity index 100%\nrename from a\nrename to d/b\n");
        let theirs = isolation::foreign(&d).await;
        for route in ["diff?to=main&from=", "diff?from=main&to=", "diff?patch=false&to=main&from=", "blame/d/b?ref=", "log?path=d&ref="] {
            let mut said = Vec::new();
            for oid in [&theirs.tree, &theirs.commit, &theirs.blobs[0], &isolation::nobodys()] {
                let reply = d.get(&format!("/projects/{project}/{route}{oid}")).await;
                said.push((reply.status, reply.text().replace(oid.as_str(), "OID")));
            }
            assert_eq!(said[0].0, 404);
            assert!(said.iter().all(|one| *one == said[0]), "{route}: {said:?}");
        }
    }
}
