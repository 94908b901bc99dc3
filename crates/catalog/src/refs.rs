//! Refs, what the remote last had, what a project reaches, and the one transaction that moves them.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::attempts::{AttemptChange, FinalAnswer};
use crate::error::CatalogError;

/// A full ref name (`refs/heads/main`) and what it points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// Full name.
    pub name: String,
    /// Target (a commit, or a tag object).
    pub oid: ObjectId,
    /// Of a branch that ends by itself; `None` = it stays.
    pub ephemeral: Option<Ephemeral>,
}

/// When a branch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ephemeral {
    /// How long after its last move, milliseconds.
    pub lifetime_ms: i64,
    /// Unix milliseconds.
    pub expires_at_ms: i64,
}

/// One compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Full name.
    pub name: String,
    /// What the ref must be now; `None` = it must not exist.
    pub expected: Option<ObjectId>,
    /// What it becomes; `None` = it is deleted.
    pub new: Option<ObjectId>,
}

/// The pending rows that a commit took: removed where their revision is still the one that was committed; rows that changed
/// since stay (docs/reliability.md, FINALIZED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearPending {
    /// Short branch name.
    pub branch: String,
    /// Whose work.
    pub user: Uuid,
    /// One for each row that was committed.
    pub rows: Vec<ClearedRow>,
    /// Why.
    pub cause: ClearCause,
}

/// Why pending rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearCause {
    /// The branch has a commit of them: rows that changed since start from the version that was taken.
    Committed,
    /// Another branch has it: rows that changed since keep what they start from.
    CommittedElsewhere,
    /// Nothing was committed, as the branch has it all: rows that changed since keep what they start from, and all stay while a commit is
    /// under way that may have taken them.
    Landed,
}

/// A pending row that a commit took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearedRow {
    /// Path.
    pub path: BString,
    /// The row's revision when it was taken.
    pub revision: i64,
    /// The blob now at the path; `None` = deleted.
    pub oid: Option<ObjectId>,
}

/// How often a project's refs have moved, and its reach was replaced. Read before what is worked out from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefState {
    /// Moves of any ref, ours or the remote's as we know it.
    pub moves: i64,
    /// Publications that replaced reach.
    pub shrinks: i64,
}

/// What must not have happened since something was worked out that a publication rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Reach may have grown, but lost nothing: what was found reachable still is.
    Kept(RefState),
    /// No ref moved: what was worked out from all of them still holds.
    Unmoved(RefState),
}

/// Everything that must move in one transaction (docs/reliability.md, law 2 and W5).
#[derive(Debug, Clone)]
pub struct Publish {
    /// The project.
    pub project: Uuid,
    /// The open operation under which the objects were stored or pinned. It is closed by this transaction.
    pub op: Uuid,
    /// Else nothing happens.
    pub guard: Option<Guard>,
    /// A branch (its short name) on which nobody may have pending work, else nothing happens.
    pub idle: Option<String>,
    /// All must match, else nothing happens.
    pub refs: Vec<RefUpdate>,
    /// How many the project may have afterwards; where it has more already, it may not have more than now.
    pub refs_max: usize,
    /// Branches, there after the moves, that from now on end so many milliseconds after their last move; `None` = that stay. Others
    /// keep what they have, and each move of an ephemeral one begins its time anew.
    pub lifetimes: Vec<(String, Option<i64>)>,
    /// What the remote is now known to have; `None` = nothing any more.
    pub remote_refs: Vec<(String, Option<ObjectId>)>,
    /// Of names in `remote_refs`, what the remote was known to have before it was asked. Where something else is known by now, and not what
    /// is to be recorded, another one has asked meanwhile, perhaps later, and nothing happens. Other names are set whatever is known.
    pub remote_seen: Vec<(String, Option<ObjectId>)>,
    /// Ledger numbers of objects that became reachable: added to the project's reach.
    pub reached: RoaringTreemap,
    /// After a deletion or a rewind: `reached` is the whole closure and replaces what was there.
    pub replace_reach: bool,
    /// Replaces the set of shallow commits, if given.
    pub shallow: Option<Vec<ObjectId>>,
    /// Pending work to settle.
    pub clear_pending: Option<ClearPending>,
    /// The attempt that this finishes, or lets wait (docs/reliability.md, FINALIZED).
    pub attempt: Option<AttemptChange>,
    /// The answer to remember for the request's idempotency key.
    pub answer: Option<FinalAnswer>,
    /// For the reflog and the feed: `commit`, `push`, `sync`, `merge`, `update`, `delete`, `restore`, `promote`, `expire`. What came by `sync` or `merge` is told as a
    /// sync, too.
    pub reason: &'static str,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// What [`Refs::publish`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Everything moved and is durable.
    Published,
    /// A ref was not what was expected; nothing changed. The name and what it really is.
    Moved(String, Option<ObjectId>),
    /// The guard does not hold, a branch that must be idle is not, or the remote was seen elsewhere; nothing changed. Work it out again.
    Overtaken,
}

/// What a ref was, and became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReflogEntry {
    /// Its place in the order of all moves; what a list goes on before.
    pub id: i64,
    /// Full name.
    pub name: String,
    /// What it was; `None` = it did not exist.
    pub old: Option<ObjectId>,
    /// What it became; `None` = it was deleted.
    pub new: Option<ObjectId>,
    /// See [`Publish::reason`].
    pub reason: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// Refs and reach.
#[async_trait]
pub trait Refs {
    /// One ref.
    async fn reference(&self, project: Uuid, name: &str) -> Result<Option<ObjectId>, CatalogError>;
    /// Of all refs whose name starts with `prefix` the first `limit` that come after the name `after`, in byte order.
    async fn references_page(
        &self,
        project: Uuid,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Ref>, CatalogError>;
    /// All refs whose name starts with `prefix`, in byte order.
    async fn references(&self, project: Uuid, prefix: &str) -> Result<Vec<Ref>, CatalogError>;
    /// Ephemeral branches of all projects that end before `before_ms`, `limit` at most, those first that end first; `after` = only those
    /// behind this one. Where somebody has pending work a branch stays.
    async fn expired_branches(
        &self,
        before_ms: i64,
        after: Option<&(Uuid, Ref)>,
        limit: u32,
    ) -> Result<Vec<(Uuid, Ref)>, CatalogError>;
    /// What the remote last had; none of it is ephemeral.
    async fn remote_references(&self, project: Uuid, prefix: &str) -> Result<Vec<Ref>, CatalogError>;
    /// Commits of this project whose parents were cut off by a shallow fetch.
    async fn shallow(&self, project: Uuid) -> Result<Vec<ObjectId>, CatalogError>;
    /// Moves of one ref, or of all, newest first, `limit` at most; `before` = only those before this entry.
    async fn reflog(
        &self,
        project: Uuid,
        name: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ReflogEntry>, CatalogError>;
    /// What a [`Guard`] compares with.
    async fn ref_state(&self, project: Uuid) -> Result<RefState, CatalogError>;
    /// Ledger numbers of everything that the project's refs reach.
    async fn reach(&self, project: Uuid) -> Result<RoaringTreemap, CatalogError>;
    /// For each oid, whether the project may read it: reached by its refs, or the content of its pending work. Does the same
    /// work whether or not the object exists elsewhere (docs/reliability.md, law 5).
    async fn may_read(&self, project: Uuid, oids: &[ObjectId]) -> Result<Vec<bool>, CatalogError>;
    /// Moves refs and everything that must move with them, in one transaction: under the project's row lock, checks the op
    /// against the horizon (W5), compares and swaps every ref, writes the reflog, grows reach, settles pending work, the attempt
    /// and the request. `OpLost` if the op is no longer open, `TooManyRefs` if there would be more than `refs_max`, `RefConflict` if a ref
    /// that is made cannot be beside another one that there is then. A ref that already is `new` when `expected` differs counts as `Moved`.
    ///
    /// After `Unavailable` the outcome is unknown (the connection may have ended during the commit). Repeating is safe: under the
    /// same op it is `OpLost` if it had been committed, under a new one `Moved` with the very oid that was to be set.
    async fn publish(&self, publish: &Publish) -> Result<PublishOutcome, CatalogError>;
}
