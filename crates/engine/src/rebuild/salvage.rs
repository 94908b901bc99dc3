//! What can be read of a pack that is not whole: entry by entry, each judged by its own hash.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use treehold_catalog::NewObject;
use treehold_object::pack::{ENTRY_HEADER_MAX, EntryHeader, EntryKind, HEADER_LEN, TRAILER_LEN};
use treehold_object::zlib::Inflater;
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
    for (at, (offset, expected)) in places.iter().enumerate() {
        let end = places.get(at + 1).map_or(pack.data_end, |(next, _)| *next);
        match pack.object(*offset, end, *expected) {
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
    /// Where entries start, by the object's id.
    named: HashMap<ObjectId, u64>,
    /// Contents by where their entries start.
    made: HashMap<u64, (Kind, Bytes)>,
    held: usize,
    inflater: Inflater,
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
        let (named, made) = (HashMap::new(), HashMap::new());
        Self { file, data_end, named, made, held: 0, inflater: Inflater::default() }
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

    fn entry(&mut self, offset: u64) -> Option<Entry> {
        let rest = self.data_end.checked_sub(offset).filter(|rest| *rest > 0)?;
        let mut head = vec![0; usize::try_from(rest.min(ENTRY_HEADER_MAX as u64)).ok()?];
        self.file.read_exact_at(&mut head, offset).ok()?;
        let (header, length) = EntryHeader::decode(&head).ok()??;
        if header.size > OBJECT_MAX {
            return None;
        }
        // No stream of so many bytes is longer, as zlib writes them.
        let most = header.size + header.size / 500 + 1024;
        let rest = rest.checked_sub(length as u64)?;
        let mut bytes = vec![0; usize::try_from(rest.min(most)).ok()?];
        self.file.read_exact_at(&mut bytes, offset + length as u64).ok()?;
        let (inflated, used) = self.inflater.inflate(&bytes, header.size).ok()?;
        Some(Entry { header, inflated, length: (length + used) as u64 })
    }

    /// The object whose entry is at `offset` and ends at `end`, if it is that and has the id that is expected.
    fn object(&mut self, offset: u64, end: u64, expected: Option<ObjectId>) -> Option<(NewObject, Bytes)> {
        let entry = self.entry(offset)?;
        if offset + entry.length > end {
            return None;
        }
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
