//! Questions about history, answered from the commit table: ancestry, merge base, ahead and behind.
//!
//! Walks go from the highest generation down, as git's commit-graph walks do, and read commits some steps ahead in one query.

use std::collections::{BinaryHeap, HashMap, HashSet};

use treehold_catalog::CommitRow;
use treehold_object::ObjectId;

use crate::{Engine, Result};

/// How many steps one query reads ahead.
const STEPS: u32 = 32;

/// Commits read so far.
#[derive(Debug, Default)]
pub(crate) struct Known {
    rows: HashMap<ObjectId, Option<CommitRow>>,
}

const OURS: u8 = 1;
const THEIRS: u8 = 2;

/// What two histories have in common, and what not.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// The common ancestor of the highest generation.
    pub base: Option<ObjectId>,
    /// Commits that only ours reaches, newest first.
    pub ours: Vec<ObjectId>,
    /// Commits that only theirs reaches.
    pub theirs: u64,
}

impl Engine {
    /// A commit by id, from what was read or from the catalog; `None` = beyond a shallow boundary.
    pub(crate) async fn known_commit(&self, known: &mut Known, oid: ObjectId) -> Result<Option<CommitRow>> {
        if let Some(row) = known.rows.get(&oid) {
            return Ok(row.clone());
        }
        for row in self.catalog.commits_back(&[oid], STEPS).await? {
            known.rows.insert(row.oid, Some(row));
        }
        Ok(known.rows.entry(oid).or_insert(None).clone())
    }

    /// Compares two histories by painting down from both tips.
    pub(crate) async fn compare(&self, ours: &[ObjectId], theirs: &[ObjectId]) -> Result<Comparison> {
        let mut known = Known::default();
        let mut paint: HashMap<ObjectId, u8> = HashMap::new();
        let mut queue = BinaryHeap::new();
        let mut queued = HashSet::new();
        for (tips, colour) in [(ours, OURS), (theirs, THEIRS)] {
            for tip in tips {
                *paint.entry(*tip).or_default() |= colour;
                if let Some(row) = self.known_commit(&mut known, *tip).await?
                    && queued.insert(*tip)
                {
                    queue.push((row.generation, row.time, *tip));
                }
            }
        }
        let mut comparison = Comparison::default();
        while queue.iter().any(|(_, _, oid)| paint[oid] != OURS | THEIRS) || comparison.base.is_none() {
            let Some((_, _, oid)) = queue.pop() else { break };
            let colour = paint[&oid];
            match colour {
                OURS => comparison.ours.push(oid),
                THEIRS => comparison.theirs += 1,
                _ => comparison.base = comparison.base.or(Some(oid)),
            }
            let Some(row) = self.known_commit(&mut known, oid).await? else { continue };
            for parent in row.parents {
                *paint.entry(parent).or_default() |= colour;
                if let Some(row) = self.known_commit(&mut known, parent).await?
                    && queued.insert(parent)
                {
                    queue.push((row.generation, row.time, parent));
                }
            }
        }
        Ok(comparison)
    }

    /// Whether `old` is `new` or one of its ancestors.
    pub(crate) async fn is_ancestor(&self, old: ObjectId, new: ObjectId) -> Result<bool> {
        if old == new {
            return Ok(true);
        }
        let comparison = self.compare(&[old], &[new]).await?;
        Ok(comparison.ours.is_empty() && comparison.base == Some(old))
    }
}
