//! Preview of a merge: pending changes whose base the branch has left, with all sides and what merging them gives.

use std::collections::HashMap;

use bytes::Bytes;
use treehold_catalog::{PendingRow, Project, WorkspaceKey};
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use crate::api::{
    ChangeState, ConflictFile, ConflictPage, ConflictsRequest, Content, Encoding, MergeSide, MergeWith, MergedText,
    Mode, Oid, OtherWork, Path,
};
use crate::files::pending_item;
use crate::text::{bytes_text, rfc3339};
use crate::tree::{GITLINK, Side, is_binary, merge_marked};
use crate::view::{Head, branch_ref};
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 20;
const LIST_MAX: usize = 100;
/// Longer texts are named, not shown, bytes.
const SHOWN_MAX: u64 = 1 << 20;

/// Where a list goes on: behind this path.
#[derive(serde::Serialize, serde::Deserialize)]
struct After(#[serde(with = "bytes_text")] Vec<u8>);

/// A pending change that is not what the branch had.
struct Apart {
    row: PendingRow,
    theirs: Side,
    state: ChangeState,
}

impl Engine {
    /// Pending changes of a user that are not clean against the head, or against what a pull would bring. With a path: that one,
    /// whatever its state. Work in proportion to the pending changes; contents are read for one page.
    pub async fn conflicts(&self, project: &str, request: &ConflictsRequest) -> Result<ConflictPage> {
        let limit = request.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let after: Option<After> = request.cursor.as_deref().map(crate::text::read_cursor).transpose()?;
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, request.branch.as_deref())?;
        let key = WorkspaceKey { project: project.id, branch: branch.clone(), user: request.user };
        let only = request.path.as_ref().map(|path| [BString::from(path.clone())]);
        let (revision, mut rows) = self.catalog.pending(&key, only.as_ref().map(|only| &only[..])).await?;
        if let Some(After(after)) = after {
            rows.retain(|row| row.path.as_slice() > after.as_slice());
        }
        let head = self.stood_against(&project, &branch, request.against).await?;
        let mut apart = self.apart(&project, &head, rows, only.is_some(), limit + 1).await?;
        let more = apart.len() > limit;
        apart.truncate(limit);
        let last = apart.last().filter(|_| more).map(|last| After(last.row.path.to_vec()));
        let files = self.shown(&project, &key, apart).await?;
        let next_cursor = last.map(|last| crate::text::write_cursor(&last)).transpose()?;
        Ok(ConflictPage { branch, revision, against: head.commit.map(Oid), files, next_cursor })
    }

    async fn stood_against(&self, project: &Project, branch: &str, against: MergeWith) -> Result<Head> {
        if against == MergeWith::Head {
            return self.branch_head(project, branch).await;
        }
        let name = branch_ref(branch);
        let known = self.catalog.remote_references(project.id, &name).await?;
        let Some(known) = known.into_iter().find(|known| known.name == name) else {
            let detail =
                "Nothing is known of the remote's branch yet; sync first, with `dry_run` if our branch is to stay.";
            return Err(EngineError::not_found("ref_not_found", detail));
        };
        self.head_of(known.oid, Some(branch.to_owned())).await
    }

    /// The first `limit` rows that are not clean; all, with `any`.
    async fn apart(
        &self,
        project: &Project,
        head: &Head,
        rows: Vec<PendingRow>,
        any: bool,
        limit: usize,
    ) -> Result<Vec<Apart>> {
        let paths: Vec<BString> = rows.iter().map(|row| row.path.clone()).collect();
        let there = self.find_paths(head.tree, &paths).await?;
        let mut apart = Vec::new();
        for (row, theirs) in rows.into_iter().zip(there) {
            let theirs = theirs.filter(|item| !item.is_tree());
            if !any && theirs.map(|item| item.oid) == row.base_oid {
                continue;
            }
            let state = self.change_state(project, &row, theirs).await?;
            apart.push(Apart { row, theirs, state });
            if apart.len() == limit {
                break;
            }
        }
        Ok(apart)
    }

    async fn shown(&self, project: &Project, key: &WorkspaceKey, apart: Vec<Apart>) -> Result<Vec<ConflictFile>> {
        let paths: Vec<BString> = apart.iter().map(|found| found.row.path.clone()).collect();
        let mut others: HashMap<BString, Vec<OtherWork>> = HashMap::new();
        if !paths.is_empty() {
            for (user, row) in self.catalog.pending_on_branch(project.id, &key.branch, Some(&paths)).await? {
                if user != key.user {
                    others.entry(row.path.clone()).or_default().push(other(user, &row));
                }
            }
        }
        let mut files = Vec::with_capacity(apart.len());
        for found in apart {
            let others = others.remove(&found.row.path).unwrap_or_default();
            files.push(self.shown_file(project, found, others).await?);
        }
        Ok(files)
    }

    async fn shown_file(&self, project: &Project, found: Apart, others: Vec<OtherWork>) -> Result<ConflictFile> {
        let Apart { row, theirs, state } = found;
        let ours = pending_item(&row);
        let base = self.readable_text(project, row.base_oid).await?;
        let our_text = match ours {
            Some(item) => self.pending_bytes(project, &[item.oid]).await?.pop().flatten(),
            None => None,
        };
        let their_text =
            self.readable_text(project, theirs.filter(|item| item.mode != GITLINK).map(|item| item.oid)).await?;
        let merged = match (shown(&base), shown(&our_text), shown(&their_text)) {
            (Some(base), Some(ours), Some(theirs)) => {
                let merge = move || merge_marked(&base, &ours, &theirs);
                tokio::task::spawn_blocking(merge).await.map_err(EngineError::internal)?
            }
            _ => None,
        };
        Ok(ConflictFile {
            path: Path(row.path),
            state,
            base: row.base_oid.map(|oid| side(oid, None, base)),
            ours: ours.map(|item| side(item.oid, Some(item.mode), our_text)),
            theirs: theirs.map(|item| side(item.oid, Some(item.mode), their_text)),
            merged: merged.map(|(content, hunks)| MergedText { content, hunks }),
            others,
        })
    }

    /// A blob's content, if the project may read it: a base is what a client said.
    async fn readable_text(&self, project: &Project, oid: Option<ObjectId>) -> Result<Option<Bytes>> {
        let Some(oid) = oid else { return Ok(None) };
        if self.catalog.may_read(project.id, &[oid]).await? != [true] {
            return Ok(None);
        }
        Ok(self.pending_bytes(project, &[oid]).await?.pop().flatten())
    }
}

/// What is shown and merged: texts of some length.
fn shown(content: &Option<Bytes>) -> Option<Bytes> {
    let fits = |content: &&Bytes| content.len() as u64 <= SHOWN_MAX && std::str::from_utf8(content).is_ok();
    content.as_ref().filter(fits).filter(|content| !is_binary(content)).cloned()
}

fn side(oid: ObjectId, mode: Option<u32>, content: Option<Bytes>) -> MergeSide {
    let text = shown(&content);
    let omitted = match (&content, &text) {
        (_, Some(_)) => None,
        (None, _) => Some("unavailable"),
        (Some(content), _) if content.len() as u64 > SHOWN_MAX => Some("too_large"),
        _ => Some("binary"),
    };
    let size = content.map(|content| content.len() as u64);
    let content = text.map(|text| Content::new(Encoding::Utf8, text));
    MergeSide { oid: Oid(oid), mode: mode.map(Mode), size, omitted, content }
}

fn other(user: Uuid, row: &PendingRow) -> OtherWork {
    OtherWork { user, action: row.action.into(), oid: row.oid.map(Oid), updated_at: rfc3339(row.updated_at_ms) }
}
