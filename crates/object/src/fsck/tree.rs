//! Trees: names, modes, order.

use super::{Checked, Fault, GitFile};
use crate::path::{self, is_dotgitattributes, is_dotgitmodules};
use crate::policy::{Flags, Policy};
use crate::tree::{self, TreeEntry, TreeError, mode};
use bstr::BStr;
use std::collections::HashMap;

pub(super) fn check(content: &[u8], policy: Policy) -> Result<Checked, Fault> {
    let mut checked = Checked::default();
    let mut seen: Vec<TreeEntry<'_>> = Vec::new();
    let mut entries = tree::entries(content);
    loop {
        let is_zero_padded = entries.is_zero_padded();
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(|error| match error {
            TreeError::Short | TreeError::Mode | TreeError::Name | TreeError::Duplicate => Fault::BadTree,
        })?;
        checked.flags |= check_entry(&entry, policy)?;
        if is_zero_padded {
            checked.flags |= Flags::ODD_MODE;
        }
        checked.git_files.extend(git_file(&entry).map(|file| (file, entry.oid)));
        if let Some(last) = seen.last().filter(|last| last.cmp_in_tree(&entry).is_gt()) {
            return Err(if last.name == entry.name { Fault::DuplicateEntries } else { Fault::TreeNotSorted });
        }
        seen.push(entry);
    }
    if tree::has_duplicates(&seen) {
        return Err(Fault::DuplicateEntries);
    }
    checked.flags |= look_alikes(seen.iter().map(|entry| entry.name));
    Ok(checked)
}

fn check_entry(entry: &TreeEntry<'_>, policy: Policy) -> Result<Flags, Fault> {
    let is_null = entry.oid.is_null();
    if is_null && policy != Policy::Import {
        return Err(Fault::NullOid);
    }
    let is_empty_tree = mode::is_tree(entry.mode) && entry.oid.is_empty_tree();
    if is_empty_tree && policy == Policy::Write {
        return Err(Fault::EmptySubtree);
    }
    if policy != Policy::Import && mode::is_gitlink(entry.mode) && is_dotgitattributes(entry.name) {
        return Err(Fault::GitFileNotBlob);
    }
    let flags = path::check_entry(entry.name, entry.mode, policy).map_err(Fault::Entry)?;
    Ok(if is_null || is_empty_tree { flags | Flags::EMPTY_ENTRY } else { flags })
}

fn git_file(entry: &TreeEntry<'_>) -> Option<GitFile> {
    if mode::is_symlink(entry.mode) || mode::is_gitlink(entry.mode) {
        return None;
    }
    if is_dotgitmodules(entry.name) {
        return Some(GitFile::Modules);
    }
    is_dotgitattributes(entry.name).then_some(GitFile::Attributes)
}

/// Flags for names that some file system takes for one. Costs nothing where all names are lower-case ASCII.
fn look_alikes<'a>(names: impl Iterator<Item = &'a BStr> + Clone) -> Flags {
    if !names.clone().any(|name| name.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())) {
        return Flags::NONE;
    }
    let mut by_fold: HashMap<Vec<u8>, &BStr> = HashMap::new();
    let mut flags = Flags::NONE;
    for name in names {
        if let Some(other) = by_fold.insert(path::fold(name), name) {
            let is_same_text = path::normal(other) == path::normal(name);
            flags |= if is_same_text { Flags::NORMALIZATION_DUPLICATE } else { Flags::CASE_FOLD_DUPLICATE };
        }
    }
    flags
}
