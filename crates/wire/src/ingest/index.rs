//! The objects of a pack by id: a fan-out table over sorted positions, as in git's own pack index, but as fine as the pack is large.

use std::ops::Deref;

use treehold_object::ObjectId;

use super::table::Slot;

/// The table has at most 2 to this power of parts, 256 KiB.
const BITS_MAX: u32 = 16;

/// Positions of distinct objects, sorted by id.
#[derive(Debug)]
pub(super) struct Index {
    sorted: Vec<u32>,
    /// Where in `sorted` the ids begin whose first `bits` bits are at least so much, and where it ends.
    starts: Vec<u32>,
    bits: u32,
}

impl Index {
    /// Of objects that are there twice the first is kept; it is referred to if any of them is.
    pub fn of(slots: &mut [Slot]) -> Self {
        // Most ids differ in their first bytes, which lie side by side here: looking at the slots themselves is a walk all over memory.
        let mut keyed: Vec<(u64, u32)> = slots.iter().zip(0..).map(|(slot, at)| (first_bytes(&slot.oid), at)).collect();
        keyed.sort_unstable_by(|(a, at), (b, bt)| {
            let oid = |at: u32| slots[at as usize].oid;
            a.cmp(b).then_with(|| oid(*at).cmp(&oid(*bt))).then_with(|| at.cmp(bt))
        });
        let mut sorted: Vec<u32> = keyed.into_iter().map(|(_, at)| at).collect();
        sorted.dedup_by(|next, first| {
            let (next, first) = (slots[*next as usize], &mut slots[*first as usize]);
            first.referred |= next.oid == first.oid && next.referred;
            next.oid == first.oid
        });
        // About one object to a part; who made many of them begin alike has them searched as before.
        let bits = sorted.len().checked_ilog2().unwrap_or(0).clamp(1, BITS_MAX);
        let mut starts = vec![0u32; (1usize << bits) + 1];
        for at in &sorted {
            starts[part(&slots[*at as usize].oid, bits) + 1] += 1;
        }
        for part in 1..starts.len() {
            starts[part] += starts[part - 1];
        }
        Self { sorted, starts, bits }
    }

    /// The position of an object.
    pub fn find(&self, slots: &[Slot], oid: &ObjectId) -> Option<u32> {
        let part = part(oid, self.bits);
        let near = &self.sorted[self.starts[part] as usize..self.starts[part + 1] as usize];
        let found = near.binary_search_by(|at| slots[*at as usize].oid.cmp(oid)).ok()?;
        Some(near[found])
    }
}

impl Deref for Index {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.sorted
    }
}

/// In the order of ids.
fn first_bytes(oid: &ObjectId) -> u64 {
    oid.as_slice().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

fn part(oid: &ObjectId, bits: u32) -> usize {
    (first_bytes(oid) >> (u64::BITS - bits)) as usize
}

#[cfg(test)]
mod tests {
    use super::super::table::NONE;
    use super::*;

    fn slot(oid: [u8; 20], referred: bool) -> Slot {
        Slot {
            offset: 0,
            oid: ObjectId::Sha1(oid),
            sha256: [0; 32],
            crc32: 0,
            size: 0,
            base: NONE,
            depth: 0,
            kind: None,
            referred,
            longest: 0,
        }
    }

    #[test]
    fn each_object_is_found_and_nothing_else() {
        for count in [0usize, 1, 2, 3, 700, 70_000] {
            // Scattered over all parts; every third begins like the one before.
            let oid = |at: usize| {
                let mut oid = [0; 20];
                oid[..4].copy_from_slice(&((at - at % 3) as u32).wrapping_mul(2_654_435_761).to_be_bytes());
                oid[12..].copy_from_slice(&(at as u64).to_be_bytes());
                oid
            };
            let mut slots: Vec<Slot> = (0..count).map(|at| slot(oid(at), false)).collect();
            let index = Index::of(&mut slots);
            assert_eq!(index.len(), count);
            assert!(index.windows(2).all(|pair| slots[pair[0] as usize].oid < slots[pair[1] as usize].oid));
            for (at, slot) in slots.iter().enumerate() {
                assert_eq!(index.find(&slots, &slot.oid), Some(at as u32), "{count}");
            }
            for absent in [oid(count), oid(count + 5), [0xff; 20]] {
                assert_eq!(index.find(&slots, &ObjectId::Sha1(absent)), None, "{count}");
            }
        }
    }

    #[test]
    fn the_first_of_two_is_kept_and_knows_of_both() {
        let mut slots = vec![slot([7; 20], false), slot([3; 20], false), slot([7; 20], true)];
        let index = Index::of(&mut slots);
        assert_eq!(*index, [1, 0]);
        assert_eq!((slots[0].referred, slots[1].referred), (true, false));
        assert_eq!(index.find(&slots, &ObjectId::Sha1([7; 20])), Some(0));
    }
}
