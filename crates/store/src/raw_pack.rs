//! Entries of a stored pack as they stand there, deltas included: for copying them into other packs without undoing anything.
//!
//! They are checked against the CRC-32s of the pack's index, as git does when it reuses entries: that notices damage on disk or on
//! the way. Whoever unpacks the copy names every object by its hash.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use treehold_object::ObjectId;
use treehold_object::idx::{Index, IndexEntry};
use treehold_object::pack::{EntryHeader, EntryKind, Span, TRAILER_LEN, crc32};

use crate::bucket::Version;
use crate::error::StoreError;
use crate::object_store::{ObjectStore, missing, off_thread};

/// Indexes of packs that are kept in memory, bytes: those of about two million objects.
const INDEXES_BYTES: u64 = 64 << 20;

/// A stored pack whose index was read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RawPack {
    store: ObjectStore,
    key: Arc<str>,
    /// The value of the key that is read, by the bucket's name for it; `None`: what the key has now.
    version: Option<Arc<str>>,
    entries: Arc<Entries>,
}

/// All entries of a pack.
#[derive(Debug)]
pub(crate) struct Entries {
    /// In the order of the pack.
    entries: Vec<IndexEntry>,
    /// Where the last of them ends.
    end: u64,
}

/// Neighbouring entries of one pack.
#[derive(Debug, Clone)]
pub struct RawRun {
    /// Where in the pack it starts.
    pub start: u64,
    /// All of them, nothing else.
    pub bytes: Bytes,
    /// Each of them.
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
    /// What it rests on.
    pub base: RawBase,
}

/// What an entry rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawBase {
    /// Nothing: it is whole.
    Whole,
    /// The entry that starts there in the pack.
    At(u64),
    /// An object that may be anywhere.
    Named(ObjectId),
}

/// Indexes that were read lately, by the key of the pack.
#[derive(Debug)]
pub(crate) struct Indexes(Cache<Arc<str>, Arc<Entries>, Weight>);

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Arc<str>, Arc<Entries>> for Weight {
    fn weight(&self, key: &Arc<str>, entries: &Arc<Entries>) -> u64 {
        (key.len() + entries.entries.len() * size_of::<IndexEntry>()) as u64 + 128
    }
}

impl Default for Indexes {
    fn default() -> Self {
        Self(Cache::with_weighter(1000, INDEXES_BYTES, Weight))
    }
}

impl ObjectStore {
    /// Reads the index of the pack at `key`, if it is not at hand.
    ///
    /// `Missing`: there is none, or no pack. `Corrupt`: it is damaged. In both cases objects can still be read one by one.
    pub async fn raw_pack(&self, key: &str) -> Result<RawPack, StoreError> {
        let key: Arc<str> = key.into();
        let entries = self.indexes().0.get_or_insert_async(&key, self.read_index(&key)).await?;
        Ok(RawPack { store: self.clone(), key, version: None, entries })
    }

    /// The same for one of the values that the bucket keeps of `key`, with an index that was read from wherever it was.
    ///
    /// `Corrupt`: the index is damaged, or that of a larger pack.
    pub async fn raw_pack_version(&self, key: &str, version: &Version, idx: Bytes) -> Result<RawPack, StoreError> {
        let entries = parse_entries(idx, version.size).await;
        let entries = entries.ok_or_else(|| corrupt(ObjectId::Sha1([0; 20]), key))?;
        let version = Some(version.id.as_str().into());
        Ok(RawPack { store: self.clone(), key: key.into(), version, entries })
    }

    async fn read_index(&self, key: &str) -> Result<Arc<Entries>, StoreError> {
        let idx_key = crate::key::idx_key(key).ok_or_else(|| missing(key))?;
        let permit = self.permit().await;
        let (size, bytes) = tokio::try_join!(self.bucket().head(key), self.bucket().get(&idx_key, None))?;
        drop(permit);
        let (size, bytes) = (size.ok_or_else(|| missing(key))?, bytes.ok_or_else(|| missing(&idx_key))?);
        parse_entries(bytes, size).await.ok_or_else(|| corrupt(ObjectId::Sha1([0; 20]), &idx_key))
    }
}

/// The entries of a pack of `size` bytes by its index; `None`: that cannot be its index.
async fn parse_entries(idx: Bytes, size: u64) -> Option<Arc<Entries>> {
    let length = idx.len() as u64;
    let parse = move || {
        let mut entries: Vec<IndexEntry> = Index::parse(idx).ok()?.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.offset);
        let end = size.checked_sub(TRAILER_LEN as u64)?;
        entries.last().is_none_or(|last| last.offset < end).then(|| Arc::new(Entries { entries, end }))
    };
    off_thread(length, parse).await
}

impl RawPack {
    /// All entries, in the order of the pack.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries.entries
    }

    /// Where an entry is; empty behind the last one.
    pub fn span(&self, at: usize) -> Span {
        let start = |at: usize| self.entries.entries.get(at).map_or(self.entries.end, |entry| entry.offset);
        Span { offset: start(at), length: start(at.saturating_add(1)) - start(at) }
    }

    /// Reads neighbouring entries, by their places in [`RawPack::entries`]. What does not come out right is read a second time.
    ///
    /// `Missing`: the pack is gone. `Corrupt`: an entry is damaged.
    pub async fn read(&self, places: Range<usize>) -> Result<RawRun, StoreError> {
        match self.read_once(places.clone()).await {
            Err(StoreError::Corrupt { .. }) => self.read_once(places).await.inspect_err(|error| {
                tracing::error!(%error, "stored bytes are damaged");
            }),
            done => done,
        }
    }

    async fn read_once(&self, places: Range<usize>) -> Result<RawRun, StoreError> {
        let (start, end) = (self.span(places.start).offset, self.span(places.end).offset);
        if places.is_empty() || start >= end {
            return Ok(RawRun { start, bytes: Bytes::new(), entries: Vec::new() });
        }
        let permit = self.store.permit().await;
        let (bucket, range) = (self.store.bucket(), Some(start..end));
        let bytes = match &self.version {
            None => bucket.get(&self.key, range).await?,
            Some(version) => bucket.get_version(&self.key, version, range).await?,
        };
        let bytes = bytes.ok_or_else(|| missing(&self.key))?;
        drop(permit);
        let entries = places.filter_map(|at| Some((self.entries().get(at)?, self.span(at))));
        let entries = entries.map(|(entry, span)| {
            check(entry, Span { offset: span.offset - start, length: span.length }, &bytes)
                .ok_or_else(|| corrupt(entry.oid, &self.key))
        });
        let entries = entries.collect::<Result<_, StoreError>>()?;
        Ok(RawRun { start, bytes, entries })
    }
}

/// An entry whose bytes have the CRC-32 that the index says.
fn check(entry: &IndexEntry, span: Span, bytes: &Bytes) -> Option<RawEntry> {
    let range = usize::try_from(span.offset).ok()?..usize::try_from(span.offset + span.length).ok()?;
    let raw = bytes.get(range)?;
    if crc32(&[raw]) != entry.crc32 {
        return None;
    }
    let (header, _) = EntryHeader::decode(raw).ok()??;
    let base = match header.kind {
        EntryKind::Whole(_) => RawBase::Whole,
        EntryKind::OfsDelta { distance } => RawBase::At(entry.offset.checked_sub(distance)?),
        EntryKind::RefDelta { base } => RawBase::Named(base),
    };
    Some(RawEntry { oid: entry.oid, span, crc32: entry.crc32, base })
}

fn corrupt(id: ObjectId, key: &str) -> StoreError {
    StoreError::Corrupt { id, key: key.to_owned() }
}
