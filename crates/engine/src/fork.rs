//! Forks: a new project with another one's refs, in work proportional to them.

use treehold_catalog::{Fork, ForkOutcome, Project, RoaringTreemap};

use crate::api::{ForkSpec, ProjectSpec, ProjectView};
use crate::view::branch_ref;
use crate::{Engine, EngineError, Result};

/// How often a fork is worked out again because the source's refs moved meanwhile.
const TRIES: usize = 5;

impl Engine {
    /// Makes a project that begins with all refs of `source`. Objects are shared: none is copied or read. Pending work and tokens stay
    /// where they are, and so does what only the source's remote was seen to have: a fork fetches that by itself, with credentials of its
    /// own. Without a remote of its own the fork has none.
    pub async fn fork_project(&self, source: &str, spec: &ForkSpec) -> Result<ProjectView> {
        if let Some(remote) = &spec.remote {
            self.remote.check_url(&remote.url).map_err(|error| EngineError::RemoteNotAllowed(error.to_string()))?;
        }
        let source = self.find_project(source).await?;
        let default_branch = spec.default_branch.clone().unwrap_or_else(|| source.default_branch.clone());
        let ForkSpec { id, name, remote, receive, .. } = spec.clone();
        let new = ProjectSpec {
            name,
            default_branch: Some(default_branch),
            remote,
            receive,
            quota_bytes: source.quota_bytes,
        };
        let project = self.checked_project(id, &new)?;
        for _ in 0..TRIES {
            if let Some(outcome) = self.try_fork(&source, &project).await? {
                return outcome;
            }
        }
        Err(EngineError::Busy)
    }

    /// `None` = the source's refs moved meanwhile.
    async fn try_fork(&self, source: &Project, project: &Project) -> Result<Option<Result<ProjectView>>> {
        let seen = self.catalog.ref_state(source.id).await?;
        if *project.default_branch != *source.default_branch {
            let branch = branch_ref(&project.default_branch);
            if self.catalog.reference(source.id, &branch).await?.is_none() {
                let detail =
                    format!("The project has no branch {:?} to be the fork's default.", project.default_branch);
                return Err(EngineError::unprocessable("unknown_ref", detail));
            }
        }
        let reach = self.reach_of_refs(source).await?;
        let (source, now_ms) = (source.id, self.ambient.now_ms());
        let fork = Fork { source, seen, project: project.clone(), reach, now_ms };
        let conflict = |code, detail: &str| EngineError::Conflict { code, detail: detail.to_owned() };
        Ok(match self.catalog.fork_project(&fork).await? {
            ForkOutcome::Overtaken => None,
            ForkOutcome::Forked => Some(Ok(self.show_project(&project.id.to_string()).await?)),
            ForkOutcome::Exists => Some(Err(conflict("project_exists", "A project with this id exists."))),
            ForkOutcome::NameTaken => {
                Some(Err(conflict("name_taken", "Another project has this name; choose another one.")))
            }
        })
    }

    /// What a project's own refs reach, without what only its remote was seen to have; `None` = that makes no difference. Else it is
    /// found by a walk, which costs as much as the history is long.
    async fn reach_of_refs(&self, project: &Project) -> Result<Option<RoaringTreemap>> {
        let remote = self.catalog.remote_references(project.id, "refs/").await?;
        let remote: Vec<_> = remote.iter().map(|known| known.oid).collect();
        let ours = self.catalog.references(project.id, "refs/").await?;
        let mut tips: Vec<_> = ours.iter().map(|found| found.oid).collect();
        tips.sort_unstable();
        tips.dedup();
        if remote.iter().all(|oid| tips.binary_search(oid).is_ok()) {
            return Ok(None);
        }
        let commits = self.catalog.generations(&remote).await?.iter().all(Option::is_some);
        if commits && self.compare(project.id, &remote, &tips).await?.ours.is_empty() {
            return Ok(None);
        }
        self.closure(project, tips).await.map(Some)
    }
}
