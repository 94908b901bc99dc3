//! One pass over the pack: entries, streams, sizes, CRCs and the trailer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use treehold_object::pack::{self, Checksum, ENTRY_HEADER_MAX, EntryHeader, EntryKind, HEADER_LEN, TRAILER_LEN};
use treehold_object::{Kind, ObjectId};

use super::arrival::Arrival;
use super::table::{NONE, RefDelta, Seen, Slot, Table};
use super::{IngestError, IngestLimits, IngestOptions, threads};
use treehold_object::delta;

const WINDOW_LEN: usize = 256 * 1024;
/// Objects that wait for their names at most.
const QUEUE: usize = 64;
/// None of them is larger, bytes.
const WAITING_LEN_MAX: usize = 256 * 1024;
const NULL: ObjectId = ObjectId::Sha1([0; 20]);

/// What the scan found besides the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanned {
    /// Where the last entry ends and the trailer begins.
    pub data_end: u64,
    /// The trailer, which is the checksum of all before it.
    pub checksum: ObjectId,
    /// Bytes of all objects and deltas that came.
    pub inflated: u64,
    /// Entries that came; those behind them were appended to a thin pack.
    pub received: u32,
}

/// Fills the table: a slot per entry, whole objects named.
pub(super) fn scan(
    file: &File,
    arrival: &Arrival,
    options: &IngestOptions<'_>,
    table: &Table<'_>,
) -> Result<Scanned, IngestError> {
    let limits = &options.limits;
    let too_short = || damaged(0, "it is shorter than an empty pack");
    let mut window = Window::new(file, arrival, limits.pack_bytes);
    let header = *window.peek(HEADER_LEN)?.first_chunk::<HEADER_LEN>().ok_or_else(too_short)?;
    let count = pack::parse_header(&header).map_err(|_| damaged(0, "it does not start as a pack of version 2"))?;
    window.consume(HEADER_LEN);
    if u64::from(count) > limits.objects {
        return Err(IngestError::Limit { what: "objects", limit: limits.objects });
    }
    let mut inflated = 0;
    named_beside(options, table, |hand_over| {
        let (inflate, content, seen) = (Decompress::new(true), Vec::new(), Seen::default());
        let mut scan = Scan { limits, options, table, inflate, content, inflated: 0, seen, hand_over };
        for at in 0..count {
            if at.is_multiple_of(64) {
                options.cancelled()?;
            }
            scan.entry(at, &mut window)?;
        }
        inflated = scan.inflated;
        Ok(())
    })?;
    if !window.peek(1)?.is_empty() {
        return Err(damaged(window.offset(), "there are bytes after the last object"));
    }
    let data_end = window.offset();
    let checksum = window.checksum.finish().map_err(|_| IngestError::Collision { offset: 0 })?;
    let mut trailer = [0; TRAILER_LEN];
    file.read_exact_at(&mut trailer, data_end).map_err(|_| too_short())?;
    if checksum.as_slice() != trailer {
        return Err(damaged(data_end, "the checksum at its end is not that of its bytes"));
    }
    table.lock().ref_deltas.sort_unstable_by_key(|delta| (delta.base, delta.at));
    Ok(Scanned { data_end, checksum, inflated, received: count })
}

pub(super) fn damaged(offset: u64, what: impl ToString) -> IngestError {
    IngestError::Damaged { offset, what: what.to_string() }
}

/// A whole object that waits for its name.
struct Waiting {
    at: u32,
    kind: Kind,
    content: Vec<u8>,
}

/// Runs `scan` while other threads name what it hands over; alone if there is only one thread, or no other to be had.
///
/// Inflating is one thread's work, since only the end of a stream tells where the next entry begins; hashing need not be.
fn named_beside(
    options: &IngestOptions<'_>,
    table: &Table<'_>,
    scan: impl FnOnce(Option<SyncSender<Waiting>>) -> Result<(), IngestError>,
) -> Result<(), IngestError> {
    if options.threads < 2 {
        return scan(None);
    }
    let (hand_over, waiting) = sync_channel::<Waiting>(QUEUE);
    let waiting = Arc::new(Mutex::new(waiting));
    let work = |waiting: Arc<Mutex<Receiver<Waiting>>>| -> Result<(), IngestError> {
        let mut seen = Seen::default();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Waiting { at, kind, content }) = next else { return Ok(()) };
            table.name(at, kind, &content, &mut seen)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..options.threads)
            .map_while(|_| {
                let waiting = Arc::clone(&waiting);
                threads::begin(scope, move || work(waiting))
            })
            .collect();
        // Once every worker has ended, what is handed over is refused.
        drop(waiting);
        let scanned = scan((!workers.is_empty()).then_some(hand_over));
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        scanned
    })
}

struct Scan<'a, 'o> {
    limits: &'a IngestLimits,
    options: &'a IngestOptions<'a>,
    table: &'a Table<'o>,
    /// Who names whole objects, if not this thread.
    hand_over: Option<SyncSender<Waiting>>,
    inflate: Decompress,
    /// Of the entry at hand; kept for its capacity.
    content: Vec<u8>,
    inflated: u64,
    seen: Seen,
}

impl Scan<'_, '_> {
    fn entry(&mut self, at: u32, window: &mut Window<'_>) -> Result<(), IngestError> {
        let offset = window.offset();
        window.crc = Crc::new();
        let decoded = EntryHeader::decode(window.peek(ENTRY_HEADER_MAX)?).map_err(|error| damaged(offset, error))?;
        let (header, len) = decoded.ok_or_else(|| damaged(offset, "it ends inside of an entry"))?;
        window.consume(len);
        self.admit(header.size)?;
        self.inflate(offset, header.size, window)?;
        self.admit_for(window.offset())?;
        let (crc32, sha256) = (window.crc.sum(), [0; 32]);
        let mut slot = Slot {
            offset,
            oid: NULL,
            sha256,
            crc32,
            size: 0,
            base: NONE,
            depth: 0,
            kind: None,
            referred: false,
            longest: 0,
        };
        if let EntryKind::Whole(kind) = header.kind {
            slot.size = header.size as u32;
            self.table.lock().push(slot, self.options)?;
            return self.name(at, kind);
        }
        let (_, size, _) = delta::sizes(&self.content).map_err(|error| damaged(offset, error))?;
        self.admit(size)?;
        self.admit_for(window.offset())?;
        slot.size = size as u32;
        let mut state = self.table.lock();
        match header.kind {
            EntryKind::OfsDelta { distance } => {
                let base = offset.checked_sub(distance);
                let base = base.and_then(|base| state.slots.binary_search_by_key(&base, |slot| slot.offset).ok());
                let base = base.ok_or_else(|| damaged(offset, "its base is not an entry of the pack"))?;
                slot.base = base as u32;
                slot.depth = deeper(state.slots[base].depth, self.limits)?;
            }
            EntryKind::RefDelta { base } => state.ref_deltas.push(RefDelta { base, at }),
            EntryKind::Whole(_) => {}
        }
        state.push(slot, self.options)
    }

    /// Names the whole object at hand, or hands it over; large ones stay here, so that few bytes wait.
    fn name(&mut self, at: u32, kind: Kind) -> Result<(), IngestError> {
        match &self.hand_over {
            Some(hand_over) if self.content.len() <= WAITING_LEN_MAX => {
                let content = std::mem::take(&mut self.content);
                // A worker that ended early says why when it is joined.
                hand_over.send(Waiting { at, kind, content }).map_err(|_| IngestError::Cancelled)
            }
            _ => self.table.name(at, kind, &self.content, &mut self.seen),
        }
    }

    /// Checks `size` bytes that an object or delta claims to have.
    fn admit(&mut self, size: u64) -> Result<(), IngestError> {
        let limit = self.limits.object_bytes.min(u64::from(u32::MAX) - 1);
        if size > limit {
            return Err(IngestError::Limit { what: "bytes in one object", limit });
        }
        self.inflated += size;
        if self.inflated > self.limits.inflated_bytes {
            return Err(IngestError::Limit { what: "inflated bytes", limit: self.limits.inflated_bytes });
        }
        Ok(())
    }

    /// Checks all sizes so far against the `len` bytes of the pack that they come from.
    fn admit_for(&self, len: u64) -> Result<(), IngestError> {
        let limit = self.limits.inflated_bytes_in(len);
        if self.inflated > limit {
            return Err(IngestError::Limit { what: "inflated bytes for its length", limit });
        }
        Ok(())
    }

    /// Inflates one stream of exactly `size` bytes. The buffer grows with what comes, not with what is claimed.
    fn inflate(&mut self, offset: u64, size: u64, window: &mut Window<'_>) -> Result<(), IngestError> {
        let stream_max = self.limits.stream_bytes(size);
        self.content.clear();
        self.content.shrink_to(1 << 20);
        self.inflate.reset(true);
        loop {
            let rest = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(self.content.len());
            if self.content.len() == self.content.capacity() {
                // One byte more than claimed, so that a longer stream shows itself.
                self.content.reserve(rest.saturating_add(1).min(self.content.len().max(64 * 1024)));
            }
            let input = window.peek(1)?;
            let at_end = input.is_empty();
            let (in_before, out_before) = (self.inflate.total_in(), self.content.len());
            let status = self.inflate.decompress_vec(input, &mut self.content, FlushDecompress::None);
            let consumed = (self.inflate.total_in() - in_before) as usize;
            window.consume(consumed);
            let status = status.map_err(|_| damaged(offset, "its zlib stream is damaged"))?;
            if self.content.len() as u64 > size {
                return Err(damaged(offset, "it is longer than it says"));
            }
            if self.inflate.total_in() > stream_max {
                return Err(IngestError::Limit { what: "bytes in the zlib stream of one object", limit: stream_max });
            }
            if status == Status::StreamEnd {
                break;
            }
            if consumed == 0 && self.content.len() == out_before && at_end {
                return Err(damaged(offset, "it ends inside of an entry"));
            }
        }
        if self.content.len() as u64 != size {
            return Err(damaged(offset, "it is shorter than it says"));
        }
        Ok(())
    }
}

/// The depth of a delta against something of depth `base`.
pub(super) fn deeper(base: u16, limits: &IngestLimits) -> Result<u16, IngestError> {
    let limit = limits.delta_depth.min(u32::from(u16::MAX) - 1);
    if u32::from(base) >= limit {
        return Err(IngestError::Limit { what: "deltas in one chain", limit: u64::from(limit) });
    }
    Ok(base + 1)
}

/// The part of the file that is being read, up to the trailer: its last bytes are held back until it is known that no more come.
struct Window<'a> {
    file: &'a File,
    arrival: &'a Arrival,
    bytes_max: u64,
    buffer: Vec<u8>,
    /// Consumed bytes of `buffer`.
    at: usize,
    /// Where in the file `buffer` ends.
    next: u64,
    checksum: Checksum,
    crc: Crc,
}

impl<'a> Window<'a> {
    fn new(file: &'a File, arrival: &'a Arrival, bytes_max: u64) -> Self {
        let (checksum, crc) = (Checksum::default(), Crc::new());
        Self { file, arrival, bytes_max, buffer: Vec::new(), at: 0, next: 0, checksum, crc }
    }

    fn offset(&self) -> u64 {
        self.next - (self.buffer.len() - self.at) as u64
    }

    /// What follows: at least `len` bytes, if there are so many before the trailer. Waits for what has not arrived.
    fn peek(&mut self, len: usize) -> Result<&[u8], IngestError> {
        if self.buffer.len() - self.at < len {
            self.fill()?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn fill(&mut self) -> Result<(), IngestError> {
        let arrived = self.arrival.wait(self.next + (WINDOW_LEN + TRAILER_LEN) as u64)?;
        if arrived > self.bytes_max {
            return Err(IngestError::Limit { what: "bytes", limit: self.bytes_max });
        }
        let end = arrived.saturating_sub(TRAILER_LEN as u64);
        let more = end.saturating_sub(self.next).min(WINDOW_LEN as u64) as usize;
        if more == 0 {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + more, 0);
        self.file.read_exact_at(&mut self.buffer[kept..], self.next)?;
        self.checksum.update(&self.buffer[kept..]);
        self.next += more as u64;
        Ok(())
    }

    fn consume(&mut self, len: usize) {
        self.crc.update(&self.buffer[self.at..self.at + len]);
        self.at += len;
    }
}
