//! Which files are meant: a ref resolved to a commit and its tree, with a user's pending work on top.

use std::collections::BTreeMap;
use std::sync::Arc;

use treehold_catalog::{BranchView, CommitRow, PendingRow, Project, ProjectKey, ViewKey};
use treehold_object::{BString, Kind, ObjectId, refname};
use uuid::Uuid;

use crate::api::{At, Oid};
use crate::{Engine, EngineError, Result};

/// A commit and its tree; both `None` on an unborn branch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub commit: Option<ObjectId>,
    pub tree: Option<ObjectId>,
    /// Short name, if a branch was named.
    pub branch: Option<String>,
    /// The commit's row, where it was read on the way.
    pub row: Option<Arc<CommitRow>>,
}

/// A user's pending rows, of all paths or of those asked for.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    pub revision: i64,
    /// Changes of a mode alone have the content that the head has.
    pub rows: BTreeMap<BString, PendingRow>,
    /// Those, as they are recorded.
    pub recorded: Vec<PendingRow>,
}

impl Overlay {
    /// Makes all rows what is recorded.
    pub fn restore(&mut self) {
        self.rows.extend(self.recorded.drain(..).map(|row| (row.path.clone(), row)));
    }
}

/// One snapshot of a project's files.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub project: Project,
    pub head: Head,
    pub overlay: Option<Overlay>,
}

/// The full name of a branch.
pub(crate) fn branch_ref(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

impl Engine {
    /// The project that a request names by UUID or by name.
    pub(crate) async fn find_project(&self, project: &str) -> Result<Project> {
        self.catalog.project(&project_key(project)?).await?.ok_or_else(no_project)
    }

    /// The branch that a request names, or the project's default.
    pub(crate) fn branch_name(project: &Project, branch: Option<&str>) -> Result<String> {
        let branch = branch.unwrap_or(&project.default_branch);
        check_branch(branch)?;
        Ok(branch.to_owned())
    }

    /// The head of a branch. A branch that does not exist is unborn where the project has no branch at all, or where it is the
    /// default branch; else it is not found.
    pub(crate) async fn branch_head(&self, project: &Project, branch: &str) -> Result<Head> {
        match self.catalog.reference(project.id, &branch_ref(branch)).await? {
            Some(commit) => self.head_of(commit, Some(branch.to_owned())).await,
            None if branch == project.default_branch
                || self.catalog.references_page(project.id, "refs/heads/", None, 1).await?.is_empty() =>
            {
                Ok(Head { branch: Some(branch.to_owned()), ..Head::default() })
            }
            None => Err(ref_not_found(branch)),
        }
    }

    pub(crate) async fn head_of(&self, commit: ObjectId, branch: Option<String>) -> Result<Head> {
        let row = self.commit_row(commit).await?;
        Ok(Head { commit: Some(commit), tree: Some(row.tree), branch, row: Some(Arc::new(row)) })
    }

    /// A commit that a ref of the caller's project reaches.
    pub(crate) async fn commit_row(&self, oid: ObjectId) -> Result<CommitRow> {
        let row = self.catalog.commits(&[oid]).await?.pop().flatten();
        row.ok_or_else(|| not_in_graph(oid))
    }

    /// The commit that `reference` names: branch, tag, full ref name or full commit oid that the project reaches.
    pub(crate) async fn resolve(&self, project: &Project, reference: Option<&str>) -> Result<Head> {
        let Some(name) = reference else { return self.branch_head(project, &project.default_branch).await };
        if is_oid(name) {
            let oid = ObjectId::from_hex(name.as_bytes()).map_err(EngineError::internal)?;
            let readable = self.catalog.may_read(project.id, &[oid]).await?[0];
            let row = self.catalog.commits(&[oid]).await?.pop().flatten();
            return match row.filter(|_| readable) {
                Some(row) => Ok(Head { commit: Some(oid), tree: Some(row.tree), ..Head::default() }),
                None => Err(ref_not_found(name)),
            };
        }
        if refname::check_full(format!("refs/heads/{name}")).is_err() {
            return Err(ref_not_found(name));
        }
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            return self.branch_head(project, branch).await;
        }
        if name.starts_with("refs/") {
            let target = self.catalog.reference(project.id, name).await?.ok_or_else(|| ref_not_found(name))?;
            return self.peel(target).await;
        }
        match self.catalog.reference(project.id, &branch_ref(name)).await? {
            Some(commit) => self.head_of(commit, Some(name.to_owned())).await,
            None => match self.catalog.reference(project.id, &format!("refs/tags/{name}")).await? {
                Some(target) => self.peel(target).await,
                None => self.branch_head(project, name).await,
            },
        }
    }

    /// Follows annotated tags to a commit.
    async fn peel(&self, mut target: ObjectId) -> Result<Head> {
        for _ in 0..16 {
            if let Some(row) = self.catalog.commits(&[target]).await?.pop().flatten() {
                return Ok(Head { commit: Some(target), tree: Some(row.tree), ..Head::default() });
            }
            let object = self.objects(&[target]).await?.pop().flatten();
            let Some(tag) = object.filter(|object| object.kind == Kind::Tag) else { break };
            target = gix_object::TagRef::from_bytes(&tag.content, gix_hash::Kind::Sha1)
                .map_err(|_| EngineError::internal("a stored tag does not decode"))?
                .target();
        }
        Err(EngineError::unprocessable("not_a_commit", "The ref does not point to a commit."))
    }

    /// The snapshot that `at` means; pending rows of `paths`, or all. One question to the catalog where a branch is meant: head and
    /// pending work are then of one moment, so that a commit shows its edits once. Refs are never remembered: what was answered to a
    /// writer is seen by every reader, through any engine.
    pub(crate) async fn view(&self, project: &str, at: &At, paths: Option<&[BString]>) -> Result<View> {
        let named = at.reference.as_deref().map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
        if named.is_some_and(|name| !may_be_branch(name, at.user.is_some())) {
            let project = self.find_project(project).await?;
            return match at.user {
                None => {
                    Ok(View { head: self.resolve(&project, at.reference.as_deref()).await?, project, overlay: None })
                }
                Some(_) => Err(self.not_a_branch(&project, named.unwrap_or_default()).await),
            };
        }
        let key = ViewKey { project: project_key(project)?, branch: named.map(str::to_owned), user: at.user };
        let BranchView { project, commit, tree, pending } =
            self.catalog.view(&key, paths).await?.ok_or_else(no_project)?;
        let branch = key.branch.unwrap_or_else(|| project.default_branch.clone());
        let head = match (commit, tree, at.user) {
            (Some(commit), Some(tree), _) => {
                Head { commit: Some(commit), tree: Some(tree), branch: Some(branch), row: None }
            }
            (Some(commit), None, _) => return Err(not_in_graph(commit)),
            // Unborn, or no branch at all.
            (None, _, None) => self.resolve(&project, at.reference.as_deref()).await?,
            (None, _, Some(_)) => match self.branch_head(&project, &branch).await {
                // Born meanwhile: its pending rows were read before, so that a commit's edits show twice rather than not at all.
                Err(EngineError::NotFound { .. }) => return Err(self.not_a_branch(&project, &branch).await),
                head => head?,
            },
        };
        let overlay = pending.map(|(revision, rows)| {
            let rows = rows.into_iter().map(|row| (row.path.clone(), row)).collect();
            Overlay { revision, rows, recorded: Vec::new() }
        });
        let mut view = View { project, head, overlay };
        self.set_modes(&mut view).await?;
        Ok(view)
    }

    /// Sets a view to the snapshot of a cursor: its commit may be read again, its pending revision only if nothing changed.
    pub(crate) async fn rebind(&self, view: &mut View, commit: Option<Oid>, revision: Option<i64>) -> Result<()> {
        if view.overlay.as_ref().map(|overlay| overlay.revision) != revision {
            return Err(EngineError::Conflict {
                code: "snapshot_moved",
                detail: "The pending work changed since the cursor was made; read from the start.".to_owned(),
            });
        }
        if view.head.commit.map(Oid) != commit {
            let Some(Oid(commit)) = commit else {
                view.head.commit = None;
                view.head.tree = None;
                return self.set_modes(view).await;
            };
            view.head = self.resolve(&view.project, Some(&commit.to_string())).await?;
            self.set_modes(view).await?;
        }
        Ok(())
    }

    /// Why there is no view of pending work on `name`.
    async fn not_a_branch(&self, project: &Project, name: &str) -> EngineError {
        let is_branch = refname::check_branch(name).is_ok();
        match is_branch && self.resolve(project, Some(name)).await.is_ok() {
            true => branch_needed(),
            false => ref_not_found(name),
        }
    }
}

/// How a request names a project: by UUID or by name.
pub(crate) fn project_key(project: &str) -> Result<ProjectKey> {
    match Uuid::try_parse(project) {
        Ok(id) => Ok(ProjectKey::Id(id)),
        Err(_) if crate::project::check_name(project).is_ok() => Ok(ProjectKey::Name(project.to_owned())),
        // No project can have this name, and not every database takes every text.
        Err(_) => Err(no_project()),
    }
}

/// Whether a name is a branch's if there is such a branch. Without a user, oids and full ref names mean something else.
fn may_be_branch(name: &str, user: bool) -> bool {
    refname::check_branch(name).is_ok() && (user || !is_oid(name) && !name.starts_with("refs/"))
}

pub(crate) fn is_oid(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn not_in_graph(commit: ObjectId) -> EngineError {
    EngineError::internal(format!("commit {commit} is not in the graph"))
}

/// Refuses what is no branch's short name. `refs/…` is a legal one for git, but never what was meant.
pub(crate) fn check_branch(branch: &str) -> Result<()> {
    let bad = |why: String| EngineError::unprocessable("bad_ref", format!("{branch:?} is not a branch name: {why}."));
    if branch.starts_with("refs/") {
        return Err(bad("name it without refs/heads/".to_owned()));
    }
    refname::check_branch(branch).map_err(|error| bad(error.to_string()))
}

/// There is no pending work on anything else.
pub(crate) fn branch_needed() -> EngineError {
    EngineError::unprocessable("not_a_branch", "Pending work lies on branches: name a branch together with a user.")
}

pub(crate) fn no_project() -> EngineError {
    EngineError::not_found(
        "project_not_found",
        "There is no such project; `GET /projects` and `treehold project list` show those that there are.",
    )
}

pub(crate) fn ref_not_found(name: &str) -> EngineError {
    EngineError::not_found("ref_not_found", format!("The project has no branch, tag or reachable commit {name:?}."))
}
