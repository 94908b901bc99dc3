//! How many refs a project may have.

use serde_json::json;
use uuid::Uuid;

use crate::both;
use crate::git_tools::{Clone, api_refs, url};
use crate::remote_tools::{small_remote, sync};

both! {
    /// Goal: a project gets no more refs than it may have, by git or by the API; those that are there move, and make room when they go.
    async fn no_more_than_the_limit(d) {
        let mut d = d;
        d.stop().await;
        d.set("TREEHOLD_LIMIT_REFS", "3");
        d.up().await;
        let project = d.local_project().await;
        let (clone, at) = (Clone::empty(false), url(&d, project));
        clone.commit_file("a", "a\n");
        clone.run(&["push", "--quiet", &at, "main", "HEAD:refs/heads/one", "HEAD:refs/tags/two"]);
        let first = clone.rev_parse("HEAD");
        let names = async || api_refs(&d, project).await.into_keys().collect::<Vec<_>>();
        let all = ["refs/heads/main", "refs/heads/one", "refs/tags/two"];
        assert_eq!(names().await, all);

        let four = format!("/projects/{project}/refs/heads/four");
        let refused = d.put_json(&four, json!({"oid": first})).await.problem(413, "too_large");
        assert_eq!((&refused["limit"], &refused["unit"]), (&json!(3), &json!("refs")), "{refused}");
        // What is there moves beside what is refused.
        clone.commit_file("b", "b\n");
        clone.refused(&["push", &at, "main", "HEAD:refs/heads/four"], "too many refs");
        assert_eq!((api_refs(&d, project).await["refs/heads/main"].clone(), names().await.len()), (clone.rev_parse("HEAD"), 3));
        clone.commit_file("c", "c\n");
        clone.refused(&["push", "--atomic", &at, "main", "HEAD:refs/heads/four"], "too many refs");
        assert_ne!(api_refs(&d, project).await["refs/heads/main"], clone.rev_parse("HEAD"));

        clone.run(&["push", "--quiet", "--atomic", &at, "HEAD:refs/heads/four", ":refs/heads/one"]);
        assert_eq!(names().await, ["refs/heads/four", "refs/heads/main", "refs/tags/two"]);
        d.delete(&four).await.ok(204);
        d.put_json(&format!("/projects/{project}/refs/heads/one"), json!({"oid": first})).await.ok(201);
        assert_eq!(names().await, all);
        Clone::of_project(&d, project, "0", &["--mirror"]).fsck_strict();
    }

    /// Goal: a project with more refs than it may have by now keeps them, and gets no more.
    async fn a_lower_limit(d) {
        let mut d = d;
        let project = d.local_project().await;
        let (clone, at) = (Clone::empty(false), url(&d, project));
        clone.commit_file("a", "a\n");
        clone.run(&["push", "--quiet", &at, "main", "HEAD:refs/heads/one", "HEAD:refs/heads/two"]);
        d.stop().await;
        d.set("TREEHOLD_LIMIT_REFS", "1");
        d.up().await;
        let at = url(&d, project);
        clone.commit_file("b", "b\n");
        clone.refused(&["push", &at, "HEAD:refs/heads/three"], "too many refs");
        clone.run(&["push", "--quiet", &at, "main", "HEAD:refs/heads/one"]);
        clone.run(&["push", "--quiet", "--atomic", &at, ":refs/heads/two", "HEAD:refs/heads/three"]);
        assert_eq!(api_refs(&d, project).await.len(), 3);
        Clone::of_project(&d, project, "2", &["--mirror"]).fsck_strict();
    }

    /// Goal: a branch of the remote for which there is no room is refused before its history is fetched; those that are there go on.
    async fn before_a_fetch(d) {
        let mut d = d;
        d.stop().await;
        d.set("TREEHOLD_LIMIT_REFS", "1");
        d.up().await;
        let (remote, project) = (small_remote(&d, "docs"), Uuid::new_v4());
        d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": d.git.url("docs")}})).await.ok(201);
        sync(&d, project, json!({})).await.ok(200);
        remote.others.commit_file("more.txt", "more\n");
        remote.others.git().run(["push", "--quiet", "origin", "HEAD:refs/heads/more"]);
        d.git.reset_requests();
        let refused = sync(&d, project, json!({"branch": "more"})).await.problem(413, "too_large");
        assert_eq!((&refused["limit"], &refused["unit"]), (&json!(1), &json!("refs")), "{refused}");
        assert_eq!(d.git.requests(), []);
        let told = sync(&d, project, json!({"branch": "more", "dry_run": true})).await.ok(200);
        assert_eq!(told["to"], json!(remote.others.rev_parse("HEAD")));
        let moved = remote.moves(&[("text.txt", Some(b"moved\n"))]);
        assert_eq!(sync(&d, project, json!({})).await.ok(200)["to"], json!(moved));
    }
}
