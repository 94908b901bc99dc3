//! From a received pack to stored objects: quarantine, checks, packs, rows.
//!
//! Nothing of a pack is used before all of it was resolved, named with collision detection, checked as `git fsck --strict` would,
//! and found closed: every edge ends in the pack itself or in what this project's own refs already reach (docs/reliability.md, law 5).

mod bases;
mod commits;
mod git_files;
mod packing;
mod spool;

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use tempfile::{NamedTempFile, TempPath};
use tokio::sync::mpsc;
use treehold_catalog::{Charged, Project};
use treehold_object::limits::{STRUCTURED_OBJECT_BYTES_MAX, TREE_DEPTH_MAX, TREE_PATH_BYTES_MAX};
use treehold_object::{Kind, ObjectId, Policy, fsck};
use treehold_store::{FinishedPack, PackEntry};
use treehold_wire::ingest::{Bases, PackedObject};
use treehold_wire::{Arrival, IngestError, IngestLimits, IngestOptions, Quarantine, ingest_arriving};

use bases::OwnBases;
pub(crate) use commits::{commit_row, read_commits, with_generations};
use git_files::GitFiles;
use packing::{Copies, Packing, Piece};
pub use spool::SpoolWriter;

use crate::progress::Progress;
use crate::writer::Operation;
use crate::{Engine, EngineError, Result, Room, blocking};

/// Rows written to the catalog at once.
pub(crate) const ROWS: usize = 4096;
/// Content of the rows that are written at once, bytes; one row may be larger.
pub(crate) const ROW_BYTES: usize = 8 << 20;
/// Bases of deltas that are kept in memory while a pack is resolved, by all threads together, bytes.
pub(crate) const BASES_BYTES: usize = 96 << 20;

/// Threads that resolve a pack: all cores, up to where the disk and the table of objects would be what they wait for.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().min(16))
}

/// A pushed commit or tag may be so long, bytes: walks hold many of them.
const TEXT_MAX: usize = 4 << 20;
/// So long may a tree be, and a commit or tag of a remote, bytes: they are taken apart in memory.
const STRUCTURED_MAX: usize = STRUCTURED_OBJECT_BYTES_MAX as usize;

/// How long an object that comes in may be, bytes, where that is less than what any object may have.
fn longest(kind: Kind, policy: Policy) -> Option<usize> {
    match kind {
        Kind::Blob => None,
        Kind::Commit | Kind::Tag if policy == Policy::Push => Some(TEXT_MAX),
        Kind::Commit | Kind::Tag | Kind::Tree => Some(STRUCTURED_MAX),
    }
}

/// A pack of fewer objects is not kept as it came: a pack for reading takes its place.
const KEPT_MIN: usize = 256;

/// Nor one of more: it is registered in one transaction, for which others wait.
const KEPT_MAX: usize = 600_000;

/// A pack that was resolved and checked, and the file that it is in.
pub(crate) struct Received {
    pub quarantine: Arc<Quarantine>,
    pack: TempPath,
    /// Memory for what is made of it ([`Rules::room`]).
    room: Arc<dyn Room>,
}

/// The received pack as it goes to the bucket.
async fn kept(quarantine: Arc<Quarantine>, path: TempPath) -> Result<FinishedPack> {
    blocking(move || {
        let checksum = quarantine.checksum();
        let idx = treehold_object::idx::write(&quarantine.index_entries(), &checksum).map_err(EngineError::internal)?;
        let entries = quarantine.iter().map(entry).collect();
        Ok(FinishedPack::received(checksum, entries, idx.into(), quarantine.pack_len(), path))
    })
    .await
}

/// An object of a received pack, where it stands in that.
pub(crate) fn entry(object: PackedObject) -> PackEntry {
    let PackedObject { oid, kind, size, sha256, offset, packed_len: length, base } = object;
    PackEntry { oid, kind, size, sha256, offset, length, base }
}

/// Why nothing of a pack is taken in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The pack itself: damaged, too large, with objects that break git's rules.
    Pack(IngestError),
    /// It refers to objects that it does not hold and the project does not reach; whether others have them is not told.
    Open,
    /// The project would hold more than it may.
    Quota(EngineError),
    /// Ours, or the transport's.
    Failed(EngineError),
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Io(source) => Self::Failed(unreadable(IngestError::Io(source))),
            IngestError::NoRoom => Self::Failed(EngineError::Busy),
            other => Self::Pack(other),
        }
    }
}

/// A quarantine whose spool file cannot be read any more, or that was built to be dear to read.
pub(crate) fn unreadable(error: IngestError) -> EngineError {
    match error {
        IngestError::Limit { limit, .. } => {
            EngineError::TooLarge { what: "the work to read the pack", limit, unit: "bytes" }
        }
        IngestError::Io(source) => EngineError::Unavailable { what: "the spool disk", source: Box::new(source) },
        other => EngineError::internal(other),
    }
}

/// A pack on its way into a spool file.
pub(crate) struct Arriving {
    /// The file, which goes away with this value.
    pub pack: NamedTempFile,
    /// How much of the pack is in it.
    pub arrival: Arc<Arrival>,
    /// Brings the rest: each item is how many bytes are in the file by now.
    pub rest: BoxStream<'static, Result<u64>>,
}

/// What a pack is held to.
pub(crate) struct Rules<'a> {
    pub policy: Policy,
    /// Commits whose parents need not be there.
    pub shallow: &'a [ObjectId],
    /// Deltas may rest on what the project reaches already.
    pub thin: bool,
    /// See [`IngestLimits::inflated_ratio`].
    pub inflated_ratio: u64,
    /// Memory for the table of its objects, and for the rows of its commits.
    pub room: Arc<dyn Room>,
}

/// What `resolved` makes, once `received` has ended, too. Whichever fails first says why: the other one only ends for it.
async fn both<T>(
    received: impl Future<Output = std::result::Result<(), Refused>>,
    resolved: impl Future<Output = std::result::Result<T, Refused>>,
    policy: Policy,
) -> std::result::Result<T, Refused> {
    let (mut received, mut resolved) = (std::pin::pin!(received), std::pin::pin!(resolved));
    tokio::select! {
        done = &mut received => {
            done?;
            resolved.await
        }
        done = &mut resolved => {
            // A client that pushes reads why only once it has sent everything.
            match &done {
                Ok(_) => received.await?,
                Err(_) if policy == Policy::Push => _ = received.await,
                Err(_) => {}
            }
            done
        }
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
        arriving: Arriving,
        rules: &Rules<'_>,
        progress: &dyn Progress,
    ) -> std::result::Result<Received, Refused> {
        let limits = IngestLimits { inflated_ratio: rules.inflated_ratio, ..self.ingest_limits() };
        let shallow: HashSet<ObjectId> = rules.shallow.iter().copied().collect();
        let (room, kept_room) = (Arc::clone(&rules.room), Arc::clone(&rules.room));
        let (policy, bases) = (rules.policy, rules.thin.then(|| OwnBases::of(self, project)));
        let (told, mut heard) = mpsc::channel(1);
        let Arriving { pack, arrival, mut rest } = arriving;
        let (file, pack) = pack.into_parts();
        let resolving = tokio::task::spawn_blocking(move || {
            let git_files = GitFiles::default();
            let check = |kind, oid: &ObjectId, content: &[u8]| {
                if let Some(longest) = longest(kind, policy).filter(|&longest| content.len() > longest) {
                    return Err(format!("it is longer than {longest} bytes"));
                }
                let checked = fsck::check(kind, oid, content, policy).map_err(|e| e.to_string())?;
                git_files.note(checked.git_files);
                Ok(())
            };
            let tell = |done, total| _ = told.try_send((done, total));
            let roomy = |bytes| room.take(bytes).is_ok();
            let options = IngestOptions {
                limits,
                shallow: Some(&shallow),
                check: Some(&check),
                cancel: None,
                progress: Some(&tell),
                sha256: true,
                threads: threads(),
                cache_bytes: BASES_BYTES / threads(),
                bases: bases.as_ref().map(|bases| bases as &dyn Bases),
                room: Some(&roomy),
            };
            let quarantine = ingest_arriving(file, &arrival, &options)?;
            Ok::<_, IngestError>((quarantine, git_files))
        });
        let received = async {
            while let Some(bytes) = rest.try_next().await? {
                progress.step("receiving", bytes, None);
            }
            while let Some((done, total)) = heard.recv().await {
                progress.step("resolving", done, Some(total));
            }
            Ok::<_, Refused>(())
        };
        let resolved = async { Ok::<_, Refused>(resolving.await.map_err(EngineError::internal)??) };
        let (quarantine, git_files) = both(received, resolved, policy).await?;
        let quarantine = self.check_whole(project, quarantine, git_files, policy).await?;
        Ok(Received { quarantine, pack, room: kept_room })
    }

    /// What can be told only once all of a pack is there.
    async fn check_whole(
        &self,
        project: &Project,
        quarantine: Quarantine,
        git_files: GitFiles,
        policy: Policy,
    ) -> std::result::Result<Arc<Quarantine>, Refused> {
        self.check_room(project, &quarantine).await?;
        self.check_closed(project, &quarantine).await?;
        let quarantine = Arc::new(quarantine);
        let trees = Arc::clone(&quarantine);
        blocking(move || Ok(trees.check_depth(TREE_DEPTH_MAX, TREE_PATH_BYTES_MAX))).await??;
        self.check_git_files_of(&quarantine, git_files, policy).await?;
        Ok(quarantine)
    }

    /// What the pack brings and the project does not reach yet must fit its quota.
    async fn check_room(&self, project: &Project, quarantine: &Quarantine) -> std::result::Result<(), Refused> {
        let brought = || quarantine.iter().map(|object| (object.oid, object.size));
        match self.check_quota_of(project, Charged::Reached, brought).await {
            Err(error @ EngineError::QuotaExceeded { .. }) => Err(Refused::Quota(error)),
            checked => Ok(checked?),
        }
    }

    /// Law 5: what the pack refers to and does not have must be reached by this project's own refs.
    async fn check_closed(&self, project: &Project, quarantine: &Quarantine) -> std::result::Result<(), Refused> {
        let reach = self.catalog.reach(project.id).await.map_err(EngineError::from)?;
        for chunk in quarantine.external().chunks(ROWS) {
            let oids: Vec<ObjectId> = chunk.iter().map(|(oid, _)| *oid).collect();
            let located = self.catalog.locate(&oids).await.map_err(EngineError::from)?;
            for ((oid, kind), located) in chunk.iter().zip(located) {
                let reached = located.is_some_and(|there| there.kind == *kind && reach.contains(there.number));
                let known = reached || (*kind == Kind::Tree && oid.is_empty_tree());
                if !known {
                    return Err(Refused::Open);
                }
            }
        }
        Ok(())
    }

    /// Stores everything in a quarantine, with the rows of its commits and of the trees of `tip`, the head. Many objects stay in the pack in
    /// which they came, deltas and all, with copies for reading beside it where they pay; a few are written anew, whole.
    /// Memory is bounded by the size of a pack and by a small record for each object, not by the repository's content.
    pub(crate) async fn store_received(
        &self,
        op: &mut Operation,
        received: Received,
        tip: Option<ObjectId>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Received { quarantine, pack, room } = received;
        let cost_max = commits::cost_max(quarantine.pack_len());
        let keep = (KEPT_MIN..KEPT_MAX).contains(&quarantine.len()) && !quarantine.has_duplicates();
        let total = quarantine.len() as u64;
        let told = |stored| progress.step("storing", stored, Some(total));
        if !keep {
            self.store_copies(op, &quarantine, Copies::Everything, tip, &told).await?;
            let commits = read_commits(&quarantine, room, cost_max).await?;
            return self.put_commits_of(quarantine, commits).await;
        }
        let id = op.id;
        // Its index is made, and it goes to the bucket, while others read it.
        let upload = async {
            let finished = kept(Arc::clone(&quarantine), pack).await?;
            let key = self.upload_pack(id, &finished).await?;
            Ok::<_, EngineError>((key, finished))
        };
        // The ledger keeps the first place of an object: copies for reading come first.
        let copied = self.store_copies(op, &quarantine, Copies::WhereTheyPay, tip, &told);
        let commits = read_commits(&quarantine, room, cost_max);
        let ((key, finished), (), commits) = futures::try_join!(upload, copied, commits)?;
        op.numbers.extend(self.register_pack(op.id, key, finished).await?);
        told(total);
        // Rows of commits that were known before may go with an object that the collector gives up; now it cannot any more.
        self.put_commits_of(quarantine, commits).await
    }

    /// Writes whole objects into packs of their own, on a thread for that, while the ones before go to the bucket.
    async fn store_copies(
        &self,
        op: &mut Operation,
        quarantine: &Arc<Quarantine>,
        copies: Copies,
        tip: Option<ObjectId>,
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
}
