//! One project's answers, alone and beside another project that floods the server.
//!
//! The flood's callers stand for other machines. Here they share the cores with the server and with the caller that is measured, so they
//! run on a thread of their own at the lowest priority: what they do to the quiet caller, they do through the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::{Method, RequestBuilder};
use rustix::process::setpriority_process;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::autosave::SAVE;
use super::read::batch;
use super::{BATCH, Bench, PROJECT, blob_oid};
use crate::peers::git::File;
use crate::plan::Scenario;
use crate::report::{Who, percentile_ms};
use crate::server::{Http, Reply, Server, escaped};
use crate::setup::Place;

const LOUD: &str = "loud";
/// The flood ends by itself after this, whatever happens.
const FLOOD_MAX: Duration = Duration::from_secs(300);
/// Who is refused asks again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// Nice values go from -20 to this.
const LOWEST_PRIORITY: i32 = 19;

/// Imports the project that floods. No server is running.
pub async fn prepare(bench: &Bench<'_>, place: &Place) -> anyhow::Result<()> {
    let ran = place.run(["import", bench.subject.path()?, "--project", LOUD, "--json"]).await?;
    ensure!(ran.answer["head"] == json!(bench.subject.head()), "imported a wrong head: {}", ran.answer);
    Ok(())
}

/// Each run: the quiet project alone, then beside the flood.
pub async fn all(bench: &mut Bench<'_>, server: &Server) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Neighbour);
    let (http, mut peaks) = (server.http(), Vec::new());
    let [_, connections] = bench.plan.neighbour;
    let ([mut alone, mut beside], mut served) = ([const { Vec::new() }; 2], Vec::new());
    let mut statuses = Counts::new();
    let mut refused = 0;
    for _ in 0..bench.plan.runs {
        alone.push(quiet(bench, http, &mut refused).await?);
        server.forget_peak()?;
        let files: Vec<Vec<File>> = (0..connections)
            .map(|_| bench.chance.files(&bench.subject.plain, BATCH).into_iter().cloned().collect())
            .collect();
        let flood = Flood::start(http, files)?;
        let started = Instant::now();
        let times = quiet(bench, http, &mut refused).await;
        let counts = flood.stop().await?;
        let lasted = started.elapsed().as_secs_f64();
        served.push(counts.get(&200).copied().unwrap_or(0) as f64 / lasted);
        for (status, count) in counts {
            *statuses.entry(status).or_default() += count;
        }
        beside.push(times?);
        peaks.push(server.memory_mib("VmHWM")?);
    }
    let late = |runs: &[Vec<Duration>]| -> Vec<f64> { runs.iter().map(|times| percentile_ms(times, 99)).collect() };
    // They take turns.
    let every_other = |runs: &[Vec<Duration>], first: usize| -> Vec<Vec<Duration>> {
        runs.iter().map(|times| times.iter().skip(first).step_by(2).copied().collect()).collect()
    };
    let sheet = &mut bench.sheet;
    sheet.add_times(Who::Treehold, "reads and autosaves, alone", &alone);
    sheet.add_times(Who::Treehold, &format!("the same beside {connections} connections that flood"), &beside);
    sheet.add_times(Who::Treehold, "of these the reads", &every_other(&beside, 0));
    sheet.add_times(Who::Treehold, "of these the autosaves", &every_other(&beside, 1));
    sheet.add_ratio("p99 beside the flood / alone", &late(&beside), &late(&alone)).at_most(2.0);
    sheet.add("the flood's batch reads, answered", "1/s", served);
    sheet.add("peak memory of the server under the flood", "MiB", peaks);
    for status in [429, 503] {
        let count = statuses.remove(&status).unwrap_or(0) as f64;
        sheet.add(format!("the flood's batch reads, refused with {status}, all runs"), "", vec![count]);
    }
    sheet.add("the quiet project's requests, refused, all runs", "", vec![refused as f64]).at_most(0.0);
    statuses.remove(&200);
    ensure!(statuses.is_empty(), "the flood was answered with {statuses:?}");
    Ok(())
}

/// One connection reads a file and saves one, in turn. Every answer must be right, flood or not; a refusal is counted, and
/// asked again until it is answered, which all counts as the time of one.
async fn quiet(bench: &mut Bench<'_>, http: &Http, refused: &mut u64) -> anyhow::Result<Vec<Duration>> {
    let (subject, user) = (bench.subject, Uuid::new_v4());
    let mut times = Vec::new();
    for number in 0..bench.plan.neighbour[0] {
        let file = bench.chance.files(&subject.plain, 1).pop().context("no file")?;
        let path = escaped(&file.path);
        if number % 2 == 0 {
            let request = || http.request(Method::GET, &format!("/files/{PROJECT}/{path}"));
            let (reply, took) = answered(http, request, refused).await?;
            // Commits of another scenario may have changed it.
            let known = blob_oid(&reply.body)? == file.oid || bench.plan.has(Scenario::Commit);
            ensure!(known, "{} was read with wrong bytes", file.path);
            times.push(took);
        } else {
            let content = bench.chance.content(SAVE);
            let url = format!("/pending/{PROJECT}/{user}/{path}");
            let request = || http.request(Method::PUT, &url).body(content.clone());
            let (reply, took) = answered(http, request, refused).await?;
            ensure!(reply.json()?["oid"] == json!(blob_oid(&content)?), "{} was saved under a wrong oid", file.path);
            times.push(took);
        }
    }
    Ok(times)
}

/// The answer, and the time until it came.
async fn answered(
    http: &Http,
    request: impl Fn() -> RequestBuilder,
    refused: &mut u64,
) -> anyhow::Result<(Reply, Duration)> {
    let started = Instant::now();
    loop {
        let reply = http.send(request()).await?;
        if ![429, 503].contains(&reply.status) || started.elapsed() > FLOOD_MAX {
            reply.ok()?;
            return Ok((reply, started.elapsed()));
        }
        *refused += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

/// How often the flood was answered with which status.
type Counts = BTreeMap<u16, u64>;

/// Connections that read without a pause, on a thread of their own.
struct Flood {
    stop: Arc<AtomicBool>,
    counts: oneshot::Receiver<anyhow::Result<Counts>>,
}

impl Flood {
    /// One connection for each batch.
    fn start(http: &Http, batches: Vec<Vec<File>>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, counts) = oneshot::channel();
        let (stopped, http) = (Arc::clone(&stop), http.on_its_own()?);
        let work = move || {
            // On Linux this is the thread's, not the process's.
            setpriority_process(None, LOWEST_PRIORITY).context("lower the flood's priority")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut flood = JoinSet::new();
            for files in batches {
                flood.spawn_on(loud(http.clone(), files, Arc::clone(&stopped)), runtime.handle());
            }
            let mut all = Counts::new();
            for counts in runtime.block_on(flood.join_all()) {
                for (status, count) in counts? {
                    *all.entry(status).or_default() += count;
                }
            }
            Ok(all)
        };
        std::thread::Builder::new().name("flood".to_owned()).spawn(move || _ = told.send(work()))?;
        Ok(Self { stop, counts })
    }

    /// Waits for the last answers.
    async fn stop(mut self) -> anyhow::Result<Counts> {
        self.stop.store(true, Relaxed);
        (&mut self.counts).await.context("the flood broke off")?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Reads the same batch again and again.
async fn loud(http: Http, files: Vec<File>, stop: Arc<AtomicBool>) -> anyhow::Result<Counts> {
    let files: Vec<&File> = files.iter().collect();
    let mut counts = Counts::new();
    let started = Instant::now();
    while !stop.load(Relaxed) && started.elapsed() < FLOOD_MAX {
        let reply = batch(&http, LOUD, &files).await?;
        *counts.entry(reply.status).or_default() += 1;
        if reply.status != 200 {
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(counts)
}
