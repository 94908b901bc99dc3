//! Database and bucket go away and come back: requests are refused as such, nothing that was answered is lost, and the service
//! recovers by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::aftermath::{bucket_fsck, linear_history, log_of, random, until};
use crate::deployment::{Deployment, REMOTE_TOKEN, Reply, json_body};

/// How often the database or the bucket goes away in a test.
const ROUNDS: usize = 3;

/// A refusal for the time being: 503 `unavailable` with a time to wait.
#[track_caller]
fn refused(reply: &Reply) {
    reply.problem(503, "unavailable");
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "no time to wait");
}

/// One user: saves and commits, one request after the other.
struct User {
    id: Uuid,
    project: Uuid,
    push: bool,
    count: usize,
    refusals: usize,
    /// The content that was answered last.
    saved: Option<String>,
    /// Contents that were refused since: they may or may not be there.
    unsure: Vec<String>,
    /// Commits by key.
    commits: BTreeMap<String, Value>,
    /// The key of a commit that was refused.
    open: Option<String>,
}

impl User {
    fn new(project: Uuid, push: bool) -> Self {
        let (saved, unsure, commits, open) = (None, Vec::new(), BTreeMap::new(), None);
        Self { id: Uuid::new_v4(), project, push, count: 0, refusals: 0, saved, unsure, commits, open }
    }

    fn path(&self) -> String {
        format!("by/{}.txt", self.id)
    }

    async fn save(&mut self, d: &Deployment) {
        self.count += 1;
        let mut content = format!("{} {}\n", self.id, self.count);
        if self.count.is_multiple_of(5) {
            // Kept in the bucket.
            content.push_str(&"long ".repeat(30_000));
        }
        let request = d.request("PUT", &format!("/pending/{}/{}/{}", self.project, self.id, self.path()));
        let reply = d.send(request.body(content.clone())).await;
        match reply.status {
            200 | 201 => {
                self.saved = Some(content);
                self.unsure.clear();
            }
            _ => {
                refused(&reply);
                self.refusals += 1;
                self.unsure.push(content);
            }
        }
    }

    async fn commit(&mut self, d: &Deployment) {
        let key = self.open.take().unwrap_or_else(|| format!("{} {}", self.id, self.count));
        let body = json!({"user": self.id, "message": key, "push": self.push,
            "author": {"name": "A", "email": "a@example.org"}});
        let request = json_body(d.request("POST", &format!("/projects/{}/commit", self.project)), &body);
        let reply = d.send(request.header("Idempotency-Key", &key).header("X-Remote-Token", REMOTE_TOKEN)).await;
        match (reply.status, reply.ok(reply.status)["code"].as_str()) {
            (200, _) => _ = self.commits.insert(key, reply.ok(200)),
            // The save before was refused.
            (422, Some("nothing_to_commit")) => {}
            // The remote has answered, our database has not: the next request settles it.
            (504, Some("push_unknown")) => self.open = Some(key),
            _ => {
                refused(&reply);
                self.refusals += 1;
                self.open = Some(key);
            }
        }
    }

    async fn work(&mut self, d: &Deployment, over: &std::sync::atomic::AtomicBool) {
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            self.save(d).await;
            if self.open.is_some() || self.count.is_multiple_of(3) {
                self.commit(d).await;
            }
        }
    }

    /// After the outage: what was refused is repeated, what was answered is there.
    async fn check(&mut self, d: &Deployment) {
        let path = self.path();
        let there = d.get(&format!("/files/{}/{path}?user={}", self.project, self.id)).await;
        let text = there.text();
        let known = self.saved.iter().chain(&self.unsure).any(|content| *content == text);
        assert!(known || self.saved.is_none(), "what was answered is lost: {}", &text[..text.len().min(200)]);
        for _ in 0..3 {
            if self.open.is_some() {
                self.commit(d).await;
            }
        }
        assert!(self.open.is_none(), "a commit that is refused for ever");
    }
}

/// What goes away.
#[derive(Clone, Copy)]
enum Part {
    Postgres,
    Bucket,
}

async fn outage(d: &Deployment, part: Part, random: &mut StdRng) {
    let wait = |longest: u64, random: &mut StdRng| Duration::from_millis(random.random_range(100..longest));
    tokio::time::sleep(wait(1500, random)).await;
    match part {
        Part::Postgres => d.own().postgres.kill9(),
        Part::Bucket => d.own().s3.stop(),
    }
    tokio::time::sleep(wait(1500, random)).await;
    let ready = d.get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(d.get("/healthz").await.status, 200);
    match part {
        Part::Postgres => d.own().postgres.restart().await,
        Part::Bucket => d.own().s3.restart(),
    }
    until("ready again", async || d.get("/readyz").await.status == 200).await;
    tokio::time::sleep(wait(700, random)).await;
}

/// Rounds of load with an outage in each.
async fn rounds(d: &Deployment, project: Uuid, push: bool, part: Part, random: &mut StdRng) -> Vec<User> {
    let mut users: Vec<User> = (0..3).map(|_| User::new(project, push)).collect();
    for _ in 0..ROUNDS {
        let over = std::sync::atomic::AtomicBool::new(false);
        let work = futures::future::join_all(users.iter_mut().map(|user| user.work(d, &over)));
        let outage = async {
            outage(d, part, random).await;
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        futures::join!(work, outage);
        for user in &mut users {
            user.check(d).await;
        }
    }
    let refusals: usize = users.iter().map(|user| user.refusals).sum();
    assert!(refusals > 0, "nobody noticed the outage");
    users
}

/// Each commit that was answered is in the history, once; no other is.
fn check_history(history: &[String], users: &[User]) {
    for user in users {
        for key in user.commits.keys() {
            assert_eq!(history.iter().filter(|message| *message == key).count(), 1, "{key}");
        }
        let mine = history.iter().filter(|message| message.starts_with(&user.id.to_string())).count();
        assert_eq!(mine, user.commits.len());
    }
}

async fn local(part: Part, name: &str) {
    let d = Deployment::start_alone().await;
    let mut random = random(name);
    let project = d.local_project().await;
    let users = rounds(&d, project, false, part, &mut random).await;
    let history = log_of(&d, project).await;
    check_history(&history, &users);
    let (_dir, export) = d.export(project).await;
    assert_eq!(linear_history(&export, "main"), history);
    bucket_fsck(&d).await;
}

async fn pushed(part: Part, name: &str) {
    let d = Deployment::start_alone().await;
    let mut random = random(name);
    let remote = d.remote("docs", 9);
    let before = remote.rev_parse("main");
    let project = d.connect("docs").await;
    let users = rounds(&d, project, true, part, &mut random).await;
    check_history(&linear_history(&remote, &format!("{before}..main")), &users);
    remote.fsck_strict();
    d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
    let (_dir, export) = d.export(project).await;
    assert_eq!(export.rev_parse("main"), remote.rev_parse("main"));
    bucket_fsck(&d).await;
}

/// Goal: kill -9 of Postgres costs refusals and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_dies() {
    local(Part::Postgres, "postgres dies").await;
}

/// Goal: the same while commits are pushed: no edit is lost, no commit is at the remote twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_dies_during_pushes() {
    pushed(Part::Postgres, "postgres dies during pushes").await;
}

/// Goal: a bucket that is away costs refusals of what needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_goes_away() {
    local(Part::Bucket, "the bucket goes away").await;
}

/// Goal: the same while commits are pushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_goes_away_during_pushes() {
    pushed(Part::Bucket, "the bucket goes away during pushes").await;
}

/// Goal: an import that loses the bucket or the database ends as a refusal, publishes nothing, and works the next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_meets_an_outage() {
    let d = Deployment::start_alone().await;
    let mut random = random("a sync meets an outage");
    let remote = crate::aftermath::big_remote(&d, "big", 2000, &mut random);
    let head = remote.rev_parse("main");
    for part in [Part::Bucket, Part::Postgres, Part::Bucket, Part::Postgres] {
        let project = Uuid::new_v4();
        d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": d.git.url("big")}})).await.ok(201);
        let path = format!("/projects/{project}/sync");
        let (reply, ()) = futures::join!(d.post(&path, json!({})), outage(&d, part, &mut random));
        if reply.status != 200 {
            refused(&reply);
            let shown = d.get(&format!("/projects/{project}")).await.ok(200);
            assert!(shown["head"].is_null() || shown["head"] == json!(head), "{shown}");
        }
        let again = d.post(&path, json!({})).await.ok(200);
        assert_eq!(again["to"], json!(head));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.ls_tree("main"), remote.ls_tree("main"));
    }
    bucket_fsck(&d).await;
}
