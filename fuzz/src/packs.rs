//! How objects are stored: streams, deltas, indexes, whole packs.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use treehold_object::pack::{Checksum, ENTRY_HEADER_MAX, EntryHeader, EntryKind, HEADER_LEN, header};
use treehold_object::zlib::{Deflater, Inflater};
use treehold_object::{Kind, ObjectId, delta as deltas, hash, idx, loose as loose_objects, second_opinion};
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest};

use crate::Input;

/// What an object may have here, bytes.
const OBJECT_BYTES_MAX: u64 = 1 << 16;
const LIMITS: IngestLimits = IngestLimits {
    pack_bytes: 1 << 20,
    objects: 200,
    object_bytes: OBJECT_BYTES_MAX,
    inflated_bytes: 1 << 20,
    inflated_ratio: 1_000,
    padding_bytes: 4_096,
    delta_depth: 20,
    external: 100,
};

/// An entry's header, which reads back from its encoding.
pub fn entry_header(data: &[u8]) {
    let Ok(Some((header, len))) = EntryHeader::decode(data) else { return };
    assert!(len <= data.len() && len <= ENTRY_HEADER_MAX);
    let mut written = Vec::new();
    header.encode(&mut written);
    assert!(written.len() <= len);
    assert_eq!(EntryHeader::decode(&written).unwrap(), Some((header, written.len())));
    for cut in 0..written.len() {
        assert_eq!(EntryHeader::decode(&written[..cut]).unwrap(), None);
    }
}

/// A delta, applied to its base; and a delta of our own between the two.
pub fn delta(data: &[u8]) {
    let mut input = Input(data);
    let base = input.block();
    let delta = input.0;
    let made = deltas::apply(base, delta, OBJECT_BYTES_MAX);
    if let Ok(made) = &made {
        assert!(made.len() as u64 <= OBJECT_BYTES_MAX);
        let (base_len, target_len, _) = deltas::sizes(delta).unwrap();
        assert_eq!((base_len, target_len), (base.len() as u64, made.len() as u64));
    }
    let target = made.as_deref().unwrap_or(delta);
    if let Some(own) = deltas::create(base, target) {
        assert_eq!(deltas::apply(base, &own, target.len() as u64).as_deref(), Ok(target));
    }
}

/// A zlib stream that announces its size.
pub fn zlib(data: &[u8]) {
    let mut input = Input(data);
    let size = input.short() as u64;
    let mut inflater = Inflater::default();
    let first = inflater.inflate(input.0, size);
    if let Ok((content, len)) = &first {
        assert!(content.len() as u64 == size && *len <= input.0.len());
        // The stream alone says the same, and nothing is left over from the last one.
        assert_eq!(inflater.inflate(&input.0[..*len], size).as_ref(), Ok(&(content.clone(), *len)));
        assert!(inflater.inflate(input.0, size + 1).is_err());
    }
    let mut packed = Vec::new();
    Deflater::new(1).deflate(&[input.0], &mut packed);
    let (content, len) = inflater.inflate(&packed, input.0.len() as u64).unwrap();
    assert!(content == input.0 && len == packed.len());
}

/// A loose object.
pub fn loose(data: &[u8]) {
    let mut inflater = Inflater::default();
    if let Ok((kind, content)) = loose_objects::decode(data, OBJECT_BYTES_MAX, &mut inflater) {
        assert!(content.len() as u64 <= OBJECT_BYTES_MAX);
        let again = loose_objects::encode(kind, &content, &mut Deflater::new(6));
        let read = loose_objects::decode(&again, content.len() as u64, &mut inflater).unwrap();
        assert_eq!(read, (kind, content));
    }
    let header_only = data.get(..64.min(data.len())).unwrap_or_default();
    let stored = {
        let mut out = Vec::new();
        Deflater::new(0).deflate(&[header_only], &mut out);
        out
    };
    // The header as text, so that it can be made up.
    if let Ok((kind, content)) = loose_objects::decode(&stored, 64, &mut inflater) {
        assert_eq!(header_only, [format!("{kind} {}\0", content.len()).as_bytes(), &content].concat());
    }
}

/// A pack's index, without its checksum, which is made right.
pub fn index(data: &[u8]) {
    let index = match idx::Index::parse(sealed(data.to_vec())) {
        Ok(index) => index,
        Err(_) => return drop(idx::Index::parse(data)),
    };
    let entries: Vec<_> = index.iter().collect();
    assert!(entries.len() == index.len() && entries.is_sorted_by(|a, b| a.oid < b.oid));
    for entry in &entries {
        assert_eq!(index.lookup(&entry.oid), Some(*entry));
        let mut other = entry.oid;
        if let ObjectId::Sha1(bytes) = &mut other {
            bytes[19] ^= 1;
        }
        let there = entries.binary_search_by(|entry| entry.oid.cmp(&other)).is_ok();
        assert_eq!(index.lookup(&other).is_some(), there);
    }
    let written = idx::write(&entries, &index.pack_checksum()).unwrap();
    let again = idx::Index::parse(written).unwrap();
    assert!(again.iter().eq(entries) && again.pack_checksum() == index.pack_checksum());
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut checksum = Checksum::default();
    checksum.update(&bytes);
    bytes.extend_from_slice(checksum.finish().unwrap().as_slice());
    bytes
}

/// A file that is used again by each input of this thread.
fn spool(bytes: &[u8]) -> File {
    thread_local!(static SPOOL: File = tempfile::tempfile().unwrap());
    SPOOL.with(|spool| {
        let mut file = spool.try_clone().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        file
    })
}

fn taken(pack: &[u8], cache_bytes: usize) -> Result<Quarantine, IngestError> {
    ingest(spool(pack), &IngestOptions { limits: LIMITS, cache_bytes, ..IngestOptions::default() })
}

/// Every object of a pack that was taken in is what its id says, however it is read.
fn check_pack(pack: &[u8]) {
    let Ok(quarantine) = taken(pack, 1 << 20) else { return };
    assert_eq!(quarantine.pack_len(), pack.len() as u64);
    let mut objects = Vec::new();
    quarantine
        .visit(|object, content| {
            assert!(content.len() as u64 == object.size && object.size <= OBJECT_BYTES_MAX);
            assert_eq!(hash(object.kind, content).unwrap(), object.oid);
            objects.push((object.oid, object.kind));
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
    assert_eq!(objects.len(), quarantine.len());
    for (oid, kind) in &objects {
        let (read_kind, content) = quarantine.read(oid).unwrap().unwrap();
        assert_eq!((read_kind, second_opinion(*kind, &content)), (*kind, *oid));
        assert!(quarantine.bases(oid).unwrap().len() <= 20);
    }
    let index = idx::write(&quarantine.index_entries(), &quarantine.checksum()).unwrap();
    assert_eq!(idx::Index::parse(index).unwrap().len(), objects.len());
    assert!(quarantine.external().iter().all(|(oid, _)| !quarantine.contains(oid)));
    // With no room for bases the same comes out, or the work is refused.
    if let Ok(frugal) = taken(pack, 1) {
        assert!(frugal.iter().eq(quarantine.iter()) && frugal.external() == quarantine.external());
    }
}

/// A pack without its trailer, which is made right.
pub fn pack(data: &[u8]) {
    check_pack(&sealed(data.to_vec()));
}

/// A pack made of a list of entries, so that zlib and the trailer are right and the rest need not be.
///
/// Each entry is a byte (kind, whether its size is a lie), for deltas a byte that names their base, and a block. Deltas
/// that start with a zero byte get a head with the right sizes instead.
pub fn forged_pack(data: &[u8]) {
    let mut input = Input(data);
    let (mut bytes, mut deflater) = (header(0).to_vec(), Deflater::new(0));
    let mut entries: Vec<Forged> = Vec::new();
    while !input.0.is_empty() && entries.len() < 40 {
        let (control, offset) = (input.byte(), bytes.len());
        let base = if control & 7 > 3 { usize::from(input.byte()) } else { usize::MAX };
        let (block, base) = (input.block(), entries.get(base));
        let distance = (offset - base.map_or(HEADER_LEN, |base| base.offset)).max(1) as u64;
        let whole = |kind| (EntryKind::Whole(kind), kind);
        let base_kind = base.map_or(Kind::Blob, |base| base.kind);
        let (entry, kind) = match control & 7 {
            0 => whole(Kind::Blob),
            1 => whole(Kind::Tree),
            2 => whole(Kind::Commit),
            3 => whole(Kind::Tag),
            4 | 5 => (EntryKind::OfsDelta { distance }, base_kind),
            // One in the pack, or one that is not or only later.
            _ => (EntryKind::RefDelta { base: base.map_or(ObjectId::Sha1([0x11; 20]), Forged::oid) }, base_kind),
        };
        let base = base.map_or(&[][..], |base| &base.content);
        let is_delta = control & 7 > 3;
        let body = match block.strip_prefix(&[0]) {
            Some(instructions) if is_delta => with_head(base.len(), instructions),
            _ => block.to_vec(),
        };
        let lie = if control & 0x80 == 0 { 0 } else { usize::from(control >> 3 & 15) };
        EntryHeader { kind: entry, size: (body.len() ^ lie) as u64 }.encode(&mut bytes);
        deflater.deflate(&[&body], &mut bytes);
        let made = if is_delta { deltas::apply(base, &body, OBJECT_BYTES_MAX).unwrap_or_default() } else { body };
        entries.push(Forged { offset, kind, content: made });
    }
    bytes[8..HEADER_LEN].copy_from_slice(&(entries.len() as u32).to_be_bytes());
    check_pack(&sealed(bytes));
}

struct Forged {
    offset: usize,
    kind: Kind,
    content: Vec<u8>,
}

impl Forged {
    fn oid(&self) -> ObjectId {
        second_opinion(self.kind, &self.content)
    }
}

/// A delta whose head is right for its instructions.
fn with_head(base_len: usize, instructions: &[u8]) -> Vec<u8> {
    let (mut target_len, mut input) = (0, Input(instructions));
    while !input.0.is_empty() {
        let code = input.byte();
        if code & 0x80 == 0 {
            target_len += input.bytes(usize::from(code)).len();
            continue;
        }
        let mut parts = [0; 7];
        (0..7).filter(|bit| code & 1 << bit != 0).for_each(|bit| parts[bit] = input.byte());
        let len = usize::from(parts[4]) | usize::from(parts[5]) << 8 | usize::from(parts[6]) << 16;
        target_len += if len == 0 { 0x1_0000 } else { len };
    }
    let mut delta = Vec::new();
    for mut size in [base_len, target_len] {
        while size >= 0x80 {
            delta.push(size as u8 | 0x80);
            size >>= 7;
        }
        delta.push(size as u8);
    }
    delta.extend_from_slice(instructions);
    delta
}
