//! `sync`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{ChangeState, OnDiverged, PendingAction, SyncAnswer, SyncRequest};

use super::{Call, Shown, show, status};
use crate::host::{Host, Refusal, Work};
use crate::shown;

/// Files that are told of one sync, and pending changes.
const FILES_MAX: usize = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// Where branch and remote both have commits that the other lacks: "fail" (default), or "merge" them by a merge commit.
    #[serde(default)]
    on_diverged: Diverged,
    /// Look and answer, but change nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Diverged {
    #[default]
    Fail,
    Merge,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    branch: String,
    /// The branch's commit before, null = none.
    from: Option<String>,
    /// And now.
    to: Option<String>,
    /// Nothing was changed: this is what the sync would do.
    dry_run: bool,
    changed_total: u64,
    /// The first 200.
    changed: Vec<File>,
    pending_total: usize,
    /// The first 200 of your pending changes of files that changed, those in conflict before the others, and whether they still fit:
    /// `outdated` merges by itself at the next commit, `conflict` does not.
    pending: Vec<Touched>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct File {
    path: String,
    action: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Touched {
    path: String,
    state: &'static str,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let binding = call.binding;
    let request = SyncRequest {
        branch: binding.branch.clone(),
        dry_run: args.dry_run,
        on_conflict: Some(match args.on_diverged {
            Diverged::Fail => OnDiverged::Fail,
            Diverged::Merge => OnDiverged::Merge,
        }),
        ..SyncRequest::default()
    };
    let (project, credentials) = (binding.project.clone(), binding.credentials.clone());
    let synced = call
        .host
        .run(Work::Remote, move |engine| async move { engine.sync(&project, &request, credentials, &()).await });
    match synced.await {
        Ok(answer) => {
            let merged = matches!(args.on_diverged, Diverged::Merge) && answer.from != answer.to;
            let answer = told(&answer, binding.user, args.dry_run);
            Ok(show(text(&answer, merged), &answer))
        }
        Err(refusal) if refusal.code == "diverged" => Err(Refusal::new(
            "diverged",
            "the branch has commits that the remote lacks, and the remote moved: sync again with on_diverged \"merge\"",
        )),
        Err(refusal) => Err(refusal),
    }
}

/// Of pending work only the user's own.
fn told(answer: &SyncAnswer, user: uuid::Uuid, dry_run: bool) -> Answer {
    let path = |path: &[u8]| shown::path_bytes(path).0;
    let file = |action: PendingAction, name: &[u8]| File { path: path(name), action: status::action(action) };
    let mut own: Vec<_> = answer.pending.iter().filter(|touched| touched.user == user).collect();
    // Stable: of each kind the order stays.
    own.sort_by_key(|touched| touched.state != ChangeState::Conflict);
    Answer {
        branch: answer.branch.clone(),
        from: answer.from.map(|oid| oid.to_string()),
        to: answer.to.map(|oid| oid.to_string()),
        dry_run,
        changed_total: answer.changed_count,
        changed: answer.changed.iter().take(FILES_MAX).map(|changed| file(changed.action, &changed.path.0)).collect(),
        pending_total: own.len(),
        pending: own
            .iter()
            .take(FILES_MAX)
            .map(|own| Touched { path: path(&own.path.0), state: status::state(own.state) })
            .collect(),
    }
}

fn text(answer: &Answer, merges: bool) -> String {
    let branch = &answer.branch;
    let to = answer.to.as_deref().unwrap_or("no commit");
    let mut text = match (answer.from == answer.to, answer.dry_run) {
        (true, _) => format!("{branch} has all that the remote has ({to})\n"),
        (false, true) => format!("Nothing was changed. {branch} would go to {to} ({} files)\n", answer.changed_total),
        (false, false) => format!("{branch} is at {to} now ({} files changed)\n", answer.changed_total),
    };
    for file in &answer.changed {
        text.push_str(&format!("{} {}\n", file.action, shown::path(&file.path)));
    }
    if merges {
        text.push_str("If it had commits that the remote lacks, both were merged: that leaves with `push`, or the next commit that is pushed.\n");
    }
    let more = answer.changed_total.saturating_sub(answer.changed.len() as u64);
    if more > 0 && !answer.changed.is_empty() {
        text.push_str(&format!("[and {more} more: see `diff` with names_only]\n"));
    }
    for touched in &answer.pending {
        text.push_str(&format!("your pending change of {} is {}\n", shown::path(&touched.path), touched.state));
    }
    let more = answer.pending_total - answer.pending.len();
    if more > 0 {
        text.push_str(&format!("[and {more} more: see `status`]\n"));
    }
    if answer.pending.iter().any(|touched| touched.state == "conflict") {
        text.push_str("Look at `conflicts`, and settle them with `resolve`.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{Path, TouchedPending};

    #[test]
    fn of_many_pending_changes_the_first_are_told_and_those_in_conflict_before_the_others() {
        let user = uuid::Uuid::from_u128(1);
        let touched = |at: usize| TouchedPending {
            user: if at == 0 { uuid::Uuid::from_u128(2) } else { user },
            path: Path(format!("f{at}").into()),
            in_head: false,
            state: if at == 250 { ChangeState::Conflict } else { ChangeState::Outdated },
        };
        let answer = SyncAnswer {
            branch: "main".to_owned(),
            from: None,
            to: None,
            changed_count: 251,
            changed: Vec::new(),
            truncated: true,
            objects: 0,
            bytes: 0,
            pending: (0..=250).map(touched).collect(),
        };
        let answer = told(&answer, user, false);
        assert_eq!((answer.pending_total, answer.pending.len()), (250, 200));
        assert_eq!((answer.pending[0].path.as_str(), answer.pending[0].state), ("f250", "conflict"));
        let text = text(&answer, false);
        assert!(text.contains("[and 50 more: see `status`]\nLook at `conflicts`"), "{text}");
    }
}
