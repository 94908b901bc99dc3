//! Autosaves, and commits that stay here.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Chance, PROJECT, Repositories, blob_oid};
use crate::plan::Plan;
use crate::report::Sheet;
use crate::server::{Http, escaped};
use crate::stock::File;

/// Size of an autosaved file, bytes.
const SAVE: usize = 4_096;
/// Files that one user edits in turn.
const EDITED: usize = 10;
const CONNECTIONS: usize = 16;
/// Files of a commit.
pub const COMMITTED: usize = 10;

/// Autosaves of 4 KB, on one connection and on 16, each of another user.
pub async fn autosaves(
    http: &Http,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    for (connections, saves) in [(1, plan.saves), (CONNECTIONS, plan.saves_each)] {
        let (mut times, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..plan.runs {
            let mut users = JoinSet::new();
            let work: Vec<Work> = (0..connections).map(|_| Work::new(repositories, saves, chance)).collect();
            let started = Instant::now();
            for work in work {
                users.spawn(work.save_all(http.clone()));
            }
            let done: Vec<(Work, Vec<Duration>)> = users.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
            rates.push((connections * saves) as f64 / started.elapsed().as_secs_f64());
            for (work, _) in &done {
                work.check(http).await?;
            }
            times.push(done.into_iter().flat_map(|(_, times)| times).collect());
        }
        let plural = if connections == 1 { "connection" } else { "connections" };
        sheet.add_times(&format!("autosave of 4 KB, {connections} {plural}"), &times);
        sheet.add(format!("autosaves of 4 KB, {connections} {plural}"), "1/s", rates);
    }
    Ok(())
}

/// What one user saves.
struct Work {
    user: Uuid,
    /// Path and content, in order.
    saves: Vec<(String, Vec<u8>)>,
}

impl Work {
    fn new(repositories: &Repositories, saves: usize, chance: &mut Chance) -> Self {
        let files = chance.files(&repositories.files, EDITED);
        let saves = files.iter().cycle().take(saves).map(|file| (file.path.clone(), chance.content(SAVE))).collect();
        Self { user: Uuid::new_v4(), saves }
    }

    async fn save_all(self, http: Http) -> anyhow::Result<(Self, Vec<Duration>)> {
        let mut times = Vec::with_capacity(self.saves.len());
        for (path, content) in &self.saves {
            times.push(save(&http, self.user, path, content).await?.1);
        }
        Ok((self, times))
    }

    /// The last content of each path is what is pending now.
    async fn check(&self, http: &Http) -> anyhow::Result<()> {
        let reply = http.send(http.request(Method::GET, &format!("/pending/{PROJECT}/{}", self.user))).await?;
        let list = reply.json()?;
        ensure!(list["revision"] == json!(self.saves.len()), "{} saves, but {list}", self.saves.len());
        for (path, content) in self.saves.iter().rev().take(EDITED.min(self.saves.len())) {
            let url = format!("/pending/{PROJECT}/{}/{}", self.user, escaped(path));
            let reply = http.send(http.request(Method::GET, &url)).await?;
            reply.ok()?;
            ensure!(reply.body == *content, "{path} is pending with wrong bytes");
        }
        Ok(())
    }
}

/// One autosave: its answer, and the time it took.
async fn save(http: &Http, user: Uuid, path: &str, content: &[u8]) -> anyhow::Result<(Value, Duration)> {
    let url = format!("/pending/{PROJECT}/{user}/{}", escaped(path));
    let reply = http.send(http.request(Method::PUT, &url).body(content.to_vec())).await?;
    Ok((reply.json()?, reply.took))
}

/// Commits of 10 files without a push. The last commit's oid.
pub async fn commits(
    http: &Http,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<String> {
    let mut head = repositories.main.rev_parse("main");
    let mut runs = Vec::new();
    for _ in 0..plan.runs {
        let mut times = Vec::new();
        for _ in 0..plan.commits {
            let (answer, took) = commit(http, &repositories.files, false, chance).await?;
            ensure!(answer["parents"] == json!([head]), "committed on a wrong parent: {answer}");
            head = answer["commit"].as_str().context("no commit")?.to_owned();
            times.push(took);
        }
        runs.push(times);
    }
    sheet.add_times("commit of 10 files, not pushed", &runs);
    Ok(head)
}

/// Saves 10 files of a new user, then commits them: the answer, and the time of the commit alone.
pub async fn commit(http: &Http, files: &[File], push: bool, chance: &mut Chance) -> anyhow::Result<(Value, Duration)> {
    let user = Uuid::new_v4();
    let mut expected = Vec::new();
    for file in chance.files(files, COMMITTED) {
        let content = chance.content(SAVE);
        let (answer, _) = save(http, user, &file.path, &content).await?;
        ensure!(answer["oid"] == json!(blob_oid(&content)?), "{} was saved under a wrong oid: {answer}", file.path);
        expected.push((file.path.clone(), answer["oid"].clone()));
    }
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    let author = json!({"name": "Ann Author", "email": "ann@example.org"});
    let body = json!({"user": user, "message": "Change ten files", "author": author, "push": push});
    let reply = http.send(http.json(Method::POST, &format!("/projects/{PROJECT}/commit"), &body)).await?;
    let answer = reply.json()?;
    let committed: Vec<(String, Value)> = answer["files"]
        .as_array()
        .context("no files in the answer")?
        .iter()
        .map(|file| (file["path"].as_str().unwrap_or_default().to_owned(), file["oid"].clone()))
        .collect();
    ensure!(committed == expected, "committed other files than were saved: {answer}");
    ensure!(answer["pushed"] == json!(push), "pushed or not against the request: {answer}");
    Ok((answer, reply.took))
}
