//! The rows of the commits in a quarantine.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use treehold_catalog::CommitRow;
use treehold_object::{Kind, ObjectId};
use treehold_wire::Quarantine;

use super::{ROW_BYTES, ROWS, unreadable};
use crate::{Engine, EngineError, Result, Room, blocking};

/// Content of commits that is kept from the first reading, bytes.
const COMMITS_BYTES: usize = 16 << 20;

/// What a commit takes until its row is written, and each of its parents, bytes: a few kilobytes of pack may name millions of these.
const ROW_COST: u64 = 300;
const PARENT_COST: u64 = 64;
/// Memory is asked for in steps of this many bytes.
const COST_STEP: u64 = 1 << 20;
/// What all commits of a pack may take for each of its bytes, and beside that, bytes, whoever sends it: even a commit that changes nothing
/// needs some 40 bytes of a pack, for the name of its parent.
const COST_RATIO: u64 = 16;
const COST_FREE: u64 = 64 << 20;

/// The commits of a pack, taken apart; without their contents beyond the first megabytes.
pub(crate) type Commits = HashMap<ObjectId, CommitRow>;

/// What the rows of a pack of this length may take, bytes.
pub(super) fn cost_max(pack_len: u64) -> u64 {
    pack_len.saturating_mul(COST_RATIO).saturating_add(COST_FREE)
}

/// Reads all commits of a pack, if there is room for their rows, and these take no more than `cost_max` bytes.
pub(crate) async fn read_commits(quarantine: &Arc<Quarantine>, room: Arc<dyn Room>, cost_max: u64) -> Result<Commits> {
    let source = Arc::clone(quarantine);
    blocking(move || {
        let commits = source.iter().filter(|object| object.kind == Kind::Commit);
        let (mut left, mut cost, mut budget) = (COMMITS_BYTES, 0, cost_max);
        let rows = commits.map(|commit| {
            let mut row = read_commit(&source, commit.oid)?;
            let own = ROW_COST + PARENT_COST * row.parents.len() as u64;
            let what = "memory for the pack's commits and their parents";
            let over = EngineError::TooLarge { what, limit: cost_max, unit: "bytes" };
            budget = budget.checked_sub(own).ok_or(over)?;
            cost += own;
            if cost >= COST_STEP {
                room.take(std::mem::take(&mut cost))?;
            }
            match left.checked_sub(row.raw.len()) {
                Some(rest) => left = rest,
                None => row.raw = Bytes::new(),
            }
            Ok((row.oid, row))
        });
        rows.collect()
    })
    .await
}

impl Engine {
    /// Of a long history, the commits beyond the first megabytes are read twice, so that its messages are not in memory all at once.
    pub(crate) async fn put_commits_of(&self, quarantine: Arc<Quarantine>, rows: Commits) -> Result<()> {
        let parents = rows.values().flat_map(|row| &row.parents);
        let outside: HashSet<ObjectId> = parents.filter(|parent| !rows.contains_key(*parent)).copied().collect();
        let outside: Vec<ObjectId> = outside.into_iter().collect();
        let mut generations: HashMap<ObjectId, u64> = HashMap::new();
        for chunk in outside.chunks(ROWS) {
            let known = chunk.iter().copied().zip(self.catalog.generations(chunk).await?);
            generations.extend(known.filter_map(|(parent, generation)| Some((parent, generation?))));
        }
        let mut sorted = with_generations(rows, generations).into_iter().peekable();
        while sorted.peek().is_some() {
            let source = Arc::clone(&quarantine);
            let (chunk, rest) = blocking(move || read_rows(&source, sorted)).await?;
            self.catalog.put_commits(&chunk).await?;
            sorted = rest;
        }
        Ok(())
    }
}

fn read_commit(quarantine: &Quarantine, oid: ObjectId) -> Result<CommitRow> {
    let (_, raw) = quarantine.read(&oid).map_err(unreadable)?.ok_or_else(|| EngineError::internal("lost commit"))?;
    commit_row(oid, raw)
}

type Rows = std::iter::Peekable<std::vec::IntoIter<CommitRow>>;

/// The next rows with their content, as many as are written at once.
fn read_rows(quarantine: &Quarantine, mut rows: Rows) -> Result<(Vec<CommitRow>, Rows)> {
    let mut chunk: Vec<CommitRow> = Vec::new();
    let mut bytes = 0;
    while chunk.len() < ROWS && bytes < ROW_BYTES {
        let Some(row) = rows.next() else { break };
        let raw = if row.raw.is_empty() { read_commit(quarantine, row.oid)?.raw } else { row.raw.clone() };
        bytes += raw.len();
        chunk.push(CommitRow { raw, ..row });
    }
    Ok((chunk, rows))
}

/// The row of a commit, its generation not known yet.
pub(crate) fn commit_row(oid: ObjectId, raw: Bytes) -> Result<CommitRow> {
    let bad = |_| EngineError::internal("a checked commit does not decode");
    let commit = gix_object::CommitRef::from_bytes(&raw, gix_hash::Kind::Sha1).map_err(bad)?;
    let time = commit.committer().map_err(bad)?.time().map_err(bad)?.seconds;
    let (tree, parents) = (commit.tree(), commit.parents().collect());
    drop(commit);
    Ok(CommitRow { oid, tree, parents, generation: 0, time, raw })
}

/// Gives each commit 1 + the largest generation of its known parents; parents come first.
pub(crate) fn with_generations(
    mut rows: HashMap<ObjectId, CommitRow>,
    mut generations: HashMap<ObjectId, u64>,
) -> Vec<CommitRow> {
    let mut sorted = Vec::with_capacity(rows.len());
    let mut starts: Vec<ObjectId> = rows.keys().copied().collect();
    starts.sort_unstable();
    for start in starts {
        let mut stack = vec![start];
        while let Some(oid) = stack.last().copied() {
            let Some(row) = rows.get(&oid) else {
                stack.pop();
                continue;
            };
            let waiting: Vec<ObjectId> =
                row.parents.iter().filter(|parent| rows.contains_key(*parent)).copied().collect();
            if !waiting.is_empty() {
                stack.extend(waiting);
                continue;
            }
            stack.pop();
            if let Some(mut row) = rows.remove(&oid) {
                let above = row.parents.iter().filter_map(|parent| generations.get(parent)).max();
                row.generation = 1 + above.copied().unwrap_or(0);
                generations.insert(oid, row.generation);
                sorted.push(row);
            }
        }
    }
    sorted
}
