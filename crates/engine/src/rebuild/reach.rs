//! Everything below commits and tags, read where it lies.
//!
//! What was found and what is still to be read are compressed bitmaps of ledger numbers, as the collector has them: a project of many
//! millions of objects takes a few bits for each.

use std::collections::HashSet;

use bytes::Bytes;
use treehold_catalog::{Located, RoaringTreemap};
use treehold_object::{Kind, ObjectId, runs};
use treehold_store::{Object, StoreError};

use super::history::tag_target;
use crate::intake::{ROW_BYTES, ROWS};
use crate::mark::{KNOWN_MAX, take_lowest};
use crate::tree::{GITLINK, entries};
use crate::{Engine, Result};

/// Objects looked up at once.
const BATCH: usize = 4096;
/// Content read at once, bytes; one object may be larger.
const WINDOW: u64 = 4 << 20;

/// A walk through what one project reaches.
pub(super) struct Walk<'a> {
    engine: &'a Engine,
    /// Ids that were looked up last, so that the ledger need not be asked again.
    known: HashSet<ObjectId>,
    /// Ledger numbers of what was found.
    pub numbers: RoaringTreemap,
    /// Of those that could not be read.
    damaged: RoaringTreemap,
    /// What was not found, or could not be read.
    pub missing: HashSet<ObjectId>,
    /// Trees that were recorded.
    pub kept: u64,
    trees: Vec<(ObjectId, Bytes)>,
    tree_bytes: usize,
}

impl<'a> Walk<'a> {
    pub fn new(engine: &'a Engine) -> Self {
        let (numbers, damaged) = (RoaringTreemap::new(), RoaringTreemap::new());
        let (known, missing) = (HashSet::new(), HashSet::new());
        Self { engine, known, numbers, damaged, missing, kept: 0, trees: Vec::new(), tree_bytes: 0 }
    }

    /// Commits, without what they lead to.
    pub async fn commits(&mut self, commits: Vec<ObjectId>) -> Result<()> {
        self.find(commits, &mut RoaringTreemap::new()).await
    }

    /// Objects and all below them that was not seen before; the trees among them are recorded if they are to be kept.
    pub async fn objects(&mut self, roots: Vec<ObjectId>, keep: bool) -> Result<()> {
        let mut open = RoaringTreemap::new();
        self.find(roots, &mut open).await?;
        while !open.is_empty() {
            // Neighbours in a pack are read with one range.
            let located = self.engine.catalog.locate_numbers(&take_lowest(&mut open)).await?;
            for window in runs(&located, WINDOW, |object| object.size) {
                let found = self.read(window, keep).await?;
                self.find(found, &mut open).await?;
            }
        }
        self.flush().await
    }

    /// Looks up what is named, and opens trees and tags that were not seen before.
    async fn find(&mut self, mut named: Vec<ObjectId>, open: &mut RoaringTreemap) -> Result<()> {
        named.sort_unstable();
        named.dedup();
        for batch in named.chunks(BATCH) {
            for (oid, found) in batch.iter().zip(self.engine.catalog.numbers(batch).await?) {
                self.remember(*oid);
                match found {
                    Some((number, _)) if self.damaged.contains(number) => {}
                    Some((number, kind)) => {
                        if self.numbers.insert(number) && matches!(kind, Kind::Tree | Kind::Tag) {
                            open.insert(number);
                        }
                    }
                    // The one object that need not be stored anywhere.
                    None if oid.is_empty_tree() => {}
                    None => _ = self.missing.insert(*oid),
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, oid: ObjectId) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(oid);
    }

    /// What these objects name.
    async fn read(&mut self, window: &[Located], keep: bool) -> Result<Vec<ObjectId>> {
        let locations = self.engine.locations(window).await?;
        let mut named = Vec::new();
        for (located, object) in window.iter().zip(self.engine.store.get_stored(&locations).await) {
            match object {
                Ok(object) => self.open(object, keep, &mut named).await?,
                Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => {
                    self.missing.insert(located.oid);
                    self.numbers.remove(located.number);
                    self.damaged.insert(located.number);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(named)
    }

    async fn open(&mut self, object: Object, keep: bool, named: &mut Vec<ObjectId>) -> Result<()> {
        if object.kind == Kind::Tag {
            named.extend(tag_target(&object.content));
            return Ok(());
        }
        for entry in entries(&object.content) {
            let Ok((_, item)) = entry else {
                self.missing.insert(object.oid);
                return Ok(());
            };
            if item.mode != GITLINK && !self.known.contains(&item.oid) {
                named.push(item.oid);
            }
        }
        if keep {
            self.kept += 1;
            self.tree_bytes += object.content.len();
            self.trees.push((object.oid, object.content));
            if self.trees.len() >= ROWS || self.tree_bytes >= ROW_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.tree_bytes = 0;
        Ok(self.engine.catalog.put_trees(&std::mem::take(&mut self.trees)).await?)
    }
}
