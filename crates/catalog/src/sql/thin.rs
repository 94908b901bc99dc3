//! Local history: what the policy does not keep goes, and contents with it.
//!
//! A content goes only while its row is locked, and after a look, taken under the lock, at everything that may name it. Whoever names a
//! content anew writes its row first (`contents::put_contents`), and so waits for the lock or is waited for: it is seen by the look, or
//! finds the content gone and brings it again. What moves a name (a row that becomes a version, say) does it in one transaction, and
//! the look is one statement, which sees the one or the other.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::history::{HistoryPolicy, Thinned, VersionPlace};
use crate::rows::{Rows, Type, arguments, sql};

const PLACE: &[(&str, Type)] = &[("workspace", Type::Int), ("path", Type::Blob), ("revision", Type::Int)];

/// A replaced version, and when the next one of its path was replaced.
#[derive(sqlx::FromRow)]
struct Aged {
    project: Uuid,
    workspace: i64,
    path: Vec<u8>,
    revision: i64,
    oid: Option<Vec<u8>>,
    base_oid: Option<Vec<u8>>,
    replaced_at: i64,
    next_replaced_at: Option<i64>,
}

impl Aged {
    fn place(&self) -> VersionPlace {
        VersionPlace { workspace: self.workspace, path: self.path.clone().into(), revision: self.revision }
    }
}

impl Db {
    pub(super) async fn thin_step(
        &self,
        after: Option<&VersionPlace>,
        policy: &HistoryPolicy,
        limit: u32,
        now_ms: i64,
    ) -> Result<Thinned, Fault> {
        let seen = self.aged(after, limit).await?;
        let mut thinned = Thinned::default();
        if seen.len() == limit as usize {
            thinned.next = seen.last().map(Aged::place);
        }
        let mut doomed: BTreeMap<Uuid, Vec<Aged>> = BTreeMap::new();
        for version in seen {
            if policy.drops(version.replaced_at, version.next_replaced_at, now_ms) {
                doomed.entry(version.project).or_default().push(version);
            }
        }
        for (project, versions) in doomed {
            let (gone, contents) = self.drop_versions(project, versions, true).await?;
            thinned.versions += gone;
            thinned.contents += contents;
        }
        Ok(thinned)
    }

    pub(super) async fn forget_step(
        &self,
        project: Uuid,
        user: Option<Uuid>,
        limit: u32,
        until_ms: i64,
    ) -> Result<Thinned, Fault> {
        let doomed = sqlx::query_as::<Database, Aged>(
            "SELECT w.project, h.workspace, h.path, h.revision, h.oid, h.base_oid, h.replaced_at,
                 CAST(NULL AS BIGINT) AS next_replaced_at
             FROM workspaces w JOIN pending_history h ON h.workspace = w.id
             WHERE w.project = $1 AND h.replaced_at <= $2 AND w.user_id = coalesce($4, w.user_id) LIMIT $3",
        )
        .bind(project)
        .bind(until_ms)
        .bind(i64::from(limit))
        .bind(user)
        .fetch_all(self.reader())
        .await?;
        let Some(last) = doomed.last().map(Aged::place) else { return Ok(Thinned::default()) };
        let (versions, contents) = self.drop_versions(project, doomed, false).await?;
        Ok(Thinned { versions, contents, next: Some(last) })
    }

    async fn aged(&self, after: Option<&VersionPlace>, limit: u32) -> Result<Vec<Aged>, Fault> {
        let start = VersionPlace { workspace: i64::MIN, path: Vec::new().into(), revision: 0 };
        let after = after.unwrap_or(&start);
        Ok(sqlx::query_as::<Database, Aged>(
            "SELECT w.project, h.workspace, h.path, h.revision, h.oid, h.base_oid, h.replaced_at,
                 (SELECT n.replaced_at FROM pending_history n WHERE n.workspace = h.workspace AND n.path = h.path
                  AND n.revision > h.revision ORDER BY n.revision LIMIT 1) AS next_replaced_at
             FROM pending_history h JOIN workspaces w ON w.id = h.workspace
             WHERE (h.workspace, h.path, h.revision) > ($1, $2, $3)
             ORDER BY h.workspace, h.path, h.revision LIMIT $4",
        )
        .bind(after.workspace)
        .bind(after.path.to_vec())
        .bind(after.revision)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?)
    }

    /// Removes versions of one project, and what only they named; how many of each. `spares`: not those that a commit under way has taken.
    async fn drop_versions(&self, project: Uuid, mut versions: Vec<Aged>, spares: bool) -> Result<(u64, u64), Fault> {
        let mut tx = self.begin().await?;
        if write::share_projects(&mut tx, [project]).await?.is_empty() {
            return Ok((0, 0));
        }
        if spares {
            let taken = taken(&mut tx, project, &versions).await?;
            versions.retain(|version| !taken.contains(&(version.workspace, version.revision)));
        }
        let mut gone = 0;
        for chunk in versions.chunks(CHUNK_ROWS) {
            let delete = sql!(
                "DELETE FROM pending_history
                 WHERE (workspace, path, revision) IN (SELECT r.workspace, r.path, r.revision FROM {})",
                rows(1, PLACE)
            );
            let places = Rows::new()
                .ints(chunk.iter().map(|version| version.workspace))
                .blobs(chunk.iter().map(|version| &version.path))
                .ints(chunk.iter().map(|version| version.revision));
            gone += sqlx::query_with(delete, with_rows(arguments![], places)?).execute(&mut *tx).await?.rows_affected();
        }
        // What a version started from may have been kept for its sake alone.
        let oids = versions.iter().flat_map(|version| [version.oid.as_deref(), version.base_oid.as_deref()]);
        let oids = oids.flatten().map(codec::oid);
        let oids = oids.collect::<Result<BTreeSet<ObjectId>, CatalogError>>()?;
        let contents = drop_unnamed(&mut tx, project, &oids).await?;
        tx.commit().await?;
        Ok((gone, contents))
    }
}

/// SQL: the attempts under way in the project `$1` that take work of the workspaces in `$2`: workspace and snapshot.
pub(super) fn taking_sql() -> String {
    format!(
        "SELECT w.id, a.snapshot FROM attempts AS a {BY_OPEN}
         JOIN workspaces w ON w.project = a.project AND w.branch = a.pending_branch AND w.user_id = a.user_id
         WHERE {} AND a.project = $1 AND w.id {}",
        attempts::OPEN,
        in_ints(2)
    )
}

/// Workspaces and revisions of what commits under way have taken, among other versions of the same workspaces. What was edited since starts
/// from these once the commit lands (`settle::rebase_later`), which may be long after: a push waits for credentials. No attempt is
/// prepared meanwhile that takes one: what an attempt takes was current when it was planned, and these were replaced longer ago.
async fn taken(tx: &mut Transaction, project: Uuid, versions: &[Aged]) -> Result<HashSet<(i64, i64)>, Fault> {
    let workspaces: BTreeSet<i64> = versions.iter().map(|version| version.workspace).collect();
    let found: Vec<(i64, String)> =
        sqlx::query_as(sql!("{}", taking_sql())).bind(project).bind(ints(workspaces)).fetch_all(&mut **tx).await?;
    let mut taken = HashSet::new();
    for (workspace, snapshot) in found {
        let rows = attempts::snapshot(&snapshot)?;
        taken.extend(rows.into_iter().filter_map(|row| Some((workspace, row.revision?))));
    }
    Ok(taken)
}

/// Removes those contents of a project that nothing names any more, and counts that it does not hold them; how many. The caller keeps the
/// project from being deleted, and waits for nobody after this.
pub(super) async fn drop_unnamed(
    tx: &mut Transaction,
    project: Uuid,
    candidates: &BTreeSet<ObjectId>,
) -> Result<u64, Fault> {
    let candidates: Vec<ObjectId> = candidates.iter().copied().collect();
    let (mut gone, mut bytes) = (0, 0);
    for chunk in candidates.chunks(CHUNK_ROWS) {
        // In the order in which writers take them.
        let held: Vec<Vec<u8>> = sqlx::query_scalar(sql!(
            "SELECT oid FROM pending_contents WHERE project = $1 AND oid {} ORDER BY oid {FOR_UPDATE}",
            in_blobs(2)
        ))
        .bind(project)
        .bind(oids(chunk))
        .fetch_all(&mut **tx)
        .await?;
        let named: Vec<Vec<u8>> = sqlx::query_scalar(sql!(
            "SELECT p.oid FROM workspaces w JOIN pending p ON p.workspace = w.id WHERE w.project = $1 AND p.oid {list}
             UNION SELECT p.base_oid FROM workspaces w JOIN pending p ON p.workspace = w.id
                 WHERE w.project = $1 AND p.base_oid {list}
             UNION SELECT h.oid FROM pending_history h JOIN workspaces w ON w.id = h.workspace
                 WHERE w.project = $1 AND h.oid {list}
             UNION SELECT h.base_oid FROM pending_history h JOIN workspaces w ON w.id = h.workspace
                 WHERE w.project = $1 AND h.base_oid {list}
             UNION SELECT k.oid FROM checkpoint_rows k JOIN checkpoints c ON c.id = k.checkpoint
                 WHERE c.project = $1 AND k.oid {list}
             UNION SELECT k.base_oid FROM checkpoint_rows k JOIN checkpoints c ON c.id = k.checkpoint
                 WHERE c.project = $1 AND k.base_oid {list}",
            list = in_blobs(2)
        ))
        .bind(project)
        .bind(blobs(&held))
        .fetch_all(&mut **tx)
        .await?;
        let named: BTreeSet<Vec<u8>> = named.into_iter().collect();
        let unnamed: Vec<&Vec<u8>> = held.iter().filter(|oid| !named.contains(*oid)).collect();
        let delete = sql!("DELETE FROM pending_contents WHERE project = $1 AND oid {} RETURNING size", in_blobs(2));
        let sizes: Vec<i64> =
            sqlx::query_scalar(delete).bind(project).bind(blobs(unnamed)).fetch_all(&mut **tx).await?;
        gone += sizes.len() as u64;
        bytes += sizes.iter().sum::<i64>();
    }
    feed::charge(tx, project, -bytes).await?;
    Ok(gone)
}
