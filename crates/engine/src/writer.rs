//! Making objects durable: the writer's half of the collection protocol (docs/reliability.md, W0–W4).
//!
//! What is written goes to the bucket whether or not the ledger knows the object already, so that nobody can tell from the work
//! done what other projects have stored; the ledger then keeps the first location.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use treehold_catalog::{Attempt, KeyId, NewObject, OpKind, Prepared, RoaringTreemap};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId, hash};
use treehold_store::{FinishedPack, Object, PackEntry};
use uuid::Uuid;

use crate::{Engine, EngineError, Result};

/// How often an operation that takes long shows that it is alive.
pub(crate) const HEARTBEAT: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(30) };

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

    /// Works under an operation and shows now and then that it is alive, however long the work takes.
    pub(crate) fn kept_alive<T>(
        &self,
        op: Uuid,
        work: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        // On the heap: such works lie in each other, and all of them would be on the stack.
        let mut work = Box::pin(work);
        async move {
            loop {
                if let Ok(outcome) = tokio::time::timeout(HEARTBEAT, &mut work).await {
                    return outcome;
                }
                // Both at once: the work may hold the connection that the sign of life waits for.
                let beat = self.catalog.heartbeat(op, self.ambient.now_ms());
                match select(&mut work, beat).await {
                    Either::Left((outcome, _)) => return outcome,
                    // Whoever lost the operation learns it from its own next step.
                    Either::Right((Err(error), _)) => {
                        tracing::warn!(%error, %op, "an operation could not show that it is alive");
                    }
                    Either::Right((Ok(()), _)) => {}
                }
            }
        }
    }

    /// Closes an operation that publishes nothing. A failure is left to housekeeping.
    pub(crate) async fn end_op(&self, op: Operation) {
        self.end(op.id).await;
    }

    /// The same by id.
    pub(crate) async fn end(&self, op: Uuid) {
        if let Err(error) = self.catalog.end_op(op).await {
            tracing::warn!(%error, %op, "could not close an operation; housekeeping will");
        }
    }

    /// Stores objects under an open operation, as one pack. How many calls to the bucket that takes does not depend on what the
    /// ledger knows.
    pub(crate) async fn store_objects(&self, op: &mut Operation, objects: Vec<NewBytes>) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        self.keep(&objects).await;
        let pack = self.pack_of(objects).await?;
        op.numbers.extend(self.store_pack(op.id, pack).await?);
        Ok(())
    }

    /// One pack of new objects, each once.
    pub(crate) async fn pack_of(&self, objects: Vec<NewBytes>) -> Result<FinishedPack> {
        let objects = objects.into_iter().map(|NewBytes { oid, kind, content }| Object { oid, kind, content });
        Ok(self.store.build_pack(objects.collect()).await?)
    }

    /// Offers new objects to the cache: they are likely to be read next, whether or not they were known, and it takes as much as is good
    /// for the others in it. It names each anew, which takes a while.
    pub(crate) async fn keep(&self, objects: &[NewBytes]) {
        let objects =
            objects.iter().map(|object| Object { oid: object.oid, kind: object.kind, content: object.content.clone() });
        self.store.keep(objects.collect()).await;
    }

    /// A name for a pack that nobody has used; `of`: something that is in it, or its checksum.
    pub(crate) fn fresh_name(&self, of: &ObjectId) -> String {
        treehold_store::pack_key(of, self.ambient.uuid().into_bytes())
    }

    /// PREPARED, W0 and W2: from here on the attempt is known, and the pack's name reserved. Nothing was sent yet. `None` = an edit that
    /// it takes was undone meanwhile, or its parent left the project's refs.
    pub(crate) async fn prepare(&self, attempt: &Attempt, name: &str) -> Result<Option<(Operation, KeyId)>> {
        let id = self.ambient.uuid();
        match self.catalog.prepare_commit(attempt, id, name, self.ambient.now_ms()).await? {
            Prepared::Ready(key) => Ok(Some((Operation { id, numbers: RoaringTreemap::new() }, key))),
            Prepared::Undone | Prepared::Moved => Ok(None),
            Prepared::NameTaken => Err(EngineError::internal("a fresh pack name was used before")),
        }
    }

    /// Uploads a finished pack under a fresh name and registers what it holds; ledger numbers in the pack's order.
    pub(crate) async fn store_pack(&self, op: Uuid, pack: FinishedPack) -> Result<Vec<u64>> {
        let key = self.upload_pack(op, &pack).await?;
        self.register_pack(op, key, pack).await
    }

    /// W2 and W3: a pack under a fresh name, durable, not yet in the ledger.
    pub(crate) async fn upload_pack(&self, op: Uuid, pack: &FinishedPack) -> Result<KeyId> {
        self.upload_pack_as(op, pack, self.fresh_name(&pack.checksum)).await
    }

    /// The same under a name that the caller made of a fresh one.
    pub(crate) async fn upload_pack_as(&self, op: Uuid, pack: &FinishedPack, key: String) -> Result<KeyId> {
        point("W2").await?;
        let reserved = self.catalog.reserve(op, std::slice::from_ref(&key)).await?.pop().flatten();
        let reserved = reserved.ok_or_else(|| EngineError::internal("a fresh pack name was used before"))?;
        point("W3").await?;
        self.may_write().await?;
        self.store.put_pack(pack, &key).await?;
        Ok(reserved)
    }

    /// W4 of an uploaded pack; ledger numbers in the pack's order.
    pub(crate) async fn register_pack(&self, op: Uuid, key: KeyId, pack: FinishedPack) -> Result<Vec<u64>> {
        point("W4").await?;
        let registered = self.catalog.register(op, key, &new_objects(&pack), self.ambient.now_ms()).await?;
        self.chores.stored();
        Ok(registered.into_iter().map(|registered| registered.number).collect())
    }

    /// Pins objects that are there already, for reuse in what is about to be published; an error if one is not.
    pub(crate) async fn pin_all(&self, op: &mut Operation, oids: &[ObjectId]) -> Result<()> {
        if oids.is_empty() {
            return Ok(());
        }
        let pinned = self.catalog.pin(op.id, oids).await?;
        let missing = pinned.iter().zip(oids).find(|(pin, _)| pin.is_none());
        if let Some((_, oid)) = missing {
            return Err(EngineError::internal(format!("object {oid} is not in the ledger")));
        }
        op.numbers.extend(pinned.into_iter().flatten().map(|pin| pin.number));
        Ok(())
    }
}

/// What the ledger is told of a pack that is durable.
pub(crate) fn new_objects(pack: &FinishedPack) -> Vec<NewObject> {
    pack.entries.iter().cloned().map(new_object).collect()
}

/// An object of a pack, as the ledger takes it.
pub(crate) fn new_object(entry: PackEntry) -> NewObject {
    let PackEntry { oid, kind, size, sha256, offset, length, base } = entry;
    NewObject { oid, kind, size, sha256, offset, length, base }
}

/// What a commit has just made, in memory: it is pushed from here, without a look into the store.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// Its objects, by id.
    pub objects: HashMap<ObjectId, NewBytes>,
    /// What the parent has at the path of an object, by the object's id: they are alike.
    pub before: HashMap<ObjectId, (ObjectId, Bytes)>,
}
