//! Work that one instance at a time does for all: collection, verification, manifests.
//!
//! A lease saves work that would be done twice. Nothing rests on it: each job is safe beside another one like it.

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::CatalogError;

/// A job, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// `gc`, `verify`, …
    pub name: String,
    /// Who does it, until when unless it renews, Unix milliseconds. A time that has passed: it is gone.
    pub holder: Option<(Uuid, i64)>,
    /// Where to go on, in the job's own words; `None` = from the start.
    pub progress: Option<String>,
    /// When it was last done to the end (Unix milliseconds), and what it said then (JSON).
    pub finished: Option<(i64, String)>,
}

/// Jobs.
#[async_trait]
pub trait Jobs {
    /// Takes a job until `until_ms`, if nobody has it, its holder is gone, or `holder` has it already; `None` = somebody else does it.
    async fn take_job(&self, name: &str, holder: Uuid, now_ms: i64, until_ms: i64)
    -> Result<Option<Job>, CatalogError>;
    /// Renews a lease and records how far the job is (`None`: as far as it said before); `false` = somebody else has taken it over.
    async fn renew_job(
        &self,
        name: &str,
        holder: Uuid,
        until_ms: i64,
        progress: Option<&str>,
    ) -> Result<bool, CatalogError>;
    /// Gives a job back. With a report it was done to the end and starts anew next time, else it goes on from its progress.
    async fn release_job(
        &self,
        name: &str,
        holder: Uuid,
        now_ms: i64,
        report: Option<&str>,
    ) -> Result<(), CatalogError>;
    /// All jobs that were ever taken, in order of their names.
    async fn jobs(&self) -> Result<Vec<Job>, CatalogError>;
}
