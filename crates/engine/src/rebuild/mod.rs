//! Rebuild: the ledger, the commit graph, the trees of heads and everybody's reach, made again from the bucket (law 1 of
//! docs/reliability.md). Refs and pending work come from the database if they are there, else from a manifest in the bucket.
//!
//! Every object is inflated, hashed and compared before it is recorded; what is damaged is reported and left out. Work goes pack by
//! pack, each recorded in one transaction, so that a rebuild that was cut off goes on with the next pack. Packs of whole objects come
//! first and large ones before small ones, since the ledger keeps an object's first place.

mod history;
mod keys;
mod packs;
mod reach;
mod salvage;
mod source;

use std::future::Future;
use std::time::Duration;

use futures::future::{Either, select};
use serde::Serialize;
use treehold_catalog::RebuildFrom;
use treehold_fault::point;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::api::Oid;
use crate::manifest::Chosen;
use crate::progress::Progress;
use crate::{Engine, EngineError, Result};

pub(crate) use source::Source;

/// The job's name.
pub(crate) const JOB: &str = "rebuild";
/// How long a job belongs to a holder that says nothing, milliseconds.
pub(crate) const LEASE_MS: i64 = 5 * 60_000;
/// How often the holder says that it is there.
const RENEWAL: Duration = Duration::from_secs(60);
/// Findings that are told one by one; more are counted.
const FINDINGS_MAX: usize = 10_000;

/// Where projects, refs and pending work come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestChoice {
    /// From the database, or from the newest manifest if that has no project at all; after a cut, from where they came before it.
    Auto,
    /// From the database alone.
    Nowhere,
    /// Projects that the database lacks come from the newest manifest.
    Newest,
    /// The same from this manifest's commit, wherever it is stored.
    Commit(ObjectId),
}

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Give up what the ledger has.
    pub force: bool,
    /// Where projects come from.
    pub manifest: ManifestChoice,
}

/// Damage, or what else an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum BucketFinding {
    /// An entry that is not the object that it should be. It is left out.
    CorruptObject {
        /// Its bucket key.
        key: String,
        /// What it should be, if an index or its key says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        oid: Option<Oid>,
        /// Where its entry starts, bytes.
        offset: u64,
    },
    /// A pack that is not whole. What can be read of it is recorded.
    DamagedPack {
        /// Its bucket key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// An index that does not fit its pack. The pack itself was read; git clients may get it slower until `repack` has rewritten it.
    DamagedIndex {
        /// Its bucket key.
        key: String,
    },
    /// A pack had no index; it has one now.
    MissingIndex {
        /// The pack's bucket key.
        key: String,
    },
    /// Two objects of one id: an attack. The one found first is kept.
    Collision {
        /// Where the second one is.
        key: String,
        /// Their id.
        oid: Oid,
    },
    /// A project needs an object that no key of the bucket holds.
    MissingObject {
        /// The project.
        project: Uuid,
        /// The object.
        oid: Oid,
        /// What needs it: `history`, a ref, a pending path.
        needed_by: String,
    },
    /// A project of the manifest that the database has already, or whose name another one has. It stays as it is there.
    ProjectExists {
        /// The project.
        project: Uuid,
    },
    /// Part of a manifest that cannot be read.
    DamagedManifest {
        /// Its commit.
        commit: Oid,
        /// What is wrong.
        detail: String,
    },
}

impl BucketFinding {
    /// Whether something is lost, or may be.
    fn is_damage(&self) -> bool {
        !matches!(self, Self::MissingIndex { .. } | Self::ProjectExists { .. })
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    /// Whether an earlier rebuild that was cut off was finished.
    pub resumed: bool,
    /// The manifest's commit that projects came from.
    pub manifest: Option<String>,
    /// Projects that came from it.
    pub projects_restored: u64,
    /// Pending changes that came with them.
    pub pending_restored: u64,
    /// Keys that were read.
    pub keys: u64,
    /// Their bytes, without indexes.
    pub bytes: u64,
    /// Objects that have their place in them.
    pub objects: u64,
    /// Keys that hold nothing that is not elsewhere: doomed, they go after the grace.
    pub doomed: u64,
    /// Trees of heads that were recorded.
    pub trees: u64,
    /// Projects whose reach was found out.
    pub projects: u64,
    /// How many of the findings are damage.
    pub damage: u64,
    /// What was found.
    pub findings: Vec<BucketFinding>,
    /// Findings beyond those that are told.
    pub findings_untold: u64,
}

impl RebuildReport {
    pub(crate) fn find(&mut self, finding: BucketFinding) {
        tracing::warn!(?finding, "a rebuild found something");
        self.damage += u64::from(finding.is_damage());
        match self.findings.len() < FINDINGS_MAX {
            true => self.findings.push(finding),
            false => self.findings_untold += 1,
        }
    }
}

impl Engine {
    /// Makes again what the bucket says. No server may be at work on the database.
    pub async fn rebuild(&self, options: RebuildOptions, progress: &dyn Progress) -> Result<RebuildReport> {
        let (holder, now_ms) = (self.ambient.uuid(), self.ambient.now_ms());
        // Where nobody else can be there, whoever had the job is gone.
        let then_ms = if self.config.sole { i64::MAX } else { now_ms };
        let job = self.catalog.take_job(JOB, holder, then_ms, now_ms.saturating_add(LEASE_MS)).await?;
        let job = job.ok_or_else(|| EngineError::Conflict {
            code: "rebuild_running",
            detail:
                "Another rebuild of this database is at work; one that was cut off counts as that for five minutes."
                    .to_owned(),
        })?;
        let from = match (options.force, job.progress.is_some()) {
            (true, _) => RebuildFrom::Anything,
            (false, true) => RebuildFrom::Interrupted,
            (false, false) => RebuildFrom::Empty,
        };
        let work = async {
            if let ManifestChoice::Commit(commit) = options.manifest {
                self.refuse_unknown_manifest(commit).await?;
            }
            let source = self.source(options.manifest, job.progress.as_deref()).await?;
            self.rebuild_from(from, source, holder, progress).await
        };
        let outcome = self.holding(JOB, holder, work).await;
        let report = outcome.as_ref().ok().map(|report| serde_json::json!({"objects": report.objects}).to_string());
        self.catalog.release_job(JOB, holder, self.ambient.now_ms(), report.as_deref()).await?;
        outcome
    }

    async fn rebuild_from(
        &self,
        from: RebuildFrom,
        source: Source,
        holder: Uuid,
        progress: &dyn Progress,
    ) -> Result<RebuildReport> {
        // Nothing is given up for a bucket that is another database's, or does not say whose it is, or takes no writes.
        if from == RebuildFrom::Empty && self.catalog.misplaced(0, 1).await?.1.is_some() {
            return Err(not_empty());
        }
        let store = self.judge_store(from == RebuildFrom::Anything).await?;
        point("B1").await?;
        if !self.catalog.begin_rebuild(from, JOB, holder, &source.text()?).await? {
            return Err(not_empty());
        }
        // Not before: with the ledger of another bucket it would be the word to empty this one.
        self.adopt_store(store).await?;
        let mut report = RebuildReport { resumed: from == RebuildFrom::Interrupted, ..RebuildReport::default() };
        let bucket = self.bucket_keys().await?;
        let manifests = bucket.manifests();
        self.adopt_all(bucket, &mut report, progress).await?;
        if let Some(manifest) = self.manifest_of(source, &manifests).await? {
            self.go_on_with(manifest, holder).await?;
            self.restore_projects(manifest, &mut report, progress).await?;
        }
        self.rebuild_history(&mut report, progress).await?;
        self.recount(None).await?;
        Ok(report)
    }

    /// From here on projects come from this manifest, whoever goes on, and the collector keeps it.
    async fn go_on_with(&self, manifest: Chosen, holder: Uuid) -> Result<()> {
        let text = Source::Manifest { commit: Oid(manifest.commit) }.text()?;
        let until_ms = self.ambient.now_ms().saturating_add(LEASE_MS);
        if !self.catalog.renew_job(JOB, holder, until_ms, Some(&text)).await? {
            let detail = "The rebuild was taken over by another one.".to_owned();
            return Err(EngineError::Conflict { code: "taken_over", detail });
        }
        self.keep_manifest(manifest).await
    }

    /// Works while the job is held, however long that takes. Nothing rests on the lease, so that a lost one ends nothing.
    pub(crate) async fn holding<T>(&self, job: &str, holder: Uuid, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(outcome) = tokio::time::timeout(RENEWAL, &mut work).await {
                return outcome;
            }
            let until_ms = self.ambient.now_ms().saturating_add(LEASE_MS);
            // Both at once: the work may hold the connection, or the job's row, that the renewal waits for.
            let renewal = self.catalog.renew_job(job, holder, until_ms, None);
            match select(&mut work, renewal).await {
                Either::Left((outcome, _)) => return outcome,
                Either::Right((Ok(true), _)) => {}
                Either::Right((Ok(false), _)) => tracing::warn!(job, "somebody else took the job over"),
                Either::Right((Err(error), _)) => tracing::warn!(%error, job, "a job's lease could not be renewed"),
            }
        }
    }
}

fn not_empty() -> EngineError {
    EngineError::Conflict {
        code: "ledger_not_empty",
        detail: "The database knows objects already; --force gives that up and reads the whole bucket again."
            .to_owned(),
    }
}
