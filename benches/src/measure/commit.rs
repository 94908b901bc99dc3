//! Commits that stay here, beside `git add` and `git commit` in a clone.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::autosave::{SAVE, save};
use super::{Bench, PROJECT, blob_oid};
use crate::peers::worktree::Worktree;
use crate::plan::Scenario;
use crate::report::{Who, medians_ms};
use crate::server::Http;

/// Files of a commit.
pub const COMMITTED: usize = 10;

/// The same edits are committed by both, in turn.
pub async fn all(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Commit);
    let (subject, setup) = (bench.subject, bench.setup);
    let directory = tempfile::tempdir_in(&setup.work)?;
    let origin = setup.served("origin");
    let worktree = Worktree::clone(origin.to_str().context("a UTF-8 path")?, &directory.path().join("clone"))?;
    let mut head = subject.head();
    let [mut ours, mut gits] = [const { Vec::new() }; 2];
    let (mut puts, mut all_calls) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.runs {
        let [mut our, mut git] = [const { Vec::new() }; 2];
        for _ in 0..bench.plan.commits {
            let edits = bench.chance.edits(&subject.plain, COMMITTED, SAVE);
            let user = autosave(http, PROJECT, &edits).await?;
            let _before = setup.cluster.as_ref().map(|cluster| cluster.proxy.take_counts());
            let (answer, took) = commit(http, PROJECT, user, &edits, false).await?;
            if let Some(cluster) = &setup.cluster {
                let counts = cluster.proxy.take_counts();
                puts.push(counts.of("PUT") as f64);
                all_calls.push(counts.all() as f64);
            }
            ensure!(answer["parents"] == json!([head]), "committed on a wrong parent: {answer}");
            head = answer["commit"].as_str().context("no commit")?.to_owned();
            our.push(took);
            git.push(worktree.commit(&edits)?.took);
        }
        ours.push(our);
        gits.push(git);
    }
    let sheet = &mut bench.sheet;
    sheet.add_times(Who::Treehold, "commit of 10 files", &ours);
    sheet.add_times(Who::Peer, "git add and git commit in a clone", &gits);
    sheet.add_ratio("git add and git commit / commit", &medians_ms(&gits), &medians_ms(&ours)).at_least(10.0);
    if !puts.is_empty() {
        sheet.add("commit of 10 files, PUTs to S3", "", puts);
        sheet.add("commit of 10 files, calls to S3", "", all_calls);
    }
    Ok(())
}

/// Saves the edits of a new user.
pub async fn autosave(http: &Http, project: &str, edits: &[(String, Vec<u8>)]) -> anyhow::Result<Uuid> {
    let user = Uuid::new_v4();
    for (path, content) in edits {
        let (answer, _) = save(http, project, user, path, content).await?;
        ensure!(answer["oid"] == json!(blob_oid(content)?), "{path} was saved under a wrong oid: {answer}");
    }
    Ok(user)
}

/// Commits what the user saved: the answer, and its time.
pub async fn commit(
    http: &Http,
    project: &str,
    user: Uuid,
    edits: &[(String, Vec<u8>)],
    push: bool,
) -> anyhow::Result<(Value, Duration)> {
    let author = json!({"name": "Ann Author", "email": "ann@example.org"});
    let body = json!({"user": user, "message": "Change ten files", "author": author, "push": push});
    let reply = http.send(http.json(Method::POST, &format!("/projects/{project}/commit"), &body)).await?;
    let answer = reply.json()?;
    let mut expected: Vec<(String, Value)> = edits
        .iter()
        .map(|(path, content)| Ok((path.clone(), json!(blob_oid(content)?))))
        .collect::<anyhow::Result<_>>()?;
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    let committed: Vec<(String, Value)> = answer["files"]
        .as_array()
        .context("no files in the answer")?
        .iter()
        .map(|file| (file["path"].as_str().unwrap_or_default().to_owned(), file["oid"].clone()))
        .collect();
    ensure!(committed == expected, "committed other files than were saved: {answer}");
    ensure!(answer["pushed"] == json!(push), "pushed or not against the request: {answer}");
    Ok((answer, reply.took))
}
