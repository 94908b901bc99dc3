//! Projects: a repository without a clone.

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::CatalogError;

/// What pushes of git clients to a project are refused. Commits and pulls of our own are not bound by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceivePolicy {
    /// Branches move only to descendants of what they point to.
    pub deny_non_fast_forwards: bool,
    /// Refs stay.
    pub deny_deletes: bool,
}

/// What is to change in what a project is held to; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// See [`ReceivePolicy::deny_non_fast_forwards`].
    pub deny_non_fast_forwards: Option<bool>,
    /// See [`ReceivePolicy::deny_deletes`].
    pub deny_deletes: Option<bool>,
    /// See [`Project::quota_bytes`].
    pub quota_bytes: Option<Option<u64>>,
}

/// A project as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The caller's UUID, or ours.
    pub id: Uuid,
    /// Unique among projects, if given.
    pub name: Option<String>,
    /// Short branch name, such as `main`.
    pub default_branch: String,
    /// URL of the remote, without credentials.
    pub remote_url: Option<String>,
    /// What git clients may not do to its refs.
    pub receive: ReceivePolicy,
    /// How much it may hold, logical bytes; `None` = the server's default.
    pub quota_bytes: Option<u64>,
    /// What it holds, logical bytes: sizes of the objects that its refs reach and of the contents of its pending work, whoever else has
    /// them too. Of when the project was read by itself or for an edit; snapshots and views do not say it (0), and a new one holds nothing.
    pub bytes: u64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// What to create.
pub type NewProject = Project;

/// How a project is named in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectKey {
    /// By id.
    Id(Uuid),
    /// By unique name.
    Name(String),
}

/// What [`Projects::create_project`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It is new.
    Created(Project),
    /// A project of this id exists; it is returned as stored (the caller compares).
    Exists(Project),
    /// Another project has this name.
    NameTaken,
}

/// Projects.
#[async_trait]
pub trait Projects {
    /// Creates the project unless its id or name is taken. One transaction.
    async fn create_project(&self, new: &NewProject) -> Result<CreateOutcome, CatalogError>;
    /// Sets name, default branch and remote of an existing project, and leaves its policy as it is; `None` if the name is taken by
    /// another one.
    async fn update_project(&self, project: &Project) -> Result<Option<Project>, CatalogError>;
    /// Changes what pushes are refused, and the quota, by one statement: changes of different flags at the same time are both kept. `NoProject` if
    /// there is none.
    async fn set_policy(&self, id: Uuid, change: &PolicyChange) -> Result<Project, CatalogError>;
    /// Finds a project.
    async fn project(&self, key: &ProjectKey) -> Result<Option<Project>, CatalogError>;
    /// Up to `limit` projects with an id after `after`, in order of id.
    async fn projects(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Project>, CatalogError>;
    /// Removes the project with its refs, reach, pending work, attempts, requests and tokens, in one transaction. Object bytes stay
    /// (they may be shared); gc takes what nothing reaches. `false`: there was none.
    async fn delete_project(&self, id: Uuid) -> Result<bool, CatalogError>;
    /// The same, if it has neither refs nor workspaces nor tokens: nobody has put anything into it. `false`: it has, or there was none.
    async fn delete_empty_project(&self, id: Uuid) -> Result<bool, CatalogError>;
}
