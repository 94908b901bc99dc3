//! Which entries of one stored pack can be copied as they stand.

use std::ops::Range;

use treehold_store::{RawBase, RawRun};

/// The entries of one pack that go out, front to back, as ranges of the pack without gaps.
#[derive(Debug, Default)]
pub(super) struct Planned(Vec<Range<u64>>);

impl Planned {
    /// Of the entries of `run`, which lies behind all planned before: whether each can be copied. Else it must go out whole, as
    /// what it rests on does not go out before it from this pack.
    pub fn plan(&mut self, run: &RawRun, deltas: bool) -> Vec<bool> {
        let entries = run.entries.iter().map(|entry| {
            let copied = match entry.base {
                RawBase::Whole => true,
                RawBase::At(base) => deltas && self.holds(base),
                RawBase::Named(_) => false,
            };
            if copied {
                let start = run.start + entry.span.offset;
                self.add(start, start + entry.span.length);
            }
            copied
        });
        entries.collect()
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
    use treehold_object::ObjectId;
    use treehold_object::pack::Span;
    use treehold_store::RawEntry;

    use super::*;

    /// Entries of ten bytes each, from `start` on.
    fn run(start: u64, bases: &[RawBase]) -> RawRun {
        let entry = |(at, base): (u64, &RawBase)| RawEntry {
            oid: ObjectId::Sha1([0; 20]),
            span: Span { offset: at * 10, length: 10 },
            crc32: 0,
            base: *base,
        };
        RawRun { start, bytes: bytes::Bytes::new(), entries: (0..).zip(bases).map(entry).collect() }
    }

    #[test]
    fn deltas_are_copied_only_behind_their_bases() {
        use RawBase::{At, Named, Whole};
        let mut planned = Planned::default();
        assert_eq!(planned.plan(&run(12, &[Whole, At(12)]), true), [true, true]);
        assert_eq!(planned.plan(&run(52, &[At(32), Whole]), true), [false, true]);
        // A base of another run, one that goes out whole, one that is behind, and one by name.
        let named = Named(ObjectId::Sha1([1; 20]));
        assert_eq!(planned.plan(&run(72, &[At(62), At(52), At(102), named]), true), [true, false, false, false]);
        assert_eq!(planned.0, [12..32, 62..82]);
        assert_eq!(planned.plan(&run(112, &[Whole, At(112)]), false), [true, false]);
    }
}
