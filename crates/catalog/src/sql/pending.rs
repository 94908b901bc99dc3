//! Pending work: reading. `write` changes it.

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::projects::{Row as ProjectColumns, project, project_of};
use super::write::Write;
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::pending::{
    EditBase, EditSpot, HistoryRow, Origin, Pending, PendingOutcome, PendingRow, PendingWrite, Seen, WorkspaceKey,
};
use crate::projects::ProjectKey;
use crate::rows::{Rows, Type, arguments, sql};

/// Columns of a pending row, as [`Row`] takes them.
pub(super) const COLUMNS: &str = "p.path, CAST(p.action AS BIGINT) AS action, CAST(p.mode AS BIGINT) AS mode, p.oid,
    p.size, p.base_oid, CAST(p.base_mode AS BIGINT) AS base_mode, p.revision, p.updated_at, p.device, p.actor, p.session";

/// What `pending` and `pending_history` have in common, but for the workspace.
const NAMES: [&str; 12] = [
    "path",
    "action",
    "mode",
    "oid",
    "size",
    "base_oid",
    "base_mode",
    "revision",
    "updated_at",
    "device",
    "actor",
    "session",
];

/// SQL: the columns of a version.
pub(super) fn names() -> String {
    NAMES.join(", ")
}

/// SQL: the same, of the table `table`.
pub(super) fn names_of(table: &str) -> String {
    NAMES.map(|name| format!("{table}.{name}")).join(", ")
}

/// SQL: a row takes over a version that it conflicts with.
pub(super) fn names_replaced() -> String {
    NAMES[1..].iter().map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ")
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    path: Vec<u8>,
    action: i64,
    mode: i64,
    oid: Option<Vec<u8>>,
    size: i64,
    base_oid: Option<Vec<u8>>,
    base_mode: Option<i64>,
    revision: i64,
    updated_at: i64,
    #[sqlx(flatten)]
    origin: Origin,
}

pub(super) fn pending_row(row: Row) -> Result<PendingRow, CatalogError> {
    Ok(PendingRow {
        path: row.path.into(),
        action: codec::action(row.action)?,
        mode: u32::try_from(row.mode).map_err(|_| CatalogError::Invalid { what: "pending" })?,
        oid: codec::oid_or_null(row.oid)?,
        size: codec::unsigned(row.size)?,
        base_oid: codec::oid_or_null(row.base_oid)?,
        base_mode: mode_or_null(row.base_mode)?,
        revision: row.revision,
        updated_at_ms: row.updated_at,
        origin: row.origin,
    })
}

pub(super) fn mode_or_null(mode: Option<i64>) -> Result<Option<u32>, CatalogError> {
    mode.map(u32::try_from).transpose().map_err(|_| CatalogError::Invalid { what: "pending" })
}

/// A row that may be missing beside something else: then there is one of nulls.
#[derive(sqlx::FromRow)]
pub(super) struct RowOrNone {
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
    base_mode: Option<i64>,
    #[sqlx(default)]
    revision: Option<i64>,
    #[sqlx(default)]
    updated_at: Option<i64>,
    #[sqlx(default)]
    device: Option<String>,
    #[sqlx(default)]
    actor: Option<String>,
    #[sqlx(default)]
    session: Option<String>,
}

impl RowOrNone {
    pub(super) fn row(self) -> Option<Row> {
        Some(Row {
            path: self.path?,
            action: self.action?,
            mode: self.mode?,
            oid: self.oid,
            size: self.size?,
            base_oid: self.base_oid,
            base_mode: self.base_mode,
            revision: self.revision?,
            updated_at: self.updated_at?,
            origin: Origin { device: self.device, actor: self.actor, session: self.session },
        })
    }
}

/// A row beside the workspace's revision.
#[derive(sqlx::FromRow)]
struct ViewRow {
    workspace_revision: i64,
    #[sqlx(flatten)]
    row: RowOrNone,
}

/// A row and whose it is.
#[derive(sqlx::FromRow)]
struct UserRow {
    user_id: Uuid,
    #[sqlx(flatten)]
    row: Row,
}

/// A version that was replaced.
#[derive(sqlx::FromRow)]
struct Replaced {
    replaced_at: i64,
    #[sqlx(flatten)]
    row: Row,
}

const BESIDE_REVISION: &str = "FROM workspaces w LEFT JOIN pending p ON p.workspace = w.id";

/// SQL: a part of a workspace, the one of parameters 1 to 3, beside its revision. `part`: a query of [`COLUMNS`], in which `w` has the
/// workspace's id. Asked for by that id alone the rows come by their key, as many as are wanted.
fn part_sql(part: &str) -> String {
    format!(
        "WITH w AS (SELECT id, revision FROM workspaces WHERE project = $1 AND branch = $2 AND user_id = $3),
         part AS ({part})
         SELECT w.revision AS workspace_revision, part.* FROM w LEFT JOIN part ON true ORDER BY part.path"
    )
}

fn rows_of_w() -> String {
    format!("SELECT {COLUMNS} FROM pending p WHERE p.workspace = (SELECT id FROM w)")
}

/// After the path `$4`, `$5` rows.
pub(super) fn page_sql() -> String {
    part_sql(&format!("{} AND p.path > $4 ORDER BY p.path LIMIT $5", rows_of_w()))
}

/// From the path `$4` on, before `$5`, and those that parameter 6 has.
pub(super) fn below_sql() -> String {
    let rows = rows_of_w();
    part_sql(&format!("{rows} AND p.path >= $4 AND p.path < $5 UNION ALL {rows} AND p.path {}", in_blobs(6)))
}

fn with_revision(rows: Vec<ViewRow>) -> Result<(i64, Vec<PendingRow>), Fault> {
    let revision = rows.first().map_or(0, |row| row.workspace_revision);
    let rows = rows.into_iter().filter_map(|row| row.row.row()).map(pending_row).collect::<Result<_, _>>()?;
    Ok((revision, rows))
}

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
    const BRANCH: &str = "coalesce(nullif(r.branch, ''), j.default_branch)";
    format!(
        "SELECT r.at, {}, {BRANCH} AS branch, f.oid AS head, c.tree,
             w.id AS workspace, coalesce(w.revision, 0) AS workspace_revision, {COLUMNS}
         FROM {} JOIN projects j ON (r.by_name = 0 AND j.id = r.id) OR (r.by_name = 1 AND j.name = r.name)
         LEFT JOIN refs f ON f.project = j.id AND f.name = 'refs/heads/' || {BRANCH}
         LEFT JOIN commits c ON c.oid = f.oid
         LEFT JOIN workspaces w ON w.project = j.id AND w.branch = {BRANCH} AND w.user_id = r.user_id
         LEFT JOIN pending p ON p.workspace = w.id AND p.path = r.path",
        project_of("j"),
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
    workspace: Option<i64>,
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
            workspace: self.workspace,
            revision: self.view.workspace_revision,
            row: self.view.row.row().map(pending_row).transpose()?,
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
                "SELECT w.revision AS workspace_revision, {COLUMNS} {BESIDE_REVISION} WHERE w.project = $1 AND w.branch = $2 AND w.user_id = $3 ORDER BY p.path"
            ))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user),
            Some(paths) => sqlx::query_as::<Database, ViewRow>(sql!(
                "SELECT w.revision AS workspace_revision, {COLUMNS} {BESIDE_REVISION} AND p.path {} WHERE w.project = $1 AND w.branch = $2 AND w.user_id = $3 ORDER BY p.path",
                in_blobs(4)
            ))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user)
            .bind(blobs(paths)),
        };
        with_revision(query.fetch_all(self.reader()).await?)
    }

    async fn read_page(
        &self,
        key: &WorkspaceKey,
        after: &BString,
        limit: u32,
    ) -> Result<(i64, Vec<PendingRow>), Fault> {
        let query = sqlx::query_as::<Database, ViewRow>(sql!("{}", page_sql()))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user)
            .bind(after.as_slice())
            .bind(i64::from(limit));
        with_revision(query.fetch_all(self.reader()).await?)
    }

    async fn read_below(
        &self,
        key: &WorkspaceKey,
        dir: &BString,
        paths: &[BString],
    ) -> Result<(i64, Vec<PendingRow>), Fault> {
        // What starts with the directory and a slash is before the directory and the byte that follows a slash.
        let (mut from, mut before) = (dir.to_vec(), dir.to_vec());
        from.push(b'/');
        before.push(b'/' + 1);
        let query = sqlx::query_as::<Database, ViewRow>(sql!("{}", below_sql()))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user)
            .bind(from)
            .bind(before)
            .bind(blobs(paths));
        with_revision(query.fetch_all(self.reader()).await?)
    }

    async fn read_branch(
        &self,
        project: Uuid,
        branch: &str,
        paths: Option<&[BString]>,
    ) -> Result<Vec<(Uuid, PendingRow)>, Fault> {
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
        rows.into_iter().map(|row| Ok((row.user_id, pending_row(row.row)?))).collect()
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
        let row = |old: Replaced| Ok(HistoryRow { row: pending_row(old.row)?, replaced_at_ms: old.replaced_at });
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

    async fn pending_page(
        &self,
        key: &WorkspaceKey,
        after: &BString,
        limit: u32,
    ) -> Result<(i64, Vec<PendingRow>), CatalogError> {
        run!("read pending work", self.read_page(key, after, limit))
    }

    async fn pending_below(
        &self,
        key: &WorkspaceKey,
        dir: &BString,
        paths: &[BString],
    ) -> Result<(i64, Vec<PendingRow>), CatalogError> {
        run!("read pending work", self.read_below(key, dir, paths))
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
        self.write_grouped(Write::new(key, expected_revision, writes, now_ms)?).await
    }

    async fn write_seen(
        &self,
        key: &WorkspaceKey,
        seen: Option<Seen>,
        expected_revision: Option<i64>,
        write: PendingWrite,
        now_ms: i64,
    ) -> Result<PendingOutcome, CatalogError> {
        self.write_grouped(Write::new(key, expected_revision, &[write], now_ms)?.after_seeing(seen)).await
    }

    async fn clear_pending(
        &self,
        key: &WorkspaceKey,
        origin: &Origin,
        now_ms: i64,
    ) -> Result<(i64, u64), CatalogError> {
        run!("clear pending work", self.clear_pending_once(key, origin, now_ms))
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
