//! Comparing two trees; equal subtrees are never read.
//!
//! A few small trees that hold each other many times have more paths than anybody can count (a tree bomb). So what is answered path by
//! path is bounded, and what is not (which objects, how many paths) looks at each tree once.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use treehold_object::{BString, ObjectId};

use super::{Item, WalkFrom, entries};
use crate::{Engine, EngineError, Result};

/// Pairs of trees read at once.
pub(super) const PAIRS: usize = 1000;
/// What one comparison may come to: changed paths and pairs of trees at their paths, and the bytes of all these paths.
const FOUND_MAX: usize = 1_000_000;
const FOUND_BYTES: usize = 128 << 20;

/// One side of a change; `None` = nothing there.
pub(crate) type Side = Option<Item>;

/// A path whose non-tree entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub path: BString,
    pub old: Side,
    pub new: Side,
}

/// A pair of trees to compare.
pub(super) type Pair = (Option<ObjectId>, Option<ObjectId>);

/// A comparison under way, from the first path on.
struct Comparing<'a> {
    within: &'a WalkFrom,
    /// Pairs by the path of what is in them, a slash at its end.
    waiting: BTreeMap<BString, Pair>,
    /// Changes behind a pair that waits.
    open: BTreeMap<BString, (Side, Side)>,
    /// Changes before all pairs that wait.
    done: Vec<Change>,
    found: usize,
    bytes: usize,
}

impl Engine {
    /// The differences between two trees, in byte order of the path. Without rename detection.
    pub(crate) async fn diff_trees(&self, old: Option<ObjectId>, new: Option<ObjectId>) -> Result<Vec<Change>> {
        self.diff_trees_within(old, new, &WalkFrom::default(), usize::MAX).await
    }

    /// As [`Self::diff_trees`], for who does without where trees differ too much.
    pub(crate) async fn diff_trees_if_small(
        &self,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<Option<Vec<Change>>> {
        match self.diff_trees(old, new).await {
            Ok(changes) => Ok(Some(changes)),
            Err(EngineError::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first `limit` differences among the paths that `within` takes. Directories that can hold none of these are not read, and those
    /// that come after them hardly.
    pub(crate) async fn diff_trees_within(
        &self,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
        within: &WalkFrom,
        limit: usize,
    ) -> Result<Vec<Change>> {
        let (open, done) = (BTreeMap::new(), Vec::new());
        let mut comparing = Comparing { within, waiting: BTreeMap::new(), open, done, found: 0, bytes: 0 };
        if old != new {
            comparing.waiting.insert(BString::default(), (old, new));
        }
        // Few pairs at first: a page is often full before many are looked at, and what comes after it counts against the bound.
        let mut at_once = if limit == usize::MAX { PAIRS } else { 1 };
        while !comparing.waiting.is_empty() && comparing.done.len() < limit {
            let first = std::iter::from_fn(|| comparing.waiting.pop_first());
            let mut pairs: Vec<(BString, Pair)> = first.take(at_once).collect();
            at_once = (at_once * 2).min(PAIRS);
            let few = self.few_pairs(&pairs.iter().map(|(_, pair)| *pair).collect::<Vec<_>>()).await?;
            comparing.waiting.extend(pairs.split_off(few));
            let oids: Vec<ObjectId> = pairs.iter().flat_map(|(_, (old, new))| [*old, *new]).flatten().collect();
            let trees = self.trees(&oids).await?;
            for (lead, (old, new)) in &pairs {
                let raw = |oid: &Option<ObjectId>| oid.map(|oid| &trees[&oid]);
                comparing.compare(lead, raw(old), raw(new))?;
            }
            comparing.finish();
        }
        comparing.done.truncate(limit);
        Ok(comparing.done)
    }

    /// How many of these pairs, from the first one on, are to be read at once, at least that one.
    pub(super) async fn few_pairs(&self, pairs: &[Pair]) -> Result<usize> {
        let oids: Vec<ObjectId> = pairs.iter().flat_map(|(old, new)| [*old, *new]).flatten().collect();
        let (mut left, mut count) = (self.few_trees(&oids).await?, 0);
        while let Some((old, new)) = pairs.get(count)
            && let Some(rest) = left.checked_sub(usize::from(old.is_some()) + usize::from(new.is_some()))
        {
            (left, count) = (rest, count + 1);
        }
        Ok(count.max(1))
    }

    /// The trees and blobs that `new` has and `old` lacks, gitlinks left out: what a receiver of `old` needs for `new`. `seen`: what was
    /// found before, for the same receiver; each is found once.
    pub(crate) async fn new_objects(
        &self,
        old: Option<ObjectId>,
        new: ObjectId,
        seen: &mut HashSet<ObjectId>,
    ) -> Result<Vec<ObjectId>> {
        let mut found = Vec::new();
        let mut waiting = Vec::new();
        if old != Some(new) && seen.insert(new) {
            waiting.push((old, new));
        }
        while !waiting.is_empty() {
            let mut pairs = waiting.split_off(waiting.len().saturating_sub(PAIRS));
            let few = self.few_pairs(&pairs.iter().map(|(old, new)| (*old, Some(*new))).collect::<Vec<_>>()).await?;
            waiting.extend(pairs.split_off(few));
            found.extend(pairs.iter().map(|(_, new)| *new));
            let oids: Vec<ObjectId> = pairs.iter().flat_map(|(old, new)| [*old, Some(*new)]).flatten().collect();
            let trees = self.trees(&oids).await?;
            for (old, new) in pairs {
                let before = match old {
                    Some(old) => by_name(&trees[&old])?,
                    None => BTreeMap::new(),
                };
                for entry in entries(&trees[&new]) {
                    let (name, item) = entry?;
                    let was = before.get(name);
                    let had = was.is_some_and(|was| was.oid == item.oid && was.mode != super::GITLINK);
                    if had || item.mode == super::GITLINK || !seen.insert(item.oid) {
                        continue;
                    }
                    if item.is_tree() {
                        // One look is enough, wherever else it is: what it was compared with, the receiver has.
                        waiting.push((was.filter(|was| was.is_tree()).map(|was| was.oid), item.oid));
                    } else {
                        found.push(item.oid);
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Comparing<'_> {
    fn compare(&mut self, lead: &BString, old: Option<&Bytes>, new: Option<&Bytes>) -> Result<()> {
        for (name, (old, new)) in differing(old, new)? {
            let mut path = lead.clone();
            path.extend_from_slice(&name);
            let below = (tree_of(old), tree_of(new));
            let (old, new) = (leaf_of(old), leaf_of(new));
            if (old.is_some() || new.is_some()) && self.within.takes(&path) {
                self.charge(&path)?;
                self.open.insert(path.clone(), (old, new));
            }
            path.push(b'/');
            if below != (None, None) && self.within.enters(&path) {
                self.charge(&path)?;
                self.waiting.insert(path, below);
            }
        }
        Ok(())
    }

    fn charge(&mut self, path: &BString) -> Result<()> {
        (self.found, self.bytes) = (self.found + 1, self.bytes + path.len());
        let (limit, unit) = match (self.found > FOUND_MAX, self.bytes > FOUND_BYTES) {
            (true, _) => (FOUND_MAX, "paths"),
            (_, true) => (FOUND_BYTES, "bytes of paths"),
            _ => return Ok(()),
        };
        Err(EngineError::TooLarge { what: "the comparison", limit: limit as u64, unit })
    }

    /// What comes before all that is still to be compared is final.
    fn finish(&mut self) {
        let first = self.waiting.first_key_value().map(|(lead, _)| lead);
        while let Some(change) = self.open.first_entry().filter(|change| first.is_none_or(|lead| change.key() < lead)) {
            let (path, (old, new)) = change.remove_entry();
            self.done.push(Change { path, old, new });
        }
    }
}

fn by_name(raw: &[u8]) -> Result<BTreeMap<BString, Item>> {
    entries(raw).map(|entry| entry.map(|(name, item)| (name.to_owned(), item))).collect()
}

/// The names whose entries differ.
pub(super) fn differing(old: Option<&Bytes>, new: Option<&Bytes>) -> Result<BTreeMap<BString, (Side, Side)>> {
    let mut names: BTreeMap<BString, (Side, Side)> = BTreeMap::new();
    for entry in old.into_iter().flat_map(|raw| entries(raw)) {
        let (name, item) = entry?;
        names.entry(name.to_owned()).or_default().0 = Some(item);
    }
    for entry in new.into_iter().flat_map(|raw| entries(raw)) {
        let (name, item) = entry?;
        names.entry(name.to_owned()).or_default().1 = Some(item);
    }
    names.retain(|_, (old, new)| old != new);
    Ok(names)
}

pub(super) fn tree_of(side: Side) -> Option<ObjectId> {
    side.filter(Item::is_tree).map(|item| item.oid)
}

pub(super) fn leaf_of(side: Side) -> Side {
    side.filter(|item| !item.is_tree())
}
