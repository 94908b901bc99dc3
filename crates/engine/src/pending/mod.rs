//! Pending work: autosave, list, read, drop.

mod batch;
mod change;
mod checkpoints;
mod put;
mod resolve;
mod text;
mod versions;

#[cfg(test)]
pub(crate) use text::{Patch, replace};
pub use versions::Against;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_catalog::{
    Action, PendingChange, PendingOutcome, PendingRow, PendingWrite, Project, RowExpectation, WorkspaceKey,
};
use treehold_object::BString;
use uuid::Uuid;

use crate::api::{Condition, DropAnswer, Mode, Oid, Origin, Path, PendingAction, PendingEntry, PendingList};
use crate::files::{pending_deletion, pending_item, shaped_path};
use crate::text::{read_cursor, rfc3339, write_cursor};
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 1000;
const LIST_MAX: usize = 10_000;

impl From<Action> for PendingAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Modified => Self::Modified,
            Action::Created => Self::Created,
            Action::Deleted => Self::Deleted,
        }
    }
}

/// Where a list goes on: the last path shown.
#[derive(Serialize, Deserialize)]
struct PendingCursor {
    #[serde(with = "crate::text::bytes_text")]
    after: Vec<u8>,
}

fn entry(row: PendingRow) -> PendingEntry {
    PendingEntry {
        action: row.action.into(),
        mode: row.oid.map(|_| Mode(row.mode)),
        oid: row.oid.map(Oid),
        size: row.size,
        base_oid: row.base_oid.map(Oid),
        revision: row.revision,
        updated_at: rfc3339(row.updated_at_ms),
        path: Path(row.path),
        origin: row.origin.into(),
    }
}

impl Engine {
    /// The workspace of a user, on a branch that exists or may be born.
    pub(crate) async fn workspace(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
    ) -> Result<(Project, WorkspaceKey)> {
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, branch)?;
        let key = WorkspaceKey { project: project.id, branch, user };
        Ok((project, key))
    }

    /// Lists a user's pending changes, in byte order of the path.
    pub async fn list_pending(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<PendingList> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let (project, key) = self.workspace(project, user, branch).await?;
        let cursor: Option<PendingCursor> = cursor.map(read_cursor).transpose()?;
        let after: BString = cursor.map(|cursor| cursor.after.into()).unwrap_or_default();
        // One more tells whether there are more.
        let (revision, mut rows) = self.catalog.pending_page(&key, &after, limit as u32 + 1).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        self.set_on_branch(&project, &key, &mut rows).await?;
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| write_cursor(&PendingCursor { after: row.path.to_vec() })).transpose()?;
        let changes: Vec<PendingEntry> = rows.into_iter().map(entry).collect();
        Ok(PendingList { revision, changes, next_cursor })
    }

    /// One pending file and its bytes.
    pub async fn pending_file(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        path: &[u8],
    ) -> Result<(PendingEntry, Bytes)> {
        let path = shaped_path(path)?;
        let (project, key) = self.workspace(project, user, branch).await?;
        let (_, mut rows) = self.catalog.pending(&key, Some(std::slice::from_ref(&path))).await?;
        self.set_on_branch(&project, &key, &mut rows).await?;
        let row = rows.pop().ok_or_else(nothing_pending)?;
        let oid = row.oid.ok_or_else(pending_deletion)?;
        let content = self.pending_bytes(&project, &[oid]).await?.pop().flatten();
        let content = content.ok_or_else(|| EngineError::internal(format!("pending {oid} is not stored")))?;
        Ok((entry(row), content))
    }

    /// Drops all pending changes. What is dropped stays in local history.
    pub async fn drop_all_pending(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        origin: Origin,
    ) -> Result<DropAnswer> {
        let (_, key) = self.workspace(project, user, branch).await?;
        let (revision, dropped) = self.catalog.clear_pending(&key, &origin.into(), self.ambient.now_ms()).await?;
        Ok(DropAnswer { revision, dropped })
    }

    /// Drops one pending change, if it is what the condition asks for. It stays in local history.
    pub async fn drop_pending(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        path: &[u8],
        condition: &Condition,
        origin: Origin,
    ) -> Result<DropAnswer> {
        let (project, key) = self.workspace(project, user, branch).await?;
        let path: BString = shaped_path(path)?;
        let origin = treehold_catalog::Origin::from(origin);
        for _ in 0..put::RACES {
            let expect = self.droppable(&project, &key, &path, condition).await?;
            let (path, origin) = (path.clone(), origin.clone());
            let write = PendingWrite { path, expect, change: PendingChange::Clear, origin };
            match self.catalog.write_pending(&key, None, &[write], self.ambient.now_ms()).await? {
                PendingOutcome::Written { revision, rows } if rows[0].is_some() => {
                    return Ok(DropAnswer { revision, dropped: 1 });
                }
                PendingOutcome::Written { .. } => return Err(nothing_pending()),
                // Somebody wrote after the condition was judged.
                PendingOutcome::Mismatch(_) => {}
                PendingOutcome::WorkspaceMoved(_) | PendingOutcome::CommitUnderWay(_) => {
                    return Err(EngineError::internal("what was not asked for was refused"));
                }
            }
        }
        Err(EngineError::Busy)
    }

    /// The row that is to go: without a condition, whatever it is.
    async fn droppable(
        &self,
        project: &Project,
        key: &WorkspaceKey,
        path: &BString,
        condition: &Condition,
    ) -> Result<RowExpectation> {
        if condition.is_none() {
            return Ok(RowExpectation::Any);
        }
        let (revision, mut rows) = self.catalog.pending(key, Some(std::slice::from_ref(path))).await?;
        self.set_on_branch(project, key, &mut rows).await?;
        let row = rows.pop().ok_or_else(nothing_pending)?;
        let view = pending_item(&row).map(|item| item.oid);
        match condition.holds(view) {
            true => Ok(RowExpectation::of(&row)),
            false => Err(EngineError::Precondition { oid: view.map(Oid), revision: Some(revision) }),
        }
    }
}

fn nothing_pending() -> EngineError {
    EngineError::not_found("nothing_pending", "The user has no pending change at this path.")
}
