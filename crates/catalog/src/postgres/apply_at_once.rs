//! A plan of writes to pending work, written and told of in one round trip.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::apply::{
    Contents, PLACE, REVISION, ROW, Workspaces, apply_in_turn, gone_places, place_values, revision_values, row_values,
    set_rows,
};
use super::contents::{self, NewContent, content_values};
use super::feed::{EVENT, Recorded, event_values, places};
use super::pending::{names, names_of, names_replaced};
use super::record::told_sql;
use super::*;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::rows::{arguments, sql};

/// The writes that come before the rows of `feeds` are locked.
const WRITTEN: &str = "(SELECT count(*) FROM history) + (SELECT count(*) FROM fresh) + (SELECT count(*) FROM gone)
     + (SELECT count(*) FROM moved) >= 0";

/// All parts see the tables as they were before, and no row is written by two of them.
fn statement() -> String {
    let content = contents::COLUMNS.len();
    let history = 1 + content;
    let set = history + ROW.len();
    let gone = set + ROW.len();
    let moved = gone + PLACE.len();
    let told = moved + REVISION.len();
    let (names, named, replaced) = (names(), names_of("r"), names_replaced());
    format!(
        "WITH content AS (
             {} RETURNING project, size, {} AS came
         ), charged AS (
             SELECT project, CAST(sum(size) AS BIGINT) AS bytes FROM content WHERE came GROUP BY project
         ), history AS (
             INSERT INTO pending_history (workspace, replaced_at, {names})
             SELECT r.workspace, r.replaced_at, {named} FROM {} ON CONFLICT DO NOTHING RETURNING 1
         ), fresh AS (
             INSERT INTO pending (workspace, {names}) SELECT r.workspace, {named} FROM {}
             ON CONFLICT (workspace, path) DO UPDATE SET {replaced} RETURNING 1
         ), gone AS (
             DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {}) RETURNING 1
         ), moved AS (
             UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id RETURNING 1
         ), told AS MATERIALIZED (SELECT * FROM {}), {}
         SELECT project, last FROM counted",
        contents::upsert_sql(),
        IS_NEW.unwrap_or("true"),
        rows(history, ROW),
        rows(set, ROW),
        rows(gone, PLACE),
        rows(moved, REVISION),
        rows(told, EVENT),
        told_sql(WRITTEN),
    )
}

/// Writes what the plan says and tells of it; where the feeds end then. What is too large for one
/// statement goes statement by statement, and so does what no event is told of.
pub(super) async fn apply_at_once(
    tx: &mut Transaction,
    plan: &Plan,
    workspaces: &Workspaces,
    contents: &Contents<'_>,
) -> Result<Recorded, Fault> {
    let bytes: usize = contents.values().map(|content| content.bytes()).sum();
    let most = plan.after.len().max(plan.history.len()).max(plan.told.len());
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
    ] {
        values = with_rows(values, part)?;
    }
    Ok(sqlx::query_as_with(sql!("{}", statement()), values).fetch_all(&mut **tx).await?)
}
