//! Where each object of the disk tier is: 16 bytes an object, in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::Extent;

/// Threads that look things up seldom wait for each other.
const SHARDS: usize = 16;
const EXTENT_BITS: u32 = 23;

/// An extent of a segment, and whether it was read since it was written. Packed: slot (16), offset (23), length (23), read (1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    /// `None`: the extent does not fit; a segment has less than 128 MiB.
    pub fn new(slot: u16, extent: Extent) -> Option<Self> {
        let fits = (extent.offset | extent.length) >> EXTENT_BITS == 0;
        let packed = (u64::from(slot) << (2 * EXTENT_BITS + 1))
            | (u64::from(extent.offset) << (EXTENT_BITS + 1))
            | (u64::from(extent.length) << 1);
        fits.then_some(Self(packed))
    }

    pub fn slot(self) -> u16 {
        (self.0 >> (2 * EXTENT_BITS + 1)) as u16
    }

    pub fn extent(self) -> Extent {
        let mask = (1u64 << EXTENT_BITS) - 1;
        Extent { offset: ((self.0 >> (EXTENT_BITS + 1)) & mask) as u32, length: ((self.0 >> 1) & mask) as u32 }
    }

    pub fn was_read(self) -> bool {
        self.0 & 1 == 1
    }

    fn same(self, other: Self) -> bool {
        self.0 >> 1 == other.0 >> 1
    }
}

type Shard = HashMap<u64, Place>;

/// From fingerprints to places. The hash of the map is keyed: ids are what others choose.
#[derive(Debug, Default)]
pub(super) struct Index {
    shards: [Mutex<Shard>; SHARDS],
}

impl Index {
    fn shard(&self, fingerprint: u64) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[(fingerprint >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where it is.
    pub fn get(&self, fingerprint: u64) -> Option<Place> {
        self.shard(fingerprint).get(&fingerprint).copied()
    }

    /// Remembers that what is there was read.
    pub fn mark_read(&self, fingerprint: u64, place: Place) {
        if let Some(there) = self.shard(fingerprint).get_mut(&fingerprint)
            && there.same(place)
        {
            there.0 |= 1;
        }
    }

    /// It is there now, wherever it was.
    pub fn insert(&self, fingerprint: u64, place: Place) {
        self.shard(fingerprint).insert(fingerprint, place);
    }

    /// It is there, unless it is known to be elsewhere.
    pub fn insert_older(&self, fingerprint: u64, place: Place) {
        if let Entry::Vacant(vacant) = self.shard(fingerprint).entry(fingerprint) {
            vacant.insert(place);
        }
    }

    /// It is not there (any more).
    pub fn remove(&self, fingerprint: u64, place: Place) {
        if let Entry::Occupied(there) = self.shard(fingerprint).entry(fingerprint)
            && there.get().same(place)
        {
            there.remove();
        }
    }

    /// Forgets a segment; what it held, in the order of its bytes.
    pub fn drain(&self, slot: u16) -> Vec<(u64, Place)> {
        let mut drained = Vec::new();
        for mut shard in self.all() {
            drained.extend(shard.extract_if(|_, place| place.slot() == slot));
        }
        drained.sort_unstable_by_key(|(_, place)| place.extent().offset);
        drained
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.all().map(|shard| shard.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_what_they_are_made_of() {
        let largest = (1 << EXTENT_BITS) - 1;
        for (slot, offset, length) in [(0, 0, 0), (65_535, largest, largest), (1, 2, 3), (40_000, largest, 0)] {
            let place = Place::new(slot, Extent { offset, length }).unwrap();
            assert_eq!((place.slot(), place.extent(), place.was_read()), (slot, Extent { offset, length }, false));
        }
        assert_eq!(Place::new(0, Extent { offset: largest + 1, length: 1 }), None);
        assert_eq!(Place::new(0, Extent { offset: 1, length: largest + 1 }), None);
    }

    #[test]
    fn a_place_is_forgotten_or_marked_only_where_it_still_is() {
        let index = Index::default();
        let place = |slot, offset| Place::new(slot, Extent { offset, length: 1 }).unwrap();
        index.insert(7, place(1, 5));
        index.insert_older(7, place(0, 9));
        index.mark_read(7, place(0, 9));
        index.remove(7, place(0, 9));
        assert_eq!(index.get(7), Some(place(1, 5)));
        index.mark_read(7, place(1, 5));
        assert!(index.get(7).unwrap().was_read());
        index.insert(8, place(1, 2));
        index.insert(9, place(2, 0));
        let drained: Vec<_> = index.drain(1).into_iter().map(|(id, place)| (id, place.was_read())).collect();
        assert_eq!((drained, index.len()), (vec![(8, false), (7, true)], 1));
        index.remove(9, place(2, 0));
        assert_eq!(index.len(), 0);
    }
}
