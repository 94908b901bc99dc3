//! Manifests: what the bucket does not say by itself (projects, refs, tokens' hashes, pending work), written into it now and then as
//! ordinary git objects, so that the bucket alone is enough to start again.
//!
//! A manifest is a commit whose message begins with [`MARKER`], over a tree that stock git shows as well (see `format`). What did not
//! change since the last one is the same object. The newest commit and the one before it are named by the job's report, where the
//! collector finds them as roots. Nothing in it opens anything: of tokens only hashes are there, and remotes have no credentials.
//!
//! Anybody who pushes can make a commit with such a message. A manifest is trusted for where it is: in a pack whose name begins with
//! [`PREFIX`], which nobody but us gives.

mod format;
mod restore;
mod write;

use std::collections::HashSet;

use serde::Serialize;
use serde_json::json;
use treehold_catalog::KeyId;
use treehold_object::ObjectId;

use crate::api::Oid;
use crate::progress::Progress;
use crate::rebuild::LEASE_MS;
use crate::{Engine, Result};

/// Keys of packs that hold a manifest's commit; its time follows, as 16 hex digits of milliseconds.
pub(crate) const PREFIX: &str = "objects/pack/pack-manifest-";
/// The first line of a manifest's message.
pub(crate) const MARKER: &str = "Treehold manifest 1";
/// The job's name: the collector reads the field `commits` of its report.
const JOB: &str = "manifest";
/// Manifests that the collector keeps.
const KEPT: usize = 2;

/// A manifest that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestReport {
    /// Its commit.
    pub commit: Oid,
    /// Projects in it.
    pub projects: u64,
    /// Pending changes in it.
    pub pending: u64,
    /// Objects that had to be stored for it.
    pub objects: u64,
    /// Their packs.
    pub packs: u64,
    /// Unix milliseconds.
    pub time_ms: i64,
    /// Commits of the manifests that the collector keeps, this one first.
    pub commits: Vec<Oid>,
}

/// A manifest that projects come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub commit: ObjectId,
    /// When it was written, Unix milliseconds.
    pub time_ms: i64,
    /// The tree `projects`.
    projects: ObjectId,
}

impl Engine {
    /// Writes a manifest. `None`: somebody else does.
    pub async fn write_manifest(&self, progress: &dyn Progress) -> Result<Option<ManifestReport>> {
        let (holder, now_ms) = (self.ambient.uuid(), self.ambient.now_ms());
        let job = self.catalog.take_job(JOB, holder, now_ms, now_ms.saturating_add(LEASE_MS)).await?;
        let Some(job) = job else { return Ok(None) };
        let before = job.finished.map(|(_, report)| commits(&report)).unwrap_or_default();
        let written = self.holding(JOB, holder, self.manifest_of_all(holder, before, progress)).await;
        if written.is_err() {
            self.catalog.release_job(JOB, holder, self.ambient.now_ms(), None).await?;
        }
        written.map(Some)
    }

    /// Names a manifest that projects come from as the last one, if the report does not name it anyway: the report went with the database,
    /// and without it the collector would take the manifest for garbage before the next one is written. No server is at work, so that
    /// whoever has the job is gone.
    pub(crate) async fn keep_manifest(&self, manifest: Chosen) -> Result<()> {
        let Chosen { commit, time_ms, .. } = manifest;
        let (holder, now_ms) = (self.ambient.uuid(), self.ambient.now_ms());
        let job = self.catalog.take_job(JOB, holder, i64::MAX, now_ms.saturating_add(LEASE_MS)).await?;
        let finished = job.and_then(|job| job.finished);
        let (last_ms, before) = finished.map_or((time_ms, Vec::new()), |(at_ms, report)| (at_ms, commits(&report)));
        let report = (!before.contains(&Oid(commit))).then(|| {
            let commits: Vec<Oid> = [Oid(commit)].into_iter().chain(before).collect();
            json!({"commit": Oid(commit), "time_ms": time_ms, "commits": commits}).to_string()
        });
        Ok(self.catalog.release_job(JOB, holder, last_ms.max(time_ms), report.as_deref()).await?)
    }

    /// Keys of the packs that hold commits of manifests which the collector keeps: a rebuild finds them by their names alone.
    pub(crate) async fn manifest_keys(&self) -> Result<HashSet<KeyId>> {
        let jobs = self.catalog.jobs().await?;
        let finished = jobs.into_iter().find(|job| job.name == JOB).and_then(|job| job.finished);
        let kept = finished.map(|(_, report)| commits(&report)).unwrap_or_default();
        let kept: Vec<ObjectId> = kept.into_iter().map(|oid| oid.0).collect();
        let located = self.catalog.locate(&kept).await?.into_iter().flatten();
        Ok(located.filter(|object| object.key.starts_with(PREFIX)).map(|object| object.key_id).collect())
    }

    /// How long ago the last manifest was written, milliseconds; `None`: there is none.
    pub async fn manifest_age_ms(&self) -> Result<Option<i64>> {
        let jobs = self.catalog.jobs().await?;
        let finished = jobs.into_iter().find(|job| job.name == JOB).and_then(|job| job.finished);
        Ok(finished.map(|(at_ms, _)| self.ambient.now_ms().saturating_sub(at_ms)))
    }
}

/// The commits that a report names.
fn commits(report: &str) -> Vec<Oid> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    serde_json::from_value(report["commits"].clone()).unwrap_or_default()
}
