//! Three-way merge: of one text, of one path, of whole trees.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::sync::Semaphore;
use treehold_object::{BString, Kind, ObjectId, hash};
use uuid::Uuid;

use super::{Added, Candidates, Change, Edits, FOLLOWED_MAX, Item, Side};
use crate::api::{Conflict, Oid, Path};
use crate::{Engine, EngineError, Result};

/// Longer texts do not merge, bytes: three of them, and tables of their lines, are in memory at once.
const MERGED_MAX: u64 = 16 << 20;
/// Texts up to this size are merged at once, however many, bytes…
const MERGED_FREE: u64 = 1 << 20;
/// …and longer ones so many at a time.
static LONG_MERGES: Semaphore = Semaphore::const_new(2);

/// What a path becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution3 {
    /// The side that the branch has stays.
    Theirs,
    /// Our side replaces it.
    Ours,
    /// The bytes that one side has, with the mode of the other.
    Mode(Item),
    /// A new text, merged.
    Text { mode: u32, oid: ObjectId, content: Bytes },
    /// It does not merge.
    Conflict,
}

/// What a change starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// The blob; `None` = there was no file.
    pub oid: Option<ObjectId>,
    /// Its mode; `None` also for pending work of before modes were kept.
    pub mode: Option<u32>,
}

impl From<Side> for Base {
    fn from(side: Side) -> Self {
        Self { oid: side.map(|item| item.oid), mode: side.map(|item| item.mode) }
    }
}

impl Base {
    /// Whether this side changed nothing, as far as is known.
    pub fn is(&self, side: Side) -> bool {
        let same_mode = |item: Item| self.mode.is_none_or(|mode| mode == item.mode);
        self.oid == side.map(|item| item.oid) && side.is_none_or(same_mode)
    }
}

/// The mode of a file, as git merges modes: the side that changed it has its way, and where nobody knows, ours has.
pub(crate) fn merge_mode(base: Option<u32>, ours: u32, theirs: u32) -> u32 {
    if base == Some(ours) { theirs } else { ours }
}

/// What a path becomes, and its bytes if they are new.
type Arrived = (Side, Option<(ObjectId, Bytes)>);

/// A merge of whole trees.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Edits to `theirs` that give the merged tree.
    pub edits: Edits,
    /// Texts that the merge made.
    pub blobs: Vec<(ObjectId, Bytes)>,
    /// Paths that do not merge.
    pub conflicts: Vec<Conflict>,
}

/// Merges three texts line by line as git's `merge-file` does; `None` = they overlap, or one is binary.
pub(crate) fn merge_text(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    use gix_merge::blob::{Resolution, builtin_driver};
    if [base, ours, theirs].iter().any(|text| is_binary(text)) {
        return None;
    }
    let mut merged = Vec::new();
    let mut input = gix_diff::blob::InternedInput::default();
    let options =
        builtin_driver::text::Options { diff_algorithm: gix_diff::blob::Algorithm::Histogram, ..Default::default() };
    let resolution = builtin_driver::text(&mut merged, &mut input, Default::default(), ours, base, theirs, options);
    (resolution == Resolution::Complete).then_some(merged)
}

/// Git's rule: a NUL among the first 8,000 bytes.
pub(crate) fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(8000)].contains(&0)
}

pub(crate) fn is_file(mode: u32) -> bool {
    mode == super::FILE || mode == 0o100755
}

/// Two new files at one path: as in git they merge from nothing, and where one of them is empty that is the other one.
fn both_new(ours: Item, theirs: Item) -> Resolution3 {
    if !is_file(ours.mode) || ours.mode != theirs.mode {
        return Resolution3::Conflict;
    }
    match (ours.oid.is_empty_blob(), theirs.oid.is_empty_blob()) {
        (true, _) => Resolution3::Theirs,
        (_, true) => Resolution3::Ours,
        _ => Resolution3::Conflict,
    }
}

impl Engine {
    /// Merges one path as git does, its mode too: the sides are what the edit and the branch have. A mode of the base that is not known
    /// counts as the one that the edit did not keep. A pending edit may rest on one of its own project's that was never stored anywhere else:
    /// `pending_of` is that project.
    pub(crate) async fn merge_path(
        &self,
        pending_of: Option<Uuid>,
        base: Base,
        ours: Side,
        theirs: Side,
        ours_content: Option<Bytes>,
    ) -> Result<Resolution3> {
        if ours == theirs {
            return Ok(Resolution3::Theirs);
        }
        if base.is(theirs) {
            return Ok(Resolution3::Ours);
        }
        let (Some(our), Some(their)) = (ours, theirs) else {
            return Ok(if base.is(ours) { Resolution3::Theirs } else { Resolution3::Conflict });
        };
        let unknown = base.oid.is_some() && base.mode.is_none();
        if unknown && our.oid == their.oid {
            return Ok(Resolution3::Ours);
        }
        if base.is(ours) {
            return Ok(Resolution3::Theirs);
        }
        let Some(base_oid) = base.oid else { return Ok(both_new(our, their)) };
        if !is_file(our.mode) || !is_file(their.mode) {
            return Ok(Resolution3::Conflict);
        }
        if base.mode.is_some_and(|mode| !is_file(mode)) {
            return Ok(both_new(our, their));
        }
        let mode = merge_mode(base.mode, our.mode, their.mode);
        let kept = |item: Item| match (Item { mode, ..item }) {
            kept if kept == our => Resolution3::Ours,
            kept if kept == their => Resolution3::Theirs,
            kept => Resolution3::Mode(kept),
        };
        if our.oid == their.oid || their.oid == base_oid {
            return Ok(kept(our));
        }
        if our.oid == base_oid {
            return Ok(kept(their));
        }
        let Some(merged) = self.merge_texts(pending_of, base_oid, [our.oid, their.oid], ours_content).await? else {
            return Ok(Resolution3::Conflict);
        };
        let oid = hash(Kind::Blob, &merged).map_err(EngineError::internal)?;
        Ok(Resolution3::Text { mode, oid, content: merged })
    }

    /// Merges three blobs as texts; `None` = they do not merge, one is too long for that, or cannot be read.
    async fn merge_texts(
        &self,
        pending_of: Option<Uuid>,
        base: ObjectId,
        [ours, theirs]: [ObjectId; 2],
        ours_content: Option<Bytes>,
    ) -> Result<Option<Bytes>> {
        let mut wanted = vec![base, theirs];
        if ours_content.is_none() {
            wanted.push(ours);
        }
        // Before any is read.
        let sought = self.seek(&wanted).await?;
        let longest = sought.largest().max(ours_content.as_ref().map_or(0, |content| content.len() as u64));
        if longest > MERGED_MAX {
            return Ok(None);
        }
        let (objects, _turn) = match longest > MERGED_FREE {
            true => {
                // Who waits holds none of them.
                drop(sought);
                let turn = LONG_MERGES.acquire().await.map_err(EngineError::internal)?;
                (self.objects(&wanted).await?, Some(turn))
            }
            false => (self.read_sought(sought).await?, None),
        };
        let mut contents = objects.into_iter().map(|object| object.map(|object| object.content));
        let (Some(stored), Some(Some(theirs))) = (contents.next(), contents.next()) else { return Ok(None) };
        let base = match (stored, pending_of) {
            (None, Some(project)) => self.catalog.pending_contents(project, &[base]).await?.pop().flatten(),
            (stored, _) => stored,
        };
        let Some(base) = base else { return Ok(None) };
        let Some(ours) = ours_content.or_else(|| contents.next().flatten()) else { return Ok(None) };
        let merged = tokio::task::spawn_blocking(move || merge_text(&base, &ours, &theirs)).await;
        Ok(merged.map_err(EngineError::internal)?.map(Bytes::from))
    }

    /// Merges what happened from `base` to `ours` into `theirs`.
    pub(crate) async fn merge_trees(
        &self,
        base: Option<ObjectId>,
        ours: Option<ObjectId>,
        theirs: Option<ObjectId>,
    ) -> Result<Merged> {
        let our_changes = self.diff_trees(base, ours).await?;
        let their_changes: BTreeMap<BString, Change> =
            self.diff_trees(base, theirs).await?.into_iter().map(|change| (change.path.clone(), change)).collect();
        let mut merged = Merged { edits: Edits::new(), blobs: Vec::new(), conflicts: Vec::new() };
        let mut apart = Vec::new();
        for change in &our_changes {
            let change = change.clone();
            let theirs = match their_changes.get(&change.path) {
                Some(theirs) => theirs.new,
                None if blocked(&change.path, change.new, &their_changes) => {
                    merged.conflicts.push(conflict(change.path, change.old, change.new, None));
                    continue;
                }
                None => {
                    merged.edits.insert(change.path, change.new);
                    continue;
                }
            };
            match self.merge_path(None, change.old.into(), change.new, theirs, None).await? {
                Resolution3::Theirs => {}
                Resolution3::Ours => {
                    merged.edits.insert(change.path, change.new);
                }
                Resolution3::Mode(item) => {
                    merged.edits.insert(change.path, Some(item));
                }
                Resolution3::Text { mode, oid, content } => {
                    merged.blobs.push((oid, content));
                    merged.edits.insert(change.path, Some(Item { mode, oid }));
                }
                Resolution3::Conflict => apart.push((change, theirs)),
            }
        }
        let unmerged = self.follow_renames(apart, &our_changes, &their_changes, &mut merged).await?;
        merged
            .conflicts
            .extend(unmerged.into_iter().map(|(change, theirs)| conflict(change.path, change.old, change.new, theirs)));
        merged.conflicts.sort_by(|one, other| one.path.0.cmp(&other.path.0));
        Ok(merged)
    }

    /// Merges files that one side changed and the other renamed, where they are now. The answer has those that went nowhere, or do not merge
    /// there; so do two that would go to one file.
    async fn follow_renames(
        &self,
        apart: Vec<(Change, Side)>,
        our_changes: &[Change],
        their_changes: &BTreeMap<BString, Change>,
        merged: &mut Merged,
    ) -> Result<Vec<(Change, Side)>> {
        if apart.len() > FOLLOWED_MAX {
            return Ok(apart);
        }
        let added = |change: &Change| match (change.old, change.new) {
            (None, Some(item)) => Some(Added { path: change.path.clone(), item, content: None }),
            _ => None,
        };
        let ours_at: BTreeSet<&BString> = our_changes.iter().map(|change| &change.path).collect();
        let mut ours = Candidates::new(
            our_changes.iter().filter_map(added).filter(|added| !their_changes.contains_key(&added.path)),
        );
        let mut theirs =
            Candidates::new(their_changes.values().filter_map(added).filter(|added| !ours_at.contains(&added.path)));
        let (mut found, mut unmerged) = (Vec::new(), Vec::new());
        for (change, side) in apart {
            match self.follow_rename(&change, side, &mut ours, &mut theirs).await? {
                Some((to, resolution)) => found.push((change, side, to, resolution)),
                None => unmerged.push((change, side)),
            }
        }
        let mut arrivals: BTreeMap<BString, usize> = BTreeMap::new();
        found.iter().for_each(|(_, _, to, _)| *arrivals.entry(to.clone()).or_default() += 1);
        for (change, side, to, (new, blob)) in found {
            if arrivals[&to] > 1 {
                unmerged.push((change, side));
                continue;
            }
            if change.new.is_none() {
                merged.edits.insert(change.path, None);
            }
            merged.blobs.extend(blob);
            merged.edits.insert(to, new);
        }
        Ok(unmerged)
    }

    /// Where a file went, and what it becomes there, with its bytes if the merge made them.
    async fn follow_rename(
        &self,
        change: &Change,
        side: Side,
        ours: &mut Candidates,
        theirs: &mut Candidates,
    ) -> Result<Option<(BString, Arrived)>> {
        let Some(base) = change.old else { return Ok(None) };
        // A link that went elsewhere may lead elsewhere, and git reads no link under some names.
        if [change.new, side].into_iter().flatten().any(|item| !is_file(item.mode)) {
            return Ok(None);
        }
        let candidates = match (change.new, side) {
            (Some(_), None) => theirs,
            (None, Some(_)) => ours,
            _ => return Ok(None),
        };
        let Some(at) = self.renamed_to(None, &change.path, base.oid, candidates).await? else { return Ok(None) };
        let Added { path, item, .. } = candidates.added[at].clone();
        let (ours, theirs) = (change.new.or(Some(item)), side.or(Some(item)));
        let arrived = match self.merge_path(None, Some(base).into(), ours, theirs, None).await? {
            Resolution3::Conflict => return Ok(None),
            Resolution3::Ours => (ours, None),
            Resolution3::Theirs => (theirs, None),
            Resolution3::Mode(item) => (Some(item), None),
            Resolution3::Text { mode, oid, content } => (Some(Item { mode, oid }), Some((oid, content))),
        };
        Ok(Some((path, arrived)))
    }
}

/// Whether a new file of ours lies where they put a file over one of its directories, or a directory over it.
fn blocked(path: &BString, ours: Side, theirs: &BTreeMap<BString, Change>) -> bool {
    if ours.is_none() {
        return false;
    }
    let above = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| BString::from(&path[..at]));
    let mut below = path.clone();
    below.push(b'/');
    above.into_iter().any(|dir| theirs.get(&dir).is_some_and(|change| change.new.is_some()))
        || theirs
            .range(below.clone()..)
            .take_while(|(next, _)| next.starts_with(&below))
            .any(|(_, change)| change.new.is_some())
}

fn conflict(path: BString, base: Side, ours: Side, theirs: Side) -> Conflict {
    let oid = |side: Side| side.map(|item| Oid(item.oid));
    Conflict { path: Path(path), base: oid(base), ours: oid(ours), theirs: oid(theirs) }
}
