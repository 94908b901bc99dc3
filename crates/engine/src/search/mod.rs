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

use self::plan::Plan;
use self::text::{Hits, weight};
pub(crate) use self::turns::Turns;
use self::turns::{Outcome, Stop};
use crate::api::{At, Found, Hit, Listed, Oid, Path, SearchEnd, SearchMode, SearchRequest, Source};
use crate::text::{read_cursor, write_cursor};
use crate::tree::WalkFrom;
use crate::{Engine, EngineError, Listing, Result, blocking};

const LIMIT_DEFAULT: usize = 1000;
const LIMIT_MAX: usize = 10_000;
const SHOWN_DEFAULT: u64 = 4 << 20;
const SHOWN_MAX: u64 = 16 << 20;
/// A file that is searched, bytes.
const FILE_MAX: u64 = 16 << 20;
/// Files read at once: at first, so that an answer begins soon, and at most; and their content, bytes (a single one may be larger).
const BATCH_FIRST: usize = 64;
const BATCH_MAX: usize = 1024;
const BATCH_BYTES: u64 = 4 << 20;
/// Work for one request: content searched, bytes, and time. Then it goes on with the cursor.
const WORK_BYTES: u64 = 512 << 20;
const WORK_MS: i64 = 10_000;
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
    ahead: VecDeque<File>,
    /// Where the search starts.
    from: SearchCursor,
    batch_files: usize,
    next: Option<Batch>,
    loaded: Option<Batch>,
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
            false => {
                (limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX), shown.unwrap_or(SHOWN_DEFAULT).clamp(1, SHOWN_MAX))
            }
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
            ahead: VecDeque::new(),
            from,
            batch_files: BATCH_FIRST,
            next: None,
            loaded: None,
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
        if self.next.is_none() {
            self.next = self.collect().await?;
        }
        if self.next.is_none() && self.loaded.is_none() {
            self.over = true;
            return Ok(None);
        }
        Ok(Some(self.next.as_ref().map_or(0, |batch| batch.bytes)))
    }

    /// Searches the contents that are in memory, and reads the next ones meanwhile if `read`. What was found, in order of the path.
    pub async fn step(&mut self, read: bool) -> Result<Vec<Found>> {
        let loaded = self.loaded.take().unwrap_or_default();
        let next = if read { self.next.take() } else { None };
        let work_left = self.end.bytes_searched < WORK_BYTES && self.engine.ambient.now_ms() < self.until_ms;
        // One batch is always searched, so that cursors come to an end.
        if let Some(first) = loaded.files.first().filter(|_| self.begun && !work_left) {
            let first = first.clone();
            self.stop_at(&first.path, first.offset, first.shown)?;
            return Ok(Vec::new());
        }
        let searched = self.engine.searches.search(&self.plan, &self.stop, self.texts(&loaded));
        let (searched, next) = tokio::join!(searched, load(&self.engine, &self.project, &self.known, next));
        let (outcomes, next) = (searched?, next?);
        self.loaded = next;
        self.begun |= !loaded.files.is_empty();
        let searched = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Hits(_)));
        self.end.bytes_searched += searched.filter_map(|(oid, _)| loaded.contents.get(oid)).map(size).sum::<u64>();
        let found = self.show(&loaded, &outcomes).await?;
        self.known.learn(outcomes);
        Ok(found)
    }

    /// The next files that are meant, at least one; `None` where there are no more.
    async fn collect(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch::default();
        let mut seen = HashSet::new();
        while batch.files.len() < self.batch_files && batch.bytes < BATCH_BYTES {
            let Some(file) = self.ahead.pop_front() else {
                if !self.listed {
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

    async fn list(&mut self) -> Result<()> {
        let (ahead, plan, from) = (&mut self.ahead, &self.plan, &self.from);
        let mut keep = |file: Listed<'_>| {
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

    /// Shows what a batch has, until a limit is reached.
    async fn show(&mut self, batch: &Batch, outcomes: &HashMap<ObjectId, Outcome>) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for file in &batch.files {
            if self.is_full() {
                self.stop_at(&file.path, file.offset, file.shown)?;
                break;
            }
            if file.size > FILE_MAX {
                self.end.skipped.too_large += 1;
                continue;
            }
            let hits = match outcomes.get(&file.oid).or_else(|| self.known.outcomes.get(&file.oid)) {
                Some(Outcome::Hits(hits)) if file.offset == 0 => Arc::clone(hits),
                Some(Outcome::Binary) => {
                    self.end.skipped.binary += 1;
                    continue;
                }
                _ => match batch.contents.get(&file.oid) {
                    Some(content) => self.search_on(content, file.offset).await?,
                    None => {
                        self.end.skipped.unreadable += 1;
                        continue;
                    }
                },
            };
            self.end.files_searched += 1;
            if self.plan.mode == SearchMode::Matches {
                self.show_matches(batch, file, hits, &mut found).await?;
            } else if hits.count > 0 {
                let count = (self.plan.mode == SearchMode::Count).then_some(hits.count);
                self.spend(file.path.len() as u64 + 128);
                found.push(entry(file, None, count));
            }
            if self.over {
                break;
            }
        }
        Ok(found)
    }

    async fn show_matches(
        &mut self,
        batch: &Batch,
        file: &File,
        mut hits: Arc<Hits>,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        let (mut offset, mut shown) = (file.offset, file.shown);
        loop {
            let mut list = hits.list.iter().peekable();
            while let Some((hit, end)) = list.next() {
                if shown >= self.plan.file_max {
                    return Ok(());
                }
                if self.is_full() {
                    return self.stop_at(&file.path, offset, shown);
                }
                let mut hit = hit.clone();
                (offset, shown) = (*end, shown + 1);
                hit.more_in_file = shown == self.plan.file_max && (list.peek().is_some() || hits.more.is_some());
                self.spend((weight(&hit) + file.path.len()) as u64);
                found.push(entry(file, Some(hit), None));
            }
            let (Some(more), true) = (hits.more, shown < self.plan.file_max) else { return Ok(()) };
            if self.is_full() {
                return self.stop_at(&file.path, more, shown);
            }
            let Some(content) = batch.contents.get(&file.oid) else {
                return Err(EngineError::internal("a text of a search was lost"));
            };
            hits = self.search_on(content, more).await?;
        }
    }

    /// Goes on in a text.
    async fn search_on(&mut self, content: &Bytes, offset: u64) -> Result<Arc<Hits>> {
        self.end.bytes_searched += (content.len() as u64).saturating_sub(offset);
        self.engine.searches.search_one(&self.plan, &self.stop, content.clone(), offset).await
    }

    fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(1);
        self.budget = self.budget.saturating_sub(bytes);
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

fn size(content: &Bytes) -> u64 {
    content.len() as u64
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
