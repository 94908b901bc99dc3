//! A walk from refs to blobs over what is really stored.
//!
//! Commits are read some steps ahead, as the commit table knows them; what the table says is believed in nothing but that. Trees wait
//! until there are many to read at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use treehold_catalog::{CommitRow, InspectedObject, KeyState, RoaringTreemap};
use treehold_object::{Kind, ObjectId, parse_commit, parse_tag, tree};
use treehold_store::Object;
use uuid::Uuid;

use super::Run;
use super::finding::{Code, Damage, Finding, Findings, Level};
use super::objects::Look;
use super::repair::Wanted;
use crate::Result;

/// Steps of commits read ahead.
const STEPS: u32 = 63;
/// Commits from which one stride starts.
const STRIDE: usize = 64;
/// So many trees and tags are waited for before they are read.
const OTHERS: usize = 512;
/// Content of them that is read at once, bytes; a single one may be larger.
const BATCH_BYTES: u64 = 8 << 20;
/// Content of commits that is read ahead, bytes.
const AHEAD_BYTES: u64 = 16 << 20;
/// Edges that are looked up at once.
const EDGES: usize = 4096;
/// Objects whose numbers are kept at hand, and as many that were looked for in vain: most entries of a tree are those of the version before.
const KNOWN_MAX: usize = 500_000;
/// Objects that are looked for at once: whoever has one in memory may have all.
pub(super) const SOUGHT: usize = 16;

/// What refers to an object.
#[derive(Debug, Clone)]
pub(super) enum By {
    /// A ref or an attempt, in words.
    Root(Arc<str>),
    /// An object.
    Object(ObjectId),
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root(root) => f.write_str(root),
            Self::Object(oid) => write!(f, "object {oid}"),
        }
    }
}

/// A reference to an object.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub oid: ObjectId,
    /// What it must be, where the reference says so.
    pub kind: Option<Kind>,
    pub by: By,
}

/// A walk through one project.
#[derive(Debug)]
pub(super) struct Walk {
    pub project: Uuid,
    /// Commits whose parents were cut off.
    pub cut: HashSet<ObjectId>,
    /// Ledger numbers of what was reached.
    pub seen: RoaringTreemap,
    /// Only earlier values of refs lead to what comes now.
    pub past: bool,
    /// Blobs are read, too.
    pub blobs: bool,
    /// What is not repaired.
    pub found: Findings,
    /// What is.
    pub repaired: Findings,
    /// Whether there is damage among what is not.
    pub lost: bool,
    /// Rows that commits lack, of those that were just read.
    pub rowless: Vec<CommitRow>,
    /// The same for rows of their parents, and what is wrong with them.
    pub parentless: Vec<(ObjectId, String)>,
    /// Rows were added.
    pub added: bool,
    /// Rows have no generation: a repair that added them was cut off.
    pub unnumbered: bool,
    known: HashMap<ObjectId, Kind>,
    /// What was looked for, once, and not found: a tree that is kept in a thousand versions names it a thousand times.
    absent: HashSet<ObjectId>,
    commits: Vec<InspectedObject>,
    others: Vec<InspectedObject>,
}

impl Walk {
    pub fn new(project: Uuid, cut: HashSet<ObjectId>, blobs: bool) -> Self {
        Self {
            project,
            cut,
            seen: RoaringTreemap::new(),
            past: false,
            blobs,
            found: Findings::default(),
            repaired: Findings::default(),
            lost: false,
            rowless: Vec::new(),
            parentless: Vec::new(),
            added: false,
            unnumbered: false,
            known: HashMap::new(),
            absent: HashSet::new(),
            commits: Vec::new(),
            others: Vec::new(),
        }
    }

    pub fn find(&mut self, damage: Damage, subject: impl Into<String>, repaired: bool) {
        let finding = Finding::new(damage, subject, Some(self.project), repaired);
        self.lost |= finding.level == Level::Error && !repaired;
        let list = if repaired { &mut self.repaired } else { &mut self.found };
        list.add(finding);
    }

    /// Remembers what the ledger does not have; `true`: it was not looked for before.
    fn misses(&mut self, oid: ObjectId) -> bool {
        if self.absent.len() >= KNOWN_MAX {
            self.absent.clear();
        }
        self.absent.insert(oid)
    }

    /// Remembers an object; `true`: it was not reached before.
    fn enter(&mut self, oid: ObjectId, kind: Kind, number: u64) -> bool {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(oid, kind);
        self.seen.insert(number)
    }

    fn check_kind(&mut self, edge: &Edge, kind: Kind) {
        if let Some(expected) = edge.kind.filter(|expected| *expected != kind) {
            let detail = format!("{} says that it is a {expected}, the ledger that it is a {kind}", edge.by);
            self.find(Damage::new(Code::ObjectKind, detail), edge.oid.to_string(), false);
        }
    }

    /// The next trees, tags and blobs to read.
    fn batch(&mut self) -> Vec<InspectedObject> {
        let (mut batch, mut bytes) = (Vec::new(), 0u64);
        while let Some(next) = self.others.last() {
            bytes = bytes.saturating_add(next.size);
            if !batch.is_empty() && (bytes > BATCH_BYTES || batch.len() >= OTHERS) {
                break;
            }
            batch.extend(self.others.pop());
        }
        batch
    }
}

impl Run<'_> {
    /// Reads all that the edges lead to and that was not reached before.
    pub(super) async fn follow(&mut self, walk: &mut Walk, edges: Vec<Edge>) -> Result<()> {
        self.admit(walk, edges).await?;
        loop {
            if !walk.commits.is_empty() && walk.others.len() < OTHERS {
                let from = walk.commits.len().saturating_sub(STRIDE);
                let frontier = walk.commits.split_off(from);
                self.stride(walk, frontier).await?;
            } else if !walk.others.is_empty() {
                let batch = walk.batch();
                self.expand(walk, batch).await?;
            } else {
                return Ok(());
            }
            let checked = &self.state.checked;
            self.progress.step("walking histories", checked.commits + checked.trees + checked.blobs, None);
        }
    }

    /// Looks up what edges lead to.
    async fn admit(&mut self, walk: &mut Walk, edges: Vec<Edge>) -> Result<()> {
        for chunk in edges.chunks(EDGES) {
            let mut unknown = Vec::new();
            for edge in chunk {
                match walk.known.get(&edge.oid).copied() {
                    Some(kind) => walk.check_kind(edge, kind),
                    None => unknown.push(edge),
                }
            }
            let mut oids: Vec<ObjectId> = unknown.iter().map(|edge| edge.oid).collect();
            oids.sort_unstable();
            oids.dedup();
            let found = self.engine.catalog.inspect_objects(&oids).await?;
            let found: HashMap<ObjectId, InspectedObject> =
                found.into_iter().flatten().map(|row| (row.oid, row)).collect();
            let mut missed = Vec::new();
            for edge in unknown {
                match found.get(&edge.oid) {
                    Some(row) => self.enter(walk, edge, row).await?,
                    // The one object that need not be stored anywhere.
                    None if edge.oid.is_empty_tree() => {}
                    None if walk.misses(edge.oid) => missed.push(edge),
                    None => {}
                }
            }
            for edges in missed.chunks(SOUGHT) {
                self.seek(walk, edges).await?;
            }
        }
        Ok(())
    }

    async fn enter(&mut self, walk: &mut Walk, edge: &Edge, row: &InspectedObject) -> Result<()> {
        walk.check_kind(edge, row.kind);
        if !walk.enter(row.oid, row.kind, row.number) {
            return Ok(());
        }
        if !row.live {
            self.revive(walk, edge, row).await?;
        }
        let checked = &mut self.state.checked;
        match row.kind {
            Kind::Commit => checked.commits += 1,
            Kind::Tree => checked.trees += 1,
            Kind::Blob => checked.blobs += 1,
            Kind::Tag => checked.tags += 1,
        }
        match row.kind {
            Kind::Commit => walk.commits.push(row.clone()),
            Kind::Blob if !walk.blobs => {}
            _ => walk.others.push(row.clone()),
        }
        Ok(())
    }

    /// Objects that the ledger has not, each by one edge that leads to it.
    async fn seek(&mut self, walk: &mut Walk, edges: &[&Edge]) -> Result<()> {
        // Its remote hears of what the project reaches, not of what it once did.
        let project = (!walk.past).then_some(walk.project);
        let wanted = edges.iter().map(|edge| Wanted { oid: edge.oid, kind: edge.kind, row: None, project });
        let rescued: HashSet<ObjectId> = self.rescue(wanted.collect()).await?.into_keys().collect();
        for edge in edges {
            let code = match &edge.by {
                _ if walk.past => Code::ReflogBroken,
                By::Root(_) => Code::RefBroken,
                By::Object(_) => Code::ObjectMissing,
            };
            let detail = format!("{} refers to it, the ledger does not have it", edge.by);
            walk.find(Damage::new(code, detail), edge.oid.to_string(), rescued.contains(&edge.oid));
        }
        for edge in edges.iter().filter(|edge| rescued.contains(&edge.oid)) {
            if let Some(row) = self.engine.catalog.inspect_objects(&[edge.oid]).await?.pop().flatten() {
                self.enter(walk, edge, &row).await?;
            }
        }
        Ok(())
    }

    /// An object that the collector has condemned although it is reached; not so if it was revived meanwhile.
    async fn revive(&mut self, walk: &mut Walk, edge: &Edge, row: &InspectedObject) -> Result<()> {
        let now = self.engine.catalog.inspect_objects(&[row.oid]).await?.pop().flatten();
        if walk.past || now.is_none_or(|now| now.live) {
            return Ok(());
        }
        let revived = self.repairs() && self.pin_again(row.oid).await?;
        let detail = format!("{} refers to it, the collector has condemned it", edge.by);
        walk.find(Damage::new(Code::ObjectCondemned, detail), row.oid.to_string(), revived);
        Ok(())
    }

    /// Commits and, as far as the commit table knows them, those behind them.
    async fn stride(&mut self, walk: &mut Walk, frontier: Vec<InspectedObject>) -> Result<()> {
        let tips: Vec<ObjectId> = frontier.iter().map(|row| row.oid).collect();
        let rows = self.engine.catalog.commits_back(&tips, STEPS).await?;
        let rows: HashMap<ObjectId, CommitRow> = rows.into_iter().map(|row| (row.oid, row)).collect();
        let ahead: Vec<ObjectId> = rows.keys().filter(|oid| !walk.known.contains_key(*oid)).copied().collect();
        let mut all = frontier;
        let mut bytes = 0u64;
        for row in self.engine.catalog.inspect_objects(&ahead).await?.into_iter().flatten() {
            let present = matches!(row.key, Some((_, KeyState::Present)));
            bytes = bytes.saturating_add(row.size);
            if row.live
                && row.kind == Kind::Commit
                && present
                && !walk.seen.contains(row.number)
                && bytes <= AHEAD_BYTES
            {
                all.push(row);
            }
        }
        let looks = self.look(&all).await?;
        let oids: Vec<ObjectId> = all.iter().map(|row| row.oid).collect();
        let parents = self.engine.catalog.inspect_parents(&oids).await?;
        let mut read: HashMap<ObjectId, (InspectedObject, Look, Vec<ObjectId>)> = HashMap::with_capacity(all.len());
        for ((row, look), parents) in all.into_iter().zip(looks).zip(parents) {
            read.insert(row.oid, (row, look, parents));
        }
        let (mut open, mut edges) = (tips, Vec::new());
        while let Some(oid) = open.pop() {
            let Some((row, look, parents)) = read.remove(&oid) else { continue };
            let Some(object) = self.content_of(walk, &row, look).await? else { continue };
            compare_commit(walk, &object, rows.get(&oid), &parents);
            for edge in commit_edges(walk, &object) {
                match read.get(&edge.oid) {
                    Some((row, ..)) => {
                        if walk.enter(row.oid, row.kind, row.number) {
                            self.state.checked.commits += 1;
                            open.push(edge.oid);
                        }
                    }
                    None => edges.push(edge),
                }
            }
        }
        // Their content is in memory: no more than that of one stride.
        self.add_commit_rows(walk).await?;
        self.admit(walk, edges).await
    }

    /// Trees, tags and blobs.
    async fn expand(&mut self, walk: &mut Walk, batch: Vec<InspectedObject>) -> Result<()> {
        let looks = self.look(&batch).await?;
        let trees: Vec<ObjectId> = batch.iter().filter(|row| row.kind == Kind::Tree).map(|row| row.oid).collect();
        let copies = self.engine.catalog.trees(&trees).await?;
        let copies: HashMap<ObjectId, _> =
            trees.into_iter().zip(copies).filter_map(|(oid, raw)| Some((oid, raw?))).collect();
        let mut edges = Vec::new();
        for (row, look) in batch.iter().zip(looks) {
            let Some(object) = self.content_of(walk, row, look).await? else { continue };
            if copies.get(&row.oid).is_some_and(|copy| *copy != object.content) {
                let damage = Damage::new(Code::TreeRowStale, "its row in the tree table has other bytes");
                walk.find(damage, row.oid.to_string(), false);
            }
            match object.kind {
                Kind::Tree => edges.extend(tree_edges(&object)),
                Kind::Tag => edges.extend(tag_edge(&object)),
                Kind::Blob | Kind::Commit => {}
            }
            if edges.len() >= EDGES {
                self.admit(walk, std::mem::take(&mut edges)).await?;
            }
        }
        self.admit(walk, edges).await
    }

    /// The content to go on with, from its place or from another copy; what is wrong is told.
    async fn content_of(&mut self, walk: &mut Walk, row: &InspectedObject, look: Look) -> Result<Option<Object>> {
        match look {
            Look::Whole(object) => Ok(Some(object)),
            Look::Odd(object, damage) => {
                walk.find(damage, row.oid.to_string(), false);
                Ok(Some(object))
            }
            Look::Damaged(damage) => {
                let project = (!walk.past).then_some(walk.project);
                let wanted = Wanted { project, ..Wanted::of(row) };
                let object = self.rescue(vec![wanted]).await?.remove(&row.oid);
                let damage = if walk.past { Damage { code: Code::ReflogBroken, ..damage } } else { damage };
                walk.find(damage, row.oid.to_string(), object.is_some());
                Ok(object)
            }
            Look::Gone => {
                let code = if walk.past { Code::ReflogBroken } else { Code::ObjectMissing };
                let damage = Damage::new(code, "it left the ledger while the project was walked");
                walk.find(damage, row.oid.to_string(), false);
                Ok(None)
            }
        }
    }
}

/// Compares a commit with its rows, whose parents stand in two tables.
fn compare_commit(walk: &mut Walk, object: &Object, row: Option<&CommitRow>, parents: &[ObjectId]) {
    let oid = object.oid;
    let Ok(commit) = parse_commit(&object.content) else { return };
    let Some(row) = row else {
        if let Ok(row) = crate::intake::commit_row(oid, object.content.clone()) {
            walk.rowless.push(row);
        }
        return;
    };
    walk.unnumbered |= row.generation == 0;
    if row.raw != object.content || row.tree != commit.tree || row.parents != commit.parents {
        walk.find(
            Damage::new(Code::CommitRowStale, "its row in the commit table is another commit"),
            oid.to_string(),
            false,
        );
    }
    if parents != commit.parents {
        let detail = format!("{} parents are on record, it has {}", parents.len(), commit.parents.len());
        walk.parentless.push((oid, detail));
    }
}

/// What does not parse was told when it was read.
fn commit_edges(walk: &Walk, object: &Object) -> Vec<Edge> {
    let Ok(commit) = parse_commit(&object.content) else { return Vec::new() };
    let by = || By::Object(object.oid);
    let parents = commit.parents.into_iter().filter(|_| !walk.cut.contains(&object.oid));
    let parents = parents.map(|oid| Edge { oid, kind: Some(Kind::Commit), by: by() });
    parents.chain([Edge { oid: commit.tree, kind: Some(Kind::Tree), by: by() }]).collect()
}

/// Submodules are commits of other repositories; the null id, which old trees may have, is nothing.
fn tree_edges(object: &Object) -> Vec<Edge> {
    let entries = tree::entries(&object.content).map_while(std::result::Result::ok);
    let entries = entries.filter(|entry| !tree::mode::is_gitlink(entry.mode) && !entry.oid.is_null());
    let edge = |entry: tree::TreeEntry<'_>| {
        let kind = if tree::mode::is_tree(entry.mode) { Kind::Tree } else { Kind::Blob };
        Edge { oid: entry.oid, kind: Some(kind), by: By::Object(object.oid) }
    };
    entries.map(edge).collect()
}

fn tag_edge(object: &Object) -> Option<Edge> {
    let tag = parse_tag(&object.content).ok()?;
    Some(Edge { oid: tag.target, kind: Some(tag.kind), by: By::Object(object.oid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a walk keeps does not grow with the damage. Method: more damage than is told, and one object that is missed again and again.
    #[test]
    fn damage_is_counted_and_not_kept() {
        let mut walk = Walk::new(Uuid::nil(), HashSet::new(), false);
        let lost = |walk: &mut Walk, number: u32, repaired| {
            walk.find(Damage::new(Code::ObjectMissing, "x"), format!("{number}"), repaired);
        };
        (0..5000).for_each(|number| lost(&mut walk, number, true));
        walk.find(Damage::new(Code::ReflogBroken, "x"), "a", false);
        assert!(!walk.lost, "what is repaired is not lost, nor what only the past had");
        (5000..9000).for_each(|number| lost(&mut walk, number, false));
        assert!(walk.lost);
        assert_eq!((walk.found.kept.len(), walk.found.count(Level::Error)), (1000, 4000));
        assert_eq!((walk.repaired.kept.len(), walk.repaired.repaired), (1000, 5000));
        let missed: Vec<bool> = (0..3).map(|_| walk.misses(ObjectId::null(gix_hash::Kind::Sha1))).collect();
        assert_eq!(missed, [true, false, false], "looked for once");
    }
}
