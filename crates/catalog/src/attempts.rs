//! Requests with idempotency keys and the commit state machine (docs/reliability.md).

use async_trait::async_trait;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::error::CatalogError;

/// Where an attempt is. Stored as its upper-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// Times taken, oid computed and saved; nothing sent.
    Prepared,
    /// Objects durable in the bucket.
    Stored,
    /// A push may be on its way.
    Pushing,
    /// A push was sent and its outcome is not known.
    Unknown,
    /// The remote has it; our refs do not yet.
    Landed,
    /// Done: refs moved, pending work settled.
    Finalized,
    /// Done, without a push.
    CommittedLocal,
    /// The remote refused for good.
    Rejected,
    /// Waits for credentials; blocks nobody.
    Paused,
    /// Replaced by a later attempt of the same request, or given up before anything was sent.
    Superseded,
}

/// A pending row as it was when the attempt was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Path.
    pub path: BString,
    /// The row's revision; `None` for an action of a request that has no pending row.
    pub revision: Option<i64>,
    /// The blob now at the path (after a merge, the merged one); `None` = deleted.
    pub oid: Option<ObjectId>,
    /// Mode; 0 for a deletion.
    pub mode: u32,
}

/// A commit attempt. Everything needed to make the same commit again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Made by the caller.
    pub id: Uuid,
    /// The project.
    pub project: Uuid,
    /// The request's idempotency key, if it had one.
    pub idempotency_key: Option<String>,
    /// Whose pending work; `None` for actions without a workspace.
    pub user: Option<Uuid>,
    /// Short name of the branch that the commit goes to.
    pub branch: String,
    /// Short name of the branch whose workspace is settled (differs from `branch` with `on_conflict: branch`).
    pub pending_branch: String,
    /// Parent; `None` for a root commit.
    pub base: Option<ObjectId>,
    /// Old value of the ref in the push; `None` = the branch is new there, or nothing is pushed.
    pub remote_base: Option<ObjectId>,
    /// Whether it is pushed.
    pub push: bool,
    /// Root tree.
    pub tree: ObjectId,
    /// The commit's id.
    pub commit: ObjectId,
    /// The raw commit object.
    pub raw: Vec<u8>,
    /// What it changes.
    pub snapshot: Vec<SnapshotRow>,
    /// Objects that it made (blobs, trees, the commit), to pin or send again.
    pub objects: Vec<ObjectId>,
    /// Where it is.
    pub state: AttemptState,
    /// Counts state changes; a change names the one it saw.
    pub fence: i64,
    /// A push of it was sent whose outcome is not known: it may have landed, or may yet. While it is `Pushing` or `Unknown` that is so in any
    /// case; this is how it stays known beyond.
    pub in_doubt: bool,
    /// The remote's words, for the user.
    pub last_error: Option<String>,
    /// The host makes the commit: while it is `Prepared`, `commit` is only what we would have made, and none of its objects are ours.
    pub hosted: bool,
    /// It is `Landed`, and waits for a merge that brings the commit into our branch.
    pub waits: bool,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds of the last change of state.
    pub updated_at_ms: i64,
}

impl Attempt {
    /// One that was just prepared, at a commit (its tree, its id, its bytes) on a branch: nobody's, of no parent, that changes nothing.
    pub fn prepared(
        id: Uuid,
        project: Uuid,
        branch: &str,
        (tree, commit, raw): (ObjectId, ObjectId, Vec<u8>),
        now_ms: i64,
    ) -> Self {
        Self {
            id,
            project,
            idempotency_key: None,
            user: None,
            branch: branch.to_owned(),
            pending_branch: branch.to_owned(),
            base: None,
            remote_base: None,
            push: false,
            tree,
            commit,
            raw,
            snapshot: Vec::new(),
            objects: Vec::new(),
            state: AttemptState::Prepared,
            fence: 0,
            in_doubt: false,
            last_error: None,
            hosted: false,
            waits: false,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        }
    }

    /// Its plain change to another state, if nobody moved it since it was read.
    pub fn to(&self, to: AttemptState) -> AttemptChange {
        AttemptChange { id: self.id, fence: self.fence, to, in_doubt: false, last_error: None, waits: None }
    }
}

/// A change of state, conditional on the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptChange {
    /// Which attempt.
    pub id: Uuid,
    /// The fence that the caller saw.
    pub fence: i64,
    /// Where it goes.
    pub to: AttemptState,
    /// See [`Attempt::in_doubt`].
    pub in_doubt: bool,
    /// The remote's words, for the user.
    pub last_error: Option<String>,
    /// To `Landed`: it waits there for a merge of this commit, which the remote has (see [`Attempt::waits`]). That is the attempt's commit from now
    /// on, and counts as pushed, whoever made it.
    pub waits: Option<ObjectId>,
}

/// The first final answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalAnswer {
    /// The idempotency key.
    pub key: String,
    /// The answer, as JSON that the engine understands.
    pub body: String,
}

/// What [`Attempts::claim`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The key is new, or known with the same body and not yet answered: go on (look at its attempts first).
    Open,
    /// The same request was answered: this is the answer.
    Answered(String),
    /// The key was used with another body.
    Reused,
}

/// Requests and attempts.
#[async_trait]
pub trait Attempts {
    /// Records the key with the hash of the request, or compares.
    async fn claim(&self, project: Uuid, key: &str, body_sha256: &[u8; 32], now_ms: i64)
    -> Result<Claim, CatalogError>;
    /// Remembers a final answer that comes without a publication (a refusal). The first answer stays.
    async fn answer(&self, project: Uuid, answer: &FinalAnswer) -> Result<(), CatalogError>;
    /// Saves an attempt in its state (`Prepared`).
    async fn insert_attempt(&self, attempt: &Attempt) -> Result<(), CatalogError>;
    /// Changes the state if the fence is still the one given; the new fence, or `None` if somebody else moved it.
    /// A change to `Pushing` is also refused (`None`) while another attempt on the same project and branch is `Pushing` or `Unknown`.
    async fn change_attempt(&self, change: &AttemptChange, now_ms: i64) -> Result<Option<i64>, CatalogError>;
    /// One attempt.
    async fn attempt(&self, id: Uuid) -> Result<Option<Attempt>, CatalogError>;
    /// Attempts of a request, oldest first.
    async fn attempts_of(&self, project: Uuid, key: &str) -> Result<Vec<Attempt>, CatalogError>;
    /// Attempts that are not final (`Prepared`, `Stored`, `Pushing`, `Unknown`, `Landed`, `Paused`), of one project and branch or of
    /// all, oldest first.
    async fn open_attempts(&self, of: Option<(Uuid, &str)>, limit: u32) -> Result<Vec<Attempt>, CatalogError>;
    /// Attempts that somebody may have left: neither final nor `Paused`, and not moved since `before_ms`. Each comes with its place in
    /// the order of their making; `after` is the last place seen (0 at first), so that a few that cannot be settled hide no others.
    async fn attempts_left(&self, before_ms: i64, after: i64, limit: u32) -> Result<Vec<(i64, Attempt)>, CatalogError>;
}
