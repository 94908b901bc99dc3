//! Requests and attempts.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row};
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::*;
use crate::attempts::{Attempt, AttemptChange, AttemptState, Attempts, Claim, FinalAnswer, SnapshotRow};
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::feed::{NewEvent, PushOutcome, Told};
use crate::rows::{arguments, sql};

pub(super) const COLUMNS: &str =
    "id, project, idempotency_key, user_id, branch, pending_branch, base, remote_base, push, tree,
    commit_oid, raw, snapshot, objects, state, fence, in_doubt, last_error, created_at, updated_at, waits, hosted";
/// What is neither final nor given up; an index has these.
pub(super) const OPEN: &str = "state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED')";
/// How servers of before say in `last_error` that an attempt is in doubt. They may still be at work beside this one, so that it is understood and
/// said until all have the column.
const DOUBT: &str = "it is not known whether an earlier push arrived";
const INVALID: CatalogError = CatalogError::Invalid { what: "attempt" };

/// A snapshot row as JSON: path and oid in hex, since paths are bytes.
#[derive(Serialize, Deserialize)]
struct SnapshotCell(String, Option<i64>, Option<String>, u32);

fn snapshot_json(rows: &[SnapshotRow]) -> Result<String, CatalogError> {
    let cell = |row: &SnapshotRow| {
        let path = row.path.iter().map(|byte| format!("{byte:02x}")).collect();
        SnapshotCell(path, row.revision, row.oid.map(|oid| oid.to_string()), row.mode)
    };
    serde_json::to_string(&rows.iter().map(cell).collect::<Vec<_>>()).map_err(|_| INVALID)
}

pub(super) fn snapshot(json: &str) -> Result<Vec<SnapshotRow>, CatalogError> {
    let cells: Vec<SnapshotCell> = serde_json::from_str(json).map_err(|_| INVALID)?;
    let row = |SnapshotCell(path, revision, oid, mode)| {
        let oid = oid.map(|oid| ObjectId::from_hex(oid.as_bytes()).map_err(|_| INVALID)).transpose()?;
        Ok(SnapshotRow { path: unhex(&path)?, revision, oid, mode })
    };
    cells.into_iter().map(row).collect()
}

fn unhex(hex: &str) -> Result<BString, CatalogError> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(INVALID);
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(INVALID);
    let bytes: Result<Vec<u8>, _> = pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect();
    Ok(bytes?.into())
}

/// What is stored of an attempt's words.
fn said(in_doubt: bool, words: Option<&str>) -> Option<String> {
    match words {
        Some(words) if in_doubt => Some(format!("{DOUBT}: {words}")),
        None if in_doubt => Some(DOUBT.to_owned()),
        words => words.map(str::to_owned),
    }
}

/// Whether an attempt is in doubt, and its words, from what is stored.
fn heard(in_doubt: i64, stored: Option<String>) -> (bool, Option<String>) {
    match stored.as_deref().and_then(|stored| stored.strip_prefix(DOUBT)) {
        Some(words) => (true, words.strip_prefix(": ").map(str::to_owned)),
        None => (in_doubt != 0, stored),
    }
}

/// What is open on the branch `$3` of the project `$2`, `$1` at most.
pub(super) fn open_on_branch() -> String {
    format!("SELECT {COLUMNS} FROM attempts WHERE {OPEN} AND project = $2 AND branch = $3 ORDER BY seq LIMIT $1")
}

/// How many commits of the user `$3` on the branch `$2` of the project `$1` are under way.
pub(super) fn open_of_user() -> String {
    format!("SELECT count(*) FROM attempts WHERE {OPEN} AND project = $1 AND pending_branch = $2 AND user_id = $3")
}

/// The parameters that [`COLUMNS`] are written from, the first ones of a query.
pub(super) fn parameters() -> String {
    (1..=COLUMNS.split(',').count()).map(|parameter| format!("${parameter}")).collect::<Vec<_>>().join(", ")
}

fn attempt(row: &<Database as sqlx::Database>::Row) -> Result<Attempt, Fault> {
    let tree: Vec<u8> = row.try_get("tree")?;
    let commit: Vec<u8> = row.try_get("commit_oid")?;
    let objects: Vec<u8> = row.try_get("objects")?;
    let (in_doubt, last_error) = heard(row.try_get("in_doubt")?, row.try_get("last_error")?);
    Ok(Attempt {
        id: row.try_get("id")?,
        project: row.try_get("project")?,
        idempotency_key: row.try_get("idempotency_key")?,
        user: row.try_get("user_id")?,
        branch: row.try_get("branch")?,
        pending_branch: row.try_get("pending_branch")?,
        base: codec::oid_or_null(row.try_get("base")?)?,
        remote_base: codec::oid_or_null(row.try_get("remote_base")?)?,
        push: row.try_get::<i64, _>("push")? != 0,
        tree: codec::oid(&tree)?,
        commit: codec::oid(&commit)?,
        raw: row.try_get("raw")?,
        snapshot: snapshot(row.try_get("snapshot")?)?,
        objects: codec::split_oids(&objects)?,
        state: codec::state(row.try_get("state")?)?,
        fence: row.try_get("fence")?,
        in_doubt,
        last_error,
        hosted: row.try_get::<i64, _>("hosted")? != 0,
        waits: row.try_get::<i64, _>("waits")? != 0,
        created_at_ms: row.try_get("created_at")?,
        updated_at_ms: row.try_get("updated_at")?,
    })
}

/// An attempt, so that queries can be read as one.
struct Stored(Result<Attempt, Fault>);

impl FromRow<'_, <Database as sqlx::Database>::Row> for Stored {
    fn from_row(row: &<Database as sqlx::Database>::Row) -> Result<Self, sqlx::Error> {
        Ok(Self(attempt(row)))
    }
}

fn all(rows: Vec<Stored>) -> Result<Vec<Attempt>, Fault> {
    rows.into_iter().map(|row| row.0).collect()
}

/// An attempt that was moved on.
#[derive(FromRow)]
pub(super) struct Changed {
    pub(super) fence: i64,
    project: Uuid,
    branch: String,
    commit_oid: Vec<u8>,
    user_id: Option<Uuid>,
    push: i64,
}

impl Changed {
    /// What the feed is told of the attempt's push, if that is settled or waits for its user.
    pub(super) fn told(self, change: &AttemptChange, now_ms: i64) -> Result<Option<NewEvent>, CatalogError> {
        let outcome = match change.to {
            AttemptState::Finalized => PushOutcome::Pushed,
            AttemptState::Rejected => PushOutcome::Rejected,
            AttemptState::Paused => PushOutcome::Paused,
            AttemptState::Superseded => PushOutcome::Superseded,
            _ => return Ok(None),
        };
        if self.push == 0 {
            return Ok(None);
        }
        let (branch, attempt, commit) = (self.branch, change.id, codec::oid(&self.commit_oid)?);
        let told = Told::Push { branch, attempt, commit, user: self.user_id, outcome };
        Ok(Some(NewEvent { project: self.project, at_ms: now_ms, told }))
    }
}

/// Moves an attempt on if its fence is still the one that the caller saw. A unique index allows one push per branch.
pub(super) async fn change<'e, E>(executor: E, change: &AttemptChange, now_ms: i64) -> Result<Option<Changed>, Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    let changed = sqlx::query_as::<Database, Changed>(
        "UPDATE attempts SET state = $3, last_error = $4, fence = fence + 1, updated_at = $5, in_doubt = $6,
             waits = CASE WHEN $7 IS NULL THEN 0 ELSE 1 END, commit_oid = coalesce($7, commit_oid),
             push = CASE WHEN $7 IS NULL THEN push ELSE 1 END
         WHERE id = $1 AND fence = $2 RETURNING fence, project, branch, commit_oid, user_id, push",
    )
    .bind(change.id)
    .bind(change.fence)
    .bind(codec::state_name(change.to))
    .bind(said(change.in_doubt, change.last_error.as_deref()))
    .bind(now_ms)
    .bind(i64::from(change.in_doubt))
    .bind(change.waits.map(|oid| oid.as_slice().to_vec()))
    .fetch_all(executor)
    .await
    .map(|mut rows| rows.pop())
    .map_err(Fault::from);
    match changed {
        Err(fault) if fault.is_unique_violation() => Ok(None),
        changed => changed,
    }
}

/// Saves an attempt; one that is there stays as it is.
pub(super) async fn insert<'e, E>(executor: E, attempt: &Attempt) -> Result<(), Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    let insert = sql!("INSERT INTO attempts ({COLUMNS}) VALUES ({}) ON CONFLICT (id) DO NOTHING", parameters());
    sqlx::query_with(insert, values(attempt)?).execute(executor).await?;
    Ok(())
}

/// What an attempt has in [`COLUMNS`], as the first arguments of a query.
pub(super) fn values(attempt: &Attempt) -> Result<Arguments, Fault> {
    Ok(arguments![
        attempt.id,
        attempt.project,
        &attempt.idempotency_key,
        attempt.user,
        &attempt.branch,
        &attempt.pending_branch,
        attempt.base.map(|oid| oid.as_slice().to_vec()),
        attempt.remote_base.map(|oid| oid.as_slice().to_vec()),
        i64::from(attempt.push),
        attempt.tree.as_slice(),
        attempt.commit.as_slice(),
        &attempt.raw,
        snapshot_json(&attempt.snapshot)?,
        codec::join_oids(&attempt.objects),
        codec::state_name(attempt.state),
        attempt.fence,
        i64::from(attempt.in_doubt),
        said(attempt.in_doubt, attempt.last_error.as_deref()),
        attempt.created_at_ms,
        attempt.updated_at_ms,
        i64::from(attempt.waits),
        i64::from(attempt.hosted),
    ])
}

/// Remembers the first final answer to a request that was claimed.
pub(super) async fn remember<'e, E>(executor: E, project: Uuid, answer: &FinalAnswer) -> Result<(), Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    remember_first(executor, project, answer).await.map(|_| ())
}

/// As [`remember`]; `false` = there was one.
pub(super) async fn remember_first<'e, E>(executor: E, project: Uuid, answer: &FinalAnswer) -> Result<bool, Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    let remembered = sqlx::query("UPDATE requests SET answer = $3 WHERE project = $1 AND key = $2 AND answer IS NULL")
        .bind(project)
        .bind(&answer.key)
        .bind(&answer.body)
        .execute(executor)
        .await?;
    Ok(remembered.rows_affected() == 1)
}

impl Db {
    async fn claim_once(&self, project: Uuid, key: &str, body_sha256: &[u8; 32], now_ms: i64) -> Result<Claim, Fault> {
        let inserted = sqlx::query(
            "INSERT INTO requests (project, key, body_sha256, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(project)
        .bind(key)
        .bind(&body_sha256[..])
        .bind(now_ms)
        .execute(self.writer())
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(Claim::Open);
        }
        let known: Option<(Vec<u8>, Option<String>)> =
            sqlx::query_as("SELECT body_sha256, answer FROM requests WHERE project = $1 AND key = $2")
                .bind(project)
                .bind(key)
                .fetch_optional(self.writer())
                .await?;
        match known {
            // Rows go only with their project.
            None => Err(CatalogError::NoProject.into()),
            Some((body, _)) if body != body_sha256 => Ok(Claim::Reused),
            Some((_, Some(answer))) => Ok(Claim::Answered(answer)),
            Some((_, None)) => Ok(Claim::Open),
        }
    }

    async fn change_once(&self, to: &AttemptChange, now_ms: i64) -> Result<Option<i64>, Fault> {
        let told = [AttemptState::Finalized, AttemptState::Rejected, AttemptState::Paused, AttemptState::Superseded];
        if !told.contains(&to.to) {
            return Ok(change(self.writer(), to, now_ms).await?.map(|changed| changed.fence));
        }
        let mut tx = self.begin().await?;
        let select = sql!("SELECT state FROM attempts WHERE id = $1 {FOR_UPDATE}");
        let before: Option<String> = sqlx::query_scalar(select).bind(to.id).fetch_optional(&mut *tx).await?;
        let Some(changed) = change(&mut *tx, to, now_ms).await? else { return Ok(None) };
        let fence = changed.fence;
        // What was given up before anything was sent was no push.
        let sent = ["PUSHING", "UNKNOWN", "PAUSED"].map(Some).contains(&before.as_deref());
        let event = changed.told(to, now_ms)?.filter(|_| sent || to.to != AttemptState::Superseded);
        let recorded = feed::record(&mut tx, event.as_slice(), feed::Charges::new()).await?;
        tx.commit().await?;
        self.tell(&recorded);
        Ok(Some(fence))
    }

    async fn find_attempt(&self, id: Uuid) -> Result<Option<Attempt>, Fault> {
        let row = sqlx::query_as::<Database, Stored>(sql!("SELECT {COLUMNS} FROM attempts WHERE id = $1"));
        row.bind(id).fetch_optional(self.reader()).await?.map(|row| row.0).transpose()
    }

    async fn find_attempts_of(&self, project: Uuid, key: &str) -> Result<Vec<Attempt>, Fault> {
        let rows = sqlx::query_as::<Database, Stored>(sql!(
            "SELECT {COLUMNS} FROM attempts WHERE project = $1 AND idempotency_key = $2 ORDER BY seq"
        ));
        all(rows.bind(project).bind(key).fetch_all(self.reader()).await?)
    }

    async fn find_open_attempts(&self, of: Option<(Uuid, &str)>, limit: u32) -> Result<Vec<Attempt>, Fault> {
        let rows = match of {
            Some((project, branch)) => sqlx::query_as::<Database, Stored>(sql!("{}", open_on_branch()))
                .bind(i64::from(limit))
                .bind(project)
                .bind(branch),
            None => sqlx::query_as::<Database, Stored>(sql!(
                "SELECT {COLUMNS} FROM attempts WHERE {OPEN} ORDER BY seq LIMIT $1"
            ))
            .bind(i64::from(limit)),
        };
        all(rows.fetch_all(self.reader()).await?)
    }

    async fn find_attempts_left(&self, before_ms: i64, after: i64, limit: u32) -> Result<Vec<(i64, Attempt)>, Fault> {
        let left = sql!(
            "SELECT seq, {COLUMNS} FROM attempts WHERE {OPEN} AND state <> 'PAUSED' AND updated_at <= $1 AND seq > $2
             ORDER BY seq LIMIT $3"
        );
        let rows =
            sqlx::query(left).bind(before_ms).bind(after).bind(i64::from(limit)).fetch_all(self.reader()).await?;
        rows.iter().map(|row| Ok((row.try_get("seq")?, attempt(row)?))).collect()
    }
}

#[async_trait]
impl Attempts for Db {
    async fn claim(
        &self,
        project: Uuid,
        key: &str,
        body_sha256: &[u8; 32],
        now_ms: i64,
    ) -> Result<Claim, CatalogError> {
        run!("claim a request", self.claim_once(project, key, body_sha256, now_ms))
    }

    async fn answer(&self, project: Uuid, answer: &FinalAnswer) -> Result<(), CatalogError> {
        run!("answer a request", remember(self.writer(), project, answer))
    }

    async fn insert_attempt(&self, attempt: &Attempt) -> Result<(), CatalogError> {
        run!("save an attempt", insert(self.writer(), attempt))
    }

    async fn change_attempt(&self, to: &AttemptChange, now_ms: i64) -> Result<Option<i64>, CatalogError> {
        run!("change an attempt", self.change_once(to, now_ms))
    }

    async fn attempt(&self, id: Uuid) -> Result<Option<Attempt>, CatalogError> {
        run!("read an attempt", self.find_attempt(id))
    }

    async fn attempts_of(&self, project: Uuid, key: &str) -> Result<Vec<Attempt>, CatalogError> {
        run!("read attempts", self.find_attempts_of(project, key))
    }

    async fn open_attempts(&self, of: Option<(Uuid, &str)>, limit: u32) -> Result<Vec<Attempt>, CatalogError> {
        run!("read open attempts", self.find_open_attempts(of, limit))
    }

    async fn attempts_left(&self, before_ms: i64, after: i64, limit: u32) -> Result<Vec<(i64, Attempt)>, CatalogError> {
        run!("read attempts that were left", self.find_attempts_left(before_ms, after, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_back_byte_for_byte() {
        let oid = treehold_object::hash(treehold_object::Kind::Blob, b"x").unwrap();
        let rows = [
            SnapshotRow { path: b"a/\xff\"b".into(), revision: Some(3), oid: Some(oid), mode: 0o100644 },
            SnapshotRow { path: b"gone".into(), revision: None, oid: None, mode: 0 },
        ];
        assert_eq!(snapshot(&snapshot_json(&rows).unwrap()).unwrap(), rows);
        assert!(snapshot("[[\"f\",null,null,0]]").is_err());
    }

    #[test]
    fn doubt_is_heard_from_servers_of_before_and_they_hear_it() {
        for words in [None, Some("words")] {
            assert_eq!(heard(0, said(true, words)), (true, words.map(str::to_owned)));
            assert_eq!(heard(1, said(true, words)), (true, words.map(str::to_owned)));
            assert_eq!(heard(0, said(false, words)), (false, words.map(str::to_owned)));
            assert!(said(true, words).unwrap().starts_with(DOUBT));
        }
        assert_eq!(heard(1, Some("words".to_owned())), (true, Some("words".to_owned())));
    }
}
