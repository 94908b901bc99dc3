//! Reading objects by id, for callers that came to the id from a ref or pending row of their own project.

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

    /// Objects by id, in the order given; `None` = the ledger does not have it.
    pub(crate) async fn objects(&self, oids: &[ObjectId]) -> Result<Vec<Option<Object>>> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let located = self.catalog.locate(oids).await?;
        let wanted: Vec<Location> = located.iter().flatten().cloned().map(location).collect();
        self.room.take(wanted.iter().map(|wanted| wanted.size).sum())?;
        let mut read = self.store.get_many(&wanted).await.into_iter();
        located
            .into_iter()
            .map(|located| match located {
                None => Ok(None),
                Some(located) => {
                    let object =
                        read.next().ok_or_else(|| EngineError::internal(format!("{} was not read", located.oid)))?;
                    Ok(Some(object?))
                }
            })
            .collect()
    }

    /// Contents by id, in the order given.
    pub(crate) async fn contents(&self, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        Ok(self.objects(oids).await?.into_iter().map(|object| object.map(|object| object.content)).collect())
    }
}
