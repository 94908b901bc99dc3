//! Decoded trees in memory, bounded by bytes: S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO queues are all you need for cache
//! eviction", SOSP 2023).
//!
//! New trees wait in a short queue. Only those that are used again get into the main one, so that a list of everything, which uses
//! each tree once, leaves the trees of other projects where they are. What left the short queue unused is remembered by its id for a
//! while: if it comes back, it goes to the main queue at once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use treehold_object::ObjectId;

use super::Tree;

/// Bytes of a shard. A tree that does not fit into one is not kept.
const SHARD_BYTES: u64 = 16 << 20;
/// Shards at most, a power of two.
const SHARDS_MAX: u64 = 64;
/// Uses that are counted; more make no difference.
const USES_MAX: u8 = 3;
/// Room that a tree takes beside itself, bytes: its place in the table and in a queue.
const PLACE: u64 = 128;

/// Decoded trees by id, shared by all requests.
#[derive(Debug)]
pub(crate) struct TreeCache {
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Debug)]
struct Slot {
    tree: Arc<Tree>,
    weight: u64,
    /// Since it entered its queue.
    uses: AtomicU8,
}

#[derive(Debug, Default)]
struct Queue {
    /// Oldest first.
    oids: VecDeque<ObjectId>,
    weight: u64,
}

#[derive(Debug, Default)]
struct Shard {
    limit: u64,
    slots: HashMap<ObjectId, Slot>,
    short: Queue,
    main: Queue,
    /// Ids of trees that left the short queue unused, oldest first.
    left: VecDeque<ObjectId>,
    left_set: HashSet<ObjectId>,
}

impl TreeCache {
    /// For trees of `bytes` in all; 0 keeps none.
    pub fn new(bytes: u64) -> Self {
        let most = (bytes / SHARD_BYTES).clamp(1, SHARDS_MAX);
        // The largest power of two, so that an id's byte tells its shard.
        let count = 1 << most.ilog2();
        let shard = || RwLock::new(Shard { limit: bytes / count, ..Shard::default() });
        Self { shards: (0..count).map(|_| shard()).collect() }
    }

    fn shard(&self, oid: &ObjectId) -> &RwLock<Shard> {
        let byte = oid.as_slice().last().copied().unwrap_or(0);
        &self.shards[usize::from(byte) & (self.shards.len() - 1)]
    }

    pub fn get(&self, oid: &ObjectId) -> Option<Arc<Tree>> {
        let shard = self.shard(oid).read().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.slots.get(oid)?;
        // Two at once may count as one: it is a hint.
        let uses = slot.uses.load(Ordering::Relaxed);
        if uses < USES_MAX {
            slot.uses.store(uses + 1, Ordering::Relaxed);
        }
        Some(Arc::clone(&slot.tree))
    }

    pub fn insert(&self, oid: ObjectId, tree: Arc<Tree>) {
        self.shard(&oid).write().unwrap_or_else(PoisonError::into_inner).insert(oid, tree);
    }

    /// Memory that the trees in it take, bytes.
    #[cfg(test)]
    pub fn weight(&self) -> u64 {
        let of = |shard: &RwLock<Shard>| {
            let shard = shard.read().unwrap();
            let sum: u64 = shard.slots.values().map(|slot| slot.weight).sum();
            assert_eq!(sum, shard.short.weight + shard.main.weight);
            assert_eq!(shard.slots.len(), shard.short.oids.len() + shard.main.oids.len());
            assert!(shard.left.len() == shard.left_set.len() && shard.left.len() <= shard.slots.len().max(1));
            sum
        };
        self.shards.iter().map(of).sum()
    }
}

impl Shard {
    fn insert(&mut self, oid: ObjectId, tree: Arc<Tree>) {
        let weight = tree.weight() + PLACE;
        if weight > self.limit {
            return;
        }
        let Entry::Vacant(place) = self.slots.entry(oid) else { return };
        place.insert(Slot { tree, weight, uses: AtomicU8::new(0) });
        let queue = if self.left_set.remove(&oid) {
            self.left.retain(|left| *left != oid);
            &mut self.main
        } else {
            &mut self.short
        };
        queue.oids.push_back(oid);
        queue.weight += weight;
        while self.short.weight + self.main.weight > self.limit {
            // A tenth is enough to see whether a tree is used again.
            if self.short.weight > self.limit / 10 || self.main.oids.is_empty() {
                self.leave_short()
            } else {
                self.leave_main()
            }
        }
    }

    /// The oldest of the short queue goes: to the main one if it was used, else away.
    fn leave_short(&mut self) {
        let Some(oid) = self.short.oids.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&oid) else { return };
        self.short.weight -= slot.weight;
        if std::mem::take(slot.uses.get_mut()) > 0 {
            self.main.oids.push_back(oid);
            self.main.weight += slot.weight;
            return;
        }
        self.slots.remove(&oid);
        if self.left_set.insert(oid) {
            self.left.push_back(oid);
        }
        while self.left.len() > self.slots.len().max(1) {
            let oldest = self.left.pop_front();
            oldest.map(|oldest| self.left_set.remove(&oldest));
        }
    }

    /// The oldest of the main queue goes away, or, if it was used, behind all others, one use the poorer.
    fn leave_main(&mut self) {
        let Some(oid) = self.main.oids.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&oid) else { return };
        let uses = slot.uses.get_mut();
        if *uses > 0 {
            *uses -= 1;
            self.main.oids.push_back(oid);
            return;
        }
        self.main.weight -= slot.weight;
        self.slots.remove(&oid);
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
