//! A plan of writes to pending work, written and told of in one call to the connection's thread: each call is two waits for a thread, and
//! beside busy neighbours each wait is long.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::SqlitePool;
use uuid::Uuid;

use super::apply::{
    Contents, PLACE, REVISION, ROW, Workspaces, apply_in_turn, gone_places, place_values, revision_values, row_values,
    set_rows,
};
use super::contents::{self, NewContent, content_values, name_values};
use super::feed::{EVENT, Recorded, columns_of, event_values, places};
use super::pending::{names, names_of, names_replaced};
use super::*;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::rows::{arguments, sql};

/// Statements that share their parameters, which are counted through all of them. The first one counts what projects hold more before the
/// contents come; it alone gives rows.
fn statements() -> String {
    let (names, named, replaced, told) = (names(), names_of("r"), names_replaced(), rows(6, EVENT));
    format!(
        "INSERT INTO feeds (project, last, floor, bytes)
         SELECT t.project, t.at + t.events, t.at, coalesce(n.bytes, 0)
         FROM (SELECT r.project, count(*) AS events, max(r.at) AS at FROM {told} GROUP BY r.project) t
         LEFT JOIN (
             SELECT r.project, sum(r.size) AS bytes FROM {}
             LEFT JOIN pending_contents c ON c.project = r.project AND c.oid = r.oid
             WHERE c.oid IS NULL GROUP BY r.project
         ) n ON n.project = t.project
         WHERE true
         ON CONFLICT (project) DO UPDATE SET last = feeds.last + (excluded.last - excluded.floor),
             bytes = feeds.bytes + excluded.bytes
         RETURNING project, last;
         {};
         INSERT INTO pending_history (workspace, replaced_at, {names})
         SELECT r.workspace, r.replaced_at, {named} FROM {} WHERE true ON CONFLICT DO NOTHING;
         INSERT INTO pending (workspace, {names}) SELECT r.workspace, {named} FROM {}
         WHERE true ON CONFLICT (workspace, path) DO UPDATE SET {replaced};
         DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {});
         UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id;
         INSERT INTO events (project, seq, {})
         SELECT r.project, f.last - r.place, {} FROM {told} CROSS JOIN feeds f ON f.project = r.project",
        rows(7, &contents::COLUMNS[..3]),
        contents::upsert_sql(),
        rows(2, ROW),
        rows(3, ROW),
        rows(4, PLACE),
        rows(5, REVISION),
        columns_of(""),
        columns_of("r."),
    )
}

/// Writes what the plan says and tells of it; where the feeds end then. What is too large goes statement by statement, and so does what
/// no event is told of.
pub(super) async fn apply_at_once(
    tx: &mut Transaction,
    plan: &Plan,
    workspaces: &Workspaces,
    contents: &Contents<'_>,
) -> Result<Recorded, Fault> {
    let bytes: usize = contents.values().map(|content| content.bytes()).sum();
    let most = plan.after.len().max(plan.history.len()).max(plan.told.len()).max(contents.len());
    let told: BTreeSet<Uuid> = plan.told.iter().map(|event| event.project).collect();
    let is_told = contents.keys().all(|(project, _)| told.contains(project));
    if most > CHUNK_ROWS || bytes > CHUNK_BYTES || !is_told {
        return apply_in_turn(tx, plan, workspaces, contents).await;
    }
    let contents: Vec<(Uuid, &NewContent)> =
        contents.iter().map(|((project, _), content)| (*project, *content)).collect();
    let replaced: Vec<_> = plan.history.iter().map(|(workspace, row, at)| (*workspace, row, *at)).collect();
    let mut values = arguments![];
    for part in [
        content_values(&contents),
        row_values(&replaced)?,
        row_values(&set_rows(plan))?,
        place_values(&gone_places(plan)),
        revision_values(workspaces),
        event_values(&plan.told, places(&plan.told)),
        name_values(&contents),
    ] {
        values = with_rows(values, part)?;
    }
    Ok(sqlx::query_as_with(sql!("{}", statements()), values).fetch_all(&mut **tx).await?)
}

/// `None`: writers are serial here, and each looks once it has its turn, without a wait of its own for the connection.
pub(super) async fn apply_seen(
    _pool: &SqlitePool,
    _plan: &Plan,
    _seen: (&BTreeMap<i64, i64>, &Workspaces),
    _contents: &Contents<'_>,
) -> Result<Option<Recorded>, Fault> {
    Ok(None)
}
