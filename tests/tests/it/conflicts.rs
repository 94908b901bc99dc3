//! Conflicts, and how a user gets out of them.

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::verifications::{percent, text};

const LINES: &str = "one\ntwo\nthree\n";

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
}
