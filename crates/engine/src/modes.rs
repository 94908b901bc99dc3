//! Pending changes of a mode alone. Their content is whatever the branch has, now as in the commit that takes them: what they started from
//! is shown only as long as the branch has it.

use treehold_catalog::{PendingRow, Project, WorkspaceKey};
use treehold_object::{BString, ObjectId};

use crate::files::{base_of, pending_item};
use crate::objects::Blob;
use crate::tree::{Base, Item, Side, is_file};
use crate::view::View;
use crate::{Engine, EngineError, Result};

/// Whether a row changes the mode of a file and nothing else.
fn is_mode_alone(row: &PendingRow) -> bool {
    let changed = |base: u32| base != row.mode && is_file(base);
    row.oid.is_some() && row.oid == row.base_oid && is_file(row.mode) && row.base_mode.is_some_and(changed)
}

/// The branch's file with the row's mode; `None` where the row changes more, or the branch has no file.
fn on_branch(row: &PendingRow, theirs: Side) -> Option<Item> {
    let theirs = theirs.filter(|item| is_file(item.mode))?;
    is_mode_alone(row).then_some(Item { mode: row.mode, oid: theirs.oid })
}

/// The file that a user with this row sees, where the branch has `theirs`.
pub(crate) fn seen_item(row: &PendingRow, theirs: Side) -> Option<Item> {
    on_branch(row, theirs).or_else(|| pending_item(row))
}

/// What an edit of that file starts from.
pub(crate) fn seen_base(row: &PendingRow, theirs: Side) -> Base {
    match on_branch(row, theirs) {
        Some(item) => Base { oid: Some(item.oid), mode: row.base_mode },
        None => base_of(row),
    }
}

impl Engine {
    /// Gives the rows that change a mode alone the content that `tree` has. The answer has those that became others, as they were. Costs
    /// nothing where there are none.
    pub(crate) async fn set_on_tree(
        &self,
        tree: Option<ObjectId>,
        rows: Vec<&mut PendingRow>,
    ) -> Result<Vec<PendingRow>> {
        let rows: Vec<&mut PendingRow> = rows.into_iter().filter(|row| is_mode_alone(row)).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
        let there = self.find_paths(tree, &paths).await?;
        let others = rows.into_iter().zip(there).filter_map(|(row, theirs)| {
            let oid = on_branch(row, theirs)?.oid;
            (row.oid != Some(oid)).then_some((row, oid))
        });
        let (rows, oids): (Vec<_>, Vec<ObjectId>) = others.unzip();
        let mut recorded = Vec::with_capacity(rows.len());
        for ((row, oid), blob) in rows.into_iter().zip(&oids).zip(self.blobs(&oids).await?) {
            recorded.push(row.clone());
            row.oid = Some(*oid);
            row.size = blob.as_ref().map_or(0, Blob::size);
        }
        Ok(recorded)
    }

    /// The same on a branch's head, which is asked for only where there are such rows. Where the branch was deleted, they are what is recorded:
    /// pending work outlives its branch, and must stay in view.
    pub(crate) async fn set_on_branch(
        &self,
        project: &Project,
        key: &WorkspaceKey,
        rows: &mut [PendingRow],
    ) -> Result<()> {
        if rows.iter().any(is_mode_alone) {
            let head = match self.branch_head(project, &key.branch).await {
                Err(EngineError::NotFound { .. }) => return Ok(()),
                head => head?,
            };
            self.set_on_tree(head.tree, rows.iter_mut().collect()).await?;
        }
        Ok(())
    }

    /// The same for a view, again if its head is another one by now.
    pub(crate) async fn set_modes(&self, view: &mut View) -> Result<()> {
        let Some(overlay) = &mut view.overlay else { return Ok(()) };
        overlay.restore();
        overlay.recorded = self.set_on_tree(view.head.tree, overlay.rows.values_mut().collect()).await?;
        Ok(())
    }
}
