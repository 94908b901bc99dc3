//! Pending work: its content, and what it started from.

use std::collections::HashSet;

use treehold_catalog::{Inspected, InspectedContent, InspectedPending, LostVersion, Project};
use treehold_object::{Kind, ObjectId, second_opinion};

use super::Run;
use super::connectivity::SOUGHT;
use super::finding::{Code, Damage};
use super::objects::Look;
use super::repair::Wanted;
use crate::{Result, blocking};

/// Contents read at once: each may have 100 kB.
const CONTENTS: u32 = 100;
/// Rows of checkpoints, and versions, without content that are told.
const LOST: u32 = 100;
/// Rows read at once.
const PENDING: u32 = 500;

impl Run<'_> {
    pub(super) async fn check_pending(&mut self, project: &Project) -> Result<()> {
        self.check_contents(project).await?;
        for (name, path, oid) in self.engine.catalog.lost_checkpoint_rows(project.id, LOST).await? {
            let damage = Damage::new(Code::PendingMissing, "no content is kept for a blob that a checkpoint names");
            self.find(damage, format!("{oid}: {path} in {name:?}"), Some(project.id), false);
        }
        for lost in self.engine.catalog.lost_versions(project.id, LOST).await? {
            let damage = Damage::new(Code::HistoryMissing, "no content is kept for a replaced version");
            let LostVersion { branch, user, path, revision, oid } = lost;
            let subject = format!("{oid}: {path} at revision {revision}, of {user} on {branch}");
            self.find(damage, subject, Some(project.id), false);
        }
        let mut after = None;
        loop {
            let rows = self.engine.catalog.inspect_pending(project.id, after, PENDING).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some((last.workspace, last.path.clone()));
            self.state.checked.pending += rows.len() as u64;
            self.check_pending_rows(project, &rows).await?;
        }
    }

    /// Every blob that pending work or its history names is what it is kept for, in the database or by the ledger.
    async fn check_contents(&mut self, project: &Project) -> Result<()> {
        let mut after = None;
        loop {
            let contents = self.engine.catalog.inspect_contents(project.id, after, CONTENTS).await?;
            let Some(last) = contents.last() else { return Ok(()) };
            after = Some(last.oid);
            self.state.checked.contents += contents.len() as u64;
            let stored = contents.iter().filter(|content| content.content == Inspected::Bucket);
            let stored: Vec<ObjectId> = stored.map(|content| content.oid).collect();
            self.check_stored(project, &stored).await?;
            let wrong = blocking(move || Ok(contents.into_iter().filter(is_wrong).collect::<Vec<_>>())).await?;
            for content in wrong {
                let damage = Damage::new(Code::PendingCorrupt, "what is kept for it is another blob, or none");
                self.find(damage, content.oid.to_string(), Some(project.id), false);
            }
        }
    }

    /// Contents in the bucket: in the ledger, live, and blobs.
    async fn check_stored(&mut self, project: &Project, oids: &[ObjectId]) -> Result<()> {
        let rows = self.engine.catalog.inspect_objects(oids).await?;
        let mut there = Vec::new();
        for (oid, row) in oids.iter().zip(rows) {
            match row {
                Some(row) if row.live && row.kind == Kind::Blob => there.push(row),
                row => {
                    let revived = row.is_some() && self.repairs() && self.pin_again(*oid).await?;
                    let wanted = Wanted { oid: *oid, kind: Some(Kind::Blob), row, project: None };
                    let rescued = revived || self.rescue(vec![wanted]).await?.contains_key(oid);
                    let damage =
                        Damage::new(Code::PendingMissing, "it should be in the bucket, and is not in the ledger");
                    self.find(damage, oid.to_string(), Some(project.id), rescued);
                }
            }
        }
        if !self.state.asked.full || self.state.asked.project.is_none() {
            return Ok(());
        }
        for (row, look) in there.iter().zip(self.look(&there).await?) {
            if let Look::Damaged(damage) = look {
                let rescued = self.rescue(vec![Wanted::of(row)]).await?.contains_key(&row.oid);
                self.find(damage, row.oid.to_string(), Some(project.id), rescued);
            }
        }
        Ok(())
    }

    async fn check_pending_rows(&mut self, project: &Project, rows: &[InspectedPending]) -> Result<()> {
        let mut bases: Vec<ObjectId> = rows.iter().filter_map(|row| row.base_oid).collect();
        bases.sort_unstable();
        bases.dedup();
        let known = self.engine.catalog.locate(&bases).await?;
        let unknown: Vec<ObjectId> =
            bases.iter().zip(known).filter(|(_, known)| known.is_none()).map(|(oid, _)| *oid).collect();
        // An edit may have started from what was pending then.
        let kept = self.engine.catalog.pending_contents(project.id, &unknown).await?;
        let gone: HashSet<ObjectId> =
            unknown.into_iter().zip(kept).filter(|(_, kept)| kept.is_none()).map(|(oid, _)| oid).collect();
        let found = self.rescue_bases(project, &gone).await?;
        for row in rows {
            let baseless = row.base_oid.is_some_and(|base| gone.contains(&base));
            let lost = row.oid.is_some() && !row.recorded;
            if !(baseless || lost) || !self.still_pending(project, row).await? {
                continue;
            }
            let subject = format!("{} of {} on {}", row.path, row.user, row.branch);
            if lost {
                let damage = Damage::new(Code::PendingMissing, "no content is kept for its blob");
                self.find(damage, subject.clone(), Some(project.id), false);
            }
            if baseless {
                let repaired = row.base_oid.is_some_and(|base| found.contains(&base));
                let damage = Damage::new(Code::PendingBaseMissing, "the blob that it started from is nowhere");
                self.find(damage, subject, Some(project.id), repaired);
            }
        }
        Ok(())
    }

    /// Blobs that pending work started from, which the ledger does not have: those of them that were found. The project's refs or pending
    /// work led to each when the edit was made.
    async fn rescue_bases(&mut self, project: &Project, gone: &HashSet<ObjectId>) -> Result<HashSet<ObjectId>> {
        let gone: Vec<ObjectId> = gone.iter().copied().collect();
        let mut found = HashSet::new();
        for oids in gone.chunks(SOUGHT) {
            let blob =
                |oid: &ObjectId| Wanted { oid: *oid, kind: Some(Kind::Blob), row: None, project: Some(project.id) };
            found.extend(self.rescue(oids.iter().map(blob).collect()).await?.into_keys());
        }
        Ok(found)
    }

    /// Whether a row is still what it was.
    async fn still_pending(&self, project: &Project, row: &InspectedPending) -> Result<bool> {
        let (user, branch) = (row.user, row.branch.clone());
        let key = treehold_catalog::WorkspaceKey { project: project.id, branch, user };
        let (_, now) = self.engine.catalog.pending(&key, Some(std::slice::from_ref(&row.path))).await?;
        Ok(now.first().is_some_and(|now| (now.oid, now.base_oid) == (row.oid, row.base_oid)))
    }
}

fn is_wrong(content: &InspectedContent) -> bool {
    match &content.content {
        Inspected::Bucket => false,
        Inspected::Broken => true,
        Inspected::Inline(bytes) => second_opinion(Kind::Blob, bytes) != content.oid,
    }
}
