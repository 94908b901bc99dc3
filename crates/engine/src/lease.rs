//! Leases of jobs: one instance at a time does what is done for all, and another one goes on where it was stopped.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::{Engine, EngineError, Result};

/// How long a job stays with a run that gives no sign of life, milliseconds.
const LEASE_MS: i64 = 30_000;
/// How often a run gives one.
const RENEW: Duration = Duration::from_secs(5);

/// A job, held. Dropping it, because the run was stopped, gives it back as far as it came.
#[derive(Debug)]
pub(crate) struct Lease {
    engine: Engine,
    job: &'static str,
    holder: Uuid,
    progress: Arc<Mutex<Option<String>>>,
    held: bool,
}

impl Lease {
    /// Takes a job; also what an unfinished run said of how far it came. A conflict of this code if somebody else has it.
    pub async fn take(engine: &Engine, job: &'static str, code: &'static str) -> Result<(Self, Option<String>)> {
        let (holder, now_ms) = (engine.ambient.uuid(), engine.ambient.now_ms());
        // Where nobody else is there, a lease that was last renewed before we began was left by a process that is gone.
        let left_ms = engine.chores.started_ms() + LEASE_MS;
        let over_ms = if engine.config.sole { now_ms.max(left_ms) } else { now_ms };
        let taken = engine.catalog.take_job(job, holder, over_ms, now_ms + LEASE_MS).await?;
        let detail = || "Another run is under way, or was killed less than half a minute ago.".to_owned();
        let taken = taken.ok_or_else(|| EngineError::Conflict { code, detail: detail() })?;
        let progress = Arc::new(Mutex::new(taken.progress.clone()));
        Ok((Self { engine: engine.clone(), job, holder, progress, held: true }, taken.progress))
    }

    /// Where a run says how far it is.
    pub fn progress(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.progress)
    }

    /// Works, and records now and then how far the work is.
    pub async fn kept<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(RENEW, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) if self.is_kept().await => {}
                Err(_) => {
                    let detail = "The run was taken over by another one.".to_owned();
                    return Err(EngineError::Conflict { code: "taken_over", detail });
                }
            }
        }
    }

    /// Whether nobody else has taken the job over, as far as that can be found out: nothing rests on it.
    async fn is_kept(&self) -> bool {
        self.renew().await.unwrap_or_else(|error| {
            tracing::warn!(%error, job = self.job, "a lease could not be renewed");
            true
        })
    }

    async fn renew(&self) -> Result<bool> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let until_ms = self.engine.ambient.now_ms() + LEASE_MS;
        Ok(self.engine.catalog.renew_job(self.job, self.holder, until_ms, progress.as_deref()).await?)
    }

    /// Done to the end.
    pub async fn finish(mut self, report: &str) -> Result<()> {
        self.held = false;
        let now_ms = self.engine.ambient.now_ms();
        Ok(self.engine.catalog.release_job(self.job, self.holder, now_ms, Some(report)).await?)
    }

    async fn give_back(self) -> Result<()> {
        if self.renew().await? {
            let now_ms = self.engine.ambient.now_ms();
            self.engine.catalog.release_job(self.job, self.holder, now_ms, None).await?;
        }
        Ok(())
    }

    /// Stopped before its end.
    pub async fn stop(mut self) {
        self.held = false;
        if let Err(error) = self.give_back().await {
            tracing::warn!(%error, "a stopped run could not be given back; its lease ends by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.held, tokio::runtime::Handle::try_current()) else { return };
        let progress = Arc::clone(&self.progress);
        let again = Self { engine: self.engine.clone(), job: self.job, holder: self.holder, progress, held: false };
        runtime.spawn(again.stop());
    }
}
