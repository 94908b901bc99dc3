//! The project's commits, read as they are needed, and walks over them. All walks go from the highest generation down, so that a
//! commit is looked at when all that lead to it were.

use std::collections::{BinaryHeap, HashMap, HashSet};

use treehold_catalog::{CommitRow, Project};
use treehold_object::ObjectId;

use crate::graph::Known;
use crate::{Engine, EngineError, Result};

/// Commits of one project.
pub(super) struct History<'a> {
    engine: &'a Engine,
    known: Known,
    /// Commits whose parents the project lacks.
    pub cut: HashSet<ObjectId>,
}

/// What lies between two sides.
#[derive(Debug, Default)]
pub(super) struct Between {
    /// Commits that only the wants reach, parents first.
    pub commits: Vec<CommitRow>,
    /// Of the parents of these, those that the other side has.
    pub had: HashSet<ObjectId>,
}

const WANTED: u8 = 1;
const HAD: u8 = 2;

/// Colours that run down from both sides.
#[derive(Default)]
struct Paint {
    colours: HashMap<ObjectId, u8>,
    queue: BinaryHeap<(u64, i64, ObjectId)>,
    waiting: HashSet<ObjectId>,
    /// Waiting, and wanted but not had.
    open: usize,
}

impl Paint {
    fn add(&mut self, row: &CommitRow, colour: u8) {
        let before = self.colours.get(&row.oid).copied().unwrap_or(0);
        let after = before | colour;
        self.colours.insert(row.oid, after);
        if before == 0 {
            self.queue.push((row.generation, row.time, row.oid));
            self.waiting.insert(row.oid);
            self.open += usize::from(after == WANTED);
        } else if before == WANTED && after != WANTED && self.waiting.contains(&row.oid) {
            self.open -= 1;
        }
    }

    /// The next commit; `None` once all that wait are had.
    fn pop(&mut self) -> Option<(ObjectId, u8)> {
        if self.open == 0 {
            return None;
        }
        let (_, _, oid) = self.queue.pop()?;
        self.waiting.remove(&oid);
        let colour = self.colours.get(&oid).copied().unwrap_or(HAD);
        self.open -= usize::from(colour == WANTED);
        Some((oid, colour))
    }
}

impl<'a> History<'a> {
    pub async fn of(engine: &'a Engine, project: &Project, tips: &[ObjectId]) -> Result<History<'a>> {
        let cut = engine.catalog.shallow(project.id).await?.into_iter().collect();
        Ok(Self { engine, known: engine.known(project.id, tips).await?.slim(), cut })
    }

    /// Walks from these tips from now on. Where the project's history is cut off, nothing else is known.
    pub async fn begin_at(&mut self, project: &Project, tips: &[ObjectId]) -> Result<()> {
        if !self.cut.is_empty() {
            self.known = self.engine.known(project.id, tips).await?.slim();
        }
        Ok(())
    }

    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// A commit that the project reaches; `None` beyond its boundary.
    pub async fn find(&mut self, oid: ObjectId) -> Result<Option<CommitRow>> {
        self.engine.known_commit(&mut self.known, oid).await
    }

    /// A commit that must be there.
    pub async fn commit(&mut self, oid: ObjectId) -> Result<CommitRow> {
        self.find(oid).await?.ok_or_else(|| EngineError::internal(format!("commit {oid} is not recorded")))
    }

    /// Whether each of `wants` is, or comes after, one of `common`.
    pub async fn all_reach(&mut self, wants: &[ObjectId], common: &[ObjectId]) -> Result<bool> {
        let common: HashSet<ObjectId> = common.iter().copied().collect();
        let mut oldest = u64::MAX;
        for oid in &common {
            oldest = oldest.min(self.find(*oid).await?.map_or(u64::MAX, |row| row.generation));
        }
        let mut rows: HashMap<ObjectId, CommitRow> = HashMap::new();
        let mut open = wants.to_vec();
        while let Some(oid) = open.pop() {
            if rows.contains_key(&oid) {
                continue;
            }
            let Some(row) = self.find(oid).await? else { continue };
            if !common.contains(&oid) && row.generation > oldest {
                open.extend(&row.parents);
            }
            rows.insert(oid, row);
        }
        let mut upwards: Vec<&CommitRow> = rows.values().collect();
        upwards.sort_unstable_by_key(|row| row.generation);
        let mut reaching: HashSet<ObjectId> = HashSet::new();
        for row in upwards {
            if common.contains(&row.oid) || row.parents.iter().any(|parent| reaching.contains(parent)) {
                reaching.insert(row.oid);
            }
        }
        Ok(wants.iter().all(|want| reaching.contains(want)))
    }

    /// What `wants` reach and `haves` do not. Neither side goes beyond the commits of `cut`, nor the wants beyond `since`.
    pub async fn between(
        &mut self,
        wants: &[ObjectId],
        haves: &[ObjectId],
        cut: &HashSet<ObjectId>,
        since: Option<i64>,
    ) -> Result<Between> {
        let (mut paint, mut rows) = (Paint::default(), Vec::new());
        for (tips, colour) in [(haves, HAD), (wants, WANTED)] {
            for tip in tips {
                if let Some(row) = self.find(*tip).await? {
                    paint.add(&row, colour);
                }
            }
        }
        while let Some((oid, mut colour)) = paint.pop() {
            let row = self.commit(oid).await?;
            if since.is_some_and(|since| row.time < since) {
                colour |= HAD;
                paint.colours.insert(oid, colour);
            }
            if !cut.contains(&oid) {
                for parent in &row.parents {
                    if let Some(parent) = self.find(*parent).await? {
                        paint.add(&parent, colour);
                    }
                }
            }
            if colour == WANTED {
                rows.push(row);
            }
        }
        rows.reverse();
        let parents = rows.iter().flat_map(|row| row.parents.iter());
        let had = parents.filter(|parent| paint.colours.get(*parent).is_some_and(|colour| colour & HAD != 0));
        Ok(Between { had: had.copied().collect(), commits: rows })
    }

    /// Commits that are fewer than `depth` steps away from `tips` (each of which is at the first step), and those at the last, or
    /// at the project's boundary. Not what lies behind `cut`.
    pub async fn at_depth(
        &mut self,
        tips: &[ObjectId],
        depth: u32,
        cut: &HashSet<ObjectId>,
    ) -> Result<(HashSet<ObjectId>, HashSet<ObjectId>)> {
        let (mut inside, mut last) = (HashSet::new(), HashSet::new());
        let mut level: Vec<ObjectId> = tips.to_vec();
        let mut step = 1;
        while !level.is_empty() {
            let mut next = Vec::new();
            for oid in level {
                if inside.contains(&oid) || last.contains(&oid) {
                    continue;
                }
                let Some(row) = self.find(oid).await? else { continue };
                if step >= depth || self.cut.contains(&oid) || cut.contains(&oid) {
                    last.insert(oid);
                } else {
                    inside.insert(oid);
                    next.extend(row.parents);
                }
            }
            level = next;
            step += 1;
        }
        Ok((inside, last))
    }
}
