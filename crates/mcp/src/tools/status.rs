//! `status`

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{self, ChangeState, PendingAction, StatusEntry};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

const LIMIT_DEFAULT: usize = 200;
const LIMIT_MAX: usize = 2_000;
/// What a change takes beside its path, bytes.
const CHANGE_BYTES: usize = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// Most changes (default 200, at most 2000).
    limit: Option<usize>,
    /// `next_cursor` of the last answer.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    branch: String,
    /// The branch's commit; null on an empty branch.
    head: Option<String>,
    /// What the remote last had.
    remote_head: Option<String>,
    /// The remote is said to have moved since: `sync` asks it. As long as nobody says so, it may have moved all the same.
    remote_moved: bool,
    /// Where it is said to be, if it moved; null = its branch is said to be gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_head_reported: Option<String>,
    /// When that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_reported_at: Option<String>,
    /// Commits that the remote lacks.
    ahead: u64,
    /// Commits of the remote that are not here.
    behind: u64,
    /// Of your pending work; counts up with every change.
    revision: i64,
    /// How many changes are pending in all.
    changes_total: usize,
    changes: Vec<Change>,
    /// Commits of yours whose push is not settled.
    unsettled: Vec<Unsettled>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Change {
    path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    /// `created`, `modified` or `deleted`.
    action: &'static str,
    /// `clean`; `outdated`: the branch moved and it merges by itself; `conflict`: it does not.
    state: &'static str,
    oid: Option<String>,
    /// Of a plain file: whether it is executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<bool>,
    /// You gave the file another mode: the change is of its mode, or of that, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mode_changed: bool,
    /// The branch has it already: there is nothing to commit of it, and it goes with your next commit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    in_head: bool,
    /// How many others have pending work on the same path.
    #[serde(skip_serializing_if = "is_zero")]
    others: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Unsettled {
    commit: String,
    state: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let limit = bounds::limit(args.limit, LIMIT_DEFAULT, LIMIT_MAX);
    let after = args.cursor.as_deref().map(|cursor| {
        let bad = || Refusal::new("bad_cursor", "this is no cursor of a status; ask without one");
        BASE64.decode(cursor).map_err(|_| bad())
    });
    let after = after.transpose()?;
    let (project, user, branch) = (call.binding.project.clone(), call.binding.user, call.binding.branch.clone());
    let told = call
        .host
        .run(Work::Light, move |engine| async move { engine.status(&project, Some(user), branch.as_deref()).await });
    let mut told = told.await?;
    if !call.binding.sees_others {
        told.changes.iter_mut().for_each(|change| change.others.clear());
    }
    let answer = page(told, after.as_deref(), limit, bounds::room(None));
    Ok(show(text(&answer), &answer))
}

/// The first page of it.
pub(crate) async fn now<H: Host>(call: &Call<'_, H>) -> Result<Shown, Refusal> {
    run(call, Args { limit: None, cursor: None }).await
}

fn page(status: api::Status, after: Option<&[u8]>, limit: usize, mut room: usize) -> Answer {
    let changes_total = status.changes.len();
    let left: Vec<&StatusEntry> =
        status.changes.iter().filter(|entry| after.is_none_or(|after| entry.path.0.as_slice() > after)).collect();
    let mut changes = Vec::new();
    let mut next_cursor = None;
    for (at, entry) in left.iter().enumerate() {
        let bytes = entry.path.0.len() + CHANGE_BYTES;
        if changes.len() >= limit || (bytes > room && !changes.is_empty()) {
            next_cursor = at.checked_sub(1).and_then(|at| left.get(at)).map(|last| BASE64.encode(&last.path.0));
            break;
        }
        room = room.saturating_sub(bytes);
        changes.push(change(entry));
    }
    let oid = |oid: api::Oid| oid.to_string();
    Answer {
        branch: status.branch,
        head: status.head.map(oid),
        remote_head: status.remote_head.map(oid),
        remote_moved: status.remote_moved,
        remote_head_reported: status.remote_head_reported.map(oid),
        remote_reported_at: status.remote_reported_at,
        ahead: status.ahead,
        behind: status.behind,
        revision: status.revision,
        changes_total,
        changes,
        unsettled: status
            .attempts
            .into_iter()
            .take(20)
            .map(|attempt| Unsettled { commit: attempt.commit.to_string(), state: attempt.state })
            .collect(),
        next_cursor,
    }
}

fn change(entry: &StatusEntry) -> Change {
    let (path, path_b64) = shown::path_bytes(&entry.path.0);
    Change {
        path,
        path_b64,
        action: action(entry.action),
        state: state(entry.state),
        oid: entry.oid.map(|oid| oid.to_string()),
        executable: entry.mode.and_then(shown::executable),
        mode_changed: matches!((entry.mode, entry.base_mode), (Some(own), Some(before)) if own != before),
        in_head: entry.in_head,
        others: entry.others.len(),
    }
}

pub(super) fn action(action: PendingAction) -> &'static str {
    match action {
        PendingAction::Modified => "modified",
        PendingAction::Created => "created",
        PendingAction::Deleted => "deleted",
        PendingAction::None => "none",
    }
}

pub(super) fn state(state: ChangeState) -> &'static str {
    match state {
        ChangeState::Clean => "clean",
        ChangeState::Outdated => "outdated",
        ChangeState::Conflict => "conflict",
    }
}

fn text(answer: &Answer) -> String {
    let named = |oid: &Option<String>| oid.clone().unwrap_or_else(|| "none".to_owned());
    let mut text = format!("On branch {} at {}", answer.branch, named(&answer.head));
    if answer.remote_head.is_some() || answer.ahead > 0 {
        let remote = named(&answer.remote_head);
        _ = write!(text, "; remote at {remote}, {} ahead, {} behind", answer.ahead, answer.behind);
    }
    if answer.remote_moved {
        text.push_str("; the remote has moved");
        if let (Some(to), Some(at)) = (&answer.remote_head_reported, &answer.remote_reported_at) {
            _ = write!(text, " to {to}, as was said at {at}");
        }
        text.push_str(": `sync` takes it over");
    }
    if answer.remote_head.is_some() && answer.ahead > 0 {
        text.push_str("; `push` sends what is ahead");
    }
    _ = writeln!(text, "\n{} pending changes, revision {}", answer.changes_total, answer.revision);
    for change in &answer.changes {
        let state = if change.state == "clean" { "" } else { change.state };
        let others = if change.others > 0 { " (others edit it too)" } else { "" };
        let mode = match (change.executable, change.action, change.mode_changed) {
            (Some(true), "created", _) => " (executable)",
            (Some(true), _, true) => " (executable now)",
            (Some(false), _, true) => " (not executable now)",
            _ => "",
        };
        let seen = if change.in_head { " (the branch has it already; it goes with your next commit)" } else { "" };
        let (action, path) = (change.action, shown::path(&change.path));
        _ = writeln!(text, "{action} {path}{mode}{}{state}{seen}{others}", gap(state));
    }
    for attempt in &answer.unsettled {
        _ = writeln!(text, "commit {} is not settled: {}", attempt.commit, attempt.state);
    }
    if let Some(cursor) = &answer.next_cursor {
        let why = format!("Cut: {} of {} changes are here", answer.changes.len(), answer.changes_total);
        shown::goes_on(&mut text, cursor, &why);
    }
    text
}

fn gap(state: &str) -> &'static str {
    if state.is_empty() { "" } else { " " }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(paths: &[&str]) -> api::Status {
        let entry = |path: &&str| StatusEntry {
            path: api::Path((*path).into()),
            action: PendingAction::Created,
            oid: None,
            base_oid: None,
            head_oid: None,
            mode: Some(api::Mode(0o100_755)),
            head_mode: None,
            base_mode: None,
            state: ChangeState::Conflict,
            in_head: false,
            revision: 1,
            others: Vec::new(),
        };
        api::Status {
            branch: "main".to_owned(),
            head: None,
            remote_head: None,
            remote_moved: false,
            remote_head_reported: None,
            remote_reported_at: None,
            ahead: 0,
            behind: 0,
            revision: 3,
            changes: paths.iter().map(entry).collect(),
            attempts: Vec::new(),
        }
    }

    #[test]
    fn pages_come_to_an_end_and_leave_nothing_out() {
        for (limit, room) in [(1, 9_999), (2, 9_999), (9, 1), (9, 2 * CHANGE_BYTES + 4)] {
            let (mut seen, mut after) = (Vec::new(), None::<Vec<u8>>);
            for _ in 0..9 {
                let answer = page(status(&["a", "b", "cc", "d"]), after.as_deref(), limit, room);
                assert!(!answer.changes.is_empty());
                seen.extend(answer.changes.iter().map(|change| change.path.clone()));
                let Some(cursor) = answer.next_cursor else { break };
                after = Some(BASE64.decode(cursor).unwrap());
            }
            assert_eq!(seen, ["a", "b", "cc", "d"], "{limit} {room}");
        }
    }

    #[test]
    fn what_is_not_clean_is_said() {
        let told = text(&page(status(&["a"]), None, 9, 99));
        assert_eq!(told, "On branch main at none\n1 pending changes, revision 3\ncreated a (executable) conflict\n");
    }

    #[test]
    fn a_change_of_the_mode_is_said() {
        let mut told = status(&["a"]);
        told.changes[0].action = PendingAction::Modified;
        told.changes[0].state = ChangeState::Clean;
        for (own, before, line) in [
            (0o100_755, 0o100_644, "modified a (executable now)\n"),
            (0o100_644, 0o100_755, "modified a (not executable now)\n"),
            (0o100_755, 0o100_755, "modified a\n"),
            (0o120_000, 0o100_644, "modified a\n"),
        ] {
            (told.changes[0].mode, told.changes[0].base_mode) = (Some(api::Mode(own)), Some(api::Mode(before)));
            // What the branch has by now was somebody else's doing.
            for theirs in [0o100_644, 0o100_755] {
                told.changes[0].head_mode = Some(api::Mode(theirs));
                let answer = page(told.clone(), None, 9, 99);
                assert!(text(&answer).ends_with(line), "{}", text(&answer));
                assert_eq!(answer.changes[0].mode_changed, own != before);
            }
        }
    }

    #[test]
    fn what_the_branch_has_already_is_said() {
        let mut told = status(&["a"]);
        (told.changes[0].state, told.changes[0].in_head) = (ChangeState::Outdated, true);
        let answer = page(told, None, 9, 99);
        let line = "created a (executable) outdated (the branch has it already; it goes with your next commit)\n";
        assert!(text(&answer).ends_with(line), "{}", text(&answer));
        assert_eq!(serde_json::to_value(&answer.changes[0]).unwrap()["in_head"], true);
    }

    #[test]
    fn what_is_known_of_the_remote_is_said() {
        let oid: api::Oid = "0000000000000000000000000000000000000001".parse().unwrap();
        let at = Some("2026-01-01T00:00:00.000Z".to_owned());
        let (remote_head, remote_head_reported) = (Some(oid), Some(oid));
        let status = api::Status {
            remote_head,
            remote_head_reported,
            remote_moved: true,
            remote_reported_at: at,
            ahead: 2,
            ..status(&[])
        };
        let told = text(&page(status, None, 9, 99));
        let line = format!(
            "On branch main at none; remote at {oid}, 2 ahead, 0 behind; the remote has moved to {oid}, as was said at \
             2026-01-01T00:00:00.000Z: `sync` takes it over; `push` sends what is ahead\n"
        );
        assert!(told.starts_with(&line), "{told}");
    }
}
