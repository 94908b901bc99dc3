//! Packs as git would see them: header, trailer, index, and whether the index agrees with the ledger.

use bytes::Bytes;
use treehold_catalog::{InspectedKey, InspectedObject, KeyState};
use treehold_object::ObjectId;
use treehold_object::idx::Index;
use treehold_object::pack::{Checksum, HEADER_LEN, TRAILER_LEN, parse_header};

use super::finding::{Code, Damage};
use super::repair::Wanted;
use super::{ROWS, Run};
use crate::{Result, blocking};

/// A pack is read in pieces of so many bytes for its checksum.
const PIECE: u64 = 8 << 20;

/// An index that was read, and where entries end.
struct Indexed {
    index: Index<Bytes>,
    /// Starts of entries, in order, and where the trailer starts.
    starts: Vec<u64>,
}

impl Indexed {
    fn new(index: Index<Bytes>, end: u64) -> Self {
        let mut starts: Vec<u64> = index.iter().map(|entry| entry.offset).chain([end]).collect();
        starts.sort_unstable();
        Self { index, starts }
    }

    /// Why the row is not what the index says.
    fn disagrees(&self, row: &InspectedObject) -> Option<String> {
        let Some(entry) = self.index.lookup(&row.oid) else { return Some("the index does not have it".to_owned()) };
        let next = self.starts.partition_point(|start| *start <= entry.offset);
        let length = self.starts.get(next).map_or(0, |next| next - entry.offset);
        let agree = (entry.offset, length) == (row.offset, row.length);
        let (offset, recorded) = (entry.offset, (row.offset, row.length));
        (!agree)
            .then(|| format!("the index has {length} bytes at {offset}, the ledger {} at {}", recorded.1, recorded.0))
    }
}

impl Run<'_> {
    pub(super) async fn check_packs(&mut self) -> Result<()> {
        self.progress.step("checking packs", self.state.checked.packs, None);
        loop {
            let keys = self.engine.catalog.inspect_keys(&self.state.after, None, ROWS).await?;
            let Some(last) = keys.last().map(|key| key.key.clone()) else { return Ok(()) };
            for key in keys {
                if key.state == KeyState::Present && key.key.ends_with(".pack") {
                    self.check_pack(&key).await?;
                    self.state.checked.packs += 1;
                    self.progress.step("checking packs", self.state.checked.packs, None);
                }
                self.reached(key.key);
            }
            self.reached(last);
        }
    }

    async fn check_pack(&mut self, key: &InspectedKey) -> Result<()> {
        let damage = match self.look_at_pack(key).await? {
            Ok(Some(indexed)) => return self.compare_places(key, &indexed).await,
            // Its absence is the bucket's matter.
            Ok(None) => return Ok(()),
            Err(damage) => damage,
        };
        // Given up while it was read: what is missing may miss.
        let now = self.engine.catalog.inspect_names(std::slice::from_ref(&key.key)).await?.pop().flatten();
        if now.is_none_or(|now| now.state != KeyState::Present) {
            return Ok(());
        }
        let repaired = self.rescue_key(key).await?;
        self.find(damage, key.key.clone(), None, repaired);
        Ok(())
    }

    /// Index, header, trailer, with `full` the checksum over all of it; `None`: there is no such pack.
    async fn look_at_pack(&mut self, key: &InspectedKey) -> Result<std::result::Result<Option<Indexed>, Damage>> {
        let bucket = self.engine.store.bucket();
        let Some(size) = bucket.head(&key.key).await? else { return Ok(Ok(None)) };
        let idx_key = treehold_store::idx_key(&key.key).unwrap_or_default();
        let Some(idx) = bucket.get(&idx_key, None).await? else {
            return Ok(Err(Damage::new(Code::IdxMissing, format!("{idx_key} is not in the bucket"))));
        };
        self.count(idx.len() as u64).await;
        let end = size.saturating_sub(TRAILER_LEN as u64);
        let parsed = blocking(move || Ok(Index::parse(idx).map(|index| Indexed::new(index, end)))).await?;
        let indexed = match parsed {
            Ok(indexed) => indexed,
            Err(error) => return Ok(Err(Damage::new(Code::IdxCorrupt, error.to_string()))),
        };
        let bucket = self.engine.store.bucket();
        let head = bucket.get(&key.key, Some(0..HEADER_LEN as u64)).await?.unwrap_or_default();
        let trailer = bucket.get(&key.key, Some(end..size)).await?.unwrap_or_default();
        let corrupt = |detail: String| Ok(Err(Damage::new(Code::PackCorrupt, detail)));
        let count = head.first_chunk().and_then(|head| parse_header(head).ok());
        match count {
            None => return corrupt("it does not begin as a pack does".to_owned()),
            Some(count) if count as usize != indexed.index.len() => {
                return corrupt(format!("{count} objects are announced, the index has {}", indexed.index.len()));
            }
            Some(_) => {}
        }
        if trailer[..] != *indexed.index.pack_checksum().as_slice() {
            return corrupt("its trailer is not the one that its index names".to_owned());
        }
        if self.state.asked.full && self.checksum(key, end).await? != Some(indexed.index.pack_checksum()) {
            return corrupt("its checksum is not that of its bytes".to_owned());
        }
        Ok(Ok(Some(indexed)))
    }

    /// SHA-1 of the first `end` bytes; `None` if there are not so many.
    async fn checksum(&mut self, key: &InspectedKey, end: u64) -> Result<Option<ObjectId>> {
        let mut checksum = Checksum::default();
        let mut at = 0;
        while at < end {
            let to = end.min(at + PIECE);
            self.count(to - at).await;
            let piece = self.engine.store.bucket().get(&key.key, Some(at..to)).await?;
            let Some(piece) = piece.filter(|piece| piece.len() as u64 == to - at) else { return Ok(None) };
            checksum = blocking(move || {
                checksum.update(&piece);
                Ok(checksum)
            })
            .await?;
            at = to;
        }
        Ok(checksum.finish().ok())
    }

    /// Entries that no row names are dead weight; each row must be an entry.
    async fn compare_places(&mut self, key: &InspectedKey, indexed: &Indexed) -> Result<()> {
        let mut from = 0;
        loop {
            let rows = self.engine.catalog.inspect_places(key.id, from, ROWS).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = last.offset + 1;
            for row in &rows {
                let Some(detail) = indexed.disagrees(row) else { continue };
                let now = self.engine.catalog.inspect_objects(&[row.oid]).await?.pop().flatten();
                if now.as_ref() != Some(row) {
                    continue;
                }
                let rescued = self.rescue(vec![Wanted::of(row)]).await?;
                let repaired = rescued.contains_key(&row.oid);
                self.find(Damage::new(Code::IdxDisagrees, detail), row.oid.to_string(), None, repaired);
            }
        }
    }

    /// Counts bytes that are read, and waits until they may be.
    pub(super) async fn count(&mut self, bytes: u64) {
        self.state.bytes_read += bytes;
        self.pace.take(bytes).await;
    }
}
