//! Events into the feed: there is one writer, so that a few statements are as good as one.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::feed::{Charges, EVENT, columns_of, event_values};
use super::*;
use crate::fault::Fault;
use crate::feed::NewEvent;
use crate::rows::{arguments, sql};

/// Counts the events into their feeds and writes them; where those end then.
pub(super) async fn record_chunk(
    tx: &mut Transaction,
    events: &[NewEvent],
    charges: &mut Charges,
) -> Result<Vec<(Uuid, i64)>, Fault> {
    let mut counts: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    for event in events {
        let (count, at_ms) = counts.entry(event.project).or_default();
        (*count, *at_ms) = (*count + 1, event.at_ms.max(*at_ms));
    }
    let mut next: BTreeMap<Uuid, i64> = BTreeMap::new();
    let mut ends = Vec::with_capacity(counts.len());
    for (project, (count, at_ms)) in counts {
        let last: i64 = sqlx::query_scalar(
            "INSERT INTO feeds (project, last, floor, bytes) VALUES ($1, $2 + $3, $2, $4)
             ON CONFLICT (project) DO UPDATE SET last = last + $3, bytes = bytes + $4 RETURNING last",
        )
        .bind(project)
        .bind(at_ms)
        .bind(count)
        .bind(charges.remove(&project).unwrap_or(0))
        .fetch_one(&mut **tx)
        .await?;
        next.insert(project, last - count);
        ends.push((project, last));
    }
    let places = events.iter().map(|event| {
        let last = next.entry(event.project).or_default();
        *last += 1;
        *last
    });
    let values = event_values(events, places.collect::<Vec<_>>());
    let insert = sql!(
        "INSERT INTO events (project, seq, {}) SELECT r.project, r.place, {} FROM {}",
        columns_of(""),
        columns_of("r."),
        rows(1, EVENT)
    );
    sqlx::query_with(insert, with_rows(arguments![], values)?).execute(&mut **tx).await?;
    Ok(ends)
}
