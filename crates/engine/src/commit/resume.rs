//! Going on where an earlier request, or an engine that died, stopped.

use std::collections::HashMap;

use treehold_catalog::{Attempt, AttemptState, WorkspaceKey};
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::held::LEFT_AFTER_MS;
use super::machine::{Settled, is_in_doubt};
use super::plan::Intent;
use super::request::{Claimed, Key, to_store};
use super::waits::Outlook;
use crate::api::{CommitAnswer, CommittedFile, Oid, Path, PendingAction};
use crate::remote::Endpoint;
use crate::tree::Side;
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// How often and how long a push of another engine is waited for.
const WAITS: usize = 100;
const WAIT: std::time::Duration = std::time::Duration::from_millis(100);

impl Engine {
    /// Looks at what the same request left behind, and finishes it if it can be. `None`: make a new attempt.
    pub(crate) async fn resume(
        &self,
        intent: &mut Intent,
        key: &Key,
        at: Option<&Endpoint>,
    ) -> Result<Option<CommitAnswer>> {
        let Some(name) = &key.key else { return Ok(None) };
        let attempts = self.catalog.attempts_of(intent.project.id, name).await?;
        let Some(last) = attempts.last() else { return Ok(None) };
        // Times are taken once for a request: where nothing else changed, it makes the same commit again.
        let before = crate::intake::commit_row(last.commit, last.raw.clone().into())?;
        if !intent.dated {
            intent.author.time_s = before.time;
        }
        // One that gave way to another engine's is not the one that counts.
        let (given_up, mut others): (Vec<_>, Vec<_>) =
            attempts.into_iter().partition(|attempt| attempt.state == AttemptState::Superseded);
        intent.given_up = given_up.into_iter().filter(|attempt| attempt.push).collect();
        let Some(mut attempt) = others.pop() else { return Ok(None) };
        if is_unsent(&attempt) && self.is_base_gone(&attempt).await? {
            // Made anew, it is made on what there is now.
            self.step(&mut attempt, AttemptState::Superseded, None).await?;
            return Ok(None);
        }
        match attempt.state {
            AttemptState::Superseded => Ok(None),
            AttemptState::Prepared => {
                self.step(&mut attempt, AttemptState::Superseded, None).await?;
                Ok(None)
            }
            AttemptState::Rejected => match self.landed_after_all(attempt.id).await? {
                Some(answer) => Ok(Some(answer)),
                None => Err(EngineError::PushRejected {
                    attempt: Some(attempt.id),
                    commit: Some(attempt.commit),
                    message: attempt.last_error.unwrap_or_default(),
                }),
            },
            AttemptState::Finalized | AttemptState::CommittedLocal => match self.claim(&intent.project, key).await? {
                Claimed::Answered(answer) => answer.map(Some),
                Claimed::Open => self.answer_of(&attempt).await.map(Some),
            },
            _ => {
                if let (true, Some(at)) = (attempt.push, at) {
                    self.clear_the_way((intent.project.id, intent.user), &attempt.branch.clone(), at, Some(attempt.id))
                        .await?;
                }
                self.complete(&mut attempt, at).await
            }
        }
    }

    /// The answer of an earlier attempt of the same request whose commit is in the history of `parent` after all: its push landed
    /// late, after it was given up. It must not be made twice.
    pub(crate) async fn landed_before(
        &self,
        intent: &Intent,
        parent: Option<ObjectId>,
        at: Option<&Endpoint>,
    ) -> Result<Option<CommitAnswer>> {
        let Some(parent) = parent.filter(|_| intent.push) else { return Ok(None) };
        for attempt in &intent.given_up {
            if self.is_ancestor(intent.project.id, attempt.commit, parent).await? {
                let mut attempt = attempt.clone();
                self.step(&mut attempt, AttemptState::Landed, None).await?;
                return self.complete(&mut attempt, at).await;
            }
        }
        Ok(None)
    }

    /// The answer of an attempt that was refused, if its commit is in the branch all the same, here or at the remote: an earlier push of
    /// it landed later than any is taken to land.
    pub(crate) async fn landed_after_all(&self, id: Uuid) -> Result<Option<CommitAnswer>> {
        let Some(mut attempt) = self.catalog.attempt(id).await? else { return Ok(None) };
        if attempt.state == AttemptState::Rejected {
            let ours = self.catalog.reference(attempt.project, &branch_ref(&attempt.branch)).await?;
            let theirs = self.remote_head(attempt.project, &attempt.branch).await?;
            let mut landed = false;
            for head in ours.into_iter().chain(theirs) {
                landed |= self.is_ancestor(attempt.project, attempt.commit, head).await?;
            }
            if !landed {
                return Ok(None);
            }
            // Housekeeping does the rest.
            self.step(&mut attempt, AttemptState::Landed, None).await?;
        }
        match attempt.state {
            AttemptState::Landed | AttemptState::Finalized => self.answer_of(&attempt).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Brings an attempt whose objects are stored to its end. `None`: it cannot land any more.
    pub(crate) async fn complete(&self, attempt: &mut Attempt, at: Option<&Endpoint>) -> Result<Option<CommitAnswer>> {
        if attempt.waits {
            self.end_wait(attempt, &mut Outlook::of(at)).await?;
            return self.answer_of(attempt).await.map(Some);
        }
        if attempt.push {
            let Some(at) = at else { return Ok(None) };
            if let Settled::Moved = self.settle(attempt, at).await? {
                if attempt.state != AttemptState::Superseded {
                    self.step(attempt, AttemptState::Superseded, None).await?;
                }
                return Ok(None);
            }
        }
        let answer = self.answer_of(attempt).await?;
        let text = to_store(&answer)?;
        let op = self.reopen(attempt).await?;
        match self.finalize(attempt, op, Some(&text)).await {
            Ok(()) => Ok(Some(answer)),
            Err(EngineError::Conflict { code: "head_moved", .. }) if !attempt.push => {
                self.step(attempt, AttemptState::Superseded, None).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same for one whose request is not repeated, unless it was taken back: then it is given up.
    pub(crate) async fn complete_left(&self, attempt: &mut Attempt, at: Option<&Endpoint>) -> Result<()> {
        match self.is_taken_back(attempt).await? {
            true => self.step(attempt, AttemptState::Superseded, None).await,
            false => self.complete(attempt, at).await.map(|_| ()),
        }
    }

    /// Whether nothing of an attempt was sent and it is not wanted any more: what it was made on was taken back, or a pending row that it takes
    /// is gone, discarded or committed since.
    async fn is_taken_back(&self, attempt: &Attempt) -> Result<bool> {
        if !is_unsent(attempt) {
            return Ok(false);
        }
        if self.is_base_gone(attempt).await? {
            return Ok(true);
        }
        let taken = attempt.snapshot.iter().filter(|row| row.revision.is_some());
        let taken: Vec<BString> = taken.map(|row| row.path.clone()).collect();
        let Some(user) = attempt.user.filter(|_| !taken.is_empty()) else { return Ok(false) };
        let key = WorkspaceKey { project: attempt.project, branch: attempt.pending_branch.clone(), user };
        let (_, there) = self.catalog.pending(&key, Some(&taken[..])).await?;
        Ok(there.len() < taken.len())
    }

    /// Whether what an attempt was made on, or pushes, is in the history of its branch no more, neither here nor at the remote: sent, the
    /// attempt would bring to the remote what was taken back before that had it.
    async fn is_base_gone(&self, attempt: &Attempt) -> Result<bool> {
        let Some(base) = attempt.base else { return Ok(false) };
        // A commit that goes to a branch of its own was made on the one whose pending work it takes.
        let branch = &attempt.pending_branch;
        let ours = self.catalog.reference(attempt.project, &branch_ref(branch)).await?;
        let theirs = self.remote_head(attempt.project, branch).await?;
        for head in ours.into_iter().chain(theirs) {
            if self.is_ancestor(attempt.project, base, head).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Settles what other requests left undecided on the branch, so that a push can go ahead: at most one may be on its way. The
    /// user's own attempts that wait for credentials are given up, as this request replaces them, unless they may have landed; `except` is the attempt that is
    /// to go ahead. `true`: something was settled, which may have moved the branch.
    pub(crate) async fn clear_the_way(
        &self,
        (project, user): (Uuid, Option<Uuid>),
        branch: &str,
        at: &Endpoint,
        except: Option<Uuid>,
    ) -> Result<bool> {
        let (mut cleared, mut outlook) = (false, Outlook::of(Some(at)));
        let mut open = self.catalog.open_attempts(Some((project, branch)), 100).await?;
        // One push of a branch is on its way at a time: what waits comes after those.
        open.sort_by_key(|attempt| attempt.state == AttemptState::Paused);
        for mut attempt in open.into_iter().filter(|attempt| Some(attempt.id) != except) {
            // It stands in nobody's way.
            if attempt.waits {
                cleared |= self.end_waits(std::slice::from_ref(&attempt), &mut outlook).await;
                continue;
            }
            let own = attempt.user.is_some() && attempt.user == user;
            let now_ms = self.ambient.now_ms();
            match attempt.state {
                // It may have landed: then this request goes on top of it.
                AttemptState::Paused if own && is_in_doubt(&attempt) => {
                    cleared |= self.settle_other(&mut attempt, own, at).await?;
                }
                AttemptState::Paused if own => {
                    self.step(&mut attempt, AttemptState::Superseded, None).await?;
                }
                AttemptState::Pushing if !self.config.sole && now_ms - attempt.updated_at_ms < LEFT_AFTER_MS => {
                    cleared = true;
                    if !self.wait_for(attempt.id).await?
                        && let Some(mut attempt) = self.catalog.attempt(attempt.id).await?
                    {
                        // It takes long, or that engine died. Taking over is safe: what it still sends and what is sent here is
                        // the same push, and its next step sees another fence.
                        self.settle_other(&mut attempt, own, at).await?;
                    }
                }
                AttemptState::Pushing | AttemptState::Unknown | AttemptState::Landed => {
                    cleared |= self.settle_other(&mut attempt, own, at).await?;
                }
                _ => {}
            }
        }
        Ok(cleared)
    }

    /// Settles an attempt that stands in the way of another request. What becomes of it is not that request's business: if it
    /// cannot be settled now it waits as `Paused`, which is safe, since the remote's compare of the old oid lets only one of the two
    /// land, and whoever comes back to it finds out which.
    pub(crate) async fn settle_other(&self, attempt: &mut Attempt, own: bool, at: &Endpoint) -> Result<bool> {
        match self.complete(attempt, Some(at)).await {
            Ok(_) => Ok(true),
            // Nobody knows whether it landed, and whoever made it can wait for that, or mend what stands in the way.
            Err(error) if own && is_in_doubt(attempt) => Err(error),
            Err(error) => {
                tracing::info!(%error, attempt = %attempt.id, "an attempt in the way could not be finished");
                match attempt.state {
                    AttemptState::Rejected | AttemptState::Paused => Ok(true),
                    AttemptState::Pushing | AttemptState::Unknown => {
                        let words = attempt.last_error.clone();
                        self.step_in_doubt(attempt, AttemptState::Paused, true, words).await?;
                        Ok(true)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Waits while another engine pushes. `true`: it is done.
    async fn wait_for(&self, id: Uuid) -> Result<bool> {
        for _ in 0..WAITS {
            self.ambient.rest(WAIT).await;
            let state = self.catalog.attempt(id).await?.map(|attempt| attempt.state);
            if state != Some(AttemptState::Pushing) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The answer to a commit whose push another engine took over, once that has finished it.
    pub(crate) async fn finished_elsewhere(&self, id: Uuid) -> Result<Option<CommitAnswer>> {
        for _ in 0..WAITS {
            match self.catalog.attempt(id).await? {
                Some(attempt) if attempt.state == AttemptState::Finalized || attempt.waits => {
                    return self.answer_of(&attempt).await.map(Some);
                }
                Some(attempt) if matches!(attempt.state, AttemptState::Landed | AttemptState::Pushing) => {}
                _ => return Ok(None),
            }
            self.ambient.rest(WAIT).await;
        }
        Ok(None)
    }

    /// The answer that an attempt gives, from its row.
    pub(crate) async fn answer_of(&self, attempt: &Attempt) -> Result<CommitAnswer> {
        let before: HashMap<BString, Side> = {
            let paths: Vec<BString> = attempt.snapshot.iter().map(|row| row.path.clone()).collect();
            let tree = match attempt.base {
                Some(base) => Some(self.commit_row(base).await?.tree),
                None => None,
            };
            let found = self.find_paths(tree, &paths).await?;
            let leaf = |item: crate::tree::Found| item.filter(|item| !item.is_tree());
            paths.into_iter().zip(found.into_iter().map(leaf)).collect()
        };
        let files = attempt.snapshot.iter().filter_map(|row| {
            let action = match (before[&row.path], row.oid) {
                (None, None) => return None,
                (Some(old), Some(oid)) if (old.oid, old.mode) == (oid, row.mode) => return None,
                (_, None) => PendingAction::Deleted,
                (None, Some(_)) => PendingAction::Created,
                (Some(_), Some(_)) => PendingAction::Modified,
            };
            Some(CommittedFile { path: Path(row.path.clone()), action, oid: row.oid.map(Oid) })
        });
        Ok(CommitAnswer {
            commit: Oid(attempt.commit),
            tree: Oid(attempt.tree),
            parents: attempt.base.map(Oid).into_iter().collect(),
            branch: attempt.branch.clone(),
            pushed: attempt.push,
            files: files.collect(),
            objects: attempt.objects.len() as u64,
        })
    }
}

/// Whether nothing of an attempt can have arrived: its objects are stored, or it waits for credentials.
fn is_unsent(attempt: &Attempt) -> bool {
    matches!(attempt.state, AttemptState::Stored | AttemptState::Paused) && !is_in_doubt(attempt)
}
