//! Batch read: many files at one snapshot in one call.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_catalog::Located;
use treehold_object::{BString, ObjectId};
use treehold_store::StoreError;

use crate::api::{
    At, Encoding, ItemError, LineRange, Mode, Oid, ReadAnswer, ReadFile, ReadItem, ReadPath, ReadRequest, Source,
};
use crate::files::{not_found, pending_deletion, pending_item, shaped_path};
use crate::tree::{GITLINK, Item};
use crate::view::View;
use crate::{Engine, EngineError, Result};

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
}

/// The content of a committed file, or where it is.
enum Found {
    AtHand(Bytes),
    Stored(Located),
}

impl Found {
    fn size(&self) -> u64 {
        match self {
            Self::AtHand(content) => content.len() as u64,
            Self::Stored(located) => located.size,
        }
    }
}

impl ReadPath {
    fn path(&self) -> &str {
        match self {
            Self::Whole(path) => path,
            Self::Lines(range) => &range.path,
        }
    }
}

impl Engine {
    /// Reads many files at one snapshot, in request order. One bad path fails only itself. The budget counts content bytes; what
    /// it cuts is marked `truncated` and goes on by the cursor.
    pub async fn batch_read(&self, project: &str, request: &ReadRequest) -> Result<ReadAnswer> {
        let limits = &self.config.limits;
        if request.paths.len() > limits.batch_paths {
            return Err(EngineError::TooLarge { what: "the batch", limit: limits.batch_paths as u64, unit: "paths" });
        }
        let cursor: Option<ReadCursor> = request.cursor.as_deref().map(crate::text::read_cursor).transpose()?;
        let (start, offset) = cursor.as_ref().map_or((0, 0), |cursor| (cursor.index, cursor.offset));
        let asked = request.paths.get(start..).unwrap_or_default();
        let shaped: Vec<Result<BString>> = asked.iter().map(|path| shaped_path(path.path().as_bytes())).collect();
        let paths: Vec<BString> = shaped.iter().filter_map(|path| path.as_ref().ok()).cloned().collect();
        let at = At { reference: request.reference.clone(), user: request.user };
        let mut view = self.view(project, &at, Some(&paths)).await?;
        if let Some(cursor) = &cursor {
            self.rebind(&mut view, cursor).await?;
        }
        let mut found = self.locate_all(&view, &paths).await?.into_iter();
        let wanted: Vec<Result<Wanted>> = shaped
            .into_iter()
            .map(|path| path.and_then(|_| found.next().unwrap_or_else(|| Err(not_found(None)))))
            .collect();
        let budget = request.max_bytes.unwrap_or(u64::MAX).min(limits.batch_bytes);
        let mut answer = ReadAnswer {
            commit: view.head.commit.map(Oid),
            revision: view.overlay.as_ref().map(|overlay| overlay.revision),
            files: Vec::with_capacity(asked.len()),
            next_cursor: None,
        };
        if let Some((index, offset)) = self.fill(&view, asked, wanted, offset, budget, &mut answer.files).await? {
            let (commit, revision) = (answer.commit, answer.revision);
            let cursor = ReadCursor { commit, revision, index: start + index, offset };
            answer.next_cursor = Some(crate::text::write_cursor(&cursor)?);
        }
        Ok(answer)
    }

    /// The snapshot of a cursor: its commit may be read again, its pending revision only if nothing changed.
    async fn rebind(&self, view: &mut View, cursor: &ReadCursor) -> Result<()> {
        if view.overlay.as_ref().map(|overlay| overlay.revision) != cursor.revision {
            return Err(EngineError::Conflict {
                code: "snapshot_moved",
                detail: "The pending work changed since the cursor was made; read from the start.".to_owned(),
            });
        }
        if view.head.commit.map(Oid) != cursor.commit {
            let Some(Oid(commit)) = cursor.commit else {
                view.head.commit = None;
                view.head.tree = None;
                return Ok(());
            };
            view.head = self.resolve(&view.project, Some(&commit.to_string())).await?;
        }
        Ok(())
    }

    async fn locate_all(&self, view: &View, paths: &[BString]) -> Result<Vec<Result<Wanted>>> {
        let committed = self.find_paths(view.head.tree, paths).await?;
        Ok(paths
            .iter()
            .zip(committed)
            .map(|(path, item)| {
                if let Some(row) = view.overlay.as_ref().and_then(|overlay| overlay.rows.get(path)) {
                    let item = pending_item(row).ok_or_else(pending_deletion)?;
                    return Ok(Wanted { item, source: Source::Pending });
                }
                match item {
                    Some(item) if !item.is_tree() && item.mode != GITLINK => {
                        Ok(Wanted { item, source: Source::Committed })
                    }
                    other => Err(not_found(other)),
                }
            })
            .collect())
    }

    /// Adds answers until the budget is spent; where to go on, if it was.
    async fn fill(
        &self,
        view: &View,
        asked: &[ReadPath],
        wanted: Vec<Result<Wanted>>,
        mut offset: u64,
        budget: u64,
        files: &mut Vec<ReadItem>,
    ) -> Result<Option<(usize, u64)>> {
        let mut left = budget;
        let mut chunk_start = 0;
        let located = self.locate_committed(&wanted, budget).await?;
        let sizes = sizes(view, &wanted, &located);
        while chunk_start < asked.len() {
            // As many files as the budget can hold are read at once; at least one.
            let mut chunk_end = chunk_start;
            let mut bytes = 0;
            while chunk_end < asked.len() && (chunk_end == chunk_start || bytes < left) {
                bytes += sizes[chunk_end];
                chunk_end += 1;
            }
            // What lies inline in pending rows is read whole as well; the large ones of them are counted twice.
            self.room.take(bytes)?;
            let contents = self.chunk_contents(view, &wanted[chunk_start..chunk_end], &located).await?;
            for at in chunk_start..chunk_end {
                let item = match &wanted[at] {
                    Err(error) => failed(asked[at].path(), error),
                    Ok(file) => match contents.get(&file.item.oid) {
                        None => failed(asked[at].path(), &EngineError::internal("a stored object could not be read")),
                        Some(content) => {
                            let cut = Cut { offset: std::mem::take(&mut offset), budget: left, first: left == budget };
                            let (item, used, goes_on) = show(&asked[at], file, content, cut);
                            left = left.saturating_sub(used);
                            if let Some(offset) = goes_on {
                                if used == 0 {
                                    return Ok(Some((at, offset)));
                                }
                                files.push(ReadItem::File(item));
                                return Ok(Some((at, offset)));
                            }
                            ReadItem::File(item)
                        }
                    },
                };
                files.push(item);
            }
            chunk_start = chunk_end;
        }
        Ok(None)
    }

    /// The committed files of a batch: those at hand, as far as the budget goes, and where the others are, in one query.
    async fn locate_committed(&self, wanted: &[Result<Wanted>], budget: u64) -> Result<HashMap<ObjectId, Found>> {
        let oids = oids_of(wanted, Source::Committed);
        let at_hand = self.store.cached(&oids, budget).await;
        let absent = oids.iter().zip(&at_hand).filter(|(_, object)| object.is_none());
        let absent: Vec<ObjectId> = absent.map(|(oid, _)| *oid).collect();
        let mut found: HashMap<ObjectId, Found> =
            at_hand.into_iter().flatten().map(|object| (object.oid, Found::AtHand(object.content))).collect();
        if !absent.is_empty() {
            let located = self.catalog.locate(&absent).await?;
            found.extend(located.into_iter().flatten().map(|located| (located.oid, Found::Stored(located))));
        }
        Ok(found)
    }

    /// Contents by id. Damage of one object fails only that one: it is left out.
    async fn chunk_contents(
        &self,
        view: &View,
        wanted: &[Result<Wanted>],
        located: &HashMap<ObjectId, Found>,
    ) -> Result<HashMap<ObjectId, Bytes>> {
        let committed = oids_of(wanted, Source::Committed);
        let mut contents = HashMap::new();
        let mut elsewhere: Vec<Located> = Vec::new();
        for oid in committed {
            match located.get(&oid) {
                Some(Found::AtHand(content)) => _ = contents.insert(oid, content.clone()),
                Some(Found::Stored(located)) => elsewhere.push(located.clone()),
                None => {}
            }
        }
        for (location, object) in elsewhere.iter().zip(self.read_located(&elsewhere).await?) {
            match object {
                Ok(object) => _ = contents.insert(object.oid, object.content),
                Err(error @ StoreError::Unavailable { .. }) => return Err(error.into()),
                Err(error) => tracing::error!(%error, oid = %location.oid, "an object of a batch read is damaged"),
            }
        }
        let pending = oids_of(wanted, Source::Pending);
        for (oid, content) in pending.iter().zip(self.pending_bytes(&view.project, &pending).await?) {
            contents.extend(content.map(|content| (*oid, content)));
        }
        Ok(contents)
    }
}

/// The blobs of one source, each once.
fn oids_of(wanted: &[Result<Wanted>], source: Source) -> Vec<ObjectId> {
    let of_source = wanted.iter().flatten().filter(|file| file.source == source);
    let mut oids: Vec<ObjectId> = of_source.map(|file| file.item.oid).collect();
    oids.sort_unstable();
    oids.dedup();
    oids
}

/// Sizes in request order; 0 for what was not found.
fn sizes(view: &View, wanted: &[Result<Wanted>], located: &HashMap<ObjectId, Found>) -> Vec<u64> {
    let rows = view.overlay.iter().flat_map(|overlay| overlay.rows.values());
    let pending: HashMap<ObjectId, u64> = rows.filter_map(|row| row.oid.map(|oid| (oid, row.size))).collect();
    let size = |file: &Wanted| match file.source {
        Source::Committed => located.get(&file.item.oid).map(Found::size),
        Source::Pending => pending.get(&file.item.oid).copied(),
    };
    wanted.iter().map(|file| file.as_ref().ok().and_then(size).unwrap_or(0)).collect()
}

/// What of a file is wanted: from `offset`, at most `budget` bytes.
struct Cut {
    offset: u64,
    budget: u64,
    /// Nothing was given yet in this answer.
    first: bool,
}

/// The answer for one file, the content bytes it used, and where it goes on if it was cut.
fn show(asked: &ReadPath, file: &Wanted, content: &Bytes, cut: Cut) -> (ReadFile, u64, Option<u64>) {
    let size = content.len() as u64;
    let (part, lines) = match asked {
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
    let (encoding, text) = match std::str::from_utf8(&shown) {
        Ok(text) if whole_is_text => (Encoding::Utf8, text.to_owned()),
        _ => (Encoding::Base64, BASE64_STANDARD.encode(&shown)),
    };
    let goes_on = (taken < rest.len()).then_some(cut.offset + taken as u64);
    let answer = ReadFile {
        path: asked.path().to_owned(),
        oid: Oid(file.item.oid),
        mode: Mode(file.item.mode),
        size,
        source: file.source,
        encoding,
        content: text,
        start_line: lines.as_ref().map(|lines| lines.0),
        end_line: lines.as_ref().map(|lines| lines.1),
        total_lines: lines.as_ref().map(|lines| lines.2),
        truncated: goes_on.is_some(),
    };
    (answer, taken as u64, goes_on)
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

fn failed(path: &str, error: &EngineError) -> ReadItem {
    ReadItem::Failed { path: path.to_owned(), error: ItemError { code: error.code(), detail: error.to_string() } }
}
