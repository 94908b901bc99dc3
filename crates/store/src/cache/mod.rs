//! A cache of verified objects in two tiers: memory, and local disk below it.
//!
//! Objects never change, so that an entry is right or absent, never stale. Both tiers forget as they like: whatever goes wrong here
//! costs speed and nothing else. What is in memory was hashed when it came in; what is on disk is hashed again on every read, since
//! others may have had their hands on it (SHA-1 with collision detection takes about 6 µs for 8 KB, less than the read).
//!
//! *The cache knows no rights.* It is shared by all projects: ask it only for ids that the caller may read already, since an answer,
//! and the time it takes, would tell what others have stored.

mod disk;
mod flight;
mod index;
mod medium;
mod memory;
mod record;
mod writer;

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use treehold_object::ObjectId;

pub use disk::DiskOptions;
use disk::DiskTier;
use flight::Flights;
use memory::MemoryTier;

use crate::object_store::Object;

/// Which caches a store has. The default: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// For objects in memory with what it takes to find them, bytes. 0: none are kept.
    pub memory_bytes: u64,
    /// On local disk.
    pub disk: Option<DiskOptions>,
}

/// What a cache did since the start, and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Objects answered from memory.
    pub memory_hits: u64,
    /// Objects answered from disk.
    pub disk_hits: u64,
    /// Objects that the bucket was asked for.
    pub misses: u64,
    /// Objects that came with somebody else's request to the bucket.
    pub shared: u64,
    /// Objects in memory.
    pub memory_objects: u64,
    /// What they take, bytes.
    pub memory_bytes: u64,
    /// Objects put out of memory.
    pub memory_evicted: u64,
    /// The tier on disk, if there is one.
    pub disk: Option<DiskStats>,
}

/// What the tier on disk did since the start, and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Objects on disk.
    pub objects: u64,
    /// Length of the files, bytes.
    pub bytes: u64,
    /// Objects written.
    pub written: u64,
    /// Objects that were not written, because too many waited or the directory could not be used.
    pub dropped: u64,
    /// Objects put out.
    pub evicted: u64,
    /// Objects that were not what had been written. They were never served.
    pub damaged: u64,
    /// Failed attempts to use the directory.
    pub failures: u64,
    /// Why nothing is written at the moment.
    pub trouble: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ObjectCache {
    memory: Arc<MemoryTier>,
    disk: Option<DiskTier>,
    flights: Arc<Flights>,
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
    shared: AtomicU64,
}

impl ObjectCache {
    /// `None` if nothing is to be cached.
    pub fn new(options: &CacheOptions) -> Option<Self> {
        Self::over(options, Arc::new(medium::FileSystem))
    }

    fn over(options: &CacheOptions, medium: Arc<dyn medium::Medium>) -> Option<Self> {
        let disk = options.disk.as_ref().filter(|disk| disk.bytes > 0);
        if options.memory_bytes == 0 && disk.is_none() {
            return None;
        }
        let memory = Arc::new(MemoryTier::new(options.memory_bytes));
        let disk = disk.and_then(|disk| {
            let started = DiskTier::start(disk.clone(), memory.clone(), medium);
            started.inspect_err(|error| tracing::warn!(%error, "the object cache does without its directory")).ok()
        });
        let zero = AtomicU64::default;
        let (memory_hits, disk_hits, misses, shared) = (zero(), zero(), zero(), zero());
        Some(Self { memory, disk, flights: Arc::default(), memory_hits, disk_hits, misses, shared })
    }

    /// The objects of these that are there, in the order given, each verified. `in_use`: what is found is kept longer, as fits a
    /// reader, but not one who walks through everything once. After `bytes_max` bytes no more are looked for; the last of them may
    /// go beyond it.
    pub async fn lookup(&self, oids: &[ObjectId], in_use: bool, bytes_max: u64) -> Vec<Option<Object>> {
        let mut left = bytes_max;
        let mut found: Vec<Option<Object>> = vec![None; oids.len()];
        let mut absent = Vec::new();
        for (at, (oid, place)) in oids.iter().zip(&mut found).enumerate() {
            if left == 0 {
                break;
            }
            *place = if in_use { self.memory.get(oid) } else { self.memory.peek(oid) };
            match place {
                Some(object) => left = left.saturating_sub(object.content.len() as u64),
                None => absent.push((at, *oid)),
            }
        }
        self.memory_hits.fetch_add(found.iter().flatten().count() as u64, Relaxed);
        let Some(disk) = self.disk.as_ref().filter(|_| !absent.is_empty()) else { return found };
        for (at, object) in disk.read(absent, in_use, left).await {
            self.disk_hits.fetch_add(1, Relaxed);
            if in_use {
                self.memory.insert(&object);
            }
            if let Some(place) = found.get_mut(at) {
                *place = Some(object);
            }
        }
        found
    }

    /// Keeps a verified object in both tiers.
    pub fn fill(&self, object: &Object) {
        self.memory.insert(object);
        if let Some(disk) = &self.disk {
            disk.offer(object);
        }
    }

    /// Keeps new objects in memory, if their ids are right and they do not put out much else.
    pub fn keep(&self, objects: &[Object]) {
        let bytes: u64 = objects.iter().map(|object| object.content.len() as u64).sum();
        if bytes > self.memory.capacity() / 8 {
            return;
        }
        for object in objects {
            let takes = self.memory.takes(object.content.len() as u64);
            if takes && treehold_object::hash(object.kind, &object.content) == Ok(object.oid) {
                // A part of a request would keep all of it in memory.
                let content = bytes::Bytes::copy_from_slice(&object.content);
                self.memory.insert(&Object { content, ..*object });
            }
        }
    }

    /// Counts.
    pub fn stats(&self) -> CacheStats {
        let (memory_objects, memory_bytes, memory_evicted) = self.memory.counts();
        CacheStats {
            memory_hits: self.memory_hits.load(Relaxed),
            disk_hits: self.disk_hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            shared: self.shared.load(Relaxed),
            memory_objects,
            memory_bytes,
            memory_evicted,
            disk: self.disk.as_ref().map(|disk| disk_stats(disk.shared())),
        }
    }

    /// Waits until what was offered to the disk has been dealt with. Blocks.
    pub fn flush(&self) {
        if let Some(disk) = &self.disk {
            disk.flush();
        }
    }
}

fn disk_stats(disk: &disk::Shared) -> DiskStats {
    let counters = &disk.counters;
    DiskStats {
        objects: disk.index.len() as u64,
        bytes: disk.by_age().1,
        written: counters.written.load(Relaxed),
        dropped: counters.dropped.load(Relaxed),
        evicted: counters.evicted.load(Relaxed),
        damaged: counters.damaged.load(Relaxed),
        failures: counters.failures.load(Relaxed),
        trouble: disk.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

#[cfg(test)]
mod tests;
