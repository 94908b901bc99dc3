//! What a segment file of the disk tier holds.
//!
//! ```text
//! segment  = MAGIC record* [footer]                             all parts are padded with zeros to 16 bytes
//! record   = mark(4) oid(20) kind(1) 0(3) size(4) content       integers are little-endian
//! footer   = entry* "footer\0\0" count(4) 0(4) start(8) sha1(20) 0(4)
//! entry    = fingerprint(8) offset(4) length(4)                 offset and length in units of 16 bytes
//! ```
//! The footer is written when a segment is full, so that a restart reads 16 bytes for each object. A segment without one is walked
//! record by record. Nothing here is believed: content is served only if it hashes to the id that was asked for, so that a footer or
//! header that lies costs a miss. The checksum of the footer keeps most of such misses away.

use treehold_object::pack::Checksum;
use treehold_object::{Kind, ObjectId};

/// First bytes of a segment. Another format gets another one.
pub(super) const MAGIC: [u8; UNIT] = *b"treehold cache 1";
/// Everything starts at a multiple of it, bytes.
pub(super) const UNIT: usize = 16;
/// Length of a record's header, bytes.
pub(super) const HEADER: usize = 32;
/// Length of what ends a footer, bytes.
pub(super) const TRAILER: usize = 48;
const MARK: [u8; 4] = *b"THo1";
const TRAILER_MARK: [u8; 8] = *b"footer\0\0";
const ENTRY: usize = 16;

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub oid: ObjectId,
    pub kind: Kind,
    /// Size of the content, bytes.
    pub size: u32,
}

/// Where a record is in its segment, in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub offset: u32,
    pub length: u32,
}

/// One entry of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub fingerprint: u64,
    pub extent: Extent,
}

/// What the index knows an object by. Two objects may share one: what is read is compared by id.
pub(super) fn fingerprint(oid: &ObjectId) -> u64 {
    oid.as_slice().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Length of the record of `size` bytes of content, in units.
pub(super) fn record_units(size: u64) -> u64 {
    (HEADER as u64).saturating_add(size).div_ceil(UNIT as u64)
}

/// Appends a record.
pub(super) fn write_record(header: Header, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MARK);
    out.extend_from_slice(header.oid.as_slice());
    out.extend_from_slice(&[number(header.kind), 0, 0, 0]);
    out.extend_from_slice(&header.size.to_le_bytes());
    out.extend_from_slice(content);
    pad(out);
}

/// The header at the start of `bytes`; `None`: there is none.
pub(super) fn read_header(bytes: &[u8]) -> Option<Header> {
    let (mark, rest) = bytes.split_first_chunk()?;
    let (oid, rest) = rest.split_first_chunk::<20>()?;
    let ([kind, 0, 0, 0], rest) = rest.split_first_chunk()? else { return None };
    let size = u32::from_le_bytes(*rest.first_chunk()?);
    (*mark == MARK).then_some(Header { oid: ObjectId::Sha1(*oid), kind: kind_of(*kind)?, size })
}

/// The footer of a segment whose records end at `start` bytes.
pub(super) fn footer(entries: &[Entry], start: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY + TRAILER);
    for entry in entries {
        out.extend_from_slice(&entry.fingerprint.to_le_bytes());
        out.extend_from_slice(&entry.extent.offset.to_le_bytes());
        out.extend_from_slice(&entry.extent.length.to_le_bytes());
    }
    out.extend_from_slice(&TRAILER_MARK);
    out.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&start.to_le_bytes());
    let sum = checksum(&out).unwrap_or_default();
    out.extend_from_slice(&sum);
    pad(&mut out);
    out
}

/// Length of a footer of so many entries, bytes.
pub(super) fn footer_bytes(entries: usize) -> u64 {
    (entries * ENTRY + TRAILER) as u64
}

/// How many bytes before the end of a file of `length` bytes its footer begins, by its last [`TRAILER`] bytes. `None`: no footer.
pub(super) fn footer_length(trailer: &[u8], length: u64) -> Option<u64> {
    let (mark, rest) = trailer.split_first_chunk()?;
    let count = u32::from_le_bytes(*rest.first_chunk()?);
    let start = u64::from_le_bytes(*rest.get(8..)?.first_chunk()?);
    let footer = u64::from(count) * ENTRY as u64 + TRAILER as u64;
    (*mark == TRAILER_MARK && start.checked_add(footer) == Some(length)).then_some(footer)
}

/// The entries of a footer; `None`: its checksum is wrong.
pub(super) fn read_footer(footer: &[u8]) -> Option<Vec<Entry>> {
    let entries = footer.len().checked_sub(TRAILER)?;
    let (summed, sum) = footer.split_at_checked(entries + 24)?;
    if checksum(summed)? != *sum.first_chunk::<20>()? {
        return None;
    }
    let (entries, _) = summed.get(..entries)?.as_chunks::<ENTRY>();
    let entry = |bytes: &[u8; ENTRY]| {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word));
        let fingerprint = u64::from_le_bytes(*bytes.first_chunk()?);
        Some(Entry { fingerprint, extent: Extent { offset: word(8)?, length: word(12)? } })
    };
    entries.iter().map(entry).collect()
}

fn checksum(bytes: &[u8]) -> Option<[u8; 20]> {
    let mut sum = Checksum::default();
    sum.update(bytes);
    sum.finish().ok()?.as_slice().try_into().ok()
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(UNIT), 0);
}

/// Git's own numbers of the kinds, as packs have them.
fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

fn kind_of(number: u8) -> Option<Kind> {
    [Kind::Commit, Kind::Tree, Kind::Blob, Kind::Tag].into_iter().find(|kind| self::number(*kind) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_footers_say_what_was_written() {
        let oid = treehold_object::hash(Kind::Tree, b"hello").unwrap();
        let header = Header { oid, kind: Kind::Tree, size: 5 };
        let mut out = Vec::new();
        write_record(header, b"hello", &mut out);
        assert_eq!((out.len(), record_units(5)), (48, 3));
        assert_eq!(read_header(&out), Some(header));
        assert_eq!(&out[HEADER..HEADER + 5], b"hello");
        for at in [0, 3, 24, 25, 27] {
            let mut wrong = out.clone();
            wrong[at] ^= 0x40;
            assert_eq!(read_header(&wrong), None, "byte {at}");
        }
        assert_eq!(read_header(&out[..HEADER - 1]), None);

        let entry = |n: u32| Entry { fingerprint: u64::from(n) << 40, extent: Extent { offset: n, length: n + 1 } };
        let entries: Vec<Entry> = (0..7).map(entry).collect();
        let footer = footer(&entries, 4096);
        assert_eq!(footer.len() % UNIT, 0);
        let trailer = &footer[footer.len() - TRAILER..];
        assert_eq!(footer_length(trailer, 4096 + footer.len() as u64), Some(footer.len() as u64));
        assert_eq!(footer_length(trailer, 4097 + footer.len() as u64), None, "the file was cut or grew");
        assert_eq!(read_footer(&footer), Some(entries));
        for at in 0..footer.len() - 4 {
            let mut wrong = footer.clone();
            wrong[at] ^= 1;
            assert_eq!(read_footer(&wrong), None, "byte {at}");
        }
    }
}
