//! `commit`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{self, CommitAnswer, CommitRequest, Oid};

use super::{Call, Shown, conflicts, show, status};
use crate::host::{Host, Refusal, Work};
use crate::shown;

/// Files that are told of one commit.
const FILES_MAX: usize = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// First a line that says what changes, then a blank line and why.
    message: String,
    /// Who made it; left out: as this connection was set up.
    author: Option<Author>,
    /// Only these pending paths. Left out: all that is pending.
    paths: Option<Vec<String>>,
    /// Push to the remote. Left out: if the project has one.
    push: Option<bool>,
    /// Where the branch moved meanwhile: "merge" (default) per file and refuse what does not merge, "fail", or "branch": what does not
    /// merge goes to a branch of its own.
    #[serde(default)]
    on_conflict: OnConflict,
    /// Compute the commit and answer, but change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Add trailers that say which agents, sessions and devices made the edits.
    #[serde(default)]
    trailers: bool,
    /// The branch's head must be this commit.
    expected_head: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Author {
    name: String,
    email: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnConflict {
    #[default]
    Merge,
    Fail,
    Branch,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    commit: String,
    parents: Vec<String>,
    /// Where it went.
    branch: String,
    /// Whether the remote has it.
    pushed: bool,
    /// Nothing was changed: this is what the commit would be.
    dry_run: bool,
    files_total: usize,
    /// The first 200.
    files: Vec<File>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct File {
    path: String,
    action: &'static str,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let binding = call.binding;
    let head = args.expected_head.map(|oid| oid.parse::<Oid>().map_err(|why| Refusal::new("bad_oid", why)));
    let named = args.author.map(|Author { name, email }| api::Author { name, email, date: None });
    let request = CommitRequest {
        user: binding.user,
        message: args.message,
        author: named.or_else(|| binding.author.clone()).unwrap_or_else(|| call.host.engine().default_author()),
        branch: binding.branch.clone(),
        paths: args.paths,
        expected_head_sha: head.transpose()?,
        on_conflict: match args.on_conflict {
            OnConflict::Merge => api::OnConflict::Merge,
            OnConflict::Fail => api::OnConflict::Fail,
            OnConflict::Branch => api::OnConflict::Branch,
        },
        push: args.push,
        dry_run: args.dry_run,
        trailers: args.trailers,
        sign: None,
    };
    let (project, credentials, dry_run) = (binding.project.clone(), binding.credentials.clone(), args.dry_run);
    let done = call
        .host
        .run(Work::Remote, move |engine| async move { engine.commit(&project, &request, credentials, None).await });
    match done.await {
        Ok(answer) => Ok(told(&answer, dry_run)),
        Err(mut refusal) => {
            if refusal.code == "diverged" {
                refusal.detail = "the branch has commits that the remote lacks, and the remote moved: `sync` with on_diverged \"merge\", then commit again".to_owned();
            }
            if refusal.code == "conflict" {
                let sides = conflicts::told(call).await;
                refusal.detail.push_str(". Look at `conflicts`, settle them with `resolve`, and commit again.\n");
                refusal.detail.push_str(&sides);
            }
            Err(refusal)
        }
    }
}

fn told(answer: &CommitAnswer, dry_run: bool) -> Shown {
    let files = answer
        .files
        .iter()
        .take(FILES_MAX)
        .map(|file| File { path: shown::path_bytes(&file.path.0).0, action: status::action(file.action) });
    let answer = Answer {
        commit: answer.commit.to_string(),
        parents: answer.parents.iter().map(ToString::to_string).collect(),
        branch: answer.branch.clone(),
        pushed: answer.pushed,
        dry_run,
        files_total: answer.files.len(),
        files: files.collect(),
    };
    show(text(&answer), &answer)
}

fn text(answer: &Answer) -> String {
    let (commit, branch) = (&answer.commit, &answer.branch);
    let mut text = match (answer.dry_run, answer.pushed) {
        (true, _) => format!("Nothing was changed. The commit would be {commit} on {branch}"),
        (false, true) => format!("Committed {commit} on {branch}, and pushed it"),
        (false, false) => format!("Committed {commit} on {branch}, not pushed"),
    };
    text.push_str(&format!(" ({} files)\n", answer.files_total));
    for file in &answer.files {
        text.push_str(&format!("{} {}\n", file.action, shown::path(&file.path)));
    }
    let more = answer.files_total - answer.files.len();
    if more > 0 {
        text.push_str(&format!("[and {more} more: see `diff` from the parent to the commit]\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{CommittedFile, Path, PendingAction};

    #[test]
    fn a_large_commit_is_told_in_part() {
        let oid: Oid = "0000000000000000000000000000000000000001".parse().unwrap();
        let file = |at: usize| CommittedFile {
            path: Path(format!("f{at}").into()),
            action: PendingAction::Created,
            oid: Some(oid),
        };
        let files = (0..250).map(file).collect();
        let (branch, parents) = ("main".to_owned(), vec![]);
        let answer = CommitAnswer { commit: oid, tree: oid, parents, branch, pushed: true, files, objects: 9 };
        let shown = told(&answer, false);
        assert!(shown.text.starts_with(&format!("Committed {oid} on main, and pushed it (250 files)\ncreated f0\n")));
        assert!(shown.text.ends_with("[and 50 more: see `diff` from the parent to the commit]\n"));
        assert_eq!(
            (&shown.value["files_total"], shown.value["files"].as_array().map(Vec::len)),
            (&250.into(), Some(200))
        );
    }
}
