//! What the store holds in all, counted now and then: a count goes through the whole ledger.

use treehold_catalog::LedgerStats;

use crate::{Engine, Result};

/// Between two counts, at least, milliseconds.
const AGAIN_MS: i64 = 25_000;
/// And so many times as long as a count took: counting takes no more than a hundredth of the time.
const REST: i64 = 100;

/// What the store held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// When it was counted, Unix milliseconds.
    pub counted_ms: i64,
    /// Objects, each once.
    pub objects: u64,
    /// Sum of their sizes, bytes.
    pub content_bytes: u64,
    /// Sum of what they take in the bucket, bytes.
    pub stored_bytes: u64,
    /// Sum of what projects hold, as their quotas count it, bytes: what all would take if nothing were shared.
    pub held_bytes: u64,
}

/// The last count, and when the next one is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    totals: Totals,
    due_ms: i64,
}

impl Counted {
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }
}

impl Engine {
    /// Counts what the store holds, if it is time.
    pub(crate) async fn count_totals(&self) -> Result<()> {
        let begun_ms = self.ambient.now_ms();
        if self.chores.counted().is_some_and(|counted| begun_ms < counted.due_ms) {
            return Ok(());
        }
        let LedgerStats { objects, content_bytes, stored_bytes, held_bytes, .. } = self.catalog.stats().await?;
        let counted_ms = self.ambient.now_ms();
        let totals = Totals { counted_ms, objects, content_bytes, stored_bytes, held_bytes };
        let rest_ms = AGAIN_MS.max((counted_ms - begun_ms).saturating_mul(REST));
        self.chores.count(Counted { totals, due_ms: counted_ms.saturating_add(rest_ms) });
        Ok(())
    }
}
