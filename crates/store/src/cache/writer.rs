//! The one thread that writes to the cache directory.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};

use super::disk::{Job, Segment, Shared};
use super::index::Place;
use super::record::{self, Entry, Extent, HEADER, Header, MAGIC, TRAILER, UNIT};
use crate::object_store::Object;

/// Records are written together up to this length, bytes.
const BUFFER: usize = 1 << 20;
/// Most segments at a time: far fewer than the index has slots for.
const SEGMENTS_MAX: usize = 4096;
/// The index has at most one entry for so many bytes of the whole.
const BYTES_PER_ENTRY: u64 = 4 << 10;
/// Objects that are let go after a failure before the next attempt; doubled each time.
const PAUSE_MIN: u64 = 64;
const PAUSE_MAX: u64 = 64 << 10;
const SUFFIX: &str = ".segment";

/// The segment that is being written.
struct Active {
    segment: Arc<Segment>,
    entries: Vec<Entry>,
}

/// A directory that this process has to itself.
struct Open {
    _lock: File,
    next_id: u64,
    active: Option<Active>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    open: Option<Open>,
    /// Records that are not written yet, and what they are.
    buffer: Vec<u8>,
    pending: Vec<Entry>,
    pause: u64,
    pause_next: u64,
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Self {
        let (buffer, pending) = (Vec::new(), Vec::new());
        Self { shared, open: None, buffer, pending, pause: 0, pause_next: PAUSE_MIN }
    }

    /// Works until all senders are gone.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        self.reopen();
        while let Ok(job) = jobs.recv() {
            self.take(job);
            while self.buffer.len() < BUFFER
                && let Ok(job) = jobs.try_recv()
            {
                self.take(job);
            }
            self.settle();
        }
        let sealed = self.seal();
        self.report(sealed);
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Flush(done) => {
                self.settle();
                // Whoever waited may be gone.
                let _gone = done.send(());
            }
            Job::Store(object) => {
                self.shared.waiting.fetch_sub(object.content.len() as u64, Relaxed);
                if self.open.is_none() && self.pause == 0 {
                    self.reopen();
                }
                if self.open.is_none() {
                    self.pause = self.pause.saturating_sub(1);
                    self.shared.counters.dropped.fetch_add(1, Relaxed);
                    return;
                }
                let appended = self.append(&object);
                if appended.is_err() {
                    self.shared.counters.dropped.fetch_add(1, Relaxed);
                }
                self.report(appended);
            }
        }
    }

    fn settle(&mut self) {
        let written = self.write_out();
        self.report(written);
    }

    /// A failure closes the directory for a while. Nothing that was written before is lost by it.
    fn report(&mut self, outcome: io::Result<()>) {
        let Err(error) = outcome else { return };
        let dropped = self.pending.len() as u64;
        self.shared.counters.failures.fetch_add(1, Relaxed);
        self.shared.counters.dropped.fetch_add(dropped, Relaxed);
        self.buffer.clear();
        self.pending.clear();
        if let Some(Active { segment, .. }) = self.open.take().and_then(|open| open.active) {
            // Bytes after the last whole record only take room.
            let _takes_room = segment.file.set_len(segment.length.load(Relaxed));
        }
        // On a full disk the room is worth more to others.
        if matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ) {
            self.evict_oldest();
        }
        self.trouble(&error);
        self.pause = self.pause_next;
        self.pause_next = (self.pause_next * 2).min(PAUSE_MAX);
    }

    fn trouble(&self, error: &io::Error) {
        let mut trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let text = error.to_string();
        if trouble.as_ref() != Some(&text) {
            let dir = self.shared.options.dir.display();
            tracing::warn!("the object cache does without the directory {dir} for now: {text}");
        }
        *trouble = Some(text);
    }

    fn reopen(&mut self) {
        match self.try_open() {
            Ok(open) => {
                self.open = Some(open);
                *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Err(error) => self.report(Err(error)),
        }
    }

    fn try_open(&self) -> io::Result<Open> {
        let dir = &self.shared.options.dir;
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(dir.join("cache.lock"))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => io::Error::other("another process is using it"),
            std::fs::TryLockError::Error(error) => error,
        })?;
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) {
                ids.push((id, entry.path()));
            }
        }
        ids.sort_unstable();
        let known = self.shared.by_age().0.last().map(|segment| segment.id);
        let next_id = ids.last().map(|(id, _)| *id).max(known).map_or(0, |id| id.wrapping_add(1));
        for (id, path) in ids.into_iter().rev() {
            self.recover(id, &path);
        }
        self.make_room(0);
        Ok(Open { _lock: lock, next_id, active: None })
    }

    /// Finds what an earlier process left. A file that makes no sense is removed.
    fn recover(&self, id: u64, path: &Path) {
        if self.shared.segment(id as u16).is_some() {
            return;
        }
        let scanned = File::options().read(true).write(true).open(path).and_then(|file| {
            let regular = file.metadata()?;
            let (entries, length) = if regular.is_file() { self.scan(&file, regular.len())? } else { (Vec::new(), 0) };
            let segment = Segment { id, file, path: path.to_owned(), length: length.into() };
            Ok((entries, segment))
        });
        let Ok((entries, segment)) = scanned.inspect_err(|error| {
            tracing::debug!(%error, path = %path.display(), "a segment of the object cache cannot be read");
        }) else {
            return;
        };
        if entries.is_empty() {
            remove(path);
            return;
        }
        let slot = segment.slot();
        self.shared.segments.write().unwrap_or_else(PoisonError::into_inner).insert(slot, Arc::new(segment));
        for entry in entries {
            if let Some(place) = Place::new(slot, entry.extent) {
                self.shared.index.insert_older(entry.fingerprint, place);
            }
        }
    }

    /// The records of a file and where they end: by its footer, else one by one, and then it gets a footer.
    fn scan(&self, file: &File, length: u64) -> io::Result<(Vec<Entry>, u64)> {
        let medium = &self.shared.medium;
        let mut magic = [0; UNIT];
        medium.read(file, &mut magic, 0)?;
        if magic != MAGIC {
            return Ok((Vec::new(), 0));
        }
        let mut trailer = [0; TRAILER];
        if length >= (UNIT + TRAILER) as u64 {
            medium.read(file, &mut trailer, length - TRAILER as u64)?;
        }
        if let Some(footer) = record::footer_length(&trailer, length) {
            // At most as long as the file is.
            let mut bytes = vec![0; usize::try_from(footer).map_err(io::Error::other)?];
            medium.read(file, &mut bytes, length - footer)?;
            if let Some(entries) = record::read_footer(&bytes) {
                return Ok((entries, length - footer));
            }
        }
        let (entries, end) = self.walk(file, length)?;
        // Without it the next start walks again; that is all.
        let footed = medium.write(file, &record::footer(&entries, end), end);
        let _walked_again = footed.and_then(|()| file.set_len(end + record::footer_bytes(entries.len())));
        Ok((entries, end))
    }

    fn walk(&self, file: &File, length: u64) -> io::Result<(Vec<Entry>, u64)> {
        let mut entries = Vec::new();
        let mut at = UNIT as u64;
        let mut header = [0; HEADER];
        while at + HEADER as u64 <= length {
            self.shared.medium.read(file, &mut header, at)?;
            let Some(header) = record::read_header(&header) else { break };
            let units = record::record_units(header.size.into());
            let end = at + units * UNIT as u64;
            let (Ok(offset), Ok(units)) = (u32::try_from(at / UNIT as u64), u32::try_from(units)) else { break };
            if end > length {
                break;
            }
            let extent = Extent { offset, length: units };
            entries.push(Entry { fingerprint: record::fingerprint(&header.oid), extent });
            at = end;
        }
        Ok((entries, at))
    }

    /// Adds an object to the buffer, and makes a new segment if this one is full.
    fn append(&mut self, object: &Object) -> io::Result<()> {
        let fingerprint = record::fingerprint(&object.oid);
        if self.shared.index.get(fingerprint).is_some() {
            return Ok(());
        }
        let Ok(size) = u32::try_from(object.content.len()) else { return Ok(()) };
        let header = Header { oid: object.oid, kind: object.kind, size };
        self.room_for(record::record_units(size.into()) * UNIT as u64)?;
        let before = self.buffer.len();
        record::write_record(header, &object.content, &mut self.buffer);
        self.queue(fingerprint, before);
        if self.buffer.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }

    /// Remembers what was added to the buffer since it had `before` bytes. Its offset is counted from the buffer's start for now.
    fn queue(&mut self, fingerprint: u64, before: usize) {
        let (offset, length) = ((before / UNIT) as u32, ((self.buffer.len() - before) / UNIT) as u32);
        self.pending.push(Entry { fingerprint, extent: Extent { offset, length } });
    }

    /// Writes the buffer; from then on what is in it can be found.
    fn write_out(&mut self) -> io::Result<()> {
        let active = self.open.as_mut().and_then(|open| open.active.as_mut());
        let Some(active) = active.filter(|_| !self.buffer.is_empty()) else { return Ok(()) };
        let segment = &active.segment;
        if !segment.path.exists() {
            self.forget_removed();
            return Err(io::Error::new(io::ErrorKind::NotFound, "its files were removed; it is made again"));
        }
        let start = segment.length.load(Relaxed);
        self.shared.medium.write(&segment.file, &self.buffer, start)?;
        segment.length.store(start + self.buffer.len() as u64, Relaxed);
        self.shared.counters.written.fetch_add(self.pending.len() as u64, Relaxed);
        for mut entry in self.pending.drain(..) {
            entry.extent.offset += (start / UNIT as u64) as u32;
            if let Some(place) = Place::new(segment.slot(), entry.extent) {
                self.shared.index.insert(entry.fingerprint, place);
                active.entries.push(entry);
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// Makes sure that the active segment has room for `bytes` more.
    fn room_for(&mut self, bytes: u64) -> io::Result<()> {
        let most = self.shared.options.segment_bytes();
        let active = self.open.as_ref().and_then(|open| open.active.as_ref());
        let used = active.map(|active| {
            let records = active.segment.length.load(Relaxed) + self.buffer.len() as u64;
            records + record::footer_bytes(active.entries.len() + self.pending.len() + 1)
        });
        if used.is_some_and(|used| used + bytes <= most) {
            return Ok(());
        }
        self.write_out()?;
        self.seal()?;
        let survivors = self.make_room(most);
        self.begin()?;
        for (fingerprint, segment, place) in survivors {
            self.carry_over(fingerprint, &segment, place)?;
        }
        self.write_out()
    }

    /// Ends the active segment with its footer.
    fn seal(&mut self) -> io::Result<()> {
        let Some(active) = self.open.as_mut().and_then(|open| open.active.take()) else { return Ok(()) };
        let start = active.segment.length.load(Relaxed);
        self.shared.medium.write(&active.segment.file, &record::footer(&active.entries, start), start)
    }

    fn begin(&mut self) -> io::Result<()> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        while self.shared.segment(open.next_id as u16).is_some() {
            open.next_id = open.next_id.wrapping_add(1);
        }
        let path = self.shared.options.dir.join(format!("{:016x}{SUFFIX}", open.next_id));
        let file = self.shared.medium.create(&path)?;
        let segment = Segment { id: open.next_id, file, path, length: (UNIT as u64).into() };
        open.next_id = open.next_id.wrapping_add(1);
        let segment = Arc::new(segment);
        if let Err(error) = self.shared.medium.write(&segment.file, &MAGIC, 0) {
            remove(&segment.path);
            return Err(error);
        }
        let mut segments = self.shared.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.slot(), segment.clone());
        open.active = Some(Active { segment, entries: Vec::new() });
        self.pause_next = PAUSE_MIN;
        Ok(())
    }

    /// Puts out old segments until `more` bytes fit; what of them is in use, up to half a segment.
    fn make_room(&self, more: u64) -> Vec<(u64, Arc<Segment>, Place)> {
        let options = &self.shared.options;
        let mut survivors = Vec::new();
        let mut room = options.segment_bytes() / 2;
        loop {
            let (segments, bytes) = self.shared.by_age();
            let entries = self.shared.index.len() as u64;
            let fits = bytes + more <= options.bytes.max(options.segment_bytes())
                && segments.len() < SEGMENTS_MAX
                && entries <= options.bytes / BYTES_PER_ENTRY;
            let Some(oldest) = segments.first().filter(|_| !fits) else { return survivors };
            for (fingerprint, place) in self.evict(oldest) {
                let length = u64::from(place.extent().length) * UNIT as u64;
                if more > 0 && length <= room && self.in_use(oldest, place) {
                    room -= length;
                    survivors.push((fingerprint, oldest.clone(), place));
                } else {
                    self.shared.counters.evicted.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Segments without a name cannot be found again, and take room that nobody sees.
    fn forget_removed(&self) {
        let (segments, _) = self.shared.by_age();
        for segment in segments.iter().filter(|segment| !segment.path.exists()) {
            let held = self.evict(segment).len() as u64;
            self.shared.counters.evicted.fetch_add(held, Relaxed);
        }
    }

    fn evict_oldest(&self) {
        if let Some(oldest) = self.shared.by_age().0.first() {
            let held = self.evict(oldest).len() as u64;
            self.shared.counters.evicted.fetch_add(held, Relaxed);
        }
    }

    /// Takes a segment out. Its descriptor lives as long as somebody reads it.
    fn evict(&self, segment: &Arc<Segment>) -> Vec<(u64, Place)> {
        self.shared.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&segment.slot());
        remove(&segment.path);
        self.shared.index.drain(segment.slot())
    }

    /// Read since it was written, or so often that it never left memory.
    fn in_use(&self, segment: &Segment, place: Place) -> bool {
        let mut header = [0; HEADER];
        let at = u64::from(place.extent().offset) * UNIT as u64;
        place.was_read()
            || (self.shared.medium.read(&segment.file, &mut header, at).is_ok()
                && record::read_header(&header).is_some_and(|header| self.shared.memory.contains(&header.oid)))
    }

    /// Copies a record from a segment that was put out. What cannot be read is let go.
    fn carry_over(&mut self, fingerprint: u64, segment: &Segment, place: Place) -> io::Result<()> {
        let extent = place.extent();
        let before = self.buffer.len();
        self.buffer.resize(before + extent.length as usize * UNIT, 0);
        let (_, into) = self.buffer.split_at_mut(before);
        if self.shared.medium.read(&segment.file, into, u64::from(extent.offset) * UNIT as u64).is_err() {
            self.buffer.truncate(before);
            return Ok(());
        }
        self.queue(fingerprint, before);
        if self.buffer.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }
}

/// What cannot be removed now is found again at the next start.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "a segment of the object cache cannot be removed");
    }
}
