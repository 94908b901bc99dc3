//! Goal: the engine's verbs come through as the contract describes them.

use serde_json::json;
use treehold_server::{RateLimits, ServerConfig};

use crate::harness::{Server, USER};

#[tokio::test]
async fn projects_are_made_once() {
    let server = Server::with(ServerConfig::default()).await;
    let id = uuid::Uuid::new_v4();
    let target = format!("/projects/{id}");
    let made = server.json("PUT", &target, &json!({"name": "docs"})).await;
    assert_eq!((made.status, made.header("location")), (201, Some(target.as_str())));
    assert_eq!((&made.json()["default_branch"], &made.json()["head"]), (&json!("main"), &json!(null)));
    assert_eq!(server.json("PUT", &target, &json!({"name": "docs"})).await.status, 200);
    assert_eq!(server.get("/projects/docs").await.json()["id"], id.to_string());
    assert_eq!(server.get("/projects?limit=5").await.json()["projects"][0]["id"], id.to_string());
    let other = server.send("POST", "/projects", &[], "").await;
    assert_eq!(other.status, 201);
    let remote = json!({"remote": {"url": "https://example.org/x"}});
    assert_eq!(server.json("POST", "/projects", &remote).await.problem(), (403, "remote_not_allowed".into()));
    let gone = server.send("DELETE", &target, &[], "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(server.get(&target).await.problem(), (404, "project_not_found".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_project_says_what_pushes_it_refuses() {
    let server = Server::start().await;
    let target = format!("/projects/{}", uuid::Uuid::new_v4());
    let shown = |forwards: bool, deletes: bool| json!({"deny_non_fast_forwards": forwards, "deny_deletes": deletes});
    let body = json!({"name": "docs", "receive": {"deny_deletes": true}});
    assert_eq!(server.json("PUT", &target, &body).await.json()["receive"], shown(false, true));
    assert_eq!(server.json("PUT", &target, &body).await.status, 200);
    let other = json!({"name": "docs", "receive": {"deny_deletes": false}});
    assert_eq!(server.json("PUT", &target, &other).await.problem(), (409, "project_exists".into()));

    let change = |receive: serde_json::Value| json!({ "receive": receive });
    let done = server.json("PATCH", "/projects/docs", &change(json!({"deny_non_fast_forwards": true}))).await;
    assert_eq!((done.status, &done.json()["receive"]), (200, &shown(true, true)));
    for nothing in [json!({}), change(json!({})), change(json!(null))] {
        assert_eq!(server.json("PATCH", &target, &nothing).await.json(), done.json());
    }
    for wrong in [json!({"name": "x"}), change(json!({"deny": true})), change(json!({"deny_deletes": "no"}))] {
        assert_eq!(server.json("PATCH", &target, &wrong).await.problem(), (422, "bad_shape".into()), "{wrong}");
    }
    assert_eq!(server.send("PATCH", &target, &[], "{}").await.problem(), (415, "unsupported_media_type".into()));
    let nowhere = server.json("PATCH", "/projects/nothing", &json!({})).await;
    assert_eq!(nowhere.problem(), (404, "project_not_found".into()));
    let done = server.json("PATCH", &target, &change(json!({"deny_deletes": false}))).await.json();
    assert_eq!((&done["receive"], &done["name"]), (&shown(true, false), &json!("docs")));
    assert_eq!(server.get(&target).await.json(), done);
    assert_eq!(server.get("/projects").await.json()["projects"], json!([done]));
    // Who says nothing about pushes repeats the creation safely after a change.
    assert_eq!(server.json("PUT", &target, &json!({"name": "docs"})).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn an_autosave_is_read_committed_and_listed() {
    let server = Server::start().await;
    let project = server.project().await;
    let target = format!("/pending/{project}/{USER}/guide/a%20b.md");
    let saved = server.send("PUT", &target, &[("Content-Type", "text/markdown")], "# Hello").await;
    assert_eq!(saved.status, 201, "{saved:?}");
    let (oid, answer) = (saved.json()["oid"].as_str().unwrap().to_owned(), saved.json());
    assert_eq!((&answer["path"], &answer["size"], &answer["revision"]), (&json!("guide/a b.md"), &json!(7), &json!(1)));
    let tag = format!("\"{oid}\"");
    assert_eq!(saved.header("etag"), Some(tag.as_str()));
    assert_eq!(server.send("PUT", &target, &[("If-Match", &tag)], "# Hello 2").await.status, 200);
    let stale = server.send("PUT", &target, &[("If-Match", &tag)], "# Hello 3").await;
    assert_eq!(stale.problem(), (412, "precondition_failed".into()));
    assert_eq!(stale.json()["revision"], 2);
    assert_ne!(stale.json()["oid"], oid);
    assert_eq!(server.send("PUT", &target, &[("If-None-Match", "*")], "x").await.status, 412);

    let pending = server.get(&target).await;
    assert_eq!((pending.status, pending.body.as_slice()), (200, b"# Hello 2".as_slice()));
    assert_eq!(pending.header("x-treehold-revision"), Some("2"));
    let view = format!("/files/{project}/guide%2Fa%20b.md?user={USER}");
    let seen = server.get(&view).await;
    assert_eq!((seen.status, seen.header("x-treehold-source")), (200, Some("pending")));
    assert_eq!(server.get(&format!("/files/{project}/guide/a%20b.md")).await.status, 404);

    let commit = json!({"user": USER, "message": "Greet", "author": {"name": "A", "email": "a@example.org"}});
    let done = server.json("POST", &format!("/projects/{project}/commit"), &commit).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!((&done.json()["pushed"], &done.json()["parents"]), (&json!(false), &json!([])));
    let again = server.json("POST", &format!("/projects/{project}/commit"), &commit).await;
    assert_eq!(again.problem(), (422, "nothing_to_commit".into()));
    let list = server.get(&format!("/files/{project}?prefix=guide/")).await.json();
    assert_eq!(list["files"][0]["path"], "guide/a b.md");
    assert_eq!(list["commit"], done.json()["commit"]);
    server.stop().await;
}

#[tokio::test]
async fn files_answer_ranges_conditions_and_heads() {
    let server = Server::start().await;
    let project = server.project().await;
    let target = format!("/files/{project}/f");
    let made = server.send("PUT", &format!("{target}?mode=100755&message=M"), &[], "0123456789").await;
    assert_eq!(made.status, 200, "{made:?}");
    let commit = made.json()["commit"].as_str().unwrap().to_owned();
    let file = server.get(&target).await;
    let tag = file.header("etag").unwrap().to_owned();
    assert_eq!((file.header("git-mode"), file.header("git-commit")), (Some("100755"), Some(commit.as_str())));
    assert_eq!(made.header("etag"), Some(tag.as_str()));
    let part = server.send("GET", &target, &[("Range", "bytes=2-4")], "").await;
    assert_eq!((part.status, part.body.as_slice()), (206, b"234".as_slice()));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    let beyond = server.send("GET", &target, &[("Range", "bytes=10-")], "").await;
    assert_eq!(beyond.problem(), (416, "range_not_satisfiable".into()));
    let same = server.send("GET", &target, &[("If-None-Match", &format!("W/{tag}"))], "").await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(tag.as_str())));
    assert_ne!(same.header("content-length"), Some("0"), "that would be said of the file");
    let head = server.send("HEAD", &target, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("10"), 0));
    assert_eq!(server.send("HEAD", &format!("{target}x"), &[], "").await.status, 404);
    let stale = [("If-Match", "\"1111111111111111111111111111111111111111\"")];
    assert_eq!(server.send("DELETE", &target, &stale, "").await.problem(), (412, "precondition_failed".into()));
    assert_eq!(server.send("DELETE", &target, &[("If-Match", &tag)], "").await.status, 200);
    assert_eq!(server.get(&target).await.problem(), (404, "file_not_found".into()));
    server.stop().await;
}

#[tokio::test]
async fn odd_paths_reach_the_engine_unchanged() {
    let server = Server::start().await;
    let project = server.project().await;
    for path in [
        "",
        "/x",
        "a//b",
        "a/",
        "./a",
        "a/../b",
        "%2e%2e/x",
        "..%2fx",
        "a%00b",
        "%FF",
        ".git/config",
        ".GIT",
        "a/.git",
        "%2Fetc",
    ] {
        for target in [format!("/files/{project}/{path}"), format!("/pending/{project}/{USER}/{path}")] {
            let reply = server.send("PUT", &target, &[], "x").await;
            assert_eq!(reply.problem(), (422, "bad_path".into()), "{target}");
        }
    }
    let target = format!("/pending/{project}/{USER}/");
    assert_eq!(server.send("PUT", &format!("{target}keep"), &[], "x").await.status, 201);
    assert_eq!(server.send("DELETE", &target, &[], "").await.status, 422, "an empty path is not all paths");
    assert_eq!(server.get(&format!("{target}keep")).await.status, 200);
    let encoded = server.send("PUT", &format!("{target}a%252Fb"), &[], "x").await;
    assert_eq!(encoded.json()["path"], "a%2Fb", "decoded once");
    server.stop().await;
}

#[tokio::test]
async fn deletions_are_pending_work_too() {
    let server = Server::start().await;
    let project = server.project().await;
    server.send("PUT", &format!("/files/{project}/f"), &[], "x").await;
    let target = format!("/pending/{project}/{USER}/f");
    let gone = server.send("PUT", &format!("{target}?action=deleted"), &[], "").await;
    assert_eq!((gone.status, &gone.json()["action"]), (201, &json!("deleted")));
    let view = server.get(&format!("/files/{project}/f?user={USER}")).await;
    assert_eq!(view.problem(), (404, "pending_deletion".into()));
    let all = server.send("DELETE", &format!("/pending/{project}/{USER}"), &[], "").await;
    assert_eq!((all.status, &all.json()["dropped"]), (200, &json!(1)));
    server.stop().await;
}

#[tokio::test]
async fn many_files_as_json_and_as_lines() {
    let server = Server::start().await;
    let project = server.project().await;
    let actions: Vec<_> = ["a", "b"].map(|path| json!({"action": "create", "path": path, "content": path})).to_vec();
    let commits = json!({"message": "M", "author": {"name": "A", "email": "a@b.c"}, "actions": actions});
    let done = server.json("POST", &format!("/projects/{project}/commits"), &commits).await;
    assert_eq!(done.status, 200, "{done:?}");
    let target = format!("/projects/{project}/read");
    let body = json!({"paths": ["b", "none", "a"]});
    let answer = server.json("POST", &target, &body).await.json();
    assert_eq!(
        (&answer["files"][0]["content"], &answer["files"][1]["error"]["code"]),
        (&json!("b"), &json!("file_not_found"))
    );
    let headers = [("Content-Type", "application/json"), ("Accept", "application/x-ndjson")];
    let lines = server.send("POST", &target, &headers, body.to_string()).await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let text = String::from_utf8(lines.body.clone()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], json!({"commit": answer["commit"], "revision": null}));
    assert_eq!(lines[1..4], answer["files"].as_array().unwrap()[..]);
    assert_eq!(lines[4], json!({"next_cursor": null}));
    server.stop().await;
}

#[tokio::test]
async fn history_refs_objects_and_exports() {
    let server = Server::start().await;
    let project = server.project().await;
    let made = server.send("PUT", &format!("/files/{project}/d/f"), &[], "hi\n").await.json();
    let (commit, tree) = (made["commit"].as_str().unwrap(), made["tree"].as_str().unwrap());
    let base = format!("/projects/{project}");
    let log = server.get(&format!("{base}/log")).await.json();
    assert_eq!(log["commits"][0]["commit"], commit);
    let target = format!("{base}/refs/refs/heads/topic%2Fone");
    let branch = server.json("PUT", &target, &json!({"oid": commit})).await;
    assert_eq!((branch.status, &branch.json()["name"]), (201, &json!("refs/heads/topic/one")), "{branch:?}");
    assert_eq!(server.get(&format!("{base}/refs")).await.json()["refs"].as_array().unwrap().len(), 2);
    let tag = format!("\"{commit}\"");
    assert_eq!(server.send("DELETE", &target, &[("If-Match", &tag)], "").await.status, 204);

    let shown = server.get(&format!("{base}/git/commits/{commit}")).await.json();
    assert_eq!((&shown["sha"], &shown["tree"]["sha"]), (&json!(commit), &json!(tree)));
    assert_eq!(shown["author"]["email"], "treehold@localhost");
    let shown = server.get(&format!("{base}/git/trees/{tree}")).await.json();
    assert_eq!((&shown["tree"][0]["path"], &shown["tree"][0]["mode"]), (&json!("d"), &json!("040000")));
    let octets = [("Accept", "application/octet-stream")];
    let raw = server.send("GET", &format!("{base}/git/commits/{commit}"), &octets, "").await;
    assert!(raw.body.starts_with(format!("tree {tree}\n").as_bytes()));
    let unknown = server.get(&format!("{base}/git/blobs/{}", "1".repeat(40))).await;
    let wrong_kind = server.get(&format!("{base}/git/blobs/{commit}")).await;
    assert_eq!((unknown.problem(), &unknown.body), ((404, "not_found".into()), &wrong_kind.body));

    let zip = server.get(&format!("{base}/archive.zip")).await;
    assert_eq!((zip.status, &zip.body[..2], zip.header("git-commit")), (200, b"PK".as_slice(), Some(commit)));
    let tar = server.get(&format!("{base}/archive.tar.gz?ref=main")).await;
    assert_eq!((tar.status, &tar.body[..2]), (200, [0x1f, 0x8b].as_slice()));
    assert!(tar.header("content-disposition").unwrap().ends_with(".tar.gz\""));
    let bundle = server.get(&format!("{base}/bundle")).await;
    assert!(bundle.status == 200 && bundle.body.starts_with(b"# v2 git bundle\n"), "{}", bundle.status);
    server.stop().await;
}

#[tokio::test]
async fn diff_and_status() {
    let server = Server::start().await;
    let project = server.project().await;
    server.send("PUT", &format!("/files/{project}/f"), &[], "old\n").await;
    server.send("PUT", &format!("/pending/{project}/{USER}/f"), &[], "new\n").await;
    let diff = server.get(&format!("/projects/{project}/diff?user={USER}")).await;
    assert_eq!(diff.header("content-type"), Some("text/x-diff; charset=utf-8"));
    let text = String::from_utf8(diff.body).unwrap();
    assert!(text.contains("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new\n"), "{text}");
    let target = format!("/projects/{project}/diff?user={USER}");
    let shown = server.send("GET", &target, &[("Accept", "application/json")], "").await.json();
    assert_eq!((&shown["files"][0]["additions"], &shown["files"][0]["path"]), (&json!(1), &json!("f")));
    let status = server.get(&format!("/projects/{project}/status?user={USER}")).await.json();
    assert_eq!((&status["changes"][0]["state"], &status["branch"]), (&json!("clean"), &json!("main")));
    server.stop().await;
}

#[tokio::test]
async fn a_streamed_sync_ends_with_a_result_or_a_problem() {
    let server = Server::start().await;
    let project = server.project().await;
    let events = [("Accept", "text/event-stream")];
    let plain = server.send("POST", &format!("/projects/{project}/sync"), &[], "").await;
    let reply = server.send("POST", &format!("/projects/{project}/sync"), &events, "").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    let text = String::from_utf8(reply.body).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let data = last.strip_prefix("event: problem\ndata: ").unwrap_or_else(|| panic!("{text}"));
    let (problem, said): (serde_json::Value, _) = (serde_json::from_str(data).unwrap(), plain.problem());
    assert_eq!((&problem["code"], &problem["status"]), (&json!(said.1), &json!(said.0)));
    server.stop().await;
}

#[tokio::test]
async fn calls_of_tools_count() {
    let rates = RateLimits { reads: 1, writes: 1, syncs: 1 };
    let server = Server::with(ServerConfig { rates, ..ServerConfig::default() }).await;
    let id = server.send("POST", "/projects", &[], "").await.json()["id"].as_str().unwrap().to_owned();
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "status", "arguments": {}}});
    let headers = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("Treehold-Project", id.as_str()),
        ("Treehold-User", USER),
    ];
    let mut counted = Vec::new();
    for _ in 0..2 {
        let told = server.send("POST", "/mcp", &headers, call.to_string()).await.json();
        counted.push(told["result"]["isError"].clone());
    }
    assert_eq!(counted, [json!(false), json!(true)]);
    server.stop().await;
}
