//! From a received pack to stored objects: quarantine, checks, reading packs, rows.
//!
//! Nothing of a pack is used before all of it was resolved, named with collision detection, checked as `git fsck --strict` would,
//! and found closed: every edge ends in the pack itself or in what this project's own refs already reach (docs/reliability.md, law 5).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use treehold_catalog::{CommitRow, Project};
use treehold_object::{Kind, ObjectId, fsck, hash};
use treehold_store::FinishedPack;
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest};

use crate::progress::Progress;
use crate::tree::{GITLINK, entries};
use crate::writer::Operation;
use crate::{Engine, EngineError, Result};

/// Rows written to the catalog at once.
const ROWS: usize = 1000;
/// Content of the rows that are written at once, bytes; one row may be larger.
const ROW_BYTES: usize = 8 << 20;

/// What the storing thread hands over, in the order in which it becomes durable.
enum Piece {
    Pack(FinishedPack),
    Trees(Vec<(ObjectId, Bytes)>),
}

fn refused(error: IngestError) -> EngineError {
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
    /// Resolves and checks a pack in its spool file.
    pub(crate) async fn quarantine(
        &self,
        project: &Project,
        pack: NamedTempFile,
        tip: ObjectId,
        shallow: &[ObjectId],
        progress: &dyn Progress,
    ) -> Result<Arc<Quarantine>> {
        let limits = IngestLimits {
            pack_bytes: self.config.limits.pack_bytes,
            objects: self.config.limits.pack_objects,
            object_bytes: self.config.limits.file_bytes,
            inflated_bytes: self.config.limits.inflated_bytes,
            ..IngestLimits::default()
        };
        let shallow: HashSet<ObjectId> = shallow.iter().copied().collect();
        let (told, mut heard) = mpsc::channel(1);
        let resolving = tokio::task::spawn_blocking(move || {
            let file = pack.reopen().map_err(IngestError::Io)?;
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
                threads: 2,
                cache_bytes: 48 << 20,
            };
            ingest(file, &options)
        });
        while let Some((done, total)) = heard.recv().await {
            progress.step("resolving", done, Some(total));
        }
        let quarantine = resolving.await.map_err(EngineError::internal)?.map_err(refused)?;
        self.check_closed(project, &quarantine, tip).await?;
        Ok(Arc::new(quarantine))
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

    /// Stores everything in a quarantine as reading packs (whole objects: the head's trees, its blobs in path order, then history),
    /// with the rows of its commits and of the head's trees. Memory is bounded by the size of a pack, not of the repository.
    pub(crate) async fn store_quarantine(
        &self,
        op: &mut Operation,
        quarantine: Arc<Quarantine>,
        tip: ObjectId,
        progress: &dyn Progress,
    ) -> Result<()> {
        let total = quarantine.len() as u64;
        let (hand_over, mut pieces) = mpsc::channel(1);
        let store = self.store.clone();
        let source = Arc::clone(&quarantine);
        let packing = tokio::task::spawn_blocking(move || Packing::new(&store, &source, &hand_over).run(tip));
        let mut stored = 0;
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Trees(trees) => self.catalog.put_trees(&trees).await?,
                Piece::Pack(pack) => {
                    stored += pack.entries.len() as u64;
                    op.numbers.extend(self.store_pack(op.id, pack).await?);
                    self.catalog.heartbeat(op.id, self.ambient.now_ms()).await?;
                    progress.step("storing", stored, Some(total));
                }
            }
        }
        packing.await.map_err(EngineError::internal)??;
        self.put_commits_of(quarantine).await
    }

    /// Commits are read twice, so that a long history's messages are not in memory all at once.
    async fn put_commits_of(&self, quarantine: Arc<Quarantine>) -> Result<()> {
        let source = Arc::clone(&quarantine);
        let bare = blocking(move || {
            let commits = source.iter().filter(|object| object.kind == Kind::Commit);
            let rows = commits.map(|commit| {
                let row = read_commit(&source, commit.oid)?;
                Ok((row.oid, CommitRow { raw: Bytes::new(), ..row }))
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(EngineError::internal)?
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
        let raw = read_commit(quarantine, row.oid)?.raw;
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

/// Writes a quarantine out as reading packs, on a thread of its own.
struct Packing<'a> {
    store: &'a treehold_store::ObjectStore,
    source: &'a Quarantine,
    hand_over: &'a mpsc::Sender<Piece>,
    done: HashSet<ObjectId>,
    builder: Option<treehold_store::PackBuilder>,
    trees: Vec<(ObjectId, Bytes)>,
    tree_bytes: usize,
}

impl<'a> Packing<'a> {
    fn new(store: &'a treehold_store::ObjectStore, source: &'a Quarantine, hand_over: &'a mpsc::Sender<Piece>) -> Self {
        Self { store, source, hand_over, done: HashSet::new(), builder: None, trees: Vec::new(), tree_bytes: 0 }
    }

    fn run(mut self, tip: ObjectId) -> Result<()> {
        let (_, raw) = self.source.read(&tip).map_err(refused)?.ok_or_else(|| EngineError::internal("no tip"))?;
        let root = commit_row(tip, raw)?.tree;
        let blobs = self.add_trees(root)?;
        self.flush_trees()?;
        for blob in blobs {
            self.add(blob)?;
        }
        for object in self.source.iter() {
            self.add(object.oid)?;
        }
        self.flush_pack()
    }

    /// Adds the head's trees, parents first; its blobs, in path order.
    fn add_trees(&mut self, root: ObjectId) -> Result<Vec<ObjectId>> {
        let mut blobs = Vec::new();
        let mut seen = HashSet::new();
        let mut stack = vec![(root, true)];
        while let Some((oid, is_tree)) = stack.pop() {
            if !seen.insert(oid) || !self.source.contains(&oid) {
                continue;
            }
            if !is_tree {
                blobs.push(oid);
                continue;
            }
            let (_, raw) =
                self.source.read(&oid).map_err(refused)?.ok_or_else(|| EngineError::internal("lost tree"))?;
            let at = stack.len();
            for entry in entries(&raw) {
                let (_, item) = entry?;
                if item.mode != GITLINK {
                    stack.push((item.oid, item.is_tree()));
                }
            }
            stack[at..].reverse();
            self.add(oid)?;
            self.tree_bytes += raw.len();
            self.trees.push((oid, raw));
            if self.trees.len() >= ROWS || self.tree_bytes >= ROW_BYTES {
                self.flush_trees()?;
            }
        }
        Ok(blobs)
    }

    fn add(&mut self, oid: ObjectId) -> Result<()> {
        if !self.done.insert(oid) {
            return Ok(());
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => none.insert(self.store.pack_builder()),
        };
        let (kind, content) =
            self.source.read(&oid).map_err(refused)?.ok_or_else(|| EngineError::internal("lost object"))?;
        match self.source.compressed(&oid).map_err(refused)? {
            Some((_, _, zlib)) => {
                builder.add_compressed(oid, kind, content.len() as u64, hash::sha256(kind, &content), &zlib)?
            }
            None => builder.add(oid, kind, &content)?,
        };
        if builder.is_full() {
            self.flush_pack()?;
        }
        Ok(())
    }

    fn flush_pack(&mut self) -> Result<()> {
        match self.builder.take() {
            Some(builder) => self.send(Piece::Pack(builder.finish()?)),
            None => Ok(()),
        }
    }

    fn flush_trees(&mut self) -> Result<()> {
        self.tree_bytes = 0;
        match std::mem::take(&mut self.trees) {
            trees if trees.is_empty() => Ok(()),
            trees => self.send(Piece::Trees(trees)),
        }
    }

    fn send(&self, piece: Piece) -> Result<()> {
        self.hand_over.blocking_send(piece).map_err(|_| EngineError::internal("storing was given up"))
    }
}
