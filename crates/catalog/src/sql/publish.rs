//! W5: the one transaction that moves refs and everything that must move with them.

use std::collections::HashMap;

use roaring::RoaringTreemap;
use treehold_object::ObjectId;
use treehold_object::refname::Taken;
use uuid::Uuid;

use super::refs::{
    NAMED, Named, count_moves, count_refs, lock_project, lock_project_and_work, named_values, read_state, remove_named,
    worked_on, write_remote_refs,
};
use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::Fault;
use crate::feed::{NewEvent, Told};
use crate::refs::{Guard, Publish, PublishOutcome, RefState};
use crate::rows::{Rows, Type, arguments, sql};

/// A ref that really changes.
pub(super) struct Move<'a> {
    pub(super) name: &'a str,
    pub(super) old: Option<ObjectId>,
    pub(super) new: Option<ObjectId>,
}

impl Db {
    /// Locks are taken in this order everywhere: project, gc_state, op, bucket keys, objects, workspace, attempt, feed.
    pub(super) async fn publish_once(&self, publish: &Publish) -> Result<PublishOutcome, Fault> {
        let project = publish.project;
        let mut tx = self.begin().await?;
        if !still_holds(&mut tx, publish).await? {
            return Ok(PublishOutcome::Overtaken);
        }
        close_op(&mut tx, publish.op, project).await?;
        ledger::doom_reserved(&mut tx, publish.op).await?;
        match move_all(&mut tx, publish, &Registered::default()).await? {
            Ok(recorded) => {
                tx.commit().await?;
                self.tell(&recorded);
                Ok(PublishOutcome::Published)
            }
            Err(outcome) => Ok(outcome),
        }
    }
}

/// Locks the project, and says whether what the publication rests on is still so; it is until the transaction ends.
pub(super) async fn still_holds(tx: &mut Transaction, publish: &Publish) -> Result<bool, Fault> {
    let project = publish.project;
    match &publish.idle {
        Some(_) => lock_project_and_work(tx, project).await?,
        None => lock_project(tx, project).await?,
    }
    if let Some(guard) = publish.guard
        && !holds(guard, read_state(&mut **tx, project).await?)
    {
        return Ok(false);
    }
    match &publish.idle {
        Some(branch) => Ok(!is_worked_on(tx, project, branch).await?),
        None => Ok(true),
    }
}

/// What the transaction at hand registered for the project.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// Ledger numbers of all of it.
    pub(super) numbers: RoaringTreemap,
    /// Those that nobody had before.
    pub(super) new: RoaringTreemap,
    /// The sizes of these, so that nobody has to look for them.
    pub(super) new_bytes: i64,
}

/// Refs and all that moves with them; the project is locked and the operation closed. Where the feeds end then, or what is not as expected.
pub(super) async fn move_all(
    tx: &mut Transaction,
    publish: &Publish,
    registered: &Registered,
) -> Result<Result<feed::Recorded, PublishOutcome>, Fault> {
    let project = publish.project;
    let moves = match compare(tx, publish).await? {
        Ok(moves) => moves,
        Err(outcome) => return Ok(Err(outcome)),
    };
    check_names(tx, project, &moves).await?;
    check_room(tx, publish, &moves).await?;
    swap(tx, project, &moves, publish.now_ms).await?;
    set_lifetimes(tx, publish).await?;
    write_reflog(tx, publish, &moves).await?;
    write_remote_refs(tx, project, &publish.remote_refs).await?;
    let grown = write_reach(tx, publish, registered).await?;
    // A branch that is to end, or not to end any more, is not what it was for who works out its deletion.
    let moved = !(moves.is_empty() && publish.remote_refs.is_empty() && publish.lifetimes.is_empty());
    count_moves(tx, project, moved, publish.replace_reach).await?;
    if let Some(shallow) = &publish.shallow {
        write_shallow(tx, project, shallow).await?;
    }
    let mut events = told_of_moves(publish, &moves);
    if let Some(clear) = &publish.clear_pending {
        events.extend(settle::settle(tx, project, clear, publish.now_ms).await?);
    }
    if let Some(change) = &publish.attempt {
        let changed = attempts::change(&mut **tx, change, publish.now_ms).await?.ok_or(CatalogError::OpLost)?;
        events.extend(changed.told(change, publish.now_ms)?);
    }
    if let Some(answer) = &publish.answer {
        attempts::remember(&mut **tx, project, answer).await?;
    }
    Ok(Ok(feed::record(tx, &events, [(project, grown)].into()).await?))
}

/// What the feed is told: each move, and once more what a branch took over from the remote.
pub(super) fn told_of_moves(publish: &Publish, moves: &[Move<'_>]) -> Vec<NewEvent> {
    let event = |told| NewEvent { project: publish.project, at_ms: publish.now_ms, told };
    let moved = moves.iter().map(|moved| Told::Ref {
        name: moved.name.to_owned(),
        from: moved.old,
        to: moved.new,
        reason: publish.reason.to_owned(),
    });
    let from_remote = matches!(publish.reason, "sync" | "merge");
    let synced = moves.iter().filter(|_| from_remote).filter_map(|moved| {
        let branch = moved.name.strip_prefix("refs/heads/")?.to_owned();
        Some(Told::Sync { branch, from: moved.old, to: moved.new })
    });
    moved.chain(synced).map(event).collect()
}

/// Whether somebody has pending work on a branch.
async fn is_worked_on(tx: &mut Transaction, project: Uuid, branch: &str) -> Result<bool, Fault> {
    let found: Option<i64> = sqlx::query_scalar(sql!("SELECT CAST(1 AS BIGINT) WHERE {}", worked_on("$1", "$2")))
        .bind(project)
        .bind(branch)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

fn holds(guard: Guard, now: RefState) -> bool {
    match guard {
        Guard::Kept(seen) => seen.shrinks == now.shrinks,
        Guard::Unmoved(seen) => seen == now,
    }
}

/// Refuses an operation that the collector has overtaken; the horizon stays where it is until the transaction ends. The operation's
/// epoch: it stays open as long.
pub(super) async fn check_horizon(tx: &mut Transaction, op: Uuid) -> Result<i64, Fault> {
    let horizon: i64 =
        sqlx::query_scalar(sql!("SELECT horizon FROM gc_state WHERE id = 1 {FOR_SHARE}")).fetch_one(&mut **tx).await?;
    let epoch = ledger::lock_open_op(tx, op).await?;
    if epoch < horizon { Err(CatalogError::OpLost.into()) } else { Ok(epoch) }
}

/// The horizon cannot move while this transaction holds its row, and an op that the collector has overtaken is refused. Its epoch.
pub(super) async fn close_op(tx: &mut Transaction, op: Uuid, project: Uuid) -> Result<i64, Fault> {
    let close = sql!(
        // Whoever waits for the row is shown it as it is then.
        "WITH held AS (SELECT horizon FROM gc_state WHERE id = 1 {FOR_SHARE})
         UPDATE ops SET state = 'done' FROM held
         WHERE op_id = $1 AND state = 'open' AND epoch >= held.horizon AND (project IS NULL OR project = $2)
         RETURNING epoch"
    );
    let closed: Option<i64> = sqlx::query_scalar(close).bind(op).bind(project).fetch_optional(&mut **tx).await?;
    closed.ok_or_else(|| CatalogError::OpLost.into())
}

/// Refs by name.
type Targets = HashMap<String, ObjectId>;

/// The refs that a publication looks at, ours and the remote's, in one statement.
async fn read_targets(tx: &mut Transaction, publish: &Publish) -> Result<(Targets, Targets), Fault> {
    let (mut ours, mut theirs) = (Targets::new(), Targets::new());
    let (mut updates, mut seen) = (publish.refs.chunks(CHUNK_ROWS), publish.remote_seen.chunks(CHUNK_ROWS));
    loop {
        let (updates, seen) = (updates.next(), seen.next());
        if updates.is_none() && seen.is_none() {
            return Ok((ours, theirs));
        }
        let rows: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(sql!(
            "SELECT CAST(0 AS BIGINT) AS remote, name, oid FROM refs WHERE project = $1 AND name {}
             UNION ALL SELECT CAST(1 AS BIGINT) AS remote, name, oid FROM remote_refs WHERE project = $1 AND name {}",
            in_texts(2),
            in_texts(3)
        ))
        .bind(publish.project)
        .bind(texts(updates.unwrap_or_default().iter().map(|update| update.name.as_str())))
        .bind(texts(seen.unwrap_or_default().iter().map(|(name, _)| name.as_str())))
        .fetch_all(&mut **tx)
        .await?;
        for (remote, name, oid) in rows {
            let targets = if remote == 0 { &mut ours } else { &mut theirs };
            targets.insert(name, codec::oid(&oid)?);
        }
    }
}

/// Whether the remote was seen elsewhere since it was asked for what is to be recorded.
fn is_outdated(publish: &Publish, theirs: &Targets) -> bool {
    let news: HashMap<&str, Option<ObjectId>> =
        publish.remote_refs.iter().map(|(name, oid)| (name.as_str(), *oid)).collect();
    publish.remote_seen.iter().any(|(name, seen)| {
        let known = theirs.get(name).copied();
        known != *seen && news.get(name.as_str()) != Some(&known)
    })
}

/// What would move, or why nothing does. The project's lock keeps the answer true.
async fn compare<'a>(
    tx: &mut Transaction,
    publish: &'a Publish,
) -> Result<Result<Vec<Move<'a>>, PublishOutcome>, Fault> {
    let (mut now, theirs) = read_targets(tx, publish).await?;
    if is_outdated(publish, &theirs) {
        return Ok(Err(PublishOutcome::Overtaken));
    }
    let mut moves: Vec<Move<'a>> = Vec::with_capacity(publish.refs.len());
    for update in &publish.refs {
        let actual = now.get(&update.name).copied();
        if actual != update.expected {
            return Ok(Err(PublishOutcome::Moved(update.name.clone(), actual)));
        }
        match update.new {
            Some(new) => now.insert(update.name.clone(), new),
            None => now.remove(&update.name),
        };
        if actual != update.new {
            moves.push(Move { name: &update.name, old: actual, new: update.new });
        }
    }
    Ok(Ok(moves))
}

/// Refuses to make a ref that cannot be beside another one which the project has then, as git keeps refs in files. Whoever makes a ref comes by
/// here, and the project's lock keeps the answer true. Refs that are there already are not judged.
async fn check_names(tx: &mut Transaction, project: Uuid, moves: &[Move<'_>]) -> Result<(), Fault> {
    if !moves.iter().any(|moved| moved.old.is_none()) {
        return Ok(());
    }
    let there: Vec<String> = sqlx::query_scalar("SELECT name FROM refs WHERE project = $1 ORDER BY name")
        .bind(project)
        .fetch_all(&mut **tx)
        .await?;
    let last: HashMap<&str, Option<ObjectId>> = moves.iter().map(|moved| (moved.name, moved.new)).collect();
    let is_there = |name: &str| there.binary_search_by(|found| found.as_bytes().cmp(name.as_bytes())).is_ok();
    let mut new: Vec<&str> = last.iter().filter(|(_, oid)| oid.is_some()).map(|(name, _)| *name).collect();
    new.retain(|name| !is_there(name));
    new.sort_unstable();
    let conflict = |name: String, existing: String| Fault::from(CatalogError::RefConflict { name, existing });
    let mut made = Taken::default();
    for name in new {
        if let Some(clash) = made.conflict(name.as_bytes()) {
            return Err(conflict(name.to_owned(), clash.existing().to_string()));
        }
        made.insert(name.as_bytes());
    }
    // Mostly one is made, beside many.
    for name in there.into_iter().filter(|name| last.get(name.as_str()) != Some(&None)) {
        if let Some(clash) = made.conflict(name.as_bytes()) {
            return Err(conflict(clash.existing().to_string(), name));
        }
    }
    Ok(())
}

/// Refuses to let a project grow beyond the refs that it may have. The project's lock keeps the count true.
async fn check_room(tx: &mut Transaction, publish: &Publish, moves: &[Move<'_>]) -> Result<(), Fault> {
    let made = moves.iter().filter(|moved| moved.old.is_none()).count();
    let gone = moves.iter().filter(|moved| moved.new.is_none()).count();
    if made <= gone {
        return Ok(());
    }
    let after = count_refs(&mut **tx, publish.project).await?.saturating_add((made - gone) as u64);
    if after > publish.refs_max as u64 {
        return Err(CatalogError::TooManyRefs { limit: publish.refs_max }.into());
    }
    Ok(())
}

async fn swap(tx: &mut Transaction, project: Uuid, moves: &[Move<'_>], now_ms: i64) -> Result<(), Fault> {
    // Of several updates of one name the last one counts; the comparison went through all of them.
    let Named { set, gone } = Named::last(moves.iter().map(|moved| (moved.name, moved.new)));
    for chunk in set.chunks(CHUNK_ROWS) {
        let upsert = sql!(
            "INSERT INTO refs (project, name, oid) SELECT $1, r.name, r.oid FROM {} WHERE true
             ON CONFLICT (project, name) DO UPDATE SET oid = excluded.oid, expires_at = refs.lifetime + $2",
            rows(3, NAMED)
        );
        let arguments = with_rows(arguments![project, now_ms], named_values(chunk))?;
        sqlx::query_with(upsert, arguments).execute(&mut **tx).await?;
    }
    remove_named(tx, sql!("DELETE FROM refs WHERE project = $1 AND name {}", in_texts(2)), project, &gone).await
}

/// Which branches are ephemeral from now on, or are no more.
async fn set_lifetimes(tx: &mut Transaction, publish: &Publish) -> Result<(), Fault> {
    for (name, lifetime_ms) in &publish.lifetimes {
        sqlx::query("UPDATE refs SET lifetime = $3, expires_at = $4 WHERE project = $1 AND name = $2")
            .bind(publish.project)
            .bind(name)
            .bind(*lifetime_ms)
            .bind(lifetime_ms.map(|lifetime_ms| publish.now_ms.saturating_add(lifetime_ms)))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

async fn write_reflog(tx: &mut Transaction, publish: &Publish, moves: &[Move<'_>]) -> Result<(), Fault> {
    for chunk in moves.chunks(CHUNK_ROWS) {
        let bytes = |oid: &Option<ObjectId>| oid.map(|oid| oid.as_slice().to_vec());
        let entries = Rows::new()
            .texts(chunk.iter().map(|moved| moved.name))
            .blobs_or_null(chunk.iter().map(|moved| bytes(&moved.old)))
            .blobs_or_null(chunk.iter().map(|moved| bytes(&moved.new)));
        let insert = sql!(
            "INSERT INTO reflog (project, reason, at, name, old, new)
             SELECT $1, $2, $3, r.name, r.old_oid, r.new_oid FROM {}",
            rows(4, &[("name", Type::Text), ("old_oid", Type::Blob), ("new_oid", Type::Blob)])
        );
        let arguments = with_rows(arguments![publish.project, publish.reason, publish.now_ms], entries)?;
        sqlx::query_with(insert, arguments).execute(&mut **tx).await?;
    }
    Ok(())
}

/// What the project reaches more now, or less, logical bytes.
async fn write_reach(tx: &mut Transaction, publish: &Publish, registered: &Registered) -> Result<i64, Fault> {
    let mut reach = &publish.reached | &registered.numbers;
    if reach.is_empty() && !publish.replace_reach {
        return Ok(0);
    }
    let before: Option<Vec<u8>> = sqlx::query_scalar("SELECT bitmap FROM reach WHERE project = $1")
        .bind(publish.project)
        .fetch_optional(&mut **tx)
        .await?;
    let had = before.as_deref().map(codec::bitmap).transpose()?.unwrap_or_default();
    if !publish.replace_reach {
        reach |= &had;
    }
    let (come, gone) = (&reach - &had - &registered.new, &had - &reach);
    let bytes = codec::bitmap_bytes(reach)?;
    if before.as_ref() == Some(&bytes) {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO reach (project, bitmap) VALUES ($1, $2)
         ON CONFLICT (project) DO UPDATE SET bitmap = excluded.bitmap",
    )
    .bind(publish.project)
    .bind(bytes)
    .execute(&mut **tx)
    .await?;
    Ok(registered.new_bytes + usage::sum_sizes(tx, &come).await? - usage::sum_sizes(tx, &gone).await?)
}

async fn write_shallow(tx: &mut Transaction, project: Uuid, shallow: &[ObjectId]) -> Result<(), Fault> {
    sqlx::query("DELETE FROM shallow WHERE project = $1").bind(project).execute(&mut **tx).await?;
    for chunk in shallow.chunks(CHUNK_ROWS) {
        let insert = sql!(
            "INSERT INTO shallow (project, oid) SELECT $1, r.oid FROM {} WHERE true ON CONFLICT DO NOTHING",
            rows(2, &[("oid", Type::Blob)])
        );
        let commits = Rows::new().blobs(chunk.iter().map(ObjectId::as_slice));
        sqlx::query_with(insert, with_rows(arguments![project], commits)?).execute(&mut **tx).await?;
    }
    Ok(())
}
