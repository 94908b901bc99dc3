//! How deep the trees of a pack are nested, and how long their paths are: what each tree has below it, found out once.

use treehold_object::tree::{self, mode};
use treehold_object::{Kind, ObjectId};

use super::{IngestError, Quarantine};

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
    /// Trees in it that the pack has, and the lengths of their names.
    below: Vec<(u32, u16)>,
    reach: Reach,
}

impl Quarantine {
    /// Refuses a pack that nests trees in more than `depth_max` levels, or has a path in a tree of more than `path_max` bytes. What it refers
    /// to and does not have counts as nothing. Blocks, and reads each tree once.
    pub fn check_depth(&self, depth_max: u16, path_max: u16) -> Result<(), IngestError> {
        let mut known: Vec<Option<Reach>> = vec![None; self.entries()];
        let mut path: Vec<Frame> = Vec::new();
        for object in self.iter().filter(|object| object.kind == Kind::Tree) {
            let Some(at) = self.position(&object.oid) else { continue };
            if known[at as usize].is_none() {
                path.push(self.frame(at, object.oid)?);
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
                } else if path.len() < usize::from(depth_max) {
                    path.push(self.frame(below, self.oid_at(below))?);
                } else {
                    return Err(too_deep(oid, depth_max));
                }
            }
        }
        Ok(())
    }

    fn frame(&self, at: u32, oid: ObjectId) -> Result<Frame, IngestError> {
        let mut frame = Frame { at, oid, below: Vec::new(), reach: Reach { depth: 1, path: 0 } };
        let Some((_, content)) = self.read(&oid)? else { return Ok(frame) };
        for entry in tree::entries(&content) {
            let entry = entry.map_err(|error| refused(oid, error.to_string()))?;
            let name = u16::try_from(entry.name.len()).unwrap_or(u16::MAX);
            let below = mode::is_tree(entry.mode).then(|| self.position(&entry.oid)).flatten();
            match below.filter(|below| self.is_tree(*below)) {
                Some(below) => frame.below.push((below, name)),
                None => frame.reach.path = frame.reach.path.max(name),
            }
        }
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
