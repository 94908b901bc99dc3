//! What a batch works on: the files that it names as the user sees them, one snapshot, and what the operations make of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use treehold_catalog::{Content, PendingChange, PendingRow, PendingWrite, Project, RowExpectation, WorkspaceKey};
use treehold_object::{BString, ObjectId};

use super::ops::{Judged, Refused};
use super::texts::Texts;
use crate::api::{OnMismatch, Origin};
use crate::files::pending_item;
use crate::modes::{seen_base, seen_item};
use crate::pending::change::Wanted;
use crate::tree::{Base, Edits, GITLINK, Item, SYMLINK};
use crate::{Engine, Result};

/// A path, before and now.
#[derive(Debug, Clone)]
pub(in crate::pending) struct Spot {
    pub row: Option<PendingRow>,
    /// What the branch has, directories and submodules included.
    pub head: Option<Item>,
    /// The file in the user's view now.
    pub view: Option<Item>,
    /// What the pending change starts from now.
    pub base: Base,
    /// There is a pending change now.
    pub recorded: bool,
    /// An operation of this batch changed it.
    pub touched: bool,
    /// The view's content is one of pending work already.
    pub pending: bool,
    /// Bytes of the view's file, where they are known.
    pub size: Option<u64>,
}

impl Spot {
    pub fn new(row: Option<PendingRow>, head: Option<Item>) -> Self {
        let file = head.filter(|item| !item.is_tree());
        let view = match &row {
            Some(row) => seen_item(row, file),
            None => file.filter(|item| item.mode != GITLINK),
        };
        let base = row.as_ref().map_or(file.into(), |row| seen_base(row, file));
        let recorded = row.is_some();
        // A change of mode alone has the branch's content.
        let own = row.as_ref().filter(|row| row.oid == view.map(|item| item.oid));
        let (pending, size) = (own.is_some(), own.map(|row| row.size));
        Self { recorded, row, head, view, base, touched: false, pending, size }
    }

    /// The blob that the branch has.
    pub fn head_oid(&self) -> Option<ObjectId> {
        self.head.filter(|item| !item.is_tree() && item.mode != GITLINK).map(|item| item.oid)
    }

    /// The file at the snapshot.
    fn before(&self) -> Option<Item> {
        Spot::new(self.row.clone(), self.head).view
    }
}

/// How a batch is judged.
#[derive(Debug, Clone, Copy)]
pub(in crate::pending) struct Rules {
    pub atomic: bool,
    pub base_revision: Option<i64>,
    pub on_conflict: OnMismatch,
    /// What equals the head is recorded all the same, as a commit is under way that may change the head.
    pub explicit: bool,
    /// The write holds only for the workspace as it was seen.
    pub whole: bool,
}

/// The files of a batch.
pub(in crate::pending) struct Desk<'a> {
    pub engine: &'a Engine,
    pub project: &'a Project,
    pub key: WorkspaceKey,
    pub tree: Option<ObjectId>,
    pub rules: Rules,
    pub origin: &'a Origin,
    pub texts: &'a mut Texts,
    pub spots: BTreeMap<BString, Spot>,
    /// Blobs that callers name and that the project has.
    pub known: HashSet<ObjectId>,
    /// Sizes of files that are moved or change their mode, bytes.
    pub sizes: HashMap<ObjectId, u64>,
    /// Everything that is pending, where names are judged one by one.
    pub edits: Option<Edits>,
    pub writes: Vec<PendingWrite>,
}

impl Desk<'_> {
    pub fn spot(&self, path: &BString) -> Spot {
        self.spots.get(path).cloned().unwrap_or_else(|| Spot::new(None, None))
    }

    /// Where the content of a blob comes from. `pending`: from a row, a version or a checkpoint of the project.
    fn content(&self, oid: ObjectId, pending: bool) -> Content {
        match (self.texts.made.get(&oid), pending) {
            (Some(made), _) if made.content.len() as u64 <= self.engine.config.limits.inline_bytes => {
                Content::Inline(made.content.clone())
            }
            (None, true) => Content::Kept,
            // Large content is stored before the rows are written.
            _ => Content::Bucket,
        }
    }

    /// Makes a path what an operation wants; `false` = it is that already.
    pub async fn set(&mut self, path: &BString, wanted: Set) -> Judged<bool> {
        let spot = self.spot(path);
        if spot.head.is_some_and(|item| item.mode == GITLINK) {
            let detail = format!("{path:?} is a submodule and cannot be edited as a file.");
            return Ok(Err(Refused::new("bad_path", detail)));
        }
        if spot.view == wanted.new && spot.base == wanted.base {
            return Ok(Ok(false));
        }
        if let Some(item) = wanted.new
            && let Err(error) = self.check_content(path, item, &spot).await
        {
            return Refused::of(error).map(Err);
        }
        if let Err(refused) = self.check_name(path, wanted.new, &spot).await? {
            return Ok(Err(refused));
        }
        let explicit = self.rules.explicit && spot.recorded;
        let to = Wanted { new: wanted.new, size: wanted.size, base: wanted.base, explicit };
        let content = wanted.new.map_or(Content::None, |item| self.content(item.oid, wanted.pending));
        let change = to.change(spot.head, content);
        let recorded = change != PendingChange::Undo;
        self.push(path, &spot, change);
        let file = spot.head.filter(|item| !item.is_tree());
        let (view, base) = if recorded { (wanted.new, wanted.base) } else { (file, file.into()) };
        let (pending, size) = (wanted.pending, Some(wanted.size));
        self.spots.insert(path.clone(), Spot { view, base, recorded, touched: true, pending, size, ..spot });
        Ok(Ok(true))
    }

    /// Takes the pending change of a path away.
    pub fn reset(&mut self, path: &BString) -> bool {
        let spot = self.spot(path);
        if !spot.recorded {
            return false;
        }
        self.push(path, &spot, PendingChange::Clear);
        if let Some(edits) = &mut self.edits {
            edits.remove(path);
        }
        let clean = Spot::new(None, spot.head);
        self.spots.insert(path.clone(), Spot { row: spot.row, touched: true, ..clean });
        true
    }

    /// Records a version that could not be taken.
    pub fn keep(&mut self, path: &BString, item: Item, size: u64, base: Option<ObjectId>) {
        let base = Base { oid: base, mode: None };
        let spot = self.spot(path);
        let content = self.content(item.oid, false);
        let to = Wanted { new: Some(item), size, base, explicit: true }.change(spot.head, content);
        if let PendingChange::Set { action, mode, oid, size, base_oid, base_mode, content } = to {
            self.push(path, &spot, PendingChange::Keep { action, mode, oid, size, base_oid, base_mode, content });
        }
    }

    /// The first write of a path compares; later ones see what it did.
    fn push(&mut self, path: &BString, spot: &Spot, change: PendingChange) {
        let expect = match (spot.touched, &spot.row) {
            (true, _) => RowExpectation::Any,
            (false, Some(row)) => RowExpectation::of(row),
            (false, None) => RowExpectation::Absent,
        };
        self.writes.push(PendingWrite { path: path.clone(), expect, change, origin: self.origin.clone().into() });
    }

    /// What git's own checks say about the content at this path.
    async fn check_content(&mut self, path: &BString, item: Item, spot: &Spot) -> Result<()> {
        let linked = item.mode == SYMLINK && spot.view != Some(item);
        if !linked && !crate::names::read_by_git(path) {
            return Ok(());
        }
        let text = self.texts.text(self.engine, self.project, item.oid).await?.unwrap_or_default();
        if linked {
            treehold_object::path::check_symlink_target(path, &text).map_err(|error| crate::files::bad_path(&error))?;
        }
        crate::names::check_git_file(path, &text)
    }

    /// Where names are judged one by one: against what the operations before left.
    async fn check_name(&mut self, path: &BString, new: Option<Item>, spot: &Spot) -> Judged<()> {
        let Some(edits) = &mut self.edits else { return Ok(Ok(())) };
        let before = edits.insert(path.clone(), new);
        if !is_added(new, spot.view) {
            return Ok(Ok(()));
        }
        match self.engine.check_additions(self.tree, edits, std::slice::from_ref(path)).await {
            Ok(()) => Ok(Ok(())),
            Err(error) => {
                match before {
                    Some(before) => edits.insert(path.clone(), before),
                    None => edits.remove(path),
                };
                Refused::of(error).map(Err)
            }
        }
    }

    /// Paths that the batch adds to the view.
    pub fn added(&self) -> Vec<BString> {
        let added = self.spots.iter().filter(|(_, spot)| spot.touched && is_added(spot.view, spot.before()));
        added.map(|(path, _)| path.clone()).collect()
    }

    /// What changes against the head, given everything that was pending.
    pub fn edits(&self, rows: &[PendingRow]) -> Edits {
        let mut edits: Edits = rows.iter().map(|row| (row.path.clone(), pending_item(row))).collect();
        for (path, spot) in self.spots.iter().filter(|(_, spot)| spot.touched) {
            match spot.recorded {
                true => edits.insert(path.clone(), spot.view),
                false => edits.remove(path),
            };
        }
        edits
    }
}

/// Whether a name is new to the view, or becomes a symlink.
fn is_added(new: Option<Item>, before: Option<Item>) -> bool {
    let link = |item: Item| item.mode == SYMLINK;
    new.is_some() && (before.is_none() || (new.is_some_and(link) && !before.is_some_and(link)))
}

/// A file as an operation wants it.
pub(in crate::pending) struct Set {
    /// `None` = it goes.
    pub new: Option<Item>,
    /// Bytes.
    pub size: u64,
    /// What it starts from.
    pub base: Base,
    /// Its content is one of pending work already.
    pub pending: bool,
}
