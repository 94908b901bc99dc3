//! History, newest first and no commit before one that comes from it, as `git log --date-order` shows it.
//!
//! A commit is shown when all that come directly from it were shown, so that none is met again later: what waits is all that a
//! cursor has to carry. To know them, the walk runs ahead by generation, as git's does with a commit-graph.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use treehold_catalog::CommitRow;
use treehold_object::{BStr, BString, ObjectId};

use crate::api::{LogEntry, LogPage, LogRequest, Oid, Person};
use crate::files::shaped_path;
use crate::graph::Known;
use crate::lens::Lens;
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 30;
const LIST_MAX: usize = 1000;
/// Commits that a cursor carries. Where more wait side by side, the next page walks again from the start.
const CURSOR_MAX: usize = 48;

/// Work for one page of a path's log: trees looked at, and commits passed over. Then it goes on with the cursor.
const LOOKS_MAX: usize = 4_000;
const PASSED_MAX: u64 = 100_000;
/// A page ends once its commits come to so many bytes, however few they are.
const PAGE_BYTES: usize = 4 << 20;
/// Commits that are walked again to come to where a page goes on: longer histories than anybody has.
const SKIPS_MAX: u64 = 10_000_000;

/// Where a log goes on.
#[derive(Serialize, Deserialize)]
struct LogCursor {
    /// What waits to be shown, in order; or the commit where the log began.
    from: Vec<Oid>,
    /// How many to pass over from there.
    skip: u64,
    /// The commit where the log began, and how many were shown or passed over since.
    start: Oid,
    shown: u64,
    /// Those of `from` whose history does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dead: Vec<Oid>,
}

/// Which commits of a walk are shown, by git's rule for `git log -- path` ("History Simplification" in git-log(1)): one that changed the
/// path against all its parents; and where a merge has the path as one of its parents has it, only that parent's history counts.
struct Picking {
    lens: Option<Lens>,
    first_parent: bool,
    /// Commits to come whose history counts.
    live: HashSet<ObjectId>,
}

/// A walk under way.
struct Walk {
    known: Known,
    /// Commits whose parents were not counted yet, highest generation first.
    ahead: BinaryHeap<(u64, ObjectId)>,
    met: HashSet<ObjectId>,
    /// Commits to be shown that come directly from this one.
    children: HashMap<ObjectId, usize>,
    /// Commits that can be shown: newest first, then in the order in which they became so.
    ready: BinaryHeap<(i64, Reverse<u64>, ObjectId)>,
    became_ready: u64,
    /// Commits of which a child was shown, but not every one.
    waiting: HashSet<ObjectId>,
}

impl Walk {
    fn meet(&mut self, oid: ObjectId, generation: u64) {
        if self.met.insert(oid) {
            self.ahead.push((generation, oid));
        }
    }

    fn offer(&mut self, oid: ObjectId, time: i64) {
        match self.children.get(&oid).copied().unwrap_or(0) {
            0 => {
                self.waiting.remove(&oid);
                self.ready.push((time, Reverse(self.became_ready), oid));
                self.became_ready += 1;
            }
            _ => _ = self.waiting.insert(oid),
        }
    }

    /// What a later walk has to start from, in the order in which it is to be shown.
    fn rest(self) -> Vec<ObjectId> {
        let ready = self.ready.into_sorted_vec().into_iter().rev().map(|(_, _, oid)| oid);
        let mut waiting: Vec<ObjectId> = self.waiting.into_iter().collect();
        waiting.sort_unstable();
        ready.chain(waiting).collect()
    }
}

impl Engine {
    /// Commits that a ref reaches.
    pub async fn log(&self, project: &str, request: &LogRequest) -> Result<LogPage> {
        let lens = request.path.as_deref().map(log_path).transpose()?.flatten().map(Lens::new);
        let limit = request.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let project = self.find_project(project).await?;
        let mut at: LogCursor = match request.cursor.as_deref() {
            Some(cursor) => crate::text::read_cursor(cursor)?,
            None => match self.resolve(&project, request.reference.as_deref()).await?.commit {
                Some(start) => LogCursor::new(start),
                None => return Ok(LogPage { commits: Vec::new(), next_cursor: None, shallow: false }),
            },
        };
        // A cursor is the caller's word.
        let mut seen = HashSet::new();
        at.from.retain(|oid| seen.insert(oid.0));
        let tips: Vec<ObjectId> = at.from.iter().map(|oid| oid.0).collect();
        if self.catalog.may_read(project.id, &tips).await?.contains(&false) {
            return Err(EngineError::BadRequest("The cursor's commits are gone; list from the start.".to_owned()));
        }
        let cut: HashSet<ObjectId> = self.catalog.shallow(project.id).await?.into_iter().collect();
        let known = self.known(project.id, &tips).await?;
        let mut walk = self.start_log(known, &tips).await?;
        let mut page = LogPage { commits: Vec::new(), next_cursor: None, shallow: false };
        let mut picking = Picking::new(lens, request.first_parent, &at);
        let (mut passed, mut skipped, mut bytes) = (0, 0, 0);
        while page.commits.len() < limit && bytes < PAGE_BYTES && passed < PASSED_MAX && picking.looked() < LOOKS_MAX {
            // Where nothing waits whose history counts, the rest has nothing to show.
            if picking.live.is_empty() {
                return Ok(page);
            }
            let Some(row) = self.next_of_log(&mut walk).await? else { return Ok(page) };
            let is_live = picking.live.remove(&row.oid);
            let shown = is_live && self.pick(&mut picking, &mut walk.known, &row).await?;
            if skipped >= SKIPS_MAX {
                return Err(EngineError::BadRequest("The cursor is not one of ours.".to_owned()));
            }
            if at.skip > 0 {
                skipped += 1;
                at.skip -= 1;
                picking.forget_work();
                continue;
            }
            passed += 1;
            page.shallow |= is_live && cut.contains(&row.oid);
            if shown {
                let raw = self.raw_of(&row).await?;
                bytes += raw.len();
                page.commits.push(entry(&row, &raw)?);
            }
        }
        let shown = at.shown.saturating_add(passed);
        let rest = walk.rest();
        if rest.is_empty() || picking.live.is_empty() {
            return Ok(page);
        }
        let cursor = match rest.len() {
            0..=CURSOR_MAX => {
                let dead = rest.iter().filter(|oid| !picking.live.contains(*oid)).copied().map(Oid).collect();
                LogCursor { from: rest.into_iter().map(Oid).collect(), skip: 0, start: at.start, shown, dead }
            }
            _ => LogCursor { skip: shown, shown, ..LogCursor::new(at.start.0) },
        };
        page.next_cursor = Some(crate::text::write_cursor(&cursor)?);
        Ok(page)
    }

    /// Whether a commit whose history counts is shown, and whose history counts after it.
    async fn pick(&self, picking: &mut Picking, known: &mut Known, row: &CommitRow) -> Result<bool> {
        let mut parents = Vec::new();
        for parent in row.parents.iter().take(if picking.first_parent { 1 } else { usize::MAX }) {
            parents.extend(self.known_commit(known, *parent).await?);
        }
        if let Some(lens) = &mut picking.lens {
            let trees: Vec<ObjectId> = parents.iter().chain([row]).map(|row| row.tree).collect();
            self.look_through(lens, &trees, known, row.oid).await?;
            let own = lens.item(&row.tree);
            if parents.is_empty() {
                return Ok(own.is_some());
            }
            if let Some(same) = parents.iter().find(|parent| lens.item(&parent.tree) == own) {
                picking.live.insert(same.oid);
                return Ok(false);
            }
        }
        picking.live.extend(parents.iter().map(|parent| parent.oid));
        Ok(true)
    }

    async fn start_log(&self, known: Known, tips: &[ObjectId]) -> Result<Walk> {
        let mut walk = Walk {
            known,
            ahead: BinaryHeap::new(),
            met: HashSet::new(),
            children: HashMap::new(),
            ready: BinaryHeap::new(),
            became_ready: 0,
            waiting: HashSet::new(),
        };
        let mut rows = Vec::with_capacity(tips.len());
        for tip in tips {
            if let Some(row) = self.known_commit(&mut walk.known, *tip).await? {
                walk.meet(*tip, row.generation);
                rows.push(row);
            }
        }
        let lowest = rows.iter().map(|row| row.generation).min().unwrap_or(0);
        self.count_children(&mut walk, lowest).await?;
        for row in rows {
            walk.offer(row.oid, row.time);
        }
        Ok(walk)
    }

    /// Counts the children of every commit of generation `down_to` and above: they are all of a higher one.
    async fn count_children(&self, walk: &mut Walk, down_to: u64) -> Result<()> {
        while walk.ahead.peek().is_some_and(|(generation, _)| *generation > down_to) {
            let Some((_, oid)) = walk.ahead.pop() else { break };
            let Some(row) = self.known_commit(&mut walk.known, oid).await? else { continue };
            for parent in row.parents {
                *walk.children.entry(parent).or_default() += 1;
                if let Some(parent) = self.known_commit(&mut walk.known, parent).await? {
                    walk.meet(parent.oid, parent.generation);
                }
            }
        }
        Ok(())
    }

    async fn next_of_log(&self, walk: &mut Walk) -> Result<Option<CommitRow>> {
        let Some((_, _, oid)) = walk.ready.pop() else { return Ok(None) };
        let Some(row) = self.known_commit(&mut walk.known, oid).await? else {
            return Err(EngineError::internal("a commit of a log was lost"));
        };
        for parent in &row.parents {
            let Some(parent) = self.known_commit(&mut walk.known, *parent).await? else { continue };
            self.count_children(walk, parent.generation).await?;
            if let Some(children) = walk.children.get_mut(&parent.oid) {
                *children -= 1;
            }
            walk.offer(parent.oid, parent.time);
        }
        Ok(Some(row))
    }
}

impl LogCursor {
    fn new(start: ObjectId) -> Self {
        Self { from: vec![Oid(start)], skip: 0, start: Oid(start), shown: 0, dead: Vec::new() }
    }
}

impl Picking {
    fn new(lens: Option<Lens>, first_parent: bool, at: &LogCursor) -> Self {
        let live = at.from.iter().filter(|oid| !at.dead.contains(oid)).map(|oid| oid.0).collect();
        Self { lens, first_parent, live }
    }

    fn looked(&self) -> usize {
        self.lens.as_ref().map_or(0, |lens| lens.looked)
    }

    /// What is walked again only to come to where an earlier page ended does not count.
    fn forget_work(&mut self) {
        if let Some(lens) = &mut self.lens {
            lens.looked = 0;
        }
    }
}

/// The path of a log: a slash at its end does not count, and without a name it is everything.
fn log_path(path: &[u8]) -> Result<Option<BString>> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path.is_empty() { Ok(None) } else { shaped_path(path).map(Some) }
}

pub(crate) fn entry(row: &CommitRow, raw: &[u8]) -> Result<LogEntry> {
    let bad = |_| EngineError::internal("a stored commit does not decode");
    let commit = gix_object::CommitRef::from_bytes(raw, gix_hash::Kind::Sha1).map_err(bad)?;
    let (author, committer) = (commit.author().map_err(bad)?, commit.committer().map_err(bad)?);
    Ok(LogEntry {
        commit: Oid(row.oid),
        tree: Oid(row.tree),
        parents: commit.parents().map(Oid).collect(),
        author: person(author.name, author.email, author.time),
        committer: person(committer.name, committer.email, committer.time),
        message: commit.message.to_string(),
    })
}

/// `time` is as git writes it: Unix seconds and an offset. What does not read as a time is shown as it is.
fn person(name: &BStr, email: &BStr, time: &str) -> Person {
    let date = treehold_object::ident::parse_date(&format!("@{time}")).ok().and_then(|(seconds, minutes)| {
        let offset = jiff::tz::Offset::from_seconds(minutes * 60).ok()?;
        Some(jiff::Timestamp::from_second(seconds).ok()?.display_with_offset(offset).to_string())
    });
    Person { name: name.to_string(), email: email.to_string(), date: date.unwrap_or_else(|| time.to_owned()) }
}
