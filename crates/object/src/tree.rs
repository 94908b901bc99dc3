//! Trees: directories as git stores them.
//!
//! A tree is a run of entries, each `<mode in octal> SP <name> NUL <20 bytes of id>`, in the order of the names, where
//! the name of a tree counts as if it ended in a slash.

use bstr::{BStr, ByteSlice};
use gix_hash::ObjectId;
use std::cmp::Ordering;

/// Modes of tree entries, as numbers.
pub mod mode {
    /// A file.
    pub const FILE: u32 = 0o100644;
    /// An executable file.
    pub const EXECUTABLE: u32 = 0o100755;
    /// A symlink; its content is the target.
    pub const SYMLINK: u32 = 0o120000;
    /// A tree.
    pub const TREE: u32 = 0o040000;
    /// A commit of another repository (a submodule).
    pub const GITLINK: u32 = 0o160000;
    /// A file as early versions of git wrote it.
    pub const GROUP_WRITABLE: u32 = 0o100664;

    const KIND: u32 = 0o170000;

    /// Whether it is a file of any permissions.
    pub const fn is_file(mode: u32) -> bool {
        mode & KIND == 0o100000
    }

    /// Whether it is a symlink.
    pub const fn is_symlink(mode: u32) -> bool {
        mode & KIND == SYMLINK
    }

    /// Whether it is a tree.
    pub const fn is_tree(mode: u32) -> bool {
        mode & KIND == TREE
    }

    /// Whether it is a gitlink.
    pub const fn is_gitlink(mode: u32) -> bool {
        mode & KIND == GITLINK
    }
}

/// Why bytes are no tree, or entries make none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The bytes end within an entry.
    #[error("the tree is cut short")]
    Short,
    /// A mode is not an octal number of at most 32 bits with a space after it.
    #[error("a tree entry has a malformed mode")]
    Mode,
    /// A name is empty, or (when writing) has a NUL or a slash.
    #[error("a tree entry has a malformed name")]
    Name,
    /// Two entries to be written have the same name.
    #[error("two tree entries have the same name")]
    Duplicate,
}

/// One entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// See [`mode`]; as it is written, also where git would not write it so.
    pub mode: u32,
    /// One path component.
    pub name: &'a BStr,
    /// The id of the blob, tree, or commit.
    pub oid: ObjectId,
}

impl TreeEntry<'_> {
    /// Git's order: by bytes, with a slash after the name of a tree.
    pub fn cmp_in_tree(&self, other: &TreeEntry<'_>) -> Ordering {
        let slash = |entry: &TreeEntry<'_>| mode::is_tree(entry.mode).then_some(b'/');
        let common = self.name.len().min(other.name.len());
        self.name[..common].cmp(&other.name[..common]).then_with(|| {
            let next = |entry: &TreeEntry<'_>| entry.name.get(common).copied().or(slash(entry));
            next(self).cmp(&next(other)).then_with(|| self.name.len().cmp(&other.name.len()))
        })
    }
}

/// The entries of a tree, one by one, without copying; the iterator ends after the first error.
#[derive(Debug, Clone)]
pub struct TreeEntries<'a> {
    rest: &'a [u8],
}

/// The entries of the tree `content`, in the order in which they stand there.
pub fn entries(content: &[u8]) -> TreeEntries<'_> {
    TreeEntries { rest: content }
}

/// All entries of the tree `content`. Order and names are not judged; see [`crate::fsck`].
pub fn parse_tree(content: &[u8]) -> Result<Vec<TreeEntry<'_>>, TreeError> {
    entries(content).collect()
}

impl TreeEntries<'_> {
    /// Whether the next entry's mode is written with a zero in front, as git does not.
    pub(crate) fn is_zero_padded(&self) -> bool {
        self.rest.first() == Some(&b'0')
    }
}

impl<'a> Iterator for TreeEntries<'a> {
    type Item = Result<TreeEntry<'a>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (entry, rest) = match parse_entry(self.rest) {
            Ok((entry, rest)) => (Ok(entry), rest),
            Err(error) => (Err(error), &[][..]),
        };
        self.rest = rest;
        Some(entry)
    }
}

fn parse_entry(content: &[u8]) -> Result<(TreeEntry<'_>, &[u8]), TreeError> {
    let space = content.find_byte(b' ').ok_or(TreeError::Short)?;
    let (digits, rest) = (&content[..space], &content[space + 1..]);
    let nul = rest.find_byte(0).ok_or(TreeError::Short)?;
    let (name, rest) = (&rest[..nul], &rest[nul + 1..]);
    let (oid, rest) = rest.split_at_checked(20).ok_or(TreeError::Short)?;
    if name.is_empty() {
        return Err(TreeError::Name);
    }
    let oid = ObjectId::try_from(oid).map_err(|_| TreeError::Short)?;
    Ok((TreeEntry { mode: parse_mode(digits)?, name: name.as_bstr(), oid }, rest))
}

fn parse_mode(digits: &[u8]) -> Result<u32, TreeError> {
    if digits.is_empty() {
        return Err(TreeError::Mode);
    }
    digits.iter().try_fold(0u32, |mode, digit| match digit {
        b'0'..=b'7' if mode < 1 << 29 => Ok(mode * 8 + u32::from(digit - b'0')),
        _ => Err(TreeError::Mode),
    })
}

/// The tree of `entries`, given in any order.
pub fn encode_tree<'a>(entries: impl IntoIterator<Item = TreeEntry<'a>>) -> Result<Vec<u8>, TreeError> {
    let mut entries: Vec<TreeEntry<'a>> = entries.into_iter().collect();
    entries.sort_unstable_by(TreeEntry::cmp_in_tree);
    if has_duplicates(&entries) {
        return Err(TreeError::Duplicate);
    }
    let mut content = Vec::with_capacity(entries.iter().map(|entry| entry.name.len() + 28).sum());
    for entry in entries {
        if entry.name.is_empty() || entry.name.iter().any(|byte| b"\0/".contains(byte)) {
            return Err(TreeError::Name);
        }
        content.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        content.extend_from_slice(entry.name);
        content.push(0);
        content.extend_from_slice(entry.oid.as_slice());
    }
    Ok(content)
}

/// Whether two of `entries`, which are in git's order, have the same name. A tree `a` may stand away from a file `a`,
/// after `a.c`.
pub(crate) fn has_duplicates(entries: &[TreeEntry<'_>]) -> bool {
    let is_beside = entries.windows(2).any(|pair| pair[0].name == pair[1].name);
    is_beside
        || entries.iter().filter(|entry| mode::is_tree(entry.mode)).any(|tree| {
            let as_file = TreeEntry { mode: mode::FILE, ..*tree };
            entries.binary_search_by(|entry| entry.cmp_in_tree(&as_file)).is_ok()
        })
}
