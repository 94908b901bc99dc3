//! Forks.

use async_trait::async_trait;

use super::refs::read_state;
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::forks::{Fork, ForkOutcome, Forks};
use crate::rows::sql;

impl Db {
    async fn fork_once(&self, fork: &Fork) -> Result<ForkOutcome, Fault> {
        let mut tx = self.begin().await?;
        // Whoever moves the source's refs, or deletes it, waits.
        let found: Option<i64> = sqlx::query_scalar(sql!("SELECT created_at FROM projects WHERE id = $1 {FOR_SHARE}"))
            .bind(fork.source)
            .fetch_optional(&mut *tx)
            .await?;
        found.ok_or(CatalogError::NoProject)?;
        if read_state(&mut *tx, fork.source).await? != fork.seen {
            return Ok(ForkOutcome::Overtaken);
        }
        if !projects::insert(&mut tx, &fork.project, fork.now_ms).await? {
            let same_id: Option<i64> = sqlx::query_scalar("SELECT created_at FROM projects WHERE id = $1")
                .bind(fork.project.id)
                .fetch_optional(&mut *tx)
                .await?;
            return Ok(if same_id.is_some() { ForkOutcome::Exists } else { ForkOutcome::NameTaken });
        }
        copy_refs(&mut tx, fork).await?;
        let bytes = write_reach(&mut tx, fork).await?;
        feed::charge(&mut tx, fork.project.id, bytes).await?;
        tx.commit().await?;
        Ok(ForkOutcome::Forked)
    }
}

/// What the fork reaches, and how much that is: its source's figure without pending work, which stays where it is.
async fn write_reach(tx: &mut Transaction, fork: &Fork) -> Result<i64, Fault> {
    if let Some(reach) = &fork.reach {
        sqlx::query("INSERT INTO reach (project, bitmap) VALUES ($1, $2)")
            .bind(fork.project.id)
            .bind(codec::bitmap_bytes(reach.clone())?)
            .execute(&mut **tx)
            .await?;
        return usage::sum_sizes(tx, reach).await;
    }
    copy(tx, fork, "INSERT INTO reach (project, bitmap) SELECT $1, bitmap FROM reach WHERE project = $2").await?;
    let bytes: Option<i64> = sqlx::query_scalar(
        "SELECT CAST(f.bytes - coalesce((SELECT sum(c.size) FROM pending_contents c WHERE c.project = $1), 0) AS BIGINT)
         FROM feeds f WHERE f.project = $1",
    )
    .bind(fork.source)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(bytes.unwrap_or(0))
}

/// Names and what they name, with the cuts of the history behind them. A reflog of its own begins.
async fn copy_refs(tx: &mut Transaction, fork: &Fork) -> Result<(), Fault> {
    // What ends there ends here at the same time, but for the default branch.
    sqlx::query(
        "INSERT INTO refs (project, name, oid, lifetime, expires_at)
         SELECT $1, name, oid, CASE WHEN name = $3 THEN NULL ELSE lifetime END,
             CASE WHEN name = $3 THEN NULL ELSE expires_at END
         FROM refs WHERE project = $2",
    )
    .bind(fork.project.id)
    .bind(fork.source)
    .bind(format!("refs/heads/{}", fork.project.default_branch))
    .execute(&mut **tx)
    .await?;
    copy(tx, fork, "INSERT INTO shallow (project, oid) SELECT $1, oid FROM shallow WHERE project = $2").await?;
    sqlx::query(
        "INSERT INTO reflog (project, name, old, new, reason, at)
         SELECT $1, name, NULL, oid, 'fork', $3 FROM refs WHERE project = $2",
    )
    .bind(fork.project.id)
    .bind(fork.source)
    .bind(fork.now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Runs a copy of rows from the source ($2) to the new project ($1).
async fn copy(tx: &mut Transaction, fork: &Fork, sql: &'static str) -> Result<(), Fault> {
    sqlx::query(sql).bind(fork.project.id).bind(fork.source).execute(&mut **tx).await?;
    Ok(())
}

#[async_trait]
impl Forks for Db {
    async fn fork_project(&self, fork: &Fork) -> Result<ForkOutcome, CatalogError> {
        run!("fork a project", self.fork_once(fork))
    }
}
