//! Pending changes that somebody else made too, and that the branch has by now.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, blob_oid};

fn commit(user: Uuid, more: &Value) -> Value {
    let mut body = json!({"user": user, "message": "Mine", "author": {"name": "A", "email": "a@example.org"}});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// Path, state and whether the head has it, of each pending change.
async fn standing(d: &Deployment, project: Uuid, user: Uuid) -> Value {
    let status = d.get(&format!("/projects/{project}/status?user={user}")).await.ok(200);
    let changes = status["changes"].as_array().expect("changes").iter();
    json!(changes.map(|change| json!([change["path"], change["state"], change["in_head"] == true])).collect::<Vec<_>>())
}

/// What the feed tells of a user's pending work after a cursor.
async fn told(d: &Deployment, project: Uuid, user: Uuid, since: &str) -> Value {
    let page = d.get(&format!("/projects/{project}/changes?user={user}&since={since}")).await.ok(200);
    let events = page["events"].as_array().expect("events").iter().filter(|event| event["kind"] == "pending");
    json!(events.map(|event| json!([event["path"], event["action"]])).collect::<Vec<_>>())
}

async fn now(d: &Deployment, project: Uuid) -> String {
    let page = d.get(&format!("/projects/{project}/changes")).await.ok(200);
    page["next_cursor"].as_str().expect("a cursor").to_owned()
}

both! {
    /// Goal: an edit and a deletion that others committed too are told apart from work; a commit of nothing else says that there is nothing
    /// to commit, and they are gone: from the list, with an event, kept in local history. A dry run changes nothing, other work stays.
    async fn goes_with_a_commit(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        for path in ["f", "g", "h"] {
            d.put(&format!("/files/{project}/{path}"), "one\n").await.ok(200);
        }
        let url = format!("/pending/{project}/{user}");
        d.put(&format!("{url}/f"), "X\n").await.ok(201);
        d.put(&format!("{url}/g?action=deleted"), "").await.ok(201);
        d.put(&format!("{url}/h"), "mine\n").await.ok(201);
        d.put(&format!("/files/{project}/f"), "X\n").await.ok(200);
        d.delete(&format!("/files/{project}/g")).await.ok(200);
        let all = json!([["f", "outdated", true], ["g", "outdated", true], ["h", "clean", false]]);
        assert_eq!(standing(&d, project, user).await, all);
        let since = now(&d, project).await;
        let route = format!("/projects/{project}/commit");
        d.post(&route, commit(user, &json!({"paths": ["f"], "dry_run": true}))).await.problem(422, "nothing_to_commit");
        assert_eq!(standing(&d, project, user).await, all);
        d.post(&route, commit(user, &json!({"paths": ["f"]}))).await.problem(422, "nothing_to_commit");
        assert_eq!(standing(&d, project, user).await, json!([["g", "outdated", true], ["h", "clean", false]]));
        assert_eq!(told(&d, project, user, &since).await, json!([["f", "committed"]]));
        let kept = d.get(&format!("/projects/{project}/history?user={user}&path=f")).await.ok(200);
        assert_eq!(kept["versions"][0]["oid"], blob_oid(b"X\n"), "{kept}");
        let answer = d.post(&route, commit(user, &json!({}))).await.ok(200);
        assert_eq!(answer["files"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(standing(&d, project, user).await, json!([]));
        d.post(&route, commit(user, &json!({}))).await.problem(422, "nothing_to_commit");
    }

    /// Goal: text that merges into what the branch has is nothing to commit either, and goes.
    async fn what_merges_into_nothing_goes(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        d.put(&format!("/files/{project}/f"), "a\nb\nc\nd\ne\n").await.ok(200);
        d.put(&format!("/pending/{project}/{user}/f"), "A\nb\nc\nd\ne\n").await.ok(201);
        d.put(&format!("/files/{project}/f"), "A\nb\nc\nd\nE\n").await.ok(200);
        assert_eq!(standing(&d, project, user).await, json!([["f", "outdated", true]]));
        let route = format!("/projects/{project}/commit");
        d.post(&route, commit(user, &json!({}))).await.problem(422, "nothing_to_commit");
        assert_eq!(standing(&d, project, user).await, json!([]));
        let read = d.get(&format!("/files/{project}/f?user={user}")).await;
        assert_eq!((read.text().as_str(), read.header("x-treehold-source")), ("A\nb\nc\nd\nE\n", "committed"));
    }

    /// Goal: a pull tells them, and takes nothing away.
    async fn a_pull_tells_them(d) {
        d.remote("docs", 12);
        let (project, ann, bob) = (d.connect("docs").await, Uuid::new_v4(), Uuid::new_v4());
        for (user, path, text) in [(ann, "new", "X\n"), (bob, "new", "X\n"), (bob, "other", "bob's\n")] {
            d.put(&format!("/pending/{project}/{user}/{path}"), text).await.ok(201);
        }
        let (_dir, clone) = d.clone_remote("docs");
        clone.commit_files(&[("new", Some(b"X\n")), ("other", Some(b"theirs\n"))], "Theirs");
        clone.git().run(["push", "--quiet", "origin", "HEAD"]);
        let synced = d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        let rows = synced["pending"].as_array().expect("pending").iter();
        let mut rows: Vec<Value> =
            rows.map(|row| json!([row["user"], row["path"], row["state"], row["in_head"] == true])).collect();
        rows.sort_by_key(Value::to_string);
        let mut expected = vec![
            json!([ann, "new", "outdated", true]),
            json!([bob, "new", "outdated", true]),
            json!([bob, "other", "conflict", false]),
        ];
        expected.sort_by_key(Value::to_string);
        assert_eq!(rows, expected);
        assert_eq!(standing(&d, project, ann).await, json!([["new", "outdated", true]]));
    }

    /// Goal: an edit that comes while a commit finds that there is nothing to commit stays, whatever the branch is set to meanwhile.
    async fn what_comes_meanwhile_stays(d) {
        let (project, user) = (d.local_project().await, Uuid::new_v4());
        let file = format!("/files/{project}/f");
        let pending = format!("/pending/{project}/{user}/f");
        let route = format!("/projects/{project}/commit");
        for round in 0..12 {
            let (text, other) = (format!("same {round}\n"), format!("other {round}\n"));
            d.put(&pending, text.clone()).await;
            d.put(&file, text.clone()).await.ok(200);
            // Back to what the branch had, as the branch goes on; or another text.
            let last = if round % 2 == 0 { text.clone() } else { format!("late {round}\n") };
            let saves = async {
                d.put(&file, other.clone()).await.ok(200);
                let saved = d.put(&pending, last.clone()).await;
                assert!([200, 201].contains(&saved.status), "{}", saved.text());
            };
            let (nothing, ()) = futures::join!(d.post(&route, commit(user, &json!({}))), saves);
            if nothing.status == 200 {
                // The commit was as late as the edit, and took it.
                continue;
            }
            assert!([409, 422].contains(&nothing.status), "{}", nothing.text());
            assert_eq!(d.get(&format!("{file}?user={user}")).await.text(), last, "round {round}");
            d.delete(&pending).await;
        }
    }
}
