//! Collection and verification, beside what stock git does for the same: a walk through everything, and a check of every byte. And
//! how their memory grows with the ledger.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use super::{Bench, import, mib};
use crate::plan::Scenario;
use crate::setup::Place;

/// Memory may grow by this between the two ledgers, MiB: compressed bitmaps, not ids.
const GROWTH_MIB: f64 = 64.0;

/// Looks at the subject in a store of its own, then at the same store with a ledger full of garbage.
pub async fn all(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Upkeep);
    let place = import::once(bench).await?;
    let [mut marks, mut walks, mut peaks, mut checks, mut fscks, mut verify_peaks] = [const { Vec::new() }; 6];
    for _ in 0..bench.plan.transfers {
        walks.push(git(bench, &["rev-list", "--objects", "--all", "--count"]));
        let ran = place.run(["admin", "gc", "--json"]).await?;
        let objects = bench.subject.objects;
        ensure!(ran.answer["reachable"] == json!(objects), "another number is reachable: {}", ran.answer);
        ensure!(ran.answer["condemned"] == 0, "there is no garbage: {}", ran.answer);
        marks.push(ran.took.as_secs_f64());
        peaks.push(ran.peak_mib);
        fscks.push(git(bench, &["fsck", "--full", "--strict"]));
        let ran = place.run(["admin", "verify", "--full", "--restart", "--json"]).await?;
        ensure!(ran.answer["errors"] == 0 && ran.answer["warnings"] == 0, "damage: {}", ran.answer);
        checks.push(ran.took.as_secs_f64());
        verify_peaks.push(ran.peak_mib);
    }
    let sheet = &mut bench.sheet;
    sheet.add("admin gc, a look", "s", marks.clone());
    sheet.add_peer("git rev-list --objects --all", "s", walks.clone());
    sheet.add_ratio("admin gc / git rev-list --objects", &marks, &walks);
    sheet.add("admin gc, peak memory", "MiB", peaks.clone());
    sheet.add("admin verify --full", "s", checks.clone());
    sheet.add_peer("git fsck --full --strict", "s", fscks.clone());
    sheet.add_ratio("admin verify --full / git fsck --full --strict", &checks, &fscks);
    sheet.add("admin verify --full, peak memory", "MiB", verify_peaks.clone());

    let small = Peaks { look: peaks, verify: verify_peaks };
    with_garbage(bench, &place, &small).await
}

/// The most memory that each took, MiB.
struct Peaks {
    look: Vec<f64>,
    verify: Vec<f64>,
}

/// The same store with a ledger full of garbage: real blobs in real packs.
async fn with_garbage(bench: &mut Bench<'_>, place: &Place, small: &Peaks) -> anyhow::Result<()> {
    let rows = bench.plan.ledger;
    let rebuilt = place.add_garbage(rows).await?;
    let all = rows + u64::try_from(bench.subject.objects)?;
    ensure!(rebuilt.answer["objects"] == json!(all), "another number is in the ledger: {}", rebuilt.answer);
    let [mut looks, mut checks] = [const { Vec::new() }; 2];
    let mut full = Peaks { look: Vec::new(), verify: Vec::new() };
    for _ in 0..bench.plan.transfers {
        let ran = place.run(["admin", "gc", "--json"]).await?;
        ensure!(ran.answer["condemned"] == json!(rows), "another number is garbage: {}", ran.answer);
        looks.push(ran.took.as_secs_f64());
        full.look.push(ran.peak_mib);
        let ran = place.run(["admin", "verify", "--full", "--restart", "--json"]).await?;
        ensure!(ran.answer["errors"] == 0, "damage: {}", ran.answer["codes"]);
        ensure!(ran.answer["checked"]["objects"].as_u64() >= Some(all), "not all was read: {}", ran.answer["checked"]);
        checks.push(ran.took.as_secs_f64());
        full.verify.push(ran.peak_mib);
    }
    let database = place.database_bytes().await?;
    let sheet = &mut bench.sheet;
    sheet.add(format!("database with {rows} more rows in the ledger"), "MiB", vec![mib(database)]);
    sheet.add(format!("admin rebuild, {rows} blobs of garbage"), "s", vec![rebuilt.took.as_secs_f64()]);
    sheet.add("admin rebuild, peak memory with them", "MiB", vec![rebuilt.peak_mib]);
    sheet.add(format!("admin gc, a look, {rows} rows of garbage"), "s", looks);
    sheet.add(format!("admin verify --full, {rows} rows of garbage"), "s", checks);
    for (what, full, small) in
        [("admin gc", &full.look, &small.look), ("admin verify --full", &full.verify, &small.verify)]
    {
        let grown: Vec<f64> = full.iter().zip(small).map(|(full, small)| full - small).collect();
        sheet.add(format!("{what}, peak memory with them"), "MiB", full.clone());
        sheet.add(format!("{what}, memory that they take"), "MiB", grown).at_most(GROWTH_MIB);
    }
    Ok(())
}

fn git(bench: &Bench<'_>, arguments: &[&str]) -> f64 {
    let started = Instant::now();
    bench.subject.repo.git().run(arguments);
    let took: Duration = started.elapsed();
    took.as_secs_f64()
}
