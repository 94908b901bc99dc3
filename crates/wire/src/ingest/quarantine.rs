//! A verified pack: its objects by id, and what it refers to outside of itself.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use treehold_object::idx::IndexEntry;
use treehold_object::pack::{EntryHeader, EntryKind, Span};
use treehold_object::zlib::Inflater;
use treehold_object::{Kind, ObjectId};

use super::cache::Cache;
use super::index::Index;
use super::nested::{Nested, Nestings};
use super::scan::{Scanned, damaged};
use super::table::{NONE, Slot, Table};
use super::walk::{Children, Source, Walk, read_entry, read_raw};
use super::{IngestError, IngestOptions, threads};
use treehold_object::delta;

/// Fewer entries are sorted sooner than a thread begins.
const ALONE_MAX: usize = 4096;

/// What all reads of single objects may inflate and copy, as a multiple of what the pack may inflate to. Whoever takes a pack in reads
/// its objects up to five times, each with the part of its chain that is not in the cache: of chains of 50 deltas, as git makes them, in
/// which nothing fits the cache, one reading alone comes to 26.
const READS: u64 = 32;
/// What any pack may inflate to as far as that is concerned, for each of its bytes. The largest histories come to 60, on chains of 50, and
/// the limit on what inflates in all must not become one on how often it is read.
const READ_RATIO: u64 = 1_000;

/// An object of a [`Quarantine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedObject {
    /// Its name, computed from its content.
    pub oid: ObjectId,
    /// Its kind.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// Where its entry starts in the pack.
    pub offset: u64,
    /// How long its entry is in the pack, bytes.
    pub packed_len: u64,
    /// Of type, size and content; zeros unless [`IngestOptions::sha256`] asked for it.
    pub sha256: [u8; 32],
    /// Where the entry starts that it is a delta against; `None`: it stands in the pack whole, see [`Quarantine::compressed`].
    pub base: Option<u64>,
}

/// A pack of which every object was resolved, named and checked.
///
/// Objects that the pack has twice count once. Reading is for threads that may block, any number at a time.
pub struct Quarantine {
    file: File,
    /// In the order of the pack.
    slots: Vec<Slot>,
    /// Distinct objects, sorted by id.
    by_oid: Index,
    nestings: Nestings,
    external: Vec<(ObjectId, Kind)>,
    data_end: u64,
    checksum: ObjectId,
    /// Slots from here on were appended to a thin pack.
    received: u32,
    cache_bytes: usize,
    readers: Mutex<Vec<Inflater>>,
    cache: Mutex<Cache>,
    /// Bytes inflated and copied by [`Quarantine::read`], and how many may be.
    work: AtomicU64,
    work_max: u64,
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine").field("checksum", &self.checksum).field("objects", &self.by_oid.len()).finish()
    }
}

impl Quarantine {
    pub(super) fn close(
        file: File,
        table: Table<'_>,
        scanned: Scanned,
        options: &IngestOptions<'_>,
    ) -> Result<Self, IngestError> {
        let mut state = table.into_state();
        let external = state.external(options.limits.external)?;
        // Their room is what sorting takes.
        drop(std::mem::take(&mut state.ref_deltas));
        let (mut nestings, mut slots) = (state.nestings, state.slots);
        let by_oid = if options.threads > 1 && slots.len() >= ALONE_MAX {
            threads::both(|| nestings.close(), || Index::of(&mut slots))
        } else {
            nestings.close();
            Index::of(&mut slots)
        };
        let Scanned { data_end, checksum, received, .. } = scanned;
        let cache_bytes = options.cache_bytes();
        let inflated = options.limits.inflated_bytes_in(data_end).max(data_end.saturating_mul(READ_RATIO));
        let work_max = inflated.saturating_mul(READS);
        Ok(Self {
            file,
            slots,
            by_oid,
            nestings,
            external,
            data_end,
            checksum,
            received,
            cache_bytes,
            readers: Mutex::default(),
            cache: Mutex::new(Cache::new(cache_bytes)),
            work: AtomicU64::new(0),
            work_max,
        })
    }

    /// Number of distinct objects.
    pub fn len(&self) -> usize {
        self.by_oid.len()
    }

    /// Whether the pack has no object.
    pub fn is_empty(&self) -> bool {
        self.by_oid.is_empty()
    }

    /// Bytes of the whole pack, trailer included.
    pub fn pack_len(&self) -> u64 {
        self.data_end + treehold_object::pack::TRAILER_LEN as u64
    }

    /// The pack's trailer.
    pub fn checksum(&self) -> ObjectId {
        self.checksum
    }

    /// The spool file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the pack has the object.
    pub fn contains(&self, oid: &ObjectId) -> bool {
        self.position(oid).is_some()
    }

    /// What the pack knows of an object without reading it.
    pub fn get(&self, oid: &ObjectId) -> Option<PackedObject> {
        self.position(oid).map(|at| self.object(at))
    }

    /// What an object rests on in the pack: the entries from its base on, nearest first, the last one whole. Empty for an
    /// object that stands in the pack whole; `None` if the pack does not have it.
    pub fn bases(&self, oid: &ObjectId) -> Option<Vec<Span>> {
        let mut at = self.position(oid)?;
        let mut bases = Vec::new();
        while self.slots[at as usize].base != NONE {
            at = self.slots[at as usize].base;
            let (offset, end) = self.span(at);
            bases.push(Span { offset, length: end - offset });
        }
        Some(bases)
    }

    /// Objects that are dear to read as they stand: on more than `depth_max` deltas, or on bases whose contents add up to more
    /// than `allowance` says for an object of such a size, bytes.
    pub fn costly(&self, depth_max: u16, allowance: impl Fn(u64) -> u64) -> Vec<ObjectId> {
        let mut bases_first: Vec<u32> = (0..self.slots.len() as u32).collect();
        bases_first.sort_unstable_by_key(|at| self.slots[*at as usize].depth);
        let mut costs = vec![0u64; self.slots.len()];
        for at in bases_first {
            let base = self.slots[at as usize].base;
            if base != NONE {
                costs[at as usize] = costs[base as usize] + u64::from(self.slots[base as usize].size);
            }
        }
        let costly = self.by_oid.iter().filter(|at| {
            let slot = &self.slots[**at as usize];
            slot.depth > depth_max || costs[**at as usize] > allowance(u64::from(slot.size))
        });
        costly.map(|at| self.slots[*at as usize].oid).collect()
    }

    /// All objects in the order of the pack.
    pub fn iter(&self) -> impl Iterator<Item = PackedObject> + '_ {
        let mut positions: Vec<u32> = Vec::new();
        if self.has_duplicates() {
            positions.extend(self.by_oid.iter());
            positions.sort_unstable();
        }
        let all = if positions.is_empty() { 0..self.slots.len() as u32 } else { 0..0 };
        positions.into_iter().chain(all).map(|at| self.object(at))
    }

    /// The ids of all objects of one kind, sorted.
    pub fn oids(&self, kind: Kind) -> impl Iterator<Item = ObjectId> + '_ {
        self.by_oid
            .iter()
            .map(|at| &self.slots[*at as usize])
            .filter(move |slot| slot.kind == Some(kind))
            .map(|s| s.oid)
    }

    /// The ids of all commits, sorted.
    pub fn commits(&self) -> Vec<ObjectId> {
        self.oids(Kind::Commit).collect()
    }

    /// What objects of the pack refer to and the pack does not have, sorted, with the kind that each must have.
    ///
    /// The pack may be used only if the sender can reach all of these already.
    pub fn external(&self) -> &[(ObjectId, Kind)] {
        &self.external
    }

    /// What was appended to a thin pack, as deltas rest on it: the sender did not send these.
    pub fn borrowed(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.slots[self.received as usize..].iter().map(|slot| slot.oid)
    }

    /// What came and no other object of the pack refers to.
    pub(super) fn unreferred(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let came = self.by_oid.iter().filter(|at| **at < self.received);
        came.map(|at| &self.slots[*at as usize]).filter(|slot| !slot.referred).map(|slot| slot.oid)
    }

    /// How many entries there are, repeated objects counted again.
    pub(super) fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Whether an object stands in the pack twice. Git takes no index of such a pack; it can only be unpacked.
    pub fn has_duplicates(&self) -> bool {
        self.by_oid.len() != self.slots.len()
    }

    /// What an index of the pack as it is must hold, see [`treehold_object::idx::write`].
    pub fn index_entries(&self) -> Vec<IndexEntry> {
        let entry = |slot: &Slot| IndexEntry { oid: slot.oid, offset: slot.offset, crc32: slot.crc32 };
        self.by_oid.iter().map(|at| entry(&self.slots[*at as usize])).collect()
    }

    /// Kind and content of an object; `None` if the pack does not have it.
    ///
    /// Bases that are not in the cache are made again each time, so that whoever built the pack has a say in what reading costs. All reads
    /// together have a budget ([`IngestError::Limit`]); [`Quarantine::visit`] needs none.
    pub fn read(&self, oid: &ObjectId) -> Result<Option<(Kind, Bytes)>, IngestError> {
        let Some(at) = self.position(oid) else { return Ok(None) };
        let slot = &self.slots[at as usize];
        let kind = slot.kind.ok_or_else(|| damaged(slot.offset, "it has no kind"))?;
        let mut inflater = lock(&self.readers).pop().unwrap_or_default();
        let content = self.content(at, &mut inflater);
        lock(&self.readers).push(inflater);
        Ok(Some((kind, content?)))
    }

    /// Kind, size in bytes and zlib stream of an object, if it stands in the pack whole; `None` if not.
    pub fn compressed(&self, oid: &ObjectId) -> Result<Option<(Kind, u64, Bytes)>, IngestError> {
        Ok(self.entry(oid)?.and_then(|(header, zlib)| match header.kind {
            EntryKind::Whole(kind) => Some((kind, header.size, zlib)),
            EntryKind::OfsDelta { .. } | EntryKind::RefDelta { .. } => None,
        }))
    }

    /// The entry of an object as it stands in the pack, header and zlib stream; `None` if the pack does not have it.
    pub fn entry(&self, oid: &ObjectId) -> Result<Option<(EntryHeader, Bytes)>, IngestError> {
        let Some(at) = self.position(oid) else { return Ok(None) };
        let (offset, end) = self.span(at);
        let (header, bytes, stream) = read_raw(&self.file, offset, end)?;
        Ok(Some((header, Bytes::from(bytes).slice(stream..))))
    }

    /// Calls `each` once for every object, in the order that makes the least work: the way to read all of them.
    pub fn visit<E>(&self, mut each: impl FnMut(&PackedObject, &Bytes) -> Result<(), E>) -> Result<(), VisitError<E>> {
        let children = Children::of_resolved(&self.slots);
        let mut stopped = None;
        let mut visit = |at: u32, content: &Bytes| {
            let object = self.object(at);
            if self.position(&object.oid) != Some(at) {
                return Ok(());
            }
            each(&object, content).map_err(|error| {
                stopped = Some(error);
                IngestError::Cancelled
            })
        };
        let result = self.walk_all(&children, &mut visit);
        match (stopped, result) {
            (Some(error), _) => Err(VisitError::Stopped(error)),
            (None, result) => result.map_err(VisitError::Read),
        }
    }

    fn walk_all(&self, children: &Children, visit: &mut Visit<'_>) -> Result<(), IngestError> {
        let source = Visiting { quarantine: self, visit };
        let mut walk = Walk::new(&self.file, children, source, self.cache_bytes);
        for (root, slot) in (0..).zip(&self.slots) {
            if slot.base == NONE {
                let (offset, end) = self.span(root);
                let content = Bytes::from(read_entry(&self.file, &mut walk.inflater, offset, end)?);
                (walk.source.visit)(root, &content)?;
                walk.descend(root, self.object(root).kind, Some(content), Vec::new())?;
            }
        }
        Ok(())
    }

    pub(super) fn oid_at(&self, at: u32) -> ObjectId {
        self.slots[at as usize].oid
    }

    /// The longest name in a tree of what is no tree, bytes, and the trees in it; `None` where it must be read.
    pub(super) fn nested_in(&self, at: u32) -> Option<(u16, &[Nested])> {
        // What was appended was not named, but read by its name.
        let nested = self.nestings.within(at).filter(|_| at < self.received)?;
        Some((self.slots[at as usize].longest, nested))
    }

    pub(super) fn is_tree(&self, at: u32) -> bool {
        self.slots[at as usize].kind == Some(Kind::Tree)
    }

    pub(super) fn position(&self, oid: &ObjectId) -> Option<u32> {
        self.by_oid.find(&self.slots, oid)
    }

    fn span(&self, at: u32) -> (u64, u64) {
        let end = self.slots.get(at as usize + 1).map_or(self.data_end, |next| next.offset);
        (self.slots[at as usize].offset, end)
    }

    pub(super) fn object(&self, at: u32) -> PackedObject {
        let slot = &self.slots[at as usize];
        let (offset, end) = self.span(at);
        PackedObject {
            oid: slot.oid,
            // Every slot of a closed table has its kind.
            kind: slot.kind.unwrap_or(Kind::Blob),
            size: u64::from(slot.size),
            offset,
            packed_len: end - offset,
            sha256: slot.sha256,
            base: self.slots.get(slot.base as usize).map(|base| base.offset),
        }
    }

    fn charge(&self, bytes: u64) -> Result<(), IngestError> {
        let work = self.work.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if work > self.work_max {
            let what = "bytes to make again of what its deltas rest on";
            return Err(IngestError::Limit { what, limit: self.work_max });
        }
        Ok(())
    }

    /// From the nearest base in the cache, or from the whole object at the end of the chain.
    fn content(&self, at: u32, inflater: &mut Inflater) -> Result<Bytes, IngestError> {
        let mut path = Vec::new();
        let (mut at, mut content) = (at, None);
        loop {
            if let Some(cached) = lock(&self.cache).get(at) {
                content = Some(cached);
                break;
            }
            path.push(at);
            match self.slots[at as usize].base {
                NONE => break,
                base => at = base,
            }
        }
        while let Some(at) = path.pop() {
            let (offset, end) = self.span(at);
            let slot = &self.slots[at as usize];
            self.charge(end - offset + u64::from(slot.size))?;
            let own = read_entry(&self.file, inflater, offset, end)?;
            let made = match content {
                None => own,
                Some(base) => {
                    delta::apply(&base, &own, u64::from(slot.size)).map_err(|error| damaged(offset, error))?
                }
            };
            let made = Bytes::from(made);
            lock(&self.cache).put(at, &made);
            content = Some(made);
        }
        Ok(content.unwrap_or_default())
    }
}

/// Why [`Quarantine::visit`] ended early.
#[derive(Debug, thiserror::Error)]
pub enum VisitError<E> {
    /// The pack could not be read.
    #[error(transparent)]
    Read(IngestError),
    /// The caller ended it.
    #[error("the visit was stopped")]
    Stopped(E),
}

type Visit<'a> = dyn FnMut(u32, &Bytes) -> Result<(), IngestError> + 'a;

struct Visiting<'a, 'v> {
    quarantine: &'a Quarantine,
    visit: &'a mut Visit<'v>,
}

impl Source for Visiting<'_, '_> {
    fn span(&self, at: u32) -> (Slot, u64) {
        (self.quarantine.slots[at as usize], self.quarantine.span(at).1)
    }

    fn charge(&self, _bytes: u64) -> Result<(), IngestError> {
        // The same walk with the same memory was within its budget when the pack was taken in.
        Ok(())
    }

    fn made(&mut self, at: u32, _base: u32, _kind: Kind, content: &Bytes) -> Result<Vec<u32>, IngestError> {
        (self.visit)(at, content).map(|()| Vec::new())
    }
}

/// What these locks guard is whole after each statement, also if a thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
