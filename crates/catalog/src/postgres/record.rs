//! Events into the feed in one round trip, so that the rows of `feeds` are locked for no longer than it takes.

use uuid::Uuid;

use super::feed::{Charges, EVENT, columns_of, event_values, places};
use super::*;
use crate::fault::Fault;
use crate::feed::NewEvent;
use crate::rows::{Rows, Type, arguments, sql};

const CHARGE: &[(&str, Type)] = &[("project", Type::Uuid), ("bytes", Type::Int)];

/// Counts the events into their feeds and writes them; where those end then.
pub(super) async fn record_chunk(
    tx: &mut Transaction,
    events: &[NewEvent],
    charges: &mut Charges,
) -> Result<Vec<(Uuid, i64)>, Fault> {
    let charged: Vec<(Uuid, i64)> =
        charges.extract_if(.., |project, _| events.iter().any(|event| event.project == *project)).collect();
    let statement = sql!(
        "WITH told AS MATERIALIZED (SELECT * FROM {}), charged AS (SELECT r.project, r.bytes FROM {}), {}
         SELECT project, last FROM counted",
        rows(1, EVENT),
        rows(1 + EVENT.len(), CHARGE),
        told_sql("true")
    );
    let charged = Rows::new().uuids(charged.iter().map(|charge| charge.0)).ints(charged.iter().map(|charge| charge.1));
    let values = with_rows(with_rows(arguments![], event_values(events, places(events)))?, charged)?;
    Ok(sqlx::query_as_with(statement, values).fetch_all(&mut **tx).await?)
}

/// SQL: `told` (rows of [`EVENT`], `place` as [`places`] says) into the feeds, with what `charged` (project and bytes) says that they hold
/// more; `counted` is where they end then. Rows are locked one after the other in the order in which they come: by project, in all
/// transactions; the first one once `after`, a condition that holds, has been worked out.
pub(super) fn told_sql(after: &str) -> String {
    format!(
        "counted AS (
             INSERT INTO feeds (project, last, floor, bytes)
             SELECT c.project, c.at + c.events, c.at, coalesce(g.bytes, 0)
             FROM (SELECT t.project, count(*) AS events, max(t.at) AS at FROM told t GROUP BY t.project) c
             LEFT JOIN charged g ON g.project = c.project
             WHERE {after}
             ORDER BY c.project
             ON CONFLICT (project) DO UPDATE SET last = feeds.last + (excluded.last - excluded.floor),
                 bytes = feeds.bytes + excluded.bytes
             RETURNING project, last
         ), written AS (
             INSERT INTO events (project, seq, {})
             SELECT t.project, c.last - t.place, {} FROM told t JOIN counted c ON c.project = t.project
         )",
        columns_of(""),
        columns_of("t.")
    )
}
