#![doc = include_str!("../README.md")]

mod content;
mod error;
mod feed;
mod files;
mod options;
mod project;
mod refs;
mod route;
mod streams;
mod transport;
mod types;
mod versions;
mod workspace;

use std::sync::Arc;

use uuid::Uuid;

pub use content::{ByteStream, Content, blob_oid};
pub use error::{BoxError, Error, Problem, Result, TransportError};
pub use feed::{FeedItem, FeedOptions};
pub use files::{At, FileHead, FileReader, Files, Listed, ReadOptions, WriteOptions};
pub use options::{Options, Secret};
pub use project::{Against, DiffOptions, LogOptions, Project, PullFilter, Remote, SearchItem};
pub use streams::{Items, Page, Pages};
pub use types::{Content as JsonContent, *};
pub use workspace::{Expected, PutOptions, Workspace};

use route::Route;
use transport::{Request, Transport};

/// A server, and the way to all there is on it. Clones share connections.
///
/// A call that is dropped ends: its connection is closed, or free for the next. What the server had begun it may still finish.
#[derive(Debug, Clone)]
pub struct Treehold {
    transport: Arc<Transport>,
}

impl Treehold {
    /// Nothing is asked of the server yet. If the process has no provider of rustls, ring becomes it.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self { transport: Arc::new(Transport::new(options)?) })
    }

    /// One project, by its id or unique name. Nothing is asked of the server yet.
    pub fn project(&self, project: impl ToString) -> Project {
        Project::new(&self.transport, project.to_string())
    }

    /// Makes a project. Repeating it is safe: its id is chosen here, unless you give one.
    pub async fn create_project(&self, id: Option<Uuid>, spec: &ProjectSpec) -> Result<ProjectView> {
        self.create_or_find_project(id, spec).await.map(|(view, _)| view)
    }

    /// The same, and whether it was made just now.
    pub async fn create_or_find_project(&self, id: Option<Uuid>, spec: &ProjectSpec) -> Result<(ProjectView, bool)> {
        let id = id.unwrap_or_else(Uuid::new_v4);
        let route = Route::new("/projects").segment(&id.to_string());
        let reply = self.transport.send(&Request::new(reqwest::Method::PUT, route).json(spec)).await?;
        let created = reply.status == 201;
        Ok((reply.json().await?, created))
    }

    /// All projects, in order of id; `limit` on a page.
    pub fn projects(&self, limit: Option<usize>) -> Pages<ProjectPage> {
        Pages::new(&self.transport, Request::get(Route::new("/projects")).query("limit", limit))
    }

    /// Whether the server, its database and its store answer. Needs no key.
    pub async fn ready(&self) -> Result<()> {
        self.transport.done(&Request::get(Route::new("/readyz"))).await
    }
}
