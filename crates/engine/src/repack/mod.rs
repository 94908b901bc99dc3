//! Repack: small packs become large ones, dead weight goes.
//!
//! Safe beside readers and writers (docs/reliability.md, N1–N5): objects are read and verified, written to a fresh pack, and only then do
//! the ledger's rows move, each on the condition that the object is still where it was read. A reader that knows the old place finds the
//! bytes there until the grace has passed, and asks the ledger again after that.

mod plan;
mod rewrite;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::StreamExt;
use serde::Serialize;
use treehold_catalog::{KeyId, OpKind};
use treehold_fault::point;

use crate::progress::Progress;
use crate::{Engine, Result};
use plan::Plan;
use rewrite::Rewriting;

/// Keys listed, or removed, at once.
const KEYS: u32 = 1000;

/// Keys removed at the same time.
const DELETERS: usize = 8;

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepackOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// How long the bytes of emptied keys stay: longer than any read takes, and than the database may be set back in time.
    pub grace: Duration,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepackReport {
    /// Whether this is only a plan.
    pub dry_run: bool,
    /// Keys in use at the start.
    pub keys: u64,
    /// Their values, indexes included, bytes.
    pub bytes: u64,
    /// Bytes in them that no object's place is, indexes left out.
    pub dead_bytes: u64,
    /// Keys to rewrite.
    pub rewritten: u64,
    /// Objects that moved.
    pub objects: u64,
    /// Objects that could not be read and stayed where they are: run `verify`.
    pub damaged: u64,
    /// Packs that were written.
    pub packs: u64,
    /// Their size, indexes included, bytes.
    pub written_bytes: u64,
    /// Emptied keys whose grace had passed and whose bytes are gone.
    pub deleted: u64,
    /// How many bytes that was, as far as the bucket told.
    pub deleted_bytes: u64,
}

impl Engine {
    /// Coalesces small packs and loose objects, drops dead weight, and deletes what was emptied longer ago than the grace.
    pub async fn repack(&self, options: RepackOptions, progress: &dyn Progress) -> Result<RepackReport> {
        let sizes = self.sizes().await?;
        let plan = self.plan_repack(&sizes).await?;
        let mut report = plan.report(options.dry_run);
        if options.dry_run {
            return Ok(report);
        }
        if !plan.keys.is_empty() {
            self.rewrite(plan, &mut report, progress).await?;
        }
        for (key, name) in self.delete_doomed(options.grace).await? {
            tracing::debug!(key, name, "an emptied key was deleted");
            report.deleted += 1;
            report.deleted_bytes += size_with_index(&sizes, &name);
        }
        Ok(report)
    }

    /// Rewrites those of the keys that are in use, whatever they hold; how many.
    pub(crate) async fn rewrite_keys(&self, keys: &BTreeSet<KeyId>, progress: &dyn Progress) -> Result<u64> {
        let mut stored = Vec::with_capacity(keys.len());
        for key in keys {
            let next = self.catalog.stored_keys(key - 1, 1).await?.pop();
            stored.extend(next.filter(|next| next.id == *key && next.objects > 0));
        }
        let (plan, mut report) = (Plan::of(stored), RepackReport::default());
        let rewritten = plan.keys.len() as u64;
        if rewritten > 0 {
            self.rewrite(plan, &mut report, progress).await?;
        }
        Ok(rewritten)
    }

    async fn rewrite(&self, plan: Plan, report: &mut RepackReport, progress: &dyn Progress) -> Result<()> {
        point("N1").await?;
        let op = self.begin_op(None, OpKind::Repack).await?;
        let total = plan.objects();
        let mut rewriting = Rewriting::new(self, op.id, report);
        let work = async {
            for key in plan.keys {
                rewriting.take(&key).await?;
                progress.step("repacking", rewriting.taken(), Some(total));
            }
            rewriting.flush().await
        };
        let outcome = self.kept_alive(op.id, work).await;
        self.end_op(op).await;
        outcome
    }

    /// Every value of the bucket and its size.
    async fn sizes(&self) -> Result<HashMap<String, u64>> {
        let mut sizes = HashMap::new();
        let mut after = None;
        loop {
            let page = self.store.bucket().list("objects/", after.as_deref(), KEYS as usize).await?;
            sizes.extend(page.entries);
            after = page.next;
            if after.is_none() {
                return Ok(sizes);
            }
        }
    }

    /// G7 for keys that `repack` emptied: removes the bytes of those doomed longer ago than `grace`. Names stay burnt.
    pub(crate) async fn delete_doomed(&self, grace: Duration) -> Result<Vec<(KeyId, String)>> {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        // Whatever was doomed up to now, if there is no grace.
        let before_ms = self.ambient.now_ms().saturating_sub(grace_ms).saturating_add(i64::from(grace_ms == 0));
        let mut deleted = Vec::new();
        loop {
            let doomed = self.catalog.doomed_before(before_ms, KEYS).await?;
            let last = doomed.len() < KEYS as usize;
            let removals = doomed.into_iter().map(|(key, name)| async move {
                match self.remove_key(key, name.clone()).await {
                    Ok(()) => Some((key, name)),
                    Err(error) => {
                        tracing::warn!(%error, name, "an emptied key could not be deleted");
                        None
                    }
                }
            });
            let removed: Vec<_> = futures::stream::iter(removals).buffer_unordered(DELETERS).collect().await;
            let failed = removed.iter().any(Option::is_none);
            deleted.extend(removed.into_iter().flatten());
            // What could not be deleted would be listed again at once.
            if last || failed {
                return Ok(deleted);
            }
        }
    }
}

/// A value and, for a pack, its index, bytes.
fn size_with_index(sizes: &HashMap<String, u64>, key: &str) -> u64 {
    let size = |key: &str| sizes.get(key).copied().unwrap_or_default();
    size(key) + treehold_store::idx_key(key).map_or(0, |key| size(&key))
}
