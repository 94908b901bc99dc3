//! Pending changes that the branch has by now, as somebody else made them too. There is nothing to commit of them, and they go by
//! themselves: with the next commit of their user, and with the next pull of the branch.

use std::collections::BTreeMap;

use treehold_catalog::{
    Origin, PendingChange, PendingOutcome, PendingRow, PendingWrite, Project, RowExpectation, WorkspaceKey,
};
use treehold_object::BString;
use uuid::Uuid;

use crate::api::ChangeState;
use crate::modes::seen_item;
use crate::tree::{Found, Resolution3, Side};
use crate::view::Head;
use crate::{Engine, Result};

/// How many rows of a branch a pull looks at, beside those at the paths that it changed.
const LOOKED_AT: usize = 10_000;
/// How often rows are left out that changed meanwhile, or that a commit under way may have taken.
const TRIES: usize = 8;

/// How a pending change stands to what the branch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub state: ChangeState,
    /// A commit would make nothing of it.
    pub in_head: bool,
}

/// Whether a merge with `theirs` gives `theirs`.
pub(crate) fn gives_theirs(resolution: &Resolution3, ours: Side, theirs: Side) -> bool {
    match resolution {
        Resolution3::Theirs => true,
        Resolution3::Ours => ours == theirs,
        Resolution3::Mode(item) => Some(*item) == theirs,
        Resolution3::Text { mode, oid, .. } => theirs.is_some_and(|item| item.mode == *mode && item.oid == *oid),
        Resolution3::Conflict => false,
    }
}

fn file(found: Found) -> Side {
    found.filter(|item| !item.is_tree())
}

impl Engine {
    /// Drops of a user's rows, at some paths or at all, those of which a commit on the branch would make nothing.
    pub(crate) async fn drop_landed(
        &self,
        project: &Project,
        key: &WorkspaceKey,
        paths: Option<&[BString]>,
    ) -> Result<()> {
        let (_, rows) = self.catalog.pending(key, paths).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let head = self.branch_head(project, &key.branch).await?;
        let there = self.find_paths(head.tree, &rows.iter().map(|row| row.path.clone()).collect::<Vec<_>>()).await?;
        let places: Vec<(usize, Side)> = there.into_iter().map(file).enumerate().collect();
        let standings = self.change_states(project, &head, &rows, &places).await?;
        let landed = rows.into_iter().zip(standings).filter(|(_, standing)| standing.in_head);
        self.undo_rows(key, landed.map(|(row, _)| row).collect()).await
    }

    /// Drops everybody's rows that show what the branch has: nobody sees anything else without them.
    pub(crate) async fn drop_seen_in_head(
        &self,
        project: &Project,
        head: &Head,
        changed: impl Fn(&BString) -> bool,
        workspaces: BTreeMap<Uuid, Vec<PendingRow>>,
    ) -> Result<()> {
        let Some(branch) = &head.branch else { return Ok(()) };
        let mut left = LOOKED_AT;
        for (user, mut rows) in workspaces {
            rows.retain(|row| {
                let others = !changed(&row.path);
                let looked_at = !others || left > 0;
                left = left.saturating_sub(usize::from(others));
                looked_at
            });
            let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
            let there = self.find_paths(head.tree, &paths).await?;
            let landed = rows.into_iter().zip(there).filter(|(row, theirs)| {
                let theirs = file(*theirs);
                seen_item(row, theirs) == theirs
            });
            let key = WorkspaceKey { project: project.id, branch: branch.clone(), user };
            self.undo_rows(&key, landed.map(|(row, _)| row).collect()).await?;
        }
        Ok(())
    }

    /// Takes rows away as a write does that equals the head; those that changed, or that a commit under way may have taken, stay.
    async fn undo_rows(&self, key: &WorkspaceKey, rows: Vec<PendingRow>) -> Result<()> {
        let undo = |row: PendingRow| PendingWrite {
            expect: RowExpectation::of(&row),
            path: row.path,
            change: PendingChange::Undo,
            origin: Origin::default(),
        };
        let mut writes: Vec<PendingWrite> = rows.into_iter().map(undo).collect();
        for _ in 0..TRIES {
            if writes.is_empty() {
                break;
            }
            match self.catalog.write_pending(key, None, &writes, self.ambient.now_ms()).await? {
                PendingOutcome::Mismatch(at) => _ = writes.remove(at),
                PendingOutcome::Written { .. }
                | PendingOutcome::WorkspaceMoved(_)
                // Of the user's rows any may have been taken.
                | PendingOutcome::CommitUnderWay(_) => break,
            }
        }
        Ok(())
    }
}
