//! Making objects durable: the writer's half of the collection protocol (docs/reliability.md, W0–W4).
//!
//! What is written goes to the bucket whether or not the ledger knows the object already, so that nobody can tell from the work
//! done what other projects have stored; the ledger then keeps the first location.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::{KeyId, NewObject, OpKind, RoaringTreemap};
use treehold_object::{Kind, ObjectId, hash};
use treehold_store::{FinishedPack, Object, PackEntry, Stored, loose_key};
use uuid::Uuid;

use crate::{Engine, EngineError, Result};

/// A new object in memory.
#[derive(Debug, Clone)]
pub(crate) struct NewBytes {
    pub oid: ObjectId,
    pub kind: Kind,
    pub content: Bytes,
}

impl NewBytes {
    /// Names content of our own or of a caller, with collision detection.
    pub fn of(kind: Kind, content: Bytes) -> Result<Self> {
        let oid = hash(kind, &content)
            .map_err(|_| EngineError::unprocessable("collision", "The content is part of a SHA-1 collision attack."))?;
        Ok(Self { oid, kind, content })
    }
}

/// An open operation (W0). It is closed by a publication or by [`Engine::end_op`]; if neither happens, housekeeping does.
#[derive(Debug)]
pub(crate) struct Operation {
    pub id: Uuid,
    /// Ledger numbers of what it stored or pinned.
    pub numbers: RoaringTreemap,
}

impl Engine {
    pub(crate) async fn begin_op(&self, project: Option<Uuid>, kind: OpKind) -> Result<Operation> {
        let op = self.catalog.begin_op(self.ambient.uuid(), project, kind, self.ambient.now_ms()).await?;
        Ok(Operation { id: op.id, numbers: RoaringTreemap::new() })
    }

    /// Closes an operation that publishes nothing. A failure is left to housekeeping.
    pub(crate) async fn end_op(&self, op: Operation) {
        if let Err(error) = self.catalog.end_op(op.id).await {
            tracing::warn!(%error, op = %op.id, "could not close an operation; housekeeping will");
        }
    }

    /// Stores objects under an open operation: a few go loose, in parallel; many, and those whose loose name was used before, go
    /// into one pack. They are at hand afterwards, as far as the cache takes them: whether or not they were known, too.
    pub(crate) async fn store_objects(&self, op: &mut Operation, objects: Vec<NewBytes>) -> Result<()> {
        let keep: Vec<Object> = objects
            .iter()
            .map(|NewBytes { oid, kind, content }| Object { oid: *oid, kind: *kind, content: content.clone() })
            .collect();
        self.make_durable(op, objects).await?;
        self.store.keep(&keep);
        Ok(())
    }

    async fn make_durable(&self, op: &mut Operation, mut objects: Vec<NewBytes>) -> Result<()> {
        objects.sort_by_key(|object| object.oid);
        objects.dedup_by_key(|object| object.oid);
        if objects.is_empty() {
            return Ok(());
        }
        let mut packed = objects;
        if packed.len() <= self.store.options().loose_max {
            let keys: Vec<String> = packed.iter().map(|object| loose_key(&object.oid)).collect();
            let reserved = self.catalog.reserve(op.id, &keys).await?;
            let mut loose = Vec::new();
            let mut rest = Vec::new();
            for (object, key) in packed.into_iter().zip(reserved) {
                match key {
                    Some(key) => loose.push((key, object)),
                    None => rest.push(object),
                }
            }
            packed = rest;
            futures::try_join!(self.store_loose(op.id, loose), self.store_packed(op.id, packed))
                .map(|(a, b)| op.numbers.extend(a.into_iter().chain(b)))?;
            return Ok(());
        }
        let numbers = self.store_packed(op.id, packed).await?;
        op.numbers.extend(numbers);
        Ok(())
    }

    async fn store_loose(&self, op: Uuid, objects: Vec<(i64, NewBytes)>) -> Result<Vec<u64>> {
        let puts =
            objects.iter().map(|(_, object)| self.store.put_loose(object.oid, object.kind, object.content.clone()));
        let stored: Vec<Stored> = futures::future::try_join_all(puts).await?;
        let mut numbers = Vec::with_capacity(objects.len());
        for ((key, object), stored) in objects.iter().zip(stored) {
            let row = NewObject {
                oid: object.oid,
                kind: object.kind,
                size: object.content.len() as u64,
                sha256: hash::sha256(object.kind, &object.content),
                offset: stored.offset,
                length: stored.length,
                base: None,
            };
            let registered = self.catalog.register(op, *key, &[row], self.ambient.now_ms()).await?;
            numbers.extend(registered.iter().map(|registered| registered.number));
        }
        self.chores.stored();
        Ok(numbers)
    }

    async fn store_packed(&self, op: Uuid, objects: Vec<NewBytes>) -> Result<Vec<u64>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let mut builder = self.store.pack_builder();
        for object in &objects {
            builder.add(object.oid, object.kind, &object.content)?;
        }
        self.store_pack(op, builder.finish()?).await
    }

    /// Uploads a finished pack under a fresh name and registers what it holds; ledger numbers in the pack's order.
    pub(crate) async fn store_pack(&self, op: Uuid, pack: FinishedPack) -> Result<Vec<u64>> {
        let key = self.upload_pack(op, &pack).await?;
        self.register_pack(op, key, pack).await
    }

    /// W2 and W3: a pack under a fresh name, durable, not yet in the ledger.
    pub(crate) async fn upload_pack(&self, op: Uuid, pack: &FinishedPack) -> Result<KeyId> {
        let key = treehold_store::pack_key(&pack.checksum, self.ambient.uuid().into_bytes());
        let reserved = self.catalog.reserve(op, std::slice::from_ref(&key)).await?.pop().flatten();
        let reserved = reserved.ok_or_else(|| EngineError::internal("a fresh pack name was used before"))?;
        self.store.put_pack(pack, &key).await?;
        Ok(reserved)
    }

    /// W4 of an uploaded pack; ledger numbers in the pack's order.
    pub(crate) async fn register_pack(&self, op: Uuid, key: KeyId, pack: FinishedPack) -> Result<Vec<u64>> {
        let row = |entry: PackEntry| NewObject {
            oid: entry.oid,
            kind: entry.kind,
            size: entry.size,
            sha256: entry.sha256,
            offset: entry.offset,
            length: entry.length,
            base: entry.base,
        };
        let rows: Vec<NewObject> = pack.entries.into_iter().map(row).collect();
        let registered = self.catalog.register(op, key, &rows, self.ambient.now_ms()).await?;
        self.chores.stored();
        Ok(registered.into_iter().map(|registered| registered.number).collect())
    }

    /// Pins objects that are there already, for reuse in what is about to be published; an error if one is not.
    pub(crate) async fn pin_all(&self, op: &mut Operation, oids: &[ObjectId]) -> Result<()> {
        let pinned = self.catalog.pin(op.id, oids).await?;
        let missing = pinned.iter().zip(oids).find(|(pin, _)| pin.is_none());
        if let Some((_, oid)) = missing {
            return Err(EngineError::internal(format!("object {oid} is not in the ledger")));
        }
        op.numbers.extend(pinned.into_iter().flatten().map(|pin| pin.number));
        Ok(())
    }
}

/// Objects by id.
pub(crate) type ById = HashMap<ObjectId, NewBytes>;
