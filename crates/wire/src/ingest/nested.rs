//! Which trees lie in which, noted while the trees of a pack are named: how deep they are nested is found out later without reading them
//! once more.

use treehold_object::ObjectId;

/// More are not kept: then trees are read again.
const KEPT_MAX: usize = 1_000_000;
/// What one takes, bytes.
pub(super) const NESTED_BYTES: u64 = size_of::<Nested>() as u64;
/// Room is asked for in steps of so many.
const STEP: usize = 1 << 12;

/// A tree that stands in another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nested {
    /// The other one: a position in the table.
    at: u32,
    /// Bytes of the name that it has there.
    pub name: u16,
    pub tree: ObjectId,
}

/// All of a pack.
#[derive(Debug, Default)]
pub(super) struct Nestings {
    /// Sorted by position once closed.
    all: Vec<Nested>,
    roomy: usize,
    given_up: bool,
}

impl Nestings {
    /// Notes the trees in the one at position `at`; gives up where there are too many, or where `room` has none for so many bytes.
    pub fn note(&mut self, at: u32, trees: &[(ObjectId, u16)], room: impl Fn(u64) -> bool) {
        if self.given_up {
            return;
        }
        let needed = self.all.len() + trees.len();
        if needed > self.roomy {
            let more = (needed - self.roomy).next_multiple_of(STEP);
            if needed > KEPT_MAX || !room(more as u64 * NESTED_BYTES) {
                *self = Self { given_up: true, ..Self::default() };
                return;
            }
            self.roomy += more;
        }
        self.all.extend(trees.iter().map(|(tree, name)| Nested { at, name: *name, tree: *tree }));
    }

    /// No more will come.
    pub fn close(&mut self) {
        self.all.sort_unstable_by_key(|nested| nested.at);
        self.all.shrink_to_fit();
    }

    /// The trees in the one at position `at`; `None` where that is not known.
    pub fn within(&self, at: u32) -> Option<&[Nested]> {
        if self.given_up {
            return None;
        }
        let first = self.all.partition_point(|nested| nested.at < at);
        let len = self.all[first..].iter().take_while(|nested| nested.at == at).count();
        Some(&self.all[first..first + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tree_finds_its_own() {
        let oid = |n: u8| ObjectId::Sha1([n; 20]);
        let mut nestings = Nestings::default();
        for at in [7, 3, 9] {
            nestings.note(at, &[(oid(at as u8), 1), (oid(0), at as u16)], |_| true);
        }
        nestings.note(4, &[], |_| true);
        nestings.close();
        let names = |at| nestings.within(at).map(|found| found.iter().map(|nested| nested.name).sum::<u16>());
        assert_eq!([3, 4, 7, 9, 10].map(names), [Some(4), Some(0), Some(8), Some(10), Some(0)]);
    }

    #[test]
    fn what_has_no_room_is_given_up_whole() {
        let mut nestings = Nestings::default();
        nestings.note(1, &[(ObjectId::Sha1([1; 20]), 1)], |bytes| bytes < 1 << 20);
        nestings.note(2, &vec![(ObjectId::Sha1([2; 20]), 1); 1 << 16], |bytes| bytes < 1 << 20);
        nestings.note(3, &[(ObjectId::Sha1([3; 20]), 1)], |_| true);
        nestings.close();
        assert!(nestings.within(1).is_none());
    }
}
