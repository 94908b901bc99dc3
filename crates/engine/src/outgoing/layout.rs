//! Which objects stand where in stored packs. What was found out is remembered: a stored pack never changes, and a number always
//! stands for the same object, so that a layout may only become too generous. What `repack` moved away since is found where it was
//! as long as that is there, and else one by one.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use treehold_catalog::{KeyId, RoaringTreemap};
use treehold_object::ObjectId;
use treehold_store::RawPack;
use uuid::Uuid;

use super::{CHUNK, DENSE};
use crate::{Engine, Result};

/// Layouts that are kept, bytes: those of eight million objects.
const LAYOUTS_BYTES: u64 = 64 << 20;
/// Places in one pack that are looked at at once.
const PAGE: u32 = 50_000;
/// Objects that have their place elsewhere are looked for if they are at most 1 / 8 of the pack.
const ELSEWHERE_SHARE: usize = 8;
/// Numbers that lie this near to each other are counted together.
const NEAR: u64 = 64;
/// Ranges of numbers that are counted.
const RANGES: usize = 64;

/// Ledger numbers of a pack's entries, in its order; 0 for those that are nobody's.
pub(super) type Layout = Arc<[u64]>;
/// Packs in which many objects of a project lie, most first.
pub(super) type Dense = Arc<[(KeyId, String)]>;

/// What is remembered.
#[derive(Debug)]
pub(crate) struct Layouts {
    packs: Cache<KeyId, Layout, Weight>,
    projects: Cache<Uuid, Dense>,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<KeyId, Layout> for Weight {
    fn weight(&self, _: &KeyId, layout: &Layout) -> u64 {
        size_of_val(&**layout) as u64 + 64
    }
}

impl Default for Layouts {
    fn default() -> Self {
        Self { packs: Cache::with_weighter(1000, LAYOUTS_BYTES, Weight), projects: Cache::new(10_000) }
    }
}

impl Engine {
    /// The packs in which many of `numbers` lie: as they were last time, if that was all of them.
    pub(super) async fn dense_packs(&self, project: Uuid, numbers: &RoaringTreemap) -> Result<Dense> {
        if let Some(known) = self.layouts.projects.get(&project) {
            return Ok(known);
        }
        let mut found: Vec<(u64, KeyId, String)> = Vec::new();
        for (first, last) in ranges(numbers) {
            for (id, key, count) in self.catalog.keys_between(first, last).await? {
                match found.iter_mut().find(|(_, known, _)| *known == id) {
                    Some((sum, ..)) => *sum += count,
                    None => found.push((count, id, key)),
                }
            }
        }
        // The largest first: what others rest on goes out from there.
        found.sort_unstable_by(|a, b| b.cmp(a));
        let dense = found.into_iter().filter(|(count, _, key)| *count >= DENSE as u64 && key.ends_with(".pack"));
        let dense: Dense = dense.map(|(_, id, key)| (id, key)).collect();
        self.layouts.projects.insert(project, Arc::clone(&dense));
        Ok(dense)
    }

    /// A project's objects lie elsewhere by now.
    pub(super) fn forget_dense_packs(&self, project: Uuid) {
        self.layouts.projects.remove(&project);
    }

    /// Ledger numbers of a pack's entries. An object that has its place elsewhere counts too where that saves those that rest on it
    /// from going out whole.
    pub(super) async fn layout(&self, id: KeyId, pack: &RawPack) -> Result<Layout> {
        if let Some(known) = self.layouts.packs.get(&id).filter(|known| known.len() == pack.entries().len()) {
            return Ok(known);
        }
        let entries = pack.entries();
        let (mut numbers, mut from) = (vec![0; entries.len()], 0);
        loop {
            let places = self.catalog.places_in(id, from, PAGE).await?;
            let Some((last, _)) = places.last() else { break };
            from = last + 1;
            for (offset, number) in places {
                if let Ok(at) = entries.binary_search_by_key(&offset, |entry| entry.offset) {
                    numbers[at] = number;
                }
            }
        }
        let elsewhere: Vec<usize> = (0..entries.len()).filter(|at| numbers[*at] == 0).collect();
        if elsewhere.len() <= entries.len() / ELSEWHERE_SHARE {
            for chunk in elsewhere.chunks(CHUNK) {
                let oids: Vec<ObjectId> = chunk.iter().map(|at| entries[*at].oid).collect();
                for (at, found) in chunk.iter().zip(self.catalog.locate(&oids).await?) {
                    numbers[*at] = found.map_or(0, |found| found.number);
                }
            }
        }
        let layout: Layout = numbers.into();
        self.layouts.packs.insert(id, Arc::clone(&layout));
        Ok(layout)
    }
}

/// The longest ranges in which `numbers` lie close together.
fn ranges(numbers: &RoaringTreemap) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number - *last <= NEAR => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges.retain(|(first, last)| last - first >= DENSE as u64);
    ranges.sort_unstable_by_key(|(first, last)| std::cmp::Reverse(last - first));
    ranges.truncate(RANGES);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ranges_are_found() {
        let numbers: RoaringTreemap = (10..500).step_by(50).chain(1000..1010).chain(2000..4000).collect();
        assert_eq!(ranges(&numbers), [(2000, 3999), (10, 460)]);
        assert_eq!(ranges(&RoaringTreemap::new()), []);
    }
}
