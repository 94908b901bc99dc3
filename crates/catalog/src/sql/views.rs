//! Views: one statement each, so that its parts are of one snapshot.

use async_trait::async_trait;
use treehold_object::BString;

use super::pending::{COLUMNS, RowOrNone, pending_row};
use super::projects::{Row as ProjectColumns, facts_of, project};
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
    #[sqlx(flatten)]
    row: RowOrNone,
}

const HEADED: &str = "r.oid AS head, c.tree AS tree";

const HEAD: &str = "FROM projects j
    LEFT JOIN refs r ON r.project = j.id AND r.name = 'refs/heads/' || coalesce($2, j.default_branch)
    LEFT JOIN commits c ON c.oid = r.oid";

const REVISION: &str = "coalesce(w.revision, 0) AS workspace_revision";

const WORKSPACE: &str =
    "LEFT JOIN workspaces w ON w.project = j.id AND w.branch = coalesce($2, j.default_branch) AND w.user_id = $3
    LEFT JOIN pending p ON p.workspace = w.id";

/// The statement for a way to name the project; its parameter `$1`.
macro_rules! by {
    ($column:literal, $user:expr, $paths:expr) => {
        match ($user, $paths) {
            (false, _) => sql!("SELECT {}, {HEADED} {HEAD} WHERE j.{} = $1", facts_of("j"), $column),
            (true, false) => sql!(
                "SELECT {}, {HEADED}, {REVISION}, {COLUMNS} {HEAD} {WORKSPACE} WHERE j.{} = $1 ORDER BY p.path",
                facts_of("j"),
                $column
            ),
            (true, true) => sql!(
                "SELECT {}, {HEADED}, {REVISION}, {COLUMNS} {HEAD} {WORKSPACE} AND p.path {} WHERE j.{} = $1
                 ORDER BY p.path",
                facts_of("j"),
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
        let mut rows = query.fetch_all(self.reader()).await?.into_iter();
        let Some(Row { project: columns, head, tree, workspace_revision, row: first }) = rows.next() else {
            return Ok(None);
        };
        let pending = std::iter::once(first).chain(rows.map(|row| row.row)).filter_map(RowOrNone::row);
        let pending = pending.map(pending_row).collect::<Result<Vec<_>, _>>()?;
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
