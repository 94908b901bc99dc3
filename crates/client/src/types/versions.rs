//! Local history and checkpoints.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mode, Oid, PendingAction, TreePath};

/// A version of a pending file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// Names it, together with its user.
    pub id: String,
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What it did, against the head when it was written.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// `null` for a deletion.
    pub mode: Option<Mode>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the workspace when it was written.
    pub revision: i64,
    /// When it was written: RFC 3339, UTC.
    pub at: String,
    /// When it was replaced or removed; `null` = it is pending now.
    pub replaced_at: Option<String>,
}

/// Versions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<VersionEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointEntry {
    /// Names it, together with its user.
    pub id: Uuid,
    /// Short branch name.
    pub branch: String,
    /// Its name.
    pub name: String,
    /// Why it was made.
    pub message: String,
    /// Revision of the workspace that it is of.
    pub revision: i64,
    /// How many changes it has.
    pub changes: u64,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// Checkpoints, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointList {
    /// Newest first.
    pub checkpoints: Vec<CheckpointEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// A pending change as a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointChange {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// What it did, against the head when the checkpoint was made.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// `null` for a deletion.
    pub mode: Option<Mode>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
}

/// A checkpoint with its changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDetail {
    /// The checkpoint.
    #[serde(flatten)]
    pub checkpoint: CheckpointEntry,
    /// In byte order of the path.
    pub files: Vec<CheckpointChange>,
}

/// Answer to the restoration of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRestored {
    /// Revision of the workspace.
    pub revision: i64,
    /// Paths that changed.
    pub changed: u64,
    /// The checkpoint that has what was pending before: restore it to undo this. `null` = nothing changed.
    pub before: Option<CheckpointEntry>,
}
