//! Objects, byte by byte: inflated, and hashed by two implementations.

use treehold_catalog::{InspectedObject, KeyState, Located};
use treehold_object::{Policy, fsck, hash, runs, second_opinion};
use treehold_store::{Object, StoreError};

use super::finding::{Code, Damage};
use super::repair::Wanted;
use super::{ROWS, Run};
use crate::objects::ReadResult;
use crate::{Result, blocking};

/// Content read at once, bytes; a single object may be larger.
pub(super) const WINDOW: u64 = 8 << 20;
/// How often an object that keeps moving is looked for.
const LOOKS: usize = 5;

/// What a look at an object showed.
#[derive(Debug)]
pub(super) enum Look {
    /// It is what the ledger says.
    Whole(Object),
    /// It has its id, but something about it is not as it should be.
    Odd(Object, Damage),
    /// It cannot be had from its place.
    Damaged(Damage),
    /// The ledger does not have it any more.
    Gone,
}

impl Run<'_> {
    pub(super) async fn check_objects(&mut self) -> Result<()> {
        loop {
            let keys = self.engine.catalog.inspect_keys(&self.state.after, None, ROWS).await?;
            if keys.is_empty() {
                return Ok(());
            }
            for key in keys {
                if key.state == KeyState::Present {
                    let mut from = 0;
                    loop {
                        let rows = self.engine.catalog.inspect_places(key.id, from, ROWS).await?;
                        let Some(last) = rows.last() else { break };
                        from = last.offset + 1;
                        for window in runs(&rows, WINDOW, |row| row.size) {
                            self.check_rows(window).await?;
                        }
                    }
                }
                self.reached(key.key);
            }
        }
    }

    async fn check_rows(&mut self, rows: &[InspectedObject]) -> Result<()> {
        let looks = self.look(rows).await?;
        self.progress.step("reading objects", self.state.checked.objects, None);
        let mut damaged = Vec::new();
        for (row, look) in rows.iter().zip(looks) {
            match look {
                Look::Whole(_) | Look::Gone => {}
                Look::Odd(_, damage) => self.find(damage, row.oid.to_string(), None, false),
                Look::Damaged(damage) => damaged.push((row, damage)),
            }
        }
        let rescued = self.rescue(damaged.iter().map(|(row, _)| Wanted::of(row)).collect()).await?;
        for (row, damage) in damaged {
            self.find(damage, row.oid.to_string(), None, rescued.contains_key(&row.oid));
        }
        Ok(())
    }

    /// Reads objects from their places, in the order given. One that cannot be had is looked for again: `repack` may have moved it,
    /// and the collector may have taken it.
    pub(super) async fn look(&mut self, rows: &[InspectedObject]) -> Result<Vec<Look>> {
        let mut looks = Vec::with_capacity(rows.len());
        for window in runs(rows, WINDOW, |row| row.size) {
            looks.extend(self.look_once(window).await?);
        }
        for (row, look) in rows.iter().zip(&mut looks) {
            if matches!(look, Look::Damaged(_)) {
                *look = self.look_again(row.clone()).await?;
            }
        }
        self.state.checked.objects += rows.len() as u64;
        Ok(looks)
    }

    async fn look_again(&mut self, mut row: InspectedObject) -> Result<Look> {
        let mut look = Look::Gone;
        for _ in 0..LOOKS {
            let fresh = self.engine.catalog.inspect_objects(&[row.oid]).await?.pop().flatten();
            let Some(fresh) = fresh else { return Ok(Look::Gone) };
            // Also where the place is the same: what a delta rests on may have moved while it was read.
            look = self.look_once(std::slice::from_ref(&fresh)).await?.pop().unwrap_or(Look::Gone);
            let settled = self.engine.catalog.inspect_objects(&[row.oid]).await?.pop().flatten();
            let stayed = settled.as_ref().is_some_and(|settled| place(settled) == place(&fresh));
            if stayed || !matches!(look, Look::Damaged(_)) {
                break;
            }
            row = fresh;
        }
        Ok(look)
    }

    async fn look_once(&mut self, rows: &[InspectedObject]) -> Result<Vec<Look>> {
        let there: Vec<Located> = rows.iter().filter_map(InspectedObject::located).collect();
        let locations = self.engine.locations(&there).await?;
        self.count(there.iter().map(|object| object.length).fold(0, u64::saturating_add)).await;
        let mut read = self.engine.store.get_stored(&locations).await.into_iter();
        let mut pairs: Vec<(InspectedObject, Option<ReadResult>)> = Vec::with_capacity(rows.len());
        for row in rows {
            let object = row.key.as_ref().and_then(|_| read.next());
            match object {
                Some(Err(error @ (StoreError::Unavailable { .. } | StoreError::Refused { .. }))) => {
                    return Err(error.into());
                }
                object => pairs.push((row.clone(), object)),
            }
        }
        blocking(move || Ok(pairs.into_iter().map(|(row, read)| judge(&row, read)).collect())).await
    }
}

/// Where an object is.
fn place(row: &InspectedObject) -> (i64, u64, u64, Option<u64>) {
    (row.key_id, row.offset, row.length, row.base)
}

/// Compares what was read with the row, by other means than the store did.
fn judge(row: &InspectedObject, read: Option<ReadResult>) -> Look {
    let object = match read {
        Some(Ok(object)) => object,
        None => return Look::Damaged(Damage::new(Code::ObjectLost, "its row names a key that does not exist")),
        Some(Err(StoreError::Missing { key })) => {
            return Look::Damaged(Damage::new(Code::ObjectLost, format!("{key} is not in the bucket")));
        }
        Some(Err(_)) => {
            let key = row.key.as_ref().map_or("", |(key, _)| key);
            let detail = format!("what is at {} in {key} is not the {} of {} bytes", row.offset, row.kind, row.size);
            return Look::Damaged(Damage::new(Code::ObjectCorrupt, detail));
        }
    };
    if second_opinion(object.kind, &object.content) != row.oid {
        return Look::Damaged(Damage::new(Code::ObjectHash, "the two implementations of SHA-1 disagree"));
    }
    if hash::sha256(object.kind, &object.content) != row.sha256 {
        return Look::Odd(object, Damage::new(Code::ObjectSha256, "the content has its id, but another SHA-256"));
    }
    match fsck::check(object.kind, &object.oid, &object.content, Policy::Import) {
        Ok(_) => Look::Whole(object),
        Err(error) => Look::Odd(object, Damage::new(Code::ObjectMalformed, error.fault.to_string())),
    }
}
