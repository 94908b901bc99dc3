//! Comparing two trees, a level at a time; equal subtrees are never read.

use std::collections::BTreeMap;

use bytes::Bytes;
use treehold_object::{BString, ObjectId};

use super::{Item, WalkFrom, entries, join};
use crate::{Engine, Result};

/// Pairs of trees read at once.
const PAIRS: usize = 1000;

/// One side of a change; `None` = nothing there.
pub(crate) type Side = Option<Item>;

/// A path whose non-tree entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub path: BString,
    pub old: Side,
    pub new: Side,
}

/// A pair of trees to compare, at a path.
struct Pair {
    path: BString,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
}

impl Engine {
    /// The differences between two trees, in byte order of the path. Without rename detection.
    pub(crate) async fn diff_trees(&self, old: Option<ObjectId>, new: Option<ObjectId>) -> Result<Vec<Change>> {
        self.diff_trees_within(old, new, &WalkFrom::default()).await
    }

    /// The differences among the paths that `within` takes; directories that can hold none are not read.
    pub(crate) async fn diff_trees_within(
        &self,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
        within: &WalkFrom,
    ) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut level = Vec::new();
        if old != new {
            level.push(Pair { path: BString::default(), old, new });
        }
        while !level.is_empty() {
            let mut next = Vec::new();
            for pairs in level.chunks(PAIRS) {
                let oids: Vec<ObjectId> = pairs.iter().flat_map(|pair| [pair.old, pair.new]).flatten().collect();
                let trees = self.trees(&oids).await?;
                for pair in pairs {
                    let raw = |oid: Option<ObjectId>| oid.map(|oid| &trees[&oid]);
                    compare(&pair.path, raw(pair.old), raw(pair.new), within, &mut changes, &mut next)?;
                }
            }
            level = next;
        }
        changes.sort_unstable_by(|a: &Change, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// The trees and blobs that `new` has and `old` lacks, gitlinks left out: what a receiver of `old` needs for `new`.
    pub(crate) async fn new_objects(
        &self,
        old: Option<ObjectId>,
        new: ObjectId,
        sink: &mut Vec<ObjectId>,
    ) -> Result<()> {
        let mut level = vec![(old, new)];
        if old == Some(new) {
            return Ok(());
        }
        while !level.is_empty() {
            sink.extend(level.iter().map(|(_, new)| *new));
            let oids: Vec<ObjectId> = level.iter().flat_map(|(old, new)| [*old, Some(*new)]).flatten().collect();
            let trees = self.trees(&oids).await?;
            let mut next = Vec::new();
            for (old, new) in level {
                let before = match old {
                    Some(old) => by_name(&trees[&old])?,
                    None => BTreeMap::new(),
                };
                for entry in entries(&trees[&new]) {
                    let (name, item) = entry?;
                    let was = before.get(name);
                    if was == Some(&item) || item.mode == super::GITLINK {
                        continue;
                    }
                    if item.is_tree() {
                        next.push((was.filter(|was| was.is_tree()).map(|was| was.oid), item.oid));
                    } else if was.is_none_or(|was| was.oid != item.oid) {
                        sink.push(item.oid);
                    }
                }
            }
            level = next;
        }
        Ok(())
    }
}

fn by_name(raw: &[u8]) -> Result<BTreeMap<BString, Item>> {
    entries(raw).map(|entry| entry.map(|(name, item)| (name.to_owned(), item))).collect()
}

fn compare(
    path: &BString,
    old: Option<&Bytes>,
    new: Option<&Bytes>,
    within: &WalkFrom,
    changes: &mut Vec<Change>,
    next: &mut Vec<Pair>,
) -> Result<()> {
    let mut names: BTreeMap<BString, (Side, Side)> = BTreeMap::new();
    for entry in old.into_iter().flat_map(|raw| entries(raw)) {
        let (name, item) = entry?;
        names.entry(name.to_owned()).or_default().0 = Some(item);
    }
    for entry in new.into_iter().flat_map(|raw| entries(raw)) {
        let (name, item) = entry?;
        names.entry(name.to_owned()).or_default().1 = Some(item);
    }
    for (name, (old, new)) in names {
        if old == new {
            continue;
        }
        let path = join(path, &name);
        let tree = |side: Side| side.filter(Item::is_tree).map(|item| item.oid);
        let leaf = |side: Side| side.filter(|item| !item.is_tree());
        if within.takes(&path) && (leaf(old).is_some() || leaf(new).is_some()) {
            changes.push(Change { path: path.clone(), old: leaf(old), new: leaf(new) });
        }
        let mut lead = path.clone();
        lead.push(b'/');
        if (tree(old).is_some() || tree(new).is_some()) && within.enters(&lead) {
            next.push(Pair { path, old: tree(old), new: tree(new) });
        }
    }
    Ok(())
}
