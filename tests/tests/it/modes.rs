//! Changes of mode beside changes of content.

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};

const TEXT: &str = "#!/bin/sh\none\ntwo\nthree\n";

/// A synced project with scripts that nobody may run yet; a user and a clone.
async fn scripts(d: &Deployment) -> (Uuid, Uuid, tempfile::TempDir, Repo) {
    d.remote("docs", 11);
    let (dir, clone) = d.clone_remote("docs");
    let files: Vec<(String, &[u8])> = ["a", "b", "c", "d"].map(|name| (format!("{name}.sh"), TEXT.as_bytes())).into();
    let files: Vec<(&str, Option<&[u8]>)> = files.iter().map(|(path, text)| (path.as_str(), Some(*text))).collect();
    clone.commit_files(&files, "Scripts");
    clone.git().run(["push", "--quiet", "origin", "HEAD"]);
    (d.connect("docs").await, Uuid::new_v4(), dir, clone)
}

fn make_executable(clone: &Repo, paths: &[&str]) {
    clone.git().run(["update-index", "--chmod=+x"].iter().chain(paths));
    clone.git().run(["commit", "--quiet", "-m", "Let them run"]);
    clone.git().run(["reset", "--quiet", "--hard"]);
}

async fn states(d: &Deployment, project: Uuid, user: Uuid) -> Value {
    let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
    let changes = status["changes"].as_array().expect("changes").iter();
    json!(changes.map(|change| json!([change["path"], change["state"]])).collect::<Vec<_>>())
}

fn commit(user: Uuid) -> Value {
    json!({"user": user, "message": "Mine", "author": {"name": "A", "email": "a@example.org"}})
}

both! {
    /// Goal: a mode that the remote changed stays, whatever an edit that says nothing of it does; one that the user changed meets the remote's
    /// content. Status, preview, pull and commit agree.
    async fn modes_merge_by_themselves(d) {
        let (project, user, _dir, clone) = scripts(&d).await;
        let url = format!("/pending/{project}/{user}");
        let mine = TEXT.replace("one", "mine");
        d.put(&format!("{url}/a.sh"), mine.clone()).await.ok(201);
        d.post(&url, json!({"ops": [{"op": "chmod", "path": "b.sh", "mode": "100755"}]})).await.ok(200);
        d.put(&format!("{url}/c.sh"), mine.clone()).await.ok(201);
        d.put(&format!("{url}/d.sh?action=deleted"), "").await.ok(201);
        make_executable(&clone, &["a.sh", "c.sh", "d.sh"]);
        let theirs = TEXT.replace("three", "theirs");
        clone.commit_files(&[("b.sh", Some(theirs.as_bytes())), ("c.sh", Some(theirs.as_bytes()))], "Say it");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        // What a pull would bring, and what it brought.
        let told = json!([["a.sh", "outdated"], ["b.sh", "outdated"], ["c.sh", "outdated"], ["d.sh", "conflict"]]);
        for dry in [true, false] {
            let synced = d.post(&format!("/projects/{project}/sync"), json!({"dry_run": dry})).await.ok(200);
            let pending = synced["pending"].as_array().expect("pending").iter().map(|row| json!([row["path"], row["state"]]));
            assert_eq!(json!(pending.collect::<Vec<_>>()), told, "{synced}");
            let preview = d.get(&format!("/projects/{project}/conflicts?user={user}&against=remote")).await.ok(200);
            let modes = preview["files"].as_array().expect("files").iter().map(|file| {
                json!([file["base"]["mode"], file["ours"]["mode"], file["theirs"]["mode"], file["mode"]])
            });
            assert_eq!(json!(modes.collect::<Vec<_>>()), json!([
                ["100644", "100644", "100755", "100755"],
                ["100644", "100755", "100644", "100755"],
                ["100644", "100644", "100755", "100755"],
                ["100644", null, "100755", null],
            ]));
        }
        assert_eq!(states(&d, project, user).await, told);
        // More typing says nothing of the mode either, nor does it where it names the head's blob.
        d.put(&format!("{url}/a.sh?base={}", blob_oid(TEXT.as_bytes())), TEXT.replace("one", "still mine")).await.ok(200);
        assert_eq!(states(&d, project, user).await, told);
        let conflict = d.post(&format!("/projects/{project}/commit"), commit(user)).await.problem(409, "conflict");
        assert_eq!(conflict["conflicts"].as_array().expect("conflicts").len(), 1, "{conflict}");
        d.delete(&format!("{url}/d.sh")).await.ok(200);
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user)).await.ok(200);
        assert_eq!(answer["files"].as_array().expect("files").len(), 3, "{answer}");
        clone.git().run(["pull", "--quiet", "--ff-only", "origin", "main"]);
        let both = TEXT.replace("one", "mine").replace("three", "theirs");
        for (path, text) in [("a.sh", TEXT.replace("one", "still mine")), ("b.sh", theirs), ("c.sh", both), ("d.sh", TEXT.to_owned())] {
            let line = clone.ls_tree("HEAD").into_iter().find(|line| line.path == path.as_bytes()).expect("a line");
            assert_eq!((line.mode.as_str(), line.oid), ("100755", blob_oid(text.as_bytes())), "{path}");
        }
        assert_eq!(states(&d, project, user).await, json!([]));
    }

    /// Goal: an edit that is taken back is gone, though the remote changed the mode meanwhile; a chmod that the remote made too is no conflict; a
    /// resolution takes the merged mode unless it says another.
    async fn modes_in_resolutions(d) {
        let (project, user, _dir, clone) = scripts(&d).await;
        let url = format!("/pending/{project}/{user}");
        d.put(&format!("{url}/a.sh"), "edited\n").await.ok(201);
        d.put(&format!("{url}/b.sh?mode=100755"), TEXT).await.ok(201);
        d.put(&format!("{url}/c.sh"), TEXT.replace("one", "mine")).await.ok(201);
        d.put(&format!("{url}/d.sh"), TEXT.replace("one", "mine")).await.ok(201);
        make_executable(&clone, &["a.sh", "b.sh", "c.sh", "d.sh"]);
        let theirs = TEXT.replace("one", "theirs");
        clone.commit_files(&[("c.sh", Some(theirs.as_bytes())), ("d.sh", Some(theirs.as_bytes()))], "Say it");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let told = json!([["a.sh", "outdated"], ["b.sh", "outdated"], ["c.sh", "conflict"], ["d.sh", "conflict"]]);
        assert_eq!(states(&d, project, user).await, told);
        let taken_back = d.put(&format!("{url}/a.sh"), TEXT).await.ok(200);
        assert_eq!((&taken_back["action"], &taken_back["mode"]), (&json!("none"), &json!("100755")));
        let files = json!([{"path": "b.sh", "take": "merged"}, {"path": "c.sh", "take": "ours"},
            {"path": "d.sh", "take": "text", "content": "both\n", "mode": "100644"}]);
        d.post(&format!("/projects/{project}/resolve"), json!({"user": user, "files": files})).await.ok(200);
        assert_eq!(states(&d, project, user).await, json!([["c.sh", "clean"], ["d.sh", "clean"]]));
        d.post(&format!("/projects/{project}/commit"), commit(user)).await.ok(200);
        clone.git().run(["pull", "--quiet", "--ff-only", "origin", "main"]);
        let modes = clone.ls_tree("HEAD").into_iter().filter(|line| line.path.ends_with(b".sh")).map(|line| line.mode);
        assert_eq!(modes.collect::<Vec<_>>(), ["100755", "100755", "100755", "100644"]);
    }

    /// Goal: an editor that still holds what a change of mode alone started from, and saves without a word of what it saw, erases nothing.
    async fn a_save_over_a_mode_alone_keeps_its_base(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let (old, new) = ("one\n", "one and theirs\n");
        let url = format!("/pending/{project}/{user}");
        for path in ["put.sh", "batch.sh"] {
            d.put(&format!("/files/{project}/{path}"), old).await.ok(200);
            d.post(&url, json!({"ops": [{"op": "chmod", "path": path, "mode": "100755"}]})).await.ok(200);
            d.put(&format!("/files/{project}/{path}"), new).await.ok(200);
        }
        let saved = d.put(&format!("{url}/put.sh"), "one and mine\n").await.ok(200);
        assert_eq!(saved["base_oid"], blob_oid(old.as_bytes()));
        d.post(&url, json!({"ops": [{"op": "put", "path": "batch.sh", "content": "one and mine\n"}]})).await.ok(200);
        let told = json!([["batch.sh", "conflict"], ["put.sh", "conflict"]]);
        assert_eq!(states(&d, project, user).await, told);
        // Who sends what the branch has, has seen it: the mode is all that is changed.
        for path in ["put.sh", "batch.sh"] {
            d.delete(&format!("{url}/{path}")).await;
            d.post(&url, json!({"ops": [{"op": "chmod", "path": path, "mode": "100755"}]})).await.ok(200);
            d.put(&format!("/files/{project}/{path}"), "newer\n").await.ok(200);
        }
        assert_eq!(d.put(&format!("{url}/put.sh"), "newer\n").await.ok(200)["base_oid"], blob_oid(b"newer\n"));
        d.post(&url, json!({"ops": [{"op": "put", "path": "batch.sh", "content": "newer\n"}]})).await.ok(200);
        // A batch changes nothing where the view has it already.
        assert_eq!(states(&d, project, user).await, json!([["batch.sh", "outdated"], ["put.sh", "clean"]]));
    }

    /// Goal: a change of mode alone shows the content that the branch has by now, wherever the user looks, as the commit has it; what is
    /// written on top of it starts from there.
    async fn a_mode_alone_follows_the_branch(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let (old, new) = ("old words\n", "new words, and more of them\n");
        for path in ["a.sh", "b.sh", "c.sh"] {
            d.put(&format!("/files/{project}/{path}"), old).await.ok(200);
        }
        let url = format!("/pending/{project}/{user}");
        let chmod = |path: &str| json!({"op": "chmod", "path": path, "mode": "100755"});
        d.post(&url, json!({"ops": [chmod("a.sh"), chmod("b.sh"), chmod("c.sh")]})).await.ok(200);
        let before = d.get(&format!("/projects/{project}/refs")).await.ok(200)["refs"][0]["oid"].clone();
        for path in ["a.sh", "b.sh", "c.sh"] {
            d.put(&format!("/files/{project}/{path}"), new).await.ok(200);
        }
        let oid = blob_oid(new.as_bytes());
        let file = d.get(&format!("/files/{project}/a.sh?user={user}")).await;
        assert_eq!((file.text().as_str(), file.header("git-mode"), file.header("x-treehold-source")), (new, "100755", "pending"));
        assert_eq!(file.header("etag"), format!("\"{oid}\""));
        let raw = d.get(&format!("{url}/a.sh")).await;
        assert_eq!((raw.text().as_str(), raw.header("etag")), (new, file.header("etag")));
        let read = d.post(&format!("/projects/{project}/read"), json!({"paths": ["a.sh"], "user": user})).await.ok(200);
        let shown = |file: &Value| json!([file["oid"], file["mode"], file["size"]]);
        assert_eq!((shown(&read["files"][0]), &read["files"][0]["content"]), (json!([oid, "100755", new.len()]), &json!(new)));
        let listed = d.get(&format!("/files/{project}?user={user}")).await.ok(200);
        assert_eq!(shown(&listed["files"][0]), json!([oid, "100755", new.len()]));
        let pending = d.get(&url).await.ok(200);
        assert_eq!(shown(&pending["changes"][0]), json!([oid, "100755", new.len()]));
        let query = json!({"query": "more of", "user": user});
        let found = d.post(&format!("/projects/{project}/search"), query).await.ok(200);
        assert_eq!(found["matches"].as_array().map(Vec::len), Some(3), "{found}");
        let blamed = d.get(&format!("/projects/{project}/blame/a.sh?user={user}")).await.ok(200);
        assert_eq!((&blamed["oid"], &blamed["ranges"][0]["pending"]), (&json!(oid), &Value::Null));
        let diff = d.get(&format!("/projects/{project}/diff?user={user}")).await.text();
        assert!(diff.starts_with("diff --git a/a.sh b/a.sh\nold mode 100644\nnew mode 100755\ndiff --git a/b.sh"), "{diff}");
        let since = d.get(&format!("/projects/{project}/diff?user={user}&from={}&patch=false", before.as_str().expect("an oid"))).await.ok(200);
        assert_eq!(json!([since["files"][0]["new_oid"], since["files"][0]["new_mode"]]), json!([oid, "100755"]));
        let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
        assert_eq!(json!([status["changes"][0]["oid"], status["changes"][0]["head_oid"]]), json!([oid, oid]));
        // What is seen is what is edited: by a condition, by an edit of the text, and not by who still has the old one.
        let edited = new.replace("words", "lines");
        let put = |seen: &str| d.request("PUT", &format!("{url}/b.sh")).header("If-Match", format!("\"{seen}\"")).body(edited.clone());
        assert_eq!(d.send(put(&blob_oid(old.as_bytes()))).await.problem(412, "precondition_failed")["oid"], oid);
        assert_eq!(d.send(put(&oid)).await.ok(200)["base_oid"], oid);
        let edit = json!({"op": "edit", "path": "c.sh", "old_string": "more", "new_string": "fewer", "expected_oid": oid});
        d.post(&url, json!({"ops": [edit]})).await.ok(200);
        let told = json!([["a.sh", "outdated"], ["b.sh", "clean"], ["c.sh", "clean"]]);
        assert_eq!(states(&d, project, user).await, told);
        d.post(&format!("/projects/{project}/commit"), commit(user)).await.ok(200);
        let committed = d.get(&format!("/files/{project}")).await.ok(200);
        let texts = [new.to_owned(), edited, new.replace("more", "fewer")];
        for (file, text) in committed["files"].as_array().expect("files").iter().zip(texts) {
            assert_eq!(shown(file), json!([blob_oid(text.as_bytes()), "100755", text.len()]));
        }
        // Taken back, it is gone.
        d.post(&url, json!({"ops": [{"op": "chmod", "path": "a.sh", "mode": "100644"}]})).await.ok(200);
        d.put(&format!("/files/{project}/a.sh?mode=100755"), "newest\n").await.ok(200);
        d.post(&url, json!({"ops": [{"op": "chmod", "path": "a.sh", "mode": "100755"}]})).await.ok(200);
        assert_eq!(states(&d, project, user).await, json!([]));
    }

    /// Goal: a file that became a link at the remote is a conflict as a whole for who edits or chmods it, and can be resolved.
    async fn types_conflict(d) {
        let (project, user, _dir, clone) = scripts(&d).await;
        let url = format!("/pending/{project}/{user}");
        d.put(&format!("{url}/a.sh"), "edited\n").await.ok(201);
        d.put(&format!("{url}/b.sh?mode=100755"), TEXT).await.ok(201);
        for name in ["a.sh", "b.sh"] {
            std::fs::remove_file(clone.path().join(name)).expect("remove");
            std::os::unix::fs::symlink("c.sh", clone.path().join(name)).expect("link");
        }
        clone.git().run(["commit", "--quiet", "-a", "-m", "Link"]);
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        assert_eq!(states(&d, project, user).await, json!([["a.sh", "conflict"], ["b.sh", "conflict"]]));
        let preview = d.get(&format!("/projects/{project}/conflicts?user={user}")).await.ok(200);
        assert_eq!((&preview["files"][0]["mode"], &preview["files"][0]["theirs"]["mode"]), (&Value::Null, &json!("120000")));
        d.post(&format!("/projects/{project}/commit"), commit(user)).await.problem(409, "conflict");
        let files = json!([{"path": "a.sh", "take": "ours"}, {"path": "b.sh", "take": "theirs"}]);
        d.post(&format!("/projects/{project}/resolve"), json!({"user": user, "files": files})).await.ok(200);
        assert_eq!(states(&d, project, user).await, json!([["a.sh", "clean"]]));
        d.post(&format!("/projects/{project}/commit"), commit(user)).await.ok(200);
        clone.git().run(["pull", "--quiet", "--ff-only", "origin", "main"]);
        let modes = clone.ls_tree("HEAD").into_iter().filter(|line| line.path.ends_with(b".sh")).map(|line| line.mode);
        assert_eq!(modes.collect::<Vec<_>>(), ["100644", "120000", "100644", "100644"]);
    }
}
