//! What a write comes to, against the head: shared by autosaves and batches.

use treehold_catalog::{Action, Content, PendingChange};
use treehold_object::ObjectId;

use crate::tree::Item;

/// A file as it is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// `None` = it goes.
    pub new: Option<Item>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base: Option<ObjectId>,
    /// What equals the head is recorded all the same.
    pub explicit: bool,
}

impl Wanted {
    /// The change to the row. `head`: what the branch has at the path, a directory included.
    pub fn change(&self, head: Option<Item>, content: Content) -> PendingChange {
        if self.new == head.filter(|item| !item.is_tree()) && !self.explicit {
            return PendingChange::Undo;
        }
        let action = match (self.new, head) {
            (None, _) => Action::Deleted,
            (Some(_), None) => Action::Created,
            (Some(_), Some(_)) => Action::Modified,
        };
        PendingChange::Set {
            action,
            mode: self.new.map_or(0, |item| item.mode),
            oid: self.new.map(|item| item.oid),
            size: if self.new.is_some() { self.size } else { 0 },
            base_oid: self.base,
            content: if self.new.is_some() { content } else { Content::None },
        }
    }
}
