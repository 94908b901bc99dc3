//! Packs, version 2 (git's gitformat-pack): headers of packs and entries, and a writer of packs of whole objects.

use std::io::Write;

use gix_hash::ObjectId;
use gix_object::Kind;

use crate::idx::IndexEntry;
use crate::zlib::Deflater;

/// Length of a pack's header, bytes.
pub const HEADER_LEN: usize = 12;
/// Length of a pack's trailer (SHA-1 of all before it), bytes.
pub const TRAILER_LEN: usize = 20;
/// No entry's header is longer than this, bytes: ten of size, then ten of distance or twenty of id.
pub const ENTRY_HEADER_MAX: usize = 30;

/// Why bytes are not a pack, or a pack could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Not `PACK`, version 2.
    #[error("not a pack of version 2")]
    Signature,
    /// An entry's header is malformed: unknown type, or a number beyond 64 bits.
    #[error("the header of a pack entry is malformed")]
    EntryHeader,
    /// The number of entries written is not the number announced in the header.
    #[error("{announced} objects were announced, {written} were written")]
    Count {
        /// In the pack's header.
        announced: u32,
        /// In the pack.
        written: u64,
    },
    /// The bytes of the pack were built to collide with another pack's checksum.
    #[error("the pack is part of a SHA-1 collision attack")]
    Collision,
    /// The output failed.
    #[error("could not write the pack")]
    Write(#[from] std::io::Error),
}

/// A pack's header with `count` entries.
pub fn header(count: u32) -> [u8; HEADER_LEN] {
    let mut header = *b"PACK\0\0\0\x02\0\0\0\0";
    header[8..].copy_from_slice(&count.to_be_bytes());
    header
}

/// How many entries a pack's header announces. Nothing may be reserved on its word.
pub fn parse_header(header: &[u8; HEADER_LEN]) -> Result<u32, PackError> {
    match header {
        [b'P', b'A', b'C', b'K', 0, 0, 0, 2, count @ ..] => Ok(u32::from_be_bytes(*count)),
        _ => Err(PackError::Signature),
    }
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A whole object.
    Whole(Kind),
    /// A delta against the entry that starts `distance` bytes before this one.
    OfsDelta {
        /// Bytes from the base's first byte to this entry's first byte; never 0.
        distance: u64,
    },
    /// A delta against an object that may be anywhere.
    RefDelta {
        /// The object that the delta applies to.
        base: ObjectId,
    },
}

/// What stands before an entry's zlib stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHeader {
    /// What the entry holds.
    pub kind: EntryKind,
    /// What the zlib stream inflates to, bytes: the size of the object, or of the delta itself.
    pub size: u64,
}

impl EntryHeader {
    /// Appends the encoded header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let code = match self.kind {
            EntryKind::Whole(Kind::Commit) => 1,
            EntryKind::Whole(Kind::Tree) => 2,
            EntryKind::Whole(Kind::Blob) => 3,
            EntryKind::Whole(Kind::Tag) => 4,
            EntryKind::OfsDelta { .. } => 6,
            EntryKind::RefDelta { .. } => 7,
        };
        let mut byte = (code << 4) | low_bits(self.size, 4);
        let mut rest = self.size >> 4;
        while rest != 0 {
            out.push(byte | 0x80);
            byte = low_bits(rest, 7);
            rest >>= 7;
        }
        out.push(byte);
        match self.kind {
            EntryKind::Whole(_) => {}
            EntryKind::OfsDelta { distance } => encode_distance(distance, out),
            EntryKind::RefDelta { base } => out.extend_from_slice(base.as_slice()),
        }
    }

    /// The header at the start of `data` and its length, or `None` where `data` ends within it.
    ///
    /// Never asks for more than [`ENTRY_HEADER_MAX`] bytes.
    pub fn decode(data: &[u8]) -> Result<Option<(Self, usize)>, PackError> {
        let Some((&first, rest)) = data.split_first() else { return Ok(None) };
        let (mut size, mut shift, mut length, mut more) = (u64::from(first & 0x0f), 4, 1, first & 0x80 != 0);
        let mut bytes = rest.iter();
        while more {
            let Some(&byte) = bytes.next() else { return Ok(None) };
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (bits << shift) >> shift != bits {
                return Err(PackError::EntryHeader);
            }
            size |= bits << shift;
            (shift, length, more) = (shift + 7, length + 1, byte & 0x80 != 0);
        }
        let rest = data.get(length..).unwrap_or_default();
        let (kind, used) = match (first >> 4) & 7 {
            1 => (EntryKind::Whole(Kind::Commit), 0),
            2 => (EntryKind::Whole(Kind::Tree), 0),
            3 => (EntryKind::Whole(Kind::Blob), 0),
            4 => (EntryKind::Whole(Kind::Tag), 0),
            6 => match decode_distance(rest)? {
                Some((distance, used)) => (EntryKind::OfsDelta { distance }, used),
                None => return Ok(None),
            },
            7 => match rest.first_chunk::<20>() {
                Some(base) => (EntryKind::RefDelta { base: ObjectId::Sha1(*base) }, base.len()),
                None => return Ok(None),
            },
            _ => return Err(PackError::EntryHeader),
        };
        Ok(Some((Self { kind, size }, length + used)))
    }
}

/// The lowest `count` (at most 7) bits.
fn low_bits(value: u64, count: u32) -> u8 {
    let mask = (1u64 << count) - 1;
    u8::try_from(value & mask).unwrap_or_default()
}

/// git's offset encoding: big-endian groups of seven bits, each continuation standing for one more.
fn encode_distance(distance: u64, out: &mut Vec<u8>) {
    let mut reversed = vec![low_bits(distance, 7)];
    let mut rest = distance >> 7;
    while rest != 0 {
        rest -= 1;
        reversed.push(0x80 | low_bits(rest, 7));
        rest >>= 7;
    }
    out.extend(reversed.iter().rev());
}

fn decode_distance(data: &[u8]) -> Result<Option<(u64, usize)>, PackError> {
    let mut distance = 0u64;
    for (at, &byte) in data.iter().enumerate() {
        distance |= u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return if distance == 0 { Err(PackError::EntryHeader) } else { Ok(Some((distance, at + 1))) };
        }
        distance = distance.checked_add(1).filter(|sum| *sum <= u64::MAX >> 7).ok_or(PackError::EntryHeader)? << 7;
    }
    Ok(None)
}

/// Where an entry stands in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Of its header's first byte, from the start of the pack.
    pub offset: u64,
    /// Of header and zlib stream, bytes.
    pub length: u64,
}

/// Appends a whole-object entry (header and zlib stream) to `out`.
pub fn encode_entry(kind: Kind, content: &[u8], deflater: &mut Deflater, out: &mut Vec<u8>) {
    EntryHeader { kind: EntryKind::Whole(kind), size: content.len() as u64 }.encode(out);
    deflater.deflate(&[content], out);
}

/// CRC-32 as the index keeps it, over header and zlib stream of an entry.
pub fn crc32(entry: &[&[u8]]) -> u32 {
    let mut crc = flate2::Crc::new();
    entry.iter().for_each(|part| crc.update(part));
    crc.sum()
}

/// The running checksum of a pack, which its trailer ends with.
pub struct Checksum(gix_hash::Hasher);

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checksum")
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self(gix_hash::hasher(gix_hash::Kind::Sha1))
    }
}

impl Checksum {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes.
    pub fn finish(self) -> Result<ObjectId, PackError> {
        self.0.try_finalize().map_err(|_| PackError::Collision)
    }
}

/// What [`PackWriter::finish`] knows of the pack it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The pack's trailer.
    pub checksum: ObjectId,
    /// In the order written; see [`crate::idx::write`].
    pub entries: Vec<IndexEntry>,
    /// Length of the whole pack, bytes.
    pub length: u64,
}

/// Writes a pack, front to back, to a sink that need not seek.
#[derive(Debug)]
pub struct PackWriter<W> {
    out: W,
    announced: u32,
    written: u64,
    deflater: Deflater,
    checksum: Checksum,
    /// `None`: nobody will ask for an index.
    entries: Option<Vec<IndexEntry>>,
    offset: u64,
    buffer: Vec<u8>,
}

impl<W: Write> PackWriter<W> {
    /// Writes the header of a pack of `count` entries. `level` 0 to 9 is how hard [`Self::add`] deflates.
    pub fn new(out: W, count: u32, level: u32) -> Result<Self, PackError> {
        let mut writer = Self {
            out,
            announced: count,
            written: 0,
            deflater: Deflater::new(level),
            checksum: Checksum::default(),
            entries: Some(Vec::new()),
            offset: 0,
            buffer: Vec::new(),
        };
        writer.write(&header(count))?;
        Ok(writer)
    }

    /// Remembers nothing of the entries, so that memory does not grow with the pack: [`Written::entries`] will be empty.
    #[must_use]
    pub fn without_index(mut self) -> Self {
        self.entries = None;
        self
    }

    /// Writes an object. `oid` is not checked.
    pub fn add(&mut self, oid: ObjectId, kind: Kind, content: &[u8]) -> Result<Span, PackError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        encode_entry(kind, content, &mut self.deflater, &mut buffer);
        let span = self.entry(oid, &[&buffer]);
        self.buffer = buffer;
        span
    }

    /// Writes an object whose zlib stream was taken from another pack. Neither `oid` nor the stream is checked.
    pub fn add_compressed(&mut self, oid: ObjectId, kind: Kind, size: u64, zlib: &[u8]) -> Result<Span, PackError> {
        self.add_entry(oid, EntryHeader { kind: EntryKind::Whole(kind), size }, zlib)
    }

    /// Writes any entry, deltas included: a header and the zlib stream that belongs to it.
    pub fn add_entry(&mut self, oid: ObjectId, header: EntryHeader, zlib: &[u8]) -> Result<Span, PackError> {
        let mut encoded = Vec::with_capacity(ENTRY_HEADER_MAX);
        header.encode(&mut encoded);
        self.entry(oid, &[&encoded, zlib])
    }

    /// Writes neighbouring entries of another pack as they stand there. The offsets of `entries` count from the start of `bytes`.
    pub fn add_run(
        &mut self,
        bytes: &[u8],
        entries: impl ExactSizeIterator<Item = IndexEntry>,
    ) -> Result<(), PackError> {
        let start = self.offset;
        self.write(bytes)?;
        self.written += entries.len() as u64;
        if let Some(index) = &mut self.entries {
            index.extend(entries.map(|entry| IndexEntry { offset: start + entry.offset, ..entry }));
        }
        Ok(())
    }

    /// Flushes the sink.
    pub fn flush(&mut self) -> Result<(), PackError> {
        Ok(self.out.flush()?)
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Number of objects written so far.
    pub fn len(&self) -> u64 {
        self.written
    }

    /// Whether no object was written yet.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Writes the trailer and gives the sink back, flushed.
    pub fn finish(mut self) -> Result<(W, Written), PackError> {
        if self.written != u64::from(self.announced) {
            return Err(PackError::Count { announced: self.announced, written: self.written });
        }
        let checksum = std::mem::take(&mut self.checksum).finish()?;
        self.out.write_all(checksum.as_slice())?;
        self.out.flush()?;
        let length = self.offset + checksum.as_slice().len() as u64;
        Ok((self.out, Written { checksum, entries: self.entries.unwrap_or_default(), length }))
    }

    fn entry(&mut self, oid: ObjectId, parts: &[&[u8]]) -> Result<Span, PackError> {
        let offset = self.offset;
        for part in parts {
            self.write(part)?;
        }
        self.written += 1;
        if let Some(index) = &mut self.entries {
            index.push(IndexEntry { oid, offset, crc32: crc32(parts) });
        }
        Ok(Span { offset, length: self.offset - offset })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes)?;
        self.checksum.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(header: EntryHeader) {
        let mut data = Vec::new();
        header.encode(&mut data);
        let length = data.len();
        assert!(length <= ENTRY_HEADER_MAX);
        for end in 0..length {
            assert!(matches!(EntryHeader::decode(&data[..end]), Ok(None)), "{header:?} cut at {end}");
        }
        data.extend_from_slice(&[0xff; 40]);
        assert_eq!(EntryHeader::decode(&data).unwrap(), Some((header, length)));
    }

    #[test]
    fn entry_headers_are_gits() {
        // From git's own pack-objects: a blob of 6 bytes, a tree of 100; 0x80 0x00 is a distance of 128.
        for (kind, size, bytes) in [
            (EntryKind::Whole(Kind::Blob), 6, &[0x36][..]),
            (EntryKind::Whole(Kind::Tree), 100, &[0xa4, 0x06]),
            (EntryKind::OfsDelta { distance: 127 }, 15, &[0x6f, 0x7f]),
            (EntryKind::OfsDelta { distance: 128 }, 16, &[0xe0, 0x01, 0x80, 0x00]),
            (EntryKind::OfsDelta { distance: 16_512 }, 0, &[0x60, 0x80, 0x80, 0x00]),
        ] {
            let mut out = Vec::new();
            EntryHeader { kind, size }.encode(&mut out);
            assert_eq!(out, bytes, "{kind:?} {size}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_and_unknown_types_are_refused() {
        for bad in [
            &[0x00u8][..],                                                            // type 0
            &[0x50],                                                                  // type 5
            &[0xb0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],            // size of 67 bits
            &[0xb0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x1], // size, endless
            &[0x60, 0x00],                                                            // distance 0
            &[0x60, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert!(matches!(EntryHeader::decode(bad), Err(PackError::EntryHeader)), "{bad:x?}");
        }
    }

    #[test]
    fn the_announced_count_must_be_met() {
        let writer = PackWriter::new(Vec::new(), 2, 1).unwrap();
        assert!(matches!(writer.finish(), Err(PackError::Count { announced: 2, written: 0 })));
        assert_eq!(parse_header(&header(7)).ok(), Some(7));
        assert!(parse_header(b"PACK\0\0\0\x03\0\0\0\0").is_err());
    }

    proptest! {
        #[test]
        fn entry_headers_round_trip(code in 0u8..6, size: u64, size_bits in 0u32..64, distance in 1..=u64::MAX, bits in 0u32..64, base: [u8; 20]) {
            let kind = match code {
                0 => EntryKind::Whole(Kind::Commit),
                1 => EntryKind::Whole(Kind::Tree),
                2 => EntryKind::Whole(Kind::Blob),
                3 => EntryKind::Whole(Kind::Tag),
                4 => EntryKind::OfsDelta { distance: (distance >> bits).max(1) },
                _ => EntryKind::RefDelta { base: ObjectId::Sha1(base) },
            };
            round_trip(EntryHeader { kind, size: size >> size_bits });
        }

        #[test]
        fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(None) = EntryHeader::decode(&data) {
                prop_assert!(data.len() < ENTRY_HEADER_MAX);
            }
        }
    }
}
