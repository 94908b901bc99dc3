//! The commit state machine (docs/reliability.md): PREPARED → STORED → PUSHING → LANDED → FINALIZED, and its side states; what is not
//! pushed goes from PREPARED to COMMITTED_LOCAL.
//!
//! Every step is recorded before it is taken, so that any engine can go on where another one stopped. The remote's own compare of
//! the old oid decides whether a push lands; looking at its refs only settles what is not known.

use std::path::Path;

use tempfile::NamedTempFile;
use treehold_catalog::{
    Attempt, AttemptChange, AttemptState, ClearCause, ClearPending, ClearedRow, FinalAnswer, Guard, OpKind, Publish,
    PublishOutcome, RefUpdate, SnapshotRow, StoreCommit,
};
use treehold_fault::point;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::waits::put_off;
use crate::push::Sent;
use crate::refs::{REF_CONFLICT, TRIES, refuse_beside};
use crate::remote::{Endpoint, PushSpec, Pushed};
use crate::view::branch_ref;
use crate::writer::{Fresh, Operation};
use crate::{Engine, EngineError, Result};

/// How often the same push is sent within one request while its outcome is unknown.
const SENDS: usize = 3;

/// So long after a commit was made, an answer about refs may come from a time before its push (a replica that lags, a cache).
pub(super) const LAG_MS: i64 = 10 * 60_000;

/// What became of a push.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The remote has the commit.
    Landed,
    /// The remote's branch is elsewhere; the attempt cannot land any more.
    Moved,
}

/// What a push sends.
struct Parcel<'a> {
    pack: NamedTempFile,
    /// What it was made of, if it holds deltas against objects of the remote.
    thin: Option<&'a Fresh>,
}

impl Engine {
    /// Records a step of an attempt; `OpLost`-like interference by another engine is `Busy`. What is in doubt stays so until it is settled.
    pub(crate) async fn step(&self, attempt: &mut Attempt, to: AttemptState, error: Option<String>) -> Result<()> {
        let settled = !matches!(to, AttemptState::Pushing | AttemptState::Unknown | AttemptState::Paused);
        let in_doubt = attempt.in_doubt && !settled;
        self.step_in_doubt(attempt, to, in_doubt, error).await
    }

    /// The same, and whether an earlier push of it may still land.
    pub(super) async fn step_in_doubt(
        &self,
        attempt: &mut Attempt,
        to: AttemptState,
        in_doubt: bool,
        error: Option<String>,
    ) -> Result<()> {
        let last_error = error.clone();
        let change = AttemptChange { in_doubt, last_error, ..attempt.to(to) };
        let fence = self.catalog.change_attempt(&change, self.ambient.now_ms()).await?.ok_or(EngineError::Busy)?;
        attempt.fence = fence;
        attempt.state = to;
        attempt.in_doubt = in_doubt;
        attempt.last_error = error;
        attempt.waits = false;
        Ok(())
    }

    /// Pushes an attempt whose objects are stored, and finds out what became of it. The pack is made first: if our own store fails
    /// then, nothing was sent and the attempt is where it was.
    pub(crate) async fn push_attempt(&self, attempt: &mut Attempt, at: &Endpoint, fresh: &Fresh) -> Result<Settled> {
        let doubt = is_in_doubt(attempt);
        let sent = Sent::of(attempt);
        let pack = self.held(attempt, self.push_pack(sent, fresh, true)).await?;
        let mut parcel = Parcel { pack, thin: Some(fresh).filter(|fresh| !fresh.before.is_empty()) };
        point("U1").await?;
        self.step(attempt, AttemptState::Pushing, None).await?;
        let pushed = self.send(attempt, at, &mut parcel).await?;
        self.judge(attempt, at, &mut parcel, (pushed, doubt)).await
    }

    /// Sends the pack; and once more, whole, if the remote could not unpack deltas against its own objects.
    async fn send(&self, attempt: &mut Attempt, at: &Endpoint, parcel: &mut Parcel<'_>) -> Result<Pushed> {
        point("U3").await?;
        let pushed = self.post(attempt, at, parcel.pack.path()).await;
        let Pushed::Lacking(detail) = &pushed else { return Ok(pushed) };
        let Some(fresh) = parcel.thin.take() else { return Ok(pushed) };
        tracing::info!(detail, attempt = %attempt.id, "the remote could not unpack deltas; the push goes again, whole");
        parcel.pack = self.push_pack(Sent::of(attempt), fresh, false).await?;
        Ok(self.post(attempt, at, parcel.pack.path()).await)
    }

    /// One POST of a precomputed pack.
    async fn post(&self, attempt: &mut Attempt, at: &Endpoint, pack: &Path) -> Pushed {
        let spec = PushSpec {
            name: branch_ref(&attempt.branch),
            old: attempt.remote_base,
            new: attempt.commit,
            pack: pack.to_owned(),
        };
        self.held(attempt, self.remote.push(at, &spec)).await
    }

    /// Acts on the outcome of a push; an unknown one is settled by looking and repeating, a bounded number of times. `before`: an earlier
    /// push of the attempt may still land.
    async fn judge(
        &self,
        attempt: &mut Attempt,
        at: &Endpoint,
        parcel: &mut Parcel<'_>,
        (mut pushed, before): (Pushed, bool),
    ) -> Result<Settled> {
        let mut lately = false;
        for sent in 1.. {
            point("U4").await?;
            let doubt = before || lately;
            lately |= matches!(pushed, Pushed::Unknown(_));
            let detail = match pushed {
                Pushed::Landed => {
                    self.step(attempt, AttemptState::Landed, None).await?;
                    return Ok(Settled::Landed);
                }
                Pushed::Rejected(message) | Pushed::Lacking(message) if !doubt => {
                    return self.rejected(attempt, message).await;
                }
                Pushed::Rejected(message) | Pushed::Lacking(message) => {
                    return self.refused_in_doubt(attempt, at, message, lately).await;
                }
                Pushed::Auth => return self.paused(attempt, None, doubt).await,
                Pushed::Limited(retry_after_s) => return self.paused(attempt, Some(retry_after_s), doubt).await,
                Pushed::Unreachable(detail) => return self.unreachable(attempt, detail, doubt).await,
                Pushed::Stale(detail) | Pushed::Unknown(detail) => detail,
            };
            self.step(attempt, AttemptState::Unknown, Some(detail)).await?;
            match self.look(attempt, at).await {
                Ok(Some(settled)) => return Ok(settled),
                Ok(None) if sent >= SENDS => break,
                Ok(None) => {
                    self.step(attempt, AttemptState::Pushing, None).await?;
                    pushed = self.send(attempt, at, parcel).await?;
                }
                Err(error) => {
                    tracing::warn!(%error, attempt = %attempt.id, "an unknown push could not be settled yet");
                    break;
                }
            }
        }
        Err(unknown(attempt))
    }

    /// The remote refuses a push of which an earlier one may still be on its way: a hook may have let that through. So the refusal is not
    /// final before a look that cannot be older than it. `lately`: it was sent in this very request.
    async fn refused_in_doubt(
        &self,
        attempt: &mut Attempt,
        at: &Endpoint,
        message: String,
        lately: bool,
    ) -> Result<Settled> {
        self.step_in_doubt(attempt, AttemptState::Unknown, true, Some(message.clone())).await?;
        let early = lately || self.ambient.now_ms().saturating_sub(attempt.created_at_ms) <= LAG_MS;
        match self.look(attempt, at).await {
            // It has landed, or the branch is elsewhere and no push of it can.
            Ok(Some(settled)) => Ok(settled),
            Ok(None) if !early => self.rejected(attempt, message).await,
            Ok(None) => Err(unknown(attempt)),
            Err(error) => {
                tracing::warn!(%error, attempt = %attempt.id, "a refused push could not be settled yet");
                Err(unknown(attempt))
            }
        }
    }

    /// Settles an attempt whose outcome is unknown by the remote's refs; `None` = it has not landed: repeat the same push.
    async fn look(&self, attempt: &mut Attempt, at: &Endpoint) -> Result<Option<Settled>> {
        point("U2").await?;
        let name = branch_ref(&attempt.branch);
        // Before it is asked, as by a fetch.
        let known = self.catalog.remote_references(attempt.project, "refs/").await?;
        let refs = self.remote.refs(at, std::slice::from_ref(&name)).await?;
        let tip = refs.refs.iter().find(|(found, _)| *found == name).map(|(_, oid)| *oid);
        if tip == attempt.remote_base || self.may_be_past(attempt, tip).await? {
            return Ok(None);
        }
        let landed = match tip {
            None => false,
            Some(tip) if tip == attempt.commit => true,
            Some(tip) => {
                let project = self.find_project(&attempt.project.to_string()).await?;
                let (project, branch) = (crate::quota::unbound(&project), attempt.branch.clone());
                self.held(attempt, self.fetch_tip(&project, &branch, known, tip, at)).await?;
                self.is_ancestor(attempt.project, attempt.commit, tip).await?
            }
        };
        let (to, settled) = match landed {
            true => (AttemptState::Landed, Settled::Landed),
            false => (AttemptState::Superseded, Settled::Moved),
        };
        self.step(attempt, to, None).await?;
        Ok(Some(settled))
    }

    /// Whether `tip` is where the branch was before the push was made for it. Then it says nothing: believed, it would give up a
    /// commit that may have landed, and its edits would be committed once more. The same push again decides, until the answer cannot be
    /// old any more and the branch must have been set back.
    async fn may_be_past(&self, attempt: &Attempt, tip: Option<ObjectId>) -> Result<bool> {
        let Some(base) = attempt.remote_base else { return Ok(false) };
        if self.ambient.now_ms().saturating_sub(attempt.created_at_ms) > LAG_MS {
            return Ok(false);
        }
        match tip {
            None => Ok(true),
            Some(tip) => self.is_ancestor(attempt.project, tip, base).await,
        }
    }

    async fn rejected(&self, attempt: &mut Attempt, message: String) -> Result<Settled> {
        self.step(attempt, AttemptState::Rejected, Some(message.clone())).await?;
        Err(EngineError::PushRejected { attempt: Some(attempt.id), commit: Some(attempt.commit), message })
    }

    async fn paused(&self, attempt: &mut Attempt, limited: Option<Option<u64>>, doubt: bool) -> Result<Settled> {
        self.step_in_doubt(attempt, AttemptState::Paused, doubt, None).await?;
        Err(match limited {
            None => EngineError::RemoteAuth { attempt: Some(attempt.id), commit: Some(attempt.commit) },
            Some(retry_after_s) => EngineError::RemoteFailed {
                code: "remote_rate_limited",
                detail: "The remote asks to come back later.".to_owned(),
                retry_after_s,
            },
        })
    }

    async fn unreachable(&self, attempt: &mut Attempt, detail: String, doubt: bool) -> Result<Settled> {
        self.step_in_doubt(attempt, AttemptState::Paused, doubt, Some(detail.clone())).await?;
        Err(EngineError::RemoteFailed { code: "remote_failed", detail, retry_after_s: None })
    }

    /// Settles an attempt that another request, perhaps another engine, left behind.
    pub(crate) async fn settle(&self, attempt: &mut Attempt, at: &Endpoint) -> Result<Settled> {
        match attempt.state {
            AttemptState::Landed => Ok(Settled::Landed),
            AttemptState::Pushing | AttemptState::Unknown => {
                if attempt.state == AttemptState::Pushing {
                    self.step(attempt, AttemptState::Unknown, None).await?;
                }
                match self.look(attempt, at).await? {
                    Some(settled) => Ok(settled),
                    None => self.push_attempt(attempt, at, &Fresh::default()).await,
                }
            }
            _ => self.push_attempt(attempt, at, &Fresh::default()).await,
        }
    }

    /// FINALIZE: moves our refs, settles the pending rows that were committed and closes the attempt, in one transaction; or, where our
    /// branch cannot go there, lets it wait for a merge. The operation has pinned every object of the attempt.
    pub(crate) async fn finalize(&self, attempt: &mut Attempt, op: Operation, answer: Option<&str>) -> Result<()> {
        let id = op.id;
        let publish = self.finalization(attempt, &op, answer);
        let published = self.publish_end(attempt, &publish).await;
        if published.is_err() {
            // It may have been published all the same; then this changes nothing.
            self.end(id).await;
        }
        published
    }

    /// PREPARED → COMMITTED_LOCAL in one transaction, of a commit that is not pushed and whose pack is durable. `false` = the branch is not
    /// where the commit was made for it, or what that was made on has gone just now; nothing was written.
    pub(super) async fn land(
        &self,
        attempt: &mut Attempt,
        store: &StoreCommit,
        op: &Operation,
        answer: &str,
    ) -> Result<bool> {
        if is_push_of_head(attempt) {
            return Ok(false);
        }
        let mut publish = self.finalization(attempt, op, Some(answer));
        publish.refs = vec![update(attempt, onto(attempt))];
        if onto(attempt) != attempt.base {
            self.bring_history(attempt, &mut publish).await?;
        }
        point("U5").await?;
        let landed = self.catalog.land_commit(store, &publish).await? == PublishOutcome::Published;
        if landed {
            attempt.state = finished(attempt);
        }
        Ok(landed)
    }

    /// Ends an attempt in one transaction. What that is to say is decided before it, and anew for each try, as something has moved then.
    async fn publish_end(&self, attempt: &mut Attempt, publish: &Publish) -> Result<()> {
        point("U5").await?;
        // Mostly the branch is where the commit was made for it, and the transaction itself finds that out.
        let expected = onto(attempt) == attempt.base && !is_push_of_head(attempt);
        for tried in 0..=TRIES {
            let mut end = publish.clone();
            // At last where the remote is, the next look says. That the commit has landed is recorded in any case.
            if tried < TRIES {
                self.tell_news(attempt, &mut end).await?;
            }
            match expected && tried == 0 {
                true => end.refs = vec![update(attempt, attempt.base)],
                false => self.direct(attempt, &mut end).await?,
            }
            match self.try_conclude(attempt, &end).await {
                Ok(true) => return Ok(()),
                Ok(false) | Err(EngineError::Conflict { code: "head_moved" | REF_CONFLICT, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // The remote has what was pushed: there is nothing to plan again, and whoever comes by ends it.
        Err(if attempt.push { EngineError::Busy } else { moved(&attempt.branch) })
    }

    /// Has the end of an attempt move our branch from where it is now, or wait for a merge if it cannot go to the commit.
    async fn direct(&self, attempt: &Attempt, end: &mut Publish) -> Result<()> {
        match self.refs_to_move(attempt).await? {
            Some(refs) => end.refs = refs,
            None => put_off(end, attempt.commit),
        }
        if end.refs.is_empty() && end.remote_refs.is_empty() {
            // No ref comes to the commit by this: one has it already, or it was taken back on both sides.
            end.reached.clear();
            return Ok(());
        }
        // The remote's branch, which may be recorded with it, keeps the commit in the project's reach, too.
        self.bring_history(attempt, end).await
    }

    pub(super) async fn conclude(&self, attempt: &mut Attempt, publish: &Publish) -> Result<()> {
        match self.try_conclude(attempt, publish).await? {
            true => Ok(()),
            false => Err(moved(&attempt.branch)),
        }
    }

    /// `false` = the remote was seen elsewhere meanwhile; nothing happened.
    async fn try_conclude(&self, attempt: &mut Attempt, publish: &Publish) -> Result<bool> {
        match self.catalog.publish(publish).await? {
            PublishOutcome::Published => {
                if let Some(change) = &publish.attempt {
                    attempt.state = change.to;
                    attempt.in_doubt = change.in_doubt;
                    attempt.last_error.clone_from(&change.last_error);
                    attempt.waits = change.waits.is_some();
                    attempt.fence += 1;
                }
                Ok(true)
            }
            PublishOutcome::Overtaken => Ok(false),
            PublishOutcome::Moved(..) => Err(moved(&attempt.branch)),
        }
    }

    /// Has the end of a push say where the remote's branch is, if the commit is the newest that is known of it: a look may have shown what
    /// others put on top of it. It says so only while nothing else is known, as another engine may be looking just now.
    async fn tell_news(&self, attempt: &Attempt, publish: &mut Publish) -> Result<()> {
        publish.remote_refs.clear();
        publish.remote_seen.clear();
        if !attempt.push {
            return Ok(());
        }
        let known = self.remote_head(attempt.project, &attempt.branch).await?;
        let is_news = match known {
            Some(known) if Some(known) != attempt.remote_base && Some(known) != attempt.base => {
                self.is_ancestor(attempt.project, known, attempt.commit).await?
            }
            _ => true,
        };
        if is_news {
            let name = branch_ref(&attempt.branch);
            publish.remote_refs.push((name.clone(), Some(attempt.commit)));
            publish.remote_seen.push((name, known));
        }
        Ok(())
    }

    /// Adds what an attempt's commit was made on to what a publication brings, where the project does not reach that any more: the branch that
    /// had it was deleted or set back meanwhile. The reflog keeps it from being collected.
    async fn bring_history(&self, attempt: &Attempt, publish: &mut Publish) -> Result<()> {
        let base: Vec<ObjectId> = attempt.base.into_iter().collect();
        let seen = self.catalog.ref_state(attempt.project).await?;
        if self.catalog.may_read(attempt.project, &base).await?.contains(&false) {
            let project = self.find_project(&attempt.project.to_string()).await?;
            publish.reached |= self.kept_alive(publish.op, self.closure(&project, base)).await?;
        }
        publish.guard = Some(Guard::Kept(seen));
        Ok(())
    }

    /// What an attempt moves, from where its branch is now; `None` = the branch neither has the commit nor can go there.
    pub(super) async fn refs_to_move(&self, attempt: &Attempt) -> Result<Option<Vec<RefUpdate>>> {
        // Where the branch has been set back since, that is not undone.
        if is_push_of_head(attempt) {
            return Ok(Some(Vec::new()));
        }
        let name = branch_ref(&attempt.branch);
        let head = self.catalog.reference(attempt.project, &name).await?;
        // A pull may have moved our branch to or past the commit already.
        let passed = match head {
            Some(head) => self.is_ancestor(attempt.project, attempt.commit, head).await?,
            None => false,
        };
        let behind = match head {
            Some(head) => !passed && self.is_ancestor(attempt.project, head, attempt.commit).await?,
            // Another ref may have come meanwhile that it cannot be beside; the remote may have taken it all the same.
            None => refuse_beside(&self.catalog.references(attempt.project, "refs/").await?, &name).is_ok(),
        };
        // What is not pushed goes onto the very commit that it was made for.
        if !attempt.push && !passed && (head != onto(attempt) || !behind) {
            return Err(moved(&attempt.branch));
        }
        Ok(match (behind, passed) {
            (true, _) => Some(vec![update(attempt, head)]),
            (false, true) => Some(Vec::new()),
            (false, false) => None,
        })
    }

    /// The publication that ends an attempt, but for the refs, ours and the remote's.
    pub(super) fn finalization(&self, attempt: &Attempt, op: &Operation, answer: Option<&str>) -> Publish {
        let answer = attempt.idempotency_key.clone().zip(answer);
        Publish {
            // What the remote has taken is ours, too.
            refs_max: if attempt.push { usize::MAX } else { self.config.limits.refs },
            clear_pending: clear_of(attempt.user, (&attempt.branch, &attempt.pending_branch), &attempt.snapshot),
            attempt: Some(attempt.to(finished(attempt))),
            answer: answer.map(|(key, body)| FinalAnswer { key, body: body.to_owned() }),
            ..self.publication(attempt.project, op, Vec::new(), "commit")
        }
    }

    /// Opens an operation and pins what an attempt of the past made, so that it can be finalized.
    pub(crate) async fn reopen(&self, attempt: &Attempt) -> Result<Operation> {
        let mut op = self.begin_op(Some(attempt.project), OpKind::Commit).await?;
        self.pin_all(&mut op, &attempt.objects).await?;
        Ok(op)
    }
}

/// Whether an earlier push of an attempt may still land.
pub(super) fn is_in_doubt(attempt: &Attempt) -> bool {
    attempt.in_doubt || matches!(attempt.state, AttemptState::Pushing | AttemptState::Unknown)
}

/// Whether an attempt pushes what the branch had when it was made, and commits nothing.
fn is_push_of_head(attempt: &Attempt) -> bool {
    attempt.base == Some(attempt.commit)
}

fn unknown(attempt: &Attempt) -> EngineError {
    EngineError::PushUnknown { attempt: attempt.id, commit: attempt.commit, state: "unknown".to_owned() }
}

/// The state in which an attempt ends well.
fn finished(attempt: &Attempt) -> AttemptState {
    if attempt.push { AttemptState::Finalized } else { AttemptState::CommittedLocal }
}

fn update(attempt: &Attempt, head: Option<ObjectId>) -> RefUpdate {
    RefUpdate { name: branch_ref(&attempt.branch), expected: head, new: Some(attempt.commit) }
}

/// Where the branch of an attempt is when the commit moves it: where the commit was made for, or nowhere if the commit makes a branch
/// of its own.
fn onto(attempt: &Attempt) -> Option<ObjectId> {
    attempt.base.filter(|_| attempt.branch == attempt.pending_branch)
}

/// The branch moved between the look and the publication; the caller plans again.
pub(crate) fn moved(branch: &str) -> EngineError {
    EngineError::Conflict {
        code: "head_moved",
        detail: format!("The branch {branch:?} moved meanwhile; look at it and repeat."),
    }
}

/// What goes of `user`'s pending work on the branch `from` with a commit on `branch`.
pub(super) fn clear_of(
    user: Option<Uuid>,
    (branch, from): (&str, &str),
    snapshot: &[SnapshotRow],
) -> Option<ClearPending> {
    let taken = |row: &SnapshotRow| Some(ClearedRow { path: row.path.clone(), revision: row.revision?, oid: row.oid });
    Some(ClearPending {
        branch: from.to_owned(),
        user: user?,
        rows: snapshot.iter().filter_map(taken).collect(),
        cause: if branch == from { ClearCause::Committed } else { ClearCause::CommittedElsewhere },
    })
}
