//! The same commit in a large and in a small repository: its cost follows the change, not the repository.

use anyhow::{Context as _, ensure};
use serde_json::json;
use treehold_tests::git::Repo;

use super::autosave::SAVE;
use super::commit::{COMMITTED, autosave, commit};
use super::{Bench, PROJECT};
use crate::peers::git::{self, File};
use crate::plan::Scenario;
use crate::report::{Who, medians_ms};
use crate::server::Server;
use crate::setup::Place;

/// One of the two repositories, in a store of its own, behind a server of its own.
struct Side {
    files: Vec<File>,
    head: String,
    server: Server,
    /// What the server stands on; goes with it.
    _place: Place,
    runs: Vec<Vec<std::time::Duration>>,
}

/// Commits in turn, one here, one there.
pub async fn all(bench: &mut Bench<'_>, repositories: &[Repo; 2]) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Scale);
    let mut sides = [start(bench, &repositories[0]).await?, start(bench, &repositories[1]).await?];
    for _ in 0..bench.plan.runs {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..bench.plan.commits {
            for (side, times) in sides.iter_mut().zip(&mut times) {
                let edits = bench.chance.edits(&side.files, COMMITTED, SAVE);
                let user = autosave(side.server.http(), PROJECT, &edits).await?;
                let (answer, took) = commit(side.server.http(), PROJECT, user, &edits, false).await?;
                ensure!(answer["parents"] == json!([side.head]), "committed on a wrong parent: {answer}");
                side.head = answer["commit"].as_str().context("no commit")?.to_owned();
                times.push(took);
            }
        }
        for (side, times) in sides.iter_mut().zip(times) {
            side.runs.push(times);
        }
    }
    for side in &sides {
        let name = format!("commit of 10 files of {}", side.files.len());
        bench.sheet.add_times(Who::Treehold, &name, &side.runs);
    }
    let [few, many] = &sides;
    let name = format!("commit in {} files / in {} files", many.files.len(), few.files.len());
    bench.sheet.add_ratio(&name, &medians_ms(&many.runs), &medians_ms(&few.runs)).at_most(1.5);
    for side in sides {
        side.server.stop().await?;
    }
    Ok(())
}

async fn start(bench: &Bench<'_>, repo: &Repo) -> anyhow::Result<Side> {
    let place = bench.setup.place().await?;
    let path = repo.path().to_str().context("a UTF-8 path")?;
    let ran = place.run(["import", path, "--project", PROJECT, "--json"]).await?;
    let head = repo.rev_parse("main");
    ensure!(ran.answer["head"] == json!(head), "imported a wrong head: {}", ran.answer);
    let (files, _) = git::list(repo)?;
    let server = Server::start(&place).await?;
    Ok(Side { files, head, server, _place: place, runs: Vec::new() })
}
