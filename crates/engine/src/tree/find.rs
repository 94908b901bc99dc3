//! Finding many paths at once.

use std::collections::HashMap;
use std::sync::Arc;

use treehold_object::{BString, ObjectId};

use super::{Item, Tree};
use crate::{Engine, Result};

/// What is at a path.
pub(crate) type Found = Option<Item>;

/// A path on its way down: what is left of it below the tree where it stands.
struct Cursor<'a> {
    index: usize,
    tree: ObjectId,
    rest: &'a [u8],
}

fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&b| b == b'/') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

impl Engine {
    /// What the tree `root` has at each path, trees included, in the order given. Trees that were read before cost nothing; of the
    /// others one batch is read for each level.
    pub(crate) async fn find_paths(&self, root: Option<ObjectId>, paths: &[BString]) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = vec![None; paths.len()];
        let Some(root) = root else { return Ok(found) };
        let paths = paths.iter().enumerate();
        let mut waiting: Vec<_> = paths.map(|(index, path)| Cursor { index, tree: root, rest: path }).collect();
        let mut known: HashMap<ObjectId, Arc<Tree>> = HashMap::new();
        loop {
            waiting.retain_mut(|cursor| !self.descend(cursor, &mut known, &mut found));
            if waiting.is_empty() {
                return Ok(found);
            }
            let missing: Vec<ObjectId> = waiting.iter().map(|cursor| cursor.tree).collect();
            let few = self.few_trees(&missing).await?;
            if few < missing.len() {
                // They are large, and go as soon as all that stand in them were looked up.
                known.clear();
            }
            known.extend(self.decoded_trees(&missing[..few]).await?);
        }
    }

    /// Goes down as far as trees are in memory; whether that was to the end.
    fn descend(&self, cursor: &mut Cursor<'_>, known: &mut HashMap<ObjectId, Arc<Tree>>, found: &mut [Found]) -> bool {
        loop {
            let tree = match known.get(&cursor.tree) {
                Some(tree) => tree,
                None => match self.cached_tree(&cursor.tree) {
                    Some(tree) => &*known.entry(cursor.tree).or_insert(tree),
                    None => return false,
                },
            };
            let (name, rest) = split(cursor.rest);
            match (tree.find(name), rest) {
                (Some(item), Some(rest)) if item.is_tree() => (cursor.tree, cursor.rest) = (item.oid, rest),
                (Some(item), None) => {
                    if let Some(place) = found.get_mut(cursor.index) {
                        *place = Some(item);
                    }
                    return true;
                }
                _ => return true,
            }
        }
    }
}
