//! The writing side, on a thread that may block: steps come in, a pack goes out.

use std::io::Write;

use tokio::sync::mpsc;
use treehold_object::idx::IndexEntry;
use treehold_object::pack::{EntryHeader, EntryKind, PackError, PackWriter, Written};
use treehold_store::{RawBase, RawRun, StoredEntry};

use super::Form;
use crate::writer::NewBytes;
use crate::{EngineError, Result};

/// What to write next.
pub(super) enum Step {
    /// The runs that follow come from another stored pack.
    Pack,
    /// Those of the neighbours in a stored pack that are `copied`, as they stand there.
    Run { run: RawRun, copied: Vec<bool> },
    /// Whole objects, deflated.
    Entries(Vec<StoredEntry>),
    /// Whole objects.
    Whole(Vec<NewBytes>),
}

pub(super) fn failed(error: PackError) -> EngineError {
    EngineError::internal(error)
}

/// Writes a pack of `count` objects until there are no more steps.
pub(super) fn assemble<W: Write>(
    out: W,
    count: u32,
    level: u32,
    form: Form,
    mut steps: mpsc::Receiver<Step>,
) -> Result<(W, Written)> {
    let mut pack = form.writer(out, count, level)?;
    // Whoever waits for the pack learns at once how much it will be.
    pack.flush().map_err(failed)?;
    let mut moved = Moved::default();
    while let Some(step) = steps.blocking_recv() {
        let written = match step {
            Step::Pack => {
                moved = Moved::default();
                Ok(())
            }
            Step::Run { run, copied } => copy(&mut pack, &mut moved, &run, &copied),
            Step::Entries(entries) => entries
                .iter()
                .try_for_each(|entry| pack.add_compressed(entry.oid, entry.kind, entry.size, &entry.zlib).map(|_| ())),
            Step::Whole(objects) => {
                objects.iter().try_for_each(|object| pack.add(object.oid, object.kind, &object.content).map(|_| ()))
            }
        };
        written.map_err(failed)?;
    }
    pack.finish().map_err(failed)
}

/// Where the bytes of a stored pack went: ranges of it that were copied without a change of length in between.
#[derive(Debug, Default)]
struct Moved(Vec<Segment>);

#[derive(Debug)]
struct Segment {
    start: u64,
    end: u64,
    /// Where `start` is in the new pack.
    to: u64,
}

impl Moved {
    fn add(&mut self, start: u64, end: u64, to: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == start && last.to + (last.end - last.start) == to => last.end = end,
            _ => self.0.push(Segment { start, end, to }),
        }
    }

    /// Where the entry at `offset` of the stored pack is in the new one.
    fn find(&self, offset: u64) -> Option<u64> {
        let after = self.0.partition_point(|segment| segment.start <= offset);
        let segment = self.0.get(after.checked_sub(1)?)?;
        (offset < segment.end).then(|| segment.to + (offset - segment.start))
    }
}

/// Copies a run: as it is where every base is as far away as it was, entry by entry where not.
fn copy<W: Write>(
    pack: &mut PackWriter<W>,
    moved: &mut Moved,
    run: &RawRun,
    copied: &[bool],
) -> std::result::Result<(), PackError> {
    let mut same = 0;
    for (at, entry) in run.entries.iter().enumerate() {
        if !copied.get(at).copied().unwrap_or(false) {
            copy_same(pack, run, same, at)?;
            same = at + 1;
            continue;
        }
        let offset = run.start + entry.span.offset;
        // Where this entry will be, once those before it that stay the same are written.
        let here = pack.bytes() + entry.span.offset - run.entries[same].span.offset;
        let distance = match entry.base {
            RawBase::At(base) => Some((offset - base, here - moved.find(base).ok_or(PackError::EntryHeader)?)),
            RawBase::Whole | RawBase::Named(_) => None,
        };
        let Some((_, distance)) = distance.filter(|(before, now)| before != now) else {
            moved.add(offset, offset + entry.span.length, here);
            continue;
        };
        copy_same(pack, run, same, at)?;
        let raw = run_bytes(run, at, at + 1);
        let (header, len) = EntryHeader::decode(raw)?.ok_or(PackError::EntryHeader)?;
        let header = EntryHeader { kind: EntryKind::OfsDelta { distance }, size: header.size };
        let span = pack.add_entry(entry.oid, header, &raw[len..])?;
        // The entry's own start is right; what follows it may be shifted.
        moved.add(offset, offset + entry.span.length.min(span.length), span.offset);
        same = at + 1;
    }
    copy_same(pack, run, same, run.entries.len())
}

fn copy_same<W: Write>(
    pack: &mut PackWriter<W>,
    run: &RawRun,
    from: usize,
    to: usize,
) -> std::result::Result<(), PackError> {
    if from >= to {
        return Ok(());
    }
    let first = run.entries[from].span.offset;
    let entries = run.entries[from..to].iter();
    let entries =
        entries.map(|entry| IndexEntry { oid: entry.oid, offset: entry.span.offset - first, crc32: entry.crc32 });
    pack.add_run(run_bytes(run, from, to), entries)
}

/// The bytes of some entries of a run.
fn run_bytes(run: &RawRun, from: usize, to: usize) -> &[u8] {
    let span = |at: usize| run.entries.get(at).map(|entry| entry.span.offset as usize);
    let (start, end) = (span(from).unwrap_or(run.bytes.len()), span(to).unwrap_or(run.bytes.len()));
    &run.bytes[start..end]
}
