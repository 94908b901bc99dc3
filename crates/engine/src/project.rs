//! Projects: create, show, change, list, delete.

use treehold_catalog::{CreateOutcome, PolicyChange, Project, ReceivePolicy};
use uuid::Uuid;

use crate::api::{
    Oid, ProjectChange, ProjectPage, ProjectSpec, ProjectView, ReceiveSpec, ReceiveView, RemoteSpec, UsageView,
};
use crate::text::{page, read_id, rfc3339};
use crate::view::{branch_ref, check_branch};
use crate::{Engine, EngineError, Result};

const NAME_MAX: usize = 200;
/// More than anybody stores, and than databases count.
const QUOTA_MAX: u64 = i64::MAX as u64;

impl Engine {
    /// Creates a project with the caller's id or ours. Repeating it with the same values is no error; what the caller does not say
    /// about pushes may have changed meanwhile. `true` = it is new.
    pub async fn create_project(&self, id: Option<Uuid>, spec: &ProjectSpec) -> Result<(ProjectView, bool)> {
        if let Some(remote) = &spec.remote {
            self.remote.check_url(&remote.url).map_err(|error| EngineError::RemoteNotAllowed(error.to_string()))?;
        }
        let project = self.checked_project(id, spec)?;
        match self.catalog.create_project(&project).await? {
            CreateOutcome::Created(project) => Ok((self.project_view(&project).await?, true)),
            CreateOutcome::Exists(there) => {
                let same = there.name == project.name
                    && there.remote_url == project.remote_url
                    && there.default_branch == project.default_branch
                    && has(there.receive, spec.receive.unwrap_or_default())
                    && project.quota_bytes.is_none_or(|_| project.quota_bytes == there.quota_bytes);
                if !same {
                    return Err(EngineError::Conflict {
                        code: "project_exists",
                        detail:
                            "A project with this id exists with another name, default branch, remote, policy or quota."
                                .to_owned(),
                    });
                }
                Ok((self.project_view(&there).await?, false))
            }
            CreateOutcome::NameTaken => Err(EngineError::Conflict {
                code: "name_taken",
                detail: "Another project has this name; choose another one.".to_owned(),
            }),
        }
    }

    pub(crate) fn checked_project(&self, id: Option<Uuid>, spec: &ProjectSpec) -> Result<Project> {
        if let Some(name) = &spec.name {
            check_name(name)?;
        }
        let default_branch = spec.default_branch.clone().unwrap_or_else(|| "main".to_owned());
        check_branch(&default_branch)?;
        let receive = spec.receive.unwrap_or_default();
        Ok(Project {
            id: id.unwrap_or_else(|| self.ambient.uuid()),
            name: spec.name.clone(),
            default_branch,
            remote_url: spec.remote.as_ref().map(|remote| remote.url.clone()),
            receive: ReceivePolicy {
                deny_non_fast_forwards: receive.deny_non_fast_forwards.unwrap_or_default(),
                deny_deletes: receive.deny_deletes.unwrap_or_default(),
            },
            quota_bytes: spec.quota_bytes.map(|bytes| bytes.min(QUOTA_MAX)),
            bytes: 0,
            created_at_ms: self.ambient.now_ms(),
        })
    }

    /// Changes a project: what pushes it refuses, and its quota. What the change does not name stays as it is.
    pub async fn change_project(&self, project: &str, change: &ProjectChange) -> Result<ProjectView> {
        let project = self.find_project(project).await?;
        let ReceiveSpec { deny_non_fast_forwards, deny_deletes } = change.receive.unwrap_or_default();
        let quota_bytes = change.quota_bytes.map(|quota| quota.map(|bytes| bytes.min(QUOTA_MAX)));
        let change = PolicyChange { deny_non_fast_forwards, deny_deletes, quota_bytes };
        let project = self.catalog.set_policy(project.id, &change).await?;
        self.project_view(&project).await
    }

    /// A project's id, by its name or id.
    pub async fn project_id(&self, project: &str) -> Result<Uuid> {
        Ok(self.find_project(project).await?.id)
    }

    /// Shows a project.
    pub async fn show_project(&self, project: &str) -> Result<ProjectView> {
        let project = self.find_project(project).await?;
        self.project_view(&project).await
    }

    pub(crate) async fn project_view(&self, project: &Project) -> Result<ProjectView> {
        let head = self.catalog.reference(project.id, &branch_ref(&project.default_branch)).await?;
        Ok(ProjectView {
            id: project.id,
            name: project.name.clone(),
            default_branch: project.default_branch.clone(),
            remote: project.remote_url.clone().map(|url| RemoteSpec { url }),
            receive: ReceiveView {
                deny_non_fast_forwards: project.receive.deny_non_fast_forwards,
                deny_deletes: project.receive.deny_deletes,
            },
            head: head.map(Oid),
            usage: self.usage_of(project),
            created_at: rfc3339(project.created_at_ms),
        })
    }

    pub(crate) fn usage_of(&self, project: &Project) -> UsageView {
        UsageView { bytes: project.bytes, quota_bytes: self.quota_of(project) }
    }

    /// A page of projects, in order of id.
    pub async fn list_projects(&self, cursor: Option<&str>, limit: Option<usize>) -> Result<ProjectPage> {
        let limit = limit.unwrap_or(100).clamp(1, 1000);
        let after = cursor.map(read_id).transpose()?;
        let mut found = self.catalog.projects(after, limit as u32 + 1).await?;
        let next_cursor = page(&mut found, limit).map(|last| last.id.to_string());
        let mut projects = Vec::with_capacity(found.len());
        for project in &found {
            projects.push(self.project_view(project).await?);
        }
        Ok(ProjectPage { projects, next_cursor })
    }

    /// Deletes a project: refs and pending work at once and for good, bytes by gc.
    pub async fn delete_project(&self, project: &str) -> Result<()> {
        let project = self.find_project(project).await?;
        match self.catalog.delete_project(project.id).await? {
            true => Ok(()),
            false => Err(crate::view::no_project()),
        }
    }
}

/// Whether a project refuses what the caller says that it refuses.
fn has(policy: ReceivePolicy, said: ReceiveSpec) -> bool {
    said.deny_non_fast_forwards.is_none_or(|deny| deny == policy.deny_non_fast_forwards)
        && said.deny_deletes.is_none_or(|deny| deny == policy.deny_deletes)
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let bad = |why: &str| Err(EngineError::unprocessable("bad_name", format!("The project's name {why}.")));
    if name.is_empty() || name.len() > NAME_MAX {
        return bad("must have 1 to 200 bytes");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return bad("may hold letters, digits, '.', '_' and '-' only");
    }
    if name.starts_with(['.', '-']) || name.ends_with(".git") {
        return bad("may not start with '.' or '-', nor end in '.git'");
    }
    if Uuid::try_parse(name).is_ok() {
        return bad("may not look like a UUID");
    }
    Ok(())
}
