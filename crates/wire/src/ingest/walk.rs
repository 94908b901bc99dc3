//! Deltas become objects: depth first, without recursion, holding few contents at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use treehold_object::Kind;
use treehold_object::pack::EntryHeader;
use treehold_object::zlib::Inflater;

use super::IngestError;
use super::scan::damaged;
use super::table::{NONE, Slot};
use treehold_object::delta;

/// The content of the entry in `[offset, end)`: an object or a delta.
pub(super) fn read_entry(file: &File, inflater: &mut Inflater, offset: u64, end: u64) -> Result<Vec<u8>, IngestError> {
    let (header, bytes, at) = read_raw(file, offset, end)?;
    // The scan has seen this stream inflate to this size.
    let (content, _) = inflater.inflate(&bytes[at..], header.size).map_err(|error| damaged(offset, error))?;
    Ok(content)
}

/// The header of the entry in `[offset, end)`, its bytes, and where in them the zlib stream begins.
pub(super) fn read_raw(file: &File, offset: u64, end: u64) -> Result<(EntryHeader, Vec<u8>, usize), IngestError> {
    let mut bytes = vec![0; (end - offset) as usize];
    file.read_exact_at(&mut bytes, offset)?;
    match EntryHeader::decode(&bytes) {
        Ok(Some((header, at))) => Ok((header, bytes, at)),
        _ => Err(damaged(offset, "the spooled pack changed while it was read")),
    }
}

/// Which entries are deltas against which: for each entry a range of `order`.
///
/// The lightest subtree comes first, so that a base is let go of before the heaviest is entered, and at most log2(n)
/// bases wait at a time.
pub(super) struct Children {
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl Children {
    /// Of slots whose bases all come before them, as those of `OFS_DELTA` entries do.
    pub fn of_offsets(slots: &[Slot]) -> Self {
        Self::new(slots, (0..slots.len()).rev())
    }

    /// Of slots that all have their depth.
    pub fn of_resolved(slots: &[Slot]) -> Self {
        let mut deepest_first: Vec<u32> = (0..slots.len() as u32).collect();
        deepest_first.sort_unstable_by_key(|at| std::cmp::Reverse(slots[*at as usize].depth));
        Self::new(slots, deepest_first.into_iter().map(|at| at as usize))
    }

    /// `deepest_first` has every delta before its base.
    fn new(slots: &[Slot], deepest_first: impl Iterator<Item = usize>) -> Self {
        let mut weights = vec![1u32; slots.len()];
        let mut starts = vec![0u32; slots.len() + 1];
        for at in deepest_first {
            let base = slots[at].base;
            if base != NONE {
                weights[base as usize] = weights[base as usize].saturating_add(weights[at]);
                starts[base as usize + 1] += 1;
            }
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut order = vec![0u32; starts[slots.len()] as usize];
        let mut next = starts.clone();
        for (at, slot) in slots.iter().enumerate() {
            if slot.base != NONE {
                let place = &mut next[slot.base as usize];
                order[*place as usize] = at as u32;
                *place += 1;
            }
        }
        drop(next);
        for pair in starts.windows(2) {
            order[pair[0] as usize..pair[1] as usize].sort_by_key(|at| weights[*at as usize]);
        }
        Self { starts, order }
    }

    pub fn of(&self, at: u32) -> &[u32] {
        &self.order[self.starts[at as usize] as usize..self.starts[at as usize + 1] as usize]
    }
}

/// Whose deltas are walked, and who is told.
pub(super) trait Source {
    /// The slot at `at`, and where its entry ends.
    fn span(&self, at: u32) -> (Slot, u64);

    /// Charges `bytes` of work to a budget, if there is one.
    fn charge(&self, bytes: u64) -> Result<(), IngestError>;

    /// Takes the object that was made of the delta at `at` and its base at `base`; returns further deltas against it
    /// that [`Children`] does not know.
    fn made(&mut self, at: u32, base: u32, kind: Kind, content: &Bytes) -> Result<Vec<u32>, IngestError>;
}

/// A base on the way from a whole object to where the walk is.
struct Frame<'a> {
    at: u32,
    /// `None` if dropped for memory.
    content: Option<Bytes>,
    known: &'a [u32],
    found: Vec<u32>,
}

impl Frame<'_> {
    fn next_child(&mut self) -> Option<u32> {
        if let Some(child) = self.found.pop() {
            return Some(child);
        }
        let (child, rest) = self.known.split_first()?;
        self.known = rest;
        Some(*child)
    }

    fn is_done(&self) -> bool {
        self.found.is_empty() && self.known.is_empty()
    }
}

/// A walk over the deltas that rest on one whole object after the other.
pub(super) struct Walk<'a, S> {
    file: &'a File,
    children: &'a Children,
    pub source: S,
    pub inflater: Inflater,
    stack: Vec<Frame<'a>>,
    /// Bytes of content in `stack`.
    held: usize,
    held_max: usize,
}

impl<'a, S: Source> Walk<'a, S> {
    /// Keeps up to `held_max` bytes of bases.
    pub fn new(file: &'a File, children: &'a Children, source: S, held_max: usize) -> Self {
        Self { file, children, source, inflater: Inflater::default(), stack: Vec::new(), held: 0, held_max }
    }

    /// Makes everything that rests on the whole object at `root`.
    pub fn descend(
        &mut self,
        root: u32,
        kind: Kind,
        content: Option<Bytes>,
        found: Vec<u32>,
    ) -> Result<(), IngestError> {
        self.push(root, content, found);
        while let Some(top) = self.stack.last_mut() {
            let Some(child) = top.next_child() else {
                self.pop();
                continue;
            };
            let (at, done) = (top.at, top.is_done());
            let base = self.top_content()?;
            if done {
                self.pop();
            }
            let (slot, end) = self.source.span(child);
            let content = self.apply(&base, slot, end)?;
            drop(base);
            let found = self.source.made(child, at, kind, &content)?;
            self.push(child, Some(content), found);
        }
        Ok(())
    }

    fn push(&mut self, at: u32, content: Option<Bytes>, found: Vec<u32>) {
        let known = self.children.of(at);
        if !known.is_empty() || !found.is_empty() {
            self.held += content.as_ref().map_or(0, Bytes::len);
            self.stack.push(Frame { at, content, known, found });
            self.trim();
        }
    }

    fn pop(&mut self) {
        if let Some(frame) = self.stack.pop() {
            self.held -= frame.content.map_or(0, |content| content.len());
        }
    }

    /// Drops contents, those farthest from the top first, until they fit.
    fn trim(&mut self) {
        let keep = self.stack.len().saturating_sub(1);
        for frame in &mut self.stack[..keep] {
            if self.held <= self.held_max {
                break;
            }
            self.held -= frame.content.take().map_or(0, |content| content.len());
        }
    }

    fn apply(&mut self, base: &[u8], slot: Slot, end: u64) -> Result<Bytes, IngestError> {
        let delta = read_entry(self.file, &mut self.inflater, slot.offset, end)?;
        self.source.charge(delta.len() as u64 + u64::from(slot.size))?;
        let content = delta::apply(base, &delta, u64::from(slot.size)).map_err(|error| damaged(slot.offset, error))?;
        Ok(content.into())
    }

    /// The content of the top frame; made again from the nearest one that is still held, if it was dropped.
    fn top_content(&mut self) -> Result<Bytes, IngestError> {
        let Some(top) = self.stack.last() else { return Ok(Bytes::new()) };
        if let Some(content) = &top.content {
            return Ok(content.clone());
        }
        let mut path = Vec::new();
        let mut frames = self.stack.iter().rev().peekable();
        let (mut at, mut content) = (top.at, None);
        loop {
            if frames.peek().is_some_and(|frame| frame.at == at)
                && let Some(frame) = frames.next()
                && let Some(held) = &frame.content
            {
                content = Some(held.clone());
                break;
            }
            let (slot, end) = self.source.span(at);
            path.push((slot, end));
            if slot.base == NONE {
                break;
            }
            at = slot.base;
        }
        while let Some((slot, end)) = path.pop() {
            content = Some(match content {
                Some(base) => self.apply(&base, slot, end)?,
                None => {
                    self.source.charge(u64::from(slot.size))?;
                    read_entry(self.file, &mut self.inflater, slot.offset, end)?.into()
                }
            });
        }
        let content = content.unwrap_or_default();
        self.held += content.len();
        if let Some(top) = self.stack.last_mut() {
            top.content = Some(content.clone());
        }
        self.trim();
        Ok(content)
    }
}
