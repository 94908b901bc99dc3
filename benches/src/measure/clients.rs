//! Stock git as a client of the server, beside the same client of `git http-backend`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use tokio::task::JoinSet;
use treehold_tests::git::{Git, Repo};

use super::autosave::SAVE;
use super::commit::COMMITTED;
use super::{Bench, PROJECT};
use crate::peers::git;
use crate::peers::worktree::Worktree;
use crate::plan::Scenario;
use crate::report::{Who, medians_ms};
use crate::server::{Http, Server};

/// Before the pack itself come a few lines and packets with progress.
const PACK: &[u8] = b"PACK";

/// Clones, fetches of nothing, many clones at once, pushes.
pub async fn all(bench: &mut Bench<'_>, server: &Server) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Clients);
    let head = head(server.http()).await?;
    clones(bench, server, &head)?;
    first_bytes(bench, server, &head).await?;
    crowd(bench, server, &head).await?;
    fetches(bench, server)?;
    pushes(bench, server)
}

async fn head(http: &Http) -> anyhow::Result<String> {
    let shown = http.send(http.request(Method::GET, &format!("/projects/{PROJECT}"))).await?.json()?;
    shown["head"].as_str().map(str::to_owned).context("the project has no head")
}

fn clones(bench: &mut Bench<'_>, server: &Server, head: &str) -> anyhow::Result<()> {
    let (setup, ours) = (bench.setup, server.http().git_url(PROJECT));
    let theirs = setup.git.url_with_credentials("origin");
    let origin = Repo::open(setup.served("origin"));
    let [mut seconds, mut gits, mut indexes] = [const { Vec::new() }; 3];
    for number in 0..bench.plan.transfers {
        indexes.push(git::index_everything(&origin, &setup.work)?.as_secs_f64());
        gits.push(git::clone(&theirs, &setup.work, &bench.subject.head())?.as_secs_f64());
        seconds.push(git::clone(&ours, &setup.work, head)?.as_secs_f64());
        if number == 0 {
            check(&ours, &setup.work)?;
        }
    }
    bench.sheet.add("git clone --bare", "s", seconds.clone());
    bench.sheet.add_peer("git clone --bare from git http-backend", "s", gits.clone());
    bench.sheet.add_ratio("git clone --bare / from git http-backend", &seconds, &gits).at_most(0.7);
    bench.sheet.add_peer("of it git index-pack, whoever serves", "s", indexes.clone());
    bench.sheet.add_ratio("git index-pack alone / git clone --bare from git http-backend", &indexes, &gits);
    Ok(())
}

/// A clone is what git takes for whole and sound.
fn check(url: &str, work: &Path) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(work)?;
    Git::at(directory.path()).run(["clone", "-q", "--bare", url, "clone.git"]);
    let output = Repo::open(directory.path().join("clone.git")).git().output(["fsck", "--full", "--no-dangling"]);
    ensure!(output.status.success(), "git fsck: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The body of a `fetch` of everything.
fn everything(head: &str) -> String {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let lines =
        [line("command=fetch"), "0001".into(), line("ofs-delta"), line(&format!("want {head}\n")), line("done\n")];
    lines.concat() + "0000"
}

/// Takes a pack and keeps nothing of it: time to its first bytes, and how long it was.
async fn download(http: &Http, head: &str) -> anyhow::Result<(Duration, u64)> {
    let started = Instant::now();
    let request = http.git_request(PROJECT, "git-upload-pack", everything(head));
    let mut response = request.send().await.context("no answer")?;
    ensure!(response.status() == 200, "status {}", response.status());
    let (mut first, mut seen, mut bytes) = (None, Vec::new(), 0);
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        bytes += chunk.len() as u64;
        if first.is_none() {
            seen.extend_from_slice(&chunk);
            first = seen.windows(PACK.len()).any(|window| window == PACK).then(|| started.elapsed());
        }
    }
    Ok((first.context("there was no pack")?, bytes))
}

async fn first_bytes(bench: &mut Bench<'_>, server: &Server, head: &str) -> anyhow::Result<()> {
    let mut firsts = Vec::new();
    for _ in 0..bench.plan.runs {
        firsts.push(download(server.http(), head).await?.0.as_secs_f64() * 1000.0);
    }
    bench.sheet.add("first bytes of the pack of everything", "ms", firsts).at_most(50.0);
    Ok(())
}

/// Many who take everything at once.
async fn crowd(bench: &mut Bench<'_>, server: &Server, head: &str) -> anyhow::Result<()> {
    server.forget_peak()?;
    let before = server.memory_mib("VmRSS")?;
    let (_, alone) = download(server.http(), head).await?;
    let one = server.memory_mib("VmHWM")? - before;
    server.forget_peak()?;
    let mut clients = JoinSet::new();
    for _ in 0..bench.plan.clones {
        let (http, head) = (server.http().clone(), head.to_owned());
        clients.spawn(async move { download(&http, &head).await });
    }
    let mut taken = 0;
    let started = Instant::now();
    for done in clients.join_all().await {
        let (_, bytes) = done?;
        // Progress texts may differ; packs do not.
        ensure!(bytes.abs_diff(alone) < 1_000, "a client got {bytes} bytes, another one {alone}");
        taken += bytes;
    }
    let rate = super::mib(taken) / started.elapsed().as_secs_f64();
    let peak = server.memory_mib("VmHWM")?;
    bench.sheet.add("memory that one download takes", "MiB", vec![one]);
    bench.sheet.add(
        format!("peak memory of the server with {} downloads at once", bench.plan.clones),
        "MiB",
        vec![peak],
    );
    bench.sheet.add("sent to them", "MiB/s", vec![rate]);
    Ok(())
}

/// `git fetch` where there is nothing new.
fn fetches(bench: &mut Bench<'_>, server: &Server) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&bench.setup.work)?;
    let take = |url: &str, name: &str| -> Repo {
        Git::at(directory.path()).run(["clone", "-q", "--bare", url, name]);
        Repo::open(directory.path().join(name))
    };
    let ours = take(&server.http().git_url(PROJECT), "ours.git");
    let theirs = take(&bench.setup.git.url_with_credentials("origin"), "theirs.git");
    let fetch = |repo: &Repo| -> Duration {
        let started = Instant::now();
        repo.git().run(["fetch", "-q", "origin"]);
        started.elapsed()
    };
    let [mut times, mut gits] = [const { Vec::new() }; 2];
    for _ in 0..bench.plan.runs {
        let pairs = (0..bench.plan.commits).map(|_| (fetch(&ours), fetch(&theirs)));
        let (our, git): (Vec<Duration>, Vec<Duration>) = pairs.unzip();
        times.push(our);
        gits.push(git);
    }
    bench.sheet.add_times(Who::Treehold, "git fetch of nothing new", &times);
    bench.sheet.add_times(Who::Peer, "git fetch of nothing new from git http-backend", &gits);
    bench.sheet.add_ratio("git fetch of nothing new / from git http-backend", &medians_ms(&times), &medians_ms(&gits));
    Ok(())
}

/// `git push` of a commit.
fn pushes(bench: &mut Bench<'_>, server: &Server) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&bench.setup.work)?;
    let ours = Worktree::clone(&server.http().git_url(PROJECT), &directory.path().join("ours"))?;
    let peer = bench.setup.git.url_with_credentials("peer");
    let theirs = Worktree::clone(&peer, &directory.path().join("theirs"))?;
    let [mut times, mut gits] = [const { Vec::new() }; 2];
    for _ in 0..bench.plan.runs {
        let [mut our, mut git] = [const { Vec::new() }; 2];
        for _ in 0..bench.plan.commits {
            let edits = bench.chance.edits(&bench.subject.plain, COMMITTED, SAVE);
            ours.commit(&edits)?;
            our.push(ours.push());
            theirs.commit(&edits)?;
            git.push(theirs.push());
        }
        times.push(our);
        gits.push(git);
    }
    bench.sheet.add_times(Who::Treehold, "git push of a commit of 10 files", &times);
    bench.sheet.add_times(Who::Peer, "git push to git http-backend", &gits);
    bench.sheet.add_ratio("git push / to git http-backend", &medians_ms(&times), &medians_ms(&gits)).at_most(1.0);
    Ok(())
}
