//! What roots reach, found by walking (docs/reliability.md, G3).
//!
//! Objects are ledger numbers here and sets of them compressed bitmaps: what was reached and what is still to be looked at take a few
//! bits for each object. Numbers of one pack lie together, and the lowest come first, so that neighbours are read at once.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::StreamExt;
use treehold_catalog::{Lineage, Located, RoaringTreemap, RootSet};
use treehold_object::{Kind, ObjectId, parse_commit, parse_tag, runs};
use treehold_store::StoreError;

use crate::progress::Progress;
use crate::tree::{GITLINK, entries};
use crate::{Engine, EngineError, Result};

/// Commits or trees looked at in one step.
const STEP: usize = 1024;
/// How many generations of commits are read ahead of a few; many at a time need no look ahead.
const AHEAD: u32 = 32;
const FEW: usize = 64;
/// Content of trees read at once, bytes; a single one may be larger.
const WINDOW: u64 = 4 << 20;
/// Ids that are known to be reached already, so that the ledger need not be asked again.
pub(crate) const KNOWN_MAX: usize = 1 << 19;

/// What to do about an object that is named and not in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It is damage: the walk ends.
    Refuse,
    /// It is not needed: the walk goes around it.
    Skip,
}

/// A walk, and what it has reached.
pub(crate) struct Marking<'a> {
    engine: &'a Engine,
    progress: &'a dyn Progress,
    /// Objects of the ledger, for the progress.
    total: Option<u64>,
    reached: RoaringTreemap,
    /// Commits and tags whose history was walked to its end, whatever any project cuts off.
    whole: RoaringTreemap,
    known: HashSet<ObjectId>,
}

/// What is still to be looked at.
#[derive(Default)]
struct Open {
    /// Where the walk began, commits and tags.
    history: RoaringTreemap,
    trees: RoaringTreemap,
}

/// One pass over histories that end in the same places.
struct Pass<'s> {
    set: &'s RootSet,
    absent: Absent,
    /// Commits and tags of this pass; those of one that cuts nothing off are [`Marking::whole`].
    seen: RoaringTreemap,
}

impl<'a> Marking<'a> {
    pub fn new(engine: &'a Engine, progress: &'a dyn Progress, total: Option<u64>) -> Self {
        let (reached, whole, known) = (RoaringTreemap::new(), RoaringTreemap::new(), HashSet::new());
        Self { engine, progress, total, reached, whole, known }
    }

    /// Ledger numbers of everything reached.
    pub fn reached(self) -> RoaringTreemap {
        self.reached
    }

    /// Walks from everything that must be there, then from what is kept as far as it is there. Sets that cut nothing off come first.
    pub async fn walk(&mut self, sets: &[RootSet]) -> Result<()> {
        let pass = |set| Pass { set, absent: Absent::Refuse, seen: RoaringTreemap::new() };
        let mut passes: Vec<Pass<'_>> = sets.iter().map(pass).collect();
        for absent in [Absent::Refuse, Absent::Skip] {
            for pass in &mut passes {
                pass.absent = absent;
                self.walk_from(pass).await?;
                if pass.set.cuts.is_empty() {
                    self.whole |= &pass.seen;
                }
            }
        }
        Ok(())
    }

    async fn walk_from(&mut self, pass: &mut Pass<'_>) -> Result<()> {
        let roots = if pass.absent == Absent::Refuse { &pass.set.firm } else { &pass.set.loose };
        let mut open = Open { history: roots.clone(), trees: RoaringTreemap::new() };
        loop {
            if !open.history.is_empty() {
                let step = take_lowest(&mut open.history);
                self.history(step, &mut open, pass).await?;
            } else if !open.trees.is_empty() {
                let step = take_lowest(&mut open.trees);
                self.trees(step, &mut open, pass.absent).await?;
            } else {
                return Ok(());
            }
            self.progress.step("marking", self.reached.len(), self.total);
        }
    }

    /// One step through roots, commits and tags.
    async fn history(&mut self, mut step: Vec<u64>, open: &mut Open, pass: &mut Pass<'_>) -> Result<()> {
        step.retain(|number| !self.whole.contains(*number) && !pass.seen.contains(*number));
        let located = self.locate(&step, pass.absent).await?;
        let (mut commits, mut tags) = (Vec::new(), Vec::new());
        for object in located {
            let new = self.reached.insert(object.number);
            match object.kind {
                Kind::Blob => {}
                Kind::Tree => _ = new && open.trees.insert(object.number),
                Kind::Commit if pass.seen.insert(object.number) => commits.push(object),
                Kind::Tag if pass.seen.insert(object.number) => tags.push(object),
                Kind::Commit | Kind::Tag => {}
            }
        }
        let mut edges = self.commits(&commits, pass).await?;
        for window in runs(&tags, WINDOW, |tag| tag.size) {
            for (_, content) in self.contents(window, pass.absent).await? {
                edges.push(parse_tag(&content).map_err(EngineError::internal)?.target);
            }
        }
        self.follow(edges, open, pass.absent).await
    }

    /// One step through trees.
    async fn trees(&mut self, step: Vec<u64>, open: &mut Open, absent: Absent) -> Result<()> {
        let located = self.locate(&step, absent).await?;
        for window in runs(&located, WINDOW, |found| found.size) {
            let mut edges = Vec::new();
            for (_, raw) in self.contents(window, absent).await? {
                for entry in entries(&raw) {
                    let (_, item) = entry?;
                    if item.mode != GITLINK && !self.known.contains(&item.oid) {
                        edges.push(item.oid);
                    }
                }
            }
            self.follow(edges, open, absent).await?;
        }
        Ok(())
    }

    /// Marks what is named, and opens what is not a blob.
    async fn follow(&mut self, mut edges: Vec<ObjectId>, open: &mut Open, absent: Absent) -> Result<()> {
        edges.sort_unstable();
        edges.dedup();
        for (oid, found) in edges.iter().zip(self.engine.catalog.numbers(&edges).await?) {
            let Some((number, kind)) = found else {
                // The one object that need not be stored anywhere.
                if absent == Absent::Refuse && !oid.is_empty_tree() {
                    return Err(lost(oid));
                }
                continue;
            };
            match kind {
                Kind::Commit | Kind::Tag => _ = open.history.insert(number),
                Kind::Tree => _ = self.reached.insert(number) && open.trees.insert(number),
                Kind::Blob => _ = self.reached.insert(number),
            }
            if matches!(kind, Kind::Tree | Kind::Blob) {
                self.remember(*oid);
            }
        }
        Ok(())
    }

    fn remember(&mut self, oid: ObjectId) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(oid);
    }

    async fn locate(&self, numbers: &[u64], absent: Absent) -> Result<Vec<Located>> {
        let located = self.engine.catalog.locate_numbers(numbers).await?;
        if located.len() < numbers.len() && absent == Absent::Refuse {
            return Err(EngineError::internal("a reachable object is not in the ledger any more: run `admin verify`"));
        }
        Ok(located)
    }

    /// What commits name, and those before them as far as one look at the commit table shows them; the others are read from the bucket.
    async fn commits(&mut self, located: &[Located], pass: &mut Pass<'_>) -> Result<Vec<ObjectId>> {
        let tips: Vec<ObjectId> = located.iter().map(|object| object.oid).collect();
        let steps = if tips.len() > FEW { 0 } else { AHEAD };
        let ahead = self.engine.catalog.lineage(&tips, steps).await?;
        let oids: Vec<ObjectId> = ahead.iter().map(|commit| commit.oid).collect();
        let numbers = self.engine.catalog.numbers(&oids).await?;
        // One that is not in the ledger is named again by its children, and judged then.
        let ahead: HashMap<ObjectId, (u64, Lineage)> = (ahead.into_iter().zip(numbers))
            .filter_map(|(commit, found)| Some((commit.oid, (found?.0, commit))))
            .collect();
        let mut edges = Vec::new();
        let mut open: Vec<(u64, ObjectId)> = located.iter().map(|object| (object.number, object.oid)).collect();
        let mut unknown = HashSet::new();
        while let Some((number, oid)) = open.pop() {
            let Some((_, commit)) = ahead.get(&oid) else {
                unknown.insert(number);
                continue;
            };
            edges.push(commit.tree);
            let parents = if pass.set.cuts.contains(number) { &[][..] } else { &commit.parents };
            for parent in parents {
                match ahead.get(parent) {
                    Some((number, _)) if self.whole.contains(*number) => {}
                    Some((number, _)) if pass.seen.insert(*number) => {
                        self.reached.insert(*number);
                        open.push((*number, *parent));
                    }
                    Some(_) => {}
                    None => edges.push(*parent),
                }
            }
        }
        let unknown: Vec<Located> = located.iter().filter(|object| unknown.contains(&object.number)).cloned().collect();
        for window in runs(&unknown, WINDOW, |found| found.size) {
            for (object, raw) in self.contents(window, pass.absent).await? {
                let commit = parse_commit(&raw).map_err(EngineError::internal)?;
                edges.push(commit.tree);
                if !pass.set.cuts.contains(object.number) {
                    edges.extend(commit.parents);
                }
            }
        }
        Ok(edges)
    }

    /// Contents from the bucket. One that cannot be read ends the walk, unless it is gone from the ledger and not needed.
    async fn contents(&self, located: &[Located], absent: Absent) -> Result<Vec<(Located, Bytes)>> {
        let locations = self.engine.locations(located).await?;
        let read: Vec<_> = self.engine.store.stream_many(locations).collect().await;
        let mut contents = Vec::with_capacity(located.len());
        for (object, read) in located.iter().zip(read) {
            let read = match read {
                // Moved by a repack meanwhile, or damaged: the ledger knows.
                Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => {
                    match self.engine.catalog.locate(&[object.oid]).await?.pop().flatten() {
                        Some(found) => self.engine.read_located(&[found]).await?.pop(),
                        None if absent == Absent::Skip => continue,
                        None => return Err(lost(&object.oid)),
                    }
                }
                read => Some(read),
            };
            let read = read.unwrap_or_else(|| Err(StoreError::Missing { key: object.key.clone() }));
            let read = read.map_err(|error| EngineError::of_damage(error, Some(&object.oid)))?;
            contents.push((object.clone(), read.content));
        }
        Ok(contents)
    }
}

fn lost(oid: &ObjectId) -> EngineError {
    let source = format!("object {oid} is named by a reachable one and is not in the ledger").into();
    EngineError::Damaged { what: format!("object {oid}"), source }
}

/// Takes as many numbers as one step looks at, from the lowest on.
pub(crate) fn take_lowest(numbers: &mut RoaringTreemap) -> Vec<u64> {
    let step: Vec<u64> = numbers.iter().take(STEP).collect();
    if let (Some(first), Some(last)) = (step.first(), step.last()) {
        numbers.remove_range(*first..=*last);
    }
    step
}
