//! Reading objects by id, for callers that came to the id from a ref or pending row of their own project.
//!
//! Rights are checked before any of this is called: the store's cache is shared by all projects, and what it has at hand must never
//! be the answer to whether somebody may see it.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::Located;
use treehold_object::pack::Span;
use treehold_object::{Kind, ObjectId};
use treehold_store::{Location, Object, StoreError};

use crate::{Engine, EngineError, Result};

/// An object, or why it could not be read.
pub(crate) type ReadResult = std::result::Result<Object, StoreError>;

fn location(located: &Located, bases: Vec<Span>) -> Location {
    Location {
        oid: located.oid,
        kind: located.kind,
        size: located.size,
        key: located.key.clone(),
        offset: located.offset,
        length: located.length,
        bases,
    }
}

impl Engine {
    /// Raw trees by id: from the catalog, else from the store. Ids may repeat.
    pub(crate) async fn trees(&self, oids: &[ObjectId]) -> Result<HashMap<ObjectId, Bytes>> {
        let mut wanted = oids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut trees = HashMap::with_capacity(wanted.len());
        let mut elsewhere = Vec::new();
        for (oid, raw) in wanted.iter().zip(self.catalog.trees(&wanted).await?) {
            match raw {
                Some(raw) => _ = trees.insert(*oid, raw),
                None => elsewhere.push(*oid),
            }
        }
        for (oid, object) in elsewhere.iter().zip(self.objects(&elsewhere).await?) {
            match object {
                Some(object) if object.kind == Kind::Tree => _ = trees.insert(*oid, object.content),
                _ if *oid == ObjectId::empty_tree(gix_hash::Kind::Sha1) => _ = trees.insert(*oid, Bytes::new()),
                _ => return Err(EngineError::internal(format!("tree {oid} is missing from the store"))),
            }
        }
        Ok(trees)
    }

    /// Objects by id, in the order given; `None` = the ledger does not have it. What is at hand is not looked up in the ledger.
    pub(crate) async fn objects(&self, oids: &[ObjectId]) -> Result<Vec<Option<Object>>> {
        let mut objects = self.store.cached(oids, u64::MAX).await;
        let absent = oids.iter().zip(&objects).filter(|(_, object)| object.is_none());
        let absent: Vec<ObjectId> = absent.map(|(oid, _)| *oid).collect();
        if absent.is_empty() {
            self.room.take(objects.iter().flatten().map(|object| object.content.len() as u64).sum())?;
            return Ok(objects);
        }
        let located = self.catalog.locate(&absent).await?;
        let there: Vec<Located> = located.iter().flatten().cloned().collect();
        let at_hand: u64 = objects.iter().flatten().map(|object| object.content.len() as u64).sum();
        self.room.take(at_hand + there.iter().map(|object| object.size).sum::<u64>())?;
        let mut read = self.read_located(&there).await?.into_iter();
        let places = objects.iter_mut().filter(|object| object.is_none());
        for (place, located) in places.zip(located) {
            *place = located.and_then(|_| read.next()).transpose()?;
        }
        Ok(objects)
    }

    /// Objects that the ledger located, in the order given; damage of one fails only that one.
    ///
    /// `repack` may have moved an object since it was located, and its old place may be gone: then it is located again.
    pub(crate) async fn read_located(&self, located: &[Located]) -> Result<Vec<ReadResult>> {
        let mut read = self.store.get_many(&self.locations(located).await?).await;
        let lost: Vec<usize> = (read.iter().enumerate())
            .filter(|(_, object)| matches!(object, Err(StoreError::Missing { .. } | StoreError::Corrupt { .. })))
            .map(|(at, _)| at)
            .collect();
        if lost.is_empty() {
            return Ok(read);
        }
        let oids: Vec<ObjectId> = lost.iter().map(|at| located[*at].oid).collect();
        let again = self.catalog.locate(&oids).await?;
        let (places, moved): (Vec<usize>, Vec<Located>) = (lost.into_iter().zip(again))
            .filter_map(|(at, found)| Some((at, found.filter(|found| *found != located[at])?)))
            .unzip();
        for (at, object) in places.into_iter().zip(self.store.get_many(&self.locations(&moved).await?).await) {
            read[at] = object;
        }
        Ok(read)
    }

    /// What the store must know to read what the ledger located.
    pub(crate) async fn locations(&self, located: &[Located]) -> Result<Vec<Location>> {
        if located.iter().all(|object| object.base.is_none()) {
            return Ok(located.iter().map(|object| location(object, Vec::new())).collect());
        }
        let chains = self.catalog.chains(located).await?;
        Ok(located.iter().zip(chains).map(|(object, bases)| location(object, bases)).collect())
    }

    /// Contents by id, in the order given.
    pub(crate) async fn contents(&self, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        Ok(self.objects(oids).await?.into_iter().map(|object| object.map(|object| object.content)).collect())
    }
}
