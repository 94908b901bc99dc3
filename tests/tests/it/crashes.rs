//! kill -9 of the server in the middle of its work: what was answered is there, once, and the rest is cleaned up.

use std::collections::{BTreeMap, HashMap};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::aftermath::{big_remote, bucket_fsck, kill, kill_within, linear_history, log_of, random, reaped, rounds};
use crate::both;
use crate::deployment::{Deployment, REMOTE_TOKEN, Reply, json_body};

/// A request that may find nobody there.
pub async fn attempt(request: reqwest::RequestBuilder) -> Option<Reply> {
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.ok()?.to_vec();
    Some(Reply { status, headers, body })
}

/// One user who saves one file after the other, waiting for each answer.
pub struct Writer {
    user: Uuid,
    random: StdRng,
    saves: u64,
    /// What was answered last, by path: content and revision.
    answered: BTreeMap<String, (String, i64)>,
    /// What was sent and not answered.
    open: Option<(String, String)>,
    revision: i64,
}

impl Writer {
    pub fn new(random: StdRng) -> Self {
        Self { user: Uuid::new_v4(), random, saves: 0, answered: BTreeMap::new(), open: None, revision: 0 }
    }

    /// Saves until nobody answers.
    pub async fn load(&mut self, d: &Deployment, project: Uuid) {
        loop {
            let path = format!("notes/{}.md", self.random.random_range(0..5));
            self.saves += 1;
            let mut content = format!("save {} of {}\n", self.saves, self.user);
            if self.random.random_ratio(1, 8) {
                // Not kept in the database, but in the bucket.
                content.push_str(&"long ".repeat(30_000));
            }
            self.open = Some((path.clone(), content.clone()));
            let request = d.request("PUT", &format!("/pending/{project}/{}/{path}", self.user)).body(content.clone());
            let Some(reply) = attempt(request).await else { return };
            assert!([200, 201].contains(&reply.status), "{}", reply.text());
            let revision = reply.ok(reply.status)["revision"].as_i64().expect("a revision");
            assert!(revision > self.revision, "revision {revision} after {}", self.revision);
            self.revision = revision;
            self.answered.insert(path, (content, revision));
            self.open = None;
        }
    }

    /// Everything that was answered is there; what was not may be.
    pub async fn check(&mut self, d: &Deployment, project: Uuid) {
        let list = d.get(&format!("/pending/{project}/{}", self.user)).await.ok(200);
        let rows: BTreeMap<&str, i64> = list["changes"]
            .as_array()
            .expect("changes")
            .iter()
            .map(|row| (row["path"].as_str().expect("a path"), row["revision"].as_i64().expect("a revision")))
            .collect();
        let mut expected = self.answered.clone();
        if let Some((path, content)) = self.open.take() {
            let reply = d.get(&format!("/pending/{project}/{}/{path}", self.user)).await;
            if reply.status == 200 && reply.text() == content {
                expected.insert(path, (content, self.revision + 1));
            }
        }
        assert_eq!(rows.len(), expected.len(), "{rows:?}");
        for (path, (content, revision)) in &expected {
            assert_eq!(rows.get(path.as_str()), Some(revision), "{path}");
            let there = d.get(&format!("/pending/{project}/{}/{path}", self.user)).await;
            assert!(there.text() == *content, "{path} is not what was answered");
        }
        self.revision = list["revision"].as_i64().expect("a revision");
        assert_eq!(Some(self.revision), expected.values().map(|(_, revision)| *revision).max().or(Some(0)));
        self.answered = expected;
    }
}

/// One user who commits again and again, each time under a new key.
pub struct Committer {
    pub user: Uuid,
    project: Uuid,
    push: bool,
    count: usize,
    /// Answers, by key.
    pub answered: BTreeMap<String, Value>,
    open: Option<String>,
}

impl Committer {
    pub fn new(project: Uuid, push: bool) -> Self {
        let user = Uuid::new_v4();
        Self { user, project, push, count: 0, answered: BTreeMap::new(), open: None }
    }

    fn commit(&self, d: &Deployment, key: &str) -> reqwest::RequestBuilder {
        let body = json!({"user": self.user, "message": key, "push": self.push,
            "author": {"name": "A", "email": "a@example.org"}});
        json_body(d.request("POST", &format!("/projects/{}/commit", self.project)), &body)
            .header("Idempotency-Key", key)
            .header("X-Remote-Token", REMOTE_TOKEN)
    }

    /// Commits until nobody answers.
    pub async fn load(&mut self, d: &Deployment) {
        loop {
            self.count += 1;
            let key = format!("{} commit {}", self.user, self.count);
            let path = format!("/pending/{}/{}/by/{}.txt", self.project, self.user, self.user);
            let Some(saved) = attempt(d.request("PUT", &path).body(key.clone())).await else { return };
            assert!([200, 201].contains(&saved.status), "{}", saved.text());
            self.open = Some(key.clone());
            let Some(reply) = attempt(self.commit(d, &key)).await else { return };
            self.answered.insert(key, reply.ok(200));
            self.open = None;
        }
    }

    /// The unanswered request again, and some answered ones: the same key, the same commit.
    pub async fn retry(&mut self, d: &Deployment) {
        if let Some(key) = self.open.take() {
            let reply = d.send(self.commit(d, &key)).await.ok(200);
            self.answered.insert(key, reply);
        }
        for (key, answer) in self.answered.iter().rev().take(3) {
            assert_eq!(d.send(self.commit(d, key)).await.ok(200), *answer, "{key}");
        }
    }

    /// Each key's commit is in the history once.
    pub fn check(&self, history: &[String]) {
        let mut times: HashMap<&str, usize> = HashMap::new();
        history.iter().for_each(|message| *times.entry(message).or_default() += 1);
        for key in self.answered.keys() {
            assert_eq!(times.get(key.as_str()), Some(&1), "{key}");
        }
        let mine = history.iter().filter(|message| message.starts_with(&self.user.to_string())).count();
        assert_eq!(mine, self.answered.len(), "a commit that nobody asked for");
    }
}

/// Rounds of commits by several users, a crash within each, and the same requests again after it.
async fn commit_rounds(d: &mut Deployment, project: Uuid, push: bool, random: &mut StdRng) -> Vec<Committer> {
    let mut users: Vec<Committer> = (0..3).map(|_| Committer::new(project, push)).collect();
    for _ in 0..rounds(d.setup) {
        let pid = d.server_pid();
        let loads = futures::future::join_all(users.iter_mut().map(|user| user.load(d)));
        futures::join!(loads, kill_within(pid, random, 1500));
        d.kill();
        d.up().await;
        futures::future::join_all(users.iter_mut().map(|user| user.retry(d))).await;
    }
    assert!(users.iter().all(|user| !user.answered.is_empty()));
    users
}

both! {
    /// Goal: an autosave that was answered survives kill -9, with its revision; none is there twice, and no revision comes again.
    async fn autosaves(deployment) {
        let mut d = deployment;
        let mut random = random("autosaves");
        let project = d.local_project().await;
        let mut writers: Vec<Writer> = (0..4).map(|_| Writer::new(rand::SeedableRng::from_rng(&mut random))).collect();
        for _ in 0..rounds(d.setup) {
            let pid = d.server_pid();
            let loads = futures::future::join_all(writers.iter_mut().map(|writer| writer.load(&d, project)));
            futures::join!(loads, kill_within(pid, &mut random, 700));
            d.kill();
            d.up().await;
            for writer in &mut writers {
                writer.check(&d, project).await;
            }
        }
        assert!(writers.iter().all(|writer| writer.revision > 0));
        reaped(&mut d).await;
        bucket_fsck(&d).await;
    }

    /// Goal: a commit that was answered survives kill -9, and a repeated key never makes a second one.
    async fn commits(deployment) {
        let mut d = deployment;
        let mut random = random("commits");
        let project = d.local_project().await;
        let users = commit_rounds(&mut d, project, false, &mut random).await;
        let history = log_of(&d, project).await;
        reaped(&mut d).await;
        let (_dir, export) = d.export(project).await;
        assert_eq!(linear_history(&export, "main"), history);
        for user in &users {
            user.check(&history);
        }
        bucket_fsck(&d).await;
    }

    /// Goal: the same with a remote: its history is linear and has each key's commit once, whenever the server died.
    async fn pushed_commits(deployment) {
        let mut d = deployment;
        let mut random = random("pushed commits");
        let remote = d.remote("docs", 7);
        let project = d.connect("docs").await;
        let before = remote.rev_parse("main");
        let users = commit_rounds(&mut d, project, true, &mut random).await;
        let history = linear_history(&remote, &format!("{before}..main"));
        for user in &users {
            user.check(&history);
        }
        remote.fsck_strict();
        let synced = d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        assert_eq!(synced["to"], json!(remote.rev_parse("main")));
        reaped(&mut d).await;
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.rev_parse("main"), remote.rev_parse("main"));
        bucket_fsck(&d).await;
    }

    /// Goal: a sync that dies leaves the branch unborn or whole, and the next one brings everything.
    async fn syncs(deployment) {
        let mut d = deployment;
        let mut random = random("syncs");
        let remote = big_remote(&d, "big", 3000, &mut random);
        let head = remote.rev_parse("main");
        let mut project = Uuid::nil();
        for _ in 0..rounds(d.setup) {
            project = Uuid::new_v4();
            d.put_json(&format!("/projects/{project}"), json!({"remote": {"url": d.git.url("big")}})).await.ok(201);
            let pid = d.server_pid();
            let sync = json_body(d.request("POST", &format!("/projects/{project}/sync")), &json!({}));
            let (answer, ()) =
                futures::join!(attempt(sync.header("X-Remote-Token", REMOTE_TOKEN)), kill_within(pid, &mut random, 4000));
            d.kill();
            d.up().await;
            let shown = d.get(&format!("/projects/{project}")).await.ok(200);
            match answer {
                Some(answer) => assert_eq!(answer.ok(200)["to"], json!(head)),
                None => assert!(shown["head"].is_null() || shown["head"] == json!(head), "{shown}"),
            }
            if !shown["head"].is_null() {
                assert_eq!(d.get(&format!("/files/{project}?limit=10000")).await.ok(200)["files"].as_array().map(Vec::len), Some(3000));
            }
        }
        reaped(&mut d).await;
        let synced = d.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        assert_eq!(synced["to"], json!(head));
        let (_dir, export) = d.export(project).await;
        assert_eq!(export.ls_tree("main"), remote.ls_tree("main"));
        bucket_fsck(&d).await;
    }

    /// Goal: the same for an operator's import, which has no server beside it.
    async fn imports(deployment) {
        let mut d = deployment;
        let mut random = random("imports");
        let remote = big_remote(&d, "big", 3000, &mut random);
        let source = remote.path().to_str().expect("UTF-8").to_owned();
        d.kill();
        let mut last = String::new();
        for round in 0..rounds(d.setup) {
            last = format!("import-{round}");
            let mut command = d.command(&["import", &source, "--project", &last]).await;
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn().expect("the binary runs");
            tokio::time::sleep(std::time::Duration::from_millis(random.random_range(0..4000))).await;
            if child.try_wait().expect("its state").is_none() {
                kill(child.id());
            }
            child.wait().expect("its end");
        }
        d.up().await;
        reaped(&mut d).await;
        let listed = d.get("/projects?limit=100").await.ok(200);
        for project in listed["projects"].as_array().expect("projects") {
            let id = project["id"].as_str().expect("an id");
            if !project["head"].is_null() {
                assert_eq!(project["head"], json!(remote.rev_parse("main")));
                assert_eq!(d.get(&format!("/files/{id}?limit=10000")).await.ok(200)["files"].as_array().map(Vec::len), Some(3000));
            }
        }
        let again = d.cli(&["import", &source, "--project", &last, "--json"]).await;
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        let report: Value = serde_json::from_slice(&again.stdout).expect("JSON");
        let id = report["project"]["id"].as_str().expect("an id").parse().expect("a UUID");
        let (_dir, export) = d.export(id).await;
        assert_eq!(export.ls_tree("main"), remote.ls_tree("main"));
        bucket_fsck(&d).await;
    }
}
