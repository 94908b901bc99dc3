//! Work with a remote over HTTP: stock `git http-backend`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use treehold_tests::git::Repo;

use super::write::{COMMITTED, commit};
use super::{Chance, PROJECT, Repositories};
use crate::plan::Plan;
use crate::report::Sheet;
use crate::server::{Http, Server};
use crate::setup::{Place, Setup};

/// Size of a file that changes at the remote, bytes.
const CHANGED_SIZE: usize = 4_096;

/// Connects (the first sync), then syncs remote changes, then commits and pushes.
pub async fn remote(
    setup: &Setup,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let (place, server) = connects(setup, plan, sheet).await?;
    syncs(server.http(), setup, repositories, plan, chance, sheet).await?;
    pushes(server.http(), setup, repositories, plan, chance, sheet).await?;
    setup.remote.fsck_strict();
    server.stop().await?;
    drop(place);
    Ok(())
}

/// The first sync of a server that did nothing before, each time into nothing. The last one goes on.
async fn connects(setup: &Setup, plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<(Place, Server)> {
    let (mut seconds, mut peaks) = (Vec::new(), Vec::new());
    let mut kept: Option<(Place, Server)> = None;
    for _ in 0..plan.transfers {
        if let Some((_place, server)) = kept.take() {
            server.stop().await?;
        }
        let place = setup.place().await?;
        let server = Server::start(&place).await?;
        let http = server.http();
        let project = json!({"name": PROJECT, "remote": {"url": setup.remote_url()}});
        http.send(http.json(Method::POST, "/projects", &project)).await?.ok()?;
        let (answer, took) = sync(http).await?;
        ensure!(answer["to"] == json!(setup.remote.rev_parse("main")), "synced to a wrong commit: {answer}");
        seconds.push(took.as_secs_f64());
        peaks.push(server.memory_mib("VmHWM")?);
        kept = Some((place, server));
    }
    sheet.add(format!("first sync of {} files over HTTP, depth 1", plan.files), "s", seconds);
    sheet.add(format!("first sync of {} files, peak memory of the server", plan.files), "MiB", peaks);
    kept.context("nothing was connected")
}

/// Syncs of 10 files that changed at the remote.
async fn syncs(
    http: &Http,
    setup: &Setup,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let mut values = Vec::new();
    for _ in 0..plan.runs {
        let before = setup.remote.rev_parse("main");
        advance(&setup.remote, repositories, chance);
        let (answer, took) = sync(http).await?;
        ensure!(answer["from"] == json!(before), "synced from a wrong commit: {answer}");
        ensure!(answer["to"] == json!(setup.remote.rev_parse("main")), "synced to a wrong commit: {answer}");
        ensure!(answer["changed_count"] == json!(COMMITTED), "synced other changes: {answer}");
        values.push(took.as_secs_f64() * 1000.0);
    }
    sheet.add("sync of a remote commit of 10 files", "ms", values);
    Ok(())
}

/// Commits 10 files at the remote, with stock git.
fn advance(remote: &Repo, repositories: &Repositories, chance: &mut Chance) {
    let message = "Change ten files at the remote\n";
    let mut stream = String::from("commit refs/heads/main\ncommitter Rae Mote <rae@example.org> 1700900000 +0000\n");
    let _ = writeln!(stream, "data {}\n{message}from refs/heads/main^0", message.len());
    for file in chance.files(&repositories.files, COMMITTED) {
        let content = String::from_utf8_lossy(&chance.content(CHANGED_SIZE)).into_owned();
        let _ = writeln!(stream, "M 100644 inline {}\ndata {}\n{content}", file.path, content.len());
    }
    remote.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
}

async fn sync(http: &Http) -> anyhow::Result<(Value, Duration)> {
    let reply = http.send(http.json(Method::POST, &format!("/projects/{PROJECT}/sync"), &json!({}))).await?;
    Ok((reply.json()?, reply.took))
}

/// Commits of 10 files, each pushed before it is answered.
async fn pushes(
    http: &Http,
    setup: &Setup,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for _ in 0..plan.runs {
        let mut times = Vec::new();
        for _ in 0..plan.commits {
            let before = setup.remote.rev_parse("main");
            let (answer, took) = commit(http, &repositories.files, true, chance).await?;
            ensure!(answer["parents"] == json!([before]), "committed on a wrong parent: {answer}");
            ensure!(answer["commit"] == json!(setup.remote.rev_parse("main")), "not at the remote: {answer}");
            times.push(took);
        }
        runs.push(times);
    }
    sheet.add_times("commit of 10 files, pushed", &runs);
    Ok(())
}
