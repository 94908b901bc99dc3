//! Autosave.

use treehold_catalog::{
    Charged, Content, EditSpot, OpKind, PendingChange, PendingOutcome, PendingRow, PendingWrite, Project,
    RowExpectation, WorkspaceKey,
};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use super::change::{Wanted, based_on};
use crate::api::{Condition, Mode, Oid, Path, PendingAction, PendingAnswer, PendingBody, PutPending};
use crate::files::{base_of, pending_item, shaped_path};
use crate::modes::{seen_base, seen_item};
use crate::tree::{Base, Edits, FILE, GITLINK, Item, SYMLINK};
use crate::view::{check_branch, no_project, project_key};
use crate::writer::{NewBytes, Operation};
use crate::{Engine, EngineError, Result};

/// How often a write that lost a race is judged again before the caller is asked to come back. In each round one of those that
/// write the same path wins, so this is how many may arrive together.
pub(super) const RACES: usize = 64;

/// What the caller sees at the path, and what it is made of.
struct Seen {
    project: Project,
    key: WorkspaceKey,
    /// Number of the workspace, if it was ever written.
    workspace: Option<i64>,
    /// Revision of the workspace.
    revision: i64,
    row: Option<PendingRow>,
    /// The tree of the branch, and what it has at the path.
    tree: Option<ObjectId>,
    head: Option<Item>,
}

impl Seen {
    /// The file in the caller's view.
    fn view(&self) -> Option<Item> {
        match &self.row {
            Some(row) => seen_item(row, self.file()),
            None => self.file(),
        }
    }

    /// The file that the branch has.
    fn file(&self) -> Option<Item> {
        self.head.filter(|item| !item.is_tree())
    }
}

/// What is to be written.
struct Draft {
    spot: EditSpot,
    blob: Option<NewBytes>,
    put: PutPending,
    /// The base that the caller named is known to be an object of the project.
    base_known: bool,
    /// What equals the head is recorded all the same, as a commit is under way that may change the head.
    explicit: bool,
    /// Large content is durable in the bucket already, under this operation: it stays open until the row names the object.
    op: Option<Operation>,
}

/// How a round ended.
enum Round {
    Done(PendingAnswer),
    /// Somebody else wrote in between.
    Lost(WorkspaceKey),
}

impl Engine {
    /// Records an edit of a user, durable when answered.
    ///
    /// Compares with the caller's view (pending, else head) as the condition asks; without one the last write wins, and the
    /// replaced version stays in local history. A write that equals the head removes the row.
    pub async fn put_pending(&self, project: &str, user: Uuid, path: &[u8], put: PutPending) -> Result<PendingAnswer> {
        point("A1").await?;
        let path = shaped_path(path)?;
        let blob = match &put.body {
            PendingBody::Deleted => None,
            PendingBody::Content(content) => {
                let limit = self.config.limits.file_bytes;
                if content.len() as u64 > limit {
                    return Err(EngineError::TooLarge { what: "the file", limit, unit: "bytes" });
                }
                crate::names::check_git_file(&path, content)?;
                Some(NewBytes::of(Kind::Blob, content.clone())?)
            }
        };
        let project = project_key(project)?;
        if let Some(branch) = &put.branch {
            check_branch(branch)?;
        }
        let spot = EditSpot { project, branch: put.branch.clone(), user, path };
        let mut draft = Draft { spot, blob, put, base_known: false, explicit: false, op: None };
        let mut written = self.try_put(&mut draft).await;
        if let Ok(Round::Lost(key)) = &written {
            // Writes of new names look at the whole workspace: those that lost a race take turns.
            let turns = self.branch_lock(key.project, &format!("{} {user}", key.branch));
            let _turn = turns.lock().await;
            for _ in 0..RACES {
                written = self.try_put(&mut draft).await;
                if !matches!(written, Ok(Round::Lost(_))) {
                    break;
                }
            }
        }
        if let Some(op) = draft.op {
            self.end_op(op).await;
        }
        match written? {
            Round::Done(answer) => Ok(answer),
            Round::Lost(_) => Err(EngineError::Busy),
        }
    }

    /// One round: look, judge, compare and swap.
    async fn try_put(&self, draft: &mut Draft) -> Result<Round> {
        let seen = self.seen(draft).await?;
        self.check_base(draft, &seen).await?;
        check(&draft.put.condition, &seen)?;
        let new = self.wanted_item(draft, &seen)?;
        let judged = self.judge_name(draft, &seen, new).await?;
        let explicit = draft.explicit && seen.row.is_some();
        let size = draft.blob.as_ref().map_or(0, |blob| blob.content.len() as u64);
        let wanted = Wanted { new, size, base: base(draft, &seen), explicit };
        let equals_head = wanted.equals(seen.head);
        let known = [seen.row.as_ref().and_then(|row| row.oid), seen.head.map(|item| item.oid)];
        if !equals_head && new.is_some_and(|item| !known.contains(&Some(item.oid))) {
            let brought = || new.map(|item| (item.oid, size)).into_iter();
            self.check_quota_of(&seen.project, Charged::Pending, brought).await?;
        }
        let content = match equals_head && !explicit {
            true => Content::None,
            false => self.kept_content(&seen.project, draft).await?,
        };
        let change = wanted.change(seen.head, content);
        let expect = match &seen.row {
            Some(row) => RowExpectation::of(row),
            None => RowExpectation::Absent,
        };
        let origin = draft.put.origin.clone().into();
        let write = PendingWrite { path: draft.spot.path.clone(), expect, change: change.clone(), origin };
        let (revision, row) = (seen.revision, seen.row.clone());
        let hint = seen.workspace.map(|workspace| treehold_catalog::Seen { workspace, revision, row });
        let now_ms = self.ambient.now_ms();
        let expected = judged.then_some(seen.revision);
        point("A4").await?;
        match self.catalog.write_seen(&seen.key, hint, expected, write, now_ms).await? {
            PendingOutcome::Mismatch(_) | PendingOutcome::WorkspaceMoved(_) => Ok(Round::Lost(seen.key)),
            PendingOutcome::CommitUnderWay(_) => {
                draft.explicit = true;
                Ok(Round::Lost(seen.key))
            }
            PendingOutcome::Written { revision, rows } => {
                point("A5").await?;
                let kept = seen.row.as_ref().map(|row| row.revision);
                let row_revision = rows[0].or(kept.filter(|_| !equals_head)).unwrap_or(revision);
                Ok(Round::Done(answer(draft, &seen, &change, row_revision)))
            }
        }
    }

    async fn seen(&self, draft: &Draft) -> Result<Seen> {
        let base = self.catalog.edit_base(&draft.spot).await?.ok_or_else(no_project)?;
        let tree = match (base.head, base.tree) {
            (Some(_), Some(tree)) => Some(tree),
            (Some(commit), None) => self.head_of(commit, None).await?.tree,
            (None, _) => self.branch_head(&base.project, &base.branch).await?.tree,
        };
        let head = self.find_paths(tree, std::slice::from_ref(&draft.spot.path)).await?[0];
        let key = WorkspaceKey { project: base.project.id, branch: base.branch, user: draft.spot.user };
        let (workspace, revision, row) = (base.workspace, base.revision, base.row);
        Ok(Seen { project: base.project, key, workspace, revision, row, tree, head })
    }

    /// Refuses a base that is no object of the project. What is at the path is one for certain.
    async fn check_base(&self, draft: &mut Draft, seen: &Seen) -> Result<()> {
        let Some(base) = draft.put.base.filter(|_| !draft.base_known) else { return Ok(()) };
        let row = seen.row.as_ref();
        let there = [row.and_then(|row| row.base_oid), row.and_then(|row| row.oid), seen.head.map(|item| item.oid)];
        if !there.contains(&Some(base)) && !self.catalog.may_read(seen.key.project, &[base]).await?[0] {
            return Err(EngineError::unprocessable("unknown_base", "`base` names no object of this project."));
        }
        draft.base_known = true;
        Ok(())
    }

    /// The item that the write makes, with the mode asked for or kept.
    fn wanted_item(&self, draft: &Draft, seen: &Seen) -> Result<Option<Item>> {
        let view = seen.view();
        if seen.head.is_some_and(|item| item.mode == GITLINK) {
            return Err(EngineError::unprocessable(
                "bad_path",
                "The path is a submodule; it cannot be edited as a file.",
            ));
        }
        let Some(blob) = &draft.blob else {
            return match view.is_some() || seen.row.is_some() {
                true => Ok(None),
                false => Err(EngineError::not_found("file_not_found", "There is no file at this path to delete.")),
            };
        };
        let mode = draft.put.mode.or(view.map(|item| Mode(item.mode))).unwrap_or(Mode(FILE)).0;
        if mode == SYMLINK {
            treehold_object::path::check_symlink_target(&draft.spot.path, &blob.content)
                .map_err(|error| crate::files::bad_path(&error))?;
        }
        Ok(Some(Item { mode, oid: blob.oid }))
    }

    /// Judges a name that the view does not have yet, against the tree that would result. `true`: it looked at other rows, so the
    /// write holds only while the workspace is what it was.
    async fn judge_name(&self, draft: &Draft, seen: &Seen, new: Option<Item>) -> Result<bool> {
        let symlink_now =
            new.is_some_and(|item| item.mode == SYMLINK) && seen.view().is_none_or(|item| item.mode != SYMLINK);
        if new.is_none() || (seen.view().is_some() && !symlink_now) {
            return Ok(false);
        }
        let path = std::slice::from_ref(&draft.spot.path);
        let (revision, rows) = self.pending_beside(&seen.key, seen.tree, path).await?;
        if revision != seen.revision {
            // The caller's expectation of the old revision fails, and the write is judged again.
            return Ok(true);
        }
        let mut edits: Edits = rows.iter().map(|row| (row.path.clone(), pending_item(row))).collect();
        edits.insert(draft.spot.path.clone(), new);
        self.check_additions(seen.tree, &edits, path).await?;
        Ok(true)
    }

    /// Where the content goes: into the row, or, large, into the bucket first (bytes before rows).
    async fn kept_content(&self, project: &Project, draft: &mut Draft) -> Result<Content> {
        let Some(blob) = &draft.blob else { return Ok(Content::None) };
        if blob.content.len() as u64 <= self.config.limits.inline_bytes {
            return Ok(Content::Inline(blob.content.clone()));
        }
        if draft.op.is_none() {
            point("A2").await?;
            let op = draft.op.insert(self.begin_op(Some(project.id), OpKind::Pending).await?);
            self.store_objects(op, vec![blob.clone()]).await?;
        }
        Ok(Content::Bucket)
    }
}

fn check(condition: &Condition, seen: &Seen) -> Result<()> {
    let view = seen.view().map(|item| item.oid);
    match condition.holds(view) {
        true => Ok(()),
        false => Err(EngineError::Precondition { oid: view.map(Oid), revision: Some(seen.revision) }),
    }
}

/// `base` if given, else what `If-Match` named, else what the row has, else the head's blob.
fn base(draft: &Draft, seen: &Seen) -> Base {
    let was = match &seen.row {
        Some(row) if draft.put.condition.if_match.is_some() || sends_heads(draft, seen) => seen_base(row, seen.file()),
        // Who names nothing may have seen what a change of mode alone started from.
        Some(row) => base_of(row),
        None => seen.file().into(),
    };
    match draft.put.base {
        Some(named) => based_on(named, was, seen.head, draft.put.mode.is_some()),
        None => was,
    }
}

/// Whether the content is what the branch has: then it was seen.
fn sends_heads(draft: &Draft, seen: &Seen) -> bool {
    draft.blob.as_ref().is_some_and(|blob| seen.file().is_some_and(|item| item.oid == blob.oid))
}

fn answer(draft: &Draft, seen: &Seen, change: &PendingChange, revision: i64) -> PendingAnswer {
    let path = Path(draft.spot.path.clone());
    match change {
        PendingChange::Clear | PendingChange::Undo | PendingChange::Keep { .. } => {
            let head = seen.head.filter(|item| !item.is_tree());
            PendingAnswer {
                path,
                action: PendingAction::None,
                mode: head.map(|item| Mode(item.mode)),
                oid: head.map(|item| Oid(item.oid)),
                size: draft.blob.as_ref().map_or(0, |blob| blob.content.len() as u64),
                base_oid: head.map(|item| Oid(item.oid)),
                revision,
                created: false,
            }
        }
        PendingChange::Set { action, mode, oid, size, base_oid, .. } => PendingAnswer {
            path,
            action: (*action).into(),
            mode: oid.map(|_| Mode(*mode)),
            oid: oid.map(Oid),
            size: *size,
            base_oid: base_oid.map(Oid),
            revision,
            created: seen.row.is_none(),
        },
    }
}
