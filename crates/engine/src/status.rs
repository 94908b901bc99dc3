//! Status: where the branch is against the remote, and how pending work stands to the head.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::{PendingRow, Project, WorkspaceKey};
use treehold_object::BString;
use uuid::Uuid;

use crate::api::{AttemptView, ChangeState, Oid, Path, Status, StatusEntry};
use crate::commit::change::ChangeRow;
use crate::files::pending_item;
use crate::tree::{Resolution3, Side};
use crate::view::{Head, branch_ref};
use crate::{Engine, Result};

/// Pending work of others, by path.
pub(crate) type Others = HashMap<BString, Vec<(Uuid, PendingRow)>>;

impl Engine {
    /// Status of a branch for a user. Rows whose base is still in the head cost nothing; the others are merged to tell.
    pub async fn status(&self, project: &str, user: Uuid, branch: Option<&str>) -> Result<Status> {
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, branch)?;
        let key = WorkspaceKey { project: project.id, branch: branch.clone(), user };
        let (revision, rows) = self.catalog.pending(&key, None).await?;
        let head = self.branch_head(&project, &branch).await?;
        let name = branch_ref(&branch);
        let known = self.catalog.remote_references(project.id, &name).await?;
        let remote_head = known.into_iter().find(|known| known.name == name).map(|known| known.oid);
        let said = self.said_to_be(&project, &branch, remote_head).await?;
        let (ours, theirs): (Vec<_>, Vec<_>) = (head.commit.into_iter().collect(), remote_head.into_iter().collect());
        let (ahead, behind) = match ours == theirs {
            true => (0, 0),
            false => {
                let comparison = self.compare(project.id, &ours, &theirs).await?;
                (comparison.ours.len() as u64, comparison.theirs)
            }
        };
        let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
        let there = self.find_paths(head.tree, &paths).await?;
        let mut others = self.others_at(&key, &paths).await?;
        let mut changes = Vec::with_capacity(rows.len());
        let mut standing = Standing::new(self, &project, &head, &rows);
        let mut states = Vec::with_capacity(rows.len());
        for (row, theirs) in rows.iter().zip(&there) {
            states.push(standing.of(row, theirs.filter(|item| !item.is_tree())).await?);
        }
        for ((row, theirs), state) in rows.into_iter().zip(there).zip(states) {
            let theirs = theirs.filter(|item| !item.is_tree());
            changes.push(StatusEntry {
                action: row.action.into(),
                oid: row.oid.map(Oid),
                base_oid: row.base_oid.map(Oid),
                head_oid: theirs.map(|item| Oid(item.oid)),
                state,
                revision: row.revision,
                others: others.remove(&row.path).unwrap_or_default().into_iter().map(|(user, _)| user).collect(),
                path: Path(row.path),
            });
        }
        let open = self.catalog.open_attempts(Some((project.id, &branch)), 100).await?;
        let attempts = open.into_iter().filter(|attempt| attempt.user == Some(user)).map(|attempt| AttemptView {
            attempt: attempt.id,
            commit: Oid(attempt.commit),
            state: format!("{:?}", attempt.state).to_lowercase(),
        });
        Ok(Status {
            branch,
            head: head.commit.map(Oid),
            remote_head: remote_head.map(Oid),
            remote_moved: said.is_some(),
            remote_head_reported: said.flatten().map(Oid),
            ahead,
            behind,
            revision,
            changes,
            attempts: attempts.collect(),
        })
    }

    /// What others have pending on these paths, by path.
    pub(crate) async fn others_at(&self, key: &WorkspaceKey, paths: &[BString]) -> Result<Others> {
        let mut others = Others::new();
        if !paths.is_empty() {
            for (user, row) in self.catalog.pending_on_branch(key.project, &key.branch, Some(paths)).await? {
                if user != key.user {
                    others.entry(row.path.clone()).or_default().push((user, row));
                }
            }
        }
        Ok(others)
    }

    /// Merges a pending row with what the branch has at its path.
    pub(crate) async fn merge_row(&self, project: &Project, row: &PendingRow, theirs: Side) -> Result<Resolution3> {
        let content: Option<Bytes> = match row.oid {
            Some(oid) => self.pending_bytes(project, &[oid]).await?.pop().flatten(),
            None => None,
        };
        self.merge_path(row.base_oid, pending_item(row), theirs, content).await
    }
}

/// A workspace's rows against a head. What it takes to follow renames is read when there is one.
pub(crate) struct Standing<'a> {
    engine: &'a Engine,
    project: &'a Project,
    head: &'a Head,
    rows: &'a [PendingRow],
    changes: Option<Vec<ChangeRow>>,
}

impl<'a> Standing<'a> {
    pub(crate) fn new(engine: &'a Engine, project: &'a Project, head: &'a Head, rows: &'a [PendingRow]) -> Self {
        Self { engine, project, head, rows, changes: None }
    }

    /// How one of the rows stands to what the branch has at its path.
    pub(crate) async fn of(&mut self, row: &PendingRow, theirs: Side) -> Result<ChangeState> {
        if theirs.map(|item| item.oid) == row.base_oid {
            return Ok(ChangeState::Clean);
        }
        let merges = match self.engine.merge_row(self.project, row, theirs).await? {
            Resolution3::Conflict => self.is_renamed(row, theirs).await?,
            _ => true,
        };
        Ok(if merges { ChangeState::Outdated } else { ChangeState::Conflict })
    }

    /// Whether it merges where the file went.
    async fn is_renamed(&mut self, row: &PendingRow, theirs: Side) -> Result<bool> {
        if row.oid.is_some() && theirs.is_some() {
            return Ok(false);
        }
        if self.changes.is_none() {
            self.changes = Some(self.engine.changes_of_pending(self.project, self.rows.to_vec()).await?);
        }
        let changes = self.changes.as_deref().unwrap_or_default();
        let Some(change) = changes.iter().find(|change| change.path == row.path) else { return Ok(false) };
        Ok(self.engine.follow(change, changes, self.head, theirs).await?.is_some())
    }
}
