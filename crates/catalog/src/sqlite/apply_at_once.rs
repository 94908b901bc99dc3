//! A plan of writes to pending work, written and told of in one call to the connection's thread: each call is two waits for a thread, and
//! beside busy neighbours each wait is long.

use sqlx::SqlitePool;
use sqlx::pool::PoolConnection;

use super::apply::{PLACE, REVISION, ROW};
use super::contents;
use super::dialect::{Arguments, Database, rows};
use super::feed::{EVENT, Recorded, columns_of};
use super::pending::{names, names_of, names_replaced};
use crate::fault::Fault;

/// Statements that share their parameters, which are counted through all of them.
pub(super) fn statement() -> String {
    parts("true")
}

/// A whole transaction, which does the same where the workspaces have the revisions that they must have: the last parameter says which.
pub(super) fn statement_held() -> String {
    let held = format!(
        "(SELECT count(*) FROM {} CROSS JOIN workspaces w ON w.id = r.id AND w.revision = r.revision)
         = json_array_length($8)",
        rows(8, REVISION)
    );
    format!("BEGIN IMMEDIATE; {}; COMMIT", parts(&held))
}

/// Runs it.
pub(super) async fn fetch_held(
    pool: &SqlitePool,
    statement: &'static str,
    values: Arguments,
) -> Result<Recorded, Fault> {
    let mut begun = Begun { connection: pool.acquire().await?, over: false };
    let fetched: Result<Recorded, sqlx::Error> =
        sqlx::query_as_with(statement, values).fetch_all(&mut *begun.connection).await;
    // To roll back fails as well where the error has done so, as that of a full disk may: a new connection is as good.
    begun.over = fetched.is_ok() || sqlx::query("ROLLBACK").execute(&mut *begun.connection).await.is_ok();
    Ok(fetched?)
}

/// A connection that may be in a transaction of which sqlx does not know, and so would not roll it back: its thread stops at an error, and
/// between two statements where nobody listens any more. Unless the transaction is known to be over the connection is closed.
struct Begun {
    connection: PoolConnection<Database>,
    over: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.over {
            self.connection.close_on_drop();
        }
    }
}

/// Nothing is written unless `condition` holds. The first statement counts what projects hold more before the contents come; it alone gives
/// rows. The last one changes the revisions, at which a condition may look.
fn parts(condition: &str) -> String {
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
         WHERE {condition}
         ON CONFLICT (project) DO UPDATE SET last = feeds.last + (excluded.last - excluded.floor),
             bytes = feeds.bytes + excluded.bytes
         RETURNING project, last;
         {};
         INSERT INTO pending_history (workspace, replaced_at, {names})
         SELECT r.workspace, r.replaced_at, {named} FROM {} WHERE {condition} ON CONFLICT DO NOTHING;
         INSERT INTO pending (workspace, {names}) SELECT r.workspace, {named} FROM {}
         WHERE {condition} ON CONFLICT (workspace, path) DO UPDATE SET {replaced};
         DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {}) AND {condition};
         INSERT INTO events (project, seq, {})
         SELECT r.project, f.last - r.place, {} FROM {told} CROSS JOIN feeds f ON f.project = r.project
         WHERE {condition};
         UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id AND {condition}",
        rows(7, &contents::COLUMNS[..3]),
        contents::upsert_sql_if(condition),
        rows(2, ROW),
        rows(3, ROW),
        rows(4, PLACE),
        columns_of(""),
        columns_of("r."),
        rows(5, REVISION),
    )
}

#[cfg(test)]
#[path = "apply_at_once_tests.rs"]
mod tests;
