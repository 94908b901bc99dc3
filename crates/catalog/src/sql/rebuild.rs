//! The ledger made again.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::rebuild::{FoundKey, Rebuild, RebuildFrom};
use crate::rows::sql;

/// How far the epoch leaps: no operation of before has an epoch as high.
const LEAP: i64 = 1000;

impl Db {
    async fn set_back_once(&self, now_ms: i64) -> Result<i64, Fault> {
        let mut tx = self.begin().await?;
        let epoch = leap(&mut tx).await?;
        sqlx::query("UPDATE s3_keys SET state = 'doomed', doomed_at = $1 WHERE state = 'reserved'")
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        feed::begin_anew(&mut tx, now_ms).await?;
        tx.commit().await?;
        Ok(epoch)
    }

    async fn begin_rebuild_once(
        &self,
        from: RebuildFrom,
        name: &str,
        holder: Uuid,
        progress: &str,
    ) -> Result<bool, Fault> {
        let mut tx = self.begin().await?;
        mark_job(&mut tx, name, holder, progress).await?;
        if from == RebuildFrom::Empty {
            let some: Option<i64> =
                sqlx::query_scalar("SELECT number FROM objects LIMIT 1").fetch_optional(&mut *tx).await?;
            if some.is_some() {
                return Ok(false);
            }
        }
        leap(&mut tx).await?;
        sqlx::query(sql!("{EMPTY} reach")).execute(&mut *tx).await?;
        if from == RebuildFrom::Anything {
            for statement in [
                sql!("{EMPTY} objects"),
                sql!("{EMPTY} commits"),
                sql!("{EMPTY} commit_parents"),
                sql!("{EMPTY} trees"),
            ] {
                sqlx::query(statement).execute(&mut *tx).await?;
            }
        }
        let forget = match from {
            RebuildFrom::Interrupted => "DELETE FROM s3_keys WHERE state = 'reserved'",
            RebuildFrom::Empty | RebuildFrom::Anything => "DELETE FROM s3_keys WHERE state IN ('reserved', 'present')",
        };
        sqlx::query(forget).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM pack_bases WHERE key_id NOT IN (SELECT key_id FROM s3_keys)")
            .execute(&mut *tx)
            .await?;
        for statement in NUMBERS_AHEAD {
            sqlx::query(statement).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn adopt_once(&self, keys: &[FoundKey], now_ms: i64) -> Result<Vec<Option<u64>>, Fault> {
        let mut tx = self.begin().await?;
        let epoch: i64 =
            sqlx::query_scalar(sql!("SELECT epoch FROM gc_state WHERE id = 1 {FOR_SHARE}")).fetch_one(&mut *tx).await?;
        let mut kept = Vec::with_capacity(keys.len());
        for key in keys {
            kept.push(adopt_in(&mut tx, epoch, key, now_ms).await?);
        }
        tx.commit().await?;
        Ok(kept)
    }

    async fn set_reach_once(&self, project: Uuid, reach: RoaringTreemap) -> Result<(), Fault> {
        let bitmap = codec::bitmap_bytes(reach)?;
        let mut tx = self.begin().await?;
        refs::lock_project(&mut tx, project).await?;
        sqlx::query(
            "INSERT INTO reach (project, bitmap) VALUES ($1, $2)
             ON CONFLICT (project) DO UPDATE SET bitmap = excluded.bitmap",
        )
        .bind(project)
        .bind(bitmap)
        .execute(&mut *tx)
        .await?;
        refs::count_moves(&mut tx, project, true, true).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What the job `name` says of how far it is, while `holder` has it.
async fn mark_job(tx: &mut Transaction, name: &str, holder: Uuid, progress: &str) -> Result<(), Fault> {
    let marked = sqlx::query("UPDATE jobs SET progress = $3 WHERE name = $1 AND holder = $2")
        .bind(name)
        .bind(holder)
        .bind(progress)
        .execute(&mut **tx)
        .await?;
    match marked.rows_affected() {
        1 => Ok(()),
        _ => Err(CatalogError::OpLost.into()),
    }
}

/// Nothing that began before can publish from now on. The epoch; its row is made if it was lost.
async fn leap(tx: &mut Transaction) -> Result<i64, Fault> {
    sqlx::query("INSERT INTO gc_state (id, epoch, horizon) VALUES (1, 1, 1) ON CONFLICT DO NOTHING")
        .execute(&mut **tx)
        .await?;
    let epoch =
        sqlx::query_scalar("UPDATE gc_state SET epoch = epoch + $1, horizon = epoch + $1 WHERE id = 1 RETURNING epoch")
            .bind(LEAP)
            .fetch_one(&mut **tx)
            .await?;
    sqlx::query("UPDATE ops SET state = 'dead' WHERE state = 'open'").execute(&mut **tx).await?;
    Ok(epoch)
}

/// The key is in use from the start: were it reserved, whoever reaps what a crash left would delete it.
async fn adopt_in(tx: &mut Transaction, epoch: i64, key: &FoundKey, now_ms: i64) -> Result<Option<u64>, Fault> {
    let inserted: Option<i64> = sqlx::query_scalar(
        "INSERT INTO s3_keys (s3_key, state, kept, op_id) VALUES ($1, 'present', 1, $2)
         ON CONFLICT DO NOTHING RETURNING key_id",
    )
    .bind(&key.name)
    .bind(Uuid::nil())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(id) = inserted else { return Ok(None) };
    let first = register::distinct(&key.objects)?;
    let found = register::insert(tx, epoch, id, &first).await?;
    chains::keep_bases(tx, id, &key.objects, |oid| found.get(oid).is_some_and(|row| row.new)).await?;
    let kept = found.values().filter(|row| row.new).count() as u64;
    if kept == 0 {
        // Its row says that it was live, as far as anybody knows: the grace counts.
        sqlx::query("UPDATE s3_keys SET state = 'doomed', doomed_at = $2 WHERE key_id = $1")
            .bind(id)
            .bind(now_ms)
            .execute(&mut **tx)
            .await?;
    }
    Ok(Some(kept))
}

#[async_trait]
impl Rebuild for Db {
    async fn set_back(&self, now_ms: i64) -> Result<i64, CatalogError> {
        run!("fence off what was begun before", self.set_back_once(now_ms))
    }

    async fn begin_rebuild(
        &self,
        from: RebuildFrom,
        name: &str,
        holder: Uuid,
        progress: &str,
    ) -> Result<bool, CatalogError> {
        run!("begin a rebuild", self.begin_rebuild_once(from, name, holder, progress))
    }

    async fn adopt(&self, keys: &[FoundKey], now_ms: i64) -> Result<Vec<Option<u64>>, CatalogError> {
        run!("record bucket keys", self.adopt_once(keys, now_ms))
    }

    async fn set_reach(&self, project: Uuid, reach: RoaringTreemap) -> Result<(), CatalogError> {
        run!("record reach", self.set_reach_once(project, reach.clone()))
    }
}
