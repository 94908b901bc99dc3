//! What refs were: the reflog, and bringing back what one of them had.

use treehold_catalog::{Guard, OpKind, Project, Publish, PublishOutcome, RefUpdate, ReflogEntry, RoaringTreemap};
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::api::{Oid, ReflogPage, ReflogView};
use crate::refs::full_name;
use crate::text::{page, read_cursor, rfc3339, write_cursor};
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1000;
/// Entries looked through for a commit that is to be restored.
const LOOK_BACK: u32 = 10_000;
/// Objects pinned at a time.
const PINS: usize = 4096;

impl Engine {
    /// Moves of one ref, or of all, newest first. Entries are kept as long as what they name (`docs/reliability.md`).
    pub async fn reflog(
        &self,
        project: &str,
        name: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<ReflogPage> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let project = self.find_project(project).await?;
        let name = name.map(full_name).transpose()?;
        let before: Option<i64> = cursor.map(read_cursor).transpose()?;
        let mut found = self.catalog.reflog(project.id, name.as_deref(), before, limit as u32 + 1).await?;
        let next_cursor = page(&mut found, limit).map(|last| write_cursor(&last.id)).transpose()?;
        Ok(ReflogPage { entries: found.into_iter().map(view).collect(), next_cursor })
    }

    /// Points a ref that does not exist to a commit that it had before. `false` = other refs moved meanwhile.
    ///
    /// Nothing else may keep that commit alive, and a collector may have given it up already: everything that it reaches is pinned first.
    pub(crate) async fn try_restore(
        &self,
        project: &Project,
        name: &str,
        oid: ObjectId,
        lifetime: Option<Option<i64>>,
    ) -> Result<bool> {
        let seen = self.catalog.ref_state(project.id).await?;
        let entries = self.catalog.reflog(project.id, Some(name), None, LOOK_BACK).await?;
        if !entries.iter().any(|entry| entry.old == Some(oid) || entry.new == Some(oid)) {
            let detail = "The oid is nothing that this ref had, as far as its reflog goes back.";
            return Err(EngineError::unprocessable("unknown_oid", detail));
        }
        let op = self.begin_op(Some(project.id), OpKind::Refs).await?;
        let id = op.id;
        let published = async {
            let reached = self.revive(project, id, oid).await?;
            let update = RefUpdate { name: name.to_owned(), expected: None, new: Some(oid) };
            let publish = Publish {
                guard: Some(Guard::Unmoved(seen)),
                reached,
                lifetimes: lifetime.map(|lifetime_ms| (name.to_owned(), lifetime_ms)).into_iter().collect(),
                ..self.publication(project.id, &op, vec![update], "restore")
            };
            Ok(self.catalog.publish(&publish).await?)
        };
        let published = self.kept_alive(id, published).await;
        if !matches!(published, Ok(PublishOutcome::Published)) {
            self.end(id).await;
        }
        published.map(|outcome| outcome == PublishOutcome::Published)
    }

    /// Pins what a commit reaches beyond what the project reaches anyway; ledger numbers of all of it.
    async fn revive(&self, project: &Project, op: Uuid, oid: ObjectId) -> Result<RoaringTreemap> {
        let gone = || {
            EngineError::unprocessable(
                "unknown_oid",
                "What the ref had was collected meanwhile and cannot be restored.",
            )
        };
        if self.catalog.numbers(&[oid]).await?[0].is_none() {
            return Err(gone());
        }
        let reached = self.closure(project, vec![oid]).await?;
        let lost = &reached - self.catalog.reach(project.id).await?;
        self.check_quota(project, self.catalog.sum_sizes(&lost).await?)?;
        let lost: Vec<u64> = lost.iter().collect();
        for chunk in lost.chunks(PINS) {
            let located = self.catalog.locate_numbers(chunk).await?;
            let oids: Vec<ObjectId> = located.iter().map(|found| found.oid).collect();
            if oids.len() < chunk.len() || self.catalog.pin(op, &oids).await?.iter().any(Option::is_none) {
                return Err(gone());
            }
        }
        Ok(reached)
    }
}

fn view(entry: ReflogEntry) -> ReflogView {
    let ReflogEntry { name, old, new, reason, at_ms, .. } = entry;
    ReflogView { name, from: old.map(Oid), to: new.map(Oid), reason, at: rfc3339(at_ms) }
}
