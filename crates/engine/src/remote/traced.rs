//! Every use of a remote, counted and traced: under the forge's credentials, so that each try is one.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use tracing::{Instrument as _, Span};
use treehold_calls::{Call, Kind, Running, span};
use url::Url;

use super::{Endpoint, FetchSpec, Fetching, PushSpec, Pushed, Remote, RemoteError, RemoteRefs};

static REFS: Call = Call::new(Kind::Remote, "git refs");
static FETCH: Call = Call::new(Kind::Remote, "git fetch");
static PUSH: Call = Call::new(Kind::Remote, "git push");

/// A remote whose uses are told to `treehold_calls`. Nothing of it goes to the remote.
#[derive(Debug)]
pub(crate) struct Traced(pub(crate) Arc<dyn Remote>);

/// Of the URL the host alone: the rest may name what is nobody else's business.
fn asked(call: &Call, at: &Endpoint) -> Span {
    let url = Url::parse(&at.url).ok();
    span::remote(call.operation(), url.as_ref().and_then(Url::host_str))
}

fn kind(error: &RemoteError) -> &'static str {
    match error {
        RemoteError::NotAllowed(_) => "not_allowed",
        RemoteError::Auth => "auth",
        RemoteError::Failed(_) | RemoteError::Refused(_) => "failed",
        RemoteError::Timeout => "timeout",
        RemoteError::Limited(_) => "limited",
        RemoteError::Invalid(_) => "invalid",
        RemoteError::Spool(_) => "spool",
    }
}

/// That a ref is elsewhere by now, or the other side needs more than it was sent, is an answer.
fn push_failure(pushed: &Pushed) -> Option<&'static str> {
    match pushed {
        Pushed::Landed | Pushed::Stale(_) | Pushed::Lacking(_) => None,
        Pushed::Rejected(_) => Some("rejected"),
        Pushed::Auth => Some("auth"),
        Pushed::Limited(_) => Some("limited"),
        Pushed::Unreachable(_) => Some("unreachable"),
        Pushed::Unknown(_) => Some("unknown"),
    }
}

/// The call lasts until the pack is here.
fn watched(
    rest: BoxStream<'static, Result<u64, RemoteError>>,
    running: Running,
) -> BoxStream<'static, Result<u64, RemoteError>> {
    let watched = stream::unfold((rest, Some(running)), async |(mut rest, mut running)| {
        let span = running.as_ref().map_or_else(Span::none, |running| running.span().clone());
        let part = rest.next().instrument(span).await;
        if let (Some(call), Some(Err(_)) | None) = (&mut running, &part) {
            call.end(part.as_ref().and_then(|part| part.as_ref().err()).map(kind));
            running = None;
        }
        part.map(|part| (part, (rest, running)))
    });
    watched.boxed()
}

#[async_trait]
impl Remote for Traced {
    fn check_url(&self, url: &str) -> Result<(), RemoteError> {
        self.0.check_url(url)
    }

    fn names_host(&self, url: &str) -> bool {
        self.0.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        let listed = self.0.refs(at, prefixes);
        REFS.watch(asked(&REFS, at), listed, |listed| listed.as_ref().err().map(kind)).await
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        let mut running = FETCH.begin(asked(&FETCH, at));
        match self.0.fetch(at, spec).instrument(running.span().clone()).await {
            Ok(mut fetching) => {
                fetching.rest = watched(fetching.rest, running);
                Ok(fetching)
            }
            Err(error) => {
                running.end(Some(kind(&error)));
                Err(error)
            }
        }
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        PUSH.watch(asked(&PUSH, at), self.0.push(at, spec), push_failure).await
    }
}
