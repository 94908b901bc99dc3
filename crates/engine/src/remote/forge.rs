//! What a host of repositories offers beside git, and how its credentials get to git.
//!
//! [`Forge`] is what the verbs need of it. [`Keyed`] puts a forge's credentials on every use of a remote that brings none of its own.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use treehold_object::ObjectId;

use super::{Endpoint, FetchSpec, Fetching, PushSpec, Pushed, Remote, RemoteError, RemoteRefs, Secret};
use crate::api::{GithubFacts, PullChange, PullFilter, PullPage, PullSpec, PullView};
use crate::{EngineError, Result};

/// A repository at a forge, and as whom to ask.
#[derive(Debug, Clone)]
pub struct ForgeSite {
    /// The remote's URL.
    pub url: String,
    /// The request's own token, used for it alone.
    pub token: Option<Secret>,
    /// What is configured for all remotes; used where the forge has nothing of its own.
    pub fallback: Option<Secret>,
}

/// A webhook as it came.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// What happened, by the forge's name for it.
    pub event: &'a str,
    /// What proves that the forge sent it.
    pub signature: Option<&'a str>,
    /// The raw body: what was signed.
    pub body: &'a [u8],
}

/// What a webhook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// It is there.
    Ping,
    /// A ref moved.
    Moved {
        /// URLs of the repository, as the forge writes them.
        urls: Vec<String>,
        /// Full name of the ref.
        name: String,
        /// Where it is now; `None` = it was deleted.
        oid: Option<ObjectId>,
    },
    /// Something that means nothing here.
    Other,
}

/// A commit for the forge to make.
#[derive(Debug, Clone)]
pub struct HostedCommit {
    /// Short name of the branch that it goes on.
    pub branch: String,
    /// Where the branch must be.
    pub parent: ObjectId,
    /// Headline, and what comes after it.
    pub words: (String, String),
    /// Plain files, new or changed.
    pub additions: Vec<(String, Bytes)>,
    /// Files that go.
    pub deletions: Vec<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosting {
    /// It was made.
    Made(ObjectId),
    /// The branch is not where it was to be; nothing happened.
    Moved,
    /// It may have been made.
    Unknown(String),
}

/// A host of repositories.
#[async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug + 'static {
    /// Whether the URL is one of its repositories.
    fn has(&self, url: &str) -> bool;
    /// Credentials of its own for the repository; `None` = it has none, and others may be tried.
    async fn credentials(&self, url: &str) -> std::result::Result<Option<Secret>, RemoteError>;
    /// `refused` was not accepted: others, if they were its own. Whoever asks twice for the same ones gets the same others.
    async fn renew(&self, url: &str, refused: &Secret) -> std::result::Result<Option<Secret>, RemoteError>;
    /// Opens a pull request from `head` to `base`; `false` = one was open already.
    async fn open_pull(&self, at: &ForgeSite, head: &str, base: &str, spec: &PullSpec) -> Result<(PullView, bool)>;
    /// Changes a pull request.
    async fn change_pull(&self, at: &ForgeSite, number: u64, change: &PullChange) -> Result<PullView>;
    /// Lists pull requests.
    async fn pulls(&self, at: &ForgeSite, filter: &PullFilter) -> Result<PullPage>;
    /// What it knows of the repository and a branch.
    async fn facts(&self, at: &ForgeSite, branch: &str) -> Result<GithubFacts>;
    /// Makes a commit on a branch, signed by the forge. After an error it was not made.
    async fn commit(&self, at: &ForgeSite, commit: &HostedCommit) -> Result<Hosting>;
    /// Whether it can tell its own webhooks from others'.
    fn takes_webhooks(&self) -> bool;
    /// Reads a webhook; `None` = the signature is missing or wrong. Compared in constant time. A body that is not what the forge sends
    /// is `BadRequest`.
    fn read_webhook(&self, delivery: &Delivery<'_>) -> Result<Option<Reported>>;
}

/// No forge: every remote is git and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct NoForge;

fn none<T>() -> Result<T> {
    Err(not_github())
}

/// The project's remote is not one of the forge's.
pub(crate) fn not_github() -> EngineError {
    EngineError::unprocessable(
        "not_github",
        "The project's remote is not a repository on GitHub: this works only there.",
    )
}

#[async_trait]
impl Forge for NoForge {
    fn has(&self, _: &str) -> bool {
        false
    }

    async fn credentials(&self, _: &str) -> std::result::Result<Option<Secret>, RemoteError> {
        Ok(None)
    }

    async fn renew(&self, _: &str, _: &Secret) -> std::result::Result<Option<Secret>, RemoteError> {
        Ok(None)
    }

    async fn open_pull(&self, _: &ForgeSite, _: &str, _: &str, _: &PullSpec) -> Result<(PullView, bool)> {
        none()
    }

    async fn change_pull(&self, _: &ForgeSite, _: u64, _: &PullChange) -> Result<PullView> {
        none()
    }

    async fn pulls(&self, _: &ForgeSite, _: &PullFilter) -> Result<PullPage> {
        none()
    }

    async fn facts(&self, _: &ForgeSite, _: &str) -> Result<GithubFacts> {
        none()
    }

    async fn commit(&self, _: &ForgeSite, _: &HostedCommit) -> Result<Hosting> {
        none()
    }

    fn takes_webhooks(&self) -> bool {
        false
    }

    fn read_webhook(&self, _: &Delivery<'_>) -> Result<Option<Reported>> {
        Ok(None)
    }
}

/// A remote whose uses get the forge's credentials where they bring none: made when they are needed, and not before, so that what is
/// refused without a remote costs the forge nothing. Where the remote does not accept them, it is asked once more with fresh ones.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) forge: Arc<dyn Forge>,
    /// What is configured for all remotes.
    pub(crate) fallback: Option<Secret>,
}

impl Keyed {
    /// The same place with the forge's credentials; `None` = those that it has already are its own.
    async fn key(&self, at: &Endpoint) -> std::result::Result<Option<Endpoint>, RemoteError> {
        if at.credentials.is_some() || !self.forge.has(&at.url) {
            return Ok(None);
        }
        if !at.operator {
            self.remote.check_url(&at.url)?;
        }
        let own = match self.forge.credentials(&at.url).await {
            // The forge does not take us for who we are: whoever is configured for all remotes may be let in.
            Err(RemoteError::Auth) if self.fallback.is_some() => None,
            own => own?,
        };
        let credentials = own.or_else(|| self.fallback.clone());
        Ok(Some(Endpoint { credentials, ..at.clone() }))
    }

    /// The same place with credentials that come after those that were refused.
    async fn renewed(&self, refused: &Endpoint) -> Option<Endpoint> {
        let renewed = self.forge.renew(&refused.url, refused.credentials.as_ref()?).await;
        let credentials = renewed.unwrap_or_else(|error| {
            tracing::warn!(%error, "fresh credentials for a remote could not be had");
            None
        })?;
        Some(Endpoint { credentials: Some(credentials), ..refused.clone() })
    }
}

#[async_trait]
impl Remote for Keyed {
    fn check_url(&self, url: &str) -> std::result::Result<(), RemoteError> {
        self.remote.check_url(url)
    }

    fn names_host(&self, url: &str) -> bool {
        self.remote.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> std::result::Result<RemoteRefs, RemoteError> {
        let Some(keyed) = self.key(at).await? else { return self.remote.refs(at, prefixes).await };
        match self.remote.refs(&keyed, prefixes).await {
            Err(RemoteError::Auth) => match self.renewed(&keyed).await {
                Some(again) => self.remote.refs(&again, prefixes).await,
                None => Err(RemoteError::Auth),
            },
            done => done,
        }
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> std::result::Result<Fetching, RemoteError> {
        let Some(keyed) = self.key(at).await? else { return self.remote.fetch(at, spec).await };
        match self.remote.fetch(&keyed, spec).await {
            Err(RemoteError::Auth) => match self.renewed(&keyed).await {
                Some(again) => self.remote.fetch(&again, spec).await,
                None => Err(RemoteError::Auth),
            },
            done => done,
        }
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        let keyed = match self.key(at).await {
            Ok(None) => return self.remote.push(at, spec).await,
            Ok(Some(keyed)) => keyed,
            Err(error) => return not_sent(error),
        };
        match self.remote.push(&keyed, spec).await {
            // Nothing happened there.
            Pushed::Auth => match self.renewed(&keyed).await {
                Some(again) => self.remote.push(&again, spec).await,
                None => Pushed::Auth,
            },
            done => done,
        }
    }
}

/// There are no credentials for a push, so that nothing was sent.
fn not_sent(error: RemoteError) -> Pushed {
    match error {
        RemoteError::Auth => Pushed::Auth,
        RemoteError::Limited(seconds) => Pushed::Limited(seconds),
        RemoteError::NotAllowed(_)
        | RemoteError::Failed(_)
        | RemoteError::Refused(_)
        | RemoteError::Timeout
        | RemoteError::Invalid(_)
        | RemoteError::Spool(_) => Pushed::Unreachable(error.to_string()),
    }
}
