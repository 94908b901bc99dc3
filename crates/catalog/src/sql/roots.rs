//! G3: everything that keeps objects alive, read in one snapshot. One row of [`SOURCES`] is one reason to live.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use roaring::RoaringTreemap;
use sqlx::AssertSqlSafe;
use sqlx::query::QueryAs;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::collect::{KeptByUsers, RootSet, Roots};
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::rows::sql;

/// Missing objects that are named of each kind.
const MISSING_MAX: i64 = 100;

/// A reason to live.
struct Source {
    /// What names the objects.
    what: &'static str,
    /// They must be there, with all that they reach.
    firm: bool,
    /// SQL: project (null: none) and oid.
    select: &'static str,
}

const fn firm(what: &'static str, select: &'static str) -> Source {
    Source { what, firm: true, select }
}

const fn loose(what: &'static str, select: &'static str) -> Source {
    Source { what, firm: false, select }
}

const BASES: &str = "the base of pending work";
const HISTORY: &str = "local history";
const CHECKPOINT: &str = "a checkpoint";

/// What a prepared attempt names may not be stored yet; afterwards it is. Final ones name what refs have, or nothing that is needed.
const SOURCES: [Source; 10] = [
    firm("a ref", "SELECT project, oid FROM refs"),
    firm(
        "an unfinished commit",
        "SELECT project, commit_oid AS oid FROM attempts WHERE state IN ('STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED')",
    ),
    firm("pending work", "SELECT project, oid FROM pending_contents WHERE content IS NULL"),
    loose("a remote ref", "SELECT project, oid FROM remote_refs"),
    loose(
        "an unfinished commit",
        "SELECT project, base AS oid FROM attempts WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED')
         UNION ALL SELECT project, remote_base FROM attempts
             WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED')
         UNION ALL SELECT project, commit_oid FROM attempts WHERE state = 'PREPARED'",
    ),
    loose("pending work", "SELECT project, oid FROM pending_contents"),
    loose(
        BASES,
        "SELECT w.project, p.oid FROM pending p JOIN workspaces w ON w.id = p.workspace
         UNION ALL SELECT w.project, p.base_oid FROM pending p JOIN workspaces w ON w.id = p.workspace",
    ),
    loose(
        HISTORY,
        "SELECT w.project, h.oid FROM pending_history h JOIN workspaces w ON w.id = h.workspace
         UNION ALL SELECT w.project, h.base_oid FROM pending_history h JOIN workspaces w ON w.id = h.workspace",
    ),
    loose(
        CHECKPOINT,
        "SELECT c.project, k.oid FROM checkpoint_rows k JOIN checkpoints c ON c.id = k.checkpoint
         UNION ALL SELECT c.project, k.base_oid FROM checkpoint_rows k JOIN checkpoints c ON c.id = k.checkpoint",
    ),
    loose("a shallow boundary", "SELECT project, oid FROM shallow"),
];

/// Sets in the making, by project; `None` = projects whose history is whole.
type Sets = BTreeMap<Option<Uuid>, RootSet>;

fn set(sets: &mut Sets, project: Option<Uuid>) -> &mut RootSet {
    sets.entry(project).or_insert_with(|| RootSet { project, ..RootSet::default() })
}

impl Db {
    pub(super) async fn roots_once(&self, reflog_since_ms: i64, without: Option<Uuid>) -> Result<Roots, Fault> {
        let mut tx = self.begin_snapshot().await?;
        let (objects, last): (i64, i64) =
            sqlx::query_as("SELECT count(*), coalesce(max(number), 0) FROM objects").fetch_one(&mut *tx).await?;
        let mut sets = Sets::new();
        set(&mut sets, None);
        read_cuts(&mut tx, &mut sets).await?;
        let (mut missing, mut kept) = (Vec::new(), KeptByUsers::default());
        for source in &SOURCES {
            let query = sqlx::query_as(AssertSqlSafe(grouped(source.select))).bind(cut_off(&sets));
            let numbers = take(query, &mut tx, &mut sets, source.firm).await?;
            match source.what {
                BASES => kept.pending = numbers,
                HISTORY => kept.history = numbers,
                CHECKPOINT => kept.checkpoints = numbers,
                _ => {}
            }
            if source.firm {
                missing.extend(find_missing(&mut tx, source).await?);
            }
        }
        let reflog = grouped(
            "SELECT project, old AS oid FROM reflog WHERE at >= $2 AND project <> $3
             UNION ALL SELECT project, new FROM reflog WHERE at >= $2 AND project <> $3",
        );
        let query = sqlx::query_as(AssertSqlSafe(reflog)).bind(cut_off(&sets));
        let query = query.bind(reflog_since_ms).bind(without.unwrap_or(Uuid::nil()));
        take(query, &mut tx, &mut sets, false).await?;
        read_named(&mut tx, &mut sets).await?;
        tx.rollback().await?;
        let (objects, last) = (codec::unsigned(objects)?, codec::unsigned(last)?);
        Ok(Roots { sets: sets.into_values().collect(), missing, last, objects, kept })
    }

    pub(super) async fn reflog_roots_once(&self, project: Uuid) -> Result<RootSet, Fault> {
        let mut tx = self.begin_snapshot().await?;
        let mut sets = Sets::new();
        read_cuts(&mut tx, &mut sets).await?;
        let reflog = grouped(
            "SELECT project, old AS oid FROM reflog WHERE project = $2
             UNION ALL SELECT project, new FROM reflog WHERE project = $2",
        );
        let query = sqlx::query_as(AssertSqlSafe(reflog)).bind(cut_off(&sets)).bind(project);
        take(query, &mut tx, &mut sets, false).await?;
        tx.rollback().await?;
        let own = sets.remove(&Some(project)).or_else(|| sets.remove(&None));
        Ok(own.unwrap_or_default())
    }
}

/// Projects whose history is cut off, with their cuts.
async fn read_cuts(tx: &mut Transaction, sets: &mut Sets) -> Result<(), Fault> {
    let query = "SELECT s.project, o.number FROM shallow s JOIN objects o ON o.oid = s.oid";
    let mut rows = sqlx::query_as::<Database, (Uuid, i64)>(query).fetch(&mut **tx);
    while let Some((project, number)) = rows.try_next().await? {
        set(sets, Some(project)).cuts.insert(codec::unsigned(number)?);
    }
    Ok(())
}

/// SQL: the numbers of what `select` names, with the project where its history is cut off ([`cut_off`]).
fn grouped(select: &str) -> String {
    format!(
        "SELECT DISTINCT CASE WHEN s.project {} THEN s.project END, o.number
         FROM ({select}) s JOIN objects o ON o.oid = s.oid",
        in_uuids(1)
    )
}

/// The first parameter of a [`grouped`] query.
fn cut_off(sets: &Sets) -> impl sqlx::Encode<'static, Database> + sqlx::Type<Database> + Send + use<> {
    uuids(sets.keys().flatten().copied().collect::<Vec<_>>())
}

/// The numbers that were taken.
async fn take(
    query: QueryAs<'_, Database, (Option<Uuid>, i64), Arguments>,
    tx: &mut Transaction,
    sets: &mut Sets,
    firm: bool,
) -> Result<RoaringTreemap, Fault> {
    let mut taken = RoaringTreemap::new();
    let mut rows = query.fetch(&mut **tx);
    while let Some((project, number)) = rows.try_next().await? {
        let number = codec::unsigned(number)?;
        insert(set(sets, project), firm, number);
        taken.insert(number);
    }
    Ok(taken)
}

fn insert(set: &mut RootSet, firm: bool, number: u64) {
    let numbers: &mut RoaringTreemap = if firm { &mut set.firm } else { &mut set.loose };
    numbers.insert(number);
}

/// What a firm source names and the ledger does not have. The empty tree need not be stored anywhere.
async fn find_missing(tx: &mut Transaction, source: &Source) -> Result<Vec<(&'static str, ObjectId)>, Fault> {
    let select = source.select;
    let rows: Vec<(Vec<u8>,)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT DISTINCT s.oid FROM ({select}) s LEFT JOIN objects o ON o.oid = s.oid WHERE o.oid IS NULL LIMIT $1"
    )))
    .bind(MISSING_MAX)
    .fetch_all(&mut **tx)
    .await?;
    let missing = rows.iter().map(|(oid,)| Ok((source.what, codec::oid(oid)?)));
    let missing: Vec<_> = missing.collect::<Result<_, CatalogError>>()?;
    Ok(missing.into_iter().filter(|(_, oid)| !oid.is_empty_tree()).collect())
}

/// What is named in lists: roots of open operations, and manifests.
async fn read_named(tx: &mut Transaction, sets: &mut Sets) -> Result<(), Fault> {
    let ops: Vec<(Option<Uuid>, Vec<u8>)> =
        sqlx::query_as("SELECT project, roots FROM ops WHERE state = 'open'").fetch_all(&mut **tx).await?;
    for (project, roots) in ops {
        let project = project.filter(|project| sets.contains_key(&Some(*project)));
        for (_, number) in numbers_of(tx, &codec::split_oids(&roots)?).await? {
            insert(set(sets, project), false, number);
        }
    }
    let report: Option<Option<String>> =
        sqlx::query_scalar("SELECT report FROM jobs WHERE name = 'manifest'").fetch_optional(&mut **tx).await?;
    // One that was lost with its pack is nobody's loss once the next one is written.
    for (_, number) in numbers_of(tx, &manifests(report.flatten().as_deref())?).await? {
        insert(set(sets, None), false, number);
    }
    Ok(())
}

/// The commits that the last report of the job `manifest` names.
fn manifests(report: Option<&str>) -> Result<Vec<ObjectId>, CatalogError> {
    #[derive(serde::Deserialize)]
    struct Report {
        commits: Vec<String>,
    }
    const INVALID: CatalogError = CatalogError::Invalid { what: "report of the job `manifest`" };
    let Some(report) = report else { return Ok(Vec::new()) };
    let Report { commits } = serde_json::from_str(report).map_err(|_| INVALID)?;
    commits.iter().map(|oid| ObjectId::from_hex(oid.as_bytes()).map_err(|_| INVALID)).collect()
}

async fn numbers_of(tx: &mut Transaction, wanted: &[ObjectId]) -> Result<Vec<(ObjectId, u64)>, Fault> {
    let mut found = Vec::with_capacity(wanted.len());
    for chunk in wanted.chunks(CHUNK_ROWS) {
        let rows: Vec<(Vec<u8>, i64)> =
            sqlx::query_as(sql!("SELECT oid, number FROM objects WHERE oid {}", in_blobs(1)))
                .bind(oids(chunk))
                .fetch_all(&mut **tx)
                .await?;
        for (oid, number) in rows {
            found.push((codec::oid(&oid)?, codec::unsigned(number)?));
        }
    }
    Ok(found)
}
