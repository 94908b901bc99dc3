//! What a commit is to change, wherever it comes from: a user's pending rows, or the actions of a request.

use bytes::Bytes;
use treehold_catalog::{Origin, PendingRow, Project};
use treehold_object::{BString, ObjectId};

use crate::files::{base_of, pending_item};
use crate::tree::{Base, Edit};
use crate::{Engine, Result};

/// One path to change.
#[derive(Debug, Clone)]
pub(crate) struct ChangeRow {
    pub path: BString,
    /// What the change started from.
    pub base: Base,
    /// What the path becomes; `None` = it goes.
    pub new: Edit,
    /// The new bytes, where they are not stored for this project yet.
    pub content: Option<Bytes>,
    /// Revision of the pending row, if it comes from one.
    pub revision: Option<i64>,
    /// Where the pending row comes from.
    pub origin: Origin,
}

impl ChangeRow {
    /// Whether it is what it started from.
    pub fn changes_nothing(&self) -> bool {
        let (oid, mode) = (self.new.map(|item| item.oid), self.new.map(|item| item.mode));
        oid == self.base.oid && (mode == self.base.mode || self.base.mode.is_none())
    }
}

impl Engine {
    /// Pending rows as changes, with the contents that are kept inline (large ones stay in the bucket).
    pub(crate) async fn changes_of_pending(&self, project: &Project, rows: Vec<PendingRow>) -> Result<Vec<ChangeRow>> {
        let oids: Vec<ObjectId> = rows.iter().filter_map(|row| row.oid).collect();
        let mut contents = self.catalog.pending_contents(project.id, &oids).await?.into_iter();
        Ok(rows
            .into_iter()
            .map(|row| ChangeRow {
                base: base_of(&row),
                new: pending_item(&row),
                content: row.oid.and_then(|_| contents.next().flatten()),
                revision: Some(row.revision),
                origin: row.origin,
                path: row.path,
            })
            .collect())
    }
}
