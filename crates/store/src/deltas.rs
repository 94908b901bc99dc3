//! Objects that stand in their packs as deltas: everything that their chains need is read at once, then applied.
//!
//! A chain never leaves its pack, and the ledger knows all of it, so that a delta costs no more round trips than a whole object.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;
use treehold_object::delta;
use treehold_object::pack::{EntryHeader, EntryKind, Span};
use treehold_object::zlib::Inflater;

use crate::object_store::Location;

/// Entries of one group, those that several chains have in common counted each time, bytes.
const GROUP_BYTES: u64 = 8 << 20;
/// What is made of chains on the way stays for other objects of the same read, up to so many bytes.
const MADE_MAX: usize = 32 << 20;
/// No base may be larger, bytes: what the ledger says nothing about.
const BASE_MAX: u64 = 1 << 30;

/// Deltas of one pack that are read together.
#[derive(Debug, Clone)]
pub(crate) struct Chains {
    pub key: String,
    /// Place in what the caller asked for, and the object.
    pub members: Vec<(usize, Location)>,
}

impl Chains {
    /// Those of `locations` that are deltas, by pack, in groups of bounded size.
    pub fn of(locations: &[Location]) -> Vec<Self> {
        let mut packs: BTreeMap<&str, Vec<(usize, Location)>> = BTreeMap::new();
        for (at, location) in locations.iter().enumerate().filter(|(_, location)| !location.bases.is_empty()) {
            packs.entry(&location.key).or_default().push((at, location.clone()));
        }
        let mut groups = Vec::new();
        for (key, mut members) in packs {
            // Neighbours have bases in common.
            members.sort_by_key(|(_, location)| location.offset);
            let (mut group, mut bytes) = (Self { key: key.to_owned(), members: Vec::new() }, 0u64);
            for (at, location) in members {
                let more = chain(&location).map(|span| span.length).fold(0, u64::saturating_add);
                if !group.members.is_empty() && bytes.saturating_add(more) > GROUP_BYTES {
                    groups.push(std::mem::replace(&mut group, Self { key: key.to_owned(), members: Vec::new() }));
                    bytes = 0;
                }
                bytes = bytes.saturating_add(more);
                group.members.push((at, location));
            }
            groups.push(group);
        }
        groups
    }

    /// Few ranges of the pack that cover all entries. Neighbours are joined where at most `gap` bytes lie between them and the
    /// result has at most `length_max` bytes; a single entry may be longer.
    pub fn ranges(&self, gap: u64, length_max: u64) -> Vec<Range<u64>> {
        let mut spans: Vec<Range<u64>> =
            self.members.iter().flat_map(|(_, location)| chain(location)).map(range).collect();
        spans.sort_unstable_by_key(|span| (span.start, span.end));
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for span in spans {
            match ranges.last_mut() {
                Some(last) if span.end <= last.end => {}
                Some(last) if span.start <= last.end.saturating_add(gap) && span.end - last.start <= length_max => {
                    last.end = span.end;
                }
                _ => ranges.push(span),
            }
        }
        ranges
    }

    /// Parts that have no range in common, each with the ranges that it has here: what one rests on need not be waited for by the others.
    pub fn apart(self, gap: u64, length_max: u64) -> Vec<Self> {
        let ranges = self.ranges(gap, length_max);
        let Self { key, members } = self;
        let home = |span: Span| ranges.partition_point(|range| range.start <= span.offset).saturating_sub(1);
        // A disjoint-set forest over the ranges: those that one chain needs are joined.
        let mut parents: Vec<usize> = (0..ranges.len()).collect();
        let mut homes = Vec::with_capacity(members.len());
        for (_, location) in &members {
            let own = root(&mut parents, home(Span { offset: location.offset, length: location.length }));
            for base in &location.bases {
                let other = root(&mut parents, home(*base));
                parents[other] = own;
            }
            homes.push(own);
        }
        let mut parts: BTreeMap<usize, Vec<(usize, Location)>> = BTreeMap::new();
        for (member, home) in members.into_iter().zip(homes) {
            parts.entry(root(&mut parents, home)).or_default().push(member);
        }
        parts.into_values().map(|members| Self { key: key.clone(), members }).collect()
    }

    /// Bytes of all objects together: how much work it is, roughly.
    pub fn content(&self) -> u64 {
        self.members.iter().map(|(_, location)| location.size).fold(0, u64::saturating_add)
    }
}

/// The object's own entry, then its bases; the last one is whole.
fn chain(location: &Location) -> impl DoubleEndedIterator<Item = Span> + Clone {
    let own = Span { offset: location.offset, length: location.length };
    std::iter::once(own).chain(location.bases.iter().copied())
}

/// The root above a node, which comes nearer to it.
fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

fn range(span: Span) -> Range<u64> {
    span.offset..span.offset.saturating_add(span.length)
}

/// Makes objects of the bytes that were read of one pack.
pub(crate) struct Resolver {
    /// By where they start in the pack.
    pieces: BTreeMap<u64, Bytes>,
    inflater: Inflater,
    /// Contents by where their entries start.
    made: HashMap<u64, Bytes>,
    held: usize,
}

impl Resolver {
    pub fn new(pieces: impl IntoIterator<Item = (u64, Bytes)>) -> Self {
        Self { pieces: pieces.into_iter().collect(), inflater: Inflater::default(), made: HashMap::new(), held: 0 }
    }

    /// The content of a delta, `None` if the bytes do not make the object that `location` names.
    pub fn content(&mut self, location: &Location) -> Option<Bytes> {
        let chain: Vec<Span> = chain(location).collect();
        let known = chain.iter().position(|span| self.made.contains_key(&span.offset));
        let start = known.unwrap_or(chain.len() - 1);
        let mut content = None;
        for (at, span) in chain.iter().enumerate().take(start + 1).rev() {
            let made = match (content, self.made.get(&span.offset)) {
                (None, Some(made)) => made.clone(),
                (base, _) => self.entry(*span, base, (at == 0).then_some(location))?,
            };
            if at > 0 {
                self.keep(span.offset, &made);
            }
            content = Some(made);
        }
        let content = content?;
        let right =
            content.len() as u64 == location.size && treehold_object::hash(location.kind, &content) == Ok(location.oid);
        right.then_some(content)
    }

    /// The content of the entry at `span`, which is whole without a `base`.
    fn entry(&mut self, span: Span, base: Option<Bytes>, object: Option<&Location>) -> Option<Bytes> {
        let bytes = self.slice(span)?;
        let (header, length) = EntryHeader::decode(&bytes).ok()??;
        let zlib = bytes.get(length..)?;
        let delta = !matches!(header.kind, EntryKind::Whole(_));
        if delta != base.is_some() || header.size > BASE_MAX {
            return None;
        }
        let (inflated, used) = self.inflater.inflate(zlib, header.size).ok()?;
        if used != zlib.len() {
            return None;
        }
        match base {
            None => Some(inflated.into()),
            Some(base) => {
                let most = object.map_or(BASE_MAX, |object| object.size);
                delta::apply(&base, &inflated, most).ok().map(Bytes::from)
            }
        }
    }

    fn slice(&self, span: Span) -> Option<Bytes> {
        let (start, piece) = self.pieces.range(..=span.offset).next_back()?;
        let from = usize::try_from(span.offset - start).ok()?;
        let to = from.checked_add(usize::try_from(span.length).ok()?)?;
        (to <= piece.len()).then(|| piece.slice(from..to))
    }

    fn keep(&mut self, offset: u64, content: &Bytes) {
        if self.held.saturating_add(content.len()) > MADE_MAX {
            self.made.clear();
            self.held = 0;
        }
        if content.len() <= MADE_MAX && self.made.insert(offset, content.clone()).is_none() {
            self.held += content.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use treehold_object::{Kind, ObjectId};

    /// Entries of ten bytes at these offsets.
    fn delta(offset: u64, bases: &[u64]) -> Location {
        let span = |offset: &u64| Span { offset: *offset, length: 10 };
        Location {
            oid: ObjectId::Sha1([0; 20]),
            kind: Kind::Blob,
            size: 1,
            key: "pack".into(),
            offset,
            length: 10,
            bases: bases.iter().map(span).collect(),
        }
    }

    fn chains(deltas: Vec<Location>) -> Chains {
        Chains { key: "pack".into(), members: deltas.into_iter().enumerate().collect() }
    }

    fn places(parts: &[Chains]) -> Vec<Vec<usize>> {
        parts.iter().map(|part| part.members.iter().map(|(at, _)| *at).collect()).collect()
    }

    #[test]
    fn chains_that_share_no_range_are_apart() {
        let near = chains(vec![delta(0, &[10]), delta(20, &[10]), delta(500, &[510]), delta(900, &[910, 505])]);
        assert_eq!(
            places(&near.clone().apart(5, 100)),
            [vec![0, 1], vec![2, 3]],
            "the last one rests on the range at 500"
        );
        assert_eq!(places(&near.apart(1000, 1000)), [vec![0, 1, 2, 3]]);
        let far = chains(vec![delta(0, &[300]), delta(100, &[400]), delta(200, &[100])]);
        assert_eq!(places(&far.apart(5, 100)), [vec![0], vec![1, 2]]);
    }

    #[test]
    fn parts_read_what_the_whole_would() {
        let mut rng = StdRng::seed_from_u64(crate::conformance::test_seed());
        for _ in 0..200 {
            let deltas = (0..rng.random_range(1..40)).map(|_| {
                let bases: Vec<u64> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..200) * 10).collect();
                delta(rng.random_range(0..200) * 10, &bases)
            });
            let whole = chains(deltas.collect());
            let (count, ranges) = (whole.members.len(), whole.ranges(25, 100));
            let parts = whole.apart(25, 100);
            let mut read: Vec<Range<u64>> = parts.iter().flat_map(|part| part.ranges(25, 100)).collect();
            read.sort_unstable_by_key(|range| range.start);
            assert_eq!(read, ranges, "the same ranges, each once");
            let mut places: Vec<usize> = places(&parts).concat();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..count), "each delta once");
        }
    }
}
