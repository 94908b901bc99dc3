//! The transactions of a commit.

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::attempts::Attempt;
use crate::codec;
use crate::commits::{Commits, Prepared, StoreCommit, StoredCommit};
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::ledger::{NewObject, OpKind, Registered};
use crate::refs::{Publish, PublishOutcome};

/// As [`Commits::prepare_commit`], a statement for each part.
pub(super) async fn prepare_in_turn(
    db: &Db,
    attempt: &Attempt,
    op: Uuid,
    name: &str,
    now_ms: i64,
) -> Result<Prepared, Fault> {
    let mut tx = db.begin().await?;
    let (_, tips) = ledger::open_op(&mut tx, op, Some(attempt.project), OpKind::Commit, now_ms).await?;
    if let Some(base) = attempt.base
        && !tips.iter().any(|tip| tip == base.as_slice())
        && !reached(&mut tx, attempt.project, base).await?
    {
        return Ok(Prepared::Moved);
    }
    let Some(key) = ledger::reserve_in(&mut tx, op, &[name]).await?.remove(name) else {
        return Ok(Prepared::NameTaken);
    };
    if !settle::all_there(&mut tx, attempt).await? {
        return Ok(Prepared::Undone);
    }
    attempts::insert(&mut *tx, attempt).await?;
    tx.commit().await?;
    Ok(Prepared::Ready(key))
}

/// As [`Commits::land_commit`], a statement for each part. Locks are taken in the order of a publication.
pub(super) async fn land_in_turn(db: &Db, store: &StoreCommit, publish: &Publish) -> Result<PublishOutcome, Fault> {
    let project = publish.project;
    let mut tx = db.begin().await?;
    if !publish::still_holds(&mut tx, publish).await? {
        return Ok(PublishOutcome::Overtaken);
    }
    // The one key that the operation reserved becomes present here, so that none is left to go.
    let epoch = publish::close_op(&mut tx, store.op, project).await?;
    let rows = record(&mut tx, store, epoch).await?;
    let registered = registered_of(&rows, &store.objects)?;
    match publish::move_all(&mut tx, publish, &registered).await? {
        Ok(recorded) => {
            tx.commit().await?;
            db.tell(&recorded);
            Ok(PublishOutcome::Published)
        }
        Err(outcome) => Ok(outcome),
    }
}

/// What a publication counts of objects that it has registered; `rows` are in their order.
pub(super) fn registered_of(rows: &[Registered], objects: &[NewObject]) -> Result<publish::Registered, Fault> {
    let mut registered = publish::Registered::default();
    for (row, object) in rows.iter().zip(objects) {
        registered.numbers.insert(row.number);
        if row.new && registered.new.insert(row.number) {
            registered.new_bytes += codec::signed(object.size)?;
        }
    }
    Ok(registered)
}

impl Db {
    async fn store_once(&self, store: &StoreCommit) -> Result<Option<StoredCommit>, Fault> {
        let mut tx = self.begin().await?;
        // A stored attempt keeps its commit alive, as a ref does: what a publication is held to holds here.
        let epoch = publish::check_horizon(&mut tx, store.op).await?;
        let registered = record(&mut tx, store, epoch).await?;
        let Some(changed) = attempts::change(&mut *tx, &store.attempt, store.now_ms).await? else { return Ok(None) };
        tx.commit().await?;
        let numbers = registered.into_iter().map(|registered| registered.number).collect();
        Ok(Some(StoredCommit { numbers, fence: changed.fence }))
    }
}

/// W4, with what the graph knows of the commit.
async fn record(tx: &mut Transaction, store: &StoreCommit, epoch: i64) -> Result<Vec<Registered>, Fault> {
    let op = (store.op, epoch);
    let registered = register::register_in(tx, op, store.key, &store.objects, store.now_ms).await?;
    graph::put_trees_in(tx, &store.trees).await?;
    graph::put_commits_in(tx, std::slice::from_ref(&store.commit)).await?;
    Ok(registered)
}

/// Whether the project's refs reach an object, as things are in this transaction.
async fn reached(tx: &mut Transaction, project: Uuid, oid: ObjectId) -> Result<bool, Fault> {
    let found: Option<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT r.bitmap, o.number FROM reach r JOIN objects o ON o.oid = $2 WHERE r.project = $1")
            .bind(project)
            .bind(oid.as_slice())
            .fetch_optional(&mut **tx)
            .await?;
    let Some((bitmap, number)) = found else { return Ok(false) };
    Ok(codec::bitmap(&bitmap)?.contains(codec::unsigned(number)?))
}

#[async_trait]
impl Commits for Db {
    async fn prepare_commit(
        &self,
        attempt: &Attempt,
        op: Uuid,
        name: &str,
        now_ms: i64,
    ) -> Result<Prepared, CatalogError> {
        run!("prepare a commit", prepare(self, attempt, op, name, now_ms))
    }

    async fn store_commit(&self, store: &StoreCommit) -> Result<Option<StoredCommit>, CatalogError> {
        run!("record a commit", self.store_once(store))
    }

    async fn land_commit(&self, store: &StoreCommit, publish: &Publish) -> Result<PublishOutcome, CatalogError> {
        run!("land a commit", land(self, store, publish))
    }
}
