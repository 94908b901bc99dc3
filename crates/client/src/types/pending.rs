//! Pending work.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Encoding, Mode, Oid, TreePath};

/// Where an edit comes from, as its caller says: shown to others, and nothing rests on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Who made it: `person`, `agent` or `service`, and perhaps `:name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// What a pending change does, in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingAction {
    /// The path exists in the head.
    Modified,
    /// It does not.
    Created,
    /// It is to go.
    Deleted,
    /// Nothing is pending: the write equals the head.
    None,
}

/// Answer to an autosave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingAnswer {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What is pending now.
    pub action: PendingAction,
    /// Six octal digits; `null` for a deletion.
    pub mode: Option<Mode>,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's last change (of the workspace, where nothing is pending).
    pub revision: i64,
}

/// One pending change of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What it does.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub mode: Option<Mode>,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's last change.
    pub revision: i64,
    /// RFC 3339, UTC.
    pub updated_at: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// The pending work of a user on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingList {
    /// Revision of the workspace.
    pub revision: i64,
    /// In byte order of the path.
    pub changes: Vec<PendingEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// Answer to dropping pending work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropAnswer {
    /// Revision of the workspace.
    pub revision: i64,
    /// How many changes went.
    pub dropped: u64,
}

/// How a pending change stands to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeState {
    /// The head still has the base.
    Clean,
    /// The head moved, and the change merges by itself.
    Outdated,
    /// The head moved, and it does not.
    Conflict,
}

/// One pending change of a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What it does.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// What the head has at the path.
    pub head_oid: Option<Oid>,
    /// The mode that is pending; `null` for a deletion.
    pub mode: Option<Mode>,
    /// The mode that the head has at the path.
    pub head_mode: Option<Mode>,
    /// The mode that the edit started from, where that is known: another `mode` is the user's own change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_mode: Option<Mode>,
    /// How it stands to the head.
    pub state: ChangeState,
    /// A commit would make nothing of it, as the head has the change already; it goes with the user's next commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_head: bool,
    /// Revision of the row's last change.
    pub revision: i64,
    /// Others who have pending work on the path: an early warning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Uuid>,
}

/// Status of a branch for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Short name.
    pub branch: String,
    /// Our commit.
    pub head: Option<Oid>,
    /// What the remote last had.
    pub remote_head: Option<Oid>,
    /// The remote is said to be elsewhere by now; a sync tells.
    pub remote_moved: bool,
    /// Where it is said to be, if it moved; `null` = its branch is said to be gone, or it did not move.
    pub remote_head_reported: Option<Oid>,
    /// When that was said, if it moved (RFC 3339).
    #[serde(default)]
    pub remote_reported_at: Option<String>,
    /// Commits that we have and the remote lacks.
    pub ahead: u64,
    /// Commits that the remote was seen to have and we lack.
    pub behind: u64,
    /// Revision of the workspace.
    pub revision: i64,
    /// In byte order of the path.
    pub changes: Vec<StatusEntry>,
    /// Commit attempts of this user on this branch that are not settled.
    pub attempts: Vec<AttemptView>,
}

/// An unsettled commit attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Its id.
    pub attempt: Uuid,
    /// The commit that it made.
    pub commit: Oid,
    /// `pushing`, `unknown`, `paused` …
    pub state: String,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingVerb {
    /// Writes `content`.
    #[default]
    Put,
    /// The path must exist.
    Delete,
    /// `from` must exist and `path` must not.
    Move,
    /// The path must exist; `mode` must be given.
    Chmod,
    /// Replaces `old_string` by `new_string`.
    Edit,
    /// Applies `diff`, of one file.
    Patch,
}

/// What to do where the view is not what an operation expects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMismatch {
    /// The operation fails.
    #[default]
    Fail,
    /// What was sent is merged with what the view has; what does not merge is a conflict, and stays in local history.
    Merge,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PendingOp {
    /// What to do.
    pub op: PendingVerb,
    /// Where.
    pub path: String,
    /// For `move`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For `put`: the new bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Of `content`; `utf-8` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// For `put`, `move` and `chmod`; kept if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// For `edit`: occurs exactly once, unless `replace_all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_string: Option<String>,
    /// For `edit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_string: Option<String>,
    /// For `edit`.
    pub replace_all: bool,
    /// For `patch`: a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// What the view must have at the path (at `from` for a move); null = nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_oid: Option<Option<Oid>>,
    /// The blob that the edit started from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Oid>,
}

/// Body of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingBatch {
    /// In order; a later one sees what an earlier one did.
    pub ops: Vec<PendingOp>,
    /// All or nothing; else each has its own result.
    pub atomic: bool,
    /// The workspace's revision that the caller last saw. An operation without `expected_oid` and `base` does not expect a row that
    /// changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_revision: Option<i64>,
    /// What to do where the view is not what an operation expects.
    pub on_conflict: OnMismatch,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpStatus {
    /// Done as asked.
    Applied,
    /// What was sent and what the view had were merged.
    Merged,
    /// The view has it already.
    Duplicate,
    /// It does not merge. Nothing changed; what was sent is in local history.
    Conflict,
    /// It cannot be done; `error` says why.
    Failed,
    /// Another operation of an atomic batch failed.
    NotApplied,
}

/// Why an operation was not done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpError {
    /// Stable, as in problems.
    pub code: String,
    /// A sentence that says what to do.
    pub detail: String,
    /// How often the text to replace occurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrences: Option<usize>,
    /// The hunk that does not apply, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hunk: Option<usize>,
    /// Of a conflict: the blobs that do not merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<OpConflict>,
}

/// The sides of a conflict; `null` = no file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpConflict {
    /// What the edit started from.
    pub base: Option<Oid>,
    /// What was sent.
    pub ours: Option<Oid>,
    /// What the view has.
    pub theirs: Option<Oid>,
    /// The version of local history that has what was sent, to be read and restored.
    pub version: Option<String>,
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpResult {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What became of it.
    pub status: OpStatus,
    /// What the view has at the path now; `null` = no file.
    pub oid: Option<Oid>,
    /// Bytes, where the operation made or named them.
    pub size: Option<u64>,
    /// Six octal digits.
    pub mode: Option<Mode>,
    /// The blob that the pending change starts from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's change.
    pub revision: Option<i64>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError>,
}

/// Answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// Revision of the workspace.
    pub revision: i64,
    /// In the order of the operations.
    pub results: Vec<OpResult>,
}
