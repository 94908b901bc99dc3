//! What projects hold, and may hold.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, blob_oid, json_body};
use crate::git_tools::Clone;
use crate::remote_tools::author;

async fn held(d: &Deployment, project: Uuid) -> u64 {
    d.get(&format!("/projects/{project}")).await.ok(200)["usage"]["bytes"].as_u64().expect("bytes")
}

async fn allow(d: &Deployment, project: Uuid, quota_bytes: Value) {
    let change = json_body(d.request("PATCH", &format!("/projects/{project}")), &json!({"quota_bytes": quota_bytes}));
    assert_eq!(d.send(change).await.ok(200)["usage"]["quota_bytes"], quota_bytes);
}

#[track_caller]
fn refused(reply: &Reply) -> Value {
    let problem = reply.problem(413, "quota_exceeded");
    assert!(problem["detail"].as_str().expect("a sentence").contains("discard what is not needed"), "{problem}");
    problem["quota"].clone()
}

fn commit(user: Uuid) -> Value {
    json!({"user": user, "message": "Mine", "author": author()})
}

/// A text that no other one is like.
fn text(name: &str, bytes: usize) -> String {
    format!("{name}\n").repeat(bytes / (name.len() + 1) + 1)[..bytes].to_owned()
}

both! {
    /// Goal: what would bring a project over its quota is refused before it is stored, by whatever way it comes; what adds nothing passes, and so does
    /// the commit of what was accepted.
    async fn fill_up(d) {
        let project = d.local_project().await;
        let user = Uuid::new_v4();
        let url = format!("/pending/{project}/{user}");
        allow(&d, project, json!(10_000)).await;
        d.put(&format!("{url}/a"), text("a", 6000)).await.ok(201);
        assert_eq!(held(&d, project).await, 6000);
        let over = refused(&d.put(&format!("{url}/b"), text("b", 6000)).await);
        assert_eq!(over, json!({"used_bytes": 6000, "quota_bytes": 10_000, "adds_bytes": 6000}));
        // Large content goes to the bucket: not this one.
        refused(&d.put(&format!("{url}/large"), text("large", 300_000)).await);
        let put = |path: &str, bytes| json!({"op": "put", "path": path, "content": text(path, bytes)});
        let batch = |ops: Value, atomic: bool| json!({"ops": ops, "atomic": atomic});
        refused(&d.post(&url, batch(json!([put("b", 3000), put("c", 3000)]), true)).await);
        refused(&d.post(&url, batch(json!([put("b", 3000), put("c", 3000)]), false)).await);
        refused(&d.put(&format!("/files/{project}/b"), text("b", 6000)).await);
        let action = json!({"action": "create", "path": "b", "content": text("b", 6000)});
        refused(&d.post(&format!("/projects/{project}/commits"), json!({"message": "M", "author": author(), "actions": [action]})).await);
        let pending = d.get(&url).await.ok(200);
        assert_eq!(pending["changes"].as_array().expect("changes").len(), 1, "nothing came of it: {pending}");
        assert_eq!(held(&d, project).await, 6000);
        // What fits, and what is there already.
        d.post(&url, batch(json!([put("b", 3000), put("a", 6000)]), true)).await.ok(200);
        assert_eq!(held(&d, project).await, 9000);
        allow(&d, project, json!(10)).await;
        refused(&d.put(&format!("{url}/c"), "c").await);
        d.put(&format!("{url}/a"), text("a", 6000)).await.ok(200);
        d.post(&url, json!({"ops": [{"op": "move", "from": "b", "path": "moved"}, {"op": "chmod", "path": "a", "mode": "100755"}]})).await.ok(200);
        d.put(&format!("{url}/moved?action=deleted"), "").await.ok(200);
        d.post(&format!("/projects/{project}/commit"), commit(user)).await.ok(200);
        assert!(held(&d, project).await > 15_000, "as an edit in local history, and as a commit");
        // A push is told in git's words, and nothing of it stays; one that brings nothing passes.
        let clone = Clone::of_project(&d, project, "2", &[]);
        clone.run(&["push", "--quiet", "origin", "main:refs/heads/same"]);
        clone.commit_file("pushed", "pushed\n");
        let before = held(&d, project).await;
        clone.refused(&["push", "origin", "main", "main:refs/heads/new"], "the project holds");
        clone.run(&["push", "--quiet", "origin", ":same"]);
        assert_eq!(held(&d, project).await, before);
        allow(&d, project, Value::Null).await;
        clone.run(&["push", "--quiet", "origin", "main"]);
        assert!(held(&d, project).await > before);
        // What a deleted branch had counts again before it comes back.
        clone.commit_file("side", text("side", 9000));
        clone.run(&["push", "--quiet", "origin", "HEAD:refs/heads/side"]);
        let tip = clone.run(&["rev-parse", "HEAD"]);
        clone.run(&["push", "--quiet", "origin", ":side"]);
        allow(&d, project, json!(held(&d, project).await + 1000)).await;
        let (side, restore) = (format!("/projects/{project}/refs/heads/side"), json!({"oid": tip.trim(), "restore": true}));
        refused(&d.put_json(&side, restore.clone()).await);
        allow(&d, project, Value::Null).await;
        d.put_json(&side, restore).await.ok(201);
        d.export(project).await;
    }

    /// Goal: a project is charged for what others have stored already as for what nobody has; figures are exact without the collector, which finds
    /// nothing to correct.
    async fn tell_nothing_of_others(d) {
        let (one, two) = (d.local_project().await, d.local_project().await);
        let user = Uuid::new_v4();
        let mut figures = Vec::new();
        for project in [one, two] {
            let url = format!("/pending/{project}/{user}");
            d.put(&format!("{url}/small"), text("small", 5000)).await.ok(201);
            d.put(&format!("{url}/large"), text("large", 200_000)).await.ok(201);
            let pending = held(&d, project).await;
            d.post(&format!("/projects/{project}/commit"), json!({"user": user, "message": "Mine",
                "author": {"name": "A", "email": "a@example.org", "date": "2026-01-02T03:04:05Z"}})).await.ok(200);
            figures.push((pending, held(&d, project).await));
        }
        assert_eq!((figures[0], figures[0].0), (figures[1], 205_000));
        // A fork has what its source's refs reach, and not its pending work.
        d.put(&format!("/files/{one}/more?branch=main"), text("more", 70_000)).await.ok(200);
        let head = d.get(&format!("/projects/{one}")).await.ok(200)["head"].clone();
        let fork = d.post(&format!("/projects/{one}/fork"), json!({})).await.ok(201);
        assert_eq!(fork["usage"]["bytes"], held(&d, one).await - figures[0].0);
        // Fewer refs, less to hold, at once.
        let back = d.get(&format!("/projects/{one}/log")).await.ok(200)["commits"][1]["commit"].clone();
        let set_back = json!({"oid": back, "expected_oid": head, "force": true});
        d.put_json(&format!("/projects/{one}/refs/heads/main"), set_back).await.ok(200);
        assert_eq!(held(&d, one).await, figures[0].1);
        let report = d.cli(&["admin", "gc", "--apply", "--json"]).await;
        let report: Value = serde_json::from_slice(&report.stdout).expect("a report");
        assert_eq!(report["recounted"], 0, "{report}");
        let shown = d.cli(&["project", "show", &two.to_string()]).await;
        assert!(String::from_utf8_lossy(&shown.stdout).contains(&format!("{} bytes", figures[1].1)));
    }

    /// Goal: what a project is charged for already grows nothing when it comes again, by whatever way; what only others have does.
    async fn judge_by_what_is_new(d) {
        let (project, other) = (d.local_project().await, d.local_project().await);
        let url = format!("/pending/{project}/{}", Uuid::new_v4());
        allow(&d, project, json!(10_000)).await;
        d.put(&format!("{url}/a"), text("a", 6000)).await.ok(201);
        d.put(&format!("/pending/{other}/{}/b", Uuid::new_v4()), text("b", 6000)).await.ok(201);
        let put = |path: &str, name: &str, bytes| json!({"op": "put", "path": path, "content": text(name, bytes)});
        // Known under other paths, in a batch and alone; beside something new that fits.
        d.post(&url, json!({"ops": [put("again", "a", 6000), put("b", "new", 1000)]})).await.ok(200);
        d.put(&format!("{url}/third"), text("a", 6000)).await.ok(201);
        assert_eq!(held(&d, project).await, 7000);
        // Others have it: here it is new.
        let over = refused(&d.post(&url, json!({"ops": [put("again", "a", 6000), put("b", "b", 6000)]})).await);
        assert_eq!(over, json!({"used_bytes": 7000, "quota_bytes": 10_000, "adds_bytes": 6000}));
        // As pending work it is known, as a commit it is not.
        let actions = |path: &str| json!({"message": "M", "author": author(), "actions":
            [{"action": "create", "path": path, "content": text("a", 6000)}]});
        refused(&d.post(&format!("/projects/{project}/commits"), actions("one")).await);
        allow(&d, project, Value::Null).await;
        d.post(&format!("/projects/{project}/commits"), actions("one")).await.ok(200);
        let full = held(&d, project).await;
        allow(&d, project, json!(full + 2000)).await;
        d.post(&format!("/projects/{project}/commits"), actions("two")).await.ok(200);
        // A push of a history of its own sends all of it, whatever the project has.
        let push = |name: &str, content: String| {
            let (repo, to) = (Clone::empty(false), crate::git_tools::url(&d, project));
            repo.commit_file(name, content);
            (repo, to, format!("HEAD:refs/heads/{name}"))
        };
        let (repo, to, branch) = push("theirs", text("b", 6000));
        repo.refused(&["push", &to, &branch], "the project holds");
        let (repo, to, branch) = push("known", text("a", 6000));
        repo.run(&["push", "--quiet", &to, &branch]);
        assert!(held(&d, project).await < full + 2000);
    }

    /// Goal: what was discarded counts until local history lets go of it.
    async fn become_free_again(d) {
        let mut d = d;
        for age in ["ALL", "HOURLY", "DAILY"] {
            d.set(&format!("TREEHOLD_HISTORY_{age}"), "1");
        }
        let project = d.local_project().await;
        allow(&d, project, json!(10_000)).await;
        let url = format!("/pending/{project}/{}", Uuid::new_v4());
        d.put(&format!("{url}/a"), text("a", 6000)).await.ok(201);
        d.put(&format!("{url}/kept"), text("kept", 1000)).await.ok(201);
        d.delete(&format!("{url}/a")).await.ok(200);
        refused(&d.put(&format!("{url}/b"), text("b", 6000)).await);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        d.stop().await;
        d.up().await;
        let mut looks = 0;
        while held(&d, project).await > 1000 {
            looks += 1;
            assert!(looks < 300, "it is not let go: {}", held(&d, project).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        d.put(&format!("{url}/b"), text("b", 6000)).await.ok(201);
        assert_eq!(held(&d, project).await, 7000);
    }

    /// Goal: what was discarded is let go at once where an operator says so: of one user, then of all; what is pending stays.
    async fn forget_on_demand(d) {
        let project = d.local_project().await;
        allow(&d, project, json!(10_000)).await;
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        for (user, name) in [(ann, "a"), (bob, "b")] {
            let url = format!("/pending/{project}/{user}");
            d.put(&format!("{url}/{name}"), text(name, 4000)).await.ok(201);
            d.put(&format!("{url}/{name}"), text(&format!("{name} kept"), 500)).await.ok(200);
        }
        let late = format!("/pending/{project}/{ann}/late");
        refused(&d.put(&late, text("late", 4000)).await);
        let name = project.to_string();
        let forget = async |more: &[&str]| {
            let out = d.cli(&[&["project", "forget-history", &name, "--yes", "--json"], more].concat()).await;
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            serde_json::from_slice::<Value>(&out.stdout).expect("a report")
        };
        let gone = forget(&["--user", &ann.to_string()]).await;
        assert_eq!((&gone["versions"], &gone["contents"], &gone["usage"]["bytes"]), (&json!(1), &json!(1), &json!(5000)));
        d.put(&late, text("late", 4000)).await.ok(201);
        assert_eq!(forget(&[]).await["usage"]["bytes"], 5000);
        assert_eq!(forget(&[]).await["versions"], 0);
        for (user, name) in [(ann, "a"), (bob, "b")] {
            let kept = d.get(&format!("/pending/{project}/{user}/{name}")).await;
            assert_eq!(kept.body, text(&format!("{name} kept"), 500).as_bytes());
            let history = d.get(&format!("/projects/{project}/history?user={user}&path={name}")).await.ok(200);
            assert_eq!(history["versions"].as_array().map(Vec::len), Some(1), "{history}");
        }
        let nobody = d.cli(&["project", "forget-history", "nobody", "--yes"]).await;
        assert!(String::from_utf8_lossy(&nobody.stderr).contains("There is no such project"));
    }

    /// Goal: writers at the same time go over by what they have under way at most, and no charge is lost.
    async fn bound_writers_together(d) {
        let project = d.local_project().await;
        allow(&d, project, json!(10_000)).await;
        let writers = (0..8).map(|writer: u8| {
            let request = d.request("PUT", &format!("/pending/{project}/{}/a", Uuid::new_v4()));
            d.send(request.body(text(&format!("writer {writer}"), 2000)))
        });
        let answers = futures::future::join_all(writers).await;
        let accepted = answers.iter().filter(|answer| answer.status == 201).count();
        answers.iter().filter(|answer| answer.status != 201).for_each(|answer| _ = refused(answer));
        assert!(accepted >= 5, "{accepted}");
        assert_eq!(held(&d, project).await, accepted as u64 * 2000);
        refused(&d.put(&format!("/pending/{project}/{}/a", Uuid::new_v4()), text("late", 2000)).await);
    }

    /// Goal: a pull is bound, an operator's import is not, nor the fetch that a commit of accepted work needs; the server's default holds where a
    /// project says nothing.
    async fn bind_pulls(d) {
        let mut d = d;
        d.set("TREEHOLD_PROJECT_QUOTA_BYTES", "1000");
        d.stop().await;
        d.up().await;
        let bare = d.remote("docs", 11);
        let project = Uuid::new_v4();
        let remote = json!({"remote": {"url": d.git.url("docs")}, "quota_bytes": 2000});
        d.put_json(&format!("/projects/{project}"), remote.clone()).await.ok(201);
        let shown = d.put_json(&format!("/projects/{project}"), remote).await.ok(200);
        assert_eq!(shown["usage"], json!({"bytes": 0, "quota_bytes": 2000}));
        let sync = format!("/projects/{project}/sync");
        refused(&d.post(&sync, json!({})).await);
        assert_eq!(held(&d, project).await, 0);
        let user = Uuid::new_v4();
        let url = format!("/pending/{project}/{user}");
        allow(&d, project, json!(1_000_000_000)).await;
        d.post(&sync, json!({})).await.ok(200);
        d.put(&format!("{url}/new.txt"), "new\n").await.ok(201);
        let (_dir, clone) = d.clone_remote("docs");
        clone.commit_file("theirs.txt", text("theirs", 4000));
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        allow(&d, project, json!(10)).await;
        refused(&d.post(&sync, json!({})).await);
        let answer = d.post(&format!("/projects/{project}/commit"), commit(user)).await.ok(200);
        assert_eq!((&answer["pushed"], &answer["parents"][0]), (&json!(true), &json!(clone.rev_parse("HEAD"))));
        let source = bare.path().to_str().expect("utf-8").to_owned();
        let imported = d.cli(&["import", &source, "--project", "imported", "--json"]).await;
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let view = d.get("/projects/imported").await.ok(200);
        assert!(view["usage"]["bytes"].as_u64() > Some(1000) && view["usage"]["quota_bytes"] == 1000, "{view}");
        refused(&d.put("/files/imported/one-more", "x").await);
        let raised = d.cli(&["project", "set", "imported", "--quota-bytes", "1000000000"]).await;
        assert!(String::from_utf8_lossy(&raised.stdout).contains("of 1000000000 bytes"));
        assert_eq!(d.put("/files/imported/one-more", "x").await.ok(200)["files"][0]["oid"], blob_oid(b"x"));
    }
}
