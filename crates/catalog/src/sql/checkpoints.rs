//! Named checkpoints of pending work.

use std::collections::BTreeSet;

use async_trait::async_trait;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::*;
use crate::checkpoints::{Checkpoint, CheckpointOutcome, CheckpointRow, Checkpoints, NewCheckpoint};
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::pending::WorkspaceKey;
use crate::rows::sql;

const COLUMNS: &str = "id, branch, name, message, revision, changes, created_at";

type Row = (Uuid, String, String, String, i64, i64, i64);

fn checkpoint((id, branch, name, message, revision, changes, created_at_ms): Row) -> Result<Checkpoint, CatalogError> {
    let changes = codec::unsigned(changes)?;
    Ok(Checkpoint { id, branch, name, message, revision, changes, created_at_ms })
}

type ChangeColumns = (Vec<u8>, i64, i64, Option<Vec<u8>>, i64, Option<Vec<u8>>, Option<i64>);

fn change((path, action, mode, oid, size, base_oid, base_mode): ChangeColumns) -> Result<CheckpointRow, CatalogError> {
    Ok(CheckpointRow {
        path: path.into(),
        action: codec::action(action)?,
        mode: u32::try_from(mode).map_err(|_| CatalogError::Invalid { what: "checkpoint" })?,
        oid: codec::oid_or_null(oid)?,
        size: codec::unsigned(size)?,
        base_oid: codec::oid_or_null(base_oid)?,
        base_mode: super::pending::mode_or_null(base_mode)?,
    })
}

/// Blobs that the rows of a checkpoint name, what they started from included.
async fn named_by(tx: &mut Transaction, id: Uuid) -> Result<BTreeSet<ObjectId>, Fault> {
    let oids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT oid FROM checkpoint_rows WHERE checkpoint = $1 AND oid IS NOT NULL
         UNION SELECT base_oid FROM checkpoint_rows WHERE checkpoint = $1 AND base_oid IS NOT NULL",
    )
    .bind(id)
    .fetch_all(&mut **tx)
    .await?;
    Ok(oids.iter().map(|oid| codec::oid(oid)).collect::<Result<_, _>>()?)
}

/// Removes a checkpoint of a project that is kept from being deleted, with what only it named.
async fn remove(tx: &mut Transaction, project: Uuid, id: Uuid) -> Result<(), Fault> {
    let oids = named_by(tx, id).await?;
    sqlx::query("DELETE FROM checkpoint_rows WHERE checkpoint = $1").bind(id).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM checkpoints WHERE id = $1").bind(id).execute(&mut **tx).await?;
    thin::drop_unnamed(tx, project, &oids).await?;
    Ok(())
}

impl Db {
    /// The workspace is locked meanwhile: what is pending stays so, and with it the contents, until the checkpoint names them.
    async fn create_once(&self, key: &WorkspaceKey, new: &NewCheckpoint) -> Result<CheckpointOutcome, Fault> {
        let mut tx = self.begin().await?;
        let workspaces = write::lock_workspaces(&mut tx, [key]).await?;
        let Some(workspace) = workspaces.get(key) else { return Err(CatalogError::NoProject.into()) };
        let revision = workspace.revision;
        if new.expected_revision.is_some_and(|expected| expected != revision) {
            return Ok(CheckpointOutcome::WorkspaceMoved(revision));
        }
        let others: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT id, name FROM checkpoints WHERE project = $1 AND user_id = $2 AND branch = $3")
                .bind(key.project)
                .bind(key.user)
                .bind(&key.branch)
                .fetch_all(&mut *tx)
                .await?;
        match others.iter().find(|(_, name)| *name == new.name) {
            Some(_) if !new.replace => return Ok(CheckpointOutcome::NameTaken),
            Some((id, _)) => remove(&mut tx, key.project, *id).await?,
            None if others.len() >= new.limit as usize => return Ok(CheckpointOutcome::TooMany),
            None => {}
        }
        let changes: i64 = sqlx::query_scalar("SELECT count(*) FROM pending WHERE workspace = $1")
            .bind(workspace.id)
            .fetch_one(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO checkpoints (id, project, branch, user_id, name, message, revision, changes, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(new.id)
        .bind(key.project)
        .bind(&key.branch)
        .bind(key.user)
        .bind(&new.name)
        .bind(&new.message)
        .bind(revision)
        .bind(changes)
        .bind(new.now_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO checkpoint_rows (checkpoint, path, action, mode, oid, size, base_oid, base_mode)
             SELECT $1, path, action, mode, oid, size, base_oid, base_mode FROM pending WHERE workspace = $2",
        )
        .bind(new.id)
        .bind(workspace.id)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(CheckpointOutcome::Created(Checkpoint {
            id: new.id,
            branch: key.branch.clone(),
            name: new.name.clone(),
            message: new.message.clone(),
            revision,
            changes: codec::unsigned(changes)?,
            created_at_ms: new.now_ms,
        }))
    }

    async fn list_checkpoints(
        &self,
        project: Uuid,
        user: Uuid,
        branch: Option<&str>,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Checkpoint>, Fault> {
        let (at, id) = after.unwrap_or((i64::MAX, Uuid::max()));
        let rows: Vec<Row> = sqlx::query_as(sql!(
            "SELECT {COLUMNS} FROM checkpoints
             WHERE project = $1 AND user_id = $2 AND (branch = $3 OR $3 = '') AND (created_at, id) < ($4, $5)
             ORDER BY created_at DESC, id DESC LIMIT $6"
        ))
        .bind(project)
        .bind(user)
        .bind(branch.unwrap_or_default())
        .bind(at)
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(checkpoint).collect::<Result<_, _>>()?)
    }

    async fn find_checkpoint(
        &self,
        project: Uuid,
        user: Uuid,
        id: Uuid,
    ) -> Result<Option<(Checkpoint, Vec<CheckpointRow>)>, Fault> {
        let mut tx = self.reader().begin_with(SNAPSHOT).await?;
        let found: Option<Row> =
            sqlx::query_as(sql!("SELECT {COLUMNS} FROM checkpoints WHERE project = $1 AND user_id = $2 AND id = $3"))
                .bind(project)
                .bind(user)
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
        let Some(found) = found else { return Ok(None) };
        let rows: Vec<ChangeColumns> = sqlx::query_as(
            "SELECT path, CAST(action AS BIGINT), CAST(mode AS BIGINT), oid, size, base_oid, CAST(base_mode AS BIGINT)
             FROM checkpoint_rows WHERE checkpoint = $1 ORDER BY path",
        )
        .bind(id)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let rows = rows.into_iter().map(change).collect::<Result<_, _>>()?;
        Ok(Some((checkpoint(found)?, rows)))
    }

    async fn delete_once(&self, project: Uuid, user: Uuid, id: Uuid) -> Result<bool, Fault> {
        let mut tx = self.begin().await?;
        if write::share_projects(&mut tx, [project]).await?.is_empty() {
            return Ok(false);
        }
        let found: Option<Uuid> = sqlx::query_scalar(sql!(
            "SELECT id FROM checkpoints WHERE project = $1 AND user_id = $2 AND id = $3 {FOR_UPDATE}"
        ))
        .bind(project)
        .bind(user)
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
        if found.is_none() {
            return Ok(false);
        }
        remove(&mut tx, project, id).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn find_lost(&self, project: Uuid, limit: u32) -> Result<Vec<(String, BString, ObjectId)>, Fault> {
        let rows: Vec<(String, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT c.name, k.path, k.oid FROM checkpoints c JOIN checkpoint_rows k ON k.checkpoint = c.id
             LEFT JOIN pending_contents t ON t.project = c.project AND t.oid = k.oid
             WHERE c.project = $1 AND k.oid IS NOT NULL AND t.oid IS NULL ORDER BY c.id, k.path LIMIT $2",
        )
        .bind(project)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let row = |(name, path, oid): (String, Vec<u8>, Vec<u8>)| Ok((name, path.into(), codec::oid(&oid)?));
        Ok(rows.into_iter().map(row).collect::<Result<_, CatalogError>>()?)
    }
}

#[async_trait]
impl Checkpoints for Db {
    async fn create_checkpoint(
        &self,
        key: &WorkspaceKey,
        new: &NewCheckpoint,
    ) -> Result<CheckpointOutcome, CatalogError> {
        run!("make a checkpoint", self.create_once(key, new))
    }

    async fn checkpoints(
        &self,
        project: Uuid,
        user: Uuid,
        branch: Option<&str>,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Checkpoint>, CatalogError> {
        run!("list checkpoints", self.list_checkpoints(project, user, branch, after, limit))
    }

    async fn checkpoint(
        &self,
        project: Uuid,
        user: Uuid,
        id: Uuid,
    ) -> Result<Option<(Checkpoint, Vec<CheckpointRow>)>, CatalogError> {
        run!("read a checkpoint", self.find_checkpoint(project, user, id))
    }

    async fn delete_checkpoint(&self, project: Uuid, user: Uuid, id: Uuid) -> Result<bool, CatalogError> {
        run!("delete a checkpoint", self.delete_once(project, user, id))
    }

    async fn lost_checkpoint_rows(
        &self,
        project: Uuid,
        limit: u32,
    ) -> Result<Vec<(String, BString, ObjectId)>, CatalogError> {
        run!("look at checkpoints", self.find_lost(project, limit))
    }
}
