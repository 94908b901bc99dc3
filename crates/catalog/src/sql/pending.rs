//! Pending work: reading. `write` changes it.

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::projects::{PROJECT, Row as ProjectColumns, project};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::pending::{EditBase, EditSpot, HistoryRow, Pending, PendingOutcome, PendingRow, PendingWrite, WorkspaceKey};
use crate::projects::ProjectKey;
use crate::rows::{Rows, Type, arguments, sql};

/// Columns of a pending row, as [`Row`] takes them.
pub(super) const COLUMNS: &str = "p.path, CAST(p.action AS BIGINT), CAST(p.mode AS BIGINT), p.oid, p.size, p.base_oid,
    p.revision, p.updated_at";

pub(super) type Row = (Vec<u8>, i64, i64, Option<Vec<u8>>, i64, Option<Vec<u8>>, i64, i64);

pub(super) fn pending_row(row: Row) -> Result<PendingRow, CatalogError> {
    let (path, action, mode, oid, size, base_oid, revision, updated_at_ms) = row;
    Ok(PendingRow {
        path: path.into(),
        action: codec::action(action)?,
        mode: u32::try_from(mode).map_err(|_| CatalogError::Invalid { what: "pending" })?,
        oid: codec::oid_or_null(oid)?,
        size: codec::unsigned(size)?,
        base_oid: codec::oid_or_null(base_oid)?,
        revision,
        updated_at_ms,
    })
}

/// A row beside the workspace's revision: without pending work there is one of nulls.
#[derive(sqlx::FromRow)]
struct ViewRow {
    workspace_revision: i64,
    path: Option<Vec<u8>>,
    action: Option<i64>,
    mode: Option<i64>,
    oid: Option<Vec<u8>>,
    size: Option<i64>,
    base_oid: Option<Vec<u8>>,
    revision: Option<i64>,
    updated_at: Option<i64>,
}

impl ViewRow {
    fn row(self) -> Option<Row> {
        let (path, action, mode, size) = (self.path?, self.action?, self.mode?, self.size?);
        Some((path, action, mode, self.oid, size, self.base_oid, self.revision?, self.updated_at?))
    }
}

const VIEW: &str = "SELECT w.revision AS workspace_revision, p.path, CAST(p.action AS BIGINT) AS action,
    CAST(p.mode AS BIGINT) AS mode, p.oid, p.size, p.base_oid, p.revision, p.updated_at
    FROM workspaces w LEFT JOIN pending p ON p.workspace = w.id";

/// A question, as the query takes it. An empty branch stands for the default one.
const SPOT: &[(&str, Type)] = &[
    ("at", Type::Int),
    ("by_name", Type::Int),
    ("id", Type::Uuid),
    ("name", Type::Text),
    ("branch", Type::Text),
    ("user_id", Type::Uuid),
    ("path", Type::Blob),
];

fn spot_values(spots: &[EditSpot]) -> Rows {
    let id = |spot: &EditSpot| match spot.project {
        ProjectKey::Id(id) => id,
        ProjectKey::Name(_) => Uuid::nil(),
    };
    let name = |spot: &EditSpot| match &spot.project {
        ProjectKey::Id(_) => String::new(),
        ProjectKey::Name(name) => name.clone(),
    };
    Rows::new()
        .ints(0..i64::try_from(spots.len()).unwrap_or(i64::MAX))
        .ints(spots.iter().map(|spot| i64::from(matches!(spot.project, ProjectKey::Name(_)))))
        .uuids(spots.iter().map(id))
        .texts(spots.iter().map(name))
        .texts(spots.iter().map(|spot| spot.branch.as_deref().unwrap_or_default()))
        .uuids(spots.iter().map(|spot| spot.user))
        .blobs(spots.iter().map(|spot| &spot.path))
}

fn edit_base_sql() -> String {
    const BRANCH: &str = "coalesce(nullif(r.branch, ''), p.default_branch)";
    format!(
        "SELECT r.at, {PROJECT}, {BRANCH} AS branch, f.oid AS head, c.tree,
             coalesce(w.revision, 0) AS workspace_revision, q.path, CAST(q.action AS BIGINT) AS action,
             CAST(q.mode AS BIGINT) AS mode, q.oid, q.size, q.base_oid, q.revision, q.updated_at
         FROM {} JOIN projects p ON (r.by_name = 0 AND p.id = r.id) OR (r.by_name = 1 AND p.name = r.name)
         LEFT JOIN refs f ON f.project = p.id AND f.name = 'refs/heads/' || {BRANCH}
         LEFT JOIN commits c ON c.oid = f.oid
         LEFT JOIN workspaces w ON w.project = p.id AND w.branch = {BRANCH} AND w.user_id = r.user_id
         LEFT JOIN pending q ON q.workspace = w.id AND q.path = r.path",
        rows(1, SPOT)
    )
}

/// An answer.
#[derive(sqlx::FromRow)]
struct EditRow {
    at: i64,
    #[sqlx(flatten)]
    project: ProjectColumns,
    branch: String,
    head: Option<Vec<u8>>,
    tree: Option<Vec<u8>>,
    #[sqlx(flatten)]
    view: ViewRow,
}

impl EditRow {
    fn base(self) -> Result<EditBase, CatalogError> {
        Ok(EditBase {
            project: project(self.project),
            branch: self.branch,
            head: codec::oid_or_null(self.head)?,
            tree: codec::oid_or_null(self.tree)?,
            revision: self.view.workspace_revision,
            row: self.view.row().map(pending_row).transpose()?,
        })
    }
}

impl Db {
    async fn read_revision(&self, key: &WorkspaceKey) -> Result<i64, Fault> {
        let revision =
            sqlx::query_scalar("SELECT revision FROM workspaces WHERE project = $1 AND branch = $2 AND user_id = $3")
                .bind(key.project)
                .bind(&key.branch)
                .bind(key.user)
                .fetch_optional(self.reader())
                .await?;
        Ok(revision.unwrap_or(0))
    }

    /// One statement, so that rows and revision are of one snapshot.
    async fn read_pending(
        &self,
        key: &WorkspaceKey,
        paths: Option<&[BString]>,
    ) -> Result<(i64, Vec<PendingRow>), Fault> {
        let query = match paths {
            None => sqlx::query_as::<Database, ViewRow>(sql!(
                "{VIEW} WHERE w.project = $1 AND w.branch = $2 AND w.user_id = $3 ORDER BY p.path"
            ))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user),
            Some(paths) => sqlx::query_as::<Database, ViewRow>(sql!(
                "{VIEW} AND p.path {} WHERE w.project = $1 AND w.branch = $2 AND w.user_id = $3 ORDER BY p.path",
                in_blobs(4)
            ))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user)
            .bind(blobs(paths)),
        };
        let rows = query.fetch_all(self.reader()).await?;
        let revision = rows.first().map_or(0, |row| row.workspace_revision);
        let rows = rows.into_iter().filter_map(ViewRow::row).map(pending_row).collect::<Result<_, _>>()?;
        Ok((revision, rows))
    }

    async fn read_branch(
        &self,
        project: Uuid,
        branch: &str,
        paths: Option<&[BString]>,
    ) -> Result<Vec<(Uuid, PendingRow)>, Fault> {
        type UserRow = (Uuid, Vec<u8>, i64, i64, Option<Vec<u8>>, i64, Option<Vec<u8>>, i64, i64);
        let query = match paths {
            None => sqlx::query_as::<Database, UserRow>(sql!(
                "SELECT w.user_id, {COLUMNS} FROM workspaces w JOIN pending p ON p.workspace = w.id
                 WHERE w.project = $1 AND w.branch = $2 ORDER BY w.user_id, p.path"
            ))
            .bind(project)
            .bind(branch),
            Some(paths) => sqlx::query_as::<Database, UserRow>(sql!(
                "SELECT w.user_id, {COLUMNS} FROM workspaces w JOIN pending p ON p.workspace = w.id AND p.path {}
                 WHERE w.project = $1 AND w.branch = $2 ORDER BY w.user_id, p.path",
                in_blobs(3)
            ))
            .bind(project)
            .bind(branch)
            .bind(blobs(paths)),
        };
        let rows = query.fetch_all(self.reader()).await?;
        let row = |(user, path, action, mode, oid, size, base, revision, at): UserRow| {
            Ok((user, pending_row((path, action, mode, oid, size, base, revision, at))?))
        };
        rows.into_iter().map(row).collect()
    }

    /// Answers questions in the order given; one statement, so that each answer is of one snapshot.
    pub(super) async fn read_edit_bases(&self, spots: &[EditSpot]) -> Result<Vec<Option<EditBase>>, Fault> {
        let rows = sqlx::query_as_with::<Database, EditRow, _>(
            sql!("{}", edit_base_sql()),
            with_rows(arguments![], spot_values(spots))?,
        )
        .fetch_all(self.reader())
        .await?;
        let mut bases: Vec<Option<EditBase>> = vec![None; spots.len()];
        for row in rows {
            let at = usize::try_from(row.at).unwrap_or(usize::MAX);
            if let Some(place) = bases.get_mut(at) {
                *place = Some(row.base()?);
            }
        }
        Ok(bases)
    }

    async fn read_history(&self, key: &WorkspaceKey, path: &BString, limit: u32) -> Result<Vec<HistoryRow>, Fault> {
        type Replaced = (Vec<u8>, i64, i64, Option<Vec<u8>>, i64, Option<Vec<u8>>, i64, i64, i64);
        let rows = sqlx::query_as::<Database, Replaced>(sql!(
            "SELECT {COLUMNS}, p.replaced_at FROM workspaces w JOIN pending_history p ON p.workspace = w.id
             WHERE w.project = $1 AND w.branch = $2 AND w.user_id = $3 AND p.path = $4
             ORDER BY p.revision DESC LIMIT $5"
        ))
        .bind(key.project)
        .bind(&key.branch)
        .bind(key.user)
        .bind(path.as_slice())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let row = |(path, action, mode, oid, size, base, revision, at, replaced_at_ms): Replaced| {
            Ok(HistoryRow { row: pending_row((path, action, mode, oid, size, base, revision, at))?, replaced_at_ms })
        };
        rows.into_iter().map(row).collect()
    }
}

#[async_trait]
impl Pending for Db {
    async fn edit_base(&self, spot: &EditSpot) -> Result<Option<EditBase>, CatalogError> {
        self.edit_base_grouped(spot.clone()).await
    }

    async fn workspace_revision(&self, key: &WorkspaceKey) -> Result<i64, CatalogError> {
        run!("read a workspace", self.read_revision(key))
    }

    async fn pending(
        &self,
        key: &WorkspaceKey,
        paths: Option<&[BString]>,
    ) -> Result<(i64, Vec<PendingRow>), CatalogError> {
        run!("read pending work", self.read_pending(key, paths))
    }

    async fn pending_on_branch(
        &self,
        project: Uuid,
        branch: &str,
        paths: Option<&[BString]>,
    ) -> Result<Vec<(Uuid, PendingRow)>, CatalogError> {
        run!("read pending work", self.read_branch(project, branch, paths))
    }

    async fn pending_contents(&self, project: Uuid, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>, CatalogError> {
        run!("read pending contents", self.find_contents(project, oids))
    }

    async fn write_pending(
        &self,
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        now_ms: i64,
    ) -> Result<PendingOutcome, CatalogError> {
        self.write_grouped(key, expected_revision, writes, now_ms).await
    }

    async fn clear_pending(&self, key: &WorkspaceKey, now_ms: i64) -> Result<(i64, u64), CatalogError> {
        run!("clear pending work", self.clear_pending_once(key, now_ms))
    }

    async fn pending_history(
        &self,
        key: &WorkspaceKey,
        path: &BString,
        limit: u32,
    ) -> Result<Vec<HistoryRow>, CatalogError> {
        run!("read local history", self.read_history(key, path, limit))
    }
}
