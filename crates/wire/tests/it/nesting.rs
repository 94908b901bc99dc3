//! How deep trees are nested and how long their paths are, whatever order they come in.

use treehold_object::tree::{TreeEntry, encode_tree, mode};
use treehold_object::{Kind, ObjectId, pack::EntryKind, second_opinion};
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest};

use crate::git::spool;
use crate::hostile::Forge;
use crate::ingesting::options;

/// Whether there is room for so many bytes.
type Room<'a> = dyn Fn(u64) -> bool + Sync + 'a;

const DEPTH: u16 = 20;
const PATH: u16 = 50;

/// A tree of `levels` trees, each the only ones in the one before: `width` times, under names of so many bytes. A file is in the innermost.
fn nested(levels: usize, width: usize, name: usize) -> Vec<Vec<u8>> {
    let mut trees: Vec<Vec<u8>> = Vec::new();
    for _ in 0..levels {
        let entry = match trees.last() {
            Some(below) => (mode::TREE, second_opinion(Kind::Tree, below)),
            None => (mode::FILE, second_opinion(Kind::Blob, b"elsewhere")),
        };
        trees.push(tree(entry, width, name));
    }
    trees
}

fn tree((mode, oid): (u32, ObjectId), width: usize, name: usize) -> Vec<u8> {
    let names: Vec<String> = (0..width).map(|number| format!("{number:0name$}")).collect();
    encode_tree(names.iter().map(|name| TreeEntry { mode, name: name.as_str().into(), oid })).expect("a tree")
}

fn taken(trees: impl Iterator<Item = Vec<u8>>, room: &Room<'_>) -> Quarantine {
    let mut forge = Forge::new();
    trees.for_each(|tree| _ = forge.entry(EntryKind::Whole(Kind::Tree), tree.len() as u64, &tree));
    let options = IngestOptions { room: Some(room), ..options(IngestLimits::default()) };
    ingest(spool(&forge.finish()), &options).expect("a pack")
}

#[track_caller]
fn judged(trees: &[Vec<u8>], depth: u16, path: u16, says: Option<&str>) {
    // Room for the objects of a small pack, and not for what is noted of its trees.
    let (roomy, tight) = (|_| true, |bytes| bytes < 100_000);
    let rooms: [&Room<'_>; 2] = [&roomy, &tight];
    let taken = rooms
        .into_iter()
        .flat_map(|room| [taken(trees.iter().cloned(), room), taken(trees.iter().rev().cloned(), room)]);
    for quarantine in taken {
        match (quarantine.check_depth(depth, path), says) {
            (Ok(()), None) => {}
            (Err(IngestError::BadObject { kind: Kind::Tree, reason, .. }), Some(says)) => {
                assert!(reason.contains(says), "{reason}");
            }
            (judged, _) => panic!("{judged:?}"),
        }
    }
}

#[test]
fn depth_and_length_have_limits() {
    let fits = usize::from(DEPTH);
    judged(&nested(fits, 1, 1), DEPTH, u16::MAX, None);
    judged(&nested(fits + 1, 1, 1), DEPTH, u16::MAX, Some("more than 20 levels"));
    // Ten names of four bytes and the slashes between them, then another one.
    judged(&nested(10, 1, 4), DEPTH, PATH - 1, None);
    judged(&nested(11, 1, 4), DEPTH, PATH, Some("longer than 50 bytes"));
    judged(&nested(11, 1, 4), DEPTH, PATH + 4, None);
}

/// Goal: what is there many times is looked at once.
#[test]
fn a_bomb_is_looked_at_once() {
    judged(&nested(20, 10, 1), DEPTH, PATH, None);
    judged(&nested(21, 10, 1), DEPTH, PATH, Some("more than 20 levels"));
}

/// Goal: trees that the pack does not have count as nothing.
#[test]
fn trees_elsewhere_count_as_nothing() {
    let known = second_opinion(Kind::Tree, b"not here");
    let mut trees = vec![tree((mode::TREE, known), 2, 3)];
    trees.push(tree((mode::TREE, second_opinion(Kind::Tree, &trees[0])), 1, 3));
    judged(&trees, 2, 7, None);
    judged(&trees, 1, 7, Some("more than 1 levels"));
    judged(&trees, 2, 6, Some("longer than 6 bytes"));
}
