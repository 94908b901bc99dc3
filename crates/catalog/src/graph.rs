//! Commits of every ref, and trees of current heads, so that history and paths cost no round trip to the bucket.
//!
//! Both are shared by all projects, rebuildable from the bucket, and say nothing about access: a caller starts from a ref
//! of its own project and follows oids from there.

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::ObjectId;

use crate::error::CatalogError;

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRow {
    /// Its id.
    pub oid: ObjectId,
    /// Root tree.
    pub tree: ObjectId,
    /// Parents, in order. A shallow project does not have those of its boundary commits.
    pub parents: Vec<ObjectId>,
    /// 1 + the largest generation of the known parents (git's commit-graph, topological level).
    pub generation: u64,
    /// Committer time, Unix seconds.
    pub time: i64,
    /// The raw commit object.
    pub raw: Bytes,
}

/// The commit graph and the trees of heads.
#[async_trait]
pub trait Graph {
    /// Records commits (idempotent; any number). Of two generations of one commit the larger one stays: the smaller one comes
    /// from a project whose history is cut off.
    async fn put_commits(&self, commits: &[CommitRow]) -> Result<(), CatalogError>;
    /// Commits by id, in the order given.
    async fn commits(&self, oids: &[ObjectId]) -> Result<Vec<Option<CommitRow>>, CatalogError>;
    /// Their generations alone, in the order given: a commit may be megabytes long, and many may be asked for.
    async fn generations(&self, oids: &[ObjectId]) -> Result<Vec<Option<u64>>, CatalogError>;
    /// The commits reached from `tips` in at most `depth` steps (0 = the tips alone), each once, in no particular order: one
    /// round trip ahead of a walk. Commits that are not recorded end the walk. Beyond the tips, which are all there, it also ends after
    /// 4 MiB of raw commits, and where history is very broad: what was not read ahead has to be asked for.
    async fn commits_back(&self, tips: &[ObjectId], depth: u32) -> Result<Vec<CommitRow>, CatalogError>;
    /// Records raw trees (idempotent; any number).
    async fn put_trees(&self, trees: &[(ObjectId, Bytes)]) -> Result<(), CatalogError>;
    /// Raw trees by id, in the order given; `None` = not kept here, ask the object store.
    async fn trees(&self, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>, CatalogError>;
}
