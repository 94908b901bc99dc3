//! Pending work and its status.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_object::ObjectId;
use uuid::Uuid;

use super::{Mode, Oid, Path};

/// Condition of a write, from `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match: "oid"`: the caller's view of the path must be one of these. `Some(vec![])` never matches.
    pub if_match: Option<Vec<ObjectId>>,
    /// `If-Match: *`: the path must exist.
    pub if_match_any: bool,
    /// `If-None-Match: *`: the path must not exist.
    pub if_none_match_any: bool,
}

impl Condition {
    /// Whether nothing is asked for.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it holds where the file has this oid; `None` = there is no file.
    pub(crate) fn holds(&self, oid: Option<ObjectId>) -> bool {
        let matches = self.if_match.as_ref().is_none_or(|any| oid.is_some_and(|oid| any.contains(&oid)));
        let exists = !self.if_match_any || oid.is_some();
        let absent = !self.if_none_match_any || oid.is_none();
        matches && exists && absent
    }
}

/// What an autosave writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingBody {
    /// The file's bytes.
    Content(Bytes),
    /// The file is to go.
    Deleted,
}

/// Where an edit comes from, as its caller says: shown to others, and nothing rests on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Origin {
    /// The device's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Who made it: `person`, `agent` or `service`, and perhaps `:name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The session that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl From<treehold_catalog::Origin> for Origin {
    fn from(origin: treehold_catalog::Origin) -> Self {
        let treehold_catalog::Origin { device, actor, session } = origin;
        Self { device, actor, session }
    }
}

impl From<Origin> for treehold_catalog::Origin {
    fn from(origin: Origin) -> Self {
        let Origin { device, actor, session } = origin;
        Self { device, actor, session }
    }
}

/// An autosave.
#[derive(Debug, Clone)]
pub struct PutPending {
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// Git file mode; kept from the view if not given, 100644 for a new file.
    pub mode: Option<Mode>,
    /// The blob that the edit started from.
    pub base: Option<ObjectId>,
    /// Condition.
    pub condition: Condition,
    /// What to write.
    pub body: PendingBody,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a pending change does, in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PendingAction {
    /// The path exists in the head.
    Modified,
    /// It does not.
    Created,
    /// It is to go.
    Deleted,
    /// Nothing is pending: the write equals the head.
    None,
}

/// Answer to an autosave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PendingAnswer {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What is pending now.
    pub action: PendingAction,
    /// Six octal digits; `null` for a deletion.
    pub mode: Option<Mode>,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's last change (of the workspace, where nothing is pending).
    pub revision: i64,
    /// Whether a pending row came into being (201) or not (200).
    #[serde(skip)]
    pub created: bool,
}

/// One pending change of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PendingEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What it does.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub mode: Option<Mode>,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's last change.
    pub revision: i64,
    /// RFC 3339, UTC.
    pub updated_at: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// The pending work of a user on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PendingList {
    /// Revision of the workspace.
    pub revision: i64,
    /// In byte order of the path.
    pub changes: Vec<PendingEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// Answer to dropping pending work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DropAnswer {
    /// Revision of the workspace.
    pub revision: i64,
    /// How many changes went.
    pub dropped: u64,
}

/// How a pending change stands to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeState {
    /// The head still has the base.
    Clean,
    /// The head moved, and the change merges by itself.
    Outdated,
    /// The head moved, and it does not.
    Conflict,
}

/// One pending change of a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StatusEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What it does.
    pub action: PendingAction,
    /// What the user sees: of a change of mode alone, the head's. `null` for a deletion.
    pub oid: Option<Oid>,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// What the head has at the path.
    pub head_oid: Option<Oid>,
    /// The mode that is pending; `null` for a deletion.
    pub mode: Option<Mode>,
    /// The mode that the head has at the path.
    pub head_mode: Option<Mode>,
    /// The mode that the edit started from, where that is known: another `mode` is the user's own change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_mode: Option<Mode>,
    /// How it stands to the head.
    pub state: ChangeState,
    /// A commit would make nothing of it, as the head has the change already; it goes with the user's next commit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_head: bool,
    /// Revision of the row's last change.
    pub revision: i64,
    /// Others who have pending work on the path: an early warning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Uuid>,
}

/// Status of a branch for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// Short name.
    pub branch: String,
    /// Our commit.
    pub head: Option<Oid>,
    /// What the remote last had.
    pub remote_head: Option<Oid>,
    /// The remote is said to be elsewhere by now; a sync tells.
    pub remote_moved: bool,
    /// Where it is said to be, if it moved; `null` = its branch is said to be gone, or it did not move.
    pub remote_head_reported: Option<Oid>,
    /// When that was said, if it moved (RFC 3339).
    pub remote_reported_at: Option<String>,
    /// Commits that we have and the remote lacks.
    pub ahead: u64,
    /// Commits that the remote was seen to have and we lack.
    pub behind: u64,
    /// Revision of the workspace.
    pub revision: i64,
    /// In byte order of the path.
    pub changes: Vec<StatusEntry>,
    /// Commit attempts of this user on this branch that are not settled.
    pub attempts: Vec<AttemptView>,
}

/// An unsettled commit attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AttemptView {
    /// Its id.
    pub attempt: Uuid,
    /// The commit that it made.
    pub commit: Oid,
    /// `pushing`, `unknown`, `paused` …
    pub state: String,
}
