//! What a commit takes of pending work, and what it leaves (docs/reliability.md, PREPARED and FINALIZED).
//!
//! The order matters: rows that are still as committed go to local history and vanish; rows that changed since stay
//! and from now on start from the committed blob.

use uuid::Uuid;

use super::pending::{names, names_of};
use super::*;
use crate::attempts::Attempt;
use crate::fault::Fault;
use crate::refs::ClearPending;
use crate::rows::{Rows, Type, arguments, sql};

/// A committed row, as the queries take it.
const COLUMNS: &[(&str, Type)] = &[("path", Type::Blob), ("revision", Type::Int)];

/// Settles the workspace; its revision counts up by one for each row that goes or changes.
pub(super) async fn settle(
    tx: &mut Transaction,
    project: Uuid,
    clear: &ClearPending,
    now_ms: i64,
) -> Result<(), Fault> {
    if clear.rows.is_empty() {
        return Ok(());
    }
    let Some(workspace) = lock_workspace(tx, project, &clear.branch, clear.user).await? else { return Ok(()) };
    let mut changes = 0;
    for chunk in clear.rows.chunks(CHUNK_ROWS) {
        changes += remove_committed(tx, workspace, chunk, now_ms).await?;
        changes += rebase_later(tx, workspace, chunk).await?;
    }
    if changes > 0 {
        sqlx::query("UPDATE workspaces SET revision = revision + $2 WHERE id = $1")
            .bind(workspace)
            .bind(changes)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

async fn lock_workspace(tx: &mut Transaction, project: Uuid, branch: &str, user: Uuid) -> Result<Option<i64>, Fault> {
    let id = sqlx::query_scalar(sql!(
        "SELECT id FROM workspaces WHERE project = $1 AND branch = $2 AND user_id = $3 {FOR_UPDATE}"
    ));
    Ok(id.bind(project).bind(branch).bind(user).fetch_optional(&mut **tx).await?)
}

/// Whether every pending row that an attempt takes is still there, in whatever version. Holds the workspace, so that none is undone
/// before the attempt is known.
pub(super) async fn all_there(tx: &mut Transaction, attempt: &Attempt) -> Result<bool, Fault> {
    let taken: Vec<_> = attempt.snapshot.iter().filter(|row| row.revision.is_some()).map(|row| &row.path).collect();
    let Some(user) = attempt.user.filter(|_| !taken.is_empty()) else { return Ok(true) };
    let Some(workspace) = lock_workspace(tx, attempt.project, &attempt.pending_branch, user).await? else {
        return Ok(false);
    };
    for chunk in taken.chunks(CHUNK_ROWS) {
        let select = sql!(
            "SELECT count(*) FROM {} JOIN pending p ON p.workspace = $1 AND p.path = r.path",
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

type Committed = (treehold_object::BString, i64, Option<treehold_object::ObjectId>);

async fn remove_committed(
    tx: &mut Transaction,
    workspace: i64,
    committed: &[Committed],
    now_ms: i64,
) -> Result<i64, Fault> {
    let taken = || Rows::new().blobs(committed.iter().map(|row| &row.0)).ints(committed.iter().map(|row| row.1));
    let keep = sql!(
        "INSERT INTO pending_history (workspace, replaced_at, {})
         SELECT p.workspace, $2, {}
         FROM {} JOIN pending p ON p.workspace = $1 AND p.path = r.path AND p.revision = r.revision
         WHERE true ON CONFLICT DO NOTHING",
        names(),
        names_of("p"),
        rows(3, COLUMNS)
    );
    sqlx::query_with(keep, with_rows(arguments![workspace, now_ms], taken())?).execute(&mut **tx).await?;
    let remove = sql!(
        "DELETE FROM pending WHERE workspace = $1 AND (path, revision) IN (SELECT r.path, r.revision FROM {})",
        rows(2, COLUMNS)
    );
    let removed = sqlx::query_with(remove, with_rows(arguments![workspace], taken())?).execute(&mut **tx).await?;
    Ok(i64::try_from(removed.rows_affected()).unwrap_or(i64::MAX))
}

/// The row keeps its revision: an attempt that took it after this one must still find what it took.
async fn rebase_later(tx: &mut Transaction, workspace: i64, committed: &[Committed]) -> Result<i64, Fault> {
    let blobs = Rows::new()
        .blobs(committed.iter().map(|row| &row.0))
        .blobs_or_null(committed.iter().map(|row| row.2.map(|oid| oid.as_slice().to_vec())));
    let rebase = sql!(
        "UPDATE pending SET base_oid = r.oid FROM {}
         WHERE pending.workspace = $1 AND pending.path = r.path AND pending.base_oid IS DISTINCT FROM r.oid",
        rows(2, &[("path", Type::Blob), ("oid", Type::Blob)])
    );
    let rebased = sqlx::query_with(rebase, with_rows(arguments![workspace], blobs)?).execute(&mut **tx).await?;
    Ok(i64::try_from(rebased.rows_affected()).unwrap_or(i64::MAX))
}
