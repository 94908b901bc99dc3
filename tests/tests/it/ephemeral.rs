//! Branches that end by themselves: seen, renewed, promoted, gone, brought back, and never sent anywhere unasked.

use std::time::Duration;

use serde_json::{Value, json};
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment, Reply};
use crate::remote_tools::author;

/// How often a test looks whether the housekeeper was there.
const LOOKS_MAX: usize = 240;

fn refs(project: Uuid, name: &str) -> String {
    format!("/projects/{project}/refs/heads/{name}")
}

/// A commit on a branch, of one file with this text.
async fn commit(d: &Deployment, project: Uuid, branch: &str, text: &str) -> String {
    let body = json!({"branch": branch, "message": text, "author": author(),
        "actions": [{"action": "create", "path": format!("{text}.txt"), "content": text}]});
    let done = d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    done["commit"].as_str().expect("an oid").to_owned()
}

/// When a branch ends; `None` = it stays.
async fn end(d: &Deployment, project: Uuid, name: &str) -> Option<String> {
    let listed = d.get(&format!("/projects/{project}/refs?prefix=refs/heads/{name}")).await.ok(200);
    let found =
        listed["refs"].as_array().expect("refs").iter().find(|found| found["name"] == format!("refs/heads/{name}"));
    found.expect("the branch")["expires_at"].as_str().map(str::to_owned)
}

async fn promote(d: &Deployment, project: Uuid, body: Value) -> Reply {
    d.post(&format!("/projects/{project}/promote"), body).await
}

/// Waits until the branch is gone. A server looks when it starts.
async fn wait_for_end(d: &mut Deployment, project: Uuid, name: &str) {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    d.stop().await;
    d.up().await;
    for _ in 0..LOOKS_MAX {
        let listed = d.get(&format!("/projects/{project}/refs?prefix=refs/heads/{name}")).await.ok(200);
        if listed["refs"] == json!([]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{name} does not end: {}", d.log());
}

both! {
    /// Goal: an ephemeral branch is one to read and write; moves renew it; promotion makes it stay, or moves another branch.
    async fn are_made_renewed_and_promoted(d) {
        let project = d.local_project().await;
        let base = commit(&d, project, "main", "base").await;
        let made = d.put_json(&refs(project, "try"), json!({"oid": base, "ephemeral": true})).await.ok(201);
        let first = made["expires_at"].as_str().expect("an end").to_owned();
        assert_eq!(end(&d, project, "try").await.as_ref(), Some(&first));
        assert_eq!(end(&d, project, "main").await, None);
        let tip = commit(&d, project, "try", "idea").await;
        let renewed = end(&d, project, "try").await.expect("an end");
        assert!(renewed > first, "{renewed} {first}");
        let moved = d.put_json(&refs(project, "try"), json!({"oid": tip, "expires_in": 60})).await.ok(200);
        assert!(moved["expires_at"].as_str().expect("an end") < first.as_str(), "{moved}");

        for (name, body, code) in [
            ("main", json!({"oid": base, "ephemeral": true}), "bad_lifetime"),
            ("other", json!({"oid": base, "expires_in": 0}), "bad_lifetime"),
            ("other", json!({"oid": base, "expires_in": 31_536_001}), "bad_lifetime"),
            ("other", json!({"oid": base, "ephemeral": false, "expires_in": 9}), "bad_lifetime"),
        ] {
            d.put_json(&refs(project, name), body).await.problem(422, code);
        }
        let tag = format!("/projects/{project}/refs/tags/v1");
        d.put_json(&tag, json!({"oid": base, "ephemeral": true})).await.problem(422, "bad_lifetime");
        d.put_json(&refs(project, "stays"), json!({"oid": base})).await.ok(201);
        d.put_json(&refs(project, "stays"), json!({"oid": base, "ephemeral": true})).await.problem(422, "bad_lifetime");

        promote(&d, project, json!({"branch": "stays"})).await.problem(409, "not_ephemeral");
        promote(&d, project, json!({"branch": "nowhere"})).await.problem(404, "ref_not_found");
        promote(&d, project, json!({"branch": "try", "into": "nowhere"})).await.problem(404, "ref_not_found");
        promote(&d, project, json!({"branch": "try", "into": "main", "expected_oid": tip})).await.problem(409, "ref_moved");
        let beside = commit(&d, project, "stays", "beside").await;
        promote(&d, project, json!({"branch": "try", "into": "stays"})).await.problem(409, "not_fast_forward");
        let done = promote(&d, project, json!({"branch": "try", "into": "main", "expected_oid": base})).await.ok(200);
        assert_eq!(done, json!({"name": "refs/heads/main", "oid": tip}));
        let listed = d.get(&format!("/projects/{project}/refs")).await.ok(200);
        let expected = json!([{"name": "refs/heads/main", "oid": tip}, {"name": "refs/heads/stays", "oid": beside}]);
        assert_eq!(listed["refs"], expected);
        assert_eq!(d.get(&format!("/files/{project}/idea.txt")).await.text(), "idea");

        d.put_json(&refs(project, "keep"), json!({"oid": base, "expires_in": 3600})).await.ok(201);
        let kept = promote(&d, project, json!({"branch": "keep", "expected_oid": base})).await.ok(200);
        assert_eq!(kept, json!({"name": "refs/heads/keep", "oid": base}));
        assert_eq!(end(&d, project, "keep").await, None);
        promote(&d, project, json!({"branch": "keep"})).await.problem(409, "not_ephemeral");
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main"), tip);
    }

    /// Goal: one whose time has come goes, unless somebody has pending work on it, and comes back from its reflog.
    async fn end_and_come_back(d) {
        let mut d = d;
        let project = d.local_project().await;
        let base = commit(&d, project, "main", "base").await;
        for name in ["gone", "busy", "later"] {
            d.put_json(&refs(project, name), json!({"oid": base, "expires_in": 3600})).await.ok(201);
        }
        let user = Uuid::new_v4();
        d.put(&format!("/pending/{project}/{user}/p.txt?branch=busy"), "mine\n").await.ok(201);
        let tip = commit(&d, project, "gone", "only-here").await;
        for (name, oid) in [("gone", &tip), ("busy", &base)] {
            d.put_json(&refs(project, name), json!({"oid": oid, "expires_in": 1})).await.ok(200);
        }
        wait_for_end(&mut d, project, "gone").await;
        assert!(end(&d, project, "busy").await.is_some() && end(&d, project, "later").await.is_some());
        d.get(&format!("/projects/{project}/git/commits/{tip}")).await.problem(404, "not_found");
        let log = d.get(&format!("/projects/{project}/reflog?ref=heads/gone")).await.ok(200);
        assert_eq!((&log["entries"][0]["reason"], &log["entries"][0]["from"]), (&json!("expire"), &json!(tip)));
        let feed = d.get(&format!("/projects/{project}/changes?since=start&limit=1000")).await.ok(200);
        let told = feed["events"].as_array().expect("events").iter().any(|event| event["reason"] == "expire");
        assert!(told, "{feed}");
        d.delete(&format!("/pending/{project}/{user}?branch=busy")).await.ok(200);
        wait_for_end(&mut d, project, "busy").await;
        d.put_json(&refs(project, "gone"), json!({"oid": tip, "restore": true})).await.ok(201);
        assert_eq!(d.get(&format!("/files/{project}/only-here.txt?ref=gone")).await.text(), "only-here");
        assert_eq!(end(&d, project, "gone").await, None, "it stays now");
    }

    /// Goal: neither the remote nor a git client gets an ephemeral branch unasked.
    async fn stay_at_home(d) {
        d.remote("docs", 91);
        let project = d.connect("docs").await;
        let head = d.get(&format!("/projects/{project}")).await.ok(200)["head"].as_str().expect("a head").to_owned();
        d.put_json(&refs(project, "try"), json!({"oid": head, "ephemeral": true})).await.ok(201);
        let body = json!({"branch": "try", "message": "m", "author": author(),
            "actions": [{"action": "create", "path": "idea.txt", "content": "idea\n"}]});
        let done = d.post(&format!("/projects/{project}/commits"), body.clone()).await.ok(200);
        assert_eq!(done["pushed"], false);
        let tip = done["commit"].as_str().expect("an oid").to_owned();
        let mut pushed = body;
        pushed["push"] = json!(true);
        d.post(&format!("/projects/{project}/commits"), pushed).await.problem(422, "ephemeral_branch");
        let push = d.post(&format!("/projects/{project}/push"), json!({"branch": "try"})).await;
        push.problem(422, "ephemeral_branch");

        let (dir, clone) = d.clone_remote("docs");
        assert!(!clone.git().run(["ls-remote"]).contains("try"), "the remote has nothing of it");
        let at = |repository: &str| d.url(&format!("/git/{repository}.git")).replacen("://", &format!("://git:{API_KEY}@"), 1);
        for version in ["0", "2"] {
            let git = Git::at(dir.path()).config("protocol.version", version);
            assert!(!git.run(["ls-remote", &at(&project.to_string())]).contains("try"), "{version}");
            let shown = git.run(["ls-remote", &at(&format!("{project}+ephemeral"))]);
            assert!(shown.contains(&format!("{tip}\trefs/heads/try")), "{version}: {shown}");
        }
        // Who asks for it can push to it, and so renew it; who does not, finds the name taken.
        Git::at(dir.path()).run(["clone", "-q", "-b", "try", &at(&format!("{project}+ephemeral")), "work"]);
        let work = Repo::open(dir.path().join("work"));
        let more = work.commit_file("more.txt", "more\n");
        let before = end(&d, project, "try").await.expect("an end");
        assert!(!work.git().output(["push", "-q", &at(&project.to_string()), "try"]).status.success());
        work.git().run(["push", "-q", "origin", "try"]);
        let listed = d.get(&format!("/projects/{project}/refs?prefix=refs/heads/try")).await.ok(200);
        assert_eq!(listed["refs"][0]["oid"], more);
        assert!(end(&d, project, "try").await.expect("an end") > before);
        let branch = d.get(&format!("/projects/{project}")).await.ok(200)["default_branch"].clone();
        promote(&d, project, json!({"branch": "try", "into": branch})).await.ok(200);
        d.post(&format!("/projects/{project}/push"), json!({})).await.ok(200);
        let (_dir, clone) = d.clone_remote("docs");
        assert_eq!(clone.rev_parse("HEAD"), more);
        clone.fsck_strict();
    }
}
