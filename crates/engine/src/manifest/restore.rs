//! Projects, refs and pending work from a manifest.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use treehold_catalog::{InspectedKey, KeyState, PendingRow, ProjectSnapshot, Ref};
use treehold_fault::point;
use treehold_object::{Kind, ObjectId};
use treehold_store::StoreError;
use uuid::Uuid;

use super::format::{ProjectFile, WorkspaceFile};
use super::{Chosen, MARKER};
use crate::api::Oid;
use crate::intake::commit_row;
use crate::progress::Progress;
use crate::rebuild::{BucketFinding, RebuildReport, Source};
use crate::tree::{Item, entries};
use crate::{Engine, EngineError, Result};

/// Files read at once.
const FILES: usize = 64;
/// Rows of a pack's objects read at once.
const OBJECTS: u32 = 1000;

/// What cannot be used, and why; or what fails for all.
enum Unusable {
    Damaged(String),
    Failed(EngineError),
}

impl From<EngineError> for Unusable {
    fn from(error: EngineError) -> Self {
        match error {
            // A missing or corrupt object.
            EngineError::Internal(cause) => Self::Damaged(cause.to_string()),
            other => Self::Failed(other),
        }
    }
}

type Usable<T> = std::result::Result<T, Unusable>;

impl Engine {
    /// The manifest that projects come from; `None`: from none. `packs`: those that hold a manifest's commit, the newest first.
    pub(crate) async fn manifest_of(&self, source: Source, packs: &[String]) -> Result<Option<Chosen>> {
        match source {
            Source::Database => Ok(None),
            Source::AnyManifest => self.newest_manifest(packs).await,
            Source::NewestManifest => match self.newest_manifest(packs).await? {
                Some(manifest) => Ok(Some(manifest)),
                None => {
                    let detail = "The bucket holds no manifest; with `--manifest none` it goes without one.";
                    Err(EngineError::not_found("manifest_not_found", detail))
                }
            },
            Source::Manifest { commit: Oid(commit) } => match self.manifest_at(commit).await {
                Ok(manifest) => Ok(Some(manifest)),
                Err(Unusable::Failed(error)) => Err(error),
                // Which one to take instead is the operator's to say.
                Err(Unusable::Damaged(detail)) => {
                    let detail = format!(
                        "The manifest {commit} cannot be used: {detail}. `--manifest` takes another one's commit, `latest` or `none`."
                    );
                    Err(EngineError::unprocessable("bad_manifest", detail))
                }
            },
        }
    }

    /// Brings back what the database lacks of a manifest's projects.
    pub(crate) async fn restore_projects(
        &self,
        manifest: Chosen,
        report: &mut RebuildReport,
        progress: &dyn Progress,
    ) -> Result<()> {
        let commit = manifest.commit;
        report.manifest = Some(commit.to_string());
        for (_, fan) in self.level_or_find(commit, manifest.projects, report).await? {
            for (name, item) in self.level_or_find(commit, fan.oid, report).await? {
                match self.project_of(item).await {
                    Ok(snapshot) => self.restore_one(snapshot, report).await?,
                    Err(Unusable::Failed(error)) => return Err(error),
                    Err(Unusable::Damaged(detail)) => {
                        let detail = format!("project {name}: {detail}");
                        report.find(BucketFinding::DamagedManifest { commit: Oid(commit), detail });
                    }
                }
                progress.step("restoring projects", report.projects_restored, None);
            }
        }
        Ok(())
    }

    /// The newest one. Whether an older one is to take its place, with all that came after it lost, is the operator's to say.
    async fn newest_manifest(&self, packs: &[String]) -> Result<Option<Chosen>> {
        for (at, key) in packs.iter().enumerate() {
            match self.manifest_in(key).await {
                Ok(Some(manifest)) => return Ok(Some(manifest)),
                Ok(None) => {}
                Err(Unusable::Failed(error)) => return Err(error),
                Err(Unusable::Damaged(detail)) => {
                    let older = packs.get(at + 1..).unwrap_or_default();
                    return Err(self.newest_unusable(key, &detail, older).await?);
                }
            }
        }
        Ok(None)
    }

    async fn newest_unusable(&self, key: &str, detail: &str, older: &[String]) -> Result<EngineError> {
        let mut instead = "there is no older one; `--manifest none` goes without".to_owned();
        for key in older {
            match self.manifest_in(key).await {
                Ok(Some(Chosen { commit, time_ms, .. })) => {
                    let time_s = time_ms.div_euclid(1000);
                    instead = format!("`--manifest {commit}` takes the one before it, of Unix time {time_s}");
                    break;
                }
                Ok(None) | Err(Unusable::Damaged(_)) => {}
                Err(Unusable::Failed(error)) => return Err(error),
            }
        }
        let detail = format!(
            "The newest manifest, in {key}, cannot be used: {detail}. Bring it back from a copy of the bucket and repeat with `--force`, or \
             go back in time: {instead}."
        );
        Ok(EngineError::unprocessable("bad_manifest", detail))
    }

    /// The manifest whose commit came in this pack; `None`: the pack had been given up before the ledger was lost.
    async fn manifest_in(&self, key: &str) -> Usable<Option<Chosen>> {
        let mut unusable = None;
        for commit in self.commits_in(key).await? {
            match self.manifest_at(commit).await {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(Unusable::Damaged(detail)) => unusable = Some(format!("{commit}: {detail}")),
                Err(failed) => return Err(failed),
            }
        }
        if let Some(detail) = unusable {
            return Err(Unusable::Damaged(detail));
        }
        match self.row_of(key).await?.map(|found| found.state) {
            Some(KeyState::Doomed | KeyState::Deleted) => Ok(None),
            _ => Err(Unusable::Damaged("its commit is missing, or damaged".to_owned())),
        }
    }

    /// Commits that the ledger has in this pack, or has elsewhere and the pack's index names.
    async fn commits_in(&self, key: &str) -> Usable<Vec<ObjectId>> {
        let mut commits = Vec::new();
        if let Some(found) = self.row_of(key).await? {
            let mut from = 0;
            loop {
                let page = self.catalog.objects_in(found.id, from, OBJECTS).await.map_err(EngineError::from)?;
                let Some(last) = page.last() else { break };
                from = last.offset.saturating_add(1);
                commits.extend(page.iter().filter(|object| object.kind == Kind::Commit).map(|object| object.oid));
            }
        }
        if !commits.is_empty() {
            return Ok(commits);
        }
        let pack = match self.store.raw_pack(key).await {
            Ok(pack) => pack,
            Err(StoreError::Missing { .. }) => return Ok(commits),
            Err(StoreError::Corrupt { .. }) => return Err(Unusable::Damaged("its index is damaged".to_owned())),
            // An older one must not be taken because the bucket did not answer.
            Err(error) => return Err(Unusable::Failed(error.into())),
        };
        let oids: Vec<ObjectId> = pack.entries().iter().map(|entry| entry.oid).collect();
        let located = self.catalog.locate(&oids).await.map_err(EngineError::from)?.into_iter().flatten();
        Ok(located.filter(|object| object.kind == Kind::Commit).map(|object| object.oid).collect())
    }

    async fn row_of(&self, key: &str) -> Result<Option<InspectedKey>> {
        Ok(self.catalog.inspect_names(&[key.to_owned()]).await?.pop().flatten())
    }

    /// A manifest of which `projects` can be read.
    async fn manifest_at(&self, commit: ObjectId) -> Usable<Chosen> {
        let raw = self.object_of(commit, Kind::Commit).await?;
        let message = raw.windows(2).position(|pair| pair == b"\n\n").and_then(|at| raw.get(at + 2..));
        if !message.is_some_and(|message| message.starts_with(format!("{MARKER}\n").as_bytes())) {
            return Err(Unusable::Damaged(format!("commit {commit} is no manifest")));
        }
        let row = commit_row(commit, raw)?;
        let root = self.level(row.tree).await?;
        let projects = root.into_iter().find(|(name, _)| name == "projects");
        let (_, projects) = projects.ok_or_else(|| Unusable::Damaged("it has no projects".to_owned()))?;
        self.level(projects.oid).await?;
        Ok(Chosen { commit, time_ms: row.time.saturating_mul(1000), projects: projects.oid })
    }

    async fn level_or_find(
        &self,
        commit: ObjectId,
        tree: ObjectId,
        report: &mut RebuildReport,
    ) -> Result<Vec<(String, Item)>> {
        match self.level(tree).await {
            Ok(level) => Ok(level),
            Err(Unusable::Failed(error)) => Err(error),
            Err(Unusable::Damaged(detail)) => {
                report.find(BucketFinding::DamagedManifest { commit: Oid(commit), detail });
                Ok(Vec::new())
            }
        }
    }

    async fn level(&self, tree: ObjectId) -> Usable<Vec<(String, Item)>> {
        let raw = self.object_of(tree, Kind::Tree).await?;
        let named = |entry: Result<(&treehold_object::BStr, Item)>| entry.map(|(name, item)| (name.to_string(), item));
        Ok(entries(&raw).map(named).collect::<Result<_>>()?)
    }

    async fn object_of(&self, oid: ObjectId, kind: Kind) -> Usable<Bytes> {
        let object = self.objects(&[oid]).await?.pop().flatten().filter(|object| object.kind == kind);
        object.map(|object| object.content).ok_or_else(|| Unusable::Damaged(format!("{kind} {oid} is missing")))
    }

    async fn project_of(&self, item: Item) -> Usable<ProjectSnapshot> {
        let level = self.level(item.oid).await?;
        let find = |wanted: &str| level.iter().find(|(name, _)| name == wanted).map(|(_, item)| item.oid);
        let file = find("project.json").ok_or_else(|| Unusable::Damaged("it has no project.json".to_owned()))?;
        let file: ProjectFile = json(&self.object_of(file, Kind::Blob).await?)?;
        let mut snapshot = file.snapshot().map_err(Unusable::Damaged)?;
        let Some(workspaces) = find("workspaces") else { return Ok(snapshot) };
        for chunk in self.level(workspaces).await?.chunks(FILES) {
            for (_, item) in chunk {
                let file: WorkspaceFile = json(&self.object_of(item.oid, Kind::Blob).await?)?;
                snapshot.workspaces.push(file.snapshot().map_err(Unusable::Damaged)?);
            }
        }
        Ok(snapshot)
    }

    /// What the ledger has no object for is left out, as no ref may name what is not there (law 3).
    async fn restore_one(&self, mut snapshot: ProjectSnapshot, report: &mut RebuildReport) -> Result<()> {
        let project = snapshot.project.id;
        let refs = std::mem::take(&mut snapshot.refs);
        snapshot.refs = self.present(project, refs, |known| (Some(known.oid), known.name.clone()), report).await?;
        let remote = std::mem::take(&mut snapshot.remote_refs);
        let shown = |known: &Ref| (Some(known.oid), format!("{} of the remote", known.name));
        snapshot.remote_refs = self.present(project, remote, shown, report).await?;
        let mut pending = 0;
        for workspace in &mut snapshot.workspaces {
            let rows = std::mem::take(&mut workspace.rows);
            let shown = |row: &PendingRow| (row.oid, format!("pending {}", row.path));
            workspace.rows = self.present(project, rows, shown, report).await?;
            pending += workspace.rows.len() as u64;
        }
        point("B3").await?;
        match self.catalog.restore_project(&snapshot, self.ambient.now_ms()).await? {
            true => {
                report.projects_restored += 1;
                report.pending_restored += pending;
            }
            false => report.find(BucketFinding::ProjectExists { project }),
        }
        Ok(())
    }

    async fn present<T>(
        &self,
        project: Uuid,
        all: Vec<T>,
        shown: impl Fn(&T) -> (Option<ObjectId>, String),
        report: &mut RebuildReport,
    ) -> Result<Vec<T>> {
        let oids: Vec<ObjectId> = all.iter().filter_map(|one| shown(one).0).collect();
        let mut located = self.catalog.locate(&oids).await?.into_iter();
        let mut present = Vec::with_capacity(all.len());
        for one in all {
            match shown(&one) {
                (Some(oid), needed_by) if located.next().flatten().is_none() => {
                    report.find(BucketFinding::MissingObject { project, oid: Oid(oid), needed_by });
                }
                _ => present.push(one),
            }
        }
        Ok(present)
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Usable<T> {
    serde_json::from_slice(bytes).map_err(|error| Unusable::Damaged(error.to_string()))
}
