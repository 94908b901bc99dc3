//! Changes whose path is gone on one side: they are taken to where the file went.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::change::ChangeRow;
use crate::tree::{Added, Candidates, FOLLOWED_MAX, Item, Resolution3, Side, is_file};
use crate::view::Head;
use crate::{Engine, Result};

/// What a conflict over a file that was renamed comes to.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The branch renamed it: the change is made where the file is now.
    There {
        path: BString,
        theirs: Item,
        new: Item,
        /// `None`: it is the change's own.
        content: Option<Bytes>,
    },
    /// The user renamed it: what the branch changed goes into the change with this index, and the old path goes.
    Here { index: usize, resolution: Resolution3 },
}

/// A tree in which changes are as their user saw them, or their files were there at last, and what the branch added since.
struct Since {
    tree: Option<ObjectId>,
    added: Candidates,
}

/// Where files went, for the changes of one merge onto one parent.
struct Renames<'a> {
    engine: &'a Engine,
    project: Uuid,
    changes: &'a [ChangeRow],
    parent: &'a Head,
    since: Vec<Since>,
    /// The user's own new files, at paths where the branch has none; with the places of their changes.
    own: Option<(Vec<usize>, Candidates)>,
}

impl Engine {
    /// Takes changes that conflict, as one side has no file, to where the files went; those that went nowhere, or do not merge there, are
    /// not in the answer. Two that would go to one file go nowhere: only one of them can have become it. `conflicts`: places in
    /// `changes`, and what the parent has there. Costs a tree diff and the contents of a bounded number of new files; without such
    /// conflicts nothing.
    pub(crate) async fn follow(
        &self,
        project: Uuid,
        conflicts: &[(usize, Side)],
        changes: &[ChangeRow],
        parent: &Head,
    ) -> Result<BTreeMap<usize, Followed>> {
        let one_sided = |(at, theirs): &&(usize, Side)| {
            changes[*at].base.oid.is_some() && changes[*at].new.is_some() != theirs.is_some()
        };
        let conflicts: Vec<&(usize, Side)> = conflicts.iter().filter(one_sided).collect();
        let mut followed = BTreeMap::new();
        if conflicts.len() > FOLLOWED_MAX {
            return Ok(followed);
        }
        let mut renames = Renames { engine: self, project, changes, parent, since: Vec::new(), own: None };
        let mut arrivals: HashMap<BString, usize> = HashMap::new();
        for (at, theirs) in conflicts {
            if let Some(found) = renames.follow(&changes[*at], *theirs).await? {
                *arrivals.entry(destination(&found, changes).clone()).or_default() += 1;
                followed.insert(*at, found);
            }
        }
        followed.retain(|_, found| arrivals[destination(found, changes)] == 1);
        Ok(followed)
    }
}

fn destination<'a>(followed: &'a Followed, changes: &'a [ChangeRow]) -> &'a BString {
    match followed {
        Followed::There { path, .. } => path,
        Followed::Here { index, .. } => &changes[*index].path,
    }
}

impl Renames<'_> {
    async fn follow(&mut self, change: &ChangeRow, theirs: Side) -> Result<Option<Followed>> {
        // A link that went elsewhere may lead elsewhere, and git reads no link under some names.
        if [change.new, theirs].into_iter().flatten().any(|item| !is_file(item.mode)) {
            return Ok(None);
        }
        match (change.base.oid, change.new, theirs) {
            (Some(base), Some(ours), None) => self.there(change, base, ours).await,
            (Some(base), None, Some(theirs)) => self.here(change, base, theirs).await,
            _ => Ok(None),
        }
    }

    async fn there(&mut self, change: &ChangeRow, base: ObjectId, ours: Item) -> Result<Option<Followed>> {
        let (engine, changes, pending_of) = (self.engine, self.changes, Some(self.project));
        let Some((was, since)) = self.since(change, base).await? else { return Ok(None) };
        let Some(index) = engine.renamed_to(pending_of, &change.path, base, &mut since.added).await? else {
            return Ok(None);
        };
        let Added { path, item: theirs, .. } = since.added.added[index].clone();
        if changes.iter().any(|other| other.path == path) {
            return Ok(None);
        }
        let content = change.content.clone();
        let resolution = engine.merge_path(pending_of, Some(was).into(), Some(ours), Some(theirs), content).await?;
        let (new, content) = match resolution {
            Resolution3::Text { mode, oid, content } => (Item { mode, oid }, Some(content)),
            Resolution3::Ours => (ours, None),
            // The change is there already.
            Resolution3::Theirs => (theirs, None),
            Resolution3::Mode(item) => (item, None),
            Resolution3::Conflict => return Ok(None),
        };
        Ok(Some(Followed::There { path, theirs, new, content }))
    }

    /// Where the change was clean, or else where its file was last, and what it started from there. That may be in no commit: the user goes
    /// on from an edit which a commit took and merged. Changes that started together are looked for once.
    async fn since(&mut self, change: &ChangeRow, base: ObjectId) -> Result<Option<(Item, &mut Since)>> {
        let path = std::slice::from_ref(&change.path);
        for at in 0..self.since.len() {
            let was = self.engine.find_paths(self.since[at].tree, path).await?.pop().flatten();
            if let Some(was) = was.filter(|was| change.base.is(Some(*was))) {
                return Ok(Some((was, &mut self.since[at])));
            }
        }
        let (mut was, mut last) = (None, None);
        let mut is_clean = |at: &Head, there: &[Side]| {
            was = there.first().copied().flatten();
            if last.is_none()
                && let Some(item) = was
            {
                last = Some((at.tree, item));
            }
            change.base.is(was)
        };
        let clean = self.engine.walk_back(self.project, self.parent, path, &mut is_clean).await?;
        let (tree, was) = match (clean, was, last) {
            (Some(clean), Some(was), _) => (clean.tree, was),
            (None, _, Some((tree, item))) => (tree, Item { mode: change.base.mode.unwrap_or(item.mode), oid: base }),
            _ => return Ok(None),
        };
        let at = match self.since.iter().position(|since| since.tree == tree) {
            Some(at) => at,
            None => {
                let differences = self.engine.diff_trees_if_small(tree, self.parent.tree).await?.unwrap_or_default();
                let added = differences.into_iter().filter(|found| found.old.is_none());
                let added = added.filter_map(|found| Some(Added { path: found.path, item: found.new?, content: None }));
                self.since.push(Since { tree, added: Candidates::new(added) });
                self.since.len() - 1
            }
        };
        Ok(Some((was, &mut self.since[at])))
    }

    async fn here(&mut self, change: &ChangeRow, base: ObjectId, theirs: Item) -> Result<Option<Followed>> {
        if self.own.is_none() {
            self.own = Some(self.own_files().await?);
        }
        let Some((places, own)) = self.own.as_mut() else { return Ok(None) };
        let pending_of = Some(self.project);
        let Some(found) = self.engine.renamed_to(pending_of, &change.path, base, own).await? else { return Ok(None) };
        let Added { item: ours, content, .. } = own.added[found].clone();
        let merged = self.engine.merge_path(pending_of, change.base, Some(ours), Some(theirs), content).await?;
        let item = match merged {
            Resolution3::Conflict => return Ok(None),
            // Nobody knows who changed the mode.
            Resolution3::Theirs if change.base.mode.is_none() => Item { mode: ours.mode, ..theirs },
            Resolution3::Theirs => theirs,
            Resolution3::Mode(item) => item,
            resolution => return Ok(Some(Followed::Here { index: places[found], resolution })),
        };
        // The content is the branch's, and new at the user's path.
        let content = match item.oid == ours.oid {
            true => None,
            false => Some(self.engine.contents(&[item.oid]).await?.pop().flatten()),
        };
        let resolution = match content {
            None => Resolution3::Mode(item),
            Some(Some(content)) => Resolution3::Text { mode: item.mode, oid: item.oid, content },
            Some(None) => return Ok(None),
        };
        Ok(Some(Followed::Here { index: places[found], resolution }))
    }

    /// The branch's own file at the path of one would be written over.
    async fn own_files(&self) -> Result<(Vec<usize>, Candidates)> {
        let created = self.changes.iter().enumerate().filter(|(_, other)| other.base.oid.is_none());
        let created: Vec<(usize, &ChangeRow)> = created.filter(|(_, other)| other.new.is_some()).collect();
        let paths: Vec<BString> = created.iter().map(|(_, other)| other.path.clone()).collect();
        let there = self.engine.find_paths(self.parent.tree, &paths).await?;
        let free = created.into_iter().zip(there).filter(|(_, there)| there.is_none());
        let own = free.filter_map(|((at, other), _)| {
            let added = Added { path: other.path.clone(), item: other.new?, content: other.content.clone() };
            Some((at, added))
        });
        let (places, added): (Vec<usize>, Vec<Added>) = own.unzip();
        Ok((places, Candidates::new(added)))
    }
}
