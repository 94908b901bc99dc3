//! Local history: versions listed, read, compared and restored.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_catalog::{Project, Version, WorkspaceKey};
use treehold_object::BString;
use uuid::Uuid;

use super::batch::ops::{Op, Verb};
use super::batch::{Batch, Rules};
use crate::api::{At, Condition, Diff, Mode, Oid, OnMismatch, OpResult, Origin, Path, VersionEntry, VersionList};
use crate::files::{pending_item, shaped_path};
use crate::text::{page, read_cursor, rfc3339, write_cursor};
use crate::tree::{Change, GITLINK, Item};
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1000;

/// What a version's id holds.
#[derive(Serialize, Deserialize)]
struct VersionId {
    b: String,
    r: i64,
}

/// Where a list goes on: below this revision.
#[derive(Serialize, Deserialize)]
struct VersionCursor {
    before: i64,
}

/// The id of a version of a workspace: branch and revision.
pub(super) fn version_id(branch: &str, revision: i64) -> Result<String> {
    write_cursor(&VersionId { b: branch.to_owned(), r: revision })
}

fn no_version() -> EngineError {
    EngineError::not_found(
        "version_not_found",
        "The user has no such version; it may be older than what local history keeps.",
    )
}

fn entry(branch: &str, version: Version) -> Result<VersionEntry> {
    let Version { row, replaced_at_ms } = version;
    Ok(VersionEntry {
        id: version_id(branch, row.revision)?,
        action: row.action.into(),
        oid: row.oid.map(Oid),
        mode: row.oid.map(|_| Mode(row.mode)),
        size: row.size,
        base_oid: row.base_oid.map(Oid),
        revision: row.revision,
        at: rfc3339(row.updated_at_ms),
        replaced_at: replaced_at_ms.map(rfc3339),
        path: Path(row.path),
    })
}

/// What a version is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// The user's view now.
    Current,
    /// The head of the branch.
    Head,
    /// Another version.
    Version(String),
}

impl std::str::FromStr for Against {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text {
            "current" => Self::Current,
            "head" => Self::Head,
            id => Self::Version(id.to_owned()),
        })
    }
}

impl Engine {
    /// Versions of a path, or of all paths, newest first: what is pending now, and what was.
    pub async fn versions(
        &self,
        project: &str,
        user: Uuid,
        branch: Option<&str>,
        path: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<VersionList> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let path: Option<BString> = path.map(|path| shaped_path(path.as_bytes())).transpose()?;
        let cursor: Option<VersionCursor> = cursor.map(read_cursor).transpose()?;
        let (_, key) = self.workspace(project, user, branch).await?;
        let one_more = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let before = cursor.map(|cursor| cursor.before);
        let mut found = self.catalog.versions(&key, path.as_ref(), before, one_more).await?;
        let last = page(&mut found, limit).map(|last| VersionCursor { before: last.row.revision });
        let next_cursor = last.map(|last| write_cursor(&last)).transpose()?;
        let versions = found.into_iter().map(|version| entry(&key.branch, version)).collect::<Result<_>>()?;
        Ok(VersionList { versions, next_cursor })
    }

    async fn find_version(&self, project: &str, user: Uuid, id: &str) -> Result<(Project, WorkspaceKey, Version)> {
        let project = self.find_project(project).await?;
        let Ok(VersionId { b: branch, r: revision }) = read_cursor(id) else { return Err(no_version()) };
        let key = WorkspaceKey { project: project.id, branch, user };
        if Self::branch_name(&project, Some(&key.branch)).is_err() {
            return Err(no_version());
        }
        let version = self.catalog.version(&key, revision).await?.ok_or_else(no_version)?;
        Ok((project, key, version))
    }

    /// A version and its bytes.
    pub async fn version_file(&self, project: &str, user: Uuid, id: &str) -> Result<(VersionEntry, Bytes)> {
        let (project, key, version) = self.find_version(project, user, id).await?;
        let oid = version.row.oid.ok_or_else(|| {
            EngineError::not_found("version_deletion", "The version is a deletion of the file: it has no bytes.")
        })?;
        let content = self.pending_bytes(&project, &[oid]).await?.pop().flatten().ok_or_else(no_version)?;
        Ok((entry(&key.branch, version)?, content))
    }

    /// Compares a version with what its path is now, in the user's view or on the branch, or with another version.
    pub async fn version_diff(&self, project: &str, user: Uuid, id: &str, against: &Against) -> Result<Diff> {
        let (project, key, version) = self.find_version(project, user, id).await?;
        let path = version.row.path.clone();
        let other = match against {
            Against::Version(id) => {
                let (_, _, other) = self.find_version(&project.id.to_string(), user, id).await?;
                if other.row.path != path {
                    return Err(EngineError::unprocessable("bad_version", "The versions are of different files."));
                }
                pending_item(&other.row)
            }
            Against::Current => self.item_now(&key, &path, Some(user)).await?,
            Against::Head => self.item_now(&key, &path, None).await?,
        };
        let change = Change { old: pending_item(&version.row), new: other, path };
        let changes = if change.old == change.new { Vec::new() } else { vec![change] };
        Ok(Diff { from: None, to: None, files: self.pending_diffs(&project, changes).await?, next_cursor: None })
    }

    /// What a path has now, in a user's view or on the branch.
    async fn item_now(&self, key: &WorkspaceKey, path: &BString, user: Option<Uuid>) -> Result<Option<Item>> {
        let at = At { reference: Some(format!("refs/heads/{}", key.branch)), user };
        let paths = std::slice::from_ref(path);
        let view = self.view(&key.project.to_string(), &at, Some(paths)).await?;
        if let Some(row) = view.overlay.as_ref().and_then(|overlay| overlay.rows.get(path)) {
            return Ok(pending_item(row));
        }
        let item = self.find_paths(view.head.tree, paths).await?[0];
        Ok(item.filter(|item| !item.is_tree() && item.mode != GITLINK))
    }

    /// Makes a version the pending one, by an ordinary write: what it replaces is in local history in turn. The condition is judged by
    /// the caller's view.
    pub async fn restore_version(
        &self,
        project: &str,
        user: Uuid,
        id: &str,
        condition: Condition,
        origin: Origin,
    ) -> Result<OpResult> {
        let (project, key, version) = self.find_version(project, user, id).await?;
        let item = pending_item(&version.row);
        let op = Op { condition, ..Op::new(version.row.path.clone(), Verb::Restore(item, version.row.size)) };
        let rules =
            Rules { atomic: true, base_revision: None, on_conflict: OnMismatch::Fail, explicit: false, whole: false };
        let mut batch = Batch::new(self, project, key, vec![(op.path.clone(), Ok(op))], rules);
        batch.origin = origin;
        match self.run_batch(&mut batch).await {
            Ok(mut answer) => answer.results.pop().ok_or_else(no_version),
            Err(EngineError::Batch(refused)) if refused.error().code == "precondition_failed" => {
                let oid = refused.results.first().and_then(|result| result.oid);
                let revision = self.catalog.workspace_revision(&batch.key).await?;
                Err(EngineError::Precondition { oid, revision: Some(revision) })
            }
            Err(error) => Err(error),
        }
    }
}
