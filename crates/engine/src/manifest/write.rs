//! Writing a manifest: project by project, of each what is not stored yet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use treehold_catalog::{OpKind, ProjectSnapshot, WorkspaceSnapshot};
use treehold_object::ident::Signature;
use treehold_object::{BString, CommitSpec, Kind, ObjectId, hash};
use treehold_store::PackBuilder;
use uuid::Uuid;

use super::format::{ProjectFile, WorkspaceFile};
use super::{JOB, KEPT, MARKER, ManifestReport, PREFIX};
use crate::api::Oid;
use crate::progress::Progress;
use crate::tree::{FILE, Item, TREE, encode};
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result, blocking};

/// Projects listed at once.
const PROJECTS: u32 = 1000;
/// Contents of pending work read at once; each is small, or it would be in the bucket.
const CONTENTS: usize = 100;
/// Ids pinned at once.
const PINS: usize = 8192;

/// A manifest under way.
struct Writing<'a> {
    engine: &'a Engine,
    op: Uuid,
    builder: PackBuilder,
    projects: u64,
    pending: u64,
    objects: u64,
    packs: u64,
}

/// Names and what they stand for.
type Level = BTreeMap<BString, Item>;

impl Engine {
    pub(super) async fn manifest_of_all(
        &self,
        holder: Uuid,
        before: Vec<Oid>,
        progress: &dyn Progress,
    ) -> Result<ManifestReport> {
        let op = self.begin_op(None, OpKind::Manifest).await?.id;
        let builder = self.store.pack_builder();
        let mut writing = Writing { engine: self, op, builder, projects: 0, pending: 0, objects: 0, packs: 0 };
        let written = self.kept_alive(op, async {
            let root = writing.all(progress).await?;
            writing.finish(root, before).await
        });
        let published = match written.await {
            Ok(report) => {
                let text = serde_json::to_string(&report).map_err(EngineError::internal)?;
                let published = self.catalog.publish_report(op, JOB, holder, report.time_ms, &text).await;
                published.map(|()| report).map_err(EngineError::from)
            }
            Err(error) => Err(error),
        };
        if published.is_err() {
            self.end(op).await;
        }
        published
    }
}

impl Writing<'_> {
    /// The tree `projects`.
    async fn all(&mut self, progress: &dyn Progress) -> Result<ObjectId> {
        let mut fans: BTreeMap<String, Level> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.engine.catalog.projects(after, PROJECTS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for project in &page {
                // It may have been deleted meanwhile.
                let Some(snapshot) = self.engine.catalog.snapshot(project.id).await? else { continue };
                let oid = self.project(snapshot).await?;
                let id = project.id.to_string();
                let fan = id.get(id.len() - 2..).unwrap_or_default().to_owned();
                fans.entry(fan).or_default().insert(id.into(), Item { mode: TREE, oid });
                self.projects += 1;
                progress.step("writing projects", self.projects, None);
            }
        }
        self.fanned(fans).await
    }

    async fn project(&mut self, snapshot: ProjectSnapshot) -> Result<ObjectId> {
        let mut level = Level::new();
        let file = serde_json::to_vec_pretty(&ProjectFile::of(&snapshot)).map_err(EngineError::internal)?;
        self.entry(&mut level, "project.json", Kind::Blob, file.into()).await?;
        let mut workspaces = Level::new();
        for workspace in &snapshot.workspaces {
            let file = serde_json::to_vec_pretty(&WorkspaceFile::of(workspace)).map_err(EngineError::internal)?;
            self.entry(&mut workspaces, &file_name(workspace)?, Kind::Blob, file.into()).await?;
            self.pending += workspace.rows.len() as u64;
        }
        if !workspaces.is_empty() {
            let raw = encode(workspaces.iter().map(|(name, item)| (name, *item)))?;
            self.entry(&mut level, "workspaces", Kind::Tree, raw).await?;
        }
        let contents = self.contents(&snapshot).await?;
        if !contents.is_empty() {
            let oid = self.fanned(contents).await?;
            level.insert("contents".into(), Item { mode: TREE, oid });
        }
        self.tree(level).await
    }

    /// Makes sure that what pending changes name is stored; by the first two digits and by id.
    async fn contents(&mut self, snapshot: &ProjectSnapshot) -> Result<BTreeMap<String, Level>> {
        let rows = snapshot.workspaces.iter().flat_map(|workspace| &workspace.rows);
        let oids: BTreeSet<ObjectId> = rows.filter_map(|row| row.oid).collect();
        let oids: Vec<ObjectId> = oids.into_iter().collect();
        let mut fans: BTreeMap<String, Level> = BTreeMap::new();
        let mut keep = |oid: &ObjectId| {
            let hex = oid.to_string();
            let fan = hex.get(..2).unwrap_or_default().to_owned();
            fans.entry(fan).or_default().insert(hex.into(), Item { mode: FILE, oid: *oid });
        };
        for pinned in oids.chunks(PINS) {
            let there = self.engine.catalog.pin(self.op, pinned).await?;
            let (known, unknown): (Vec<_>, Vec<_>) = pinned.iter().zip(there).partition(|(_, pin)| pin.is_some());
            known.iter().for_each(|(oid, _)| keep(oid));
            let unknown: Vec<ObjectId> = unknown.into_iter().map(|(oid, _)| *oid).collect();
            for chunk in unknown.chunks(CONTENTS) {
                let read = self.engine.catalog.pending_contents(snapshot.project.id, chunk).await?;
                let mut new = Vec::with_capacity(chunk.len());
                for (oid, content) in chunk.iter().zip(read) {
                    match content {
                        Some(content) => {
                            keep(oid);
                            new.push(NewBytes { oid: *oid, kind: Kind::Blob, content });
                        }
                        // It was committed meanwhile, and is in the history that the refs name by now.
                        None => tracing::warn!(%oid, project = %snapshot.project.id, "pending content is nowhere"),
                    }
                }
                self.add(new).await?;
            }
        }
        Ok(fans)
    }

    async fn fanned(&mut self, fans: BTreeMap<String, Level>) -> Result<ObjectId> {
        let mut level = Level::new();
        for (fan, below) in fans {
            let oid = self.tree(below).await?;
            level.insert(fan.into(), Item { mode: TREE, oid });
        }
        self.tree(level).await
    }

    async fn tree(&mut self, level: Level) -> Result<ObjectId> {
        let raw = encode(level.iter().map(|(name, item)| (name, *item)))?;
        self.object(Kind::Tree, raw).await
    }

    async fn entry(&mut self, level: &mut Level, name: &str, kind: Kind, content: Bytes) -> Result<()> {
        let mode = if kind == Kind::Tree { TREE } else { FILE };
        let oid = self.object(kind, content).await?;
        level.insert(name.into(), Item { mode, oid });
        Ok(())
    }

    /// Pins the object, or adds it to the pack.
    async fn object(&mut self, kind: Kind, content: Bytes) -> Result<ObjectId> {
        let object = NewBytes::of(kind, content)?;
        let oid = object.oid;
        if self.engine.catalog.pin(self.op, &[oid]).await?.pop().flatten().is_none() {
            self.add(vec![object]).await?;
        }
        Ok(oid)
    }

    async fn add(&mut self, objects: Vec<NewBytes>) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let mut builder = std::mem::replace(&mut self.builder, self.engine.store.pack_builder());
        self.builder = blocking(move || {
            for NewBytes { oid, kind, content } in objects {
                builder.add(oid, kind, &content)?;
            }
            Ok(builder)
        })
        .await?;
        if self.builder.is_full() {
            let builder = std::mem::replace(&mut self.builder, self.engine.store.pack_builder());
            let pack = blocking(move || Ok(builder.finish()?)).await?;
            (self.objects, self.packs) = (self.objects + pack.entries.len() as u64, self.packs + 1);
            self.engine.store_pack(self.op, pack).await?;
        }
        Ok(())
    }

    /// The commit comes last, in a pack that says by its name what it is.
    async fn finish(mut self, projects: ObjectId, before: Vec<Oid>) -> Result<ManifestReport> {
        let tree = self.tree(Level::from([("projects".into(), Item { mode: TREE, oid: projects })])).await?;
        let time_ms = self.engine.ambient.now_ms();
        let (name, email) = &self.engine.config.author;
        let author = Signature::new(name, email, time_ms.div_euclid(1000), 0).map_err(EngineError::internal)?;
        let message = format!("{MARKER}\n\ntime_ms {time_ms}\nprojects {}\npending {}\n", self.projects, self.pending);
        let spec = CommitSpec {
            tree,
            parents: Vec::new(),
            author: author.clone(),
            committer: author,
            message: message.into(),
        };
        let raw = spec.encode().map_err(EngineError::internal)?;
        let NewBytes { oid: commit, kind, content } = NewBytes::of(Kind::Commit, raw.into())?;
        let mut builder = self.builder;
        let pack = blocking(move || {
            builder.add(commit, kind, &content)?;
            Ok(builder.finish()?)
        })
        .await?;
        let (objects, packs) = (self.objects + pack.entries.len() as u64, self.packs + 1);
        let fresh = self.engine.fresh_name(&pack.checksum);
        let fresh = fresh.strip_prefix("objects/pack/pack-").unwrap_or(&fresh);
        let key = self.engine.upload_pack_as(self.op, &pack, format!("{PREFIX}{time_ms:016x}-{fresh}")).await?;
        self.engine.register_pack(self.op, key, pack).await?;
        let mut commits = vec![Oid(commit)];
        commits.extend(before.into_iter().filter(|oid| *oid != Oid(commit)));
        commits.truncate(KEPT);
        let (projects, pending) = (self.projects, self.pending);
        Ok(ManifestReport { commit: Oid(commit), projects, pending, objects, packs, time_ms, commits })
    }
}

/// A name that the workspace has in every manifest.
fn file_name(workspace: &WorkspaceSnapshot) -> Result<String> {
    let key = format!("{}\0{}", workspace.branch, workspace.user);
    let name = hash(Kind::Blob, key.as_bytes()).map_err(EngineError::internal)?;
    Ok(format!("{name}.json"))
}
