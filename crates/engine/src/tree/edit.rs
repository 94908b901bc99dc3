//! Editing a tree: new trees only along the changed paths.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use treehold_object::{BString, Kind, ObjectId, hash};

use super::{Item, TREE, encode, entries};
use crate::{Engine, EngineError, Result};

/// What becomes of a path; `None` = it goes.
pub(crate) type Edit = Option<Item>;

/// Edits by path.
pub(crate) type Edits = BTreeMap<BString, Edit>;

/// The outcome of an edit.
#[derive(Debug)]
pub(crate) struct NewTrees {
    /// The new root; the empty tree if nothing is left.
    pub root: ObjectId,
    /// Trees that the old root did not have on these paths, children before parents.
    pub trees: Vec<(ObjectId, Bytes)>,
    /// What the old root has in the place of a new tree, by the new tree's id.
    pub before: HashMap<ObjectId, (ObjectId, Bytes)>,
}

/// One directory's share of the edits: names to leaf edits and to the edits below them.
#[derive(Default)]
struct Level {
    leaf: BTreeMap<BString, Edit>,
    below: BTreeMap<BString, Level>,
}

impl Level {
    fn of(edits: &Edits) -> Level {
        let mut root = Level::default();
        for (path, edit) in edits {
            let mut level = &mut root;
            let mut components = path.split(|&b| b == b'/').peekable();
            while let Some(component) = components.next() {
                let name = BString::from(component);
                if components.peek().is_some() {
                    level = level.below.entry(name).or_default();
                } else {
                    level.leaf.insert(name, *edit);
                }
            }
        }
        root
    }
}

impl Engine {
    /// Applies edits to the tree `root` (`None` = the empty tree). A deletion that empties a directory removes it; a deletion of
    /// what is not there changes nothing. Callers have refused edits that would put a file in the place of a directory in use.
    pub(crate) async fn edit_tree(&self, root: Option<ObjectId>, edits: &Edits) -> Result<NewTrees> {
        let plan = Level::of(edits);
        let known = self.trees_on_the_way(root, &plan).await?;
        let mut new = NewTrees { root: name(b"")?, trees: Vec::new(), before: HashMap::new() };
        match apply(root, &plan, &known, &mut new)? {
            Some(oid) => new.root = oid,
            None => new.trees.push((new.root, Bytes::new())),
        }
        Ok(new)
    }

    /// The trees that an edit will read, a level at a time.
    async fn trees_on_the_way(&self, root: Option<ObjectId>, plan: &Level) -> Result<HashMap<ObjectId, Bytes>> {
        let mut known = HashMap::new();
        let mut level: Vec<(ObjectId, &Level)> = root.map(|oid| (oid, plan)).into_iter().collect();
        while !level.is_empty() {
            let oids: Vec<ObjectId> = level.iter().map(|(oid, _)| *oid).collect();
            known.extend(self.trees(&oids).await?);
            let mut next = Vec::new();
            for (oid, plan) in level {
                if plan.below.is_empty() {
                    continue;
                }
                for entry in entries(&known[&oid]) {
                    let (name, item) = entry?;
                    if item.is_tree()
                        && let Some(below) = plan.below.get(name)
                    {
                        next.push((item.oid, below));
                    }
                }
            }
            level = next;
        }
        Ok(known)
    }
}

fn name(raw: &[u8]) -> Result<ObjectId> {
    hash(Kind::Tree, raw).map_err(EngineError::internal)
}

/// The oid of the edited tree, or `None` if it became empty.
fn apply(
    tree: Option<ObjectId>,
    plan: &Level,
    known: &HashMap<ObjectId, Bytes>,
    new: &mut NewTrees,
) -> Result<Option<ObjectId>> {
    let mut items: HashMap<BString, Item> = HashMap::new();
    let old = tree.map(|oid| &known[&oid]);
    if let Some(raw) = old {
        for entry in entries(raw) {
            let (name, item) = entry?;
            items.insert(name.to_owned(), item);
        }
    }
    for (name, edit) in &plan.leaf {
        match edit {
            Some(item) => _ = items.insert(name.clone(), *item),
            // No file is there: a directory goes only with what is in it.
            None if items.get(name).is_some_and(Item::is_tree) => {}
            None => _ = items.remove(name),
        }
    }
    for (name, below) in &plan.below {
        let subtree = items.get(name).filter(|item| item.is_tree()).map(|item| item.oid);
        match apply(subtree, below, known, new)? {
            Some(oid) => items.insert(name.clone(), Item { mode: TREE, oid }),
            None if subtree.is_some() => items.remove(name),
            None => None,
        };
    }
    if items.is_empty() {
        return Ok(None);
    }
    let raw = encode(items.iter().map(|(name, item)| (name, *item)))?;
    let oid = name_of(&raw, tree, old)?;
    if Some(oid) != tree && !new.trees.iter().any(|(known, _)| *known == oid) {
        new.trees.push((oid, raw));
        new.before.extend(tree.zip(old.cloned()).map(|before| (oid, before)));
    }
    Ok(Some(oid))
}

/// Skips hashing where nothing changed.
fn name_of(raw: &Bytes, tree: Option<ObjectId>, old: Option<&Bytes>) -> Result<ObjectId> {
    match (tree, old) {
        (Some(oid), Some(old)) if old == raw => Ok(oid),
        _ => name(raw),
    }
}
