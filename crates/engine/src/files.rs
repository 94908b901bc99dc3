//! Files of a snapshot: find, read.

use bytes::Bytes;
use treehold_catalog::{Action, PendingRow, Project};
use treehold_object::{BString, ObjectId};

use crate::api::{At, FileMeta, Held, Source};
use crate::tree::{Base, GITLINK, Item};
use crate::{Engine, EngineError, Result};

/// A path of a request, judged by shape only.
pub(crate) fn shaped_path(path: &[u8]) -> Result<BString> {
    match treehold_object::path::check_existing(path) {
        Ok(()) => Ok(path.into()),
        Err(error) => Err(bad_path(&error)),
    }
}

pub(crate) fn bad_path(error: &treehold_object::path::PathError) -> EngineError {
    EngineError::unprocessable("bad_path", format!("The path is refused ({error})."))
}

impl Engine {
    /// Finds a file without reading it.
    pub async fn find_file(&self, project: &str, path: &[u8], at: &At) -> Result<FileMeta> {
        let path = shaped_path(path)?;
        let paths = [path];
        let view = self.view(project, at, Some(&paths)).await?;
        let [path] = paths;
        let commit = view.head.commit;
        let row = view.overlay.as_ref().and_then(|overlay| overlay.rows.get(&path));
        if let Some(row) = row {
            let oid = row.oid.ok_or_else(pending_deletion)?;
            let (mode, size, source) = (row.mode, row.size, Source::Pending);
            return Ok(FileMeta { held: Held::Pending(view.project), commit, path, mode, oid, size, source });
        }
        let item = self.find_paths(view.head.tree, std::slice::from_ref(&path)).await?[0];
        let item = item.filter(|item| !item.is_tree() && item.mode != GITLINK).ok_or_else(|| not_found(item))?;
        let Item { mode, oid } = item;
        let blob = self.blobs(&[oid]).await?.pop().flatten();
        let blob = blob.ok_or_else(|| EngineError::internal(format!("{oid} is not stored")))?;
        let (size, source) = (blob.size(), Source::Committed);
        Ok(FileMeta { held: Held::Committed(blob), commit, path, mode, oid, size, source })
    }

    /// The bytes of a file that [`Engine::find_file`] found.
    pub async fn file_content(&self, meta: &FileMeta) -> Result<Bytes> {
        let missing = || EngineError::internal(format!("{} is not stored", meta.oid));
        match &meta.held {
            Held::Pending(project) => {
                self.pending_bytes(project, &[meta.oid]).await?.pop().flatten().ok_or_else(missing)
            }
            Held::Committed(blob) => Ok(self.blob_contents(&[blob]).await?.pop().ok_or_else(missing)??),
        }
    }

    /// Contents that pending rows of the project name: inline, else from the bucket.
    pub(crate) async fn pending_bytes(&self, project: &Project, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        let mut contents = self.catalog.pending_contents(project.id, oids).await?;
        let large: Vec<usize> = (0..oids.len()).filter(|&at| contents[at].is_none()).collect();
        let wanted: Vec<ObjectId> = large.iter().map(|&at| oids[at]).collect();
        for (at, content) in large.into_iter().zip(self.contents(&wanted).await?) {
            contents[at] = content;
        }
        Ok(contents)
    }
}

pub(crate) fn pending_item(row: &PendingRow) -> Option<Item> {
    match (row.action, row.oid) {
        (Action::Deleted, _) | (_, None) => None,
        (_, Some(oid)) => Some(Item { mode: row.mode, oid }),
    }
}

/// What a pending change started from.
pub(crate) fn base_of(row: &PendingRow) -> Base {
    Base { oid: row.base_oid, mode: row.base_mode }
}

pub(crate) fn pending_deletion() -> EngineError {
    EngineError::not_found("pending_deletion", "The user's pending work deletes this file.")
}

pub(crate) fn not_found(item: Option<Item>) -> EngineError {
    match item {
        Some(item) if item.is_tree() => {
            EngineError::not_found("is_directory", "The path is a directory; list it with `prefix`.")
        }
        Some(_) => EngineError::not_found("is_submodule", "The path is a submodule; its commit lies elsewhere."),
        None => EngineError::not_found("file_not_found", "There is no file at this path."),
    }
}
