//! What is advertised: `HEAD`, branches and tags, with what annotated tags finally point at.

use std::collections::HashMap;
use std::sync::Arc;

use treehold_catalog::Located;
use treehold_object::{Kind, ObjectId, runs};
use treehold_wire::serve::AdvertisedRef;

use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// What a ref takes until it is sent, bytes: its name, twice, and what it points at.
const REF_BYTES: u64 = 1 << 10;
/// Tags that are in memory at once, and their bytes; a single one may be larger.
const CHUNK: usize = 64;
const TAG_BYTES: u64 = 4 << 20;
/// Tags of tags are followed so far for what is only told on the side, so that nobody's chain of tags makes all listings slow.
pub(super) const TAGS_MAX: usize = 64;

/// The refs of a project as clients get to see them.
#[derive(Debug, Clone, Default)]
pub struct Advertised {
    /// `HEAD` first, if the default branch exists, then all others by name.
    pub refs: Vec<AdvertisedRef>,
    /// What `HEAD` names, if that branch does not exist yet.
    pub unborn: Option<String>,
    /// Commits whose parents the project lacks.
    pub shallow: Vec<ObjectId>,
}

/// What a tag leads to, step by step: kinds and ids, the last of them no tag unless there are too many.
pub(super) type TagChain = Vec<(Kind, ObjectId)>;

impl Engine {
    /// All refs of a project, ephemeral branches only if asked for; tags are read for what they point at only if `peel`.
    pub async fn advertise(&self, project: &str, peel: bool, ephemeral: bool) -> Result<Advertised> {
        let project = self.find_project(project).await?;
        let mut refs = self.catalog.references(project.id, "refs/").await?;
        refs.retain(|found| ephemeral || found.ephemeral.is_none());
        self.room.take(REF_BYTES * refs.len() as u64)?;
        let head = branch_ref(&project.default_branch);
        let mut advertised = Advertised {
            shallow: self.catalog.shallow(project.id).await?,
            unborn: refs.iter().all(|found| found.name != head).then(|| head.clone()),
            refs: Vec::with_capacity(refs.len() + 1),
        };
        let oids: Vec<ObjectId> = refs.iter().map(|found| found.oid).collect();
        // The tags themselves are let go of as they were read.
        let peeled = if peel { self.within(Arc::new(())).peeled(&oids).await? } else { vec![None; oids.len()] };
        if let Some(default) = refs.iter().find(|found| found.name == head) {
            advertised.refs.push(AdvertisedRef {
                name: "HEAD".into(),
                oid: default.oid,
                peeled: None,
                symref_target: Some(head.into()),
            });
        }
        let rest = refs.into_iter().zip(peeled).map(|(found, peeled)| AdvertisedRef {
            name: found.name.into(),
            oid: found.oid,
            peeled,
            symref_target: None,
        });
        advertised.refs.extend(rest);
        Ok(advertised)
    }

    /// What annotated tags finally point at; `None` for what is no tag.
    async fn peeled(&self, oids: &[ObjectId]) -> Result<Vec<Option<ObjectId>>> {
        let located = self.catalog.locate(oids).await?;
        let is_tag = |at: usize| located.get(at).and_then(Option::as_ref).is_some_and(|found| found.kind == Kind::Tag);
        let tags: Vec<ObjectId> = (0..oids.len()).filter(|at| is_tag(*at)).map(|at| oids[at]).collect();
        let mut chains = self.tag_chains(&tags, TAGS_MAX).await?.into_iter();
        let target = |chain: TagChain| chain.last().filter(|(kind, _)| *kind != Kind::Tag).map(|(_, oid)| *oid);
        Ok((0..oids.len()).map(|at| if is_tag(at) { chains.next().and_then(target) } else { None }).collect())
    }

    /// What tags lead to, in their order, so many steps. A chain that is longer ends in a tag.
    pub(super) async fn tag_chains(&self, tags: &[ObjectId], levels: usize) -> Result<Vec<TagChain>> {
        let targets = self.tag_targets(tags, levels).await?;
        let chain = |tag: &ObjectId| {
            let steps = std::iter::successors(targets.get(tag), |(_, oid)| targets.get(oid));
            steps.take(levels).copied().collect()
        };
        Ok(tags.iter().map(chain).collect())
    }

    /// What tags point at, and the tags among that, so many steps. Each tag is read once, however many lead to it.
    pub(super) async fn tag_targets(
        &self,
        tags: &[ObjectId],
        levels: usize,
    ) -> Result<HashMap<ObjectId, (Kind, ObjectId)>> {
        let mut targets = HashMap::new();
        let mut open: Vec<ObjectId> = tags.to_vec();
        for _ in 0..levels {
            open.sort_unstable();
            open.dedup();
            if open.is_empty() {
                break;
            }
            for chunk in open.chunks(super::CHUNK) {
                let located = self.catalog.locate(chunk).await?;
                let size = |found: Option<Located>| found.map_or(0, |found| found.size);
                let sized: Vec<(ObjectId, u64)> = chunk.iter().copied().zip(located.into_iter().map(size)).collect();
                for few in runs(&sized, TAG_BYTES, |(_, size)| *size).flat_map(|run| run.chunks(CHUNK)) {
                    let oids: Vec<ObjectId> = few.iter().map(|(oid, _)| *oid).collect();
                    self.read_targets(&oids, &mut targets).await?;
                }
            }
            let reached = open.iter().filter_map(|oid| targets.get(oid));
            let tags = reached.filter(|(kind, _)| *kind == Kind::Tag).map(|(_, oid)| *oid);
            open = tags.filter(|oid| !targets.contains_key(oid)).collect();
        }
        Ok(targets)
    }

    async fn read_targets(&self, tags: &[ObjectId], targets: &mut HashMap<ObjectId, (Kind, ObjectId)>) -> Result<()> {
        for (oid, object) in tags.iter().zip(self.objects(tags).await?) {
            let object = object.ok_or_else(|| EngineError::internal(format!("tag {oid} is not stored")))?;
            let tag = gix_object::TagRef::from_bytes(&object.content, gix_hash::Kind::Sha1)
                .map_err(|_| EngineError::internal("a stored tag does not decode"))?;
            targets.insert(*oid, (tag.target_kind, tag.target()));
        }
        Ok(())
    }
}
