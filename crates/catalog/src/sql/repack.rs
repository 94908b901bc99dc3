//! Moving objects to new places.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::ledger::{KeyId, Located, NewObject};
use crate::repack::{Move, Repack, StoredKey};
use crate::rows::{Rows, Type, arguments, sql};

const MOVES: &[(&str, Type)] = &[
    ("oid", Type::Blob),
    ("from_key", Type::Int),
    ("size", Type::Int),
    ("sha256", Type::Blob),
    ("off", Type::Int),
    ("len", Type::Int),
    ("base_off", Type::Int),
];

impl Db {
    async fn list_keys(&self, after: KeyId, limit: u32) -> Result<Vec<StoredKey>, Fault> {
        let rows: Vec<(i64, String, i64, i64, i64)> = sqlx::query_as(
            "SELECT k.key_id, k.s3_key, count(o.number), count(o.base_off), CAST(coalesce(sum(o.len), 0) AS BIGINT)
             FROM (SELECT key_id, s3_key FROM s3_keys WHERE state = 'present' AND key_id > $1 ORDER BY key_id LIMIT $2) k
             LEFT JOIN objects o ON o.key_id = k.key_id GROUP BY k.key_id, k.s3_key ORDER BY k.key_id",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let key = |(id, key, objects, deltas, bytes)| {
            let (objects, deltas) = (codec::unsigned(objects)?, codec::unsigned(deltas)?);
            Ok(StoredKey { id, key, objects, deltas, bytes: codec::unsigned(bytes)? })
        };
        Ok(rows.into_iter().map(key).collect::<Result<_, CatalogError>>()?)
    }

    async fn list_objects(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<Located>, Fault> {
        let rows = sqlx::query_as(sql!(
            "SELECT {} FROM objects o JOIN s3_keys k ON k.key_id = o.key_id
             WHERE o.key_id = $1 AND o.off >= $2 ORDER BY o.off LIMIT $3",
            ledger::LOCATED
        ))
        .bind(key)
        .bind(codec::signed(from)?)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(ledger::located).collect::<Result<_, _>>()?)
    }

    async fn move_once(&self, op: Uuid, key: KeyId, moves: &[Move], now_ms: i64) -> Result<Vec<bool>, Fault> {
        let mut tx = self.begin().await?;
        ledger::lock_open_op(&mut tx, op).await?;
        let from: BTreeSet<KeyId> = moves.iter().map(|object| object.from).collect();
        let taken = sqlx::query(
            "UPDATE s3_keys SET state = 'present', kept = 1 WHERE key_id = $1 AND state = 'reserved' AND op_id = $2",
        )
        .bind(key)
        .bind(op)
        .execute(&mut *tx)
        .await?;
        let moved = if taken.rows_affected() == 1 {
            lock_keys(&mut tx, &from).await?;
            let moved = move_rows(&mut tx, key, moves).await?;
            let objects: Vec<NewObject> = moves.iter().map(|object| object.object.clone()).collect();
            chains::keep_bases(&mut tx, key, &objects, |oid| moved.contains(oid)).await?;
            if moved.is_empty() {
                register::doom_unused(&mut tx, key, now_ms).await?;
            }
            settle_keys(&mut tx, &from, now_ms).await?;
            moved
        } else {
            repeated(&mut tx, op, key, moves).await?
        };
        tx.commit().await?;
        Ok(moves.iter().map(|object| moved.contains(&object.object.oid)).collect())
    }

    async fn list_doomed(&self, before_ms: i64, limit: u32) -> Result<Vec<(KeyId, String)>, Fault> {
        let keys = sqlx::query_as(
            "SELECT key_id, s3_key FROM s3_keys WHERE state = 'doomed' AND kept = 1 AND doomed_at < $1
             ORDER BY key_id LIMIT $2",
        );
        // On the writer: a replica that lags could show as doomed what is not.
        Ok(keys.bind(before_ms).bind(i64::from(limit)).fetch_all(self.writer()).await?)
    }
}

/// Keys are locked before objects, in one order, whoever else moves from them.
pub(super) async fn lock_keys(tx: &mut Transaction, keys: &BTreeSet<KeyId>) -> Result<(), Fault> {
    sqlx::query(sql!("SELECT key_id FROM s3_keys WHERE key_id {} ORDER BY key_id {FOR_UPDATE}", in_ints(1)))
        .bind(ints(keys.iter().copied()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Moves what is still there; the objects that moved.
async fn move_rows(tx: &mut Transaction, key: KeyId, moves: &[Move]) -> Result<HashSet<ObjectId>, Fault> {
    let mut sorted: Vec<&Move> = moves.iter().collect();
    sorted.sort_unstable_by_key(|object| object.object.oid);
    sorted.dedup_by_key(|object| object.object.oid);
    let mut moved = HashSet::with_capacity(sorted.len());
    for chunk in sorted.chunks(CHUNK_ROWS) {
        let oids = || blobs(chunk.iter().map(|object| object.object.oid.as_slice().to_vec()));
        sqlx::query(sql!("SELECT number FROM objects WHERE oid {} ORDER BY oid {FOR_UPDATE}", in_blobs(1)))
            .bind(oids())
            .execute(&mut **tx)
            .await?;
        // The old places stay on record until nothing can rest on them any more.
        let remember = sql!(
            "INSERT INTO pack_bases (key_id, off, len, base_off)
             SELECT o.key_id, o.off, o.len, o.base_off FROM {} JOIN objects o ON o.oid = r.oid AND o.key_id = r.from_key
             WHERE true ON CONFLICT DO NOTHING",
            rows(1, MOVES)
        );
        sqlx::query_with(remember, with_rows(arguments![], values(chunk)?)?).execute(&mut **tx).await?;
        let update = sql!(
            "UPDATE objects SET key_id = $1, off = r.off, len = r.len, base_off = r.base_off FROM {}
             WHERE objects.oid = r.oid AND objects.key_id = r.from_key
                 AND objects.size = r.size AND objects.sha256 = r.sha256
             RETURNING objects.oid",
            rows(2, MOVES)
        );
        let updated: Vec<(Vec<u8>,)> =
            sqlx::query_as_with(update, with_rows(arguments![key], values(chunk)?)?).fetch_all(&mut **tx).await?;
        for (oid,) in updated {
            moved.insert(codec::oid(&oid)?);
        }
    }
    Ok(moved)
}

fn values(chunk: &[&Move]) -> Result<Rows, CatalogError> {
    let signed = |value: fn(&NewObject) -> u64| -> Result<Vec<i64>, CatalogError> {
        chunk.iter().map(|object| codec::signed(value(&object.object))).collect()
    };
    let bases = chunk.iter().map(|object| object.object.base.map(codec::signed).transpose());
    Ok(Rows::new()
        .blobs(chunk.iter().map(|object| object.object.oid.as_slice().to_vec()))
        .ints(chunk.iter().map(|object| object.from))
        .ints(signed(|object| object.size)?)
        .blobs(chunk.iter().map(|object| object.object.sha256))
        .ints(signed(|object| object.offset)?)
        .ints(signed(|object| object.length)?)
        .ints_or_null(bases.collect::<Result<Vec<_>, _>>()?))
}

/// Dooms the keys that lost their last object. What their deltas rested on stays on record as long as their bytes: somebody may still
/// be reading there.
pub(super) async fn settle_keys(tx: &mut Transaction, keys: &BTreeSet<KeyId>, now_ms: i64) -> Result<u64, Fault> {
    let keys = || ints(keys.iter().copied());
    let doomed = sqlx::query(sql!(
        "UPDATE s3_keys SET state = 'doomed', doomed_at = $1 WHERE key_id {} AND state = 'present'
             AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.key_id = s3_keys.key_id)",
        in_ints(2)
    ))
    .bind(now_ms)
    .bind(keys())
    .execute(&mut **tx)
    .await?;
    Ok(doomed.rows_affected())
}

/// A call that was committed, and whose answer was lost: what moved is where it went.
async fn repeated(tx: &mut Transaction, op: Uuid, key: KeyId, moves: &[Move]) -> Result<HashSet<ObjectId>, Fault> {
    register::require_registered(tx, op, key).await?;
    let mut moved = HashSet::new();
    for chunk in moves.chunks(CHUNK_ROWS) {
        let there: Vec<(Vec<u8>,)> =
            sqlx::query_as(sql!("SELECT oid FROM objects WHERE key_id = $1 AND oid {}", in_blobs(2)))
                .bind(key)
                .bind(blobs(chunk.iter().map(|object| object.object.oid.as_slice().to_vec())))
                .fetch_all(&mut **tx)
                .await?;
        for (oid,) in there {
            moved.insert(codec::oid(&oid)?);
        }
    }
    Ok(moved)
}

#[async_trait]
impl Repack for Db {
    async fn stored_keys(&self, after: KeyId, limit: u32) -> Result<Vec<StoredKey>, CatalogError> {
        run!("list bucket keys", self.list_keys(after, limit))
    }

    async fn objects_in(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<Located>, CatalogError> {
        run!("list the objects of a key", self.list_objects(key, from, limit))
    }

    async fn move_objects(&self, op: Uuid, key: KeyId, moves: &[Move], now_ms: i64) -> Result<Vec<bool>, CatalogError> {
        run!("move objects", self.move_once(op, key, moves, now_ms))
    }

    async fn doomed_before(&self, before_ms: i64, limit: u32) -> Result<Vec<(KeyId, String)>, CatalogError> {
        run!("list doomed keys", self.list_doomed(before_ms, limit))
    }
}
