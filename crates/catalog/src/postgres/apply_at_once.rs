//! A plan of writes to pending work, written and told of in one round trip.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgPool;
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
use crate::rows::{Rows, Type, arguments, sql};

/// The writes that come before the rows of `feeds` are locked.
const WRITTEN: &str = "(SELECT count(*) FROM history) + (SELECT count(*) FROM fresh) + (SELECT count(*) FROM gone)
     + (SELECT count(*) FROM moved) >= 0";

/// A workspace and the revision that it must have.
const HELD: &[(&str, Type)] = &[("id", Type::Int), ("revision", Type::Int)];

/// Where the rows of a part begin among the parameters.
struct Places {
    history: usize,
    set: usize,
    gone: usize,
    moved: usize,
    told: usize,
    held: usize,
}

impl Places {
    fn new() -> Self {
        let history = 1 + contents::COLUMNS.len();
        let set = history + ROW.len();
        let gone = set + ROW.len();
        let moved = gone + PLACE.len();
        let told = moved + REVISION.len();
        Self { history, set, gone, moved, told, held: told + EVENT.len() }
    }
}

/// All parts see the tables as they were before, and no row is written by two of them. Nothing is written unless `condition` holds.
fn statement(condition: &str) -> String {
    let at = Places::new();
    let (names, named, replaced) = (names(), names_of("r"), names_replaced());
    format!(
        "content AS (
             {} RETURNING project, size, {} AS came
         ), charged AS (
             SELECT project, CAST(sum(size) AS BIGINT) AS bytes FROM content WHERE came GROUP BY project
         ), history AS (
             INSERT INTO pending_history (workspace, replaced_at, {names})
             SELECT r.workspace, r.replaced_at, {named} FROM {} WHERE {condition} ON CONFLICT DO NOTHING RETURNING 1
         ), fresh AS (
             INSERT INTO pending (workspace, {names}) SELECT r.workspace, {named} FROM {} WHERE {condition}
             ON CONFLICT (workspace, path) DO UPDATE SET {replaced} RETURNING 1
         ), gone AS (
             DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {}) AND {condition} RETURNING 1
         ), moved AS (
             UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id AND {condition} RETURNING 1
         ), told AS MATERIALIZED (SELECT * FROM {}), {}
         SELECT project, last FROM counted",
        contents::upsert_sql_if(condition),
        IS_NEW.unwrap_or("true"),
        rows(at.history, ROW),
        rows(at.set, ROW),
        rows(at.gone, PLACE),
        rows(at.moved, REVISION),
        rows(at.told, EVENT),
        told_sql(&format!("{condition} AND {WRITTEN}")),
    )
}

/// The same where the workspaces, which it locks in the order of their ids, have the revisions that they must have. What is locked was waited
/// for, so that `held` knows them as they are; the other parts see what was before that, but whoever changes a row counts its
/// workspace up, and so it is the same.
fn held_statement() -> String {
    let at = Places::new().held;
    format!(
        "WITH held AS MATERIALIZED (
             SELECT w.id FROM {} JOIN workspaces w ON w.id = r.id AND w.revision = r.revision
             JOIN projects p ON p.id = w.project ORDER BY w.id {LOCK_WORKSPACES}
         ), {}",
        rows(at, HELD),
        statement(&format!("(SELECT count(*) FROM held) = cardinality(${at}::bigint[])")),
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
    if !fits(plan, contents) {
        return apply_in_turn(tx, plan, workspaces, contents).await;
    }
    let values = plan_values(plan, workspaces, contents)?;
    Ok(sqlx::query_as_with(sql!("WITH {}", statement("true")), values).fetch_all(&mut **tx).await?)
}

/// Does the same by itself where all workspaces have the revisions of `seen`; `None`: nothing was done.
pub(super) async fn apply_seen(
    pool: &PgPool,
    plan: &Plan,
    (seen, workspaces): (&BTreeMap<i64, i64>, &Workspaces),
    contents: &Contents<'_>,
) -> Result<Option<Recorded>, Fault> {
    if !fits(plan, contents) {
        return Ok(None);
    }
    let held = Rows::new().ints(seen.keys().copied()).ints(seen.values().copied());
    let values = with_rows(plan_values(plan, workspaces, contents)?, held)?;
    let recorded: Recorded = sqlx::query_as_with(sql!("{}", held_statement()), values).fetch_all(pool).await?;
    // Of every change something is told.
    Ok(Some(recorded).filter(|recorded| !recorded.is_empty()))
}

/// Whether it fits one statement that tells of every project to which it adds contents.
fn fits(plan: &Plan, contents: &Contents<'_>) -> bool {
    let bytes: usize = contents.values().map(|content| content.bytes()).sum();
    let most = plan.after.len().max(plan.history.len()).max(plan.told.len());
    let told: BTreeSet<Uuid> = plan.told.iter().map(|event| event.project).collect();
    most <= CHUNK_ROWS
        && bytes <= CHUNK_BYTES
        && !told.is_empty()
        && contents.keys().all(|(project, _)| told.contains(project))
}

fn plan_values(plan: &Plan, workspaces: &Workspaces, contents: &Contents<'_>) -> Result<Arguments, Fault> {
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
    Ok(values)
}
