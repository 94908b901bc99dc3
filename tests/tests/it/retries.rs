//! Requests that are repeated with their key: whatever took the answer away, the same request again is answered, and done once.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::aftermath::log_of;
use crate::both;
use crate::crashes::attempt;
use crate::deployment::{Deployment, json_body};

/// Where the server dies: between any two steps of which something stays, and after the last one.
const OF_A_COMMIT: &[&str] = &["claim a request+", "prepare a commit+", "C3", "C4", "land a commit", "land a commit+"];
const OF_A_BATCH: &[&str] = &["claim a request+", "A4", "write pending work", "write pending work+", "A5"];

/// The routes that take a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Commit,
    Actions,
    Put,
    Delete,
    Batch,
}

/// A request that cannot be done twice: its file would be there already, or be gone.
struct Asked {
    route: Route,
    project: Uuid,
    user: Uuid,
    /// Also the message.
    key: String,
}

impl Asked {
    fn path(&self) -> String {
        format!("by-key/{}.txt", self.key)
    }

    /// What must be there before.
    async fn prepare(&self, d: &Deployment) {
        let (project, user, path) = (self.project, self.user, self.path());
        match self.route {
            Route::Commit => _ = d.put(&format!("/pending/{project}/{user}/{path}"), "text").await.ok(201),
            Route::Delete | Route::Batch => _ = d.put(&format!("/files/{project}/{path}"), "text").await.ok(200),
            Route::Actions | Route::Put => {}
        }
    }

    fn request(&self, d: &Deployment) -> reqwest::RequestBuilder {
        let (project, user, key, path) = (self.project, self.user, &self.key, self.path());
        let author = json!({"name": "A", "email": "a@example.org"});
        let request = match self.route {
            Route::Commit => json_body(
                d.request("POST", &format!("/projects/{project}/commit")),
                &json!({"user": user, "message": key, "author": author}),
            ),
            Route::Actions => {
                let actions = json!([{"action": "create", "path": path, "content": "text"}]);
                let body = json!({"message": key, "author": author, "actions": actions});
                json_body(d.request("POST", &format!("/projects/{project}/commits")), &body)
            }
            Route::Put => {
                let put = d.request("PUT", &format!("/files/{project}/{path}?message={key}"));
                put.header("If-None-Match", "*").body("text")
            }
            Route::Delete => d.request("DELETE", &format!("/files/{project}/{path}?message={key}")),
            Route::Batch => json_body(
                d.request("POST", &format!("/pending/{project}/{user}")),
                &json!({"ops": [{"op": "move", "from": path, "path": format!("moved/{key}.txt")}]}),
            ),
        };
        request.header("Idempotency-Key", key)
    }

    /// What a batch did is there, and nothing else.
    async fn check_batch(&self, d: &Deployment, answer: &Value) {
        let list = d.get(&format!("/pending/{}/{}", self.project, self.user)).await.ok(200);
        assert_eq!((&list["revision"], list["changes"].as_array().map(Vec::len)), (&answer["revision"], Some(2)));
    }
}

both! {
    /// Goal: a request with a key may be repeated whenever no answer came, on every route that takes one. Method: the server dies at each step
    /// of each; another one gets the same request, twice.
    async fn after_every_cut(deployment) {
        let mut d = deployment;
        let project = d.local_project().await;
        d.put(&format!("/files/{project}/first"), "text").await.ok(200);
        let mut keys = Vec::new();
        for route in [Route::Commit, Route::Actions, Route::Put, Route::Delete, Route::Batch] {
            let cuts = if route == Route::Batch { OF_A_BATCH } else { OF_A_COMMIT };
            for (number, cut) in cuts.iter().enumerate() {
                let asked = Asked { route, project, user: Uuid::new_v4(), key: format!("{route:?}-{number}") };
                asked.prepare(&d).await;
                d.stop().await;
                d.set("TREEHOLD_FAULTS", &format!("{cut}=kill"));
                d.up().await;
                d.set("TREEHOLD_FAULTS", "");
                assert!(attempt(asked.request(&d)).await.is_none(), "{route:?} does not come to {cut:?}");
                d.kill();
                d.up().await;
                let answer = d.send(asked.request(&d)).await.ok(200);
                assert_eq!(d.send(asked.request(&d)).await.ok(200), answer, "{route:?} cut at {cut:?}");
                match route {
                    Route::Batch => asked.check_batch(&d, &answer).await,
                    _ => keys.push(asked.key),
                }
            }
        }
        let log = log_of(&d, project).await;
        for key in keys {
            assert_eq!(log.iter().filter(|message| **message == key).count(), 1, "{key}: {log:?}");
        }
    }
}
