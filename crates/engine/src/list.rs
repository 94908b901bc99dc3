//! Lists: the files of a snapshot in byte order of the path, page by page or all at once.

use std::iter::Peekable;

use serde::{Deserialize, Serialize};
use treehold_catalog::PendingRow;
use treehold_object::BString;

use crate::api::{At, FileEntry, FileList, ListOptions, Listed, Mode, Oid, Source};
use crate::files::pending_item;
use crate::text::{read_cursor, write_cursor};
use crate::tree::{GITLINK, Step, Walk, WalkFrom};
use crate::view::View;
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 1000;
const LIST_MAX: usize = 100_000;
/// Files shown by one step of a list.
const CHUNK: usize = 1024;

/// Where a list goes on: the snapshot it is bound to and the last path shown (bytes, as a path may be any).
#[derive(Serialize, Deserialize)]
struct ListCursor {
    commit: Option<Oid>,
    /// Of the user's pending work, with a user.
    #[serde(default)]
    revision: Option<i64>,
    #[serde(with = "crate::text::bytes_text")]
    after: Vec<u8>,
}

/// A list in progress, bound to one snapshot: the walk goes on as fast as files are taken, so that memory does not grow with the list.
pub struct Listing {
    engine: Engine,
    commit: Option<Oid>,
    revision: Option<i64>,
    walk: Walk,
    /// What the walk came to and nobody was shown yet.
    committed: Option<(crate::tree::Item, u64)>,
    /// Pending rows that are not shown yet.
    pending: Peekable<std::vec::IntoIter<PendingRow>>,
    /// How many more files may be shown.
    left: usize,
    last: BString,
    cursor: Option<String>,
}

/// What comes next in a list.
enum Next {
    Committed,
    Pending,
    Wants(treehold_object::ObjectId),
    End,
}

impl Engine {
    /// Lists files recursively, in byte order of the path, bound to one snapshot from page to page.
    pub async fn list_files(&self, project: &str, at: &At, options: &ListOptions) -> Result<FileList> {
        let mut listing = self.open_list(project, at, options).await?;
        let mut files = Vec::new();
        let mut keep = |file: Listed<'_>| files.push(FileEntry::from(file));
        while listing.show(&mut keep).await? {}
        let Listing { commit, revision, cursor: next_cursor, .. } = listing;
        Ok(FileList { commit, revision, files, next_cursor })
    }

    /// Begins a list.
    pub async fn open_list(&self, project: &str, at: &At, options: &ListOptions) -> Result<Listing> {
        let left = match (options.limit, options.streamed) {
            (Some(limit), false) => limit.clamp(1, LIST_MAX),
            (None, false) => LIST_DEFAULT,
            (limit, true) => limit.unwrap_or(usize::MAX).max(1),
        };
        let mut view = self.view(project, at, None).await?;
        let mut from = WalkFrom { prefix: options.prefix.clone().unwrap_or_default().into(), after: None };
        if let Some(cursor) = &options.cursor {
            let cursor: ListCursor = read_cursor(cursor)?;
            self.go_on(&mut view, &cursor).await?;
            from.after = Some(cursor.after.into());
        }
        Ok(Listing::new(self, view, from, left))
    }

    /// Goes on in the snapshot that a cursor is bound to, if the project still reaches it and no pending work changed.
    async fn go_on(&self, view: &mut View, cursor: &ListCursor) -> Result<()> {
        match self.rebind(view, cursor.commit, cursor.revision).await {
            Err(EngineError::NotFound { .. }) => {
                Err(EngineError::BadRequest("The cursor's commit is gone; list from the start.".to_owned()))
            }
            bound => bound,
        }
    }
}

impl Listing {
    /// The files of a view from a point on, `left` of them at most.
    pub(crate) fn new(engine: &Engine, view: View, from: WalkFrom, left: usize) -> Self {
        let revision = view.overlay.as_ref().map(|overlay| overlay.revision);
        let rows = view.overlay.into_iter().flat_map(|overlay| overlay.rows.into_values());
        let pending: Vec<PendingRow> = rows.filter(|row| from.takes(&row.path)).collect();
        Self {
            engine: engine.clone(),
            commit: view.head.commit.map(Oid),
            revision,
            walk: Walk::new(view.head.tree, from, true),
            committed: None,
            pending: pending.into_iter().peekable(),
            left,
            last: BString::default(),
            cursor: None,
        }
    }

    /// The snapshot's commit; `None` on an unborn branch.
    pub fn commit(&self) -> Option<Oid> {
        self.commit
    }

    /// Revision of the user's workspace, with a user.
    pub fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// Where to go on, if the limit was reached before the end. Known at the end.
    pub fn next_cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Where to go on after `path`, for whoever takes no more than a part of what was shown.
    pub fn cursor_after(&self, path: &[u8]) -> Result<String> {
        write_cursor(&ListCursor { commit: self.commit, revision: self.revision, after: path.to_vec() })
    }

    /// Shows some more files; `false` after the last one.
    pub async fn show(&mut self, sink: &mut (dyn FnMut(Listed<'_>) + Send)) -> Result<bool> {
        self.show_some(CHUNK, sink).await
    }

    /// As [`Self::show`], for so many files.
    pub(crate) async fn show_some(&mut self, most: usize, sink: &mut (dyn FnMut(Listed<'_>) + Send)) -> Result<bool> {
        let mut shown = 0;
        while shown < most {
            let next = self.next();
            if let Next::Wants(oid) = next {
                // One more than are shown, to know whether there are more.
                self.engine.walk_on(&mut self.walk, oid, self.left.saturating_add(1)).await?;
                continue;
            }
            if matches!(next, Next::End) {
                return Ok(false);
            }
            if self.left == 0 {
                self.cursor = Some(self.cursor_after(&self.last)?);
                return Ok(false);
            }
            self.left -= 1;
            shown += 1;
            self.show_one(&next, sink);
        }
        Ok(true)
    }

    /// The smaller one of what the walk and the pending rows have next; pending rows stand in for committed files.
    fn next(&mut self) -> Next {
        loop {
            if self.committed.is_none() {
                match self.walk.step(&self.engine) {
                    Step::File(item, size) => self.committed = Some((item, size)),
                    Step::Wants(oid) => return Next::Wants(oid),
                    Step::End => {}
                }
            }
            let Some(row) = self.pending.peek() else {
                return if self.committed.is_some() { Next::Committed } else { Next::End };
            };
            if self.committed.is_some() {
                match self.walk.path().cmp(row.path.as_slice()) {
                    std::cmp::Ordering::Less => return Next::Committed,
                    std::cmp::Ordering::Equal => self.committed = None,
                    std::cmp::Ordering::Greater => {}
                }
            }
            if pending_item(row).is_some() {
                return Next::Pending;
            }
            self.pending.next();
        }
    }

    fn show_one(&mut self, next: &Next, sink: &mut (dyn FnMut(Listed<'_>) + Send)) {
        let (path, item, size, source) = match next {
            Next::Pending => {
                let Some(row) = self.pending.next() else { return };
                let Some(item) = pending_item(&row) else { return };
                self.last = row.path;
                (self.last.as_slice(), item, row.size, Source::Pending)
            }
            _ => {
                let Some((item, size)) = self.committed.take() else { return };
                if self.left == 0 {
                    self.last = self.walk.path().into();
                }
                (self.walk.path(), item, if item.mode == GITLINK { 0 } else { size }, Source::Committed)
            }
        };
        sink(Listed { path, mode: Mode(item.mode), oid: Oid(item.oid), size, source });
    }
}
