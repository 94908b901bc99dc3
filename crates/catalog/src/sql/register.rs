//! W4: recording what is durable in the bucket.

use std::collections::{HashMap, HashSet};

use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::ledger::{KeyId, NewObject, Registered};
use crate::rows::sql;

/// A row of the ledger: oid, number, type, size, SHA-256, key.
pub(super) type Known = (Vec<u8>, i64, i64, i64, Vec<u8>, i64);

/// What the ledger has of an object now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entered {
    pub number: i64,
    pub key: KeyId,
    /// Type, size and SHA-256 are those that were found in the bucket.
    pub same: bool,
}

/// What the first row of each object says.
pub(super) type Found = HashMap<ObjectId, Registered>;

impl Db {
    pub(super) async fn register_once(
        &self,
        op: Uuid,
        key: KeyId,
        objects: &[NewObject],
        now_ms: i64,
    ) -> Result<Vec<Registered>, Fault> {
        let mut tx = self.begin().await?;
        let epoch = ledger::lock_open_op(&mut tx, op).await?;
        let registered = register_in(&mut tx, (op, epoch), key, objects, now_ms).await?;
        tx.commit().await?;
        Ok(registered)
    }
}

/// The same within a transaction that holds the operation, which is of `epoch`.
pub(super) async fn register_in(
    tx: &mut Transaction,
    (op, epoch): (Uuid, i64),
    key: KeyId,
    objects: &[NewObject],
    now_ms: i64,
) -> Result<Vec<Registered>, Fault> {
    let first = distinct(objects)?;
    // That a row is kept in it, so that it is the collector's from now on, is nearly always so.
    let taken = sqlx::query(
        "UPDATE s3_keys SET state = 'present', kept = 1 WHERE key_id = $1 AND state = 'reserved' AND op_id = $2",
    )
    .bind(key)
    .bind(op)
    .execute(&mut **tx)
    .await?;
    let found = if taken.rows_affected() == 1 {
        let found = insert(tx, epoch, key, &first).await?;
        chains::keep_bases(tx, key, objects, |oid| found.get(oid).is_some_and(|row| row.new)).await?;
        if !found.values().any(|row| row.new) {
            doom_unused(tx, key, now_ms).await?;
        }
        found
    } else {
        repeated(tx, op, key, &first).await?
    };
    Ok(answers(objects, &found)?)
}

/// What is answered of objects that were found, in the order given.
pub(super) fn answers(objects: &[NewObject], found: &Found) -> Result<Vec<Registered>, CatalogError> {
    let mut answered = HashSet::with_capacity(found.len());
    let answer = |object: &NewObject| {
        let row = found.get(&object.oid).copied().ok_or(CatalogError::OpLost)?;
        // An object that is there twice was new once.
        Ok(Registered { new: row.new && answered.insert(object.oid), ..row })
    };
    objects.iter().map(answer).collect()
}

/// A key in which no row was kept was never live and goes at once.
pub(super) async fn doom_unused(tx: &mut Transaction, key: KeyId, now_ms: i64) -> Result<(), Fault> {
    sqlx::query("UPDATE s3_keys SET state = 'doomed', kept = 0, doomed_at = $2 WHERE key_id = $1")
        .bind(key)
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Each object once, as it comes first. The same id with other content is a collision within one pack.
pub(super) fn distinct(objects: &[NewObject]) -> Result<Vec<&NewObject>, CatalogError> {
    let mut seen: HashMap<ObjectId, &NewObject> = HashMap::with_capacity(objects.len());
    let mut first = Vec::with_capacity(objects.len());
    for object in objects {
        match seen.get(&object.oid) {
            None => {
                seen.insert(object.oid, object);
                first.push(object);
            }
            Some(known) if same(known, object) => {}
            Some(_) => return Err(CatalogError::Collision(object.oid)),
        }
    }
    Ok(first)
}

fn same(a: &NewObject, b: &NewObject) -> bool {
    a.kind == b.kind && a.size == b.size && a.sha256 == b.sha256
}

/// Inserts what is new, with numbers in the order given, and makes live what is known. Where rows are locked that is in the order of
/// their oids, whoever else registers the same. Where the whole database is, only the rows of one statement are: a table that is filled
/// about in the order of its numbers is written once. A number that a known object does not need is lost. The work is the same whether
/// or not objects were known before.
pub(super) async fn insert(
    tx: &mut Transaction,
    epoch: i64,
    key: KeyId,
    objects: &[&NewObject],
) -> Result<Found, Fault> {
    let numbers = Db::take_numbers(tx, codec::signed(objects.len() as u64)?).await?;
    let mut numbered: Vec<(&NewObject, i64)> = objects.iter().copied().zip(numbers).collect();
    if LOCKS_ROWS {
        numbered.sort_unstable_by_key(|(object, _)| object.oid);
    }
    let mut found = Found::with_capacity(objects.len());
    for chunk in numbered.chunks_mut(CHUNK_ROWS) {
        chunk.sort_unstable_by_key(|(object, _)| object.oid);
        let entered = enter_chunk(tx, epoch, key, chunk).await?;
        take_chunk(&mut found, key, chunk.iter().map(|(object, _)| *object), entered)?;
    }
    Ok(found)
}

/// The rows that the ledger has now; every one of `objects` must be there, and be the same.
async fn compare(tx: &mut Transaction, key: KeyId, objects: &[&NewObject]) -> Result<Found, Fault> {
    let mut found = Found::with_capacity(objects.len());
    for chunk in objects.chunks(CHUNK_ROWS) {
        let known = read_known(tx, chunk).await?;
        take_chunk(&mut found, key, chunk.iter().copied(), known)?;
    }
    Ok(found)
}

/// Takes over what the ledger says of objects, in their order, each of which it must know as it is.
pub(super) fn take_chunk<'a>(
    found: &mut Found,
    key: KeyId,
    objects: impl Iterator<Item = &'a NewObject>,
    entered: Vec<Option<Entered>>,
) -> Result<(), Fault> {
    for (object, row) in objects.zip(entered) {
        let row = row.ok_or(CatalogError::OpLost)?;
        if !row.same {
            return Err(CatalogError::Collision(object.oid).into());
        }
        found.insert(object.oid, Registered { number: codec::unsigned(row.number)?, new: row.key == key });
    }
    Ok(())
}

async fn read_known(tx: &mut Transaction, chunk: &[&NewObject]) -> Result<Vec<Option<Entered>>, Fault> {
    let rows: Vec<Known> = sqlx::query_as(sql!(
        "SELECT oid, number, CAST(type AS BIGINT), size, sha256, key_id FROM objects WHERE oid {}",
        in_blobs(1)
    ))
    .bind(blobs(chunk.iter().map(|object| object.oid.as_slice().to_vec())))
    .fetch_all(&mut **tx)
    .await?;
    beside(chunk.iter().copied(), rows)
}

/// What rows in any order say of objects, in the order of these; `None`: there is no row of it.
pub(super) fn beside<'a>(
    objects: impl Iterator<Item = &'a NewObject>,
    rows: Vec<Known>,
) -> Result<Vec<Option<Entered>>, Fault> {
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        known.insert(codec::oid(&row.0)?, row);
    }
    let entered = |object: &NewObject| {
        let Some((_, number, kind, size, sha256, key)) = known.get(&object.oid) else { return Ok(None) };
        let same = *kind == codec::kind_code(object.kind)
            && codec::unsigned(*size)? == object.size
            && *sha256 == object.sha256;
        Ok(Some(Entered { number: *number, key: *key, same }))
    };
    objects.map(entered).collect()
}

/// The caller did not get the answer to a registration that was committed, and repeats it: it gets the answer again.
/// Nothing is added, since a key that was registered gains no rows later.
async fn repeated(tx: &mut Transaction, op: Uuid, key: KeyId, objects: &[&NewObject]) -> Result<Found, Fault> {
    require_registered(tx, op, key).await?;
    compare(tx, key, objects).await
}

/// A key that the operation registered before; `OpLost` if it did not.
pub(super) async fn require_registered(tx: &mut Transaction, op: Uuid, key: KeyId) -> Result<(), Fault> {
    let registered: Option<String> = sqlx::query_scalar(
        "SELECT state FROM s3_keys WHERE key_id = $1 AND op_id = $2 AND state IN ('present', 'doomed')",
    )
    .bind(key)
    .bind(op)
    .fetch_optional(&mut **tx)
    .await?;
    registered.ok_or(CatalogError::OpLost)?;
    Ok(())
}
