//! Questions about history, answered from the commit table: ancestry, merge base, ahead and behind.
//!
//! Walks go from the highest generation down, as git's commit-graph walks do, and read commits some steps ahead in one query.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use treehold_catalog::CommitRow;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::cut::CutHistory;
use crate::intake::with_generations;
use crate::{Engine, Result};

/// How many steps one query reads ahead.
const STEPS: u32 = 32;

/// Commits that are read again and written at once: they may be long.
const AGAIN: usize = 64;

/// Raw commits that a walk keeps, bytes. Later ones are read again by whoever needs them ([`Engine::raw_of`]).
const RAW_BYTES_MAX: usize = 16 << 20;

/// Commits without a number that are asked for one by one.
const ALONE: usize = 8;

/// Commits of one project, read so far.
#[derive(Debug, Default)]
pub(crate) struct Known {
    rows: HashMap<ObjectId, Option<CommitRow>>,
    /// Raw bytes in `rows`.
    raw_bytes: usize,
    /// Commits are kept without their raw bytes.
    slim: bool,
    /// Where the project's history is cut off: it ends there, also where other projects have more.
    own: Option<Arc<CutHistory>>,
}

const OURS: u8 = 1;
const THEIRS: u8 = 2;
const BOTH: u8 = OURS | THEIRS;

/// Where the walks down from both sides stand. How many commits are still one side's alone is counted along: a history may be a million
/// branches broad, and must not be gone through at every step.
#[derive(Debug, Default)]
struct Frontier {
    colours: HashMap<ObjectId, u8>,
    queue: BinaryHeap<(u64, i64, ObjectId)>,
    met: HashSet<ObjectId>,
    /// In the queue.
    waiting: HashSet<ObjectId>,
    /// Of these, those that only one side reaches so far.
    open: usize,
}

impl Frontier {
    fn paint(&mut self, oid: ObjectId, colour: u8) {
        let known = self.colours.entry(oid).or_default();
        let before = *known;
        *known |= colour;
        if before != BOTH && *known == BOTH && self.waiting.contains(&oid) {
            self.open -= 1;
        }
    }

    /// A commit that was painted before.
    fn meet(&mut self, row: &CommitRow) {
        if self.met.insert(row.oid) {
            self.queue.push((row.generation, row.time, row.oid));
            self.waiting.insert(row.oid);
            self.open += usize::from(self.colours.get(&row.oid) != Some(&BOTH));
        }
    }

    /// The commit of the highest generation, and whose it is.
    fn pop(&mut self) -> Option<(ObjectId, u8)> {
        let (_, _, oid) = self.queue.pop()?;
        self.waiting.remove(&oid);
        let colour = self.colours.get(&oid).copied().unwrap_or_default();
        self.open -= usize::from(colour != BOTH);
        Some((oid, colour))
    }
}

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

impl Known {
    /// For walks that need no more of a commit than its row.
    pub fn slim(mut self) -> Self {
        self.slim = true;
        self.raw_bytes = 0;
        self.rows.values_mut().flatten().for_each(|row| row.raw = Bytes::new());
        self
    }

    fn keep(&mut self, mut row: CommitRow) {
        if matches!(self.rows.get(&row.oid), Some(Some(_))) {
            return;
        }
        if self.slim || self.raw_bytes + row.raw.len() > RAW_BYTES_MAX {
            row.raw = Bytes::new();
        }
        self.raw_bytes += row.raw.len();
        self.rows.insert(row.oid, Some(row));
    }

    /// How many commits were read.
    #[cfg(test)]
    pub fn read(&self) -> usize {
        self.rows.len()
    }

    /// Trees of up to `most` commits before `commit`, the nearest first, as far as they were read.
    pub fn trees_before(&self, commit: ObjectId, most: usize) -> Vec<ObjectId> {
        let (mut trees, mut met) = (Vec::new(), HashSet::from([commit]));
        let mut open = VecDeque::from([commit]);
        while let Some(row) = open.pop_front().and_then(|oid| self.rows.get(&oid)) {
            let Some(row) = row else { continue };
            open.extend(row.parents.iter().filter(|parent| met.insert(**parent)));
            trees.push(row.tree);
            if trees.len() >= most {
                break;
            }
        }
        trees
    }
}

impl Engine {
    /// What a walk from `tips` knows at the start: nothing, or, where the project's history is cut off, how it is numbered. The commit table
    /// is shared by all projects, so that only the project's own list of cuts says where its history ends.
    pub(crate) async fn known(&self, project: Uuid, tips: &[ObjectId]) -> Result<Known> {
        let cuts = self.catalog.shallow(project).await?;
        if cuts.is_empty() {
            return Ok(Known::default());
        }
        let own = self.numbered(self.cuts.of(project, cuts), tips).await?;
        Ok(Known { own: Some(own), ..Known::default() })
    }

    /// The history with numbers of all that `tips` reach; those that nobody has asked for yet are given.
    async fn numbered(&self, own: Arc<CutHistory>, tips: &[ObjectId]) -> Result<Arc<CutHistory>> {
        let (mut known, mut looked) = (Known::default().slim(), 0);
        let mut rows: HashMap<ObjectId, CommitRow> = HashMap::new();
        let mut below: HashMap<ObjectId, u64> = HashMap::new();
        let mut open = tips.to_vec();
        while let Some(oid) = open.pop() {
            if rows.contains_key(&oid) || below.contains_key(&oid) {
                continue;
            }
            if let Some(number) = own.number(&oid) {
                below.insert(oid, number);
                continue;
            }
            looked += 1;
            // What is new is little, as a rule, and a cut may be near: what somebody else has beyond it is not to be read ahead.
            let found = match looked <= ALONE {
                true => self.catalog.commits(&[oid]).await?.pop().flatten(),
                false => self.known_commit(&mut known, oid).await?,
            };
            let Some(mut row) = found else { continue };
            own.end(&mut row);
            open.extend(&row.parents);
            rows.insert(oid, row);
        }
        if rows.is_empty() {
            return Ok(own);
        }
        // A fetch that is under way has not told its cuts yet: what is above them is numbered for this walk alone. A tip that is no
        // commit, as an annotated tag is none, has nothing above it.
        let there = |oid: &ObjectId| rows.contains_key(oid) || below.contains_key(oid);
        let lacks = rows.values().flat_map(|row| &row.parents).any(|parent| !there(parent));
        let own = if lacks { Arc::new(own.copy()) } else { own };
        own.add(&with_generations(rows, below));
        Ok(own)
    }

    /// Every commit that `tips` reach, without its raw bytes; those of `cut` have no parents.
    pub(crate) async fn reached_slim(
        &self,
        tips: &[ObjectId],
        cut: &HashSet<ObjectId>,
    ) -> Result<HashMap<ObjectId, CommitRow>> {
        let (mut known, mut rows) = (Known::default().slim(), HashMap::new());
        let mut open = tips.to_vec();
        while let Some(oid) = open.pop() {
            if rows.contains_key(&oid) {
                continue;
            }
            let Some(mut row) = self.known_commit(&mut known, oid).await? else { continue };
            if cut.contains(&oid) {
                row.parents.clear();
            }
            open.extend(&row.parents);
            rows.insert(oid, row);
        }
        Ok(rows)
    }

    /// Numbers the generations of a history again that is whole now: its later commits were numbered from a cut. Those that have their number
    /// are not written.
    pub(crate) async fn renumber(&self, tips: &[ObjectId]) -> Result<()> {
        let rows = self.reached_slim(tips, &HashSet::new()).await?;
        let before: HashMap<ObjectId, u64> = rows.values().map(|row| (row.oid, row.generation)).collect();
        let mut raised = with_generations(rows, HashMap::new());
        raised.retain(|row| before.get(&row.oid).is_none_or(|before| *before < row.generation));
        for chunk in raised.chunks(AGAIN) {
            let oids: Vec<ObjectId> = chunk.iter().map(|row| row.oid).collect();
            let again = self.catalog.commits(&oids).await?;
            // What is gone meanwhile needs no number.
            let numbered = chunk.iter().zip(again);
            let numbered = numbered.filter_map(|(row, again)| Some(CommitRow { generation: row.generation, ..again? }));
            self.catalog.put_commits(&numbered.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// A commit by id, from what was read or from the catalog; `None` = beyond a shallow boundary.
    pub(crate) async fn known_commit(&self, known: &mut Known, oid: ObjectId) -> Result<Option<CommitRow>> {
        if let Some(row) = known.rows.get(&oid) {
            return Ok(row.clone());
        }
        let mut steps = STEPS;
        if let Some(own) = &known.own {
            let Some(number) = own.number(&oid) else { return Ok(None) };
            // All that is further back is beyond the cuts, and somebody else's.
            steps = u32::try_from(number.saturating_sub(1)).map_or(STEPS, |below| below.min(STEPS));
        }
        for row in self.catalog.commits_back(&[oid], steps).await? {
            let row = match &known.own {
                Some(own) => own.own(row),
                None => Some(row),
            };
            if let Some(row) = row {
                known.keep(row);
            }
        }
        Ok(known.rows.entry(oid).or_insert(None).clone())
    }

    /// The raw bytes of a commit that a walk came to.
    pub(crate) async fn raw_of(&self, row: &CommitRow) -> Result<Bytes> {
        if row.raw.is_empty() { Ok(self.commit_row(row.oid).await?.raw) } else { Ok(row.raw.clone()) }
    }

    /// Compares two histories by painting down from both tips.
    pub(crate) async fn compare(&self, project: Uuid, ours: &[ObjectId], theirs: &[ObjectId]) -> Result<Comparison> {
        let mut known = self.known(project, &[ours, theirs].concat()).await?;
        let mut frontier = Frontier::default();
        for (tips, colour) in [(ours, OURS), (theirs, THEIRS)] {
            for tip in tips {
                frontier.paint(*tip, colour);
                if let Some(row) = self.known_commit(&mut known, *tip).await? {
                    frontier.meet(&row);
                }
            }
        }
        let mut comparison = Comparison::default();
        while frontier.open > 0 || comparison.base.is_none() {
            let Some((oid, colour)) = frontier.pop() else { break };
            match colour {
                OURS => comparison.ours.push(oid),
                THEIRS => comparison.theirs += 1,
                _ => comparison.base = comparison.base.or(Some(oid)),
            }
            let Some(row) = self.known_commit(&mut known, oid).await? else { continue };
            for parent in row.parents {
                frontier.paint(parent, colour);
                if let Some(row) = self.known_commit(&mut known, parent).await? {
                    frontier.meet(&row);
                }
            }
        }
        Ok(comparison)
    }

    /// Whether `old` is `new` or one of its ancestors.
    pub(crate) async fn is_ancestor(&self, project: Uuid, old: ObjectId, new: ObjectId) -> Result<bool> {
        if old == new {
            return Ok(true);
        }
        let comparison = self.compare(project, &[old], &[new]).await?;
        Ok(comparison.ours.is_empty() && comparison.base == Some(old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(byte: u8, generation: u64) -> CommitRow {
        let (oid, tree) = (ObjectId::Sha1([byte; 20]), ObjectId::Sha1([0; 20]));
        CommitRow { oid, tree, parents: Vec::new(), generation, time: 0, raw: Bytes::new() }
    }

    /// Goal: what is counted along is what a look at all that wait would count.
    #[test]
    fn what_only_one_side_reaches_is_counted_along() {
        let mut frontier = Frontier::default();
        let rows: Vec<CommitRow> = (0..50).map(|byte| row(byte, u64::from(byte / 3))).collect();
        let open = |frontier: &Frontier| frontier.waiting.iter().filter(|oid| frontier.colours[*oid] != BOTH).count();
        for (step, row) in rows.iter().cycle().take(400).enumerate() {
            frontier.paint(row.oid, if step % 7 < 4 { OURS } else { THEIRS });
            frontier.meet(row);
            assert_eq!(frontier.open, open(&frontier), "step {step}");
            if step % 9 == 0 {
                let popped = frontier.pop();
                assert!(popped.is_none_or(|(oid, colour)| frontier.colours[&oid] == colour));
                assert_eq!(frontier.open, open(&frontier), "after step {step}");
            }
        }
        while frontier.pop().is_some() {}
        assert_eq!((frontier.open, frontier.met.len()), (0, 50));
    }
}
