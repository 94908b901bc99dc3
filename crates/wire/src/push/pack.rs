//! The pack of a push: exactly the given objects, as deltas where that is smaller.

use std::collections::HashMap;
use std::io::{self, Write};

use treehold_object::pack::{EntryHeader, EntryKind, PackError, PackWriter};
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, ObjectId, second_opinion};

use treehold_object::delta;

/// Deltas between an object of a pushed pack and a whole one (git's `pack.depth`).
const DEPTH_MAX: u32 = 50;
/// Objects above this are not searched for similarities (git's `core.bigFileThreshold` is 512 MiB).
const DELTA_BYTES_MAX: usize = 64 << 20;

/// Why a pack was not finished. What was written of it must not be sent.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// An object's content does not hash to its id: a bug or damaged memory, caught before anybody saw it.
    #[error("{kind} {oid} does not hash to its id but to {actual}")]
    Mismatch {
        /// The id given.
        oid: ObjectId,
        /// The kind given.
        kind: Kind,
        /// The id that the content has.
        actual: ObjectId,
    },
    /// The same object was added twice.
    #[error("object {0} was added twice")]
    Duplicate(ObjectId),
    /// A delta of ours does not make its object: a bug, caught before anybody saw it.
    #[error("the delta for {0} does not make it")]
    Delta(ObjectId),
    /// The pack could not be written, or not the announced number of objects was added.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// How a pushed pack is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// zlib's level, 0 to 9.
    pub level: u32,
    /// Deltas may refer to an entry of the same pack by its distance.
    pub ofs_delta: bool,
    /// Deltas may refer to objects that only the receiver has. Leave out to make the pack whole by itself.
    pub thin: bool,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { level: 6, ofs_delta: true, thin: true }
    }
}

/// An object to push.
#[derive(Debug, Clone, Copy)]
pub struct PushObject<'a> {
    /// Its id, checked before it is written.
    pub oid: ObjectId,
    /// Its kind.
    pub kind: Kind,
    /// Its content.
    pub content: &'a [u8],
    /// Id and content of an object of the same kind to take it as an edit of: added before, or known to the receiver.
    pub base: Option<(ObjectId, &'a [u8])>,
}

/// What a finished pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSummary {
    /// Objects in it.
    pub objects: u32,
    /// How many of them are deltas.
    pub deltas: u32,
    /// How many of these need an object that only the receiver has.
    pub thin: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its trailer.
    pub checksum: ObjectId,
}

/// Writes the pack of a push, front to back.
#[derive(Debug)]
pub struct PushPack<W> {
    out: PackWriter<W>,
    options: PackOptions,
    deflater: Deflater,
    count: u32,
    /// Offset and depth of what was written.
    written: HashMap<ObjectId, (u64, u32)>,
    deltas: u32,
    thin: u32,
}

/// An entry as it will stand in the pack.
struct Encoded {
    kind: EntryKind,
    size: u64,
    zlib: Vec<u8>,
    depth: u32,
}

impl<W: Write> PushPack<W> {
    /// Writes the header of a pack of `count` objects.
    pub fn new(out: W, count: u32, options: PackOptions) -> Result<Self, PushError> {
        let out = PackWriter::new(out, count, options.level)?;
        let deflater = Deflater::new(options.level);
        Ok(Self { out, options, deflater, count, written: HashMap::new(), deltas: 0, thin: 0 })
    }

    /// Checks and writes one object. Bases in the same pack must have been added before.
    pub fn add(&mut self, object: &PushObject<'_>) -> Result<(), PushError> {
        check(object.oid, object.kind, object.content)?;
        if self.written.contains_key(&object.oid) {
            return Err(PushError::Duplicate(object.oid));
        }
        let entry = match self.delta(object)? {
            Some(delta) => delta,
            None => self.whole(object),
        };
        self.deltas += u32::from(entry.depth > 0);
        let header = EntryHeader { kind: entry.kind, size: entry.size };
        let span = self.out.add_entry(object.oid, header, &entry.zlib)?;
        self.written.insert(object.oid, (span.offset, entry.depth));
        Ok(())
    }

    /// Writes the trailer and gives the output back, flushed.
    pub fn finish(self) -> Result<(W, PackSummary), PushError> {
        let (out, written) = self.out.finish()?;
        let (objects, deltas, thin) = (self.count, self.deltas, self.thin);
        Ok((out, PackSummary { objects, deltas, thin, bytes: written.length, checksum: written.checksum }))
    }

    fn whole(&mut self, object: &PushObject<'_>) -> Encoded {
        let mut zlib = Vec::new();
        self.deflater.deflate(&[object.content], &mut zlib);
        Encoded { kind: EntryKind::Whole(object.kind), size: object.content.len() as u64, zlib, depth: 0 }
    }

    /// The object as a delta, if that is allowed and smaller than the whole object.
    fn delta(&mut self, object: &PushObject<'_>) -> Result<Option<Encoded>, PushError> {
        let Some((base, base_content)) = object.base else { return Ok(None) };
        let inside = self.written.get(&base).copied();
        let depth = inside.map_or(1, |(_, depth)| depth + 1);
        let large = object.content.len().max(base_content.len()) > DELTA_BYTES_MAX;
        if large || base == object.oid || depth > DEPTH_MAX || (inside.is_none() && !self.options.thin) {
            return Ok(None);
        }
        let Some(delta) = delta::create(base_content, object.content) else { return Ok(None) };
        // The receiver resolves against the object with this id, whatever we were given.
        check(base, object.kind, base_content)?;
        if delta::apply(base_content, &delta, object.content.len() as u64).as_deref() != Ok(object.content) {
            return Err(PushError::Delta(object.oid));
        }
        let mut zlib = Vec::new();
        self.deflater.deflate(&[&delta], &mut zlib);
        // Only where it is a close call is the whole object deflated to compare.
        if zlib.len() > object.content.len() / 32 && self.whole(object).zlib.len() <= zlib.len() {
            return Ok(None);
        }
        let kind = match inside {
            Some((offset, _)) if self.options.ofs_delta => EntryKind::OfsDelta { distance: self.out.bytes() - offset },
            _ => EntryKind::RefDelta { base },
        };
        self.thin += u32::from(inside.is_none());
        Ok(Some(Encoded { kind, size: delta.len() as u64, zlib, depth }))
    }
}

fn check(oid: ObjectId, kind: Kind, content: &[u8]) -> Result<(), PushError> {
    let actual = second_opinion(kind, content);
    if actual == oid { Ok(()) } else { Err(PushError::Mismatch { oid, kind, actual }) }
}

/// The pack without objects, which must follow the commands even where the receiver has everything already.
pub fn empty_pack() -> Result<Vec<u8>, PushError> {
    let (bytes, _) = PushPack::new(io::Cursor::new(Vec::new()), 0, PackOptions::default())?.finish()?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(content: &[u8]) -> PushObject<'_> {
        PushObject { oid: second_opinion(Kind::Blob, content), kind: Kind::Blob, content, base: None }
    }

    #[test]
    fn nothing_that_does_not_hash_to_its_id_is_written() {
        let mut pack = PushPack::new(Vec::new(), 1, PackOptions::default()).unwrap();
        let wrong = PushObject { content: b"other", ..object(b"content") };
        assert!(matches!(pack.add(&wrong), Err(PushError::Mismatch { .. })));
        let tree = PushObject { kind: Kind::Tree, ..object(b"content") };
        assert!(matches!(pack.add(&tree), Err(PushError::Mismatch { .. })));
        let text = b"some text that is long enough to be found again\n".repeat(4);
        let edit = [&text[..], b"x"].concat();
        let false_base = PushObject { base: Some((object(b"false").oid, &text)), ..object(&edit) };
        assert!(matches!(pack.add(&false_base), Err(PushError::Mismatch { .. })));
        assert!(matches!(pack.finish(), Err(PushError::Pack(PackError::Count { announced: 1, written: 0 }))));
    }

    #[test]
    fn an_object_is_added_once() {
        let mut pack = PushPack::new(Vec::new(), 2, PackOptions::default()).unwrap();
        pack.add(&object(b"a")).unwrap();
        assert!(matches!(pack.add(&object(b"a")), Err(PushError::Duplicate(_))));
    }

    #[test]
    fn the_empty_pack_is_gits() {
        // `git pack-objects --stdout </dev/null`
        let bytes = empty_pack().unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(ObjectId::from_bytes_or_panic(&bytes[12..]).to_string(), "029d08823bd8a8eab510ad6ac75c823cfd3ed31e");
    }
}
