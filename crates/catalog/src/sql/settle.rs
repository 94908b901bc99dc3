//! What a commit takes of pending work, and what it leaves (docs/reliability.md, PREPARED and FINALIZED).
//!
//! The order matters: rows that are still as committed go to local history and vanish; rows that changed since stay
//! and from now on start from what the commit took of them, unless their user has said meanwhile what they start from.
//!
//! `CROSS JOIN` keeps SQLite to the order: it takes a workspace for smaller than the rows that are given, and would go through these anew
//! for each of its rows.

use std::collections::HashSet;

use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::pending::{COLUMNS as COLUMNS_OF_ROW, Row, names, names_of, pending_row};
use super::write::is_committing;
use super::*;
use crate::attempts::Attempt;
use crate::fault::Fault;
use crate::feed::{NewEvent, PendingEvent, Told};
use crate::pending::{Origin, PendingRow, WorkspaceKey};
use crate::refs::{ClearCause, ClearPending, ClearedRow};
use crate::rows::{Rows, Type, arguments, sql};

/// A committed row, as the queries take it.
pub(super) const COLUMNS: &[(&str, Type)] = &[("path", Type::Blob), ("revision", Type::Int)];

/// The mode of a version that was taken, as a base.
const TAKEN_MODE: &str = "CASE WHEN h.oid IS NULL THEN NULL ELSE h.mode END";

/// Settles the workspace; its revision counts up by one for each row that goes or changes. What the feed is to be told of it.
pub(super) async fn settle(
    tx: &mut Transaction,
    project: Uuid,
    clear: &ClearPending,
    now_ms: i64,
) -> Result<Vec<NewEvent>, Fault> {
    if clear.rows.is_empty() {
        return Ok(Vec::new());
    }
    let Some((workspace, before)) = lock_workspace(tx, project, &clear.branch, clear.user).await? else {
        return Ok(Vec::new());
    };
    let key = WorkspaceKey { project, branch: clear.branch.clone(), user: clear.user };
    if clear.cause == ClearCause::Landed && is_committing(tx, &key).await? {
        return Ok(Vec::new());
    }
    let mut told = Vec::new();
    let mut revision = before;
    for chunk in clear.rows.chunks(CHUNK_ROWS) {
        let removed = remove_committed(tx, workspace, chunk, now_ms).await?;
        // Where all went, none changed since.
        let some_stay = removed.len() < chunk.len();
        for (path, oid) in removed {
            revision += 1;
            told.push(committed(clear, path, oid, revision));
        }
        let later = match some_stay && clear.cause == ClearCause::Committed {
            true => rebase_later(tx, (project, workspace), chunk).await?,
            false => Vec::new(),
        };
        for row in later {
            revision += 1;
            told.push(Told::Pending {
                user: clear.user,
                branch: clear.branch.clone(),
                path: row.path,
                event: PendingEvent::Set(row.action),
                mode: row.mode,
                oid: row.oid,
                base_oid: row.base_oid,
                revision: row.revision,
                origin: row.origin,
            });
        }
    }
    if revision > before {
        sqlx::query("UPDATE workspaces SET revision = $2 WHERE id = $1")
            .bind(workspace)
            .bind(revision)
            .execute(&mut **tx)
            .await?;
    }
    Ok(told.into_iter().map(|told| NewEvent { project, at_ms: now_ms, told }).collect())
}

/// What the feed is told of a row that went.
pub(super) fn committed(clear: &ClearPending, path: BString, oid: Option<ObjectId>, revision: i64) -> Told {
    Told::Pending {
        user: clear.user,
        branch: clear.branch.clone(),
        path,
        event: PendingEvent::Committed,
        mode: 0,
        oid,
        base_oid: None,
        revision,
        origin: Origin::default(),
    }
}

/// Rows as [`COLUMNS`].
pub(super) fn taken_values(committed: &[ClearedRow]) -> Rows {
    Rows::new().blobs(committed.iter().map(|row| &row.path)).ints(committed.iter().map(|row| row.revision))
}

/// Its id and revision.
async fn lock_workspace(
    tx: &mut Transaction,
    project: Uuid,
    branch: &str,
    user: Uuid,
) -> Result<Option<(i64, i64)>, Fault> {
    let found = sqlx::query_as(sql!(
        "SELECT id, revision FROM workspaces WHERE project = $1 AND branch = $2 AND user_id = $3 {FOR_UPDATE}"
    ));
    Ok(found.bind(project).bind(branch).bind(user).fetch_optional(&mut **tx).await?)
}

/// Whether every pending row that an attempt takes is still there, in whatever version. Holds the workspace, so that none is undone
/// before the attempt is known.
pub(super) async fn all_there(tx: &mut Transaction, attempt: &Attempt) -> Result<bool, Fault> {
    let taken: Vec<_> = attempt.snapshot.iter().filter(|row| row.revision.is_some()).map(|row| &row.path).collect();
    let Some(user) = attempt.user.filter(|_| !taken.is_empty()) else { return Ok(true) };
    let Some((workspace, _)) = lock_workspace(tx, attempt.project, &attempt.pending_branch, user).await? else {
        return Ok(false);
    };
    for chunk in taken.chunks(CHUNK_ROWS) {
        let select = sql!(
            "SELECT count(*) FROM {} CROSS JOIN pending p WHERE p.workspace = $1 AND p.path = r.path",
            rows(2, &[("path", Type::Blob)])
        );
        let paths = Rows::new().blobs(chunk.iter().copied());
        let there: i64 =
            sqlx::query_scalar_with(select, with_rows(arguments![workspace], paths)?).fetch_one(&mut **tx).await?;
        if usize::try_from(there) != Ok(chunk.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn remove_committed(
    tx: &mut Transaction,
    workspace: i64,
    committed: &[ClearedRow],
    now_ms: i64,
) -> Result<Vec<(BString, Option<ObjectId>)>, Fault> {
    let taken = || taken_values(committed);
    let keep = sql!(
        "INSERT INTO pending_history (workspace, replaced_at, {})
         SELECT p.workspace, $2, {}
         FROM {} CROSS JOIN pending p WHERE p.workspace = $1 AND p.path = r.path AND p.revision = r.revision
         ON CONFLICT DO NOTHING",
        names(),
        names_of("p"),
        rows(3, COLUMNS)
    );
    sqlx::query_with(keep, with_rows(arguments![workspace, now_ms], taken())?).execute(&mut **tx).await?;
    let remove = sql!(
        "DELETE FROM pending WHERE workspace = $1 AND (path, revision) IN (SELECT r.path, r.revision FROM {})
         RETURNING path",
        rows(2, COLUMNS)
    );
    let removed: Vec<(Vec<u8>,)> =
        sqlx::query_as_with(remove, with_rows(arguments![workspace], taken())?).fetch_all(&mut **tx).await?;
    let removed: HashSet<Vec<u8>> = removed.into_iter().map(|(path,)| path).collect();
    let removed = committed.iter().filter(|row| removed.contains(row.path.as_slice()));
    Ok(removed.map(|row| (row.path.clone(), row.oid)).collect())
}

/// Lets rows start from the version that was taken. The committed blob may have others' changes merged into it, which the edit does not
/// have: with that as its base it would take them back. A row whose base is another one than the taken version had was told what it starts
/// from since (a conflict was resolved), and keeps that; so does one whose taken version was thinned out of local history.
///
/// The row keeps its revision: an attempt that took it after this one must still find what it took.
async fn rebase_later(
    tx: &mut Transaction,
    (project, workspace): (Uuid, i64),
    committed: &[ClearedRow],
) -> Result<Vec<PendingRow>, Fault> {
    let taken = || taken_values(committed);
    // Contents that only local history names may be on their way out: whoever takes them has these rows, or the version is gone below.
    let hold = sql!(
        "SELECT c.oid FROM pending_contents c WHERE c.project = $1 AND c.oid IN (
             SELECT h.oid FROM {} CROSS JOIN pending_history h
             WHERE h.workspace = $2 AND h.path = r.path AND h.revision = r.revision)
         ORDER BY c.oid {FOR_KEY_SHARE}",
        rows(3, COLUMNS)
    );
    sqlx::query_with(hold, with_rows(arguments![project, workspace], taken())?).execute(&mut **tx).await?;
    let rebase = sql!(
        "UPDATE pending SET base_oid = h.oid, base_mode = {TAKEN_MODE}
         FROM {} CROSS JOIN pending_history h
         WHERE h.workspace = $1 AND h.path = r.path AND h.revision = r.revision
               AND pending.workspace = $1 AND pending.path = r.path
               AND pending.base_oid IS NOT DISTINCT FROM h.base_oid AND pending.base_mode IS NOT DISTINCT FROM h.base_mode
               AND (pending.base_oid IS DISTINCT FROM h.oid OR pending.base_mode IS DISTINCT FROM {TAKEN_MODE})
         RETURNING {}",
        rows(2, COLUMNS),
        COLUMNS_OF_ROW.replace("p.", "pending.")
    );
    let rebased: Vec<Row> =
        sqlx::query_as_with(rebase, with_rows(arguments![workspace], taken())?).fetch_all(&mut **tx).await?;
    let mut rebased = rebased.into_iter().map(pending_row).collect::<Result<Vec<_>, _>>()?;
    rebased.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(rebased)
}
