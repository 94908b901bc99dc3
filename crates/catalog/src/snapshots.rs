//! What no bucket says of a project by itself: refs, tokens, pending work. Read at one moment, for a manifest, and written back.

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::error::CatalogError;
use crate::pending::PendingRow;
use crate::projects::Project;
use crate::refs::Ref;
use crate::tokens::{Token, TokenHash};

/// A project at one moment, without contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectSnapshot {
    /// The project.
    pub project: Project,
    /// Its refs, in byte order.
    pub refs: Vec<Ref>,
    /// What the remote last had.
    pub remote_refs: Vec<Ref>,
    /// Commits whose parents were cut off.
    pub shallow: Vec<ObjectId>,
    /// Its tokens, with the hashes of their secrets.
    pub tokens: Vec<(Token, TokenHash)>,
    /// Everybody's pending work.
    pub workspaces: Vec<WorkspaceSnapshot>,
}

/// One user's pending work on one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceSnapshot {
    /// Short branch name.
    pub branch: String,
    /// Whose.
    pub user: Uuid,
    /// The workspace's revision.
    pub revision: i64,
    /// In byte order of the path.
    pub rows: Vec<PendingRow>,
}

/// Snapshots of projects.
#[async_trait]
pub trait Snapshots {
    /// The project at one moment: what moves in one transaction is seen together. `None`: there is none.
    async fn snapshot(&self, project: Uuid) -> Result<Option<ProjectSnapshot>, CatalogError>;
    /// Writes a project as it was, in one transaction; its pending contents are in the bucket now. What its refs reach is not known
    /// yet. Its feed begins anew. `false`: its id or name is taken, and nothing was written.
    async fn restore_project(&self, snapshot: &ProjectSnapshot, now_ms: i64) -> Result<bool, CatalogError>;
    /// Closes the operation and finishes the job `name` with `report`, in one transaction: from then on what the report names is safe
    /// from the collector. `OpLost` if the operation was overtaken, or somebody else has the job.
    async fn publish_report(
        &self,
        op: Uuid,
        name: &str,
        holder: Uuid,
        now_ms: i64,
        report: &str,
    ) -> Result<(), CatalogError>;
}
