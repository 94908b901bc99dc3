//! Pending changes that the branch has by now, as somebody else made them too. There is nothing to commit of them: a commit that finds
//! nothing else says so, and takes them away.

use treehold_catalog::{
    ClearCause, ClearPending, ClearedRow, OpKind, Publish, PublishOutcome, RefUpdate, WorkspaceKey,
};

use crate::api::ChangeState;
use crate::commit::change::ChangeRow;
use crate::tree::{Resolution3, Side};
use crate::view::{Head, branch_ref};
use crate::{Engine, Result};

/// How a pending change stands to what the branch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub state: ChangeState,
    /// A commit would make nothing of it.
    pub in_head: bool,
}

/// Whether what a row changes is in `theirs`, by how it merges with it.
pub(crate) fn gives_theirs(resolution: &Resolution3, ours: Side, theirs: Side) -> bool {
    match resolution {
        // Taking theirs without having it: an edit that says what it started from, and not what the branch has.
        Resolution3::Theirs | Resolution3::Ours => ours == theirs,
        Resolution3::Mode(item) => Some(*item) == theirs,
        Resolution3::Text { mode, oid, .. } => theirs.is_some_and(|item| item.mode == *mode && item.oid == *oid),
        Resolution3::Conflict => false,
    }
}

impl Engine {
    /// Takes away the rows of which a commit on `head` would make nothing, as if they had been committed with it: into local history, and
    /// those that were written since stay. If the branch has moved by now, all do: the judgement must hold when they go, as for a commit;
    /// and so they do while a commit under way may yet move it.
    ///
    /// What is as it was before, while the branch went on, shows something that nobody else has, and stays.
    pub(crate) async fn settle_landed(
        &self,
        key: &WorkspaceKey,
        branch: &str,
        head: &Head,
        rows: &[ChangeRow],
    ) -> Result<()> {
        let paths: Vec<_> = rows.iter().map(|row| row.path.clone()).collect();
        let there = self.find_paths(head.tree, &paths).await?;
        let landed = rows.iter().zip(there).filter_map(|(row, theirs)| {
            let theirs = theirs.filter(|item| !item.is_tree());
            let own = row.changes_nothing() && row.new != theirs;
            let (path, oid) = (row.path.clone(), theirs.map(|item| item.oid));
            Some(ClearedRow { path, revision: row.revision.filter(|_| !own)?, oid })
        });
        let (project, rows) = (key.project, landed.collect());
        let landed = ClearPending { branch: key.branch.clone(), user: key.user, rows, cause: ClearCause::Landed };
        let op = self.begin_op(Some(project), OpKind::Commit).await?;
        let same = RefUpdate { name: branch_ref(branch), expected: head.commit, new: head.commit };
        let publish = Publish { clear_pending: Some(landed), ..self.publication(project, &op, vec![same], "commit") };
        let published = self.catalog.publish(&publish).await;
        if !matches!(published, Ok(PublishOutcome::Published)) {
            self.end_op(op).await;
        }
        published?;
        Ok(())
    }
}
