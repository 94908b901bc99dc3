//! The lease under which a verification runs, and how far it is: what a stopped run goes on from.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::{Engine, EngineError, Result};

/// The job's name.
const JOB: &str = "verify";
/// How long the job stays with a run that gives no sign of life, milliseconds.
const LEASE_MS: i64 = 30_000;
/// How often a run gives one.
const RENEW: Duration = Duration::from_secs(5);

/// The job, held. Dropping it, because the run was stopped, gives it back as far as it came.
#[derive(Debug)]
pub(super) struct Lease {
    engine: Engine,
    holder: Uuid,
    progress: Arc<Mutex<Option<String>>>,
    held: bool,
}

impl Lease {
    /// Takes the job; also what an unfinished run said of how far it came. A conflict if somebody else has it.
    pub async fn take(engine: &Engine) -> Result<(Self, Option<String>)> {
        let (holder, now_ms) = (engine.ambient.uuid(), engine.ambient.now_ms());
        let job = engine.catalog.take_job(JOB, holder, now_ms, now_ms + LEASE_MS).await?;
        let job = job.ok_or_else(|| EngineError::Conflict {
            code: "verify_running",
            detail: "Another verification is under way, or was stopped less than half a minute ago.".to_owned(),
        })?;
        let progress = Arc::new(Mutex::new(job.progress.clone()));
        Ok((Self { engine: engine.clone(), holder, progress, held: true }, job.progress))
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
                Err(_) if self.renew().await? => {}
                Err(_) => {
                    let detail = "The verification was taken over by another one.".to_owned();
                    return Err(EngineError::Conflict { code: "verify_running", detail });
                }
            }
        }
    }

    async fn renew(&self) -> Result<bool> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let until_ms = self.engine.ambient.now_ms() + LEASE_MS;
        Ok(self.engine.catalog.renew_job(JOB, self.holder, until_ms, progress.as_deref()).await?)
    }

    /// Done to the end.
    pub async fn finish(mut self, report: &str) -> Result<()> {
        self.held = false;
        let now_ms = self.engine.ambient.now_ms();
        Ok(self.engine.catalog.release_job(JOB, self.holder, now_ms, Some(report)).await?)
    }

    async fn give_back(self) -> Result<()> {
        if self.renew().await? {
            let now_ms = self.engine.ambient.now_ms();
            self.engine.catalog.release_job(JOB, self.holder, now_ms, None).await?;
        }
        Ok(())
    }

    /// Stopped before its end.
    pub async fn stop(mut self) {
        self.held = false;
        if let Err(error) = self.give_back().await {
            tracing::warn!(%error, "a stopped verification could not be given back; its lease ends by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.held, tokio::runtime::Handle::try_current()) else { return };
        let progress = Arc::clone(&self.progress);
        let again = Self { engine: self.engine.clone(), holder: self.holder, progress, held: false };
        runtime.spawn(again.stop());
    }
}
