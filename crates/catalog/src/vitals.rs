//! What an operator watches: cheap to ask for, however much is stored.

use async_trait::async_trait;

use crate::attempts::AttemptState;
use crate::error::CatalogError;

/// What is under way, and what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Attempts that are not final, by state, with the time of the oldest one, Unix milliseconds.
    pub attempts: Vec<(AttemptState, u64, i64)>,
    /// Open operations, and the longest ago that one of them gave a sign of life, Unix milliseconds.
    pub ops: Option<(u64, i64)>,
    /// Branches of projects with a remote that are elsewhere than the remote was last seen.
    pub unpushed_branches: u64,
    /// Condemned objects.
    pub condemned: u64,
    /// Keys whose bytes wait to be deleted.
    pub doomed_keys: u64,
}

/// Connections to the database, of one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// `read`, `write`, or `any`.
    pub of: &'static str,
    /// At most.
    pub max: u32,
    /// Those that are open.
    pub open: u32,
    /// Of these, those that nobody uses. Read after `open`, so that they may be more by a moment.
    pub idle: u32,
}

/// Watching.
#[async_trait]
pub trait Watch {
    /// This process's connections. Costs nothing.
    fn connections(&self) -> Vec<Connections>;
    /// What is under way, and what waits, as single statements see it.
    async fn vitals(&self) -> Result<Vitals, CatalogError>;
}
