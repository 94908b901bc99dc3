//! The collector (docs/reliability.md, G1–G6). What keeps objects alive is in `roots`.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::collect::{Collect, Doomed, Forgotten, Lineage, NameState, RootSet, Roots, Stale};
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::ledger::KeyId;
use crate::rows::{Rows, Type, arguments, sql};

/// SQL: the horizon from which a collection reckons has not been lost in a fail-over, and with it what the collection rests on.
const HORIZON_STANDS: &str = "objects.seen_epoch < (SELECT horizon FROM gc_state WHERE id = 1)";

type StaleRow = (i64, i64, Option<i64>, i64);

fn stale((number, seen_epoch, condemned_at_ms, bytes): StaleRow) -> Result<Stale, CatalogError> {
    Ok(Stale { number: codec::unsigned(number)?, seen_epoch, condemned_at_ms, bytes: codec::unsigned(bytes)? })
}

fn signed(numbers: &[u64]) -> Result<Vec<i64>, CatalogError> {
    numbers.iter().map(|number| codec::signed(*number)).collect()
}

impl Db {
    async fn next_epoch_once(&self) -> Result<i64, Fault> {
        let epoch = sqlx::query_scalar("UPDATE gc_state SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch");
        let epochs: Vec<i64> = epoch.fetch_all(self.writer()).await?;
        Ok(epochs.first().copied().ok_or(sqlx::Error::RowNotFound)?)
    }

    /// Two statements: the second one must see what the first one's lock waited for.
    async fn raise_horizon_once(&self, silent_before_ms: i64) -> Result<i64, Fault> {
        let mut tx = self.begin().await?;
        let horizon: i64 = sqlx::query_scalar(sql!("SELECT horizon FROM gc_state WHERE id = 1 {FOR_UPDATE}"))
            .fetch_one(&mut *tx)
            .await?;
        sqlx::query("UPDATE ops SET state = 'dead' WHERE state = 'open' AND (epoch < $1 OR heartbeat_at < $2)")
            .bind(horizon)
            .bind(silent_before_ms)
            .execute(&mut *tx)
            .await?;
        let horizon: i64 = sqlx::query_scalar(sql!(
            "UPDATE gc_state SET horizon =
                 {GREATEST}(horizon, coalesce((SELECT min(epoch) FROM ops WHERE state = 'open'), epoch))
             WHERE id = 1 RETURNING horizon"
        ))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(horizon)
    }

    async fn look_ahead(&self) -> Result<i64, Fault> {
        let horizon = sqlx::query_scalar(sql!(
            "SELECT {GREATEST}(horizon, coalesce((SELECT min(epoch) FROM ops WHERE state = 'open'), epoch + 1))
             FROM gc_state WHERE id = 1"
        ));
        Ok(horizon.fetch_one(self.reader()).await?)
    }

    /// Of the writer: what was just set counts.
    async fn read_store_id(&self) -> Result<Option<Uuid>, Fault> {
        let id: Option<Option<Uuid>> =
            sqlx::query_scalar("SELECT store_id FROM gc_state WHERE id = 1").fetch_optional(self.writer()).await?;
        Ok(id.flatten())
    }

    async fn set_store_id_once(&self, id: Uuid, anew: bool) -> Result<Uuid, Fault> {
        let update = match anew {
            true => "UPDATE gc_state SET store_id = $1 WHERE id = 1 RETURNING store_id",
            false => "UPDATE gc_state SET store_id = coalesce(store_id, $1) WHERE id = 1 RETURNING store_id",
        };
        let ids: Vec<Uuid> = sqlx::query_scalar(update).bind(id).fetch_all(self.writer()).await?;
        Ok(ids.first().copied().ok_or(sqlx::Error::RowNotFound)?)
    }

    async fn find_numbers(&self, wanted: &[ObjectId]) -> Result<Vec<Option<(u64, Kind)>>, Fault> {
        let select = sql!("SELECT oid, number, CAST(type AS BIGINT) FROM objects WHERE oid {}", in_blobs(1));
        let object = |(oid, number, kind): (Vec<u8>, i64, i64)| {
            Ok((codec::oid(&oid)?, (codec::unsigned(number)?, codec::kind(kind)?)))
        };
        self.by_oid(select, wanted, object).await
    }

    async fn read_lineage(&self, tips: &[ObjectId], steps: u32) -> Result<Vec<Lineage>, Fault> {
        let mut lineage = Vec::with_capacity(tips.len());
        for chunk in tips.chunks(CHUNK_ROWS) {
            let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = sqlx::query_as(sql!(
                "WITH RECURSIVE walk (oid, distance) AS (
                     SELECT oid, CAST(0 AS BIGINT) FROM commits WHERE oid {}
                     UNION
                     SELECT p.parent, w.distance + 1 FROM walk w JOIN commit_parents p ON p.oid = w.oid
                     WHERE w.distance < $2
                 )
                 SELECT c.oid, c.tree, c.parents FROM (SELECT DISTINCT oid FROM walk) w JOIN commits c ON c.oid = w.oid",
                in_blobs(1)
            ))
            .bind(oids(chunk))
            .bind(i64::from(steps))
            .fetch_all(self.reader())
            .await?;
            for (oid, tree, parents) in rows {
                let (oid, tree) = (codec::oid(&oid)?, codec::oid(&tree)?);
                lineage.push(Lineage { oid, tree, parents: codec::split_oids(&parents)? });
            }
        }
        Ok(lineage)
    }

    /// One range of any width goes by its own order; several must be narrow, since all that is in them is sorted.
    async fn list_stale(&self, ranges: &[(u64, u64)], horizon: i64, limit: u32) -> Result<Vec<Stale>, Fault> {
        if let [(first, last)] = ranges {
            let rows: Vec<StaleRow> = sqlx::query_as(
                "SELECT number, seen_epoch, CAST(NULL AS BIGINT), len FROM objects
                 WHERE number BETWEEN $1 AND $2 AND state = 'L' AND seen_epoch < $3 ORDER BY number LIMIT $4",
            )
            .bind(codec::signed(*first)?)
            .bind(codec::signed(*last)?)
            .bind(horizon)
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await?;
            return Ok(rows.into_iter().map(stale).collect::<Result<_, _>>()?);
        }
        let ends = |end: fn(&(u64, u64)) -> u64| -> Result<Vec<i64>, CatalogError> {
            ranges.iter().map(|range| codec::signed(end(range))).collect()
        };
        let ranges = Rows::new().ints(ends(|range| range.0)?).ints(ends(|range| range.1)?);
        let arguments = with_rows(arguments![horizon, i64::from(limit)], ranges)?;
        let rows: Vec<StaleRow> =
            sqlx::query_as_with(sql!("{}", stale_within()), arguments).fetch_all(self.reader()).await?;
        Ok(rows.into_iter().map(stale).collect::<Result<_, _>>()?)
    }

    async fn list_condemned(&self, after: u64, limit: u32) -> Result<Vec<Stale>, Fault> {
        let rows: Vec<StaleRow> = sqlx::query_as(
            "SELECT number, seen_epoch, coalesce(condemned_at, 0), len FROM objects
             WHERE state = 'C' AND number > $1 ORDER BY number LIMIT $2",
        )
        .bind(codec::signed(after)?)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(stale).collect::<Result<_, _>>()?)
    }

    async fn condemn_once(&self, numbers: &[u64], horizon: i64, now_ms: i64) -> Result<u64, Fault> {
        let mut tx = self.begin().await?;
        let mut condemned = 0;
        for chunk in signed(numbers)?.chunks(CHUNK_ROWS) {
            lock_objects(&mut tx, chunk).await?;
            let update = sql!(
                "UPDATE objects SET state = 'C', condemned_at = $1
                 WHERE number {} AND state = 'L' AND seen_epoch < $2 AND {HORIZON_STANDS}",
                in_ints(3)
            );
            let update = sqlx::query(update).bind(now_ms).bind(horizon).bind(ints(chunk.iter().copied()));
            condemned += update.execute(&mut *tx).await?.rows_affected();
        }
        tx.commit().await?;
        Ok(condemned)
    }

    async fn spare_once(&self, numbers: &[u64]) -> Result<u64, Fault> {
        let mut tx = self.begin().await?;
        let mut spared = 0;
        for chunk in signed(numbers)?.chunks(CHUNK_ROWS) {
            lock_objects(&mut tx, chunk).await?;
            let update = sql!("UPDATE objects SET state = 'L' WHERE number {} AND state = 'C'", in_ints(1));
            let update = sqlx::query(update).bind(ints(chunk.iter().copied()));
            spared += update.execute(&mut *tx).await?.rows_affected();
        }
        tx.commit().await?;
        Ok(spared)
    }

    async fn doom_once(&self, numbers: &[u64], horizon: i64, now_ms: i64) -> Result<Doomed, Fault> {
        let mut tx = self.begin().await?;
        let mut doomed = Doomed::default();
        for chunk in signed(numbers)?.chunks(CHUNK_ROWS) {
            let keys = keys_of(&mut tx, chunk).await?;
            repack::lock_keys(&mut tx, &keys).await?;
            lock_objects(&mut tx, chunk).await?;
            remember_bases(&mut tx, chunk, horizon).await?;
            let delete = sql!(
                "DELETE FROM objects WHERE number {} AND state = 'C' AND seen_epoch < $1 AND {HORIZON_STANDS}
                 RETURNING oid, len, key_id",
                in_ints(2)
            );
            let gone: Vec<(Vec<u8>, i64, KeyId)> =
                sqlx::query_as(delete).bind(horizon).bind(ints(chunk.iter().copied())).fetch_all(&mut *tx).await?;
            forget_rows(&mut tx, gone.iter().map(|(oid, ..)| &oid[..])).await?;
            // `repack` may have moved an object between the two looks.
            let shrunk: BTreeSet<KeyId> = gone.iter().map(|(_, _, key)| *key).collect();
            doomed.keys += repack::settle_keys(&mut tx, &shrunk, now_ms).await?;
            doomed.shrunk.extend(shrunk);
            doomed.objects += gone.len() as u64;
            for (_, len, _) in gone {
                doomed.bytes += codec::unsigned(len)?;
            }
        }
        tx.commit().await?;
        Ok(doomed)
    }

    async fn read_name_states(&self, names: &[String]) -> Result<Vec<NameState>, Fault> {
        let mut found: HashMap<String, NameState> = HashMap::with_capacity(names.len());
        for chunk in names.chunks(CHUNK_ROWS) {
            let rows: Vec<(String, KeyId, String)> =
                sqlx::query_as(sql!("SELECT s3_key, key_id, state FROM s3_keys WHERE s3_key {}", in_texts(1)))
                    .bind(texts(chunk.iter().map(String::as_str)))
                    .fetch_all(self.reader())
                    .await?;
            found.extend(rows.into_iter().map(|(name, key, state)| match state.as_str() {
                "deleted" => (name, NameState::Deleted(key)),
                _ => (name, NameState::Known(key)),
            }));
        }
        Ok(names.iter().map(|name| found.get(name).copied().unwrap_or(NameState::Unknown)).collect())
    }

    /// As if an object's row had named them once: their bytes wait for the grace.
    async fn burn_once(&self, names: &[String], horizon: i64, now_ms: i64) -> Result<u64, Fault> {
        let mut burnt = 0;
        for chunk in names.chunks(CHUNK_ROWS) {
            let insert = sql!(
                "INSERT INTO s3_keys (s3_key, state, kept, op_id, doomed_at) SELECT r.s3_key, 'doomed', 1, $1, $2 FROM {}
                 WHERE (SELECT horizon FROM gc_state WHERE id = 1) = $3 ORDER BY r.s3_key ON CONFLICT DO NOTHING",
                rows(4, &[("s3_key", Type::Text)])
            );
            let names = Rows::new().texts(chunk.iter().map(String::as_str));
            let arguments = with_rows(arguments![Uuid::nil(), now_ms, horizon], names)?;
            burnt += sqlx::query_with(insert, arguments).execute(self.writer()).await?.rows_affected();
        }
        Ok(burnt)
    }

    async fn forget_once(&self, reflog_before_ms: i64, ops_before_ms: i64) -> Result<Forgotten, Fault> {
        let mut tx = self.begin().await?;
        let reflog = sqlx::query("DELETE FROM reflog WHERE at < $1").bind(reflog_before_ms).execute(&mut *tx).await?;
        let ops = sqlx::query(
            "DELETE FROM ops WHERE state <> 'open' AND heartbeat_at < $1
                 AND NOT EXISTS (SELECT 1 FROM s3_keys k WHERE k.op_id = ops.op_id AND k.state = 'reserved')",
        );
        let ops = ops.bind(ops_before_ms).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Forgotten { reflog: reflog.rows_affected(), ops: ops.rows_affected() })
    }

    async fn forget_reflog_once(&self, project: Uuid) -> Result<u64, Fault> {
        let gone = sqlx::query("DELETE FROM reflog WHERE project = $1").bind(project).execute(self.writer()).await?;
        Ok(gone.rows_affected())
    }
}

/// SQL: the stale objects of several ranges. SQLite takes the tables of a `CROSS JOIN` in the order in which they stand; by itself it looks
/// at the whole ledger for the sake of a few ranges.
pub(super) fn stale_within() -> String {
    format!(
        "SELECT o.number, o.seen_epoch, CAST(NULL AS BIGINT), o.len FROM {} CROSS JOIN objects o
         WHERE o.number BETWEEN r.first AND r.last AND o.state = 'L' AND o.seen_epoch < $1 ORDER BY o.number LIMIT $2",
        rows(3, &[("first", Type::Int), ("last", Type::Int)])
    )
}

/// Rows are locked in the order of their oids, as everybody does.
async fn lock_objects(tx: &mut Transaction, numbers: &[i64]) -> Result<(), Fault> {
    sqlx::query(sql!("SELECT number FROM objects WHERE number {} ORDER BY oid {FOR_UPDATE}", in_ints(1)))
        .bind(ints(numbers.iter().copied()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn keys_of(tx: &mut Transaction, numbers: &[i64]) -> Result<BTreeSet<KeyId>, Fault> {
    let keys: Vec<KeyId> = sqlx::query_scalar(sql!("SELECT DISTINCT key_id FROM objects WHERE number {}", in_ints(1)))
        .bind(ints(numbers.iter().copied()))
        .fetch_all(&mut **tx)
        .await?;
    Ok(keys.into_iter().collect())
}

/// Deltas of objects that stay may rest on what goes: its place in a pack stays on record as long as the pack.
async fn remember_bases(tx: &mut Transaction, numbers: &[i64], horizon: i64) -> Result<(), Fault> {
    sqlx::query(sql!(
        "INSERT INTO pack_bases (key_id, off, len, base_off)
         SELECT o.key_id, o.off, o.len, o.base_off FROM objects o JOIN s3_keys k ON k.key_id = o.key_id
         WHERE o.number {} AND o.state = 'C' AND o.seen_epoch < $1 AND k.s3_key LIKE '%.pack'
         ON CONFLICT DO NOTHING",
        in_ints(2)
    ))
    .bind(horizon)
    .bind(ints(numbers.iter().copied()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The rows that only tell again what an object says. Who stores it anew writes them after its place, so that these here are not
/// taken for those.
async fn forget_rows<'a>(tx: &mut Transaction, gone: impl Iterator<Item = &'a [u8]>) -> Result<(), Fault> {
    let gone: Vec<&[u8]> = gone.collect();
    for table in ["commits", "commit_parents", "trees"] {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table} WHERE oid {}", in_blobs(1))))
            .bind(blobs(gone.iter().copied()))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

#[async_trait]
impl Collect for Db {
    async fn next_epoch(&self) -> Result<i64, CatalogError> {
        run!("begin an epoch", self.next_epoch_once())
    }

    async fn raise_horizon(&self, silent_before_ms: i64) -> Result<i64, CatalogError> {
        run!("raise the horizon", self.raise_horizon_once(silent_before_ms))
    }

    async fn horizon_ahead(&self) -> Result<i64, CatalogError> {
        run!("read the horizon", self.look_ahead())
    }

    async fn roots(&self, reflog_since_ms: i64, without_reflog_of: Option<Uuid>) -> Result<Roots, CatalogError> {
        run!("read roots", self.roots_once(reflog_since_ms, without_reflog_of))
    }

    async fn lineage(&self, tips: &[ObjectId], steps: u32) -> Result<Vec<Lineage>, CatalogError> {
        run!("read history", self.read_lineage(tips, steps))
    }

    async fn reflog_roots(&self, project: Uuid) -> Result<RootSet, CatalogError> {
        run!("read a reflog", self.reflog_roots_once(project))
    }

    async fn numbers(&self, oids: &[ObjectId]) -> Result<Vec<Option<(u64, Kind)>>, CatalogError> {
        run!("find numbers", self.find_numbers(oids))
    }

    async fn stale(&self, ranges: &[(u64, u64)], horizon: i64, limit: u32) -> Result<Vec<Stale>, CatalogError> {
        run!("list stale objects", self.list_stale(ranges, horizon, limit))
    }

    async fn condemned(&self, after: u64, limit: u32) -> Result<Vec<Stale>, CatalogError> {
        run!("list condemned objects", self.list_condemned(after, limit))
    }

    async fn condemn(&self, numbers: &[u64], horizon: i64, now_ms: i64) -> Result<u64, CatalogError> {
        run!("condemn objects", self.condemn_once(numbers, horizon, now_ms))
    }

    async fn spare(&self, numbers: &[u64]) -> Result<u64, CatalogError> {
        run!("spare objects", self.spare_once(numbers))
    }

    async fn doom(&self, numbers: &[u64], horizon: i64, now_ms: i64) -> Result<Doomed, CatalogError> {
        run!("doom objects", self.doom_once(numbers, horizon, now_ms))
    }

    async fn name_states(&self, names: &[String]) -> Result<Vec<NameState>, CatalogError> {
        run!("look up bucket keys", self.read_name_states(names))
    }

    async fn burn_keys(&self, names: &[String], horizon: i64, now_ms: i64) -> Result<u64, CatalogError> {
        run!("burn bucket keys", self.burn_once(names, horizon, now_ms))
    }

    async fn forget(&self, reflog_before_ms: i64, ops_before_ms: i64) -> Result<Forgotten, CatalogError> {
        run!("forget reflogs and operations", self.forget_once(reflog_before_ms, ops_before_ms))
    }

    async fn forget_reflog(&self, project: Uuid) -> Result<u64, CatalogError> {
        run!("forget a reflog", self.forget_reflog_once(project))
    }

    async fn store_id(&self) -> Result<Option<Uuid>, CatalogError> {
        run!("read the id of the bucket", self.read_store_id())
    }

    async fn set_store_id(&self, id: Uuid, anew: bool) -> Result<Uuid, CatalogError> {
        run!("record the id of the bucket", self.set_store_id_once(id, anew))
    }
}
