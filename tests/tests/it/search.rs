//! Search: over refs and views, compared with `git grep`, in pages and streams, and what it refuses.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, blob_oid, json_body};
use crate::isolation;

async fn search(d: &Deployment, project: Uuid, body: Value) -> Value {
    d.post(&format!("/projects/{project}/search"), body).await.ok(200)
}

/// The entries of all pages, of an answer in which `limit` is small.
async fn pages(d: &Deployment, project: Uuid, mut body: Value, entries: &str) -> Vec<Value> {
    let (mut all, mut commit) = (Vec::new(), None::<Value>);
    for _ in 0..5000 {
        let page = search(d, project, body.clone()).await;
        assert_eq!(commit.get_or_insert_with(|| page["commit"].clone()), &page["commit"]);
        all.extend(page[entries].as_array().expect("entries").iter().cloned());
        if page["next_cursor"].is_null() {
            return all;
        }
        body["cursor"] = page["next_cursor"].clone();
    }
    panic!("no end");
}

/// `path:line:column:text` of each match.
fn lines(matches: &[Value]) -> Vec<String> {
    let bytes = |found: &Value| {
        let text = found["text"].as_str().expect("text");
        match found["encoding"].as_str() {
            None => text.as_bytes().to_vec(),
            Some("base64") => BASE64_STANDARD.decode(text).expect("base64"),
            other => panic!("encoding {other:?}"),
        }
    };
    let line = |found: &Value| {
        let text = String::from_utf8_lossy(&bytes(found)).into_owned();
        format!("{}:{}:{}:{text}", found["path"].as_str().expect("a path"), found["line"], found["column"])
    };
    matches.iter().map(line).collect()
}

/// What `git grep` says in the same form.
fn grep(git: &Git, revision: &str, arguments: &[&str], paths: &[&str]) -> Vec<String> {
    let mut all = vec!["-c", "core.quotePath=false", "grep", "-n", "--column", "-I"];
    all.extend(arguments);
    all.extend([revision, "--"]);
    all.extend(paths);
    let output = git.output(all);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| line.strip_prefix(&format!("{revision}:")).expect("a revision").to_owned();
    text.split_terminator('\n').map(line).collect()
}

/// A stream's lines: the head, the entries, the end.
async fn stream(d: &Deployment, project: Uuid, body: &Value) -> (Value, Vec<Value>, Value) {
    let request = d.request("POST", &format!("/projects/{project}/search")).header("Accept", "application/x-ndjson");
    let reply: Reply = d.send(json_body(request, body)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-ndjson"), "{}", reply.text());
    let text = reply.text();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let end = lines.pop().expect("an end");
    let head = lines.remove(0);
    (head, lines, end)
}

async fn project_with(d: &Deployment, files: &[(&str, &[u8])]) -> Uuid {
    let project = d.local_project().await;
    let create = |(path, bytes): &(&str, &[u8])| json!({"action": "create", "path": path, "encoding": "base64", "content": BASE64_STANDARD.encode(bytes)});
    let actions: Vec<Value> = files.iter().map(create).collect();
    let author = json!({"name": "A", "email": "a@example.org"});
    let body = json!({"message": "Files", "author": author, "actions": actions});
    d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    project
}

both! {
    /// Goal: in a real repository, with any options and pages, what is found is what `git grep` finds, in its order.
    async fn as_git_grep(d) {
        let remote: Repo = d.remote("docs", 71);
        let project = d.connect("docs").await;
        let git = remote.git();
        let mut found_in_all = 0;
        for (body, arguments, paths) in [
            (json!({"query": "a", "word": true}), vec!["-F", "-w", "-e", "a"], vec![]),
            (json!({"query": "THE", "case": "insensitive"}), vec!["-F", "-i", "-e", "THE"], vec![]),
            (json!({"query": "[0-9]+", "regex": true}), vec!["-E", "-e", "[0-9]+"], vec![]),
            (json!({"query": "e", "globs": ["*.md", "!/notes/"]}), vec!["-F", "-e", "e"], vec![":(glob)**/*.md", ":(exclude)notes/"]),
            (json!({"query": "the", "case": "smart", "globs": ["!/src/"]}), vec!["-F", "-i", "-e", "the"], vec![":(exclude)src/"]),
            (json!({"query": "e", "prefix": "src/net/"}), vec!["-F", "-e", "e"], vec!["src/net/"]),
            (json!({"query": "nobody wrote this"}), vec!["-F", "-e", "nobody wrote this"], vec![]),
        ] {
            let expected = grep(git, "main", &arguments, &paths);
            let (_, all, end) = stream(&d, project, &body).await;
            assert_eq!(lines(&all), expected, "{body}");
            assert_eq!(end["next_cursor"], Value::Null);
            found_in_all += all.len();
            let mut paged = body.clone();
            paged["limit"] = json!(expected.len() / 3 + 1);
            assert_eq!(pages(&d, project, paged, "matches").await, all, "{body}");
            let by_file = body.get("word").is_some() || body.get("prefix").is_some();
            for (mode, flag) in [("files", "-l"), ("count", "-c")].into_iter().filter(|_| by_file) {
                let mut body = body.clone();
                (body["mode"], body["limit"]) = (json!(mode), json!(9));
                let files = pages(&d, project, body, "files").await;
                let line = |file: &Value| match mode {
                    "files" => file["path"].as_str().expect("a path").to_owned(),
                    _ => format!("{}:{}", file["path"].as_str().expect("a path"), file["count"]),
                };
                let mut asked = vec!["grep", "-I", flag];
                asked.extend(&arguments);
                asked.extend(["main", "--"]);
                asked.extend(&paths);
                let told = git.output([&["-c", "core.quotePath=false"][..], &asked].concat());
                let told = String::from_utf8_lossy(&told.stdout).into_owned();
                let expected: Vec<&str> = told.lines().map(|line| line.strip_prefix("main:").expect("main")).collect();
                assert_eq!(files.iter().map(line).collect::<Vec<_>>(), expected);
            }
        }
        assert!(found_in_all > 200, "{found_in_all}");
    }

    /// Goal: the shape of an answer, with context, budget, limits in a file, binary files, and links left out.
    async fn shape(d) {
        let long = format!("{}here{}", "x".repeat(9000), "y".repeat(9000));
        let project = project_with(&d, &[
            ("a.txt", "one\ntwo ü here\nthree\nhere and here\nfive".as_bytes()),
            ("b.bin", b"here\0"), ("c.txt", b"\xff here\n"), ("d.txt", long.as_bytes()),
        ]).await;
        let answer = search(&d, project, json!({"query": "here", "before": 1, "after": 2})).await;
        let oid = blob_oid("one\ntwo ü here\nthree\nhere and here\nfive".as_bytes());
        assert_eq!(answer["matches"][0], json!({"path": "a.txt", "oid": oid, "source": "committed", "line": 2, "column": 8,
            "text": "two ü here", "submatches": [{"start": 7, "end": 11}], "before": [{"line": 1, "text": "one"}],
            "after": [{"line": 3, "text": "three"}, {"line": 4, "text": "here and here"}]}));
        assert_eq!(answer["matches"][1]["submatches"], json!([{"start": 0, "end": 4}, {"start": 9, "end": 13}]));
        let latin = &answer["matches"][2];
        assert_eq!((&latin["encoding"], &latin["text"]), (&json!("base64"), &json!(BASE64_STANDARD.encode(b"\xff here"))));
        let cut = &answer["matches"][3];
        let (start, text) = (cut["text_start"].as_u64().expect("a start") as usize, cut["text"].as_str().expect("text"));
        assert_eq!((&cut["truncated"], &cut["column"], text.len()), (&json!(true), &json!(9001), 4096));
        assert_eq!(long[start..start + text.len()], *text);
        assert_eq!(cut["submatches"][0]["start"], json!(9000 - start));
        assert_eq!(answer["skipped"], json!({"binary": 1, "too_large": 0, "unreadable": 0}));
        assert_eq!((&answer["files_searched"], &answer["revision"]), (&json!(3), &Value::Null));
        assert_eq!(answer["next_cursor"], Value::Null);
        let bytes = 40 + 7 + long.len();
        assert_eq!(answer["bytes_searched"], json!(bytes));
        let all = search(&d, project, json!({"query": "here", "include_binary": true, "mode": "count"})).await;
        let counts: Vec<&Value> = all["files"].as_array().expect("files").iter().map(|file| &file["count"]).collect();
        assert_eq!(json!(counts), json!([2, 1, 1, 1]));
        let few = search(&d, project, json!({"query": "here", "max_matches_per_file": 1, "globs": ["[ac].txt"]})).await;
        let more: Vec<&Value> = few["matches"].as_array().expect("matches").iter().map(|m| &m["more_in_file"]).collect();
        assert_eq!(more, [&json!(true), &Value::Null]);
        // A budget is kept by pages of one match each, at least.
        let body = json!({"query": "here", "max_bytes": 0});
        assert_eq!(pages(&d, project, body, "matches").await.len(), 4);
        let over = json!({"query": "here\\s+three", "regex": true, "multiline": true});
        let over = &search(&d, project, over).await["matches"][0];
        assert_eq!((&over["line"], &over["text"]), (&json!(2), &json!("two ü here\nthree")));
    }

    /// Goal: a search is of one snapshot: a ref's, or a user's view; a cursor stays with it or says that it is gone.
    async fn snapshot(d) {
        let project = project_with(&d, &[("a", b"word 1\n"), ("b", b"word 2\n"), ("c", b"word 3\n")]).await;
        let user = Uuid::new_v4();
        d.put(&format!("/pending/{project}/{user}/b"), "my word\n").await.ok(201);
        d.send(d.request("PUT", &format!("/pending/{project}/{user}/c?action=deleted"))).await.ok(201);
        d.put(&format!("/pending/{project}/{user}/new"), format!("{}\nword", "x".repeat(120_000))).await.ok(201);
        let view = search(&d, project, json!({"query": "word", "user": user})).await;
        assert_eq!(view["revision"], 3);
        let told: Vec<Value> =
            view["matches"].as_array().expect("matches").iter().map(|m| json!([m["path"], m["line"], m["source"]])).collect();
        assert_eq!(json!(told), json!([["a", 1, "committed"], ["b", 1, "pending"], ["new", 2, "pending"]]));
        assert_eq!(search(&d, project, json!({"query": "word", "branch": "main", "user": user})).await, view);
        let body = json!({"query": "word", "limit": 1});
        let page = search(&d, project, body.clone()).await;
        let first = page["commit"].clone();
        d.put(&format!("/files/{project}/b"), "no more\n").await.ok(200);
        let mut on = body.clone();
        on["cursor"] = page["next_cursor"].clone();
        let rest = search(&d, project, on).await;
        assert_eq!((&rest["commit"], &rest["matches"][0]["path"]), (&first, &json!("b")));
        let now = search(&d, project, json!({"query": "word"})).await;
        assert_eq!(lines(now["matches"].as_array().expect("matches")), ["a:1:1:word 1", "c:1:1:word 3"]);
        let old = search(&d, project, json!({"query": "word", "ref": first})).await;
        assert_eq!(old["matches"].as_array().map(Vec::len), Some(3));
        let page = search(&d, project, json!({"query": "word", "limit": 1, "user": user})).await;
        d.put(&format!("/pending/{project}/{user}/z"), "z").await.ok(201);
        let body = json!({"query": "word", "limit": 1, "user": user, "cursor": page["next_cursor"]});
        d.post(&format!("/projects/{project}/search"), body).await.problem(409, "snapshot_moved");
        // An unborn branch has nothing to search in, but for a user's own files.
        let empty = d.local_project().await;
        let none = search(&d, empty, json!({"query": "word"})).await;
        assert_eq!((&none["commit"], &none["matches"]), (&Value::Null, &json!([])));
        d.put(&format!("/pending/{empty}/{user}/w"), "word").await.ok(201);
        let own = search(&d, empty, json!({"query": "word", "user": user})).await;
        assert_eq!(own["matches"][0]["source"], "pending");
    }

    /// Goal: a stream shows what the pages show, between a line for the snapshot and one for the end.
    async fn ndjson(d) {
        let project = project_with(&d, &[("a", b"word\nword"), ("b", b"word")]).await;
        let plain = search(&d, project, json!({"query": "word"})).await;
        let (head, all, end) = stream(&d, project, &json!({"query": "word"})).await;
        assert_eq!(head, json!({"commit": plain["commit"], "revision": null}));
        assert_eq!(json!(all), plain["matches"]);
        for key in ["files_searched", "bytes_searched", "skipped", "next_cursor"] {
            assert_eq!(end[key], plain[key], "{key}");
        }
        let (_, two, end) = stream(&d, project, &json!({"query": "word", "limit": 2})).await;
        assert_eq!(two.len(), 2);
        let (_, rest, _) = stream(&d, project, &json!({"query": "word", "cursor": end["next_cursor"]})).await;
        assert_eq!(json!(rest), json!([plain["matches"][2]]));
        let (head, none, _) = stream(&d, project, &json!({"query": "nowhere"})).await;
        assert_eq!((&head["commit"], none.len()), (&plain["commit"], 0));
    }

    /// Goal: what a search cannot mean is refused with what to do; what another project has is not found.
    async fn refusals(d) {
        let project = project_with(&d, &[("a", b"a")]).await;
        let url = format!("/projects/{project}/search");
        let bad = d.post(&url, json!({"query": "a(b", "regex": true})).await.problem(422, "bad_regex");
        assert!(bad["detail"].as_str().expect("a detail").contains("at character 2"), "{bad}");
        d.post(&url, json!({"query": r"(\w{500}){500}", "regex": true})).await.problem(422, "bad_regex");
        d.post(&url, json!({"query": ""})).await.problem(422, "bad_regex");
        d.post(&url, json!({"query": "a", "globs": ["[a"]})).await.problem(422, "bad_glob");
        d.post(&url, json!({"query": "a".repeat(5000)})).await.problem(413, "too_large");
        d.post(&url, json!({"query": "a", "ref": "nope"})).await.problem(404, "ref_not_found");
        d.post(&url, json!({"query": "a", "ref": "main", "branch": "main"})).await.problem(400, "bad_request");
        d.post(&url, json!({"query": "a", "cursor": "nonsense"})).await.problem(400, "bad_request");
        for shape in [json!({}), json!({"query": 1}), json!({"query": "a", "globs": "b"}), json!({"query": "a", "mode": "x"}),
            json!({"query": "a", "context": -1}), json!({"query": "a", "nonsense": 1})] {
            d.post(&url, shape).await.problem(422, "bad_shape");
        }
        let theirs = isolation::foreign(&d).await;
        let mut said = Vec::new();
        for oid in [theirs.commit, isolation::nobodys()] {
            let reply = d.post(&url, json!({"query": "secret", "ref": oid})).await;
            said.push((reply.status, reply.text().replace(&oid, "OID")));
        }
        assert_eq!(said[0], said[1]);
        let none = search(&d, project, json!({"query": "secret"})).await;
        assert_eq!(none["matches"], json!([]));
    }
}
