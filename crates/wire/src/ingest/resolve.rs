//! Deltas become objects: depth first, without recursion, holding few contents at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use treehold_object::Kind;
use treehold_object::pack::{EntryHeader, EntryKind};
use treehold_object::zlib::Inflater;

use super::scan::{damaged, deeper};
use super::table::{NONE, Seen, Slot, Table};
use super::{IngestError, IngestOptions};
use crate::delta;

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
struct Children {
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl Children {
    /// Of the `OFS_DELTA` entries. The lightest subtree comes first, so that a base is let go of before the heaviest
    /// is entered, and at most log2(n) bases wait at a time.
    fn new(slots: &[Slot]) -> Self {
        let mut weights = vec![1u32; slots.len()];
        let mut starts = vec![0u32; slots.len() + 1];
        for (at, slot) in slots.iter().enumerate().rev() {
            if slot.base != NONE {
                // A base comes before its deltas, so that `at` is complete when it is added.
                weights[slot.base as usize] = weights[slot.base as usize].saturating_add(weights[at]);
                starts[slot.base as usize + 1] += 1;
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

    fn of(&self, at: u32) -> &[u32] {
        &self.order[self.starts[at as usize] as usize..self.starts[at as usize + 1] as usize]
    }
}

/// Names every delta of the table.
pub(super) fn resolve(
    file: &File,
    options: &IngestOptions<'_>,
    table: &Table<'_>,
    data_end: u64,
) -> Result<(), IngestError> {
    let children = Children::new(&table.lock().slots);
    let (next_root, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = || {
        let shared = Shared { file, options, table, data_end, children: &children, stop: &stop };
        let result = Walk::new(&shared).all(&next_root);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    let mut results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..options.threads).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for helper in helpers {
            results.push(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    // The thread that found the trouble knows more than those that were stopped for it.
    results.sort_by_key(|result| !matches!(result, Err(error) if !matches!(error, IngestError::Cancelled)));
    results.into_iter().collect::<Result<(), _>>()?;
    table.lock().unresolved().map_or(Ok(()), Err)
}

struct Shared<'a> {
    file: &'a File,
    options: &'a IngestOptions<'a>,
    table: &'a Table<'a>,
    data_end: u64,
    children: &'a Children,
    stop: &'a AtomicBool,
}

/// A base on the way from a whole object to where the walk is.
struct Frame<'a> {
    at: u32,
    /// `None` if dropped for memory.
    content: Option<Arc<Vec<u8>>>,
    ofs: &'a [u32],
    refs: Vec<u32>,
}

impl Frame<'_> {
    fn next_child(&mut self) -> Option<u32> {
        if let Some(child) = self.refs.pop() {
            return Some(child);
        }
        let (child, rest) = self.ofs.split_first()?;
        self.ofs = rest;
        Some(*child)
    }

    fn is_done(&self) -> bool {
        self.refs.is_empty() && self.ofs.is_empty()
    }
}

struct Walk<'a> {
    shared: &'a Shared<'a>,
    inflater: Inflater,
    seen: Seen,
    stack: Vec<Frame<'a>>,
    /// Bytes of content in `stack`.
    held: usize,
}

impl<'a> Walk<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, inflater: Inflater::default(), seen: Seen::default(), stack: Vec::new(), held: 0 }
    }

    /// Takes whole objects one by one until there are no more.
    fn all(&mut self, next_root: &AtomicU32) -> Result<(), IngestError> {
        let total = self.shared.table.lock().slots.len() as u32;
        loop {
            let root = next_root.fetch_add(1, Ordering::Relaxed);
            if root >= total {
                return Ok(());
            }
            let Some((kind, refs)) = self.shared.table.root(root) else { continue };
            let ofs = self.shared.children.of(root);
            if !ofs.is_empty() || !refs.is_empty() {
                self.stack.push(Frame { at: root, content: None, ofs, refs });
                self.descend(kind)?;
            }
        }
    }

    fn descend(&mut self, kind: Kind) -> Result<(), IngestError> {
        while let Some(top) = self.stack.last_mut() {
            let Some(child) = top.next_child() else {
                self.pop();
                continue;
            };
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(IngestError::Cancelled);
            }
            self.shared.options.cancelled()?;
            let (at, done) = (top.at, top.is_done());
            let base = self.top_content()?;
            if done {
                self.pop();
            }
            let (content, refs) = self.child(child, at, kind, &base)?;
            drop(base);
            let ofs = self.shared.children.of(child);
            if !ofs.is_empty() || !refs.is_empty() {
                self.held += content.len();
                self.stack.push(Frame { at: child, content: Some(Arc::new(content)), ofs, refs });
                self.trim();
            }
        }
        Ok(())
    }

    /// Makes and names the object `child` from its base.
    fn child(&mut self, child: u32, base_at: u32, kind: Kind, base: &[u8]) -> Result<(Vec<u8>, Vec<u32>), IngestError> {
        let (slot, end) = {
            let mut state = self.shared.table.lock();
            let depth = deeper(state.slots[base_at as usize].depth, &self.shared.options.limits)?;
            state.slots[child as usize].depth = depth;
            state.span(child, self.shared.data_end)
        };
        let content = self.apply(base, slot, end)?;
        self.shared.table.name(child, kind, &content, &mut self.seen)?;
        let mut state = self.shared.table.lock();
        let oid = state.slots[child as usize].oid;
        let refs = state.claim(&oid, child);
        drop(state);
        Ok((content, refs))
    }

    fn apply(&mut self, base: &[u8], slot: Slot, end: u64) -> Result<Vec<u8>, IngestError> {
        let delta = read_entry(self.shared.file, &mut self.inflater, slot.offset, end)?;
        self.shared.table.charge(delta.len() as u64 + u64::from(slot.size))?;
        delta::apply(base, &delta, u64::from(slot.size)).map_err(|error| damaged(slot.offset, error))
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
            if self.held <= self.shared.options.cache_bytes() {
                break;
            }
            self.held -= frame.content.take().map_or(0, |content| content.len());
        }
    }

    /// The content of the top frame; made again from the nearest one that is still held, if it was dropped.
    fn top_content(&mut self) -> Result<Arc<Vec<u8>>, IngestError> {
        let Some(top) = self.stack.last() else { return Ok(Arc::default()) };
        if let Some(content) = &top.content {
            return Ok(Arc::clone(content));
        }
        let mut path = Vec::new();
        let mut frames = self.stack.iter().rev().peekable();
        let (mut at, mut content) = (top.at, None);
        loop {
            if frames.peek().is_some_and(|frame| frame.at == at)
                && let Some(frame) = frames.next()
                && let Some(held) = &frame.content
            {
                content = Some(Arc::clone(held));
                break;
            }
            let (slot, end) = self.shared.table.lock().span(at, self.shared.data_end);
            path.push((slot, end));
            if slot.base == NONE {
                break;
            }
            at = slot.base;
        }
        while let Some((slot, end)) = path.pop() {
            content = Some(Arc::new(match content {
                Some(base) => self.apply(&base, slot, end)?,
                None => {
                    self.shared.table.charge(u64::from(slot.size))?;
                    read_entry(self.shared.file, &mut self.inflater, slot.offset, end)?
                }
            }));
        }
        let content = content.unwrap_or_default();
        self.held += content.len();
        if let Some(top) = self.stack.last_mut() {
            top.content = Some(Arc::clone(&content));
        }
        self.trim();
        Ok(content)
    }
}

/// The header of an entry that holds a whole object.
pub(super) fn whole(header: &EntryHeader) -> Option<Kind> {
    match header.kind {
        EntryKind::Whole(kind) => Some(kind),
        EntryKind::OfsDelta { .. } | EntryKind::RefDelta { .. } => None,
    }
}
