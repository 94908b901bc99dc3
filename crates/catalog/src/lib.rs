//! The catalog: everything Treehold knows that is not object bytes. Projects, tokens, refs, trees of heads, pending work,
//! the ledger of objects, commit attempts.
//!
//! [`Catalog`] is the sum of small traits, one per subject. Two implementations, SQLite and Postgres, run one
//! conformance suite. No ambient state: times come in as Unix milliseconds, ids as UUIDs made by the caller.

// The queries in `sql/` are compiled once for each database; `sqlite` and `postgres` say what differs.
#![allow(clippy::duplicate_mod)]

pub mod admin;
pub mod attempts;
pub mod checkpoints;
pub mod collect;
pub mod commits;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod feed;
pub mod forks;
pub mod graph;
pub mod hints;
pub mod history;
pub mod inspect;
pub mod jobs;
pub mod ledger;
pub mod pending;
pub mod projects;
pub mod rebuild;
pub mod refs;
pub mod repack;
pub mod scopes;
pub mod snapshots;
pub mod tokens;
pub mod usage;
pub mod views;
pub mod vitals;

mod bells;
mod codec;
mod fault;
mod plan;
mod postgres;
mod rows;
mod sqlite;

pub use admin::{Admin, MigrationReport};
pub use attempts::{Attempt, AttemptChange, AttemptState, Attempts, Claim, FinalAnswer, SnapshotRow};
pub use checkpoints::{Checkpoint, CheckpointOutcome, CheckpointRow, Checkpoints, NewCheckpoint};
pub use collect::{Collect, Doomed, Forgotten, KeptByUsers, Lineage, NameState, RootSet, Roots, Stale};
pub use commits::{Commits, Prepared, StoreCommit, StoredCommit};
pub use error::CatalogError;
pub use feed::{Event, Feed, FeedEnds, FeedPage, FeedRead, Following, PendingEvent, PushOutcome, Told};
pub use forks::{Fork, ForkOutcome, Forks};
pub use graph::{CommitRow, Graph};
pub use hints::{Hints, RemoteHint, RemoteReport};
pub use history::{Answering, History, HistoryPolicy, Thinned, Version, VersionPlace, WriteOutcome};
pub use inspect::{
    Inspect, Inspected, InspectedAttempt, InspectedContent, InspectedKey, InspectedMove, InspectedObject,
    InspectedPending, InspectedProtocol, KeyState, LostVersion,
};
pub use jobs::{Job, Jobs};
pub use ledger::{KeyId, Ledger, LedgerStats, LedgerSums, Located, NewObject, Op, OpKind, Pinned, Registered};
pub use pending::{
    Action, Content, EditBase, EditSpot, HistoryRow, Origin, Pending, PendingChange, PendingOutcome, PendingRow,
    PendingWrite, RowExpectation, Seen, WorkspaceKey,
};
pub use postgres::{PostgresCatalog, PostgresOptions};
pub use projects::{CreateOutcome, NewProject, PolicyChange, Project, ProjectKey, Projects, ReceivePolicy};
pub use rebuild::{FoundKey, Rebuild, RebuildFrom};
pub use refs::{
    ClearCause, ClearPending, ClearedRow, Ephemeral, Guard, Publish, PublishOutcome, Ref, RefState, RefUpdate,
    ReflogEntry, Refs,
};
pub use repack::{Move, Repack, StoredKey};
pub use roaring::RoaringTreemap;
pub use scopes::{Scope, Scopes, UnknownScope};
pub use snapshots::{ProjectSnapshot, Snapshots, WorkspaceSnapshot};
pub use sqlite::SqliteCatalog;
pub use tokens::{FoundToken, Token, TokenHash, Tokens};
pub use usage::{Charged, Held, Usage};
pub use views::{BranchView, ViewKey, Views};
pub use vitals::{Connections, Vitals, Watch};

use std::path::Path;
use std::sync::Arc;

/// Everything a catalog does.
pub trait Catalog:
    Projects
    + Tokens
    + Refs
    + Forks
    + Views
    + Ledger
    + Repack
    + Collect
    + Graph
    + Hints
    + Pending
    + History
    + Checkpoints
    + Feed
    + Attempts
    + Commits
    + Jobs
    + Watch
    + Inspect
    + Rebuild
    + Snapshots
    + Usage
    + Admin
    + Send
    + Sync
    + std::fmt::Debug
    + 'static
{
}

/// Opens the catalog that `url` names: `sqlite://path/of/file` (a path from the root has three slashes) or
/// `postgres://…` (see [`PostgresCatalog::connect`]). The schema is not touched: see [`Admin::migrate`].
pub async fn open_catalog(url: &str) -> Result<Arc<dyn Catalog>, CatalogError> {
    open_catalog_with(url, PostgresOptions::default()).await
}

/// As [`open_catalog`]; `options` count for PostgreSQL alone.
pub async fn open_catalog_with(url: &str, options: PostgresOptions) -> Result<Arc<dyn Catalog>, CatalogError> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        return Ok(Arc::new(SqliteCatalog::open(Path::new(path)).await?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(PostgresCatalog::connect(url, options).await?));
    }
    Err(CatalogError::Invalid { what: "catalog URL" })
}

/// Cores of this machine, or as many as are likely where nobody tells. Asked once: the system reads files to tell.
fn cores() -> usize {
    static CORES: std::sync::LazyLock<usize> =
        std::sync::LazyLock::new(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get));
    *CORES
}
