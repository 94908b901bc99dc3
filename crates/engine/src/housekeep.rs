//! What an engine does by itself: it finishes what others left undecided and removes what was never live.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Mutex, Notify};
use treehold_catalog::{Attempt, AttemptState, HistoryPolicy, KeyId, VersionPlace};
use treehold_fault::point;
use treehold_store::CacheStats;

use crate::commit::{LEFT_AFTER_MS, Looked};
use crate::totals::Counted;
use crate::{Engine, EngineError, Result};

/// Keys removed in one round.
const KEYS: u32 = 1000;
/// Attempts read at a time.
const ATTEMPTS: u32 = 100;
/// Versions of local history looked at in one step, each a short transaction; steps of one round; and how long to rest at the end.
const VERSIONS: u32 = 1000;
const THIN_STEPS: usize = 20;
const THINNED_AGAIN_MS: i64 = 3_600_000;
/// Keys removed at the same time.
const SWEEPERS: usize = 8;

/// What an engine remembers of the work that waits for it.
#[derive(Debug)]
pub(crate) struct Chores {
    started_ms: i64,
    stored: Notify,
    trimmed_ms: AtomicI64,
    thinning: Mutex<Thinning>,
    counted: std::sync::Mutex<Option<Counted>>,
    tied: AtomicBool,
}

/// Where the thinning of local history is.
#[derive(Debug, Default)]
struct Thinning {
    next: Option<VersionPlace>,
    /// When it last began from the start, Unix milliseconds.
    begun_ms: Option<i64>,
}

impl Chores {
    pub fn new(started_ms: i64) -> Self {
        let trimmed_ms = AtomicI64::new(i64::MIN);
        let (thinning, counted) = (Mutex::default(), std::sync::Mutex::default());
        Self { started_ms, stored: Notify::new(), trimmed_ms, thinning, counted, tied: AtomicBool::new(false) }
    }

    /// Whether database and bucket are known to be each other's.
    pub fn is_tied(&self) -> bool {
        self.tied.load(Ordering::Relaxed)
    }

    /// They are, and stay so.
    pub fn tied(&self) {
        self.tied.store(true, Ordering::Relaxed);
    }

    /// The last count of what the store holds.
    pub fn counted(&self) -> Option<Counted> {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one.
    pub fn count(&self, counted: Counted) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
    }

    /// When the engine was opened, Unix milliseconds.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// Whether feeds were last trimmed longer ago than `interval_ms`; if so, they count as trimmed now.
    pub fn trim_is_due(&self, now_ms: i64, interval_ms: i64) -> bool {
        let due = now_ms.saturating_sub(self.trimmed_ms.load(Ordering::Relaxed)) >= interval_ms;
        if due {
            self.trimmed_ms.store(now_ms, Ordering::Relaxed);
        }
        due
    }

    /// Something was stored. Told whether or not the ledger knew it already, so that a writer's work says nothing of that.
    pub fn stored(&self) {
        self.stored.notify_one();
    }
}

impl Engine {
    /// Waits until something was stored since the last wait: a [`sweep`](Engine::sweep) may find something to do.
    pub async fn stored(&self) {
        self.chores.stored.notified().await;
    }

    /// One round: settles unfinished attempts with the configured credentials, ends operations without a sign of life, and removes
    /// bucket keys in which no row was ever kept, those that were emptied longer ago than the grace, branches whose time has come, and old events of the feeds.
    pub async fn housekeep(&self) -> Result<()> {
        let dead = self.catalog.reap_ops(self.silent_before_ms()).await?;
        if dead > 0 {
            tracing::info!(dead, "operations without a sign of life were ended");
        }
        self.settle_all_left().await?;
        self.end_branches().await?;
        self.thin_history().await?;
        self.trim_feeds().await?;
        self.count_totals().await?;
        // After what people wait for: deletions may be many, or refused.
        self.sweep().await?;
        self.delete_doomed(self.config.key_grace).await?;
        Ok(())
    }

    /// A part of local history, round after round: what the policy does not keep goes. At the end it rests for a while.
    pub async fn thin_history(&self) -> Result<()> {
        let mut thinning = self.chores.thinning.lock().await;
        let now_ms = self.ambient.now_ms();
        if thinning.next.is_none() && thinning.begun_ms.is_some_and(|begun| now_ms - begun < THINNED_AGAIN_MS) {
            return Ok(());
        }
        if thinning.next.is_none() {
            thinning.begun_ms = Some(now_ms);
        }
        let keep = &self.config.limits.history;
        let policy = HistoryPolicy {
            all_ms: milliseconds(keep.all),
            hourly_ms: milliseconds(keep.hourly),
            daily_ms: milliseconds(keep.daily),
        };
        for _ in 0..THIN_STEPS {
            let step = self.catalog.thin_history(thinning.next.as_ref(), &policy, VERSIONS, now_ms).await?;
            if step.versions > 0 {
                tracing::debug!(versions = step.versions, contents = step.contents, "local history was thinned");
            }
            thinning.next = step.next;
            if thinning.next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Operations whose last sign of life is from before then are dead.
    pub(crate) fn silent_before_ms(&self) -> i64 {
        let before_ms = self.ago_ms(self.config.op_timeout);
        // Where nobody else is there, what began before us was left by a process that is gone.
        if self.config.sole { before_ms.max(self.chores.started_ms()) } else { before_ms }
    }

    /// Removes the bytes of keys that were never live. The key's name stays burnt, so that a late or repeated delete harms nothing.
    pub async fn sweep(&self) -> Result<()> {
        loop {
            let doomed = self.catalog.doomed_never_live(KEYS).await?;
            let last = doomed.len() < KEYS as usize;
            let removals = doomed.into_iter().map(|(key, name)| self.remove_key(key, name));
            futures::stream::iter(removals).buffer_unordered(SWEEPERS).try_collect::<()>().await?;
            if last {
                return Ok(());
            }
        }
    }

    pub(crate) async fn remove_key(&self, key: KeyId, name: String) -> Result<()> {
        self.delete_value(&name).await?;
        point("G7").await?;
        self.catalog.key_deleted(key).await?;
        Ok(())
    }

    /// Page by page through all of them: some that cannot be settled (no credentials, a remote that is gone) must not hide the others.
    async fn settle_all_left(&self) -> Result<()> {
        let now_ms = self.ambient.now_ms();
        let before_ms = if self.config.sole { now_ms } else { now_ms - LEFT_AFTER_MS };
        let (mut after, mut looked) = (0, Looked::default());
        loop {
            let page = self.catalog.attempts_left(before_ms, after, ATTEMPTS).await?;
            let Some(&(last, _)) = page.last() else { return Ok(()) };
            after = last;
            for (_, attempt) in page {
                let id = attempt.id;
                if let Err(error) = self.settle_left(attempt, before_ms, &mut looked).await {
                    tracing::warn!(%error, attempt = %id, "an unfinished attempt could not be settled yet");
                }
            }
        }
    }

    async fn settle_left(&self, attempt: Attempt, before_ms: i64, looked: &mut Looked) -> Result<()> {
        let lock = self.branch_lock(attempt.project, &attempt.pending_branch);
        // Whoever works on the branch may wait for its remote for long; the next round looks again.
        let Ok(_turn) = lock.try_lock() else { return Ok(()) };
        let Some(mut attempt) = self.catalog.attempt(attempt.id).await? else { return Ok(()) };
        if attempt.updated_at_ms > before_ms {
            return Ok(());
        }
        match attempt.state {
            AttemptState::Prepared if attempt.hosted => self.settle_hosted(&mut attempt, looked).await,
            AttemptState::Prepared => self.step(&mut attempt, AttemptState::Superseded, None).await,
            AttemptState::Stored | AttemptState::Pushing | AttemptState::Unknown | AttemptState::Landed => {
                let project = self.find_project(&attempt.project.to_string()).await?;
                let at = self.endpoint(&project, None);
                match attempt.waits {
                    true => self.end_wait_in_round(&mut attempt, at.as_ref(), looked).await,
                    false => self.complete_left(&mut attempt, at.as_ref()).await,
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether database and store answer, and are each other's: what could not be found out at the start is found out here.
    pub async fn ready(&self) -> Result<()> {
        self.catalog.ping().await?;
        self.may_write().await?;
        self.store.bucket().head("objects/info/packs").await?;
        Ok(())
    }

    /// Totals of the store, for operators.
    pub async fn stats(&self) -> Result<serde_json::Value> {
        let stats = self.catalog.stats().await?;
        let schema = self.catalog.schema_version().await?;
        serde_json::to_value(serde_json::json!({
            "projects": stats.projects,
            "objects": stats.objects,
            "content_bytes": stats.content_bytes,
            "stored_bytes": stats.stored_bytes,
            "keys": stats.keys,
            "pending": stats.pending,
            "held_bytes": stats.held_bytes,
            "schema_version": schema,
            "cache": self.store.cache_stats().as_ref().map(cache_view),
        }))
        .map_err(EngineError::internal)
    }
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What the cache of this process did since its start, and what it holds.
fn cache_view(stats: &CacheStats) -> serde_json::Value {
    let disk = stats.disk.as_ref().map(|disk| {
        serde_json::json!({
            "objects": disk.objects,
            "bytes": disk.bytes,
            "written": disk.written,
            "dropped": disk.dropped,
            "evicted": disk.evicted,
            "damaged": disk.damaged,
            "failures": disk.failures,
            "trouble": disk.trouble,
        })
    });
    serde_json::json!({
        "memory_hits": stats.memory_hits,
        "disk_hits": stats.disk_hits,
        "misses": stats.misses,
        "shared": stats.shared,
        "memory_objects": stats.memory_objects,
        "memory_bytes": stats.memory_bytes,
        "memory_evicted": stats.memory_evicted,
        "disk": disk,
    })
}
