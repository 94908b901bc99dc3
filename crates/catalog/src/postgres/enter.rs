//! Rows of the ledger, many at a time.

use super::register::{Entered, Known, beside};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::ledger::{KeyId, NewObject};
use crate::rows::{Rows, Type, arguments, sql};

/// Columns of a row: those of [`object_values`].
pub(super) const COLUMNS: &[(&str, Type)] = &[
    ("number", Type::Int),
    ("oid", Type::Blob),
    ("kind", Type::Int),
    ("size", Type::Int),
    ("sha256", Type::Blob),
    ("off", Type::Int),
    ("len", Type::Int),
    ("base_off", Type::Int),
];

/// The rows that the ledger has of these objects now, in their order, which is that of their oids.
pub(super) async fn enter_chunk(
    tx: &mut Transaction,
    epoch: i64,
    key: KeyId,
    chunk: &[(&NewObject, i64)],
) -> Result<Vec<Option<Entered>>, Fault> {
    let insert = sql!(
        "INSERT INTO objects (number, oid, type, size, sha256, state, seen_epoch, key_id, off, len, base_off)
         SELECT r.number, r.oid, r.kind, r.size, r.sha256, 'L', $1, $2, r.off, r.len, r.base_off FROM {}
         WHERE true ORDER BY r.oid {}",
        rows(3, COLUMNS),
        or_revived()
    );
    let values = object_values(chunk)?;
    let rows: Vec<Known> =
        sqlx::query_as_with(insert, with_rows(arguments![epoch, key], values)?).fetch_all(&mut **tx).await?;
    beside(chunk.iter().map(|(object, _)| *object), rows)
}

/// SQL: what is known is made live; rows as [`Known`] come back.
pub(super) fn or_revived() -> String {
    format!(
        "ON CONFLICT (oid) DO UPDATE SET state = 'L', seen_epoch = {GREATEST}(objects.seen_epoch, excluded.seen_epoch)
         RETURNING oid, number, CAST(type AS BIGINT) AS kind, size, sha256, key_id"
    )
}

/// Objects with their numbers, as [`COLUMNS`].
pub(super) fn object_values(chunk: &[(&NewObject, i64)]) -> Result<Rows, CatalogError> {
    let sizes: Vec<i64> = chunk.iter().map(|(object, _)| codec::signed(object.size)).collect::<Result<_, _>>()?;
    let offsets: Vec<i64> = chunk.iter().map(|(object, _)| codec::signed(object.offset)).collect::<Result<_, _>>()?;
    let lengths: Vec<i64> = chunk.iter().map(|(object, _)| codec::signed(object.length)).collect::<Result<_, _>>()?;
    let bases = chunk.iter().map(|(object, _)| object.base.map(codec::signed).transpose());
    let bases: Vec<Option<i64>> = bases.collect::<Result<_, _>>()?;
    Ok(Rows::new()
        .ints(chunk.iter().map(|(_, number)| *number))
        .blobs(chunk.iter().map(|(object, _)| object.oid.as_slice().to_vec()))
        .ints(chunk.iter().map(|(object, _)| codec::kind_code(object.kind)))
        .ints(sizes)
        .blobs(chunk.iter().map(|(object, _)| object.sha256))
        .ints(offsets)
        .ints(lengths)
        .ints_or_null(bases))
}
