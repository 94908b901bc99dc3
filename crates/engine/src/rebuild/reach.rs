//! Everything below commits and tags, level by level, read where it lies.

use std::collections::HashSet;

use bytes::Bytes;
use treehold_catalog::{Located, RoaringTreemap};
use treehold_object::{Kind, ObjectId};
use treehold_store::{Object, StoreError};

use super::history::tag_target;
use crate::intake::{ROW_BYTES, ROWS};
use crate::tree::{GITLINK, entries};
use crate::{Engine, Result};

/// Objects looked up at once.
const BATCH: usize = 4096;
/// Content read at once, bytes; one object may be larger.
const WINDOW: u64 = 16 << 20;

/// A walk through what one project reaches.
pub(super) struct Walk<'a> {
    engine: &'a Engine,
    seen: HashSet<ObjectId>,
    /// Ledger numbers of what was found.
    pub numbers: RoaringTreemap,
    /// What was not.
    pub missing: Vec<ObjectId>,
    /// Trees that were recorded.
    pub kept: u64,
    trees: Vec<(ObjectId, Bytes)>,
    tree_bytes: usize,
}

impl<'a> Walk<'a> {
    pub fn new(engine: &'a Engine) -> Self {
        let (seen, numbers, missing) = (HashSet::new(), RoaringTreemap::new(), Vec::new());
        Self { engine, seen, numbers, missing, kept: 0, trees: Vec::new(), tree_bytes: 0 }
    }

    /// Commits, without what they lead to.
    pub async fn commits(&mut self, commits: Vec<ObjectId>) -> Result<()> {
        for chunk in commits.chunks(BATCH) {
            self.seen.extend(chunk);
            self.locate(chunk).await?;
        }
        Ok(())
    }

    /// Objects and all below them that was not seen before; the trees among them are recorded if they are to be kept.
    pub async fn objects(&mut self, roots: Vec<ObjectId>, keep: bool) -> Result<()> {
        let mut open = roots;
        open.retain(|oid| self.seen.insert(*oid));
        while !open.is_empty() {
            let batch = open.split_off(open.len().saturating_sub(BATCH));
            let mut inner = self.locate(&batch).await?;
            inner.retain(|object| matches!(object.kind, Kind::Tree | Kind::Tag));
            // Neighbours in a pack are read with one range.
            inner.sort_unstable_by(|a, b| (&a.key, a.offset).cmp(&(&b.key, b.offset)));
            let mut rest = &inner[..];
            while !rest.is_empty() {
                let mut content = 0;
                let fits = rest.iter().take_while(|object| {
                    content += object.size;
                    content <= WINDOW
                });
                let (window, more) = rest.split_at(fits.count().max(1));
                rest = more;
                self.read(window, keep, &mut open).await?;
            }
        }
        self.flush().await
    }

    async fn locate(&mut self, oids: &[ObjectId]) -> Result<Vec<Located>> {
        let mut there = Vec::with_capacity(oids.len());
        for (oid, located) in oids.iter().zip(self.engine.catalog.locate(oids).await?) {
            match located {
                Some(located) => {
                    self.numbers.insert(located.number);
                    there.push(located);
                }
                // The one object that need not be stored anywhere.
                None if oid.is_empty_tree() => {}
                None => self.missing.push(*oid),
            }
        }
        Ok(there)
    }

    async fn read(&mut self, window: &[Located], keep: bool, open: &mut Vec<ObjectId>) -> Result<()> {
        let locations = self.engine.locations(window).await?;
        for (located, object) in window.iter().zip(self.engine.store.get_stored(&locations).await) {
            match object {
                Ok(object) => self.open(object, keep, open).await?,
                Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => {
                    self.missing.push(located.oid);
                    self.numbers.remove(located.number);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn open(&mut self, object: Object, keep: bool, open: &mut Vec<ObjectId>) -> Result<()> {
        if object.kind == Kind::Tag {
            open.extend(tag_target(&object.content).filter(|target| self.seen.insert(*target)));
            return Ok(());
        }
        for entry in entries(&object.content) {
            let Ok((_, item)) = entry else {
                self.missing.push(object.oid);
                return Ok(());
            };
            if item.mode != GITLINK && self.seen.insert(item.oid) {
                open.push(item.oid);
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
