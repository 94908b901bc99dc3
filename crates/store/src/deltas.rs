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
