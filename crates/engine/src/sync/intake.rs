//! From a received pack to stored objects: quarantine, checks, packs, rows.
//!
//! Nothing of a pack is used before all of it was resolved, named with collision detection, checked as `git fsck --strict` would,
//! and found closed: every edge ends in the pack itself or in what this project's own refs already reach (docs/reliability.md, law 5).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempPath;
use tokio::sync::mpsc;
use treehold_catalog::{CommitRow, Project};
use treehold_object::{Kind, ObjectId, fsck};
use treehold_store::{FinishedPack, PackEntry};
use treehold_wire::ingest::PackedObject;
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest_arriving};

use super::packing::{Copies, Packing, Piece};
use crate::progress::Progress;
use crate::remote::{self, Fetching};
use crate::writer::Operation;
use crate::{Engine, EngineError, Result, blocking};

/// Rows written to the catalog at once.
pub(super) const ROWS: usize = 1000;
/// Content of the rows that are written at once, bytes; one row may be larger.
pub(super) const ROW_BYTES: usize = 8 << 20;
/// Bases of deltas that are kept in memory while a pack is resolved, by all threads together, bytes.
const BASES_BYTES: usize = 96 << 20;

/// Threads that resolve a pack: all cores, up to where the disk and the table of objects would be what they wait for.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().min(16))
}

/// Content of commits that is kept from the first reading, bytes.
const COMMITS_BYTES: usize = 16 << 20;
/// A pack of fewer objects is not kept as it came: a pack for reading takes its place.
const KEPT_MIN: usize = 256;

/// Nor one of more: it is registered in one transaction, for which others wait.
const KEPT_MAX: usize = 600_000;

/// A pack that was resolved and checked, and the file that it is in.
pub(crate) struct Received {
    pub quarantine: Arc<Quarantine>,
    pack: TempPath,
}

/// The received pack as it goes to the bucket.
async fn kept(quarantine: Arc<Quarantine>, path: TempPath) -> Result<FinishedPack> {
    blocking(move || {
        let checksum = quarantine.checksum();
        let idx = treehold_object::idx::write(&quarantine.index_entries(), &checksum).map_err(EngineError::internal)?;
        let entry = |object: PackedObject| PackEntry {
            oid: object.oid,
            kind: object.kind,
            size: object.size,
            sha256: object.sha256,
            offset: object.offset,
            length: object.packed_len,
            base: object.base,
        };
        let entries = quarantine.iter().map(entry).collect();
        Ok(FinishedPack::received(checksum, entries, idx.into(), quarantine.pack_len(), path))
    })
    .await
}

pub(super) fn refused(error: IngestError) -> EngineError {
    match error {
        IngestError::Io(source) => EngineError::Unavailable { what: "the spool disk", source: Box::new(source) },
        other => EngineError::RemoteFailed {
            code: "remote_invalid",
            detail: format!("The remote's pack is refused: {other}."),
            retry_after_s: None,
        },
    }
}

impl Engine {
    /// What a received pack may cost.
    pub(crate) fn ingest_limits(&self) -> IngestLimits {
        IngestLimits {
            pack_bytes: self.config.limits.pack_bytes,
            objects: self.config.limits.pack_objects,
            object_bytes: self.config.limits.file_bytes,
            inflated_bytes: self.config.limits.inflated_bytes,
            ..IngestLimits::default()
        }
    }

    /// Resolves and checks a pack while it arrives.
    pub(crate) async fn quarantine(
        &self,
        project: &Project,
        fetching: Fetching,
        tip: ObjectId,
        shallow: &[ObjectId],
        progress: &dyn Progress,
    ) -> Result<Received> {
        let limits = self.ingest_limits();
        let shallow: HashSet<ObjectId> = shallow.iter().copied().collect();
        let (told, mut heard) = mpsc::channel(1);
        let Fetching { pack, arrival, rest, .. } = fetching;
        let (file, pack) = pack.into_parts();
        let resolving = tokio::task::spawn_blocking(move || {
            let check = |kind, oid: &ObjectId, content: &[u8]| {
                fsck::check(kind, oid, content, treehold_object::Policy::Import).map(|_| ()).map_err(|e| e.to_string())
            };
            let tell = |done, total| _ = told.try_send((done, total));
            let options = IngestOptions {
                limits,
                shallow: Some(&shallow),
                check: Some(&check),
                cancel: None,
                progress: Some(&tell),
                sha256: true,
                threads: threads(),
                cache_bytes: BASES_BYTES / threads(),
            };
            ingest_arriving(file, &arrival, &options)
        });
        let received = async {
            remote::receive(rest, &|bytes| progress.step("receiving", bytes, None)).await?;
            while let Some((done, total)) = heard.recv().await {
                progress.step("resolving", done, Some(total));
            }
            Ok(())
        };
        // Whichever fails first says why: the other one only ends for it.
        let resolved = async { resolving.await.map_err(EngineError::internal)?.map_err(refused) };
        let ((), quarantine) = futures::try_join!(received, resolved)?;
        self.check_closed(project, &quarantine, tip).await?;
        Ok(Received { quarantine: Arc::new(quarantine), pack })
    }

    /// Law 5: what the pack refers to and does not have must be reached by this project's own refs. One text for all that is not.
    async fn check_closed(&self, project: &Project, quarantine: &Quarantine, tip: ObjectId) -> Result<()> {
        let invalid = |detail: &str| EngineError::RemoteFailed {
            code: "remote_invalid",
            detail: detail.to_owned(),
            retry_after_s: None,
        };
        if quarantine.get(&tip).is_none_or(|object| object.kind != Kind::Commit) {
            return Err(invalid("The remote's pack does not hold the commit that was asked for."));
        }
        let reach = self.catalog.reach(project.id).await?;
        for chunk in quarantine.external().chunks(ROWS) {
            let oids: Vec<ObjectId> = chunk.iter().map(|(oid, _)| *oid).collect();
            let located = self.catalog.locate(&oids).await?;
            for ((oid, kind), located) in chunk.iter().zip(located) {
                let reached = located.is_some_and(|there| there.kind == *kind && reach.contains(there.number));
                let known = reached || (*kind == Kind::Tree && oid.is_empty_tree());
                if !known {
                    return Err(invalid("The remote's pack refers to objects that it does not hold: missing object."));
                }
            }
        }
        Ok(())
    }

    /// Stores everything in a quarantine, with the rows of its commits and of the head's trees. Many objects stay in the pack in
    /// which they came, deltas and all, with copies for reading beside it where they pay; a few are written anew, whole.
    /// Memory is bounded by the size of a pack and by a small record for each object, not by the repository's content.
    pub(crate) async fn store_received(
        &self,
        op: &mut Operation,
        received: Received,
        tip: ObjectId,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Received { quarantine, pack } = received;
        let keep = (KEPT_MIN..KEPT_MAX).contains(&quarantine.len()) && !quarantine.has_duplicates();
        let total = quarantine.len() as u64;
        let told = |stored| progress.step("storing", stored, Some(total));
        let commits = self.put_commits_of(Arc::clone(&quarantine));
        if !keep {
            let copied = self.store_copies(op, &quarantine, Copies::Everything, tip, &told);
            return futures::try_join!(copied, commits).map(|_| ());
        }
        let finished = kept(Arc::clone(&quarantine), pack).await?;
        let upload = self.upload_pack(op.id, &finished);
        // The ledger keeps the first place of an object: copies for reading come first.
        let copied = self.store_copies(op, &quarantine, Copies::WhereTheyPay, tip, &told);
        let (key, (), ()) = futures::try_join!(upload, copied, commits)?;
        drop(quarantine);
        op.numbers.extend(self.register_pack(op.id, key, finished).await?);
        told(total);
        Ok(())
    }

    /// Writes whole objects into packs of their own, on a thread for that, while the ones before go to the bucket.
    async fn store_copies(
        &self,
        op: &mut Operation,
        quarantine: &Arc<Quarantine>,
        copies: Copies,
        tip: ObjectId,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let (hand_over, mut pieces) = mpsc::channel(1);
        let (store, source) = (self.store.clone(), Arc::clone(quarantine));
        let packing = tokio::task::spawn_blocking(move || Packing::new(&store, &source, &hand_over).run(copies, tip));
        let mut stored = 0;
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Trees(trees) => self.catalog.put_trees(&trees).await?,
                Piece::Pack(pack) => {
                    stored += pack.entries.len() as u64;
                    op.numbers.extend(self.store_pack(op.id, pack).await?);
                    told(stored);
                }
            }
        }
        packing.await.map_err(EngineError::internal)?
    }

    /// Of a long history, the commits beyond the first megabytes are read twice, so that its messages are not in memory all at once.
    async fn put_commits_of(&self, quarantine: Arc<Quarantine>) -> Result<()> {
        let source = Arc::clone(&quarantine);
        let bare = blocking(move || {
            let commits = source.iter().filter(|object| object.kind == Kind::Commit);
            let mut room = COMMITS_BYTES;
            let rows = commits.map(|commit| {
                let mut row = read_commit(&source, commit.oid)?;
                match room.checked_sub(row.raw.len()) {
                    Some(rest) => room = rest,
                    None => row.raw = Bytes::new(),
                }
                Ok((row.oid, row))
            });
            rows.collect::<Result<HashMap<ObjectId, CommitRow>>>()
        });
        let rows = bare.await?;
        let parents = rows.values().flat_map(|row| &row.parents);
        let outside: HashSet<ObjectId> = parents.filter(|parent| !rows.contains_key(*parent)).copied().collect();
        let outside: Vec<ObjectId> = outside.into_iter().collect();
        let mut generations: HashMap<ObjectId, u64> = HashMap::new();
        for chunk in outside.chunks(ROWS) {
            let known = self.catalog.commits(chunk).await?;
            generations.extend(known.into_iter().flatten().map(|row| (row.oid, row.generation)));
        }
        let mut sorted = with_generations(rows, generations).into_iter().peekable();
        while sorted.peek().is_some() {
            let source = Arc::clone(&quarantine);
            let (chunk, rest) = blocking(move || read_rows(&source, sorted)).await?;
            self.catalog.put_commits(&chunk).await?;
            sorted = rest;
        }
        Ok(())
    }
}

fn read_commit(quarantine: &Quarantine, oid: ObjectId) -> Result<CommitRow> {
    let (_, raw) = quarantine.read(&oid).map_err(refused)?.ok_or_else(|| EngineError::internal("lost commit"))?;
    commit_row(oid, raw)
}

type Rows = std::iter::Peekable<std::vec::IntoIter<CommitRow>>;

/// The next rows with their content, as many as are written at once.
fn read_rows(quarantine: &Quarantine, mut rows: Rows) -> Result<(Vec<CommitRow>, Rows)> {
    let mut chunk: Vec<CommitRow> = Vec::new();
    let mut bytes = 0;
    while chunk.len() < ROWS && bytes < ROW_BYTES {
        let Some(row) = rows.next() else { break };
        let raw = if row.raw.is_empty() { read_commit(quarantine, row.oid)?.raw } else { row.raw.clone() };
        bytes += raw.len();
        chunk.push(CommitRow { raw, ..row });
    }
    Ok((chunk, rows))
}

/// The row of a commit, its generation not known yet.
pub(crate) fn commit_row(oid: ObjectId, raw: Bytes) -> Result<CommitRow> {
    let bad = |_| EngineError::internal("a checked commit does not decode");
    let commit = gix_object::CommitRef::from_bytes(&raw, gix_hash::Kind::Sha1).map_err(bad)?;
    let time = commit.committer().map_err(bad)?.time().map_err(bad)?.seconds;
    let (tree, parents) = (commit.tree(), commit.parents().collect());
    drop(commit);
    Ok(CommitRow { oid, tree, parents, generation: 0, time, raw })
}

/// Gives each commit 1 + the largest generation of its known parents; parents come first.
pub(crate) fn with_generations(
    mut rows: HashMap<ObjectId, CommitRow>,
    mut generations: HashMap<ObjectId, u64>,
) -> Vec<CommitRow> {
    let mut sorted = Vec::with_capacity(rows.len());
    let mut starts: Vec<ObjectId> = rows.keys().copied().collect();
    starts.sort_unstable();
    for start in starts {
        let mut stack = vec![start];
        while let Some(oid) = stack.last().copied() {
            let Some(row) = rows.get(&oid) else {
                stack.pop();
                continue;
            };
            let waiting: Vec<ObjectId> =
                row.parents.iter().filter(|parent| rows.contains_key(*parent)).copied().collect();
            if !waiting.is_empty() {
                stack.extend(waiting);
                continue;
            }
            stack.pop();
            if let Some(mut row) = rows.remove(&oid) {
                let above = row.parents.iter().filter_map(|parent| generations.get(parent)).max();
                row.generation = 1 + above.copied().unwrap_or(0);
                generations.insert(oid, row.generation);
                sorted.push(row);
            }
        }
    }
    sorted
}
