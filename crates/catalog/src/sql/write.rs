//! Pending work: writing. An autosave is one short transaction of a few statements, whatever its number of paths.

use std::collections::{BTreeMap, HashMap, HashSet};

use treehold_object::{BString, ObjectId};

use super::contents::{NewContent, contents_of, in_bucket, put_contents};
use super::pending::{COLUMNS, Row, pending_row};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::pending::{PendingChange, PendingOutcome, PendingRow, PendingWrite, RowExpectation, WorkspaceKey};
use crate::rows::{Rows, Type, arguments, sql};

const ROW: &[(&str, Type)] = &[
    ("path", Type::Blob),
    ("action", Type::Int),
    ("mode", Type::Int),
    ("oid", Type::Blob),
    ("size", Type::Int),
    ("base_oid", Type::Blob),
    ("revision", Type::Int),
    ("updated_at", Type::Int),
];

/// A workspace whose row is locked: nobody else changes it or its rows.
#[derive(Clone, Copy)]
struct Workspace {
    id: i64,
    revision: i64,
}

/// What the writes come to, worked out in memory from the rows that are there.
#[derive(Default)]
struct Plan {
    revision: i64,
    /// Rows as they will be, `None` = gone; only those that change.
    after: BTreeMap<BString, Option<PendingRow>>,
    /// Replaced versions.
    history: Vec<PendingRow>,
    /// Answers, one per write.
    answers: Vec<Option<i64>>,
    /// Content that rows or history now name.
    named: HashSet<ObjectId>,
}

impl Db {
    pub(super) async fn write_pending_once(
        &self,
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> Result<PendingOutcome, Fault> {
        let contents = contents_of(writes)?;
        let mut tx = self.begin().await?;
        share_project(&mut tx, key).await?;
        hold_bucket_contents(&mut tx, &in_bucket(&contents)).await?;
        let workspace = lock_workspace(&mut tx, key).await?;
        if expected_revision.is_some_and(|expected| expected != workspace.revision) {
            return Ok(PendingOutcome::WorkspaceMoved(workspace.revision));
        }
        let before = read_rows(&mut tx, workspace.id, writes).await?;
        let plan = match plan(workspace.revision, before, writes, now_ms) {
            Ok(plan) => plan,
            Err(index) => return Ok(PendingOutcome::Mismatch(index)),
        };
        let written = PendingOutcome::Written { revision: plan.revision, rows: plan.answers.clone() };
        if plan.revision == workspace.revision {
            // Nothing changed, so nothing is written: not even a workspace.
            return Ok(written);
        }
        apply(&mut tx, key, workspace, &plan, &contents, now_ms).await?;
        tx.commit().await?;
        Ok(written)
    }

    pub(super) async fn clear_pending_once(&self, key: &WorkspaceKey, now_ms: i64) -> Result<(i64, u64), Fault> {
        let mut tx = self.begin().await?;
        share_project(&mut tx, key).await?;
        let Some(workspace) = find_workspace(&mut tx, key).await? else { return Ok((0, 0)) };
        sqlx::query(
            "INSERT INTO pending_history
                 (workspace, path, action, mode, oid, size, base_oid, revision, updated_at, replaced_at)
             SELECT workspace, path, action, mode, oid, size, base_oid, revision, updated_at, $2
             FROM pending WHERE workspace = $1 ON CONFLICT DO NOTHING",
        )
        .bind(workspace.id)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        let removed =
            sqlx::query("DELETE FROM pending WHERE workspace = $1").bind(workspace.id).execute(&mut *tx).await?;
        let revision = workspace.revision + codec::signed(removed.rows_affected())?;
        set_revision(&mut tx, workspace.id, revision).await?;
        tx.commit().await?;
        Ok((revision, removed.rows_affected()))
    }
}

/// Keeps the project from being deleted. It does not wait for publications, nor they for it.
async fn share_project(tx: &mut Transaction, key: &WorkspaceKey) -> Result<(), Fault> {
    let found: Option<i64> = sqlx::query_scalar(sql!("SELECT created_at FROM projects WHERE id = $1 {FOR_KEY_SHARE}"))
        .bind(key.project)
        .fetch_optional(&mut **tx)
        .await?;
    found.map(|_| ()).ok_or_else(|| CatalogError::NoProject.into())
}

/// Content that is only in the bucket was registered by an operation that is over. This transaction is an operation of
/// its own (W0, W1 and W5 at once): the horizon cannot pass the epoch that it reads until the rows name the content.
async fn hold_bucket_contents(tx: &mut Transaction, wanted: &[ObjectId]) -> Result<(), Fault> {
    if wanted.is_empty() {
        return Ok(());
    }
    let epoch: i64 =
        sqlx::query_scalar(sql!("SELECT epoch FROM gc_state WHERE id = 1 {FOR_SHARE}")).fetch_one(&mut **tx).await?;
    let known = ledger::revive(tx, wanted, epoch).await?;
    if known.len() == wanted.len() { Ok(()) } else { Err(CatalogError::OpLost.into()) }
}

async fn find_workspace(tx: &mut Transaction, key: &WorkspaceKey) -> Result<Option<Workspace>, Fault> {
    let row: Option<(i64, i64)> = sqlx::query_as(sql!(
        "SELECT id, revision FROM workspaces WHERE project = $1 AND branch = $2 AND user_id = $3 {FOR_UPDATE}"
    ))
    .bind(key.project)
    .bind(&key.branch)
    .bind(key.user)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|(id, revision)| Workspace { id, revision }))
}

async fn lock_workspace(tx: &mut Transaction, key: &WorkspaceKey) -> Result<Workspace, Fault> {
    if let Some(workspace) = find_workspace(tx, key).await? {
        return Ok(workspace);
    }
    // Whoever comes second waits here for the first one, and then finds its row.
    sqlx::query(
        "INSERT INTO workspaces (project, branch, user_id, revision) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING",
    )
    .bind(key.project)
    .bind(&key.branch)
    .bind(key.user)
    .execute(&mut **tx)
    .await?;
    find_workspace(tx, key).await?.ok_or_else(|| CatalogError::NoProject.into())
}

async fn set_revision(tx: &mut Transaction, workspace: i64, revision: i64) -> Result<(), Fault> {
    sqlx::query("UPDATE workspaces SET revision = $2 WHERE id = $1 AND revision <> $2")
        .bind(workspace)
        .bind(revision)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn read_rows(
    tx: &mut Transaction,
    workspace: i64,
    writes: &[PendingWrite],
) -> Result<HashMap<BString, PendingRow>, Fault> {
    let mut before = HashMap::with_capacity(writes.len());
    for chunk in writes.chunks(CHUNK_ROWS) {
        let rows: Vec<Row> =
            sqlx::query_as(sql!("SELECT {COLUMNS} FROM pending p WHERE p.workspace = $1 AND p.path {}", in_blobs(2)))
                .bind(workspace)
                .bind(blobs(chunk.iter().map(|write| &write.path)))
                .fetch_all(&mut **tx)
                .await?;
        for row in rows {
            let row = pending_row(row)?;
            before.insert(row.path.clone(), row);
        }
    }
    Ok(before)
}

/// Goes through the writes in order; a later write of the same path sees the earlier one. The index of the first write
/// whose expectation fails is the error.
fn plan(
    revision: i64,
    before: HashMap<BString, PendingRow>,
    writes: &[PendingWrite],
    now_ms: i64,
) -> Result<Plan, usize> {
    let mut plan = Plan { revision, ..Plan::default() };
    let mut now = before;
    for (index, write) in writes.iter().enumerate() {
        let current = now.get(&write.path);
        let met = match write.expect {
            RowExpectation::Any => true,
            RowExpectation::Absent => current.is_none(),
            RowExpectation::Revision(expected) => current.is_some_and(|row| row.revision == expected),
        };
        if !met {
            return Err(index);
        }
        let next = new_row(write, plan.revision + 1, now_ms);
        let same = match (current, &next) {
            (None, None) => true,
            (Some(a), Some(b)) => (a.oid, a.mode, a.base_oid, a.action) == (b.oid, b.mode, b.base_oid, b.action),
            _ => false,
        };
        if same {
            plan.answers.push(None);
            continue;
        }
        plan.revision += 1;
        plan.answers.push(Some(plan.revision));
        plan.named.extend(next.as_ref().and_then(|row| row.oid));
        plan.history.extend(current.cloned());
        plan.after.insert(write.path.clone(), next.clone());
        match next {
            Some(row) => now.insert(write.path.clone(), row),
            None => now.remove(&write.path),
        };
    }
    Ok(plan)
}

fn new_row(write: &PendingWrite, revision: i64, now_ms: i64) -> Option<PendingRow> {
    match &write.change {
        PendingChange::Clear => None,
        PendingChange::Set { action, mode, oid, size, base_oid, .. } => Some(PendingRow {
            path: write.path.clone(),
            action: *action,
            mode: *mode,
            oid: *oid,
            size: *size,
            base_oid: *base_oid,
            revision,
            updated_at_ms: now_ms,
        }),
    }
}

async fn apply(
    tx: &mut Transaction,
    key: &WorkspaceKey,
    workspace: Workspace,
    plan: &Plan,
    contents: &HashMap<ObjectId, NewContent>,
    now_ms: i64,
) -> Result<(), Fault> {
    let named = plan.named.iter().filter_map(|oid| contents.get(oid)).collect();
    put_contents(tx, key.project, named).await?;
    keep_history(tx, workspace.id, &plan.history, now_ms).await?;
    let set: Vec<&PendingRow> = plan.after.values().flatten().collect();
    for chunk in set.chunks(CHUNK_ROWS) {
        let upsert = sql!(
            "INSERT INTO pending (workspace, path, action, mode, oid, size, base_oid, revision, updated_at)
             SELECT $1, r.path, r.action, r.mode, r.oid, r.size, r.base_oid, r.revision, r.updated_at FROM {}
             WHERE true ON CONFLICT (workspace, path) DO UPDATE SET action = excluded.action, mode = excluded.mode,
                 oid = excluded.oid, size = excluded.size, base_oid = excluded.base_oid,
                 revision = excluded.revision, updated_at = excluded.updated_at",
            rows(2, ROW)
        );
        let arguments = with_rows(arguments![workspace.id], row_values(chunk)?)?;
        sqlx::query_with(upsert, arguments).execute(&mut **tx).await?;
    }
    let gone: Vec<&BString> = plan.after.iter().filter(|(_, row)| row.is_none()).map(|(path, _)| path).collect();
    for chunk in gone.chunks(CHUNK_ROWS) {
        sqlx::query(sql!("DELETE FROM pending WHERE workspace = $1 AND path {}", in_blobs(2)))
            .bind(workspace.id)
            .bind(blobs(chunk.iter().copied()))
            .execute(&mut **tx)
            .await?;
    }
    set_revision(tx, workspace.id, plan.revision).await
}

async fn keep_history(tx: &mut Transaction, workspace: i64, replaced: &[PendingRow], now_ms: i64) -> Result<(), Fault> {
    let replaced: Vec<&PendingRow> = replaced.iter().collect();
    for chunk in replaced.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO pending_history
                 (workspace, replaced_at, path, action, mode, oid, size, base_oid, revision, updated_at)
             SELECT $1, $2, r.path, r.action, r.mode, r.oid, r.size, r.base_oid, r.revision, r.updated_at FROM {}
             WHERE true ON CONFLICT DO NOTHING",
            rows(3, ROW)
        );
        let arguments = with_rows(arguments![workspace, now_ms], row_values(chunk)?)?;
        sqlx::query_with(insert, arguments).execute(&mut **tx).await?;
    }
    Ok(())
}

fn row_values(rows: &[&PendingRow]) -> Result<Rows, CatalogError> {
    let sizes: Vec<i64> = rows.iter().map(|row| codec::signed(row.size)).collect::<Result<_, _>>()?;
    let bytes = |oid: Option<ObjectId>| oid.map(|oid| oid.as_slice().to_vec());
    Ok(Rows::new()
        .blobs(rows.iter().map(|row| &row.path))
        .ints(rows.iter().map(|row| codec::action_code(row.action)))
        .ints(rows.iter().map(|row| i64::from(row.mode)))
        .blobs_or_null(rows.iter().map(|row| bytes(row.oid)))
        .ints(sizes)
        .blobs_or_null(rows.iter().map(|row| bytes(row.base_oid)))
        .ints(rows.iter().map(|row| row.revision))
        .ints(rows.iter().map(|row| row.updated_at_ms)))
}
