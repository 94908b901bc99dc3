//! Which bytes a batch reads: neighbours in one value become one range.

use std::ops::Range;

use treehold_object::{Kind, ObjectId};

use crate::object_store::Location;

/// One object of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its place in what the caller asked for.
    pub at: usize,
    pub oid: ObjectId,
    pub kind: Kind,
    pub size: u64,
    pub offset: u64,
    pub length: u64,
}

impl Member {
    /// The object that was asked for at place `at`.
    pub fn of(at: usize, location: &Location) -> Self {
        let Location { oid, kind, size, offset, length, .. } = *location;
        Self { at, oid, kind, size, offset, length }
    }

    /// Where its bytes are in the value.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.length)
    }
}

/// One range of one value, and the objects in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub key: String,
    pub range: Range<u64>,
    pub members: Vec<Member>,
}

/// Few ranges that cover all `locations` of whole objects; deltas are passed over.
///
/// Ranges of one value are joined where at most `gap` bytes lie between them and the result has at most `length_max`
/// bytes; a single object may be longer.
pub(crate) fn plan(locations: &[Location], gap: u64, length_max: u64) -> Vec<Run> {
    let whole = locations.iter().enumerate().filter(|(_, location)| location.bases.is_empty());
    let mut order: Vec<usize> = whole.map(|(at, _)| at).collect();
    order.sort_unstable_by_key(|at| locations.get(*at).map(|location| (location.key.as_str(), location.offset)));
    let mut runs: Vec<Run> = Vec::new();
    for at in order {
        let Some(location) = locations.get(at) else { continue };
        let (key, member) = (&location.key, Member::of(at, location));
        let range = member.range();
        match runs.last_mut() {
            Some(run)
                if run.key == *key
                    && range.start <= run.range.end.saturating_add(gap)
                    && range.end.max(run.range.end) - run.range.start <= length_max =>
            {
                run.range.end = run.range.end.max(range.end);
                run.members.push(member);
            }
            // The same object asked for twice is read once, however long it is.
            Some(run) if run.key == *key && run.range == range => run.members.push(member),
            _ => runs.push(Run { key: key.clone(), range, members: vec![member] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn location(key: &str, offset: u64, length: u64) -> Location {
        Location {
            oid: ObjectId::Sha1([0; 20]),
            kind: Kind::Blob,
            size: 1,
            key: key.into(),
            offset,
            length,
            bases: Vec::new(),
        }
    }

    fn ranges(locations: &[Location]) -> Vec<(String, Range<u64>, usize)> {
        let runs = plan(locations, 10, 100);
        runs.into_iter().map(|run| (run.key, run.range, run.members.len())).collect()
    }

    #[test]
    fn neighbours_are_joined_up_to_the_gap_and_the_length() {
        let asked = [
            location("b", 0, 10),
            location("a", 40, 10),
            location("a", 12, 8),
            location("a", 30, 10),
            location("a", 61, 40),
            location("a", 101, 39),
        ];
        // From 20 to 30 is a gap of exactly 10, from 50 to 61 one of 11.
        let joined = [("a", 12..50, 3), ("a", 61..140, 2), ("b", 0..10, 1)];
        assert_eq!(ranges(&asked), joined.map(|(key, range, members)| (key.to_owned(), range, members)));
        assert_eq!(ranges(&[location("a", 0, 60), location("a", 60, 41)]).len(), 2);
        assert_eq!(ranges(&[location("a", 0, 500), location("a", 0, 500)]), [("a".to_owned(), 0..500, 2)]);
    }

    #[test]
    fn everything_asked_for_is_covered_once() {
        let mut rng = StdRng::seed_from_u64(crate::conformance::test_seed());
        for _ in 0..200 {
            let asked: Vec<Location> = (0..rng.random_range(0..60))
                .map(|_| {
                    location(["a", "b"][rng.random_range(0..2)], rng.random_range(0..500), rng.random_range(0..150))
                })
                .collect();
            let mut seen = vec![0; asked.len()];
            for run in plan(&asked, 10, 100) {
                let longest = run.members.iter().map(|member| member.length).max().unwrap();
                assert!(run.range.end - run.range.start <= longest.max(100));
                for member in &run.members {
                    seen[member.at] += 1;
                    assert!(run.key == asked[member.at].key && member.offset == asked[member.at].offset);
                    assert!(run.range.start <= member.range().start && member.range().end <= run.range.end);
                }
            }
            assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
