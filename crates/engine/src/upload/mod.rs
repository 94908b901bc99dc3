//! `git-upload-pack`: what clones and fetches get. `wire` knows the words; here is what they are answered with.
//!
//! 1. *Refs* (`refs`): what is advertised.
//! 2. *Admit*: every want must be reached by this project's own refs, whatever else the store has (docs/reliability.md, T1). A have
//!    counts only under the same condition (T3), so that a claim proves nothing.
//! 3. *Boundary* (`boundary`): where history is cut, for shallow clients and shallow projects.
//! 4. *Select* (`select`, `commits`, `trees`): which objects the client lacks. Where it wants everything, the project's reach says
//!    so and nothing is walked; else commits are painted down from both sides, and trees compared along them.
//! 5. *Send*: a few objects as deltas against what the client has; many as they lie in stored packs (`outgoing`).

mod boundary;
mod commits;
mod few;
mod nearly;
mod pending;
mod refs;
mod select;
mod trees;

use std::collections::HashSet;
use std::io::Write;

use treehold_catalog::{Located, Project, RoaringTreemap};
use treehold_object::{Kind, ObjectId};
use treehold_wire::serve::FetchArguments;

pub(crate) use pending::Offers;
pub use refs::Advertised;

use crate::commit::Planned;
use crate::outgoing::{Contents, Form};
use crate::{Engine, EngineError, Result};
use boundary::Boundary;
use commits::History;
use select::Selection;

/// Objects that are looked up at a time.
const CHUNK: usize = 4096;

/// A fetch that was admitted: what is common, and where history is cut. The pack comes with [`Upload::send`].
#[derive(Debug)]
pub struct Upload {
    engine: Engine,
    project: Project,
    arguments: FetchArguments,
    wants: Wants,
    /// Haves that this project reaches.
    common: Vec<ObjectId>,
    enough: bool,
    boundary: Boundary,
    /// Uncommitted work that is wanted; what it stands on is among the wants.
    pending: Option<Box<Planned>>,
}

/// Wants by what they are. Tags count as what they point at, too.
#[derive(Debug, Default)]
struct Wants {
    /// Commits to walk from.
    commits: Vec<ObjectId>,
    /// Objects that were asked for by name, tags on the way to a commit included: always sent.
    named: HashSet<ObjectId>,
    /// Trees among them.
    trees: Vec<ObjectId>,
}

/// What a pack that was sent held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// Objects.
    pub objects: u64,
    /// Bytes of pack.
    pub bytes: u64,
}

impl Engine {
    /// Admits a fetch, and finds out what both sides have.
    ///
    /// `unprocessable` with code `not_our_ref` where a want is not reached by this project: the same for an object that exists
    /// elsewhere and for one that exists nowhere. `pending`: one of them may be what [`Engine::advertise_pending`] made.
    pub async fn begin_upload(&self, project: &str, mut arguments: FetchArguments, pending: bool) -> Result<Upload> {
        let project = self.find_project(project).await?;
        let reach = self.catalog.reach(project.id).await?;
        // A boundary is a claim like any other: what lies behind a commit that is not this project's is nobody's business here.
        arguments.shallow = self.admit_haves(&reach, &arguments.shallow).await?;
        let (mut wants, strange) = self.admit_wants(&reach, &arguments.wants).await?;
        let pending = match strange[..] {
            [] => None,
            [oid] if pending => self.offered(&project, oid).await?.map(Box::new),
            _ => None,
        };
        if let (Some(oid), None) = (strange.first(), &pending) {
            return Err(not_ours(oid));
        }
        wants.commits.extend(pending.as_ref().and_then(|planned| planned.attempt.base));
        let common = self.admit_haves(&reach, &arguments.haves).await?;
        let mut history = History::of(self, &project, &wants.commits).await?;
        let enough = !common.is_empty() && history.all_reach(&wants.commits, &common).await?;
        let boundary = Boundary::of(&mut history, &project, &wants.commits, &arguments).await?;
        Ok(Upload { engine: self.clone(), project, arguments, wants, common, enough, boundary, pending })
    }

    /// Sizes of objects, for those that this project reaches; `None` for all others.
    pub async fn object_sizes(&self, project: &str, oids: &[ObjectId]) -> Result<Vec<Option<u64>>> {
        let project = self.find_project(project).await?;
        let reach = self.catalog.reach(project.id).await?;
        let mut sizes = Vec::with_capacity(oids.len());
        // All of where they are would be ten times what is asked for.
        for chunk in oids.chunks(CHUNK) {
            let located = self.catalog.locate(chunk).await?;
            let reached = |found: Located| reach.contains(found.number).then_some(found.size);
            sizes.extend(located.into_iter().map(|found| found.and_then(reached)));
        }
        Ok(sizes)
    }

    /// Sorts what is asked for; what the project does not reach comes second.
    async fn admit_wants(&self, reach: &RoaringTreemap, asked: &[ObjectId]) -> Result<(Wants, Vec<ObjectId>)> {
        let (mut wants, mut strange) = (Wants::default(), Vec::new());
        let mut tags = Vec::new();
        for (oid, found) in asked.iter().zip(self.kinds_reached(reach, asked).await?) {
            let Some(kind) = found else {
                strange.push(*oid);
                continue;
            };
            match kind {
                Kind::Commit => wants.commits.push(*oid),
                Kind::Tag => tags.push(*oid),
                Kind::Tree => wants.trees.push(*oid),
                Kind::Blob => {}
            }
            wants.named.insert(*oid);
        }
        let mut targets: Vec<(Kind, ObjectId)> = self.tag_targets(&tags, usize::MAX).await?.into_values().collect();
        targets.sort_unstable();
        targets.dedup();
        for (kind, target) in targets {
            wants.named.insert(target);
            match kind {
                Kind::Commit => wants.commits.push(target),
                Kind::Tree => wants.trees.push(target),
                Kind::Blob | Kind::Tag => {}
            }
        }
        Ok((wants, strange))
    }

    /// Commits among `haves` that the project reaches, in their order.
    async fn admit_haves(&self, reach: &RoaringTreemap, haves: &[ObjectId]) -> Result<Vec<ObjectId>> {
        let kinds = self.kinds_reached(reach, haves).await?;
        let common = haves.iter().zip(kinds).filter(|(_, kind)| *kind == Some(Kind::Commit));
        Ok(common.map(|(oid, _)| *oid).collect())
    }

    /// What each of these is, in the order given; `None` where the project does not reach it. A client may ask of very many.
    async fn kinds_reached(&self, reach: &RoaringTreemap, oids: &[ObjectId]) -> Result<Vec<Option<Kind>>> {
        let mut kinds = Vec::with_capacity(oids.len());
        for chunk in oids.chunks(CHUNK) {
            let numbers = self.catalog.numbers(chunk).await?;
            kinds.extend(
                numbers
                    .into_iter()
                    .map(|found| found.filter(|(number, _)| reach.contains(*number)).map(|(_, kind)| kind)),
            );
        }
        Ok(kinds)
    }
}

impl Upload {
    /// What was asked for.
    pub fn arguments(&self) -> &FetchArguments {
        &self.arguments
    }

    /// The haves that this project reaches, in the client's order.
    pub fn common(&self) -> &[ObjectId] {
        &self.common
    }

    /// Whether each want reaches something common, so that asking for more haves would gain little.
    pub fn is_ready(&self) -> bool {
        self.enough && !self.arguments.wait_for_done
    }

    /// Commits that are newly at the boundary of the client's history.
    pub fn shallow(&self) -> &[ObjectId] {
        &self.boundary.shallow
    }

    /// Commits of the client's boundary that are no longer there.
    pub fn unshallow(&self) -> &[ObjectId] {
        &self.boundary.unshallow
    }

    /// Whether the project's own history is cut off.
    pub fn is_cut(&self) -> bool {
        self.boundary.cut_here
    }

    /// Writes the pack to `out`, which may block. `told` hears how many of how many objects went out.
    pub async fn send<W: Write + Send + 'static>(
        self,
        out: W,
        told: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(W, Uploaded)> {
        let engine = self.engine.clone();
        let (project, ofs_delta) = (self.project.id, self.arguments.ofs_delta);
        match self.select().await? {
            Selection::Many(mut numbers) => {
                let fresh = match &self.pending {
                    Some(planned) => engine.fresh_of(planned, &mut numbers).await?,
                    None => Vec::new(),
                };
                let contents = Contents { project, numbers, fresh };
                let objects = u64::from(contents.count()?);
                let told = |done| told(done, objects);
                let (out, written) = engine.write_pack(contents, Form::streamed(ofs_delta), out, &told).await?;
                Ok((out, Uploaded { objects, bytes: written.length }))
            }
            Selection::Few(few) => few.send(&engine, out).await,
        }
    }
}

/// What git says of a want that no ref leads to.
fn not_ours(oid: &ObjectId) -> EngineError {
    EngineError::unprocessable("not_our_ref", format!("upload-pack: not our ref {oid}"))
}
