//! What each verb asks of the bucket: requests are what a bucket costs beside its bytes.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::autosave::{SAVE, save};
use super::commit::{COMMITTED, autosave, commit};
use super::{BATCH, Bench};
use crate::peers::git;
use crate::peers::worktree::Worktree;
use crate::plan::Scenario;
use crate::proxy::Counts;
use crate::server::{Http, Server};

/// A project of its own, connected to the git server.
const PROJECT: &str = "calls";
/// A file that does not fit into a row of the database.
const LARGE: usize = 1 << 20;

/// Each verb some times, from a server that has the files in its cache.
pub async fn all(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let setup = bench.setup;
    let Some(cluster) = &setup.cluster else { return Ok(()) };
    bench.sheet.begin(Scenario::Calls);
    let place = setup.place().await?;
    let server = Server::start(&place).await?;
    let http = server.http();
    let _before = cluster.proxy.take_counts();
    let project = json!({"name": PROJECT, "remote": {"url": setup.git.url("remote")}});
    http.send(http.json(Method::POST, "/projects", &project)).await?.ok()?;
    post(http, "sync", &json!({})).await?;
    told(bench, "first sync, depth 1", &[cluster.proxy.take_counts()]);
    let scratch = tempfile::tempdir_in(&setup.work)?;
    let worktree = Worktree::clone(&http.git_url(PROJECT), &scratch.path().join("clone"))?;
    for verb in [
        Verb::Autosave(SAVE),
        Verb::Autosave(LARGE),
        Verb::BatchRead,
        Verb::List,
        Verb::Commit { push: false },
        Verb::Commit { push: true },
        Verb::SyncOfNothing,
        Verb::Clone,
        Verb::Push,
    ] {
        let mut counts = Vec::new();
        for _ in 0..bench.plan.commits {
            let ready = verb.prepare(bench, http, &worktree).await?;
            let _before = cluster.proxy.take_counts();
            verb.run(bench, http, &worktree, ready).await?;
            counts.push(cluster.proxy.take_counts());
        }
        told(bench, verb.name(), &counts);
    }
    server.stop().await
}

/// Name, unit, and what it shows.
type Column = (&'static str, &'static str, fn(&Counts) -> f64);

/// The rows of one verb: all calls, and of each kind that there were.
fn told(bench: &mut Bench<'_>, name: &str, counts: &[Counts]) {
    let columns: [Column; 4] = [
        ("PUT", "", |counts| counts.of("PUT") as f64),
        ("GET", "", |counts| counts.of("GET") as f64),
        ("other calls", "", |counts| (counts.all() - counts.of("PUT") - counts.of("GET")) as f64),
        ("to and from the bucket", "KiB", |counts| (counts.bytes_up + counts.bytes_down) as f64 / 1024.0),
    ];
    bench.sheet.add(format!("{name}: calls"), "", counts.iter().map(|counts| counts.all() as f64).collect());
    for (column, unit, of) in columns {
        let values: Vec<f64> = counts.iter().map(of).collect();
        if values.iter().any(|value| *value > 0.0) {
            bench.sheet.add(format!("{name}: {column}"), unit, values);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Autosave(usize),
    BatchRead,
    List,
    Commit { push: bool },
    SyncOfNothing,
    Clone,
    Push,
}

/// What was done before a verb that belongs to others.
type Ready = Option<(Uuid, Vec<(String, Vec<u8>)>)>;

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Autosave(SAVE) => "autosave of 4 KB",
            Self::Autosave(_) => "autosave of 1 MiB",
            Self::BatchRead => "batch read of 100 files, warm",
            Self::List => "list of all files",
            Self::Commit { push: false } => "commit of 10 files",
            Self::Commit { push: true } => "commit of 10 files, pushed",
            Self::SyncOfNothing => "sync of nothing new",
            Self::Clone => "git clone --bare",
            Self::Push => "git push of a commit of 10 files",
        }
    }

    /// Autosaves before a commit; a batch read before the one that is warm; what others committed before a push.
    async fn prepare(self, bench: &mut Bench<'_>, http: &Http, worktree: &Worktree) -> anyhow::Result<Ready> {
        match self {
            Self::Commit { .. } => {
                let edits = bench.chance.edits(&bench.subject.plain, COMMITTED, SAVE);
                Ok(Some((autosave(http, PROJECT, &edits).await?, edits)))
            }
            Self::BatchRead => read(bench, http).await.map(|()| None),
            Self::Push => {
                worktree.follow();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn run(self, bench: &mut Bench<'_>, http: &Http, worktree: &Worktree, ready: Ready) -> anyhow::Result<()> {
        match self {
            Self::Autosave(size) => {
                let content = bench.chance.content(size);
                save(http, PROJECT, Uuid::new_v4(), "calls.txt", &content).await.map(drop)
            }
            Self::BatchRead => read(bench, http).await,
            Self::List => {
                let request = http.request(Method::GET, &format!("/files/{PROJECT}"));
                http.send(request.header("Accept", "application/x-ndjson")).await?.ok()
            }
            Self::Commit { push } => {
                let (user, edits) = ready.context("nothing to commit")?;
                commit(http, PROJECT, user, &edits, push).await.map(drop)
            }
            Self::SyncOfNothing => post(http, "sync", &json!({})).await.map(drop),
            Self::Clone => {
                let shown = http.send(http.request(Method::GET, &format!("/projects/{PROJECT}"))).await?.json()?;
                let head = shown["head"].as_str().context("the project has no head")?;
                git::clone(&http.git_url(PROJECT), &bench.setup.work, head).map(drop)
            }
            Self::Push => {
                worktree.commit(&bench.chance.edits(&bench.subject.plain, COMMITTED, SAVE))?;
                worktree.push();
                Ok(())
            }
        }
    }
}

/// The same files each time: the first of the subject.
async fn read(bench: &Bench<'_>, http: &Http) -> anyhow::Result<()> {
    let paths: Vec<&str> = bench.subject.plain.iter().take(BATCH).map(|file| file.path.as_str()).collect();
    let answer = post(http, "read", &json!({"paths": paths})).await?;
    ensure!(answer["files"].as_array().is_some_and(|files| files.len() == paths.len()), "not all files were read");
    Ok(())
}

async fn post(http: &Http, verb: &str, body: &Value) -> anyhow::Result<Value> {
    http.send(http.json(Method::POST, &format!("/projects/{PROJECT}/{verb}"), body)).await?.json()
}
