//! Whether all that a project reaches may go out to who wants most of it: then nothing has to be walked.

use treehold_object::{Kind, ObjectId};
use treehold_wire::serve::Deepen;

use super::commits::{Between, History};
use super::refs::TAGS_MAX;
use super::trees::{Found, Place, Sift};
use super::{CHUNK, Upload};
use crate::Result;

/// Where only this part of the history and of the content is not wanted, all of it is sent…
const EXTRA_SHARE: u64 = 8;
/// …or so few commits, whatever their part…
const EXTRA_MIN: u64 = 16;
/// …and so little content, bytes.
const EXTRA_BYTES: u64 = 1 << 20;
/// More commits are not looked at: to find out what they bring would take as long as to leave it out.
const EXTRA_MAX: u64 = 4096;

/// What is reached and not wanted.
#[derive(Debug, Default)]
struct Others {
    commits: Vec<ObjectId>,
    trees: Vec<ObjectId>,
    /// Tags, and what is named that is neither commit nor tree.
    named: Vec<ObjectId>,
}

impl Upload {
    pub(super) async fn wants_everything(&self, sift: &Sift) -> Result<bool> {
        let plain =
            self.arguments.deepen == Deepen::Keep && self.arguments.shallow.is_empty() && self.common.is_empty();
        if !plain || !sift.is_flat() || self.wants.commits.is_empty() {
            return Ok(false);
        }
        let catalog = &self.engine.catalog;
        let mut tips: Vec<ObjectId> = Vec::new();
        for known in [
            catalog.references(self.project.id, "refs/").await?,
            catalog.remote_references(self.project.id, "refs/").await?,
        ] {
            tips.extend(known.into_iter().map(|known| known.oid).filter(|oid| !self.wants.named.contains(oid)));
        }
        tips.sort_unstable();
        tips.dedup();
        if tips.is_empty() {
            return Ok(true);
        }
        match self.others(&tips).await? {
            Some(others) => self.are_little(others).await,
            None => Ok(false),
        }
    }

    /// What the tips are; `None` where that is not known because a chain of tags is too long.
    async fn others(&self, tips: &[ObjectId]) -> Result<Option<Others>> {
        let (mut others, mut tags) = (Others::default(), Vec::new());
        for chunk in tips.chunks(CHUNK) {
            for found in self.engine.catalog.locate(chunk).await?.into_iter().flatten() {
                match found.kind {
                    Kind::Commit => others.commits.push(found.oid),
                    Kind::Tree => others.trees.push(found.oid),
                    Kind::Tag => tags.push(found.oid),
                    Kind::Blob => others.named.push(found.oid),
                }
            }
        }
        let chains = self.engine.tag_chains(&tags, TAGS_MAX).await?;
        others.named.extend(tags);
        for (kind, target) in chains.iter().filter_map(|chain| chain.last()) {
            match kind {
                Kind::Commit => others.commits.push(*target),
                Kind::Tree => others.trees.push(*target),
                Kind::Blob => others.named.push(*target),
                Kind::Tag => return Ok(None),
            }
        }
        Ok(Some(others))
    }

    async fn are_little(&self, others: Others) -> Result<bool> {
        let wanted = &self.wants.commits;
        let tips = [&others.commits[..], wanted].concat();
        let mut history = History::of(&self.engine, &self.project, &tips).await?;
        let between = history.between(&others.commits, wanted, &self.boundary.cut, None).await?;
        let mut deepest = 0;
        for want in wanted {
            deepest = deepest.max(history.find(*want).await?.map_or(0, |row| row.generation));
        }
        if between.commits.len() as u64 > EXTRA_MIN.max(deepest / EXTRA_SHARE).min(EXTRA_MAX) {
            return Ok(false);
        }
        let bytes = self.brought(&mut history, &between, others).await?;
        if bytes <= EXTRA_BYTES {
            return Ok(true);
        }
        let held = self.engine.catalog.held(self.project.id).await?;
        let all = held.and_then(|held| u64::try_from(held.counted).ok()).unwrap_or(0);
        Ok(bytes <= all / EXTRA_SHARE)
    }

    /// Content of what only the others lead to, bytes; some of it may be wanted all the same.
    async fn brought(&self, history: &mut History<'_>, between: &Between, others: Others) -> Result<u64> {
        let open = Sift::default();
        let mut found = Found::default();
        for oid in between.commits.iter().map(|row| row.oid).chain(others.named) {
            found.add(oid, 0, &open);
        }
        let mut places = self.places(history, between, &self.wants.commits).await?;
        places.extend(others.trees.into_iter().map(|tree| Place { tree, bases: Vec::new(), depth: 0 }));
        self.engine.find_new(places, &open, &mut found).await?;
        let mut bytes = 0;
        for chunk in found.oids.chunks(CHUNK) {
            bytes += self.engine.catalog.locate(chunk).await?.into_iter().flatten().map(|row| row.size).sum::<u64>();
        }
        Ok(bytes)
    }
}
