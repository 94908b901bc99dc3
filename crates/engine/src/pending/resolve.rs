//! Resolving conflicts, file by file: what is pending from then on starts from what the branch has.

use bytes::Bytes;
use treehold_catalog::{PendingRow, Project};
use treehold_object::{BString, Kind, ObjectId};

use super::batch::ops::{Op, Verb, content};
use super::batch::{Asked, Batch, Round, Rules};
use crate::api::{BatchAnswer, Conflict, Mode, Oid, OnMismatch, Origin, Path, ResolveFile, ResolveRequest, Take};
use crate::conflicts::merged_mode;
use crate::files::{pending_item, shaped_path};
use crate::tree::{Item, Resolution3, Side};
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

/// Rounds until the workspace stays as it was seen.
const RACES: usize = 8;

impl Engine {
    /// Resolves pending changes against the branch's head, all or none. Those that are replaced or go stay in local history.
    pub async fn resolve_conflicts(
        &self,
        project: &str,
        request: &ResolveRequest,
        origin: Origin,
    ) -> Result<BatchAnswer> {
        let limit = self.config.limits.batch_paths;
        if request.files.len() > limit {
            return Err(EngineError::TooLarge { what: "the request", limit: limit as u64, unit: "files" });
        }
        let (project, key) = self.workspace(project, request.user, request.branch.as_deref()).await?;
        let paths = request.files.iter().map(|file| shaped_path(file.path.as_bytes()));
        let paths: Vec<BString> = paths.collect::<Result<_>>()?;
        for _ in 0..RACES {
            let (revision, rows) = self.catalog.pending(&key, Some(&paths)).await?;
            let head = self.branch_head(&project, &key.branch).await?;
            let there = self.find_paths(head.tree, &paths).await?;
            let mut ops: Vec<Asked> = Vec::with_capacity(paths.len());
            for ((file, path), theirs) in request.files.iter().zip(&paths).zip(there) {
                let theirs = theirs.filter(|item| !item.is_tree());
                let row = rows.iter().find(|row| row.path == *path);
                let op = self.resolving(&project, file, row, theirs).await?;
                ops.push((path.clone(), Ok(op)));
            }
            let rules = Rules {
                atomic: true,
                base_revision: None,
                on_conflict: OnMismatch::Fail,
                explicit: false,
                whole: false,
            };
            let mut batch = Batch::new(self, project.clone(), key.clone(), ops, rules);
            batch.expected = Some(revision);
            batch.origin = origin.clone();
            let round = self.batch_round(&mut batch).await;
            if let Some(op) = batch.op.take() {
                self.end_op(op).await;
            }
            if let Round::Done(answer) = round? {
                return Ok(answer);
            }
        }
        Err(EngineError::Busy)
    }

    /// What a resolution comes to, for the row and the head as they are now.
    async fn resolving(
        &self,
        project: &Project,
        file: &ResolveFile,
        row: Option<&PendingRow>,
        theirs: Side,
    ) -> Result<Op> {
        let Some(row) = row else {
            let detail = format!("Nothing is pending at {:?}; look at the conflicts again.", file.path);
            return Err(EngineError::unprocessable("nothing_pending", detail));
        };
        let their_oid = theirs.map(|item| item.oid);
        if file.theirs.is_some_and(|seen| seen.map(|oid| oid.0) != their_oid) {
            let detail = format!("The branch's {:?} is another one by now; look at the conflicts again.", file.path);
            return Err(EngineError::Conflict { code: "head_moved", detail });
        }
        // The mode is no matter of the texts: where both sides have a file, it merges by itself.
        let mode = file.mode.or(merged_mode(row, theirs).map(Mode));
        let based = |verb| Op { rebase: Some(theirs.into()), mode, ..Op::new(row.path.clone(), verb) };
        let put = |content: Bytes| Ok(based(Verb::Put(NewBytes::of(Kind::Blob, content)?)));
        let ours = || {
            let item = pending_item(row).map(|item| Item { mode: mode.map_or(item.mode, |mode| mode.0), ..item });
            Ok(based(Verb::Restore(item, row.size)))
        };
        match file.take {
            Take::Ours => ours(),
            Take::Theirs => Ok(Op::new(row.path.clone(), Verb::Reset)),
            Take::Text => {
                let text = file.content.clone().unwrap_or_default();
                let text = content(text, file.encoding);
                put(text.map_err(|refused| EngineError::unprocessable(refused.code, refused.detail))?)
            }
            Take::Merged => match self.merge_row(project, row, theirs).await? {
                Resolution3::Text { content, .. } => put(content),
                Resolution3::Ours => ours(),
                Resolution3::Mode(item) if Some(item.oid) == row.oid => ours(),
                Resolution3::Mode(item) => match self.contents(&[item.oid]).await?.pop().flatten() {
                    Some(content) => put(content),
                    None => Err(unmerged(row, their_oid)),
                },
                Resolution3::Theirs => Ok(Op::new(row.path.clone(), Verb::Reset)),
                Resolution3::Conflict => Err(unmerged(row, their_oid)),
            },
        }
    }
}

fn unmerged(row: &PendingRow, theirs: Option<ObjectId>) -> EngineError {
    let conflict = Conflict {
        path: Path(row.path.clone()),
        base: row.base_oid.map(Oid),
        ours: row.oid.map(Oid),
        theirs: theirs.map(Oid),
    };
    EngineError::MergeConflict(vec![conflict])
}
