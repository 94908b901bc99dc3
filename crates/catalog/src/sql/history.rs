//! Local history: reading, and writes that answer a request. `thin` removes.

use async_trait::async_trait;
use treehold_object::BString;
use uuid::Uuid;

use super::pending::{COLUMNS, Row, pending_row};
use super::write::{Write, judge, write_judged};
use super::*;
use crate::attempts::FinalAnswer;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::history::{Answering, History, HistoryPolicy, Thinned, Version, VersionPlace, WriteOutcome};
use crate::pending::{PendingOutcome, PendingWrite, WorkspaceKey};
use crate::rows::sql;

/// A version as the queries give it; the pending columns come first.
#[derive(sqlx::FromRow)]
struct Versioned {
    #[sqlx(flatten)]
    row: Row,
    replaced_at: Option<i64>,
}

fn version(found: Versioned) -> Result<Version, Fault> {
    Ok(Version { row: pending_row(found.row)?, replaced_at_ms: found.replaced_at })
}

/// SQL: versions of a workspace (parameters 1 to 3) that `filter` lets through, newest first, as many as parameter 5 says. Each half is
/// cut off by itself, so that neither reads more than that.
fn versions_sql(filter: &str) -> String {
    let half = |table: &str, replaced: &str| {
        format!(
            "SELECT * FROM (SELECT {COLUMNS}, {replaced} AS replaced_at FROM {table} p
             WHERE p.workspace = (SELECT id FROM workspaces WHERE project = $1 AND branch = $2 AND user_id = $3) AND {filter}
             ORDER BY p.revision DESC LIMIT $5) {table}_version"
        )
    };
    let (current, past) = (half("pending", "CAST(NULL AS BIGINT)"), half("pending_history", "p.replaced_at"));
    format!("{current} UNION ALL {past} ORDER BY revision DESC LIMIT $5")
}

impl Db {
    async fn read_versions(
        &self,
        key: &WorkspaceKey,
        path: Option<&BString>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Version>, Fault> {
        let select = match path {
            None => sql!("{}", versions_sql("p.revision < $4")),
            Some(_) => sql!("{}", versions_sql("p.revision < $4 AND p.path = $6")),
        };
        let mut query = sqlx::query_as::<Database, Versioned>(select)
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user)
            .bind(before)
            .bind(i64::from(limit));
        if let Some(path) = path {
            query = query.bind(path.as_slice());
        }
        query.fetch_all(self.reader()).await?.into_iter().map(version).collect()
    }

    async fn find_version(&self, key: &WorkspaceKey, revision: i64) -> Result<Option<Version>, Fault> {
        let found = sqlx::query_as::<Database, Versioned>(sql!("{}", versions_sql("p.revision = $4")))
            .bind(key.project)
            .bind(&key.branch)
            .bind(key.user)
            .bind(revision)
            .bind(1_i64)
            .fetch_optional(self.reader())
            .await?;
        found.map(version).transpose()
    }

    async fn answer_once(&self, write: &Write, answering: &Answering) -> Result<WriteOutcome, Fault> {
        let mut tx = self.begin().await?;
        let writes = std::slice::from_ref(write);
        let mut judged = judge(&mut tx, writes).await?;
        let outcome = judged.outcomes.pop().flatten().ok_or(CatalogError::NoProject)?;
        if let PendingOutcome::Written { revision, rows } = &outcome {
            let answer = FinalAnswer { key: answering.key.clone(), body: (answering.body)(*revision, rows) };
            if !attempts::remember_first(&mut *tx, write.project(), &answer).await? {
                return Ok(WriteOutcome::Answered);
            }
            let recorded = write_judged(&mut tx, writes, &judged).await?;
            tx.commit().await?;
            self.tell(&recorded.unwrap_or_default());
        }
        Ok(WriteOutcome::Pending(outcome))
    }
}

#[async_trait]
impl History for Db {
    async fn versions(
        &self,
        key: &WorkspaceKey,
        path: Option<&BString>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>, CatalogError> {
        run!("read local history", self.read_versions(key, path, before.unwrap_or(i64::MAX), limit))
    }

    async fn version(&self, key: &WorkspaceKey, revision: i64) -> Result<Option<Version>, CatalogError> {
        run!("read local history", self.find_version(key, revision))
    }

    async fn write_answering(
        &self,
        key: &WorkspaceKey,
        expected_revision: Option<i64>,
        writes: &[PendingWrite],
        answering: &Answering,
        now_ms: i64,
    ) -> Result<WriteOutcome, CatalogError> {
        let write = Write::new(key, expected_revision, writes, now_ms)?;
        run!("write pending work", self.answer_once(&write, answering))
    }

    async fn thin_history(
        &self,
        after: Option<&VersionPlace>,
        policy: &HistoryPolicy,
        limit: u32,
        now_ms: i64,
    ) -> Result<Thinned, CatalogError> {
        run!("thin local history", self.thin_step(after, policy, limit, now_ms))
    }

    async fn forget_history(
        &self,
        project: Uuid,
        user: Option<Uuid>,
        limit: u32,
        until_ms: i64,
    ) -> Result<Thinned, CatalogError> {
        run!("forget local history", self.forget_step(project, user, limit, until_ms))
    }
}
