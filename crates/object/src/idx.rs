//! Pack indexes, version 2 (git's gitformat-pack): fan-out, ids, CRC-32s, offsets, checksums.

use gix_hash::ObjectId;

use crate::pack::{Checksum, PackError};

const MAGIC: [u8; 8] = *b"\xfftOc\0\0\0\x02";
const FANOUT_LEN: usize = 256 * 4;
const ID_LEN: usize = 20;
/// Marks an offset that stands in the table of 64-bit offsets.
const LARGE: u32 = 1 << 31;

/// One object of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The object.
    pub oid: ObjectId,
    /// Where its entry starts in the pack, bytes.
    pub offset: u64,
    /// Over the entry's header and zlib stream.
    pub crc32: u32,
}

/// The bytes of the index of the pack whose trailer is `pack_checksum`, byte for byte as git writes it.
///
/// `entries` in any order; no object may occur twice (git takes such an index for damaged).
pub fn write(entries: &[IndexEntry], pack_checksum: &ObjectId) -> Result<Vec<u8>, PackError> {
    write_with_limit(entries, pack_checksum, u64::from(LARGE) - 1)
}

/// `limit` is the largest offset that goes into the table of 32-bit offsets (git's `--index-version=2,<limit>`).
fn write_with_limit(entries: &[IndexEntry], pack_checksum: &ObjectId, limit: u64) -> Result<Vec<u8>, PackError> {
    let mut sorted: Vec<&IndexEntry> = entries.iter().collect();
    sorted.sort_unstable_by_key(|entry| entry.oid);
    let mut out = Vec::with_capacity(MAGIC.len() + FANOUT_LEN + sorted.len() * 28 + 2 * ID_LEN);
    out.extend_from_slice(&MAGIC);
    let mut count = 0;
    for first in 0..=u8::MAX {
        count += sorted.get(count..).unwrap_or_default().partition_point(|entry| entry.oid.first_byte() <= first);
        let count = u32::try_from(count).map_err(|_| too_many(entries))?;
        out.extend_from_slice(&count.to_be_bytes());
    }
    sorted.iter().for_each(|entry| out.extend_from_slice(entry.oid.as_slice()));
    sorted.iter().for_each(|entry| out.extend_from_slice(&entry.crc32.to_be_bytes()));
    let mut large = Vec::new();
    for entry in &sorted {
        let small = u32::try_from(entry.offset).ok().filter(|small| *small < LARGE && entry.offset <= limit);
        let word = match small {
            Some(small) => small,
            None => {
                let at = u32::try_from(large.len() / 8).map_err(|_| too_many(entries))?;
                large.extend_from_slice(&entry.offset.to_be_bytes());
                at | LARGE
            }
        };
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&large);
    out.extend_from_slice(pack_checksum.as_slice());
    let mut checksum = Checksum::default();
    checksum.update(&out);
    out.extend_from_slice(checksum.finish()?.as_slice());
    Ok(out)
}

fn too_many(entries: &[IndexEntry]) -> PackError {
    PackError::Count { announced: u32::MAX, written: entries.len() as u64 }
}

/// The index is damaged: wrong size, order, number or checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pack index is damaged: {0}")]
pub struct IndexError(&'static str);

/// An index, checked once when it was read.
#[derive(Debug, Clone)]
pub struct Index<D> {
    data: D,
    count: usize,
}

impl<D: AsRef<[u8]>> Index<D> {
    /// Checks sizes, fan-out, order and the index's own checksum.
    pub fn parse(data: D) -> Result<Self, IndexError> {
        let bytes = data.as_ref();
        let (body, trailer) = bytes.split_last_chunk::<ID_LEN>().ok_or(IndexError("too short"))?;
        if !body.starts_with(&MAGIC) {
            return Err(IndexError("not version 2"));
        }
        let mut checksum = Checksum::default();
        checksum.update(body);
        if checksum.finish().ok() != Some(ObjectId::Sha1(*trailer)) {
            return Err(IndexError("wrong checksum"));
        }
        let count = word(bytes, MAGIC.len() + FANOUT_LEN - 4).ok_or(IndexError("too short"))? as usize;
        let least = MAGIC.len() + FANOUT_LEN + count * 28 + 2 * ID_LEN;
        let large = bytes.len().checked_sub(least).ok_or(IndexError("too short"))?;
        if large % 8 != 0 || large / 8 > count {
            return Err(IndexError("wrong size"));
        }
        let index = Self { data, count };
        index.check_order()?;
        Ok(index)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The trailer of the pack that this is the index of.
    pub fn pack_checksum(&self) -> ObjectId {
        let bytes = self.data.as_ref();
        bytes.len().checked_sub(2 * ID_LEN).and_then(|at| id(bytes, at)).unwrap_or(ObjectId::null(gix_hash::Kind::Sha1))
    }

    /// Where the object's entry starts, if the pack has it.
    pub fn lookup(&self, oid: &ObjectId) -> Option<IndexEntry> {
        let first = usize::from(oid.first_byte());
        let (mut low, mut high) = (if first == 0 { 0 } else { self.fan(first - 1)? }, self.fan(first)?);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.oid(middle)?;
            match entry.cmp(oid) {
                std::cmp::Ordering::Equal => return self.entry(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All objects in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = IndexEntry> + '_ {
        (0..self.count).filter_map(|at| self.entry(at))
    }

    fn check_order(&self) -> Result<(), IndexError> {
        let mut before = 0;
        for first in 0..256 {
            let count = self.fan(first).ok_or(IndexError("too short"))?;
            if count < before || count > self.count {
                return Err(IndexError("fan-out out of order"));
            }
            let right = |at: usize| self.oid(at).is_some_and(|oid| usize::from(oid.first_byte()) == first);
            if !(before..count).all(right) {
                return Err(IndexError("fan-out disagrees with the ids"));
            }
            before = count;
        }
        if !(1..self.count).all(|at| self.oid(at - 1) < self.oid(at)) {
            return Err(IndexError("ids out of order"));
        }
        if !(0..self.count).all(|at| self.offset(at).is_some()) {
            return Err(IndexError("an offset points nowhere"));
        }
        Ok(())
    }

    fn entry(&self, at: usize) -> Option<IndexEntry> {
        let crc32 = word(self.data.as_ref(), self.crcs() + at * 4)?;
        Some(IndexEntry { oid: self.oid(at)?, offset: self.offset(at)?, crc32 })
    }

    fn fan(&self, first: usize) -> Option<usize> {
        word(self.data.as_ref(), MAGIC.len() + first * 4).map(|count| count as usize)
    }

    fn oid(&self, at: usize) -> Option<ObjectId> {
        id(self.data.as_ref(), MAGIC.len() + FANOUT_LEN + at * ID_LEN)
    }

    fn crcs(&self) -> usize {
        MAGIC.len() + FANOUT_LEN + self.count * ID_LEN
    }

    fn offset(&self, at: usize) -> Option<u64> {
        let bytes = self.data.as_ref();
        let small = word(bytes, self.crcs() + self.count * 4 + at * 4)?;
        if small & LARGE == 0 {
            return Some(u64::from(small));
        }
        let start = self.crcs() + self.count * 8 + (small & !LARGE) as usize * 8;
        let end = start + 8;
        if end + 2 * ID_LEN > bytes.len() {
            return None;
        }
        bytes.get(start..end)?.first_chunk().map(|large| u64::from_be_bytes(*large))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn id(bytes: &[u8], at: usize) -> Option<ObjectId> {
    bytes.get(at..)?.first_chunk().map(|id| ObjectId::Sha1(*id))
}

#[cfg(test)]
#[path = "idx_tests.rs"]
mod tests;
