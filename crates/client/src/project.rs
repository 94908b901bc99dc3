//! One project.

use std::sync::Arc;

use reqwest::Method;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Result, TransportError, told};
use crate::feed::{FeedItem, FeedOptions, feed};
use crate::files::{At, FileReader, Files, Listed, head};
use crate::options::Secret;
use crate::route::Route;
use crate::streams::{Entries, Items, Pages, Piece, ServerEvents, items};
use crate::transport::{Request, Transport, parsed};
use crate::types::{
    ActionsRequest, Blame, CommitAnswer, Diff, ForkSpec, Found, LogPage, OpenedPull, ProjectChange, ProjectView,
    PullChange, PullPage, PullSpec, PullState, PullView, PushAnswer, RemoteView, SearchEnd, SearchRequest, SyncAnswer,
    SyncProgress, SyncRequest, TreeDiff,
};
use crate::workspace::Workspace;

/// What calls take that may speak with the project's remote.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// Credentials for the remote, for this request only; the server's own if not given.
    pub token: Option<Secret>,
    /// Makes a commit or batch safe to repeat; made by the client if not given.
    pub idempotency_key: Option<String>,
}

/// What is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// A ref, or the oid of a commit or tree.
    pub from: Option<String>,
    /// The same.
    pub to: Option<String>,
    /// Compared to this user's view.
    pub user: Option<Uuid>,
    /// Short branch name, with `user`.
    pub branch: Option<String>,
    /// Only paths that start with this.
    pub prefix: Option<String>,
    /// Tell of files that moved and kept their content.
    pub renames: bool,
    /// Files on a page.
    pub limit: Option<usize>,
}

/// What a log shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Branch, tag, full ref name or full commit oid.
    pub reference: Option<String>,
    /// Only commits that changed it.
    pub path: Option<String>,
    /// Go from a merge to its first parent only.
    pub first_parent: bool,
    /// Commits on a page.
    pub limit: Option<usize>,
}

/// What pending work is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Against {
    /// Our branch as it is.
    #[default]
    Head,
    /// The remote's branch as it was last seen.
    Remote,
}

/// Which pull requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullFilter {
    /// Open or closed ones; both if not given.
    pub state: Option<PullState>,
    /// Short name of the branch with the changes.
    pub head: Option<String>,
    /// On a page.
    pub limit: Option<usize>,
}

/// What a search gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchItem {
    /// A match, or a file that has some.
    Found(Box<Found>),
    /// What was searched; where one answer was not enough there are several.
    End(SearchEnd),
}

/// One project. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Project {
    pub(crate) transport: Arc<Transport>,
    name: String,
}

impl Project {
    pub(crate) fn new(transport: &Arc<Transport>, name: String) -> Self {
        Self { transport: Arc::clone(transport), name }
    }

    /// Its id or unique name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn route(&self, rest: &str) -> Route {
        Route::new("/projects").segment(&self.name).then(rest)
    }

    /// The project itself.
    pub async fn show(&self) -> Result<ProjectView> {
        self.transport.json(&Request::get(self.route(""))).await
    }

    /// What is not named stays as it is.
    pub async fn change(&self, change: &ProjectChange) -> Result<ProjectView> {
        self.transport.json(&Request::new(Method::PATCH, self.route("")).json(change).repeatable(true)).await
    }

    /// Deletes it for good.
    pub async fn delete(&self) -> Result<()> {
        let reply = self.transport.send(&Request::new(Method::DELETE, self.route("")).accepted(&[404])).await?;
        // Gone already: by the attempt before this one, whose answer did not arrive. Else there never was one.
        match reply.status == 404 && reply.failed == 0 {
            true => Err(reply.refusal().await),
            false => Ok(()),
        }
    }

    /// Makes a project with the same refs.
    pub async fn fork(&self, spec: &ForkSpec) -> Result<ProjectView> {
        self.transport.json(&Request::post(self.route("/fork")).json(spec)).await
    }

    /// Its files.
    pub fn files(&self) -> Files<'_> {
        Files::new(self)
    }

    /// A user's pending work on the default branch; [`Workspace::branch`] takes another one.
    pub fn workspace(&self, user: Uuid) -> Workspace {
        Workspace::new(self.clone(), user)
    }

    /// One commit of many files without pending work.
    pub async fn commit(&self, request: &ActionsRequest, remote: &Remote) -> Result<CommitAnswer> {
        let request = Request::post(self.route("/commits")).json(request);
        self.transport.json(&request.remote(remote.token.as_ref()).keyed(remote.idempotency_key.as_deref())).await
    }

    fn syncing(&self, request: &SyncRequest, remote: &Remote) -> Request {
        Request::post(self.route("/sync")).json(request).remote(remote.token.as_ref()).repeatable(true)
    }

    /// Pulls. Repeating it is safe.
    pub async fn sync(&self, request: &SyncRequest, remote: &Remote) -> Result<SyncAnswer> {
        self.transport.json(&self.syncing(request, remote)).await
    }

    /// The same, and says how far it is. What is cut on the way is not begun again: the server goes on without a listener.
    pub async fn sync_with(
        &self,
        request: &SyncRequest,
        remote: &Remote,
        mut progress: impl FnMut(SyncProgress) + Send,
    ) -> Result<SyncAnswer> {
        let asked = self.syncing(request, remote).accept("text/event-stream");
        let mut events = ServerEvents::new(self.transport.send(&asked).await?);
        while let Some(event) = events.next().await? {
            match event.event.as_str() {
                "progress" => progress(parsed(200, event.data.as_bytes())?),
                "result" => return parsed(200, event.data.as_bytes()),
                "problem" => {
                    let unknown =
                        || Error::BadAnswer { status: 200, detail: "the sync failed without a reason".to_owned() };
                    return Err(
                        told(0, event.data.as_bytes()).map_or_else(unknown, |problem| Error::Refused(problem.into()))
                    );
                }
                _ => {}
            }
        }
        Err(TransportError::Broken("the answer was cut; sync again, which is safe".into()).into())
    }

    /// Pushes what was committed without being pushed. Repeating it is safe.
    pub async fn push(&self, branch: Option<&str>, remote: &Remote) -> Result<PushAnswer> {
        #[derive(Serialize)]
        struct Asked<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            branch: Option<&'a str>,
        }
        let request = Request::post(self.route("/push")).json(&Asked { branch });
        self.transport.json(&request.remote(remote.token.as_ref()).repeatable(true)).await
    }

    /// What happens in the project, without an end. It comes back by itself from where it was, skips nothing and tells nothing twice.
    /// It ends with an error that does not pass (the key is refused, the project is gone), or when it is dropped.
    pub fn feed(&self, options: FeedOptions) -> Items<FeedItem> {
        feed(&self.transport, self.route("/changes"), options)
    }

    /// What matches in the files of one snapshot, as it is found.
    pub async fn search(&self, request: SearchRequest) -> Result<Listed<SearchItem>> {
        let left = request.limit;
        let mut search = Search { project: self.clone(), request, left, entries: None };
        let mut entries = search.ask();
        let snapshot = head(&mut entries).await?;
        search.entries = Some(entries);
        let items = items(search, |mut search| async move { Ok(search.next().await?.map(|item| (item, search))) });
        Ok(Listed { snapshot, items })
    }

    fn differing(&self, options: &DiffOptions) -> Request {
        Request::get(self.route("/diff"))
            .query("from", options.from.as_deref())
            .query("to", options.to.as_deref())
            .query("user", options.user)
            .query("branch", options.branch.as_deref())
            .query("prefix", options.prefix.as_deref())
            .query("renames", options.renames.then_some(true))
    }

    /// What differs, with patches.
    pub fn diff(&self, options: &DiffOptions) -> Pages<Diff> {
        let request = self.differing(options).query("limit", Some(options.limit.unwrap_or(100)));
        Pages::new(&self.transport, request.accept("application/json"))
    }

    /// What differs, as git's unified text.
    pub async fn diff_text(&self, options: &DiffOptions) -> Result<Vec<u8>> {
        self.transport.send(&self.differing(options).accept("text/x-diff")).await?.bytes().await
    }

    /// Which paths differ, without looking into them.
    pub fn changed_paths(&self, options: &DiffOptions) -> Pages<TreeDiff> {
        let request = self.differing(options).query("limit", options.limit).query("patch", Some(false));
        Pages::new(&self.transport, request)
    }

    /// History, newest first.
    pub fn log(&self, options: &LogOptions) -> Pages<LogPage> {
        let request = Request::get(self.route("/log"))
            .query("ref", options.reference.as_deref())
            .query("path", options.path.as_deref())
            .query("first_parent", options.first_parent.then_some(true))
            .query("limit", options.limit);
        Pages::new(&self.transport, request)
    }

    /// Who wrote which lines; `lines` from 1, both ends included.
    pub async fn blame(&self, path: impl AsRef<[u8]>, at: &At, lines: Option<(u64, u64)>) -> Result<Blame> {
        let request = Request::get(self.route("/blame").path(path.as_ref()))
            .query("ref", at.reference.as_deref())
            .query("user", at.user)
            .query("start_line", lines.map(|(start, _)| start))
            .query("end_line", lines.map(|(_, end)| end));
        self.transport.json(&request).await
    }

    /// A bundle of all refs, as `git bundle` makes it; `user`: with that user's pending work.
    pub async fn bundle(&self, user: Option<Uuid>) -> Result<FileReader> {
        self.exported(Request::get(self.route("/bundle")).query("user", user)).await
    }

    /// The files as a tar archive, compressed with gzip.
    pub async fn tar_gz(&self, at: &At) -> Result<FileReader> {
        self.archived("/archive.tar.gz", at).await
    }

    /// The files as a zip archive.
    pub async fn zip(&self, at: &At) -> Result<FileReader> {
        self.archived("/archive.zip", at).await
    }

    async fn archived(&self, rest: &str, at: &At) -> Result<FileReader> {
        let request = Request::get(self.route(rest)).query("ref", at.reference.as_deref()).query("user", at.user);
        self.exported(request).await
    }

    /// It is made before its first byte comes, which takes its time.
    async fn exported(&self, request: Request) -> Result<FileReader> {
        Ok(FileReader::new(self.transport.send(&request.remote(None)).await?))
    }

    /// Where the remote is, and what its forge says of it.
    pub async fn remote(&self, remote: &Remote) -> Result<RemoteView> {
        self.transport.json(&Request::get(self.route("/remote")).remote(remote.token.as_ref())).await
    }

    /// Opens a pull request, or answers with the one that is open.
    pub async fn open_pull(&self, spec: &PullSpec, remote: &Remote) -> Result<OpenedPull> {
        // An open one is found again.
        let request = Request::post(self.route("/pulls")).json(spec).repeatable(true);
        self.transport.json(&request.remote(remote.token.as_ref())).await
    }

    /// Pull requests, newest first.
    pub fn pulls(&self, filter: &PullFilter, remote: &Remote) -> Pages<PullPage> {
        // Without a word the server lists open ones alone.
        let state = match filter.state {
            None => "all",
            Some(PullState::Open) => "open",
            Some(PullState::Closed) => "closed",
        };
        let request = Request::get(self.route("/pulls"))
            .query("state", Some(state))
            .query("head", filter.head.as_deref())
            .query("limit", filter.limit);
        Pages::new(&self.transport, request.remote(remote.token.as_ref()))
    }

    /// Changes a pull request: what is not named stays.
    pub async fn change_pull(&self, number: u64, change: &PullChange, remote: &Remote) -> Result<PullView> {
        let route = self.route("/pulls").segment(&number.to_string());
        let request = Request::new(Method::PATCH, route).json(change).repeatable(true);
        self.transport.json(&request.remote(remote.token.as_ref())).await
    }
}

/// A search over as many answers as it takes.
struct Search {
    project: Project,
    request: SearchRequest,
    /// Entries that may still come.
    left: Option<usize>,
    entries: Option<Entries<Found, SearchEnd>>,
}

impl Search {
    fn ask(&self) -> Entries<Found, SearchEnd> {
        let request = Request::post(self.project.route("/search")).json(&self.request).repeatable(true);
        Entries::new(&self.project.transport, request)
    }

    async fn next(&mut self) -> Result<Option<SearchItem>> {
        while let Some(entries) = &mut self.entries {
            match entries.next().await? {
                Piece::Head(_) => {}
                Piece::Entry(found) => {
                    self.left = self.left.map(|left| left.saturating_sub(1));
                    return Ok(Some(SearchItem::Found(Box::new(found))));
                }
                Piece::End(end) => {
                    (self.request.cursor, self.request.limit) = (end.next_cursor.clone(), self.left);
                    let more = end.next_cursor.is_some() && self.left != Some(0);
                    self.entries = more.then(|| self.ask());
                    return Ok(Some(SearchItem::End(end)));
                }
            }
        }
        Ok(None)
    }
}
