//! Commits, pulls and pushes.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChangeState, Encoding, Mode, Oid, PendingAction, TreePath};

/// Who made a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Author {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// RFC 3339 or `@unix +zzzz`; now in +0000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// What to do where the head or the remote moved under the edits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Merge per file; refuse what does not merge.
    #[default]
    Merge,
    /// Refuse.
    Fail,
    /// Merge; what does not merge goes to a branch of its own.
    Branch,
}

/// A commit of pending work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommitRequest {
    /// Without the final LF.
    pub message: String,
    /// Also the committer.
    pub author: Author,
    /// Only these paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// The head must be this commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_head_sha: Option<Oid>,
    /// What to do where the head or the remote moved.
    pub on_conflict: OnConflict,
    /// Whether to push; true if the project has a remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// Compute and answer, but change nothing.
    pub dry_run: bool,
    /// Add a trailer to the message for each actor, session and device that made one of the edits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trailers: bool,
    /// Have the commit made and signed by somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign: Option<SignBy>,
}

/// Who makes and signs a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignBy {
    /// GitHub, as whose token it is, on the branch itself.
    Github,
}

/// What an action of a commit does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// The path must not exist.
    #[default]
    Create,
    /// The path must exist.
    Update,
    /// The path must exist.
    Delete,
    /// `from` must exist and `path` must not; `content` may change with it.
    Move,
    /// The path must exist; `mode` must be given.
    Chmod,
}

/// One action of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommitAction {
    /// What to do.
    pub action: ActionKind,
    /// Where.
    pub path: String,
    /// For `move`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For `create`, `update`, `chmod`, `move`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Of `content`; `utf-8` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The new bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The path (`from` for a move) must have this blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_oid: Option<Oid>,
}

/// Body of a commit with actions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ActionsRequest {
    /// Short branch name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Without the final LF.
    pub message: String,
    /// Also the committer.
    pub author: Author,
    /// The head must be this commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_head_sha: Option<Oid>,
    /// Whether to push; true if the project has a remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// At most 100,000, on different paths.
    pub actions: Vec<CommitAction>,
}

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedFile {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What happened to it.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
}

/// Answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitAnswer {
    /// The new commit.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// Its parent, or none.
    pub parents: Vec<Oid>,
    /// Where it went (differs from the asked one after `on_conflict: "branch"`).
    pub branch: String,
    /// Whether the remote has it.
    pub pushed: bool,
    /// What it changes.
    pub files: Vec<CommittedFile>,
    /// Number of objects made.
    pub objects: u64,
}

/// A path that does not merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// The blob that the edit started from.
    pub base: Option<Oid>,
    /// The edit.
    pub ours: Option<Oid>,
    /// What the branch has now.
    pub theirs: Option<Oid>,
}

/// What a sync does where both sides moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDiverged {
    /// It is refused (409 `diverged`).
    #[default]
    Fail,
    /// It makes a merge commit on our branch.
    Merge,
}

/// Body of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SyncRequest {
    /// Short branch name; the project's default if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commits of history for the first sync, 0 = all; 1 if not given. Later ones keep the boundary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Report, but change nothing.
    pub dry_run: bool,
    /// Where both sides moved; `fail` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnDiverged>,
}

/// One path that a sync or a diff changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What happened to it.
    pub action: PendingAction,
    /// Before; `null` = it did not exist.
    pub old_oid: Option<Oid>,
    /// After; `null` = it is gone.
    pub new_oid: Option<Oid>,
    /// Before.
    pub old_mode: Option<Mode>,
    /// After.
    pub new_mode: Option<Mode>,
}

/// Pending work that a sync touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchedPending {
    /// Whose.
    pub user: Uuid,
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// How it stands to the new head.
    pub state: ChangeState,
    /// The new head has the change already: there is nothing to commit of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_head: bool,
}

/// Answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// Short branch name.
    pub branch: String,
    /// Our head before.
    pub from: Option<Oid>,
    /// Our head after.
    pub to: Option<Oid>,
    /// Paths that differ between the two, in byte order: the first 10,000 of them.
    pub changed: Vec<ChangedFile>,
    /// Not all of them are in `changed`: a comparison of `from` and `to` has them in pages; where `from` is `null`, the list of files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// How many paths differ.
    pub changed_count: u64,
    /// Objects received.
    pub objects: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Pending work on paths that changed.
    pub pending: Vec<TouchedPending>,
}

/// Answer to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// Short branch name.
    pub branch: String,
    /// What the remote had.
    pub from: Option<Oid>,
    /// What it has now.
    pub to: Oid,
    /// Commits sent.
    pub commits: u64,
    /// Objects sent.
    pub objects: u64,
    /// Whether anything was sent.
    pub pushed: bool,
}
