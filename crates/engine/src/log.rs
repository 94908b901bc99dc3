//! History, newest first.

use std::collections::{BinaryHeap, HashSet};

use serde::{Deserialize, Serialize};
use treehold_catalog::CommitRow;
use treehold_object::{BStr, ObjectId};

use crate::api::{LogEntry, LogPage, Oid, Person};
use crate::graph::Known;
use crate::{Engine, EngineError, Result};

const LIST_DEFAULT: usize = 30;
const LIST_MAX: usize = 1000;
/// Commits that wait beside the next one; a history broader than that is refused rather than cut.
const FRONTIER_MAX: usize = 5000;

/// Where a log goes on: what waits to be shown.
#[derive(Serialize, Deserialize)]
struct LogCursor {
    frontier: Vec<Oid>,
    /// Shown commits that could be met again: those not older than everything that waits.
    seen: Vec<Oid>,
}

impl Engine {
    /// Commits that a ref reaches, by committer time as `git log` orders them.
    pub async fn log(
        &self,
        project: &str,
        reference: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<LogPage> {
        let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
        let project = self.find_project(project).await?;
        let (tips, shown) = match cursor {
            Some(cursor) => {
                let cursor: LogCursor = crate::text::read_cursor(cursor)?;
                let oids: Vec<ObjectId> = cursor.frontier.iter().map(|oid| oid.0).collect();
                if self.catalog.may_read(project.id, &oids).await?.contains(&false) {
                    return Err(EngineError::BadRequest(
                        "The cursor's commits are gone; list from the start.".to_owned(),
                    ));
                }
                (oids, cursor.seen.into_iter().map(|oid| oid.0).collect())
            }
            None => (self.resolve(&project, reference).await?.commit.into_iter().collect(), HashSet::new()),
        };
        let cut: HashSet<ObjectId> = self.catalog.shallow(project.id).await?.into_iter().collect();
        self.page(tips, shown, &cut, limit).await
    }

    async fn page(
        &self,
        tips: Vec<ObjectId>,
        mut seen: HashSet<ObjectId>,
        cut: &HashSet<ObjectId>,
        limit: usize,
    ) -> Result<LogPage> {
        let mut known = Known::default();
        let mut queue: BinaryHeap<(i64, u64, ObjectId)> = BinaryHeap::new();
        let mut page = LogPage { commits: Vec::new(), next_cursor: None, shallow: false };
        for tip in tips {
            if let Some(row) = self.known_commit(&mut known, tip).await? {
                seen.insert(tip);
                queue.push((row.time, row.generation, tip));
            }
        }
        while page.commits.len() < limit {
            let Some((_, _, oid)) = queue.pop() else { return Ok(page) };
            let Some(row) = self.known_commit(&mut known, oid).await? else { continue };
            page.shallow |= cut.contains(&oid);
            if !cut.contains(&oid) {
                for parent in &row.parents {
                    if seen.insert(*parent)
                        && let Some(row) = self.known_commit(&mut known, *parent).await?
                    {
                        queue.push((row.time, row.generation, *parent));
                    }
                }
            }
            page.commits.push(entry(&row)?);
        }
        if queue.is_empty() {
            return Ok(page);
        }
        if queue.len() > FRONTIER_MAX {
            return Err(EngineError::unprocessable("log_too_broad", "The history is too broad to page through."));
        }
        let frontier: Vec<Oid> = queue.into_iter().map(|(_, _, oid)| Oid(oid)).collect();
        page.next_cursor = Some(crate::text::write_cursor(&LogCursor { frontier, seen: Vec::new() })?);
        Ok(page)
    }
}

fn entry(row: &CommitRow) -> Result<LogEntry> {
    let bad = |_| EngineError::internal("a stored commit does not decode");
    let commit = gix_object::CommitRef::from_bytes(&row.raw, gix_hash::Kind::Sha1).map_err(bad)?;
    let (author, committer) = (commit.author().map_err(bad)?, commit.committer().map_err(bad)?);
    Ok(LogEntry {
        commit: Oid(row.oid),
        tree: Oid(row.tree),
        parents: row.parents.iter().copied().map(Oid).collect(),
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
