//! The ledger: which objects are stored where, and the writer's half of the collection protocol (docs/reliability.md, W0–W5).

use async_trait::async_trait;
use treehold_object::pack::Span;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use crate::error::CatalogError;

/// Row id of a bucket key.
pub type KeyId = i64;

/// Why an operation was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    /// A fetch from the remote.
    Import,
    /// A commit.
    Commit,
    /// Large pending content.
    Pending,
    /// Moving a ref to something that is already there.
    Refs,
    /// Moving objects to other places in the bucket.
    Repack,
    /// Writing down what the bucket does not say by itself.
    Manifest,
}

/// An open operation (W0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Made by the caller.
    pub id: Uuid,
    /// The epoch in which it began.
    pub epoch: i64,
}

/// An object that is durable in the bucket under the key being registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Its id, by collision-detecting SHA-1.
    pub oid: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Size of the content, bytes.
    pub size: u64,
    /// SHA-256 of type, size and content.
    pub sha256: [u8; 32],
    /// Where its entry starts in the value, bytes. 0 for a loose object.
    pub offset: u64,
    /// Length of the entry, bytes.
    pub length: u64,
    /// Where the entry starts that this one is a delta against, in the same value, bytes; `None`: it is whole.
    pub base: Option<u64>,
}

/// What became of a [`NewObject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The object's number in the ledger (of the first row, if it was known before).
    pub number: u64,
    /// `false`: the ledger already had a location, which it kept.
    pub new: bool,
}

/// A pinned object (W1): live, and safe from the collector while the op is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// The object's number in the ledger.
    pub number: u64,
}

/// Where an object's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The object.
    pub oid: ObjectId,
    /// Its number in the ledger.
    pub number: u64,
    /// Its type.
    pub kind: Kind,
    /// Size of the content, bytes.
    pub size: u64,
    /// Row id of its bucket key.
    pub key_id: KeyId,
    /// Bucket key. Ends in `.pack` for a pack, else the key is a loose object.
    pub key: String,
    /// Where its entry starts, bytes.
    pub offset: u64,
    /// Length of the entry, bytes.
    pub length: u64,
    /// Where the entry starts that this one is a delta against; `None`: it is whole. See [`Ledger::chains`].
    pub base: Option<u64>,
}

/// Totals, for `admin stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Objects that are live.
    pub objects: u64,
    /// Sum of their content sizes, bytes.
    pub content_bytes: u64,
    /// Sum of their stored entries, bytes.
    pub stored_bytes: u64,
    /// Bucket keys in use.
    pub keys: u64,
    /// Projects.
    pub projects: u64,
    /// Pending rows.
    pub pending: u64,
    /// Sum of what projects hold ([`crate::Project::bytes`]), logical bytes: what several hold counts for each.
    pub held_bytes: u64,
}

/// A part of what [`LedgerStats`] says of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerSums {
    /// Objects that are live.
    pub objects: u64,
    /// Sum of their content sizes, bytes.
    pub content_bytes: u64,
    /// Sum of their stored entries, bytes.
    pub stored_bytes: u64,
    /// The number from which to go on; `None` = that was the last part.
    pub next: Option<u64>,
}

/// The ledger.
#[async_trait]
pub trait Ledger {
    /// W0. Opens an operation in the current epoch, with the tips of the project's refs as its roots.
    async fn begin_op(&self, id: Uuid, project: Option<Uuid>, kind: OpKind, now_ms: i64) -> Result<Op, CatalogError>;
    /// Shows that the operation is alive.
    async fn heartbeat(&self, op: Uuid, now_ms: i64) -> Result<(), CatalogError>;
    /// Closes an operation that publishes nothing. Keys it reserved and never registered become doomed.
    async fn end_op(&self, op: Uuid) -> Result<(), CatalogError>;
    /// W1. Pins objects that are to be reused; `None` = not in the ledger, store it. Oids may repeat.
    async fn pin(&self, op: Uuid, oids: &[ObjectId]) -> Result<Vec<Option<Pinned>>, CatalogError>;
    /// W2. Reserves bucket keys; `None` = the name was used before and is burnt, choose another.
    async fn reserve(&self, op: Uuid, keys: &[String]) -> Result<Vec<Option<KeyId>>, CatalogError>;
    /// W4. Records the objects stored under a reserved key, in one transaction. A known object keeps its first location; the key
    /// becomes doomed at once if no row names it. Refuses with `Collision` where type, size or SHA-256 differ, with `OpLost`
    /// where the op is not open or the key not reserved by it, and with `Invalid` where a base is not the place of a given object.
    /// What kept deltas rest on stays on record, also where the ledger has the object itself elsewhere. Answers in the order
    /// given. Any number of objects.
    async fn register(
        &self,
        op: Uuid,
        key: KeyId,
        objects: &[NewObject],
        now_ms: i64,
    ) -> Result<Vec<Registered>, CatalogError>;
    /// Where objects are, in the order given. Knows nothing of projects: authorise first.
    async fn locate(&self, oids: &[ObjectId]) -> Result<Vec<Option<Located>>, CatalogError>;
    /// Content sizes of objects, bytes, in the order given; `None` = not in the ledger. For lists: less to read than all of `locate`.
    async fn sizes(&self, oids: &[ObjectId]) -> Result<Vec<Option<u64>>, CatalogError>;
    /// What each object rests on where it is: the entries of its value from its base on, nearest first, the last one whole; empty
    /// for a whole object. If the ledger changed since the object was located, a chain may be cut off: locate again.
    async fn chains(&self, located: &[Located]) -> Result<Vec<Vec<Span>>, CatalogError>;
    /// The same as [`Self::locate`] by ledger number, in order of (key, offset): how an export reads packs from front to back.
    async fn locate_numbers(&self, numbers: &[u64]) -> Result<Vec<Located>, CatalogError>;
    /// The keys in which the objects with numbers from `first` to `last` have their places, and how many of them in each.
    async fn keys_between(&self, first: u64, last: u64) -> Result<Vec<(KeyId, String, u64)>, CatalogError>;
    /// Ledger numbers of the objects whose place is in `key` at `from` or behind it, with where their entries start, in order of
    /// that, `limit` at most. Costs little: how a pack is copied from front to back.
    async fn places_in(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<(u64, u64)>, CatalogError>;
    /// Marks ops without a heartbeat since `before_ms` dead and dooms their reserved keys. Returns how many ops died.
    async fn reap_ops(&self, before_ms: i64) -> Result<u64, CatalogError>;
    /// Doomed keys in which no row was ever kept: they were never live, so their bytes go at once.
    async fn doomed_never_live(&self, limit: u32) -> Result<Vec<(KeyId, String)>, CatalogError>;
    /// Records that a doomed key's bytes are gone. Its name stays burnt.
    async fn key_deleted(&self, key: KeyId) -> Result<(), CatalogError>;
    /// Totals, in one go: as slow as the ledger is large.
    async fn stats(&self) -> Result<LedgerStats, CatalogError>;
    /// What `limit` objects at most sum up to, from the number `from` on: a ledger of any size is counted in short statements. What changes
    /// between two of them may be counted as it was or as it is.
    async fn sums(&self, from: u64, limit: u32) -> Result<LedgerSums, CatalogError>;
    /// [`LedgerStats::held_bytes`] alone: a row for each project.
    async fn held_bytes(&self) -> Result<u64, CatalogError>;
}
