//! Several writes at once: one snapshot of all their paths, one transaction.
//!
//! The round trips do not grow with the number of operations: the view of all paths, the contents that edits start from, large new
//! contents (bytes before rows), and the write. Who loses a race judges everything again.

mod desk;
mod judge;
pub(super) mod ops;
pub(super) mod texts;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use treehold_catalog::{Answering, Charged, Claim, OpKind, PendingOutcome, Project, WorkspaceKey, WriteOutcome};
use treehold_fault::point;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

pub(super) use desk::Rules;
use desk::{Desk, Spot};
use ops::{Op, Refused, Verb};
use texts::Texts;

use super::put::RACES;
use super::versions::version_id;
use crate::api::{
    At, BatchAnswer, BatchRefused, Mode, Oid, OnMismatch, OpError, OpResult, OpStatus, Origin, Path, PendingBatch,
};
use crate::commit::Key;
use crate::view::{Overlay, View};
use crate::writer::{NewBytes, Operation};
use crate::{Engine, EngineError, Result};

/// An operation, or why it is none.
pub(super) type Asked = (BString, std::result::Result<Op, Refused>);

/// A batch on its way.
pub(super) struct Batch {
    pub project: Project,
    pub key: WorkspaceKey,
    pub ops: Vec<Asked>,
    pub rules: Rules,
    /// The workspace must be at this revision.
    pub expected: Option<i64>,
    pub request: Key,
    /// Where the edits come from.
    pub origin: Origin,
    pub texts: Texts,
    /// Large contents that are durable in the bucket already, under this operation: it stays open until the rows name them.
    pub op: Option<Operation>,
    stored: HashSet<ObjectId>,
}

/// How a round ended.
pub(super) enum Round {
    Done(BatchAnswer),
    /// Somebody else wrote in between.
    Lost,
    /// The same request was answered meanwhile.
    Answered,
}

/// Results that lack the revisions, which the write gives.
#[derive(Clone)]
struct Results {
    branch: String,
    results: Vec<OpResult>,
    /// For each, the writes that it made: first and one past the last.
    writes: Vec<(usize, usize)>,
}

impl Results {
    fn filled(&self, revision: i64, rows: &[Option<i64>]) -> BatchAnswer {
        let mut results = self.results.clone();
        for (result, (from, to)) in results.iter_mut().zip(&self.writes) {
            let Some(written) = rows.get(*from..*to).and_then(|rows| rows.iter().rev().flatten().next()) else {
                continue;
            };
            match result.error.as_mut().and_then(|error| error.conflict.as_mut()) {
                Some(conflict) => conflict.version = version_id(&self.branch, *written).ok(),
                None => result.revision = Some(*written),
            }
        }
        BatchAnswer { revision, results }
    }
}

impl Batch {
    pub fn new(engine: &Engine, project: Project, key: WorkspaceKey, ops: Vec<Asked>, rules: Rules) -> Self {
        // One file of the largest size can be read, edited and merged.
        let limits = &engine.config.limits;
        let texts = Texts::new(limits.batch_bytes.max(limits.file_bytes.saturating_mul(4)));
        let (request, origin) = (Key::none(), Origin::default());
        Self { project, key, ops, rules, expected: None, request, origin, texts, op: None, stored: HashSet::new() }
    }
}

impl Engine {
    /// Does several writes to a user's pending work, atomically or with a result each; durable when answered.
    ///
    /// With an idempotency key the first answer is remembered in the transaction that writes, and given again to whoever repeats the
    /// request. An atomic batch that is refused writes nothing and is not remembered.
    pub async fn write_batch(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        request: PendingBatch,
        origin: Origin,
        idempotency_key: Option<&str>,
    ) -> Result<BatchAnswer> {
        let limit = self.config.limits.batch_paths;
        if request.ops.len() > limit {
            return Err(EngineError::TooLarge { what: "the batch", limit: limit as u64, unit: "operations" });
        }
        let (project, key) = self.workspace(project, user, branch).await?;
        let request_key = match idempotency_key {
            Some(_) => Key::new(idempotency_key, "pending", &(user, &key.branch, &request))?,
            None => Key::none(),
        };
        if let Some(answer) = self.answered(&project, &request_key).await? {
            return Ok(answer);
        }
        let rules = Rules {
            atomic: request.atomic,
            base_revision: request.base_revision,
            on_conflict: request.on_conflict,
            explicit: false,
            whole: false,
        };
        let mut ops = Vec::with_capacity(request.ops.len());
        for asked in request.ops {
            let path = BString::from(asked.path.as_str());
            ops.push((path, Op::decode(asked, self.config.limits.file_bytes)?));
        }
        let mut batch = Batch::new(self, project, key, ops, rules);
        batch.request = request_key;
        batch.origin = origin;
        self.run_batch(&mut batch).await
    }

    /// The answer that was given to this request.
    async fn answered(&self, project: &Project, key: &Key) -> Result<Option<BatchAnswer>> {
        match self.claimed(project, key).await? {
            Claim::Answered(body) => serde_json::from_str(&body).map(Some).map_err(EngineError::internal),
            _ => Ok(None),
        }
    }

    /// Rounds until one is not lost.
    pub(super) async fn run_batch(&self, batch: &mut Batch) -> Result<BatchAnswer> {
        let mut round = self.batch_round(batch).await;
        if matches!(round, Ok(Round::Lost)) {
            // As for single writes: those that lost a race take turns.
            let turns = self.branch_lock(batch.key.project, &format!("{} {}", batch.key.branch, batch.key.user));
            let _turn = turns.lock().await;
            for _ in 0..RACES {
                round = self.batch_round(batch).await;
                if !matches!(round, Ok(Round::Lost)) {
                    break;
                }
            }
        }
        if let Some(op) = batch.op.take() {
            self.end_op(op).await;
        }
        match round {
            Ok(Round::Done(answer)) => Ok(answer),
            Ok(Round::Lost) => Err(EngineError::Busy),
            Ok(Round::Answered) => {
                let answer = self.answered(&batch.project, &batch.request).await?;
                answer.ok_or_else(|| EngineError::internal("an answer was forgotten"))
            }
            // A repetition may have been refused because the first one was done meanwhile.
            Err(refused @ EngineError::Batch(_)) => self.answered(&batch.project, &batch.request).await?.ok_or(refused),
            Err(error) => Err(error),
        }
    }

    /// One round: look, judge, compare and swap.
    pub(super) async fn batch_round(&self, batch: &mut Batch) -> Result<Round> {
        let (view, spots) = self.spots_of(batch).await?;
        let revision = view.overlay.as_ref().map_or(0, |overlay| overlay.revision);
        if batch.expected.is_some_and(|expected| expected != revision) {
            return Ok(Round::Lost);
        }
        let known = self.known_bases(&batch.project, &batch.ops, &spots).await?;
        self.foresee(batch, &spots, &known).await?;
        let sizes = self.kept_sizes(&batch.ops, &spots).await?;
        let mut desk = Desk {
            engine: self,
            project: &batch.project,
            key: batch.key.clone(),
            tree: view.head.tree,
            rules: batch.rules,
            origin: &batch.origin,
            texts: &mut batch.texts,
            spots: spots.clone(),
            known,
            sizes,
            edits: None,
            writes: Vec::new(),
        };
        let mut results = judge_all(&mut desk, &batch.ops).await?;
        let mut named = batch.rules.whole;
        if !desk.added().is_empty() {
            named = true;
            let asked: Vec<BString> = desk.spots.keys().cloned().collect();
            let (now, rows) = self.pending_beside(&desk.key, desk.tree, &asked).await?;
            if now != revision {
                return Ok(Round::Lost);
            }
            let checked = self.check_additions(desk.tree, &desk.edits(&rows), &desk.added()).await;
            if let Err(error) = checked {
                Refused::of(error)?;
                // One of them is at fault: judge again, name by name.
                desk.spots = spots;
                desk.writes.clear();
                desk.edits = Some(rows.iter().map(|row| (row.path.clone(), crate::files::pending_item(row))).collect());
                results = judge_all(&mut desk, &batch.ops).await?;
                if refusal(&results.results).is_none() || !batch.rules.atomic {
                    self.check_additions(desk.tree, &desk.edits(&rows), &desk.added()).await?;
                }
            }
        }
        if batch.rules.atomic
            && let Some(refused) = refusal(&results.results)
        {
            return Err(EngineError::Batch(Box::new(refused)));
        }
        let writes = std::mem::take(&mut desk.writes);
        drop(desk);
        self.write_round(batch, revision, named, writes, results).await
    }

    async fn write_round(
        &self,
        batch: &mut Batch,
        revision: i64,
        named: bool,
        writes: Vec<treehold_catalog::PendingWrite>,
        results: Results,
    ) -> Result<Round> {
        let contents = brought(batch, &writes);
        self.check_quota_of(&batch.project, Charged::Pending, || contents.iter().copied()).await?;
        self.store_large(batch, &writes).await?;
        let expected = named.then_some(revision);
        let now_ms = self.ambient.now_ms();
        point("A4").await?;
        let outcome = match &batch.request.key {
            Some(name) => {
                let results = results.clone();
                let body = move |revision: i64, rows: &[Option<i64>]| {
                    serde_json::to_string(&results.filled(revision, rows)).unwrap_or_default()
                };
                let answering = Answering { key: name.clone(), body: Arc::new(body) };
                self.catalog.write_answering(&batch.key, expected, &writes, &answering, now_ms).await?
            }
            None if writes.is_empty() => return Ok(Round::Done(results.filled(revision, &[]))),
            None => WriteOutcome::Pending(self.catalog.write_pending(&batch.key, expected, &writes, now_ms).await?),
        };
        Ok(match outcome {
            WriteOutcome::Answered => Round::Answered,
            WriteOutcome::Pending(PendingOutcome::Mismatch(_) | PendingOutcome::WorkspaceMoved(_)) => Round::Lost,
            WriteOutcome::Pending(PendingOutcome::CommitUnderWay(_)) => {
                batch.rules.explicit = true;
                Round::Lost
            }
            WriteOutcome::Pending(PendingOutcome::Written { revision, rows }) => {
                point("A5").await?;
                Round::Done(results.filled(revision, &rows))
            }
        })
    }

    /// The paths of a batch at one snapshot.
    async fn spots_of(&self, batch: &Batch) -> Result<(View, BTreeMap<BString, Spot>)> {
        let ops = batch.ops.iter().filter_map(|(_, op)| op.as_ref().ok());
        let mut paths: Vec<BString> = ops.flat_map(|op| [Some(op.path.clone()), op.from.clone()]).flatten().collect();
        paths.sort_unstable();
        paths.dedup();
        let at = At { reference: Some(batch.key.branch.clone()), user: Some(batch.key.user) };
        let mut view = self.view(&batch.project.id.to_string(), &at, Some(&paths)).await?;
        let heads = self.find_paths(view.head.tree, &paths).await?;
        let rows = |overlay: &mut Overlay| {
            overlay.restore();
            std::mem::take(&mut overlay.rows)
        };
        let mut rows = view.overlay.as_mut().map(rows).unwrap_or_default();
        let spots = paths.into_iter().zip(heads).map(|(path, head)| {
            let row = rows.remove(&path);
            (path, Spot::new(row, head))
        });
        let spots = spots.collect();
        Ok((view, spots))
    }

    /// Which of the blobs that the caller names are the project's. What is at the paths is so for certain.
    async fn known_bases(
        &self,
        project: &Project,
        ops: &[Asked],
        spots: &BTreeMap<BString, Spot>,
    ) -> Result<HashSet<ObjectId>> {
        let rows = spots.values().filter_map(|spot| spot.row.as_ref());
        let mut known: HashSet<ObjectId> = rows.flat_map(|row| [row.oid, row.base_oid]).flatten().collect();
        known.extend(spots.values().filter_map(Spot::head_oid));
        let named = ops.iter().filter_map(|(_, op)| op.as_ref().ok());
        let named = named.flat_map(|op| [op.base, op.expects.flatten()]).flatten();
        let asked: HashSet<ObjectId> = named.filter(|oid| !known.contains(oid)).collect();
        let asked: Vec<ObjectId> = asked.into_iter().collect();
        if !asked.is_empty() {
            let readable = self.catalog.may_read(project.id, &asked).await?;
            known.extend(asked.into_iter().zip(readable).filter(|(_, readable)| *readable).map(|(oid, _)| oid));
        }
        Ok(known)
    }

    /// Reads in one go what edits, diffs and merges will start from.
    async fn foresee(
        &self,
        batch: &mut Batch,
        spots: &BTreeMap<BString, Spot>,
        known: &HashSet<ObjectId>,
    ) -> Result<()> {
        let mut edited: HashSet<&BString> = HashSet::new();
        let mut wanted: Vec<ObjectId> = Vec::new();
        // From the last one back: what is edited after it was moved is read where it comes from.
        for op in batch.ops.iter().rev().filter_map(|(_, op)| op.as_ref().ok()) {
            let there = spots.get(op.source()).and_then(|spot| spot.view).map(|item| item.oid);
            let base = op.base.or(op.expects.flatten()).filter(|base| known.contains(base));
            let merges = batch.rules.on_conflict == OnMismatch::Merge && base.is_some() && base != there;
            match &op.verb {
                Verb::Edit { .. } | Verb::Patch(_) => _ = edited.insert(&op.path),
                Verb::Move if edited.contains(&op.path) => _ = edited.insert(op.source()),
                Verb::Put(_) if merges => _ = edited.insert(&op.path),
                _ => {}
            }
            if merges && !matches!(op.verb, Verb::Move | Verb::Chmod | Verb::Delete) {
                wanted.extend(base);
            }
        }
        wanted.extend(edited.iter().filter_map(|path| Some(spots.get(*path)?.view?.oid)));
        batch.texts.fetch(self, &batch.project, &wanted).await
    }

    /// Sizes of committed files that are moved or change their mode, all in one question.
    async fn kept_sizes(&self, ops: &[Asked], spots: &BTreeMap<BString, Spot>) -> Result<HashMap<ObjectId, u64>> {
        let kept = ops.iter().filter_map(|(_, op)| op.as_ref().ok());
        let kept = kept.filter(|op| matches!(op.verb, Verb::Move | Verb::Chmod));
        let sources = kept.filter_map(|op| spots.get(op.source()).filter(|spot| spot.size.is_none())?.view);
        let oids: HashSet<ObjectId> = sources.map(|item| item.oid).collect();
        let oids: Vec<ObjectId> = oids.into_iter().collect();
        if oids.is_empty() {
            return Ok(HashMap::new());
        }
        let sizes = oids.iter().zip(self.catalog.sizes(&oids).await?);
        Ok(sizes.filter_map(|(oid, size)| Some((*oid, size?))).collect())
    }

    /// Bytes before rows: large new contents go to the bucket, as one pack.
    async fn store_large(&self, batch: &mut Batch, writes: &[treehold_catalog::PendingWrite]) -> Result<()> {
        use treehold_catalog::{
            Content,
            PendingChange::{Keep, Set},
        };
        let named = writes.iter().filter_map(|write| match &write.change {
            Set { oid, content: Content::Bucket, .. } | Keep { oid, content: Content::Bucket, .. } => *oid,
            _ => None,
        });
        let mut large: Vec<NewBytes> = Vec::new();
        for oid in named {
            if let Some(made) = batch.texts.made.get(&oid)
                && batch.stored.insert(oid)
            {
                large.push(made.clone());
            }
        }
        if large.is_empty() {
            return Ok(());
        }
        point("A2").await?;
        if batch.op.is_none() {
            batch.op = Some(self.begin_op(Some(batch.project.id), OpKind::Pending).await?);
        }
        match &mut batch.op {
            Some(op) => self.store_objects(op, large).await,
            None => Ok(()),
        }
    }
}

/// The contents that writes bring, each once, and their sizes in bytes.
fn brought(batch: &Batch, writes: &[treehold_catalog::PendingWrite]) -> Vec<(ObjectId, u64)> {
    use treehold_catalog::PendingChange::{Keep, Set};
    let named = writes.iter().filter_map(|write| match &write.change {
        Set { oid, .. } | Keep { oid, .. } => *oid,
        _ => None,
    });
    let named: HashSet<ObjectId> = named.collect();
    let made = named.iter().filter_map(|oid| batch.texts.made.get(oid));
    made.map(|made| (made.oid, made.content.len() as u64)).collect()
}

/// Judges the operations in order. In an atomic batch the first that fails is the last that is looked at.
async fn judge_all(desk: &mut Desk<'_>, ops: &[Asked]) -> Result<Results> {
    let mut results = Results {
        branch: desk.key.branch.clone(),
        results: Vec::with_capacity(ops.len()),
        writes: Vec::with_capacity(ops.len()),
    };
    let mut failed = false;
    for (path, op) in ops {
        let from = desk.writes.len();
        let judged = match op {
            _ if failed && desk.rules.atomic => Ok(OpStatus::NotApplied),
            Ok(op) => desk.judge(op).await?,
            Err(refused) => Err(refused.clone()),
        };
        failed |= judged.is_err();
        let (status, error) = match judged {
            Ok(status) => (status, None),
            Err(refused) => (refused.status, Some(refused.error())),
        };
        results.results.push(result(path, &desk.spot(path), status, error));
        results.writes.push((from, desk.writes.len()));
    }
    Ok(results)
}

fn result(path: &BString, spot: &Spot, status: OpStatus, error: Option<OpError>) -> OpResult {
    OpResult {
        path: Path(path.clone()),
        status,
        oid: spot.view.map(|item| Oid(item.oid)),
        size: spot.view.and(spot.size),
        mode: spot.view.map(|item| Mode(item.mode)),
        base_oid: spot.base.oid.map(Oid),
        revision: spot.row.as_ref().map(|row| row.revision),
        error,
    }
}

/// The operation that an atomic batch fails by; what was judged before it is not done either.
fn refusal(results: &[OpResult]) -> Option<BatchRefused> {
    let index = results.iter().position(|result| result.error.is_some())?;
    let mut results = results.to_vec();
    for result in &mut results[..index] {
        result.status = OpStatus::NotApplied;
    }
    Some(BatchRefused { index, results })
}
