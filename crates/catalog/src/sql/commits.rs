//! The transactions of a commit before its refs move.

use async_trait::async_trait;
use treehold_object::ObjectId;
use uuid::Uuid;

use super::*;
use crate::attempts::Attempt;
use crate::codec;
use crate::commits::{Commits, Prepared, StoreCommit, StoredCommit};
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::ledger::OpKind;

impl Db {
    async fn prepare_once(&self, attempt: &Attempt, op: Uuid, name: &str, now_ms: i64) -> Result<Prepared, Fault> {
        let mut tx = self.begin().await?;
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

    async fn store_once(&self, store: &StoreCommit) -> Result<Option<StoredCommit>, Fault> {
        let mut tx = self.begin().await?;
        // A stored attempt keeps its commit alive, as a ref does: what a publication is held to holds here.
        publish::check_horizon(&mut tx, store.op).await?;
        let registered = register::register_in(&mut tx, store.op, store.key, &store.objects, store.now_ms).await?;
        graph::put_trees_in(&mut tx, &store.trees).await?;
        graph::put_commits_in(&mut tx, std::slice::from_ref(&store.commit)).await?;
        let Some(changed) = attempts::change(&mut *tx, &store.attempt, store.now_ms).await? else { return Ok(None) };
        tx.commit().await?;
        let numbers = registered.into_iter().map(|registered| registered.number).collect();
        Ok(Some(StoredCommit { numbers, fence: changed.fence }))
    }
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
        run!("prepare a commit", self.prepare_once(attempt, op, name, now_ms))
    }

    async fn store_commit(&self, store: &StoreCommit) -> Result<Option<StoredCommit>, CatalogError> {
        run!("record a commit", self.store_once(store))
    }
}
