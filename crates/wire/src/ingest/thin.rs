//! Thin packs: what their deltas rest on is appended, so that the pack becomes whole by itself.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use treehold_object::pack::{Checksum, HEADER_LEN, TRAILER_LEN, crc32, encode_entry, header};
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, ObjectId, hash, runs};

use super::scan::Scanned;
use super::table::{NONE, Slot, Table};
use super::{IngestError, IngestLimits, IngestOptions};

/// Bases whose sizes are asked for at once.
const BASES: usize = 1024;
/// Content of bases that is read at once, bytes; a single one may be larger.
const WINDOW: u64 = 8 << 20;
const PART: usize = 1 << 20;
const LEVEL: u32 = 1;

/// Appends the bases that no entry can be, and puts count and trailer right.
pub(super) fn complete(
    file: &File,
    options: &IngestOptions<'_>,
    table: &Table<'_>,
    scanned: Scanned,
) -> Result<Scanned, IngestError> {
    let Some(bases) = options.bases else { return Ok(scanned) };
    let missing = missing(table);
    let mut end = scanned.data_end;
    let mut deflater = Deflater::new(LEVEL);
    let mut budget = Budget::of(options, &scanned);
    for oids in missing.chunks(BASES) {
        let sizes = bases.sizes(oids)?;
        let there: Vec<(ObjectId, u64)> =
            oids.iter().zip(sizes).filter_map(|(oid, size)| Some((*oid, size?))).collect();
        there.iter().try_for_each(|(_, size)| budget.spend(*size))?;
        for window in runs(&there, WINDOW, |(_, size)| *size) {
            options.cancelled()?;
            let oids: Vec<ObjectId> = window.iter().map(|(oid, _)| *oid).collect();
            for (oid, base) in oids.iter().zip(bases.read(&oids)?) {
                let Some((kind, content)) = base else { continue };
                end = append(file, options, table, end, *oid, (kind, &content), &mut deflater)?;
            }
        }
    }
    if end == scanned.data_end {
        return Ok(scanned);
    }
    let count = table.lock().slots.len();
    let count = u32::try_from(count).map_err(|_| too_many(options))?;
    file.write_all_at(&header(count), 0)?;
    let checksum = checksum(file, end)?;
    file.write_all_at(checksum.as_slice(), end)?;
    Ok(Scanned { data_end: end, checksum, ..scanned })
}

/// What bases may come to: as much as the pack itself may inflate to, so that a few bytes of deltas cannot have a store read and written
/// again. Any one object is within it.
struct Budget<'a> {
    limits: &'a IngestLimits,
    /// Of what came, bytes.
    inflated: u64,
    bases: u64,
    bases_max: u64,
}

impl<'a> Budget<'a> {
    fn of(options: &'a IngestOptions<'_>, scanned: &Scanned) -> Self {
        let limits = &options.limits;
        let bases_max = limits.inflated_bytes_in(scanned.data_end).max(limits.object_bytes);
        Self { limits, inflated: scanned.inflated, bases: 0, bases_max }
    }

    fn spend(&mut self, size: u64) -> Result<(), IngestError> {
        self.bases = self.bases.saturating_add(size);
        if self.bases > self.bases_max {
            let what = "bytes that its deltas rest on for its length";
            return Err(IngestError::Limit { what, limit: self.bases_max });
        }
        if self.inflated.saturating_add(self.bases) > self.limits.inflated_bytes {
            return Err(IngestError::Limit { what: "inflated bytes", limit: self.limits.inflated_bytes });
        }
        Ok(())
    }
}

fn too_many(options: &IngestOptions<'_>) -> IngestError {
    IngestError::Limit { what: "objects", limit: options.limits.objects }
}

/// What deltas name as their base and no whole object of the pack is, sorted.
fn missing(table: &Table<'_>) -> Vec<ObjectId> {
    let state = table.lock();
    if state.ref_deltas.is_empty() {
        return Vec::new();
    }
    let whole: HashSet<ObjectId> = state.slots.iter().filter(|slot| slot.kind.is_some()).map(|slot| slot.oid).collect();
    let mut missing: Vec<ObjectId> =
        state.ref_deltas.iter().map(|delta| delta.base).filter(|base| !whole.contains(base)).collect();
    missing.dedup();
    missing
}

/// Adds one entry behind the others; answers where it ends. What it refers to is the business of whoever has it already.
fn append(
    file: &File,
    options: &IngestOptions<'_>,
    table: &Table<'_>,
    offset: u64,
    oid: ObjectId,
    (kind, content): (Kind, &[u8]),
    deflater: &mut Deflater,
) -> Result<u64, IngestError> {
    let limits = &options.limits;
    if hash(kind, content).ok() != Some(oid) {
        return Err(IngestError::Io(std::io::Error::other(format!("the base {oid} is not what was asked for"))));
    }
    let object_max = limits.object_bytes.min(u64::from(u32::MAX) - 1);
    if content.len() as u64 > object_max {
        return Err(IngestError::Limit { what: "bytes in one object", limit: object_max });
    }
    let mut entry = Vec::new();
    encode_entry(kind, content, deflater, &mut entry);
    file.write_all_at(&entry, offset)?;
    let end = offset + entry.len() as u64;
    if end + TRAILER_LEN as u64 > limits.pack_bytes {
        return Err(IngestError::Limit { what: "bytes", limit: limits.pack_bytes });
    }
    let mut state = table.lock();
    if state.slots.len() as u64 >= limits.objects {
        return Err(too_many(options));
    }
    state.named += 1;
    let slot = Slot {
        offset,
        oid,
        sha256: if options.sha256 { hash::sha256(kind, content) } else { [0; 32] },
        crc32: crc32(&[&entry]),
        size: content.len() as u32,
        base: NONE,
        depth: 0,
        kind: Some(kind),
        referred: false,
        longest: 0,
    };
    state.push(slot, options)?;
    Ok(end)
}

fn checksum(file: &File, end: u64) -> Result<ObjectId, IngestError> {
    let (mut checksum, mut part) = (Checksum::default(), vec![0; PART]);
    let mut at = 0;
    while at < end {
        let len = (end - at).min(PART as u64) as usize;
        file.read_exact_at(&mut part[..len], at)?;
        checksum.update(&part[..len]);
        at += len as u64;
    }
    debug_assert!(end >= HEADER_LEN as u64);
    checksum.finish().map_err(|_| IngestError::Collision { offset: 0 })
}
