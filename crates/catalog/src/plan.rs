//! What writes to pending work come to, worked out in memory from the rows that are there. No database in sight.

use std::collections::{BTreeMap, HashMap, HashSet};

use treehold_object::{BString, ObjectId};

use crate::feed::{NewEvent, PendingEvent, Told};
use crate::pending::{PendingChange, PendingOutcome, PendingRow, PendingWrite, RowExpectation, WorkspaceKey};

/// A workspace whose row is locked (nobody else changes it or its rows), as the writes leave it one by one.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) id: i64,
    pub(crate) revision: i64,
    /// The rows at the paths that any of the writes names.
    pub(crate) rows: HashMap<BString, PendingRow>,
    /// Whether the revision has to be written back.
    pub(crate) moved: bool,
    /// Whether a commit is under way that may have taken rows; known only where a write undoes one.
    pub(crate) committing: bool,
}

/// The changes of any number of calls.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Rows as they will be, by workspace and path, `None` = gone; only those that change.
    pub(crate) after: BTreeMap<(i64, BString), Option<PendingRow>>,
    /// Replaced versions, with their workspace and the time of their replacement.
    pub(crate) history: Vec<(i64, PendingRow, i64)>,
    /// Blobs that rows or history of a workspace now name.
    named: HashSet<(i64, ObjectId)>,
    /// What the feeds are told.
    pub(crate) told: Vec<NewEvent>,
}

/// The changes of one call, until it is known that all its expectations hold.
#[derive(Default)]
struct Draft {
    revision: i64,
    rows: BTreeMap<BString, Option<PendingRow>>,
    history: Vec<PendingRow>,
    named: Vec<ObjectId>,
    answers: Vec<Option<i64>>,
    told: Vec<Told>,
}

impl Plan {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.after.is_empty() && self.history.is_empty()
    }

    /// Whether a row that is new, or was for a moment, names this blob.
    pub(crate) fn names(&self, workspace: i64, oid: ObjectId) -> bool {
        self.named.contains(&(workspace, oid))
    }

    /// Adds one call: all its writes or none.
    pub(crate) fn add(
        &mut self,
        key: &WorkspaceKey,
        workspace: &mut Workspace,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> PendingOutcome {
        if expected_revision.is_some_and(|expected| expected != workspace.revision) {
            return PendingOutcome::WorkspaceMoved(workspace.revision);
        }
        let draft = match draft(key, workspace, writes, now_ms) {
            Ok(draft) => draft,
            Err(refusal) => return refusal,
        };
        workspace.moved |= draft.revision != workspace.revision;
        workspace.revision = draft.revision;
        self.told.extend(draft.told.into_iter().map(|told| NewEvent { project: key.project, at_ms: now_ms, told }));
        self.history.extend(draft.history.into_iter().map(|row| (workspace.id, row, now_ms)));
        self.named.extend(draft.named.into_iter().map(|oid| (workspace.id, oid)));
        for (path, row) in draft.rows {
            match &row {
                Some(row) => workspace.rows.insert(path.clone(), row.clone()),
                None => workspace.rows.remove(&path),
            };
            self.after.insert((workspace.id, path), row);
        }
        PendingOutcome::Written { revision: workspace.revision, rows: draft.answers }
    }
}

/// Goes through the writes in order; a later write of the same path sees the earlier one. The first that cannot be done is the error.
fn draft(
    key: &WorkspaceKey,
    workspace: &Workspace,
    writes: &[PendingWrite],
    now_ms: i64,
) -> Result<Draft, PendingOutcome> {
    let mut draft = Draft { revision: workspace.revision, ..Draft::default() };
    for (index, write) in writes.iter().enumerate() {
        let before = || workspace.rows.get(&write.path);
        let current = draft.rows.get(&write.path).map_or_else(before, Option::as_ref);
        if !is_met(write.expect, current) {
            return Err(PendingOutcome::Mismatch(index));
        }
        if write.change == PendingChange::Undo && current.is_some() && workspace.committing {
            return Err(PendingOutcome::CommitUnderWay(index));
        }
        let next = new_row(write, draft.revision + 1, now_ms);
        if let (PendingChange::Keep { .. }, Some(kept)) = (&write.change, &next) {
            draft.revision += 1;
            draft.answers.push(Some(draft.revision));
            draft.named.extend(kept.oid);
            draft.history.extend(next);
            continue;
        }
        if is_same(current, next.as_ref()) {
            draft.answers.push(None);
            continue;
        }
        draft.revision += 1;
        draft.answers.push(Some(draft.revision));
        draft.named.extend(next.as_ref().and_then(|row| row.oid));
        draft.told.push(told(key, write, next.as_ref(), draft.revision));
        draft.history.extend(current.cloned());
        draft.rows.insert(write.path.clone(), next);
    }
    Ok(draft)
}

fn told(key: &WorkspaceKey, write: &PendingWrite, next: Option<&PendingRow>, revision: i64) -> Told {
    Told::Pending {
        user: key.user,
        branch: key.branch.clone(),
        path: write.path.clone(),
        event: next.map_or(PendingEvent::Dropped, |row| PendingEvent::Set(row.action)),
        mode: next.map_or(0, |row| row.mode),
        oid: next.and_then(|row| row.oid),
        base_oid: next.and_then(|row| row.base_oid),
        revision,
        origin: write.origin.clone(),
    }
}

fn is_met(expect: RowExpectation, current: Option<&PendingRow>) -> bool {
    match expect {
        RowExpectation::Any => true,
        RowExpectation::Absent => current.is_none(),
        RowExpectation::Row { .. } => current.is_some_and(|row| RowExpectation::of(row) == expect),
    }
}

/// Whether the write would leave what is there, but for its time and revision.
fn is_same(current: Option<&PendingRow>, next: Option<&PendingRow>) -> bool {
    let content = |row: &PendingRow| (row.oid, row.mode, row.base_oid, row.base_mode, row.action);
    current.map(content) == next.map(content)
}

fn new_row(write: &PendingWrite, revision: i64, now_ms: i64) -> Option<PendingRow> {
    match &write.change {
        PendingChange::Clear | PendingChange::Undo => None,
        PendingChange::Set { action, mode, oid, size, base_oid, base_mode, .. }
        | PendingChange::Keep { action, mode, oid, size, base_oid, base_mode, .. } => Some(PendingRow {
            path: write.path.clone(),
            action: *action,
            mode: *mode,
            oid: *oid,
            size: *size,
            base_oid: *base_oid,
            base_mode: *base_mode,
            revision,
            updated_at_ms: now_ms,
            origin: write.origin.clone(),
        }),
    }
}
