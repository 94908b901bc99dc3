//! History, newest first and no commit before one that comes from it, as `git log --date-order` shows it.
//!
//! A commit is shown when all that come directly from it were shown, so that none is met again later: what waits is all that a
//! cursor has to carry. To know them, the walk runs ahead by generation, as git's does with a commit-graph.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use treehold_catalog::CommitRow;
use treehold_object::{BStr, ObjectId};

use crate::api::{LogEntry, LogPage, Oid, Person};
use crate::graph::Known;
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 30;
const LIST_MAX: usize = 1000;
/// Commits that a cursor carries. Where more wait side by side, the next page walks again from the start.
const CURSOR_MAX: usize = 48;

/// Where a log goes on.
#[derive(Serialize, Deserialize)]
struct LogCursor {
    /// What waits to be shown, in order; or the commit where the log began.
    from: Vec<Oid>,
    /// How many to pass over from there.
    skip: u64,
    /// The commit where the log began, and how many were shown since.
    start: Oid,
    shown: u64,
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
    pub async fn log(
        &self,
        project: &str,
        reference: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<LogPage> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let project = self.find_project(project).await?;
        let mut at: LogCursor = match cursor {
            Some(cursor) => crate::text::read_cursor(cursor)?,
            None => match self.resolve(&project, reference).await?.commit {
                Some(start) => LogCursor { from: vec![Oid(start)], skip: 0, start: Oid(start), shown: 0 },
                None => return Ok(LogPage { commits: Vec::new(), next_cursor: None, shallow: false }),
            },
        };
        let tips: Vec<ObjectId> = at.from.iter().map(|oid| oid.0).collect();
        if self.catalog.may_read(project.id, &tips).await?.contains(&false) {
            return Err(EngineError::BadRequest("The cursor's commits are gone; list from the start.".to_owned()));
        }
        let cut: HashSet<ObjectId> = self.catalog.shallow(project.id).await?.into_iter().collect();
        let known = self.known(project.id, &tips).await?;
        let mut walk = self.start_log(known, &tips).await?;
        let mut page = LogPage { commits: Vec::new(), next_cursor: None, shallow: false };
        while page.commits.len() < limit {
            let Some(row) = self.next_of_log(&mut walk).await? else { return Ok(page) };
            if at.skip > 0 {
                at.skip -= 1;
                continue;
            }
            page.shallow |= cut.contains(&row.oid);
            page.commits.push(entry(&row)?);
        }
        let shown = at.shown + page.commits.len() as u64;
        let rest = walk.rest();
        let cursor = match rest.len() {
            0 => return Ok(page),
            1..=CURSOR_MAX => LogCursor { from: rest.into_iter().map(Oid).collect(), skip: 0, start: at.start, shown },
            _ => LogCursor { from: vec![at.start], skip: shown, start: at.start, shown },
        };
        page.next_cursor = Some(crate::text::write_cursor(&cursor)?);
        Ok(page)
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

fn entry(row: &CommitRow) -> Result<LogEntry> {
    let bad = |_| EngineError::internal("a stored commit does not decode");
    let commit = gix_object::CommitRef::from_bytes(&row.raw, gix_hash::Kind::Sha1).map_err(bad)?;
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
