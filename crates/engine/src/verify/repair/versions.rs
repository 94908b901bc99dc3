//! Values that the bucket keeps of keys that were overwritten or deleted. They are read, never put back in place.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use bytes::Bytes;
use treehold_catalog::{InspectedObject, Located};
use treehold_object::idx::Index;
use treehold_object::pack::{EntryKind, HEADER_LEN, Span, parse_header};
use treehold_object::zlib::Inflater;
use treehold_object::{Kind, ObjectId, loose};
use treehold_store::{Location, StoreError, Version, idx_key, loose_key};

use super::{OBJECT_MAX, Search, applied, inflated};
use crate::verify::finding::{Code, Damage};
use crate::verify::{ROWS, Run};
use crate::{Result, blocking};

/// Versions of one key that are looked at, the newest ones.
const VERSIONS: usize = 100;
/// What the list of them takes, bytes, about.
const LISTING: u64 = 1 << 10;
/// No index and no loose object is larger, bytes: what somebody else wrote there is not read.
const VALUE_MAX: u64 = OBJECT_MAX + (OBJECT_MAX >> 6);

impl Run<'_> {
    /// Other values of the keys where the ledger has the objects, of the keys that git would give them, and of all other packs that
    /// the ledger knows, deleted ones included.
    pub(super) async fn search_versions(&mut self, search: &mut Search) -> Result<()> {
        if search.open.is_empty() || !self.keeps_versions().await? {
            return Ok(());
        }
        let keys = search.open.values().filter_map(|wanted| wanted.row.as_ref()?.key.as_ref());
        let likely: BTreeSet<String> = keys.map(|(key, _)| key.clone()).collect();
        for key in &likely {
            self.search_pack_versions(key, search).await?;
        }
        self.search_loose_versions(search).await?;
        let mut after = String::new();
        while !search.open.is_empty() {
            let keys = self.engine.catalog.inspect_keys(&after, None, ROWS).await?;
            let Some(last) = keys.last() else { break };
            after = last.key.clone();
            for key in keys.iter().filter(|key| !likely.contains(&key.key)) {
                self.search_pack_versions(&key.key, search).await?;
            }
        }
        Ok(())
    }

    /// Every pack that the key ever was, by every index that it ever had: either may be whole where the other is not.
    async fn search_pack_versions(&mut self, key: &str, search: &mut Search) -> Result<()> {
        let Some(idx_key) = idx_key(key).filter(|_| !search.open.is_empty()) else { return Ok(()) };
        if self.plain.contains(key) {
            return Ok(());
        }
        let packs = self.versions_of(key).await?;
        if packs.is_empty() {
            self.plain.insert(key.to_owned());
            return Ok(());
        }
        let indexes = self.versions_of(&idx_key).await?;
        // What both are now was looked at before.
        if packs.iter().chain(&indexes).all(|version| version.current) {
            self.plain.insert(key.to_owned());
            return Ok(());
        }
        let mut seen = HashSet::new();
        for index in indexes.iter().filter(|index| index.size <= VALUE_MAX) {
            let Some(idx) = self.version(&idx_key, index, None).await? else { continue };
            let Some((of, entries)) = names(idx.clone(), search.oids()).await? else { continue };
            // The same index once more finds nothing new.
            if !seen.insert(of) {
                continue;
            }
            for pack in packs.iter().filter(|pack| !(pack.current && index.current)) {
                self.search_version(key, pack, &idx, entries, search).await?;
            }
        }
        for pack in packs.iter().filter(|pack| !pack.current) {
            self.search_rows(key, pack, search).await?;
        }
        Ok(())
    }

    /// One value of a pack's key, by an index that may be another one's: then its checksums do not fit.
    async fn search_version(
        &mut self,
        key: &str,
        pack: &Version,
        idx: &Bytes,
        entries: usize,
        search: &mut Search,
    ) -> Result<()> {
        if search.open.is_empty() {
            return Ok(());
        }
        let head = self.version(key, pack, Some(0..HEADER_LEN as u64)).await?.unwrap_or_default();
        let announced = head.first_chunk().and_then(|head| parse_header(head).ok());
        if announced.is_none_or(|announced| announced as usize != entries) {
            return Ok(());
        }
        match self.engine.store.raw_pack_version(key, pack, idx.clone()).await {
            Ok(pack) => self.copies_in_pack(&pack, search).await,
            Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the ledger says is in the pack, where it says: also if no index is left.
    async fn search_rows(&mut self, key: &str, pack: &Version, search: &mut Search) -> Result<()> {
        let there = |row: &&InspectedObject| row.key.as_ref().is_some_and(|(name, _)| name == key);
        let rows = search.open.values().filter_map(|wanted| wanted.row.as_ref()).filter(there);
        let located: Vec<Located> = rows.filter_map(InspectedObject::located).collect();
        for page in located.chunks(ROWS as usize) {
            for location in self.engine.locations(page).await? {
                if let Some((kind, content)) = self.copy_by_row(pack, &location).await? {
                    search.offer(location.oid, kind, content);
                }
                self.store_window(search).await?;
            }
        }
        Ok(())
    }

    async fn copy_by_row(&mut self, pack: &Version, location: &Location) -> Result<Option<(Kind, Bytes)>> {
        let entry = Span { offset: location.offset, length: location.length };
        let mut deltas = Vec::new();
        for Span { offset, length } in std::iter::once(entry).chain(location.bases.iter().copied()) {
            let end = offset.checked_add(length).filter(|end| *end <= pack.size && length <= VALUE_MAX);
            let Some(end) = end else { return Ok(None) };
            let Some(bytes) = self.version(&location.key, pack, Some(offset..end)).await? else { return Ok(None) };
            let Some((kind, content)) = blocking(move || Ok(inflated(&bytes))).await? else { return Ok(None) };
            if let EntryKind::Whole(kind) = kind {
                return blocking(move || Ok(applied(content, deltas).map(|content| (kind, content.into())))).await;
            }
            deltas.push(content);
        }
        Ok(None)
    }

    async fn search_loose_versions(&mut self, search: &mut Search) -> Result<()> {
        for oid in search.oids() {
            let key = loose_key(&oid);
            let versions = self.versions_of(&key).await?;
            for version in versions.iter().filter(|version| !version.current && version.size <= VALUE_MAX) {
                let Some(value) = self.version(&key, version, None).await? else { continue };
                let decode = move || Ok(loose::decode(&value, OBJECT_MAX, &mut Inflater::default()).ok());
                if let Some((kind, content)) = blocking(decode).await? {
                    search.offer(oid, kind, content.into());
                }
                if !search.open.contains_key(&oid) {
                    break;
                }
            }
            self.store_window(search).await?;
        }
        Ok(())
    }

    async fn keeps_versions(&mut self) -> Result<bool> {
        if let Some(kept) = self.versions {
            return Ok(kept);
        }
        let kept = match self.engine.store.bucket().keeps_versions().await {
            Ok(kept) => kept,
            // Who may not ask that may still be allowed to list them.
            Err(StoreError::Refused { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        self.versions = Some(kept);
        Ok(kept)
    }

    /// Nothing, and no more questions in this run, where the bucket refuses.
    async fn versions_of(&mut self, key: &str) -> Result<Vec<Version>> {
        if !self.keeps_versions().await? {
            return Ok(Vec::new());
        }
        self.count(LISTING).await;
        match self.engine.store.bucket().versions(key, VERSIONS).await {
            Ok(versions) => Ok(versions),
            Err(error @ StoreError::Refused { .. }) => {
                self.versions = Some(false);
                self.unread(&error);
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// `None` where the bucket refuses or does not have it any more: others may do.
    async fn version(&mut self, key: &str, version: &Version, range: Option<Range<u64>>) -> Result<Option<Bytes>> {
        match self.engine.store.bucket().get_version(key, &version.id, range).await {
            Ok(value) => {
                self.count(value.as_ref().map_or(0, |value| value.len() as u64)).await;
                Ok(value)
            }
            Err(error @ StoreError::Refused { .. }) => {
                self.unread(&error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One finding, however often it happens.
    fn unread(&mut self, error: &StoreError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, cause, "older versions of the bucket's keys cannot be looked at");
        self.find(Damage::new(Code::VersionsUnread, format!("{error}: {cause}")), "bucket", None, false);
    }
}

/// The pack that an index is of and how many entries it has, if one of them is looked for; `None` also if it is damaged.
async fn names(idx: Bytes, oids: Vec<ObjectId>) -> Result<Option<(ObjectId, usize)>> {
    blocking(move || {
        let Ok(index) = Index::parse(idx) else { return Ok(None) };
        let named = oids.iter().any(|oid| index.lookup(oid).is_some());
        Ok(named.then(|| (index.pack_checksum(), index.len())))
    })
    .await
}
