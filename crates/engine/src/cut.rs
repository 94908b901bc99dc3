//! Histories that are cut off, and how their commits are numbered.
//!
//! The commit table is shared by all projects, and says of a commit how long the longest history is that anybody has below it. Where a
//! project's own ends at cuts, its commits are numbered from there, each once, and the numbers are remembered: a walk reads what it comes
//! to, as it does in other projects, and not all that came since the cut.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use treehold_catalog::CommitRow;
use treehold_object::ObjectId;
use uuid::Uuid;

/// Numbers that are remembered, of all histories together: some 64 MiB. The one that was asked for last stays, however long it is.
const NUMBERS_MAX: usize = 1 << 20;
/// Histories that are remembered.
const HISTORIES_MAX: usize = 256;

/// What one project has above its cuts. Numbers depend on nothing else, so that they never change once all below is there.
#[derive(Debug)]
pub(crate) struct CutHistory {
    project: Uuid,
    /// Commits that have no parents here.
    cuts: HashSet<ObjectId>,
    /// Generations of what was asked for so far, and of all below it.
    numbers: RwLock<HashMap<ObjectId, u64>>,
}

impl CutHistory {
    /// A commit's generation, if it has one yet.
    pub fn number(&self, oid: &ObjectId) -> Option<u64> {
        self.numbers.read().unwrap_or_else(PoisonError::into_inner).get(oid).copied()
    }

    /// A commit as the project has it; `None` where it has no number.
    pub fn own(&self, mut row: CommitRow) -> Option<CommitRow> {
        row.generation = self.number(&row.oid)?;
        self.end(&mut row);
        Some(row)
    }

    /// Takes a commit's parents away where the history ends.
    pub fn end(&self, row: &mut CommitRow) {
        if self.cuts.contains(&row.oid) {
            row.parents.clear();
        }
    }

    /// Remembers the generations of these commits.
    pub fn add(&self, rows: &[CommitRow]) {
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        numbers.extend(rows.iter().map(|row| (row.oid, row.generation)));
    }

    /// The same, apart from those that are remembered.
    pub fn copy(&self) -> Self {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self { project: self.project, cuts: self.cuts.clone(), numbers: RwLock::new(numbers) }
    }

    fn len(&self) -> usize {
        self.numbers.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Histories of several projects, the one that was asked for last in front.
#[derive(Debug, Default)]
pub(crate) struct CutHistories(Mutex<VecDeque<Arc<CutHistory>>>);

impl CutHistories {
    /// A project's history above these cuts. Projects share none, or the time of an answer would tell what others have (law 5).
    pub fn of(&self, project: Uuid, cuts: Vec<ObjectId>) -> Arc<CutHistory> {
        let cuts: HashSet<ObjectId> = cuts.into_iter().collect();
        let mut histories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = histories.iter().position(|history| history.project == project);
        let known = at.and_then(|at| histories.remove(at)).filter(|history| history.cuts == cuts);
        let history = known.unwrap_or_else(|| Arc::new(CutHistory { project, cuts, numbers: RwLock::default() }));
        histories.push_front(Arc::clone(&history));
        let mut numbers = 0;
        let fits = |history: &&Arc<CutHistory>| {
            numbers += history.len();
            numbers <= NUMBERS_MAX
        };
        let kept = histories.iter().take(HISTORIES_MAX).take_while(fits).count();
        histories.truncate(kept.max(1));
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(byte: u8) -> ObjectId {
        ObjectId::Sha1([byte; 20])
    }

    #[test]
    fn a_project_has_one_history_for_its_cuts() {
        let histories = CutHistories::default();
        let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let first = histories.of(one, vec![oid(1), oid(2)]);
        assert!(Arc::ptr_eq(&first, &histories.of(one, vec![oid(2), oid(1)])));
        assert!(!Arc::ptr_eq(&first, &histories.of(other, vec![oid(1), oid(2)])), "each has its own");
        assert!(!Arc::ptr_eq(&first, &histories.of(one, vec![oid(1)])), "it has another end");
        assert!(!Arc::ptr_eq(&first, &histories.of(one, vec![oid(1), oid(2)])), "the one before is forgotten");
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let histories = CutHistories::default();
        let [long, short] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let first = histories.of(long, vec![oid(1)]);
        let wide = |number: u64| {
            ObjectId::Sha1(std::array::from_fn(|at| number.to_be_bytes().get(at).copied().unwrap_or_default()))
        };
        first.numbers.write().expect("a lock").extend((0..NUMBERS_MAX as u64).map(|number| (wide(number), number)));
        assert!(Arc::ptr_eq(&first, &histories.of(long, vec![oid(1)])), "what was asked for last stays");
        assert_eq!(first.number(&wide(7)), Some(7));
        let second = histories.of(short, vec![oid(1)]);
        second.numbers.write().expect("a lock").insert(oid(1), 1);
        assert!(Arc::ptr_eq(&second, &histories.of(short, vec![oid(1)])));
        assert!(!Arc::ptr_eq(&first, &histories.of(long, vec![oid(1)])), "there is no room for both");
    }
}
