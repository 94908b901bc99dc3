//! Uncommitted edits: per project, branch, user and path.

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::error::CatalogError;
use crate::projects::{Project, ProjectKey};

/// One user's pending work on one branch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceKey {
    /// The project.
    pub project: Uuid,
    /// Short branch name.
    pub branch: String,
    /// The user, opaque to us.
    pub user: Uuid,
}

/// What an edit does to the path, against the head when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The path exists in the head.
    Modified,
    /// It does not.
    Created,
    /// It is to go.
    Deleted,
}

/// Where the content of a pending row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A deletion has none.
    None,
    /// In the database.
    Inline(Bytes),
    /// In the bucket: ask the ledger for the row's oid.
    Bucket,
    /// The project has it as a content of pending work already, wherever that is: a row, a version or a checkpoint names it. `OpLost` if
    /// it is gone by the time of the write.
    Kept,
}

/// Where an edit comes from, as its caller says. Told to others, believed by nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Origin {
    /// The device's name.
    pub device: Option<String>,
    /// Who made it: `person`, `agent` or `service`, and perhaps `:name`.
    pub actor: Option<String>,
    /// The session that it belongs to.
    pub session: Option<String>,
}

/// One pending change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Path from the root, raw bytes.
    pub path: BString,
    /// What it does.
    pub action: Action,
    /// Git file mode, such as 0o100644. 0 for a deletion.
    pub mode: u32,
    /// Blob id; `None` for a deletion.
    pub oid: Option<ObjectId>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from; `None` = the path did not exist.
    pub base_oid: Option<ObjectId>,
    /// The mode that it had; `None` = the path did not exist, or the row is from before modes were kept.
    pub base_mode: Option<u32>,
    /// Revision of the workspace at the row's last change.
    pub revision: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
    /// Where this version comes from.
    pub origin: Origin,
}

/// What the row must be for a write to happen: the compare in compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowExpectation {
    /// Anything: the last write wins.
    Any,
    /// No row at this path.
    Absent,
    /// The row that was read. A commit that lands gives a row another base and leaves its revision: then an edit of what was read must
    /// be judged again, or it would bring the old base back and conflict with what its user committed.
    Row {
        /// Of its last change.
        revision: i64,
        /// The blob that it starts from.
        base_oid: Option<ObjectId>,
        /// And its mode.
        base_mode: Option<u32>,
    },
}

impl RowExpectation {
    /// Exactly this row.
    pub fn of(row: &PendingRow) -> Self {
        Self::Row { revision: row.revision, base_oid: row.base_oid, base_mode: row.base_mode }
    }
}

/// What to do to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingChange {
    /// Record this edit.
    Set {
        /// What it does.
        action: Action,
        /// Git file mode; 0 for a deletion.
        mode: u32,
        /// Blob id; `None` for a deletion.
        oid: Option<ObjectId>,
        /// Bytes.
        size: u64,
        /// See [`PendingRow::base_oid`].
        base_oid: Option<ObjectId>,
        /// See [`PendingRow::base_mode`].
        base_mode: Option<u32>,
        /// Inline content is stored once per project and oid, compressed by the catalog.
        content: Content,
    },
    /// Remove the row (a reset).
    Clear,
    /// Remove the row, since the write equals the head. Where a commit is under way that may have taken the row, the head may be about to
    /// change, and nothing is written ([`PendingOutcome::CommitUnderWay`]): the edit must be recorded with `Set`.
    Undo,
    /// Leave the row, and record this version in local history, as if it had been there for a moment: what was sent and could not be
    /// taken is not lost. It gets a revision of its own, which the answer names.
    Keep {
        /// As in `Set`.
        action: Action,
        /// As in `Set`.
        mode: u32,
        /// As in `Set`.
        oid: Option<ObjectId>,
        /// As in `Set`.
        size: u64,
        /// As in `Set`.
        base_oid: Option<ObjectId>,
        /// As in `Set`.
        base_mode: Option<u32>,
        /// As in `Set`.
        content: Content,
    },
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingWrite {
    /// Path from the root, raw bytes.
    pub path: BString,
    /// What must be there.
    pub expect: RowExpectation,
    /// What to do.
    pub change: PendingChange,
    /// Where it comes from. Alone, another origin is no change.
    pub origin: Origin,
}

/// What [`Pending::write_pending`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingOutcome {
    /// Durable. The workspace's revision now, and for each write the row's revision if it changed anything
    /// (`None`: the same oid, mode and base were already there, or there was nothing to clear).
    Written {
        /// The workspace's revision.
        revision: i64,
        /// One per write, in order.
        rows: Vec<Option<i64>>,
    },
    /// An expectation failed; nothing was written. Index of the first such write.
    Mismatch(usize),
    /// The workspace's revision is not `expected_revision`; nothing was written.
    WorkspaceMoved(i64),
    /// A row was to be undone that a commit may have taken (an attempt of the user is neither final nor given up); nothing was written.
    /// Index of the first such write.
    CommitUnderWay(usize),
}

/// A replaced version, kept as local history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The row as it was.
    pub row: PendingRow,
    /// Unix milliseconds when it was replaced or removed.
    pub replaced_at_ms: i64,
}

/// Where an edit is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditSpot {
    /// The project, as the request names it.
    pub project: ProjectKey,
    /// Short branch name; `None` = the project's default branch.
    pub branch: Option<String>,
    /// Whose work.
    pub user: Uuid,
    /// Path from the root, raw bytes.
    pub path: BString,
}

/// What an edit is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditBase {
    /// The project.
    pub project: Project,
    /// Short branch name.
    pub branch: String,
    /// The branch's commit; `None` = there is no such ref.
    pub head: Option<ObjectId>,
    /// The commit's root tree; `None` = no ref, or a ref to something that the commit graph does not have.
    pub tree: Option<ObjectId>,
    /// Number of the workspace; `None` = it was never written.
    pub workspace: Option<i64>,
    /// The workspace's revision; 0 if it was never written.
    pub revision: i64,
    /// What is pending at the path.
    pub row: Option<PendingRow>,
}

/// A workspace as a writer has just read it, by [`Pending::edit_base`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub workspace: i64,
    /// Its revision.
    pub revision: i64,
    /// What was pending at the path that is written.
    pub row: Option<PendingRow>,
}

/// Pending work.
#[async_trait]
pub trait Pending {
    /// Everything in the catalog that an edit of one path is judged by, as one snapshot and in one round trip; `None` = no such
    /// project. Questions that arrive together may be answered together.
    async fn edit_base(&self, spot: &EditSpot) -> Result<Option<EditBase>, CatalogError>;
    /// The workspace's revision; 0 if it was never written.
    async fn workspace_revision(&self, key: &WorkspaceKey) -> Result<i64, CatalogError>;
    /// Rows in byte order of the path, read as one snapshot with the revision: all of them, or those of `paths`.
    async fn pending(
        &self,
        key: &WorkspaceKey,
        paths: Option<&[BString]>,
    ) -> Result<(i64, Vec<PendingRow>), CatalogError>;
    /// The same of a page: the first `limit` rows after the path `after`, which is empty at the start. Costs as much as it gives.
    async fn pending_page(
        &self,
        key: &WorkspaceKey,
        after: &BString,
        limit: u32,
    ) -> Result<(i64, Vec<PendingRow>), CatalogError>;
    /// The same of the rows below a directory, and those at `paths`, none of which is below it.
    async fn pending_below(
        &self,
        key: &WorkspaceKey,
        dir: &BString,
        paths: &[BString],
    ) -> Result<(i64, Vec<PendingRow>), CatalogError>;
    /// Everybody's rows on a branch, or those at `paths`, with their users, in order of user and path.
    async fn pending_on_branch(
        &self,
        project: Uuid,
        branch: &str,
        paths: Option<&[BString]>,
    ) -> Result<Vec<(Uuid, PendingRow)>, CatalogError>;
    /// Inline contents of a project's pending work, present or past, by oid, in the order given; `None` = not kept inline.
    async fn pending_contents(&self, project: Uuid, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>, CatalogError>;
    /// All writes or none, in one transaction: compares, then counts the workspace's revision up by one for each change, replaces
    /// rows (the old version goes to local history with its content) and records content. `expected_revision`: refuse if the
    /// workspace changed since (for writes whose checks looked at other rows). `NoProject` if the project is gone.
    ///
    /// [`Content::Bucket`] names an object that an operation, over by now, has registered: `OpLost` if the ledger has lost it since
    /// (store it again). After `Unavailable` the outcome is unknown. Repeating is safe: without an expectation nothing changes a second
    /// time, and an expectation that fails now finds the row with the oid that was to be written.
    async fn write_pending(
        &self,
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> Result<PendingOutcome, CatalogError>;
    /// As [`Pending::write_pending`], one write by somebody who has just looked. What was seen is a hint and costs nothing if it is
    /// not true any more: where it is, the workspace need not be read again.
    async fn write_seen(
        &self,
        key: &WorkspaceKey,
        seen: Option<Seen>,
        expected_revision: Option<i64>,
        write: PendingWrite,
        now_ms: i64,
    ) -> Result<PendingOutcome, CatalogError>;
    /// Removes all rows (to local history); the workspace's revision after it, and how many rows went.
    async fn clear_pending(&self, key: &WorkspaceKey, origin: &Origin, now_ms: i64)
    -> Result<(i64, u64), CatalogError>;
    /// Local history of a path, newest first.
    async fn pending_history(
        &self,
        key: &WorkspaceKey,
        path: &BString,
        limit: u32,
    ) -> Result<Vec<HistoryRow>, CatalogError>;
}
