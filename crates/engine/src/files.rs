//! Files of a snapshot: list, find, read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_catalog::{Action, PendingRow, Project};
use treehold_object::{BString, ObjectId};

use crate::api::{At, FileEntry, FileList, FileMeta, ListOptions, Mode, Oid, Path, Source};
use crate::text::{read_cursor, write_cursor};
use crate::tree::{GITLINK, Item, WalkFrom};
use crate::view::View;
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 1000;
const LIST_MAX: usize = 10_000;

/// Where a list goes on: the commit it is bound to and the last path shown (bytes, as a path may be any).
#[derive(Serialize, Deserialize)]
struct ListCursor {
    commit: Option<Oid>,
    #[serde(with = "crate::text::bytes_text")]
    after: Vec<u8>,
}

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
    /// Lists files recursively, in byte order of the path, bound to one commit from page to page.
    pub async fn list_files(&self, project: &str, at: &At, options: &ListOptions) -> Result<FileList> {
        let limit = options.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let mut view = self.view(project, at, None).await?;
        let mut from = WalkFrom { prefix: options.prefix.clone().unwrap_or_default().into(), after: None };
        if let Some(cursor) = &options.cursor {
            let cursor: ListCursor = read_cursor(cursor)?;
            from.after = Some(cursor.after.into());
            self.bind(&mut view, cursor.commit).await?;
        }
        // Deletions take entries away again: with as many more, a page is full wherever there is more to show.
        let most = limit + 1 + deletions(&view);
        let committed = self.walk(view.head.tree, &from, most).await?;
        let last = (committed.len() == most).then(|| committed.last().map(|(path, _)| path.clone())).flatten();
        let mut found = overlaid(&view, committed, &from, last.as_ref());
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = match found.last().filter(|_| more) {
            Some((path, _)) => {
                let cursor = ListCursor { commit: view.head.commit.map(Oid), after: path.to_vec() };
                Some(write_cursor(&cursor)?)
            }
            None => None,
        };
        Ok(FileList {
            commit: view.head.commit.map(Oid),
            revision: view.overlay.as_ref().map(|overlay| overlay.revision),
            files: self.file_entries(found).await?,
            next_cursor,
        })
    }

    /// Goes on at the commit that a cursor is bound to, if the project still reaches it.
    async fn bind(&self, view: &mut View, commit: Option<Oid>) -> Result<()> {
        let Some(Oid(commit)) = commit else {
            view.head.commit = None;
            view.head.tree = None;
            return Ok(());
        };
        if view.head.commit == Some(commit) {
            return Ok(());
        }
        view.head = match self.resolve(&view.project, Some(&commit.to_string())).await {
            Ok(head) => head,
            Err(EngineError::NotFound { .. }) => {
                return Err(EngineError::BadRequest("The cursor's commit is gone; list from the start.".to_owned()));
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }

    async fn file_entries(&self, found: Vec<(BString, Shown)>) -> Result<Vec<FileEntry>> {
        let blobs: Vec<ObjectId> = found
            .iter()
            .filter_map(|(_, shown)| match shown {
                Shown::Committed(item) if item.mode != GITLINK => Some(item.oid),
                _ => None,
            })
            .collect();
        let mut sizes = self.catalog.locate(&blobs).await?.into_iter();
        let mut files = Vec::with_capacity(found.len());
        for (path, shown) in found {
            let (item, size, source) = match shown {
                Shown::Pending(item, size) => (item, size, Source::Pending),
                Shown::Committed(item) if item.mode == GITLINK => (item, 0, Source::Committed),
                Shown::Committed(item) => {
                    let size = sizes.next().flatten().map(|located| located.size);
                    let size = size.ok_or_else(|| EngineError::internal(format!("{} is not stored", item.oid)))?;
                    (item, size, Source::Committed)
                }
            };
            files.push(FileEntry { path: Path(path), mode: Mode(item.mode), oid: Oid(item.oid), size, source });
        }
        Ok(files)
    }

    /// Finds a file without reading it.
    pub async fn find_file(&self, project: &str, path: &[u8], at: &At) -> Result<FileMeta> {
        let path = shaped_path(path)?;
        let paths = [path];
        let view = self.view(project, at, Some(&paths)).await?;
        let [path] = paths;
        let row = view.overlay.as_ref().and_then(|overlay| overlay.rows.get(&path));
        if let Some(row) = row {
            let oid = row.oid.ok_or_else(pending_deletion)?;
            let commit = view.head.commit;
            return Ok(FileMeta { commit, path, mode: row.mode, oid, size: row.size, source: Source::Pending });
        }
        let item = self.find_paths(view.head.tree, std::slice::from_ref(&path)).await?[0];
        let item = item.filter(|item| !item.is_tree() && item.mode != GITLINK).ok_or_else(|| not_found(item))?;
        let located = self.catalog.locate(&[item.oid]).await?.pop().flatten();
        let size = located.ok_or_else(|| EngineError::internal(format!("{} is not stored", item.oid)))?.size;
        let (commit, source) = (view.head.commit, Source::Committed);
        Ok(FileMeta { commit, path, mode: item.mode, oid: item.oid, size, source })
    }

    /// The bytes of a file that [`Engine::find_file`] found.
    pub async fn file_content(&self, project: &str, meta: &FileMeta) -> Result<Bytes> {
        let project = self.find_project(project).await?;
        let mut contents = match meta.source {
            Source::Pending => self.pending_bytes(&project, &[meta.oid]).await?,
            Source::Committed => self.contents(&[meta.oid]).await?,
        };
        contents.pop().flatten().ok_or_else(|| EngineError::internal(format!("{} is not stored", meta.oid)))
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

/// What a list shows at a path.
pub(crate) enum Shown {
    Committed(Item),
    Pending(Item, u64),
}

pub(crate) fn pending_item(row: &PendingRow) -> Option<Item> {
    match (row.action, row.oid) {
        (Action::Deleted, _) | (_, None) => None,
        (_, Some(oid)) => Some(Item { mode: row.mode, oid }),
    }
}

/// How many pending rows take a path away.
fn deletions(view: &View) -> usize {
    view.overlay.iter().flat_map(|overlay| overlay.rows.values()).filter(|row| pending_item(row).is_none()).count()
}

/// Committed entries with pending rows on top, as far as `last` (where the committed ones were cut), included.
fn overlaid(
    view: &View,
    committed: Vec<(BString, Item)>,
    from: &WalkFrom,
    last: Option<&BString>,
) -> Vec<(BString, Shown)> {
    let mut shown: std::collections::BTreeMap<BString, Shown> =
        committed.into_iter().map(|(path, item)| (path, Shown::Committed(item))).collect();
    for (path, row) in view.overlay.iter().flat_map(|overlay| &overlay.rows) {
        let covered = path.starts_with(&from.prefix)
            && from.after.as_ref().is_none_or(|after| path > after)
            && last.is_none_or(|last| path <= last);
        if !covered {
            continue;
        }
        match pending_item(row) {
            Some(item) => _ = shown.insert(path.clone(), Shown::Pending(item, row.size)),
            None => _ = shown.remove(path),
        }
    }
    shown.into_iter().collect()
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
