//! Which entries of one stored pack can be copied as they stand.

use treehold_catalog::Located;

/// The entries of one pack that go out, front to back, as ranges of the pack without gaps.
#[derive(Debug, Default)]
pub(super) struct Planned(Vec<std::ops::Range<u64>>);

impl Planned {
    /// Splits `rows`, sorted by offset and behind all planned before, into those that can be copied and those that must go out
    /// whole, as their base does not go out before them from this pack.
    pub fn plan(&mut self, rows: Vec<Located>, deltas: bool) -> (Vec<Located>, Vec<Located>) {
        rows.into_iter().partition(|row| {
            let copied = row.base.is_none_or(|base| deltas && self.holds(base));
            if copied {
                self.add(row.offset, row.offset + row.length);
            }
            copied
        })
    }

    /// Entries start only where planned ones do, so that any place in a range is one of them.
    fn holds(&self, base: u64) -> bool {
        let after = self.0.partition_point(|range| range.start <= base);
        after > 0 && base < self.0[after - 1].end
    }

    fn add(&mut self, start: u64, end: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => self.0.push(start..end),
        }
    }
}

#[cfg(test)]
mod tests {
    use treehold_object::{Kind, ObjectId};

    use super::*;

    fn row(offset: u64, base: Option<u64>) -> Located {
        Located {
            oid: ObjectId::Sha1([0; 20]),
            number: offset,
            kind: Kind::Blob,
            size: 1,
            key_id: 1,
            key: "objects/pack/p.pack".into(),
            offset,
            length: 10,
            base,
        }
    }

    #[test]
    fn deltas_are_copied_only_behind_their_bases() {
        let mut planned = Planned::default();
        let offsets = |rows: Vec<Located>| rows.into_iter().map(|row| row.offset).collect::<Vec<_>>();
        let (copies, whole) =
            planned.plan(vec![row(12, None), row(22, Some(12)), row(52, Some(32)), row(62, None)], true);
        assert_eq!((offsets(copies), offsets(whole)), (vec![12, 22, 62], vec![52]));
        // On the next page: a base of the page before, one that goes out whole, and one behind.
        let (copies, whole) = planned.plan(vec![row(72, Some(62)), row(82, Some(52)), row(92, Some(102))], true);
        assert_eq!((offsets(copies), offsets(whole)), (vec![72], vec![82, 92]));
        assert_eq!(planned.0, [12..32, 62..82]);
        let (copies, whole) = planned.plan(vec![row(112, None), row(122, Some(112))], false);
        assert_eq!((offsets(copies), offsets(whole)), (vec![112], vec![122]));
    }
}
