//! A commit that the remote has and our branch cannot go to: while its push was on its way, or while nobody knew what became of it, something
//! was committed here that was not pushed. Engines do not share the lock of a branch, and an outcome may be known late.
//!
//! The attempt stays `LANDED` and waits until a merge brings the commit into our branch. Only then are the rows settled that it took: until
//! then the edits are in view as pending work only, and what their user writes meanwhile is an edit of what was committed, also where it
//! equals our head. The request is answered at once, and the remote's ref is recorded. Nobody is kept from anything: a later push is refused as
//! long as the two branches differ, with or without a commit that waits.

use std::collections::HashSet;

use treehold_catalog::{Attempt, AttemptState, ClearCause, Publish};
use treehold_object::BString;
use uuid::Uuid;

use super::change::ChangeRow;
use super::machine::LAG_MS;
use super::made::is_hosted;
use super::plan::{Intent, MergedChanges};
use super::request::to_store;
use crate::api::CommitAnswer;
use crate::view::branch_ref;
use crate::{Engine, Result};

/// What an attempt says that waits.
const WAITS: &str = "our branch cannot go there before a merge";
/// Attempts of a branch that are looked at.
const OPEN_MAX: u32 = 100;

/// How a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitEnd {
    /// Our branch has the commit.
    Merged,
    /// Our branch is gone, or the remote has given the commit up: what was taken is pending work as before.
    GivenUp,
}

/// Whether an attempt waits for a merge.
pub(super) fn waits(attempt: &Attempt) -> bool {
    attempt.state == AttemptState::Landed && attempt.last_error.as_deref() == Some(WAITS)
}

/// Turns the publication that ends an attempt into one that lets it wait. Where it took no pending work of the branch, nothing is left to
/// settle, and it ends all the same.
pub(super) fn put_off(publish: &mut Publish) {
    let taken = publish.clear_pending.take();
    let settles = taken.is_some_and(|clear| clear.cause == ClearCause::Committed && !clear.rows.is_empty());
    if let (true, Some(change)) = (settles, &mut publish.attempt) {
        change.to = AttemptState::Landed;
        change.last_error = Some(WAITS.to_owned());
    }
}

impl Engine {
    /// Whether the wait of an attempt ends, and how; `None` = it waits on. It never moves our branch: that is for a sync.
    pub(super) async fn end_of_wait(&self, attempt: &Attempt) -> Result<Option<WaitEnd>> {
        let Some(ours) = self.catalog.reference(attempt.project, &branch_ref(&attempt.branch)).await? else {
            return Ok(Some(WaitEnd::GivenUp));
        };
        if self.is_ancestor(attempt.project, attempt.commit, ours).await? {
            return Ok(Some(WaitEnd::Merged));
        }
        // What the remote was seen to have may be from before the push.
        if self.ambient.now_ms().saturating_sub(attempt.updated_at_ms) <= LAG_MS {
            return Ok(None);
        }
        let kept = match self.remote_head(attempt.project, &attempt.branch).await? {
            Some(theirs) => self.is_ancestor(attempt.project, attempt.commit, theirs).await?,
            None => false,
        };
        Ok((!kept).then_some(WaitEnd::GivenUp))
    }

    /// Finalizes an attempt that waits, if it need not wait any more. It was answered, and the answer is the same either way.
    pub(super) async fn end_wait(&self, attempt: &mut Attempt) -> Result<CommitAnswer> {
        let answer = self.answer_of(attempt).await?;
        if self.end_of_wait(attempt).await?.is_some() {
            let text = to_store(&answer)?;
            let op = self.reopen(attempt).await?;
            self.finalize(attempt, op, Some(&text)).await?;
        }
        Ok(answer)
    }

    /// Finalizes what waited for a merge on a branch and waits no more. `true`: something did.
    pub(crate) async fn settle_waiting(&self, project: Uuid, branch: &str) -> Result<bool> {
        let mut settled = false;
        let open = self.catalog.open_attempts(Some((project, branch)), OPEN_MAX).await?;
        for mut attempt in open.into_iter().filter(waits) {
            // Another engine may just be at it, or it cannot be settled: that is nothing to who comes by.
            match self.end_wait(&mut attempt).await {
                Ok(_) => settled |= !waits(&attempt),
                Err(error) => {
                    tracing::warn!(%error, attempt = %attempt.id, "a commit that waits for a merge was not settled")
                }
            }
        }
        Ok(settled)
    }

    /// Looks, before pending work is committed that was merged, or of which some changes nothing, whether a push has taken an earlier version
    /// of it. `true`: what has landed was settled, which changes what the rows start from; plan again.
    pub(super) async fn mind_pushes(
        &self,
        intent: &Intent,
        rows: &[ChangeRow],
        merged: &mut MergedChanges,
    ) -> Result<bool> {
        let pending = rows.iter().any(|row| row.revision.is_some());
        if !pending || !(merged.moved || rows.iter().any(is_idle)) {
            return Ok(false);
        }
        if self.settle_waiting(intent.project.id, &intent.branch).await? {
            return Ok(true);
        }
        self.hold_back(intent, rows, merged).await?;
        Ok(false)
    }

    /// Takes out of a commit those pending rows that change nothing and of which a push of the same user has taken a version that is not
    /// settled: they may take that back, and will say so only then.
    pub(super) async fn hold_back(
        &self,
        intent: &Intent,
        rows: &[ChangeRow],
        merged: &mut MergedChanges,
    ) -> Result<()> {
        let idle: HashSet<&BString> = rows.iter().filter(|row| is_idle(row)).map(|row| &row.path).collect();
        if idle.is_empty() {
            return Ok(());
        }
        let open = self.catalog.open_attempts(Some((intent.project.id, &intent.branch)), OPEN_MAX).await?;
        let own = |attempt: &&Attempt| {
            let lands_elsewhere = attempt.push || is_hosted(attempt);
            lands_elsewhere && attempt.user == intent.user && attempt.pending_branch == intent.branch
        };
        let taken: HashSet<&BString> =
            open.iter().filter(own).flat_map(|attempt| &attempt.snapshot).map(|row| &row.path).collect();
        merged.snapshot.retain(|row| !(idle.contains(&row.path) && taken.contains(&row.path)));
        Ok(())
    }
}

/// Whether a change is a pending row and as it started.
fn is_idle(row: &ChangeRow) -> bool {
    row.revision.is_some() && row.changes_nothing()
}
