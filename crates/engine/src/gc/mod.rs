//! Garbage collection: what nothing names any more is condemned, later given up, and last its bytes go (docs/reliability.md, G1–G7).
//!
//! Plan, look, apply: the plan is made from one snapshot of everything that keeps objects alive and says what would go; only an `apply`
//! changes anything, each step on the condition that it still holds. Safe beside any number of writers, readers, repacks and other collectors.

mod apply;
mod kept;
mod orphans;
mod plan;
mod reach;

use std::time::Duration;

use serde::Serialize;
use treehold_fault::point;
use uuid::Uuid;

use crate::lease::Lease;
use crate::mark::Marking;
use crate::progress::Progress;
use crate::rebuild;
use crate::{Engine, EngineError, Result};
pub use kept::GcKept;
use orphans::Scan;
use plan::Plan;

/// How long the reflog keeps what a ref was (git's `gc.reflogExpireUnreachable`).
const REFLOG_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Operations that ended are of interest for so long.
const OPS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Where nobody says otherwise, an object stays so long after it was condemned. A defence in depth: no step's safety rests on it.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long a server is up before the first collection of its store.
const FIRST_AFTER: Duration = Duration::from_secs(600);
/// The job of which one instance at a time has the lease.
const JOB: &str = "gc";
/// More than one part in so many of all objects at once is more likely a defect than garbage…
const BRAKE_SHARE: u64 = 5;
/// …unless there are this few.
const BRAKE_MIN: u64 = 1000;
/// Few names in the bucket may hold much, a pack hundreds of thousands of objects: so much of their bytes is little, as one pack of many has.
const BRAKE_BYTES_MIN: u64 = 64 << 20;

/// What an operator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Do it; else only say what would be done.
    pub apply: bool,
    /// How long objects stay after they were condemned, and the bytes of keys after they were emptied; what the set-up keeps them if not given.
    pub grace: Option<Duration>,
    /// Only what this project reached and does not any more, by its reflog: id or name.
    pub project: Option<String>,
    /// Of that project: forget its reflog, and skip the wait between the two steps.
    pub now: bool,
    /// Also where more goes than the brake allows.
    pub force: bool,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Whether this is only a plan.
    pub dry_run: bool,
    /// Objects last seen in this epoch or later belong to operations that may be under way.
    pub horizon: i64,
    /// Objects in the ledger at the start.
    pub objects: u64,
    /// Of these, how many something names.
    pub reachable: u64,
    /// Objects condemned by this run.
    pub condemned: u64,
    /// Their stored entries, bytes.
    pub condemned_bytes: u64,
    /// Objects condemned earlier whose grace is not over.
    pub waiting: u64,
    /// Objects that are not in the ledger any more.
    pub collected: u64,
    /// Their stored entries, bytes. Those in packs with other objects stay until `repack` drops them.
    pub collected_bytes: u64,
    /// Condemned objects that something names after all. None, or there is a defect.
    pub spared: u64,
    /// Bucket keys that lost their last object.
    pub emptied_keys: u64,
    /// Bucket keys whose grace was over and whose bytes are gone.
    pub deleted_keys: u64,
    /// Names in the bucket that nobody knew: leftovers of a lost database or of a write that came late.
    pub orphans: u64,
    /// Names in the bucket that are not ours; they stay.
    pub foreign: u64,
    /// Reflog entries that were too old.
    pub reflog_entries: u64,
    /// Packs rewritten so that what was collected from them is not in the new ones.
    pub rewritten_keys: u64,
    /// Where one project was asked for: what it does not reach any more, and stays all the same. What was said to go is not gone if this is not
    /// all zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<GcKept>,
    /// Projects whose figure of what they hold was not what was counted, and is now.
    pub recounted: u64,
}

impl Engine {
    /// Collects garbage, or says what would be collected. Of several that apply at once one does and the others are refused.
    pub async fn gc(&self, options: &GcOptions, progress: &dyn Progress) -> Result<GcReport> {
        let project = match &options.project {
            Some(project) => Some(self.find_project(project).await?.id),
            None if options.now => return Err(EngineError::BadRequest("`now` is for one project: name it".to_owned())),
            None => None,
        };
        if !options.apply {
            self.look_at_store().await?;
            let mut report = self.plan_gc(options, project, progress).await?.report;
            if project.is_none() {
                self.scan_orphans(false, &mut report, progress).await?;
            }
            return Ok(report);
        }
        let (lease, _) = Lease::take(self, JOB, "gc_running").await?;
        match lease.kept(self.collect(options, project, progress)).await {
            // What was done for one project is no collection of all.
            Ok(report) if project.is_some() => {
                lease.stop().await;
                Ok(report)
            }
            Ok(report) => {
                lease.finish(&serde_json::to_string(&report).map_err(EngineError::internal)?).await?;
                Ok(report)
            }
            Err(error) => {
                lease.stop().await;
                Err(error)
            }
        }
    }

    /// Collects garbage if the last collection, by whoever, is longer ago than `interval`; `None` = it is not, or somebody is at it. The
    /// first one of a store waits for its server to have been up for a while.
    pub async fn gc_if_due(&self, interval: Duration) -> Result<Option<GcReport>> {
        let jobs = self.catalog.jobs().await?;
        let job = jobs.into_iter().find(|job| job.name == JOB);
        let due = match job.and_then(|job| job.finished) {
            Some((finished_ms, _)) => finished_ms <= self.ago_ms(interval),
            None => self.chores.started_ms() <= self.ago_ms(interval.min(FIRST_AFTER)),
        };
        if !due {
            return Ok(None);
        }
        match self.gc(&GcOptions { apply: true, ..GcOptions::default() }, &()).await {
            Ok(report) => Ok(Some(report)),
            Err(EngineError::Conflict { code: "gc_running", .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn collect(&self, options: &GcOptions, project: Option<Uuid>, progress: &dyn Progress) -> Result<GcReport> {
        self.refuse_while_rebuilding().await?;
        self.tie_store().await?;
        let mut plan = self.plan_gc(options, project, progress).await?;
        let braked = check_brake(&plan, options);
        if braked.is_err() {
            // What was condemned earlier, by a run that was not braked, goes on its way.
            plan.condemn.clear();
        }
        let mut report = self.apply_gc(plan, options, project, progress).await?;
        report.recounted = self.recount(project).await?;
        braked.map(|()| report)
    }

    /// A ledger that is being made again does not know yet what is there.
    async fn refuse_while_rebuilding(&self) -> Result<()> {
        match self.catalog.jobs().await?.iter().any(|job| job.name == rebuild::JOB && job.progress.is_some()) {
            false => Ok(()),
            true => Err(EngineError::Conflict {
                code: "rebuild_unfinished",
                detail: "The ledger is being rebuilt, or that was cut off: `admin rebuild` goes on.".to_owned(),
            }),
        }
    }

    /// G1 to G3 (G1 and G2 only to apply), and what follows from them.
    async fn plan_gc(&self, options: &GcOptions, project: Option<Uuid>, progress: &dyn Progress) -> Result<Plan> {
        let horizon = if options.apply {
            point("G1").await?;
            self.catalog.next_epoch().await?;
            point("G2").await?;
            let horizon = self.catalog.raise_horizon(self.silent_before_ms()).await?;
            // One that has begun since the first look, and leapt before this horizon; one that begins later leaps over it.
            self.refuse_while_rebuilding().await?;
            horizon
        } else {
            self.catalog.horizon_ahead().await?
        };
        // After the horizon: what is published from here on belongs to operations that it counts.
        let wanted = match project {
            Some(project) => Some(self.once_reached(project, progress).await?),
            None => None,
        };
        point("G3").await?;
        let without = project.filter(|_| options.now);
        let roots = self.catalog.roots(self.ago_ms(REFLOG_KEPT), without).await?;
        if let Some((what, oid)) = roots.missing.first() {
            let source = format!("{} object(s) that must be there are not in the ledger", roots.missing.len()).into();
            return Err(EngineError::Damaged { what: format!("object {oid}, which {what} names"), source });
        }
        let mut marking = Marking::new(self, progress, Some(roots.objects));
        marking.walk(&roots.sets).await?;
        let reached = marking.reached();
        let grace = if options.now { Duration::ZERO } else { options.grace.unwrap_or(GRACE) };
        let kept = match (project, &wanted) {
            (Some(project), Some(wanted)) => Some(self.kept_of(project, &roots, wanted & &reached).await?),
            _ => None,
        };
        let mut plan = Plan::make(self, horizon, &roots, reached, wanted, grace, !options.apply).await?;
        plan.report.kept = kept;
        Ok(plan)
    }

    /// Everything that the reflog of a project names, with what that reaches.
    async fn once_reached(&self, project: Uuid, progress: &dyn Progress) -> Result<treehold_catalog::RoaringTreemap> {
        let reflog = self.catalog.reflog_roots(project).await?;
        let mut marking = Marking::new(self, progress, None);
        marking.walk(&[reflog]).await?;
        Ok(marking.reached())
    }

    pub(crate) fn ago_ms(&self, time: Duration) -> i64 {
        self.ambient.now_ms().saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }
}

fn check_brake(plan: &Plan, options: &GcOptions) -> Result<()> {
    let (condemned, objects) = (plan.report.condemned, plan.report.objects);
    brake(options, condemned, objects, BRAKE_MIN, "objects would be condemned")
}

/// Names and bytes, each by itself.
fn check_scan(scan: &Scan, options: &GcOptions) -> Result<()> {
    brake(options, scan.orphans, scan.names, BRAKE_MIN, "names in the bucket are unknown to the database")?;
    let what = "bytes in the bucket have names that are unknown to the database";
    brake(options, scan.orphan_bytes, scan.bytes, BRAKE_BYTES_MIN, what)
}

/// Refuses what is more likely a defect, or the wrong database, than garbage.
fn brake(options: &GcOptions, part: u64, all: u64, least: u64, what: &str) -> Result<()> {
    if options.force || part <= least || part <= all / BRAKE_SHARE {
        return Ok(());
    }
    Err(EngineError::Conflict {
        code: "gc_brake",
        detail: format!(
            "{part} of {all} {what}, more than one in {BRAKE_SHARE}: look at a dry run first; `--force` goes on if that is right"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_with_much_in_them_are_braked() {
        let ask = |orphans, names, orphan_bytes, bytes, force| {
            let scan = Scan { names, bytes, orphans, orphan_bytes };
            check_scan(&scan, &GcOptions { force, ..GcOptions::default() }).map_err(|error| error.code())
        };
        // A small store, with what a crash left.
        assert_eq!(ask(1, 1, 60 << 20, 60 << 20, false), Ok(()));
        assert_eq!(ask(1000, 1000, 1 << 20, 1 << 20, false), Ok(()));
        assert_eq!(ask(1001, 1001, 1 << 20, 1 << 20, false), Err("gc_brake"));
        // Packs of somebody else.
        assert_eq!(ask(900, 910, 900 << 26, 901 << 26, false), Err("gc_brake"));
        assert_eq!(ask(2, 910, 2 << 30, 9 << 30, false), Err("gc_brake"));
        assert_eq!(ask(2, 910, 2 << 30, 10 << 30, false), Ok(()));
        assert_eq!(ask(900, 910, 900 << 26, 901 << 26, true), Ok(()));
    }
}
