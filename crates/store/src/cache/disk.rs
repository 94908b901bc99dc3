//! The disk tier: segments that are written front to back by one thread and put out as a whole, the oldest first.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use treehold_object::ObjectId;

use super::index::{Index, Place};
use super::medium::Medium;
use super::memory::MemoryTier;
use super::record::{self, HEADER, UNIT};
use super::writer::Writer;
use crate::object_store::Object;

/// Segments are so many parts of the whole, within their bounds.
const SEGMENTS: u64 = 32;
const SEGMENT_MIN: u64 = 1 << 20;
const SEGMENT_MAX: u64 = 64 << 20;
/// Objects that wait to be written; more are forgotten.
const QUEUE_OBJECTS: usize = 16 << 10;
/// And their content, bytes.
const QUEUE_BYTES: u64 = 16 << 20;
/// A thread reads so much of a batch, bytes.
const CHUNK_BYTES: u64 = 1 << 20;
/// And so many objects.
const CHUNK_OBJECTS: usize = 32;
/// Threads that read for one caller.
const READERS: usize = 8;

/// What a disk tier is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// A directory of its own. It may be missing, wrong or taken: then nothing is kept on disk until that changes.
    pub dir: PathBuf,
    /// At most so much of it is used, bytes.
    pub bytes: u64,
}

impl DiskOptions {
    /// Length of a full segment, bytes.
    pub(super) fn segment_bytes(&self) -> u64 {
        (self.bytes / SEGMENTS).clamp(SEGMENT_MIN, SEGMENT_MAX)
    }

    /// Larger objects are not kept on disk, bytes.
    fn object_max(&self) -> u64 {
        self.segment_bytes() / 4
    }
}

/// One file. It is read through its descriptor, also after it was removed.
#[derive(Debug)]
pub(super) struct Segment {
    pub id: u64,
    pub file: File,
    pub path: PathBuf,
    /// Bytes of whole records; what comes after them is nothing.
    pub length: AtomicU64,
}

impl Segment {
    /// How the index names it. There are far fewer segments than slots.
    pub fn slot(&self) -> u16 {
        self.id as u16
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub written: AtomicU64,
    pub dropped: AtomicU64,
    pub evicted: AtomicU64,
    pub damaged: AtomicU64,
    pub failures: AtomicU64,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub options: DiskOptions,
    pub medium: Arc<dyn Medium>,
    pub memory: Arc<MemoryTier>,
    pub index: Index,
    pub segments: RwLock<HashMap<u16, Arc<Segment>>>,
    pub counters: Counters,
    /// Content that waits, bytes.
    pub waiting: AtomicU64,
    /// Why nothing is written at the moment.
    pub trouble: Mutex<Option<String>>,
}

impl Shared {
    pub fn segment(&self, slot: u16) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&slot).cloned()
    }

    /// All segments, the oldest first, and the bytes of their files.
    pub fn by_age(&self) -> (Vec<Arc<Segment>>, u64) {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<Segment>> = segments.values().cloned().collect();
        all.sort_unstable_by_key(|segment| segment.id);
        let bytes = all.iter().map(|segment| segment.file.metadata().map_or(0, |metadata| metadata.len())).sum();
        (all, bytes)
    }

    /// An object, if it is there and hashes to its id. Blocks. What is damaged is forgotten.
    fn read(&self, oid: &ObjectId, count: bool) -> Option<Object> {
        let fingerprint = record::fingerprint(oid);
        let place = self.index.get(fingerprint)?;
        match self.read_at(oid, place) {
            Ok(object) => {
                if count && !place.was_read() {
                    self.index.mark_read(fingerprint, place);
                }
                Some(object)
            }
            Err(Damaged) => {
                self.index.remove(fingerprint, place);
                // A segment that was put out meanwhile is no damage.
                if self.segment(place.slot()).is_some() {
                    self.counters.damaged.fetch_add(1, Relaxed);
                }
                None
            }
        }
    }

    fn read_at(&self, oid: &ObjectId, place: Place) -> Result<Object, Damaged> {
        let segment = self.segment(place.slot()).ok_or(Damaged)?;
        let extent = place.extent();
        let (start, length) = (u64::from(extent.offset) * UNIT as u64, u64::from(extent.length) * UNIT as u64);
        // Memory is taken for what the segment has, whatever a footer said.
        if start.saturating_add(length) > segment.length.load(Relaxed) {
            return Err(Damaged);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Damaged)?];
        self.medium.read(&segment.file, &mut bytes, start).map_err(|_| Damaged)?;
        let header = record::read_header(&bytes).ok_or(Damaged)?;
        let end = HEADER + header.size as usize;
        // Another object of the same fingerprint, which nobody meets by chance, counts as damage, too.
        if header.oid != *oid || end > bytes.len() {
            return Err(Damaged);
        }
        let content = Bytes::from(bytes).slice(HEADER..end);
        if treehold_object::hash(header.kind, &content) != Ok(*oid) {
            return Err(Damaged);
        }
        Ok(Object { oid: *oid, kind: header.kind, content })
    }
}

/// What is in the file is not what was written.
struct Damaged;

pub(super) enum Job {
    Store(Object),
    /// Everything before it has been dealt with once the receiver hears of it.
    Flush(SyncSender<()>),
}

/// Objects on local disk.
///
/// 1. *Honest.* Every object that is read is hashed, with collision detection, as one from the bucket is.
/// 2. *Never in the way.* A write waits in a bounded queue or is dropped; every failure is a miss, and is made up for later.
/// 3. *Bounded.* The files and the index (at most one entry for each 4 KiB) stay within what was allowed.
/// 4. *Alone.* A lock on the directory keeps a second process out, which then does without.
#[derive(Debug)]
pub(super) struct DiskTier {
    shared: Arc<Shared>,
    sender: SyncSender<Job>,
}

impl DiskTier {
    /// Opens the directory on a thread of its own; what is there is found bit by bit, the newest first.
    pub fn start(options: DiskOptions, memory: Arc<MemoryTier>, medium: Arc<dyn Medium>) -> std::io::Result<Self> {
        let (sender, jobs): (_, Receiver<Job>) = sync_channel(QUEUE_OBJECTS);
        let shared = Arc::new(Shared {
            options,
            medium,
            memory,
            index: Index::default(),
            segments: RwLock::default(),
            counters: Counters::default(),
            waiting: AtomicU64::new(0),
            trouble: Mutex::default(),
        });
        let writer = Writer::new(shared.clone());
        std::thread::Builder::new().name("object-cache".into()).spawn(move || writer.run(&jobs))?;
        Ok(Self { shared, sender })
    }

    /// The objects of these that are there, with their places in `oids`, until `left` bytes are used up. `count`: as a sign that
    /// they are in use.
    pub async fn read(&self, oids: Vec<(usize, ObjectId)>, count: bool, mut left: u64) -> Vec<(usize, Object)> {
        let mut chunks: Vec<Vec<(usize, ObjectId)>> = Vec::new();
        let mut bytes = 0;
        for (at, oid) in oids {
            let Some(place) = self.shared.index.get(record::fingerprint(&oid)) else { continue };
            if left == 0 {
                break;
            }
            let length = u64::from(place.extent().length) * UNIT as u64;
            left = left.saturating_sub(length);
            bytes += length;
            match chunks.last_mut() {
                Some(chunk) if bytes <= CHUNK_BYTES && chunk.len() < CHUNK_OBJECTS => chunk.push((at, oid)),
                _ => {
                    bytes = length;
                    chunks.push(vec![(at, oid)]);
                }
            }
        }
        let reads = chunks.into_iter().map(|chunk| {
            let shared = self.shared.clone();
            tokio::task::spawn_blocking(move || {
                let found = chunk.into_iter().filter_map(|(at, oid)| Some((at, shared.read(&oid, count)?)));
                found.collect::<Vec<_>>()
            })
        });
        // A task that broke found nothing.
        let found = stream::iter(reads).buffer_unordered(READERS).map(Result::unwrap_or_default);
        found.flat_map(stream::iter).collect().await
    }

    /// Keeps a verified object, if there is time and room for it.
    pub fn offer(&self, object: &Object) {
        let size = object.content.len() as u64;
        if size > self.shared.options.object_max() || self.shared.index.get(record::fingerprint(&object.oid)).is_some()
        {
            return;
        }
        let waiting = self.shared.waiting.fetch_add(size, Relaxed).saturating_add(size);
        if waiting > QUEUE_BYTES || self.sender.try_send(Job::Store(object.clone())).is_err() {
            self.shared.waiting.fetch_sub(size, Relaxed);
            self.shared.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until what was offered has been dealt with. Blocks.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.sender.send(Job::Flush(done)).is_ok() {
            // An error: the thread is gone, and with it everything that waited.
            let _gone = wait.recv();
        }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}
