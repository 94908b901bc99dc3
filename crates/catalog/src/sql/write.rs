//! Pending work: writing. Writes that arrive together make one short transaction of a few statements, whatever the
//! number of workspaces and paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::contents::{NewContent, contents_of, in_bucket, put_contents};
use super::pending::{COLUMNS, pending_row};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::pending::{PendingOutcome, PendingRow, PendingWrite, WorkspaceKey};
use crate::plan::{Plan, Workspace};
use crate::rows::{Rows, Type, arguments, sql};

const ROW: &[(&str, Type)] = &[
    ("workspace", Type::Int),
    ("path", Type::Blob),
    ("action", Type::Int),
    ("mode", Type::Int),
    ("oid", Type::Blob),
    ("size", Type::Int),
    ("base_oid", Type::Blob),
    ("revision", Type::Int),
    ("updated_at", Type::Int),
    ("replaced_at", Type::Int),
];
const PLACE: &[(&str, Type)] = &[("workspace", Type::Int), ("path", Type::Blob)];
const KEY: &[(&str, Type)] = &[("project", Type::Uuid), ("branch", Type::Text), ("user_id", Type::Uuid)];

/// One call of `write_pending`, its contents packed before any lock is taken.
pub(super) struct Write {
    key: WorkspaceKey,
    expected_revision: Option<i64>,
    writes: Vec<PendingWrite>,
    contents: HashMap<ObjectId, NewContent>,
    now_ms: i64,
}

impl Write {
    pub(super) fn new(
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> Result<Self, CatalogError> {
        let contents = contents_of(writes)?;
        Ok(Self { key: key.clone(), expected_revision, writes: writes.to_vec(), contents, now_ms })
    }

    /// Whether it is small, and fails for no reason that others should not share.
    pub(super) fn may_share(&self) -> bool {
        self.writes.len() <= 64 && in_bucket(&self.contents).is_empty()
    }
}

impl Db {
    /// Writes in order, in one transaction; `None` where the project is gone.
    pub(super) async fn write_once(&self, writes: &[Write]) -> Result<Vec<Option<PendingOutcome>>, Fault> {
        let mut tx = self.begin().await?;
        let projects = share_projects(&mut tx, writes.iter().map(|write| write.key.project)).await?;
        let bucket: Vec<ObjectId> = writes.iter().flat_map(|write| in_bucket(&write.contents)).collect();
        hold_bucket_contents(&mut tx, &bucket).await?;
        let live: Vec<&Write> = writes.iter().filter(|write| projects.contains(&write.key.project)).collect();
        let mut workspaces = lock_workspaces(&mut tx, live.iter().map(|write| &write.key)).await?;
        read_rows(&mut tx, &mut workspaces, &live).await?;
        let mut plan = Plan::default();
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            outcomes.push(
                workspaces
                    .get_mut(&write.key)
                    .map(|workspace| plan.add(workspace, write.expected_revision, &write.writes, write.now_ms)),
            );
        }
        if plan.is_empty() {
            // Nothing changed, so nothing is written: not even a workspace.
            return Ok(outcomes);
        }
        let mut contents: BTreeMap<(Uuid, ObjectId), &NewContent> = BTreeMap::new();
        for write in live {
            let workspace = workspaces.get(&write.key).map_or(0, |workspace| workspace.id);
            for content in write.contents.values().filter(|content| plan.names(workspace, content.oid)) {
                let known = contents.entry((write.key.project, content.oid)).or_insert(content);
                if known.stored.is_none() {
                    *known = content;
                }
            }
        }
        put_contents(&mut tx, &contents).await?;
        apply(&mut tx, &plan, &workspaces).await?;
        tx.commit().await?;
        Ok(outcomes)
    }

    pub(super) async fn clear_pending_once(&self, key: &WorkspaceKey, now_ms: i64) -> Result<(i64, u64), Fault> {
        let mut tx = self.begin().await?;
        if share_projects(&mut tx, [key.project]).await?.is_empty() {
            return Err(CatalogError::NoProject.into());
        }
        let found = find_workspaces(&mut tx, &BTreeSet::from([key])).await?;
        let Some(workspace) = found.get(key) else { return Ok((0, 0)) };
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
        let gone = sqlx::query("DELETE FROM pending WHERE workspace = $1").bind(workspace.id).execute(&mut *tx).await?;
        let revision = workspace.revision + codec::signed(gone.rows_affected())?;
        sqlx::query("UPDATE workspaces SET revision = $2 WHERE id = $1 AND revision <> $2")
            .bind(workspace.id)
            .bind(revision)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok((revision, gone.rows_affected()))
    }
}

/// Keeps projects from being deleted, and says which there are. This does not wait for publications, nor they for it.
async fn share_projects(tx: &mut Transaction, ids: impl IntoIterator<Item = Uuid>) -> Result<BTreeSet<Uuid>, Fault> {
    let ids: BTreeSet<Uuid> = ids.into_iter().collect();
    let found: Vec<Uuid> =
        sqlx::query_scalar(sql!("SELECT id FROM projects WHERE id {} ORDER BY id {FOR_KEY_SHARE}", in_uuids(1)))
            .bind(uuids(ids))
            .fetch_all(&mut **tx)
            .await?;
    Ok(found.into_iter().collect())
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

type Workspaces = HashMap<WorkspaceKey, Workspace>;

/// Locks the workspaces that exist, in the order of their ids.
async fn find_workspaces(tx: &mut Transaction, keys: &BTreeSet<&WorkspaceKey>) -> Result<Workspaces, Fault> {
    let select = sql!(
        "SELECT project, branch, user_id, id, revision FROM workspaces
         WHERE (project, branch, user_id) IN (SELECT r.project, r.branch, r.user_id FROM {}) ORDER BY id {FOR_UPDATE}",
        rows(1, KEY)
    );
    let found: Vec<(Uuid, String, Uuid, i64, i64)> =
        sqlx::query_as_with(select, with_rows(arguments![], key_values(keys))?).fetch_all(&mut **tx).await?;
    let workspace = |(project, branch, user, id, revision)| {
        (WorkspaceKey { project, branch, user }, Workspace { id, revision, ..Workspace::default() })
    };
    Ok(found.into_iter().map(workspace).collect())
}

fn key_values(keys: &BTreeSet<&WorkspaceKey>) -> Rows {
    Rows::new()
        .uuids(keys.iter().map(|key| key.project))
        .texts(keys.iter().map(|key| key.branch.as_str()))
        .uuids(keys.iter().map(|key| key.user))
}

async fn lock_workspaces<'a>(
    tx: &mut Transaction,
    keys: impl IntoIterator<Item = &'a WorkspaceKey>,
) -> Result<Workspaces, Fault> {
    let keys: BTreeSet<&WorkspaceKey> = keys.into_iter().collect();
    if keys.is_empty() {
        return Ok(Workspaces::new());
    }
    let found = find_workspaces(tx, &keys).await?;
    let missing: BTreeSet<&WorkspaceKey> = keys.iter().copied().filter(|key| !found.contains_key(*key)).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    // Whoever comes second waits here for the first one, and then finds its row.
    let insert = sql!(
        "INSERT INTO workspaces (project, branch, user_id, revision) SELECT r.project, r.branch, r.user_id, 0 FROM {}
         WHERE true ON CONFLICT DO NOTHING",
        rows(1, KEY)
    );
    sqlx::query_with(insert, with_rows(arguments![], key_values(&missing))?).execute(&mut **tx).await?;
    find_workspaces(tx, &keys).await
}

/// Reads the rows that the writes look at.
async fn read_rows(tx: &mut Transaction, workspaces: &mut Workspaces, writes: &[&Write]) -> Result<(), Fault> {
    let mut places: BTreeSet<(i64, &BString)> = BTreeSet::new();
    for write in writes {
        if let Some(workspace) = workspaces.get(&write.key) {
            places.extend(write.writes.iter().map(|write| (workspace.id, &write.path)));
        }
    }
    let places: Vec<(i64, &BString)> = places.into_iter().collect();
    let mut found: HashMap<i64, HashMap<BString, PendingRow>> = HashMap::new();
    for chunk in places.chunks(CHUNK_ROWS) {
        type PlacedRow = (i64, Vec<u8>, i64, i64, Option<Vec<u8>>, i64, Option<Vec<u8>>, i64, i64);
        let select = sql!(
            "SELECT p.workspace, {COLUMNS} FROM {} JOIN pending p ON p.workspace = r.workspace AND p.path = r.path",
            rows(1, PLACE)
        );
        let rows: Vec<PlacedRow> =
            sqlx::query_as_with(select, with_rows(arguments![], place_values(chunk))?).fetch_all(&mut **tx).await?;
        for (workspace, path, action, mode, oid, size, base, revision, at) in rows {
            let row = pending_row((path, action, mode, oid, size, base, revision, at))?;
            found.entry(workspace).or_default().insert(row.path.clone(), row);
        }
    }
    for workspace in workspaces.values_mut() {
        workspace.rows = found.remove(&workspace.id).unwrap_or_default();
    }
    Ok(())
}

fn place_values(places: &[(i64, &BString)]) -> Rows {
    Rows::new().ints(places.iter().map(|place| place.0)).blobs(places.iter().map(|place| place.1))
}

async fn apply(tx: &mut Transaction, plan: &Plan, workspaces: &Workspaces) -> Result<(), Fault> {
    for chunk in plan.history.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO pending_history
                 (workspace, path, action, mode, oid, size, base_oid, revision, updated_at, replaced_at)
             SELECT r.workspace, r.path, r.action, r.mode, r.oid, r.size, r.base_oid, r.revision, r.updated_at,
                 r.replaced_at FROM {} WHERE true ON CONFLICT DO NOTHING",
            rows(1, ROW)
        );
        let replaced: Vec<_> = chunk.iter().map(|(workspace, row, at)| (*workspace, row, *at)).collect();
        sqlx::query_with(insert, with_rows(arguments![], row_values(&replaced)?)?).execute(&mut **tx).await?;
    }
    let set: Vec<_> = plan.after.iter().filter_map(|((id, _), row)| Some((*id, row.as_ref()?, 0))).collect();
    for chunk in set.chunks(CHUNK_ROWS) {
        let upsert = sql!(
            "INSERT INTO pending (workspace, path, action, mode, oid, size, base_oid, revision, updated_at)
             SELECT r.workspace, r.path, r.action, r.mode, r.oid, r.size, r.base_oid, r.revision, r.updated_at FROM {}
             WHERE true ON CONFLICT (workspace, path) DO UPDATE SET action = excluded.action, mode = excluded.mode,
                 oid = excluded.oid, size = excluded.size, base_oid = excluded.base_oid,
                 revision = excluded.revision, updated_at = excluded.updated_at",
            rows(1, ROW)
        );
        sqlx::query_with(upsert, with_rows(arguments![], row_values(chunk)?)?).execute(&mut **tx).await?;
    }
    let gone = plan.after.iter().filter(|(_, row)| row.is_none()).map(|((id, path), _)| (*id, path));
    for chunk in gone.collect::<Vec<_>>().chunks(CHUNK_ROWS) {
        let delete =
            sql!("DELETE FROM pending WHERE (workspace, path) IN (SELECT r.workspace, r.path FROM {})", rows(1, PLACE));
        sqlx::query_with(delete, with_rows(arguments![], place_values(chunk))?).execute(&mut **tx).await?;
    }
    let moved: Vec<&Workspace> = workspaces.values().filter(|workspace| workspace.moved).collect();
    let update = sql!(
        "UPDATE workspaces SET revision = r.revision FROM {} WHERE workspaces.id = r.id",
        rows(1, &[("id", Type::Int), ("revision", Type::Int)])
    );
    let revisions = Rows::new()
        .ints(moved.iter().map(|workspace| workspace.id))
        .ints(moved.iter().map(|workspace| workspace.revision));
    sqlx::query_with(update, with_rows(arguments![], revisions)?).execute(&mut **tx).await?;
    Ok(())
}

/// Rows with their workspace and, for history, the time of their replacement.
fn row_values(rows: &[(i64, &PendingRow, i64)]) -> Result<Rows, CatalogError> {
    let sizes: Vec<i64> = rows.iter().map(|(_, row, _)| codec::signed(row.size)).collect::<Result<_, _>>()?;
    let bytes = |oid: Option<ObjectId>| oid.map(|oid| oid.as_slice().to_vec());
    Ok(Rows::new()
        .ints(rows.iter().map(|(workspace, ..)| *workspace))
        .blobs(rows.iter().map(|(_, row, _)| &row.path))
        .ints(rows.iter().map(|(_, row, _)| codec::action_code(row.action)))
        .ints(rows.iter().map(|(_, row, _)| i64::from(row.mode)))
        .blobs_or_null(rows.iter().map(|(_, row, _)| bytes(row.oid)))
        .ints(sizes)
        .blobs_or_null(rows.iter().map(|(_, row, _)| bytes(row.base_oid)))
        .ints(rows.iter().map(|(_, row, _)| row.revision))
        .ints(rows.iter().map(|(_, row, _)| row.updated_at_ms))
        .ints(rows.iter().map(|(.., at)| *at)))
}
