//! Reading a stored pack whole: every entry resolved, named and hashed, in bounded memory.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use treehold_catalog::{CommitRow, NewObject};
use treehold_object::idx::{self, Index, IndexEntry};
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest};

use super::BucketFinding;
use super::keys::OBJECT_MAX;
use super::salvage::salvage;
use crate::intake::{BASES_BYTES, entry, threads, unreadable};
use crate::writer::new_object;
use crate::{Engine, EngineError, Result, blocking};

/// A pack comes in pieces of this length, bytes.
const PIECE: u64 = 8 << 20;

/// What was found in a pack.
#[derive(Debug, Default)]
pub(super) struct PackRead {
    pub objects: Vec<NewObject>,
    pub findings: Vec<BucketFinding>,
    /// The index that the pack lacks.
    pub idx: Option<Bytes>,
    /// Its commits, their generations not known yet.
    pub commits: Vec<CommitRow>,
    /// Where its commits are instead, if the pack is whole.
    pub quarantine: Option<Arc<Quarantine>>,
}

/// The index beside a pack.
#[derive(Debug)]
pub(super) enum Beside {
    /// There is none.
    Missing,
    /// It does not decode.
    Damaged,
    /// Its entries in the order of their ids.
    Read(Vec<IndexEntry>),
}

impl Engine {
    /// Reads a pack. `None`: it has deltas, and only whole objects were wanted; or it is gone.
    pub(super) async fn read_whole_pack(&self, key: &str, size: u64, whole_only: bool) -> Result<Option<PackRead>> {
        let beside = self.read_beside(key).await?;
        let Some(file) = self.spool(key, size, whole_only.then_some(&beside)).await? else { return Ok(None) };
        let key = key.to_owned();
        blocking(move || read(file, &key, beside)).await.map(Some)
    }

    async fn read_beside(&self, key: &str) -> Result<Beside> {
        let Some(idx_key) = treehold_store::idx_key(key) else { return Ok(Beside::Missing) };
        let Some(bytes) = self.store.bucket().get(&idx_key, None).await? else { return Ok(Beside::Missing) };
        blocking(move || Ok(Index::parse(bytes).map_or(Beside::Damaged, |index| Beside::Read(index.iter().collect()))))
            .await
    }

    /// Copies a pack into a spool file; only as far as to its first delta, and then `None`, if `whole` says where entries start.
    async fn spool(&self, key: &str, size: u64, whole: Option<&Beside>) -> Result<Option<File>> {
        let mut starts: Vec<u64> = match whole {
            None => Vec::new(),
            Some(Beside::Read(entries)) => entries.iter().map(|entry| entry.offset).collect(),
            Some(Beside::Missing | Beside::Damaged) => return Ok(None),
        };
        starts.sort_unstable();
        let dir = self.config.spool_dir.clone();
        let mut file = blocking(move || tempfile::tempfile_in(dir).map_err(spool_failure)).await?;
        let (mut at, mut next) = (0, 0);
        while at < size {
            let end = size.min(at + PIECE);
            let piece = self.store.bucket().get(key, Some(at..end)).await?.unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            while let Some(start) = starts.get(next).filter(|start| **start < at + piece.len() as u64) {
                let byte = start.checked_sub(at).and_then(|start| piece.get(usize::try_from(start).ok()?));
                if byte.is_some_and(|byte| matches!(byte >> 4 & 7, 6 | 7)) {
                    return Ok(None);
                }
                next += 1;
            }
            at += piece.len() as u64;
            file = blocking(move || file.write_all(&piece).map(|()| file).map_err(spool_failure)).await?;
        }
        Ok(Some(file))
    }
}

fn spool_failure(error: std::io::Error) -> EngineError {
    unreadable(IngestError::Io(error))
}

/// What was within limits when it was taken in is read whatever the limits are now.
fn options() -> IngestOptions<'static> {
    let limits = IngestLimits {
        pack_bytes: u64::MAX,
        objects: u64::from(u32::MAX),
        object_bytes: OBJECT_MAX,
        inflated_bytes: u64::MAX,
        inflated_ratio: u64::MAX,
        padding_bytes: u64::MAX,
        delta_depth: 4_096,
        external: u64::MAX,
    };
    let (threads, cache_bytes) = (threads(), BASES_BYTES / threads());
    IngestOptions { limits, sha256: true, threads, cache_bytes, ..IngestOptions::default() }
}

fn read(file: File, key: &str, beside: Beside) -> Result<PackRead> {
    let copy = file.try_clone().map_err(spool_failure)?;
    match ingest(copy, &options()) {
        // An object that stands there twice has one place, on which deltas need not rest: entry by entry all are seen.
        Ok(quarantine) if !quarantine.has_duplicates() => whole(quarantine, key, beside),
        Ok(_) => salvage(&file, key, &beside, None),
        Err(IngestError::Io(error)) => Err(spool_failure(error)),
        Err(error) => salvage(&file, key, &beside, Some(&error)),
    }
}

fn whole(quarantine: Quarantine, key: &str, beside: Beside) -> Result<PackRead> {
    let mut read = PackRead::default();
    let entries = quarantine.index_entries();
    match beside {
        Beside::Missing => {
            let idx = idx::write(&entries, &quarantine.checksum()).map_err(EngineError::internal)?;
            read.idx = Some(idx.into());
        }
        Beside::Read(there) if there == entries => {}
        Beside::Read(_) | Beside::Damaged => {
            let key = treehold_store::idx_key(key).unwrap_or_default();
            read.findings.push(BucketFinding::DamagedIndex { key });
        }
    }
    read.objects = quarantine.iter().map(entry).map(new_object).collect();
    read.quarantine = Some(Arc::new(quarantine));
    Ok(read)
}
