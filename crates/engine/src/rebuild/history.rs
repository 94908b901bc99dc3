//! The commit graph, the trees of heads, and what each project reaches.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use treehold_catalog::{CommitRow, Project, RoaringTreemap};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId};

use super::reach::Walk;
use super::{BucketFinding, RebuildReport};
use crate::api::Oid;
use crate::intake::{ROWS, with_generations};
use crate::progress::Progress;
use crate::{Engine, Result};

/// Projects listed at once.
const PROJECTS: u32 = 1000;
/// Bytes of reaches, as they are stored, that are kept for projects with the same refs.
const MEMO_BYTES: usize = 64 << 20;

/// Tips and cuts.
type Ends = (Vec<ObjectId>, Vec<ObjectId>);

/// What some of the projects before reach: forks have the same refs.
#[derive(Debug)]
struct Memo {
    reaches: HashMap<Ends, RoaringTreemap>,
    bytes: usize,
    bytes_max: usize,
}

impl Memo {
    fn new(bytes_max: usize) -> Self {
        Self { reaches: HashMap::new(), bytes: 0, bytes_max }
    }

    /// Makes room by forgetting all others, if need be; what alone is too large is not kept.
    fn keep(&mut self, ends: Ends, reach: RoaringTreemap) {
        let bytes = reach.serialized_size() + (ends.0.len() + ends.1.len()) * size_of::<ObjectId>();
        if bytes > self.bytes_max {
            return;
        }
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            self.reaches.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.reaches.insert(ends, reach);
    }
}

/// What a project's refs point to.
#[derive(Debug, Default)]
struct Tips {
    commits: Vec<ObjectId>,
    /// Tags, and what else refs may name.
    others: Vec<ObjectId>,
}

impl Engine {
    /// Records commits that packs could not be asked for as a whole.
    pub(super) async fn record_commits(&self, commits: Vec<CommitRow>) -> Result<()> {
        let rows = commits.into_iter().map(|row| (row.oid, row)).collect();
        for chunk in with_generations(rows, HashMap::new()).chunks(ROWS) {
            self.catalog.put_commits(chunk).await?;
        }
        Ok(())
    }

    pub(super) async fn rebuild_history(&self, report: &mut RebuildReport, progress: &dyn Progress) -> Result<()> {
        let (mut memo, mut after) = (Memo::new(MEMO_BYTES), None);
        loop {
            let page = self.catalog.projects(after, PROJECTS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            for project in &page {
                self.rebuild_project(project, &mut memo, report).await?;
                report.projects += 1;
                progress.step("walking projects", report.projects, None);
            }
        }
    }

    async fn rebuild_project(&self, project: &Project, memo: &mut Memo, report: &mut RebuildReport) -> Result<()> {
        point("B4").await?;
        let refs = self.catalog.references(project.id, "refs/").await?;
        let remote = self.catalog.remote_references(project.id, "refs/").await?;
        let mut oids: Vec<ObjectId> = refs.iter().chain(&remote).map(|known| known.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        let cut = self.catalog.shallow(project.id).await?;
        let key = (oids, cut);
        if let Some(reach) = memo.reaches.get(&key) {
            return Ok(self.catalog.set_reach(project.id, reach.clone()).await?);
        }
        let mut missing = Vec::new();
        let tips = self.tips(&key.0, &mut missing).await?;
        let rows = self.renumbered(&tips.commits, &key.1, &mut missing).await?;
        let mut walk = Walk::new(self);
        walk.commits(rows.keys().copied().collect()).await?;
        let heads = refs.iter().filter(|known| known.name.starts_with("refs/heads/"));
        let heads: Vec<ObjectId> = heads.filter_map(|head| Some(rows.get(&head.oid)?.tree)).collect();
        walk.objects(heads, true).await?;
        let others = rows.values().map(|row| row.tree).chain(tips.others).collect();
        walk.objects(others, false).await?;
        report.trees += walk.kept;
        missing.extend(walk.missing);
        missing.sort_unstable();
        missing.dedup();
        for oid in missing {
            let needed_by = match refs.iter().find(|known| known.oid == oid) {
                Some(known) => known.name.clone(),
                None => "history".to_owned(),
            };
            report.find(BucketFinding::MissingObject { project: project.id, oid: Oid(oid), needed_by });
        }
        let reach = walk.numbers;
        self.catalog.set_reach(project.id, reach.clone()).await?;
        memo.keep(key, reach);
        Ok(())
    }

    /// Follows tags to commits.
    async fn tips(&self, oids: &[ObjectId], missing: &mut Vec<ObjectId>) -> Result<Tips> {
        let (mut tips, mut seen) = (Tips::default(), HashSet::new());
        let mut open: Vec<ObjectId> = oids.to_vec();
        while !open.is_empty() {
            open.retain(|oid| seen.insert(*oid));
            let rows = self.catalog.commits(&open).await?;
            let (known, unknown): (Vec<_>, Vec<_>) = open.iter().zip(rows).partition(|(_, row)| row.is_some());
            tips.commits.extend(known.into_iter().map(|(oid, _)| *oid));
            let unknown: Vec<ObjectId> = unknown.into_iter().map(|(oid, _)| *oid).collect();
            open.clear();
            for (oid, located) in unknown.iter().zip(self.catalog.locate(&unknown).await?) {
                match located {
                    None => missing.push(*oid),
                    Some(located) if located.kind == Kind::Tag => {
                        tips.others.push(*oid);
                        match self.objects(&[*oid]).await?.pop().flatten() {
                            Some(tag) => open.extend(tag_target(&tag.content)),
                            None => missing.push(*oid),
                        }
                    }
                    Some(_) => tips.others.push(*oid),
                }
            }
        }
        Ok(tips)
    }

    /// Every commit that the tips reach, with its generation as the whole of the graph has it now: packs came in any order.
    async fn renumbered(
        &self,
        tips: &[ObjectId],
        cut: &[ObjectId],
        missing: &mut Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, CommitRow>> {
        let cut: HashSet<ObjectId> = cut.iter().copied().collect();
        let rows = self.reached_slim(tips, &cut).await?;
        let before: HashMap<ObjectId, u64> = rows.iter().map(|(oid, row)| (*oid, row.generation)).collect();
        let numbered = with_generations(rows, HashMap::new());
        let grown: Vec<CommitRow> = (numbered.iter())
            .filter(|row| before.get(&row.oid).is_some_and(|before| *before < row.generation))
            // The row is there: only its generation is written.
            .map(|row| CommitRow { raw: Bytes::new(), ..row.clone() })
            .collect();
        for chunk in grown.chunks(ROWS) {
            self.catalog.put_commits(chunk).await?;
        }
        let rows: HashMap<ObjectId, CommitRow> = numbered.into_iter().map(|row| (row.oid, row)).collect();
        let parents = rows.values().flat_map(|row| &row.parents);
        missing.extend(parents.filter(|parent| !rows.contains_key(*parent)));
        Ok(rows)
    }
}

/// What a tag points at, if it can be read.
pub(super) fn tag_target(content: &[u8]) -> Option<ObjectId> {
    gix_object::TagRef::from_bytes(content, gix_hash::Kind::Sha1).ok().map(|tag| tag.target())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_stays_within_its_bytes() {
        let ends = |number: u8| (vec![ObjectId::Sha1([number; 20])], Vec::new());
        // Every other number: nothing that a bitmap could hold as a run.
        let reach = |count: u64| (0..count).map(|number| number * 2).collect::<RoaringTreemap>();
        let (small, most) = (reach(100).serialized_size(), 1000);
        let (mut memo, mut together) = (Memo::new(most), 0);
        for number in 0..100 {
            memo.keep(ends(number), reach(100));
            assert!(memo.bytes <= most && memo.reaches.len() * small <= most, "{} bytes", memo.bytes);
            assert_eq!(memo.reaches.get(&ends(number)), Some(&reach(100)), "the last one is there");
            together = together.max(memo.reaches.len());
        }
        assert!(together > 1, "there is room for more than one");
        let left = memo.reaches.len();
        memo.keep(ends(200), reach(10_000));
        assert_eq!(memo.reaches.len(), left, "one that is too large takes nobody's place");
    }
}
