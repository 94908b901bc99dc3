//! The catalog: everything Treehold knows that is not object bytes. Projects, refs, trees of heads, pending work,
//! the ledger of objects, commit attempts.
//!
//! [`Catalog`] is the sum of small traits, one per subject. Two implementations, SQLite and Postgres, run one
//! conformance suite. No ambient state: times come in as Unix milliseconds, ids as UUIDs made by the caller.

pub mod attempts;
pub mod error;
pub mod graph;
pub mod ledger;
pub mod pending;
pub mod projects;
pub mod refs;

pub use attempts::{Attempt, AttemptChange, AttemptState, Attempts, Claim, FinalAnswer, SnapshotRow};
pub use error::CatalogError;
pub use graph::{CommitRow, Graph};
pub use ledger::{KeyId, Ledger, LedgerStats, Located, NewObject, Op, OpKind, Pinned, Registered};
pub use pending::{
    Action, Content, HistoryRow, Pending, PendingChange, PendingOutcome, PendingRow, PendingWrite, RowExpectation,
    WorkspaceKey,
};
pub use projects::{CreateOutcome, NewProject, Project, ProjectKey, Projects};
pub use refs::{ClearPending, Publish, PublishOutcome, Ref, RefUpdate, Refs};
pub use roaring::RoaringTreemap;

/// Everything a catalog does.
pub trait Catalog:
    Projects + Refs + Ledger + Graph + Pending + Attempts + Send + Sync + std::fmt::Debug + 'static
{
}
