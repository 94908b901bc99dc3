//! Committing: of pending work, of actions, of one file. All three make changes, merge them onto a parent, and go through one
//! state machine.

mod actions;
pub(crate) mod change;
mod held;
mod hosted;
mod machine;
mod made;
mod plan;
mod renames;
mod request;
mod resume;
mod trailers;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::{Either, select};
use treehold_catalog::{Attempt, AttemptState, Charged, KeyId, Project, StoreCommit, WorkspaceKey};
use treehold_fault::point;
use treehold_object::{BString, ObjectId};
use treehold_store::FinishedPack;
use uuid::Uuid;

use change::ChangeRow;
pub(crate) use held::LEFT_AFTER_MS;
pub(crate) use machine::Settled;
pub(crate) use made::Looked;
use plan::nothing_to_commit;
pub(crate) use plan::{Intent, Planned};
use request::Claimed;
pub(crate) use request::Key;

use crate::api::{CommitAnswer, CommitRequest, OnConflict, SignBy};
use crate::graph::Known;
use crate::quota::unbound;
use crate::remote::{Endpoint, Secret};
use crate::tree::Side;
use crate::view::{Head, branch_ref};
use crate::writer::{Fresh, Operation};
use crate::{Engine, EngineError, Result};

/// How far back a commit is looked for on which changes that do not merge are clean.
const STEPS_BACK: usize = 256;

/// What to do where the branch or the remote moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    on_conflict: OnConflict,
    dry_run: bool,
    expected_head: Option<ObjectId>,
}

/// Where the changes of a commit come from; asked again when the branch moved under it.
pub(crate) enum Changes<'a> {
    /// A user's pending rows, all or those at some paths.
    Pending { key: WorkspaceKey, paths: Option<Vec<BString>> },
    /// Actions, judged against the head.
    Actions(actions::Judged<'a>),
}

impl Engine {
    /// Commits a user's pending work as one commit and, unless told otherwise, one push.
    pub async fn commit(
        &self,
        project: &str,
        request: &CommitRequest,
        credentials: Option<Secret>,
        idempotency_key: Option<&str>,
    ) -> Result<CommitAnswer> {
        let project = self.find_project(project).await?;
        let mut key = Key::new(idempotency_key, "commit", request)?;
        if request.dry_run {
            // It may be asked again when something changed, and the commit itself may have the same key.
            key = key.unused();
        }
        if let Claimed::Answered(answer) = self.claim(&project, &key).await? {
            return answer;
        }
        if let Some(SignBy::Github) = request.sign {
            return self.commit_hosted(&project, request, credentials, key).await;
        }
        let branch = Self::branch_name(&project, request.branch.as_deref())?;
        let push = self.pushes(&project, &branch, request.push).await?;
        let mut intent = self.intent(&project, &branch, &request.message, &request.author, push)?;
        intent.user = Some(request.user);
        intent.trailers = request.trailers;
        intent.idempotency_key.clone_from(&key.key);
        let paths = match &request.paths {
            None => None,
            Some(paths) => {
                Some(paths.iter().map(|path| crate::files::shaped_path(path.as_bytes())).collect::<Result<_>>()?)
            }
        };
        let workspace = WorkspaceKey { project: project.id, branch, user: request.user };
        let policy = Policy {
            on_conflict: request.on_conflict,
            dry_run: request.dry_run,
            expected_head: request.expected_head_sha.map(|oid| oid.0),
        };
        self.run_commit(intent, Changes::Pending { key: workspace, paths }, policy, credentials, key).await
    }

    /// The common road of all commits: one at a time on a branch in this process, and again from the start where something moved.
    pub(crate) async fn run_commit(
        &self,
        mut intent: Intent,
        changes: Changes<'_>,
        policy: Policy,
        credentials: Option<Secret>,
        key: Key,
    ) -> Result<CommitAnswer> {
        let lock = self.branch_lock(intent.project.id, &intent.branch);
        let _turn = lock.lock().await;
        let at = self.endpoint(&intent.project, credentials);
        let outcome = self.rounds(&mut intent, &changes, policy, at.as_ref(), &key).await;
        // The same request, sent twice at once through two engines, has one answer: that of the one which came first.
        if let (Some(_), Err(_)) = (&key.key, &outcome)
            && let Claimed::Answered(answer) = self.claim(&intent.project, &key).await?
        {
            return answer;
        }
        self.remember(&intent.project, &key, outcome).await
    }

    async fn rounds(
        &self,
        intent: &mut Intent,
        changes: &Changes<'_>,
        policy: Policy,
        at: Option<&Endpoint>,
        key: &Key,
    ) -> Result<CommitAnswer> {
        let mut onto: Option<Head> = None;
        for _ in 0..=self.config.merge_attempts {
            // In a later round, too: another engine may have been faster with the same request.
            if let Some(answer) = self.resume(intent, key, at).await? {
                return Ok(answer);
            }
            match self.round(intent, changes, policy, at, onto.take()).await? {
                Round::Done(answer) => return Ok(answer),
                Round::Again => {}
                Round::Onto(head) => onto = Some(head),
            }
        }
        Err(machine::moved(&intent.branch))
    }

    async fn round(
        &self,
        intent: &Intent,
        changes: &Changes<'_>,
        policy: Policy,
        at: Option<&Endpoint>,
        onto: Option<Head>,
    ) -> Result<Round> {
        let (head, pending) = tokio::try_join!(
            self.branch_head(&intent.project, &intent.branch),
            self.changes_from_pending(&intent.project, changes)
        )?;
        if policy.expected_head.is_some() && policy.expected_head != head.commit {
            return Err(machine::moved(&intent.branch));
        }
        if head.commit.is_none() {
            self.check_room_for_ref(&intent.project, &branch_ref(&intent.branch)).await?;
        }
        let rows = self.change_rows(&intent.project, pending, changes, &head).await?;
        if rows.len() > self.config.limits.commit_changes {
            let limit = self.config.limits.commit_changes as u64;
            return Err(EngineError::TooLarge { what: "the commit", limit, unit: "changes" });
        }
        // What an earlier fetch showed counts from the start: a conflict with it may be resolved by now.
        let onto = match onto {
            None if intent.push => self.seen_ahead(intent, &head).await?,
            onto => onto,
        };
        if onto.is_some() && policy.on_conflict == OnConflict::Fail {
            return Err(machine::moved(&intent.branch));
        }
        let parent = onto.unwrap_or_else(|| head.clone());
        if let Some(answer) = self.landed_before(intent, parent.commit, at).await? {
            return Ok(Round::Done(answer));
        }
        let mut merged = self.merge_changes(intent.project.id, &rows, &parent, false).await?;
        if !policy.dry_run && self.mind_pushes(intent, &rows, &mut merged, at).await? {
            return Ok(Round::Again);
        }
        let refused = !merged.conflicts.is_empty() || (policy.on_conflict == OnConflict::Fail && merged.moved);
        if refused && policy.on_conflict == OnConflict::Branch {
            return self.commit_to_branch(intent, &head, &rows, policy, at).await.map(Round::Done);
        }
        if !merged.conflicts.is_empty() {
            return Err(EngineError::MergeConflict(merged.conflicts));
        }
        if refused {
            return Err(machine::moved(&intent.branch));
        }
        point("C2").await?;
        let planned = self.plan_commit(intent, &parent, merged).await;
        if !policy.dry_run && parent.commit == head.commit {
            self.after_nothing(intent, changes, &head, &rows, &planned).await;
        }
        let planned = planned?;
        if policy.dry_run {
            return Ok(Round::Done(planned.answer));
        }
        self.carry_out(intent, planned, at).await
    }

    /// Where there was nothing to commit, the pending work that was looked at goes: the branch has it.
    async fn after_nothing(
        &self,
        intent: &Intent,
        changes: &Changes<'_>,
        head: &Head,
        rows: &[ChangeRow],
        planned: &Result<Planned>,
    ) {
        if let Changes::Pending { key, .. } = changes
            && let Err(EngineError::Unprocessable { code: plan::NOTHING_TO_COMMIT, .. }) = planned
            && let Err(error) = self.settle_landed(key, &intent.branch, head, rows).await
        {
            // The answer is the same, and the next commit looks again.
            tracing::warn!(code = error.code(), "pending work that the branch has by now was left: {error}");
        }
    }

    /// The remote's branch, if it was seen ahead of ours.
    async fn seen_ahead(&self, intent: &Intent, head: &Head) -> Result<Option<Head>> {
        let remote = self.remote_head(intent.project.id, &intent.branch).await?;
        match self.known_ahead(intent.project.id, head.commit, remote).await? {
            Some(ahead) => self.head_of(ahead, head.branch.clone()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Pending work as changes. Actions are judged once the head is known.
    async fn changes_from_pending(&self, project: &Project, changes: &Changes<'_>) -> Result<Vec<ChangeRow>> {
        let Changes::Pending { key, paths } = changes else { return Ok(Vec::new()) };
        let (_, rows) = self.catalog.pending(key, paths.as_deref()).await?;
        self.changes_of_pending(project, rows).await
    }

    /// What comes with the request is new to the project; what is pending was accepted.
    async fn change_rows(
        &self,
        project: &Project,
        pending: Vec<ChangeRow>,
        changes: &Changes<'_>,
        head: &Head,
    ) -> Result<Vec<ChangeRow>> {
        let rows = match changes {
            Changes::Pending { .. } => pending,
            Changes::Actions(judged) => {
                let contents = judged.contents();
                self.check_quota_of(project, Charged::Reached, || contents.iter().copied()).await?;
                self.judge_actions(judged, head).await?
            }
        };
        match rows.is_empty() {
            true => Err(nothing_to_commit()),
            false => Ok(rows),
        }
    }

    /// The newest commit on the way back from `head` (by first parents) that has what every change started from: there the changes
    /// are what their user saw, and undo nobody's work.
    pub(crate) async fn where_clean(&self, project: Uuid, head: &Head, rows: &[ChangeRow]) -> Result<Option<Head>> {
        let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
        let mut clean = |_: &Head, there: &[Side]| there.iter().zip(rows).all(|(found, row)| row.base.is(*found));
        self.walk_back(project, head, &paths, &mut clean).await
    }

    /// The newest commit on that way of which `is_it` says so, by the files that it has at `paths`; it is asked of each. The way ends where
    /// the project's history is cut off, also if another project has what came before.
    pub(crate) async fn walk_back(
        &self,
        project: Uuid,
        head: &Head,
        paths: &[BString],
        is_it: &mut (dyn FnMut(&Head, &[Side]) -> bool + Send),
    ) -> Result<Option<Head>> {
        let (mut at, mut known, mut cut) = (head.clone(), Known::default(), None);
        for _ in 0..STEPS_BACK {
            let there = self.find_paths(at.tree, paths).await?;
            let there: Vec<Side> = there.into_iter().map(|found| found.filter(|item| !item.is_tree())).collect();
            if is_it(&at, &there) {
                return Ok(Some(at));
            }
            if cut.is_none() {
                cut = Some(self.catalog.shallow(project).await?);
            }
            let is_cut = |commit: &ObjectId| cut.iter().flatten().any(|cut| cut == commit);
            let Some(commit) = at.commit.filter(|commit| !is_cut(commit)) else { return Ok(None) };
            // What a dry run made is not on record.
            let Some(row) = self.known_commit(&mut known, commit).await? else { return Ok(None) };
            at = match row.parents.first() {
                None => Head { branch: head.branch.clone(), ..Head::default() },
                Some(parent) => {
                    let Some(row) = self.known_commit(&mut known, *parent).await? else { return Ok(None) };
                    let (commit, tree, branch) = (Some(row.oid), Some(row.tree), head.branch.clone());
                    Head { commit, tree, branch, row: Some(Arc::new(row)) }
                }
            };
        }
        Ok(None)
    }

    /// `on_conflict: "branch"`: the changes as they are, on a branch of their own.
    async fn commit_to_branch(
        &self,
        intent: &Intent,
        head: &Head,
        rows: &[ChangeRow],
        policy: Policy,
        at: Option<&Endpoint>,
    ) -> Result<CommitAnswer> {
        let Some(parent) = self.where_clean(intent.project.id, head, rows).await? else {
            // They started from different commits, or from one that is cut off: on any commit they would undo somebody's work.
            return Err(EngineError::MergeConflict(
                self.merge_changes(intent.project.id, rows, head, false).await?.conflicts,
            ));
        };
        let mut merged = self.merge_changes(intent.project.id, rows, &parent, true).await?;
        self.hold_back(intent, rows, &mut merged).await?;
        let mut planned = self.plan_commit(intent, &parent, merged).await?;
        let user = intent.user.map(|user| user.simple().to_string()).unwrap_or_default();
        let commit = planned.attempt.commit.to_string();
        let branch = format!("treehold/{}/{}", &user[..8.min(user.len())], &commit[..8]);
        self.check_room_for_ref(&intent.project, &branch_ref(&branch)).await?;
        planned.attempt.branch.clone_from(&branch);
        planned.answer.branch = branch;
        if policy.dry_run {
            return Ok(planned.answer);
        }
        match self.carry_out(intent, planned, at).await? {
            Round::Done(answer) => Ok(answer),
            Round::Again | Round::Onto(_) => Err(machine::moved(&intent.branch)),
        }
    }

    /// PREPARED → STORED: the objects go to the bucket as one pack, which is made while it is registered that it comes, and whose index
    /// goes beside it. What is likely to be read next is kept meanwhile, and what is to be pushed is made ready; what is not is done with
    /// the same transaction.
    async fn make_durable(&self, planned: &mut Planned) -> Result<Durable> {
        let name = self.fresh_name(&planned.attempt.commit);
        point("C1").await?;
        let mut packing = Box::pin(self.pack_of(planned.objects.clone()));
        let prepare = Box::pin(self.prepare(&planned.attempt, &name));
        let (prepared, early) = match select(prepare, &mut packing).await {
            Either::Left((prepared, _)) => (prepared, None),
            Either::Right((pack, prepare)) => (prepare.await, Some(pack)),
        };
        let Some((mut op, key)) = prepared? else { return Ok(Durable::Overtaken) };
        let pack = match early {
            Some(pack) => pack,
            None => self.held_under(op.id, &mut planned.attempt, packing).await,
        };
        let stored = match pack {
            Ok(pack) => self.store_prepared(planned, &pack, &name, &mut op, key).await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(Some(fresh)) => Ok(Durable::Stored(op, fresh)),
            Ok(None) => Ok(Durable::Landed),
            Err(error) => {
                // Nothing of it was sent and nobody goes on with it: else its edits count as on their way until it is taken for left. Where
                // it was stored and only the answer to that was lost, its fence is another one, and it stays.
                self.not_made(&mut planned.attempt).await;
                self.end_op(op).await;
                Err(error)
            }
        }
    }

    /// `None` = the commit is where it was to go.
    async fn store_prepared(
        &self,
        planned: &mut Planned,
        pack: &FinishedPack,
        name: &str,
        op: &mut Operation,
        key: KeyId,
    ) -> Result<Option<Fresh>> {
        let stored = async {
            point("C3").await?;
            self.may_write().await?;
            Ok(self.store.put_pack(pack, name).await?)
        };
        let attempt = &mut planned.attempt;
        let pushed_onto_parent = attempt.push && attempt.remote_base == attempt.base;
        let before = async {
            match pushed_onto_parent {
                true => Ok(self.blobs_before(&planned.blobs_before).await),
                false => Ok(HashMap::new()),
            }
        };
        let (id, pinned) = (op.id, self.pin_all(op, &planned.reused));
        let made = &planned.objects;
        let kept = async {
            self.keep(made).await;
            Ok(())
        };
        let ready = async { tokio::try_join!(stored, pinned, before, kept) };
        let (_, _, mut before, ()) = self.held_under(id, attempt, ready).await?;
        before.extend(std::mem::take(&mut planned.trees_before));
        point("C4").await?;
        let to = AttemptState::Stored;
        let store = StoreCommit {
            op: op.id,
            key,
            objects: crate::writer::new_objects(pack),
            trees: crate::push::trees_of(&planned.objects),
            commit: planned.row.clone(),
            attempt: attempt.to(to),
            now_ms: self.ambient.now_ms(),
        };
        if !attempt.push && self.land(attempt, &store, op, &request::to_store(&planned.answer)?).await? {
            self.keep_trees(&store.trees);
            self.chores.stored();
            return Ok(None);
        }
        let stored = self.catalog.store_commit(&store).await?.ok_or(EngineError::Busy)?;
        self.keep_trees(&store.trees);
        (attempt.state, attempt.fence) = (to, stored.fence);
        op.numbers.extend(stored.numbers);
        self.chores.stored();
        let objects = std::mem::take(&mut planned.objects).into_iter();
        Ok(Some(Fresh { objects: objects.map(|object| (object.oid, object)).collect(), before }))
    }

    /// PREPARED → STORED → pushed or not → FINALIZED.
    async fn carry_out(&self, intent: &Intent, mut planned: Planned, at: Option<&Endpoint>) -> Result<Round> {
        let attempt = &mut planned.attempt;
        if intent.push {
            attempt.remote_base = self.remote_head(attempt.project, &attempt.branch).await?;
            if let Some(ahead) = self.known_ahead(attempt.project, attempt.base, attempt.remote_base).await? {
                return Ok(Round::Onto(self.head_of(ahead, Some(intent.branch.clone())).await?));
            }
            self.check_pushable(attempt).await?;
        }
        let (op, fresh) = match self.make_durable(&mut planned).await? {
            Durable::Stored(op, fresh) => (op, fresh),
            Durable::Landed => return Ok(Round::Done(planned.answer)),
            Durable::Overtaken => return Ok(Round::Again),
        };
        let attempt = &mut planned.attempt;
        let mut answer = planned.answer;
        if let Some(at) = at.filter(|_| intent.push) {
            let (to, whose) = (attempt.branch.clone(), (intent.project.id, intent.user));
            let cleared = self.clear_the_way(whose, &to, at, Some(attempt.id));
            match self.held_under(op.id, attempt, cleared).await {
                Ok(false) => {}
                // What was settled may have moved our branch, or may have committed these very edits.
                cleared => {
                    self.give_up(attempt, op).await?;
                    return cleared.map(|_| Round::Again);
                }
            }
            match self.kept_alive(op.id, self.push_attempt(attempt, at, &fresh)).await {
                Ok(Settled::Landed) => answer.pushed = true,
                Ok(Settled::Moved) => {
                    self.end_op(op).await;
                    return self.remote_moved(intent, at).await;
                }
                // Another engine was faster; nothing of ours was sent.
                Err(EngineError::Busy) if attempt.state == AttemptState::Stored => {
                    self.give_up(attempt, op).await?;
                    return Ok(Round::Again);
                }
                Err(error) => {
                    self.end_op(op).await;
                    let taken_over = matches!(error, EngineError::Busy);
                    let answer = if taken_over { self.finished_elsewhere(attempt.id).await? } else { None };
                    return answer.map(Round::Done).ok_or(error);
                }
            }
        }
        match self.finalize(attempt, op, Some(&request::to_store(&answer)?)).await {
            Ok(()) => Ok(Round::Done(answer)),
            Err(EngineError::Conflict { code: "head_moved", .. }) if !intent.push => {
                self.step(attempt, AttemptState::Superseded, None).await?;
                Ok(Round::Again)
            }
            Err(error) => Err(error),
        }
    }

    /// An attempt of which nothing was sent, and the operation that kept its objects.
    async fn give_up(&self, attempt: &mut Attempt, op: Operation) -> Result<()> {
        let given_up = self.step(attempt, AttemptState::Superseded, None).await;
        self.end_op(op).await;
        given_up
    }

    /// The remote has commits that we lack: fetch them and merge the changes onto them. Our branch stays where it is until the
    /// commit lands.
    async fn remote_moved(&self, intent: &Intent, at: &Endpoint) -> Result<Round> {
        let fetched = self.fetch_remote(&unbound(&intent.project), &intent.branch, at, None, &()).await?;
        let Some(tip) = fetched.tip else { return Ok(Round::Again) };
        let head = self.branch_head(&intent.project, &intent.branch).await?;
        if let Some(ours) = head.commit
            && !self.is_ancestor(intent.project.id, ours, tip).await?
        {
            return Err(EngineError::Conflict {
                code: "diverged",
                detail: "Our branch has commits that the remote lacks, and the remote moved: sync with on_conflict \"merge\", \
                         then commit again."
                    .to_owned(),
            });
        }
        Ok(Round::Onto(self.head_of(tip, head.branch).await?))
    }
}

/// What became of a commit's objects, and of the commit.
enum Durable {
    /// They are stored under this operation; the branch is where it was.
    Stored(Operation, Fresh),
    /// All is done: it is not pushed.
    Landed,
    /// What it was planned from changed: plan again.
    Overtaken,
}

/// How a round ended.
enum Round {
    Done(CommitAnswer),
    /// Our branch moved: plan again.
    Again,
    /// The remote moved: plan again, onto what it has.
    Onto(Head),
}
