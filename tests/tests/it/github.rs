//! GitHub, played by a stand-in: App tokens, pull requests, facts, webhooks, limits, and refusals told as such.

use std::path::Path;

use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use treehold_client::{PullChange, PullFilter, PullState};
use treehold_tests::github::{APP_ID, APP_KEY_PEM, GitHub, Limit, PERSONAL_TOKEN, STRANGERS_TOKEN};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, REMOTE_TOKEN, REMOTE_USER, Reply, json_body};
use crate::remote_tools::*;
use crate::rust_client::through;

pub const WEBHOOK_SECRET: &str = "webhook-secret-canary-0123456789";

/// A deployment whose remotes are at GitHub.
pub struct Setting {
    pub d: Deployment,
    pub github: GitHub,
    pub remote: Remote,
    _key: TempDir,
}

/// With the repository `o/docs`, and with an App unless told otherwise.
pub async fn set_up(mut d: Deployment, app: bool) -> Setting {
    std::fs::create_dir_all(d.remotes.path().join("o")).expect("mkdir");
    let remote = small_remote(&d, "o/docs");
    let github = GitHub::start(&d.git, REMOTE_USER, REMOTE_TOKEN).await;
    let key = tempfile::tempdir().expect("a directory");
    let file = key.path().join("app.pem");
    std::fs::write(&file, APP_KEY_PEM).expect("write");
    d.set("TREEHOLD_ALLOW_REMOTE", &format!("{}/", github.origin()));
    d.set("TREEHOLD_GITHUB_API_URL", &github.api_url());
    d.set("TREEHOLD_GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET);
    if app {
        d.set("TREEHOLD_GITHUB_APP_ID", APP_ID);
        d.set("TREEHOLD_GITHUB_APP_KEY_FILE", file.to_str().expect("UTF-8"));
    }
    d.kill();
    d.up().await;
    Setting { d, github, remote, _key: key }
}

/// No token of the App is in an answer, whatever it says.
fn clean(reply: Reply) -> Reply {
    assert!(!reply.text().contains("app-canary"), "{}", reply.text());
    reply
}

impl Setting {
    /// Without any token of the request's own.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        clean(self.d.send(json_body(self.d.request("POST", path), &body)).await)
    }

    pub async fn post_as(&self, token: &str, path: &str, body: Value) -> Reply {
        clean(self.d.send(json_body(self.d.request("POST", path), &body).header("X-Remote-Token", token)).await)
    }

    pub async fn project(&self, url: &str) -> Uuid {
        let project = Uuid::new_v4();
        self.d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": url}})).await.ok(201);
        project
    }

    pub async fn sync(&self, project: Uuid) -> Reply {
        self.post(&format!("/projects/{project}/sync"), json!({})).await
    }

    /// An edit, committed and pushed.
    async fn commit(&self, project: Uuid, text: &str) -> Reply {
        let user = Uuid::new_v4();
        save(&self.d, project, user, "dir/a.txt", text).await;
        self.post(&format!("/projects/{project}/commit"), commit_body(user, "Edit")).await
    }

    /// A branch with a commit that only we have.
    async fn branch(&self, project: Uuid, name: &str) {
        let oid = head(&self.d, project).await;
        self.d.put_json(&format!("/projects/{project}/refs/heads/{name}"), json!({"oid": oid})).await;
        let action = json!([{"action": "create", "path": format!("{name}.txt"), "content": "new\n"}]);
        let body = json!({"branch": name, "message": "Act", "author": author(), "actions": action, "push": false});
        self.d.post(&format!("/projects/{project}/commits"), body).await.ok(200);
    }

    /// How many of what was asked since the last look begin so.
    fn asked(&self, method: &str, start: &str) -> usize {
        let asked = self.github.take_asked();
        asked.iter().filter(|asked| asked.method == method && asked.what.starts_with(start)).count()
    }

    pub async fn webhook(&self, event: &str, id: &str, body: &str, signature: Option<&str>) -> Reply {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = client.post(self.d.url("/webhooks/github")).header("Content-Type", "application/json");
        request = request.header("X-GitHub-Event", event).header("X-GitHub-Delivery", id).body(body.to_owned());
        if let Some(signature) = signature {
            request = request.header("X-Hub-Signature-256", signature);
        }
        self.d.send(request).await
    }

    /// A genuine push event. That of another push has another body.
    pub async fn pushed(&self, id: &str, url: &str, name: &str, after: &str) -> Reply {
        self.delivered(id, &pushed_body(id, url, name, after)).await
    }

    async fn delivered(&self, id: &str, body: &str) -> Reply {
        self.webhook("push", id, body, Some(&signature(body))).await
    }

    /// Neither the key nor a token is in the log, in any file that was written, or in a row of an attempt.
    pub async fn nothing_leaked(&self) {
        let mut secrets = self.github.tokens();
        assert!(!secrets.is_empty());
        secrets.extend(APP_KEY_PEM.lines().filter(|line| !line.starts_with("-----")).take(3).map(str::to_owned));
        secrets.push(WEBHOOK_SECRET.to_owned());
        look_for(self.d.data.path(), &secrets);
        assert!(self.d.log().contains("treehold"), "the log is where it is looked for");
        assert_eq!(number(&self.d, "SELECT count(*) FROM attempts WHERE last_error LIKE '%canary%'").await, 0);
        let shown = self.d.cli(&["config-check"]).await;
        assert!(shown.status.success());
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(APP_ID) && secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    }
}

fn pushed_body(compared: &str, url: &str, name: &str, after: &str) -> String {
    let repository = json!({"full_name": "o/docs", "html_url": url, "clone_url": format!("{url}.git")});
    let (nothing, compare) = ("0".repeat(40), format!("{url}/compare/{compared}"));
    let body = json!({"ref": name, "before": nothing, "after": after, "deleted": after == nothing, "compare": compare,
        "repository": repository, "commits": []});
    body.to_string()
}

fn look_for(dir: &Path, secrets: &[String]) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            look_for(&path, secrets);
        } else if let Ok(bytes) = std::fs::read(&path) {
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "a secret is in {}", path.display());
            }
        }
    }
}

fn signature(body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes());
    let hex: String = hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

both! {
    /// Goal: what brings no token uses the App's: one is made for all, used for fetch and push until it is about to end, made anew once
    /// where it is not accepted, and it is nowhere to be seen.
    async fn app_tokens(d) {
        let s = set_up(d, true).await;
        let projects = [s.project(&s.github.url("o/docs")).await, s.project(&s.github.url("O/Docs.git")).await];
        std::os::unix::fs::symlink("o", s.d.remotes.path().join("O")).expect("symlink");
        std::os::unix::fs::symlink("docs.git", s.d.remotes.path().join("o/Docs.git")).expect("symlink");
        let (one, two) = tokio::join!(s.sync(projects[0]), s.sync(projects[1]));
        assert_eq!(one.ok(200)["to"], s.remote.head());
        assert_eq!(two.ok(200)["to"], s.remote.head());
        assert_eq!(s.asked("POST", "/app/installations/"), 1, "one token for both");
        s.commit(projects[0], "mine\n").await.ok(200);
        assert_eq!(s.remote.file("dir/a.txt"), "mine\n");
        assert!(s.github.take_asked().is_empty(), "the token is at hand");
        // It ends before we thought: for a push, then for a fetch.
        s.github.expire_tokens();
        s.commit(projects[0], "after its end\n").await.ok(200);
        assert_eq!((s.remote.file("dir/a.txt").as_str(), s.asked("POST", "/app/")), ("after its end\n", 1));
        s.github.expire_tokens();
        s.sync(projects[1]).await.ok(200);
        assert_eq!(s.asked("POST", "/app/"), 1);
        // It was installed anew: what is remembered is looked for again, at once.
        s.github.reinstall();
        s.sync(projects[1]).await.ok(200);
        s.sync(projects[0]).await.ok(200);
        // Less than five minutes are left from the start: each operation asks anew, and is not refused once.
        s.github.expire_tokens();
        s.github.tokens_live(299);
        s.sync(projects[0]).await.ok(200);
        s.d.git.reset_requests();
        s.github.take_asked();
        s.sync(projects[0]).await.ok(200);
        assert!(s.asked("POST", "/app/") >= 1);
        let asked = s.d.git.requests();
        assert!(!asked.is_empty() && asked.iter().all(|request| request.status == 200), "{asked:?}");
        s.nothing_leaked().await;
    }

    /// Goal: a request's own token wins, and where the App is not installed nothing of it is used.
    async fn whose_token(d) {
        let s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        let path = format!("/projects/{project}/sync");
        s.post_as(STRANGERS_TOKEN, &path, json!({})).await.problem(502, "remote_auth");
        s.post_as("ghp_nobody-canary", &path, json!({})).await.problem(502, "remote_auth");
        assert_eq!(s.github.take_asked(), [], "the App has nothing to do with it");
        s.post_as(PERSONAL_TOKEN, &path, json!({})).await.ok(200);
        assert_eq!(s.github.take_asked(), []);
        s.sync(project).await.ok(200);
        s.github.uninstall();
        s.sync(project).await.problem(502, "remote_auth");
        s.sync(project).await.problem(502, "remote_auth");
        let body = json!({"title": "T", "head": "main", "base": "other"});
        s.post(&format!("/projects/{project}/pulls"), body).await.problem(502, "remote_auth");
        assert!(!s.d.log().contains(PERSONAL_TOKEN) && !s.d.log().contains("ghp_nobody-canary"));
    }

    /// Goal: where GitHub does not take the App for what it says it is, whoever is configured for all remotes is tried.
    async fn an_app_that_is_not_known(d) {
        let mut s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        s.d.set("TREEHOLD_GITHUB_APP_ID", "1");
        s.d.kill();
        s.d.up().await;
        s.sync(project).await.problem(502, "remote_auth");
        assert!(s.d.log().contains("GitHub refuses the App"));
        s.d.set("TREEHOLD_REMOTE_TOKEN", PERSONAL_TOKEN);
        s.d.kill();
        s.d.up().await;
        s.sync(project).await.ok(200);
        s.commit(project, "mine\n").await.ok(200);
        assert_eq!(s.remote.file("dir/a.txt"), "mine\n");
        s.d.get(&format!("/projects/{project}/remote")).await.ok(200);
    }

    /// Goal: what the server may not use any more is not asked for anything, by git or by GitHub's API.
    async fn no_longer_allowed(d) {
        let mut s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        s.sync(project).await.ok(200);
        s.d.set("TREEHOLD_ALLOW_REMOTE", &s.github.url("others/"));
        s.d.kill();
        s.d.up().await;
        s.github.take_asked();
        s.d.git.reset_requests();
        let path = format!("/projects/{project}/pulls");
        let spec = json!({"title": "T", "head": "topic"});
        s.sync(project).await.problem(403, "remote_not_allowed");
        s.post(&path, spec.clone()).await.problem(403, "remote_not_allowed");
        s.post_as(PERSONAL_TOKEN, &path, spec).await.problem(403, "remote_not_allowed");
        let change = json_body(s.d.request("PATCH", &format!("{path}/1")), &json!({"title": "T"}));
        s.d.send(change).await.problem(403, "remote_not_allowed");
        s.d.get(&path).await.problem(403, "remote_not_allowed");
        s.d.get(&format!("/projects/{project}/remote")).await.problem(403, "remote_not_allowed");
        assert_eq!((s.github.take_asked(), s.d.git.requests().len()), (Vec::new(), 0));
    }

    /// Goal: a pull request is opened for what was pushed, once however often it is asked for, changed, closed and listed.
    async fn pulls(d) {
        let s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        let path = format!("/projects/{project}/pulls");
        s.sync(project).await.ok(200);
        s.branch(project, "topic").await;
        let spec = json!({"title": "Add a topic", "head": "topic", "body": "Why", "maintainer_can_modify": true});
        let refused = s.post(&path, spec.clone()).await.problem(409, "not_pushed");
        assert!(refused["detail"].as_str().expect("a sentence").contains("push"), "{refused}");
        s.post(&format!("/projects/{project}/push"), json!({"branch": "topic"})).await.ok(200);
        let opened = s.post(&path, spec.clone()).await.ok(201);
        let expected = json!({"number": 1, "url": format!("{}/repos/o/docs/pulls/1", s.github.api_url()),
            "html_url": s.github.url("o/docs/pull/1"), "state": "open", "title": "Add a topic", "draft": false, "merged": false,
            "head": "topic", "head_sha": s.remote.bare.rev_parse("topic"), "base": "main", "created": true});
        assert_eq!(opened, expected);
        let again = s.post(&path, spec.clone()).await.ok(200);
        assert_eq!(again, with(expected, json!({"created": false})));
        let update = with(spec, json!({"title": "Better", "update": true}));
        assert_eq!(s.post_as(PERSONAL_TOKEN, &path, update).await.ok(200)["title"], "Better");
        assert_eq!(s.github.pulls().len(), 1);
        assert_eq!(s.github.pulls()[0]["body"], "Why");
        let change = |number: &str, body| s.d.send(json_body(s.d.request("PATCH", &format!("{path}/{number}")), &body));
        let number = |page: &Value| page["pulls"].as_array().expect("a list").len();
        assert_eq!(number(&s.d.get(&format!("{path}?head=topic")).await.ok(200)), 1);
        assert_eq!(change("1", json!({"state": "closed", "body": "Done"})).await.ok(200)["state"], "closed");
        assert_eq!(number(&s.d.get(&path).await.ok(200)), 0);
        // A new one after the old one was closed; a page at a time, newest first.
        let opened = s.post(&path, json!({"title": "Again", "head": "topic", "draft": true})).await.ok(201);
        assert_eq!((&opened["number"], &opened["draft"]), (&json!(2), &json!(true)));
        let page = s.d.get(&format!("{path}?state=all&limit=1")).await.ok(200);
        let rest = s.d.get(&format!("{path}?state=all&limit=1&cursor={}", page["next_cursor"].as_str().expect("more"))).await;
        assert_eq!((&page["pulls"][0]["number"], &rest.ok(200)["pulls"][0]["number"]), (&json!(2), &json!(1)));
        // What cannot be is told.
        change("77", json!({"title": "T"})).await.problem(404, "pull_not_found");
        change("2", json!({"base": "nowhere"})).await.problem(422, "remote_refused");
        change("x", json!({})).await.problem(400, "bad_parameter");
        change("2", json!({"merged": true})).await.problem(422, "bad_shape");
        change("2", json!({"title": " "})).await.problem(422, "bad_title");
        s.post(&path, json!({"title": "T"})).await.problem(422, "same_branch");
        s.post(&path, json!({"title": " ", "head": "topic"})).await.problem(422, "bad_title");
        s.post(&path, json!({"title": "T", "head": "a..b"})).await.problem(422, "bad_ref");
        let nowhere = json!({"title": "T", "head": "topic", "base": "nowhere", "update": true});
        s.post(&path, nowhere.clone()).await.problem(422, "remote_refused");
        s.github.ignore_branches();
        s.post(&path, nowhere).await.problem(422, "remote_refused");
        assert_eq!(s.github.pulls()[1]["title"], "Again", "what is open for other branches is left alone");
        s.d.get(&format!("{path}?state=merged")).await.problem(400, "bad_parameter");
        // As many, and described at such length, as GitHub takes.
        s.github.describe(100, &"\u{1f600}".repeat(65_536));
        assert_eq!(number(&s.d.get(&format!("{path}?limit=100")).await.ok(200)), 100);
        let local = s.d.local_project().await;
        s.post(&format!("/projects/{local}/pulls"), json!({"title": "T", "head": "x"})).await.problem(422, "no_remote");
        s.nothing_leaked().await;
    }

    /// Goal: the Rust client lists those pull requests that it says.
    async fn pulls_of_the_rust_client(d) {
        let s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        s.github.describe(2, "");
        let (project, remote) = (through(&s.d.url("")).project(project), treehold_client::Remote::default());
        let closing = PullChange { state: Some(PullState::Closed), ..PullChange::default() };
        project.change_pull(1, &closing, &remote).await.expect("a change");
        for (state, expected) in [(None, vec![2, 1]), (Some(PullState::Open), vec![2]), (Some(PullState::Closed), vec![1])] {
            let pages = project.pulls(&PullFilter { state, limit: Some(1), ..PullFilter::default() }, &remote);
            let listed: Vec<u64> = pages.all().await.expect("a list").into_iter().map(|pull| pull.number).collect();
            assert_eq!(listed, expected, "{state:?}");
        }
    }

    /// Goal: without an App, a request's token opens pull requests; a remote elsewhere has none.
    async fn pulls_without_app(d) {
        let s = set_up(d, false).await;
        let project = s.project(&s.github.url("o/docs")).await;
        let path = format!("/projects/{project}/pulls");
        s.post_as(PERSONAL_TOKEN, &format!("/projects/{project}/sync"), json!({})).await.ok(200);
        s.branch(project, "topic").await;
        let push = json!({"branch": "topic"});
        s.post_as(PERSONAL_TOKEN, &format!("/projects/{project}/push"), push).await.ok(200);
        let spec = json!({"title": "T", "head": "topic"});
        s.post(&path, spec.clone()).await.problem(502, "remote_auth");
        s.post_as("ghp_wrong", &path, spec.clone()).await.problem(502, "remote_auth");
        s.post_as(PERSONAL_TOKEN, &path, spec).await.ok(201);
        let shown = s.d.get(&format!("/projects/{project}/remote")).await;
        shown.problem(502, "remote_auth");
        let mut s = s;
        s.d.set("TREEHOLD_ALLOW_REMOTE", s.d.git.url("").trim_end_matches(".git"));
        s.d.kill();
        s.d.up().await;
        let elsewhere = s.d.connect("o/docs").await;
        let spec = json!({"title": "T", "head": "main", "base": "x"});
        s.post(&format!("/projects/{elsewhere}/pulls"), spec).await.problem(422, "not_github");
        let shown = s.d.get(&format!("/projects/{elsewhere}/remote")).await.ok(200);
        assert_eq!((&shown["url"], &shown["github"]), (&json!(s.d.git.url("o/docs")), &Value::Null));
    }

    /// Goal: facts are GitHub's, and asking again costs nothing of the rate limit.
    async fn facts(d) {
        let s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        let path = format!("/projects/{project}/remote");
        let shown = s.d.get(&path).await.ok(200);
        let github = json!({"full_name": "o/docs", "private": true, "default_branch": "main", "archived": false, "size_kb": 108,
            "permissions": {"pull": true, "push": true, "admin": false}, "branch": "main", "protected": false,
            "requires_signed_commits": false});
        let host = s.github.origin().trim_start_matches("http://").to_owned();
        assert_eq!(shown, json!({"url": s.github.url("o/docs"), "host": host, "github": github}));
        s.github.take_asked();
        assert_eq!(s.d.get(&path).await.ok(200), shown);
        let asked = s.github.take_asked();
        assert!(asked.len() == 3 && asked.iter().all(|asked| asked.status == 304), "{asked:?}");
        s.github.protect("main", true);
        let facts = s.d.get(&path).await.ok(200)["github"].clone();
        assert_eq!((&facts["protected"], &facts["requires_signed_commits"]), (&json!(true), &Value::Null));
        let as_member = s.d.send(s.d.request("GET", &path).header("X-Remote-Token", PERSONAL_TOKEN)).await.ok(200);
        assert_eq!(as_member["github"]["requires_signed_commits"], true, "who may see it, sees it");
        let facts = s.d.get(&format!("{path}?branch=feature/x")).await.ok(200)["github"].clone();
        assert_eq!((&facts["branch"], &facts["protected"]), (&json!("feature/x"), &Value::Null));
        let stranger = s.d.send(s.d.request("GET", &path).header("X-Remote-Token", STRANGERS_TOKEN)).await;
        stranger.problem(502, "remote_auth");
    }

    /// Goal: a push event, and only a genuine one, says that the remote moved, on every project with that remote, until it was asked;
    /// it opens nothing. The same delivery again changes nothing, under another id either, which nobody has signed.
    async fn webhooks(d) {
        let s = set_up(d, true).await;
        let url = s.github.url("o/docs");
        let (one, two) = (s.project(&url).await, s.project(&format!("{}.git", s.github.url("O/DOCS"))).await);
        let other = s.project(&s.github.url("o/other")).await;
        s.sync(one).await.ok(200);
        let user = Uuid::new_v4();
        assert_eq!(status(&s.d, one, user).await["remote_moved"], false);
        let theirs = s.remote.moves(&[("text.txt", Some(b"theirs\n"))]);
        let main = "refs/heads/main";
        let body = json!({"ref": main, "after": theirs, "repository": {"html_url": url}}).to_string();
        for bad in [None, Some("sha256=00"), Some(&*format!("sha256={}", "0".repeat(64))), Some(&*signature("other"))] {
            s.webhook("push", "d0", &body, bad).await.problem(401, "bad_signature");
        }
        assert_eq!(status(&s.d, one, user).await["remote_moved"], false);
        assert_eq!(s.pushed("d1", &url, main, &theirs).await.ok(202), json!({"event": "push", "result": "noted"}));
        for project in [one, two] {
            let shown = status(&s.d, project, user).await;
            let moved = (&shown["remote_moved"], &shown["remote_head_reported"]);
            assert_eq!(moved, (&json!(true), &json!(theirs)));
            assert!(shown["remote_reported_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{shown}");
        }
        assert_eq!(status(&s.d, other, user).await["remote_moved"], false);
        s.d.get(&format!("/projects/{one}/git/commits/{theirs}")).await.problem(404, "not_found");
        s.sync(one).await.ok(200);
        let shown = status(&s.d, one, user).await;
        assert_eq!((&shown["remote_moved"], &shown["remote_head_reported"]), (&json!(false), &Value::Null));
        assert_eq!(status(&s.d, two, user).await["remote_moved"], true, "it was not asked for that project");
        // Our own push comes back as an event, and an event that comes late is behind what we know.
        let ours = s.commit(one, "ours\n").await.ok(200)["commit"].as_str().expect("a commit").to_owned();
        s.pushed("d2", &url, main, &ours).await.ok(202);
        assert_eq!(status(&s.d, one, user).await["remote_moved"], false);
        s.pushed("d3", &url, main, &theirs).await.ok(202);
        assert_eq!(status(&s.d, one, user).await["remote_moved"], false);
        // Replayed and foreign ones.
        let gone = "0".repeat(40);
        s.pushed("d4", &url, main, &gone).await.ok(202);
        assert_eq!(s.pushed("d1", &url, main, &theirs).await.ok(202)["result"], "repeated");
        let caught = pushed_body("d1", &url, main, &theirs);
        assert_eq!(s.delivered("d9", &caught).await.ok(202)["result"], "repeated");
        let shown = status(&s.d, one, user).await;
        assert_eq!((&shown["remote_moved"], &shown["remote_head_reported"]), (&json!(true), &Value::Null));
        s.pushed("d5", "https://example.org/o/docs", main, &theirs).await.ok(202);
        assert_eq!(s.pushed("d6", &url, "refs/tags/v1", &theirs).await.ok(202)["result"], "ignored");
        for (event, answer) in [("ping", 200), ("star", 202)] {
            s.webhook(event, "d7", "{}", Some(&signature("{}"))).await.ok(answer);
        }
        s.webhook("push", "d8", "{}", Some(&signature("{}"))).await.problem(400, "bad_request");
        s.webhook("", "d8", "{}", Some(&signature("{}"))).await.problem(400, "bad_header");
        assert!(!s.d.log().contains(WEBHOOK_SECRET));
    }

    /// Goal: a limit of GitHub is told with the time to come back, until which GitHub is left alone by whom it is for; a short one is waited for.
    async fn limits(d) {
        let s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        let path = format!("/projects/{project}/pulls");
        s.sync(project).await.ok(200);
        for (token, limit, most, least) in [
            ("ghp_one-canary", Limit::Primary(1_200), 1_200, 1_190),
            ("ghp_two-canary", Limit::Secondary(90), 90, 90),
            ("ghp_three-canary", Limit::SecondaryInWords, 60, 60),
        ] {
            let list = || s.d.send(s.d.request("GET", &path).header("X-Remote-Token", token));
            let seconds = |told: Reply| {
                told.problem(429, "remote_rate_limited");
                told.header("retry-after").parse::<u64>().expect("seconds")
            };
            s.github.limit_next(&[limit]);
            let first = seconds(list().await);
            assert!((least..=most).contains(&first), "{limit:?}: {first}");
            s.github.take_asked();
            let again = seconds(list().await);
            assert!((1..=first).contains(&again), "{limit:?}: {again}");
            assert_eq!(s.github.take_asked(), [], "GitHub is left alone");
        }
        s.d.get(&path).await.ok(200);
        s.github.take_asked();
        s.github.limit_next(&[Limit::Secondary(0)]);
        s.d.get(&path).await.ok(200);
        assert_eq!(s.github.take_asked().len(), 2, "it was waited for");
        // Also where the App's token cannot be had for it: nothing is pushed, and the work is kept.
        s.github.expire_tokens();
        s.github.tokens_live(60);
        s.sync(project).await.ok(200);
        s.github.limit_next(&[Limit::Secondary(90)]);
        let before = s.remote.head();
        let told = s.commit(project, "later\n").await;
        told.problem(429, "remote_rate_limited");
        assert_eq!((told.header("retry-after"), s.remote.head()), ("90", before));
        // A token of the request's own has limits of its own.
        s.post_as(PERSONAL_TOKEN, &format!("/projects/{project}/push"), json!({})).await.ok(200);
        assert_eq!(s.remote.file("dir/a.txt"), "later\n");
    }

    /// Goal: why a push was refused is told by a stable reason, beside the remote's own words.
    async fn refusals(d) {
        let s = set_up(d, true).await;
        let project = s.project(&s.github.url("o/docs")).await;
        s.sync(project).await.ok(200);
        for (words, reason) in [
            ("error: GH006: Protected branch update failed for refs/heads/main.", "protected_branch"),
            ("error: GH013: Repository rule violations found. - GITHUB PUSH PROTECTION - Push cannot contain secrets", "push_protection"),
            ("error: GH013: Repository rule violations found. - Commits must have verified signatures.", "signed_commits_required"),
            ("error: GH001: Large files detected.", "file_too_large"),
            ("The build is red.", "hook"),
        ] {
            s.remote.refuse(words);
            let refused = s.commit(project, &format!("{reason}\n")).await.problem(422, "push_rejected");
            assert_eq!(refused["reason"], reason);
            assert!(refused["message"].as_str().expect("words").contains(words), "{refused}");
        }
        s.remote.allow();
        s.commit(project, "accepted\n").await.ok(200);
    }
}

/// Goal: without a secret no webhook is taken, whatever it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_need_a_secret() {
    let d = Deployment::start(crate::deployment::Setup::Embedded).await;
    let request = d.request("POST", "/webhooks/github").header("X-Hub-Signature-256", signature("{}"));
    d.send(request.header("X-GitHub-Event", "ping").header("X-GitHub-Delivery", "1").body("{}"))
        .await
        .problem(404, "webhooks_off");
}

/// Goal: what is said about the App is checked at start, and the key is never shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_apps_are_refused() {
    let mut d = Deployment::start(crate::deployment::Setup::Embedded).await;
    let file = d.remotes.path().join("key.pem");
    std::fs::write(&file, "-----BEGIN RSA PRIVATE KEY-----\nY2FuYXJ5\n-----END RSA PRIVATE KEY-----\n").expect("write");
    d.kill();
    d.set("TREEHOLD_GITHUB_APP_ID", "1");
    let alone = d.cli(&["config-check"]).await;
    assert_eq!(alone.status.code(), Some(2));
    d.set("TREEHOLD_GITHUB_APP_KEY_FILE", file.to_str().expect("UTF-8"));
    let bad = d.cli(&["project", "list"]).await;
    let told = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(2) && told.contains("github_app_key_file") && !told.contains("Y2Fu"), "{told}");
}

/// Goal: GitHub itself. `TREEHOLD_GITHUB_LIVE` names a repository, such as `owner/name`, that is there for this;
/// `TREEHOLD_GITHUB_LIVE_TOKEN` may write to it. A branch and a closed pull request are left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "talks to github.com: see tests/README.md"]
async fn live() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (repository, token) = (variable("TREEHOLD_GITHUB_LIVE"), variable("TREEHOLD_GITHUB_LIVE_TOKEN"));
    let mut d = Deployment::start(crate::deployment::Setup::Embedded).await;
    d.set("TREEHOLD_ALLOW_REMOTE", "https://github.com/");
    d.kill();
    d.up().await;
    let project = Uuid::new_v4();
    let remote = json!({"remote": {"url": format!("https://github.com/{repository}")}});
    d.put_json(&format!("/projects/{project}"), remote).await.ok(201);
    let as_me = |method: &str, rest: &str| {
        d.request(method, &format!("/projects/{project}/{rest}")).header("X-Remote-Token", &token)
    };
    let facts = d.send(as_me("GET", "remote")).await.ok(200);
    let base = facts["github"]["default_branch"].as_str().expect("a branch").to_owned();
    let synced = d.send(json_body(as_me("POST", "sync"), &json!({"branch": base}))).await.ok(200);
    let branch = format!("treehold-live-{}", project.simple());
    let oid = synced["to"].as_str().expect("a commit");
    d.put_json(&format!("/projects/{project}/refs/heads/{branch}"), json!({"oid": oid})).await;
    let path = format!("live/{branch}.txt");
    let action = json!([{"action": "create", "path": path, "content": "live\n"}]);
    let body = json!({"branch": branch, "message": "Live", "author": author(), "actions": action});
    let pushed = d.send(json_body(as_me("POST", "commits"), &body)).await.ok(200);
    assert_eq!(pushed["pushed"], true);
    let spec = json!({"title": "Live", "head": branch, "base": base});
    let opened = d.send(json_body(as_me("POST", "pulls"), &spec)).await.ok(201);
    assert_eq!(opened["head_sha"], pushed["commit"]);
    assert_eq!(d.send(json_body(as_me("POST", "pulls"), &spec)).await.ok(200)["number"], opened["number"]);
    let close = as_me("PATCH", &format!("pulls/{}", opened["number"]));
    assert_eq!(d.send(json_body(close, &json!({"state": "closed"}))).await.ok(200)["state"], "closed");
    assert!(!d.log().contains(&token));
}
