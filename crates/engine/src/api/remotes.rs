//! Sync, push, import and export.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChangeState, Mode, Oid, Path, PendingAction, ProjectView};

/// What a sync does where both sides moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDiverged {
    /// It is refused (409 `diverged`).
    #[default]
    Fail,
    /// It makes a merge commit on our branch.
    Merge,
}

/// Body of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyncRequest {
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// Commits of history for the first sync, 0 = all; 1 if not given. Later ones keep the boundary.
    pub depth: Option<u32>,
    /// Report, but change nothing.
    pub dry_run: bool,
    /// Where both sides moved; `fail` if not given.
    pub on_conflict: Option<OnDiverged>,
}

/// One path that a sync or a diff changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedFile {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TouchedPending {
    /// Whose.
    pub user: Uuid,
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// How it stands to the new head.
    pub state: ChangeState,
    /// A commit would make nothing of it, as the new head has the change already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_head: bool,
}

/// Answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportReport {
    /// The project.
    pub project: ProjectView,
    /// Short branch name.
    pub branch: String,
    /// Its commit.
    pub head: Option<Oid>,
    /// Objects received.
    pub objects: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Files at the head.
    pub files: u64,
    /// Whether history was cut off.
    pub shallow: bool,
    /// Whether the project was there without a remote, and has the source as its remote from now on.
    #[serde(default)]
    pub remote_set: bool,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportReport {
    /// Refs written.
    pub refs: u64,
    /// Objects written.
    pub objects: u64,
    /// Bytes of the pack.
    pub bytes: u64,
    /// Whether the history is cut off.
    pub shallow: bool,
}
