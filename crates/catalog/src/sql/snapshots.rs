//! Snapshots of projects, and the way back.

use std::collections::BTreeMap;

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::refs::NAMED;
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::pending::PendingRow;
use crate::refs::Ref;
use crate::rows::{Rows, Type, arguments, sql};
use crate::snapshots::{ProjectSnapshot, Snapshots, WorkspaceSnapshot};

impl Db {
    async fn read_snapshot(&self, id: Uuid) -> Result<Option<ProjectSnapshot>, Fault> {
        let mut tx = self.reader().begin_with(SNAPSHOT).await?;
        // What it holds is no fact of the project: what comes back is counted anew.
        let found = sqlx::query_as::<Database, projects::Row>(sql!(
            "SELECT {} FROM projects p WHERE p.id = $1",
            projects::facts_of("p")
        ));
        let Some(row) = found.bind(id).fetch_optional(&mut *tx).await? else { return Ok(None) };
        let snapshot = ProjectSnapshot {
            project: projects::project(row),
            refs: named(&mut tx, "SELECT name, oid FROM refs WHERE project = $1 ORDER BY name", id).await?,
            remote_refs: named(&mut tx, "SELECT name, oid FROM remote_refs WHERE project = $1 ORDER BY name", id)
                .await?,
            shallow: shallow(&mut tx, id).await?,
            tokens: tokens::with_hashes(&mut tx, id).await?,
            workspaces: workspaces(&mut tx, id).await?,
        };
        tx.commit().await?;
        Ok(Some(snapshot))
    }

    async fn restore_once(&self, snapshot: &ProjectSnapshot, now_ms: i64) -> Result<bool, Fault> {
        let id = snapshot.project.id;
        let mut tx = self.begin().await?;
        if !projects::insert(&mut tx, &snapshot.project, now_ms).await? {
            return Ok(false);
        }
        let refs = sql!("INSERT INTO refs (project, name, oid) SELECT $1, r.name, r.oid FROM {}", rows(2, NAMED));
        put_named(&mut tx, refs, id, &snapshot.refs).await?;
        let remote =
            sql!("INSERT INTO remote_refs (project, name, oid) SELECT $1, r.name, r.oid FROM {}", rows(2, NAMED));
        put_named(&mut tx, remote, id, &snapshot.remote_refs).await?;
        for chunk in snapshot.shallow.chunks(CHUNK_ROWS) {
            let insert = sql!(
                "INSERT INTO shallow (project, oid) SELECT $1, r.oid FROM {} WHERE true ON CONFLICT DO NOTHING",
                rows(2, &[("oid", Type::Blob)])
            );
            let values = Rows::new().blobs(chunk.iter().map(ObjectId::as_slice));
            sqlx::query_with(insert, with_rows(arguments![id], values)?).execute(&mut *tx).await?;
        }
        for (token, hash) in &snapshot.tokens {
            tokens::insert(&mut *tx, token, hash).await?;
        }
        put_contents(&mut tx, id, snapshot.workspaces.iter().flat_map(|workspace| &workspace.rows)).await?;
        for workspace in &snapshot.workspaces {
            put_workspace(&mut tx, id, workspace).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn publish_report_once(
        &self,
        op: Uuid,
        name: &str,
        holder: Uuid,
        now_ms: i64,
        report: &str,
    ) -> Result<(), Fault> {
        let mut tx = self.begin().await?;
        publish::close_op(&mut tx, op, Uuid::nil()).await?;
        ledger::doom_reserved(&mut tx, op).await?;
        let finished = sqlx::query(
            "UPDATE jobs SET holder = NULL, progress = NULL, finished_at = $3, report = $4
             WHERE name = $1 AND holder = $2",
        )
        .bind(name)
        .bind(holder)
        .bind(now_ms)
        .bind(report)
        .execute(&mut *tx)
        .await?;
        if finished.rows_affected() != 1 {
            return Err(CatalogError::OpLost.into());
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn named(tx: &mut Transaction, query: &'static str, project: Uuid) -> Result<Vec<Ref>, Fault> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(query).bind(project).fetch_all(&mut **tx).await?;
    // A branch that comes back stays: nobody may be there any more who knows that it was to end.
    let name = |(name, oid): (String, Vec<u8>)| Ok(Ref { name, oid: codec::oid(&oid)?, ephemeral: None });
    Ok(rows.into_iter().map(name).collect::<Result<_, CatalogError>>()?)
}

async fn shallow(tx: &mut Transaction, project: Uuid) -> Result<Vec<ObjectId>, Fault> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT oid FROM shallow WHERE project = $1 ORDER BY oid")
        .bind(project)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.iter().map(|oid| codec::oid(oid)).collect::<Result<_, _>>()?)
}

/// All workspaces, those without rows too: their revisions must not come again.
async fn workspaces(tx: &mut Transaction, project: Uuid) -> Result<Vec<WorkspaceSnapshot>, Fault> {
    let heads: Vec<(i64, String, Uuid, i64)> = sqlx::query_as(
        "SELECT id, branch, user_id, revision FROM workspaces WHERE project = $1 ORDER BY branch, user_id",
    )
    .bind(project)
    .fetch_all(&mut **tx)
    .await?;
    let mut all = Vec::with_capacity(heads.len());
    for (id, branch, user, revision) in heads {
        let rows: Vec<pending::Row> =
            sqlx::query_as(sql!("SELECT {} FROM pending p WHERE p.workspace = $1 ORDER BY p.path", pending::COLUMNS))
                .bind(id)
                .fetch_all(&mut **tx)
                .await?;
        let rows = rows.into_iter().map(pending::pending_row).collect::<Result<_, _>>()?;
        all.push(WorkspaceSnapshot { branch, user, revision, rows });
    }
    Ok(all)
}

async fn put_named(tx: &mut Transaction, insert: &'static str, project: Uuid, refs: &[Ref]) -> Result<(), Fault> {
    for chunk in refs.chunks(CHUNK_ROWS) {
        let values = Rows::new()
            .texts(chunk.iter().map(|named| named.name.as_str()))
            .blobs(chunk.iter().map(|named| named.oid.as_slice().to_vec()));
        sqlx::query_with(insert, with_rows(arguments![project], values)?).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Contents by name: their bytes are in the bucket.
async fn put_contents<'a>(
    tx: &mut Transaction,
    project: Uuid,
    rows_of: impl Iterator<Item = &'a PendingRow>,
) -> Result<(), Fault> {
    let contents: BTreeMap<ObjectId, u64> = rows_of.filter_map(|row| Some((row.oid?, row.size))).collect();
    let contents: Vec<(ObjectId, u64)> = contents.into_iter().collect();
    for chunk in contents.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO pending_contents (project, oid, size, encoding) SELECT $1, r.oid, r.size, 0 FROM {}",
            rows(2, &[("oid", Type::Blob), ("size", Type::Int)])
        );
        let sizes: Vec<i64> = chunk.iter().map(|(_, size)| codec::signed(*size)).collect::<Result<_, _>>()?;
        let values = Rows::new().blobs(chunk.iter().map(|(oid, _)| oid.as_slice().to_vec())).ints(sizes);
        sqlx::query_with(insert, with_rows(arguments![project], values)?).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn put_workspace(tx: &mut Transaction, project: Uuid, workspace: &WorkspaceSnapshot) -> Result<(), Fault> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO workspaces (project, branch, user_id, revision) VALUES ($1, $2, $3, $4) RETURNING id",
    )
    .bind(project)
    .bind(&workspace.branch)
    .bind(workspace.user)
    .bind(workspace.revision)
    .fetch_one(&mut **tx)
    .await?;
    for chunk in workspace.rows.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO pending (workspace, {}) SELECT r.workspace, {} FROM {}",
            pending::names(),
            pending::names_of("r"),
            rows(1, apply::ROW)
        );
        let placed: Vec<_> = chunk.iter().map(|row| (id, row, 0)).collect();
        let values = apply::row_values(&placed)?;
        sqlx::query_with(insert, with_rows(arguments![], values)?).execute(&mut **tx).await?;
    }
    Ok(())
}

#[async_trait]
impl Snapshots for Db {
    async fn snapshot(&self, project: Uuid) -> Result<Option<ProjectSnapshot>, CatalogError> {
        run!("read a project as it is", self.read_snapshot(project))
    }

    async fn restore_project(&self, snapshot: &ProjectSnapshot, now_ms: i64) -> Result<bool, CatalogError> {
        run!("restore a project", self.restore_once(snapshot, now_ms))
    }

    async fn publish_report(
        &self,
        op: Uuid,
        name: &str,
        holder: Uuid,
        now_ms: i64,
        report: &str,
    ) -> Result<(), CatalogError> {
        run!("finish a job", self.publish_report_once(op, name, holder, now_ms, report))
    }
}
