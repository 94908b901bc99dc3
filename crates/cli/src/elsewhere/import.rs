//! `treehold import` into a server elsewhere: it fetches, we look on.

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use treehold_client::{
    At, Error, LogOptions, Project, ProjectSpec, ProjectView, Remote, RemoteSpec, SyncAnswer, SyncProgress, SyncRequest,
};
use treehold_engine::remote::{Endpoint, GitRemote, RemoteTimeouts};
use treehold_engine::{Progress, Remote as _, project_name_of};
use uuid::Uuid;

use super::{Elsewhere, value};
use crate::failure::Failure;

/// Commits looked at with one request.
const LOG_PAGE: usize = 1000;

impl Elsewhere {
    /// Makes (or finds) the project and has it pull. `depth` 0 = all of the history.
    pub(super) async fn import(
        &self,
        source: &str,
        name: Option<&str>,
        branch: Option<&str>,
        depth: u32,
        progress: &dyn Progress,
    ) -> Result<Value, Failure> {
        if !source.contains("://") {
            let text = "a path of this machine is nothing to a server elsewhere: give a URL that it can reach, or make a project and push into it with git";
            return Err(Failure::usage(text));
        }
        let name = name.map_or_else(|| project_name_of(source), str::to_owned);
        let remote = self.remote()?;
        let (view, new) = self.import_project(source, &name, branch).await?;
        let project = self.treehold().project(view.id);
        let branch = branch.map_or_else(|| view.default_branch.clone(), str::to_owned);
        let request = SyncRequest { branch: Some(branch.clone()), depth: Some(depth), ..SyncRequest::default() };
        let told = |at: SyncProgress| progress.step(&at.step, at.done, at.total);
        let synced = match new {
            true => self.first_sync(&view, &request, &remote, told).await?,
            false => project.sync_with(&request, &remote, told).await.map_err(|error| self.failed(error))?,
        };
        let shallow = match depth == 0 && new {
            true => false,
            false => self.shallow(&project, &branch).await?,
        };
        if shallow && depth == 0 {
            let text = "The project's history was cut off when it was made, and stays so: import all of it under another name, or delete the project first.";
            return Err(Failure { code: "shallow_history".into(), ..Failure::failed(text) });
        }
        let files = match synced.from {
            None => synced.changed_count,
            Some(_) => self.count(&project, &branch).await?,
        };
        Ok(json!({
            "project": value(&project.show().await.map_err(|error| self.failed(error))?)?,
            "branch": branch,
            "head": synced.to,
            "objects": synced.objects,
            "bytes": synced.bytes,
            "files": files,
            "shallow": shallow,
            "remote_set": false,
        }))
    }

    /// Has a project pull that was made just now. If nothing can have come of it, the project goes again; else it stays, and the failure
    /// says so.
    async fn first_sync(
        &self,
        view: &ProjectView,
        request: &SyncRequest,
        remote: &Remote,
        told: impl FnMut(SyncProgress) + Send,
    ) -> Result<SyncAnswer, Failure> {
        // Not repeated: the refusal of a second attempt says nothing about the first one, which may still be at work.
        let error = match self.once()?.project(view.id).sync_with(request, remote, told).await {
            Ok(synced) => return Ok(synced),
            Err(error) => error,
        };
        let project = self.treehold().project(view.id);
        let gone = came_to_nothing(&error) && untouched(&project).await && project.delete().await.is_ok();
        let mut failure = self.failed(error);
        if !gone {
            let name = view.name.clone().unwrap_or_else(|| view.id.to_string());
            failure.message = format!(
                "{}; the project {name} was made and is left, as something may be in it or on its way there: repeat the command, or delete it with `treehold project delete {name} --yes`",
                failure.message.trim_end_matches('.')
            );
        }
        Err(failure)
    }

    async fn import_project(
        &self,
        source: &str,
        name: &str,
        branch: Option<&str>,
    ) -> Result<(ProjectView, bool), Failure> {
        match self.treehold().project(name).show().await {
            Ok(view) => match view.remote.as_ref().map(|remote| remote.url.as_str()) {
                Some(url) if url == source => Ok((view, false)),
                there => {
                    let has = if there.is_some() { "another remote" } else { "no remote" };
                    let text = format!("The project {name:?} has {has}; choose another name with --project.");
                    Err(Failure { code: "project_exists".into(), ..Failure::failed(text) })
                }
            },
            Err(error) if error.code() == Some("project_not_found") => {
                let branch = match branch {
                    Some(branch) => branch.to_owned(),
                    None => self.head_of(source).await?,
                };
                let (id, name) = match Uuid::try_parse(name) {
                    Ok(id) => (Some(id), None),
                    Err(_) => (None, Some(name.to_owned())),
                };
                let remote = Some(RemoteSpec { url: source.to_owned() });
                let spec = ProjectSpec { name, default_branch: Some(branch), remote, ..ProjectSpec::default() };
                let made = self.treehold().create_or_find_project(id, &spec).await;
                made.map_err(|error| self.failed(error))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The branch that the remote's HEAD names. No route says that before there is a project, so it is asked from here.
    async fn head_of(&self, source: &str) -> Result<String, Failure> {
        let unknown = |why: String| {
            Failure::failed(format!("cannot ask {source} for its branches from here: {why}; name one with --branch"))
        };
        let spool = tempfile::tempdir().map_err(|error| unknown(error.to_string()))?;
        let git = GitRemote::new(Vec::new(), spool.path().to_owned(), RemoteTimeouts::default());
        let git = git.map_err(|error| unknown(error.to_string()))?;
        let at = Endpoint { url: source.to_owned(), credentials: self.remote_token.clone(), operator: true };
        let refs = git.refs(&at, &["refs/heads/".to_owned()]).await.map_err(|error| unknown(error.to_string()))?;
        let head = refs.head.as_deref().and_then(|head| head.strip_prefix("refs/heads/"));
        let first = refs.refs.iter().find_map(|(name, _)| name.strip_prefix("refs/heads/"));
        Ok(head.or(first).unwrap_or("main").to_owned())
    }

    /// Whether history ends where a fetch cut it off.
    async fn shallow(&self, project: &Project, branch: &str) -> Result<bool, Failure> {
        let options = LogOptions { reference: Some(branch.to_owned()), limit: Some(LOG_PAGE), ..LogOptions::default() };
        let (pages, mut cursor) = (project.log(&options), None);
        loop {
            let page = pages.page(cursor.as_deref()).await.map_err(|error| self.failed(error))?;
            match page.next_cursor {
                _ if page.shallow => return Ok(true),
                None => return Ok(false),
                next => cursor = next,
            }
        }
    }

    async fn count(&self, project: &Project, branch: &str) -> Result<u64, Failure> {
        let at = At { reference: Some(branch.to_owned()), user: None };
        let listed = project.files().list(&at, None).await.map_err(|error| self.failed(error))?;
        let count = listed.items.try_fold(0, |count, _| async move { Ok(count + 1) }).await;
        count.map_err(|error| self.failed(error))
    }
}

/// Whether the server says for certain that nothing was stored by a first sync, and that nothing of it is still going on.
fn came_to_nothing(error: &Error) -> bool {
    let Error::Refused(problem) = error else { return false };
    match (problem.status, problem.code.as_str()) {
        // The remote has no such branch, is none that the server may use, or does not let it in (or is not there, which looks the same).
        (404, "ref_not_found") | (403, "remote_not_allowed") | (502, "remote_auth") => true,
        (status, _) => status == 422,
    }
}

/// Whether nobody has put anything into the project.
async fn untouched(project: &Project) -> bool {
    let Ok(view) = project.show().await else { return false };
    let Ok(refs) = project.refs(None, Some(1)).page(None).await else { return false };
    // Pending work has no ref, but counts.
    let empty = view.usage.is_none_or(|usage| usage.bytes == 0);
    view.head.is_none() && refs.refs.is_empty() && refs.next_cursor.is_none() && empty
}

#[cfg(test)]
mod tests {
    use treehold_client::Problem;

    use super::*;

    #[test]
    fn only_what_certainly_came_to_nothing_is_taken_back() {
        let refused = |status, code: &str| {
            let (code, detail) = (code.to_owned(), "d".to_owned());
            let fields = serde_json::Map::new();
            Error::Refused(Box::new(Problem { status, code, detail, retry_after: None, request_id: None, fields }))
        };
        for (status, code, nothing) in [
            (403, "remote_not_allowed", true),
            (404, "ref_not_found", true),
            (422, "bad_ref", true),
            (502, "remote_auth", true),
            (403, "scope_missing", false),
            (404, "project_not_found", false),
            (409, "head_moved", false),
            (413, "quota_exceeded", false),
            (429, "remote_rate_limited", false),
            (500, "internal", false),
            (502, "remote_failed", false),
            (502, "remote_invalid", false),
            (503, "unavailable", false),
            (504, "remote_timeout", false),
        ] {
            assert_eq!(came_to_nothing(&refused(status, code)), nothing, "{status} {code}");
        }
        let vague = Error::BadAnswer { status: 422, detail: "a proxy".to_owned() };
        assert!(!came_to_nothing(&vague) && !came_to_nothing(&Error::SnapshotChanged));
    }
}
