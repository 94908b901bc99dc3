//! A plan of writes to pending work, written in one round trip.

use uuid::Uuid;

use super::apply::{
    Contents, PLACE, REVISION, ROW, Workspaces, apply_in_turn, gone_places, place_values, revision_values, row_values,
    set_rows,
};
use super::contents::{self, NewContent, content_values};
use super::feed::Charges;
use super::pending::{names, names_of, names_replaced};
use super::*;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::rows::{arguments, sql};

/// All parts see the tables as they were before, and no row is written by two of them.
fn statement() -> String {
    let content = contents::COLUMNS.len();
    let history = 1 + content;
    let set = history + ROW.len();
    let gone = set + ROW.len();
    let moved = gone + PLACE.len();
    let (names, named, replaced) = (names(), names_of("r"), names_replaced());
    format!(
        "WITH content AS (
             {} RETURNING project, size, {} AS came
         ), history AS (
             INSERT INTO pending_history (workspace, replaced_at, {names})
             SELECT r.workspace, r.replaced_at, {named} FROM {} ON CONFLICT DO NOTHING
         ), fresh AS (
             INSERT INTO pending (workspace, {names}) SELECT r.workspace, {named} FROM {}
             ON CONFLICT (workspace, path) DO UPDATE SET {replaced}
         ), gone AS (
             DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {})
         ), moved AS (
             UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id
         )
         SELECT project, CAST(sum(size) AS BIGINT) FROM content WHERE came GROUP BY project",
        contents::upsert_sql(),
        IS_NEW.unwrap_or("true"),
        rows(history, ROW),
        rows(set, ROW),
        rows(gone, PLACE),
        rows(moved, REVISION),
    )
}

/// Writes what the plan says; what projects hold more now. What is too large for one statement goes statement by statement.
pub(super) async fn apply_at_once(
    tx: &mut Transaction,
    plan: &Plan,
    workspaces: &Workspaces,
    contents: &Contents<'_>,
) -> Result<Charges, Fault> {
    let bytes: usize = contents.values().map(|content| content.bytes()).sum();
    if plan.after.len() > CHUNK_ROWS || plan.history.len() > CHUNK_ROWS || bytes > CHUNK_BYTES {
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
    ] {
        values = with_rows(values, part)?;
    }
    let charges: Vec<(Uuid, i64)> = sqlx::query_as_with(sql!("{}", statement()), values).fetch_all(&mut **tx).await?;
    Ok(charges.into_iter().collect())
}
