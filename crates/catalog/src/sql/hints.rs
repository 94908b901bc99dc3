//! Hints.

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::hints::{Hints, RemoteHint, RemoteReport};
use crate::rows::sql;

impl Db {
    async fn report_remote_once(&self, report: &RemoteReport) -> Result<Option<u64>, Fault> {
        let mut tx = self.begin().await?;
        let new = sqlx::query("INSERT INTO deliveries (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(&report.delivery)
            .bind(report.at_ms)
            .execute(&mut *tx)
            .await?;
        if new.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query("DELETE FROM deliveries WHERE at < $1").bind(report.forget_before_ms).execute(&mut *tx).await?;
        let mut told = 0;
        for url in report.urls.iter().flat_map(|url| [url.clone(), format!("{url}.git")]) {
            // `WHERE true`-like conditions keep SQLite from reading ON CONFLICT as a join.
            let noted = sqlx::query(sql!(
                "INSERT INTO remote_hints (project, name, oid, at)
                 SELECT p.id, $2, $3, $4 FROM projects p WHERE lower(rtrim(p.remote_url, '/')) = $1
                 ON CONFLICT (project, name) DO UPDATE SET oid = excluded.oid, at = excluded.at"
            ))
            .bind(url)
            .bind(&report.name)
            .bind(report.oid.map(|oid| oid.as_slice().to_vec()))
            .bind(report.at_ms)
            .execute(&mut *tx)
            .await?;
            told += noted.rows_affected();
        }
        tx.commit().await?;
        Ok(Some(told))
    }

    async fn hint_of(&self, project: Uuid, name: &str) -> Result<Option<RemoteHint>, Fault> {
        let row: Option<(Option<Vec<u8>>, i64)> =
            sqlx::query_as("SELECT oid, at FROM remote_hints WHERE project = $1 AND name = $2")
                .bind(project)
                .bind(name)
                .fetch_optional(self.reader())
                .await?;
        let hint = |(oid, at_ms): (Option<Vec<u8>>, i64)| {
            let oid: Option<ObjectId> = oid.map(|oid| codec::oid(&oid)).transpose()?;
            Ok(RemoteHint { oid, at_ms })
        };
        row.map(hint).transpose()
    }

    async fn forget_hint_once(&self, project: Uuid, name: &str, until_ms: i64) -> Result<(), Fault> {
        sqlx::query("DELETE FROM remote_hints WHERE project = $1 AND name = $2 AND at <= $3")
            .bind(project)
            .bind(name)
            .bind(until_ms)
            .execute(self.writer())
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Hints for Db {
    async fn report_remote(&self, report: &RemoteReport) -> Result<Option<u64>, CatalogError> {
        run!("note what a remote is said to have", self.report_remote_once(report))
    }

    async fn remote_hint(&self, project: Uuid, name: &str) -> Result<Option<RemoteHint>, CatalogError> {
        run!("read what a remote is said to have", self.hint_of(project, name))
    }

    async fn forget_hint(&self, project: Uuid, name: &str, until_ms: i64) -> Result<(), CatalogError> {
        run!("forget what a remote is said to have", self.forget_hint_once(project, name, until_ms))
    }
}
