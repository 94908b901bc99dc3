//! Packs of whole objects made from a quarantine: everything, or copies of the head's files that would be slow to read as deltas.

use std::collections::HashSet;

use bytes::Bytes;
use tokio::sync::mpsc;
use treehold_object::pack::Span;
use treehold_object::{ObjectId, hash};
use treehold_store::{FinishedPack, ObjectStore, PackBuilder};
use treehold_wire::Quarantine;
use treehold_wire::ingest::PackedObject;

use super::{ROW_BYTES, ROWS, commit_row, unreadable};
use crate::tree::{GITLINK, entries};
use crate::{EngineError, Result};

/// A chain that spreads over more of its pack than this is not read with one range, bytes.
const NEAR: u64 = 256 << 10;
/// Copies take at most so much of the size of the pack that is kept: 1 / 8.
const COPIES_SHARE: u64 = 8;

/// Longest chain that is kept, as git makes them.
const DEPTH_MAX: u16 = 50;
/// Content of bases that any object may rest on, however small it is, bytes.
const COST_MIN: u64 = 16 << 20;

/// What is written whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    /// All objects: the head's trees, its blobs in path order, then history. The received pack is dropped.
    Everything,
    /// Beside the received pack: what is dear to read there, and the head's blobs, in path order, that stand in it as deltas far from
    /// their bases.
    WhereTheyPay,
}

/// What the storing thread hands over, in the order in which it becomes durable.
pub(super) enum Piece {
    Pack(FinishedPack),
    Trees(Vec<(ObjectId, Bytes)>),
}

/// Writes packs on a thread of its own.
pub(super) struct Packing<'a> {
    store: &'a ObjectStore,
    source: &'a Quarantine,
    hand_over: &'a mpsc::Sender<Piece>,
    done: HashSet<ObjectId>,
    builder: Option<PackBuilder>,
    trees: Vec<(ObjectId, Bytes)>,
    tree_bytes: usize,
}

impl<'a> Packing<'a> {
    pub fn new(store: &'a ObjectStore, source: &'a Quarantine, hand_over: &'a mpsc::Sender<Piece>) -> Self {
        Self { store, source, hand_over, done: HashSet::new(), builder: None, trees: Vec::new(), tree_bytes: 0 }
    }

    pub fn run(mut self, copies: Copies, tip: Option<ObjectId>) -> Result<()> {
        // What only deltas of the received pack rest on is stored already.
        self.done.extend(self.source.borrowed());
        let blobs = match tip {
            Some(tip) => {
                let (_, raw) =
                    self.source.read(&tip).map_err(unreadable)?.ok_or_else(|| EngineError::internal("no tip"))?;
                self.head(commit_row(tip, raw)?.tree, copies)?
            }
            None => Vec::new(),
        };
        self.flush_trees()?;
        match copies {
            Copies::Everything => {
                for blob in blobs {
                    self.add(blob)?;
                }
                for object in self.source.iter() {
                    self.add(object.oid)?;
                }
            }
            Copies::WhereTheyPay => self.add_copies(blobs)?,
        }
        self.flush_pack()
    }

    /// Hands over the head's trees, parents first; its blobs, in path order.
    fn head(&mut self, root: ObjectId, copies: Copies) -> Result<Vec<ObjectId>> {
        let (mut blobs, mut met, mut waiting) = (Vec::new(), HashSet::from([root]), Vec::new());
        waiting.extend(self.source.contains(&root).then_some((root, true)));
        while let Some((oid, is_tree)) = waiting.pop() {
            if !is_tree {
                blobs.push(oid);
                continue;
            }
            let (_, raw) =
                self.source.read(&oid).map_err(unreadable)?.ok_or_else(|| EngineError::internal("lost tree"))?;
            meet(&raw, &mut met, &mut waiting, |oid| self.source.contains(oid))?;
            if copies == Copies::Everything {
                self.add(oid)?;
            }
            self.tree_bytes += raw.len();
            self.trees.push((oid, raw));
            if self.trees.len() >= ROWS || self.tree_bytes >= ROW_BYTES {
                self.flush_trees()?;
            }
        }
        Ok(blobs)
    }

    /// What would be dear to read, whatever it takes, as nobody may be made to pay for a chain that was built to be dear; then files
    /// of the head until they have their share of the pack.
    fn add_copies(&mut self, blobs: Vec<ObjectId>) -> Result<()> {
        let allowance = |size: u64| size.saturating_mul(u64::from(DEPTH_MAX) + 14).saturating_add(COST_MIN);
        for oid in self.source.costly(DEPTH_MAX, allowance) {
            self.add(oid)?;
        }
        let mut left = self.source.pack_len() / COPIES_SHARE;
        for oid in blobs {
            let (Some(object), Some(bases)) = (self.source.get(&oid), self.source.bases(&oid)) else { continue };
            if self.done.contains(&oid) || spread(&object, &bases) <= NEAR {
                continue;
            }
            let before = self.builder.as_ref().map_or(0, PackBuilder::bytes);
            // Deflated text is rarely larger than half of it: a guess that only says when to look closer.
            if object.size / 2 > left {
                continue;
            }
            self.add(oid)?;
            let added = self.builder.as_ref().map_or(0, |builder| builder.bytes().saturating_sub(before));
            left = left.saturating_sub(added);
        }
        Ok(())
    }

    fn add(&mut self, oid: ObjectId) -> Result<()> {
        if !self.done.insert(oid) {
            return Ok(());
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => none.insert(self.store.pack_builder()),
        };
        let (kind, content) =
            self.source.read(&oid).map_err(unreadable)?.ok_or_else(|| EngineError::internal("lost object"))?;
        match self.source.compressed(&oid).map_err(unreadable)? {
            Some((_, _, zlib)) => {
                builder.add_compressed(oid, kind, content.len() as u64, hash::sha256(kind, &content), &zlib)?
            }
            None => builder.add(oid, kind, &content)?,
        };
        if builder.is_full() {
            self.flush_pack()?;
        }
        Ok(())
    }

    fn flush_pack(&mut self) -> Result<()> {
        match self.builder.take() {
            Some(builder) => self.send(Piece::Pack(builder.finish()?)),
            None => Ok(()),
        }
    }

    fn flush_trees(&mut self) -> Result<()> {
        self.tree_bytes = 0;
        match std::mem::take(&mut self.trees) {
            trees if trees.is_empty() => Ok(()),
            trees => self.send(Piece::Trees(trees)),
        }
    }

    fn send(&self, piece: Piece) -> Result<()> {
        self.hand_over.blocking_send(piece).map_err(|_| EngineError::internal("storing was given up"))
    }
}

/// Puts before all that waits what a tree holds, in its order, if it is in the pack and was not met before: however often trees name
/// something, it waits once.
fn meet(
    raw: &[u8],
    met: &mut HashSet<ObjectId>,
    waiting: &mut Vec<(ObjectId, bool)>,
    is_there: impl Fn(&ObjectId) -> bool,
) -> Result<()> {
    let at = waiting.len();
    for entry in entries(raw) {
        let (_, item) = entry?;
        if item.mode != GITLINK && is_there(&item.oid) && met.insert(item.oid) {
            waiting.push((item.oid, item.is_tree()));
        }
    }
    waiting[at..].reverse();
    Ok(())
}

/// How much of the pack lies between the first and the last byte that an object needs; 0 for one that stands there whole.
fn spread(object: &PackedObject, bases: &[Span]) -> u64 {
    if bases.is_empty() {
        return 0;
    }
    let own = Span { offset: object.offset, length: object.packed_len };
    let spans = bases.iter().chain(std::iter::once(&own));
    let start = spans.clone().map(|span| span.offset).min().unwrap_or_default();
    let end = spans.map(|span| span.offset + span.length).max().unwrap_or_default();
    end - start
}

#[cfg(test)]
mod tests {
    use treehold_object::BString;

    use super::*;
    use crate::tree::{FILE, Item, TREE, encode};

    /// Goal: trees that lie in each other and name the same files again, thousands of times each, take no more memory than their pack has
    /// objects.
    #[test]
    fn what_waits_does_not_wait_again() {
        let oid = |byte: u8| ObjectId::Sha1([byte; 20]);
        let names: Vec<BString> = (0..1_000).map(|name| format!("f{name:04}").into()).collect();
        let tree = |below: u8| {
            let item = |at: usize| match at {
                0 => Item { mode: TREE, oid: oid(below) },
                _ => Item { mode: FILE, oid: oid(1 + (at % 3) as u8) },
            };
            encode(names.iter().enumerate().map(|(at, name)| (name, item(at)))).expect("a tree")
        };
        let (mut met, mut waiting) = (HashSet::new(), Vec::new());
        for below in 10..30 {
            meet(&tree(below), &mut met, &mut waiting, |there| *there != oid(1)).expect("a tree");
            // What is below comes before the files beside it.
            assert_eq!(waiting.pop(), Some((oid(below), true)));
            assert_eq!(waiting, [(oid(3), false), (oid(2), false)]);
        }
    }
}
