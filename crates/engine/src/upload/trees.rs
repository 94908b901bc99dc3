//! Which trees and blobs go with commits: those that stand nowhere in the trees of what the client has or gets before. Trees are
//! read many at a time, and equal ones never.

use std::collections::{HashMap, HashSet};

use treehold_object::{Kind, ObjectId};
use treehold_wire::serve::Filter;

use crate::tree::{GITLINK, Item, TREE, Tree};
use crate::{Engine, Result};

/// Trees that are compared at once.
const BATCH: usize = 256;

/// What a filter lets through, whichever way it is put.
#[derive(Debug, Clone, Default)]
pub(super) struct Sift {
    kinds: Option<Vec<Kind>>,
    blob_below: Option<u64>,
    depth_below: Option<u64>,
}

impl Sift {
    pub fn of(filter: Option<&Filter>) -> Self {
        let mut sift = Self::default();
        if let Some(filter) = filter {
            sift.add(filter);
        }
        sift
    }

    fn add(&mut self, filter: &Filter) {
        let least = |now: Option<u64>, new: u64| Some(now.map_or(new, |now| now.min(new)));
        match filter {
            Filter::BlobNone => self.blob_below = Some(0),
            Filter::BlobLimit(bytes) => self.blob_below = least(self.blob_below, *bytes),
            Filter::TreeDepth(depth) => self.depth_below = least(self.depth_below, *depth),
            Filter::ObjectType(kind) => {
                let before = self.kinds.take();
                self.kinds =
                    Some(before.map_or(vec![*kind], |kinds| kinds.into_iter().filter(|known| known == kind).collect()));
            }
            Filter::Combine(parts) => parts.iter().for_each(|part| self.add(part)),
        }
    }

    /// Whether all objects pass.
    pub fn is_open(&self) -> bool {
        self.kinds.is_none() && self.blob_below.is_none() && self.depth_below.is_none()
    }

    /// Whether kind and size of an object tell whether it passes: not where its depth in a tree counts.
    pub fn is_flat(&self) -> bool {
        self.depth_below.is_none_or(|depth| depth == 0)
    }

    /// Whether an object passes, but for its depth.
    pub fn passes(&self, kind: Kind, size: u64) -> bool {
        let shallow = self.depth_below != Some(0) || matches!(kind, Kind::Commit | Kind::Tag);
        let small = kind != Kind::Blob || self.blob_below.is_none_or(|limit| size < limit);
        shallow && small && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether entries at this depth pass; the root is at depth 0.
    fn enters(&self, depth: u64) -> bool {
        self.depth_below.is_none_or(|limit| depth < limit)
    }

    fn takes_blobs(&self) -> bool {
        self.blob_below != Some(0)
    }
}

/// A tree that is sent, and trees at the same place that the client has or gets before.
#[derive(Debug)]
pub(super) struct Place {
    pub tree: ObjectId,
    pub bases: Vec<ObjectId>,
    pub depth: u64,
}

impl Place {
    fn trees(&self) -> impl Iterator<Item = ObjectId> {
        std::iter::once(self.tree).chain(self.bases.iter().copied())
    }
}

/// What was found to be sent.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Each once, but for those that a filter leaves out by kind or size.
    pub oids: Vec<ObjectId>,
    /// What stood at an object's place before, if that was of the same kind.
    pub previous: HashMap<ObjectId, ObjectId>,
    /// At which depth each was met.
    seen: HashMap<ObjectId, u64>,
}

impl Found {
    pub fn has(&self, oid: &ObjectId) -> bool {
        self.seen.contains_key(oid)
    }

    /// Takes an object in; `false` if it need not be looked at.
    pub fn add(&mut self, oid: ObjectId, depth: u64, sift: &Sift) -> bool {
        match self.seen.get_mut(&oid) {
            None => {
                self.seen.insert(oid, depth);
                self.oids.push(oid);
                true
            }
            // Met again nearer to a root, more below it passes.
            Some(before) if depth < *before && !sift.is_flat() => {
                *before = depth;
                true
            }
            Some(_) => false,
        }
    }

    fn entry(&mut self, item: Item, bases: &[Item], depth: u64, sift: &Sift, open: &mut Vec<Place>) {
        if item.mode == GITLINK || bases.iter().any(|base| base.oid == item.oid) || !sift.enters(depth) {
            return;
        }
        if (!item.is_tree() && !sift.takes_blobs()) || !self.add(item.oid, depth, sift) {
            return;
        }
        let alike = bases.iter().find(|base| base.is_tree() == item.is_tree() && base.mode != GITLINK);
        if let Some(base) = alike {
            self.previous.entry(item.oid).or_insert(base.oid);
        }
        if item.is_tree() {
            let bases = bases.iter().filter(|base| base.is_tree()).map(|base| base.oid).collect();
            open.push(Place { tree: item.oid, bases, depth });
        }
    }
}

impl Engine {
    /// Adds to `found` what lies at and below `open`.
    pub(super) async fn find_new(&self, open: Vec<Place>, sift: &Sift, found: &mut Found) -> Result<()> {
        let mut stack = Vec::with_capacity(open.len());
        for place in open {
            let item = Item { mode: TREE, oid: place.tree };
            let bases: Vec<Item> = place.bases.iter().map(|oid| Item { mode: TREE, oid: *oid }).collect();
            found.entry(item, &bases, place.depth, sift, &mut stack);
        }
        while !stack.is_empty() {
            let mut batch = stack.split_off(stack.len().saturating_sub(BATCH));
            let all: Vec<ObjectId> = batch.iter().flat_map(Place::trees).collect();
            // Those that fit with all their bases, and the first one in any case.
            let (mut left, mut count) = (self.few_trees(&all).await?, 0);
            while let Some(place) = batch.get(count)
                && let Some(rest) = left.checked_sub(1 + place.bases.len())
            {
                (left, count) = (rest, count + 1);
            }
            stack.extend(batch.split_off(count.max(1)));
            let oids: HashSet<ObjectId> = batch.iter().flat_map(Place::trees).collect();
            let trees = self.decoded_trees(&oids.into_iter().collect::<Vec<_>>()).await?;
            for place in batch {
                let Some(tree) = trees.get(&place.tree) else { continue };
                let bases: Vec<&Tree> =
                    place.bases.iter().filter_map(|oid| trees.get(oid)).map(|tree| &**tree).collect();
                for (name, item) in tree.entries() {
                    let before: Vec<Item> = bases.iter().filter_map(|base| base.find(name)).collect();
                    found.entry(item, &before, place.depth + 1, sift, &mut stack);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_come_down_to_kind_size_and_depth() {
        let sift = |spec: &str| Sift::of(Some(&Filter::parse(spec.as_bytes()).unwrap()));
        assert!(Sift::default().is_open() && Sift::default().is_flat());
        let none = sift("blob:none");
        assert!(none.is_flat() && !none.is_open() && !none.passes(Kind::Blob, 0) && none.passes(Kind::Tree, 9));
        let limit = sift("combine:blob:limit=10+blob:limit=1k");
        assert!(limit.passes(Kind::Blob, 9) && !limit.passes(Kind::Blob, 10));
        let tree = sift("tree:0");
        assert!(
            tree.is_flat() && !tree.passes(Kind::Tree, 1) && tree.passes(Kind::Commit, 1) && tree.passes(Kind::Tag, 1)
        );
        let deep = sift("combine:tree:2+tree:5");
        assert!(!deep.is_flat() && deep.enters(1) && !deep.enters(2));
        let kinds = sift("combine:object:type=tree+object:type=blob");
        assert!(!kinds.passes(Kind::Tree, 1) && !kinds.passes(Kind::Blob, 1));
    }
}
