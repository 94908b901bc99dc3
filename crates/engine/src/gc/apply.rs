//! Doing what was planned, step by step. Each step may be the last one before a crash: the next run goes on from what the rows say.

use std::collections::BTreeSet;

use treehold_catalog::{KeyId, RoaringTreemap, Stale};
use treehold_fault::point;
use uuid::Uuid;

use super::plan::{Plan, ROWS};
use super::{GcOptions, GcReport, OPS_KEPT, REFLOG_KEPT, check_scan};
use crate::progress::Progress;
use crate::{Engine, EngineError, Result};

/// Rows changed in one transaction: writers wait no longer than for that.
const CHUNK: usize = 2048;

impl Engine {
    pub(super) async fn apply_gc(
        &self,
        mut plan: Plan,
        options: &GcOptions,
        project: Option<Uuid>,
        progress: &dyn Progress,
    ) -> Result<GcReport> {
        let mut report = GcReport { condemned: 0, ..plan.report.clone() };
        point("G4").await?;
        let held = self.take_out_of_reach(&(&plan.condemn | &plan.condemned)).await?;
        plan.condemn -= &held;
        plan.condemned -= &held;
        let total = Some(plan.condemn.len() + plan.condemned.len());
        for chunk in chunks(&plan.condemn) {
            report.condemned += self.catalog.condemn(&chunk, plan.horizon, self.ambient.now_ms()).await?;
            progress.step("condemning", report.condemned, total);
        }
        for chunk in chunks(&plan.spare) {
            tracing::error!(
                objects = chunk.len(),
                "condemned objects are named by something and were taken back: a defect"
            );
            report.spared += self.catalog.spare(&chunk).await?;
        }
        if let Some(project) = project.filter(|_| options.now) {
            report.reflog_entries = self.catalog.forget_reflog(project).await?;
        }
        let shrunk = self.doom(&plan, &mut report, progress).await?;
        if options.now {
            report.rewritten_keys = self.rewrite_keys(&shrunk, progress).await?;
        }
        let grace = options.grace.unwrap_or(self.config.key_grace);
        if project.is_none() {
            let scan = self.scan_orphans(false, &mut report, progress).await?;
            if report.objects == 0 && report.orphans > 0 && !options.force {
                let detail = "The ledger is empty and the bucket is not: `admin rebuild`, or look at `database_url` and `store_url`.";
                return Err(EngineError::Conflict { code: "ledger_empty", detail: detail.to_owned() });
            }
            check_scan(&scan, options)?;
            (report.orphans, report.foreign) = (0, 0);
            self.scan_orphans(true, &mut report, progress).await?;
        }
        match self.catalog.forget(self.ago_ms(REFLOG_KEPT), self.ago_ms(OPS_KEPT)).await {
            Ok(forgotten) => report.reflog_entries += forgotten.reflog,
            // What is too old stays a while longer.
            Err(error) => tracing::warn!(%error, "old reflog entries were not forgotten"),
        }
        report.deleted_keys = self.delete_doomed(grace).await?.len() as u64;
        Ok(report)
    }

    /// G6, for those that have waited long enough. With no grace these are also the ones that were condemned just now.
    /// The keys that lost objects.
    async fn doom(&self, plan: &Plan, report: &mut GcReport, progress: &dyn Progress) -> Result<BTreeSet<KeyId>> {
        point("G6").await?;
        let mut shrunk = BTreeSet::new();
        let mine = &plan.condemn | &plan.condemned;
        let mut after = 0;
        loop {
            let rows = self.catalog.condemned(after, ROWS).await?;
            let Some(last) = rows.last() else { return Ok(shrunk) };
            after = last.number;
            let mut ripe = Vec::with_capacity(rows.len());
            for row in rows.into_iter().filter(|row| mine.contains(row.number)) {
                match is_ripe(&row, plan) {
                    true => ripe.push(row.number),
                    false => report.waiting += 1,
                }
            }
            for chunk in ripe.chunks(CHUNK) {
                let doomed = self.catalog.doom(chunk, plan.horizon, self.ambient.now_ms()).await?;
                report.collected += doomed.objects;
                report.collected_bytes += doomed.bytes;
                report.emptied_keys += doomed.keys;
                shrunk.extend(doomed.shrunk);
                progress.step("collecting", report.collected, Some(mine.len()));
            }
        }
    }
}

fn is_ripe(row: &Stale, plan: &Plan) -> bool {
    row.seen_epoch < plan.horizon && row.condemned_at_ms.is_some_and(|at_ms| at_ms <= plan.condemned_until_ms)
}

fn chunks(numbers: &RoaringTreemap) -> impl Iterator<Item = Vec<u64>> {
    let mut numbers = numbers.iter();
    std::iter::from_fn(move || {
        let chunk: Vec<u64> = numbers.by_ref().take(CHUNK).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}
