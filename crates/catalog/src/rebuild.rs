//! A ledger that is made again from the bucket, and a database that was set back in time.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::error::CatalogError;
use crate::ledger::NewObject;

/// What a rebuild finds in the ledger, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildFrom {
    /// Nothing: it was lost.
    Empty,
    /// Whatever there is: it is given up.
    Anything,
    /// What an earlier rebuild left when it was cut off: it stays.
    Interrupted,
}

/// A value of the bucket that was read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// Its key.
    pub name: String,
    /// What it holds, in order. Deltas have their bases among them.
    pub objects: Vec<NewObject>,
}

/// Making the ledger again. No server may be at work on the database meanwhile.
#[async_trait]
pub trait Rebuild {
    /// For a database that was set back in time, by whatever means: the epoch leaps ahead and the horizon with it, so that nothing begun
    /// before can publish; every operation is dead, and what they reserved is doomed. The epoch now.
    async fn set_back(&self, now_ms: i64) -> Result<i64, CatalogError>;
    /// Begins, in one transaction: as [`Self::set_back`], but keys that were reserved are forgotten, as their bytes may be wanted; so
    /// are keys in use whose objects are lost, and all reach, since numbers will mean other objects. The job `name`, which `holder`
    /// has, gets its `progress` with it: nobody finds an emptied ledger without the mark of a rebuild. `false`: the ledger has objects
    /// and was to be empty; nothing changed. `OpLost`: somebody else has the job; nothing changed.
    async fn begin_rebuild(
        &self,
        from: RebuildFrom,
        name: &str,
        holder: Uuid,
        progress: &str,
    ) -> Result<bool, CatalogError>;
    /// Records keys that stand in the bucket with what they hold, in one transaction; a known object keeps its first location. A key
    /// that holds nothing new is doomed, and goes after the grace. How many objects have their place in each; `None` = the key was
    /// known already. `Collision` and `Invalid` as for [`crate::Ledger::register`].
    async fn adopt(&self, keys: &[FoundKey], now_ms: i64) -> Result<Vec<Option<u64>>, CatalogError>;
    /// Records what a project reaches, whatever was there.
    async fn set_reach(&self, project: Uuid, reach: RoaringTreemap) -> Result<(), CatalogError>;
}
