//! Tree bombs: a few trees that hold each other many times, and so have more paths than anybody can go through. Whatever is asked of them
//! has an answer, costs little memory, and others are served meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::git_tools::*;
use crate::remote_tools::*;

/// Entries of a tree, and trees on the way to a file: ten to the tenth paths in ten objects.
const WIDTH: usize = 10;
const DEPTH: u32 = 10;
/// What the server may take for all of this beside what it has anyway, bytes.
const SLACK: u64 = 600 << 20;

/// The most memory that the server ever had, bytes.
fn high_water(d: &Deployment) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", d.server_pid())).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// A commit on top of `main` with a bomb beside a file; `leaf`: what is in the innermost tree, if anything.
fn bomb(clone: &Clone, leaf: Option<&str>) -> String {
    let git = clone.git();
    let mktree = |lines: &str| git.run_with(["mktree"], lines.as_bytes());
    let blob = |content: &str| git.run_with(["hash-object", "-w", "--stdin"], content.as_bytes());
    let names = || (0..WIDTH).map(|name| format!("d{name}"));
    let lines = |entry: &str| names().map(|name| format!("{entry}\t{name}\n")).collect::<String>();
    let mut tree = match leaf {
        Some(content) => mktree(&lines(&format!("100644 blob {}", blob(content)))),
        None => mktree(""),
    };
    for _ in 1..DEPTH {
        tree = mktree(&lines(&format!("040000 tree {tree}")));
    }
    let root = mktree(&format!("040000 tree {tree}\tbomb\n100644 blob {}\tz.txt\n", blob("plain\n")));
    let commit = git.run(["commit-tree", "-p", "main", "-m", "Bomb", &root]);
    git.run(["update-ref", "refs/heads/main", &commit]);
    commit
}

/// A clone of a project with one file in its head, and the project's head.
fn one_file(d: &Deployment, project: Uuid) -> (Clone, String) {
    let clone = Clone::empty(false);
    let first = clone.commit_file("z.txt", "first\n");
    clone.run(&["push", "--quiet", &url(d, project), "main"]);
    (clone, first)
}

/// Does `work` and sees that another project is read meanwhile.
async fn while_others_are_served(d: &Deployment, work: impl Future<Output = ()>) {
    let other = d.local_project().await;
    one_file(d, other);
    let (over, reads, before) = (AtomicBool::new(false), AtomicU64::new(0), high_water(d));
    let reading = async {
        while !over.load(Ordering::Relaxed) {
            assert_eq!(d.get(&format!("/files/{other}/z.txt")).await.status, 200);
            reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    let working = async {
        work.await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(reading, working);
    assert!(reads.into_inner() > 0, "nobody else was served");
    let after = high_water(d);
    assert!(after < before + SLACK, "it grew from {before} to {after} bytes");
}

/// What is refused as too large, in whose words.
async fn too_large(d: &Deployment, path: &str, what: &str) {
    let refused = d.get(path).await.problem(413, "too_large");
    assert_eq!(refused["what"], json!(what), "{path}");
}

both! {
    /// Goal: every read of a bomb ends: with a page, with a cursor, or as too large.
    async fn reads(d) {
        let project = d.local_project().await;
        let (clone, first) = one_file(&d, project);
        bomb(&clone, Some("needle\n"));
        clone.run(&["push", "--quiet", &url(&d, project), "main"]);
        let names = format!("/projects/{project}/diff?from={first}&patch=false");
        while_others_are_served(&d, async {
            let page = d.get(&format!("{names}&limit=1")).await.ok(200);
            let path = ["bomb"].into_iter().chain(["d0"; DEPTH as usize]).collect::<Vec<_>>().join("/");
            assert_eq!(page["files"].as_array().map(Vec::len), Some(1));
            assert_eq!(page["files"][0]["path"], json!(path));
            let next = page["next_cursor"].as_str().expect("a cursor");
            let page = d.get(&format!("{names}&limit=1&cursor={next}")).await.ok(200);
            assert_eq!(page["files"][0]["path"], json!(format!("{}1", &path[..path.len() - 1])));
            let last = d.get(&format!("{names}&prefix=z")).await.ok(200);
            assert_eq!((&last["files"][0]["path"], &last["next_cursor"]), (&json!("z.txt"), &Value::Null));
            too_large(&d, &format!("/projects/{project}/diff?from={first}"), "the diff").await;
            too_large(&d, &format!("{names}&renames=true"), "the comparison").await;
            too_large(&d, &format!("/projects/{project}/archive.tar.gz"), "the archive").await;
            let list = d.get(&format!("/files/{project}?limit=2")).await.ok(200);
            assert_eq!(list["files"].as_array().map(Vec::len), Some(2));
            assert!(list["next_cursor"].is_string());
            let blame = d.get(&format!("/projects/{project}/blame/{path}")).await.ok(200);
            assert_eq!(blame["total_lines"], json!(1));
            assert_eq!(d.get(&format!("/projects/{project}/log?path={path}")).await.ok(200)["commits"].as_array().map(Vec::len), Some(1));
            // No file is meant: after some time the search says where it goes on.
            let nowhere = json!({"query": "needle", "globs": ["*.nothing"]});
            let search = d.post(&format!("/projects/{project}/search"), nowhere).await.ok(200);
            assert_eq!(search["matches"], json!([]));
            let cursor = search["next_cursor"].as_str().expect("a cursor");
            let on = json!({"query": "needle", "globs": ["*.nothing"], "cursor": cursor});
            assert!(d.post(&format!("/projects/{project}/search"), on).await.ok(200)["next_cursor"].is_string());
            let found = d.post(&format!("/projects/{project}/search"), json!({"query": "needle", "limit": 2})).await.ok(200);
            assert_eq!(found["matches"].as_array().map(Vec::len), Some(2));
        })
        .await;
        let again = Clone::of_project(&d, project, "2", &["--mirror"]);
        assert_eq!(again.rev_parse("main"), clone.rev_parse("main"));
    }

    /// Goal: trees that hold no file at all, however many paths lead there, are looked at once.
    async fn empty_trees(d) {
        let project = d.local_project().await;
        let (clone, first) = one_file(&d, project);
        bomb(&clone, None);
        clone.run(&["push", "--quiet", &url(&d, project), "main"]);
        while_others_are_served(&d, async {
            let list = d.get(&format!("/files/{project}")).await.ok(200);
            assert_eq!(list["files"].as_array().map(Vec::len), Some(1));
            let search = d.post(&format!("/projects/{project}/search"), json!({"query": "plain"})).await.ok(200);
            assert_eq!((&search["files_searched"], &search["next_cursor"]), (&json!(1), &Value::Null));
            assert_eq!(d.get(&format!("/projects/{project}/archive.zip")).await.status, 200);
            // Nothing tells that there is no difference in it but to look at all of it.
            too_large(&d, &format!("/projects/{project}/diff?from={first}&patch=false"), "the comparison").await;
        })
        .await;
    }

    /// Goal: a bomb goes to a remote and comes from one; its paths are counted without being gone through.
    async fn remotes(d) {
        let remote = small_remote(&d, "docs");
        let source = d.connect("docs").await;
        let behind = d.connect("docs").await;
        let clone = Clone::of_project(&d, source, "2", &[]);
        bomb(&clone, Some("needle\n"));
        clone.run(&["push", "--quiet", &url(&d, source), "main"]);
        let paths = 10_u64.pow(DEPTH);
        while_others_are_served(&d, async {
            let pushed = d.post(&format!("/projects/{source}/push"), json!({})).await.ok(200);
            // Ten trees, the root, two blobs and the commit.
            assert_eq!((&pushed["pushed"], &pushed["objects"]), (&json!(true), &json!(14)));
            assert_eq!(remote.head(), clone.rev_parse("main"));
            // Five files went, one came.
            let user = Uuid::new_v4();
            save(&d, behind, user, "bomb/d0/d0/d0/d0/d0/d0/d0/d0/d0/d0", "mine\n").await;
            save(&d, behind, user, "elsewhere.txt", "mine\n").await;
            let synced = sync(&d, behind, json!({})).await.ok(200);
            assert_eq!(synced["changed_count"], json!(paths + 6));
            let listed = synced["changed"].as_array().map(Vec::len);
            assert_eq!((listed, &synced["truncated"]), (Some(10_000), &json!(true)));
            assert_eq!(synced["pending"].as_array().map(Vec::len), Some(1));
        })
        .await;
        let from = d.remotes.path().join("docs.git");
        let imported = d.cli(&["import", from.to_str().expect("UTF-8"), "--project", "imported", "--json"]).await;
        let report: Value = serde_json::from_slice(&imported.stdout).expect("JSON");
        assert_eq!(report["files"], json!(paths + 1));
    }

    /// Goal: a merge that would have to go through a bomb is refused, and nothing moves.
    async fn merges(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let clone = Clone::of_project(&d, project, "2", &[]);
        let ours = bomb(&clone, Some("needle\n"));
        clone.run(&["push", "--quiet", &url(&d, project), "main"]);
        remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        while_others_are_served(&d, async {
            let refused = sync(&d, project, json!({"on_conflict": "merge"})).await.problem(413, "too_large");
            assert_eq!(refused["what"], json!("the comparison"));
        })
        .await;
        assert_eq!(head(&d, project).await, ours);
    }

    /// Goal: trees that are nested too deeply, and paths that are too long, come neither with a push nor from a remote.
    async fn depths(d) {
        let long = |name: &str, levels: usize| format!("{name}/").repeat(levels) + "f";
        let deep = [(long("d", 2_000), None), (long("d", 2_100), Some("levels")), (long(&"n".repeat(200), 21), Some("4096 bytes"))];
        for (at, (path, refused)) in deep.into_iter().enumerate() {
            let clone = Clone::empty(true);
            let stream = format!("commit refs/heads/main\ncommitter C <c@example.org> 1700000000 +0000\ndata 2\nm\nM 100644 inline {path}\ndata 2\nx\n\n");
            clone.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
            clone.run(&["config", "core.maxTreeDepth", "5000"]);
            let project = d.local_project().await;
            let remote = clone.bare_clone(d.remotes.path().join(format!("deep{at}.git")));
            remote.git().run(["config", "core.maxTreeDepth", "5000"]);
            let synced = Uuid::new_v4();
            let body = json!({"remote": {"url": d.git.url(&format!("deep{at}"))}});
            d.put_json(&format!("/projects/{synced}"), body).await.ok(201);
            if let Some(says) = refused {
                clone.refused(&["push", &url(&d, project), "main"], says);
                sync(&d, synced, json!({})).await.problem(502, "remote_invalid");
                continue;
            }
            clone.run(&["push", "--quiet", &url(&d, project), "main"]);
            sync(&d, synced, json!({})).await.ok(200);
            for project in [project, synced] {
                let list = d.get(&format!("/files/{project}")).await.ok(200);
                assert_eq!(list["files"][0]["path"], json!(path));
            }
        }
    }
}
