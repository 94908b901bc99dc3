//! Named checkpoints of a workspace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use treehold_catalog::{
    Action, Checkpoint, CheckpointOutcome, CheckpointRow, NewCheckpoint, PendingRow, Project, WorkspaceKey,
};
use treehold_object::BString;
use uuid::Uuid;

use super::batch::ops::{Op, Verb};
use super::batch::{Asked, Batch, Round, Rules};
use super::put::RACES;
use crate::api::{
    At, CheckpointChange, CheckpointDetail, CheckpointEntry, CheckpointList, CheckpointRequest, CheckpointRestored,
    Diff, Mode, Oid, OnMismatch, OpStatus, Origin, Path,
};
use crate::files::{base_of, pending_item};
use crate::text::{page, read_cursor, rfc3339, write_cursor};
use crate::tree::{Base, Change, GITLINK, Item};
use crate::{Engine, EngineError, Result};

const NAME_MAX: usize = 200;
const MESSAGE_MAX: usize = 10_000;
/// Checkpoints of one workspace.
const CHECKPOINTS_MAX: u32 = 1000;
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1000;

const BEFORE: &str = "before restore of ";
const AFTER: &str = "after restore of ";

/// Where a list goes on: after this one.
#[derive(Serialize, Deserialize)]
struct CheckpointCursor {
    at: i64,
    id: Uuid,
}

fn entry(checkpoint: Checkpoint) -> CheckpointEntry {
    let Checkpoint { id, branch, name, message, revision, changes, created_at_ms } = checkpoint;
    CheckpointEntry { id, branch, name, message, revision, changes, created_at: rfc3339(created_at_ms) }
}

fn no_checkpoint() -> EngineError {
    EngineError::not_found("checkpoint_not_found", "The user has no such checkpoint in this project.")
}

fn item(row: &CheckpointRow) -> Option<Item> {
    match (row.action, row.oid) {
        (Action::Deleted, _) | (_, None) => None,
        (_, Some(oid)) => Some(Item { mode: row.mode, oid }),
    }
}

fn base(row: &CheckpointRow) -> Base {
    Base { oid: row.base_oid, mode: row.base_mode }
}

/// Under which name the state before a restoration is kept. Undoing one is told apart, so that undo and redo take turns.
fn before_name(restored: &str) -> String {
    match restored.strip_prefix(BEFORE) {
        Some(name) => format!("{AFTER}{name}"),
        None => format!("{BEFORE}{}", restored.strip_prefix(AFTER).unwrap_or(restored)),
    }
}

fn check_name(name: &str) -> Result<()> {
    let bad = |why: &str| Err(EngineError::unprocessable("bad_name", format!("The checkpoint's name {why}.")));
    match name {
        "" => bad("must not be empty"),
        name if name.len() > NAME_MAX => bad("must have at most 200 bytes"),
        name if name.chars().any(char::is_control) => bad("must not hold control characters"),
        name if name.starts_with(BEFORE) || name.starts_with(AFTER) => {
            bad("must not begin as those that restorations make")
        }
        _ => Ok(()),
    }
}

impl Engine {
    /// Records everything that a user has pending on a branch.
    pub async fn create_checkpoint(&self, project: &str, request: &CheckpointRequest) -> Result<CheckpointEntry> {
        check_name(&request.name)?;
        if request.message.len() > MESSAGE_MAX {
            return Err(EngineError::TooLarge { what: "the message", limit: MESSAGE_MAX as u64, unit: "bytes" });
        }
        // Postgres keeps no NUL in texts.
        if request.message.contains('\0') {
            return Err(EngineError::unprocessable("bad_message", "The message must not hold a NUL."));
        }
        let (project, key) = self.workspace(project, request.user, request.branch.as_deref()).await?;
        self.branch_head(&project, &key.branch).await?;
        let new = NewCheckpoint {
            id: self.ambient.uuid(),
            name: request.name.clone(),
            message: request.message.clone(),
            replace: false,
            expected_revision: None,
            limit: CHECKPOINTS_MAX,
            now_ms: self.ambient.now_ms(),
        };
        match self.catalog.create_checkpoint(&key, &new).await? {
            CheckpointOutcome::Created(checkpoint) => Ok(entry(checkpoint)),
            CheckpointOutcome::NameTaken => Err(EngineError::Conflict {
                code: "checkpoint_exists",
                detail: "The workspace has a checkpoint of this name; choose another, or delete it first.".to_owned(),
            }),
            CheckpointOutcome::TooMany => Err(EngineError::unprocessable(
                "too_many_checkpoints",
                format!("The workspace has {CHECKPOINTS_MAX} checkpoints, and may have no more; delete some."),
            )),
            CheckpointOutcome::WorkspaceMoved(_) => Err(EngineError::internal("no revision was expected")),
        }
    }

    /// A user's checkpoints, newest first; on all branches if none is named.
    pub async fn checkpoints(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<CheckpointList> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let cursor: Option<CheckpointCursor> = cursor.map(read_cursor).transpose()?;
        let project = self.find_project(project).await?;
        if let Some(branch) = branch {
            crate::view::check_branch(branch)?;
        }
        let after = cursor.map(|cursor| (cursor.at, cursor.id));
        let one_more = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let mut found = self.catalog.checkpoints(project.id, user, branch, after, one_more).await?;
        let last = page(&mut found, limit).map(|last| CheckpointCursor { at: last.created_at_ms, id: last.id });
        let next_cursor = last.map(|last| write_cursor(&last)).transpose()?;
        Ok(CheckpointList { checkpoints: found.into_iter().map(entry).collect(), next_cursor })
    }

    async fn find_checkpoint(
        &self,
        project: &str,
        user: Uuid,
        id: Uuid,
    ) -> Result<(Project, WorkspaceKey, Checkpoint, Vec<CheckpointRow>)> {
        let project = self.find_project(project).await?;
        let found = self.catalog.checkpoint(project.id, user, id).await?;
        let (checkpoint, rows) = found.ok_or_else(no_checkpoint)?;
        let key = WorkspaceKey { project: project.id, branch: checkpoint.branch.clone(), user };
        Ok((project, key, checkpoint, rows))
    }

    /// A checkpoint and its changes.
    pub async fn checkpoint(&self, project: &str, user: Uuid, id: Uuid) -> Result<CheckpointDetail> {
        let (_, _, checkpoint, rows) = self.find_checkpoint(project, user, id).await?;
        let change = |row: CheckpointRow| CheckpointChange {
            action: row.action.into(),
            oid: row.oid.map(Oid),
            mode: row.oid.map(|_| Mode(row.mode)),
            size: row.size,
            base_oid: row.base_oid.map(Oid),
            path: Path(row.path),
        };
        Ok(CheckpointDetail { checkpoint: entry(checkpoint), files: rows.into_iter().map(change).collect() })
    }

    /// Compares a checkpoint with the user's view now; what it does not change is as the branch has it today.
    pub async fn checkpoint_diff(&self, project: &str, user: Uuid, id: Uuid) -> Result<Diff> {
        let (project, key, _, rows) = self.find_checkpoint(project, user, id).await?;
        let at = At { reference: Some(key.branch.clone()), user: Some(user) };
        let view = self.view(&project.id.to_string(), &at, None).await?;
        let now = view.overlay.map(|overlay| overlay.rows).unwrap_or_default();
        let then: BTreeMap<BString, CheckpointRow> = rows.into_iter().map(|row| (row.path.clone(), row)).collect();
        let mut paths: Vec<BString> = then.keys().chain(now.keys()).cloned().collect();
        paths.sort_unstable();
        paths.dedup();
        let heads = self.find_paths(view.head.tree, &paths).await?;
        let changes = paths.into_iter().zip(heads).map(|(path, head)| {
            let head = head.filter(|item| !item.is_tree() && item.mode != GITLINK);
            let old = then.get(&path).map_or(head, item);
            let new = now.get(&path).map_or(head, pending_item);
            Change { path, old, new }
        });
        let changes = changes.filter(|change| change.old != change.new).collect();
        Ok(Diff { from: None, to: None, files: self.pending_diffs(&project, changes).await?, next_cursor: None })
    }

    /// Removes a checkpoint.
    pub async fn delete_checkpoint(&self, project: &str, user: Uuid, id: Uuid) -> Result<()> {
        let project = self.find_project(project).await?;
        match self.catalog.delete_checkpoint(project.id, user, id).await? {
            true => Ok(()),
            false => Err(no_checkpoint()),
        }
    }

    /// Makes a user's pending work what it was at a checkpoint, in one transaction. What was pending goes to local history and, as a whole,
    /// to a checkpoint of its own.
    pub async fn restore_checkpoint(
        &self,
        project: &str,
        user: Uuid,
        id: Uuid,
        origin: Origin,
    ) -> Result<CheckpointRestored> {
        let mut explicit = false;
        for _ in 0..RACES {
            let (project, key, checkpoint, rows) = self.find_checkpoint(project, user, id).await?;
            let (revision, now) = self.catalog.pending(&key, None).await?;
            let ops = differences(rows, now);
            if ops.is_empty() {
                return Ok(CheckpointRestored { revision, changed: 0, before: None });
            }
            let new = NewCheckpoint {
                id: self.ambient.uuid(),
                name: before_name(&checkpoint.name),
                message: String::new(),
                replace: true,
                expected_revision: Some(revision),
                limit: u32::MAX,
                now_ms: self.ambient.now_ms(),
            };
            let before = match self.catalog.create_checkpoint(&key, &new).await? {
                CheckpointOutcome::Created(before) => before,
                _ => continue,
            };
            let rules =
                Rules { atomic: true, base_revision: None, on_conflict: OnMismatch::Fail, explicit, whole: true };
            let mut batch = Batch::new(self, project, key, ops, rules);
            batch.expected = Some(revision);
            batch.origin = origin.clone();
            let round = self.batch_round(&mut batch).await;
            explicit = batch.rules.explicit;
            match round? {
                Round::Done(answer) => {
                    let changed = answer.results.iter().filter(|result| result.status == OpStatus::Applied).count();
                    let before = Some(entry(before));
                    return Ok(CheckpointRestored { revision: answer.revision, changed: changed as u64, before });
                }
                Round::Lost | Round::Answered => continue,
            }
        }
        Err(EngineError::Busy)
    }
}

/// What turns the rows that are there into those of a checkpoint: what goes first, so that names are free.
fn differences(then: Vec<CheckpointRow>, now: Vec<PendingRow>) -> Vec<Asked> {
    let mut now: BTreeMap<BString, PendingRow> = now.into_iter().map(|row| (row.path.clone(), row)).collect();
    let mut restored = Vec::new();
    for row in then {
        let same = |now: PendingRow| pending_item(&now) == item(&row) && base_of(&now) == base(&row);
        if now.remove(&row.path).is_some_and(same) {
            continue;
        }
        let op = Op::new(row.path.clone(), Verb::Restore(item(&row), row.size));
        restored.push(Op { rebase: Some(base(&row)), ..op });
    }
    let gone = now.into_keys().map(|path| Op::new(path, Verb::Reset));
    let (deleted, set): (Vec<Op>, Vec<Op>) =
        restored.into_iter().partition(|op| matches!(op.verb, Verb::Restore(None, _)));
    gone.chain(deleted).chain(set).map(|op| (op.path.clone(), Ok(op))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_and_redo_take_turns() {
        let names = ["x".to_owned(), before_name("x"), before_name(&before_name("x"))];
        assert_eq!(names, ["x", "before restore of x", "after restore of x"]);
        assert_eq!(before_name(&names[2]), names[1]);
    }

    #[test]
    fn names_are_short_lines_of_their_own() {
        assert!(check_name("Übung 1").is_ok());
        for bad in ["", "a\nb", &"x".repeat(201), "before restore of y"] {
            assert_eq!(check_name(bad).expect_err("refused").code(), "bad_name", "{bad:?}");
        }
    }
}
