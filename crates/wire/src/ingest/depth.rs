//! How deep the trees of a pack are nested, and how long their paths are: what each tree has below it, found out once.

use std::collections::HashMap;

use treehold_object::tree::{self, mode};
use treehold_object::{Kind, ObjectId};

use super::{IngestError, Quarantine};

/// Trees that wait to be looked at, in all trees on the way down to one.
const WAITING_MAX: usize = 4_000_000;

/// Of a tree: levels of trees, itself included, and bytes of the longest path in it.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    depth: u16,
    path: u16,
}

impl Reach {
    /// Also has a tree with a name of so many bytes.
    fn add(&mut self, name: u16, below: Self) {
        self.depth = self.depth.max(below.depth.saturating_add(1));
        self.path = self.path.max(name.saturating_add(1).saturating_add(below.path));
    }
}

/// A tree on the way down.
struct Frame {
    at: u32,
    oid: ObjectId,
    /// Trees in it of which nothing is known yet, and the longest of the names that each has there. A tree may be in another one a million
    /// times, and frames lie on each other: each is kept once.
    below: Vec<(u32, u16)>,
    reach: Reach,
}

impl Quarantine {
    /// Refuses a pack that nests trees in more than `depth_max` levels, or has a path in a tree of more than `path_max` bytes. What it refers
    /// to and does not have counts as nothing. Blocks; trees are read, each once, where not all could be noted when they were named.
    pub fn check_depth(&self, depth_max: u16, path_max: u16) -> Result<(), IngestError> {
        let mut known: Vec<Option<Reach>> = vec![None; self.entries()];
        let mut path: Vec<Frame> = Vec::new();
        let mut waiting = 0;
        for object in self.iter().filter(|object| object.kind == Kind::Tree) {
            let Some(at) = self.position(&object.oid) else { continue };
            if known[at as usize].is_none() {
                let first = self.frame(at, object.oid, &known)?;
                waiting = first.below.len();
                path.push(first);
            }
            while let Some(frame) = path.last_mut() {
                let oid = frame.oid;
                let (below, name) = match frame.below.last() {
                    Some((below, name)) => (*below, *name),
                    None => {
                        judge(frame, depth_max, path_max)?;
                        known[frame.at as usize] = Some(frame.reach);
                        path.pop();
                        continue;
                    }
                };
                if let Some(reach) = known[below as usize] {
                    frame.reach.add(name, reach);
                    frame.below.pop();
                    waiting -= 1;
                } else if path.len() < usize::from(depth_max) {
                    let next = self.frame(below, self.oid_at(below), &known)?;
                    waiting += next.below.len();
                    if waiting > WAITING_MAX {
                        return Err(refused(
                            oid,
                            format!("more than {WAITING_MAX} trees lie beside the way down to it"),
                        ));
                    }
                    path.push(next);
                } else {
                    return Err(too_deep(oid, depth_max));
                }
            }
        }
        Ok(())
    }

    fn frame(&self, at: u32, oid: ObjectId, known: &[Option<Reach>]) -> Result<Frame, IngestError> {
        let mut frame = Frame { at, oid, below: Vec::new(), reach: Reach { depth: 1, path: 0 } };
        let mut below: HashMap<u32, u16> = HashMap::new();
        let mut enter = |name: u16, tree: Option<ObjectId>| {
            let tree = tree.and_then(|tree| self.position(&tree)).filter(|tree| self.is_tree(*tree));
            match tree {
                Some(tree) => match known[tree as usize] {
                    Some(reach) => frame.reach.add(name, reach),
                    None => {
                        let longest = below.entry(tree).or_default();
                        *longest = name.max(*longest);
                    }
                },
                None => frame.reach.path = frame.reach.path.max(name),
            }
        };
        if let Some((longest, nested)) = self.nested_in(at) {
            enter(longest, None);
            nested.iter().for_each(|nested| enter(nested.name, Some(nested.tree)));
        } else if let Some((_, content)) = self.read(&oid)? {
            for entry in tree::entries(&content) {
                let entry = entry.map_err(|error| refused(oid, error.to_string()))?;
                let name = u16::try_from(entry.name.len()).unwrap_or(u16::MAX);
                enter(name, mode::is_tree(entry.mode).then_some(entry.oid));
            }
        }
        frame.below = below.into_iter().collect();
        Ok(frame)
    }
}

fn judge(frame: &Frame, depth_max: u16, path_max: u16) -> Result<(), IngestError> {
    if frame.reach.depth > depth_max {
        return Err(too_deep(frame.oid, depth_max));
    }
    match frame.reach.path > path_max {
        true => Err(refused(frame.oid, format!("a path in it is longer than {path_max} bytes"))),
        false => Ok(()),
    }
}

fn too_deep(oid: ObjectId, depth_max: u16) -> IngestError {
    refused(oid, format!("trees are nested in more than {depth_max} levels"))
}

fn refused(oid: ObjectId, reason: String) -> IngestError {
    IngestError::BadObject { oid, kind: Kind::Tree, reason }
}
