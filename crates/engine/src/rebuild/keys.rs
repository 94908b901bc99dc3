//! What the bucket holds, and in which order it is read.

use std::collections::HashSet;
use std::sync::Arc;

use treehold_catalog::{CatalogError, FoundKey, NameState, NewObject};
use treehold_fault::point;
use treehold_object::{ObjectId, hash, loose, zlib::Inflater};
use treehold_store::StoreError;

use super::packs::PackRead;
use super::{BucketFinding, RebuildReport};
use crate::api::Oid;
use crate::intake::{commit_row, read_commits};
use crate::manifest::PREFIX as MANIFESTS;
use crate::progress::Progress;
use crate::{Engine, EngineError, Result, blocking};

/// Keys listed, or looked up, at once.
const KEYS: usize = 1000;
/// Loose objects that are recorded in one transaction, and their bytes at most but for one that is larger.
const LOOSE: usize = 200;
const LOOSE_BYTES: u64 = 8 << 20;
/// No object is larger, bytes: a git pack cannot say more in 32 bits.
pub(super) const OBJECT_MAX: u64 = u32::MAX as u64 - 1;

/// Keys and sizes, in memory: some 150 bytes for each pack or loose object of the bucket.
#[derive(Debug, Default)]
pub(super) struct BucketKeys {
    /// The largest first.
    packs: Vec<(String, u64)>,
    loose: Vec<(String, u64, ObjectId)>,
    /// Keys of indexes.
    indexes: HashSet<String>,
}

impl BucketKeys {
    fn add(&mut self, key: String, size: u64) {
        if let Some(oid) = loose::oid_of_key(&key) {
            self.loose.push((key, size, oid));
        } else if key.starts_with("objects/pack/") && key.ends_with(".pack") {
            self.packs.push((key, size));
        } else if key.starts_with("objects/pack/") && key.ends_with(".idx") {
            self.indexes.insert(key);
        }
    }

    /// Packs that hold manifests' commits, the newest first: their names begin with their time.
    pub fn manifests(&self) -> Vec<String> {
        let mut manifests: Vec<String> =
            self.packs.iter().map(|(key, _)| key).filter(|key| key.starts_with(MANIFESTS)).cloned().collect();
        manifests.sort_unstable_by(|a, b| b.cmp(a));
        manifests
    }

    fn has_index(&self, pack: &str) -> bool {
        treehold_store::idx_key(pack).is_some_and(|key| self.indexes.contains(&key))
    }
}

impl Engine {
    pub(super) async fn bucket_keys(&self) -> Result<BucketKeys> {
        let mut keys = BucketKeys::default();
        let mut after = None;
        loop {
            let page = self.store.bucket().list("objects/", after.as_deref(), KEYS).await?;
            page.entries.into_iter().for_each(|(key, size)| keys.add(key, size));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        keys.packs.sort_unstable_by(|(a, a_size), (b, b_size)| b_size.cmp(a_size).then_with(|| a.cmp(b)));
        Ok(keys)
    }

    /// Refuses a manifest that is nowhere in the bucket, before it is kept as where projects come from: whoever goes on would look for it
    /// in vain. What an index cannot tell is found out once its pack was read.
    pub(super) async fn refuse_unknown_manifest(&self, commit: ObjectId) -> Result<()> {
        if self.catalog.locate(&[commit]).await?.iter().any(Option::is_some) {
            return Ok(());
        }
        let keys = self.bucket_keys().await?;
        if keys.loose.iter().any(|(_, _, oid)| *oid == commit) {
            return Ok(());
        }
        let (manifests, others): (Vec<_>, Vec<_>) =
            keys.packs.iter().map(|(key, _)| key).partition(|key| key.starts_with(MANIFESTS));
        let mut unread = false;
        for key in manifests.into_iter().chain(others) {
            match self.store.raw_pack(key).await {
                Ok(pack) if pack.entries().iter().any(|entry| entry.oid == commit) => return Ok(()),
                Ok(_) => {}
                Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => unread = true,
                Err(error) => return Err(error.into()),
            }
        }
        if unread {
            return Ok(());
        }
        let detail = format!("The bucket holds no object {commit}: name a manifest's commit, `latest` or `none`.");
        Err(EngineError::not_found("manifest_not_found", detail))
    }

    /// Reads and records everything that the ledger does not know yet.
    pub(super) async fn adopt_all(
        &self,
        mut keys: BucketKeys,
        report: &mut RebuildReport,
        progress: &dyn Progress,
    ) -> Result<()> {
        let packs = self.unknown(std::mem::take(&mut keys.packs), |(key, _)| key).await?;
        let loose = self.unknown(std::mem::take(&mut keys.loose), |(key, ..)| key).await?;
        let total: u64 = packs.iter().map(|(_, size)| size).chain(loose.iter().map(|(_, size, _)| size)).sum();
        let mut deltas = Vec::new();
        for (key, size) in packs {
            // Without an index only reading all of it tells whether there are deltas.
            if !keys.has_index(&key) || !self.adopt_pack(&key, size, true, report).await? {
                deltas.push((key, size));
            }
            progress.step("reading bytes", report.bytes, Some(total));
        }
        self.adopt_loose(loose, report).await?;
        for (key, size) in deltas {
            self.adopt_pack(&key, size, false, report).await?;
            progress.step("reading bytes", report.bytes, Some(total));
        }
        Ok(())
    }

    async fn unknown<T>(&self, mut keys: Vec<T>, name: impl Fn(&T) -> &String) -> Result<Vec<T>> {
        let mut known = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            let names: Vec<String> = chunk.iter().map(|key| name(key).clone()).collect();
            known.extend(self.catalog.name_states(&names).await?.into_iter().map(|state| state != NameState::Unknown));
        }
        let mut known = known.into_iter();
        keys.retain(|_| !known.next().unwrap_or(false));
        Ok(keys)
    }

    /// Reads a pack and records what it holds. `false`: it has deltas, only whole objects were wanted, and nothing was done.
    async fn adopt_pack(&self, key: &str, size: u64, whole_only: bool, report: &mut RebuildReport) -> Result<bool> {
        let Some(PackRead { objects, findings, idx, commits, quarantine }) =
            self.read_whole_pack(key, size, whole_only).await?
        else {
            return Ok(false);
        };
        findings.into_iter().for_each(|finding| report.find(finding));
        if let (Some(idx), Some(idx_key)) = (idx, treehold_store::idx_key(key)) {
            let put = self.store.bucket().put(&idx_key, treehold_store::Payload::Bytes(idx));
            put.await?;
            report.find(BucketFinding::MissingIndex { key: key.to_owned() });
        }
        self.record_commits(commits).await?;
        if let Some(quarantine) = quarantine {
            let commits = read_commits(&quarantine, Arc::new(()), u64::MAX).await?;
            self.put_commits_of(quarantine, commits).await?;
        }
        self.record_key(FoundKey { name: key.to_owned(), objects }, size, report).await?;
        Ok(true)
    }

    /// Of two objects of one id the second one, and what rests on it, is left out.
    async fn record_key(&self, mut found: FoundKey, size: u64, report: &mut RebuildReport) -> Result<()> {
        report.keys += 1;
        report.bytes += size;
        loop {
            if found.objects.is_empty() {
                return Ok(());
            }
            point("B2").await?;
            match self.catalog.adopt(std::slice::from_ref(&found), self.ambient.now_ms()).await {
                Ok(kept) => {
                    for kept in kept.into_iter().flatten() {
                        report.objects += kept;
                        report.doomed += u64::from(kept == 0);
                    }
                    return Ok(());
                }
                Err(CatalogError::Collision(oid)) if found.objects.iter().any(|object| object.oid == oid) => {
                    report.find(BucketFinding::Collision { key: found.name.clone(), oid: Oid(oid) });
                    found.objects.retain(|object| object.oid != oid);
                    close_bases(&mut found.objects);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn adopt_loose(&self, loose: Vec<(String, u64, ObjectId)>, report: &mut RebuildReport) -> Result<()> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (key, size, oid) in loose {
            if !batch.is_empty() && (batch.len() >= LOOSE || bytes + size > LOOSE_BYTES) {
                self.record_loose(std::mem::take(&mut batch), report).await?;
                bytes = 0;
            }
            let Some(value) = self.store.bucket().get(&key, None).await? else { continue };
            let length = value.len() as u64;
            let read = blocking(move || Ok(loose::decode(&value, OBJECT_MAX, &mut Inflater::default()).ok())).await?;
            let read = read.filter(|(kind, content)| hash(*kind, content) == Ok(oid));
            let Some((kind, content)) = read else {
                report.find(BucketFinding::CorruptObject { key, oid: Some(Oid(oid)), offset: 0 });
                continue;
            };
            let sha256 = hash::sha256(kind, &content);
            let object = NewObject { oid, kind, size: content.len() as u64, sha256, offset: 0, length, base: None };
            if kind == treehold_object::Kind::Commit
                && let Ok(row) = commit_row(oid, content.into())
            {
                self.record_commits(vec![row]).await?;
            }
            bytes += length;
            batch.push((FoundKey { name: key, objects: vec![object] }, length));
        }
        self.record_loose(batch, report).await
    }

    async fn record_loose(&self, batch: Vec<(FoundKey, u64)>, report: &mut RebuildReport) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let keys: Vec<FoundKey> = batch.iter().map(|(key, _)| key.clone()).collect();
        point("B2").await?;
        match self.catalog.adopt(&keys, self.ambient.now_ms()).await {
            Ok(kept) => {
                report.keys += batch.len() as u64;
                report.bytes += batch.iter().map(|(_, size)| size).sum::<u64>();
                for kept in kept.into_iter().flatten() {
                    report.objects += kept;
                    report.doomed += u64::from(kept == 0);
                }
                Ok(())
            }
            // One at a time, to see which.
            Err(CatalogError::Collision(_)) => {
                for (key, size) in batch {
                    self.record_key(key, size, report).await?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Leaves out deltas whose bases are left out.
pub(super) fn close_bases(objects: &mut Vec<NewObject>) {
    loop {
        let places: HashSet<u64> = objects.iter().map(|object| object.offset).collect();
        let before = objects.len();
        objects.retain(|object| object.base.is_none_or(|base| places.contains(&base)));
        if objects.len() == before {
            return;
        }
    }
}
