//! Contents of pending work: once per project and oid, whatever rows and local history name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::feed::Charges;
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::pending::{Content, PendingChange, PendingWrite};
use crate::rows::{Rows, Type, arguments, runs, sql};

pub(super) const COLUMNS: &[(&str, Type)] = &[
    ("project", Type::Uuid),
    ("oid", Type::Blob),
    ("size", Type::Int),
    ("encoding", Type::Int),
    ("content", Type::Blob),
];

/// Content on its way into the database, packed before any lock is taken.
pub(super) struct NewContent {
    pub(super) oid: ObjectId,
    size: i64,
    /// Encoding and bytes; `None` = it is in the bucket.
    pub(super) stored: Option<(i64, Vec<u8>)>,
}

/// The contents that the writes name, each once.
pub(super) fn contents_of(writes: &[PendingWrite]) -> Result<HashMap<ObjectId, NewContent>, CatalogError> {
    let mut contents: HashMap<ObjectId, NewContent> = HashMap::new();
    for write in writes {
        let (PendingChange::Set { oid: Some(oid), size, content, .. }
        | PendingChange::Keep { oid: Some(oid), size, content, .. }) = &write.change
        else {
            continue;
        };
        let inline = match content {
            Content::Inline(bytes) => Some(bytes),
            Content::Bucket | Content::None => None,
            Content::Kept => continue,
        };
        if contents.get(oid).is_some_and(|known| known.stored.is_some() || inline.is_none()) {
            continue;
        }
        let size = inline.map_or(*size, |bytes| bytes.len() as u64);
        let stored = inline.map(|bytes| codec::pack_content(bytes));
        contents.insert(*oid, NewContent { oid: *oid, size: codec::signed(size)?, stored });
    }
    Ok(contents)
}

/// The contents that the writes name as known, and none of them brings.
pub(super) fn kept_by(writes: &[PendingWrite], brought: &HashMap<ObjectId, NewContent>) -> Vec<ObjectId> {
    let kept = writes.iter().filter_map(|write| match &write.change {
        PendingChange::Set { oid, content: Content::Kept, .. }
        | PendingChange::Keep { oid, content: Content::Kept, .. } => *oid,
        _ => None,
    });
    kept.filter(|oid| !brought.contains_key(oid)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What those writes started from. It may be a content as well, that nothing else names by now: an edit of what was pending then.
pub(super) fn bases_of_kept(writes: &[PendingWrite]) -> Vec<ObjectId> {
    let bases = writes.iter().filter_map(|write| match &write.change {
        PendingChange::Set { base_oid, content: Content::Kept, .. } => *base_oid,
        _ => None,
    });
    bases.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Keeps known contents, which must be there, and those of `bases` that are, from being removed until this transaction's rows name them.
pub(super) async fn hold_kept(
    tx: &mut Transaction,
    project: Uuid,
    kept: &[ObjectId],
    bases: &[ObjectId],
) -> Result<(), Fault> {
    // One order of locks.
    let all: BTreeSet<ObjectId> = kept.iter().chain(bases).copied().collect();
    let (all, mut found) = (all.into_iter().collect::<Vec<_>>(), BTreeSet::new());
    for chunk in all.chunks(CHUNK_ROWS) {
        let held: Vec<Vec<u8>> = sqlx::query_scalar(sql!(
            "SELECT oid FROM pending_contents WHERE project = $1 AND oid {} ORDER BY oid {FOR_KEY_SHARE}",
            in_blobs(2)
        ))
        .bind(project)
        .bind(oids(chunk))
        .fetch_all(&mut **tx)
        .await?;
        found.extend(held.iter().map(|oid| codec::oid(oid)).collect::<Result<Vec<_>, CatalogError>>()?);
    }
    match kept.iter().all(|oid| found.contains(oid)) {
        true => Ok(()),
        false => Err(CatalogError::OpLost.into()),
    }
}

/// Those of `contents` that are only in the bucket.
pub(super) fn in_bucket(contents: &HashMap<ObjectId, NewContent>) -> Vec<ObjectId> {
    contents.values().filter(|content| content.stored.is_none()).map(|content| content.oid).collect()
}

/// Contents to be recorded, sorted by project and id, so that two transactions take their locks in one order.
pub(super) type Contents<'a> = BTreeMap<(Uuid, ObjectId), &'a NewContent>;

impl NewContent {
    /// What it takes in a statement, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.stored.as_ref().map_or(0, |(_, bytes)| bytes.len())
    }
}

pub(super) fn content_values(contents: &[(Uuid, &NewContent)]) -> Rows {
    Rows::new()
        .uuids(contents.iter().map(|(project, _)| *project))
        .blobs(contents.iter().map(|(_, content)| content.oid.as_slice()))
        .ints(contents.iter().map(|(_, content)| content.size))
        .ints(contents.iter().map(|(_, content)| content.stored.as_ref().map_or(0, |(encoding, _)| *encoding)))
        .blobs_or_null(contents.iter().map(|(_, content)| content.stored.as_ref().map(|(_, bytes)| bytes)))
}

/// Records contents. What is there stays, but content comes where there was only a name. What projects hold more now.
pub(super) async fn put_contents(tx: &mut Transaction, contents: &Contents<'_>) -> Result<Charges, Fault> {
    let mut charges = Charges::new();
    let contents: Vec<(Uuid, &NewContent)> =
        contents.iter().map(|((project, _), content)| (*project, *content)).collect();
    for chunk in runs(&contents, CHUNK_ROWS, CHUNK_BYTES, |(_, content)| content.bytes()) {
        let values = with_rows(arguments![], content_values(chunk))?;
        let new: Vec<(Uuid, i64)> = match IS_NEW {
            Some(_) => {
                let upsert = sql!("{} RETURNING project, size, {}", upsert_sql(), IS_NEW.unwrap_or_default());
                let written: Vec<(Uuid, i64, bool)> = sqlx::query_as_with(upsert, values).fetch_all(&mut **tx).await?;
                written.into_iter().filter(|(.., is_new)| *is_new).map(|(project, size, _)| (project, size)).collect()
            }
            None => {
                let unknown = unknown(tx, chunk).await?;
                sqlx::query_with(sql!("{}", upsert_sql()), values).execute(&mut **tx).await?;
                unknown
            }
        };
        for (project, bytes) in new {
            *charges.entry(project).or_default() += bytes;
        }
    }
    Ok(charges)
}

/// SQL: records the contents that parameters from `$1` on hold. What is there is locked, and stays, unless it was only a name.
pub(super) fn upsert_sql() -> String {
    upsert_sql_if("true")
}

/// SQL: the same if a condition holds.
pub(super) fn upsert_sql_if(condition: &str) -> String {
    format!(
        "INSERT INTO pending_contents (project, oid, size, encoding, content)
         SELECT r.project, r.oid, r.size, r.encoding, r.content FROM {} WHERE {condition}
         ON CONFLICT (project, oid) DO UPDATE SET encoding = excluded.encoding, content = excluded.content
         WHERE pending_contents.content IS NULL AND excluded.content IS NOT NULL",
        rows(1, COLUMNS)
    )
}

/// Those contents, by their sizes, that their projects do not have yet.
async fn unknown(tx: &mut Transaction, contents: &[(Uuid, &NewContent)]) -> Result<Vec<(Uuid, i64)>, Fault> {
    let select = sql!(
        "SELECT r.project, r.size FROM {} LEFT JOIN pending_contents c ON c.project = r.project AND c.oid = r.oid
         WHERE c.oid IS NULL",
        rows(1, &COLUMNS[..3])
    );
    Ok(sqlx::query_as_with(select, with_rows(arguments![], name_values(contents))?).fetch_all(&mut **tx).await?)
}

/// The first columns of [`COLUMNS`].
pub(super) fn name_values(contents: &[(Uuid, &NewContent)]) -> Rows {
    Rows::new()
        .uuids(contents.iter().map(|(project, _)| *project))
        .blobs(contents.iter().map(|(_, content)| content.oid.as_slice()))
        .ints(contents.iter().map(|(_, content)| content.size))
}

impl Db {
    pub(super) async fn find_contents(&self, project: Uuid, wanted: &[ObjectId]) -> Result<Vec<Option<Bytes>>, Fault> {
        let mut found: HashMap<ObjectId, Bytes> = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK_ROWS) {
            let rows: Vec<(Vec<u8>, i64, i64, Vec<u8>)> = sqlx::query_as(sql!(
                "SELECT oid, size, CAST(encoding AS BIGINT), content FROM pending_contents
                 WHERE project = $1 AND oid {} AND content IS NOT NULL",
                in_blobs(2)
            ))
            .bind(project)
            .bind(oids(chunk))
            .fetch_all(self.reader())
            .await?;
            for (oid, size, encoding, content) in rows {
                found.insert(codec::oid(&oid)?, codec::unpack_content(encoding, size, content)?);
            }
        }
        Ok(wanted.iter().map(|oid| found.get(oid).cloned()).collect())
    }
}
