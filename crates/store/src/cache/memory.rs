//! The memory tier.

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use treehold_object::{Kind, ObjectId};

use crate::object_store::Object;

/// Locks of their own; an object may take a quarter of what one of them has.
const SHARDS: u64 = 16;
/// Larger objects are not kept in memory, bytes.
const OBJECT_MAX: u64 = 4 << 20;
/// What an object takes beside its content, bytes.
const OVERHEAD: u64 = 160;
/// What an object takes on average, for the size of tables, bytes.
const AVERAGE: u64 = 4 << 10;

/// Objects in memory, bounded by bytes. What is read once passes through; what is read again stays (CLOCK-Pro with a queue for
/// newcomers, by `quick_cache`).
#[derive(Debug)]
pub(super) struct MemoryTier {
    cache: Cache<ObjectId, (Kind, Bytes), Weight, RandomState, Evictions>,
    object_max: u64,
    evictions: Evictions,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<ObjectId, (Kind, Bytes)> for Weight {
    fn weight(&self, _: &ObjectId, (_, content): &(Kind, Bytes)) -> u64 {
        content.len() as u64 + OVERHEAD
    }
}

#[derive(Debug, Clone, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<ObjectId, (Kind, Bytes)> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: ObjectId, _: (Kind, Bytes)) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl MemoryTier {
    pub fn new(bytes: u64) -> Self {
        let evictions = Evictions::default();
        let items = usize::try_from(bytes / AVERAGE).unwrap_or(usize::MAX);
        // Every shard must hold the largest object.
        let shards = 1u64 << (bytes >> 20).clamp(1, SHARDS).ilog2();
        let options = OptionsBuilder::new()
            .shards(shards as usize)
            .estimated_items_capacity(items.max(64))
            .weight_capacity(bytes / shards * shards)
            .build();
        // The builder fails only if a capacity was not set.
        let cache = match options {
            Ok(options) => Cache::with_options(options, Weight, RandomState::new(), evictions.clone()),
            Err(_) => Cache::with(items, bytes, Weight, RandomState::new(), evictions.clone()),
        };
        Self { cache, object_max: (bytes / 64).min(OBJECT_MAX), evictions }
    }

    /// What it may take, bytes.
    pub fn capacity(&self) -> u64 {
        self.cache.capacity()
    }

    /// Whether an object of this size is kept.
    pub fn takes(&self, size: u64) -> bool {
        size <= self.object_max
    }

    /// An object; reading it counts.
    pub fn get(&self, oid: &ObjectId) -> Option<Object> {
        self.cache.get(oid).map(|(kind, content)| Object { oid: *oid, kind, content })
    }

    /// An object, without a trace of having been read.
    pub fn peek(&self, oid: &ObjectId) -> Option<Object> {
        self.cache.peek(oid).map(|(kind, content)| Object { oid: *oid, kind, content })
    }

    /// Whether it is there.
    pub fn contains(&self, oid: &ObjectId) -> bool {
        self.cache.contains_key(oid)
    }

    /// Keeps a verified object, if it is small enough.
    pub fn insert(&self, object: &Object) {
        if self.takes(object.content.len() as u64) {
            self.cache.insert(object.oid, (object.kind, object.content.clone()));
        }
    }

    /// Objects, bytes they take, and how many were put out since the start.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.cache.len() as u64, self.cache.weight(), self.evictions.0.load(Relaxed))
    }
}
