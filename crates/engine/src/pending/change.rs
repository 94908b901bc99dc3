//! What a write comes to, against the head: shared by autosaves and batches.

use treehold_catalog::{Action, Content, PendingChange};
use treehold_object::ObjectId;

use crate::tree::{Base, Item, is_file, merge_mode};

/// A file as it is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// `None` = it goes.
    pub new: Option<Item>,
    /// Bytes.
    pub size: u64,
    /// What the edit started from.
    pub base: Base,
    /// What equals the head is recorded all the same.
    pub explicit: bool,
}

impl Wanted {
    /// Whether it comes to what the head has: a mode that was not changed is the head's.
    pub fn equals(&self, head: Option<Item>) -> bool {
        let head = head.filter(|item| !item.is_tree());
        match (self.new, head) {
            (Some(new), Some(head)) if is_file(new.mode) && is_file(head.mode) => {
                new.oid == head.oid && merge_mode(self.base.mode, new.mode, head.mode) == head.mode
            }
            (new, head) => new == head,
        }
    }

    /// The change to the row. `head`: what the branch has at the path, a directory included.
    pub fn change(&self, head: Option<Item>, content: Content) -> PendingChange {
        if self.equals(head) && !self.explicit {
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
            base_oid: self.base.oid,
            base_mode: self.base.mode,
            content: if self.new.is_some() { content } else { Content::None },
        }
    }
}

/// What an edit starts from that names a blob as its base, in the place of `was`. Naming the head's blob resolves a conflict with the head; but
/// who says nothing of the mode has not looked at it, and then the mode starts from where it did.
pub(super) fn based_on(named: ObjectId, was: Base, head: Option<Item>, says_mode: bool) -> Base {
    let head = head.filter(|item| !item.is_tree() && item.oid == named);
    let mode = match (head, was.mode) {
        (Some(head), Some(mode)) if !says_mode && is_file(mode) && is_file(head.mode) => Some(mode),
        (Some(head), _) => Some(head.mode),
        (None, mode) => mode,
    };
    Base { oid: Some(named), mode }
}
