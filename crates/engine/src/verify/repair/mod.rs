//! Repair: another good copy, wherever it is, goes into a fresh pack, and the ledger is told. Nothing is deleted or overwritten.

mod remote;
mod versions;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use treehold_catalog::{InspectedKey, InspectedObject, KeyState, Move, OpKind};
use treehold_object::pack::{EntryHeader, EntryKind};
use treehold_object::zlib::Inflater;
use treehold_object::{Kind, ObjectId, delta, hash, loose, runs, second_opinion};
use treehold_store::{Object, RawBase, RawPack, StoreError, loose_key};
use uuid::Uuid;

use super::finding::{Code, Damage};
use super::objects::WINDOW;
use super::{ROWS, Run};
use crate::{Result, blocking};
pub(super) use remote::Remotes;

/// No object is larger, bytes, where the ledger says nothing about its size.
const OBJECT_MAX: u64 = 1 << 30;
/// No chain of deltas is longer.
const CHAIN_MAX: usize = 4096;
/// Objects that were nowhere, of which a run remembers so many.
const VAIN_MAX: usize = 1_000_000;
/// Rows of one key that are looked for in all packs at once.
const FAR: usize = 50_000;
/// What an index takes, bytes: for each entry, and beside them (gitformat-pack, version 2).
const IDX_ENTRY: u64 = 28;
const IDX_REST: u64 = 8 + 256 * 4 + 40;

/// An object to be found elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub oid: ObjectId,
    /// Its type, where it is known.
    pub kind: Option<Kind>,
    /// Its row; `None`: the ledger does not have it.
    pub row: Option<InspectedObject>,
    /// A project whose refs lead to it, where one is at hand.
    pub project: Option<Uuid>,
}

impl Wanted {
    pub fn of(row: &InspectedObject) -> Self {
        Self { oid: row.oid, kind: Some(row.kind), row: Some(row.clone()), project: None }
    }

    /// Whether this is the object, by all that is known of it.
    fn fits(&self, object: &Object) -> bool {
        let Object { kind, content, .. } = object;
        let as_recorded = |row: &InspectedObject| {
            (row.kind, row.size) == (*kind, content.len() as u64) && row.sha256 == hash::sha256(*kind, content)
        };
        self.kind.is_none_or(|expected| expected == *kind)
            && hash(*kind, content) == Ok(self.oid)
            && second_opinion(*kind, content) == self.oid
            && self.row.as_ref().is_none_or(as_recorded)
    }
}

/// What is looked for, and what was found.
#[derive(Debug, Default)]
struct Search {
    open: HashMap<ObjectId, Wanted>,
    found: Vec<(Wanted, Object)>,
    /// Their content, bytes.
    bytes: u64,
    /// What is found is stored as soon as it has so many bytes, and `rescued` says that it was; `None`: by who looks for it.
    window: Option<u64>,
    rescued: HashSet<ObjectId>,
}

impl Search {
    fn new(wanted: Vec<Wanted>) -> Self {
        let open = wanted.into_iter().map(|wanted| (wanted.oid, wanted)).collect();
        Self { open, ..Self::default() }
    }

    fn oids(&self) -> Vec<ObjectId> {
        self.open.keys().copied().collect()
    }

    /// What was found, once that is enough to be stored.
    fn take_window(&mut self) -> Option<Vec<(Wanted, Object)>> {
        let full = self.window.is_some_and(|window| self.bytes >= window);
        full.then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.found)
        })
    }

    fn offer(&mut self, oid: ObjectId, kind: Kind, content: Bytes) {
        let object = Object { oid, kind, content };
        if let Some(wanted) = self.open.remove(&oid) {
            match wanted.fits(&object) {
                true => {
                    self.bytes += object.content.len() as u64;
                    self.found.push((wanted, object));
                }
                false => drop(self.open.insert(oid, wanted)),
            }
        }
    }
}

impl Run<'_> {
    /// Moves every object of a key to a fresh pack: from where it is if it is whole there, else from another copy. What is nowhere
    /// stays, and is told. `true`: nothing stayed.
    pub(super) async fn rescue_key(&mut self, key: &InspectedKey) -> Result<bool> {
        if !self.repairs() {
            return Ok(false);
        }
        let (mut from, mut whole, mut far) = (0, true, Vec::new());
        loop {
            let rows = self.engine.catalog.inspect_places(key.id, from, ROWS).await?;
            for window in runs(&rows, WINDOW, |row| row.size) {
                let mut search = Search::new(window.iter().map(Wanted::of).collect());
                self.search_nearby(&mut search).await?;
                let near = self.store_found(search.found).await?;
                far.extend(window.iter().filter(|row| !near.contains_key(&row.oid)).cloned());
            }
            if rows.is_empty() || far.len() >= FAR {
                whole &= self.rescue_far(key, std::mem::take(&mut far)).await?;
            }
            match rows.last() {
                Some(last) => from = last.offset + 1,
                None => return Ok(whole),
            }
        }
    }

    /// Looks through all packs once for all of these rows of a key. `true`: nothing stayed.
    async fn rescue_far(&mut self, key: &InspectedKey, rows: Vec<InspectedObject>) -> Result<bool> {
        let mut search = Search::new(rows.iter().map(Wanted::of).collect());
        search.window = Some(WINDOW);
        self.search_far(&mut search).await?;
        let mut rescued = std::mem::take(&mut search.rescued);
        rescued.extend(self.store_found(search.found).await?.into_keys());
        let mut whole = true;
        for row in rows.iter().filter(|row| !rescued.contains(&row.oid)) {
            whole = false;
            let damage = Damage::new(Code::ObjectLost, format!("{} is damaged, and there is no other copy", key.key));
            self.find(damage, row.oid.to_string(), None, false);
        }
        Ok(whole)
    }

    /// Looks for good copies and records them in fresh places; what was found, by oid. Nothing without `repair`.
    pub(super) async fn rescue(&mut self, wanted: Vec<Wanted>) -> Result<HashMap<ObjectId, Object>> {
        if !self.repairs() || wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let mut search = Search::new(wanted);
        self.search_nearby(&mut search).await?;
        self.search_far(&mut search).await?;
        self.store_found(search.found).await
    }

    /// Packs, older versions, remotes: each goes through all there is. What was nowhere before in this run is only asked for where the
    /// project that needs it came from.
    async fn search_far(&mut self, search: &mut Search) -> Result<()> {
        let open = std::mem::take(&mut search.open).into_iter();
        let (again, first) = open.partition(|(oid, _)| self.vain.contains(oid));
        search.open = first;
        self.search_packs(search).await?;
        self.search_versions(search).await?;
        self.search_remotes(search).await?;
        let room = VAIN_MAX.saturating_sub(self.vain.len());
        self.vain.extend(search.open.keys().copied().take(room));
        let left = std::mem::replace(&mut search.open, again);
        self.search_needed(search).await?;
        search.open.extend(left);
        Ok(())
    }

    async fn store_found(&self, found: Vec<(Wanted, Object)>) -> Result<HashMap<ObjectId, Object>> {
        if found.is_empty() {
            return Ok(HashMap::new());
        }
        let op = self.engine.begin_op(None, OpKind::Repack).await?;
        let id = op.id;
        let outcome = self.engine.kept_alive(id, self.store_copies(id, found)).await;
        self.engine.end_op(op).await;
        outcome
    }

    /// Everywhere but in packs, which are many.
    async fn search_nearby(&mut self, search: &mut Search) -> Result<()> {
        self.search_places(search).await?;
        self.search_catalog(search).await?;
        self.search_loose(search).await
    }

    /// Pins an object that was condemned: it is live again. `false`: the ledger does not have it.
    pub(super) async fn pin_again(&self, oid: ObjectId) -> Result<bool> {
        let op = self.engine.begin_op(None, OpKind::Repack).await?;
        let pinned = self.engine.catalog.pin(op.id, &[oid]).await;
        self.engine.end_op(op).await;
        Ok(pinned?.pop().flatten().is_some())
    }

    /// Where the ledger says, and in the cache, which keeps nothing that was not verified.
    async fn search_places(&mut self, search: &mut Search) -> Result<()> {
        let rows = search.open.values().filter_map(|wanted| wanted.row.as_ref());
        let located: Vec<_> = rows.filter_map(InspectedObject::located).collect();
        let locations = self.engine.locations(&located).await?;
        self.count(located.iter().map(|object| object.length).fold(0, u64::saturating_add)).await;
        for object in self.engine.store.get_stored(&locations).await {
            match object {
                Ok(Object { oid, kind, content }) => search.offer(oid, kind, content),
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Refused { .. })) => return Err(error.into()),
                Err(_) => {}
            }
        }
        for Object { oid, kind, content } in
            self.engine.store.cached(&search.oids(), u64::MAX).await.into_iter().flatten()
        {
            search.offer(oid, kind, content);
        }
        Ok(())
    }

    /// Trees of heads, commits, and pending work that is kept in the database.
    async fn search_catalog(&self, search: &mut Search) -> Result<()> {
        let catalog = &self.engine.catalog;
        let oids = search.oids();
        for (oid, raw) in oids.iter().zip(catalog.trees(&oids).await?) {
            raw.into_iter().for_each(|raw| search.offer(*oid, Kind::Tree, raw));
        }
        for row in catalog.commits(&oids).await?.into_iter().flatten() {
            search.offer(row.oid, Kind::Commit, row.raw);
        }
        let mut after = None;
        while !search.open.is_empty() {
            let projects = catalog.projects(after, ROWS).await?;
            let Some(last) = projects.last() else { break };
            after = Some(last.id);
            for project in &projects {
                let oids = search.oids();
                // A row that does not unpack is no copy; it is told when the project is looked at.
                let contents = catalog.pending_contents(project.id, &oids).await.unwrap_or_default();
                for (oid, content) in oids.iter().zip(contents) {
                    content.into_iter().for_each(|content| search.offer(*oid, Kind::Blob, content));
                }
            }
        }
        Ok(())
    }

    /// Loose objects, whether or not the ledger knows of them.
    async fn search_loose(&mut self, search: &mut Search) -> Result<()> {
        for oid in search.oids() {
            let Some(value) = self.engine.store.bucket().get(&loose_key(&oid), None).await? else { continue };
            self.count(value.len() as u64).await;
            if let Ok((kind, content)) = loose::decode(&value, OBJECT_MAX, &mut Inflater::default()) {
                search.offer(oid, kind, content.into());
            }
        }
        Ok(())
    }

    /// Other entries: in packs whose copy the ledger did not choose, in doomed ones, and elsewhere in the same pack.
    async fn search_packs(&mut self, search: &mut Search) -> Result<()> {
        let mut after = String::new();
        while !search.open.is_empty() {
            let keys = self.engine.catalog.inspect_keys(&after, None, ROWS).await?;
            let Some(last) = keys.last() else { break };
            after = last.key.clone();
            let there = |key: &&InspectedKey| matches!(key.state, KeyState::Present | KeyState::Doomed);
            for key in keys.iter().filter(there).filter(|key| key.key.ends_with(".pack")) {
                let pack = match self.engine.store.raw_pack(&key.key).await {
                    Ok(pack) => pack,
                    Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => continue,
                    Err(error) => return Err(error.into()),
                };
                self.count(pack.entries().len() as u64 * IDX_ENTRY + IDX_REST).await;
                self.copies_in_pack(&pack, search).await?;
            }
        }
        Ok(())
    }

    /// Whatever is looked for and has an entry there.
    async fn copies_in_pack(&mut self, pack: &RawPack, search: &mut Search) -> Result<()> {
        let hits = pack.entries().iter().enumerate().filter(|(_, entry)| search.open.contains_key(&entry.oid));
        let hits: Vec<(usize, ObjectId)> = hits.map(|(at, entry)| (at, entry.oid)).collect();
        for (at, oid) in hits {
            if let Some((kind, content)) = self.copy_in_pack(pack, at).await? {
                search.offer(oid, kind, content);
            }
            self.store_window(search).await?;
        }
        Ok(())
    }

    /// Stores what was found, once that is enough.
    async fn store_window(&self, search: &mut Search) -> Result<()> {
        if let Some(found) = search.take_window() {
            search.rescued.extend(self.store_found(found).await?.into_keys());
        }
        Ok(())
    }

    /// The content of an entry, deltas applied; `None` if it cannot be had.
    async fn copy_in_pack(&mut self, pack: &RawPack, mut at: usize) -> Result<Option<(Kind, Bytes)>> {
        let mut deltas = Vec::new();
        loop {
            self.count(pack.span(at).length).await;
            let run = match pack.read(at..at + 1).await {
                Ok(run) => run,
                Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let Some(entry) = run.entries.first().copied() else { return Ok(None) };
            let Some((kind, content)) = blocking(move || Ok(inflated(&run.bytes))).await? else { return Ok(None) };
            if let EntryKind::Whole(kind) = kind {
                return blocking(move || Ok(applied(content, deltas).map(|content| (kind, content.into())))).await;
            }
            deltas.push(content);
            let base = match entry.base {
                RawBase::Whole => None,
                RawBase::At(offset) => pack.entries().binary_search_by_key(&offset, |entry| entry.offset).ok(),
                RawBase::Named(oid) => pack.entries().iter().position(|entry| entry.oid == oid),
            };
            match base {
                Some(base) if deltas.len() < CHAIN_MAX => at = base,
                _ => return Ok(None),
            }
        }
    }

    /// Two packs: of objects that have a row, which move there, and of objects that get one.
    async fn store_copies(&self, op: Uuid, copies: Vec<(Wanted, Object)>) -> Result<HashMap<ObjectId, Object>> {
        let mut rescued = HashMap::with_capacity(copies.len());
        let (moving, new): (Vec<_>, Vec<_>) = copies.into_iter().partition(|(wanted, _)| wanted.row.is_some());
        if !moving.is_empty() {
            let (froms, objects): (Vec<_>, Vec<_>) =
                moving.into_iter().map(|(wanted, object)| (wanted.row.map_or(0, |row| row.key_id), object)).unzip();
            let pack = self.engine.store.build_pack(objects.clone()).await?;
            let key = self.engine.upload_pack(op, &pack).await?;
            let rows = crate::writer::new_objects(&pack);
            let moves: Vec<Move> = froms.into_iter().zip(rows).map(|(from, object)| Move { from, object }).collect();
            let now_ms = self.engine.ambient.now_ms();
            let moved = self.engine.catalog.move_objects(op, key, &moves, now_ms).await?;
            let moved = objects.into_iter().zip(moved).filter(|(_, moved)| *moved);
            rescued.extend(moved.map(|(object, _)| (object.oid, object)));
        }
        if !new.is_empty() {
            let objects: Vec<Object> = new.into_iter().map(|(_, object)| object).collect();
            let pack = self.engine.store.build_pack(objects.clone()).await?;
            self.engine.store_pack(op, pack).await?;
            rescued.extend(objects.into_iter().map(|object| (object.oid, object)));
        }
        self.engine.chores.stored();
        for oid in rescued.keys() {
            tracing::info!(%oid, "a copy of a damaged or missing object was stored in a fresh pack");
        }
        Ok(rescued)
    }
}

fn inflated(entry: &[u8]) -> Option<(EntryKind, Vec<u8>)> {
    let (header, length) = EntryHeader::decode(entry).ok()??;
    let zlib = entry.get(length..).filter(|_| header.size <= OBJECT_MAX)?;
    let (content, _) = Inflater::default().inflate(zlib, header.size).ok()?;
    Some((header.kind, content))
}

/// Deltas, the one nearest to the whole object last.
fn applied(mut content: Vec<u8>, deltas: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    for delta in deltas.iter().rev() {
        content = delta::apply(&content, delta, OBJECT_MAX).ok()?;
    }
    Some(content)
}
