//! A batch read by an instance that was just started and has cached nothing, beside the plain layout.

use anyhow::Context as _;

use super::read::{batch, check_all};
use super::{BATCH, Bench, PROJECT, batch_contents};
use crate::peers::plain::Plain;
use crate::plan::Scenario;
use crate::server::Server;
use crate::setup::Place;

/// Each run: a new process with an empty data directory reads one batch, and again; then the plain layout with new
/// connections does the same.
pub async fn all(bench: &mut Bench<'_>, place: &Place) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Cold);
    let (setup, subject) = (bench.setup, bench.subject);
    let cluster = setup.cluster.as_ref().context("cold reads need Postgres and S3")?;
    let mut plain = Plain::create(&cluster.postgres.schema_url().await, cluster.bucket()).await?;
    plain.fill(&subject.files).await?;
    let [mut cold, mut warm, mut plain_cold, mut plain_warm, mut gets, mut read] = [const { Vec::new() }; 6];
    for _ in 0..bench.plan.runs {
        let files = bench.chance.files(&subject.plain, BATCH);
        let instance = setup.instance(place)?;
        let server = Server::start(&instance).await?;
        let _before = cluster.proxy.take_counts();
        let first = batch(server.http(), PROJECT, &files).await?;
        let counts = cluster.proxy.take_counts();
        let second = batch(server.http(), PROJECT, &files).await?;
        let contents = batch_contents(&first.json()?, &files)?;
        batch_contents(&second.json()?, &files)?;
        server.stop().await?;
        gets.push(counts.of("GET") as f64);
        read.push(counts.bytes_down as f64 / 1024.0);
        plain.put(&contents).await?;
        plain.restart(cluster.bucket()).await?;
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        for times in [&mut plain_cold, &mut plain_warm] {
            let (contents, took) = plain.read(&paths).await?;
            check_all(&contents, &files)?;
            times.push(took.as_secs_f64() * 1000.0);
        }
        cold.push(first.took.as_secs_f64() * 1000.0);
        warm.push(second.took.as_secs_f64() * 1000.0);
    }
    let latency_ms = bench.plan.s3_latency.as_secs_f64() * 1000.0;
    let sheet = &mut bench.sheet;
    sheet.add("batch read of 100 files, cold", "ms", cold.clone());
    if latency_ms > 0.0 {
        let waits = cold.iter().map(|ms| ms / latency_ms).collect();
        sheet.add(format!("batch read, cold, in S3 round trips of {latency_ms:.0} ms"), "x", waits).at_most(3.0);
    }
    sheet.add("batch read, cold, GETs", "", gets).at_most(100.0);
    sheet.add("batch read, cold, read from S3", "KiB", read);
    sheet.add_peer("plain layout, cold", "ms", plain_cold.clone());
    sheet.add_ratio("plain layout / batch read, cold", &plain_cold, &cold).at_least(5.0);
    sheet.add("batch read of 100 files, again", "ms", warm.clone());
    sheet.add_peer("plain layout, again", "ms", plain_warm.clone());
    sheet.add_ratio("plain layout / batch read, again", &plain_warm, &warm).at_least(5.0);
    Ok(())
}
