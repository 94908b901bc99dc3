//! Named checkpoints: the pending work of a user on a branch as it was at one revision.

use async_trait::async_trait;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::error::CatalogError;
use crate::pending::{Action, WorkspaceKey};

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its id.
    pub id: Uuid,
    /// Short branch name.
    pub branch: String,
    /// Unique within the workspace.
    pub name: String,
    /// What its maker says; may be empty.
    pub message: String,
    /// Revision of the workspace that it is of.
    pub revision: i64,
    /// How many rows it has.
    pub changes: u64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A pending change as a checkpoint remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Path from the root, raw bytes.
    pub path: BString,
    /// What it does.
    pub action: Action,
    /// Git file mode; 0 for a deletion.
    pub mode: u32,
    /// Blob id; `None` for a deletion.
    pub oid: Option<ObjectId>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<ObjectId>,
    /// See [`crate::PendingRow::base_mode`].
    pub base_mode: Option<u32>,
}

/// A checkpoint to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What its maker says.
    pub message: String,
    /// One of the same name goes.
    pub replace: bool,
    /// The workspace must be at this revision.
    pub expected_revision: Option<i64>,
    /// Most checkpoints of a workspace, with this one.
    pub limit: u32,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// What [`Checkpoints::create_checkpoint`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// Durable.
    Created(Checkpoint),
    /// The workspace has one of this name.
    NameTaken,
    /// The workspace has as many as it may have.
    TooMany,
    /// The workspace's revision is not the expected one.
    WorkspaceMoved(i64),
}

/// Checkpoints. Contents are shared with pending work and local history; what a checkpoint names stays as long as it does.
#[async_trait]
pub trait Checkpoints {
    /// Records everything that is pending, in one transaction; `NoProject` if the project is gone.
    async fn create_checkpoint(
        &self,
        key: &WorkspaceKey,
        new: &NewCheckpoint,
    ) -> Result<CheckpointOutcome, CatalogError>;
    /// A user's checkpoints in a project, on a branch or on all, newest first; those after (`created_at_ms`, id).
    async fn checkpoints(
        &self,
        project: Uuid,
        user: Uuid,
        branch: Option<&str>,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Checkpoint>, CatalogError>;
    /// One of a user's checkpoints, with its rows in byte order of the path.
    async fn checkpoint(
        &self,
        project: Uuid,
        user: Uuid,
        id: Uuid,
    ) -> Result<Option<(Checkpoint, Vec<CheckpointRow>)>, CatalogError>;
    /// Removes one, with the contents that nothing else names; `false` = there is none.
    async fn delete_checkpoint(&self, project: Uuid, user: Uuid, id: Uuid) -> Result<bool, CatalogError>;
    /// Rows of a project's checkpoints for whose blobs no content is recorded: name, path and blob; at most `limit`.
    async fn lost_checkpoint_rows(
        &self,
        project: Uuid,
        limit: u32,
    ) -> Result<Vec<(String, BString, ObjectId)>, CatalogError>;
}
