//! A commit that the remote has and our branch cannot go to: while its push was on its way, or while nobody knew what became of it, something
//! was committed here that was not pushed. Engines do not share the lock of a branch, and an outcome may be known late.
//!
//! The attempt stays `LANDED` and waits until a merge brings the commit into our branch. Only then are the rows settled that it took: until
//! then the edits are in view as pending work only, and what their user writes meanwhile is an edit of what was committed, also where it
//! equals our head. The request is answered at once, and the remote's ref is recorded. Nobody is kept from anything: a later push is refused as
//! long as the two branches differ, with or without a commit that waits.

use std::collections::{HashMap, HashSet};

use treehold_catalog::{Attempt, AttemptState, ClearCause, OpKind, Publish, WorkspaceKey};
use treehold_fault::point;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::change::ChangeRow;
use super::machine::LAG_MS;
use super::plan::{Intent, MergedChanges};
use crate::quota::unbound;
use crate::remote::Endpoint;
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// Attempts of a branch that are looked at.
const OPEN_MAX: u32 = 100;

/// What a pass over the commits that wait on a branch sees of the remote: it is looked at once, however many wait.
#[derive(Debug)]
pub(crate) struct Outlook<'a> {
    /// The remote, if the project has one.
    at: Option<&'a Endpoint>,
    /// Whether it could be seen; `None`: nobody has looked yet.
    seen: Option<bool>,
}

impl<'a> Outlook<'a> {
    /// Nobody has looked yet.
    pub fn of(at: Option<&'a Endpoint>) -> Self {
        Self { at, seen: None }
    }

    /// It could not be seen just now: nobody looks again.
    pub fn unseen(at: Option<&'a Endpoint>) -> Self {
        Self { at, seen: Some(false) }
    }

    /// Whether somebody looked in vain.
    pub fn is_unseen(&self) -> bool {
        self.seen == Some(false)
    }
}

/// How a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitEnd {
    /// Our branch has the commit.
    Merged,
    /// Our branch is gone, or the remote has given the commit up: what was taken is pending work as before.
    GivenUp,
}

/// Turns the publication that ends an attempt into one that lets it wait for a merge of `commit`, which the remote has. Where it took no
/// pending work of the branch, nothing is left to settle, and it ends all the same.
pub(super) fn put_off(publish: &mut Publish, commit: ObjectId) {
    let taken = publish.clear_pending.take();
    let settles = taken.is_some_and(|clear| clear.cause == ClearCause::Committed && !clear.rows.is_empty());
    if let (true, Some(change)) = (settles, &mut publish.attempt) {
        change.to = AttemptState::Landed;
        change.waits = Some(commit);
    }
}

impl Engine {
    /// Whether the wait of an attempt ends, and how; `None` = it waits on. It never moves our branch: that is for a sync. The
    /// remote is looked at only where what is known of it says that the commit is given up.
    async fn end_of_wait(&self, attempt: &Attempt, outlook: &mut Outlook<'_>) -> Result<Option<WaitEnd>> {
        let Some(ours) = self.catalog.reference(attempt.project, &branch_ref(&attempt.branch)).await? else {
            return Ok(Some(WaitEnd::GivenUp));
        };
        if self.is_ancestor(attempt.project, attempt.commit, ours).await? {
            return Ok(Some(WaitEnd::Merged));
        }
        // An answer about refs may be from before the push.
        if self.ambient.now_ms().saturating_sub(attempt.updated_at_ms) <= LAG_MS || self.is_kept(attempt).await? {
            return Ok(None);
        }
        let Some(at) = outlook.at else { return Ok(Some(WaitEnd::GivenUp)) };
        // What is known may be as old as that, or older: the branch may have the commit again.
        let seen = match outlook.seen {
            Some(seen) => seen,
            None => *outlook.seen.insert(self.is_seen(attempt, at).await?),
        };
        Ok((seen && !self.is_kept(attempt).await?).then_some(WaitEnd::GivenUp))
    }

    /// Looks at the remote's branch of an attempt now. `false`: it cannot be seen.
    async fn is_seen(&self, attempt: &Attempt, at: &Endpoint) -> Result<bool> {
        let project = self.find_project(&attempt.project.to_string()).await?;
        let fetched = self.fetch_remote(&unbound(&project), &attempt.branch, at, None, &()).await;
        if let Err(error) = &fetched {
            tracing::info!(%error, attempt = %attempt.id, "whether the remote gave a commit up cannot be seen; it waits on");
        }
        Ok(fetched.is_ok())
    }

    /// Whether the remote's branch, as it is known here, has the commit of an attempt.
    async fn is_kept(&self, attempt: &Attempt) -> Result<bool> {
        match self.remote_head(attempt.project, &attempt.branch).await? {
            Some(theirs) => self.is_ancestor(attempt.project, attempt.commit, theirs).await,
            None => Ok(false),
        }
    }

    /// Finalizes an attempt that waits, if it need not wait any more. `true`: it does not. Its answer was recorded when the wait began.
    pub(crate) async fn end_wait(&self, attempt: &mut Attempt, outlook: &mut Outlook<'_>) -> Result<bool> {
        let Some(end) = self.end_of_wait(attempt, outlook).await? else { return Ok(false) };
        // What the remote has, and what that leads to, was recorded then, too: this names no object.
        let op = self.begin_op(Some(attempt.project), OpKind::Commit).await?;
        let mut publish = self.finalization(attempt, &op, None);
        if end == WaitEnd::GivenUp {
            publish.clear_pending = None;
        }
        let ended = async {
            point("U5").await?;
            self.conclude(attempt, &publish).await
        };
        let ended = ended.await;
        if ended.is_err() {
            // It may have been published all the same; then this changes nothing.
            self.end_op(op).await;
        }
        ended.map(|()| true)
    }

    /// Finalizes what waited for a merge on a branch and waits no more. `true`: something did.
    pub(crate) async fn settle_waiting(&self, project: Uuid, branch: &str, at: Option<&Endpoint>) -> Result<bool> {
        let open = self.open_on(project, branch).await?;
        Ok(self.end_waits(&open, &mut Outlook::of(at)).await)
    }

    /// What is open on a branch, oldest first.
    pub(super) async fn open_on(&self, project: Uuid, branch: &str) -> Result<Vec<Attempt>> {
        Ok(self.catalog.open_attempts(Some((project, branch)), OPEN_MAX).await?)
    }

    /// Finalizes those that wait for a merge and need not any more. `true`: some.
    pub(super) async fn end_waits(&self, open: &[Attempt], outlook: &mut Outlook<'_>) -> bool {
        let waiting: Vec<Attempt> = open.iter().filter(|attempt| attempt.waits).cloned().collect();
        let mut settled = false;
        for mut attempt in waiting {
            // Another engine may just be at it, or it cannot be settled: that is nothing to who comes by.
            match self.end_wait(&mut attempt, outlook).await {
                Ok(ended) => settled |= ended,
                Err(error) => {
                    tracing::warn!(%error, attempt = %attempt.id, "a commit that waits for a merge was not settled")
                }
            }
        }
        settled
    }

    /// Looks, before pending work is committed that was merged, or of which some changes nothing, whether a push, or a commit that the forge
    /// has made and nobody heard of, has taken an earlier version of it. `true`: what has landed was settled, which changes what the rows
    /// start from, and may move our branch; plan again.
    pub(super) async fn mind_pushes(
        &self,
        intent: &Intent,
        rows: &[ChangeRow],
        merged: &mut MergedChanges,
        at: Option<&Endpoint>,
    ) -> Result<bool> {
        let pending = rows.iter().any(|row| row.revision.is_some());
        if !pending || !(merged.moved || rows.iter().any(is_idle)) {
            return Ok(false);
        }
        let open = self.open_on(intent.project.id, &intent.branch).await?;
        let taken = self.take_all_made(&open).await?;
        let mut outlook = Outlook::of(at);
        if self.end_waits(&open, &mut outlook).await || taken {
            return Ok(true);
        }
        // Against their own commit, which the rows did not start from when they were read, an edit does not merge: that is nothing for its
        // user to resolve.
        if !merged.conflicts.is_empty() {
            if self.is_behind_own(intent, &mut outlook).await? {
                return Err(EngineError::Busy);
            }
            if self.starts_anew(intent, rows, merged).await? {
                return Ok(true);
            }
        }
        hold_back_of(&open, intent, rows, merged);
        Ok(false)
    }

    /// Whether a push of the same user waits though it need not: it could not be settled just now, or another engine is at it.
    async fn is_behind_own(&self, intent: &Intent, outlook: &mut Outlook<'_>) -> Result<bool> {
        let open = self.open_on(intent.project.id, &intent.branch).await?;
        for attempt in open.iter().filter(|attempt| attempt.waits && attempt.user == intent.user) {
            if self.end_of_wait(attempt, outlook).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a row that does not merge is gone or starts from something else by now: another engine has settled what took it.
    async fn starts_anew(&self, intent: &Intent, rows: &[ChangeRow], merged: &MergedChanges) -> Result<bool> {
        let Some(user) = intent.user else { return Ok(false) };
        let key = WorkspaceKey { project: intent.project.id, branch: intent.branch.clone(), user };
        let paths: Vec<BString> = merged.conflicts.iter().map(|conflict| conflict.path.0.clone()).collect();
        let (_, now) = self.catalog.pending(&key, Some(&paths[..])).await?;
        let now: HashMap<&BString, Option<ObjectId>> = now.iter().map(|row| (&row.path, row.base_oid)).collect();
        let paths: HashSet<&BString> = paths.iter().collect();
        let mut taken = rows.iter().filter(|row| row.revision.is_some() && paths.contains(&row.path));
        Ok(taken.any(|row| now.get(&row.path) != Some(&row.base.oid)))
    }

    /// Takes out of a commit those pending rows that change nothing and of which a push of the same user has taken a version that is not
    /// settled: they may take that back, and will say so only then.
    pub(super) async fn hold_back(
        &self,
        intent: &Intent,
        rows: &[ChangeRow],
        merged: &mut MergedChanges,
    ) -> Result<()> {
        if rows.iter().any(is_idle) {
            let open = self.open_on(intent.project.id, &intent.branch).await?;
            hold_back_of(&open, intent, rows, merged);
        }
        Ok(())
    }
}

/// The same, with what is open on the branch.
fn hold_back_of(open: &[Attempt], intent: &Intent, rows: &[ChangeRow], merged: &mut MergedChanges) {
    let idle: HashSet<&BString> = rows.iter().filter(|row| is_idle(row)).map(|row| &row.path).collect();
    let own = |attempt: &&Attempt| {
        let lands_elsewhere = attempt.push || attempt.hosted;
        lands_elsewhere && attempt.user == intent.user && attempt.pending_branch == intent.branch
    };
    let taken: HashSet<&BString> =
        open.iter().filter(own).flat_map(|attempt| &attempt.snapshot).map(|row| &row.path).collect();
    merged.snapshot.retain(|row| !(idle.contains(&row.path) && taken.contains(&row.path)));
}

/// Whether a change is a pending row and as it started.
pub(super) fn is_idle(row: &ChangeRow) -> bool {
    row.revision.is_some() && row.changes_nothing()
}
