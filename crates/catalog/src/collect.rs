//! The collector's half of the collection protocol (docs/reliability.md, G1–G7): which objects nothing names any more, and giving
//! them up so that no writer can lose a race with it.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use crate::error::CatalogError;
use crate::ledger::KeyId;

/// What some projects keep alive: ledger numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RootSet {
    /// A project whose history is cut off; `None`: all those whose history is whole.
    pub project: Option<Uuid>,
    /// Its commits without parents.
    pub cuts: RoaringTreemap,
    /// What must be there, with all that it reaches: refs, attempts under way, pending work in the bucket, manifests.
    pub firm: RoaringTreemap,
    /// What is kept as far as it is there: what the remote was seen to have, the reflog, local history, the roots of operations.
    pub loose: RoaringTreemap,
}

/// Everything that keeps objects alive, as it is in one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Roots {
    /// Projects whose history is whole first, all together; then each of the others.
    pub sets: Vec<RootSet>,
    /// What is named and not in the ledger, the first hundred of each kind: damage. What names it, and the object.
    pub missing: Vec<(&'static str, ObjectId)>,
    /// The largest ledger number.
    pub last: u64,
    /// Objects in the ledger.
    pub objects: u64,
    /// Of the ledger numbers in `sets`: what users of any project have changed and kept, to say why something stays.
    pub kept: KeptByUsers,
}

/// What pending work and what it was keeps alive, blobs by their ledger numbers. They may overlap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeptByUsers {
    /// Pending now, or the base of that.
    pub pending: RoaringTreemap,
    /// Versions of local history and their bases.
    pub history: RoaringTreemap,
    /// Rows of checkpoints and their bases.
    pub checkpoints: RoaringTreemap,
}

/// An object that a collector may give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// Its ledger number.
    pub number: u64,
    /// The epoch in which it was last stored or pinned.
    pub seen_epoch: i64,
    /// When it was condemned, Unix milliseconds; `None`: it is live.
    pub condemned_at_ms: Option<i64>,
    /// Length of its stored entry, bytes.
    pub bytes: u64,
}

/// A commit without its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Its id.
    pub oid: ObjectId,
    /// Root tree.
    pub tree: ObjectId,
    /// Parents, in order.
    pub parents: Vec<ObjectId>,
}

/// What [`Collect::doom`] gave up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doomed {
    /// Objects that are not in the ledger any more.
    pub objects: u64,
    /// Length of their stored entries, bytes.
    pub bytes: u64,
    /// Bucket keys that lost their last object.
    pub keys: u64,
    /// Bucket keys that lost one.
    pub shrunk: Vec<KeyId>,
}

/// What the ledger knows of a name that is in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameState {
    /// No row: nobody ever reserved it.
    Unknown,
    /// Reserved, present or doomed: somebody's business.
    Known(KeyId),
    /// Its bytes were deleted and are there again: a write that came late.
    Deleted(KeyId),
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries of reflogs.
    pub reflog: u64,
    /// Operations that ended.
    pub ops: u64,
}

/// The collector.
///
/// 1. *No live object is lost.* What an open operation stored, pinned or began from is never given up, nor what a root reaches that was
///    read after [`Self::raise_horizon`].
/// 2. *One way.* Live, condemned, gone: only a pin takes a condemned object back. The name of a key is never used again.
/// 3. *Repeatable.* Every call may be repeated, also after a crash and beside another collector.
#[async_trait]
pub trait Collect {
    /// G1. Begins an epoch: operations from now on are younger. The new epoch.
    async fn next_epoch(&self) -> Result<i64, CatalogError>;
    /// G2. Ends operations that are silent since `silent_before_ms` or older than the horizon, and raises the horizon to the oldest epoch
    /// of those that are open. What was last seen before it belongs to none of them.
    async fn raise_horizon(&self, silent_before_ms: i64) -> Result<i64, CatalogError>;
    /// What G1 and G2 would come to, without a change: for a look ahead.
    async fn horizon_ahead(&self) -> Result<i64, CatalogError>;
    /// G3. Everything that keeps objects alive, read in one snapshot. Reflog entries count that are not older than `reflog_since_ms`; those of
    /// the project `without_reflog_of` do not.
    async fn roots(&self, reflog_since_ms: i64, without_reflog_of: Option<Uuid>) -> Result<Roots, CatalogError>;
    /// What the commit table has of `tips` and of what they reach in at most `steps` steps, each once, in no particular order: one round
    /// trip ahead of a walk. Commits that are not recorded end it.
    async fn lineage(&self, tips: &[ObjectId], steps: u32) -> Result<Vec<Lineage>, CatalogError>;
    /// What the reflog of a project names, as roots.
    async fn reflog_roots(&self, project: Uuid) -> Result<RootSet, CatalogError>;
    /// Ledger numbers and kinds, in the order given; `None` = not in the ledger. For walks.
    async fn numbers(&self, oids: &[ObjectId]) -> Result<Vec<Option<(u64, Kind)>>, CatalogError>;
    /// Live objects with numbers in `ranges` (first and last of each) that were last seen before `horizon`, in order of their numbers, `limit` at
    /// most.
    async fn stale(&self, ranges: &[(u64, u64)], horizon: i64, limit: u32) -> Result<Vec<Stale>, CatalogError>;
    /// Condemned objects with numbers above `after`, in order of their numbers, `limit` at most.
    async fn condemned(&self, after: u64, limit: u32) -> Result<Vec<Stale>, CatalogError>;
    /// G4. Condemns those of the objects that are live and were last seen before `horizon`; how many.
    async fn condemn(&self, numbers: &[u64], horizon: i64, now_ms: i64) -> Result<u64, CatalogError>;
    /// Takes condemned objects back.
    async fn spare(&self, numbers: &[u64]) -> Result<u64, CatalogError>;
    /// G6. Forgets those of the objects that are condemned and were last seen before `horizon`, with their commits and trees, and dooms
    /// the keys that lose their last one. What deltas of others rest on stays on record as long as its key.
    async fn doom(&self, numbers: &[u64], horizon: i64, now_ms: i64) -> Result<Doomed, CatalogError>;
    /// What the ledger knows of names that are in the bucket, in the order given.
    async fn name_states(&self, names: &[String]) -> Result<Vec<NameState>, CatalogError>;
    /// Burns names that no row has: from now on they are doomed, and nobody can reserve them. How many were burnt; none if the horizon is
    /// another one than this: the ledger was made anew meanwhile.
    async fn burn_keys(&self, names: &[String], horizon: i64, now_ms: i64) -> Result<u64, CatalogError>;
    /// Forgets reflog entries from before `reflog_before_ms`, and operations that ended and were silent since `ops_before_ms`.
    async fn forget(&self, reflog_before_ms: i64, ops_before_ms: i64) -> Result<Forgotten, CatalogError>;
    /// Forgets the whole reflog of a project; how many entries.
    async fn forget_reflog(&self, project: Uuid) -> Result<u64, CatalogError>;
    /// The id of the bucket that the keys are names in; `None` = the database was tied to none yet.
    async fn store_id(&self) -> Result<Option<Uuid>, CatalogError>;
    /// Ties the database to a bucket, if it is tied to none or `anew`. The id that stands from now on: of several callers the first one's.
    async fn set_store_id(&self, id: Uuid, anew: bool) -> Result<Uuid, CatalogError>;
}
