//! Jobs.

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::jobs::{Job, Jobs};
use crate::rows::sql;

const COLUMNS: &str = "name, holder, until, progress, finished_at, report";

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    holder: Option<Uuid>,
    until: i64,
    progress: Option<String>,
    finished_at: Option<i64>,
    report: Option<String>,
}

impl From<Row> for Job {
    fn from(row: Row) -> Self {
        let Row { name, holder, until, progress, finished_at, report } = row;
        Self { name, holder: holder.map(|holder| (holder, until)), progress, finished: finished_at.zip(report) }
    }
}

impl Db {
    async fn take_job_once(&self, name: &str, holder: Uuid, now_ms: i64, until_ms: i64) -> Result<Option<Job>, Fault> {
        // One statement: of two that come at once, the second one finds the first one's row.
        let row = sqlx::query_as::<Database, Row>(sql!(
            "INSERT INTO jobs (name, holder, until) VALUES ($1, $2, $4)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                 WHERE jobs.holder IS NULL OR jobs.holder = excluded.holder OR jobs.until <= $3
             RETURNING {COLUMNS}"
        ));
        let row = row.bind(name).bind(holder).bind(now_ms).bind(until_ms);
        Ok(row.fetch_all(self.writer()).await?.pop().map(Job::from))
    }

    async fn renew_job_once(
        &self,
        name: &str,
        holder: Uuid,
        until_ms: i64,
        progress: Option<&str>,
    ) -> Result<bool, Fault> {
        let renewed = sqlx::query(
            "UPDATE jobs SET until = $3, progress = coalesce($4, progress) WHERE name = $1 AND holder = $2",
        )
        .bind(name)
        .bind(holder)
        .bind(until_ms)
        .bind(progress)
        .execute(self.writer())
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    async fn release_job_once(&self, name: &str, holder: Uuid, now_ms: i64, report: Option<&str>) -> Result<(), Fault> {
        sqlx::query(
            "UPDATE jobs SET holder = NULL, progress = CASE WHEN $4 IS NULL THEN progress END,
                 finished_at = CASE WHEN $4 IS NULL THEN finished_at ELSE $3 END, report = coalesce($4, report)
             WHERE name = $1 AND holder = $2",
        )
        .bind(name)
        .bind(holder)
        .bind(now_ms)
        .bind(report)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    async fn list_jobs(&self) -> Result<Vec<Job>, Fault> {
        let rows = sqlx::query_as::<Database, Row>(sql!("SELECT {COLUMNS} FROM jobs ORDER BY name"));
        Ok(rows.fetch_all(self.reader()).await?.into_iter().map(Job::from).collect())
    }
}

#[async_trait]
impl Jobs for Db {
    async fn take_job(
        &self,
        name: &str,
        holder: Uuid,
        now_ms: i64,
        until_ms: i64,
    ) -> Result<Option<Job>, CatalogError> {
        run!("take a job", self.take_job_once(name, holder, now_ms, until_ms))
    }

    async fn renew_job(
        &self,
        name: &str,
        holder: Uuid,
        until_ms: i64,
        progress: Option<&str>,
    ) -> Result<bool, CatalogError> {
        run!("renew a job", self.renew_job_once(name, holder, until_ms, progress))
    }

    async fn release_job(
        &self,
        name: &str,
        holder: Uuid,
        now_ms: i64,
        report: Option<&str>,
    ) -> Result<(), CatalogError> {
        run!("give a job back", self.release_job_once(name, holder, now_ms, report))
    }

    async fn jobs(&self) -> Result<Vec<Job>, CatalogError> {
        run!("list jobs", self.list_jobs())
    }
}
