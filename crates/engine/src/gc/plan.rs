//! What would be given up.

use std::time::Duration;

use treehold_catalog::{RoaringTreemap, Roots, Stale};

use super::GcReport;
use crate::{Engine, Result};

/// Rows read at once.
pub(super) const ROWS: u32 = 8192;
/// Ranges of numbers asked for at once.
const RANGES: usize = 1024;

/// Numbers that are asked for in several ranges at once; a wider range is asked for alone.
const WIDE: u64 = 65_536;

/// Ledger numbers by what is to become of them, and the report so far.
pub(super) struct Plan {
    pub horizon: i64,
    /// Live and named by nothing.
    pub condemn: RoaringTreemap,
    /// Condemned, of whatever age.
    pub condemned: RoaringTreemap,
    /// Condemned, and named after all.
    pub spare: RoaringTreemap,
    /// Objects condemned up to then, Unix milliseconds, have waited long enough.
    pub condemned_until_ms: i64,
    pub report: GcReport,
}

impl Plan {
    /// `wanted`: nothing else is given up.
    pub async fn make(
        engine: &Engine,
        horizon: i64,
        roots: &Roots,
        reached: RoaringTreemap,
        wanted: Option<RoaringTreemap>,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Self> {
        let report =
            GcReport { dry_run, horizon, objects: roots.objects, reachable: reached.len(), ..GcReport::default() };
        let mut plan = Self {
            horizon,
            condemn: RoaringTreemap::new(),
            condemned: RoaringTreemap::new(),
            spare: RoaringTreemap::new(),
            // Without a grace also what this run condemns.
            condemned_until_ms: if grace.is_zero() { i64::MAX } else { engine.ago_ms(grace) },
            report,
        };
        let (mut buffer, garbage) = (Vec::with_capacity(RANGES), wanted.as_ref().map(|wanted| wanted - &reached));
        let ranges: Box<dyn Iterator<Item = (u64, u64)> + Send> = match &garbage {
            Some(garbage) => Box::new(runs(garbage.iter())),
            None => Box::new(gaps(reached.iter(), roots.last)),
        };
        let mut width = 0;
        for (first, last) in ranges {
            if last - first >= WIDE {
                plan.take_stale(engine, vec![(first, last)]).await?;
                continue;
            }
            buffer.push((first, last));
            width += last - first + 1;
            if buffer.len() == RANGES || width >= WIDE {
                plan.take_stale(engine, std::mem::take(&mut buffer)).await?;
                width = 0;
            }
        }
        plan.take_stale(engine, buffer).await?;
        plan.take_condemned(engine, &reached, garbage.as_ref()).await?;
        Ok(plan)
    }

    async fn take_stale(&mut self, engine: &Engine, mut ranges: Vec<(u64, u64)>) -> Result<()> {
        while !ranges.is_empty() {
            let rows = engine.catalog.stale(&ranges, self.horizon, ROWS).await?;
            for row in &rows {
                self.condemn.insert(row.number);
                self.report.condemned += 1;
                self.report.condemned_bytes += row.bytes;
            }
            match rows.last().filter(|_| rows.len() == ROWS as usize) {
                Some(last) => ranges = above(&ranges, last.number),
                None => break,
            }
        }
        Ok(())
    }

    async fn take_condemned(
        &mut self,
        engine: &Engine,
        reached: &RoaringTreemap,
        garbage: Option<&RoaringTreemap>,
    ) -> Result<()> {
        let mut after = 0;
        loop {
            let rows = engine.catalog.condemned(after, ROWS).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.number;
            for row in rows {
                if reached.contains(row.number) {
                    self.spare.insert(row.number);
                } else if garbage.is_none_or(|garbage| garbage.contains(row.number)) {
                    self.condemned.insert(row.number);
                    self.count(&row);
                }
            }
        }
    }

    /// What a dry run tells of those that were condemned earlier. An `apply` counts what it does.
    fn count(&mut self, row: &Stale) {
        let ripe = row.condemned_at_ms.is_some_and(|at_ms| at_ms <= self.condemned_until_ms);
        match self.report.dry_run {
            true if ripe && row.seen_epoch < self.horizon => {
                self.report.collected += 1;
                self.report.collected_bytes += row.bytes;
            }
            true => self.report.waiting += 1,
            false => {}
        }
    }
}

/// Runs of consecutive numbers.
fn runs(numbers: impl Iterator<Item = u64> + Send) -> impl Iterator<Item = (u64, u64)> + Send {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while numbers.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        Some((first, last))
    })
}

/// The runs of numbers up to `last` that are not among `numbers`, which ascend.
fn gaps(numbers: impl Iterator<Item = u64> + Send, last: u64) -> impl Iterator<Item = (u64, u64)> + Send {
    let mut next = 0;
    let ends = numbers.take_while(move |number| *number <= last).chain(std::iter::once(last + 1));
    ends.filter_map(move |end| {
        let gap = (next < end).then(|| (next, end - 1));
        next = end + 1;
        gap
    })
}

/// What of ascending ranges is above `number`.
fn above(ranges: &[(u64, u64)], number: u64) -> Vec<(u64, u64)> {
    let rest = ranges.iter().filter(|(_, last)| *last > number);
    rest.map(|(first, last)| ((*first).max(number + 1), *last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_what_is_not_there() {
        let gaps = |numbers: &[u64], last| super::gaps(numbers.iter().copied(), last).collect::<Vec<_>>();
        assert_eq!(gaps(&[], 4), [(0, 4)]);
        assert_eq!(gaps(&[0, 1, 4, 6], 9), [(2, 3), (5, 5), (7, 9)]);
        assert_eq!(gaps(&[0, 1, 2], 2), []);
        assert_eq!(gaps(&[5, 9], 7), [(0, 4), (6, 7)]);
        assert_eq!(runs([1, 2, 3, 7, 9, 10].into_iter()).collect::<Vec<_>>(), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(above(&[(1, 3), (5, 9), (11, 12)], 6), [(7, 9), (11, 12)]);
        assert_eq!(above(&[(1, 3)], 3), []);
    }
}
