//! Search: the files of one snapshot in order of their paths, each content once, as fast as matches are taken.
//!
//! A batch of files is read while the one before is searched, on threads for that, in turns that all searches share. Answers do not
//! depend on how the work was divided: a cursor names a path and a point in it.

mod plan;
mod text;
mod turns;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_catalog::Project;
use treehold_object::{BString, ObjectId};
use treehold_store::StoreError;

pub use self::plan::Globs;
use self::plan::Plan;
use self::text::{Hits, weight};
pub(crate) use self::turns::Turns;
use self::turns::{Outcome, Stop};
use crate::api::{At, Found, Hit, Listed, Oid, Path, SearchEnd, SearchMode, SearchRequest, Source};
use crate::text::{read_cursor, write_cursor};
use crate::tree::{WalkFrom, is_binary};
use crate::{Engine, EngineError, Listing, Result, blocking};

const LIMIT_DEFAULT: usize = 1000;
const LIMIT_MAX: usize = 10_000;
/// A file that is searched, bytes.
const FILE_MAX: u64 = 16 << 20;
/// Files read at once: at first, so that an answer begins soon, and at most; and their content, bytes (a single one may be larger).
const BATCH_FIRST: usize = 64;
const BATCH_MAX: usize = 1024;
const BATCH_BYTES: u64 = 4 << 20;
/// Work for one request: content searched, bytes, and time. Then it goes on with the cursor.
const WORK_BYTES: u64 = 512 << 20;
const WORK_MS: i64 = 10_000;
/// What one step shows, bytes.
const STEP_BYTES: usize = 1 << 20;
/// Contents that are known not to be searched again, and what their matches may take, bytes.
const KNOWN_MAX: usize = 200_000;
const KNOWN_BYTES: usize = 2 << 20;

/// Where a search goes on: the snapshot, the first path not done, the byte of it, and how many of its matches were shown.
#[derive(Serialize, Deserialize)]
struct SearchCursor {
    commit: Option<Oid>,
    revision: Option<i64>,
    #[serde(with = "crate::text::bytes_text")]
    path: Vec<u8>,
    offset: u64,
    shown: u64,
}

/// A file to be searched.
#[derive(Debug, Clone)]
struct File {
    path: BString,
    oid: ObjectId,
    source: Source,
    size: u64,
    /// Where its search starts, and how many of its matches were shown before.
    offset: u64,
    shown: u64,
}

/// Files whose contents are read at once.
#[derive(Debug, Default)]
struct Batch {
    files: Vec<File>,
    /// What has to be read.
    bytes: u64,
    contents: HashMap<ObjectId, Bytes>,
}

/// What earlier batches found, for contents that come again.
#[derive(Debug, Default)]
struct Known {
    outcomes: HashMap<ObjectId, Outcome>,
    bytes: usize,
}

/// What one step shows.
#[derive(Debug, Default)]
struct Shown {
    found: Vec<Found>,
    bytes: usize,
}

/// A batch that was searched, and the first of its files that was not shown to its end.
#[derive(Debug)]
struct Showing {
    batch: Batch,
    outcomes: HashMap<ObjectId, Outcome>,
    at: usize,
}

/// A search in progress, at one snapshot.
pub struct Searching {
    engine: Engine,
    project: Project,
    commit: Option<Oid>,
    revision: Option<i64>,
    plan: Arc<Plan>,
    listing: Listing,
    /// More files are listed.
    listed: bool,
    /// The last one.
    last: Vec<u8>,
    ahead: VecDeque<File>,
    /// Where the search starts.
    from: SearchCursor,
    batch_files: usize,
    next: Option<Batch>,
    loaded: Option<Batch>,
    showing: Option<Showing>,
    known: Known,
    left: usize,
    budget: u64,
    until_ms: i64,
    /// A batch was searched.
    begun: bool,
    over: bool,
    end: SearchEnd,
    /// Ends the work when the search is dropped.
    stop: Stop,
}

impl Engine {
    /// Begins a search. `streamed`: the answer is taken as a stream, then limits are only those given.
    pub async fn search(&self, project: &str, request: SearchRequest, streamed: bool) -> Result<Searching> {
        if request.reference.is_some() && request.branch.is_some() {
            return Err(EngineError::BadRequest("Give `ref` or `branch`, not both.".to_owned()));
        }
        let reference = request.reference.clone().or_else(|| request.branch.clone());
        let at = At { reference, user: request.user };
        let cursor: Option<SearchCursor> = request.cursor.as_deref().map(read_cursor).transpose()?;
        let (limit, shown) = (request.limit, request.max_bytes);
        let (left, budget) = match streamed {
            true => (limit.unwrap_or(usize::MAX).max(1), shown.unwrap_or(u64::MAX).max(1)),
            false => (limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX), request.shown_max()),
        };
        let prefix = request.prefix.clone().unwrap_or_default().into();
        let plan = Arc::new(blocking(move || Plan::new(&request)).await?);
        let mut view = self.view(project, &at, None).await?;
        if let Some(cursor) = &cursor {
            self.rebind(&mut view, cursor.commit, cursor.revision).await?;
        }
        let (commit, revision) = (view.head.commit.map(Oid), view.overlay.as_ref().map(|overlay| overlay.revision));
        let start = SearchCursor { commit, revision, path: Vec::new(), offset: 0, shown: 0 };
        let from = cursor.unwrap_or(start);
        // The path itself is to be listed: everything after the same without its last byte, which is passed over as far as it is before.
        let after = from.path.split_last().map(|(_, before)| before.into());
        let project = view.project.clone();
        Ok(Searching {
            engine: self.clone(),
            project,
            commit,
            revision,
            plan,
            listing: Listing::new(self, view, WalkFrom { prefix, after }, usize::MAX),
            listed: true,
            last: Vec::new(),
            ahead: VecDeque::new(),
            from,
            batch_files: BATCH_FIRST,
            next: None,
            loaded: None,
            showing: None,
            known: Known::default(),
            left,
            budget,
            until_ms: self.ambient.now_ms().saturating_add(WORK_MS),
            begun: false,
            over: false,
            end: SearchEnd::default(),
            stop: Stop::default(),
        })
    }
}

impl Searching {
    /// The snapshot's commit; `None` on an unborn branch.
    pub fn commit(&self) -> Option<Oid> {
        self.commit
    }

    /// Revision of the user's workspace, with a user.
    pub fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// What was searched, and where to go on. Known at the end.
    pub fn end(&self) -> &SearchEnd {
        &self.end
    }

    /// How much content the next [`Self::step`] would read, bytes; `None` at the end.
    pub async fn ahead(&mut self) -> Result<Option<u64>> {
        if self.over {
            return Ok(None);
        }
        if self.is_showing() {
            return Ok(Some(0));
        }
        if self.next.is_none() {
            self.next = self.collect().await?;
        }
        if self.next.is_none() && self.loaded.is_none() {
            self.over = true;
            return Ok(None);
        }
        Ok(Some(self.next.as_ref().map_or(0, |batch| batch.bytes)))
    }

    /// The last step did not show all that it had found: the next one goes on, and reads nothing.
    pub fn is_showing(&self) -> bool {
        self.showing.is_some()
    }

    /// Searches the contents that are in memory, and reads the next ones meanwhile if `read`. What was found, in order of the path.
    pub async fn step(&mut self, read: bool) -> Result<Vec<Found>> {
        let mut showing = match self.showing.take() {
            Some(showing) => showing,
            None => match self.search_loaded(read).await? {
                Some(showing) => showing,
                None => return Ok(Vec::new()),
            },
        };
        let found = self.show(&mut showing).await?;
        match showing.at < showing.batch.files.len() && !self.over {
            true => self.showing = Some(showing),
            false => self.known.learn(showing.outcomes),
        }
        Ok(found)
    }

    /// Searches what is loaded and loads what is next; `None` where no more work is to be done.
    async fn search_loaded(&mut self, read: bool) -> Result<Option<Showing>> {
        let loaded = self.loaded.take().unwrap_or_default();
        let next = if read { self.next.take() } else { None };
        let work_left = self.end.bytes_searched < WORK_BYTES && self.engine.ambient.now_ms() < self.until_ms;
        // One batch is always searched, so that cursors come to an end.
        if let Some(first) = loaded.files.first().filter(|_| self.begun && !work_left) {
            let first = first.clone();
            self.stop_at(&first.path, first.offset, first.shown)?;
            return Ok(None);
        }
        let searched = self.engine.searches.search(&self.plan, &self.stop, self.texts(&loaded));
        let (searched, next) = tokio::join!(searched, load(&self.engine, &self.project, &self.known, next));
        let (outcomes, next) = (searched?, next?);
        self.loaded = next;
        self.begun |= !loaded.files.is_empty();
        for (oid, outcome) in &outcomes {
            if let (Outcome::Hits(hits), Some(content)) = (outcome, loaded.contents.get(oid)) {
                self.end.bytes_searched += hits.more.unwrap_or(content.len() as u64);
            }
        }
        Ok(Some(Showing { batch: loaded, outcomes, at: 0 }))
    }

    /// The next files that are meant, at least one; `None` where there are no more.
    async fn collect(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch::default();
        let mut seen = HashSet::new();
        while batch.files.len() < self.batch_files && batch.bytes < BATCH_BYTES {
            let Some(file) = self.ahead.pop_front() else {
                if !self.listed || self.rests(&batch)? {
                    break;
                }
                self.list().await?;
                continue;
            };
            let reads = file.offset > 0 || !self.known.outcomes.contains_key(&file.oid);
            if reads && file.size <= FILE_MAX && seen.insert(file.oid) {
                batch.bytes += file.size;
            }
            batch.files.push(file);
        }
        self.batch_files = (self.batch_files * 2).min(BATCH_MAX);
        Ok((!batch.files.is_empty()).then_some(batch))
    }

    /// Whether it is time to stop, where there may be no end of files that are not meant. Some are always listed, so that cursors come to
    /// an end.
    fn rests(&mut self, batch: &Batch) -> Result<bool> {
        let rests = !self.last.is_empty() && self.engine.ambient.now_ms() >= self.until_ms;
        if rests && batch.files.is_empty() && self.loaded.is_none() {
            // The least path behind the last one.
            let mut next = std::mem::take(&mut self.last);
            next.push(0);
            self.stop_at(&next, 0, 0)?;
        }
        Ok(rests)
    }

    async fn list(&mut self) -> Result<()> {
        let (ahead, plan, from, last) = (&mut self.ahead, &self.plan, &self.from, &mut self.last);
        let mut keep = |file: Listed<'_>| {
            last.clear();
            last.extend_from_slice(file.path);
            let is_file = file.mode.0 & 0o170_000 == 0o100_000;
            if !is_file || file.path < from.path.as_slice() || !plan.takes(file.path) {
                return;
            }
            let (offset, shown) = if file.path == from.path { (from.offset, from.shown) } else { (0, 0) };
            let Listed { path, oid: Oid(oid), source, size, .. } = file;
            ahead.push_back(File { path: path.into(), oid, source, size, offset, shown });
        };
        self.listed = self.listing.show_some(self.batch_files, &mut keep).await?;
        Ok(())
    }

    /// The contents of a batch that are searched from their start, each once.
    fn texts(&self, batch: &Batch) -> Vec<(ObjectId, Bytes)> {
        let mut seen = HashSet::new();
        let fresh = batch.files.iter().filter(|file| file.offset == 0 && !self.known.outcomes.contains_key(&file.oid));
        let fresh = fresh.filter(|file| seen.insert(file.oid));
        fresh.filter_map(|file| Some((file.oid, batch.contents.get(&file.oid)?.clone()))).collect()
    }

    /// Shows what a batch has, until a limit is reached or it is enough for one step.
    async fn show(&mut self, showing: &mut Showing) -> Result<Vec<Found>> {
        let mut shown = Shown::default();
        while let Some(file) = showing.batch.files.get(showing.at).cloned() {
            if self.is_full() {
                self.stop_at(&file.path, file.offset, file.shown)?;
                break;
            }
            if shown.bytes >= STEP_BYTES {
                break;
            }
            let Some(hits) = self.hits(showing, &file).await? else {
                showing.at += 1;
                continue;
            };
            self.end.files_searched += u64::from(file.offset == 0);
            if self.plan.mode == SearchMode::Matches {
                if let Some((offset, count)) = self.show_matches(&showing.batch, &file, hits, &mut shown).await? {
                    let file = &mut showing.batch.files[showing.at];
                    (file.offset, file.shown) = (offset, count);
                    continue;
                }
            } else if hits.count > 0 {
                let count = (self.plan.mode == SearchMode::Count).then_some(hits.count);
                self.show_one(entry(&file, None, count), 0, &mut shown);
            }
            showing.at += 1;
        }
        Ok(shown.found)
    }

    /// What a file has; `None` where it is not searched.
    async fn hits(&mut self, showing: &Showing, file: &File) -> Result<Option<Arc<Hits>>> {
        if file.size > FILE_MAX {
            self.end.skipped.too_large += 1;
            return Ok(None);
        }
        let known = showing.outcomes.get(&file.oid).or_else(|| self.known.outcomes.get(&file.oid));
        match known {
            Some(Outcome::Hits(hits)) if file.offset == 0 => return Ok(Some(Arc::clone(hits))),
            Some(Outcome::Binary) => {
                self.end.skipped.binary += 1;
                return Ok(None);
            }
            _ => {}
        }
        // In the middle of a text, or where its turn had found enough before it came to this one.
        let Some(content) = showing.batch.contents.get(&file.oid) else {
            self.end.skipped.unreadable += 1;
            return Ok(None);
        };
        if !self.plan.include_binary && is_binary(content) {
            self.end.skipped.binary += 1;
            return Ok(None);
        }
        self.search_on(content, file.offset).await.map(Some)
    }

    /// Shows the matches of a file; where it did not come to their end, the point from which they go on, and how many were shown.
    async fn show_matches(
        &mut self,
        batch: &Batch,
        file: &File,
        mut hits: Arc<Hits>,
        shown: &mut Shown,
    ) -> Result<Option<(u64, u64)>> {
        let (mut offset, mut count) = (file.offset, file.shown);
        loop {
            let mut list = hits.list.iter().peekable();
            while let Some((hit, end)) = list.next() {
                if count >= self.plan.file_max {
                    return Ok(None);
                }
                if self.is_full() || shown.bytes >= STEP_BYTES {
                    return Ok(Some((offset, count)));
                }
                let mut hit = hit.clone();
                (offset, count) = (*end, count + 1);
                hit.more_in_file = count == self.plan.file_max && (list.peek().is_some() || hits.more.is_some());
                let bytes = weight(&hit);
                self.show_one(entry(file, Some(hit), None), bytes, shown);
            }
            let (Some(more), true) = (hits.more, count < self.plan.file_max) else { return Ok(None) };
            if self.is_full() || shown.bytes >= STEP_BYTES {
                return Ok(Some((more, count)));
            }
            let Some(content) = batch.contents.get(&file.oid) else {
                return Err(EngineError::internal("a text of a search was lost"));
            };
            hits = self.search_on(content, more).await?;
        }
    }

    /// Searches a text from a point on.
    async fn search_on(&mut self, content: &Bytes, offset: u64) -> Result<Arc<Hits>> {
        let hits = self.engine.searches.search_one(&self.plan, &self.stop, content.clone(), offset).await?;
        self.end.bytes_searched += hits.more.unwrap_or(content.len() as u64).saturating_sub(offset);
        Ok(hits)
    }

    fn show_one(&mut self, entry: Found, bytes: usize, shown: &mut Shown) {
        let bytes = bytes + entry.path.0.len() + 128;
        self.left = self.left.saturating_sub(1);
        self.budget = self.budget.saturating_sub(bytes as u64);
        shown.bytes += bytes;
        shown.found.push(entry);
    }

    fn is_full(&self) -> bool {
        self.left == 0 || self.budget == 0
    }

    fn stop_at(&mut self, path: &[u8], offset: u64, shown: u64) -> Result<()> {
        let (commit, revision) = (self.commit, self.revision);
        let cursor = SearchCursor { commit, revision, path: path.to_vec(), offset, shown };
        self.end.next_cursor = Some(write_cursor(&cursor)?);
        self.over = true;
        (self.next, self.loaded) = (None, None);
        Ok(())
    }
}

fn entry(file: &File, hit: Option<Hit>, count: Option<u64>) -> Found {
    Found { path: Path(file.path.clone()), oid: Oid(file.oid), source: file.source, hit, count }
}

/// Reads the contents of a batch. What is damaged stays out.
async fn load(engine: &Engine, project: &Project, known: &Known, batch: Option<Batch>) -> Result<Option<Batch>> {
    let Some(mut batch) = batch else { return Ok(None) };
    let oids = |wanted: Source| -> Vec<ObjectId> {
        let mut seen = HashSet::new();
        let files = batch.files.iter().filter(|file| file.source == wanted && file.size <= FILE_MAX);
        let files = files.filter(|file| file.offset > 0 || !known.outcomes.contains_key(&file.oid));
        files.map(|file| file.oid).filter(|oid| seen.insert(*oid)).collect()
    };
    let (committed, pending) = (oids(Source::Committed), oids(Source::Pending));
    let blobs = engine.blobs(&committed).await?;
    let there: Vec<_> = committed.iter().zip(&blobs).filter_map(|(oid, blob)| Some((*oid, blob.as_ref()?))).collect();
    let read = engine.blob_contents(&there.iter().map(|(_, blob)| *blob).collect::<Vec<_>>()).await?;
    for ((oid, _), content) in there.iter().zip(read) {
        match content {
            Ok(content) => _ = batch.contents.insert(*oid, content),
            Err(error @ StoreError::Unavailable { .. }) => return Err(error.into()),
            Err(error) => tracing::error!(%error, %oid, "an object that is searched is damaged"),
        }
    }
    if !pending.is_empty() {
        let read = engine.pending_bytes(project, &pending).await?;
        batch.contents.extend(pending.into_iter().zip(read).filter_map(|(oid, content)| Some((oid, content?))));
    }
    Ok(Some(batch))
}

impl Known {
    fn learn(&mut self, outcomes: HashMap<ObjectId, Outcome>) {
        for (oid, outcome) in outcomes {
            let bytes = match &outcome {
                Outcome::Binary => 0,
                // The rest of it is found in the text, which is not kept.
                Outcome::Hits(hits) if hits.more.is_some() => continue,
                Outcome::Hits(hits) => hits.list.iter().map(|(hit, _)| weight(hit)).sum(),
            };
            if self.outcomes.len() < KNOWN_MAX && self.bytes + bytes <= KNOWN_BYTES {
                self.bytes += bytes;
                self.outcomes.insert(oid, outcome);
            }
        }
    }
}
