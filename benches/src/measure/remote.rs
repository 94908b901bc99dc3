//! Work with a remote over HTTP: stock `git http-backend`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use treehold_tests::git::Repo;

use super::autosave::SAVE;
use super::commit::{COMMITTED, autosave, commit};
use super::{Bench, PROJECT};
use crate::peers::github;
use crate::peers::worktree::Worktree;
use crate::plan::Scenario;
use crate::report::{Who, medians_ms};
use crate::server::{Http, Server};
use crate::setup::Place;

/// Connects (the first sync), then syncs remote changes, then commits and pushes.
pub async fn all(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Remote);
    let (place, server) = connects(bench).await?;
    syncs(bench, server.http()).await?;
    pushes(bench, server.http()).await?;
    let output = bench.setup.remote.git().output(["fsck", "--full", "--no-dangling"]);
    ensure!(output.status.success(), "git fsck of the remote: {}", String::from_utf8_lossy(&output.stderr));
    server.stop().await?;
    drop(place);
    Ok(())
}

/// The first sync of a server that did nothing before, each time into nothing. The last one goes on.
async fn connects(bench: &mut Bench<'_>) -> anyhow::Result<(Place, Server)> {
    let setup = bench.setup;
    let (mut seconds, mut peaks) = (Vec::new(), Vec::new());
    let mut kept: Option<(Place, Server)> = None;
    for _ in 0..bench.plan.transfers {
        if let Some((_place, server)) = kept.take() {
            server.stop().await?;
        }
        let place = setup.place().await?;
        let server = Server::start(&place).await?;
        let http = server.http();
        let project = json!({"name": PROJECT, "remote": {"url": setup.git.url("remote")}});
        http.send(http.json(Method::POST, "/projects", &project)).await?.ok()?;
        let (answer, took) = sync(http).await?;
        ensure!(answer["to"] == json!(setup.remote.rev_parse("main")), "synced to a wrong commit: {answer}");
        seconds.push(took.as_secs_f64());
        peaks.push(server.memory_mib("VmHWM")?);
        kept = Some((place, server));
    }
    bench.sheet.add("first sync over HTTP, depth 1", "s", seconds);
    bench.sheet.add("first sync, peak memory of the server", "MiB", peaks).at_most(256.0);
    kept.context("nothing was connected")
}

/// Syncs of 10 files that changed at the remote.
async fn syncs(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    let remote = &bench.setup.remote;
    let mut values = Vec::new();
    for _ in 0..bench.plan.runs {
        let before = remote.rev_parse("main");
        let edits = bench.chance.edits(&bench.subject.plain, COMMITTED, SAVE);
        advance(remote, &edits);
        let (answer, took) = sync(http).await?;
        ensure!(answer["from"] == json!(before), "synced from a wrong commit: {answer}");
        ensure!(answer["to"] == json!(remote.rev_parse("main")), "synced to a wrong commit: {answer}");
        ensure!(answer["changed_count"] == json!(COMMITTED), "synced other changes: {answer}");
        values.push(took.as_secs_f64() * 1000.0);
    }
    bench.sheet.add("sync of a remote commit of 10 files", "ms", values);
    Ok(())
}

/// Commits the edits at the remote, with stock git.
fn advance(remote: &Repo, edits: &[(String, Vec<u8>)]) {
    let message = "Change ten files at the remote\n";
    let mut stream = String::from("commit refs/heads/main\ncommitter Rae Mote <rae@example.org> 1790000000 +0000\n");
    let _ = writeln!(stream, "data {}\n{message}from refs/heads/main^0", message.len());
    let mut stream = stream.into_bytes();
    for (path, content) in edits {
        stream.extend(format!("M 100644 inline {path}\ndata {}\n", content.len()).into_bytes());
        stream.extend_from_slice(content);
        stream.push(b'\n');
    }
    remote.git().run_with(["fast-import", "--quiet"], &stream);
}

async fn sync(http: &Http) -> anyhow::Result<(Value, Duration)> {
    let reply = http.send(http.json(Method::POST, &format!("/projects/{PROJECT}/sync"), &json!({}))).await?;
    Ok((reply.json()?, reply.took))
}

/// Commits of 10 files, each at the remote before it is answered; stock git does the same from a clone.
async fn pushes(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    let (setup, subject) = (bench.setup, bench.subject);
    let directory = tempfile::tempdir_in(&setup.work)?;
    let worktree = Worktree::clone(&setup.git.url_with_credentials("peer"), &directory.path().join("clone"))?;
    let peer = Repo::open(setup.served("peer"));
    let [mut ours, mut gits] = [const { Vec::new() }; 2];
    let [mut requests, mut sent, mut git_requests, mut git_sent] = [const { Vec::new() }; 4];
    for _ in 0..bench.plan.runs {
        let [mut our, mut git] = [const { Vec::new() }; 2];
        for _ in 0..bench.plan.commits {
            let before = setup.remote.rev_parse("main");
            let edits = bench.chance.edits(&subject.plain, COMMITTED, SAVE);
            let user = autosave(http, PROJECT, &edits).await?;
            setup.git.reset_requests();
            let (answer, took) = commit(http, PROJECT, user, &edits, true).await?;
            ensure!(answer["parents"] == json!([before]), "committed on a wrong parent: {answer}");
            ensure!(answer["commit"] == json!(setup.remote.rev_parse("main")), "not at the remote: {answer}");
            count(bench, &mut requests, &mut sent);
            our.push(took);
            let committed = worktree.commit(&edits)?;
            setup.git.reset_requests();
            git.push(committed.took + worktree.push());
            ensure!(peer.rev_parse("main") == committed.oid, "git pushed another commit");
            count(bench, &mut git_requests, &mut git_sent);
        }
        ours.push(our);
        gits.push(git);
    }
    let sheet = &mut bench.sheet;
    sheet.add_times(Who::Treehold, "commit of 10 files, pushed", &ours);
    sheet.add_times(Who::Peer, "git add, git commit and git push", &gits);
    sheet.add_ratio("git add, commit and push / commit, pushed", &medians_ms(&gits), &medians_ms(&ours));
    sheet.add("requests upstream per commit", "", requests).at_most(1.0);
    sheet.add_peer("requests of git push", "", git_requests);
    let calls = github::calls(COMMITTED) as f64;
    sheet.add_peer("calls of GitHub's Git Data API for it (computed)", "", vec![calls]);
    sheet.add("sent upstream per commit", "KiB", sent);
    sheet.add_peer("sent by git push", "KiB", git_sent);
    Ok(())
}

/// What arrived at the git server since its log was emptied.
fn count(bench: &Bench<'_>, requests: &mut Vec<f64>, sent: &mut Vec<f64>) {
    let logged = bench.setup.git.requests();
    requests.push(logged.len() as f64);
    sent.push(logged.iter().map(|request| request.bytes_in).sum::<u64>() as f64 / 1024.0);
}
