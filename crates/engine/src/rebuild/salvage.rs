//! What can be read of a pack that is not whole: entry by entry, each judged by its own hash.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use treehold_catalog::NewObject;
use treehold_object::pack::{ENTRY_HEADER_MAX, EntryHeader, EntryKind, HEADER_LEN, TRAILER_LEN};
use treehold_object::zlib::{Inflater, plausible};
use treehold_object::{Kind, ObjectId, delta, hash};
use treehold_wire::IngestError;

use super::BucketFinding;
use super::keys::{OBJECT_MAX, close_bases};
use super::packs::{Beside, PackRead};
use crate::Result;
use crate::api::Oid;
use crate::intake::{BASES_BYTES, commit_row, unreadable};

/// No chain of deltas is longer.
const STEPS_MAX: usize = 4_096;

/// Reads every entry that can be read. `error` is why the pack as a whole cannot.
pub(super) fn salvage(file: &File, key: &str, beside: &Beside, error: Option<&IngestError>) -> Result<PackRead> {
    let length = file.metadata().map_err(|error| unreadable(IngestError::Io(error)))?.len();
    let mut read = PackRead::default();
    if let Some(error) = error {
        read.findings.push(BucketFinding::DamagedPack { key: key.to_owned(), detail: error.to_string() });
    }
    let mut pack = Pack::new(file, length);
    let places = match beside {
        Beside::Read(entries) => {
            let mut places: Vec<(u64, Option<ObjectId>)> =
                entries.iter().map(|entry| (entry.offset, Some(entry.oid))).collect();
            places.sort_unstable_by_key(|(offset, _)| *offset);
            pack.named = entries.iter().map(|entry| (entry.oid, entry.offset)).collect();
            places
        }
        Beside::Missing | Beside::Damaged => pack.scan().into_iter().map(|offset| (offset, None)).collect(),
    };
    pack.starts = places.iter().map(|(offset, _)| *offset).collect();
    for (offset, expected) in &places {
        match pack.object(*offset, *expected) {
            Some((object, content)) => {
                pack.named.insert(object.oid, *offset);
                if object.kind == Kind::Commit
                    && let Ok(row) = commit_row(object.oid, content)
                {
                    read.commits.push(row);
                }
                read.objects.push(object);
            }
            None => read.findings.push(BucketFinding::CorruptObject {
                key: key.to_owned(),
                oid: expected.map(Oid),
                offset: *offset,
            }),
        }
    }
    close_bases(&mut read.objects);
    Ok(read)
}

struct Pack<'a> {
    file: &'a File,
    /// Where the trailer begins, or the file ends.
    data_end: u64,
    /// Where entries start, in order, as far as that is known.
    starts: Vec<u64>,
    /// Where entries start, by the object's id.
    named: HashMap<ObjectId, u64>,
    /// Contents by where their entries start.
    made: HashMap<u64, (Kind, Bytes)>,
    held: usize,
    inflater: Inflater,
}

/// Part of a file, from front to back.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = buffer.get_mut(..rest).map_or(Ok(0), |buffer| self.file.read_at(buffer, self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}

/// An entry as it stands there.
struct Entry {
    header: EntryHeader,
    inflated: Vec<u8>,
    /// Header and zlib stream, bytes.
    length: u64,
}

impl<'a> Pack<'a> {
    fn new(file: &'a File, length: u64) -> Self {
        let data_end = length.saturating_sub(TRAILER_LEN as u64);
        let (starts, named, made) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { file, data_end, starts, named, made, held: 0, inflater: Inflater::default() }
    }

    /// Where entries start, as far as one follows the other.
    fn scan(&mut self) -> Vec<u64> {
        let (mut at, mut places) = (HEADER_LEN as u64, Vec::new());
        while let Some(entry) = self.entry(at) {
            places.push(at);
            at += entry.length;
        }
        places
    }

    /// Where what starts at `offset` must have ended.
    fn end_of(&self, offset: u64) -> u64 {
        let next = self.starts.partition_point(|start| *start <= offset);
        self.starts.get(next).map_or(self.data_end, |next| self.data_end.min(*next))
    }

    /// Reads no further than where the next entry starts, and takes memory for what comes out: the size that stands there may be
    /// what is damaged.
    fn entry(&mut self, offset: u64) -> Option<Entry> {
        let end = self.end_of(offset);
        let rest = end.checked_sub(offset).filter(|rest| *rest > 0)?;
        let mut head = vec![0; usize::try_from(rest.min(ENTRY_HEADER_MAX as u64)).ok()?];
        self.file.read_exact_at(&mut head, offset).ok()?;
        let (header, length) = EntryHeader::decode(&head).ok()??;
        let length = length as u64;
        if header.size > OBJECT_MAX || !plausible(rest.checked_sub(length)?, header.size) {
            return None;
        }
        let mut stream = Section { file: self.file, at: offset + length, end };
        let (inflated, used) = self.inflater.inflate_from(&mut stream, header.size).ok()?.ok()?;
        Some(Entry { header, inflated, length: length + used })
    }

    /// The object whose entry is at `offset`, if it is one and has the id that is expected.
    fn object(&mut self, offset: u64, expected: Option<ObjectId>) -> Option<(NewObject, Bytes)> {
        let entry = self.entry(offset)?;
        let (length, base) = (entry.length, self.base(offset, &entry.header)?);
        let (kind, content) = self.content(offset)?;
        let oid = hash(kind, &content).ok().filter(|oid| expected.is_none_or(|expected| expected == *oid))?;
        let sha256 = hash::sha256(kind, &content);
        Some((NewObject { oid, kind, size: content.len() as u64, sha256, offset, length, base }, content))
    }

    /// Where its base is: `Some(None)` = it is whole; `None` = nowhere.
    fn base(&self, offset: u64, header: &EntryHeader) -> Option<Option<u64>> {
        match header.kind {
            EntryKind::Whole(_) => Some(None),
            EntryKind::OfsDelta { distance } => offset.checked_sub(distance).map(Some),
            EntryKind::RefDelta { base } => self.named.get(&base).copied().map(Some),
        }
    }

    fn content(&mut self, offset: u64) -> Option<(Kind, Bytes)> {
        let (mut at, mut deltas) = (offset, Vec::new());
        let (kind, mut content) = loop {
            if let Some(made) = self.made.get(&at) {
                break made.clone();
            }
            let Entry { header, inflated, .. } = self.entry(at)?;
            match (header.kind, self.base(at, &header)?) {
                (EntryKind::Whole(kind), _) => {
                    let whole = (kind, Bytes::from(inflated));
                    self.keep(at, &whole);
                    break whole;
                }
                (_, Some(base)) if deltas.len() < STEPS_MAX => {
                    deltas.push((at, inflated));
                    at = base;
                }
                _ => return None,
            }
        };
        while let Some((at, own)) = deltas.pop() {
            content = delta::apply(&content, &own, OBJECT_MAX).ok()?.into();
            self.keep(at, &(kind, content.clone()));
        }
        Some((kind, content))
    }

    fn keep(&mut self, offset: u64, made: &(Kind, Bytes)) {
        if self.held.saturating_add(made.1.len()) > BASES_BYTES {
            self.made.clear();
            self.held = 0;
        }
        if made.1.len() <= BASES_BYTES && self.made.insert(offset, made.clone()).is_none() {
            self.held += made.1.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use treehold_object::idx::IndexEntry;
    use treehold_object::pack;
    use treehold_object::zlib::Deflater;

    use super::*;

    /// A pack of blobs, where each begins, and its index.
    fn pack(contents: &[Vec<u8>]) -> (Vec<u8>, Vec<IndexEntry>) {
        let mut bytes = pack::header(u32::try_from(contents.len()).unwrap()).to_vec();
        let (mut deflater, mut entries) = (Deflater::new(6), Vec::new());
        for content in contents {
            let oid = hash(Kind::Blob, content).unwrap();
            entries.push(IndexEntry { oid, offset: bytes.len() as u64, crc32: 0 });
            EntryHeader { kind: EntryKind::Whole(Kind::Blob), size: content.len() as u64 }.encode(&mut bytes);
            deflater.deflate(&[content.as_slice()], &mut bytes);
        }
        bytes.extend([0; TRAILER_LEN]);
        (bytes, entries)
    }

    fn read(bytes: &[u8], beside: &Beside) -> PackRead {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        salvage(&file, "objects/pack/pack-x.pack", beside, None).unwrap()
    }

    #[test]
    fn a_size_that_is_damaged_costs_one_object() {
        let contents: Vec<Vec<u8>> = (0..50u8).map(|number| vec![number; 2000 + usize::from(number)]).collect();
        let (mut bytes, entries) = pack(&contents);
        let whole = read(&bytes, &Beside::Read(entries.clone()));
        assert_eq!((whole.objects.len(), whole.findings.len()), (50, 0));
        let at = usize::try_from(entries[7].offset).unwrap();
        for bit in 0..7 {
            // The highest digits of the size; the lowest are in the byte before it.
            bytes[at + 1] ^= 1 << bit;
            let read = read(&bytes, &Beside::Read(entries.clone()));
            bytes[at + 1] ^= 1 << bit;
            assert_eq!((read.objects.len(), read.findings.len()), (49, 1), "bit {bit}");
            assert!(read.objects.iter().all(|object| object.offset != entries[7].offset));
        }
        assert_eq!(self::read(&bytes, &Beside::Missing).objects.len(), 50, "without an index one follows the other");
    }

    #[test]
    fn an_entry_is_read_to_its_end_and_no_further() {
        let (bytes, entries) = pack(&[vec![1; 3000], vec![2; 3000]]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut pack = Pack::new(&file, bytes.len() as u64);
        pack.starts = entries.iter().map(|entry| entry.offset).collect();
        let [first, second] = [entries[0].offset, entries[1].offset];
        assert_eq!((pack.end_of(first), pack.end_of(second)), (second, pack.data_end));
        assert_eq!(pack.entry(first).map(|entry| (entry.inflated.len(), entry.length)), Some((3000, second - first)));
        // An index that says it ends before.
        pack.starts = vec![first, second - 1];
        assert!(pack.entry(first).is_none());
        let mut section = Section { file: &file, at: first, end: second };
        let mut all = Vec::new();
        section.read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes[usize::try_from(first).unwrap()..usize::try_from(second).unwrap()]);
    }
}
