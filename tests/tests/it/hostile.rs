//! Repositories made by fixtures/hostile.sh: what git would refuse is refused whole, what it would carry is carried verbatim.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use treehold_tests::git::Repo;
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;

/// The names of the repositories of one class, made below the deployment's remotes.
fn fixtures(d: &Deployment, class: &str) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("fixtures/hostile.sh");
    let made = Command::new(script).arg(d.remotes.path()).output().expect("the script runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let class_dir = d.remotes.path().join(class);
    let mut names: Vec<String> = std::fs::read_dir(class_dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

async fn project_of(d: &Deployment, repo: &str) -> Uuid {
    let project = Uuid::new_v4();
    let body = json!({"remote": {"url": d.git.url(repo)}});
    d.put_json(&format!("/projects/{project}"), body).await.ok(201);
    project
}

both! {
    /// Goal: a pack with an object that git refuses is refused whole: no ref, no file, and the branch stays unborn.
    async fn refused(d) {
        let names = fixtures(&d, "refused");
        assert!(names.len() >= 14, "{names:?}");
        for name in names {
            let project = project_of(&d, &format!("refused/{name}")).await;
            let reply = d.post(&format!("/projects/{project}/sync"), json!({})).await;
            assert_eq!(reply.status, 502, "{name}: {}", reply.text());
            reply.problem(502, "remote_invalid");
            assert_eq!(d.get(&format!("/projects/{project}")).await.ok(200)["head"], json!(null), "{name}");
            assert_eq!(d.get(&format!("/files/{project}")).await.ok(200)["files"], json!([]), "{name}");
        }
    }

    /// Goal: nobody can write a `.gitmodules` that git's own checks refuse, by any route; a good one is taken.
    async fn git_files(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let evil = "[submodule \"../x\"]\n\tpath = x\n\turl = https://example.org/x\n";
        let good = "[submodule \"x\"]\n\tpath = x\n\turl = https://example.org/x\n";
        let author = json!({"name": "A", "email": "a@example.org"});
        let commits = format!("/projects/{project}/commits");
        let create = |path: &str| json!({"message": "m", "author": author,
            "actions": [{"action": "create", "path": path, "content": evil}]});
        d.put(&format!("/pending/{project}/{user}/.gitmodules"), evil).await.problem(422, "unsafe_content");
        d.put(&format!("/files/{project}/.gitmodules"), evil).await.problem(422, "unsafe_content");
        d.post(&commits, create(".gitmodules")).await.problem(422, "unsafe_content");
        d.post(&commits, create("innocent.txt")).await.ok(200);
        let moved = json!({"message": "m", "author": author,
            "actions": [{"action": "move", "from": "innocent.txt", "path": ".gitmodules"}]});
        d.post(&commits, moved).await.problem(422, "unsafe_content");
        d.put(&format!("/files/{project}/.gitmodules"), good).await.ok(200);
        d.export(project).await;
    }

    /// Goal: names that are merely odd come in and go out with the same oids.
    async fn carried(d) {
        let names = fixtures(&d, "carried");
        assert!(names.len() >= 8, "{names:?}");
        for name in names {
            let project = project_of(&d, &format!("carried/{name}")).await;
            let reply = d.post(&format!("/projects/{project}/sync"), json!({})).await;
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            let remote = Repo::open(d.remotes.path().join("carried").join(&name));
            assert_eq!(reply.ok(200)["to"], json!(remote.rev_parse("main")), "{name}");
            let dir = tempfile::tempdir().expect("a directory");
            let to = dir.path().join("export.git");
            let out = d.cli(&["export", &project.to_string(), to.to_str().expect("UTF-8")]).await;
            assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
            assert_eq!(Repo::open(&to).ls_tree("main"), remote.ls_tree("main"), "{name}");
        }
    }
}
