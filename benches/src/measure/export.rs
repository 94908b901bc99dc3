//! Export to a bare repository.

use anyhow::{Context as _, ensure};
use treehold_tests::git::Repo;

use super::{Bench, PROJECT};
use crate::peers::git;
use crate::plan::Scenario;
use crate::setup::Place;

/// Exports the project, beside its running server. Stock git checks every object once.
pub async fn all(bench: &mut Bench<'_>, place: &Place) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Export);
    let original = bench.subject.head();
    let (mut seconds, mut gits) = (Vec::new(), Vec::new());
    for number in 0..bench.plan.transfers {
        let directory = tempfile::tempdir_in(&bench.setup.work)?;
        let to = directory.path().join("export.git");
        let to = to.to_str().context("a UTF-8 path")?;
        let ran = place.run(["export", PROJECT, to, "--json"]).await?;
        let export = Repo::open(to);
        let descends = export.git().output(["merge-base", "--is-ancestor", original.as_str(), "main"]);
        ensure!(descends.status.success(), "the export does not have the imported commit");
        if number == 0 {
            let output = export.git().output(["fsck", "--full", "--no-dangling"]);
            ensure!(output.status.success(), "git fsck: {}", String::from_utf8_lossy(&output.stderr));
        }
        gits.push(git::clone(to, &bench.setup.work, &export.rev_parse("main"))?.as_secs_f64());
        seconds.push(ran.took.as_secs_f64());
    }
    bench.sheet.add("export of all objects", "s", seconds.clone());
    bench.sheet.add_peer("git clone --bare of the result", "s", gits.clone());
    bench.sheet.add_ratio("export / git clone --bare of the result", &seconds, &gits);
    Ok(())
}
