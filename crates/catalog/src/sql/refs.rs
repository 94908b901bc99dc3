//! Refs and reach: reading, and what the remote had. `publish` moves them.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use std::collections::HashMap;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::refs::{Ephemeral, Publish, PublishOutcome, Ref, RefState, ReflogEntry, Refs};
use crate::rows::{Rows, Type, sql};

/// The first name after all that start with `prefix`: names compare by their bytes, and UTF-8 keeps the order of
/// code points.
fn after_prefix(prefix: &str) -> String {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return chars.into_iter().collect();
        }
    }
    // No ref name starts with the last code point (git's check-ref-format allows it, every protocol says `refs/`).
    char::MAX.to_string()
}

/// Name, target, lifetime and end.
type NamedRow = (String, Vec<u8>, Option<i64>, Option<i64>);

fn named((name, oid, lifetime_ms, expires_at_ms): NamedRow) -> Result<Ref, CatalogError> {
    let ephemeral = lifetime_ms.zip(expires_at_ms);
    let ephemeral = ephemeral.map(|(lifetime_ms, expires_at_ms)| Ephemeral { lifetime_ms, expires_at_ms });
    Ok(Ref { name, oid: codec::oid(&oid)?, ephemeral })
}

impl Db {
    async fn find_ref(&self, project: Uuid, name: &str) -> Result<Option<ObjectId>, Fault> {
        let oid: Option<Vec<u8>> = sqlx::query_scalar("SELECT oid FROM refs WHERE project = $1 AND name = $2")
            .bind(project)
            .bind(name)
            .fetch_optional(self.reader())
            .await?;
        Ok(codec::oid_or_null(oid)?)
    }

    async fn list_refs_page(
        &self,
        project: Uuid,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Ref>, Fault> {
        const FROM: &str = "SELECT name, oid, lifetime, expires_at FROM refs
            WHERE project = $1 AND name >= $2 AND name < $3 ORDER BY name LIMIT $4";
        const AFTER: &str = "SELECT name, oid, lifetime, expires_at FROM refs
            WHERE project = $1 AND name > $2 AND name < $3 ORDER BY name LIMIT $4";
        let (sql, start) = match after {
            Some(after) if after >= prefix => (AFTER, after),
            _ => (FROM, prefix),
        };
        let rows: Vec<NamedRow> = sqlx::query_as(sql)
            .bind(project)
            .bind(start)
            .bind(after_prefix(prefix))
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await?;
        Ok(rows.into_iter().map(named).collect::<Result<_, _>>()?)
    }

    async fn list_refs(&self, sql: &'static str, project: Uuid, prefix: &str) -> Result<Vec<Ref>, Fault> {
        let rows: Vec<NamedRow> =
            sqlx::query_as(sql).bind(project).bind(prefix).bind(after_prefix(prefix)).fetch_all(self.reader()).await?;
        Ok(rows.into_iter().map(named).collect::<Result<_, _>>()?)
    }

    async fn list_expired(
        &self,
        before_ms: i64,
        after: Option<&(Uuid, Ref)>,
        limit: u32,
    ) -> Result<Vec<(Uuid, Ref)>, Fault> {
        let end_of = |branch: &Ref| branch.ephemeral.map_or(i64::MIN, |end| end.expires_at_ms);
        let (end, of, name) = match after {
            Some((project, branch)) => (end_of(branch), *project, branch.name.as_str()),
            None => (i64::MIN, Uuid::nil(), ""),
        };
        // 'refs/heads/' has eleven characters.
        let rows: Vec<(Uuid, String, Vec<u8>, i64, i64)> = sqlx::query_as(sql!(
            "SELECT r.project, r.name, r.oid, r.lifetime, r.expires_at FROM refs r
             WHERE r.expires_at < $1 AND (r.expires_at, r.project, r.name) > ($3, $4, $5) AND NOT {}
             ORDER BY r.expires_at, r.project, r.name LIMIT $2",
            worked_on("r.project", "substr(r.name, 12)")
        ))
        .bind(before_ms)
        .bind(i64::from(limit))
        .bind(end)
        .bind(of)
        .bind(name)
        .fetch_all(self.reader())
        .await?;
        let found = |(project, name, oid, lifetime, end)| Ok((project, named((name, oid, Some(lifetime), Some(end)))?));
        rows.into_iter().map(found).collect()
    }

    async fn read_shallow(&self, project: Uuid) -> Result<Vec<ObjectId>, Fault> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT oid FROM shallow WHERE project = $1 ORDER BY oid")
            .bind(project)
            .fetch_all(self.reader())
            .await?;
        Ok(rows.iter().map(|oid| codec::oid(oid)).collect::<Result<_, _>>()?)
    }

    async fn read_reflog(
        &self,
        project: Uuid,
        name: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ReflogEntry>, Fault> {
        type Row = (i64, String, Option<Vec<u8>>, Option<Vec<u8>>, String, i64);
        let before = before.unwrap_or(i64::MAX);
        let rows: Vec<Row> = match name {
            Some(name) => sqlx::query_as(
                "SELECT id, name, old, new, reason, at FROM reflog WHERE project = $1 AND name = $4 AND id < $2
                 ORDER BY id DESC LIMIT $3",
            )
            .bind(project)
            .bind(before)
            .bind(i64::from(limit))
            .bind(name),
            None => sqlx::query_as(
                "SELECT id, name, old, new, reason, at FROM reflog WHERE project = $1 AND id < $2
                 ORDER BY id DESC LIMIT $3",
            )
            .bind(project)
            .bind(before)
            .bind(i64::from(limit)),
        }
        .fetch_all(self.reader())
        .await?;
        let entry = |(id, name, old, new, reason, at_ms): Row| {
            Ok(ReflogEntry { id, name, old: codec::oid_or_null(old)?, new: codec::oid_or_null(new)?, reason, at_ms })
        };
        rows.into_iter().map(entry).collect()
    }

    pub(super) async fn read_reach(&self, project: Uuid) -> Result<RoaringTreemap, Fault> {
        let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bitmap FROM reach WHERE project = $1")
            .bind(project)
            .fetch_optional(self.reader())
            .await?;
        Ok(bytes.map(|bytes| codec::bitmap(&bytes)).transpose()?.unwrap_or_default())
    }

    /// The same three reads whatever the answers are, so that their time tells nothing about objects of other projects.
    async fn check_reads(&self, project: Uuid, wanted: &[ObjectId]) -> Result<Vec<bool>, Fault> {
        let reach = self.read_reach(project).await?;
        let mut readable: HashMap<ObjectId, bool> = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK_ROWS) {
            for (oid, number) in self.numbers_of(chunk).await? {
                *readable.entry(oid).or_default() |= reach.contains(number);
            }
            for oid in self.pending_of(project, chunk).await? {
                readable.insert(oid, true);
            }
        }
        Ok(wanted.iter().map(|oid| readable.get(oid).copied().unwrap_or(false)).collect())
    }

    /// Ledger numbers of objects, whosever they are: up to [`CHUNK_ROWS`] of them.
    pub(super) async fn numbers_of(&self, wanted: &[ObjectId]) -> Result<Vec<(ObjectId, u64)>, Fault> {
        let numbers: Vec<(Vec<u8>, i64)> =
            sqlx::query_as(sql!("SELECT oid, number FROM objects WHERE oid {}", in_blobs(1)))
                .bind(oids(wanted))
                .fetch_all(self.reader())
                .await?;
        numbers.into_iter().map(|(oid, number)| Ok((codec::oid(&oid)?, codec::unsigned(number)?))).collect()
    }

    /// Those that are contents of the project's pending work: of up to [`CHUNK_ROWS`].
    pub(super) async fn pending_of(&self, project: Uuid, wanted: &[ObjectId]) -> Result<Vec<ObjectId>, Fault> {
        let pending: Vec<Vec<u8>> =
            sqlx::query_scalar(sql!("SELECT oid FROM pending_contents WHERE project = $1 AND oid {}", in_blobs(2)))
                .bind(project)
                .bind(oids(wanted))
                .fetch_all(self.reader())
                .await?;
        pending.iter().map(|oid| Ok(codec::oid(oid)?)).collect()
    }
}

/// SQL: whether somebody has pending work on a branch of a project, both given as SQL.
pub(super) fn worked_on(project: &str, branch: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM workspaces w JOIN pending q ON q.workspace = w.id
                 WHERE w.project = {project} AND w.branch = {branch})"
    )
}

/// How many refs a project has.
pub(super) async fn count_refs<'e, E>(db: E, project: Uuid) -> Result<u64, Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM refs WHERE project = $1").bind(project).fetch_one(db).await?;
    Ok(codec::unsigned(count)?)
}

/// Takes the lock under which a project's refs move.
pub(super) async fn lock_project(tx: &mut Transaction, project: Uuid) -> Result<(), Fault> {
    take_project(tx, project, sql!("SELECT created_at FROM projects WHERE id = $1 {FOR_NO_KEY_UPDATE}")).await
}

/// The same, and nobody writes pending work meanwhile: whoever does holds the project, too.
pub(super) async fn lock_project_and_work(tx: &mut Transaction, project: Uuid) -> Result<(), Fault> {
    take_project(tx, project, sql!("SELECT created_at FROM projects WHERE id = $1 {FOR_UPDATE}")).await
}

/// `lock`: the statement that takes the row.
async fn take_project(tx: &mut Transaction, project: Uuid, lock: &'static str) -> Result<(), Fault> {
    let found: Option<i64> = sqlx::query_scalar(lock).bind(project).fetch_optional(&mut **tx).await?;
    found.map(|_| ()).ok_or_else(|| CatalogError::NoProject.into())
}

pub(super) async fn read_state<'e, E>(db: E, project: Uuid) -> Result<RefState, Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    let state: Option<(i64, i64)> = sqlx::query_as("SELECT ref_moves, reach_shrinks FROM projects WHERE id = $1")
        .bind(project)
        .fetch_optional(db)
        .await?;
    let (moves, shrinks) = state.ok_or(CatalogError::NoProject)?;
    Ok(RefState { moves, shrinks })
}

/// Counts what guards look at, under the project's lock.
pub(super) async fn count_moves(tx: &mut Transaction, project: Uuid, moved: bool, shrunk: bool) -> Result<(), Fault> {
    if moved || shrunk {
        let count = "UPDATE projects SET ref_moves = ref_moves + $2, reach_shrinks = reach_shrinks + $3 WHERE id = $1";
        let (moves, shrinks) = (i64::from(moved), i64::from(shrunk));
        sqlx::query(count).bind(project).bind(moves).bind(shrinks).execute(&mut **tx).await?;
    }
    Ok(())
}

/// What names come to, each once.
pub(super) struct Named<'a> {
    pub(super) set: Vec<(&'a str, ObjectId)>,
    pub(super) gone: Vec<&'a str>,
}

impl<'a> Named<'a> {
    /// Of repeated names the last counts; `None` = nothing is under it any more.
    pub(super) fn last(refs: impl Iterator<Item = (&'a str, Option<ObjectId>)>) -> Self {
        let last: HashMap<&str, Option<ObjectId>> = refs.collect();
        let set = last.iter().filter_map(|(name, oid)| Some((*name, (*oid)?))).collect();
        let gone = last.iter().filter(|(_, oid)| oid.is_none()).map(|(name, _)| *name).collect();
        Self { set, gone }
    }
}

pub(super) const NAMED: &[(&str, Type)] = &[("name", Type::Text), ("oid", Type::Blob)];

pub(super) fn named_values(refs: &[(&str, ObjectId)]) -> Rows {
    Rows::new().texts(refs.iter().map(|(name, _)| *name)).blobs(refs.iter().map(|(_, oid)| oid.as_slice().to_vec()))
}

/// Removes names by a statement that takes the project and some of them.
pub(super) async fn remove_named(
    tx: &mut Transaction,
    delete: &'static str,
    project: Uuid,
    gone: &[&str],
) -> Result<(), Fault> {
    for chunk in gone.chunks(CHUNK_ROWS) {
        sqlx::query(delete).bind(project).bind(texts(chunk.iter().copied())).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Records what the remote has; `None` = nothing under this name. Of repeated names the last counts.
pub(super) async fn write_remote_refs(
    tx: &mut Transaction,
    project: Uuid,
    refs: &[(String, Option<ObjectId>)],
) -> Result<(), Fault> {
    let Named { set, gone } = Named::last(refs.iter().map(|(name, oid)| (name.as_str(), *oid)));
    for chunk in set.chunks(CHUNK_ROWS) {
        let upsert = sql!(
            "INSERT INTO remote_refs (project, name, oid) SELECT $1, r.name, r.oid FROM {} WHERE true
             ON CONFLICT (project, name) DO UPDATE SET oid = excluded.oid WHERE remote_refs.oid <> excluded.oid",
            rows(2, NAMED)
        );
        let arguments = with_rows(crate::rows::arguments![project], named_values(chunk))?;
        sqlx::query_with(upsert, arguments).execute(&mut **tx).await?;
    }
    remove_named(tx, sql!("DELETE FROM remote_refs WHERE project = $1 AND name {}", in_texts(2)), project, &gone).await
}

#[async_trait]
impl Refs for Db {
    async fn reference(&self, project: Uuid, name: &str) -> Result<Option<ObjectId>, CatalogError> {
        run!("read a ref", self.find_ref(project, name))
    }

    async fn references_page(
        &self,
        project: Uuid,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Ref>, CatalogError> {
        run!("read refs", self.list_refs_page(project, prefix, after, limit))
    }

    async fn references(&self, project: Uuid, prefix: &str) -> Result<Vec<Ref>, CatalogError> {
        const SQL: &str = "SELECT name, oid, lifetime, expires_at FROM refs
            WHERE project = $1 AND name >= $2 AND name < $3 ORDER BY name";
        run!("read refs", self.list_refs(SQL, project, prefix))
    }

    async fn expired_branches(
        &self,
        before_ms: i64,
        after: Option<&(Uuid, Ref)>,
        limit: u32,
    ) -> Result<Vec<(Uuid, Ref)>, CatalogError> {
        run!("find branches that end", self.list_expired(before_ms, after, limit))
    }

    async fn remote_references(&self, project: Uuid, prefix: &str) -> Result<Vec<Ref>, CatalogError> {
        const SQL: &str = "SELECT name, oid, CAST(NULL AS bigint), CAST(NULL AS bigint) FROM remote_refs
            WHERE project = $1 AND name >= $2 AND name < $3 ORDER BY name";
        run!("read remote refs", self.list_refs(SQL, project, prefix))
    }

    async fn shallow(&self, project: Uuid) -> Result<Vec<ObjectId>, CatalogError> {
        run!("read shallow commits", self.read_shallow(project))
    }

    async fn reflog(
        &self,
        project: Uuid,
        name: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ReflogEntry>, CatalogError> {
        run!("read the reflog", self.read_reflog(project, name, before, limit))
    }

    async fn ref_state(&self, project: Uuid) -> Result<RefState, CatalogError> {
        run!("read the state of refs", read_state(self.reader(), project))
    }

    async fn reach(&self, project: Uuid) -> Result<RoaringTreemap, CatalogError> {
        run!("read reach", self.read_reach(project))
    }

    async fn may_read(&self, project: Uuid, oids: &[ObjectId]) -> Result<Vec<bool>, CatalogError> {
        run!("check access", self.check_reads(project, oids))
    }

    async fn publish(&self, publish: &Publish) -> Result<PublishOutcome, CatalogError> {
        run!("publish", self.publish_once(publish))
    }
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix_comes_right_after_its_names() {
        assert_eq!(after_prefix("refs/heads/"), "refs/heads0");
        assert_eq!(after_prefix("a\u{10ffff}"), "b");
        assert_eq!(after_prefix("\u{d7ff}"), "\u{e000}");
        assert_eq!(after_prefix(""), "\u{10ffff}");
    }
}
