//! From changes and a parent to a commit: merge per path, new trees, the commit object. Nothing is stored here.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use treehold_catalog::{Attempt, CommitRow, Origin, Project, SnapshotRow};
use treehold_object::commit::CommitSpec;
use treehold_object::ident::Signature;
use treehold_object::{BString, Kind, ObjectId};
use uuid::Uuid;

use super::change::ChangeRow;
use super::renames::Followed;
use super::trailers::with_trailers;
use crate::api::{CommitAnswer, CommittedFile, Conflict, Oid, Path, PendingAction};
use crate::tree::{Edits, Item, Resolution3, Side};
use crate::view::Head;
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// Who commits what, and where.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub project: Project,
    pub branch: String,
    pub user: Option<Uuid>,
    pub message: String,
    /// Whether the message tells where the edits come from.
    pub trailers: bool,
    pub author: Signature,
    pub push: bool,
    pub idempotency_key: Option<String>,
    /// Times are taken once for a request.
    pub now_ms: i64,
    /// The caller gave a date: it stands for author and committer.
    pub dated: bool,
    /// Pushes that the same request has given up, as of the last look at its attempts.
    pub given_up: Vec<Attempt>,
}

/// Changes merged onto a parent.
#[derive(Debug, Default)]
pub(crate) struct MergedChanges {
    pub edits: Edits,
    pub blobs: Vec<NewBytes>,
    /// The parent's blob in the place of a new one, by the new one's id.
    pub before: HashMap<ObjectId, ObjectId>,
    /// Large pending contents that are in the bucket already: pinned and sent, not stored again.
    pub reused: Vec<ObjectId>,
    pub files: Vec<CommittedFile>,
    pub snapshot: Vec<SnapshotRow>,
    pub conflicts: Vec<Conflict>,
    /// Where the changes come from.
    pub origins: Vec<Origin>,
    /// Some change was not against what the parent has.
    pub moved: bool,
}

impl MergedChanges {
    /// A path becomes `new`, for the sake of a change; `revision` is that of the pending row which is committed with it, if it is at this
    /// path. `content`: the new bytes, where they are not stored yet.
    fn put(
        &mut self,
        change: &ChangeRow,
        path: BString,
        revision: Option<i64>,
        theirs: Side,
        new: Side,
        content: Option<Bytes>,
    ) {
        let (oid, mode) = (new.map(|item| item.oid), new.map_or(0, |item| item.mode));
        self.snapshot.push(SnapshotRow { path: path.clone(), revision, oid, mode });
        if new == theirs {
            return;
        }
        self.edits.insert(path.clone(), new);
        self.origins.push(change.origin.clone());
        match (new, content) {
            (Some(item), Some(content)) => {
                self.before.extend(theirs.map(|old| (item.oid, old.oid)));
                self.blobs.push(NewBytes { oid: item.oid, kind: Kind::Blob, content });
            }
            (Some(item), None) if change.revision.is_some() && change.new.is_some_and(|own| own.oid == item.oid) => {
                self.reused.push(item.oid);
            }
            _ => {}
        }
        self.files.push(committed_file(&path, theirs, new));
    }
}

/// A commit in memory, ready to be prepared.
#[derive(Debug)]
pub(crate) struct Planned {
    pub attempt: Attempt,
    /// Every object that it makes: blobs, trees, last the commit.
    pub objects: Vec<NewBytes>,
    /// The commit's row.
    pub row: CommitRow,
    /// The parent's trees in the place of new ones, by the new ones' ids.
    pub trees_before: HashMap<ObjectId, (ObjectId, Bytes)>,
    /// The parent's blobs, likewise.
    pub blobs_before: HashMap<ObjectId, ObjectId>,
    /// Objects that it uses and that are stored already.
    pub reused: Vec<ObjectId>,
    pub answer: CommitAnswer,
}

impl Engine {
    /// Merges each change of a project with what `parent` has at its path. With `ours_wins`, what does not merge is taken from the change.
    pub(crate) async fn merge_changes(
        &self,
        project: Uuid,
        changes: &[ChangeRow],
        parent: &Head,
        ours_wins: bool,
    ) -> Result<MergedChanges> {
        let paths: Vec<BString> = changes.iter().map(|change| change.path.clone()).collect();
        let there = self.find_paths(parent.tree, &paths).await?;
        let there: Vec<Side> = there.into_iter().map(|found| found.filter(|item| !item.is_tree())).collect();
        let mut merged = MergedChanges::default();
        let mut resolutions = Vec::with_capacity(changes.len());
        for (change, theirs) in changes.iter().zip(&there) {
            merged.moved |= !change.base.is(*theirs);
            let content = change.content.clone();
            resolutions.push(self.merge_path(Some(project), change.base, change.new, *theirs, content).await?);
        }
        if !ours_wins {
            self.merge_renamed(project, changes, &there, parent, &mut resolutions, &mut merged).await?;
        }
        for ((change, theirs), resolution) in changes.iter().zip(there).zip(resolutions) {
            let (new, content) = match resolution {
                Resolution3::Theirs => (theirs, None),
                Resolution3::Ours => (change.new, change.content.clone()),
                Resolution3::Mode(item) => {
                    let own = change.content.clone().filter(|_| change.new.is_some_and(|own| own.oid == item.oid));
                    (Some(item), own)
                }
                Resolution3::Text { mode, oid, content } => (Some(Item { mode, oid }), Some(content)),
                Resolution3::Conflict if ours_wins => (change.new, change.content.clone()),
                Resolution3::Conflict => {
                    merged.conflicts.push(conflict(change, theirs));
                    continue;
                }
            };
            merged.put(change, change.path.clone(), change.revision, theirs, new, content);
        }
        merged.snapshot.sort_by(|one, other| one.path.cmp(&other.path));
        merged.files.sort_by(|one, other| one.path.0.cmp(&other.path.0));
        Ok(merged)
    }

    /// Tries what does not merge where its file went, if one side renamed it.
    async fn merge_renamed(
        &self,
        project: Uuid,
        changes: &[ChangeRow],
        there: &[Side],
        parent: &Head,
        resolutions: &mut [Resolution3],
        merged: &mut MergedChanges,
    ) -> Result<()> {
        let unmerged = |(at, _): &(usize, &Side)| resolutions[*at] == Resolution3::Conflict;
        let conflicts: Vec<(usize, Side)> =
            there.iter().enumerate().filter(unmerged).map(|(at, theirs)| (at, *theirs)).collect();
        for (at, followed) in self.follow(project, &conflicts, changes, parent).await? {
            match followed {
                Followed::Here { index, resolution } => {
                    resolutions[at] = Resolution3::Ours;
                    resolutions[index] = resolution;
                }
                Followed::There { path, theirs, new, content } => {
                    let change = &changes[at];
                    resolutions[at] = Resolution3::Theirs;
                    let own = change.content.clone().filter(|_| change.new.is_some_and(|own| own.oid == new.oid));
                    merged.put(change, path, None, Some(theirs), Some(new), content.or(own));
                }
            }
        }
        Ok(())
    }

    /// Makes the commit of merged changes on `parent`, in memory.
    pub(crate) async fn plan_commit(&self, intent: &Intent, parent: &Head, merged: MergedChanges) -> Result<Planned> {
        let added = merged.files.iter().filter(|file| file.action == PendingAction::Created);
        let added: Vec<BString> = added.map(|file| file.path.0.clone()).collect();
        self.check_additions(parent.tree, &merged.edits, &added).await?;
        self.check_git_files(&merged.edits, &merged.blobs).await?;
        let (edited, before) = tokio::try_join!(self.edit_tree(parent.tree, &merged.edits), self.parent_row(parent))?;
        if merged.edits.is_empty() || parent.tree == Some(edited.root) {
            return Err(nothing_to_commit());
        }
        let author = commit_time(intent, before.as_deref());
        let message = match intent.trailers {
            true => with_trailers(&intent.message, &merged.origins),
            false => intent.message.clone(),
        };
        let spec = CommitSpec {
            tree: edited.root,
            parents: parent.commit.into_iter().collect(),
            author: author.clone(),
            committer: author,
            message: message.into(),
        };
        let raw = self.encode_commit(spec)?;
        let commit = NewBytes::of(Kind::Commit, raw.into())?;
        let mut row = crate::intake::commit_row(commit.oid, commit.content.clone())?;
        row.generation = 1 + before.map_or(0, |before| before.generation);
        let mut objects = merged.blobs;
        let trees = edited.trees.into_iter();
        objects.extend(trees.map(|(oid, content)| NewBytes { oid, kind: Kind::Tree, content }));
        objects.sort_by_key(|object| object.oid);
        objects.dedup_by_key(|object| object.oid);
        // Several paths may have one content.
        let mut reused = merged.reused;
        reused.sort_unstable();
        reused.dedup();
        reused.retain(|oid| objects.binary_search_by_key(oid, |object| object.oid).is_err());
        objects.push(commit.clone());
        let mut attempt = self.attempt(intent, parent, edited.root, &commit, merged.snapshot, &objects);
        attempt.objects.extend(&reused);
        let answer = CommitAnswer {
            commit: Oid(commit.oid),
            tree: Oid(edited.root),
            parents: parent.commit.map(Oid).into_iter().collect(),
            branch: intent.branch.clone(),
            pushed: false,
            files: merged.files,
            objects: attempt.objects.len() as u64,
        };
        let (trees_before, blobs_before) = (edited.before, merged.before);
        Ok(Planned { attempt, objects, row, trees_before, blobs_before, reused, answer })
    }

    /// Mostly it was read together with the head.
    async fn parent_row(&self, parent: &Head) -> Result<Option<Arc<CommitRow>>> {
        let Some(commit) = parent.commit else { return Ok(None) };
        match parent.row.as_ref().filter(|row| row.oid == commit) {
            Some(row) => Ok(Some(Arc::clone(row))),
            None => self.commit_row(commit).await.map(|row| Some(Arc::new(row))),
        }
    }

    fn attempt(
        &self,
        intent: &Intent,
        parent: &Head,
        tree: ObjectId,
        commit: &NewBytes,
        snapshot: Vec<SnapshotRow>,
        objects: &[NewBytes],
    ) -> Attempt {
        let made = (tree, commit.oid, commit.content.to_vec());
        Attempt {
            idempotency_key: intent.idempotency_key.clone(),
            user: intent.user,
            base: parent.commit,
            push: intent.push,
            snapshot,
            objects: objects.iter().map(|object| object.oid).collect(),
            ..Attempt::prepared(self.ambient.uuid(), intent.project.id, &intent.branch, made, intent.now_ms)
        }
    }
}

/// Author and committer: the given date, else the time of the request, but never before the parent's.
fn commit_time(intent: &Intent, parent: Option<&CommitRow>) -> Signature {
    let mut author = intent.author.clone();
    if let (false, Some(parent)) = (intent.dated, parent) {
        author.time_s = author.time_s.max(parent.time);
    }
    author
}

/// The code of [`nothing_to_commit`].
pub(super) const NOTHING_TO_COMMIT: &str = "nothing_to_commit";

pub(crate) fn nothing_to_commit() -> EngineError {
    EngineError::unprocessable(
        NOTHING_TO_COMMIT,
        "There is nothing to commit: nothing is pending here, or the branch has it already.",
    )
}

fn committed_file(path: &BString, old: Side, new: Side) -> CommittedFile {
    let action = match (old, new) {
        (_, None) => PendingAction::Deleted,
        (None, Some(_)) => PendingAction::Created,
        (Some(_), Some(_)) => PendingAction::Modified,
    };
    CommittedFile { path: Path(path.clone()), action, oid: new.map(|item| Oid(item.oid)) }
}

fn conflict(change: &ChangeRow, theirs: Side) -> Conflict {
    Conflict {
        path: Path(change.path.clone()),
        base: change.base.oid.map(Oid),
        ours: change.new.map(|item| Oid(item.oid)),
        theirs: theirs.map(|item| Oid(item.oid)),
    }
}
