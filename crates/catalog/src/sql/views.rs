//! Views: one statement each, so that its parts are of one snapshot.

use async_trait::async_trait;
use treehold_object::BString;

use super::pending::{Row as PendingColumns, pending_row};
use super::projects::{PROJECT, Row as ProjectColumns, project};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::projects::ProjectKey;
use crate::rows::sql;
use crate::views::{BranchView, ViewKey, Views};

/// Project and head, once for each pending row; without pending work there is one row with nulls. Where no user is asked for, the
/// columns from `workspace_revision` on are not read.
#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    project: ProjectColumns,
    head: Option<Vec<u8>>,
    tree: Option<Vec<u8>>,
    #[sqlx(default)]
    workspace_revision: Option<i64>,
    #[sqlx(default)]
    path: Option<Vec<u8>>,
    #[sqlx(default)]
    action: Option<i64>,
    #[sqlx(default)]
    mode: Option<i64>,
    #[sqlx(default)]
    oid: Option<Vec<u8>>,
    #[sqlx(default)]
    size: Option<i64>,
    #[sqlx(default)]
    base_oid: Option<Vec<u8>>,
    #[sqlx(default)]
    revision: Option<i64>,
    #[sqlx(default)]
    updated_at: Option<i64>,
}

impl Row {
    fn pending(&mut self) -> Option<PendingColumns> {
        let (path, action, mode, size) = (self.path.take()?, self.action?, self.mode?, self.size?);
        Some((path, action, mode, self.oid.take(), size, self.base_oid.take(), self.revision?, self.updated_at?))
    }
}

const HEADED: &str = "r.oid AS head, c.tree AS tree";

const HEAD: &str = "FROM projects p
    LEFT JOIN refs r ON r.project = p.id AND r.name = 'refs/heads/' || coalesce($2, p.default_branch)
    LEFT JOIN commits c ON c.oid = r.oid";

const PENDING: &str = "coalesce(w.revision, 0) AS workspace_revision, e.path, CAST(e.action AS BIGINT) AS action,
    CAST(e.mode AS BIGINT) AS mode, e.oid, e.size, e.base_oid, e.revision, e.updated_at";

const WORKSPACE: &str =
    "LEFT JOIN workspaces w ON w.project = p.id AND w.branch = coalesce($2, p.default_branch) AND w.user_id = $3
    LEFT JOIN pending e ON e.workspace = w.id";

/// The statement for a way to name the project; its parameter `$1`.
macro_rules! by {
    ($column:literal, $user:expr, $paths:expr) => {
        match ($user, $paths) {
            (false, _) => sql!("SELECT {PROJECT}, {HEADED} {HEAD} WHERE p.{} = $1", $column),
            (true, false) => {
                sql!("SELECT {PROJECT}, {HEADED}, {PENDING} {HEAD} {WORKSPACE} WHERE p.{} = $1 ORDER BY e.path", $column)
            }
            (true, true) => sql!(
                "SELECT {PROJECT}, {HEADED}, {PENDING} {HEAD} {WORKSPACE} AND e.path {} WHERE p.{} = $1 ORDER BY e.path",
                in_blobs(4),
                $column
            ),
        }
    };
}

impl Db {
    async fn read_view(&self, key: &ViewKey, paths: Option<&[BString]>) -> Result<Option<BranchView>, Fault> {
        let (user, some) = (key.user.is_some(), paths.is_some());
        let mut query = match &key.project {
            ProjectKey::Id(id) => sqlx::query_as::<Database, Row>(by!("id", user, some)).bind(*id),
            ProjectKey::Name(name) => sqlx::query_as::<Database, Row>(by!("name", user, some)).bind(name),
        };
        query = query.bind(&key.branch);
        if let Some(user) = key.user {
            query = query.bind(user);
            if let Some(paths) = paths {
                query = query.bind(blobs(paths));
            }
        }
        let mut rows = query.fetch_all(self.reader()).await?;
        let pending = rows.iter_mut().filter_map(Row::pending).map(pending_row).collect::<Result<Vec<_>, _>>()?;
        let Some(Row { project: columns, head, tree, workspace_revision, .. }) = rows.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some(BranchView {
            project: project(columns),
            commit: codec::oid_or_null(head)?,
            tree: codec::oid_or_null(tree)?,
            pending: key.user.map(|_| (workspace_revision.unwrap_or(0), pending)),
        }))
    }
}

#[async_trait]
impl Views for Db {
    async fn view(&self, key: &ViewKey, paths: Option<&[BString]>) -> Result<Option<BranchView>, CatalogError> {
        run!("read a view", self.read_view(key, paths))
    }
}
