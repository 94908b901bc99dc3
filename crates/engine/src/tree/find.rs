//! Finding many paths at once.

use std::collections::HashMap;

use treehold_object::{BString, ObjectId};

use super::{Item, entries};
use crate::{Engine, Result};

/// What is at a path.
pub(crate) type Found = Option<Item>;

/// A path on its way down: what is left of it, and where it stands.
struct Cursor<'a> {
    index: usize,
    name: &'a [u8],
    rest: Option<&'a [u8]>,
}

fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&b| b == b'/') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

impl Engine {
    /// What the tree `root` has at each path, trees included, in the order given: one batch of tree reads for each level.
    pub(crate) async fn find_paths(&self, root: Option<ObjectId>, paths: &[BString]) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = vec![None; paths.len()];
        let Some(root) = root else { return Ok(found) };
        let mut level: HashMap<ObjectId, Vec<Cursor<'_>>> = HashMap::new();
        for (index, path) in paths.iter().enumerate() {
            let (name, rest) = split(path);
            level.entry(root).or_default().push(Cursor { index, name, rest });
        }
        while !level.is_empty() {
            let oids: Vec<ObjectId> = level.keys().copied().collect();
            let trees = self.trees(&oids).await?;
            let mut next: HashMap<ObjectId, Vec<Cursor<'_>>> = HashMap::new();
            for (oid, cursors) in level {
                let mut wanted: HashMap<&[u8], Vec<Cursor<'_>>> = HashMap::new();
                for cursor in cursors {
                    wanted.entry(cursor.name).or_default().push(cursor);
                }
                for entry in entries(&trees[&oid]) {
                    let (name, item) = entry?;
                    let name: &[u8] = name;
                    for cursor in wanted.remove(name).unwrap_or_default() {
                        match cursor.rest {
                            None => found[cursor.index] = Some(item),
                            Some(rest) if item.is_tree() => {
                                let (name, rest) = split(rest);
                                next.entry(item.oid).or_default().push(Cursor { index: cursor.index, name, rest });
                            }
                            Some(_) => {}
                        }
                    }
                    if wanted.is_empty() {
                        break;
                    }
                }
            }
            level = next;
        }
        Ok(found)
    }
}
