//! A plan of writes to pending work, written and told of in one round trip.

use sqlx::PgPool;

use super::apply::{PLACE, REVISION, ROW};
use super::contents;
use super::dialect::{Arguments, IS_NEW, LOCK_WORKSPACES, rows};
use super::feed::{EVENT, Recorded};
use super::pending::{names, names_of, names_replaced};
use super::record::told_sql;
use crate::fault::Fault;
use crate::rows::Type;

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

/// All parts see the tables as they were before, and no row is written by two of them.
pub(super) fn statement() -> String {
    format!("WITH {}", parts("true"))
}

/// The same where the workspaces, which it locks in the order of their ids, have the revisions that they must have. What is locked was waited
/// for, so that `held` knows them as they are; the other parts see what was before that, but whoever changes a row counts its
/// workspace up, and so it is the same.
pub(super) fn statement_held() -> String {
    let at = Places::new().held;
    format!(
        "WITH held AS MATERIALIZED (
             SELECT w.id FROM {} JOIN workspaces w ON w.id = r.id AND w.revision = r.revision
             JOIN projects p ON p.id = w.project ORDER BY w.id {LOCK_WORKSPACES}
         ), {}",
        rows(at, HELD),
        parts(&format!("(SELECT count(*) FROM held) = cardinality(${at}::bigint[])")),
    )
}

/// Runs it: a transaction of its own.
pub(super) async fn fetch_held(pool: &PgPool, statement: &'static str, values: Arguments) -> Result<Recorded, Fault> {
    Ok(sqlx::query_as_with(statement, values).fetch_all(pool).await?)
}

/// Nothing is written unless `condition` holds.
fn parts(condition: &str) -> String {
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
