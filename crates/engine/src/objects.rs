//! Reading objects by id, for callers that came to the id from a ref or pending row of their own project.
//!
//! Rights are checked before any of this is called: the store's cache is shared by all projects, and what it has at hand must never
//! be the answer to whether somebody may see it.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::Located;
use treehold_object::{Kind, ObjectId};
use treehold_store::{Location, Object};

use crate::{Engine, EngineError, Result};

/// Where the store finds what the ledger located.
pub(crate) fn location(located: Located) -> Location {
    Location {
        oid: located.oid,
        kind: located.kind,
        size: located.size,
        key: located.key,
        offset: located.offset,
        length: located.length,
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
            return Ok(objects);
        }
        let located = self.catalog.locate(&absent).await?;
        let wanted: Vec<Location> = located.iter().flatten().cloned().map(location).collect();
        let mut read = self.store.get_many(&wanted).await.into_iter();
        let places = objects.iter_mut().filter(|object| object.is_none());
        for (place, located) in places.zip(located) {
            if let Some(located) = located {
                let object =
                    read.next().ok_or_else(|| EngineError::internal(format!("{} was not read", located.oid)))?;
                *place = Some(object?);
            }
        }
        Ok(objects)
    }

    /// Contents by id, in the order given.
    pub(crate) async fn contents(&self, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        Ok(self.objects(oids).await?.into_iter().map(|object| object.map(|object| object.content)).collect())
    }
}
