//! Import from a path and export to one, by the command line.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;
use treehold_tests::git::Repo;

use super::{PROJECT, Repositories};
use crate::plan::Plan;
use crate::report::Sheet;
use crate::setup::{Kind, Place, Setup};

/// Imports both repositories, each time into nothing. The last place with the main one goes on.
pub async fn imports(
    setup: &Setup,
    repositories: &Repositories,
    plan: &Plan,
    sheet: &mut Sheet,
) -> anyhow::Result<Place> {
    let mut peaks = Vec::new();
    let mut kept = None;
    for (repo, files) in [(&repositories.other, plan.other_files), (&repositories.main, plan.files)] {
        let [mut seconds, mut rates, mut peak, mut ratios] = [const { Vec::new() }; 4];
        for _ in 0..plan.transfers {
            let place = setup.place().await?;
            if setup.kind == Kind::PostgresS3 {
                // A shared database gets its schema from a server or from an operator, never by the way.
                place.run(["admin", "migrate", "--json"]).await?;
            }
            let git_s = clone_s(setup, repo)?;
            let path = repo.path().to_str().context("a UTF-8 path")?;
            let ran = place.run(["import", path, "--project", PROJECT, "--full", "--json"]).await?;
            ensure!(ran.answer["head"] == json!(repo.rev_parse("main")), "imported a wrong head: {}", ran.answer);
            ensure!(ran.answer["files"] == json!(files), "imported a wrong number of files: {}", ran.answer);
            let objects = ran.answer["objects"].as_u64().context("no number of objects")?;
            ensure!(objects == repo.reachable().len() as u64, "imported {objects} objects");
            let took_s = ran.took.as_secs_f64();
            seconds.push(took_s);
            rates.push(objects as f64 / took_s);
            peak.push(ran.peak_mib);
            ratios.push(took_s / git_s);
            kept = Some(place);
        }
        sheet.add(format!("import of {files} files with history"), "s", seconds);
        sheet.add(format!("import of {files} files, objects"), "1/s", rates);
        sheet.add(format!("import of {files} files / git clone --bare"), "x", ratios);
        peaks.push((files, pack_mib(repo)?, peak));
    }
    // Beside each other: what is bounded by configuration stays, whatever the repository's size.
    peaks.sort_by_key(|&(files, ..)| files);
    for (files, pack, peak) in peaks {
        sheet.add(format!("import of {files} files ({pack:.1} MiB packed), peak memory"), "MiB", peak);
    }
    kept.context("nothing was imported")
}

/// `git clone --bare` of a local repository through the pack protocol, as an import does it.
fn clone_s(setup: &Setup, repo: &Repo) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(&setup.work)?;
    let started = Instant::now();
    repo.bare_clone(directory.path().join("clone.git"));
    Ok(started.elapsed().as_secs_f64())
}

fn pack_mib(repo: &Repo) -> anyhow::Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(repo.path().join("objects/pack"))? {
        let entry = entry?;
        let is_pack = entry.path().extension().is_some_and(|extension| extension == "pack");
        bytes += if is_pack { entry.metadata()?.len() } else { 0 };
    }
    Ok(bytes as f64 / (1024.0 * 1024.0))
}

/// Exports the project, beside its running server. Its head must be `head`; stock git checks every object once.
pub async fn exports(
    setup: &Setup,
    place: &Place,
    repositories: &Repositories,
    head: &str,
    plan: &Plan,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let (mut seconds, mut ratios) = (Vec::new(), Vec::new());
    for number in 0..plan.transfers {
        let directory = tempfile::tempdir_in(&setup.work)?;
        let to = directory.path().join("export.git");
        let ran = place.run(["export", PROJECT, to.to_str().context("a UTF-8 path")?, "--json"]).await?;
        let export = Repo::open(&to);
        ensure!(export.rev_parse("main") == head, "the export has another head");
        ensure!(export.git().output(["merge-base", "--is-ancestor", &original(repositories), "main"]).status.success());
        if number == 0 {
            export.fsck_strict();
        }
        let git_s = clone_s(setup, &export)?;
        seconds.push(ran.took.as_secs_f64());
        ratios.push(ran.took.as_secs_f64() / git_s);
    }
    sheet.add("export of all objects", "s", seconds);
    sheet.add("export / git clone --bare of the result", "x", ratios);
    Ok(())
}

/// The head that was imported, before any commit here.
fn original(repositories: &Repositories) -> String {
    repositories.main.rev_parse("main")
}
