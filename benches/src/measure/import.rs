//! Import of the full history over HTTP and by path, beside `git clone --bare` from the same server.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Bench, PROJECT, mib};
use crate::peers::git;
use crate::plan::Scenario;
use crate::setup::{Place, Ran};
use crate::subjects::Subject;

/// Above this a value goes to the bucket in parts.
const PART_MIB: f64 = 64.0;
/// Packs that an import may end with (history and head), each with its index, that are not full.
const TAILS: f64 = 4.0;

/// Imports, each time into nothing. The last place goes on.
pub async fn all(bench: &mut Bench<'_>) -> anyhow::Result<Place> {
    bench.sheet.begin(Scenario::Import);
    let url = bench.setup.git.url("origin");
    over_http(bench, &url).await?;
    let kept = by_path(bench).await?;
    at_rest(bench, &kept).await?;
    Ok(kept)
}

/// One import that is not measured.
pub async fn once(bench: &Bench<'_>) -> anyhow::Result<Place> {
    let place = bench.setup.place().await?;
    import(&place, bench.subject.path()?, bench.subject).await?;
    Ok(place)
}

async fn import(place: &Place, source: &str, subject: &Subject) -> anyhow::Result<Ran> {
    let ran = place.run(["import", source, "--project", PROJECT, "--full", "--json"]).await?;
    ensure!(ran.answer["head"] == json!(subject.head()), "imported a wrong head: {}", ran.answer);
    ensure!(ran.answer["objects"] == json!(subject.objects), "imported other objects: {}", ran.answer);
    Ok(ran)
}

async fn over_http(bench: &mut Bench<'_>, url: &str) -> anyhow::Result<()> {
    let (setup, subject) = (bench.setup, bench.subject);
    let [mut seconds, mut peaks, mut gits, mut puts, mut sent] = [const { Vec::new() }; 5];
    for _ in 0..bench.plan.transfers {
        let place = setup.place().await?;
        gits.push(git::clone(&setup.git.url_with_credentials("origin"), &setup.work, &subject.head())?.as_secs_f64());
        let _before = setup.cluster.as_ref().map(|cluster| cluster.proxy.take_counts());
        let ran = import(&place, url, subject).await?;
        if let Some(cluster) = &setup.cluster {
            let counts = cluster.proxy.take_counts();
            puts.push(counts.of("PUT") as f64);
            sent.push(mib(counts.bytes_up));
        }
        seconds.push(ran.took.as_secs_f64());
        peaks.push(ran.peak_mib);
    }
    bench.sheet.add("import over HTTP", "s", seconds.clone());
    bench.sheet.add_peer("git clone --bare from the same server", "s", gits.clone());
    bench.sheet.add_ratio("import over HTTP / git clone --bare", &seconds, &gits).at_most(1.2);
    bench.sheet.add("import over HTTP, peak memory", "MiB", peaks).at_most(256.0);
    if !puts.is_empty() {
        let allowed = (sent.iter().copied().fold(0.0, f64::max) / PART_MIB).floor() + TAILS;
        bench.sheet.add("import over HTTP, sent to S3", "MiB", sent);
        bench.sheet.add("import over HTTP, PUTs (goal: 1 per 64 MiB, 4 that are not full)", "", puts).at_most(allowed);
    }
    Ok(())
}

async fn by_path(bench: &mut Bench<'_>) -> anyhow::Result<Place> {
    let (setup, subject) = (bench.setup, bench.subject);
    let [mut seconds, mut rates, mut peaks, mut gits] = [const { Vec::new() }; 4];
    let mut kept = None;
    for _ in 0..bench.plan.transfers {
        let place = setup.place().await?;
        gits.push(git::clone(subject.path()?, &setup.work, &subject.head())?.as_secs_f64());
        let ran = import(&place, subject.path()?, subject).await?;
        seconds.push(ran.took.as_secs_f64());
        rates.push(subject.objects as f64 / ran.took.as_secs_f64());
        peaks.push(ran.peak_mib);
        kept = Some(place);
    }
    bench.sheet.add("import by path", "s", seconds.clone());
    bench.sheet.add_peer("git clone --bare --no-local", "s", gits.clone());
    bench.sheet.add_ratio("import by path / git clone --bare --no-local", &seconds, &gits);
    bench.sheet.add("import by path, objects", "1/s", rates);
    bench.sheet.add("import by path, peak memory", "MiB", peaks).at_most(256.0);
    kept.context("nothing was imported")
}

async fn at_rest(bench: &mut Bench<'_>, place: &Place) -> anyhow::Result<()> {
    let pack = git::gc_pack_bytes(&bench.subject.repo, Path::new(&bench.setup.work))?;
    let (stored, database) = (place.stored_bytes()?, place.database_bytes().await?);
    ensure!(stored > 0, "nothing is stored");
    bench.sheet.add("bytes at rest, full history, in the store", "MiB", vec![mib(stored)]);
    bench.sheet.add("bytes at rest, full history, in the database", "MiB", vec![mib(database)]);
    bench.sheet.add_peer("the pack that git gc makes", "MiB", vec![mib(pack)]);
    bench.sheet.add_ratio("bytes in the store / git gc's pack", &[stored as f64], &[pack as f64]).at_most(1.25);
    Ok(())
}
