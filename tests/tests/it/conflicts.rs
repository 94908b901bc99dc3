//! Conflicts, and how a user gets out of them.

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Setup};
use crate::verifications::{percent, text};

const LINES: &str = "one\ntwo\nthree\n";

const TWENTY: &str = "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\nline 9\nline 10\n\
    line 11\nline 12\nline 13\nline 14\nline 15\nline 16\nline 17\nline 18\nline 19\nline 20\n";

/// A synced project with one long file; a user and a clone.
async fn twenty_lines(d: &Deployment) -> (Uuid, Uuid, tempfile::TempDir, Repo) {
    d.remote("docs", 11);
    let (dir, clone) = d.clone_remote("docs");
    clone.commit_file("old.txt", TWENTY);
    clone.git().run(["push", "--quiet", "origin", "HEAD"]);
    (d.connect("docs").await, Uuid::new_v4(), dir, clone)
}

/// A synced project in which a user changed a line that the remote then changed too; the path, the user and a clone.
async fn both_changed(d: &Deployment) -> (Uuid, Uuid, tempfile::TempDir, Repo) {
    d.remote("docs", 11);
    let (dir, clone) = d.clone_remote("docs");
    clone.commit_file("shared.txt", LINES);
    clone.git().run(["push", "--quiet", "origin", "HEAD"]);
    let project = d.connect("docs").await;
    let user = Uuid::new_v4();
    d.put(&format!("/pending/{project}/{user}/shared.txt"), "one\nmine\nthree\n").await.ok(201);
    clone.commit_file("shared.txt", "one\ntheirs\nthree\n");
    clone.git().run(["push", "--quiet", "origin", "HEAD"]);
    (project, user, dir, clone)
}

fn commit(user: Uuid, on_conflict: &str) -> Value {
    json!({"user": user, "message": "Mine", "author": {"name": "A", "email": "a@example.org"}, "on_conflict": on_conflict})
}

both! {
    /// Goal: an edit of a file that the branch renamed is committed where the file is now; nothing is left at the old path.
    async fn the_branch_renamed_it(d) {
        let (project, user, _dir, clone) = twenty_lines(&d).await;
        let edited = TWENTY.replace("line 3\n", "mine\n");
        d.put(&format!("/pending/{project}/{user}/old.txt"), edited).await.ok(201);
        std::fs::create_dir(clone.path().join("dir")).expect("a directory");
        clone.git().run(["mv", "old.txt", "dir/new.txt"]);
        let theirs = TWENTY.replace("line 17\n", "theirs\n");
        clone.commit_files(&[("dir/new.txt", Some(theirs.as_bytes()))], "Rename");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        let synced = d.post(&format!("/projects/{project}/sync"), json!({"dry_run": true})).await.ok(200);
        assert_eq!(synced["pending"][0]["state"], "outdated", "{synced}");
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user, "merge")).await.ok(200);
        let text = TWENTY.replace("line 3\n", "mine\n").replace("line 17\n", "theirs\n");
        let oid = crate::deployment::blob_oid(text.as_bytes());
        assert_eq!(answer["files"], json!([{"path": "dir/new.txt", "action": "modified", "oid": oid}]));
        clone.git().run(["pull", "--quiet", "--ff-only", "origin", "main"]);
        let files: Vec<_> = clone.ls_tree("HEAD").into_iter().map(|line| String::from_utf8(line.path).expect("UTF-8")).collect();
        assert!(files.contains(&"dir/new.txt".to_owned()) && !files.contains(&"old.txt".to_owned()), "{files:?}");
        assert_eq!(clone.rev_parse("HEAD:dir/new.txt"), oid);
        assert_eq!(d.get(&format!("/pending/{project}/{user}")).await.ok(200)["changes"], json!([]));
    }

    /// Goal: only what surely is a renamed file is taken for one: two files do not become one, nothing of the branch's own is written over,
    /// and an empty file is nobody's. Then it is a conflict, and nothing changes.
    async fn what_is_no_rename(d) {
        let (project, user, _dir, clone) = twenty_lines(&d).await;
        let alike = TWENTY.replace("line 20\n", "another end\n");
        clone.commit_files(&[("other.txt", Some(alike.as_bytes())), ("empty", Some(b""))], "Alike");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let url = format!("/projects/{project}/commit");
        let refused = async |paths: &[&str]| {
            let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
            let told = d.post(&url, commit(user, "merge")).await.problem(409, "conflict");
            let named: Vec<_> = told["conflicts"].as_array().expect("conflicts").iter().map(|one| one["path"].clone()).collect();
            assert_eq!(json!(named), json!(paths));
            let states = status["changes"].as_array().expect("changes").iter().filter(|change| change["state"] == "conflict");
            assert_eq!(states.map(|change| change["path"].clone()).collect::<Vec<_>>(), named, "the status says so");
        };
        // Two files are gone, and one came that is like both.
        for path in ["old.txt", "other.txt"] {
            d.put(&format!("/pending/{project}/{user}/{path}"), TWENTY.replace("line 3\n", &format!("edit of {path}\n"))).await.ok(201);
        }
        d.put(&format!("/pending/{project}/{user}/empty"), "filled\n").await.ok(201);
        let one = TWENTY.replace("line 17\n", "theirs\n");
        clone.commit_files(&[("old.txt", None), ("other.txt", None), ("one.txt", Some(one.as_bytes())), ("empty", None), ("new", Some(b""))], "One");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        refused(&["empty", "old.txt", "other.txt"]).await;
        d.delete(&format!("/pending/{project}/{user}")).await.ok(200);
        // The user moves a file to where the branch makes one of its own.
        d.post(&format!("/pending/{project}/{user}"), json!({"ops": [{"op": "move", "from": "one.txt", "path": "here.txt"}]})).await.ok(200);
        clone.commit_files(&[("one.txt", Some(one.replace("line 1\n", "theirs\n").as_bytes())), ("here.txt", Some(b"their own\n"))], "Two");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        refused(&["here.txt", "one.txt"]).await;
        assert_eq!(d.get(&format!("/files/{project}/here.txt")).await.text(), "their own\n");
    }

    /// Goal: what became a link on one side goes to no name that the other side gave the file: it is a conflict, and nothing changes. Method:
    /// one renames the file and one makes it a link, each way round, in pending work and in two commits.
    async fn a_link_follows_no_rename(d) {
        let (project, user, _dir, clone) = twenty_lines(&d).await;
        let rename = |from: &str, to: &str| {
            clone.git().run(["mv", from, to]);
            clone.commit_files(&[], "Rename");
            clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        };
        let link = |path: &str| {
            std::fs::remove_file(clone.path().join(path)).expect("a file");
            std::os::unix::fs::symlink("target", clone.path().join(path)).expect("a link");
            clone.git().run(["add", path]);
            clone.commit_files(&[], "Link");
            clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        };
        let refused = |told: Value, path: &str| assert_eq!(told["conflicts"][0]["path"], path, "{told}");
        let (url, pending) = (format!("/projects/{project}/commit"), format!("/pending/{project}/{user}"));
        d.put(&format!("{pending}/old.txt?mode=120000"), "target").await.ok(201);
        rename("old.txt", "new.txt");
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        refused(d.post(&url, commit(user, "merge")).await.problem(409, "conflict"), "old.txt");
        d.delete(&pending).await.ok(200);
        d.post(&pending, json!({"ops": [{"op": "move", "from": "new.txt", "path": "mine.txt"}]})).await.ok(200);
        link("new.txt");
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        refused(d.post(&url, commit(user, "merge")).await.problem(409, "conflict"), "new.txt");

        let here = json!({"user": user, "message": "Mine", "author": {"name": "A", "email": "a@example.org"}, "push": false});
        let merge = json!({"on_conflict": "merge"});
        clone.commit_file("old.txt", TWENTY);
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        let project = d.connect("docs").await;
        d.put(&format!("/pending/{project}/{user}/old.txt?mode=120000"), "target").await.ok(201);
        d.post(&format!("/projects/{project}/commit"), here.clone()).await.ok(200);
        rename("old.txt", "moved.txt");
        refused(d.post(&format!("/projects/{project}/sync"), merge.clone()).await.problem(409, "conflict"), "old.txt");
        let project = d.connect("docs").await;
        let moved = json!({"ops": [{"op": "move", "from": "moved.txt", "path": "mine.txt"}]});
        d.post(&format!("/pending/{project}/{user}"), moved).await.ok(200);
        d.post(&format!("/projects/{project}/commit"), here).await.ok(200);
        link("moved.txt");
        refused(d.post(&format!("/projects/{project}/sync"), merge).await.problem(409, "conflict"), "moved.txt");
    }

    /// Goal: a file that the user moved and the branch changed has both; `status` says so before the commit does it.
    async fn the_user_renamed_it(d) {
        let (project, user, _dir, clone) = twenty_lines(&d).await;
        let ops = json!([{"op": "move", "from": "old.txt", "path": "dir/new.txt"},
            {"op": "edit", "path": "dir/new.txt", "old_string": "line 3\n", "new_string": "mine\n"}]);
        d.post(&format!("/pending/{project}/{user}"), json!({"ops": ops})).await.ok(200);
        clone.commit_file("old.txt", TWENTY.replace("line 17\n", "theirs\n"));
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        let states: Vec<_> = status["changes"].as_array().expect("changes").iter().map(|c| c["state"].clone()).collect();
        assert_eq!(states, ["clean", "outdated"]);
        let page = d.get(&format!("/projects/{project}/conflicts?user={user}")).await.ok(200);
        assert_eq!(page["files"][0]["state"], "outdated", "{page}");
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user, "merge")).await.ok(200);
        let text = TWENTY.replace("line 3\n", "mine\n").replace("line 17\n", "theirs\n");
        let oid = crate::deployment::blob_oid(text.as_bytes());
        assert_eq!(answer["files"], json!([{"path": "dir/new.txt", "action": "created", "oid": oid},
            {"path": "old.txt", "action": "deleted", "oid": null}]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main:dir/new.txt"), oid);
        // A file that has nothing of the old one is none that was renamed.
        let other = Uuid::new_v4();
        let ops = json!([{"op": "delete", "path": "dir/new.txt"}, {"op": "put", "path": "else.txt", "content": "something else\n"}]);
        d.post(&format!("/pending/{project}/{other}"), json!({"ops": ops})).await.ok(200);
        d.put(&format!("/files/{project}/dir/new.txt"), "changed\n").await.ok(200);
        let told = d.post(&format!("/projects/{project}/commit"), commit(other, "merge")).await.problem(409, "conflict");
        assert_eq!(told["conflicts"][0]["path"], "dir/new.txt");
    }

    /// Goal: a file that the user moved is followed, too, where what the edit started from was saved and never committed.
    async fn the_user_renamed_what_was_only_saved(d) {
        let (project, user, _dir, _clone) = twenty_lines(&d).await;
        let pending = format!("/pending/{project}/{user}");
        let saved = TWENTY.replace("line 3\n", "saved\n");
        let base = d.put(&format!("{pending}/old.txt"), saved.clone()).await.ok(201)["oid"].clone();
        let gone = format!("{pending}/old.txt?action=deleted&base={}", base.as_str().expect("an oid"));
        assert_eq!(d.put(&gone, "").await.ok(200)["base_oid"], base);
        d.put(&format!("{pending}/new.txt"), saved.replace("line 17\n", "mine\n")).await.ok(201);
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        let states: Vec<_> = status["changes"].as_array().expect("changes").iter().map(|c| c["state"].clone()).collect();
        assert_eq!(states, ["clean", "outdated"]);
        // Line 3 is as the branch has it, which differs from what the edit started from; line 17 is as the user has it.
        let oid = crate::deployment::blob_oid(TWENTY.replace("line 17\n", "mine\n").as_bytes());
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user, "merge")).await.ok(200);
        assert_eq!(answer["files"], json!([{"path": "new.txt", "action": "created", "oid": oid},
            {"path": "old.txt", "action": "deleted", "oid": null}]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main:new.txt"), oid);
    }

    /// Goal: an edit is committed where the branch has moved its file, too, where what it started from was saved and never committed as it
    /// was: a commit took and merged it, say, while its user typed on.
    async fn the_branch_renamed_what_was_only_saved(d) {
        let (project, user, _dir, clone) = twenty_lines(&d).await;
        let url = format!("/pending/{project}/{user}/old.txt");
        let saved = TWENTY.replace("line 3\n", "saved\n");
        let base = d.put(&url, saved.clone()).await.ok(201)["oid"].clone();
        let later = format!("{url}?base={}", base.as_str().expect("an oid"));
        assert_eq!(d.put(&later, saved.replace("line 10\n", "mine\n")).await.ok(200)["base_oid"], base);
        clone.git().run(["mv", "old.txt", "new.txt"]);
        let merged = saved.replace("line 17\n", "theirs\n");
        clone.commit_files(&[("new.txt", Some(merged.as_bytes())), ("else.txt", Some(b"something else\n"))], "Rename");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        assert_eq!(status["changes"][0]["state"], "outdated", "{status}");
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user, "merge")).await.ok(200);
        let oid = crate::deployment::blob_oid(merged.replace("line 10\n", "mine\n").as_bytes());
        assert_eq!(answer["files"], json!([{"path": "new.txt", "action": "modified", "oid": oid}]));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main:new.txt"), oid);
        assert_eq!(d.get(&format!("/pending/{project}/{user}")).await.ok(200)["changes"], json!([]));
    }

    /// Goal: a conflict that a commit met is resolved by what its answer names, without a sync in between.
    async fn resolved_without_a_sync(d) {
        let (project, user, _dir, clone) = both_changed(&d).await;
        let url = format!("/projects/{project}/commit");
        let told = d.post(&url, commit(user, "merge")).await.problem(409, "conflict");
        let theirs = told["conflicts"][0]["theirs"].as_str().expect("an oid").to_owned();
        assert_eq!(theirs, clone.rev_parse("HEAD:shared.txt"), "{told}");
        // Asked again, it is the same conflict.
        let again = d.post(&url, commit(user, "merge")).await.problem(409, "conflict");
        assert_eq!(again["conflicts"], told["conflicts"]);
        let resolved = "one\ntheirs and mine\nthree\n";
        d.put(&format!("/pending/{project}/{user}/shared.txt?base={theirs}"), resolved).await.ok(200);
        let answer = d.post(&url, commit(user, "merge")).await.ok(200);
        assert_eq!(answer["parents"], json!([clone.rev_parse("HEAD")]));
        clone.git().run(["pull", "--quiet", "--ff-only", "origin", "main"]);
        assert_eq!(text(&clone.cat_file("HEAD:shared.txt")), resolved);
        let (_dir, export) = d.export(project).await;
        assert_eq!(json!(export.rev_parse("main")), answer["commit"]);
    }

    /// Goal: a conflicting commit on a branch of its own undoes nobody's work, also after the branch was synced: stock git merges it
    /// with the very conflict that there is.
    async fn branch_after_a_sync(d) {
        let (project, user, _dir, clone) = both_changed(&d).await;
        let synced = d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user, "branch")).await.ok(200);
        assert_eq!(answer["parents"], json!([synced["from"]]));
        let branch = answer["branch"].as_str().expect("a branch");
        assert!(branch.starts_with("treehold/"), "{branch}");
        clone.git().run(["fetch", "--quiet", "origin", branch]);
        let merged = clone.git().output(["merge", "--no-edit", "FETCH_HEAD"]);
        assert!(!merged.status.success(), "{}", String::from_utf8_lossy(&merged.stdout));
        assert!(String::from_utf8_lossy(&merged.stdout).contains("CONFLICT (content): Merge conflict in shared.txt"));
        assert_eq!(d.get(&format!("/pending/{project}/{user}")).await.ok(200)["changes"], json!([]));
    }

    /// Goal: many files that one user makes at once are all taken.
    async fn many_new_files_at_once(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let names: Vec<String> = (0..96).map(|n| format!("new/file {n}.txt")).collect();
        let save = async |share: &[String]| {
            for name in share {
                d.put(&format!("/pending/{project}/{user}/{}", percent(name)), name.clone()).await.ok(201);
            }
        };
        futures::future::join_all(names.chunks(6).map(save)).await;
        let list = d.get(&format!("/pending/{project}/{user}")).await.ok(200);
        assert_eq!((list["revision"].as_u64(), list["changes"].as_array().map(Vec::len)), (Some(96), Some(96)));
    }

    /// Goal: a full ref name is not taken for a branch's name.
    async fn branch_names(d) {
        let body = json!({"default_branch": "refs/heads/main"});
        d.put_json(&format!("/projects/{}", Uuid::new_v4()), body).await.problem(422, "bad_ref");
    }

    /// Goal: a pull can be looked at before it happens: all sides, what merges and what does not, and who else is at it.
    async fn previews(d) {
        let (project, user, _dir, clone) = both_changed(&d).await;
        let base = clone.rev_parse("HEAD~1:shared.txt");
        let other = Uuid::new_v4();
        d.put(&format!("/pending/{project}/{other}/shared.txt"), "another\n").await.ok(201);
        let url = format!("/projects/{project}/conflicts?user={user}");
        assert_eq!(d.get(&url).await.ok(200)["files"], json!([]), "clean against our head");
        assert_eq!(d.get(&format!("{url}&path=shared.txt")).await.ok(200)["files"][0]["state"], "clean");
        let dry = d.post(&format!("/projects/{project}/sync"), json!({"dry_run": true})).await.ok(200);
        assert_eq!(dry["pending"].as_array().unwrap().len(), 2);

        let page = d.get(&format!("{url}&against=remote")).await.ok(200);
        assert_eq!(page["against"], json!(clone.rev_parse("HEAD")));
        let file = &page["files"][0];
        assert_eq!((&file["path"], &file["state"]), (&json!("shared.txt"), &json!("conflict")));
        assert_eq!((&file["base"]["oid"], &file["base"]["content"]), (&json!(base), &json!(LINES)));
        assert_eq!(file["ours"]["content"], "one\nmine\nthree\n");
        assert_eq!(file["theirs"]["content"], "one\ntheirs\nthree\n");
        assert_eq!(
            file["merged"],
            json!({"content": "one\n<<<<<<< pending\nmine\n=======\ntheirs\n>>>>>>> branch\nthree\n",
                   "hunks": [{"line": 2, "base": "two\n", "ours": "mine\n", "theirs": "theirs\n"}]})
        );
        assert_eq!(file["others"][0]["user"], json!(other));
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        assert_eq!(status["changes"][0]["others"], json!([other]), "an early warning");
        assert_eq!(status["changes"][0]["state"], "clean", "a preview moves nothing");

        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        assert_eq!(d.get(&url).await.ok(200)["files"], page["files"], "what was previewed is what came");
        d.put(&format!("/pending/{project}/{user}/shared.txt"), "one\ntwo\nthree\nfour\n").await.ok(200);
        let merged = d.get(&url).await.ok(200)["files"][0].clone();
        assert_eq!((&merged["state"], &merged["merged"]["hunks"]), (&json!("outdated"), &json!([])));
        assert_eq!(merged["merged"]["content"], "one\ntheirs\nthree\nfour\n");
    }

    /// Goal: what is not text is named; pages come to an end; a base that the project cannot read stays unread.
    async fn previews_of_other_kinds(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let elsewhere = d.local_project().await;
        let put = async |project: Uuid, path: &str, body: &[u8]| {
            d.put(&format!("/files/{project}/{path}?message=m"), body.to_vec()).await.ok(200)["files"][0]["oid"].clone()
        };
        let secret = put(elsewhere, "secret.txt", b"another tenant's\n").await;
        for path in ["a.bin", "b.txt", "c.txt", "d.txt"] {
            put(project, path, b"one\n").await;
        }
        d.put(&format!("/pending/{project}/{user}/a.bin"), b"\0mine".to_vec()).await.ok(201);
        d.put(&format!("/pending/{project}/{user}/b.txt?action=deleted"), "").await.ok(201);
        d.put(&format!("/pending/{project}/{user}/c.txt"), "mine\n".repeat(300_000)).await.ok(201);
        let foreign = format!("/pending/{project}/{user}/d.txt?base={}", secret.as_str().unwrap());
        let stolen = d.put(&foreign, "mine\n").await;
        for path in ["a.bin", "b.txt", "c.txt", "d.txt"] {
            put(project, path, b"two\n").await;
        }
        let url = format!("/projects/{project}/conflicts?user={user}&limit=2");
        let first = d.get(&url).await.ok(200);
        let cursor = first["next_cursor"].as_str().expect("more");
        let second = d.get(&format!("{url}&cursor={cursor}")).await.ok(200);
        let files: Vec<&Value> = [&first, &second].iter().flat_map(|page| page["files"].as_array().unwrap()).collect();
        assert_eq!(files[0]["ours"]["omitted"], "binary");
        assert_eq!((&files[1]["ours"], &files[1]["theirs"]["content"]), (&Value::Null, &json!("two\n")));
        assert_eq!(files[2]["ours"]["omitted"], "too_large");
        assert!(files.iter().all(|file| file["state"] == "conflict" && (file["merged"].is_null() || file["path"] == "d.txt")));
        let told = format!("{first}{second}");
        assert!(!told.contains("another tenant"), "{told}");
        assert!(stolen.status < 300 || stolen.status == 422, "{}", stolen.text());
        assert!(second["next_cursor"].is_null());
        d.get(&format!("{url}&against=remote")).await.problem(404, "ref_not_found");
        d.get(&format!("{url}&against=x")).await.problem(400, "bad_parameter");
    }

    /// Goal: conflicts are resolved file by file, all or none, against what the branch had when its user decided.
    async fn resolved_file_by_file(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let put = async |path: &str, body: &str| {
            d.put(&format!("/files/{project}/{path}?message=m"), body.to_owned()).await.ok(200)["files"][0]["oid"].clone()
        };
        let paths = ["merged.txt", "ours.txt", "text.txt", "theirs.txt"];
        for path in paths {
            put(path, "1\n2\n3\n4\n5\n").await;
            d.put(&format!("/pending/{project}/{user}/{path}"), "mine\n2\n3\n4\n5\n").await.ok(201);
        }
        put("merged.txt", "1\n2\n3\n4\ntheirs\n").await;
        let theirs = put("ours.txt", "theirs\n2\n3\n4\n5\n").await;
        put("text.txt", "theirs\n2\n3\n4\n5\n").await;
        put("theirs.txt", "theirs\n2\n3\n4\n5\n").await;
        let url = format!("/projects/{project}/resolve");
        let body = |files: Value| json!({"user": user, "files": files});
        let states = async || {
            let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
            let changes = status["changes"].as_array().unwrap().clone();
            changes.iter().map(|change| (change["path"].as_str().unwrap().to_owned(), change["state"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
        };
        let before = states().await;
        assert_eq!(before.iter().filter(|(_, state)| state == "conflict").count(), 3, "{before:?}");

        let both = json!([{"path": "ours.txt", "take": "ours"}, {"path": "text.txt", "take": "merged"}]);
        let told = d.post(&url, body(both)).await.problem(409, "conflict");
        assert_eq!(told["conflicts"][0]["path"], "text.txt");
        let stale = json!([{"path": "ours.txt", "take": "ours", "theirs": null}]);
        d.post(&url, body(stale)).await.problem(409, "head_moved");
        d.post(&url, body(json!([{"path": "nothing.txt", "take": "ours"}]))).await.problem(422, "nothing_pending");
        assert_eq!(states().await, before, "refusals change nothing");

        let files = json!([
            {"path": "merged.txt", "take": "merged"},
            {"path": "ours.txt", "take": "ours", "theirs": theirs},
            {"path": "text.txt", "take": "text", "content": "both\n"},
            {"path": "theirs.txt", "take": "theirs"},
        ]);
        d.post(&url, body(files)).await.ok(200);
        let clean = |path: &str| (path.to_owned(), "clean".to_owned());
        assert_eq!(states().await, [clean("merged.txt"), clean("ours.txt"), clean("text.txt")]);
        let read = async |path: &str| d.get(&format!("/files/{project}/{path}?user={user}")).await.text();
        assert_eq!(read("merged.txt").await, "mine\n2\n3\n4\ntheirs\n");
        assert_eq!(read("ours.txt").await, "mine\n2\n3\n4\n5\n");
        assert_eq!(read("text.txt").await, "both\n");
        assert_eq!(read("theirs.txt").await, "theirs\n2\n3\n4\n5\n");
        d.post(&format!("/projects/{project}/commit"), commit(user, "merge")).await.ok(200);
        d.export(project).await;
    }
}

/// Goal: whether texts merge, and whether they are too long for that, is told without one more question to the database for each file: where
/// the texts are says how long they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_ask_for_no_sizes() {
    let d = Deployment::start(Setup::Embedded).await;
    let (project, user, _dir, clone) = twenty_lines(&d).await;
    d.put(&format!("/pending/{project}/{user}/old.txt"), TWENTY.replace("line 3\n", "mine\n")).await.ok(201);
    clone.commit_file("old.txt", TWENTY.replace("line 17\n", "theirs\n"));
    clone.git().run(["push", "--quiet", "origin", "HEAD"]);
    d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
    let asked = async || {
        let page = d.get("/metrics").await.text();
        let count = "treehold_catalog_call_seconds_count{operation=\"read sizes\",outcome=\"ok\"} ";
        page.lines().find_map(|line| line.strip_prefix(count).map(str::to_owned))
    };
    let before = asked().await;
    let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
    assert_eq!(status["changes"][0]["state"], "outdated", "{status}");
    d.post(&format!("/projects/{project}/commit"), commit(user, "merge")).await.ok(200);
    assert_eq!(asked().await, before);
}
