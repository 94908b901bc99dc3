//! Paths: decoded exactly once, judged by component, refused rather than normalised.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::probe;
use crate::verifications::percent;

/// Shapes and `.git` forms, percent-encoded as they go on the wire: refused for reading, writing and deleting alike.
const NEVER: &[&str] = &[
    "",
    "/",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "a/./b",
    "a/../b",
    "../a",
    "%2e%2e/a",
    "a/%2e%2e/b",
    "a%2f..%2fb",
    "a%2F%2Fb",
    "%2fetc",
    "a%00b",
    "%00",
    ".git",
    ".GIT/config",
    "a/.Git",
    "%2egit/config",
    "a%2f.git%2fb",
    "git~1",
    "a/GIT~1/b",
    ".git%20",
    ".git.",
    ".git...",
    ".git%20.%20",
    ".git::$INDEX_ALLOCATION",
    ".git:x",
    "git~1:x",
    ".git%5Cconfig",
    "a%5C.git%5Cb",
    ".%5C.GIT%5Cx",
    "git~1%5Cx",
    ".git...:stream",
    ".g%E2%80%8Cit",
    "%E2%80%8C.git",
    ".git%EF%BB%BF",
    ".gi%E2%80%AET/x",
    "a/.%E2%81%AAGIT",
];

/// Names that no edit may add, though they are read where an import brought them.
const NOT_NEW: &[&str] = &[
    "a%5Cb",
    "C:",
    "C:x",
    "a:b",
    "a%3Cb",
    "a%3Eb",
    "a%22b",
    "a%3Fb",
    "a*b",
    "a%7Cb",
    "a%01b",
    "a%0ab",
    "a%0D",
    "%1f",
    "%7f",
    "CON",
    "con",
    "nul.txt",
    "dir/AUX",
    "PRN.a.b",
    "COM1",
    "lpt9.c",
    "COM%C2%B9",
    "LPT%C2%B3.x",
    "CONIN$",
    "conout$",
    "x.",
    "x%20",
    "dir./x",
    "dir%20/x",
    "a%ffb",
    "%c3%28",
    "%ed%a0%80",
];

/// A project on a remote with these files: path, mode, and content or what a gitlink names.
pub async fn import(d: &Deployment, name: &str, files: &[(&[u8], &str, &str)]) -> Uuid {
    let bare = Repo::init_bare(d.remotes.path().join(format!("{name}.git")));
    let mut stream = b"commit refs/heads/main\ncommitter C <c@example.org> 1700000000 +0000\ndata 2\nm\n".to_vec();
    for (path, mode, content) in files {
        let quoted: String = path.iter().map(|byte| format!("\\{byte:03o}")).collect();
        match *mode {
            "160000" => stream.extend(format!("M 160000 {content} \"{quoted}\"\n").bytes()),
            mode => stream.extend(format!("M {mode} inline \"{quoted}\"\ndata {}\n{content}\n", content.len()).bytes()),
        }
    }
    bare.git().run_with(["-c", "core.protectNTFS=false", "fast-import", "--quiet"], &stream);
    d.connect(name).await
}

async fn pending_count(d: &Deployment, project: Uuid, user: Uuid) -> usize {
    d.get(&format!("/pending/{project}/{user}")).await.ok(200)["changes"].as_array().map_or(0, Vec::len)
}

both! {
    /// Goal: what can be no path of a repository is 422 `bad_path` on every route that takes a path, however it is encoded.
    async fn never(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/a/b"), "b").await.ok(200);
        for path in NEVER {
            for base in [format!("/files/{project}"), format!("/pending/{project}/{user}")] {
                for (method, body) in [("GET", ""), ("PUT", "x"), ("DELETE", "")] {
                    let target = format!("{base}/{path}");
                    let reply = probe::raw(&d, method, &target, body.as_bytes()).await;
                    reply.problem(422, "bad_path");
                }
            }
            let deleted = probe::raw(&d, "PUT", &format!("/pending/{project}/{user}/{path}?action=deleted"), b"").await;
            deleted.problem(422, "bad_path");
        }
        assert_eq!(pending_count(&d, project, user).await, 0);
        let list = d.get(&format!("/files/{project}")).await.ok(200);
        assert_eq!(list["files"].as_array().map(Vec::len), Some(1));
        // The same through JSON, where nothing is decoded.
        let author = json!({"name": "A", "email": "a@example.org"});
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\u{0}b", ".git/x", "x/.GIT", "git~1", ".g\u{200c}it", ".git ", ".git\\x"] {
            let actions = json!([{"action": "create", "path": path, "content": "x"}]);
            let body = json!({"message": "M", "author": author, "actions": actions});
            d.post(&format!("/projects/{project}/commits"), body).await.problem(422, "bad_path");
            let read = d.post(&format!("/projects/{project}/read"), json!({"paths": [path]})).await.ok(200);
            assert_eq!(read["files"][0]["error"]["code"], "bad_path", "{path:?}");
        }
    }

    /// Goal: names that some system cannot hold are not added, by autosave, file commit or action, as leaf or directory.
    async fn not_new(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/a/b"), "b").await.ok(200);
        let component = "c".repeat(256);
        let deep = vec!["d"; 129].join("/");
        let long = vec!["l".repeat(250); 17].join("/");
        let mut refused: Vec<String> = NOT_NEW.iter().map(|path| (*path).to_owned()).collect();
        refused.extend([component, deep, long]);
        for path in &refused {
            for target in [format!("/files/{project}/{path}"), format!("/pending/{project}/{user}/{path}")] {
                probe::raw(&d, "PUT", &target, b"x").await.problem(422, "bad_path");
                assert_eq!(probe::raw(&d, "GET", &target, b"").await.status, 404, "{path}");
            }
            let below = format!("/pending/{project}/{user}/{path}/x");
            probe::raw(&d, "PUT", &below, b"x").await.problem(422, "bad_path");
        }
        assert_eq!(pending_count(&d, project, user).await, 0);
        // The largest that is allowed.
        let (component, deep) = ("c".repeat(255), vec!["d"; 128].join("/"));
        let long = vec!["l".repeat(240); 17].join("/");
        let long = &long[..4_096];
        let odd = ["git", ".gitx", "git~2", "x.git", ".gitignore", "..a", "a..b", "-x", "~", "%", "a+b", "a b", "CONX", "COM", "x.CON",
            "é", "日本", "😀"];
        for path in [component.as_str(), &deep, long].into_iter().chain(odd) {
            let saved = d.put(&format!("/pending/{project}/{user}/{}", percent(path)), "x").await.ok(201);
            assert_eq!(saved["path"], json!(path));
        }
        let commit = json!({"user": user, "message": "M", "author": {"name": "A", "email": "a@example.org"}});
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.ls_tree("main").len(), 1 + 3 + odd.len());
    }

    /// Goal: one decoding, no more and no less: `%25` stays a percent sign, `%2F` separates, `+` is a plus.
    async fn decoded_once(d) {
        let project = d.local_project().await;
        for (target, path) in [("%252e%252e", "%2e%2e"), ("a%252fb", "a%2fb"), ("p%25", "p%"), ("x%2Fy", "x/y"), ("s%20t", "s t"), ("u+v", "u+v"),
            ("%C3%A9", "é"), ("%61", "a"), ("q%3Fz=1", "q?z=1"), ("h%23i", "h#i")] {
            let made = probe::raw(&d, "PUT", &format!("/files/{project}/{target}"), b"x").await;
            if path.contains('?') {
                made.problem(422, "bad_path");
                continue;
            }
            assert_eq!(made.ok(200)["files"][0]["path"], json!(path), "{target}");
            assert_eq!(probe::raw(&d, "GET", &format!("/files/{project}/{target}"), b"").await.status, 200);
            let read = d.post(&format!("/projects/{project}/read"), json!({"paths": [path]})).await.ok(200);
            assert_eq!(read["files"][0]["content"], "x", "{path}");
        }
        for target in ["%", "a%2", "a%zz", "%u0041"] {
            let reply = probe::raw(&d, "GET", &format!("/files/{project}/{target}"), b"").await;
            reply.problem(400, "bad_encoding");
        }
        // No router before us resolves dots or joins slashes.
        for target in [format!("/files/{project}/../{project}/a"), format!("/files/x/../{project}/a"), format!("//files/{project}/a"),
            format!("/./files/{project}/a"), format!("/files/%2e%2e/projects/{project}"), format!("/files//{project}/a")] {
            let reply = probe::raw(&d, "GET", &target, b"").await;
            assert!([404, 422].contains(&reply.status), "{target}: {} {}", reply.status, reply.text());
            assert_eq!(reply.header("content-type"), "application/problem+json");
        }
    }

    /// Goal: names that differ only in case or normalisation are not added beside each other; a case-only rename works.
    async fn duplicates(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        for path in ["Readme.md", "Dir/x", "é"] {
            d.put(&format!("/files/{project}/{}", percent(path)), "x").await.ok(200);
        }
        let url = |path: &str| format!("/pending/{project}/{user}/{}", percent(path));
        d.put(&url("Pending/Name"), "x").await.ok(201);
        for path in ["README.md", "readme.MD", "dir/y", "DIR", "dir", "e\u{301}", "É", "e\u{301}/x", "pending/other", "PENDING/name", "Pending/NAME", "Readme.md/x",
            "readme.md/x"] {
            let reply = d.put(&url(path), "y").await;
            let code = if path == "Readme.md/x" { "path_conflict" } else { "bad_path" };
            reply.problem(422, code);
            let committed = d.put(&format!("/files/{project}/{}", percent(path)), "y").await;
            if !path.to_lowercase().starts_with("pending") {
                committed.problem(422, code);
            } else if path == "pending/other" {
                // Committed files know nothing of somebody's pending work.
                committed.ok(200);
                d.delete(&format!("/files/{project}/pending/other")).await.ok(200);
            }
        }
        let commit = json!({"user": user, "message": "M", "author": {"name": "A", "email": "a@example.org"}});
        for path in ["PENDING/name", "Pending/NAME"] {
            d.delete(&format!("/files/{project}/{path}")).await;
        }
        d.delete(&format!("/pending/{project}/{user}")).await.ok(200);
        // Renames that change only case: file, and directory.
        d.put(&format!("{}?action=deleted", url("Readme.md")), "").await.ok(201);
        d.put(&url("README.md"), "x").await.ok(201);
        d.put(&format!("{}?action=deleted", url("Dir/x")), "").await.ok(201);
        d.put(&url("dir/x"), "x").await.ok(201);
        d.put(&format!("{}?action=deleted", url("é")), "").await.ok(201);
        d.put(&url("e\u{301}"), "x").await.ok(201);
        d.put(&url("Readme.md"), "x").await.problem(422, "bad_path");
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        let author = json!({"name": "A", "email": "a@example.org"});
        let actions = json!([{"action": "move", "from": "README.md", "path": "readme.md"}]);
        d.post(&format!("/projects/{project}/commits"), json!({"message": "M", "author": author, "actions": actions})).await.ok(200);
        let (_dir, export) = d.export(project).await;
        let names: Vec<Vec<u8>> = export.ls_tree("main").into_iter().map(|line| line.path).collect();
        assert_eq!(names, [&b"dir/x"[..], "e\u{301}".as_bytes(), b"readme.md"]);
    }

    /// Goal: `a` beside `a/b` is 422 `path_conflict` in both directions, across head, pending rows and one commit's actions.
    async fn conflicts(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/file"), "f").await.ok(200);
        d.put(&format!("/files/{project}/dir/x"), "x").await.ok(200);
        let url = |path: &str| format!("/pending/{project}/{user}/{path}");
        d.put(&url("p"), "p").await.ok(201);
        d.put(&url("q/r/s"), "q").await.ok(201);
        for path in ["file/x", "file/x/y", "dir", "p/x", "p/x/y", "q", "q/r"] {
            d.put(&url(path), "y").await.problem(422, "path_conflict");
            if !path.starts_with(['p', 'q']) {
                d.put(&format!("/files/{project}/{path}"), "y").await.problem(422, "path_conflict");
            }
        }
        let author = json!({"name": "A", "email": "a@example.org"});
        let commits = format!("/projects/{project}/commits");
        let both = json!([{"action": "create", "path": "n/m", "content": "1"}, {"action": "create", "path": "n", "content": "2"}]);
        d.post(&commits, json!({"message": "M", "author": author, "actions": both})).await.problem(422, "path_conflict");
        let twice = json!([{"action": "create", "path": "n", "content": "1"}, {"action": "create", "path": "n", "content": "2"}]);
        d.post(&commits, json!({"message": "M", "author": author, "actions": twice})).await.problem(422, "duplicate_path");
        assert_eq!(pending_count(&d, project, user).await, 2);
        // What is deleted first makes room, in both directions.
        d.delete(&format!("/pending/{project}/{user}")).await.ok(200);
        d.put(&format!("{}?action=deleted", url("file")), "").await.ok(201);
        d.put(&url("file/x"), "now a directory").await.ok(201);
        d.put(&format!("{}?action=deleted", url("dir/x")), "").await.ok(201);
        d.put(&url("dir"), "now a file").await.ok(201);
        d.put(&url("dir/z"), "y").await.problem(422, "path_conflict");
        d.put(&url("file"), "f").await.problem(422, "path_conflict");
        let commit = json!({"user": user, "message": "Swap", "author": author});
        d.post(&format!("/projects/{project}/commit"), commit.clone()).await.ok(200);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.git().run(["ls-tree", "-r", "--name-only", "main"]), "dir\nfile/x");
        // A head that moved under the pending work: the commit is judged against the tree that would result.
        d.put(&url("later/x"), "x").await.ok(201);
        d.put(&format!("/files/{project}/later"), "a file now").await.ok(200);
        let refused = d.post(&format!("/projects/{project}/commit"), commit).await;
        assert!([409, 422].contains(&refused.status), "{}", refused.text());
        assert_eq!(pending_count(&d, project, user).await, 1);
    }

    /// Goal: new names are judged beside all pending ones that have a say, wherever in the tree they are. Method: each by itself and as a batch;
    /// directories that the branch has, that only pending work has, and one in whose place a file is pending.
    async fn beside_pending(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        for path in ["docs/a.md", "docs/sub/b.md", "gone/x", "was"] {
            d.put(&format!("/files/{project}/{path}"), "text").await.ok(200);
        }
        let all = format!("/pending/{project}/{user}");
        let url = |path: &str| format!("{all}/{path}");
        for path in ["top.txt", "docs/New.md", "docs/fresh/one", "docs/sub/Deep"] {
            d.put(&url(path), "x").await.ok(201);
        }
        d.put(&format!("{}?action=deleted", url("gone/x")), "").await.ok(201);
        d.put(&url("gone"), "a file").await.ok(201);
        d.put(&format!("{}?action=deleted", url("was")), "").await.ok(201);
        // A directory by now, where a file is pending as deleted.
        let author = json!({"name": "A", "email": "a@example.org"});
        let actions = json!([{"action": "delete", "path": "was"}, {"action": "create", "path": "was/y", "content": "y"}]);
        d.post(&format!("/projects/{project}/commits"), json!({"message": "M", "author": author, "actions": actions})).await.ok(200);
        let before = pending_count(&d, project, user).await;
        for (path, code) in [
            ("Top.txt", "bad_path"),
            ("docs/new.md", "bad_path"),
            ("docs/Sub/c", "bad_path"),
            ("docs/Fresh/two", "bad_path"),
            ("docs/sub/deep/er", "bad_path"),
            ("docs/fresh", "path_conflict"),
            ("docs/fresh/one/more", "path_conflict"),
            ("docs/New.md/x", "path_conflict"),
            ("top.txt/x", "path_conflict"),
            ("gone/x", "path_conflict"),
            ("gone/deeper/x", "path_conflict"),
            ("was/Y", "bad_path"),
        ] {
            d.put(&url(path), "y").await.problem(422, code);
            let ops = json!([{"op": "put", "path": path, "content": "y"}]);
            let refused = d.post(&all, json!({"ops": ops})).await.problem(422, "batch_failed");
            assert_eq!(refused["error"]["code"], code, "{path}");
        }
        assert_eq!(pending_count(&d, project, user).await, before);
        for path in ["docs/fresh/two", "docs/sub/c", "docs/other.md", "was/z"] {
            d.put(&url(path), "y").await.ok(201);
        }
        let ops = json!([{"op": "put", "path": "docs/sub/d", "content": "y"}, {"op": "put", "path": "docs/fresh/three", "content": "y"}]);
        d.post(&all, json!({"ops": ops})).await.ok(200);
        assert_eq!(pending_count(&d, project, user).await, before + 6);
    }

    /// Goal: modes are 100644, 100755 and 120000; symlinks stay inside; files that git reads are no symlinks.
    async fn modes(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        d.put(&format!("/files/{project}/f"), "x").await.ok(200);
        let author = json!({"name": "A", "email": "a@example.org"});
        for mode in ["040000", "160000", "100664", "100600", "644", "755", "0100644", "", "abc", "120755"] {
            for path in ["f", "new"] {
                d.put(&format!("/pending/{project}/{user}/{path}?mode={mode}"), "y").await.problem(400, "bad_parameter");
                d.put(&format!("/files/{project}/{path}?mode={mode}"), "y").await.problem(400, "bad_parameter");
            }
            for action in [json!({"action": "chmod", "path": "f", "mode": mode}), json!({"action": "update", "path": "f", "content": "y", "mode": mode}),
                json!({"action": "create", "path": "n", "content": "y", "mode": mode}), json!({"action": "move", "from": "f", "path": "n", "mode": mode})] {
                let body = json!({"message": "M", "author": author, "actions": [action]});
                d.post(&format!("/projects/{project}/commits"), body).await.problem(422, "bad_shape");
            }
        }
        let long = "t".repeat(4_097);
        for (path, target) in [("link", "/etc/passwd"), ("link", "../x"), ("d/link", "../../x"), ("d/link", "a/../../../x"), ("link", "a\u{0}b"),
            ("link", ""), ("link", long.as_str()), ("link", "C:/x"), ("link", "a\\b"), ("link", ".git/config"), ("link", "x/.GIT"),
            (".gitmodules", "x"), (".GITMODULES", "x"), ("gitmod~1", "x"), ("a/.gitattributes", "x"), ("GI7D29~1", "x"), (".gitignore", "x"),
            ("gi250a~1", "x"), (".mailmap", "x"), ("MABA30~1", "x"), ("f", "/abs"), ("f", "../up")] {
            d.put(&format!("/pending/{project}/{user}/{path}?mode=120000"), target.to_owned()).await.problem(422, "bad_path");
            d.put(&format!("/files/{project}/{path}?mode=120000"), target.to_owned()).await.problem(422, "bad_path");
        }
        let chmod = json!({"message": "M", "author": author, "actions": [{"action": "create", "path": ".gitmodules", "content": "x", "mode": "120000"}]});
        d.post(&format!("/projects/{project}/commits"), chmod).await.problem(422, "bad_path");
        assert_eq!(pending_count(&d, project, user).await, 0);
        // Nor by a change of mode or a move of what is there.
        d.put(&format!("/files/{project}/.gitmodules"), "x").await.ok(200);
        d.put(&format!("/files/{project}/target"), "/etc/passwd").await.ok(200);
        d.put(&format!("/files/{project}/deep/link?mode=120000"), "../f").await.ok(200);
        for action in [json!({"action": "chmod", "path": ".gitmodules", "mode": "120000"}), json!({"action": "chmod", "path": "target", "mode": "120000"}),
            json!({"action": "update", "path": ".gitmodules", "content": "f", "mode": "120000"}), json!({"action": "move", "from": "deep/link", "path": "link"}),
            json!({"action": "move", "from": "target", "path": "t", "mode": "120000"})] {
            let body = json!({"message": "M", "author": author, "actions": [action.clone()]});
            let refused = d.post(&format!("/projects/{project}/commits"), body).await;
            assert_eq!(refused.status, 422, "{action}");
            refused.problem(422, "bad_path");
        }
        d.put(&format!("/files/{project}/.gitmodules?mode=120000"), "f").await.problem(422, "bad_path");
        d.put(&format!("/pending/{project}/{user}/.gitmodules?mode=120000"), "f").await.problem(422, "bad_path");
        for (path, target) in [("d/link", "../f"), ("inside", "x/../y"), ("dangling", "no/where")] {
            let saved = d.put(&format!("/pending/{project}/{user}/{path}?mode=120000"), target).await.ok(201);
            assert_eq!(saved["mode"], "120000");
        }
        // The link's mode stays on an edit, and its rules with it.
        d.put(&format!("/pending/{project}/{user}/inside"), "/abs").await.problem(422, "bad_path");
        assert_eq!(d.put(&format!("/pending/{project}/{user}/inside"), "z").await.ok(200)["mode"], "120000");
        d.put(&format!("/pending/{project}/{user}/inside/x"), "z").await.problem(422, "path_conflict");
        let commit = json!({"user": user, "message": "M", "author": author});
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.git().run(["ls-tree", "main", "d/link"]).split(' ').next(), Some("120000"));
    }

    /// Goal: a key is known for one request, on paths too whose bytes are no text. Method: two that look alike as text.
    async fn keys_of_bytes(d) {
        let project = import(&d, "raw", &[(b"raw\xfe", "100644", "one"), (b"raw\xff", "100644", "two")]).await;
        let keyed = |path: &str| {
            let request = d.request("PUT", &format!("/files/{project}/{path}"));
            d.send(request.header("Idempotency-Key", "k").body("new"))
        };
        let first = keyed("raw%fe").await.ok(200);
        assert_eq!(keyed("raw%fe").await.ok(200), first);
        keyed("raw%ff").await.problem(422, "idempotency_key_reused");
        assert_eq!(d.get(&format!("/files/{project}/raw%fe")).await.text(), "new");
        assert_eq!(d.get(&format!("/files/{project}/raw%ff")).await.text(), "two");
    }

    /// Goal: what an import brought is listed as it is, read, edited and deleted, though no edit may add it; gitlinks stay as they are.
    async fn imported(d) {
        let sub = "1234567890".repeat(4);
        let project = import(&d, "odd", &[
            (b"CON", "100644", "device"), (b"a:b", "100644", "colon"), (b"ctl\x01x", "100644", "control"), (b"raw\xff", "100644", "bytes"),
            (b"Case", "100644", "upper"), (b"case", "100644", "lower"), (b"t. /x", "100755", "trailing"), (b"sub", "160000", &sub),
            (b"abs", "120000", "/etc/passwd"), (b"plain", "100644", "plain"), (b"back\\slash", "100644", "backslash"),
        ]).await;
        let user = Uuid::new_v4();
        let list = d.get(&format!("/files/{project}")).await.ok(200);
        let files = list["files"].as_array().expect("files");
        assert_eq!(files.len(), 11);
        let raw = files.iter().find(|file| file.get("path_b64").is_some()).expect("a path that is not UTF-8");
        assert_eq!(raw["path_b64"], json!(BASE64_STANDARD.encode(b"raw\xff")));
        for path in ["CON", "a:b", "Case", "case", "t. /x", "back\\slash", "ctl\u{1}x"] {
            let url = format!("/files/{project}/{}", percent(path));
            assert_eq!(d.get(&url).await.status, 200, "{path:?}");
            d.put(&format!("/pending/{project}/{user}/{}", percent(path)), format!("edited {path}")).await.ok(201);
        }
        // Marked as deleted, such a name is still the branch's, and no new one.
        let again = format!("/pending/{project}/{user}/a%3Ab");
        d.put(&format!("{again}?action=deleted"), "").await.ok(200);
        d.put(&again, "edited a:b").await.ok(200);
        d.put(&format!("{again}?action=deleted"), "").await.ok(200);
        assert_eq!(d.put(&again, "colon").await.ok(200)["action"], "none");
        d.put(&again, "edited a:b").await.ok(201);
        assert_eq!(d.get(&format!("/files/{project}/raw%ff")).await.text(), "bytes");
        assert_eq!(d.put(&format!("/pending/{project}/{user}/raw%ff"), "edited raw").await.status, 201);
        // Beside such names the rules hold for what is added.
        d.put(&format!("/pending/{project}/{user}/CASE"), "x").await.problem(422, "bad_path");
        d.put(&format!("/pending/{project}/{user}/t.%20/y"), "x").await.problem(422, "bad_path");
        // A link that leads out can go, but not be written again as one.
        d.put(&format!("/pending/{project}/{user}/abs"), "/etc/shadow").await.problem(422, "bad_path");
        assert_eq!(d.get(&format!("/files/{project}/abs")).await.text(), "/etc/passwd");
        d.put(&format!("/pending/{project}/{user}/abs?action=deleted"), "").await.ok(201);
        // A gitlink is no file: not read, written, deleted, nor written below.
        for (method, query, body) in [("PUT", "", "x"), ("PUT", "?action=deleted", ""), ("PUT", "?mode=100644", "x")] {
            let target = format!("/pending/{project}/{user}/sub{query}");
            d.send(d.request(method, &target).body(body)).await.problem(422, "bad_path");
        }
        d.put(&format!("/pending/{project}/{user}/sub/x"), "x").await.problem(422, "path_conflict");
        d.put(&format!("/files/{project}/sub"), "x").await.problem(422, "bad_path");
        d.delete(&format!("/files/{project}/sub")).await.problem(422, "bad_path");
        let author = json!({"name": "A", "email": "a@example.org"});
        for action in [json!({"action": "delete", "path": "sub"}), json!({"action": "chmod", "path": "sub", "mode": "100644"}),
            json!({"action": "move", "from": "sub", "path": "sub2"}), json!({"action": "update", "path": "sub", "content": "x"})] {
            let body = json!({"message": "M", "author": author, "actions": [action], "push": false});
            d.post(&format!("/projects/{project}/commits"), body).await.problem(422, "bad_path");
        }
        let commit = json!({"user": user, "message": "Edit odd names", "author": author});
        d.post(&format!("/projects/{project}/commit"), commit).await.ok(200);
        let remote = Repo::open(d.remotes.path().join("odd.git"));
        let lines = remote.ls_tree("main");
        assert_eq!(lines.len(), 10);
        let link: Vec<_> = lines.iter().filter(|line| line.mode == "160000").map(|line| line.oid.clone()).collect();
        assert_eq!(link, [sub]);
        assert_eq!(remote.cat_file("main:CON"), b"edited CON");
        assert_eq!(remote.git().run(["ls-tree", "main", "t. /x"]).split(' ').next(), Some("100755"));
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        assert_eq!((&status["ahead"], &status["changes"]), (&json!(0), &json!([])));
        assert_ne!(status["head"], Value::Null);
    }
}
