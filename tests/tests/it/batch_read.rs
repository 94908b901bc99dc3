//! Batch reads: order, budgets, line ranges, one snapshot.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};

const TEXT: &str = "é€😀 ascii\nzweite Zeile ü\n\nvierte\n";
const BINARY: &[u8] = b"\xff\xfe\x00binary\xc3\x28\x80\x80";

fn content(file: &Value) -> Vec<u8> {
    let text = file["content"].as_str().unwrap_or_else(|| panic!("no content: {file}"));
    match file["encoding"].as_str() {
        Some("utf-8") => text.as_bytes().to_vec(),
        Some("base64") => BASE64_STANDARD.decode(text).expect("base64"),
        other => panic!("encoding {other:?}"),
    }
}

async fn project_with(d: &Deployment, files: &[(&str, &[u8])]) -> Uuid {
    let project = d.local_project().await;
    let actions: Vec<Value> = files
        .iter()
        .map(|(path, bytes)| {
            json!({"action": "create", "path": path, "encoding": "base64", "content": BASE64_STANDARD.encode(bytes)})
        })
        .collect();
    let author = json!({"name": "A", "email": "a@example.org"});
    let body = json!({"message": "Files", "author": author, "actions": actions});
    d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    project
}

async fn read(d: &Deployment, project: Uuid, body: Value) -> Value {
    d.post(&format!("/projects/{project}/read"), body).await.ok(200)
}

/// Reads to the end, page by page; what each path gave in all, and the number of pages.
async fn reassemble(d: &Deployment, project: Uuid, paths: &Value, max_bytes: u64) -> (Vec<(String, Vec<u8>)>, usize) {
    let mut whole: Vec<(String, Vec<u8>)> = Vec::new();
    let mut cut = false;
    let mut cursor = Value::Null;
    for page in 1..500 {
        let body = json!({"paths": paths, "max_bytes": max_bytes, "cursor": cursor});
        let answer = read(d, project, body).await;
        let files = answer["files"].as_array().expect("files");
        assert!(!files.is_empty() || answer["next_cursor"].is_null(), "a page without progress");
        let mut used = 0;
        for (at, file) in files.iter().enumerate() {
            let path = file["path"].as_str().expect("a path").to_owned();
            let bytes = file.get("error").map_or_else(|| content(file), |error| error["code"].to_string().into_bytes());
            used += if file.get("error").is_none() { bytes.len() as u64 } else { 0 };
            if cut {
                let last = whole.last_mut().expect("a file that was cut");
                assert_eq!(last.0, path, "the page goes on with the file that was cut");
                last.1.extend(bytes);
            } else {
                whole.push((path, bytes));
            }
            cut = file["truncated"] == true;
            assert!(!cut || at + 1 == files.len(), "only the last file of a page is cut");
        }
        // A character is never split, so a page may exceed a budget that is smaller than one.
        assert!(used <= max_bytes.max(4), "{used} bytes for a budget of {max_bytes}");
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            assert!(!cut, "cut without a cursor");
            return (whole, page);
        }
    }
    panic!("no end");
}

both! {
    /// Goal: answers come in request order, repeated paths included; a bad path fails only itself, with its own code.
    async fn order(d) {
        let project = project_with(&d, &[("z", b"last"), ("a/b", b"first"), ("bin", BINARY), ("empty", b"")]).await;
        let paths = json!(["z", "no", "a/b", "../x", "z", "a", ".git/config", "", "a//b", "empty", "bin", "a\u{0}b"]);
        let answer = read(&d, project, json!({"paths": paths})).await;
        let shown: Vec<Value> = answer["files"].as_array().expect("files").iter().map(|file| match file.get("error") {
            Some(error) => json!([file["path"], error["code"]]),
            None => json!([file["path"], BASE64_STANDARD.encode(content(file)), file["encoding"]]),
        }).collect();
        let b64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        assert_eq!(json!(shown), json!([
            ["z", b64(b"last"), "utf-8"], ["no", "file_not_found"], ["a/b", b64(b"first"), "utf-8"], ["../x", "bad_path"],
            ["z", b64(b"last"), "utf-8"], ["a", "is_directory"], [".git/config", "bad_path"], ["", "bad_path"],
            ["a//b", "bad_path"], ["empty", "", "utf-8"], ["bin", b64(BINARY), "base64"], ["a\u{0}b", "bad_path"],
        ]));
        let z = &answer["files"][0];
        assert_eq!(*z, json!({"path": "z", "oid": blob_oid(b"last"), "mode": "100644", "size": 4, "source": "committed",
            "encoding": "utf-8", "content": "last"}));
        assert_eq!((&answer["revision"], &answer["next_cursor"]), (&Value::Null, &Value::Null));
        assert!(answer["files"][1]["error"]["detail"].is_string());
        assert_eq!(read(&d, project, json!({"paths": []})).await["files"], json!([]));
    }

    /// Goal: whatever the budget, the pages join to exactly the bytes, of text and of binary files.
    async fn budget(d) {
        let long = TEXT.repeat(3);
        let project = project_with(&d, &[
            ("text", TEXT.as_bytes()), ("binary", BINARY), ("empty", b""), ("long", long.as_bytes()), ("tail", "ß".as_bytes()),
        ]).await;
        let paths = json!(["empty", "text", "missing", "binary", "empty", "long", "tail", "empty"]);
        let missing = b"\"file_not_found\"";
        let expected: Vec<(String, Vec<u8>)> = [
            ("empty", &b""[..]), ("text", TEXT.as_bytes()), ("missing", missing), ("binary", BINARY), ("empty", b""),
            ("long", long.as_bytes()), ("tail", "ß".as_bytes()), ("empty", b""),
        ].map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).to_vec();
        let total: usize = TEXT.len() * 4 + BINARY.len() + 2;
        let budgets: &[u64] =
            if d.setup == Setup::Embedded { &[0, 1, 2, 3, 4, 5, 7, 12, 13, 40, 1000] } else { &[3, 40] };
        for &budget in budgets {
            let (found, pages) = reassemble(&d, project, &paths, budget).await;
            assert_eq!(found, expected, "budget {budget}");
            assert!(pages >= total.div_ceil(budget.max(4) as usize), "budget {budget}: {pages} pages");
        }
        assert_eq!(reassemble(&d, project, &paths, total as u64).await.1, 1, "the budget is exactly enough");
        assert_eq!(reassemble(&d, project, &paths, u64::MAX).await.1, 1);
        // Ranges of lines are cut and joined alike.
        let lines = json!([{"path": "text", "start_line": 2, "end_line": 4}, {"path": "text", "start_line": 1, "end_line": 1}]);
        let whole = reassemble(&d, project, &lines, 5).await.0;
        let joined: Vec<&[u8]> = whole.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert_eq!(joined, ["zweite Zeile ü\n\nvierte\n".as_bytes(), "é€😀 ascii\n".as_bytes()]);
    }

    /// Goal: a range that ends before it begins fails only itself; one behind the end of the file is empty.
    async fn lines_the_wrong_way_round(d) {
        let project = project_with(&d, &[("t", b"1\n2\n3\n")]).await;
        let range = |from: u64, to: u64| json!({"path": "t", "start_line": from, "end_line": to});
        let answer = read(&d, project, json!({"paths": [range(3, 2), range(2, 2), range(8, 9), {"path": "t", "end_line": 0}]})).await;
        let shown = answer["files"].as_array().expect("files").iter().map(|file| json!([file["error"]["code"], file["content"]]));
        let expected = json!([["bad_request", null], [null, "2\n"], [null, ""], ["bad_request", null]]);
        assert_eq!(json!(shown.collect::<Vec<_>>()), expected);
    }

    /// Goal: line ranges count from 1, include both ends, keep line ends, and say where they are.
    async fn lines(d) {
        let project = project_with(&d, &[("t", b"1\n2\r\n3\n\n5"), ("e", b""), ("nl", b"\n")]).await;
        for (range, text, place) in [
            (json!({"path": "t", "start_line": 1, "end_line": 1}), "1\n", json!([1, 1, 5])),
            (json!({"path": "t", "start_line": 2, "end_line": 4}), "2\r\n3\n\n", json!([2, 4, 5])),
            (json!({"path": "t", "start_line": 5}), "5", json!([5, 5, 5])),
            (json!({"path": "t", "end_line": 2}), "1\n2\r\n", json!([1, 2, 5])),
            (json!({"path": "t", "start_line": 4, "end_line": 99}), "\n5", json!([4, 5, 5])),
            (json!({"path": "t"}), "1\n2\r\n3\n\n5", json!([1, 5, 5])),
            (json!({"path": "nl", "start_line": 1}), "\n", json!([1, 1, 1])),
        ] {
            let file = &read(&d, project, json!({"paths": [range.clone()]})).await["files"][0];
            assert_eq!(file["content"], text, "{range}");
            assert_eq!(json!([file["start_line"], file["end_line"], file["total_lines"]]), place, "{range}");
        }
        for range in [json!({"path": "t", "start_line": 6}), json!({"path": "t", "start_line": 6, "end_line": 9}),
            json!({"path": "e", "start_line": 1}), json!({"path": "t", "start_line": u64::MAX, "end_line": u64::MAX})] {
            let file = &read(&d, project, json!({"paths": [range.clone()]})).await["files"][0];
            assert_eq!(file["content"], "", "{range}");
            assert_eq!(file["truncated"], Value::Null);
        }
    }

    /// Goal: one line for the snapshot, one for each file, one for the cursor; the same content as JSON.
    async fn ndjson(d) {
        let project = project_with(&d, &[("a", b"one\n"), ("b", BINARY)]).await;
        let body = json!({"paths": ["a", "none", "b"]});
        let plain = read(&d, project, body.clone()).await;
        let request = d.request("POST", &format!("/projects/{project}/read")).header("Accept", "application/x-ndjson");
        let reply = d.send(crate::deployment::json_body(request, &body)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-ndjson"));
        let text = reply.text();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(text.ends_with('\n'));
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], json!({"commit": plain["commit"], "revision": null}));
        assert_eq!(json!(lines[1..4]), plain["files"]);
        assert_eq!(lines[4], json!({"next_cursor": null}));
    }

    /// Goal: a read is of one snapshot: a ref's, or a user's view with its revision; a cursor stays with it or says that it is gone.
    async fn snapshot(d) {
        let project = project_with(&d, &[("a", b"old a"), ("b", b"old b"), ("c", b"old c")]).await;
        let user = Uuid::new_v4();
        d.put(&format!("/pending/{project}/{user}/b"), "mine").await.ok(201);
        d.send(d.request("PUT", &format!("/pending/{project}/{user}/c?action=deleted"))).await.ok(201);
        d.put(&format!("/pending/{project}/{user}/new"), vec![7; 120_000]).await.ok(201);
        let paths = json!(["a", "b", "c", "new"]);
        let view = read(&d, project, json!({"paths": paths, "user": user})).await;
        assert_eq!(view["revision"], 3);
        let files = &view["files"];
        assert_eq!(json!([files[0]["source"], files[1]["source"], files[3]["source"]]), json!(["committed", "pending", "pending"]));
        assert_eq!((&files[1]["content"], &files[2]["error"]["code"]), (&json!("mine"), &json!("pending_deletion")));
        assert_eq!(content(&files[3]), vec![7; 120_000]);
        let first = view["commit"].clone();
        // A cursor goes on at its commit though the branch moved.
        let page = read(&d, project, json!({"paths": paths, "max_bytes": 6})).await;
        d.put(&format!("/files/{project}/b"), "NEW B").await.ok(200);
        let rest = read(&d, project, json!({"paths": paths, "cursor": page["next_cursor"]})).await;
        assert_eq!(rest["commit"], first);
        assert_eq!((&rest["files"][0]["path"], &rest["files"][0]["content"]), (&json!("b"), &json!("ld b")));
        let old = read(&d, project, json!({"paths": ["b"], "ref": first})).await;
        assert_eq!(old["files"][0]["content"], "old b");
        assert_eq!(read(&d, project, json!({"paths": ["b"], "ref": "main"})).await["files"][0]["content"], "NEW B");
        // A user's view cannot be read on once it changed.
        let page = read(&d, project, json!({"paths": paths, "user": user, "max_bytes": 6})).await;
        d.put(&format!("/pending/{project}/{user}/z"), "z").await.ok(201);
        let body = json!({"paths": paths, "user": user, "cursor": page["next_cursor"]});
        d.post(&format!("/projects/{project}/read"), body).await.problem(409, "snapshot_moved");
    }

    /// Goal: what a batch read cannot mean is refused as a whole, and says why.
    async fn refusals(d) {
        let project = project_with(&d, &[("a", b"a")]).await;
        let url = format!("/projects/{project}/read");
        let many: Vec<String> = (0..10_001).map(|n| format!("f{n}")).collect();
        let over = d.post(&url, json!({"paths": many})).await.problem(413, "too_large");
        assert_eq!((&over["limit"], &over["unit"]), (&json!(10_000), &json!("paths")));
        let enough = d.post(&url, json!({"paths": many[..10_000]})).await.ok(200);
        assert_eq!(enough["files"].as_array().map(Vec::len), Some(10_000));
        d.post(&url, json!({"paths": ["a"], "ref": "nope"})).await.problem(404, "ref_not_found");
        d.post(&url, json!({"paths": ["a"], "cursor": "nonsense"})).await.problem(400, "bad_request");
        for shape in [json!({}), json!({"paths": "a"}), json!({"paths": [1]}), json!({"paths": [], "max": 1}), json!([]),
            json!({"paths": [{"path": "a", "start": 1}]}), json!({"paths": [], "user": "me"}), json!({"paths": [], "max_bytes": -1}),
            json!({"paths": [{"path": "a", "start_line": -1}]})] {
            d.post(&url, shape).await.problem(422, "bad_shape");
        }
    }
}
