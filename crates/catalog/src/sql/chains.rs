//! What deltas rest on: chains of entries within one pack.

use std::collections::{HashMap, HashSet};

use treehold_object::ObjectId;
use treehold_object::pack::Span;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::ledger::{KeyId, Located, NewObject};
use crate::rows::{Rows, Type, arguments, sql};

/// No chain is longer; what a pack holds is checked when it is taken in.
const STEPS_MAX: i64 = 4_096;

const BASES: &[(&str, Type)] = &[("off", Type::Int), ("len", Type::Int), ("base_off", Type::Int)];

/// Records the entries that kept deltas of a pack rest on, as far as they are not the places of kept objects themselves.
///
/// `kept` says of which objects the ledger took the place in this pack.
pub(super) async fn keep_bases(
    tx: &mut Transaction,
    key: KeyId,
    objects: &[NewObject],
    kept: impl Fn(&ObjectId) -> bool,
) -> Result<(), Fault> {
    if objects.iter().all(|object| object.base.is_none()) {
        return Ok(());
    }
    let bases = bases_of(objects, kept)?;
    for chunk in bases.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO pack_bases (key_id, off, len, base_off) SELECT $1, r.off, r.len, r.base_off FROM {}
             WHERE true ON CONFLICT DO NOTHING",
            rows(2, BASES)
        );
        let signed = |value: fn(&NewObject) -> u64| -> Result<Vec<i64>, CatalogError> {
            chunk.iter().map(|object| codec::signed(value(object))).collect()
        };
        let on = chunk.iter().map(|object| object.base.map(codec::signed).transpose());
        let values = Rows::new()
            .ints(signed(|object| object.offset)?)
            .ints(signed(|object| object.length)?)
            .ints_or_null(on.collect::<Result<Vec<_>, _>>()?);
        sqlx::query_with(insert, with_rows(arguments![key], values)?).execute(&mut **tx).await?;
    }
    Ok(())
}

fn bases_of(objects: &[NewObject], kept: impl Fn(&ObjectId) -> bool) -> Result<Vec<&NewObject>, CatalogError> {
    let at: HashMap<u64, &NewObject> = objects.iter().map(|object| (object.offset, object)).collect();
    // An object that is there twice has its place where it came first.
    let mut first = HashSet::with_capacity(objects.len());
    let places: HashSet<u64> = (objects.iter())
        .filter(|object| first.insert(object.oid) && kept(&object.oid))
        .map(|object| object.offset)
        .collect();
    let mut bases = Vec::new();
    let mut seen = HashSet::new();
    for object in objects.iter().filter(|object| places.contains(&object.offset)) {
        let mut next = object.base;
        while let Some(offset) = next {
            let base = at.get(&offset).ok_or(CatalogError::Invalid { what: "base of a delta" })?;
            if places.contains(&offset) || !seen.insert(offset) {
                break;
            }
            bases.push(*base);
            next = base.base;
        }
    }
    Ok(bases)
}

impl Db {
    pub(super) async fn chains_once(&self, located: &[Located]) -> Result<Vec<Vec<Span>>, Fault> {
        let deltas: Vec<(KeyId, u64, u64)> =
            located.iter().filter_map(|object| Some((object.key_id, object.offset, object.base?))).collect();
        let mut chains: HashMap<(KeyId, u64), Vec<Span>> = HashMap::with_capacity(deltas.len());
        for chunk in deltas.chunks(CHUNK_ROWS) {
            for (key, start, offset, length) in self.chain_rows(chunk).await? {
                let span = Span { offset: codec::unsigned(offset)?, length: codec::unsigned(length)? };
                chains.entry((key, codec::unsigned(start)?)).or_default().push(span);
            }
        }
        let chain = |object: &Located| chains.get(&(object.key_id, object.offset)).cloned().unwrap_or_default();
        Ok(located.iter().map(chain).collect())
    }

    /// Key, where the delta starts, and a span that it rests on; nearest first.
    async fn chain_rows(&self, deltas: &[(KeyId, u64, u64)]) -> Result<Vec<(i64, i64, i64, i64)>, Fault> {
        let signed = |value: u64| codec::signed(value);
        let values = Rows::new()
            .ints(deltas.iter().map(|(key, ..)| *key))
            .ints(deltas.iter().map(|(_, offset, _)| signed(*offset)).collect::<Result<Vec<_>, _>>()?)
            .ints(deltas.iter().map(|(.., base)| signed(*base)).collect::<Result<Vec<_>, _>>()?);
        let select = sql!(
            "WITH RECURSIVE chain (key_id, start, off, len, base_off, step) AS (
                 SELECT r.key_id, r.start, r.start, CAST(0 AS BIGINT), r.base_off, CAST(0 AS BIGINT) FROM {}
                 UNION
                 SELECT c.key_id, c.start, c.base_off, coalesce(o.len, b.len), coalesce(o.base_off, b.base_off), c.step + 1
                 FROM chain c
                 LEFT JOIN objects o ON o.key_id = c.key_id AND o.off = c.base_off
                 LEFT JOIN pack_bases b ON b.key_id = c.key_id AND b.off = c.base_off
                 WHERE c.base_off IS NOT NULL AND c.step < {STEPS_MAX}
             )
             SELECT key_id, start, off, len FROM chain WHERE step > 0 AND len IS NOT NULL ORDER BY key_id, start, step",
            rows(1, &[("key_id", Type::Int), ("start", Type::Int), ("base_off", Type::Int)])
        );
        Ok(sqlx::query_as_with(select, with_rows(arguments![], values)?).fetch_all(self.reader()).await?)
    }
}
