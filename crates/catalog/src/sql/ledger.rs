//! The ledger: operations, pins, bucket keys and locations (docs/reliability.md, W0–W2 and the reapers).

use std::collections::HashMap;

use async_trait::async_trait;
use treehold_object::ObjectId;
use treehold_object::pack::Span;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::ledger::{KeyId, Ledger, LedgerStats, LedgerSums, Located, NewObject, Op, OpKind, Pinned, Registered};
use crate::rows::{Rows, Type, arguments, sql};

pub(super) fn kind_name(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Import => "import",
        OpKind::Commit => "commit",
        OpKind::Pending => "pending",
        OpKind::Refs => "refs",
        OpKind::Repack => "repack",
        OpKind::Manifest => "manifest",
    }
}

/// Oid, number, type, size, key, its name, offset, length, offset of the base.
pub(super) type LocatedRow = (Vec<u8>, i64, i64, i64, i64, String, i64, i64, Option<i64>);

pub(super) const LOCATED: &str =
    "o.oid, o.number, CAST(o.type AS BIGINT), o.size, o.key_id, k.s3_key, o.off, o.len, o.base_off";

pub(super) fn located(
    (oid, number, kind, size, key_id, key, offset, length, base): LocatedRow,
) -> Result<Located, CatalogError> {
    Ok(Located {
        oid: codec::oid(&oid)?,
        number: codec::unsigned(number)?,
        kind: codec::kind(kind)?,
        size: codec::unsigned(size)?,
        key_id,
        key,
        offset: codec::unsigned(offset)?,
        length: codec::unsigned(length)?,
        base: base.map(codec::unsigned).transpose()?,
    })
}

/// Keys that an operation reserved and never registered were never live: they go.
pub(super) async fn doom_reserved(tx: &mut Transaction, op: Uuid) -> Result<(), Fault> {
    sqlx::query(
        "UPDATE s3_keys SET state = 'doomed', doomed_at = (SELECT heartbeat_at FROM ops WHERE op_id = $1)
         WHERE op_id = $1 AND state = 'reserved'",
    )
    .bind(op)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The epoch of an operation, which stays open until this transaction ends.
pub(super) async fn lock_open_op(tx: &mut Transaction, op: Uuid) -> Result<i64, Fault> {
    let epoch = sqlx::query_scalar(sql!("SELECT epoch FROM ops WHERE op_id = $1 AND state = 'open' {FOR_SHARE}"))
        .bind(op)
        .fetch_optional(&mut **tx)
        .await?;
    epoch.ok_or_else(|| CatalogError::OpLost.into())
}

/// W0. Refs of a project move only under its row's lock, so that a share of that lock freezes its tips.
pub(super) async fn open_op(
    tx: &mut Transaction,
    id: Uuid,
    project: Option<Uuid>,
    kind: OpKind,
    now_ms: i64,
) -> Result<(Op, Vec<Vec<u8>>), Fault> {
    let mut tips: Vec<Vec<u8>> = Vec::new();
    if let Some(project) = project {
        let found: Option<i64> = sqlx::query_scalar(sql!("SELECT created_at FROM projects WHERE id = $1 {FOR_SHARE}"))
            .bind(project)
            .fetch_optional(&mut **tx)
            .await?;
        found.ok_or(CatalogError::NoProject)?;
        // What the remote was seen to have can be read, too.
        tips = sqlx::query_scalar(
            "SELECT oid FROM refs WHERE project = $1 UNION SELECT oid FROM remote_refs WHERE project = $1",
        )
        .bind(project)
        .fetch_all(&mut **tx)
        .await?;
    }
    let epoch: i64 =
        sqlx::query_scalar(sql!("SELECT epoch FROM gc_state WHERE id = 1 {FOR_SHARE}")).fetch_one(&mut **tx).await?;
    let inserted = sqlx::query(
        "INSERT INTO ops (op_id, project, kind, epoch, state, roots, heartbeat_at)
         VALUES ($1, $2, $3, $4, 'open', $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(project)
    .bind(kind_name(kind))
    .bind(epoch)
    .bind(tips.concat())
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok((Op { id, epoch }, tips));
    }
    // A repetition after a lost answer.
    Ok((Op { id, epoch: lock_open_op(tx, id).await? }, tips))
}

/// W2. A repetition by the same operation, which is locked, gets the key that it has.
pub(super) async fn reserve_in(tx: &mut Transaction, op: Uuid, keys: &[&str]) -> Result<HashMap<String, KeyId>, Fault> {
    let mut sorted: Vec<&str> = keys.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut reserved: HashMap<String, KeyId> = HashMap::with_capacity(keys.len());
    for chunk in sorted.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO s3_keys (s3_key, state, op_id) SELECT r.s3_key, 'reserved', $1 FROM {}
             WHERE true ORDER BY r.s3_key ON CONFLICT DO NOTHING RETURNING s3_key, key_id",
            rows(2, &[("s3_key", Type::Text)])
        );
        let names = Rows::new().texts(chunk.iter().copied());
        let new: Vec<(String, KeyId)> =
            sqlx::query_as_with(insert, with_rows(arguments![op], names)?).fetch_all(&mut **tx).await?;
        let all_new = new.len() == chunk.len();
        reserved.extend(new);
        if all_new {
            continue;
        }
        let mine: Vec<(String, KeyId)> = sqlx::query_as(sql!(
            "SELECT s3_key, key_id FROM s3_keys WHERE op_id = $1 AND state = 'reserved' AND s3_key {}",
            in_texts(2)
        ))
        .bind(op)
        .bind(texts(chunk.iter().copied()))
        .fetch_all(&mut **tx)
        .await?;
        reserved.extend(mine);
    }
    Ok(reserved)
}

/// Makes known objects live in `epoch`; rows are locked in the order of their oids. What is not returned is not there.
pub(super) async fn revive(
    tx: &mut Transaction,
    wanted: &[ObjectId],
    epoch: i64,
) -> Result<Vec<(ObjectId, Pinned)>, Fault> {
    let mut sorted = wanted.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut known = Vec::with_capacity(sorted.len());
    for chunk in sorted.chunks(CHUNK_ROWS) {
        let locked: Vec<(Vec<u8>, i64)> =
            sqlx::query_as(sql!("SELECT oid, number FROM objects WHERE oid {} ORDER BY oid {FOR_UPDATE}", in_blobs(1)))
                .bind(oids(chunk))
                .fetch_all(&mut **tx)
                .await?;
        sqlx::query(sql!(
            "UPDATE objects SET seen_epoch = {GREATEST}(seen_epoch, $1), state = 'L'
             WHERE oid {} AND (state <> 'L' OR seen_epoch < $1)",
            in_blobs(2)
        ))
        .bind(epoch)
        .bind(oids(chunk))
        .execute(&mut **tx)
        .await?;
        for (oid, number) in &locked {
            known.push((codec::oid(oid)?, Pinned { number: codec::unsigned(*number)? }));
        }
    }
    Ok(known)
}

/// SQL: what all projects hold; a figure below 0 counts as 0.
const HELD: &str = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM feeds WHERE bytes > 0";

impl Db {
    async fn begin_op_once(&self, id: Uuid, project: Option<Uuid>, kind: OpKind, now_ms: i64) -> Result<Op, Fault> {
        let mut tx = self.begin().await?;
        let (op, _) = open_op(&mut tx, id, project, kind, now_ms).await?;
        tx.commit().await?;
        Ok(op)
    }

    async fn heartbeat_once(&self, op: Uuid, now_ms: i64) -> Result<(), Fault> {
        let updated = sqlx::query("UPDATE ops SET heartbeat_at = $2 WHERE op_id = $1 AND state = 'open'")
            .bind(op)
            .bind(now_ms)
            .execute(self.writer())
            .await?;
        if updated.rows_affected() == 1 { Ok(()) } else { Err(CatalogError::OpLost.into()) }
    }

    async fn end_op_once(&self, op: Uuid) -> Result<(), Fault> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE ops SET state = 'done' WHERE op_id = $1 AND state = 'open'")
            .bind(op)
            .execute(&mut *tx)
            .await?;
        doom_reserved(&mut tx, op).await?;
        tx.commit().await?;
        Ok(())
    }

    /// W1. Mostly one plain read; only rows that are condemned, or were last seen in an earlier epoch, are locked.
    async fn pin_once(&self, op: Uuid, wanted: &[ObjectId]) -> Result<Vec<Option<Pinned>>, Fault> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM ops WHERE op_id = $1 AND state = 'open'")
            .bind(op)
            .fetch_optional(self.reader())
            .await?;
        let epoch = epoch.ok_or(CatalogError::OpLost)?;
        let mut pinned: HashMap<ObjectId, Pinned> = HashMap::with_capacity(wanted.len());
        let mut stale = Vec::new();
        for chunk in wanted.chunks(CHUNK_ROWS) {
            let rows: Vec<(Vec<u8>, i64, String, i64)> =
                sqlx::query_as(sql!("SELECT oid, number, state, seen_epoch FROM objects WHERE oid {}", in_blobs(1)))
                    .bind(oids(chunk))
                    .fetch_all(self.reader())
                    .await?;
            for (oid, number, state, seen) in rows {
                let oid = codec::oid(&oid)?;
                if state == "L" && seen >= epoch {
                    pinned.insert(oid, Pinned { number: codec::unsigned(number)? });
                } else {
                    stale.push(oid);
                }
            }
        }
        if !stale.is_empty() {
            let mut tx = self.begin().await?;
            pinned.extend(revive(&mut tx, &stale, epoch).await?);
            tx.commit().await?;
        }
        Ok(wanted.iter().map(|oid| pinned.get(oid).copied()).collect())
    }

    async fn reserve_once(&self, op: Uuid, keys: &[String]) -> Result<Vec<Option<KeyId>>, Fault> {
        let mut tx = self.begin().await?;
        lock_open_op(&mut tx, op).await?;
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let reserved = reserve_in(&mut tx, op, &names).await?;
        tx.commit().await?;
        Ok(keys.iter().map(|key| reserved.get(key).copied()).collect())
    }

    async fn locate_once(&self, wanted: &[ObjectId]) -> Result<Vec<Option<Located>>, Fault> {
        let select =
            sql!("SELECT {LOCATED} FROM objects o JOIN s3_keys k ON k.key_id = o.key_id WHERE o.oid {}", in_blobs(1));
        self.by_oid(select, wanted, |row| located(row).map(|object| (object.oid, object))).await
    }

    async fn read_sizes(&self, wanted: &[ObjectId]) -> Result<Vec<Option<u64>>, Fault> {
        let select = sql!("SELECT oid, size FROM objects WHERE oid {}", in_blobs(1));
        let size = |(oid, size): (Vec<u8>, i64)| Ok((codec::oid(&oid)?, codec::unsigned(size)?));
        self.by_oid(select, wanted, size).await
    }

    async fn locate_numbers_once(&self, numbers: &[u64]) -> Result<Vec<Located>, Fault> {
        let numbers: Vec<i64> = numbers.iter().map(|number| codec::signed(*number)).collect::<Result<_, _>>()?;
        let mut found = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(CHUNK_ROWS) {
            let rows: Vec<LocatedRow> = sqlx::query_as(sql!(
                "SELECT {LOCATED} FROM objects o JOIN s3_keys k ON k.key_id = o.key_id WHERE o.number {}",
                in_ints(1)
            ))
            .bind(ints(chunk.iter().copied()))
            .fetch_all(self.reader())
            .await?;
            found.extend(rows.into_iter().map(located).collect::<Result<Vec<_>, _>>()?);
        }
        found.sort_unstable_by(|a, b| (&a.key, a.offset, a.number).cmp(&(&b.key, b.offset, b.number)));
        found.dedup_by_key(|object| object.number);
        Ok(found)
    }

    async fn keys_between_once(&self, first: u64, last: u64) -> Result<Vec<(KeyId, String, u64)>, Fault> {
        let rows: Vec<(i64, String, i64)> = sqlx::query_as(
            "SELECT o.key_id, k.s3_key, o.objects
             FROM (SELECT key_id, count(*) AS objects FROM objects WHERE number BETWEEN $1 AND $2 GROUP BY key_id) o
             JOIN s3_keys k ON k.key_id = o.key_id ORDER BY o.key_id",
        )
        .bind(codec::signed(first)?)
        .bind(codec::signed(last)?)
        .fetch_all(self.reader())
        .await?;
        let key = |(id, key, objects)| Ok((id, key, codec::unsigned(objects)?));
        Ok(rows.into_iter().map(key).collect::<Result<_, CatalogError>>()?)
    }

    /// One row of text instead of many rows: a driver takes longer to hand over a row than the database to find it.
    async fn places_once(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<(u64, u64)>, Fault> {
        let text: Option<String> = sqlx::query_scalar(
            "SELECT string_agg(CAST(p.off AS TEXT) || ' ' || CAST(p.number AS TEXT), ',' ORDER BY p.off)
             FROM (SELECT off, number FROM objects WHERE key_id = $1 AND off >= $2 ORDER BY off LIMIT $3) p",
        )
        .bind(key)
        .bind(codec::signed(from)?)
        .bind(i64::from(limit))
        .fetch_one(self.reader())
        .await?;
        let place = |place: &str| {
            let (offset, number) = place.split_once(' ')?;
            Some((offset.parse().ok()?, number.parse().ok()?))
        };
        let places = text.iter().flat_map(|text| text.split(',')).map(place).collect::<Option<Vec<_>>>();
        Ok(places.ok_or(CatalogError::Invalid { what: "place" })?)
    }

    async fn reap_ops_once(&self, before_ms: i64) -> Result<u64, Fault> {
        let mut tx = self.begin().await?;
        let dead = sqlx::query("UPDATE ops SET state = 'dead' WHERE state = 'open' AND heartbeat_at < $1")
            .bind(before_ms)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "UPDATE s3_keys SET state = 'doomed', doomed_at = $1
             WHERE state = 'reserved' AND op_id IN (SELECT op_id FROM ops WHERE state <> 'open')",
        )
        .bind(before_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(dead.rows_affected())
    }

    async fn list_never_live(&self, limit: u32) -> Result<Vec<(KeyId, String)>, Fault> {
        let keys = sqlx::query_as(
            "SELECT key_id, s3_key FROM s3_keys WHERE state = 'doomed' AND kept = 0 ORDER BY key_id LIMIT $1",
        );
        Ok(keys.bind(i64::from(limit)).fetch_all(self.reader()).await?)
    }

    async fn key_deleted_once(&self, key: KeyId) -> Result<(), Fault> {
        let mut tx = self.begin().await?;
        let deleted = sqlx::query("UPDATE s3_keys SET state = 'deleted' WHERE key_id = $1 AND state = 'doomed'")
            .bind(key)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 1 {
            sqlx::query("DELETE FROM pack_bases WHERE key_id = $1").bind(key).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn sum_part(&self, from: u64, limit: u32) -> Result<LedgerSums, Fault> {
        let (seen, last, objects, content_bytes, stored_bytes): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), CAST(coalesce(max(p.number), 0) AS BIGINT),
                 CAST(coalesce(sum(CASE WHEN p.state = 'L' THEN 1 ELSE 0 END), 0) AS BIGINT),
                 CAST(coalesce(sum(CASE WHEN p.state = 'L' THEN p.size ELSE 0 END), 0) AS BIGINT),
                 CAST(coalesce(sum(CASE WHEN p.state = 'L' THEN p.len ELSE 0 END), 0) AS BIGINT)
             FROM (SELECT number, state, size, len FROM objects WHERE number >= $1 ORDER BY number LIMIT $2) p",
        )
        .bind(codec::signed(from)?)
        .bind(i64::from(limit))
        .fetch_one(self.reader())
        .await?;
        let next = if seen < i64::from(limit) { None } else { Some(codec::unsigned(last)?.saturating_add(1)) };
        Ok(LedgerSums {
            objects: codec::unsigned(objects)?,
            content_bytes: codec::unsigned(content_bytes)?,
            stored_bytes: codec::unsigned(stored_bytes)?,
            next,
        })
    }

    async fn sum_held(&self) -> Result<u64, Fault> {
        let held: i64 = sqlx::query_scalar(HELD).fetch_one(self.reader()).await?;
        Ok(codec::unsigned(held)?)
    }

    async fn count_all(&self) -> Result<LedgerStats, Fault> {
        let (objects, content_bytes, stored_bytes): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT), CAST(coalesce(sum(len), 0) AS BIGINT)
             FROM objects WHERE state = 'L'",
        )
        .fetch_one(self.reader())
        .await?;
        let (keys, projects, pending, held_bytes): (i64, i64, i64, i64) = sqlx::query_as(sql!(
            "SELECT (SELECT count(*) FROM s3_keys WHERE state = 'present'), (SELECT count(*) FROM projects),
                 (SELECT count(*) FROM pending), ({HELD})"
        ))
        .fetch_one(self.reader())
        .await?;
        Ok(LedgerStats {
            objects: codec::unsigned(objects)?,
            content_bytes: codec::unsigned(content_bytes)?,
            stored_bytes: codec::unsigned(stored_bytes)?,
            keys: codec::unsigned(keys)?,
            projects: codec::unsigned(projects)?,
            pending: codec::unsigned(pending)?,
            held_bytes: codec::unsigned(held_bytes)?,
        })
    }
}

#[async_trait]
impl Ledger for Db {
    async fn begin_op(&self, id: Uuid, project: Option<Uuid>, kind: OpKind, now_ms: i64) -> Result<Op, CatalogError> {
        run!("begin an operation", self.begin_op_once(id, project, kind, now_ms))
    }

    async fn heartbeat(&self, op: Uuid, now_ms: i64) -> Result<(), CatalogError> {
        run!("keep an operation alive", self.heartbeat_once(op, now_ms))
    }

    async fn end_op(&self, op: Uuid) -> Result<(), CatalogError> {
        run!("end an operation", self.end_op_once(op))
    }

    async fn pin(&self, op: Uuid, oids: &[ObjectId]) -> Result<Vec<Option<Pinned>>, CatalogError> {
        run!("pin objects", self.pin_once(op, oids))
    }

    async fn reserve(&self, op: Uuid, keys: &[String]) -> Result<Vec<Option<KeyId>>, CatalogError> {
        run!("reserve bucket keys", self.reserve_once(op, keys))
    }

    async fn register(
        &self,
        op: Uuid,
        key: KeyId,
        objects: &[NewObject],
        now_ms: i64,
    ) -> Result<Vec<Registered>, CatalogError> {
        run!("register objects", self.register_once(op, key, objects, now_ms))
    }

    async fn locate(&self, oids: &[ObjectId]) -> Result<Vec<Option<Located>>, CatalogError> {
        run!("locate objects", self.locate_once(oids))
    }

    async fn chains(&self, located: &[Located]) -> Result<Vec<Vec<Span>>, CatalogError> {
        run!("follow deltas", self.chains_once(located))
    }

    async fn sizes(&self, oids: &[ObjectId]) -> Result<Vec<Option<u64>>, CatalogError> {
        run!("read sizes", self.read_sizes(oids))
    }

    async fn locate_numbers(&self, numbers: &[u64]) -> Result<Vec<Located>, CatalogError> {
        run!("locate objects", self.locate_numbers_once(numbers))
    }

    async fn keys_between(&self, first: u64, last: u64) -> Result<Vec<(KeyId, String, u64)>, CatalogError> {
        run!("count objects by key", self.keys_between_once(first, last))
    }

    async fn places_in(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<(u64, u64)>, CatalogError> {
        run!("list places", self.places_once(key, from, limit))
    }

    async fn reap_ops(&self, before_ms: i64) -> Result<u64, CatalogError> {
        run!("reap operations", self.reap_ops_once(before_ms))
    }

    async fn doomed_never_live(&self, limit: u32) -> Result<Vec<(KeyId, String)>, CatalogError> {
        run!("list doomed keys", self.list_never_live(limit))
    }

    async fn key_deleted(&self, key: KeyId) -> Result<(), CatalogError> {
        run!("record a deletion", self.key_deleted_once(key))
    }

    async fn stats(&self) -> Result<LedgerStats, CatalogError> {
        run!("count", self.count_all())
    }

    async fn sums(&self, from: u64, limit: u32) -> Result<LedgerSums, CatalogError> {
        run!("count objects", self.sum_part(from, limit))
    }

    async fn held_bytes(&self) -> Result<u64, CatalogError> {
        run!("count what projects hold", self.sum_held())
    }
}
