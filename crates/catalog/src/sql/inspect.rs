//! Looking at rows.

use std::collections::HashMap;

use async_trait::async_trait;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::inspect::{
    Inspect, Inspected, InspectedAttempt, InspectedContent, InspectedKey, InspectedMove, InspectedObject,
    InspectedPending, InspectedProtocol, KeyState, LostVersion,
};
use crate::ledger::KeyId;
use crate::rows::sql;

/// Operations and attempts that are told of.
const TOLD_MAX: i64 = 1000;

const KEY: &str = "k.key_id, k.s3_key, k.state,
    (SELECT count(*) FROM objects o WHERE o.key_id = k.key_id),
    (SELECT CAST(coalesce(max(o.off + o.len), 0) AS BIGINT) FROM objects o WHERE o.key_id = k.key_id)";

const OBJECT: &str =
    "o.oid, o.number, CAST(o.type AS BIGINT) AS type, o.size, o.sha256, o.state, o.key_id, o.off, o.len,
    o.base_off, k.s3_key, k.state AS key_state";

type KeyRow = (i64, String, String, i64, i64);

type MoveRow = (i64, String, Option<Vec<u8>>, Option<Vec<u8>>);

type ContentRow = (Vec<u8>, i64, i64, Option<Vec<u8>>);

type LostRow = (String, Uuid, Vec<u8>, i64, Vec<u8>);

type PendingRow = (i64, String, Uuid, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, i64);

#[derive(sqlx::FromRow)]
struct ObjectRow {
    oid: Vec<u8>,
    number: i64,
    #[sqlx(rename = "type")]
    kind: i64,
    size: i64,
    sha256: Vec<u8>,
    state: String,
    key_id: i64,
    off: i64,
    len: i64,
    base_off: Option<i64>,
    s3_key: Option<String>,
    key_state: Option<String>,
}

fn key_state(name: &str) -> Result<KeyState, CatalogError> {
    match name {
        "reserved" => Ok(KeyState::Reserved),
        "present" => Ok(KeyState::Present),
        "doomed" => Ok(KeyState::Doomed),
        "deleted" => Ok(KeyState::Deleted),
        _ => Err(CatalogError::Invalid { what: "key" }),
    }
}

fn key((id, key, state, objects, end): KeyRow) -> Result<InspectedKey, CatalogError> {
    let (objects, end) = (codec::unsigned(objects)?, codec::unsigned(end)?);
    Ok(InspectedKey { id, key, state: key_state(&state)?, objects, end })
}

fn object(row: ObjectRow) -> Result<InspectedObject, CatalogError> {
    let states = row.key_state.as_deref().map(key_state).transpose()?;
    Ok(InspectedObject {
        oid: codec::oid(&row.oid)?,
        number: codec::unsigned(row.number)?,
        kind: codec::kind(row.kind)?,
        size: codec::unsigned(row.size)?,
        sha256: row.sha256.try_into().map_err(|_| CatalogError::Invalid { what: "object" })?,
        live: row.state == "L",
        key_id: row.key_id,
        key: row.s3_key.zip(states),
        offset: codec::unsigned(row.off)?,
        length: codec::unsigned(row.len)?,
        base: row.base_off.map(codec::unsigned).transpose()?,
    })
}

impl Db {
    async fn keys_after(&self, after: &str, until: Option<&str>, limit: u32) -> Result<Vec<InspectedKey>, Fault> {
        let rows: Vec<KeyRow> = sqlx::query_as(sql!(
            "SELECT {KEY} FROM s3_keys k
             WHERE k.s3_key > $1 AND (CAST($2 AS TEXT) IS NULL OR k.s3_key <= $2) ORDER BY k.s3_key LIMIT $3"
        ))
        .bind(after)
        .bind(until)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(key).collect::<Result<_, _>>()?)
    }

    async fn keys_named(&self, names: &[String]) -> Result<Vec<Option<InspectedKey>>, Fault> {
        let mut found: HashMap<String, InspectedKey> = HashMap::with_capacity(names.len());
        for chunk in names.chunks(CHUNK_ROWS) {
            let rows: Vec<KeyRow> = sqlx::query_as(sql!("SELECT {KEY} FROM s3_keys k WHERE k.s3_key {}", in_texts(1)))
                .bind(texts(chunk.iter().map(String::as_str)))
                .fetch_all(self.reader())
                .await?;
            for row in rows {
                let key = key(row)?;
                found.insert(key.key.clone(), key);
            }
        }
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    async fn objects_named(&self, wanted: &[ObjectId]) -> Result<Vec<Option<InspectedObject>>, Fault> {
        let select = sql!(
            "SELECT {OBJECT} FROM objects o LEFT JOIN s3_keys k ON k.key_id = o.key_id WHERE o.oid {}",
            in_blobs(1)
        );
        self.by_oid(select, wanted, |row| object(row).map(|object| (object.oid, object))).await
    }

    async fn objects_at(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<InspectedObject>, Fault> {
        let rows: Vec<ObjectRow> = sqlx::query_as(sql!(
            "SELECT {OBJECT} FROM objects o LEFT JOIN s3_keys k ON k.key_id = o.key_id
             WHERE o.key_id = $1 AND o.off >= $2 ORDER BY o.off, o.number LIMIT $3"
        ))
        .bind(key)
        .bind(codec::signed(from)?)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(object).collect::<Result<_, _>>()?)
    }

    async fn find_misplaced(&self, after: u64, limit: u32) -> Result<(Vec<InspectedObject>, Option<u64>), Fault> {
        let after = codec::signed(after)?;
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT max(number) FROM (SELECT number FROM objects WHERE number > $1 ORDER BY number LIMIT $2) n",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_one(self.reader())
        .await?;
        let Some(last) = last else { return Ok((Vec::new(), None)) };
        let rows: Vec<ObjectRow> = sqlx::query_as(sql!(
            "SELECT {OBJECT} FROM objects o LEFT JOIN s3_keys k ON k.key_id = o.key_id
             WHERE o.number > $1 AND o.number <= $2 AND (k.state IS NULL OR k.state <> 'present') ORDER BY o.number"
        ))
        .bind(after)
        .bind(last)
        .fetch_all(self.reader())
        .await?;
        Ok((rows.into_iter().map(object).collect::<Result<_, _>>()?, Some(codec::unsigned(last)?)))
    }

    async fn parents_of(&self, commits: &[ObjectId]) -> Result<Vec<Vec<ObjectId>>, Fault> {
        let mut found: HashMap<ObjectId, Vec<ObjectId>> = HashMap::with_capacity(commits.len());
        for chunk in commits.chunks(CHUNK_ROWS) {
            let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(sql!(
                "SELECT oid, parent FROM commit_parents WHERE oid {} ORDER BY oid, position",
                in_blobs(1)
            ))
            .bind(oids(chunk))
            .fetch_all(self.reader())
            .await?;
            for (oid, parent) in rows {
                found.entry(codec::oid(&oid)?).or_default().push(codec::oid(&parent)?);
            }
        }
        Ok(commits.iter().map(|oid| found.get(oid).cloned().unwrap_or_default()).collect())
    }

    async fn moves_after(&self, project: Uuid, after: i64, limit: u32) -> Result<Vec<InspectedMove>, Fault> {
        let rows: Vec<MoveRow> =
            sqlx::query_as("SELECT id, name, old, new FROM reflog WHERE project = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(project)
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(self.reader())
                .await?;
        let row = |(id, name, old, new)| {
            Ok(InspectedMove { id, name, tips: [codec::oid_or_null(old)?, codec::oid_or_null(new)?] })
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, CatalogError>>()?)
    }

    async fn contents_after(
        &self,
        project: Uuid,
        after: Option<ObjectId>,
        limit: u32,
    ) -> Result<Vec<InspectedContent>, Fault> {
        // No oid is shorter than the empty string.
        let after = after.map_or_else(Vec::new, |oid| oid.as_slice().to_vec());
        let rows: Vec<ContentRow> = sqlx::query_as(
            "SELECT oid, size, CAST(encoding AS BIGINT), content FROM pending_contents
             WHERE project = $1 AND oid > $2 ORDER BY oid LIMIT $3",
        )
        .bind(project)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let row = |(oid, size, encoding, content): ContentRow| {
            let unpacked = content.map(|content| codec::unpack_content(encoding, size, content));
            let content = match unpacked {
                None => Inspected::Bucket,
                Some(Ok(content)) => Inspected::Inline(content),
                Some(Err(_)) => Inspected::Broken,
            };
            Ok(InspectedContent { oid: codec::oid(&oid)?, size: codec::unsigned(size)?, content })
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, CatalogError>>()?)
    }

    async fn pending_after(
        &self,
        project: Uuid,
        after: Option<(i64, BString)>,
        limit: u32,
    ) -> Result<Vec<InspectedPending>, Fault> {
        let (workspace, path) = after.unwrap_or_default();
        let rows: Vec<PendingRow> = sqlx::query_as(
            "SELECT w.id, w.branch, w.user_id, p.path, p.oid, p.base_oid,
                 (SELECT count(*) FROM pending_contents c WHERE c.project = w.project AND c.oid = p.oid)
             FROM workspaces w JOIN pending p ON p.workspace = w.id
             WHERE w.project = $1 AND (w.id > $2 OR (w.id = $2 AND p.path > $3)) ORDER BY w.id, p.path LIMIT $4",
        )
        .bind(project)
        .bind(workspace)
        .bind(path.to_vec())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let row = |(workspace, branch, user, path, oid, base, recorded): PendingRow| {
            let (oid, base_oid) = (codec::oid_or_null(oid)?, codec::oid_or_null(base)?);
            let recorded = recorded > 0;
            Ok(InspectedPending { workspace, branch, user, path: path.into(), oid, base_oid, recorded })
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, CatalogError>>()?)
    }

    async fn find_lost_versions(&self, project: Uuid, limit: u32) -> Result<Vec<LostVersion>, Fault> {
        let rows: Vec<LostRow> = sqlx::query_as(
            "SELECT w.branch, w.user_id, h.path, h.revision, h.oid
             FROM workspaces w JOIN pending_history h ON h.workspace = w.id
             LEFT JOIN pending_contents c ON c.project = w.project AND c.oid = h.oid
             WHERE w.project = $1 AND h.oid IS NOT NULL AND c.oid IS NULL
             ORDER BY w.id, h.path, h.revision LIMIT $2",
        )
        .bind(project)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let row = |(branch, user, path, revision, oid): LostRow| {
            Ok(LostVersion { branch, user, path: path.into(), revision, oid: codec::oid(&oid)? })
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, CatalogError>>()?)
    }

    async fn attempts_after(&self, project: Uuid, after: i64, limit: u32) -> Result<Vec<InspectedAttempt>, Fault> {
        let rows: Vec<(i64, Uuid, String, Vec<u8>)> = sqlx::query_as(sql!(
            "SELECT seq, id, state, commit_oid FROM attempts WHERE {} AND project = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            attempts::OPEN
        ))
        .bind(project)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let row = |(seq, id, state, commit): (i64, Uuid, String, Vec<u8>)| {
            Ok(InspectedAttempt { seq, id, state: codec::state(&state)?, commit: codec::oid(&commit)? })
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, CatalogError>>()?)
    }

    async fn read_protocol(&self, silent_ms: i64, stuck_ms: i64) -> Result<InspectedProtocol, Fault> {
        let (epoch, horizon): (i64, i64) =
            sqlx::query_as("SELECT epoch, horizon FROM gc_state WHERE id = 1").fetch_one(self.reader()).await?;
        let silent_ops = sqlx::query_as(
            "SELECT op_id, heartbeat_at FROM ops WHERE state = 'open' AND heartbeat_at < $1 ORDER BY heartbeat_at LIMIT $2",
        )
        .bind(silent_ms)
        .bind(TOLD_MAX)
        .fetch_all(self.reader())
        .await?;
        let stuck: Vec<(Uuid, Uuid, String, String, i64)> = sqlx::query_as(
            "SELECT id, project, branch, state, updated_at FROM attempts
             WHERE state IN ('PUSHING', 'UNKNOWN') AND updated_at < $1 ORDER BY seq LIMIT $2",
        )
        .bind(stuck_ms)
        .bind(TOLD_MAX)
        .fetch_all(self.reader())
        .await?;
        let stuck = stuck
            .into_iter()
            .map(|(id, project, branch, state, at)| Ok((id, project, branch, codec::state(&state)?, at)));
        let stuck_attempts = stuck.collect::<Result<_, CatalogError>>()?;
        Ok(InspectedProtocol { epoch, horizon, silent_ops, stuck_attempts })
    }

    async fn check_files(&self) -> Result<Vec<String>, Fault> {
        let Some(check) = CHECK_FILES else { return Ok(Vec::new()) };
        let lines: Vec<String> = sqlx::query_scalar(check).fetch_all(self.reader()).await?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }
}

#[async_trait]
impl Inspect for Db {
    async fn inspect_keys(
        &self,
        after: &str,
        until: Option<&str>,
        limit: u32,
    ) -> Result<Vec<InspectedKey>, CatalogError> {
        run!("look at bucket keys", self.keys_after(after, until, limit))
    }

    async fn inspect_names(&self, names: &[String]) -> Result<Vec<Option<InspectedKey>>, CatalogError> {
        run!("look at bucket keys", self.keys_named(names))
    }

    async fn inspect_objects(&self, oids: &[ObjectId]) -> Result<Vec<Option<InspectedObject>>, CatalogError> {
        run!("look at objects", self.objects_named(oids))
    }

    async fn inspect_places(&self, key: KeyId, from: u64, limit: u32) -> Result<Vec<InspectedObject>, CatalogError> {
        run!("look at the objects of a key", self.objects_at(key, from, limit))
    }

    async fn misplaced(&self, after: u64, limit: u32) -> Result<(Vec<InspectedObject>, Option<u64>), CatalogError> {
        run!("look for objects without a key", self.find_misplaced(after, limit))
    }

    async fn inspect_parents(&self, commits: &[ObjectId]) -> Result<Vec<Vec<ObjectId>>, CatalogError> {
        run!("look at parents", self.parents_of(commits))
    }

    async fn inspect_moves(&self, project: Uuid, after: i64, limit: u32) -> Result<Vec<InspectedMove>, CatalogError> {
        run!("look at the reflog", self.moves_after(project, after, limit))
    }

    async fn inspect_contents(
        &self,
        project: Uuid,
        after: Option<ObjectId>,
        limit: u32,
    ) -> Result<Vec<InspectedContent>, CatalogError> {
        run!("look at pending contents", self.contents_after(project, after, limit))
    }

    async fn inspect_pending(
        &self,
        project: Uuid,
        after: Option<(i64, BString)>,
        limit: u32,
    ) -> Result<Vec<InspectedPending>, CatalogError> {
        run!("look at pending work", self.pending_after(project, after.clone(), limit))
    }

    async fn lost_versions(&self, project: Uuid, limit: u32) -> Result<Vec<LostVersion>, CatalogError> {
        run!("look at local history", self.find_lost_versions(project, limit))
    }

    async fn inspect_attempts(
        &self,
        project: Uuid,
        after: i64,
        limit: u32,
    ) -> Result<Vec<InspectedAttempt>, CatalogError> {
        run!("look at attempts", self.attempts_after(project, after, limit))
    }

    async fn inspect_protocol(&self, silent_ms: i64, stuck_ms: i64) -> Result<InspectedProtocol, CatalogError> {
        run!("look at the protocol", self.read_protocol(silent_ms, stuck_ms))
    }

    async fn inspect_files(&self) -> Result<Vec<String>, CatalogError> {
        run!("check the database's files", self.check_files())
    }
}
