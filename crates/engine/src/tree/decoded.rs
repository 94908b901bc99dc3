//! Trees as they are read again and again: decoded once, searched by name, with the sizes of their files beside them.

use std::sync::OnceLock;

use bytes::Bytes;
use treehold_object::{BStr, ObjectId};

use super::{GITLINK, Item, TREE, entries};
use crate::{EngineError, Result};

/// Room that a tree takes beside its entries, bytes: allocations and reference counts.
const OVERHEAD: u64 = 128;

/// Where an entry's name stands in the raw tree; its id follows after a NUL.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u32,
    len: u32,
    mode: u32,
}

/// A decoded tree. Immutable but for the sizes, which are filled in when somebody needs them and then stay.
#[derive(Debug)]
pub(crate) struct Tree {
    raw: Bytes,
    places: Box<[Place]>,
    /// Names are in git's order, each once, as fsck demands it; else they are searched one by one.
    sorted: bool,
    /// Of each entry, bytes; 0 for trees and gitlinks.
    sizes: OnceLock<Box<[u64]>>,
}

impl Tree {
    /// Decodes a raw tree.
    pub fn decode(raw: Bytes) -> Result<Self> {
        let start = raw.as_ptr() as usize;
        let mut places = Vec::new();
        let mut sorted = true;
        let mut last: Option<(&BStr, Item)> = None;
        for entry in entries(&raw) {
            let (name, item) = entry?;
            sorted &= last.is_none_or(|(last, before)| key(last, before.mode).lt(key(name, item.mode)));
            last = Some((name, item));
            let long = |_| EngineError::internal("a stored tree is too long");
            let at = u32::try_from(name.as_ptr() as usize - start).map_err(long)?;
            places.push(Place { at, len: u32::try_from(name.len()).map_err(long)?, mode: item.mode });
        }
        Ok(Self { places: places.into(), sorted, sizes: OnceLock::new(), raw })
    }

    /// The raw tree.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    fn name(&self, place: &Place) -> &[u8] {
        self.raw.get(place.at as usize..place.at as usize + place.len as usize).unwrap_or_default()
    }

    fn item(&self, place: &Place) -> Item {
        let at = place.at as usize + place.len as usize + 1;
        let oid = self.raw.get(at..at + 20).and_then(|oid| ObjectId::try_from(oid).ok());
        Item { mode: place.mode, oid: oid.unwrap_or(ObjectId::null(gix_hash::Kind::Sha1)) }
    }

    /// The entry at `index`, in git's order.
    pub fn get(&self, index: usize) -> Option<(&BStr, Item)> {
        self.places.get(index).map(|place| (self.name(place).into(), self.item(place)))
    }

    /// All entries, in git's order.
    pub fn entries(&self) -> impl Iterator<Item = (&BStr, Item)> {
        self.places.iter().map(|place| (self.name(place).into(), self.item(place)))
    }

    /// What is under a name.
    pub fn find(&self, name: &[u8]) -> Option<Item> {
        let place = if self.sorted {
            // Files and trees are ordered differently: the name is looked for in both places.
            let among = |mode: u32| {
                let found =
                    self.places.binary_search_by(|place| key(self.name(place), place.mode).cmp(key(name, mode)));
                // A name with a slash at its end, which none is, would be found as a tree's.
                found.ok().and_then(|at| self.places.get(at)).filter(|place| self.name(place) == name)
            };
            among(0).or_else(|| among(TREE))
        } else {
            self.places.iter().find(|place| self.name(place) == name)
        };
        place.map(|place| self.item(place))
    }

    /// Sizes of the entries, if somebody filled them in.
    pub fn sizes(&self) -> Option<&[u64]> {
        self.sizes.get().map(|sizes| &**sizes)
    }

    /// Ids of the entries that have a size.
    pub fn blobs(&self) -> impl Iterator<Item = ObjectId> {
        self.entries().map(|(_, item)| item).filter(has_size).map(|item| item.oid)
    }

    /// Fills in the sizes, those of [`Self::blobs`] in their order.
    pub fn set_sizes(&self, mut of_blobs: impl Iterator<Item = u64>) {
        self.sizes.get_or_init(|| {
            let size = |(_, item): (_, Item)| if has_size(&item) { of_blobs.next().unwrap_or(0) } else { 0 };
            self.entries().map(size).collect()
        });
    }

    /// Memory that it takes, sizes included, bytes.
    pub fn weight(&self) -> u64 {
        let entry = size_of::<Place>() + size_of::<u64>();
        (self.raw.len() + self.places.len() * entry) as u64 + OVERHEAD
    }
}

fn has_size(item: &Item) -> bool {
    !item.is_tree() && item.mode != GITLINK
}

/// Git's order of names: that of a tree counts as if it ended in a slash.
fn key(name: &[u8], mode: u32) -> impl Iterator<Item = &u8> {
    name.iter().chain((mode == TREE).then_some(&b'/'))
}

#[cfg(test)]
#[path = "decoded_tests.rs"]
mod tests;
