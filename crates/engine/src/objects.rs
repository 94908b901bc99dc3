//! Reading objects by id, for callers that came to the id from a ref or pending row of their own project.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use treehold_catalog::Located;
use treehold_object::{Kind, ObjectId};
use treehold_store::{Location, Object, StoreError};

use crate::tree::Tree;
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

/// A blob on its way to a reader: its size is known, its bytes may have to be read yet.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    /// In memory.
    Here(Bytes),
    /// In the bucket.
    There(Location),
}

impl Blob {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Here(content) => content.len() as u64,
            Self::There(location) => location.size,
        }
    }
}

impl Engine {
    /// Raw trees by id: from memory, from the catalog, else from the store. Ids may repeat.
    pub(crate) async fn trees(&self, oids: &[ObjectId]) -> Result<HashMap<ObjectId, Bytes>> {
        let trees = self.decoded_trees(oids).await?;
        Ok(trees.into_iter().map(|(oid, tree)| (oid, tree.raw().clone())).collect())
    }

    /// A tree that is in memory.
    pub(crate) fn cached_tree(&self, oid: &ObjectId) -> Option<Arc<Tree>> {
        self.trees.get(oid)
    }

    /// Remembers trees that were just made: who wrote a file is the next to read it.
    pub(crate) fn keep_trees(&self, trees: &[(ObjectId, Bytes)]) {
        for (oid, raw) in trees {
            if let Ok(tree) = Tree::decode(raw.clone()) {
                self.trees.insert(*oid, Arc::new(tree));
            }
        }
    }

    /// Decoded trees by id: from memory, from the catalog, else from the store. Ids may repeat.
    pub(crate) async fn decoded_trees(&self, oids: &[ObjectId]) -> Result<HashMap<ObjectId, Arc<Tree>>> {
        let mut trees = HashMap::with_capacity(oids.len());
        let mut wanted = oids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|oid| self.cached_tree(oid).is_none_or(|tree| trees.insert(*oid, tree).is_some()));
        if wanted.is_empty() {
            return Ok(trees);
        }
        let mut elsewhere = Vec::new();
        let mut keep = |oid: ObjectId, raw: Bytes| -> Result<()> {
            let tree = Arc::new(Tree::decode(raw)?);
            self.trees.insert(oid, Arc::clone(&tree));
            trees.insert(oid, tree);
            Ok(())
        };
        for (oid, raw) in wanted.iter().zip(self.catalog.trees(&wanted).await?) {
            match raw {
                Some(raw) => keep(*oid, raw)?,
                None => elsewhere.push(*oid),
            }
        }
        for (oid, object) in elsewhere.iter().zip(self.objects(&elsewhere).await?) {
            match object {
                Some(object) if object.kind == Kind::Tree => keep(*oid, object.content)?,
                _ if *oid == ObjectId::empty_tree(gix_hash::Kind::Sha1) => keep(*oid, Bytes::new())?,
                _ => return Err(EngineError::internal(format!("tree {oid} is missing from the store"))),
            }
        }
        Ok(trees)
    }

    /// Fills in the sizes of the files in trees that lack them: one query for all.
    pub(crate) async fn size_trees<'a>(&self, trees: impl Iterator<Item = &'a Arc<Tree>>) -> Result<()> {
        let trees: Vec<&Arc<Tree>> = trees.filter(|tree| tree.sizes().is_none()).collect();
        let mut blobs: Vec<ObjectId> = trees.iter().flat_map(|tree| tree.blobs()).collect();
        blobs.sort_unstable();
        blobs.dedup();
        let sizes = match blobs.is_empty() {
            true => Vec::new(),
            false => self.catalog.sizes(&blobs).await?,
        };
        let missing = |oid: &ObjectId| EngineError::internal(format!("{oid} is not stored"));
        let sizes = blobs.iter().zip(sizes).map(|(oid, size)| Ok((*oid, size.ok_or_else(|| missing(oid))?)));
        let sizes = sizes.collect::<Result<HashMap<ObjectId, u64>>>()?;
        for tree in trees {
            tree.set_sizes(tree.blobs().map(|oid| sizes.get(&oid).copied().unwrap_or(0)));
        }
        Ok(())
    }

    /// Where blobs are, in the order given: in memory, else as the ledger says, in one query for all. `None` = nowhere.
    pub(crate) async fn blobs(&self, oids: &[ObjectId]) -> Result<Vec<Option<Blob>>> {
        let here = |oid: &ObjectId| oid.is_empty_blob().then(|| Blob::Here(Bytes::new()));
        let mut blobs: Vec<Option<Blob>> = oids.iter().map(here).collect();
        let missing: Vec<ObjectId> =
            oids.iter().zip(&blobs).filter(|(_, blob)| blob.is_none()).map(|(oid, _)| *oid).collect();
        if !missing.is_empty() {
            let mut located = self.catalog.locate(&missing).await?.into_iter();
            for blob in blobs.iter_mut().filter(|blob| blob.is_none()) {
                *blob = located.next().flatten().map(|located| Blob::There(location(located)));
            }
        }
        Ok(blobs)
    }

    /// Contents of blobs, in the order given; each has an answer of its own, as damage of one is no reason to withhold the others.
    pub(crate) async fn blob_contents(&self, blobs: &[&Blob]) -> Vec<std::result::Result<Bytes, StoreError>> {
        let there = blobs.iter().filter_map(|blob| match blob {
            Blob::There(location) => Some(location.clone()),
            Blob::Here(_) => None,
        });
        let there: Vec<Location> = there.collect();
        let mut read = self.store.get_many(&there).await.into_iter();
        let content = |blob: &&Blob| match blob {
            Blob::Here(content) => Ok(content.clone()),
            Blob::There(location) => {
                let missing = || Err(StoreError::Missing { key: location.key.clone() });
                read.next().unwrap_or_else(missing).map(|object| object.content)
            }
        };
        blobs.iter().map(content).collect()
    }

    /// Objects by id, in the order given; `None` = the ledger does not have it.
    pub(crate) async fn objects(&self, oids: &[ObjectId]) -> Result<Vec<Option<Object>>> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let located = self.catalog.locate(oids).await?;
        let wanted: Vec<Location> = located.iter().flatten().cloned().map(location).collect();
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
