//! The pending work of one user on one branch.

use reqwest::Method;
use serde::Serialize;
use uuid::Uuid;

use crate::content::Content;
use crate::error::{Error, Result};
use crate::files::FileReader;
use crate::project::{Against, Project, Remote};
use crate::route::Route;
use crate::streams::Pages;
use crate::transport::{Request, parsed};
use crate::types::{
    BatchAnswer, CommitAnswer, CommitRequest, ConflictPage, DropAnswer, Oid, Origin, PendingAnswer, PendingBatch,
    PendingList, ResolveFile, Status,
};

/// What the caller's view must have at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Nothing,
    /// A file with this oid.
    Oid(Oid),
}

impl Expected {
    /// `If-Match` and `If-None-Match`.
    pub(crate) fn condition(expected: Option<&Self>, request: Request) -> Request {
        match expected {
            None => request,
            Some(Self::Nothing) => request.header("if-none-match", Some("*")),
            Some(Self::Oid(oid)) => request.header("if-match", Some(&format!("\"{oid}\""))),
        }
    }
}

/// How a pending file is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Six octal digits; kept if not given.
    pub mode: Option<String>,
    /// The blob that the edit started from. The head's marks a conflict as resolved.
    pub base: Option<Oid>,
    /// What the caller last saw there. Another one is refused with 412, whose field `oid` is what is there.
    pub expected: Option<Expected>,
}

/// The pending work of one user on one branch.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub(crate) project: Project,
    pub(crate) user: Uuid,
    pub(crate) branch: Option<String>,
    origin: Origin,
}

impl Workspace {
    pub(crate) fn new(project: Project, user: Uuid) -> Self {
        Self { project, user, branch: None, origin: Origin::default() }
    }

    /// On this branch: its short name.
    pub fn branch(mut self, branch: impl Into<String>) -> Self {
        self.branch = Some(branch.into());
        self
    }

    /// What others are told of who edits.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    fn all(&self) -> Route {
        Route::new("/pending").segment(self.project.name()).segment(&self.user.to_string())
    }

    fn request(&self, method: Method, route: Route) -> Request {
        self.told(Request::new(method, route)).query("branch", self.branch.as_deref())
    }

    /// With where the edit comes from.
    pub(crate) fn told(&self, request: Request) -> Request {
        request
            .header("treehold-device", self.origin.device.as_deref())
            .header("treehold-actor", self.origin.actor.as_deref())
            .header("treehold-session", self.origin.session.as_deref())
    }

    /// Of this user, on this branch.
    pub(crate) fn listing(&self, rest: &str) -> Request {
        Request::get(self.project.route(rest)).query("user", Some(self.user)).query("branch", self.branch.as_deref())
    }

    /// What is pending, in byte order of the path.
    pub fn list(&self, limit: Option<usize>) -> Pages<PendingList> {
        Pages::new(&self.project.transport, self.request(Method::GET, self.all()).query("limit", limit))
    }

    /// A pending file, and nothing else. The user's view of any file is `project.files().read` with that user.
    pub async fn get(&self, path: impl AsRef<[u8]>) -> Result<FileReader> {
        let request = self.request(Method::GET, self.all().path(path.as_ref()));
        Ok(FileReader::new(self.project.transport.send(&request).await?))
    }

    /// Saves a file; durable when answered. A save with `expected` whose answer was lost is not taken for a conflict with itself.
    pub async fn put(
        &self,
        path: impl AsRef<[u8]>,
        content: impl Into<Content>,
        options: &PutOptions,
    ) -> Result<PendingAnswer> {
        self.write(path.as_ref(), Some(content.into()), options).await
    }

    /// Records that a file is to go.
    pub async fn delete(&self, path: impl AsRef<[u8]>, options: &PutOptions) -> Result<PendingAnswer> {
        self.write(path.as_ref(), None, options).await
    }

    async fn write(&self, path: &[u8], content: Option<Content>, options: &PutOptions) -> Result<PendingAnswer> {
        let mut request = self
            .request(Method::PUT, self.all().path(path))
            .query("mode", options.mode.as_deref())
            .query("base", options.base.as_deref());
        request = match &content {
            Some(content) => request.content(content.clone()),
            None => request.query("action", Some("deleted")),
        };
        let asked = Expected::condition(options.expected.as_ref(), request.clone()).accepted(&[412]);
        let transport = &self.project.transport;
        let reply = transport.send(&asked).await?;
        if reply.status != 412 {
            let status = reply.status;
            return match reply.bytes().await {
                Ok(body) => parsed(status, &body),
                // It is done; the same again says the same.
                Err(Error::Transport(_)) => transport.json(&self.again(request, content).await?).await,
                Err(error) => Err(error),
            };
        }
        let failed = reply.failed;
        let refused = reply.refusal().await;
        let there = refused.problem().and_then(|problem| problem.fields.get("oid")).and_then(|oid| oid.as_str());
        let wanted = match &content {
            Some(content) if failed > 0 => Some(content.oid().await?),
            _ => None,
        };
        // An attempt before this one did it, and its answer was lost: so the view is not what was expected, but what was written.
        match failed > 0 && there == wanted.as_deref() {
            true => transport.json(&self.again(request, content).await?).await,
            false => Err(refused),
        }
    }

    /// The same write, of a view that has it already.
    async fn again(&self, request: Request, content: Option<Content>) -> Result<Request> {
        let expected = match &content {
            Some(content) => Expected::Oid(content.oid().await?),
            None => Expected::Nothing,
        };
        Ok(Expected::condition(Some(&expected), request))
    }

    /// Drops one pending change: the one that the caller saw, if `expected` is given (a deletion is `Nothing`). Only then is it repeated by
    /// itself; else it could take what another device saved meanwhile.
    pub async fn discard(&self, path: impl AsRef<[u8]>, expected: Option<&Expected>) -> Result<DropAnswer> {
        let request = self.request(Method::DELETE, self.all().path(path.as_ref())).repeatable(expected.is_some());
        self.project.transport.json(&Expected::condition(expected, request)).await
    }

    /// Drops all pending work. Never repeated by itself.
    pub async fn discard_all(&self) -> Result<DropAnswer> {
        self.project.transport.json(&self.request(Method::DELETE, self.all()).repeatable(false)).await
    }

    /// Several writes at once, atomically or with a result each. Repeating it with the same key is safe; one is made if none is given.
    pub async fn batch(&self, batch: &PendingBatch, idempotency_key: Option<&str>) -> Result<BatchAnswer> {
        let request = self.request(Method::POST, self.all()).json(batch).keyed(idempotency_key);
        self.project.transport.json(&request).await
    }

    /// Where the branch is, and how each pending change stands to it.
    pub async fn status(&self) -> Result<Status> {
        self.project.transport.json(&self.listing("/status")).await
    }

    /// All sides of what is not clean; of `path` alone whatever its state.
    pub fn conflicts(&self, against: Against, path: Option<&str>, limit: Option<usize>) -> Pages<ConflictPage> {
        let against = match against {
            Against::Head => "head",
            Against::Remote => "remote",
        };
        let request =
            self.listing("/conflicts").query("against", Some(against)).query("path", path).query("limit", limit);
        Pages::new(&self.project.transport, request)
    }

    /// Says what conflicting files become: all or none.
    pub async fn resolve(&self, files: &[ResolveFile]) -> Result<BatchAnswer> {
        #[derive(Serialize)]
        struct Asked<'a> {
            user: Uuid,
            #[serde(skip_serializing_if = "Option::is_none")]
            branch: Option<&'a str>,
            files: &'a [ResolveFile],
        }
        let asked = Asked { user: self.user, branch: self.branch.as_deref(), files };
        let request = self.told(Request::post(self.project.route("/resolve"))).json(&asked);
        self.project.transport.json(&request).await
    }

    /// Commits pending work, and pushes it where the project has a remote. Repeating it with the same key is safe; one is made if none
    /// is given.
    pub async fn commit(&self, request: &CommitRequest, remote: &Remote) -> Result<CommitAnswer> {
        #[derive(Serialize)]
        struct Asked<'a> {
            user: Uuid,
            #[serde(skip_serializing_if = "Option::is_none")]
            branch: Option<&'a str>,
            #[serde(flatten)]
            request: &'a CommitRequest,
        }
        let asked = Asked { user: self.user, branch: self.branch.as_deref(), request };
        let request = Request::post(self.project.route("/commit")).json(&asked).remote(remote.token.as_ref());
        self.project.transport.json(&request.keyed(remote.idempotency_key.as_deref())).await
    }
}
