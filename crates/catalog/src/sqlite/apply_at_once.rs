//! A plan of writes to pending work, written and told of in one call to the connection's thread: each call is two waits for a thread, and
//! beside busy neighbours each wait is long.

use super::apply::{PLACE, REVISION, ROW};
use super::contents;
use super::dialect::rows;
use super::feed::{EVENT, columns_of};
use super::pending::{names, names_of, names_replaced};

/// None: writers are serial here, and each looks once it has its turn.
pub(super) const STATEMENT_HELD: Option<fn() -> String> = None;

/// Statements that share their parameters, which are counted through all of them. The first one counts what projects hold more before the
/// contents come; it alone gives rows.
pub(super) fn statement() -> String {
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
