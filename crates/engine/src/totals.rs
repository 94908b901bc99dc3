//! What the store holds in all, counted now and then: a count goes through the whole ledger.

use crate::{Engine, Result};

/// Between two counts, at least, milliseconds.
const AGAIN_MS: i64 = 25_000;
/// And so many times as long as a count took: counting takes no more than a hundredth of the time.
const REST: i64 = 100;

/// Objects of one statement: seconds where the database is slow, and so none comes near the time that it gives a statement.
const OBJECTS: u32 = 500_000;

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

/// The last count that came to its end, and when the next one is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    totals: Option<Totals>,
    due_ms: i64,
}

impl Counted {
    pub(crate) fn totals(&self) -> Option<Totals> {
        self.totals
    }

    /// After a try that began and ended then; `None` = it failed, which costs as much and rests as long.
    fn after(last: Option<Self>, found: Option<Totals>, begun_ms: i64, ended_ms: i64) -> Self {
        let rest_ms = AGAIN_MS.max(ended_ms.saturating_sub(begun_ms).saturating_mul(REST));
        let totals = found.or_else(|| last.and_then(|last| last.totals));
        Self { totals, due_ms: ended_ms.saturating_add(rest_ms) }
    }
}

impl Engine {
    /// Counts what the store holds, if it is time.
    pub(crate) async fn count_totals(&self) -> Result<()> {
        let (begun_ms, last) = (self.ambient.now_ms(), self.chores.counted());
        if last.is_some_and(|last| begun_ms < last.due_ms) {
            return Ok(());
        }
        let found = self.sum_up().await;
        self.chores.count(Counted::after(last, found.as_ref().ok().copied(), begun_ms, self.ambient.now_ms()));
        found.map(|_| ())
    }

    async fn sum_up(&self) -> Result<Totals> {
        let (mut objects, mut content_bytes, mut stored_bytes) = (0, 0, 0);
        let mut from = Some(0);
        while let Some(number) = from {
            let part = self.catalog.sums(number, OBJECTS).await?;
            objects += part.objects;
            content_bytes += part.content_bytes;
            stored_bytes += part.stored_bytes;
            from = part.next;
        }
        let held_bytes = self.catalog.held_bytes().await?;
        Ok(Totals { counted_ms: self.ambient.now_ms(), objects, content_bytes, stored_bytes, held_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_failed_rests_as_long_as_another_and_takes_nothing_away() {
        let totals = Totals { counted_ms: 5, objects: 1, content_bytes: 2, stored_bytes: 3, held_bytes: 4 };
        let first = Counted::after(None, None, 0, 30_000);
        assert_eq!((first.totals, first.due_ms), (None, 30_000 + 3_000_000));
        let second = Counted::after(Some(first), Some(totals), 100, 101);
        assert_eq!((second.totals, second.due_ms), (Some(totals), 101 + AGAIN_MS));
        let third = Counted::after(Some(second), None, 200, 1_200);
        assert_eq!((third.totals, third.due_ms), (Some(totals), 1_200 + 100_000));
    }
}
