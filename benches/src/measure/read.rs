//! Warm reads over HTTP beside stock git, the plain layout, and content in Postgres.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

use super::{BATCH, Bench, PROJECT, batch_contents, blob_oid};
use crate::peers::git::{self, CatFile, File};
use crate::peers::plain::Plain;
use crate::peers::rows::Rows;
use crate::plan::Scenario;
use crate::report::{Who, medians_ms};
use crate::server::{Http, Reply, escaped};

/// Times, run by run.
type Runs = Vec<Vec<Duration>>;

/// Sends one batch read.
pub async fn batch(http: &Http, project: &str, files: &[&File]) -> anyhow::Result<Reply> {
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    http.send(http.json(Method::POST, &format!("/projects/{project}/read"), &json!({"paths": paths}))).await
}

/// The peers of a batch read.
struct Peers {
    kept: CatFile,
    plain: Option<Plain>,
    rows: Option<Rows>,
}

impl Peers {
    async fn start(bench: &Bench<'_>, contents: &HashMap<String, Vec<u8>>) -> anyhow::Result<Self> {
        let mut peers = Self { kept: CatFile::start(&bench.subject.repo)?, plain: None, rows: None };
        if let Some(cluster) = &bench.setup.cluster {
            let url = cluster.postgres.schema_url().await;
            let mut plain = Plain::create(&url, cluster.bucket()).await?;
            plain.fill(&bench.subject.files).await?;
            plain.put(contents).await?;
            peers.plain = Some(plain);
            peers.rows = Some(Rows::create(&url, contents).await?);
        }
        Ok(peers)
    }
}

#[derive(Default)]
struct Times {
    ours: Runs,
    process: Runs,
    kept: Runs,
    plain: Runs,
    rows: Runs,
    gets: Vec<f64>,
}

/// The same random batches again and again: caches know them, as the page cache knows git's pack.
pub async fn batches(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Read);
    let subject = bench.subject;
    let pool: Vec<Vec<&File>> = (0..bench.plan.batches).map(|_| bench.chance.files(&subject.plain, BATCH)).collect();
    let mut contents = HashMap::new();
    for files in &pool {
        contents.extend(batch_contents(&batch(http, PROJECT, files).await?.json()?, files)?);
    }
    let mut peers = Peers::start(bench, &contents).await?;
    let mut times = Times::default();
    for _ in 0..bench.plan.runs {
        run(bench, http, &pool, &mut peers, &mut times).await?;
    }
    let sheet = &mut bench.sheet;
    let (our, process, kept) = (medians_ms(&times.ours), medians_ms(&times.process), medians_ms(&times.kept));
    sheet.add_times(Who::Treehold, "batch read of 100 files", &times.ours);
    sheet.add_times(Who::Peer, "git cat-file --batch, a process each", &times.process);
    sheet.add_times(Who::Peer, "git cat-file, kept running", &times.kept);
    sheet.add_ratio("batch read / git cat-file --batch, a process each", &our, &process).at_most(1.0);
    sheet.add_ratio("batch read / git cat-file, kept running", &our, &kept);
    if !times.plain.is_empty() {
        sheet.add("batch read, GETs to S3", "", times.gets);
        sheet.add_times(Who::Peer, "plain layout, 100 GETs at once", &times.plain);
        sheet.add_ratio("plain layout / batch read, warm", &medians_ms(&times.plain), &our).at_least(5.0);
        sheet.add_times(Who::Peer, "content in Postgres, one query", &times.rows);
        sheet.add_ratio("batch read / content in Postgres", &our, &medians_ms(&times.rows));
    }
    Ok(())
}

async fn run(
    bench: &Bench<'_>,
    http: &Http,
    pool: &[Vec<&File>],
    peers: &mut Peers,
    times: &mut Times,
) -> anyhow::Result<()> {
    let [mut ours, mut process, mut kept, mut plains, mut rows] = [const { Vec::new() }; 5];
    for files in pool {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let _before = bench.setup.cluster.as_ref().map(|cluster| cluster.proxy.take_counts());
        let reply = batch(http, PROJECT, files).await?;
        if let Some(cluster) = &bench.setup.cluster {
            times.gets.push(cluster.proxy.take_counts().of("GET") as f64);
        }
        ours.push(reply.took);
        batch_contents(&reply.json()?, files)?;
        process.push(git::read_batch(&bench.subject.repo, files)?);
        kept.push(peers.kept.read(files)?);
        if let Some(plain) = &mut peers.plain {
            let (contents, took) = plain.read(&paths).await?;
            check_all(&contents, files)?;
            plains.push(took);
        }
        if let Some(table) = &mut peers.rows {
            let (read, took) = table.read(&paths).await?;
            let by_path: HashMap<&str, &Vec<u8>> =
                read.iter().map(|(path, content)| (path.as_str(), content)).collect();
            ensure!(
                files.iter().all(|file| by_path
                    .get(file.path.as_str())
                    .is_some_and(|content| blob_oid(content).is_ok_and(|oid| oid == file.oid))),
                "Postgres read wrong bytes"
            );
            rows.push(took);
        }
    }
    times.ours.push(ours);
    times.process.push(process);
    times.kept.push(kept);
    if !plains.is_empty() {
        times.plain.push(plains);
        times.rows.push(rows);
    }
    Ok(())
}

/// Fails unless `contents` are those of `files`, in order.
pub fn check_all(contents: &[Vec<u8>], files: &[&File]) -> anyhow::Result<()> {
    ensure!(contents.len() == files.len(), "{} of {} files were read", contents.len(), files.len());
    for (content, file) in contents.iter().zip(files) {
        ensure!(blob_oid(content)? == file.oid, "{} was read with wrong bytes", file.path);
    }
    Ok(())
}

/// Reads of one random file, one after the other, on one connection.
pub async fn singles(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    let subject = bench.subject;
    let [mut ours, mut gits]: [Runs; 2] = Default::default();
    for _ in 0..bench.plan.runs {
        let [mut our, mut git] = [const { Vec::new() }; 2];
        for file in bench.chance.files(&subject.plain, bench.plan.singles) {
            let path = format!("/files/{PROJECT}/{}", escaped(&file.path));
            let reply = http.send(http.request(Method::GET, &path)).await?;
            our.push(reply.took);
            reply.ok()?;
            ensure!(blob_oid(&reply.body)? == file.oid, "{} was read with wrong bytes", file.path);
            git.push(git::read_one(&subject.repo, file)?);
        }
        ours.push(our);
        gits.push(git);
    }
    bench.sheet.add_times(Who::Treehold, "read of one file", &ours);
    bench.sheet.add_times(Who::Peer, "git cat-file blob, a process each", &gits);
    bench.sheet.add_ratio("read of one file / git cat-file blob", &medians_ms(&ours), &medians_ms(&gits));
    Ok(())
}
