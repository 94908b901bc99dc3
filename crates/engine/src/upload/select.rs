//! Which objects a fetch sends.

use std::collections::HashSet;

use treehold_catalog::{Located, RoaringTreemap};
use treehold_object::{Kind, ObjectId};

use super::commits::{Between, History};
use super::few::Few;
use super::refs::{TAGS_MAX, TagChain};
use super::trees::{Found, Place, Sift};
use super::{CHUNK, Upload, not_ours};
use crate::{EngineError, Result};

/// Trees of the client's that are compared with where no parent is at hand.
const EDGES: usize = 2;
/// Most trees that one is compared with.
const BASES_MAX: usize = 8;

/// What to send.
pub(super) enum Selection {
    /// Objects by their ledger numbers, as they are stored.
    Many(RoaringTreemap),
    /// So few that it pays to look for deltas.
    Few(Few),
}

impl Upload {
    pub(super) async fn select(&self) -> Result<Selection> {
        let sift = Sift::of(self.arguments.filter.as_ref());
        if self.wants_everything(&sift).await? {
            return self.everything(&sift).await.map(Selection::Many);
        }
        let wants = [&self.wants.commits[..], &self.boundary.wants].concat();
        let haves = [&self.common[..], &self.boundary.edges].concat();
        // What the client has may be on another branch: where the project's history is cut off, it is known if it is among the tips.
        let mut history = History::of(&self.engine, &self.project, &[&wants[..], &haves].concat()).await?;
        let between = history.between(&wants, &haves, &self.boundary.cut, None).await?;
        let mut found = Found::default();
        for row in &between.commits {
            found.add(row.oid, 0, &sift);
        }
        let mut places = self.places(&mut history, &between, &haves).await?;
        places.extend(self.wants.trees.iter().map(|tree| Place { tree: *tree, bases: Vec::new(), depth: 0 }));
        self.engine.find_new(places, &sift, &mut found).await?;
        let commits: HashSet<&ObjectId> = self.wants.commits.iter().collect();
        let mut named: HashSet<ObjectId> = self.wants.named.clone();
        named.retain(|oid| !commits.contains(oid));
        named.extend(self.tags_of(&found, &sift).await?);
        for oid in &named {
            found.add(*oid, 0, &sift);
        }
        self.weigh(found, &sift, &named).await
    }

    /// The root trees of what is sent, each beside those that the client has or gets before.
    pub(super) async fn places(
        &self,
        history: &mut History<'_>,
        between: &Between,
        haves: &[ObjectId],
    ) -> Result<Vec<Place>> {
        let sent: HashSet<ObjectId> = between.commits.iter().map(|row| row.oid).collect();
        let mut edges = Vec::new();
        for have in haves.iter().take(EDGES) {
            edges.extend(history.find(*have).await?.map(|row| row.tree));
        }
        let mut places = Vec::with_capacity(between.commits.len());
        for row in &between.commits {
            let mut bases = Vec::with_capacity(row.parents.len());
            let known = row.parents.iter().filter(|parent| sent.contains(*parent) || between.had.contains(*parent));
            for parent in known.take(BASES_MAX) {
                bases.extend(history.find(*parent).await?.map(|parent| parent.tree));
            }
            if bases.is_empty() {
                bases.clone_from(&edges);
            }
            // Fewer of them only mean that more is sent: nobody pays for a commit with thousands of parents.
            bases.dedup();
            bases.truncate(BASES_MAX);
            places.push(Place { tree: row.tree, bases, depth: 0 });
        }
        Ok(places)
    }

    /// A branch may have been deleted or set back since its wants were admitted: then there is no whole pack to send.
    async fn check_still_reached(&self, reach: &RoaringTreemap) -> Result<()> {
        let wants: Vec<ObjectId> = self.wants.named.iter().chain(&self.wants.commits).copied().collect();
        for chunk in wants.chunks(CHUNK) {
            for (oid, found) in chunk.iter().zip(self.engine.catalog.numbers(chunk).await?) {
                if !oid.is_empty_tree() && found.is_none_or(|(number, _)| !reach.contains(number)) {
                    return Err(not_ours(oid));
                }
            }
        }
        Ok(())
    }

    async fn everything(&self, sift: &Sift) -> Result<RoaringTreemap> {
        let reach = self.engine.catalog.reach(self.project.id).await?;
        self.check_still_reached(&reach).await?;
        if sift.is_open() {
            return Ok(reach);
        }
        let mut passed = RoaringTreemap::new();
        let numbers: Vec<u64> = reach.iter().collect();
        for chunk in numbers.chunks(CHUNK) {
            let rows = self.engine.catalog.locate_numbers(chunk).await?;
            let passes = rows.iter().filter(|row| self.passes(sift, row));
            passed.extend(passes.map(|row| row.number));
        }
        Ok(passed)
    }

    /// Annotated tags that point at what is sent, of whatever kind it is, if the client asked for them.
    async fn tags_of(&self, found: &Found, sift: &Sift) -> Result<Vec<ObjectId>> {
        if !self.arguments.include_tag || found.oids.is_empty() {
            return Ok(Vec::new());
        }
        let refs = self.engine.catalog.references(self.project.id, "refs/tags/").await?;
        let located = self.engine.catalog.locate(&refs.iter().map(|found| found.oid).collect::<Vec<_>>()).await?;
        let tags = located.into_iter().flatten().filter(|found| found.kind == Kind::Tag).map(|found| found.oid);
        let tags: Vec<ObjectId> = tags.collect();
        let mut chains: Vec<(ObjectId, TagChain)> =
            tags.iter().copied().zip(self.engine.tag_chains(&tags, TAGS_MAX).await?).collect();
        chains.retain(|(_, chain)| chain.last().is_some_and(|(_, target)| found.has(target)));
        let targets: Vec<ObjectId> = chains.iter().filter_map(|(_, chain)| chain.last()).map(|(_, oid)| *oid).collect();
        let mut wanted = Vec::new();
        for ((tag, chain), target) in chains.into_iter().zip(self.engine.catalog.locate(&targets).await?) {
            if target.is_some_and(|target| self.passes(sift, &target)) {
                wanted.push(tag);
                wanted.extend(chain.iter().filter(|(kind, _)| *kind == Kind::Tag).map(|(_, oid)| *oid));
            }
        }
        Ok(wanted)
    }

    /// Whether the filter lets an object through, but for its depth. What was asked for by name always passes.
    fn passes(&self, sift: &Sift, row: &Located) -> bool {
        sift.passes(row.kind, row.size) || self.wants.named.contains(&row.oid)
    }

    /// Leaves out what the filter does by kind and size, and sees whether it is little.
    async fn weigh(&self, found: Found, sift: &Sift, named: &HashSet<ObjectId>) -> Result<Selection> {
        let Found { oids, previous, .. } = found;
        let reach = self.engine.catalog.reach(self.project.id).await?;
        self.check_still_reached(&reach).await?;
        let few = Few::new(&self.arguments, previous);
        let (mut numbers, mut few) = (RoaringTreemap::new(), self.pending.is_none().then_some(few));
        for chunk in oids.chunks(CHUNK) {
            for (oid, row) in chunk.iter().zip(self.engine.catalog.locate(chunk).await?) {
                let Some(row) = row else {
                    // The one tree that need not be stored anywhere.
                    if oid.is_empty_tree() {
                        few = few.map(Few::with_empty_tree);
                        continue;
                    }
                    return Err(EngineError::internal(format!("object {oid} is reached and not in the ledger")));
                };
                // Walks start from what was admitted and follow what was checked when it came in: this cannot be. If it is, nothing
                // of it may leave.
                if !reach.contains(row.number) {
                    return Err(EngineError::internal(format!("object {oid} is not reached by the project")));
                }
                if self.passes(sift, &row) || named.contains(oid) {
                    numbers.insert(row.number);
                    few = few.and_then(|few| few.with(&row));
                }
            }
        }
        Ok(few.map_or(Selection::Many(numbers), Selection::Few))
    }
}
