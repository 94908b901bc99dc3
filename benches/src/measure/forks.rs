//! Many forks in one store: bytes at rest before and after `repack`.

use anyhow::{Context as _, ensure};
use serde_json::json;
use treehold_tests::git::Repo;

use super::{Bench, mib};
use crate::peers::git;
use crate::plan::Scenario;
use crate::setup::{Place, Unknown};

/// Imports `main`, then every fork as a project of its own. "The changes" are the deflated bytes of the objects that a
/// fork has and `main` has not, in a pack of stock git without deltas.
pub async fn all(bench: &mut Bench<'_>, repository: &Repo) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Forks);
    let forks = bench.plan.forks[0];
    let place = bench.setup.place().await?;
    import(&place, repository, "main").await?;
    let one = place.stored_bytes()?;
    let mut changes = 0;
    for number in 0..forks {
        let branch = format!("fork-{number}");
        import(&place, repository, &branch).await?;
        changes += git::bytes_beyond_main(repository, &branch)?;
    }
    let goal = (one + changes) as f64;
    let before = place.stored_bytes()?;
    let sheet = &mut bench.sheet;
    sheet.add("bytes at rest, one project", "MiB", vec![mib(one)]);
    sheet.add_peer(format!("one and the changes of {forks} forks, deflated by git"), "MiB", vec![mib(one + changes)]);
    sheet.add(format!("bytes at rest, {forks} forks"), "MiB", vec![mib(before)]);
    sheet.add_ratio(&format!("{forks} forks / one and the changes"), &[before as f64], &[goal]);
    let name = format!("{forks} forks after repack / one and the changes");
    match place.try_run(["admin", "repack", "--grace", "0s", "--json"]).await? {
        Err(Unknown) => sheet.miss(&name, "no repack"),
        Ok(ran) => {
            sheet.add("admin repack", "s", vec![ran.took.as_secs_f64()]);
            sheet.add("admin repack, peak memory", "MiB", vec![ran.peak_mib]);
            let after = place.stored_bytes()?;
            sheet.add(format!("bytes at rest, {forks} forks, after repack"), "MiB", vec![mib(after)]);
            sheet.add_ratio(&name, &[after as f64], &[goal]).at_most(1.1);
        }
    }
    exported(bench, &place, repository, forks - 1).await
}

async fn import(place: &Place, repository: &Repo, branch: &str) -> anyhow::Result<()> {
    let path = repository.path().to_str().context("a UTF-8 path")?;
    let ran = place.run(["import", path, "--project", branch, "--branch", branch, "--full", "--json"]).await?;
    ensure!(ran.answer["head"] == json!(repository.rev_parse(branch)), "imported a wrong head: {}", ran.answer);
    Ok(())
}

/// After all of it, a fork still has every object.
async fn exported(bench: &Bench<'_>, place: &Place, repository: &Repo, number: usize) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&bench.setup.work)?;
    let to = directory.path().join("export.git");
    let branch = format!("fork-{number}");
    place.run(["export", branch.as_str(), to.to_str().context("a UTF-8 path")?, "--json"]).await?;
    let export = Repo::open(&to);
    ensure!(export.rev_parse("HEAD") == repository.rev_parse(&branch), "the export has another head");
    export.fsck_strict();
    Ok(())
}
