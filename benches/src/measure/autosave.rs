//! Autosaves beside raw upserts of the same bytes.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Bench, PROJECT};
use crate::peers::upserts::{Upserts, Writes};
use crate::plan::Scenario;
use crate::report::{Who, percentile_ms};
use crate::server::{Http, escaped};

/// Size of an autosaved file, bytes.
pub const SAVE: usize = 4_096;
/// Files that one user edits in turn.
const EDITED: usize = 10;
/// On Postgres, at one number of connections, the rate and the latest answers have goals.
const GOALS_AT: usize = 16;

/// Each connection is another user. Each run is followed by raw upserts of as many bytes from as many connections.
pub async fn all(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Autosave);
    let directory = tempfile::tempdir_in(&bench.setup.work)?;
    let (peer, name) = match &bench.setup.cluster {
        Some(cluster) => (Upserts::postgres(&cluster.postgres.schema_url().await).await?, "raw Postgres upserts"),
        None => (Upserts::sqlite(&directory.path().join("upserts.db")).await?, "raw SQLite upserts"),
    };
    let mut rows = 0;
    let is_shared = bench.setup.cluster.is_some();
    for (connections, saves) in bench.plan.saves {
        let [mut ours, mut raws] = [const { Vec::new() }; 2];
        let [mut rates, mut raw_rates] = [const { Vec::new() }; 2];
        for _ in 0..bench.plan.runs {
            let (times, all) = run(bench, http, connections, saves).await?;
            rates.push((connections * saves) as f64 / all.as_secs_f64());
            ours.push(times);
            let writes: Vec<Writes> = (0..connections).map(|_| writes(bench, saves)).collect();
            let (times, all) = peer.run(writes).await?;
            rows += connections * saves.min(EDITED);
            ensure!(peer.count().await? == rows, "{} rows of {rows} were upserted", peer.count().await?);
            raw_rates.push((connections * saves) as f64 / all.as_secs_f64());
            raws.push(times);
        }
        let on = if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
        let sheet = &mut bench.sheet;
        let late = sheet.add_times(Who::Treehold, &format!("autosave of 4 KB, {on}"), &ours);
        let has_goals = is_shared && connections == GOALS_AT;
        if has_goals {
            late.at_most(50.0);
        }
        let middle: Vec<f64> = raws.iter().map(|times| percentile_ms(times, 50)).collect();
        let late: Vec<f64> = raws.iter().map(|times| percentile_ms(times, 99)).collect();
        sheet.add_peer(format!("{name}, {on}, p50"), "ms", middle);
        sheet.add_peer(format!("{name}, {on}, p99"), "ms", late);
        let row = sheet.add(format!("autosaves, {on}"), "1/s", rates.clone());
        if has_goals {
            row.at_least(2_000.0);
        }
        sheet.add_peer(format!("{name}, {on}"), "1/s", raw_rates.clone());
        let ratio = sheet.add_ratio(&format!("autosaves / {name}, {on}"), &rates, &raw_rates);
        if is_shared {
            ratio.at_least(0.9);
        }
    }
    Ok(())
}

fn writes(bench: &mut Bench<'_>, saves: usize) -> Writes {
    let subject = bench.subject;
    let edited: Vec<String> =
        bench.chance.files(&subject.plain, EDITED).into_iter().map(|file| file.path.clone()).collect();
    let saves = edited.iter().cycle().take(saves).map(|path| (path.clone(), bench.chance.content(SAVE))).collect();
    Writes { user: Uuid::new_v4(), saves }
}

/// The time of each save, and of all together.
async fn run(
    bench: &mut Bench<'_>,
    http: &Http,
    connections: usize,
    saves: usize,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let mut users = JoinSet::new();
    let work: Vec<Writes> = (0..connections).map(|_| writes(bench, saves)).collect();
    // Connections are made before.
    futures::future::try_join_all((0..connections).map(|_| http.send(http.request(Method::GET, "/healthz")))).await?;
    let started = Instant::now();
    for work in work {
        users.spawn(save_all(http.clone(), work));
    }
    let done: Vec<(Writes, Vec<Duration>)> = users.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    let all = started.elapsed();
    for (work, _) in &done {
        check(http, work).await?;
    }
    Ok((done.into_iter().flat_map(|(_, times)| times).collect(), all))
}

async fn save_all(http: Http, work: Writes) -> anyhow::Result<(Writes, Vec<Duration>)> {
    let mut times = Vec::with_capacity(work.saves.len());
    for (path, content) in &work.saves {
        times.push(save(&http, PROJECT, work.user, path, content).await?.1);
    }
    Ok((work, times))
}

/// The last content of each path is what is pending now.
async fn check(http: &Http, work: &Writes) -> anyhow::Result<()> {
    let reply = http.send(http.request(Method::GET, &format!("/pending/{PROJECT}/{}", work.user))).await?;
    let list = reply.json()?;
    ensure!(list["revision"] == json!(work.saves.len()), "{} saves, but {list}", work.saves.len());
    for (path, content) in work.saves.iter().rev().take(EDITED.min(work.saves.len())) {
        let url = format!("/pending/{PROJECT}/{}/{}", work.user, escaped(path));
        let reply = http.send(http.request(Method::GET, &url)).await?;
        reply.ok()?;
        ensure!(reply.body == *content, "{path} is pending with wrong bytes");
    }
    Ok(())
}

/// One autosave: its answer, and the time it took.
pub async fn save(
    http: &Http,
    project: &str,
    user: Uuid,
    path: &str,
    content: &[u8],
) -> anyhow::Result<(Value, Duration)> {
    let url = format!("/pending/{project}/{user}/{}", escaped(path));
    let reply = http.send(http.request(Method::PUT, &url).body(content.to_vec())).await?;
    Ok((reply.json()?, reply.took))
}
