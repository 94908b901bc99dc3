//! Batch read: many files at one snapshot in one call.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_catalog::Project;
use treehold_object::{BString, ObjectId};
use treehold_store::StoreError;

use crate::api::{
    At, Content, Encoding, ItemError, LineRange, Mode, Oid, ReadFile, ReadItem, ReadPath, ReadRequest, Source,
};
use crate::files::{not_found, pending_deletion, pending_item, shaped_path};
use crate::objects::Blob;
use crate::tree::{GITLINK, Item};
use crate::view::View;
use crate::{Engine, EngineError, Result};

/// Paths whose blobs are located in one query.
const WINDOW: usize = 1024;
/// Content that is read at once, bytes; a single file may be larger. Each such part waits for the bucket once: a hundred files of 50 KiB are one.
const CHUNK_BYTES: u64 = 8 << 20;

/// Where a budgeted read goes on: the snapshot, the index of the path and the bytes of it that were given.
#[derive(Serialize, Deserialize)]
struct ReadCursor {
    commit: Option<Oid>,
    revision: Option<i64>,
    index: usize,
    offset: u64,
}

/// A path that was found.
struct Wanted {
    item: Item,
    source: Source,
    /// Bytes, where a pending row says it.
    size: u64,
}

impl ReadPath {
    fn path(&self) -> &str {
        match self {
            Self::Whole(path) => path,
            Self::Lines(range) => &range.path,
        }
    }

    /// The path, judged by shape, if its lines can be meant.
    fn shaped(&self) -> Result<BString> {
        if let Self::Lines(range) = self {
            check_lines(range.start_line, range.end_line)?;
        }
        shaped_path(self.path().as_bytes())
    }

    fn into_path(self) -> String {
        match self {
            Self::Whole(path) => path,
            Self::Lines(range) => range.path,
        }
    }
}

/// Refuses lines that end before they begin. Those behind the end of a file are none.
pub(crate) fn check_lines(first: Option<u64>, last: Option<u64>) -> Result<()> {
    let first = first.unwrap_or(1).max(1);
    match last.filter(|last| *last < first) {
        Some(last) => {
            let detail = format!("`end_line` ({last}) is before `start_line` ({first}); both count from 1.");
            Err(EngineError::BadRequest(detail))
        }
        None => Ok(()),
    }
}

/// A batch read in progress: the snapshot and all its paths are settled; contents are read chunk by chunk, as fast as they are
/// taken, so that memory does not grow with the batch.
pub struct Reading {
    engine: Engine,
    project: Project,
    commit: Option<Oid>,
    revision: Option<i64>,
    /// Paths that have no answer yet, from the first on, and how many were before them in the request.
    left: std::vec::IntoIter<(ReadPath, Result<Wanted>)>,
    done: usize,
    /// Bytes of the next file that were given before.
    offset: u64,
    budget: u64,
    /// Nothing was given yet in this answer.
    first: bool,
    /// Files that are not UTF-8 have their content in the answer.
    binary: bool,
    /// Where the blobs of the next `window` paths are.
    blobs: HashMap<ObjectId, Blob>,
    window: usize,
    /// How many paths the next chunk has.
    chunk: usize,
    cursor: Option<String>,
}

impl Engine {
    /// Begins to read many files at one snapshot, in request order. One bad path fails only itself. The budget counts content bytes;
    /// what it cuts is marked `truncated` and goes on by the cursor.
    pub async fn batch_read(&self, project: &str, request: ReadRequest) -> Result<Reading> {
        let limits = &self.config.limits;
        if request.paths.len() > limits.batch_paths {
            return Err(EngineError::TooLarge { what: "the batch", limit: limits.batch_paths as u64, unit: "paths" });
        }
        let cursor: Option<ReadCursor> = request.cursor.as_deref().map(crate::text::read_cursor).transpose()?;
        let (done, offset) = cursor.as_ref().map_or((0, 0), |cursor| (cursor.index, cursor.offset));
        let asked: Vec<ReadPath> = request.paths.into_iter().skip(done).collect();
        let shaped: Vec<Result<BString>> = asked.iter().map(ReadPath::shaped).collect();
        let paths: Vec<BString> = shaped.iter().filter_map(|path| path.as_ref().ok()).cloned().collect();
        let at = At { reference: request.reference, user: request.user };
        let mut view = self.view(project, &at, Some(&paths)).await?;
        if let Some(cursor) = &cursor {
            self.rebind(&mut view, cursor.commit, cursor.revision).await?;
        }
        let mut found = self.find_wanted(&view, &paths).await?.into_iter();
        let wanted =
            shaped.into_iter().map(|path| path.and_then(|_| found.next().unwrap_or_else(|| Err(not_found(None)))));
        let left: Vec<_> = asked.into_iter().zip(wanted).collect();
        Ok(Reading {
            engine: self.clone(),
            project: view.project,
            commit: view.head.commit.map(Oid),
            revision: view.overlay.as_ref().map(|overlay| overlay.revision),
            left: left.into_iter(),
            done,
            offset,
            budget: request.max_bytes.unwrap_or(u64::MAX).min(limits.batch_bytes),
            first: true,
            binary: true,
            blobs: HashMap::new(),
            window: 0,
            chunk: 0,
            cursor: None,
        })
    }

    async fn find_wanted(&self, view: &View, paths: &[BString]) -> Result<Vec<Result<Wanted>>> {
        let committed = self.find_paths(view.head.tree, paths).await?;
        Ok(paths
            .iter()
            .zip(committed)
            .map(|(path, item)| {
                if let Some(row) = view.overlay.as_ref().and_then(|overlay| overlay.rows.get(path)) {
                    let item = pending_item(row).ok_or_else(pending_deletion)?;
                    return Ok(Wanted { item, source: Source::Pending, size: row.size });
                }
                match item {
                    Some(item) if !item.is_tree() && item.mode != GITLINK => {
                        Ok(Wanted { item, source: Source::Committed, size: 0 })
                    }
                    other => Err(not_found(other)),
                }
            })
            .collect())
    }
}

impl Reading {
    /// The same, but of files that are not UTF-8 only what they are is told, with empty base64 content that costs no budget.
    #[must_use]
    pub fn without_binary(self) -> Self {
        Self { binary: false, ..self }
    }

    /// The snapshot's commit.
    pub fn commit(&self) -> Option<Oid> {
        self.commit
    }

    /// Revision of the user's workspace, with a user.
    pub fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// Where to go on, if the budget was reached. Known at the end.
    pub fn next_cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// How much content the next [`Self::read`] will hold, bytes; `None` at the end.
    pub async fn ahead(&mut self) -> Result<Option<u64>> {
        if self.left.as_slice().is_empty() {
            return Ok(None);
        }
        if self.window == 0 {
            self.window = self.left.as_slice().len().min(WINDOW);
            let oids = oids_of(&self.left.as_slice()[..self.window], Source::Committed);
            let blobs = self.engine.blobs(&oids).await?;
            self.blobs = oids.into_iter().zip(blobs).filter_map(|(oid, blob)| Some((oid, blob?))).collect();
        }
        // As many files as the budget can hold; at least one.
        let most = self.budget.min(CHUNK_BYTES);
        let (mut bytes, mut chunk) = (0, 0);
        for (_, wanted) in &self.left.as_slice()[..self.window] {
            if chunk > 0 && bytes >= most {
                break;
            }
            let size = |wanted: &Wanted| match wanted.source {
                Source::Committed => self.blobs.get(&wanted.item.oid).map_or(0, Blob::size),
                Source::Pending => wanted.size,
            };
            bytes += wanted.as_ref().map_or(0, size);
            chunk += 1;
        }
        self.chunk = chunk;
        Ok(Some(bytes))
    }

    /// The next answers, in request order; nothing at the end.
    pub async fn read(&mut self) -> Result<Vec<ReadItem>> {
        if self.chunk == 0 && self.ahead().await?.is_none() {
            return Ok(Vec::new());
        }
        let contents = self.contents().await?;
        self.window -= self.chunk;
        let mut items = Vec::with_capacity(self.chunk);
        for (asked, wanted) in self.left.by_ref().take(std::mem::take(&mut self.chunk)) {
            let content = wanted.and_then(|wanted| {
                let unreadable = || EngineError::internal("a stored object could not be read");
                let content = contents.get(&wanted.item.oid).cloned().ok_or_else(unreadable)?;
                Ok((wanted, content))
            });
            let (wanted, content) = match content {
                Ok(found) => found,
                Err(error) => {
                    items.push(failed(asked.into_path(), &error));
                    self.done += 1;
                    continue;
                }
            };
            if !self.binary && std::str::from_utf8(&content).is_err() {
                self.offset = 0;
                items.push(ReadItem::File(told(asked, &wanted, content.len())));
                self.done += 1;
                continue;
            }
            let cut = Cut { offset: std::mem::take(&mut self.offset), budget: self.budget, first: self.first };
            let (file, used, goes_on) = show(asked, &wanted, &content, cut);
            self.budget = self.budget.saturating_sub(used);
            self.first &= used == 0;
            if let Some(offset) = goes_on {
                if used > 0 {
                    items.push(ReadItem::File(file));
                }
                let (commit, revision, index) = (self.commit, self.revision, self.done);
                self.cursor = Some(crate::text::write_cursor(&ReadCursor { commit, revision, index, offset })?);
                self.left = Vec::new().into_iter();
                return Ok(items);
            }
            items.push(ReadItem::File(file));
            self.done += 1;
        }
        Ok(items)
    }

    /// Contents of the next chunk by id. Damage of one object fails only that one: it is left out.
    async fn contents(&self) -> Result<HashMap<ObjectId, Bytes>> {
        let chunk = &self.left.as_slice()[..self.chunk];
        let committed: Vec<(ObjectId, &Blob)> = oids_of(chunk, Source::Committed)
            .into_iter()
            .filter_map(|oid| Some((oid, self.blobs.get(&oid)?)))
            .collect();
        let blobs: Vec<&Blob> = committed.iter().map(|(_, blob)| *blob).collect();
        let mut contents = HashMap::with_capacity(chunk.len());
        for ((oid, _), content) in committed.iter().zip(self.engine.blob_contents(&blobs).await?) {
            match content {
                Ok(content) => _ = contents.insert(*oid, content),
                Err(error @ StoreError::Unavailable { .. }) => return Err(error.into()),
                Err(error) => tracing::error!(%error, %oid, "an object of a batch read is damaged"),
            }
        }
        let pending = oids_of(chunk, Source::Pending);
        if !pending.is_empty() {
            let read = self.engine.pending_bytes(&self.project, &pending).await?;
            contents.extend(pending.into_iter().zip(read).filter_map(|(oid, content)| Some((oid, content?))));
        }
        Ok(contents)
    }
}

/// The blobs of one source, each once.
fn oids_of(wanted: &[(ReadPath, Result<Wanted>)], source: Source) -> Vec<ObjectId> {
    let of_source = wanted.iter().filter_map(|(_, wanted)| wanted.as_ref().ok()).filter(|file| file.source == source);
    let mut seen = HashSet::new();
    of_source.map(|file| file.item.oid).filter(|oid| seen.insert(*oid)).collect()
}

/// What of a file is wanted: from `offset`, at most `budget` bytes.
struct Cut {
    offset: u64,
    budget: u64,
    /// Nothing was given yet in this answer.
    first: bool,
}

/// The answer for one file, the content bytes it used, and where it goes on if it was cut.
fn show(asked: ReadPath, file: &Wanted, content: &Bytes, cut: Cut) -> (ReadFile, u64, Option<u64>) {
    let size = content.len() as u64;
    let (part, lines) = match &asked {
        ReadPath::Whole(_) => (content.clone(), None),
        ReadPath::Lines(range) => {
            let (part, lines) = select_lines(content, range);
            (part, Some(lines))
        }
    };
    let rest = part.slice((cut.offset as usize).min(part.len())..);
    let whole_is_text = std::str::from_utf8(content).is_ok();
    let mut taken = rest.len().min(usize::try_from(cut.budget).unwrap_or(usize::MAX));
    // A page that shows nothing would never end: its first file gives at least one byte.
    if taken == 0 && cut.first {
        taken = rest.len().min(1);
    }
    if whole_is_text && taken < rest.len() {
        let boundary = |at: usize| rest.get(at).is_none_or(|b| b & 0xC0 != 0x80);
        let down = (0..=taken).rev().find(|&at| boundary(at)).unwrap_or(0);
        let up = (taken..=rest.len()).find(|&at| boundary(at)).unwrap_or(rest.len());
        taken = if down == 0 && cut.first { up } else { down };
    }
    let shown = rest.slice(..taken);
    // A cursor is the caller's word: it may stand within a character.
    let is_text = whole_is_text && (cut.offset == 0 || std::str::from_utf8(&shown).is_ok());
    let content = Content::new(if is_text { Encoding::Utf8 } else { Encoding::Base64 }, shown);
    let goes_on = (taken < rest.len()).then_some(cut.offset + taken as u64);
    let answer = ReadFile {
        path: asked.into_path(),
        oid: Oid(file.item.oid),
        mode: Mode(file.item.mode),
        size,
        source: file.source,
        content,
        start_line: lines.as_ref().map(|lines| lines.0),
        end_line: lines.as_ref().map(|lines| lines.1),
        total_lines: lines.as_ref().map(|lines| lines.2),
        truncated: goes_on.is_some(),
    };
    (answer, taken as u64, goes_on)
}

/// The answer for a file whose content is left out.
fn told(asked: ReadPath, file: &Wanted, size: usize) -> ReadFile {
    ReadFile {
        path: asked.into_path(),
        oid: Oid(file.item.oid),
        mode: Mode(file.item.mode),
        size: size as u64,
        source: file.source,
        content: Content::new(Encoding::Base64, Bytes::new()),
        start_line: None,
        end_line: None,
        total_lines: None,
        truncated: false,
    }
}

/// The bytes of a line range with their line ends, and (first, last, total). A range past the end is empty.
fn select_lines(content: &Bytes, range: &LineRange) -> (Bytes, (u64, u64, u64)) {
    let mut starts = vec![0];
    starts.extend(content.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1));
    if starts.last() == Some(&content.len()) {
        starts.pop();
    }
    let total = starts.len() as u64;
    let first = range.start_line.unwrap_or(1).max(1);
    let last = range.end_line.unwrap_or(total).min(total);
    if first > last {
        return (Bytes::new(), (first, last.min(first.saturating_sub(1)), total));
    }
    let from = starts[first as usize - 1];
    let to = starts.get(last as usize).copied().unwrap_or(content.len());
    (content.slice(from..to), (first, last, total))
}

fn failed(path: String, error: &EngineError) -> ReadItem {
    ReadItem::Failed { path, error: ItemError { code: error.code(), detail: error.to_string() } }
}
