//! Changes whose path is gone on one side: they are taken to where the file went.

use bytes::Bytes;
use treehold_object::{BString, ObjectId};

use super::change::ChangeRow;
use crate::tree::{Added, Item, Resolution3, Side};
use crate::view::Head;
use crate::{Engine, Result};

/// What a conflict over a file that was renamed comes to.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The branch renamed it: the change is made where the file is now.
    There {
        path: BString,
        theirs: Item,
        new: Item,
        /// `None`: it is the change's own.
        content: Option<Bytes>,
    },
    /// The user renamed it: what the branch changed goes into the change with this index, and the old path goes.
    Here { index: usize, resolution: Resolution3 },
}

impl Engine {
    /// Takes a change that conflicts, as one side has no file, to where the file went; `None` = it went nowhere, or does not merge there.
    /// `all` are the changes that would be made with it. A tree diff, and contents of new files if none is the same; other changes
    /// cost nothing.
    pub(crate) async fn follow(
        &self,
        change: &ChangeRow,
        all: &[ChangeRow],
        parent: &Head,
        theirs: Side,
    ) -> Result<Option<Followed>> {
        let Some(base) = change.base else { return Ok(None) };
        match (change.new, theirs) {
            (Some(ours), None) => self.follow_theirs(change, base, ours, all, parent).await,
            (None, Some(theirs)) => self.follow_ours(change, base, theirs, all).await,
            _ => Ok(None),
        }
    }

    async fn follow_theirs(
        &self,
        change: &ChangeRow,
        base: ObjectId,
        ours: Item,
        all: &[ChangeRow],
        parent: &Head,
    ) -> Result<Option<Followed>> {
        let Some(from) = self.where_clean(parent, std::slice::from_ref(change)).await? else { return Ok(None) };
        let was = self.find_paths(from.tree, std::slice::from_ref(&change.path)).await?.pop().flatten();
        let added = self.diff_trees(from.tree, parent.tree).await?.into_iter().filter(|found| found.old.is_none());
        let added = added.filter_map(|found| Some(Added { path: found.path, item: found.new?, content: None }));
        let added: Vec<Added> = added.collect();
        let Some(index) = self.renamed_to(&change.path, base, &added).await? else { return Ok(None) };
        let Added { path, item: theirs, .. } = added[index].clone();
        if all.iter().any(|other| other.path == path) {
            return Ok(None);
        }
        let resolution = self.merge_path(Some(base), Some(ours), Some(theirs), change.content.clone()).await?;
        let mode = if was.is_some_and(|was| was.mode == ours.mode) { theirs.mode } else { ours.mode };
        Ok(match resolution {
            Resolution3::Text { oid, content, .. } => {
                Some(Followed::There { path, theirs, new: Item { mode, oid }, content: Some(content) })
            }
            Resolution3::Ours => Some(Followed::There { path, theirs, new: Item { mode, ..ours }, content: None }),
            // The change is there already.
            Resolution3::Theirs => Some(Followed::There { path, theirs, new: Item { mode, ..theirs }, content: None }),
            Resolution3::Conflict => None,
        })
    }

    async fn follow_ours(
        &self,
        change: &ChangeRow,
        base: ObjectId,
        theirs: Item,
        all: &[ChangeRow],
    ) -> Result<Option<Followed>> {
        let created = all.iter().enumerate().filter(|(_, other)| other.base.is_none());
        let created = created.filter_map(|(at, other)| {
            let added = Added { path: other.path.clone(), item: other.new?, content: other.content.clone() };
            Some((at, added))
        });
        let (places, added): (Vec<usize>, Vec<Added>) = created.unzip();
        let Some(found) = self.renamed_to(&change.path, base, &added).await? else { return Ok(None) };
        let Added { item: ours, content, .. } = added[found].clone();
        let merged = self.merge_path(Some(base), Some(ours), Some(theirs), content).await?;
        let resolution = match merged {
            Resolution3::Conflict => return Ok(None),
            // The content is the branch's, the path and the mode are the user's.
            Resolution3::Theirs => match self.contents(&[theirs.oid]).await?.pop().flatten() {
                Some(content) => Resolution3::Text { mode: ours.mode, oid: theirs.oid, content },
                None => return Ok(None),
            },
            other => other,
        };
        Ok(Some(Followed::Here { index: places[found], resolution }))
    }
}
