//! Local history: every version that pending work had, listed, found and thinned; and writes that answer a request once.

use std::sync::Arc;

use async_trait::async_trait;
use treehold_object::BString;
use uuid::Uuid;

use crate::error::CatalogError;
use crate::pending::{PendingOutcome, PendingRow, PendingWrite, WorkspaceKey};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A version of a pending file: the one that is current, or one that was replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The row as it is or was. Its revision names the version within its workspace.
    pub row: PendingRow,
    /// Unix milliseconds when it was replaced or removed; `None` = it is current.
    pub replaced_at_ms: Option<i64>,
}

/// How long replaced versions stay. Ages are milliseconds since a version was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// Younger ones all stay.
    pub all_ms: i64,
    /// Of those that are older, and younger than this, the newest of each hour of a path.
    pub hourly_ms: i64,
    /// Of those that are older still, and younger than this, the newest of each day of a path. Older ones go.
    pub daily_ms: i64,
}

impl HistoryPolicy {
    /// Whether a version goes that was replaced at `at_ms`, and the next version of its path at `next_ms`.
    pub(crate) fn drops(&self, at_ms: i64, next_ms: Option<i64>, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(at_ms);
        let same = |span_ms: i64| next_ms.is_some_and(|next| next.div_euclid(span_ms) == at_ms.div_euclid(span_ms));
        match age_ms {
            age if age < self.all_ms => false,
            age if age < self.hourly_ms => same(HOUR_MS),
            age if age < self.daily_ms => same(DAY_MS),
            _ => true,
        }
    }
}

/// Where [`History::thin_history`] goes on: workspace, path and revision of the last version that it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionPlace {
    /// The workspace's number in the catalog.
    pub workspace: i64,
    /// Path from the root.
    pub path: BString,
    /// The version.
    pub revision: i64,
}

/// What a step of thinning did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Versions that went.
    pub versions: u64,
    /// Contents that went with them, as nothing else names them.
    pub contents: u64,
    /// Where to go on; `None` = this was the end.
    pub next: Option<VersionPlace>,
}

/// An answer's body, made of the workspace's revision and those of the rows.
pub type AnswerOf = dyn Fn(i64, &[Option<i64>]) -> String + Send + Sync;

/// A request that is answered once ([`History::write_answering`]).
#[derive(Clone)]
pub struct Answering {
    /// Its idempotency key, claimed before.
    pub key: String,
    /// Makes the answer's body of the workspace's revision and those of the rows.
    pub body: Arc<AnswerOf>,
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answering").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What [`History::write_answering`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// As [`crate::Pending::write_pending`] says it.
    Pending(PendingOutcome),
    /// The request has its final answer already, by somebody who repeated it; nothing was written.
    Answered,
}

/// Local history.
#[async_trait]
pub trait History {
    /// Versions of a path, or of all, newest first: those with a revision below `before`.
    async fn versions(
        &self,
        key: &WorkspaceKey,
        path: Option<&BString>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>, CatalogError>;
    /// The version of a revision.
    async fn version(&self, key: &WorkspaceKey, revision: i64) -> Result<Option<Version>, CatalogError>;
    /// As `write_pending`, and remembers the answer to the request in the same transaction: it is written once and answered once,
    /// however often it is repeated.
    async fn write_answering(
        &self,
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        answering: &Answering,
        now_ms: i64,
    ) -> Result<WriteOutcome, CatalogError>;
    /// Looks at the next `limit` replaced versions after `after` (in order of workspace, path and revision) and removes those that
    /// `policy` does not keep, with their contents where neither pending work, nor a version, nor a checkpoint names them any more.
    ///
    /// What pending work and checkpoints name is never touched, nor a version that a commit under way has taken: an edit of it is to start
    /// from there once the commit lands. Safe beside everything else: a write that names a content again
    /// either keeps it from going, or brings it anew. Short transactions, one for each project of the step.
    async fn thin_history(
        &self,
        after: Option<&VersionPlace>,
        policy: &HistoryPolicy,
        limit: u32,
        now_ms: i64,
    ) -> Result<Thinned, CatalogError>;
    /// The same for up to `limit` versions of one project, or of one user of it, that were replaced by then, whatever a policy would keep, and
    /// whatever a commit under way has taken: an edit of that keeps what it started from, and may conflict with the commit.
    /// None are left when there is no `next`; none gone says nothing, as the thinning may have taken the same ones just then.
    async fn forget_history(
        &self,
        project: Uuid,
        user: Option<Uuid>,
        limit: u32,
        until_ms: i64,
    ) -> Result<Thinned, CatalogError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: all of the first day, one an hour in the first week, one a day in the first month, nothing older.
    #[test]
    fn the_policy_keeps_the_newest_of_each_span() {
        let policy = HistoryPolicy { all_ms: DAY_MS, hourly_ms: 7 * DAY_MS, daily_ms: 30 * DAY_MS };
        let now = 1000 * DAY_MS;
        let drops = |age: i64, next: Option<i64>| policy.drops(now - age, next.map(|next| now - next), now);
        assert!(!drops(DAY_MS - 1, Some(DAY_MS - 2)));
        assert!(drops(2 * DAY_MS - 1, Some(2 * DAY_MS - 2)), "the next one is of the same hour");
        assert!(!drops(2 * DAY_MS, Some(2 * DAY_MS - HOUR_MS)), "it is of another hour");
        assert!(!drops(2 * DAY_MS, None), "there is no next one");
        assert!(drops(8 * DAY_MS, Some(8 * DAY_MS - HOUR_MS)), "the same day");
        assert!(!drops(8 * DAY_MS, Some(7 * DAY_MS)));
        assert!(drops(30 * DAY_MS, None));
        assert!(!drops(-5, None), "a clock that was set back");
    }
}
