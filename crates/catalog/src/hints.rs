//! Hints: where a forge says that remotes are. They are shown and nothing else: only a fetch makes objects readable.

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::error::CatalogError;

/// What one delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteReport {
    /// What a delivery that comes again is known by.
    pub delivery: String,
    /// URLs of the remote in small letters, without a slash or `.git` at the end.
    pub urls: Vec<String>,
    /// Full name of the ref.
    pub name: String,
    /// Where it is; `None` = it was deleted.
    pub oid: Option<ObjectId>,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Deliveries from before then are forgotten.
    pub forget_before_ms: i64,
}

/// Where a remote's ref is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteHint {
    /// `None` = it was deleted.
    pub oid: Option<ObjectId>,
    /// When that was said, Unix milliseconds.
    pub at_ms: i64,
}

/// Hints.
#[async_trait]
pub trait Hints {
    /// Remembers the delivery and gives every project with one of these remotes the hint, in one transaction: how many projects.
    /// `None`: the delivery was there before, and nothing changed.
    async fn report_remote(&self, report: &RemoteReport) -> Result<Option<u64>, CatalogError>;
    /// The last hint about a ref of the project's remote.
    async fn remote_hint(&self, project: Uuid, name: &str) -> Result<Option<RemoteHint>, CatalogError>;
    /// Forgets the hint if it is from `until_ms` or before: the remote itself was asked then or later.
    async fn forget_hint(&self, project: Uuid, name: &str, until_ms: i64) -> Result<(), CatalogError>;
}
