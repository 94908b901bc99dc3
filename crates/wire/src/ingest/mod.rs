//! Received packs in quarantine: read once from a spool file, every object resolved, named and checked, nothing trusted.
//!
//! 1. *Scan* (`scan`): one pass over the file, also while it arrives. Entry headers, zlib streams, sizes against the limits, CRCs, the trailer.
//!    Whole objects are named on the way.
//! 2. *Complete* (`thin`): what deltas rest on and the pack lacks is appended to it, where the sender can reach it.
//! 3. *Resolve* (`resolve`, `walk`): deltas, depth first from each whole object, lighter branches first, so that few objects
//!    are held at a time. Bases dropped for memory are made again, on a budget.
//! 4. *Close*: what the objects refer to, less what the pack has, is `external`: the caller must show that each of
//!    these is already reachable by whoever sent the pack.

mod arrival;
mod cache;
mod closure;
mod depth;
mod edges;
mod index;
mod nested;
mod quarantine;
mod resolve;
mod scan;
mod table;
mod thin;
mod threads;
mod walk;

pub use arrival::Arrival;
pub use quarantine::{PackedObject, Quarantine, VisitError};

use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use treehold_object::{Kind, ObjectId};

/// What a pack may cost. Every limit is enforced before memory is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestLimits {
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// Entries of the pack.
    pub objects: u64,
    /// Bytes of one object (at most 4 GiB - 1 has an effect).
    pub object_bytes: u64,
    /// Bytes of all objects and deltas together.
    pub inflated_bytes: u64,
    /// The same for each byte of the pack so far, beyond [`INFLATED_BYTES_FREE`]: what stops a small pack of small deltas
    /// that copy large bases. (zlib alone makes 1,032 at most.)
    ///
    /// Whole histories have some 30 (git) to 60 (tokio). A large file with thousands of small changes has thousands, and
    /// may be fetched with the default; who takes pushes from anybody wants some 1,000.
    pub inflated_ratio: u64,
    /// Bytes of an entry's zlib stream beyond twice what it inflates to. Deflate itself adds less than one in a hundred; empty blocks, which
    /// hold nothing, can add the rest of the pack, and would be read and kept with the object while no other limit counts them.
    pub padding_bytes: u64,
    /// Length of a chain of deltas.
    pub delta_depth: u32,
    /// Objects that the pack refers to and does not have.
    pub external: u64,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            pack_bytes: 4 << 30,
            objects: 20_000_000,
            object_bytes: 100 << 20,
            inflated_bytes: 128 << 30,
            inflated_ratio: 100_000,
            padding_bytes: 4_096,
            delta_depth: 4_096,
            external: 10_000_000,
        }
    }
}

/// Inflated bytes that any pack may have, whatever [`IngestLimits::inflated_ratio`] says.
pub const INFLATED_BYTES_FREE: u64 = 64 << 20;

impl IngestLimits {
    /// How long the zlib stream of `size` bytes may be.
    fn stream_bytes(&self, size: u64) -> u64 {
        size.saturating_mul(2).saturating_add(self.padding_bytes)
    }

    /// What the first `len` bytes of a pack may inflate to.
    fn inflated_bytes_in(&self, len: u64) -> u64 {
        self.inflated_bytes.min(self.inflated_ratio.saturating_mul(len).saturating_add(INFLATED_BYTES_FREE))
    }
}

/// Judges an object's syntax: kind, id and content; an error is the reason to refuse the whole pack.
pub type Check<'a> = dyn Fn(Kind, &ObjectId, &[u8]) -> Result<(), String> + Sync + 'a;
/// Told how many objects are named, and of how many.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// Asked for so many bytes of memory more; `false`: there is none, which ends the work.
pub type Room<'a> = dyn Fn(u64) -> bool + Sync + 'a;

/// An object: kind and content.
pub type Whole = (Kind, Bytes);

/// Finds objects that deltas rest on and the pack does not have. Answers are in the order given; `None` = the sender cannot reach it.
pub trait Bases: Sync {
    /// Their sizes, bytes: what is too much is not read.
    fn sizes(&self, oids: &[ObjectId]) -> std::io::Result<Vec<Option<u64>>>;
    /// The objects themselves.
    fn read(&self, oids: &[ObjectId]) -> std::io::Result<Vec<Option<Whole>>>;
}

/// How to read a pack.
#[derive(Clone, Copy, Default)]
pub struct IngestOptions<'a> {
    /// What it may cost.
    pub limits: IngestLimits,
    /// Commits whose parents are not expected (the boundary of a shallow fetch).
    pub shallow: Option<&'a HashSet<ObjectId>>,
    /// Called for every object, from several threads.
    pub check: Option<&'a Check<'a>>,
    /// Ends the work soon once true.
    pub cancel: Option<&'a AtomicBool>,
    /// Called now and then, from several threads.
    pub progress: Option<&'a Progress<'a>>,
    /// Whether to compute the SHA-256 of every object ([`PackedObject::sha256`]).
    pub sha256: bool,
    /// Threads that resolve deltas, if the system gives so many; 0 counts as 1.
    pub threads: usize,
    /// Bytes of bases kept per thread, and by [`Quarantine::read`]; 0 means 96 MiB.
    pub cache_bytes: usize,
    /// Where a thin pack finds its bases. They are appended to the spool file, which must be open for writing, so that the pack
    /// becomes whole by itself (`git index-pack --fix-thin`). Without it such a pack is [`IngestError::Unresolved`].
    pub bases: Option<&'a dyn Bases>,
    /// Asked before the table of objects grows, in steps of some MiB, from several threads.
    pub room: Option<&'a Room<'a>>,
}

impl std::fmt::Debug for IngestOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestOptions").field("limits", &self.limits).field("threads", &self.threads).finish()
    }
}

impl IngestOptions<'_> {
    fn cache_bytes(&self) -> usize {
        if self.cache_bytes == 0 { 96 << 20 } else { self.cache_bytes }
    }

    fn cancelled(&self) -> Result<(), IngestError> {
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => Err(IngestError::Cancelled),
            _ => Ok(()),
        }
    }
}

/// Why a pack was refused. Nothing of a refused pack may be used.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The pack breaks a limit; says which.
    #[error("the pack has more than {limit} {what}")]
    Limit {
        /// What there was too much of, such as `bytes in one object`.
        what: &'static str,
        /// How much was allowed.
        limit: u64,
    },
    /// The bytes are no pack, or it was cut or damaged on the way. A new fetch may help.
    #[error("the pack is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the entry starts that shows it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Deltas whose bases the pack does not have, or that go round in circles.
    #[error("{count} deltas have no base in the pack, one of them needs {base}")]
    Unresolved {
        /// How many.
        count: u64,
        /// The base of the first of them.
        base: ObjectId,
    },
    /// An object was built to collide with another one. Somebody is attacking.
    #[error("the object at byte {offset} is part of a SHA-1 collision attack")]
    Collision {
        /// Where its entry starts.
        offset: u64,
    },
    /// An object breaks git's rules for its kind.
    #[error("{kind} {oid} is refused: {reason}")]
    BadObject {
        /// Which object.
        oid: ObjectId,
        /// What it claims to be.
        kind: Kind,
        /// Which rule.
        reason: String,
    },
    /// There is no memory for so many objects ([`IngestOptions::room`]).
    #[error("there is no memory for so many objects")]
    NoRoom,
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The spool file could not be read.
    #[error("could not read the spooled pack")]
    Io(#[from] std::io::Error),
}

/// Reads the pack in `spool`, which must not change while the result lives.
///
/// Blocks: for threads that may. Memory is about 110 bytes per object, `cache_bytes` per thread, and three times the
/// largest object.
pub fn ingest(spool: File, options: &IngestOptions<'_>) -> Result<Quarantine, IngestError> {
    let arrival = Arrival::whole(spool.metadata()?.len());
    ingest_arriving(spool, &arrival, options)
}

/// As [`ingest`], while the pack is still being written to the end of `spool`: whole objects are named as they arrive.
pub fn ingest_arriving(spool: File, arrival: &Arrival, options: &IngestOptions<'_>) -> Result<Quarantine, IngestError> {
    let table = table::Table::new(options);
    let scanned = scan::scan(&spool, arrival, options, &table)?;
    let scanned = thin::complete(&spool, options, &table, scanned)?;
    resolve::resolve(&spool, options, &table, scanned.data_end)?;
    Quarantine::close(spool, table, scanned, options)
}
