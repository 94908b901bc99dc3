//! Sync: depth and boundary, fast-forward and divergence, pending work on what changed, and remotes that lie, cut or hang up.

use serde_json::{Value, json};
use treehold_tests::git_http::{Fault, Lie, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Setup, blob_oid};
use crate::remote_tools::*;

/// A project on the remote, not synced yet.
async fn unsynced(d: &Deployment, remote: &str) -> Uuid {
    let project = Uuid::new_v4();
    let body = json!({"remote": {"url": d.git.url(remote)}});
    d.put_json(&format!("/projects/{project}"), body).await.ok(201);
    project
}

/// Commits that an export of the project has on main.
async fn depth(d: &Deployment, project: Uuid) -> usize {
    let (_dir, export) = d.export(project).await;
    export.git().run(["rev-list", "--count", "main"]).parse().expect("a number")
}

/// Nothing of a failed sync is left: no ref, no row, no operation that still counts.
async fn nothing_kept(d: &Deployment, project: Uuid) {
    assert_eq!(head(d, project).await, "");
    assert_eq!(number(d, "SELECT count(*) FROM refs").await, 0);
    assert_eq!(number(d, "SELECT count(*) FROM remote_refs").await, 0);
    assert_eq!(number(d, "SELECT count(*) FROM objects").await, 0);
    assert_eq!(number(d, "SELECT count(*) FROM ops WHERE state = 'open'").await, 0);
}

both! {
    /// Goal: the first sync takes one commit unless told otherwise; later ones keep the boundary.
    async fn depths(d) {
        let remote = small_remote(&d, "docs");
        for (body, count) in [(json!({}), 1), (json!({"depth": 1}), 1), (json!({"depth": 2}), 2), (json!({"depth": 0}), 3)] {
            let project = unsynced(&d, "docs").await;
            let synced = sync(&d, project, body).await.ok(200);
            assert_eq!((&synced["from"], &synced["to"]), (&Value::Null, &json!(remote.head())));
            assert!(synced["bytes"].as_u64().expect("bytes") > 0);
            assert_eq!((&synced["changed_count"], synced.get("truncated")), (&json!(5), None));
            assert_eq!(depth(&d, project).await, count);
        }
        let shallow = unsynced(&d, "docs").await;
        sync(&d, shallow, json!({})).await.ok(200);
        for n in 0..3 {
            remote.moves(&[("dir/a.txt", Some(format!("{n}\n").as_bytes()))]);
        }
        let synced = sync(&d, shallow, json!({})).await.ok(200);
        assert_eq!(synced["to"], json!(remote.head()));
        assert_eq!(synced["changed_count"], json!(1));
        assert_eq!(synced["changed"][0]["path"], json!("dir/a.txt"));
        assert_eq!(depth(&d, shallow).await, 4);
        d.git.reset_requests();
        let again = sync(&d, shallow, json!({})).await.ok(200);
        assert_eq!((&again["from"], &again["to"], &again["objects"]), (&synced["to"], &synced["to"], &json!(0)));
        assert_eq!(pushes(&d).len(), 0);
    }

    /// Goal: a dry run tells what a sync would do and leaves branch and pending work as they are.
    async fn dry_run(d) {
        let remote = small_remote(&d, "docs");
        let fresh = unsynced(&d, "docs").await;
        let told = sync(&d, fresh, json!({"dry_run": true})).await.ok(200);
        assert_eq!(told["to"], json!(remote.head()));
        assert_eq!(head(&d, fresh).await, "");
        sync(&d, fresh, json!({})).await.ok(200);
        assert_eq!(head(&d, fresh).await, remote.head());
        let before = remote.head();
        remote.moves(&[("text.txt", Some(b"theirs\n")), ("new.txt", Some(b"new\n"))]);
        let told = sync(&d, fresh, json!({"dry_run": true})).await.ok(200);
        assert_eq!((&told["from"], &told["to"]), (&json!(before), &json!(remote.head())));
        assert_eq!(told["changed_count"], json!(2));
        assert_eq!(head(&d, fresh).await, before);
        let real = sync(&d, fresh, json!({})).await.ok(200);
        assert_eq!(real["changed"], told["changed"]);
        assert_eq!(head(&d, fresh).await, remote.head());
    }

    /// Goal: commits on both sides are refused as diverged until a merge is asked for, which makes a commit of two parents.
    async fn diverged(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        let one = TEXT.replace("1\n2", "one\n2");
        d.put(&format!("/files/{project}/text.txt"), one.clone()).await.ok(200);
        let ours = head(&d, project).await;
        let theirs = remote.moves(&[("text.txt", Some(TEXT.replace("10", "ten").as_bytes())), ("dir/b.txt", None)]);
        sync(&d, project, json!({})).await.problem(409, "diverged");
        assert_eq!(head(&d, project).await, ours);
        let shown = status(&d, project, user).await;
        assert_eq!((&shown["ahead"], &shown["behind"], &shown["remote_head"]), (&json!(1), &json!(1), &json!(theirs)));
        save(&d, project, user, "dir/a.txt", "mine\n").await;
        commit(&d, project, commit_body(user, "Mine")).await.problem(409, "diverged");
        assert_eq!(pending(&d, project, user).await, ["dir/a.txt"]);
        // On a path that only the merge makes.
        save(&d, project, user, "text.txt", &one.replace("5\n", "five\n")).await;
        let objects = number(&d, "SELECT count(*) FROM objects").await;
        sync(&d, project, json!({"on_conflict": "branch"})).await.problem(422, "bad_shape");
        let told = sync(&d, project, json!({"on_conflict": "merge", "dry_run": true})).await.ok(200);
        assert_eq!((head(&d, project).await, number(&d, "SELECT count(*) FROM objects").await), (ours.clone(), objects));
        let merged = sync(&d, project, json!({"on_conflict": "merge"})).await.ok(200);
        assert_eq!(merged["from"], json!(ours));
        for same in ["from", "changed", "changed_count", "pending"] {
            assert_eq!(told[same], merged[same], "{same}");
        }
        assert_eq!(told["pending"], json!([{"user": user, "path": "text.txt", "state": "outdated"}]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.git().run(["log", "-1", "--format=%P", "main"]), format!("{ours} {theirs}"));
        assert_eq!(export.cat_file("main:text.txt"), one.replace("10", "ten").into_bytes());
        assert_eq!(remote.head(), theirs);
        d.post(&format!("/projects/{project}/push"), json!({})).await.ok(200);
        assert_eq!(json!(remote.head()), merged["to"]);
        remote.bare.fsck_strict();
        commit(&d, project, commit_body(user, "Mine")).await.ok(200);
        assert_eq!(remote.file("dir/a.txt"), "mine\n");
        // What does not merge is named, and nothing moves.
        d.put(&format!("/files/{project}/text.txt"), "ours\n").await.ok(200);
        remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        let before = head(&d, project).await;
        let problem = sync(&d, project, json!({"on_conflict": "merge"})).await.problem(409, "conflict");
        assert_eq!(problem["conflicts"][0]["theirs"], json!(blob_oid(b"theirs\n")));
        assert_eq!(head(&d, project).await, before);
    }

    /// Goal: a merge makes no `.gitmodules` that git's own checks refuse, though a pull carries one as it is; nothing moves then.
    async fn unsafe_merge(d) {
        let remote = small_remote(&d, "docs");
        let section = |name: &str| format!("[submodule \"{name}\"]\n\tpath = {name}\n\turl = https://example.org/{name}\n");
        let base = ["a", "b", "c"].map(section).concat();
        remote.moves(&[(".gitmodules", Some(base.as_bytes()))]);
        let project = d.connect("docs").await;
        d.put(&format!("/files/{project}/.gitmodules"), base.replace("org/a", "org/aa")).await.ok(200);
        let ours = head(&d, project).await;
        remote.moves(&[(".gitmodules", Some(base.replace("https://example.org/c", "--upload-pack=x").as_bytes()))]);
        for dry_run in [true, false] {
            let body = json!({"on_conflict": "merge", "dry_run": dry_run});
            sync(&d, project, body).await.problem(422, "unsafe_content");
            assert_eq!(head(&d, project).await, ours);
        }
        remote.moves(&[(".gitmodules", Some(base.replace("org/c", "org/cc").as_bytes()))]);
        sync(&d, project, json!({"on_conflict": "merge"})).await.ok(200);
        let merged = d.get(&format!("/files/{project}/.gitmodules")).await.text();
        assert_eq!(merged, base.replace("org/a", "org/aa").replace("org/c", "org/cc"));
    }

    /// Goal: pending work on changed paths is told apart: merges by itself, conflicts, or lies elsewhere; none is touched.
    async fn pending_states(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let user = Uuid::new_v4();
        save(&d, project, user, "text.txt", &TEXT.replace("1\n2", "one\n2")).await;
        save(&d, project, user, "dir/a.txt", "mine\n").await;
        save(&d, project, user, "dir/b.txt", "mine\n").await;
        let ten = TEXT.replace("10", "ten");
        remote.moves(&[("text.txt", Some(ten.as_bytes())), ("dir/a.txt", Some(b"theirs\n"))]);
        let synced = sync(&d, project, json!({})).await.ok(200);
        let expected = json!([{"user": user, "path": "dir/a.txt", "state": "conflict"},
            {"user": user, "path": "text.txt", "state": "outdated"}]);
        assert_eq!(synced["pending"], expected);
        let rows = status(&d, project, user).await;
        let states: Vec<&str> =
            rows["changes"].as_array().expect("rows").iter().map(|row| row["state"].as_str().expect("a state")).collect();
        assert_eq!(states, ["conflict", "clean", "outdated"]);
        let problem = commit(&d, project, commit_body(user, "All")).await.problem(409, "conflict");
        assert_eq!(problem["conflicts"].as_array().map(Vec::len), Some(1));
        let some = with(commit_body(user, "Some"), json!({"paths": ["text.txt", "dir/b.txt"]}));
        commit(&d, project, some).await.ok(200);
        assert_eq!(remote.file("text.txt"), ten.replace("1\n2", "one\n2"));
        let url = format!("/pending/{project}/{user}/dir/a.txt?base={}", blob_oid(b"theirs\n"));
        d.put(&url, "resolved\n").await.ok(200);
        commit(&d, project, commit_body(user, "Resolved")).await.ok(200);
        assert_eq!(remote.file("dir/a.txt"), "resolved\n");
        remote.bare.fsck_strict();
    }

    /// Goal: what a sync says of pending work is the same however much changed. Method: the same changes alone, and among 300 other files: to a
    /// file that the user moved, which is found only beside the rest of their work, and to one that two people edit.
    async fn pending_states_among_few_and_many(d) {
        for more in [0, 300] {
            let name = format!("docs-{more}");
            let remote = small_remote(&d, &name);
            let project = d.connect(&name).await;
            let mut users = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
            users.sort_unstable();
            let [mover, writer, bystander] = users;
            let ops = json!([{"op": "move", "from": "text.txt", "path": "moved.txt"}]);
            d.post(&format!("/pending/{project}/{mover}"), json!({"ops": ops})).await.ok(200);
            for user in [mover, writer] {
                save(&d, project, user, "dir/a.txt", "mine\n").await;
            }
            save(&d, project, writer, "elsewhere.txt", "mine\n").await;
            save(&d, project, bystander, "dir/b.txt", "mine\n").await;
            let ten = TEXT.replace("10", "ten");
            let names: Vec<String> = (0..more).map(|number| format!("more/{number}.txt")).collect();
            let mut files: Vec<(&str, Option<&[u8]>)> = vec![("text.txt", Some(ten.as_bytes())), ("dir/a.txt", Some(b"theirs\n"))];
            files.extend(names.iter().map(|name| (name.as_str(), Some(name.as_bytes()))));
            remote.moves(&files);
            let synced = sync(&d, project, json!({})).await.ok(200);
            assert_eq!(synced["changed_count"], json!(more + 2));
            let expected = json!([{"user": mover, "path": "dir/a.txt", "state": "conflict"},
                {"user": mover, "path": "text.txt", "state": "outdated"},
                {"user": writer, "path": "dir/a.txt", "state": "conflict"}]);
            assert_eq!(synced["pending"], expected, "among {more}");
        }
    }

    /// Goal: where the fetch of one branch brings the rest of a history that was cut off, commits on the old end of it compare as before, also
    /// those that no ref of ours leads to.
    async fn whole_again(d) {
        let remote = small_remote(&d, "docs");
        let project = unsynced(&d, "docs").await;
        sync(&d, project, json!({})).await.ok(200);
        let ours = json!([{"action": "create", "path": "ours.txt", "content": "x"}]);
        let ours = json!({"message": "Ours", "author": author(), "push": false, "actions": ours});
        d.post(&format!("/projects/{project}/commits"), ours).await.ok(200);
        remote.moves(&[("theirs.txt", Some(b"x\n"))]);
        sync(&d, project, json!({})).await.problem(409, "diverged");
        let apart = async || {
            let shown = status(&d, project, Uuid::new_v4()).await;
            let log = d.get(&format!("/projects/{project}/log")).await.ok(200);
            (shown["ahead"].clone(), shown["behind"].clone(), log["commits"].as_array().map(Vec::len))
        };
        assert_eq!(apart().await, (json!(1), json!(1), Some(2)));
        let git = remote.bare.git();
        let beside = git.run(["commit-tree", "-m", "Beside", "-p", "main~1", "main~1^{tree}"]);
        git.run(["update-ref", "refs/heads/beside", &beside]);
        sync(&d, project, json!({"branch": "beside", "depth": 100})).await.ok(200);
        assert_eq!(apart().await, (json!(1), json!(1), Some(4)));
        let merged = sync(&d, project, json!({"on_conflict": "merge"})).await.ok(200);
        assert_eq!(merged["changed"][0]["path"], json!("theirs.txt"), "{merged}");
    }

    /// Goal: a remote whose history was rewritten or set back is told, never followed blindly.
    async fn forced_remote(d) {
        let remote = small_remote(&d, "docs");
        let project = unsynced(&d, "docs").await;
        sync(&d, project, json!({"depth": 0})).await.ok(200);
        let before = remote.head();
        remote.bare.git().run(["update-ref", "refs/heads/main", "main~1"]);
        let synced = sync(&d, project, json!({})).await.ok(200);
        assert_eq!(synced["to"], json!(before));
        let shown = status(&d, project, Uuid::new_v4()).await;
        assert_eq!((&shown["ahead"], &shown["behind"]), (&json!(1), &json!(0)));
        assert_eq!(shown["remote_head"], json!(remote.head()));
        remote.others.git().run(["fetch", "--quiet", "origin"]);
        let rewritten = remote.moves(&[("text.txt", Some(b"rewritten\n"))]);
        sync(&d, project, json!({})).await.problem(409, "diverged");
        assert_eq!(head(&d, project).await, before);
        let user = Uuid::new_v4();
        save(&d, project, user, "dir/b.txt", "mine\n").await;
        commit(&d, project, commit_body(user, "Mine")).await.problem(409, "diverged");
        assert_eq!(remote.head(), rewritten);
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main"), before);
    }

    /// Goal: a branch that the remote does not have, or no longer has, changes nothing here; a commit makes it again.
    async fn missing_branch(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let before = head(&d, project).await;
        let other = sync(&d, project, json!({"branch": "nowhere"})).await;
        let told = other.problem(404, "ref_not_found");
        assert!(told["detail"].as_str().expect("a sentence").contains("it has \"main\""), "{told}");
        remote.bare.git().run(["update-ref", "-d", "refs/heads/main"]);
        let synced = sync(&d, project, json!({})).await.ok(200);
        assert_eq!((&synced["from"], &synced["to"]), (&json!(before), &json!(before)));
        let user = Uuid::new_v4();
        let shown = status(&d, project, user).await;
        assert_eq!(shown["remote_head"], Value::Null);
        assert_eq!(d.get(&format!("/files/{project}/text.txt")).await.text(), TEXT);
    }

    /// Goal: a remote that lies, cuts, redirects or fails is told as its fault, and nothing of it stays.
    async fn bad_answers(d) {
        small_remote(&d, "docs");
        let project = unsynced(&d, "docs").await;
        let lies = [Lie::Empty, Lie::Garbage, Lie::Html, Lie::Body(b"0009ERR x".to_vec())];
        let mut faults: Vec<Fault> = lies.into_iter().map(Fault::Lie).collect();
        faults.extend([0, 3, 30].map(Fault::CutResponse));
        faults.extend([Fault::DropRequest, Fault::Status(500), Fault::Status(418), Fault::Status(401), Fault::Status(404)]);
        faults.extend([Fault::Status(429), Fault::Redirect("http://localhost:9".into())]);
        for on in [On::Discovery, On::UploadPack] {
            for fault in &faults {
                // Reads are tried again after a broken connection: all of them fail.
                d.git.fail_next(on, usize::MAX, fault.clone());
                let reply = sync(&d, project, json!({})).await;
                d.git.heal();
                assert!([502, 429, 504, 403].contains(&reply.status), "{on:?} {fault:?}: {}", reply.text());
                reply.problem(reply.status, reply.ok(reply.status)["code"].as_str().expect("a code"));
            }
        }
        nothing_kept(&d, project).await;
        sync(&d, project, json!({})).await.ok(200);
        let (_dir, _export) = d.export(project).await;
    }

    /// Goal: an answer with a wrong byte is refused, or the byte was in words that nobody reads: what was kept is what git has.
    async fn wrong_byte(d) {
        let remote = small_remote(&d, "docs");
        for at in (150..1100).step_by(50) {
            let project = unsynced(&d, "docs").await;
            d.git.fail_next(On::UploadPack, usize::MAX, Fault::Lie(Lie::FlipByte(at)));
            let reply = sync(&d, project, json!({})).await;
            d.git.heal();
            if reply.status == 200 {
                let (_dir, export) = d.export(project).await;
                assert_eq!(export.rev_parse("main"), remote.head(), "{at}");
            } else {
                assert_eq!(reply.status, 502, "{at}: {}", reply.text());
                assert_eq!(head(&d, project).await, "");
            }
        }
    }

    /// Goal: a pack with a tree that git's checks refuse is refused whole.
    async fn bad_tree(d) {
        let remote = small_remote(&d, "docs");
        let project = unsynced(&d, "docs").await;
        let blob = remote.bare.rev_parse("main:text.txt");
        for name in [".git", "..", "a/b"] {
            let mut tree = format!("100644 {name}\0").into_bytes();
            let digit = |at: usize| u8::from_str_radix(&blob[at..at + 2], 16).expect("hex");
            tree.extend((0..40).step_by(2).map(digit));
            let tree = remote.bare.hash_object_literally("tree", &tree);
            let raw = format!("tree {tree}\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nBad\n");
            let commit = remote.bare.hash_object_literally("commit", raw.as_bytes());
            std::fs::write(remote.bare.path().join("refs/heads/main"), format!("{commit}\n")).expect("write");
            sync(&d, project, json!({})).await.problem(502, "remote_invalid");
            nothing_kept(&d, project).await;
        }
    }
}

/// Goal: where the rest of a long history comes, it is written once, and of what was there before only the numbers that change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_again_at_the_cost_of_what_changes() {
    let d = Deployment::start(Setup::Embedded).await;
    let remote = small_remote(&d, "docs");
    let mut stream = String::new();
    for n in 0..300 {
        let time = 1_700_000_000 + n;
        stream.push_str(&format!("commit refs/heads/main\ncommitter T <t@example.org> {time} +0000\ndata 1\nx\n"));
        stream.push_str(if n == 0 { "from refs/heads/main^0\n" } else { "" });
        stream.push_str(&format!("M 100644 inline n\ndata <<E\n{n}\nE\n\n"));
    }
    let git = remote.bare.git();
    git.run_with(["fast-import", "--quiet"], stream.as_bytes());
    let project = unsynced(&d, "docs").await;
    sync(&d, project, json!({})).await.ok(200);
    let beside = git.run(["commit-tree", "-m", "Beside", "-p", "main", "main^{tree}"]);
    git.run(["update-ref", "refs/heads/beside", &beside]);
    let written = async || {
        let page = d.get("/metrics").await.text();
        let name = "treehold_catalog_call_seconds_count{operation=\"record commits\",outcome=\"ok\"} ";
        let count = page.lines().find_map(|line| line.strip_prefix(name));
        count.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };
    let before = written().await;
    sync(&d, project, json!({"branch": "beside", "depth": 1000})).await.ok(200);
    let calls = written().await - before;
    assert!((1..=3).contains(&calls), "{calls} writes of commits");
    assert_eq!(depth(&d, project).await, 303);
}
