//! Trees: finding paths, listing, comparing and editing them, always a level at a time, so that a change costs as many round
//! trips as it is deep, not as the repository is large.

mod cache;
mod count;
mod decoded;
mod diff;
mod edit;
mod find;
mod marked;
mod merge;
mod renames;
mod walk;

pub(crate) use cache::TreeCache;
pub(crate) use decoded::Tree;
pub(crate) use diff::{Change, Side};
pub(crate) use edit::{Edit, Edits};
pub(crate) use find::Found;
pub(crate) use marked::merge_marked;
pub(crate) use merge::{Base, Resolution3, is_binary, is_file, merge_mode, merge_text};
pub(crate) use renames::{Added, Candidates, FOLLOWED_MAX};
pub(crate) use walk::{Step, Walk, WalkFrom};

use bytes::Bytes;
use treehold_object::tree::{self, TreeEntry, encode_tree, mode};
use treehold_object::{BStr, BString, ObjectId};

use crate::{EngineError, Result};

pub(crate) use treehold_object::tree::mode::{FILE, GITLINK, SYMLINK, TREE};

/// What a name in a tree stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub mode: u32,
    pub oid: ObjectId,
}

impl Item {
    pub fn is_tree(&self) -> bool {
        self.mode == TREE
    }
}

/// The entries of a raw tree, in git's order.
pub(crate) fn entries(raw: &[u8]) -> impl Iterator<Item = Result<(&BStr, Item)>> {
    tree::entries(raw).map(|entry| {
        let entry = entry.map_err(|_| EngineError::internal("a stored tree does not decode"))?;
        Ok((entry.name, Item { mode: normal_mode(entry.mode), oid: entry.oid }))
    })
}

/// Historical modes of imported trees read as the mode that git gives them.
fn normal_mode(mode: u32) -> u32 {
    match mode {
        _ if mode::is_tree(mode) => TREE,
        _ if mode::is_symlink(mode) => SYMLINK,
        _ if mode::is_gitlink(mode) => GITLINK,
        _ if mode & 0o100 != 0 => mode::EXECUTABLE,
        _ => FILE,
    }
}

/// The raw tree of entries in any order.
pub(crate) fn encode<'a>(entries: impl Iterator<Item = (&'a BString, Item)>) -> Result<Bytes> {
    let entries = entries.map(|(name, item)| TreeEntry { mode: item.mode, name: name.as_ref(), oid: item.oid });
    Ok(encode_tree(entries).map_err(EngineError::internal)?.into())
}

/// `prefix/name`, or `name` at the root.
pub(crate) fn join(prefix: &[u8], name: &[u8]) -> BString {
    let mut path = Vec::with_capacity(prefix.len() + 1 + name.len());
    if !prefix.is_empty() {
        path.extend_from_slice(prefix);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path.into()
}
