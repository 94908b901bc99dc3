//! What a read needs to know before it can follow oids: project, head and pending work, in one round trip.

use async_trait::async_trait;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::error::CatalogError;
use crate::pending::PendingRow;
use crate::projects::{Project, ProjectKey};

/// Which view is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewKey {
    /// The project.
    pub project: ProjectKey,
    /// Short branch name; the project's default branch if not given.
    pub branch: Option<String>,
    /// Whose pending work to read beside it.
    pub user: Option<Uuid>,
}

/// A branch of a project as it is, with a user's pending work on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchView {
    /// The project.
    pub project: Project,
    /// What the branch points to; `None` = there is no such branch.
    pub commit: Option<ObjectId>,
    /// The commit's root tree; `None` also where the commit is not in the graph.
    pub tree: Option<ObjectId>,
    /// With a user: the workspace's revision (0 if it was never written), and its rows in byte order of the path.
    pub pending: Option<(i64, Vec<PendingRow>)>,
}

/// Views.
#[async_trait]
pub trait Views {
    /// Project, head, root tree and pending rows (all of them, or those of `paths`) of one snapshot, by one statement: what moves
    /// together in a publication is seen together. `None`: there is no such project.
    async fn view(&self, key: &ViewKey, paths: Option<&[BString]>) -> Result<Option<BranchView>, CatalogError>;
}
