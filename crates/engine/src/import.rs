//! Import by an operator: a project from a URL or a local path, not bound by the allow-list.

use treehold_catalog::{CreateOutcome, Project, ProjectKey};

use crate::api::{ImportReport, ProjectSpec, RemoteSpec, SyncRequest};
use crate::progress::Progress;
use crate::quota::unbound;
use crate::remote::allow::is_http;
use crate::remote::{Endpoint, RemoteRefs};
use crate::{Engine, EngineError, Result};

/// Where the project of an import comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    New,
    /// It was there, with this remote.
    Found,
    /// It was there without a remote, and has this one from now on.
    Bound,
}

impl Engine {
    /// Makes (or finds) the project, fetches the branch and checks everything that comes. `depth` 0 = all of the history.
    pub async fn import(
        &self,
        source: &str,
        name: Option<&str>,
        branch: Option<&str>,
        depth: u32,
        progress: &dyn Progress,
    ) -> Result<ImportReport> {
        let credentials = self.configured_credentials(source).filter(|_| is_http(source));
        let at = Endpoint { url: source.to_owned(), credentials, operator: true };
        let refs = self.remote.refs(&at, &["refs/heads/".to_owned()]).await?;
        let branch = choose_branch(&refs, branch)?;
        let name = name.map_or_else(|| name_of(source), str::to_owned);
        let (project, came) = self.import_project(source, &name, &branch).await?;
        let project = unbound(&project);
        let request = SyncRequest { branch: Some(branch.clone()), depth: Some(depth), ..SyncRequest::default() };
        let synced = match self.sync_at(&project, &branch, &request, &at, progress).await {
            Ok(synced) => synced,
            Err(error) => {
                if came == Came::New {
                    // Somebody may have found it meanwhile, and put something into it: then it stays.
                    self.catalog.delete_empty_project(project.id).await?;
                }
                return Err(error);
            }
        };
        if depth == 0 && came != Came::New && !self.catalog.shallow(project.id).await?.is_empty() {
            return Err(EngineError::unprocessable(
                "shallow_history",
                "The project's history was cut off when it was made, and stays so: import all of it under another name, or delete \
                 the project first.",
            ));
        }
        let tree = self.branch_head(&project, &branch).await?.tree;
        Ok(ImportReport {
            project: self.show_project(&project.id.to_string()).await?,
            branch,
            head: synced.to,
            objects: synced.objects,
            bytes: synced.bytes,
            files: match synced.from {
                None => synced.changed_count,
                Some(_) => self.count_changes(None, tree).await?,
            },
            shallow: !self.catalog.shallow(project.id).await?.is_empty(),
            remote_set: came == Came::Bound,
        })
    }

    async fn import_project(&self, source: &str, name: &str, branch: &str) -> Result<(Project, Came)> {
        let key = match uuid::Uuid::try_parse(name) {
            Ok(id) => ProjectKey::Id(id),
            Err(_) => ProjectKey::Name(name.to_owned()),
        };
        if let Some(mut there) = self.catalog.project(&key).await? {
            match there.remote_url.as_deref() {
                Some(url) if url == source => return Ok((there, Came::Found)),
                Some(_) => {
                    let detail =
                        format!("The project {name:?} has another remote; choose another name with --project.");
                    return Err(EngineError::Conflict { code: "project_exists", detail });
                }
                None => {
                    there.remote_url = Some(source.to_owned());
                    let updated = self.catalog.update_project(&there).await?;
                    return Ok((updated.unwrap_or(there), Came::Bound));
                }
            }
        }
        let (id, name) = match key {
            ProjectKey::Id(id) => (Some(id), None),
            ProjectKey::Name(name) => (None, Some(name)),
        };
        let remote = Some(RemoteSpec { url: source.to_owned() });
        let spec = ProjectSpec { name, default_branch: Some(branch.to_owned()), remote, ..ProjectSpec::default() };
        let project = self.checked_project(id, &spec)?;
        match self.catalog.create_project(&project).await? {
            CreateOutcome::Created(project) => Ok((project, Came::New)),
            CreateOutcome::Exists(_) | CreateOutcome::NameTaken => Err(EngineError::Conflict {
                code: "name_taken",
                detail: "Another project took this name meanwhile; choose another one with --project.".to_owned(),
            }),
        }
    }
}

fn choose_branch(refs: &RemoteRefs, asked: Option<&str>) -> Result<String> {
    let has = |branch: &str| refs.refs.iter().any(|(name, _)| *name == crate::view::branch_ref(branch));
    if let Some(branch) = asked {
        return match has(branch) {
            true => Ok(branch.to_owned()),
            false => Err(EngineError::not_found("ref_not_found", format!("The remote has no branch {branch:?}."))),
        };
    }
    let head = refs.head.as_deref().and_then(|head| head.strip_prefix("refs/heads/"));
    let first = refs.refs.iter().find_map(|(name, _)| name.strip_prefix("refs/heads/"));
    Ok(head.filter(|head| has(head) || first.is_none()).or(first).unwrap_or("main").to_owned())
}

/// A project's name from the last component of a URL or path.
pub fn name_of(source: &str) -> String {
    let last = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "project".to_owned() } else { name.to_owned() }
}
