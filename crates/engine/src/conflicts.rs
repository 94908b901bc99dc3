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
use crate::files::{base_of, pending_item};
use crate::text::{bytes_text, page, read_cursor, rfc3339, write_cursor};
use crate::tree::{GITLINK, Side, is_binary, is_file, merge_marked, merge_mode};
use crate::view::{Head, branch_ref};
use crate::{Engine, EngineError, Result, blocking};

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
        let after: Option<After> = request.cursor.as_deref().map(read_cursor).transpose()?;
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, request.branch.as_deref())?;
        let key = WorkspaceKey { project: project.id, branch: branch.clone(), user: request.user };
        let only = request.path.as_ref().map(|path| BString::from(path.clone()));
        let (revision, rows) = self.catalog.pending(&key, None).await?;
        let head = self.stood_against(&project, &branch, request.against).await?;
        let wanted = |row: &&PendingRow| match (&only, &after) {
            (Some(only), _) => row.path == *only,
            (None, Some(After(after))) => row.path.as_slice() > after.as_slice(),
            (None, None) => true,
        };
        let wanted: Vec<usize> = (0..rows.len()).filter(|at| wanted(&&rows[*at])).collect();
        let mut apart = self.apart(&project, &head, &rows, &wanted, only.is_some(), limit + 1).await?;
        let last = page(&mut apart, limit).map(|last| After(last.row.path.to_vec()));
        let files = self.shown(&project, &key, apart).await?;
        let next_cursor = last.map(|last| write_cursor(&last)).transpose()?;
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

    /// The first `limit` of the wanted rows that are not clean; all of them, with `any`.
    async fn apart(
        &self,
        project: &Project,
        head: &Head,
        rows: &[PendingRow],
        wanted: &[usize],
        any: bool,
        limit: usize,
    ) -> Result<Vec<Apart>> {
        let paths: Vec<BString> = wanted.iter().map(|at| rows[*at].path.clone()).collect();
        let there = self.find_paths(head.tree, &paths).await?;
        let there = there.into_iter().map(|found| found.filter(|item| !item.is_tree()));
        let left = |(at, theirs): &(usize, Side)| any || !base_of(&rows[*at]).is(*theirs);
        let places: Vec<(usize, Side)> = wanted.iter().copied().zip(there).filter(left).take(limit).collect();
        let states = self.change_states(project, head, rows, &places).await?;
        let apart = places.into_iter().zip(states);
        Ok(apart
            .map(|((at, theirs), standing)| Apart { row: rows[at].clone(), theirs, state: standing.state })
            .collect())
    }

    /// One page: a few queries for all of it, and nothing read that is too large to be shown.
    async fn shown(&self, project: &Project, key: &WorkspaceKey, apart: Vec<Apart>) -> Result<Vec<ConflictFile>> {
        let paths: Vec<BString> = apart.iter().map(|found| found.row.path.clone()).collect();
        let mut others = self.others_at(key, &paths).await?;
        let texts = self.texts(project, &apart).await?;
        let mut files = Vec::with_capacity(apart.len());
        for Apart { row, theirs, state } in apart {
            let ours = pending_item(&row);
            let text = |oid: Option<ObjectId>| oid.and_then(|oid| texts.get(&oid)?.shown());
            let sides = (text(row.base_oid), text(ours.map(|item| item.oid)), text(theirs.map(|item| item.oid)));
            let merged = match sides {
                (Some(base), Some(ours), Some(theirs)) => {
                    blocking(move || Ok(merge_marked(&base, &ours, &theirs))).await?
                }
                _ => None,
            };
            let side = |oid, mode| side(oid, mode, texts.get(&oid));
            files.push(ConflictFile {
                others: others.remove(&row.path).unwrap_or_default().iter().map(other).collect(),
                base: row.base_oid.map(|oid| side(oid, row.base_mode)),
                mode: merged_mode(&row, theirs).map(Mode),
                ours: ours.map(|item| side(item.oid, Some(item.mode))),
                theirs: theirs.map(|item| side(item.oid, Some(item.mode))),
                merged: merged.map(|(content, hunks)| MergedText { content, hunks }),
                path: Path(row.path),
                state,
            });
        }
        Ok(files)
    }

    /// What is known of the blobs of a page, as far as the project may read them: a base is what a client said.
    async fn texts(&self, project: &Project, apart: &[Apart]) -> Result<HashMap<ObjectId, Text>> {
        let blob = |side: Side| side.filter(|item| item.mode != GITLINK).map(|item| item.oid);
        let of = |found: &Apart| [found.row.base_oid, blob(pending_item(&found.row)), blob(found.theirs)];
        let mut oids: Vec<ObjectId> = apart.iter().flat_map(of).flatten().collect();
        oids.sort_unstable();
        oids.dedup();
        let readable = self.catalog.may_read(project.id, &oids).await?;
        let oids: Vec<ObjectId> = oids.into_iter().zip(readable).filter_map(|(oid, may)| may.then_some(oid)).collect();
        // Contents that are not in the ledger are kept inline, and small.
        let sizes = self.catalog.sizes(&oids).await?;
        let small = |size: &Option<u64>| size.is_none_or(|size| size <= SHOWN_MAX);
        let wanted: Vec<ObjectId> =
            oids.iter().zip(&sizes).filter_map(|(oid, size)| small(size).then_some(*oid)).collect();
        let mut contents = self.pending_bytes(project, &wanted).await?.into_iter();
        let text = |(oid, size): (ObjectId, Option<u64>)| match size.filter(|size| *size > SHOWN_MAX) {
            Some(size) => Some((oid, Text { size, content: None })),
            None => contents
                .next()
                .flatten()
                .map(|content| (oid, Text { size: content.len() as u64, content: Some(content) })),
        };
        Ok(oids.into_iter().zip(sizes).filter_map(text).collect())
    }
}

/// The mode that both sides give; `None` where one has no file, or they are of different types.
pub(crate) fn merged_mode(row: &PendingRow, theirs: Side) -> Option<u32> {
    let (ours, theirs) = (pending_item(row)?.mode, theirs?.mode);
    match is_file(ours) && is_file(theirs) {
        true => Some(merge_mode(row.base_mode, ours, theirs)),
        false => Some(ours).filter(|ours| *ours == theirs),
    }
}

/// A blob of a side.
struct Text {
    size: u64,
    /// `None`: too large to be read for this.
    content: Option<Bytes>,
}

impl Text {
    /// What is shown and merged: texts of some length.
    fn shown(&self) -> Option<Bytes> {
        let content = self.content.as_ref()?;
        let fits = self.size <= SHOWN_MAX && !is_binary(content) && std::str::from_utf8(content).is_ok();
        fits.then(|| content.clone())
    }
}

fn side(oid: ObjectId, mode: Option<u32>, text: Option<&Text>) -> MergeSide {
    let shown = text.and_then(Text::shown);
    let omitted = match (text, &shown) {
        (_, Some(_)) => None,
        (None, _) => Some("unavailable"),
        (Some(text), _) if text.size > SHOWN_MAX => Some("too_large"),
        _ => Some("binary"),
    };
    let content = shown.map(|shown| Content::new(Encoding::Utf8, shown));
    MergeSide { oid: Oid(oid), mode: mode.map(Mode), size: text.map(|text| text.size), omitted, content }
}

fn other((user, row): &(Uuid, PendingRow)) -> OtherWork {
    OtherWork { user: *user, action: row.action.into(), oid: row.oid.map(Oid), updated_at: rfc3339(row.updated_at_ms) }
}
