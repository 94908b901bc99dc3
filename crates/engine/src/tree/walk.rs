//! Listing a tree in byte order of the path, from any point, reading only the trees on the way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use treehold_object::{BString, ObjectId};

use super::{Item, Tree};
use crate::{Engine, Result};

/// Trees read in one batch: at first, and at most.
const BATCH_FIRST: usize = 32;
const BATCH_MAX: usize = 256;
/// Entries looked at in search of the trees that will be needed next.
const LOOK_AHEAD: usize = 16 << 10;
/// Raw trees that were read ahead and not come to yet, bytes: beyond it, no more are read ahead.
const AHEAD_BYTES: usize = 8 << 20;

/// Where a listing starts and what it covers.
#[derive(Debug, Clone, Default)]
pub(crate) struct WalkFrom {
    /// Only paths that start with these bytes (not necessarily a whole component).
    pub prefix: BString,
    /// Only paths after this one.
    pub after: Option<BString>,
}

impl WalkFrom {
    pub fn takes(&self, path: &[u8]) -> bool {
        path.starts_with(&self.prefix) && self.after.as_ref().is_none_or(|after| path > after.as_slice())
    }

    /// Whether the directory `lead`, a slash at its end, can hold a path that is taken.
    pub(super) fn enters(&self, lead: &[u8]) -> bool {
        let common = lead.len().min(self.prefix.len());
        lead[..common] == self.prefix[..common]
            && self.after.as_ref().is_none_or(|after| after.starts_with(lead) || lead > after.as_slice())
    }
}

/// A directory on the way, and which of its entries comes next.
#[derive(Debug, Clone)]
struct Frame {
    tree: Arc<Tree>,
    next: usize,
    /// Length of the path of its entries before their names.
    lead: usize,
    oid: ObjectId,
    /// Nothing but directories without a file was come to in it so far.
    bare: bool,
}

/// What a walk has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file, symlink or gitlink at [`Walk::path`], and its size where the walk asks for sizes.
    File(Item, u64),
    /// The walk goes on once [`Engine::walk_on`] has read this tree.
    Wants(ObjectId),
    /// Nothing more.
    End,
}

/// A walk in progress. It holds the trees that it stands in and a bounded number of those to come, whatever the size of the tree.
#[derive(Debug)]
pub(crate) struct Walk {
    from: WalkFrom,
    /// Sizes are wanted, too.
    sized: bool,
    root: Option<ObjectId>,
    stack: Vec<Frame>,
    path: Vec<u8>,
    ahead: HashMap<ObjectId, Arc<Tree>>,
    ahead_bytes: usize,
    batch: usize,
    /// Trees without a file, however deep: git makes none, but a few of them that hold each other many times would be walked for ever.
    bare: HashSet<ObjectId>,
}

impl Walk {
    pub fn new(root: Option<ObjectId>, from: WalkFrom, sized: bool) -> Self {
        let (stack, path, ahead) = (Vec::new(), Vec::new(), HashMap::new());
        Self { from, sized, root, stack, path, ahead, ahead_bytes: 0, batch: BATCH_FIRST, bare: HashSet::new() }
    }

    /// Of the file that the last step came to.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Goes on to the next file.
    pub fn step(&mut self, engine: &Engine) -> Step {
        if let Some(root) = self.root {
            let Some(tree) = self.ready(&root, engine) else { return Step::Wants(root) };
            self.root = None;
            self.enter(&root, tree);
        }
        loop {
            let Some(top) = self.stack.last_mut() else { return Step::End };
            self.path.truncate(top.lead);
            let index = top.next;
            let Some((name, item)) = top.tree.get(index) else {
                self.leave();
                continue;
            };
            self.path.extend_from_slice(name);
            if item.is_tree() {
                self.path.push(b'/');
                let enters = self.from.enters(&self.path);
                if !enters || self.bare.contains(&item.oid) {
                    top.next += 1;
                    top.bare &= enters;
                    continue;
                }
                let Some(tree) = self.ready(&item.oid, engine) else { return Step::Wants(item.oid) };
                if let Some(top) = self.stack.last_mut() {
                    top.next += 1;
                }
                self.enter(&item.oid, tree);
                continue;
            }
            top.next += 1;
            top.bare = false;
            if self.from.takes(&self.path) {
                let size = top.tree.sizes().and_then(|sizes| sizes.get(index)).copied();
                return Step::File(item, size.unwrap_or(0));
            }
        }
    }

    /// A tree in memory that has all the walk wants.
    fn ready(&self, oid: &ObjectId, engine: &Engine) -> Option<Arc<Tree>> {
        let tree = self.ahead.get(oid).cloned().or_else(|| engine.cached_tree(oid));
        tree.filter(|tree| !self.sized || tree.sizes().is_some())
    }

    fn enter(&mut self, oid: &ObjectId, tree: Arc<Tree>) {
        // Where the same tree comes again, it is found in the cache or read again.
        if let Some(tree) = self.ahead.remove(oid) {
            self.ahead_bytes -= tree.raw().len();
        }
        self.stack.push(Frame { tree, next: 0, lead: self.path.len(), oid: *oid, bare: true });
    }

    /// Goes back to the directory above.
    fn leave(&mut self) {
        let Some(Frame { oid, bare, .. }) = self.stack.pop() else { return };
        if bare {
            self.bare.insert(oid);
        } else if let Some(above) = self.stack.last_mut() {
            above.bare = false;
        }
    }

    /// Leaves out the entry that the walk stands at.
    fn skip(&mut self) {
        if let Some(top) = self.stack.last_mut() {
            top.next += 1;
            top.bare = false;
        }
    }

    /// The tree `first`, and others that will be needed for the next `files` files, as far as what is in memory tells.
    fn wanted(&self, engine: &Engine, first: ObjectId, files: usize) -> Vec<ObjectId> {
        let mut wanted = vec![first];
        if self.ahead_bytes > AHEAD_BYTES {
            return wanted;
        }
        let mut scout = Self {
            from: self.from.clone(),
            stack: self.stack.clone(),
            path: self.path.clone(),
            ahead: self.ahead.clone(),
            bare: self.bare.clone(),
            ..*self
        };
        scout.skip();
        let most = self.batch.min(files.max(1));
        for _ in 0..LOOK_AHEAD.min(files) {
            if wanted.len() >= most || scout.root.is_some() {
                break;
            }
            match scout.step(engine) {
                Step::End => break,
                Step::File(..) => {}
                Step::Wants(oid) => {
                    scout.skip();
                    if !wanted.contains(&oid) {
                        wanted.push(oid);
                    }
                }
            }
        }
        wanted
    }
}

impl Engine {
    /// Reads the tree that a walk wants, and some of those that it will want on its way to the next `files` files, in one batch.
    pub(crate) async fn walk_on(&self, walk: &mut Walk, wants: ObjectId, files: usize) -> Result<()> {
        let mut wanted = walk.wanted(self, wants, files);
        let few = self.few_trees(&wanted).await?;
        wanted.truncate(few);
        let trees = self.decoded_trees(&wanted).await?;
        if walk.sized {
            self.size_trees(trees.values()).await?;
        }
        let bytes: usize = trees.values().map(|tree| tree.raw().len()).sum();
        for (oid, tree) in trees {
            let len = tree.raw().len();
            let known = walk.ahead.insert(oid, tree).map_or(0, |tree| tree.raw().len());
            walk.ahead_bytes = walk.ahead_bytes + len - known;
        }
        // As many as before, twice as many, or fewer where trees are large.
        let average = (bytes / wanted.len().max(1)).max(1);
        walk.batch = (walk.batch * 2).min(BATCH_MAX).min(AHEAD_BYTES / average).max(1);
        Ok(())
    }

    /// Up to `limit` non-tree entries of `root`, in byte order of the path.
    pub(crate) async fn walk(
        &self,
        root: Option<ObjectId>,
        from: &WalkFrom,
        limit: usize,
    ) -> Result<Vec<(BString, Item)>> {
        let mut listed = Vec::new();
        let mut walk = Walk::new(root, from.clone(), false);
        while listed.len() < limit {
            match walk.step(self) {
                Step::File(item, _) => listed.push((walk.path().into(), item)),
                Step::Wants(oid) => self.walk_on(&mut walk, oid, limit - listed.len()).await?,
                Step::End => break,
            }
        }
        Ok(listed)
    }
}
