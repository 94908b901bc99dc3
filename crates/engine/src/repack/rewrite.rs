//! From old keys to new packs.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use treehold_catalog::{KeyId, Located, Move, StoredKey};
use treehold_fault::point;
use treehold_object::{ObjectId, delta, hash, runs};
use treehold_store::{FinishedPack, Object, PackBuilder, PackEntry, StoreError};
use uuid::Uuid;

use super::RepackReport;
use crate::writer::new_object;
use crate::{Engine, Result, blocking};

/// Rows read at once.
const ROWS: u32 = 1024;
/// Content read at once, bytes; a single object may be larger.
const WINDOW: u64 = 8 << 20;
/// Contents that later objects may be deltas against, bytes.
const RECENT: usize = 32 << 20;
/// Deltas between an object and a whole one; more would cost readers more than it saves.
const DEPTH_MAX: u16 = 50;

/// A pack under way and what goes into it.
pub(super) struct Rewriting<'a> {
    engine: &'a Engine,
    op: Uuid,
    report: &'a mut RepackReport,
    packing: Option<Packing>,
    taken: u64,
}

impl<'a> Rewriting<'a> {
    pub fn new(engine: &'a Engine, op: Uuid, report: &'a mut RepackReport) -> Self {
        Self { engine, op, report, packing: None, taken: 0 }
    }

    /// Objects read so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Reads all objects of a key and adds them to the pack under way.
    pub async fn take(&mut self, key: &StoredKey) -> Result<()> {
        point("N2").await?;
        let mut from = 0;
        // Where the objects of this key were: what deltas are against.
        let mut places: HashMap<u64, ObjectId> = HashMap::new();
        loop {
            let rows = self.engine.catalog.objects_in(key.id, from, ROWS).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = last.offset + 1;
            places.extend(rows.iter().map(|row| (row.offset, row.oid)));
            for window in runs(&rows, WINDOW, |row| row.size) {
                self.add(key.id, window, &places).await?;
            }
        }
    }

    async fn add(&mut self, from: KeyId, rows: &[Located], places: &HashMap<u64, ObjectId>) -> Result<()> {
        let mut objects = Vec::with_capacity(rows.len());
        let locations = self.engine.locations(rows).await?;
        for (row, read) in rows.iter().zip(self.engine.store.get_stored(&locations).await) {
            self.taken += 1;
            match read {
                Ok(object) => objects.push((object, row.base.and_then(|base| places.get(&base).copied()))),
                Err(error @ StoreError::Unavailable { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, oid = %row.oid, "a damaged object stays where it is");
                    self.report.damaged += 1;
                }
            }
        }
        let packing = self.packing.take().unwrap_or_else(|| Packing::new(self.engine.store.dense_pack_builder()));
        let packing = blocking(move || packing.add_all(from, objects)).await?;
        let full = packing.builder.is_full();
        self.packing = Some(packing);
        if full { self.flush().await } else { Ok(()) }
    }

    /// Makes the pack under way durable and moves its objects there.
    pub async fn flush(&mut self) -> Result<()> {
        let Some(packing) = self.packing.take() else { return Ok(()) };
        let (pack, froms) = blocking(move || packing.finish()).await?;
        if pack.entries.is_empty() {
            return Ok(());
        }
        point("N3").await?;
        let key = self.engine.upload_pack(self.op, &pack).await?;
        self.report.packs += 1;
        self.report.written_bytes += pack.size + pack.idx.len() as u64;
        let moves: Vec<Move> = froms.into_iter().zip(pack.entries).map(|(from, entry)| moved(from, entry)).collect();
        let now_ms = self.engine.ambient.now_ms();
        point("N4").await?;
        let moved = self.engine.catalog.move_objects(self.op, key, &moves, now_ms).await?;
        point("N5").await?;
        self.report.objects += moved.into_iter().filter(|moved| *moved).count() as u64;
        self.engine.chores.stored();
        Ok(())
    }
}

fn moved(from: KeyId, entry: PackEntry) -> Move {
    Move { from, object: new_object(entry) }
}

/// A pack, where its objects came from, and what was added lately.
struct Packing {
    builder: PackBuilder,
    from: Vec<KeyId>,
    depths: HashMap<ObjectId, u16>,
    recent: HashMap<ObjectId, Bytes>,
    order: VecDeque<ObjectId>,
    held: usize,
}

impl Packing {
    fn new(builder: PackBuilder) -> Self {
        let (depths, recent, order) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { builder, from: Vec::new(), depths, recent, order, held: 0 }
    }

    fn add_all(mut self, from: KeyId, objects: Vec<(Object, Option<ObjectId>)>) -> Result<Self> {
        for (object, base) in objects {
            self.add(from, &object, base)?;
            self.remember(&object);
        }
        Ok(self)
    }

    /// What was a delta becomes one again if its base is in the pack, too; what was whole stays whole, for readers.
    fn add(&mut self, from: KeyId, object: &Object, base: Option<ObjectId>) -> Result<()> {
        let Object { oid, kind, content } = object;
        let base = base.and_then(|base| Some((base, self.recent.get(&base)?, *self.depths.get(&base)?)));
        if let Some((base, base_content, depth)) = base
            && depth < DEPTH_MAX
            && let Some(delta) = delta::create(base_content, content)
            && delta.len() < content.len() / 2
            && delta::apply(base_content, &delta, content.len() as u64).as_deref() == Ok(&content[..])
        {
            let sha256 = hash::sha256(*kind, content);
            if self.builder.add_delta(*oid, *kind, content.len() as u64, sha256, &base, &delta)? {
                self.depths.insert(*oid, depth + 1);
                self.from.push(from);
                return Ok(());
            }
        }
        if self.builder.add(*oid, *kind, content)? {
            self.depths.insert(*oid, 0);
            self.from.push(from);
        }
        Ok(())
    }

    fn remember(&mut self, object: &Object) {
        if object.content.len() > RECENT / 4 || self.recent.insert(object.oid, object.content.clone()).is_some() {
            return;
        }
        self.order.push_back(object.oid);
        self.held += object.content.len();
        while self.held > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.held -= self.recent.remove(&oldest).map_or(0, |content| content.len());
        }
    }

    fn finish(self) -> Result<(FinishedPack, Vec<KeyId>)> {
        Ok((self.builder.finish()?, self.from))
    }
}
