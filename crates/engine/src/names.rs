//! Which names an edit may add: judged against the tree that would result.

use std::collections::{BTreeMap, HashMap, HashSet};

use treehold_catalog::{PendingRow, WorkspaceKey};
use treehold_object::{BStr, BString, ObjectId, Policy, fsck, path};

use crate::files::bad_path;
use crate::tree::{Edits, Item, SYMLINK, WalkFrom, entries};
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// Directory paths above a path, from the root down, without the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').map(move |(at, _)| &path[..at])
}

fn path_conflict(path: &BStr, other: &BStr) -> EngineError {
    EngineError::unprocessable(
        "path_conflict",
        format!("{path:?} cannot be a file while {other:?} is one: one of them would have to be a directory."),
    )
}

/// Whether git reads the file at this path, on any file system, as `.gitmodules` or `.gitattributes`.
pub(crate) fn read_by_git(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    path::is_dotgitmodules(name) || path::is_dotgitattributes(name)
}

/// Refuses content that git's own checks refuse at this path: a `.gitmodules` that would make a client run or overwrite something.
pub(crate) fn check_git_file(path: &[u8], content: &[u8]) -> Result<()> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let verdict = match (path::is_dotgitmodules(name), path::is_dotgitattributes(name)) {
        (true, _) => fsck::check_gitmodules(content),
        (_, true) => fsck::check_gitattributes(content),
        _ => Ok(()),
    };
    verdict.map_err(|error| EngineError::unprocessable("unsafe_content", format!("The content is refused: {error}.")))
}

/// Refuses what no tree may have at this path, whatever it came from: git reads no link as `.gitmodules`.
fn check_git_mode(path: &[u8], mode: u32) -> Result<()> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    path::check_entry(name, mode, Policy::Import).map(drop).map_err(|error| bad_path(&error))
}

/// What was looked at for several additions at once.
struct Looked {
    /// Each of their paths, and each directory above one, in the tree.
    found: BTreeMap<BString, Option<Item>>,
    /// By directory.
    siblings: HashMap<BString, Siblings>,
    /// Names that were compared with those beside them.
    judged: HashSet<BString>,
}

/// Names of one directory, by what a file system may take for one.
struct Siblings(HashMap<Vec<u8>, Vec<BString>>);

impl Siblings {
    fn new(names: HashSet<BString>) -> Self {
        let mut by_key: HashMap<Vec<u8>, Vec<BString>> = HashMap::with_capacity(names.len());
        for name in names {
            by_key.entry(path::fold(&name)).or_default().push(name);
        }
        Self(by_key)
    }

    /// A name that `new` cannot be beside.
    fn clash(&self, new: &[u8]) -> Option<&BStr> {
        let alike = self.0.get(&path::fold(new))?.iter().map(|name| name.as_slice());
        path::sibling_conflict(new, alike).map(|clash| clash.sibling())
    }
}

/// The directories that all paths are below, from the root down, without the root.
fn shared_dirs(paths: &[BString]) -> Vec<BString> {
    let (Some(first), Some(last)) = (paths.iter().min(), paths.iter().max()) else { return Vec::new() };
    let shared = first.iter().zip(last.iter()).take_while(|(one, other)| one == other).count();
    above(&first[..shared]).map(BString::from).collect()
}

fn under(dir: &[u8]) -> BString {
    let mut lead = BString::from(dir);
    if !lead.is_empty() {
        lead.push(b'/');
    }
    lead
}

impl Engine {
    /// Refuses what the edits put where git reads it and git's own checks refuse, whatever made them: edits, a merge, a file that went
    /// along with a rename. `fresh`: new contents by id; others are stored.
    pub(crate) async fn check_git_files(&self, edits: &Edits, fresh: &[NewBytes]) -> Result<()> {
        let judged = edits.iter().filter(|(path, _)| read_by_git(path));
        for (path, item) in judged.filter_map(|(path, edit)| edit.map(|item| (path, item))) {
            check_git_mode(path, item.mode)?;
            let content = match fresh.iter().find(|object| object.oid == item.oid) {
                Some(object) => Some(object.content.clone()),
                None => self.contents(&[item.oid]).await?.pop().flatten(),
            };
            check_git_file(path, &content.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Of a workspace's rows those that names at `paths` are judged beside, and its revision: those below the deepest directory of `tree` that
    /// has all of the paths. What is pending elsewhere has no say.
    pub(crate) async fn pending_beside(
        &self,
        key: &WorkspaceKey,
        tree: Option<ObjectId>,
        paths: &[BString],
    ) -> Result<(i64, Vec<PendingRow>)> {
        let dirs = shared_dirs(paths);
        let found = self.find_paths(tree, &dirs).await?;
        let there = found.iter().take_while(|item| item.is_some_and(|item| item.is_tree())).count();
        let Some((dir, _)) = dirs[..there].split_last() else { return Ok(self.catalog.pending(key, None).await?) };
        let (revision, rows) = self.catalog.pending_below(key, dir, &dirs[..there]).await?;
        // A directory at whose place something is pending may not be one any more.
        match rows.iter().any(|row| row.path.len() <= dir.len()) {
            true => Ok(self.catalog.pending(key, None).await?),
            false => Ok((revision, rows)),
        }
    }

    /// Refuses additions that break the rules for new names: their form, a file where a
    /// directory is or the other way round, and names that differ from a sibling only in case or normalisation. `edits` is
    /// everything that changes against the tree `root`; `added` are those of its paths that are to be judged.
    pub(crate) async fn check_additions(&self, root: Option<ObjectId>, edits: &Edits, added: &[BString]) -> Result<()> {
        let mut spots: Vec<BString> = Vec::new();
        for path in added {
            spots.extend(above(path).map(BString::from));
            spots.push(path.clone());
        }
        spots.sort_unstable();
        spots.dedup();
        let found: BTreeMap<BString, Option<Item>> =
            spots.iter().cloned().zip(self.find_paths(root, &spots).await?).collect();
        for path in added {
            let mode = edits.get(path).copied().flatten().map_or(0o100644, |item| item.mode);
            // A name that the branch has is no new one, whatever was pending there. What becomes a link is judged.
            let known = found[path].is_some_and(|item| !item.is_tree() && (item.mode == SYMLINK || mode != SYMLINK));
            if !known {
                path::check_new_name(path, mode).map_err(|error| bad_path(&error))?;
            }
        }
        let mut looked = Looked { found, siblings: HashMap::new(), judged: HashSet::new() };
        for path in added {
            self.check_spot(root, edits, path, &mut looked).await?;
        }
        Ok(())
    }

    async fn check_spot(
        &self,
        root: Option<ObjectId>,
        edits: &Edits,
        path: &BString,
        looked: &mut Looked,
    ) -> Result<()> {
        let found = &looked.found;
        for dir in above(path) {
            let dir = BString::from(dir);
            let is_file = match edits.get(&dir) {
                Some(edit) => edit.is_some(),
                None => found[&dir].is_some_and(|item| !item.is_tree()),
            };
            if is_file {
                return Err(path_conflict(path.as_ref(), dir.as_ref()));
            }
        }
        let below = under(path);
        if let Some((other, _)) =
            edits.range(below.clone()..).take_while(|(p, _)| p.starts_with(&below)).find(|(_, edit)| edit.is_some())
        {
            return Err(path_conflict(path.as_ref(), other.as_ref()));
        }
        if found[path].is_some_and(|item| item.is_tree()) && self.survives(root, edits, path).await? {
            return Err(path_conflict(path.as_ref(), below.as_ref()));
        }
        self.check_siblings(root, edits, path, looked).await
    }

    /// Whether anything stays in the directory `dir` once the edits are made.
    async fn survives(&self, root: Option<ObjectId>, edits: &Edits, dir: &[u8]) -> Result<bool> {
        let prefix = under(dir);
        let gone = edits.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix)).count();
        let there = self.walk(root, &WalkFrom { prefix, after: None }, gone + 1).await?;
        Ok(there.iter().any(|(path, _)| !matches!(edits.get(path), Some(None))))
    }

    /// Compares each new component with the names beside it.
    async fn check_siblings(
        &self,
        root: Option<ObjectId>,
        edits: &Edits,
        path: &BString,
        looked: &mut Looked,
    ) -> Result<()> {
        let mut spots: Vec<BString> = above(path).map(BString::from).collect();
        spots.push(path.clone());
        for spot in spots {
            let there = looked.found[&spot].is_some_and(|item| item.is_tree() || spot == *path);
            if there && !matches!(edits.get(&spot), Some(None)) && spot != *path {
                continue;
            }
            // Many new files in a new directory have it in common.
            if !looked.judged.insert(spot.clone()) {
                continue;
            }
            let cut = spot.iter().rposition(|&b| b == b'/');
            let dir = cut.map_or(BString::default(), |at| BString::from(&spot[..at]));
            let name = &spot[cut.map_or(0, |at| at + 1)..];
            if !looked.siblings.contains_key(&dir) {
                let names = self.sibling_names(root, edits, &dir, &looked.found).await?;
                looked.siblings.insert(dir.clone(), Siblings::new(names));
            }
            if let Some(sibling) = looked.siblings[&dir].clash(name) {
                let other = crate::tree::join(&dir, sibling);
                if self.stays(root, edits, &other).await? {
                    return Err(EngineError::unprocessable(
                        "bad_path",
                        format!("The path is refused: {spot:?} differs from {other:?} only in case or normalisation."),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Names in a directory, before the edits' deletions, with the edits' additions.
    async fn sibling_names(
        &self,
        root: Option<ObjectId>,
        edits: &Edits,
        dir: &BString,
        found: &BTreeMap<BString, Option<Item>>,
    ) -> Result<HashSet<BString>> {
        let tree = match dir.is_empty() {
            true => root,
            false => found.get(dir).copied().flatten().filter(Item::is_tree).map(|item| item.oid),
        };
        let mut names = HashSet::new();
        let prefix = under(dir);
        if let Some(tree) = tree {
            let trees = self.trees(&[tree]).await?;
            for entry in entries(&trees[&tree]) {
                let (name, item) = entry?;
                let mut full = prefix.clone();
                full.extend_from_slice(name);
                let deleted = !item.is_tree() && matches!(edits.get(&full), Some(None));
                if !deleted {
                    names.insert(name.to_owned());
                }
            }
        }
        for (path, edit) in edits.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix)) {
            if edit.is_some() {
                let rest = &path[prefix.len()..];
                let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
                names.insert(rest[..end].into());
            }
        }
        Ok(names)
    }

    /// Whether `path`, a file or directory, is still there once the edits are made.
    async fn stays(&self, root: Option<ObjectId>, edits: &Edits, path: &BString) -> Result<bool> {
        if let Some(edit) = edits.get(path) {
            return Ok(edit.is_some());
        }
        let prefix = under(path);
        let added = edits.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix)).any(|(_, e)| e.is_some());
        if added {
            return Ok(true);
        }
        match self.find_paths(root, std::slice::from_ref(path)).await?[0] {
            Some(item) if item.is_tree() => self.survives(root, edits, path).await,
            item => Ok(item.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_reads_no_link_as_gitmodules() {
        for path in [".gitmodules", "a/.GITMODULES", "a/gitmod~1", "gi7eba~1", ".git\u{200c}modules", ".gitmodules ."] {
            assert!(read_by_git(path.as_bytes()), "{path}");
            let refused = check_git_mode(path.as_bytes(), SYMLINK).unwrap_err();
            assert_eq!(refused.code(), "bad_path", "{path}");
            for mode in [0o100644, 0o100755] {
                check_git_mode(path.as_bytes(), mode).unwrap();
            }
        }
        // Git warns of these, and an import carries them.
        check_git_mode(b".gitattributes", SYMLINK).unwrap();
        check_git_mode(b".gitmodules/link", SYMLINK).unwrap();
    }

    #[test]
    fn directories_are_shared_by_all_paths() {
        for (paths, expected) in [
            (&["a/b/c"][..], &["a", "a/b"][..]),
            (&["a"], &[]),
            (&["a/b/c", "a/b/d"], &["a", "a/b"]),
            (&["a/bc/x", "a/bd/x"], &["a"]),
            (&["a/b/c", "a/b"], &["a"]),
            (&["a/b", "a/b/c", "z"], &[]),
            (&[], &[]),
        ] {
            let paths: Vec<BString> = paths.iter().map(|path| BString::from(*path)).collect();
            assert_eq!(shared_dirs(&paths), expected, "{paths:?}");
        }
    }
}
