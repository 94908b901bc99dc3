//! Forks: a project that begins with another one's refs.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::error::CatalogError;
use crate::projects::NewProject;
use crate::refs::RefState;

/// A fork to make.
#[derive(Debug, Clone)]
pub struct Fork {
    /// Whose refs it begins with.
    pub source: Uuid,
    /// How those were when [`Self::reach`] was worked out.
    pub seen: RefState,
    /// The new project.
    pub project: NewProject,
    /// What the new project's refs reach; `None` = the same as the source's do.
    pub reach: Option<RoaringTreemap>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// What [`Forks::fork_project`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkOutcome {
    /// It is there.
    Forked,
    /// A project of this id exists.
    Exists,
    /// Another project has this name.
    NameTaken,
    /// The source's refs moved since they were looked at; nothing changed. Look again.
    Overtaken,
}

/// Forks.
#[async_trait]
pub trait Forks {
    /// Makes a project with the refs, the cuts and the reach of another one, in one transaction: work in proportion to the refs. No
    /// operation is needed: what the refs of a project name is alive, the source can neither move nor go meanwhile, and a collector reads
    /// all roots in one snapshot, which has the refs of one of the two. `NoProject` if the source is gone.
    async fn fork_project(&self, fork: &Fork) -> Result<ForkOutcome, CatalogError>;
}
