//! Sending commits to the remote: which objects it lacks, their pack, and the verb for commits that were not pushed at once.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tempfile::NamedTempFile;
use treehold_catalog::{Attempt, AttemptState};
use treehold_object::{Kind, ObjectId};
use treehold_wire::push::{PackOptions, PushObject, PushPack};

use crate::api::{Oid, PushAnswer};
use crate::commit::Settled;
use crate::remote::Secret;
use crate::view::branch_ref;
use crate::writer::{Fresh, NewBytes};
use crate::{Engine, EngineError, Result};

/// Objects read and written at once.
const CHUNK: usize = 256;
/// Larger blobs are not read again to send a delta, bytes.
const BEFORE_BYTES: u64 = 1 << 20;
/// Nor more than so much of a commit, bytes.
const BEFORE_TOTAL: u64 = 16 << 20;
/// Nor more than so many.
const BEFORE_COUNT: usize = 256;

/// What a push sends. It stands by itself: while its pack is made the attempt shows that it is not left, and changes.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The objects of a commit whose parent the remote's branch is at, each once.
    OntoParent(Vec<ObjectId>),
    /// All that this commit of this project has, and the remote lacks.
    Lacking(uuid::Uuid, ObjectId),
}

impl Sent {
    pub fn of(attempt: &Attempt) -> Self {
        if attempt.base.is_none() || attempt.base != attempt.remote_base {
            return Self::Lacking(attempt.project, attempt.commit);
        }
        // Attempts of earlier versions may name an object twice.
        let mut oids = attempt.objects.clone();
        oids.sort_unstable();
        oids.dedup();
        Self::OntoParent(oids)
    }
}

impl Engine {
    /// Records what a merge made in the commit table and the tree table (both say nothing about access).
    pub(crate) async fn record_objects(&self, objects: &[NewBytes]) -> Result<()> {
        let trees = trees_of(objects);
        self.catalog.put_trees(&trees).await?;
        self.keep_trees(&trees);
        let mut rows = Vec::new();
        for object in objects.iter().filter(|object| object.kind == Kind::Commit) {
            let mut row = crate::intake::commit_row(object.oid, object.content.clone())?;
            let parents = self.catalog.generations(&row.parents).await?;
            row.generation = 1 + parents.into_iter().flatten().max().unwrap_or(0);
            rows.push(row);
        }
        Ok(self.catalog.put_commits(&rows).await?)
    }

    /// Refuses a push that cannot be a fast-forward of what the remote last had.
    pub(crate) async fn check_pushable(&self, attempt: &Attempt) -> Result<()> {
        let (Some(remote), Some(base)) = (attempt.remote_base, attempt.base) else { return Ok(()) };
        match self.is_ancestor(attempt.project, remote, base).await? {
            true => Ok(()),
            false => Err(EngineError::Conflict {
                code: "diverged",
                detail: "Our branch and the remote's both have commits that the other lacks: sync with on_conflict \"merge\"."
                    .to_owned(),
            }),
        }
    }

    /// `remote`, where the remote's branch is known to be, if that is ahead of `base`: a push on top of `base` would be refused.
    pub(crate) async fn known_ahead(
        &self,
        project: uuid::Uuid,
        base: Option<ObjectId>,
        remote: Option<ObjectId>,
    ) -> Result<Option<ObjectId>> {
        let Some(remote) = remote.filter(|remote| Some(*remote) != base) else { return Ok(None) };
        let ahead = match base {
            Some(base) => self.is_ancestor(project, base, remote).await?,
            None => true,
        };
        Ok(ahead.then_some(remote))
    }

    /// Where the remote's branch was last seen.
    pub(crate) async fn remote_head(&self, project: uuid::Uuid, branch: &str) -> Result<Option<ObjectId>> {
        let name = branch_ref(branch);
        let known = self.catalog.remote_references(project, &name).await?;
        Ok(known.into_iter().find(|known| known.name == name).map(|known| known.oid))
    }

    /// Commits that the remote lacks, oldest first, and the objects that come with them.
    async fn lacking(&self, project: uuid::Uuid, commit: ObjectId) -> Result<(u64, Vec<ObjectId>)> {
        let remote = self.catalog.remote_references(project, "refs/").await?;
        let known: Vec<ObjectId> = remote.into_iter().map(|known| known.oid).collect();
        let commits = self.compare(project, &[commit], &known).await?.ours;
        let (mut objects, mut seen) = (Vec::new(), HashSet::new());
        for oid in commits.iter().rev() {
            let row = self.commit_row(*oid).await?;
            let parent = match row.parents.first() {
                Some(parent) => self.catalog.commits(&[*parent]).await?.pop().flatten().map(|row| row.tree),
                None => None,
            };
            objects.extend(self.new_objects(parent, row.tree, &mut seen).await?);
            objects.push(*oid);
        }
        Ok((commits.len() as u64, objects))
    }

    /// The pack of exactly what the remote lacks, in a spool file. Every object is hashed by a second implementation before it is
    /// written; a mismatch stops the push. With `thin`, where the remote's branch is the parent, what is fresh goes as deltas against
    /// what the parent has, where that is smaller.
    pub(crate) async fn push_pack(&self, sent: Sent, fresh: &Fresh, thin: bool) -> Result<NamedTempFile> {
        let (oids, thin) = match sent {
            Sent::OntoParent(oids) => (oids, thin),
            Sent::Lacking(project, commit) => (self.lacking(project, commit).await?.1, false),
        };
        self.write_push_pack(&oids, fresh, thin).await
    }

    async fn write_push_pack(&self, oids: &[ObjectId], fresh: &Fresh, thin: bool) -> Result<NamedTempFile> {
        let file = NamedTempFile::new_in(&self.config.spool_dir)
            .map_err(|source| EngineError::Unavailable { what: "the spool disk", source: Box::new(source) })?;
        let out = std::io::BufWriter::new(file.reopen().map_err(EngineError::internal)?);
        let options = PackOptions { thin, ..PackOptions::default() };
        let mut pack = PushPack::new(out, oids.len() as u32, options).map_err(EngineError::internal)?;
        for chunk in oids.chunks(CHUNK) {
            let elsewhere: Vec<ObjectId> =
                chunk.iter().filter(|oid| !fresh.objects.contains_key(*oid)).copied().collect();
            let mut read = self.objects(&elsewhere).await?.into_iter();
            for oid in chunk {
                let (kind, content) = match fresh.objects.get(oid) {
                    Some(object) => (object.kind, object.content.clone()),
                    None => {
                        let object = read.next().flatten();
                        let object = object.ok_or_else(|| EngineError::internal(format!("{oid} is not stored")))?;
                        (object.kind, object.content)
                    }
                };
                let before = fresh.before.get(oid).filter(|_| thin);
                let base = before.map(|(oid, content)| (*oid, &content[..]));
                let object = PushObject { oid: *oid, kind, content: &content, base };
                pack.add(&object).map_err(EngineError::internal)?;
            }
        }
        pack.finish().map_err(EngineError::internal)?;
        Ok(file)
    }

    /// The contents of blobs that new ones replace, by the new ones' ids, for deltas. What is large or cannot be read is left out:
    /// the push goes without.
    pub(crate) async fn blobs_before(
        &self,
        before: &HashMap<ObjectId, ObjectId>,
    ) -> HashMap<ObjectId, (ObjectId, Bytes)> {
        let pairs: Vec<(ObjectId, ObjectId)> =
            before.iter().take(BEFORE_COUNT).map(|(new, old)| (*new, *old)).collect();
        let olds: Vec<ObjectId> = pairs.iter().map(|(_, old)| *old).collect();
        let located = self.catalog.locate(&olds).await.unwrap_or_default();
        let small = located.into_iter().zip(&pairs).filter_map(|(located, (new, _))| Some((*new, located?)));
        let mut room = BEFORE_TOTAL;
        let (news, wanted): (Vec<ObjectId>, Vec<_>) = small
            .filter(|(_, located)| located.kind == Kind::Blob && located.size <= BEFORE_BYTES)
            .take_while(|(_, located)| {
                room = room.saturating_sub(located.size);
                room > 0
            })
            .unzip();
        let read = self.read_located(&wanted).await.unwrap_or_default().into_iter().zip(news);
        read.filter_map(|(object, new)| object.ok().map(|object| (new, (object.oid, object.content)))).collect()
    }

    /// Pushes what was committed and not pushed, and settles attempts that wait for credentials.
    pub async fn push(&self, project: &str, branch: Option<&str>, credentials: Option<Secret>) -> Result<PushAnswer> {
        let project = self.find_project(project).await?;
        let branch = Self::branch_name(&project, branch)?;
        let at = self.needed_endpoint(&project, credentials)?;
        if self.is_ephemeral(&project, &branch).await? {
            return Err(Self::stays_here());
        }
        let lock = self.branch_lock(project.id, &branch);
        let _turn = lock.lock().await;
        for mut attempt in self.catalog.open_attempts(Some((project.id, &branch)), 100).await? {
            if attempt.state == AttemptState::Paused {
                match self.complete_left(&mut attempt, Some(&at)).await {
                    // Its own request hears of it; the others go on.
                    Ok(()) | Err(EngineError::PushRejected { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.clear_the_way((project.id, None), &branch, &at, None).await?;
        let head = self.branch_head(&project, &branch).await?;
        let Some(to) = head.commit else {
            return Err(EngineError::unprocessable("nothing_to_push", "The branch has no commit yet."));
        };
        let from = self.remote_head(project.id, &branch).await?;
        let (commits, objects) = self.lacking(project.id, to).await?;
        let answer = PushAnswer {
            branch,
            from: from.map(Oid),
            to: Oid(to),
            commits,
            objects: objects.len() as u64,
            pushed: from != Some(to),
        };
        let behind = match from {
            Some(from) => self.is_ancestor(project.id, to, from).await?,
            None => false,
        };
        if behind {
            return Ok(PushAnswer { pushed: false, ..answer });
        }
        let mut attempt = self.push_of_head(&project, &answer, to, from, head.tree, objects).await?;
        self.check_pushable(&attempt).await?;
        self.catalog.insert_attempt(&attempt).await?;
        self.step(&mut attempt, AttemptState::Stored, None).await?;
        match self.push_attempt(&mut attempt, &at, &Fresh::default()).await? {
            Settled::Landed => {
                let op = self.reopen(&attempt).await?;
                self.finalize(&mut attempt, op, None).await?;
                Ok(answer)
            }
            Settled::Moved => Err(EngineError::Conflict {
                code: "diverged",
                detail: "The remote moved: sync with on_conflict \"merge\", then push again.".to_owned(),
            }),
        }
    }

    /// An attempt that pushes what the branch has, and commits nothing.
    async fn push_of_head(
        &self,
        project: &treehold_catalog::Project,
        answer: &PushAnswer,
        commit: ObjectId,
        remote_base: Option<ObjectId>,
        tree: Option<ObjectId>,
        objects: Vec<ObjectId>,
    ) -> Result<Attempt> {
        let row = self.commit_row(commit).await?;
        let (made, now_ms) = ((tree.unwrap_or(row.tree), commit, row.raw.to_vec()), self.ambient.now_ms());
        Ok(Attempt {
            base: Some(commit),
            remote_base,
            push: true,
            objects,
            ..Attempt::prepared(self.ambient.uuid(), project.id, &answer.branch, made, now_ms)
        })
    }
}

/// The trees among objects, as the tree table takes them.
pub(crate) fn trees_of(objects: &[NewBytes]) -> Vec<(ObjectId, Bytes)> {
    let trees = objects.iter().filter(|object| object.kind == Kind::Tree);
    trees.map(|object| (object.oid, object.content.clone())).collect()
}
