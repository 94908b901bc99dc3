//! Commits and trees.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::ObjectId;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::graph::{CommitRow, Graph};
use crate::rows::{Rows, Type, runs, sql};

/// Steps of one recursive query. It meets a commit once per distance, so that long walks go in several.
const STEPS: i64 = 16;
/// Raw commits that one walk answers with beyond those that were asked for, bytes: they are read ahead of need, and a commit may be
/// megabytes long and have any number of parents that are.
const AHEAD_BYTES: i64 = 4 << 20;
/// Parents of one commit that are read ahead: whoever makes layers of commits that have all of the layer before as parents must not have
/// them gone through.
const AHEAD_PARENTS: usize = 16;
/// Commits that one query meets beyond those that were asked for, each once per distance.
const AHEAD_ROWS: i64 = 20_000;

type Row = (Vec<u8>, Vec<u8>, Vec<u8>, i64, i64, Vec<u8>);

/// A tree, a commit and one of a commit's parents, as the queries take them.
pub(super) const TREE: &[(&str, Type)] = &[("oid", Type::Blob), ("raw", Type::Blob)];
pub(super) const COMMIT: &[(&str, Type)] = &[
    ("oid", Type::Blob),
    ("tree", Type::Blob),
    ("parents", Type::Blob),
    ("generation", Type::Int),
    ("time", Type::Int),
    ("raw", Type::Blob),
];
pub(super) const PARENT: &[(&str, Type)] = &[("oid", Type::Blob), ("position", Type::Int), ("parent", Type::Blob)];

/// A row and its distance from where the query started.
type WalkedRow = (Vec<u8>, Vec<u8>, Vec<u8>, i64, i64, Vec<u8>, i64);

fn commit((oid, tree, parents, generation, time, raw): Row) -> Result<CommitRow, CatalogError> {
    Ok(CommitRow {
        oid: codec::oid(&oid)?,
        tree: codec::oid(&tree)?,
        parents: codec::split_oids(&parents)?,
        generation: codec::unsigned(generation)?,
        time,
        raw: raw.into(),
    })
}

impl Db {
    async fn put_commits_once(&self, commits: &[CommitRow]) -> Result<(), Fault> {
        if commits.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        put_commits_in(&mut tx, commits).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn find_commits(&self, wanted: &[ObjectId]) -> Result<Vec<Option<CommitRow>>, Fault> {
        let select = sql!("SELECT oid, tree, parents, generation, time, raw FROM commits WHERE oid {}", in_blobs(1));
        self.by_oid(select, wanted, |row| commit(row).map(|commit| (commit.oid, commit))).await
    }

    async fn find_generations(&self, wanted: &[ObjectId]) -> Result<Vec<Option<u64>>, Fault> {
        let mut found: HashMap<ObjectId, u64> = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK_ROWS) {
            let rows: Vec<(Vec<u8>, i64)> =
                sqlx::query_as(sql!("SELECT oid, generation FROM commits WHERE oid {}", in_blobs(1)))
                    .bind(oids(chunk))
                    .fetch_all(self.reader())
                    .await?;
            for (oid, generation) in rows {
                found.insert(codec::oid(&oid)?, codec::unsigned(generation)?);
            }
        }
        Ok(wanted.iter().map(|oid| found.get(oid).copied()).collect())
    }

    async fn walk_back(&self, tips: &[ObjectId], depth: u32) -> Result<Vec<CommitRow>, Fault> {
        let (mut left, mut room) = (i64::from(depth), AHEAD_BYTES);
        // What was asked for is answered whatever its size.
        let mut asked = 0;
        let mut next: Vec<ObjectId> = tips.to_vec();
        let mut seen: HashSet<ObjectId> = HashSet::new();
        let mut commits = Vec::new();
        loop {
            let steps = left.min(STEPS);
            let mut edge = Vec::new();
            for chunk in next.chunks(CHUNK_ROWS) {
                for (commit, distance) in self.walk_some(chunk, steps, (asked, room)).await? {
                    if distance == steps {
                        edge.extend(commit.parents.iter().take(AHEAD_PARENTS).copied());
                    }
                    if seen.insert(commit.oid) {
                        let spent = if distance > asked { commit.raw.len() as u64 } else { 0 };
                        room = room.saturating_sub_unsigned(spent);
                        commits.push(commit);
                    }
                }
            }
            // The parents of the edge are one step further.
            left -= steps + 1;
            edge.retain(|oid| !seen.contains(oid));
            edge.sort_unstable();
            edge.dedup();
            if left < 0 || edge.is_empty() || room <= 0 {
                return Ok(commits);
            }
            (next, asked) = (edge, -1);
        }
    }

    /// Commits at most so many steps back, and how many: all that are `asked` steps away or nearer, and of the others the nearest that
    /// `room` bytes hold. What is left out is not read.
    async fn walk_some(
        &self,
        tips: &[ObjectId],
        steps: i64,
        (asked, room): (i64, i64),
    ) -> Result<Vec<(CommitRow, i64)>, Fault> {
        let rows: Vec<WalkedRow> = sqlx::query_as(sql!(
            "WITH RECURSIVE walk (oid, distance) AS (
                 SELECT oid, CAST(0 AS BIGINT) FROM commits WHERE oid {}
                 UNION
                 SELECT p.parent, w.distance + 1 FROM walk w JOIN commit_parents p ON p.oid = w.oid
                 WHERE w.distance < $2 AND p.position < {AHEAD_PARENTS}
             ),
             met (oid, distance) AS (
                 SELECT w.oid, min(w.distance) FROM (SELECT oid, distance FROM walk LIMIT $5) w GROUP BY w.oid
             ),
             summed (oid, distance, bytes) AS (
                 SELECT m.oid, m.distance,
                     sum(CASE WHEN m.distance > $3 THEN length(c.raw) ELSE 0 END) OVER (ORDER BY m.distance, m.oid)
                 FROM met m JOIN commits c ON c.oid = m.oid
             )
             SELECT c.oid, c.tree, c.parents, c.generation, c.time, c.raw, s.distance
             FROM summed s JOIN commits c ON c.oid = s.oid
             WHERE s.distance <= $3 OR s.bytes <= $4",
            in_blobs(1)
        ))
        .bind(oids(tips))
        .bind(steps)
        .bind(asked)
        .bind(room)
        .bind(AHEAD_ROWS.saturating_add_unsigned(tips.len() as u64))
        .fetch_all(self.reader())
        .await?;
        let mut commits = Vec::with_capacity(rows.len());
        for (oid, tree, parents, generation, time, raw, distance) in rows {
            commits.push((commit((oid, tree, parents, generation, time, raw))?, distance));
        }
        Ok(commits)
    }

    async fn put_trees_once(&self, trees: &[(ObjectId, Bytes)]) -> Result<(), Fault> {
        if trees.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        put_trees_in(&mut tx, trees).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn find_trees(&self, wanted: &[ObjectId]) -> Result<Vec<Option<Bytes>>, Fault> {
        let select = sql!("SELECT oid, raw FROM trees WHERE oid {}", in_blobs(1));
        let tree = |(oid, raw): (Vec<u8>, Vec<u8>)| Ok((codec::oid(&oid)?, raw.into()));
        self.by_oid(select, wanted, tree).await
    }
}

pub(super) async fn put_commits_in(tx: &mut Transaction, commits: &[CommitRow]) -> Result<(), Fault> {
    let mut sorted: Vec<&CommitRow> = commits.iter().collect();
    sorted.sort_unstable_by_key(|commit| commit.oid);
    sorted.dedup_by_key(|commit| commit.oid);
    for chunk in runs(&sorted, CHUNK_ROWS, CHUNK_BYTES, |commit| commit.raw.len()) {
        put_commit_rows(tx, chunk).await?;
        put_parents(tx, chunk).await?;
    }
    Ok(())
}

pub(super) async fn put_trees_in(tx: &mut Transaction, trees: &[(ObjectId, Bytes)]) -> Result<(), Fault> {
    let mut sorted: Vec<&(ObjectId, Bytes)> = trees.iter().collect();
    sorted.sort_unstable_by_key(|(oid, _)| *oid);
    sorted.dedup_by_key(|(oid, _)| *oid);
    for chunk in runs(&sorted, CHUNK_ROWS, CHUNK_BYTES, |(_, raw)| raw.len()) {
        let insert = sql!("{}", trees_sql(1, "true"));
        sqlx::query_with(insert, with_rows(Arguments::default(), tree_values(chunk))?).execute(&mut **tx).await?;
    }
    Ok(())
}

/// SQL: records the trees that parameters from `$first` on hold, if the condition holds.
pub(super) fn trees_sql(first: usize, condition: &str) -> String {
    format!(
        "INSERT INTO trees (oid, raw) SELECT r.oid, r.raw FROM {} WHERE {condition} ON CONFLICT DO NOTHING",
        rows(first, TREE)
    )
}

/// Trees as rows of [`TREE`].
pub(super) fn tree_values(trees: &[&(ObjectId, Bytes)]) -> Rows {
    Rows::new().blobs(trees.iter().map(|(oid, _)| oid.as_slice().to_vec())).blobs(trees.iter().map(|(_, raw)| raw))
}

async fn put_commit_rows(tx: &mut Transaction, chunk: &[&CommitRow]) -> Result<(), Fault> {
    let insert = sql!("{}", commits_sql(1, "true"));
    sqlx::query_with(insert, with_rows(Arguments::default(), commit_values(chunk)?)?).execute(&mut **tx).await?;
    Ok(())
}

/// SQL: records the commits that parameters from `$first` on hold, if the condition holds.
pub(super) fn commits_sql(first: usize, condition: &str) -> String {
    format!(
        "INSERT INTO commits (oid, tree, parents, generation, time, raw)
         SELECT r.oid, r.tree, r.parents, r.generation, r.time, r.raw FROM {} WHERE {condition}
         ON CONFLICT (oid) DO UPDATE SET generation = excluded.generation
         WHERE commits.generation < excluded.generation",
        rows(first, COMMIT)
    )
}

/// Commits as rows of [`COMMIT`].
pub(super) fn commit_values(chunk: &[&CommitRow]) -> Result<Rows, CatalogError> {
    let generations: Vec<i64> =
        chunk.iter().map(|commit| codec::signed(commit.generation)).collect::<Result<_, _>>()?;
    Ok(Rows::new()
        .blobs(chunk.iter().map(|commit| commit.oid.as_slice().to_vec()))
        .blobs(chunk.iter().map(|commit| commit.tree.as_slice().to_vec()))
        .blobs(chunk.iter().map(|commit| codec::join_oids(&commit.parents)))
        .ints(generations)
        .ints(chunk.iter().map(|commit| commit.time))
        .blobs(chunk.iter().map(|commit| &commit.raw)))
}

async fn put_parents(tx: &mut Transaction, chunk: &[&CommitRow]) -> Result<(), Fault> {
    let edges: Vec<Edge> = chunk.iter().flat_map(|commit| edges_of(commit)).collect();
    for chunk in edges.chunks(CHUNK_ROWS) {
        let insert = sql!("{}", parents_sql(1, "true"));
        sqlx::query_with(insert, with_rows(Arguments::default(), parent_values(chunk))?).execute(&mut **tx).await?;
    }
    Ok(())
}

/// A commit, the place of a parent among its parents, and the parent.
pub(super) type Edge = (ObjectId, i64, ObjectId);

pub(super) fn edges_of(commit: &CommitRow) -> Vec<Edge> {
    (0..).zip(&commit.parents).map(|(position, parent)| (commit.oid, position, *parent)).collect()
}

/// SQL: records the parents that parameters from `$first` on hold, if the condition holds.
pub(super) fn parents_sql(first: usize, condition: &str) -> String {
    format!(
        "INSERT INTO commit_parents (oid, position, parent) SELECT r.oid, r.position, r.parent FROM {}
         WHERE {condition} ON CONFLICT DO NOTHING",
        rows(first, PARENT)
    )
}

/// Edges as rows of [`PARENT`].
pub(super) fn parent_values(edges: &[Edge]) -> Rows {
    Rows::new()
        .blobs(edges.iter().map(|(oid, ..)| oid.as_slice().to_vec()))
        .ints(edges.iter().map(|(_, position, _)| *position))
        .blobs(edges.iter().map(|(.., parent)| parent.as_slice().to_vec()))
}

#[async_trait]
impl Graph for Db {
    async fn put_commits(&self, commits: &[CommitRow]) -> Result<(), CatalogError> {
        run!("record commits", self.put_commits_once(commits))
    }

    async fn commits(&self, oids: &[ObjectId]) -> Result<Vec<Option<CommitRow>>, CatalogError> {
        run!("read commits", self.find_commits(oids))
    }

    async fn generations(&self, oids: &[ObjectId]) -> Result<Vec<Option<u64>>, CatalogError> {
        run!("read generations", self.find_generations(oids))
    }

    async fn commits_back(&self, tips: &[ObjectId], depth: u32) -> Result<Vec<CommitRow>, CatalogError> {
        run!("walk commits", self.walk_back(tips, depth))
    }

    async fn put_trees(&self, trees: &[(ObjectId, Bytes)]) -> Result<(), CatalogError> {
        run!("record trees", self.put_trees_once(trees))
    }

    async fn trees(&self, oids: &[ObjectId]) -> Result<Vec<Option<Bytes>>, CatalogError> {
        run!("read trees", self.find_trees(oids))
    }
}
