//! Sentences of the contract that are nobody else's.

use serde_json::json;
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply};

/// What the routes answer that take `ref` and `user`, but for those of single files and their list.
async fn asked(d: &Deployment, project: Uuid, user: Uuid, name: &str) -> Vec<Reply> {
    let (read, search) = (format!("/projects/{project}/read"), format!("/projects/{project}/search"));
    let mut replies = vec![
        d.post(&read, json!({"paths": ["a"], "ref": name, "user": user})).await,
        d.post(&search, json!({"query": "text", "ref": name, "user": user})).await,
    ];
    for route in ["archive.tar.gz", "archive.zip", "bundle"] {
        replies.push(d.get(&format!("/projects/{project}/{route}?ref={name}&user={user}")).await);
    }
    replies
}

both! {
    /// Goal: pending work is looked for on branches, and on nothing else. Method: a tag, its full name, and a commit's oid.
    async fn pending_work_lies_on_branches(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let made = d.put(&format!("/files/{project}/a"), "text\n").await.ok(200);
        let commit = made["commit"].as_str().expect("an oid");
        d.put_json(&format!("/projects/{project}/refs/tags/t"), json!({"oid": commit})).await.ok(201);
        d.put(&format!("/pending/{project}/{user}/a"), "other text\n").await.ok(201);
        for name in ["t", "refs/tags/t", commit] {
            for reply in asked(&d, project, user, name).await {
                reply.problem(422, "not_a_branch");
            }
        }
        for name in ["main", "refs/heads/main"] {
            for reply in asked(&d, project, user, name).await {
                reply.ok(200);
            }
        }
    }

    /// Goal: a commit of one file that names no author has the configured one, and one that names a part of it keeps the rest.
    async fn the_configured_author(deployment) {
        let mut d = deployment;
        d.set("TREEHOLD_AUTHOR", "Store <store@example.org>");
        d.stop().await;
        d.up().await;
        let project: Uuid = d.local_project().await;
        d.put(&format!("/files/{project}/a"), "a\n").await.ok(200);
        d.put(&format!("/files/{project}/a?author_name=Bob"), "b\n").await.ok(200);
        let (_dir, export) = d.export(project).await;
        let log = export.git().run(["log", "--format=%an <%ae> %cn <%ce>", "main"]);
        let named = |name: &str| format!("{name} <store@example.org> {name} <store@example.org>");
        assert_eq!(log.lines().collect::<Vec<_>>(), [named("Bob"), named("Store")]);
    }
}
