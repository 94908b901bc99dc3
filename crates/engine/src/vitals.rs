//! What an operator watches.

use serde_json::Value;
use treehold_catalog::{AttemptState, Connections, Job, Vitals};
use treehold_store::CacheStats;

use crate::totals::Totals;
use crate::{Engine, Result};

/// What is under way, what waits, and when upkeep was last done.
#[derive(Debug, Clone)]
pub struct Watched {
    /// When this was asked, Unix milliseconds.
    pub now_ms: i64,
    /// From the database.
    pub vitals: Vitals,
    /// To the database, of this process.
    pub connections: Vec<Connections>,
    /// Collection, verification, manifests, as far as they were ever begun.
    pub jobs: Vec<WatchedJob>,
    /// What the store held when it was last counted by this process, if it was.
    pub totals: Option<Totals>,
    /// This process's cache of objects, if it has one.
    pub cache: Option<CacheStats>,
}

/// A job, and how it ended last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedJob {
    /// `gc`, `verify`, `manifest`, `rebuild`.
    pub name: String,
    /// When it was last done to the end, Unix milliseconds.
    pub finished_ms: Option<i64>,
    /// Whether somebody is at it.
    pub running: bool,
    /// The numbers of its last report.
    pub numbers: Vec<(String, u64)>,
}

impl Engine {
    /// What an operator watches: cheap, however much is stored.
    pub async fn watch(&self) -> Result<Watched> {
        let now_ms = self.ambient.now_ms();
        let (vitals, jobs) = tokio::try_join!(self.catalog.vitals(), self.catalog.jobs())?;
        let jobs = jobs.into_iter().map(|job| watched(job, now_ms)).collect();
        let connections = self.catalog.connections();
        let totals = self.chores.counted().and_then(|counted| counted.totals());
        Ok(Watched { now_ms, vitals, connections, jobs, totals, cache: self.store.cache_stats() })
    }
}

fn watched(job: Job, now_ms: i64) -> WatchedJob {
    let report = job.finished.as_ref().and_then(|(_, report)| serde_json::from_str::<Value>(report).ok());
    let numbers = report.as_ref().and_then(Value::as_object).into_iter().flatten();
    let numbers = numbers.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    WatchedJob {
        numbers: numbers.collect(),
        running: job.holder.is_some_and(|(_, until_ms)| until_ms > now_ms),
        finished_ms: job.finished.map(|(finished_ms, _)| finished_ms),
        name: job.name,
    }
}

/// An attempt's state as metrics name it.
pub fn attempt_state(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Prepared => "prepared",
        AttemptState::Stored => "stored",
        AttemptState::Pushing => "pushing",
        AttemptState::Unknown => "unknown",
        AttemptState::Landed => "landed",
        AttemptState::Finalized => "finalized",
        AttemptState::CommittedLocal => "committed_local",
        AttemptState::Rejected => "rejected",
        AttemptState::Paused => "paused",
        AttemptState::Superseded => "superseded",
    }
}
