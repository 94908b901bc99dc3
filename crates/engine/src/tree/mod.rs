//! Trees: finding paths, listing, comparing and editing them, always a level at a time, so that a change costs as many round
//! trips as it is deep, not as the repository is large.

mod diff;
mod edit;
mod find;
mod merge;
mod walk;

pub(crate) use diff::{Change, Side};
pub(crate) use edit::{Edit, Edits};
pub(crate) use find::Found;
#[cfg(test)]
pub(crate) use merge::merge_text;
pub(crate) use merge::{Resolution3, is_binary};
pub(crate) use walk::WalkFrom;

use bytes::Bytes;
use treehold_object::{BStr, BString, ObjectId};

use crate::{EngineError, Result};

/// Mode of a directory.
pub(crate) const TREE: u32 = 0o040000;
/// Mode of a submodule's commit.
pub(crate) const GITLINK: u32 = 0o160000;
/// Mode of a symbolic link.
pub(crate) const SYMLINK: u32 = 0o120000;
/// Mode of an ordinary file.
pub(crate) const FILE: u32 = 0o100644;

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
    gix_object::TreeRefIter::from_bytes(raw, gix_hash::Kind::Sha1).map(|entry| {
        let entry = entry.map_err(|_| EngineError::internal("a stored tree does not decode"))?;
        let mode = normal_mode(u32::from(entry.mode.value()));
        Ok((entry.filename, Item { mode, oid: entry.oid.to_owned() }))
    })
}

/// Historical modes of imported trees read as the mode that git gives them.
fn normal_mode(mode: u32) -> u32 {
    match mode & 0o170000 {
        0o040000 => TREE,
        0o120000 => SYMLINK,
        0o160000 => GITLINK,
        _ if mode & 0o100 != 0 => 0o100755,
        _ => FILE,
    }
}

/// Writes entries that are in git's order (by name, a tree's as if it ended in `/`).
pub(crate) fn encode<'a>(entries: impl Iterator<Item = (&'a [u8], Item)>) -> Bytes {
    let mut raw = Vec::new();
    for (name, item) in entries {
        raw.extend_from_slice(format!("{:o} ", item.mode).as_bytes());
        raw.extend_from_slice(name);
        raw.push(0);
        raw.extend_from_slice(item.oid.as_bytes());
    }
    raw.into()
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
