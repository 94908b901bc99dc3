//! The transactions of a commit: each does at once what calls of the other traits do one after the other, so that a commit waits for the
//! disk of the database twice, and three times where it is pushed.

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::attempts::{Attempt, AttemptChange};
use crate::error::CatalogError;
use crate::graph::CommitRow;
use crate::ledger::{KeyId, NewObject};
use crate::refs::{Publish, PublishOutcome};

/// What [`Commits::prepare_commit`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// It is known from here on, and this key is reserved.
    Ready(KeyId),
    /// The name was used before; nothing was written.
    NameTaken,
    /// A pending row that it takes is gone: its user has undone the edit. Nothing was written.
    Undone,
    /// Its parent is nothing that the project's refs or the remote's reach any more, so that the operation would not keep it alive.
    /// Nothing was written.
    Moved,
}

/// What [`Commits::store_commit`] records.
#[derive(Debug, Clone)]
pub struct StoreCommit {
    /// The open operation.
    pub op: Uuid,
    /// The key that it reserved, under which the objects are durable now.
    pub key: KeyId,
    /// Every object that the commit makes.
    pub objects: Vec<NewObject>,
    /// Its trees.
    pub trees: Vec<(ObjectId, Bytes)>,
    /// The commit.
    pub commit: CommitRow,
    /// The attempt's step to `Stored`.
    pub attempt: AttemptChange,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// Ledger numbers of the objects, in the order given.
    pub numbers: Vec<u64>,
    /// The attempt's fence now.
    pub fence: i64,
}

/// Commits on their way.
#[async_trait]
pub trait Commits {
    /// PREPARED, W0 and W2 in one transaction: saves the attempt, opens the operation `op` for its project and reserves the bucket
    /// key `name`, if its parent is still the project's and every pending row that
    /// the attempt takes is still there, or a later version of it. From then on none of them can be
    /// undone without a trace ([`crate::PendingChange::Undo`]). Repeating it is safe.
    async fn prepare_commit(
        &self,
        attempt: &Attempt,
        op: Uuid,
        name: &str,
        now_ms: i64,
    ) -> Result<Prepared, CatalogError>;
    /// W4 and STORED in one transaction: registers the objects ([`crate::Ledger::register`], with its errors), records trees and
    /// the commit, and moves the attempt on. `None` = somebody else moved the attempt; nothing was written.
    async fn store_commit(&self, store: &StoreCommit) -> Result<Option<StoredCommit>, CatalogError>;
    /// W4 and W5 in one transaction, for a commit that is not pushed: what [`Self::store_commit`] and then [`crate::Refs::publish`]
    /// would do, but for the attempt's step between them: `publish.attempt` goes from where it was prepared to its end, and
    /// `store.attempt` counts for nothing. The objects are reached by the project then, in addition to `publish.reached`. Unless it is
    /// published nothing was written: the operation is open and the key reserved.
    async fn land_commit(&self, store: &StoreCommit, publish: &Publish) -> Result<PublishOutcome, CatalogError>;
}
