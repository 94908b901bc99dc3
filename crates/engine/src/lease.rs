//! Leases of jobs: one instance at a time does what is done for all.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::{Engine, EngineError, Result};

/// How long a holder may be silent.
const LEASE_MS: i64 = 120_000;
/// How often it says that it is there.
const RENEWED: Duration = Duration::from_secs(30);

/// A job that this engine does now.
pub(crate) struct Lease<'a> {
    engine: &'a Engine,
    name: &'static str,
    holder: Uuid,
    /// Where the one before stopped.
    pub progress: Option<String>,
}

impl Engine {
    /// Takes a job; `None` = somebody else does it.
    pub(crate) async fn lease(&self, name: &'static str) -> Result<Option<Lease<'_>>> {
        let (holder, now_ms) = (self.ambient.uuid(), self.ambient.now_ms());
        let job = self.catalog.take_job(name, holder, now_ms, now_ms + LEASE_MS).await?;
        Ok(job.map(|job| Lease { engine: self, name, holder, progress: job.progress }))
    }
}

impl Lease<'_> {
    /// Works, and renews the lease meanwhile. The work ends where somebody else has taken the job over.
    pub async fn kept<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(RENEWED, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) => self.renew().await?,
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        let until_ms = self.engine.ambient.now_ms() + LEASE_MS;
        match self.engine.catalog.renew_job(self.name, self.holder, until_ms, self.progress.as_deref()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::Busy),
            Err(error) => {
                tracing::warn!(%error, job = self.name, "a lease could not be renewed");
                Ok(())
            }
        }
    }

    /// Gives the job back, with the report if it was done to the end. A failure is left to the lease's own end.
    pub async fn end(self, report: Option<&impl Serialize>) {
        let report = report.map(serde_json::to_string).transpose().unwrap_or_default();
        let now_ms = self.engine.ambient.now_ms();
        if let Err(error) = self.engine.catalog.release_job(self.name, self.holder, now_ms, report.as_deref()).await {
            tracing::warn!(%error, job = self.name, "a job could not be given back");
        }
    }
}
