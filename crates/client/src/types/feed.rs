//! The change feed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mode, Oid, Origin, TreePath};

/// What became of a pending change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventAction {
    /// It is pending, at a path that the head has.
    Modified,
    /// It is pending, at a path that the head does not have.
    Created,
    /// It is pending that the path is to go.
    Deleted,
    /// It was dropped, or undone: nothing is pending there any more.
    Dropped,
    /// A commit took it: nothing is pending there any more.
    Committed,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EventView {
    /// A user's pending change of one path.
    Pending {
        /// Whose.
        user: Uuid,
        /// Short branch name.
        branch: String,
        /// From the root.
        #[serde(flatten)]
        path: TreePath,
        /// What became of it.
        action: EventAction,
        /// `null` where no file is pending.
        mode: Option<Mode>,
        /// What is pending or was committed; `null` for a deletion and where nothing is pending.
        oid: Option<Oid>,
        /// The blob that the edit starts from.
        base_oid: Option<Oid>,
        /// Revision of the workspace with this change.
        revision: i64,
        /// Where the change comes from.
        #[serde(flatten)]
        origin: Origin,
    },
    /// A ref moved.
    Ref {
        /// Full name.
        name: String,
        /// `null`: it did not exist.
        from: Option<Oid>,
        /// `null`: it is gone.
        to: Option<Oid>,
        /// `commit`, `push` (a git client's push was received), `sync` or `api`.
        reason: String,
    },
    /// A branch took over what the remote has.
    Sync {
        /// Short name.
        branch: String,
        /// `null`: it did not exist.
        from: Option<Oid>,
        /// Where it is now.
        to: Option<Oid>,
    },
    /// A push to the remote was settled, or waits for its user.
    Push {
        /// Short name.
        branch: String,
        /// The attempt.
        attempt: Uuid,
        /// Its commit.
        commit: Oid,
        /// Whose work, if anybody's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<Uuid>,
        /// `pushed`, `rejected`, `paused` (it waits for credentials) or `superseded` (it did not arrive, and will not).
        outcome: String,
    },
    /// What a newer server tells, and this client does not know.
    #[serde(other)]
    Other,
}

/// An event of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeEvent {
    /// Give it as `since` to go on after this event.
    pub cursor: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub told: EventView,
}

/// A piece of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePage {
    /// In their order.
    pub events: Vec<ChangeEvent>,
    /// Give it as `since` to go on. It may be ahead of the last event shown: what lies between was of other users.
    pub next_cursor: String,
    /// Whether there was more when this was read.
    pub more: bool,
}
