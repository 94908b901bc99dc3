//! Entries of a stored pack as they stand there, deltas included: for copying them into other packs without undoing anything.
//!
//! They are checked against the CRC-32s of the pack's index, as git does when it reuses entries: that notices damage on disk or on
//! the way. Whoever unpacks the copy names every object by its hash.

use std::sync::Arc;

use bytes::Bytes;
use treehold_object::ObjectId;
use treehold_object::idx::Index;
use treehold_object::pack::{Span, crc32};

use crate::error::StoreError;
use crate::object_store::{ObjectStore, missing};

/// A stored pack whose index was read.
#[derive(Debug, Clone)]
pub struct RawPack {
    store: ObjectStore,
    key: String,
    /// Offsets and CRC-32s of all entries, sorted.
    crcs: Arc<[(u64, u32)]>,
}

/// Neighbouring entries of one pack.
#[derive(Debug, Clone)]
pub struct RawRun {
    /// All of them, nothing else.
    pub bytes: Bytes,
    /// Objects, where each entry starts in `bytes`, and its CRC-32.
    pub entries: Vec<RawEntry>,
}

/// One entry of a [`RawRun`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEntry {
    /// The object.
    pub oid: ObjectId,
    /// Where header and zlib stream are, counted from the start of the run.
    pub span: Span,
    /// Over both.
    pub crc32: u32,
}

impl ObjectStore {
    /// Reads the index of the pack at `key`.
    ///
    /// `Missing`: there is none. `Corrupt`: it is damaged. In both cases objects can still be read one by one.
    pub async fn raw_pack(&self, key: &str) -> Result<RawPack, StoreError> {
        let idx_key = crate::key::idx_key(key).ok_or_else(|| missing(key))?;
        let permit = self.permit().await;
        let bytes = self.bucket().get(&idx_key, None).await?.ok_or_else(|| missing(&idx_key))?;
        drop(permit);
        let crcs = crate::object_store::off_thread(bytes.len() as u64, move || {
            let index = Index::parse(bytes).ok()?;
            let mut crcs: Vec<(u64, u32)> = index.iter().map(|entry| (entry.offset, entry.crc32)).collect();
            crcs.sort_unstable();
            Some(crcs)
        });
        match crcs.await {
            Some(crcs) => Ok(RawPack { store: self.clone(), key: key.to_owned(), crcs: crcs.into() }),
            None => Err(corrupt(ObjectId::Sha1([0; 20]), &idx_key)),
        }
    }
}

impl RawPack {
    /// Reads entries that follow one another without a gap. What does not come out right is read a second time.
    ///
    /// `Missing`: the pack is gone. `Corrupt`: an entry is damaged.
    pub async fn read(&self, entries: &[(ObjectId, Span)]) -> Result<RawRun, StoreError> {
        match self.read_once(entries).await {
            Err(StoreError::Corrupt { .. }) => self.read_once(entries).await.inspect_err(|error| {
                tracing::error!(%error, "stored bytes are damaged");
            }),
            done => done,
        }
    }

    async fn read_once(&self, entries: &[(ObjectId, Span)]) -> Result<RawRun, StoreError> {
        let (Some((_, first)), Some((_, last))) = (entries.first(), entries.last()) else {
            return Ok(RawRun { bytes: Bytes::new(), entries: Vec::new() });
        };
        let range = first.offset..last.offset + last.length;
        let permit = self.store.permit().await;
        let bytes = self.store.bucket().get(&self.key, Some(range)).await?.ok_or_else(|| missing(&self.key))?;
        drop(permit);
        let entries = entries.iter().map(|(oid, span)| {
            let span = Span { offset: span.offset - first.offset, length: span.length };
            let crc32 = self.check(first.offset, span, &bytes).ok_or_else(|| corrupt(*oid, &self.key))?;
            Ok(RawEntry { oid: *oid, span, crc32 })
        });
        let entries = entries.collect::<Result<_, StoreError>>()?;
        Ok(RawRun { bytes, entries })
    }

    /// The CRC-32 of an entry, if its bytes have the one that the index says.
    fn check(&self, start: u64, span: Span, bytes: &Bytes) -> Option<u32> {
        let at = self.crcs.binary_search_by_key(&(start + span.offset), |(offset, _)| *offset).ok()?;
        let (_, expected) = self.crcs[at];
        let range = usize::try_from(span.offset).ok()?..usize::try_from(span.offset + span.length).ok()?;
        (crc32(&[bytes.get(range)?]) == expected).then_some(expected)
    }
}

fn corrupt(id: ObjectId, key: &str) -> StoreError {
    StoreError::Corrupt { id, key: key.to_owned() }
}
