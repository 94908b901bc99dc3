//! The change feed: what happened in a project, in one order, for readers that come back.

use async_trait::async_trait;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

pub use crate::bells::Following;
use crate::error::CatalogError;
use crate::pending::{Action, Origin};

/// What became of a pending change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingEvent {
    /// It is pending now, in a new version or on a new base.
    Set(Action),
    /// It was dropped, or undone.
    Dropped,
    /// A commit took it.
    Committed,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A user's pending change of one path.
    Pending {
        /// Whose.
        user: Uuid,
        /// Short branch name.
        branch: String,
        /// Path from the root, raw bytes.
        path: BString,
        /// What became of it.
        event: PendingEvent,
        /// Git file mode; 0 where nothing is pending, or a deletion.
        mode: u32,
        /// What is pending, or was committed; `None` = a deletion, or dropped.
        oid: Option<ObjectId>,
        /// The blob that the edit starts from.
        base_oid: Option<ObjectId>,
        /// Revision of the workspace with this change; of the row, where only its base changed.
        revision: i64,
        /// Where the change comes from.
        origin: Origin,
    },
    /// A ref moved.
    Ref {
        /// Full name.
        name: String,
        /// `None` = it did not exist.
        from: Option<ObjectId>,
        /// `None` = it is gone.
        to: Option<ObjectId>,
        /// As in the reflog.
        reason: String,
    },
    /// A branch took over what the remote has.
    Sync {
        /// Short name.
        branch: String,
        /// `None` = it did not exist.
        from: Option<ObjectId>,
        /// Where it is now.
        to: Option<ObjectId>,
    },
    /// A push to the remote was settled, or waits for its user.
    Push {
        /// Short name.
        branch: String,
        /// The attempt.
        attempt: Uuid,
        /// Its commit.
        commit: ObjectId,
        /// Whose work, if anybody's.
        user: Option<Uuid>,
        /// What became of it.
        outcome: PushOutcome,
    },
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The remote has the commit, and our refs say so.
    Pushed,
    /// The remote refused for good.
    Rejected,
    /// It waits for credentials.
    Paused,
    /// It did not arrive, and will not any more.
    Superseded,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number in the project: counts up by one.
    pub seq: i64,
    /// Unix milliseconds, by the clock of whoever did it.
    pub at_ms: i64,
    /// What happened.
    pub told: Told,
}

/// An event on its way into the feed.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) project: Uuid,
    pub(crate) at_ms: i64,
    pub(crate) told: Told,
}

/// Where a feed begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedEnds {
    /// Number of the last event that is gone: those after it are kept.
    pub floor: i64,
    /// Number of the last event.
    pub last: i64,
}

/// A piece of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPage {
    /// In the order of their numbers.
    pub events: Vec<Event>,
    /// Where to go on: no event up to here was left out but those that were not asked for.
    pub position: i64,
    /// Where the feed ended when it was read.
    pub last: i64,
}

/// What [`Feed::events`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedRead {
    /// What comes after the position.
    Page(FeedPage),
    /// Events after the position are gone, or it is none of this feed.
    Expired,
}

/// Feeds. `conformance` tests the guarantees by number.
///
/// 1. *Whole.* An event is written in the transaction that does what it tells: there is none without the other.
/// 2. *Ordered.* The numbers of a project's events are consecutive, and become visible in their order: who has seen a number has
///    seen, or can read, all before it. A transaction that commits late gets a late number.
/// 3. *Kept.* Events stay until [`Feed::trim_events`] takes them, the oldest first, and a position before the first that is kept is refused.
/// 4. *Never again.* A number is not given twice, not to a project that is deleted and made anew either: a fresh feed begins at 1024
///    times the time, in milliseconds, of its creation, and no feed gets a million events a second for its whole life.
#[async_trait]
pub trait Feed {
    /// Where the feed begins and ends now; `None` = there is no such project.
    async fn feed_ends(&self, project: Uuid) -> Result<Option<FeedEnds>, CatalogError>;
    /// Up to `limit` events after a position, those of other users' pending work left out if a `user` is given, by one statement.
    /// The work is bounded, whatever is left out: an empty page whose `position` is before `last` is to be read on from there.
    /// `None` = there is no such project.
    async fn events(
        &self,
        project: Uuid,
        after: i64,
        user: Option<Uuid>,
        limit: u32,
    ) -> Result<Option<FeedRead>, CatalogError>;
    /// Removes events from before `before_ms`, and those beyond the newest `keep` of a project, up to `limit` of each project that has
    /// some; how many went. To be repeated until none do.
    async fn trim_events(&self, before_ms: i64, keep: u64, limit: u32) -> Result<u64, CatalogError>;
    /// Follows a feed, so as to be told of its events by whatever instance writes them. Costs no connection of its own.
    fn follow(&self, project: Uuid) -> Following;
}
