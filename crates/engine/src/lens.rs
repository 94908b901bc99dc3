//! What a path was in the trees of a history, many trees in one go.

use std::collections::HashMap;

use treehold_object::{BString, ObjectId};

use crate::graph::Known;
use crate::tree::Item;
use crate::{Engine, Result};

/// Commits looked at ahead, so that a history costs few round trips.
const AHEAD: usize = 64;

/// A path, and what is known of it.
#[derive(Debug)]
pub(crate) struct Lens {
    path: BString,
    /// By root tree.
    seen: HashMap<ObjectId, Option<Item>>,
    /// Trees looked at, for who has to stop some time.
    pub looked: usize,
}

impl Lens {
    /// At a file or a directory.
    pub fn new(path: BString) -> Self {
        Self { path, seen: HashMap::new(), looked: 0 }
    }

    /// What was seen in a tree that was looked at.
    pub fn item(&self, tree: &ObjectId) -> Option<Item> {
        self.seen.get(tree).copied().flatten()
    }
}

impl Engine {
    /// Looks at these trees, and if one of them is new, at those of the commits before `commit` that were read already.
    pub(crate) async fn look_through(
        &self,
        lens: &mut Lens,
        trees: &[ObjectId],
        known: &Known,
        commit: ObjectId,
    ) -> Result<()> {
        if trees.iter().all(|tree| lens.seen.contains_key(tree)) {
            return Ok(());
        }
        let mut roots = trees.to_vec();
        roots.extend(known.trees_before(commit, AHEAD));
        roots.sort_unstable();
        roots.dedup();
        roots.retain(|root| !lens.seen.contains_key(root));
        lens.looked += roots.len();
        let found = self.find_in_all(&roots, &lens.path).await?;
        lens.seen.extend(roots.into_iter().zip(found));
        Ok(())
    }

    /// What each of many trees has at a path, a level at a time.
    async fn find_in_all(&self, roots: &[ObjectId], path: &[u8]) -> Result<Vec<Option<Item>>> {
        let mut found: Vec<Option<Item>> = vec![None; roots.len()];
        let mut at: Vec<(usize, ObjectId)> = roots.iter().copied().enumerate().collect();
        let mut names = path.split(|b| *b == b'/').peekable();
        while let Some(name) = names.next() {
            let mut below = Vec::new();
            let mut rest = &at[..];
            while !rest.is_empty() {
                let oids: Vec<ObjectId> = rest.iter().map(|(_, tree)| *tree).collect();
                let (now, later) = rest.split_at(self.few_trees(&oids).await?);
                let trees = self.decoded_trees(&oids[..now.len()]).await?;
                for (index, tree) in now {
                    let item = trees.get(tree).and_then(|tree| tree.find(name));
                    match item {
                        Some(item) if names.peek().is_some() && item.is_tree() => below.push((*index, item.oid)),
                        item if names.peek().is_none() => found[*index] = item,
                        _ => {}
                    }
                }
                rest = later;
            }
            at = below;
        }
        Ok(found)
    }
}
