//! The transactions of a commit in few round trips: whoever commits waits for each of them, before and after its pack is sent.
//!
//! A statement sees the tables as they were when it began, also where it has waited for a lock since. So what a lock keeps true is read
//! by a later statement than the one that takes the lock, or counts only where a number in the locked row, which counts up with each change,
//! is still the one that was seen; what is asked of a locked row itself is asked of the row as it is then. The parts of a statement that
//! lock are put in the order of a publication by what each asks of the one before: project, gc_state, op, bucket keys, objects, workspace,
//! attempt, feed. What is unusual goes statement by statement, from the start.

use sqlx::Arguments as _;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::attempts::COLUMNS as ATTEMPT;
use super::commits::{land_in_turn, prepare_in_turn, registered_of};
use super::feed::{EVENT, Recorded, event_values, places};
use super::open::BLOCK;
use super::pending::{names, names_of};
use super::publish::{Move, Registered, told_of_moves};
use super::record::told_sql;
use super::*;
use crate::attempts::{Attempt, AttemptChange, AttemptState};
use crate::codec;
use crate::commits::{Prepared, StoreCommit};
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::feed::NewEvent;
use crate::ledger::{KeyId, NewObject, OpKind};
use crate::refs::{ClearCause, ClearedRow, Publish, PublishOutcome};
use crate::rows::{Rows, Type, arguments, sql};

const PATH: &[(&str, Type)] = &[("path", Type::Blob)];

/// A preparation, if nothing moved between what the statement sees and the locks that it takes: the counts of ref moves and of revisions are
/// those that it sees. Then tips and pending rows are what they are under the locks, too. The key, or no row and nothing written. The
/// attempt's values come first, then the operation, its kind, the time, the key's name, whose rows are taken and how many, and their paths.
fn prepare_sql() -> String {
    let columns: Vec<&str> = ATTEMPT.split(',').map(str::trim).collect();
    let of = |column: &str| columns.iter().position(|name| *name == column).map_or(0, |before| before + 1);
    let (project, branch, base) = (of("project"), of("pending_branch"), of("base"));
    let op = columns.len() + 1;
    let (kind, now, name, user, taken, paths) = (op + 1, op + 2, op + 3, op + 4, op + 5, op + 6);
    format!(
        "WITH seen AS MATERIALIZED (
             SELECT p.ref_moves, w.revision FROM projects p
             LEFT JOIN workspaces w ON w.project = p.id AND w.branch = ${branch} AND w.user_id = ${user}
             WHERE p.id = ${project}
         ), home AS MATERIALIZED (
             SELECT ref_moves FROM projects WHERE id = ${project} AND (SELECT count(*) FROM seen) = 1 {FOR_SHARE}
         ), held AS MATERIALIZED (
             SELECT epoch FROM gc_state
             WHERE id = 1 AND (SELECT ref_moves FROM home) = (SELECT ref_moves FROM seen) {FOR_SHARE}
         ), workspace AS MATERIALIZED (
             SELECT revision FROM workspaces
             WHERE project = ${project} AND branch = ${branch} AND user_id = ${user} AND (SELECT count(*) FROM held) = 1
             {FOR_UPDATE}
         ), tips AS MATERIALIZED (
             SELECT oid FROM refs WHERE project = ${project} UNION SELECT oid FROM remote_refs WHERE project = ${project}
         ), there AS MATERIALIZED (
             SELECT count(*) AS count FROM {}
             JOIN workspaces w ON w.project = ${project} AND w.branch = ${branch} AND w.user_id = ${user}
             JOIN pending p ON p.workspace = w.id AND p.path = r.path
         ), sound AS MATERIALIZED (
             SELECT h.epoch FROM held h
             WHERE (${base} IS NULL OR EXISTS (SELECT 1 FROM tips t WHERE t.oid = ${base}))
                   AND (${taken} = 0 OR (SELECT w.revision FROM workspace w) = (SELECT s.revision FROM seen s))
                   AND (SELECT count FROM there) = ${taken}
         ), named AS (
             INSERT INTO s3_keys (s3_key, state, op_id) SELECT ${name}, 'reserved', ${op} FROM sound
             ON CONFLICT DO NOTHING RETURNING key_id
         ), opened AS (
             INSERT INTO ops (op_id, project, kind, epoch, state, roots, heartbeat_at)
             SELECT ${op}, ${project}, ${kind}, s.epoch, 'open',
                    coalesce((SELECT string_agg(t.oid, ''::bytea) FROM tips t), ''::bytea), ${now}
             FROM sound s WHERE (SELECT count(*) FROM named) = 1 RETURNING 1
         ), saved AS (
             INSERT INTO attempts ({ATTEMPT}) SELECT {} WHERE (SELECT count(*) FROM opened) = 1
             ON CONFLICT (id) DO NOTHING
         )
         SELECT key_id FROM named",
        rows(paths, PATH),
        attempts::parameters(),
    )
}

/// As `Commits::prepare_commit`: a single statement, a transaction of its own, where there is nothing to say against it.
pub(super) async fn prepare_at_once(
    db: &Db,
    attempt: &Attempt,
    op: Uuid,
    name: &str,
    now_ms: i64,
) -> Result<Prepared, Fault> {
    let taken: Vec<&BString> =
        attempt.snapshot.iter().filter(|row| row.revision.is_some()).map(|row| &row.path).collect();
    let user = attempt.user.filter(|_| !taken.is_empty());
    let taken = if user.is_some() { taken } else { Vec::new() };
    if taken.len() <= CHUNK_ROWS {
        let mut values = attempts::values(attempt)?;
        values.add(op).map_err(sqlx::Error::Encode)?;
        values.add(ledger::kind_name(OpKind::Commit)).map_err(sqlx::Error::Encode)?;
        values.add(now_ms).map_err(sqlx::Error::Encode)?;
        values.add(name).map_err(sqlx::Error::Encode)?;
        values.add(user).map_err(sqlx::Error::Encode)?;
        values.add(codec::signed(taken.len() as u64)?).map_err(sqlx::Error::Encode)?;
        let values = with_rows(values, Rows::new().blobs(taken))?;
        let key: Option<KeyId> =
            sqlx::query_scalar_with(sql!("{}", prepare_sql()), values).fetch_optional(db.writer()).await?;
        if let Some(key) = key {
            return Ok(Prepared::Ready(key));
        }
    }
    prepare_in_turn(db, attempt, op, name, now_ms).await
}

/// As `Commits::land_commit`, in five round trips where the commit is a usual one and its edits are as it took them.
pub(super) async fn land_at_once(db: &Db, store: &StoreCommit, publish: &Publish) -> Result<PublishOutcome, Fault> {
    if let Some(landing) = Landing::of(store, publish)
        && let Some(outcome) = landing.land(db).await?
    {
        return Ok(outcome);
    }
    land_in_turn(db, store, publish).await
}

/// A commit that moves a branch from one commit to another, and is small enough for one statement.
struct Landing<'a> {
    store: &'a StoreCommit,
    publish: &'a Publish,
    moved: Move<'a>,
    change: &'a AttemptChange,
    /// Each object once.
    objects: Vec<&'a NewObject>,
    /// The pending rows that it took.
    cleared: &'a [ClearedRow],
}

/// What a landing holds: nobody else moves it before the transaction ends.
#[derive(sqlx::FromRow)]
struct Held {
    oid: Option<Vec<u8>>,
    bitmap: Option<Vec<u8>>,
    workspace: Option<i64>,
    revision: Option<i64>,
}

/// Ref and reach, which the project's lock keeps as they are, and the workspace, locked.
const HOLD_TO_LAND: &str = "WITH workspace AS MATERIALIZED (
        SELECT id, revision FROM workspaces WHERE project = $1 AND branch = $3 AND user_id = $4 FOR UPDATE
    )
    SELECT (SELECT oid FROM refs WHERE project = $1 AND name = $2) AS oid,
           (SELECT bitmap FROM reach WHERE project = $1) AS bitmap,
           (SELECT id FROM workspace) AS workspace, (SELECT revision FROM workspace) AS revision";

/// W4 under the project's lock, with the operation closed as W5 does: nothing is written unless each of these finds what it must.
fn record_sql() -> String {
    let trees = 4 + enter::COLUMNS.len();
    let commit = trees + graph::TREE.len();
    let parents = commit + graph::COMMIT.len();
    format!(
        "WITH home AS MATERIALIZED (
             SELECT id FROM projects WHERE id = $1 {FOR_NO_KEY_UPDATE}
         ), held AS MATERIALIZED (
             SELECT horizon FROM gc_state WHERE id = 1 AND (SELECT count(*) FROM home) = 1 {FOR_SHARE}
         ), closed AS (
             UPDATE ops SET state = 'done' FROM held
             WHERE ops.op_id = $2 AND ops.state = 'open' AND ops.epoch >= held.horizon
                   AND (ops.project IS NULL OR ops.project = $1)
             RETURNING ops.epoch
         ), taken AS (
             UPDATE s3_keys SET state = 'present', kept = 1 FROM closed
             WHERE s3_keys.key_id = $3 AND s3_keys.state = 'reserved' AND s3_keys.op_id = $2
             RETURNING closed.epoch
         ), numbered AS MATERIALIZED (
             SELECT t.epoch, nextval('object_blocks') * {BLOCK} AS block FROM taken t
         ), placed AS (
             INSERT INTO objects (number, oid, type, size, sha256, state, seen_epoch, key_id, off, len, base_off)
             SELECT n.block + r.number, r.oid, r.kind, r.size, r.sha256, 'L', n.epoch, $3, r.off, r.len, r.base_off
             FROM {} CROSS JOIN numbered n ORDER BY r.oid {}
         ), kept AS (
             {} RETURNING 1
         ), made AS (
             {} RETURNING 1
         ), descended AS (
             {} RETURNING 1
         )
         SELECT oid, number, kind, size, sha256, key_id FROM placed",
        rows(4, enter::COLUMNS),
        enter::or_revived(),
        graph::trees_sql(trees, "(SELECT count(*) FROM placed) > 0"),
        graph::commits_sql(commit, "(SELECT count(*) FROM placed) > 0 AND (SELECT count(*) FROM kept) >= 0"),
        graph::parents_sql(parents, "(SELECT count(*) FROM placed) > 0 AND (SELECT count(*) FROM made) >= 0"),
    )
}

/// The writes that come before the row of `feeds` is locked.
const WRITTEN: &str = "(SELECT count(*) FROM swapped) + (SELECT count(*) FROM noted) + (SELECT count(*) FROM grown)
     + (SELECT count(*) FROM moves) + (SELECT count(*) FROM history) + (SELECT count(*) FROM moved)
     + (SELECT count(*) FROM changed) + (SELECT count(*) FROM answered) >= 0";

/// All that moves with the ref. Where the feed ends then, how many pending rows went, and how many attempts were moved on.
fn publish_sql() -> String {
    let told = 17 + settle::COLUMNS.len();
    format!(
        "WITH swapped AS (
             UPDATE refs SET oid = $4, expires_at = lifetime + $5 WHERE project = $1 AND name = $2 RETURNING 1
         ), noted AS (
             INSERT INTO reflog (project, reason, at, name, old, new) VALUES ($1, $6, $5, $2, $3, $4) RETURNING 1
         ), grown AS (
             INSERT INTO reach (project, bitmap) VALUES ($1, $7)
             ON CONFLICT (project) DO UPDATE SET bitmap = excluded.bitmap RETURNING 1
         ), moves AS (
             UPDATE projects SET ref_moves = ref_moves + 1 WHERE id = $1 RETURNING 1
         ), removed AS (
             DELETE FROM pending
             WHERE workspace = $8 AND (path, revision) IN (SELECT r.path, r.revision FROM {}) RETURNING *
         ), history AS (
             INSERT INTO pending_history (workspace, replaced_at, {}) SELECT d.workspace, $5, {} FROM removed d
             ON CONFLICT DO NOTHING RETURNING 1
         ), moved AS (
             UPDATE workspaces SET revision = $9 WHERE id = $8 AND revision <> $9 RETURNING 1
         ), changed AS (
             UPDATE attempts SET state = $12, last_error = $13, in_doubt = 0, fence = fence + 1, updated_at = $5
             WHERE id = $10 AND fence = $11 RETURNING 1
         ), answered AS (
             UPDATE requests SET answer = $15 WHERE project = $1 AND key = $14 AND answer IS NULL RETURNING 1
         ), told AS MATERIALIZED (SELECT * FROM {}), charged AS (SELECT $1 AS project, $16 AS bytes), {}
         SELECT project, last, (SELECT count(*) FROM removed), (SELECT count(*) FROM changed) FROM counted",
        rows(17, settle::COLUMNS),
        names(),
        names_of("d"),
        rows(told, EVENT),
        told_sql(WRITTEN),
    )
}

impl<'a> Landing<'a> {
    /// `None`: it is no usual one.
    fn of(store: &'a StoreCommit, publish: &'a Publish) -> Option<Self> {
        let [update] = &publish.refs[..] else { return None };
        let change = publish.attempt.as_ref()?;
        // What a pack must not hold is told by who goes step by step.
        let objects = register::distinct(&store.objects).ok()?;
        let block = usize::try_from(BLOCK).unwrap_or_default();
        let bytes = store.trees.iter().map(|(_, raw)| raw.len()).sum::<usize>() + store.commit.raw.len();
        let cleared = publish.clear_pending.as_ref().map(|clear| &clear.rows[..]).unwrap_or_default();
        let landed = publish.clear_pending.as_ref().is_some_and(|clear| clear.cause == ClearCause::Landed);
        let moves = update.expected.is_some() && update.new.is_some() && update.expected != update.new;
        let small = (1..=block).contains(&objects.len()) && bytes <= CHUNK_BYTES && cleared.len() + 2 <= CHUNK_ROWS;
        let whole = store.objects.iter().all(|object| object.base.is_none());
        let plain = publish.guard.is_none()
            && publish.idle.is_none()
            && publish.lifetimes.is_empty()
            && publish.remote_refs.is_empty()
            && publish.shallow.is_none()
            && !publish.replace_reach
            // Of this step the feed is told nothing.
            && change.to == AttemptState::CommittedLocal
            && change.waits.is_none()
            && !change.in_doubt;
        let moved = Move { name: &update.name, old: update.expected, new: update.new };
        let usual = moves && small && whole && plain && !landed;
        usual.then_some(Self { store, publish, moved, change, objects, cleared })
    }

    /// `None`: something is not as usual; nothing was written.
    async fn land(&self, db: &Db) -> Result<Option<PublishOutcome>, Fault> {
        let mut tx = db.begin().await?;
        let Some(registered) = self.record(&mut tx).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        let held = self.hold(&mut tx).await?;
        let actual = held.oid.as_deref().map(codec::oid).transpose()?;
        if actual != self.moved.old {
            return Ok(Some(PublishOutcome::Moved(self.moved.name.to_owned(), actual)));
        }
        let Some(recorded) = self.publish(&mut tx, &registered, held).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        tx.commit().await?;
        db.tell(&recorded);
        Ok(Some(PublishOutcome::Published))
    }

    /// `None`: the project or the operation is gone, or the key was registered before.
    async fn record(&self, tx: &mut Transaction) -> Result<Option<Registered>, Fault> {
        let (store, project) = (self.store, self.publish.project);
        let mut trees: Vec<&(ObjectId, bytes::Bytes)> = store.trees.iter().collect();
        trees.sort_unstable_by_key(|(oid, _)| *oid);
        trees.dedup_by_key(|(oid, _)| *oid);
        let placed: Vec<(&NewObject, i64)> = self.objects.iter().copied().zip(0..).collect();
        let mut values = arguments![project, store.op, store.key];
        for part in [
            enter::object_values(&placed)?,
            graph::tree_values(&trees),
            graph::commit_values(&[&store.commit])?,
            graph::parent_values(&graph::edges_of(&store.commit)),
        ] {
            values = with_rows(values, part)?;
        }
        let known: Vec<register::Known> =
            sqlx::query_as_with(sql!("{}", record_sql()), values).fetch_all(&mut **tx).await?;
        if known.is_empty() {
            return Ok(None);
        }
        let mut found = register::Found::with_capacity(self.objects.len());
        let entered = register::beside(self.objects.iter().copied(), known)?;
        register::take_chunk(&mut found, store.key, self.objects.iter().copied(), entered)?;
        if !found.values().any(|row| row.new) {
            register::doom_unused(tx, store.key, store.now_ms).await?;
        }
        let rows = register::answers(&store.objects, &found)?;
        Ok(Some(registered_of(&rows, &store.objects)?))
    }

    async fn hold(&self, tx: &mut Transaction) -> Result<Held, Fault> {
        let clear = self.publish.clear_pending.as_ref().filter(|_| !self.cleared.is_empty());
        let held = sqlx::query_as::<Database, Held>(HOLD_TO_LAND)
            .bind(self.publish.project)
            .bind(self.moved.name)
            .bind(clear.map(|clear| clear.branch.as_str()))
            .bind(clear.map(|clear| clear.user))
            .fetch_one(&mut **tx)
            .await?;
        Ok(held)
    }

    /// Where the feed ends then; `None`: some of the rows have changed since they were taken.
    async fn publish(
        &self,
        tx: &mut Transaction,
        registered: &Registered,
        held: Held,
    ) -> Result<Option<Recorded>, Fault> {
        let (publish, change, project) = (self.publish, self.change, self.publish.project);
        let had = held.bitmap.as_deref().map(codec::bitmap).transpose()?.unwrap_or_default();
        let reach = &(&publish.reached | &registered.numbers) | &had;
        let come = &reach - &had - &registered.new;
        let grown = registered.new_bytes + usage::sum_sizes(tx, &come).await?;
        // Without a workspace there is nothing left to go.
        let cleared = if held.workspace.is_some() { self.cleared } else { &[] };
        let before = held.revision.unwrap_or(0);
        let after = before + codec::signed(cleared.len() as u64)?;
        let events = self.told(cleared, before);
        let mut values = arguments![
            project,
            self.moved.name,
            self.moved.old.map(|oid| oid.as_slice().to_vec()),
            self.moved.new.map(|oid| oid.as_slice().to_vec()),
            publish.now_ms,
            publish.reason,
            codec::bitmap_bytes(reach)?,
            held.workspace,
            after,
            change.id,
            change.fence,
            codec::state_name(change.to),
            &change.last_error,
            publish.answer.as_ref().map(|answer| answer.key.as_str()),
            publish.answer.as_ref().map(|answer| answer.body.as_str()),
            grown,
        ];
        values = with_rows(values, settle::taken_values(cleared))?;
        values = with_rows(values, event_values(&events, places(&events)))?;
        let (of, last, removed, changed): (Uuid, i64, i64, i64) =
            sqlx::query_as_with(sql!("{}", publish_sql()), values).fetch_one(&mut **tx).await?;
        if usize::try_from(removed) != Ok(cleared.len()) {
            return Ok(None);
        }
        if changed != 1 {
            return Err(CatalogError::OpLost.into());
        }
        Ok(Some(vec![(of, last)]))
    }

    /// What the feed is told if all rows go; `revision` is the workspace's before. What is not pushed tells nothing of its attempt.
    fn told(&self, cleared: &[ClearedRow], revision: i64) -> Vec<NewEvent> {
        let mut events = told_of_moves(self.publish, std::slice::from_ref(&self.moved));
        if let Some(clear) = &self.publish.clear_pending {
            let rows = cleared.iter().zip(revision + 1..);
            events.extend(rows.map(|(row, revision)| NewEvent {
                project: self.publish.project,
                at_ms: self.publish.now_ms,
                told: settle::committed(clear, row.path.clone(), row.oid, revision),
            }));
        }
        events
    }
}
