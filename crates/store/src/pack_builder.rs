//! Packs of whole objects on their way to the bucket.

use std::collections::HashMap;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use bytes::Bytes;
use tempfile::{NamedTempFile, TempPath};
use treehold_object::idx::{self, IndexEntry};
use treehold_object::pack::{self, Checksum, EntryHeader, EntryKind, PackError};
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, ObjectId};

use crate::bucket::Payload;
use crate::error::StoreError;

/// A pack up to this size never touches the disk, bytes.
const MEMORY_MAX: usize = 1 << 20;
/// A pack of more objects is full, however small they are: what is kept of each one in memory adds up.
const OBJECTS_MAX: usize = 250_000;

/// An object in a finished pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// The object.
    pub oid: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Size of its content, bytes.
    pub size: u64,
    /// SHA-256 of type, size and content ([`treehold_object::hash::sha256`]).
    pub sha256: [u8; 32],
    /// Where its entry starts in the pack, bytes.
    pub offset: u64,
    /// Length of its entry, bytes.
    pub length: u64,
    /// Where the entry starts that it is a delta against, in the same pack, bytes; `None` for a whole object.
    pub base: Option<u64>,
}

#[derive(Debug)]
enum Spool {
    Memory(Vec<u8>),
    File(BufWriter<NamedTempFile>),
}

/// A pack under way: in memory while it is small, then in a file of the spool directory, which goes with it.
///
/// Methods block on compression and on the disk: call them from `spawn_blocking` where there is much to add.
#[derive(Debug)]
pub struct PackBuilder {
    spool: Spool,
    spool_dir: PathBuf,
    deflater: Deflater,
    entries: Vec<PackEntry>,
    crcs: Vec<u32>,
    /// Where the entries of objects start.
    known: HashMap<ObjectId, u64>,
    offset: u64,
    full_at: u64,
    buffer: Vec<u8>,
}

/// A whole pack and its index, not yet in the bucket. Dropping it removes its file.
#[derive(Debug)]
pub struct FinishedPack {
    /// The pack's trailer.
    pub checksum: ObjectId,
    /// Its objects, in the order they were added.
    pub entries: Vec<PackEntry>,
    /// The bytes of its index.
    pub idx: Bytes,
    /// Its size, bytes.
    pub size: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Memory(Bytes),
    File(TempPath),
}

impl FinishedPack {
    /// A pack that was received and verified, to be stored as it is. `size` is the length of the file at `path`.
    pub fn received(checksum: ObjectId, entries: Vec<PackEntry>, idx: Bytes, size: u64, path: TempPath) -> Self {
        Self { checksum, entries, idx, size, body: Body::File(path) }
    }

    /// The bytes of the pack; a file stays as long as `self`.
    pub fn payload(&self) -> Payload {
        match &self.body {
            Body::Memory(bytes) => Payload::Bytes(bytes.clone()),
            Body::File(path) => Payload::File(path.to_path_buf()),
        }
    }
}

fn spool_failure(err: impl Into<crate::error::BoxError>) -> StoreError {
    StoreError::Unavailable { action: "write a pack", store: "spool", source: err.into() }
}

impl PackBuilder {
    /// `level` 0 to 9; the pack counts as full from `full_at` bytes on.
    pub(crate) fn new(spool_dir: PathBuf, level: u32, full_at: u64) -> Self {
        // The number of objects is only known at the end.
        let header = pack::header(0).to_vec();
        Self {
            offset: header.len() as u64,
            spool: Spool::Memory(header),
            spool_dir,
            deflater: Deflater::new(level),
            entries: Vec::new(),
            crcs: Vec::new(),
            known: HashMap::new(),
            full_at,
            buffer: Vec::new(),
        }
    }

    /// Adds an object whose id the caller has computed; `false`: the pack has it already.
    ///
    /// `Unavailable`: the spool directory failed, such as by being full; the builder is then good for nothing more.
    pub fn add(&mut self, oid: ObjectId, kind: Kind, content: &[u8]) -> Result<bool, StoreError> {
        debug_assert_eq!(treehold_object::hash(kind, content), Ok(oid), "an object under a wrong name");
        if self.known.contains_key(&oid) {
            return Ok(false);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        pack::encode_entry(kind, content, &mut self.deflater, &mut buffer);
        let sha256 = treehold_object::hash::sha256(kind, content);
        let entry = PackEntry { oid, kind, size: content.len() as u64, sha256, offset: 0, length: 0, base: None };
        let added = self.append(entry, &[&buffer]);
        // One huge object does not keep its memory for the rest of the pack.
        buffer.shrink_to(MEMORY_MAX);
        self.buffer = buffer;
        added
    }

    /// Adds an object with a zlib stream that was verified before ([`crate::StoredEntry`]); `false`: the pack has it.
    pub fn add_compressed(
        &mut self,
        oid: ObjectId,
        kind: Kind,
        size: u64,
        sha256: [u8; 32],
        zlib: &[u8],
    ) -> Result<bool, StoreError> {
        if self.known.contains_key(&oid) {
            return Ok(false);
        }
        let mut header = Vec::with_capacity(pack::ENTRY_HEADER_MAX);
        EntryHeader { kind: EntryKind::Whole(kind), size }.encode(&mut header);
        self.append(PackEntry { oid, kind, size, sha256, offset: 0, length: 0, base: None }, &[&header, zlib])
    }

    /// Adds an object as a delta against `base`, which the pack has and which is of the same type; `false`: the pack has the
    /// object already, or lacks the base. `size` and `sha256` are those of the object. The caller has applied the delta.
    pub fn add_delta(
        &mut self,
        oid: ObjectId,
        kind: Kind,
        size: u64,
        sha256: [u8; 32],
        base: &ObjectId,
        delta: &[u8],
    ) -> Result<bool, StoreError> {
        let Some(base) = self.known.get(base).copied().filter(|_| !self.known.contains_key(&oid)) else {
            return Ok(false);
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let header =
            EntryHeader { kind: EntryKind::OfsDelta { distance: self.offset - base }, size: delta.len() as u64 };
        header.encode(&mut buffer);
        self.deflater.deflate(&[delta], &mut buffer);
        let entry = PackEntry { oid, kind, size, sha256, offset: 0, length: 0, base: Some(base) };
        let added = self.append(entry, &[&buffer]);
        buffer.shrink_to(MEMORY_MAX);
        self.buffer = buffer;
        added
    }

    /// Size of the pack so far, bytes.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Number of objects so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the pack has the object already.
    pub fn contains(&self, oid: &ObjectId) -> bool {
        self.known.contains_key(oid)
    }

    /// Whether it is time to finish: the pack has its size ([`crate::StoreOptions::pack_bytes`]) or very many objects.
    pub fn is_full(&self) -> bool {
        self.offset >= self.full_at || self.entries.len() >= OBJECTS_MAX
    }

    /// Completes header and trailer and makes the index.
    pub fn finish(mut self) -> Result<FinishedPack, StoreError> {
        let count = u32::try_from(self.entries.len()).map_err(spool_failure)?;
        let (body, checksum) = self.seal(count).map_err(spool_failure)?;
        let crcs = self.crcs.iter();
        let index: Vec<IndexEntry> = (self.entries.iter().zip(crcs))
            .map(|(entry, crc32)| IndexEntry { oid: entry.oid, offset: entry.offset, crc32: *crc32 })
            .collect();
        let idx = idx::write(&index, &checksum).map_err(spool_failure)?.into();
        let size = self.offset + pack::TRAILER_LEN as u64;
        Ok(FinishedPack { checksum, entries: self.entries, idx, size, body })
    }

    /// The trailer covers the header, so that everything is hashed once more at the end, from the page cache.
    fn seal(&mut self, count: u32) -> Result<(Body, ObjectId), PackError> {
        let header = pack::header(count);
        let mut checksum = Checksum::default();
        match std::mem::replace(&mut self.spool, Spool::Memory(Vec::new())) {
            Spool::Memory(mut bytes) => {
                bytes.splice(..header.len(), header);
                checksum.update(&bytes);
                let checksum = checksum.finish()?;
                bytes.extend_from_slice(checksum.as_slice());
                Ok((Body::Memory(bytes.into()), checksum))
            }
            Spool::File(buffered) => {
                let mut file = buffered.into_inner().map_err(|err| err.into_error())?;
                file.rewind()?;
                file.write_all(&header)?;
                file.rewind()?;
                let mut piece = vec![0; 1 << 16];
                loop {
                    let read = file.read(&mut piece)?;
                    match piece.get(..read) {
                        None | Some([]) => break,
                        Some(bytes) => checksum.update(bytes),
                    }
                }
                let checksum = checksum.finish()?;
                file.seek(SeekFrom::End(0))?;
                file.write_all(checksum.as_slice())?;
                file.flush()?;
                Ok((Body::File(file.into_temp_path()), checksum))
            }
        }
    }

    fn append(&mut self, entry: PackEntry, parts: &[&[u8]]) -> Result<bool, StoreError> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        self.write(parts).map_err(spool_failure)?;
        self.known.insert(entry.oid, self.offset);
        self.crcs.push(pack::crc32(parts));
        self.entries.push(PackEntry { offset: self.offset, length, ..entry });
        self.offset += length;
        Ok(true)
    }

    fn write(&mut self, parts: &[&[u8]]) -> std::io::Result<()> {
        if let Spool::Memory(bytes) = &mut self.spool {
            let more: usize = parts.iter().map(|part| part.len()).sum();
            if bytes.len() + more <= MEMORY_MAX {
                parts.iter().for_each(|part| bytes.extend_from_slice(part));
                return Ok(());
            }
            std::fs::create_dir_all(&self.spool_dir)?;
            let file = tempfile::Builder::new().prefix("pack-").rand_bytes(16).tempfile_in(&self.spool_dir)?;
            let mut file = BufWriter::with_capacity(1 << 16, file);
            file.write_all(bytes)?;
            self.spool = Spool::File(file);
        }
        if let Spool::File(file) = &mut self.spool {
            parts.iter().try_for_each(|part| file.write_all(part))?;
        }
        Ok(())
    }
}
