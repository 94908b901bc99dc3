//! The table of a pack's objects while they are being named, and the edges between them. Shared by threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use treehold_object::{Kind, ObjectId};

use super::nested::Nestings;
use super::{IngestError, IngestOptions, edges};

/// No base.
pub(super) const NONE: u32 = u32::MAX;

/// One entry of the pack: 80 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Where the entry starts.
    pub offset: u64,
    /// Null until named.
    pub oid: ObjectId,
    /// Of type, size and content, if asked for ([`IngestOptions::sha256`]).
    pub sha256: [u8; 32],
    /// Over the entry as it stands in the pack.
    pub crc32: u32,
    /// Size of the object, not of the delta. Limited to 32 bits by the scan.
    pub size: u32,
    /// The entry that this one is a delta against: a position in the table.
    pub base: u32,
    /// Deltas between this object and a whole one.
    pub depth: u16,
    /// `None` until named.
    pub kind: Option<Kind>,
    /// Whether another object of the pack refers to it. Known once the table is closed.
    pub referred: bool,
    /// Of a tree: the longest name in it of what is no tree, bytes.
    pub longest: u16,
}

/// A delta against an object that may be anywhere in the pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefDelta {
    pub base: ObjectId,
    pub at: u32,
}

/// What all threads share.
#[derive(Debug, Default)]
pub(super) struct State {
    pub slots: Vec<Slot>,
    /// Sorted by base once the scan is done.
    pub ref_deltas: Vec<RefDelta>,
    /// Objects that were referred to and were not in the pack when last compacted, and the kind they must have.
    edges: HashMap<ObjectId, Kind>,
    edges_max: usize,
    /// Slots and edges that there is room for.
    roomy: (usize, usize),
    pub nestings: Nestings,
    /// Objects named so far.
    pub named: u64,
}

/// The shared table with the rules that apply to every object.
pub(super) struct Table<'a> {
    options: IngestOptions<'a>,
    state: Mutex<State>,
    /// Bytes inflated and applied so far. Beside the lock, as each delta adds to it.
    work: AtomicU64,
}

/// The edges that one thread saw lately: the versions of a tree repeat most of their entries.
pub(super) struct Seen(Vec<Option<(ObjectId, Kind)>>);

/// Room is asked for in steps that double, from and up to so many slots, or edges: a small pack takes little.
const STEPS: (usize, usize) = (1 << 8, 1 << 16);
/// What a slot takes, bytes: itself, its place among the sorted ones and in the tree of deltas, what it waits for.
const SLOT_BYTES: u64 = 112;
/// What an edge takes in a table that is half full, bytes.
const EDGE_BYTES: u64 = 48;

const SEEN: usize = 1 << 15;
/// Edges collected before those that the pack has are dropped for the first time.
const COMPACT_MIN: usize = 1 << 19;

impl Default for Seen {
    fn default() -> Self {
        Self(vec![None; SEEN])
    }
}

impl Seen {
    /// Whether the edge is new, as far as is remembered.
    fn is_new(&mut self, oid: ObjectId, kind: Kind) -> bool {
        let id = oid.as_slice();
        let slot = &mut self.0[usize::from(u16::from_le_bytes([id[0], id[1]])) % SEEN];
        let new = *slot != Some((oid, kind));
        *slot = Some((oid, kind));
        new
    }
}

impl<'a> Table<'a> {
    pub fn new(options: &IngestOptions<'a>) -> Self {
        let state = Mutex::new(State { edges_max: COMPACT_MIN, ..State::default() });
        Self { options: *options, state, work: AtomicU64::new(0) }
    }

    /// A thread that panicked while it held the lock ends the whole ingest; until then the state is as good as it was.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn into_state(self) -> State {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names, checks and enters the object at position `at`, and collects its edges.
    pub fn name(&self, at: u32, kind: Kind, content: &[u8], seen: &mut Seen) -> Result<(), IngestError> {
        let oid = match treehold_object::hash(kind, content) {
            Ok(oid) => oid,
            Err(_) => return Err(IngestError::Collision { offset: self.lock().slots[at as usize].offset }),
        };
        let sha256 = if self.options.sha256 { treehold_object::hash::sha256(kind, content) } else { [0; 32] };
        let refused = |reason: String| IngestError::BadObject { oid, kind, reason };
        if let Some(check) = self.options.check {
            check(kind, &oid, content).map_err(refused)?;
        }
        let parents = !self.options.shallow.is_some_and(|shallow| shallow.contains(&oid));
        let (mut new_edges, mut trees, mut longest) = (Vec::new(), Vec::new(), 0);
        edges::each(kind, content, parents, &mut |edge, name| {
            let name = u16::try_from(name).unwrap_or(u16::MAX);
            match edge {
                Some((oid, Kind::Tree)) if kind == Kind::Tree => trees.push((oid, name)),
                _ => longest = name.max(longest),
            }
            new_edges.extend(edge.filter(|(oid, kind)| seen.is_new(*oid, *kind)));
        })
        .map_err(|reason| refused(reason.to_owned()))?;

        let mut state = self.lock();
        state.make_room(0, new_edges.len(), &self.options)?;
        for (target, target_kind) in new_edges {
            state.edge(target, target_kind, &self.options).map_err(|error| match error {
                EdgeError::Kind(first) => refused(format!("{target} cannot be a {first} and a {target_kind}")),
                EdgeError::TooMany(limit) => limit,
            })?;
        }
        state.nestings.note(at, &trees, |bytes| self.options.room.is_none_or(|room| room(bytes)));
        let slot = &mut state.slots[at as usize];
        (slot.oid, slot.sha256, slot.kind, slot.longest) = (oid, sha256, Some(kind), longest);
        state.named += 1;
        let (named, total) = (state.named, state.slots.len() as u64);
        drop(state);
        if let Some(progress) = self.options.progress
            && (named.is_multiple_of(1024) || named == total)
        {
            progress(named, total);
        }
        Ok(())
    }

    /// The kind of the whole object at `at`, and the deltas that wait for it; `None` for a delta.
    pub fn root(&self, at: u32) -> Option<(Kind, Vec<u32>)> {
        let mut state = self.lock();
        let slot = state.slots[at as usize];
        let kind = slot.kind.filter(|_| slot.base == NONE)?;
        Some((kind, state.claim(&slot.oid, at)))
    }

    /// Charges `bytes` of inflating or copying to the budget for making dropped bases again, of a pack of `len` bytes.
    pub fn charge(&self, bytes: u64, len: u64) -> Result<(), IngestError> {
        let limit = self.options.limits.inflated_bytes_in(len);
        // What came before was within the limit, so that this cannot overflow.
        let work = self.work.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if work / 3 > limit {
            return Err(IngestError::Limit { what: "inflated bytes, with deltas that need too much work", limit });
        }
        Ok(())
    }
}

enum EdgeError {
    Kind(Kind),
    TooMany(IngestError),
}

impl State {
    /// Enters an entry that is not named yet, or is.
    pub fn push(&mut self, slot: Slot, options: &IngestOptions<'_>) -> Result<(), IngestError> {
        self.make_room(1, 0, options)?;
        self.slots.push(slot);
        Ok(())
    }

    /// Asks for room for so many more, if they would not fit.
    fn make_room(&mut self, slots: usize, edges: usize, options: &IngestOptions<'_>) -> Result<(), IngestError> {
        let Some(room) = options.room else { return Ok(()) };
        let (slots, edges) = (self.slots.len() + slots, self.edges.len() + edges);
        for (roomy, needed, bytes) in [(&mut self.roomy.0, slots, SLOT_BYTES), (&mut self.roomy.1, edges, EDGE_BYTES)] {
            while *roomy < needed {
                let step = (*roomy).clamp(STEPS.0, STEPS.1);
                if !room(step as u64 * bytes) {
                    return Err(IngestError::NoRoom);
                }
                *roomy += step;
            }
        }
        Ok(())
    }

    fn edge(&mut self, oid: ObjectId, kind: Kind, options: &IngestOptions<'_>) -> Result<(), EdgeError> {
        match self.edges.insert(oid, kind) {
            Some(first) if first != kind => return Err(EdgeError::Kind(first)),
            _ => {}
        }
        if self.edges.len() > self.edges_max {
            self.compact().map_err(EdgeError::TooMany)?;
            // What the pack may still bring, and what it may leave open.
            let open = (self.slots.len() as u64 - self.named).saturating_add(options.limits.external);
            if self.edges.len() as u64 > open {
                let limit = options.limits.external;
                return Err(EdgeError::TooMany(IngestError::Limit { what: "references to objects outside", limit }));
            }
            // Compacting looks at every slot, so it must be rare by their number.
            self.edges_max = COMPACT_MIN.max(2 * self.edges.len()).max(self.slots.len() / 4);
        }
        Ok(())
    }

    /// Drops the edges to objects that were named meanwhile.
    fn compact(&mut self) -> Result<(), IngestError> {
        let edges = &mut self.edges;
        for slot in &mut self.slots {
            let Some(kind) = slot.kind else { continue };
            match edges.remove(&slot.oid) {
                Some(wanted) if wanted != kind => {
                    let reason = format!("the pack refers to it as a {wanted}");
                    return Err(IngestError::BadObject { oid: slot.oid, kind, reason });
                }
                Some(_) => slot.referred = true,
                None => {}
            }
        }
        Ok(())
    }

    /// The edges that end outside of the pack, sorted.
    pub fn external(&mut self, limit: u64) -> Result<Vec<(ObjectId, Kind)>, IngestError> {
        self.compact()?;
        if self.edges.len() as u64 > limit {
            return Err(IngestError::Limit { what: "references to objects outside", limit });
        }
        let mut external: Vec<_> = std::mem::take(&mut self.edges).into_iter().collect();
        external.sort_unstable_by_key(|(oid, _)| *oid);
        Ok(external)
    }

    /// The slot at `at`, and where its entry ends.
    pub fn span(&self, at: u32, data_end: u64) -> (Slot, u64) {
        let end = self.slots.get(at as usize + 1).map_or(data_end, |next| next.offset);
        (self.slots[at as usize], end)
    }

    /// Takes the `REF_DELTA` entries that wait for `oid`, which is known to be at position `at`: they are the
    /// caller's to resolve. Only after the scan, which sorts them.
    pub fn claim(&mut self, oid: &ObjectId, at: u32) -> Vec<u32> {
        let first = self.ref_deltas.partition_point(|delta| delta.base < *oid);
        let mut waiting = Vec::new();
        for delta in &self.ref_deltas[first..] {
            let slot = &mut self.slots[delta.at as usize];
            // All that wait for one base are taken together, so that the first tells of all: a pack that repeats a
            // base and its deltas a million times each must not be searched a million times.
            if delta.base != *oid || slot.base != NONE {
                break;
            }
            slot.base = at;
            waiting.push(delta.at);
        }
        waiting
    }

    /// The first delta that was never resolved, and how many there are.
    pub fn unresolved(&self) -> Option<IngestError> {
        let unnamed = self.slots.iter().filter(|slot| slot.kind.is_none()).count() as u64;
        let first = self.ref_deltas.iter().find(|delta| self.slots[delta.at as usize].base == NONE)?;
        Some(IngestError::Unresolved { count: unnamed, base: first.base })
    }
}
