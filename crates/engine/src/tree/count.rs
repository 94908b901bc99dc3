//! How many paths differ, without going through them: what is below a pair of trees is counted once, however many paths lead there.

use std::collections::HashMap;

use treehold_object::ObjectId;

use super::diff::{PAIRS, Pair, differing, leaf_of, tree_of};
use crate::{Engine, Result};

/// Pairs of trees, and places of one in another, that one count goes through.
const COUNTED_MAX: usize = 4_000_000;

/// What is known of a pair of trees.
#[derive(Debug, Default)]
struct Node {
    /// Changed entries that are no trees.
    own: u64,
    /// Pairs in it, by their places, each as often as it is there.
    below: Vec<u32>,
}

#[derive(Debug, Default)]
struct Graph {
    nodes: Vec<Node>,
    places: HashMap<Pair, u32>,
    edges: usize,
}

impl Engine {
    /// How many paths differ between two trees; with `None`, how many there are. Where the trees have more parts than a count goes through,
    /// at least so many.
    pub(crate) async fn count_changes(&self, old: Option<ObjectId>, new: Option<ObjectId>) -> Result<u64> {
        if old == new {
            return Ok(0);
        }
        let mut graph = Graph::default();
        let mut waiting: Vec<Pair> = vec![(old, new)];
        graph.place((old, new), &mut Vec::new());
        while !waiting.is_empty() {
            let mut pairs = waiting.split_off(waiting.len().saturating_sub(PAIRS));
            let few = self.few_pairs(&pairs).await?;
            waiting.extend(pairs.split_off(few));
            let oids: Vec<ObjectId> = pairs.iter().flat_map(|(old, new)| [*old, *new]).flatten().collect();
            let trees = self.trees(&oids).await?;
            for pair in pairs {
                let raw = |oid: Option<ObjectId>| oid.map(|oid| &trees[&oid]);
                let mut node = Node::default();
                for (old, new) in differing(raw(pair.0), raw(pair.1))?.into_values() {
                    node.own += u64::from(leaf_of(old).is_some() || leaf_of(new).is_some());
                    let below = (tree_of(old), tree_of(new));
                    if below != (None, None) && graph.edges < COUNTED_MAX {
                        node.below.push(graph.place(below, &mut waiting));
                    }
                }
                let at = graph.place(pair, &mut waiting);
                graph.nodes[at as usize] = node;
            }
        }
        Ok(graph.total())
    }
}

impl Graph {
    /// Where a pair stands; one that is new waits to be looked at.
    fn place(&mut self, pair: Pair, waiting: &mut Vec<Pair>) -> u32 {
        self.edges += 1;
        let next = self.nodes.len() as u32;
        let place = *self.places.entry(pair).or_insert(next);
        if place == next {
            self.nodes.push(Node::default());
            waiting.push(pair);
        }
        place
    }

    /// Of the first pair: what is in a pair is added up before the pair itself. A tree cannot be in itself, so that there is an end.
    fn total(&self) -> u64 {
        let mut totals: Vec<Option<u64>> = vec![None; self.nodes.len()];
        let mut path = vec![(0, 0)];
        while let Some((at, next)) = path.last_mut() {
            let node = &self.nodes[*at];
            match node.below.get(*next) {
                Some(below) => {
                    *next += 1;
                    if totals[*below as usize].is_none() {
                        path.push((*below as usize, 0));
                    }
                }
                None => {
                    let below = node.below.iter().filter_map(|below| totals[*below as usize]);
                    totals[*at] = Some(below.fold(node.own, u64::saturating_add));
                    path.pop();
                }
            }
        }
        totals.first().copied().flatten().unwrap_or(0)
    }
}
