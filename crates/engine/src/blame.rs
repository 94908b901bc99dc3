//! Blame: each line passes from a version to the parent that had it, down to the commit that brought it, as `git blame` does it.
//!
//! Lines are compared as git does by default (Myers, with its heuristic for where hunks begin). A file that is new at its path is
//! followed to a deleted one of the same content; one that changed while it moved is not.

use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet};

use bytes::Bytes;
use gix_diff::blob::{Algorithm, InternedInput, diff_with_slider_heuristics};
use treehold_catalog::CommitRow;
use treehold_object::{BString, ObjectId};

use crate::api::{At, Blame, BlameOrigin, BlameRange, BlameRequest, Oid, Path, Person};
use crate::batch::check_lines;
use crate::files::{not_found, pending_deletion, pending_item, shaped_path};
use crate::graph::Known;
use crate::lens::Lens;
use crate::tree::{GITLINK, Item, is_binary};
use crate::{Engine, EngineError, Result, blocking};

/// A file whose lines are told, bytes.
const FILE_MAX: u64 = 8 << 20;
/// Work for one request: commits looked at, and time. Then what is left says where it goes on.
const STEPS: usize = 20_000;
const WORK_MS: i64 = 10_000;
/// Ranges of an answer; where a file has more of them, ask for some of its lines.
const RANGES_MAX: usize = 20_000;
/// What is shown of a commit's first line, bytes.
const SUMMARY_MAX: usize = 200;

/// Lines that follow each other, in a version and in what was asked for; from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    at: u32,
    line: u32,
    len: u32,
}

/// Whose lines are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Suspect {
    generation: u64,
    time: i64,
    commit: ObjectId,
    path: BString,
}

/// Lines whose commit is known.
#[derive(Debug)]
struct Guilty {
    piece: Piece,
    commit: ObjectId,
    path: BString,
    unfinished: bool,
}

/// A blame under way.
struct Tracing {
    known: Known,
    lenses: HashMap<BString, Lens>,
    queue: BinaryHeap<Suspect>,
    open: HashMap<Suspect, Vec<Piece>>,
    guilty: Vec<Guilty>,
}

impl Tracing {
    fn suspect(&mut self, row: &CommitRow, path: &BString, pieces: Vec<Piece>) {
        if pieces.is_empty() {
            return;
        }
        let (generation, time) = (row.generation, row.time);
        let suspect = Suspect { generation, time, commit: row.oid, path: path.clone() };
        let open = self.open.entry(suspect.clone()).or_default();
        if open.is_empty() {
            self.queue.push(suspect);
        }
        open.extend(pieces);
    }

    fn convict(&mut self, suspect: &Suspect, pieces: Vec<Piece>, unfinished: bool) {
        let (commit, path) = (suspect.commit, &suspect.path);
        self.guilty.extend(pieces.into_iter().map(|piece| Guilty { piece, commit, path: path.clone(), unfinished }));
    }
}

/// A parent's version of a file.
struct Version {
    row: CommitRow,
    path: BString,
    oid: ObjectId,
}

impl Engine {
    /// Where the lines of a file came from.
    pub async fn blame(&self, project: &str, path: &[u8], request: &BlameRequest) -> Result<Blame> {
        let paths = [shaped_path(path)?];
        check_lines(request.start_line, request.end_line)?;
        let at = At { reference: request.reference.clone(), user: request.user };
        let view = self.view(project, &at, Some(&paths)).await?;
        let [path] = paths;
        let head = self.find_paths(view.head.tree, std::slice::from_ref(&path)).await?[0];
        let row = view.overlay.as_ref().and_then(|overlay| overlay.rows.get(&path));
        let item = match row {
            Some(row) => Some(pending_item(row).ok_or_else(pending_deletion)?),
            None => head,
        };
        let item = item.filter(|item| !item.is_tree() && item.mode != GITLINK).ok_or_else(|| not_found(head))?;
        let content = match row {
            Some(row) => {
                self.check_size(row.size)?;
                self.pending_bytes(&view.project, &[item.oid]).await?.pop().flatten()
            }
            None => Some(self.version(item.oid).await?),
        };
        let content = content.ok_or_else(|| EngineError::internal(format!("{} is not stored", item.oid)))?;
        if is_binary(&content) {
            return Err(EngineError::unprocessable("binary_file", "The file is binary: it has no lines to tell of."));
        }
        let total = line_count(&content);
        let all = asked(request, total);
        let mut pending = Vec::new();
        let mut traced = Vec::new();
        let committed = head.filter(|head| same_kind(*head, item));
        match (row, committed) {
            (None, _) => traced = all,
            (Some(_), None) => pending = all,
            (Some(_), Some(head)) => {
                let old = self.version(head.oid).await?;
                (traced, pending) = blocking(move || Ok(passed(&old, &content, &all))).await?;
            }
        }
        let mut ranges = self.trace(&view.project.id, view.head.commit, &path, traced).await?;
        let own = |piece: Piece| BlameRange {
            start_line: u64::from(piece.at) + 1,
            lines: u64::from(piece.len),
            pending: true,
            origin: None,
        };
        ranges.extend(pending.into_iter().map(own));
        ranges.sort_by_key(|range| range.start_line);
        Ok(Blame {
            commit: view.head.commit.map(Oid),
            revision: view.overlay.as_ref().map(|overlay| overlay.revision),
            path: Path(path),
            oid: Oid(item.oid),
            total_lines: u64::from(total),
            ranges,
        })
    }

    fn check_size(&self, size: u64) -> Result<()> {
        match size > FILE_MAX {
            true => Err(EngineError::TooLarge { what: "the file", limit: FILE_MAX, unit: "bytes" }),
            false => Ok(()),
        }
    }

    /// The content of a version, if it is not too large.
    async fn version(&self, oid: ObjectId) -> Result<Bytes> {
        let missing = || EngineError::internal(format!("{oid} is not stored"));
        let blob = self.blobs(&[oid]).await?.pop().flatten().ok_or_else(missing)?;
        self.check_size(blob.size())?;
        Ok(self.blob_contents(&[&blob]).await?.pop().ok_or_else(missing)??)
    }

    /// Traces lines from a commit down.
    async fn trace(
        &self,
        project: &uuid::Uuid,
        commit: Option<ObjectId>,
        path: &BString,
        pieces: Vec<Piece>,
    ) -> Result<Vec<BlameRange>> {
        let Some(commit) = commit.filter(|_| !pieces.is_empty()) else { return Ok(Vec::new()) };
        let cut: HashSet<ObjectId> = self.catalog.shallow(*project).await?.into_iter().collect();
        let mut known = self.known(*project, &[commit]).await?;
        let lost = || EngineError::internal("a commit of a blame was lost");
        let row = self.known_commit(&mut known, commit).await?.ok_or_else(lost)?;
        let (lenses, queue, open) = (HashMap::new(), BinaryHeap::new(), HashMap::new());
        let mut tracing = Tracing { known, lenses, queue, open, guilty: Vec::new() };
        tracing.suspect(&row, path, pieces);
        let until_ms = self.ambient.now_ms().saturating_add(WORK_MS);
        for step in 0_usize.. {
            let Some(suspect) = tracing.queue.pop() else { break };
            let pieces = tracing.open.remove(&suspect).unwrap_or_default();
            if step >= STEPS || (step > 0 && self.ambient.now_ms() > until_ms) {
                tracing.convict(&suspect, pieces, true);
                continue;
            }
            let left = self.pass_on(&mut tracing, &suspect, pieces).await?;
            tracing.convict(&suspect, left, false);
        }
        self.tell(tracing, &cut).await
    }

    /// Passes lines to the parents that had them; the others are the suspect's own.
    async fn pass_on(&self, tracing: &mut Tracing, suspect: &Suspect, mut pieces: Vec<Piece>) -> Result<Vec<Piece>> {
        let lost = || EngineError::internal("a commit of a blame was lost");
        let row = self.known_commit(&mut tracing.known, suspect.commit).await?.ok_or_else(lost)?;
        let mut parents = Vec::new();
        for parent in &row.parents {
            parents.extend(self.known_commit(&mut tracing.known, *parent).await?);
        }
        let trees: Vec<ObjectId> = parents.iter().chain([&row]).map(|row| row.tree).collect();
        let lens = tracing.lenses.entry(suspect.path.clone()).or_insert_with(|| Lens::new(suspect.path.clone()));
        self.look_through(lens, &trees, &tracing.known, row.oid).await?;
        let own = lens.item(&row.tree).ok_or_else(lost)?;
        let there = |parent: &CommitRow| lens.item(&parent.tree).filter(|item| same_kind(*item, own));
        let found: Vec<Option<Item>> = parents.iter().map(there).collect();
        let same = found.iter().position(|item| item.is_some_and(|item| item.oid == own.oid));
        if let Some(parent) = same.and_then(|at| parents.get(at)) {
            tracing.suspect(parent, &suspect.path, pieces);
            return Ok(Vec::new());
        }
        let mut versions = Vec::new();
        for (parent, item) in parents.into_iter().zip(found) {
            match item {
                Some(item) => versions.push(Version { row: parent, path: suspect.path.clone(), oid: item.oid }),
                None => {
                    if let Some(path) = self.moved_from(parent.tree, row.tree, &suspect.path, own).await? {
                        tracing.suspect(&parent, &path, pieces);
                        return Ok(Vec::new());
                    }
                }
            }
        }
        let mut seen = HashSet::new();
        versions.retain(|version| seen.insert(version.oid));
        if versions.is_empty() {
            return Ok(pieces);
        }
        let new = self.version(own.oid).await?;
        for Version { row, path, oid } in versions {
            let (old, new) = (self.version(oid).await?, new.clone());
            let (passed, left) = blocking(move || Ok(passed(&old, &new, &pieces))).await?;
            tracing.suspect(&row, &path, passed);
            pieces = left;
            if pieces.is_empty() {
                break;
            }
        }
        Ok(pieces)
    }

    /// The path of a file that a commit deleted and whose content it has at `path`.
    async fn moved_from(&self, old: ObjectId, new: ObjectId, path: &[u8], item: Item) -> Result<Option<BString>> {
        let name = |path: &[u8]| path.rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec);
        // In a comparison that is too large, nothing is looked for.
        let changes = self.diff_trees_if_small(Some(old), Some(new)).await?.unwrap_or_default();
        let gone = changes.into_iter().filter(|change| {
            change.new.is_none() && change.old.is_some_and(|old| old.oid == item.oid && same_kind(old, item))
        });
        let gone: Vec<BString> = gone.map(|change| change.path).collect();
        Ok(gone.iter().find(|gone| name(gone) == name(path)).or(gone.first()).cloned())
    }

    /// The answer: lines that follow each other in both versions are one range.
    async fn tell(&self, mut tracing: Tracing, cut: &HashSet<ObjectId>) -> Result<Vec<BlameRange>> {
        tracing.guilty.sort_by_key(|guilty| guilty.piece.at);
        let mut joined: Vec<Guilty> = Vec::new();
        for guilty in tracing.guilty {
            match joined.last_mut() {
                Some(last)
                    if last.commit == guilty.commit
                        && last.path == guilty.path
                        && last.piece.at + last.piece.len == guilty.piece.at
                        && last.piece.line + last.piece.len == guilty.piece.line =>
                {
                    last.piece.len += guilty.piece.len;
                }
                _ => joined.push(guilty),
            }
        }
        if joined.len() > RANGES_MAX {
            return Err(EngineError::TooLarge { what: "the blame", limit: RANGES_MAX as u64, unit: "ranges" });
        }
        let mut told: HashMap<ObjectId, (Person, String)> = HashMap::new();
        let mut ranges = Vec::with_capacity(joined.len());
        for Guilty { piece, commit, path, unfinished } in joined {
            if let Entry::Vacant(place) = told.entry(commit) {
                let lost = || EngineError::internal("a commit of a blame was lost");
                let row = self.known_commit(&mut tracing.known, commit).await?.ok_or_else(lost)?;
                let entry = crate::log::entry(&row, &self.raw_of(&row).await?)?;
                place.insert((entry.author, summary(&entry.message)));
            }
            let (author, summary) = told[&commit].clone();
            let origin = BlameOrigin {
                commit: Oid(commit),
                author,
                summary,
                original_path: path.to_string(),
                original_line: u64::from(piece.line) + 1,
                boundary: cut.contains(&commit),
                unfinished,
            };
            let (start_line, lines) = (u64::from(piece.at) + 1, u64::from(piece.len));
            ranges.push(BlameRange { start_line, lines, pending: false, origin: Some(origin) });
        }
        Ok(ranges)
    }
}

/// The first line of a message, as much of it as people read.
fn summary(message: &str) -> String {
    let line = message.trim_start().lines().next().unwrap_or_default().trim_end();
    line[..line.floor_char_boundary(SUMMARY_MAX)].to_owned()
}

/// Whether both are files, or both links: blame does not go from one to the other.
fn same_kind(a: Item, b: Item) -> bool {
    a.mode & 0o170_000 == b.mode & 0o170_000
}

fn line_count(content: &[u8]) -> u32 {
    let ends = content.iter().filter(|b| **b == b'\n').count();
    let rest = content.last().is_some_and(|last| *last != b'\n');
    u32::try_from(ends + usize::from(rest)).unwrap_or(u32::MAX)
}

/// The lines that a request means.
fn asked(request: &BlameRequest, total: u32) -> Vec<Piece> {
    let first = request.start_line.unwrap_or(1).max(1);
    let last = request.end_line.unwrap_or(u64::MAX).min(u64::from(total));
    if first > last {
        return Vec::new();
    }
    let at = u32::try_from(first - 1).unwrap_or(u32::MAX);
    vec![Piece { at, line: at, len: u32::try_from(last - first + 1).unwrap_or(u32::MAX) }]
}

/// Lines of `new` that `old` has, with their place there, and those that it has not.
fn passed(old: &[u8], new: &[u8], pieces: &[Piece]) -> (Vec<Piece>, Vec<Piece>) {
    let input = InternedInput::new(old, new);
    let diff = diff_with_slider_heuristics(Algorithm::Myers, &input);
    // Runs of lines in `new`: from where, to where, and where they are in `old`.
    let mut runs: Vec<(u32, u32, Option<u32>)> = Vec::new();
    let (mut before, mut after) = (0, 0);
    for hunk in diff.hunks() {
        runs.push((after, hunk.after.start, Some(before)));
        runs.push((hunk.after.start, hunk.after.end, None));
        (before, after) = (hunk.before.end, hunk.after.end);
    }
    runs.push((after, u32::MAX, Some(before)));
    let (mut kept, mut own) = (Vec::new(), Vec::new());
    for piece in pieces {
        let first = runs.partition_point(|(_, end, _)| *end <= piece.line);
        let last = piece.line + piece.len;
        for (start, end, there) in runs[first..].iter().take_while(|(start, _, _)| *start < last) {
            let (from, to) = ((*start).max(piece.line), (*end).min(last));
            if from >= to {
                continue;
            }
            let (at, len) = (piece.at + (from - piece.line), to - from);
            match there {
                Some(there) => kept.push(Piece { at, line: there + (from - start), len }),
                None => own.push(Piece { at, line: from, len }),
            }
        }
    }
    (kept, own)
}
