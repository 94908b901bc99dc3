//! Reading objects by id, for callers that came to the id from a ref or pending row of their own project.
//!
//! Rights are checked before any of this is called: the store's cache is shared by all projects, and what it has at hand must never
//! be the answer to whether somebody may see it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use treehold_catalog::Located;
use treehold_object::pack::Span;
use treehold_object::{Kind, ObjectId};
use treehold_store::{Location, Object, StoreError};

use crate::tree::Tree;
use crate::{Engine, EngineError, Result};

/// How much content is taken from memory and local disk before it is known how much there is, bytes.
const AT_HAND_BYTES: u64 = 8 << 20;

/// Trees that are read at once, bytes; a single one may be larger…
const TREES_BYTES: u64 = 16 << 20;
/// …and so many are, whatever their size: it is not asked for.
const TREES_FREE: usize = 8;

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

/// A blob on its way to a reader: its size is known, its bytes may have to be read yet.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    /// In memory.
    Here(Bytes),
    /// In the bucket.
    There(Located),
}

impl Blob {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Here(content) => content.len() as u64,
            Self::There(located) => located.size,
        }
    }
}

/// Objects that were looked up.
#[derive(Debug)]
pub(crate) struct Sought {
    /// What is at hand.
    objects: Vec<Option<Object>>,
    /// Where the others are, in their order.
    located: Vec<Option<Located>>,
}

impl Sought {
    /// Size of the largest one, bytes.
    pub fn largest(&self) -> u64 {
        let at_hand = self.objects.iter().flatten().map(|object| object.content.len() as u64);
        at_hand.chain(self.located.iter().flatten().map(|object| object.size)).max().unwrap_or(0)
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

    /// How many of these trees, from the first one on, are to be read at once, at least that one: a tree may be megabytes long, and takes
    /// a few bytes to push. What is in memory counts as nothing. `oids` has at least one.
    pub(crate) async fn few_trees(&self, oids: &[ObjectId]) -> Result<usize> {
        let mut absent = oids.to_vec();
        absent.sort_unstable();
        absent.dedup();
        absent.retain(|oid| self.cached_tree(oid).is_none());
        if absent.len() <= TREES_FREE {
            return Ok(oids.len());
        }
        let sizes = self.catalog.sizes(&absent).await?;
        let mut sizes: HashMap<ObjectId, u64> =
            absent.into_iter().zip(sizes).map(|(oid, size)| (oid, size.unwrap_or(0))).collect();
        let mut bytes = 0u64;
        let fits = |oid: &&ObjectId| {
            bytes = bytes.saturating_add(sizes.remove(*oid).unwrap_or(0));
            bytes <= TREES_BYTES
        };
        Ok(oids.iter().take_while(fits).count().max(1))
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

    /// Where blobs are, in the order given: at hand, else as the ledger says, in one query for all. `None` = nowhere.
    pub(crate) async fn blobs(&self, oids: &[ObjectId]) -> Result<Vec<Option<Blob>>> {
        let at_hand = self.store.cached(oids, AT_HAND_BYTES).await;
        let here = |(oid, object): (&ObjectId, Option<Object>)| match object {
            Some(object) => Some(Blob::Here(object.content)),
            None => oid.is_empty_blob().then(|| Blob::Here(Bytes::new())),
        };
        let mut blobs: Vec<Option<Blob>> = oids.iter().zip(at_hand).map(here).collect();
        let missing: Vec<ObjectId> =
            oids.iter().zip(&blobs).filter(|(_, blob)| blob.is_none()).map(|(oid, _)| *oid).collect();
        if !missing.is_empty() {
            let mut located = self.catalog.locate(&missing).await?.into_iter();
            for blob in blobs.iter_mut().filter(|blob| blob.is_none()) {
                *blob = located.next().flatten().map(Blob::There);
            }
        }
        Ok(blobs)
    }

    /// Contents of blobs, in the order given; each has an answer of its own, as damage of one is no reason to withhold the others.
    pub(crate) async fn blob_contents(&self, blobs: &[&Blob]) -> Result<Vec<std::result::Result<Bytes, StoreError>>> {
        let there = blobs.iter().filter_map(|blob| match blob {
            Blob::There(located) => Some(located.clone()),
            Blob::Here(_) => None,
        });
        let there: Vec<Located> = there.collect();
        let mut read = match there.is_empty() {
            true => Vec::new(),
            false => self.read_located(&there).await?,
        }
        .into_iter();
        let content = |blob: &&Blob| match blob {
            Blob::Here(content) => Ok(content.clone()),
            Blob::There(located) => {
                let missing = || Err(StoreError::Missing { key: located.key.clone() });
                read.next().unwrap_or_else(missing).map(|object| object.content)
            }
        };
        Ok(blobs.iter().map(content).collect())
    }

    /// Objects by id, in the order given; `None` = the ledger does not have it. What is at hand is not looked up in the ledger.
    pub(crate) async fn objects(&self, oids: &[ObjectId]) -> Result<Vec<Option<Object>>> {
        let sought = self.seek(oids).await?;
        self.read_sought(sought).await
    }

    /// Looks objects up. What is not at hand is not read yet.
    pub(crate) async fn seek(&self, oids: &[ObjectId]) -> Result<Sought> {
        // What is more than that is read once there is room for it.
        let mut objects = self.store.cached(oids, AT_HAND_BYTES).await;
        if !self.made.is_empty() {
            let absent = oids.iter().zip(&mut objects).filter(|(_, object)| object.is_none());
            absent.for_each(|(oid, object)| *object = self.made.get(oid).cloned());
        }
        let absent = oids.iter().zip(&objects).filter(|(_, object)| object.is_none());
        let absent: Vec<ObjectId> = absent.map(|(oid, _)| *oid).collect();
        let located = match absent.is_empty() {
            true => Vec::new(),
            false => self.catalog.locate(&absent).await?,
        };
        Ok(Sought { objects, located })
    }

    /// What was looked up, in the order in which it was asked for; `None` = the ledger does not have it.
    pub(crate) async fn read_sought(&self, Sought { mut objects, located }: Sought) -> Result<Vec<Option<Object>>> {
        let there: Vec<Located> = located.iter().flatten().cloned().collect();
        let at_hand: u64 = objects.iter().flatten().map(|object| object.content.len() as u64).sum();
        self.room.take(at_hand + there.iter().map(|object| object.size).sum::<u64>())?;
        if located.is_empty() {
            return Ok(objects);
        }
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
        let mut read = self.read_at(located).await?;
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
        for (at, object) in places.into_iter().zip(self.read_at(&moved).await?) {
            read[at] = object;
        }
        Ok(read)
    }

    /// The same where they were located. What is whole is on its way while the ledger is asked what the deltas rest on.
    async fn read_at(&self, located: &[Located]) -> Result<Vec<ReadResult>> {
        let (whole, deltas): (Vec<&Located>, Vec<&Located>) = located.iter().partition(|object| object.base.is_none());
        if whole.is_empty() || deltas.is_empty() {
            return Ok(self.store.get_many(&self.locations(located).await?).await);
        }
        let whole: Vec<Location> = whole.into_iter().map(|object| location(object, Vec::new())).collect();
        let deltas: Vec<Located> = deltas.into_iter().cloned().collect();
        let resting = async { Ok(self.store.get_many(&self.locations(&deltas).await?).await) };
        let (whole, resting): (_, Result<Vec<ReadResult>>) = tokio::join!(self.store.get_many(&whole), resting);
        let (mut whole, mut resting) = (whole.into_iter(), resting?.into_iter());
        let read = located.iter().filter_map(|object| match object.base {
            None => whole.next(),
            Some(_) => resting.next(),
        });
        Ok(read.collect())
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
