//! Refs that no repository, or no file system, holds beside each other, whatever would make them.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::aftermath::until;
use crate::both;
use crate::deployment::Deployment;
use crate::git_tools::{Clone, api_refs, url};
use crate::remote_tools::*;

/// Makes a ref at `oid` by the API.
async fn made(d: &Deployment, project: Uuid, name: &str, oid: &Value) {
    d.put_json(&format!("/projects/{project}/refs/{name}"), json!({"oid": oid})).await.ok(201);
}

async fn deleted(d: &Deployment, project: Uuid, name: &str) {
    d.delete(&format!("/projects/{project}/refs/{name}")).await.ok(204);
}

/// Every push to `remote` waits from when there is a file `begun` beside it until there is a file `go`.
fn holds_pushes(remote: &Repo) {
    let hook = remote.path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("hooks")).expect("mkdir");
    let at = remote.path().display();
    let script = format!("#!/bin/sh\ntouch '{at}/begun'\nwhile [ ! -e '{at}/go' ]; do sleep 0.1; done\n");
    std::fs::write(&hook, script).expect("write");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

both! {
    /// Goal: the first commit of a branch is refused where a ref is in its way, in whatever way it comes, and pending work stays.
    async fn a_first_commit(d) {
        for name in ["main/x", "MAIN"] {
            let (project, user) = (d.local_project().await, Uuid::new_v4());
            let clone = Clone::empty(false);
            clone.commit_file("a", "a\n");
            clone.run(&["push", "--quiet", &url(&d, project), &format!("HEAD:refs/heads/{name}")]);
            save(&d, project, user, "text.txt", "mine\n").await;
            commit(&d, project, commit_body(user, "First")).await.problem(409, "ref_conflict");
            let created = json!([{"action": "create", "path": "b", "content": "b\n"}]);
            actions(&d, project, created).await.problem(409, "ref_conflict");
            d.put(&format!("/files/{project}/b"), "b\n").await.problem(409, "ref_conflict");
            assert_eq!(api_refs(&d, project).await.into_keys().collect::<Vec<_>>(), [format!("refs/heads/{name}")]);
            assert_eq!(pending(&d, project, user).await, ["text.txt"]);
            deleted(&d, project, &format!("heads/{name}")).await;
            commit(&d, project, commit_body(user, "First")).await.ok(200);
            assert_eq!(pending(&d, project, user).await, Vec::<String>::new());
        }
    }

    /// Goal: where a branch is in the way of those that conflicts are put on, the commit is refused and nothing is lost.
    async fn a_branch_for_a_conflict(d) {
        let project = d.local_project().await;
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        save(&d, project, first, "text.txt", "base\n").await;
        commit(&d, project, commit_body(first, "Base")).await.ok(200);
        save(&d, project, first, "text.txt", "one\n").await;
        save(&d, project, second, "text.txt", "two\n").await;
        let head = commit(&d, project, commit_body(first, "One")).await.ok(200)["commit"].clone();
        made(&d, project, "heads/treehold", &head).await;
        let branch = with(commit_body(second, "Two"), json!({"on_conflict": "branch"}));
        commit(&d, project, branch.clone()).await.problem(409, "ref_conflict");
        assert_eq!(api_refs(&d, project).await.into_keys().collect::<Vec<_>>(), ["refs/heads/main", "refs/heads/treehold"]);
        assert_eq!(pending(&d, project, second).await, ["text.txt"]);
        deleted(&d, project, "heads/treehold").await;
        let answer = commit(&d, project, branch).await.ok(200);
        assert_eq!(answer["branch"].as_str().expect("a branch").split('/').next(), Some("treehold"));
    }

    /// Goal: a branch of the remote that has no place beside ours is refused before its history is fetched; the others are pulled.
    async fn a_branch_of_the_remote(d) {
        let remote = small_remote(&d, "docs");
        let project = d.connect("docs").await;
        let head = json!(head(&d, project).await);
        remote.others.git().run(["push", "--quiet", "origin", "HEAD:refs/heads/more", "HEAD:refs/heads/MAIN"]);
        made(&d, project, "heads/more/x", &head).await;
        let before = api_refs(&d, project).await;
        d.git.reset_requests();
        for branch in ["more", "MAIN"] {
            sync(&d, project, json!({"branch": branch})).await.problem(409, "ref_conflict");
        }
        assert_eq!(d.git.requests(), []);
        assert_eq!(api_refs(&d, project).await, before);
        let moved = remote.moves(&[("text.txt", Some(b"moved\n"))]);
        assert_eq!(sync(&d, project, json!({})).await.ok(200)["to"], json!(moved));
        deleted(&d, project, "heads/more/x").await;
        assert_eq!(sync(&d, project, json!({"branch": "more"})).await.ok(200)["to"], head);
    }

    /// Goal: a branch that came here while a push was on its way takes the place of what the remote has by then: the edits stay pending,
    /// nothing is stuck, and once there is a place the commit is pulled.
    async fn a_push_on_its_way(d) {
        let bare = empty_remote(&d, "docs");
        let (project, user) = (d.connect("docs").await, Uuid::new_v4());
        let clone = Clone::empty(false);
        clone.commit_file("a", "a\n");
        holds_pushes(&bare);
        save(&d, project, user, "text.txt", "mine\n").await;
        let meanwhile = async {
            until("the push is on its way", async || bare.path().join("begun").exists()).await;
            clone.run(&["push", "--quiet", &url(&d, project), "HEAD:refs/heads/main/x"]);
            std::fs::write(bare.path().join("go"), "").expect("write");
        };
        let (answer, ()) = tokio::join!(commit(&d, project, commit_body(user, "First")), meanwhile);
        let answer = answer.ok(200);
        assert_eq!((&answer["pushed"], &answer["commit"]), (&json!(true), &json!(bare.rev_parse("refs/heads/main"))));
        assert_eq!(api_refs(&d, project).await.into_keys().collect::<Vec<_>>(), ["refs/heads/main/x"]);
        assert_eq!(pending(&d, project, user).await, ["text.txt"]);
        sync(&d, project, json!({})).await.problem(409, "ref_conflict");
        deleted(&d, project, "heads/main/x").await;
        assert_eq!(sync(&d, project, json!({})).await.ok(200)["to"], answer["commit"]);
        Clone::of_project(&d, project, "2", &["--mirror"]).fsck_strict();
    }
}
