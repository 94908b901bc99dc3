//! Looking at all that is on record, for `verify`: also at rows that no other reader would want to see.
//!
//! Nothing here writes, and nothing leaves out what contradicts itself: that is what is looked for.

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::{BString, Kind, ObjectId};
use uuid::Uuid;

use crate::attempts::AttemptState;
use crate::error::CatalogError;
use crate::ledger::{KeyId, Located};

/// Where a bucket key is in its one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Its bytes may be on their way.
    Reserved,
    /// Its bytes are there.
    Present,
    /// Its bytes may go.
    Doomed,
    /// Its bytes are gone, its name stays burnt.
    Deleted,
}

/// A bucket key, whatever its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedKey {
    /// Row id.
    pub id: KeyId,
    /// The key.
    pub key: String,
    /// Its state.
    pub state: KeyState,
    /// Objects whose place it is.
    pub objects: u64,
    /// Where the furthest of their entries ends, bytes.
    pub end: u64,
}

/// A row of the ledger, whatever its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedObject {
    /// The object.
    pub oid: ObjectId,
    /// Its number.
    pub number: u64,
    /// Its type.
    pub kind: Kind,
    /// Size of the content, bytes.
    pub size: u64,
    /// SHA-256 of type, size and content.
    pub sha256: [u8; 32],
    /// Not condemned.
    pub live: bool,
    /// Row id of its bucket key.
    pub key_id: KeyId,
    /// The key and its state; `None`: there is no such row.
    pub key: Option<(String, KeyState)>,
    /// Where its entry starts, bytes.
    pub offset: u64,
    /// Length of the entry, bytes.
    pub length: u64,
    /// Where the entry starts that this one is a delta against.
    pub base: Option<u64>,
}

impl InspectedObject {
    /// The same as a reader is told it.
    pub fn located(&self) -> Option<Located> {
        let Self { oid, number, kind, size, key_id, offset, length, base, .. } = *self;
        let (key, _) = self.key.clone()?;
        Some(Located { oid, number, kind, size, key_id, key, offset, length, base })
    }
}

/// A move of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedMove {
    /// Row id.
    pub id: i64,
    /// Full name.
    pub name: String,
    /// What it pointed to, and what it then did; `None`: the ref did not exist.
    pub tips: [Option<ObjectId>; 2],
}

/// What is kept of one blob for a project's pending work, present or past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedContent {
    /// The blob.
    pub oid: ObjectId,
    /// Bytes, as recorded.
    pub size: u64,
    /// Where the content is.
    pub content: Inspected,
}

/// Where pending content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// In the bucket, by the ledger.
    Bucket,
    /// In the database.
    Inline(Bytes),
    /// In the database, where it does not unpack to the size that is recorded.
    Broken,
}

/// A pending row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedPending {
    /// Row id of its workspace.
    pub workspace: i64,
    /// Short branch name.
    pub branch: String,
    /// Whose work.
    pub user: Uuid,
    /// Path from the root, raw bytes.
    pub path: BString,
    /// The blob; `None` for a deletion.
    pub oid: Option<ObjectId>,
    /// The blob that the edit started from.
    pub base_oid: Option<ObjectId>,
    /// Whether the project's contents name the blob, so that it can be read.
    pub recorded: bool,
}

/// An attempt that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedAttempt {
    /// Its place in the order in which attempts were made.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub state: AttemptState,
    /// Its commit, which is stored unless it is `Prepared`.
    pub commit: ObjectId,
}

/// A replaced version of pending work for whose blob the project keeps no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostVersion {
    /// Short branch name.
    pub branch: String,
    /// Whose work.
    pub user: Uuid,
    /// Path from the root, raw bytes.
    pub path: BString,
    /// Its revision.
    pub revision: i64,
    /// The blob.
    pub oid: ObjectId,
}

/// The state of the collection protocol, and what stands still in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedProtocol {
    /// The epoch.
    pub epoch: i64,
    /// The horizon, which is never ahead of it.
    pub horizon: i64,
    /// Open operations without a sign of life, with the time of the last one (Unix milliseconds); 1,000 at most.
    pub silent_ops: Vec<(Uuid, i64)>,
    /// Attempts that hold up their branch, with their project, branch, state and last change (Unix milliseconds); 1,000 at most.
    pub stuck_attempts: Vec<(Uuid, Uuid, String, AttemptState, i64)>,
}

/// Looking at rows.
#[async_trait]
pub trait Inspect {
    /// Keys of any state whose name comes after `after` and, if given, not after `until`, in byte order of the name.
    async fn inspect_keys(
        &self,
        after: &str,
        until: Option<&str>,
        limit: u32,
    ) -> Result<Vec<InspectedKey>, CatalogError>;
    /// Keys of these names, in the order given.
    async fn inspect_names(&self, names: &[String]) -> Result<Vec<Option<InspectedKey>>, CatalogError>;
    /// Rows of these objects, in the order given.
    async fn inspect_objects(&self, oids: &[ObjectId]) -> Result<Vec<Option<InspectedObject>>, CatalogError>;
    /// Rows of the objects whose place is in `key` at `from` or behind it, in order of their offsets.
    async fn inspect_places(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<InspectedObject>, CatalogError>;
    /// Of the `limit` objects with numbers after `after`: those whose key is not present. The last number looked at; `None`: there
    /// are no more.
    async fn misplaced(&self, after: u64, limit: u32) -> Result<(Vec<InspectedObject>, Option<u64>), CatalogError>;
    /// The parents of commits as rows of their own, in order, which recursive walks follow.
    async fn inspect_parents(&self, commits: &[ObjectId]) -> Result<Vec<Vec<ObjectId>>, CatalogError>;
    /// The reflog of a project that is kept, after row `after`, in order of row ids.
    async fn inspect_moves(&self, project: Uuid, after: i64, limit: u32) -> Result<Vec<InspectedMove>, CatalogError>;
    /// Contents of a project's pending work, present or past, after `after`, in order of oid.
    async fn inspect_contents(
        &self,
        project: Uuid,
        after: Option<ObjectId>,
        limit: u32,
    ) -> Result<Vec<InspectedContent>, CatalogError>;
    /// Pending rows of a project after that of `after`, in order of workspace and path.
    async fn inspect_pending(
        &self,
        project: Uuid,
        after: Option<(i64, BString)>,
        limit: u32,
    ) -> Result<Vec<InspectedPending>, CatalogError>;
    /// Replaced versions of a project whose blob its contents do not name, the first ones in order of workspace, path and revision.
    async fn lost_versions(&self, project: Uuid, limit: u32) -> Result<Vec<LostVersion>, CatalogError>;
    /// Attempts of a project that are not final, after place `after`, oldest first.
    async fn inspect_attempts(
        &self,
        project: Uuid,
        after: i64,
        limit: u32,
    ) -> Result<Vec<InspectedAttempt>, CatalogError>;
    /// Epoch and horizon, operations silent since before `silent_ms`, attempts that push or whose outcome is unknown since before
    /// `stuck_ms`.
    async fn inspect_protocol(&self, silent_ms: i64, stuck_ms: i64) -> Result<InspectedProtocol, CatalogError>;
    /// What the database says of its own files, a sentence for each fault. Postgres is not asked: it has tools of its own
    /// (`pg_amcheck`, data checksums).
    async fn inspect_files(&self) -> Result<Vec<String>, CatalogError>;
}
