//! The remote: where projects come from and commits go to. [`Remote`] is what the verbs need of it; [`client`] speaks git's
//! protocol over HTTP, or with a local repository for operators.

mod address;
pub mod allow;
pub mod client;
pub mod forge;
mod hosts;
mod http;
mod local;
mod push;
mod receive;
mod rejection;
mod status;
mod traced;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use treehold_object::ObjectId;

pub use client::GitRemote;
pub(crate) use forge::Keyed;
pub use forge::{Delivery, Forge, ForgeSite, HostedCommit, Hosting, NoForge, Reported};
pub use receive::Fetching;
pub use rejection::Rejection;
pub use status::limited;
pub(crate) use traced::Traced;
pub use transport::RemoteTimeouts;

/// A secret that shows itself to nobody: no `Debug`, no `Display`, wiped when dropped.
#[derive(Clone)]
pub struct Secret(Arc<zeroize::Zeroizing<String>>);

impl Secret {
    /// Takes the secret over.
    pub fn new(secret: String) -> Self {
        Self(Arc::new(zeroize::Zeroizing::new(secret)))
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where to go, and as whom.
#[derive(Clone)]
pub struct Endpoint {
    /// `https://…`, or for operators a local path.
    pub url: String,
    /// Sent as Basic `x-access-token:TOKEN`, to this URL's host only.
    pub credentials: Option<Secret>,
    /// An operator named this URL or path: the allow-list does not bind it.
    pub operator: bool,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A URL that was not judged yet may hold a password.
        let url = if self.url.contains('@') { "…" } else { &self.url };
        let credentials = self.credentials.is_some();
        f.debug_struct("Endpoint")
            .field("url", &url)
            .field("credentials", &credentials)
            .field("operator", &self.operator)
            .finish()
    }
}

/// What the remote has. Names are as sent: judge them before use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteRefs {
    /// What `HEAD` points to, such as `refs/heads/main`.
    pub head: Option<String>,
    /// Full names and targets; `HEAD` is not among them.
    pub refs: Vec<(String, ObjectId)>,
}

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub struct FetchSpec {
    /// Commits to get; with `alone` objects of any kind.
    pub wants: Vec<ObjectId>,
    /// Commits that we have, with everything they reach (up to the shallow ones).
    pub haves: Vec<ObjectId>,
    /// Our shallow commits.
    pub shallow: Vec<ObjectId>,
    /// Cut history off after so many commits; `None` = keep the boundary, or all; `Some(0)` = all, the boundary goes away.
    pub depth: Option<u32>,
    /// Nothing but the wants, where the remote can leave out what they refer to; if not, their trees and blobs come along, or history.
    /// Of wants that refer to each other it may send the outer ones only.
    pub alone: bool,
    /// Refuse packs over so many bytes.
    pub pack_bytes_max: u64,
}

/// One ref to move at the remote.
#[derive(Debug)]
pub struct PushSpec {
    /// Full name.
    pub name: String,
    /// What it is; `None` = it does not exist.
    pub old: Option<ObjectId>,
    /// What it becomes.
    pub new: ObjectId,
    /// The precomputed pack of what the remote lacks.
    pub pack: PathBuf,
}

/// How a push ended. Each is acted on differently (docs/reliability.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The remote has it.
    Landed,
    /// The ref is not what we took it for.
    Stale(String),
    /// It could not unpack what was sent, most likely as it lacks what deltas refer to: nothing happened there.
    Lacking(String),
    /// Refused for good: hook, protected branch, size. The remote's words, control characters escaped.
    Rejected(String),
    /// Credentials are missing or wrong, or the repository is not there for them.
    Auth,
    /// Come back later, in so many seconds if said.
    Limited(Option<u64>),
    /// Nothing was sent: the remote could not be reached.
    Unreachable(String),
    /// It may or may not have arrived.
    Unknown(String),
}

/// Why a read from the remote failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The allow-list or the address check forbids it.
    #[error("{0}")]
    NotAllowed(String),
    /// Credentials are missing or wrong, or the repository is not there for them.
    #[error("the remote did not accept the credentials, or has no such repository")]
    Auth,
    /// Could not be reached or broke off.
    #[error("the remote failed: {0}")]
    Failed(String),
    /// It answered in git's protocol that it will not, in words of its own: such as for an object that it does not have.
    #[error("the remote failed: {0}")]
    Refused(String),
    /// Did not answer in time.
    #[error("the remote did not answer in time")]
    Timeout,
    /// Come back later.
    #[error("the remote asks to come back later")]
    Limited(Option<u64>),
    /// The answer is not git's protocol, or too large.
    #[error("the remote's answer is invalid: {0}")]
    Invalid(String),
    /// Our own disk failed while spooling.
    #[error("could not spool the pack")]
    Spool(#[source] std::io::Error),
}

/// A git remote.
#[async_trait]
pub trait Remote: Send + Sync + std::fmt::Debug + 'static {
    /// Refuses a URL that may never be used, without any network: scheme, user name, allow-list.
    fn check_url(&self, url: &str) -> Result<(), RemoteError>;
    /// Whether who configured the server named the URL's host: only there may credentials go that are the server's own. A host that is
    /// allowed only as every host is may be anybody's.
    fn names_host(&self, url: &str) -> bool;
    /// Refs whose names start with one of `prefixes`, and `HEAD`.
    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError>;
    /// Begins to fetch a self-contained pack (no thin deltas) into a spool file.
    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError>;
    /// Moves one ref with one `git-receive-pack` POST.
    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed;
}
