//! Projects.

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::projects::{CreateOutcome, NewProject, PolicyChange, Project, ProjectKey, Projects, ReceivePolicy};
use crate::rows::sql;

const COLUMNS: &str =
    "id, name, default_branch, remote_url, created_at, deny_non_fast_forwards, deny_deletes, quota_bytes";

/// SQL: a project as [`Row`] takes it, where `projects` has this name.
pub(super) fn project_of(table: &str) -> String {
    format!("{}, (SELECT feeds.bytes FROM feeds WHERE feeds.project = {table}.id) AS bytes", facts_of(table))
}

/// SQL: the same without what it holds, for statements that say it once for each of many rows.
pub(super) fn facts_of(table: &str) -> String {
    COLUMNS.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

/// The same of `projects` by its own name.
fn project_columns() -> String {
    project_of("projects")
}

/// The columns of a project, in this or another statement.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: Uuid,
    name: Option<String>,
    default_branch: String,
    remote_url: Option<String>,
    created_at: i64,
    deny_non_fast_forwards: bool,
    deny_deletes: bool,
    quota_bytes: Option<i64>,
    #[sqlx(default)]
    bytes: Option<i64>,
}

pub(super) fn project(row: Row) -> Project {
    let Row { id, name, default_branch, remote_url, created_at: created_at_ms, .. } = row;
    let Row { deny_non_fast_forwards, deny_deletes, .. } = row;
    let receive = ReceivePolicy { deny_non_fast_forwards, deny_deletes };
    let unsigned = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
    let (quota_bytes, bytes) = (row.quota_bytes.map(unsigned), row.bytes.map_or(0, unsigned));
    Project { id, name, default_branch, remote_url, receive, quota_bytes, bytes, created_at_ms }
}

impl Db {
    async fn create_project_once(&self, new: &NewProject) -> Result<CreateOutcome, Fault> {
        let mut tx = self.begin().await?;
        if insert(&mut tx, new, new.created_at_ms).await? {
            tx.commit().await?;
            return Ok(CreateOutcome::Created(Project { bytes: 0, ..new.clone() }));
        }
        let same_id = sqlx::query_as::<Database, Row>(sql!("SELECT {} FROM projects WHERE id = $1", project_columns()))
            .bind(new.id)
            .fetch_optional(&mut *tx)
            .await?;
        Ok(same_id.map_or(CreateOutcome::NameTaken, |row| CreateOutcome::Exists(project(row))))
    }

    async fn update_project_once(&self, new: &Project) -> Result<Option<Project>, Fault> {
        let updated = sqlx::query_as::<Database, Row>(sql!(
            "UPDATE projects SET name = $2, default_branch = $3, remote_url = $4 WHERE id = $1 RETURNING {}",
            project_columns()
        ))
        .bind(new.id)
        .bind(&new.name)
        .bind(&new.default_branch)
        .bind(&new.remote_url)
        .fetch_all(self.writer())
        .await
        .map(|mut rows| rows.pop())
        .map_err(Fault::from);
        match updated {
            Ok(Some(row)) => Ok(Some(project(row))),
            Ok(None) => Err(CatalogError::NoProject.into()),
            Err(fault) if fault.is_unique_violation() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn set_policy_once(&self, id: Uuid, change: &PolicyChange) -> Result<Project, Fault> {
        let changed = sqlx::query_as::<Database, Row>(sql!(
            "UPDATE projects SET deny_non_fast_forwards = coalesce($2, deny_non_fast_forwards),
                 deny_deletes = coalesce($3, deny_deletes), quota_bytes = CASE WHEN $4 THEN $5 ELSE quota_bytes END
             WHERE id = $1 RETURNING {}",
            project_columns()
        ))
        .bind(id)
        .bind(change.deny_non_fast_forwards)
        .bind(change.deny_deletes)
        .bind(change.quota_bytes.is_some())
        .bind(change.quota_bytes.flatten().map(codec::signed).transpose()?)
        .fetch_all(self.writer())
        .await?
        .pop();
        changed.map(project).ok_or_else(|| CatalogError::NoProject.into())
    }

    async fn find_project(&self, key: &ProjectKey) -> Result<Option<Project>, Fault> {
        let query = match key {
            ProjectKey::Id(id) => {
                sqlx::query_as::<Database, Row>(sql!("SELECT {} FROM projects WHERE id = $1", project_columns()))
                    .bind(*id)
            }
            ProjectKey::Name(name) => {
                sqlx::query_as::<Database, Row>(sql!("SELECT {} FROM projects WHERE name = $1", project_columns()))
                    .bind(name)
            }
        };
        Ok(query.fetch_optional(self.reader()).await?.map(project))
    }

    async fn list_projects(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Project>, Fault> {
        let query = match after {
            Some(after) => sqlx::query_as::<Database, Row>(sql!(
                "SELECT {} FROM projects WHERE id > $2 ORDER BY id LIMIT $1",
                project_columns()
            ))
            .bind(i64::from(limit))
            .bind(after),
            None => {
                sqlx::query_as::<Database, Row>(sql!("SELECT {} FROM projects ORDER BY id LIMIT $1", project_columns()))
                    .bind(i64::from(limit))
            }
        };
        Ok(query.fetch_all(self.reader()).await?.into_iter().map(project).collect())
    }

    async fn delete_project_once(&self, id: Uuid, empty: bool) -> Result<bool, Fault> {
        let mut tx = self.begin().await?;
        // The row lock keeps out writers; then everything that belongs to the project goes with it (ON DELETE CASCADE).
        let found: Option<i64> = sqlx::query_scalar(sql!("SELECT created_at FROM projects WHERE id = $1 {FOR_UPDATE}"))
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
        if found.is_none() {
            return Ok(false);
        }
        if empty {
            // What is put into a project holds its row, so that nothing comes after this look.
            let held: i64 = sqlx::query_scalar(
                "SELECT (SELECT count(*) FROM refs WHERE project = $1) + (SELECT count(*) FROM workspaces WHERE project = $1)
                      + (SELECT count(*) FROM tokens WHERE project = $1)",
            )
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
            if held > 0 {
                return Ok(false);
            }
        }
        sqlx::query("DELETE FROM projects WHERE id = $1").bind(id).execute(&mut *tx).await?;
        // The feed's row is gone: nobody adds events any more.
        sqlx::query("DELETE FROM events WHERE project = $1").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        self.tell_gone(id);
        Ok(true)
    }
}

/// `false`: its id or name is taken. The numbers of its feed and the counts of its refs' moves are those of `now_ms`: what was begun for
/// another project that had the id before does not take this one for it.
pub(super) async fn insert(tx: &mut Transaction, new: &NewProject, now_ms: i64) -> Result<bool, Fault> {
    let start = feed::first_number(now_ms);
    let inserted = sqlx::query(sql!(
        "INSERT INTO projects ({COLUMNS}, ref_moves, reach_shrinks) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
         ON CONFLICT DO NOTHING"
    ))
    .bind(new.id)
    .bind(&new.name)
    .bind(&new.default_branch)
    .bind(&new.remote_url)
    .bind(new.created_at_ms)
    .bind(new.receive.deny_non_fast_forwards)
    .bind(new.receive.deny_deletes)
    .bind(new.quota_bytes.map(codec::signed).transpose()?)
    .bind(start)
    .execute(&mut **tx)
    .await?;
    let is_new = inserted.rows_affected() == 1;
    if is_new {
        feed::begin(tx, new.id, start).await?;
    }
    Ok(is_new)
}

#[async_trait]
impl Projects for Db {
    async fn create_project(&self, new: &NewProject) -> Result<CreateOutcome, CatalogError> {
        run!("create a project", self.create_project_once(new))
    }

    async fn update_project(&self, project: &Project) -> Result<Option<Project>, CatalogError> {
        run!("update a project", self.update_project_once(project))
    }

    async fn set_policy(&self, id: Uuid, change: &PolicyChange) -> Result<Project, CatalogError> {
        run!("change a project's policy", self.set_policy_once(id, change))
    }

    async fn project(&self, key: &ProjectKey) -> Result<Option<Project>, CatalogError> {
        run!("find a project", self.find_project(key))
    }

    async fn projects(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Project>, CatalogError> {
        run!("list projects", self.list_projects(after, limit))
    }

    async fn delete_project(&self, id: Uuid) -> Result<bool, CatalogError> {
        run!("delete a project", self.delete_project_once(id, false))
    }

    async fn delete_empty_project(&self, id: Uuid) -> Result<bool, CatalogError> {
        run!("delete an empty project", self.delete_project_once(id, true))
    }
}
