//! Requests: credentials, deadlines, retries.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use crate::content::Content;
use crate::error::{Error, Result, TransportError, refusal};
use crate::options::{Options, Secret};
use crate::route::Route;

/// Longest answer that is taken whole, bytes.
const WHOLE_BYTES_MAX: usize = 1 << 30;
/// Longest refusal that is read, bytes.
const REFUSAL_BYTES_MAX: usize = 1 << 20;
/// Silence that a call which waits for a remote may last at least.
pub(crate) const REMOTE_SILENCE: Duration = Duration::from_secs(300);
/// What a body takes on a slow line, bytes a second.
const SLOW_BYTES: u64 = 64 << 10;
/// Before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Redirects that are followed for one request.
const REDIRECTS_MAX: usize = 3;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    route: Route,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Option<Content>,
    repeatable: bool,
    accepted: &'static [u16],
    silence: Option<Duration>,
    wrong: Option<String>,
}

impl Request {
    pub(crate) fn new(method: Method, route: Route) -> Self {
        // What a method promises: the same again is the same.
        let repeatable = matches!(method, Method::GET | Method::PUT | Method::DELETE);
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Self { method, route, query, headers, body: None, repeatable, accepted: &[], silence: None, wrong: None }
    }

    pub(crate) fn get(route: Route) -> Self {
        Self::new(Method::GET, route)
    }

    pub(crate) fn post(route: Route) -> Self {
        Self::new(Method::POST, route)
    }

    /// Left out where there is no value.
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Left out where there is no value.
    pub(crate) fn header(mut self, name: &'static str, value: Option<&str>) -> Self {
        let Some(value) = value else { return self };
        // Names of people and devices are UTF-8.
        match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => drop(self.headers.insert(HeaderName::from_static(name), value)),
            Err(_) => self.wrong = Some(format!("`{name}` cannot hold control characters")),
        }
        self
    }

    pub(crate) fn accept(mut self, kind: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(kind));
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Some(bytes.into()),
            Err(error) => self.wrong = Some(format!("the request cannot be written as JSON: {error}")),
        }
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    pub(crate) fn content(mut self, content: Content) -> Self {
        self.body = Some(content);
        self
    }

    /// Whether it may be sent again where its outcome is not known.
    pub(crate) fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// Statuses that are no failures, besides 2xx.
    pub(crate) fn accepted(mut self, statuses: &'static [u16]) -> Self {
        self.accepted = statuses;
        self
    }

    /// It may wait for a remote.
    pub(crate) fn remote(mut self, token: Option<&Secret>) -> Self {
        if let Some(token) = token {
            self.headers.insert(HeaderName::from_static("x-remote-token"), token.value());
        }
        self.silence = Some(REMOTE_SILENCE);
        self
    }

    /// At least so much silence is no failure.
    pub(crate) fn silence(mut self, silence: Duration) -> Self {
        self.silence = Some(silence);
        self
    }

    /// A key that makes it safe to repeat, made here if none is given.
    pub(crate) fn keyed(self, key: Option<&str>) -> Self {
        let made = key.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        self.header("idempotency-key", Some(&made)).repeatable(true)
    }
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: String,
    options: Options,
}

impl Transport {
    pub(crate) fn new(options: Options) -> Result<Self> {
        let base = options.base()?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that another thread was faster.
            let _installed = rustls::crypto::ring::default_provider().install_default();
        }
        let client = reqwest::Client::builder()
            .connect_timeout(options.connect)
            .redirect(Policy::custom(followed))
            .user_agent(concat!("treehold-client/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true);
        let client = if options.proxies { client } else { client.no_proxy() };
        let http = client.build().map_err(|error| Error::Usage(format!("TLS cannot be set up: {error}")))?;
        Ok(Self { http, base, options })
    }

    /// The answer's head, after as many attempts as it takes and may take.
    pub(crate) async fn send(&self, request: &Request) -> Result<Reply> {
        let mut tries = self.tries();
        loop {
            match self.attempt(request, tries.failed).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => tries.again(request.repeatable, failure).await?,
            }
        }
    }

    /// The answer as JSON. A body that is cut counts as no answer, and is asked for again where that is safe.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let mut tries = self.tries();
        loop {
            let answered = match self.attempt(request, tries.failed).await {
                Ok(reply) => reply.json().await,
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.again(request.repeatable, failure).await?,
            }
        }
    }

    /// Nothing but that it was done.
    pub(crate) async fn done(&self, request: &Request) -> Result<()> {
        self.send(request).await.map(drop)
    }

    pub(crate) fn tries(&self) -> Tries {
        Tries { failed: 0, retries: self.options.retries, pause_max: self.options.pause_max }
    }

    async fn attempt(&self, request: &Request, failed: u32) -> Result<Reply> {
        let mut asked = self.http.request(request.method.clone(), self.url(request)?).headers(request.headers.clone());
        if let Some(credential) = &self.options.credential {
            asked = asked.header(credential.name.clone(), credential.secret.value());
        }
        if let Some(body) = &request.body {
            asked = body.attach(asked);
        }
        let silence = request.silence.map_or(self.options.silence, |least| least.max(self.options.silence));
        let sending = Duration::from_secs(request.body.as_ref().map_or(0, |body| body.len() / SLOW_BYTES));
        let head = timeout(silence + sending, asked.send()).await;
        let response = head.map_err(|_| TransportError::Silent(silence + sending))?.map_err(unsent)?;
        let status = response.status();
        let reply = Reply { status: status.as_u16(), failed, response, silence };
        match status {
            _ if status.is_success() || request.accepted.contains(&reply.status) => Ok(reply),
            _ if status.is_redirection() => Err(redirected(&reply.response)),
            _ => Err(reply.refusal().await),
        }
    }

    fn url(&self, request: &Request) -> Result<Url> {
        if let Some(why) = &request.wrong {
            return Err(Error::Usage(why.clone()));
        }
        let text = format!("{}{}", self.base, request.route.text()?);
        let mut url = Url::parse(&text).map_err(|_| Error::Usage("the request has no URL".to_owned()))?;
        // A parser that resolves something would ask for something else.
        if url.as_str() != text {
            return Err(Error::Usage("what is named cannot stand in a URL".to_owned()));
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(url)
    }
}

/// Follows only what keeps method, body and server: a key must not go elsewhere.
fn followed(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
    let kept = matches!(attempt.status().as_u16(), 307 | 308);
    match same && kept && attempt.previous().len() <= REDIRECTS_MAX {
        true => attempt.follow(),
        false => attempt.stop(),
    }
}

fn redirected(response: &Response) -> Error {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    let whither =
        target.map_or_else(|| "elsewhere".to_owned(), |target| format!("to {}", target.origin().ascii_serialization()));
    let detail =
        format!("the server sends its callers {whither}; give that as the server if you trust it with the key");
    Error::BadAnswer { status: response.status().as_u16(), detail }
}

/// Whether anything can have arrived.
fn unsent(error: reqwest::Error) -> TransportError {
    let never = error.is_connect();
    let error = Box::new(error.without_url());
    if never { TransportError::Unreachable(error) } else { TransportError::Broken(error) }
}

/// Attempts at one request.
#[derive(Debug)]
pub(crate) struct Tries {
    pub(crate) failed: u32,
    retries: u32,
    pause_max: Duration,
}

impl Tries {
    /// Waits before the next attempt, or gives the failure back.
    pub(crate) async fn again(&mut self, repeatable: bool, failure: Error) -> Result<()> {
        if self.failed >= self.retries || !may_repeat(repeatable, &failure) {
            return Err(failure);
        }
        tokio::time::sleep(self.pause(failure.retry_after(), chance())).await;
        self.failed += 1;
        Ok(())
    }

    /// It went on meanwhile.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// What the server asks for, or twice as long each time; spread by chance (0 to 1).
    pub(crate) fn pause(&self, asked: Option<Duration>, chance: f64) -> Duration {
        match asked {
            Some(asked) => asked.mul_f64(1.0 + chance / 4.0).min(self.pause_max),
            None => {
                let grown = FIRST_PAUSE.saturating_mul(1 << self.failed.min(16));
                grown.min(self.pause_max).mul_f64(0.5 + chance / 2.0)
            }
        }
    }
}

/// Between 0 and 1, so that many callers do not come back at the same moment.
pub(crate) fn chance() -> f64 {
    let [high, low, ..] = *Uuid::new_v4().as_bytes();
    f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
}

/// Whether the same request may be sent again after this failure.
fn may_repeat(repeatable: bool, failure: &Error) -> bool {
    match failure {
        // It was turned away before anything was done, or never arrived.
        Error::Refused(problem) if problem.status == 429 => true,
        Error::Transport(TransportError::Unreachable(_)) => true,
        // 502 and 504 of the server itself are about a remote, and for its caller to judge; those of a proxy say nothing.
        Error::Refused(problem) => repeatable && problem.status == 503,
        Error::BadAnswer { status, .. } => repeatable && matches!(status, 429 | 502 | 503 | 504),
        Error::Transport(_) => repeatable,
        Error::SnapshotChanged | Error::Usage(_) => false,
    }
}

/// An answer whose body is still to be read. Dropping it ends the transfer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// How many attempts failed before this one.
    pub(crate) failed: u32,
    response: Response,
    silence: Duration,
}

impl Reply {
    /// An answer that no server gave.
    #[cfg(test)]
    pub(crate) fn of(pieces: Vec<&'static str>) -> Self {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let response = Response::from(http::Response::new(body));
        Self { status: 200, failed: 0, response, silence: Duration::from_secs(1) }
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Text of a header.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        Some(self.headers().get(name)?.to_str().ok()?.to_owned())
    }

    /// Whether the body is of this kind.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.text("content-type").is_some_and(|given| given.starts_with(kind))
    }

    /// Silence after which it counts as broken.
    pub(crate) fn within(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The next bytes; `None` = the body is whole.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let next = timeout(self.silence, self.response.chunk()).await;
        let next = next.map_err(|_| TransportError::Silent(self.silence))?;
        next.map_err(|error| TransportError::Broken(Box::new(error.without_url())).into())
    }

    /// All of it, up to `max` bytes.
    async fn whole(&mut self, max: usize) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > max {
                return Err(Error::BadAnswer {
                    status: self.status,
                    detail: format!("the answer is over {max} bytes"),
                });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    pub(crate) async fn bytes(mut self) -> Result<Vec<u8>> {
        self.whole(WHOLE_BYTES_MAX).await
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let status = self.status;
        parsed(status, &self.bytes().await?)
    }

    /// Why it is a failure.
    pub(crate) async fn refusal(mut self) -> Error {
        match self.whole(REFUSAL_BYTES_MAX).await {
            Ok(body) => refusal(self.status, self.headers(), &body),
            Err(error) => error,
        }
    }
}

/// Bytes of an answer as what they should be.
pub(crate) fn parsed<T: DeserializeOwned>(status: u16, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only where, not what: an answer may hold anything.
        let detail =
            format!("the answer is not the JSON that it should be (line {}, column {})", error.line(), error.column());
        Error::BadAnswer { status, detail }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Error {
        refusal(status, &HeaderMap::new(), br#"{"code":"c","detail":"d"}"#)
    }

    fn broken() -> Error {
        TransportError::Silent(Duration::from_secs(1)).into()
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let unreachable = || TransportError::Unreachable("x".into()).into();
        for (failure, safe, unsafe_too) in [
            (refused(429), true, true),
            (unreachable(), true, true),
            (refused(503), true, false),
            (broken(), true, false),
            (refusal(502, &HeaderMap::new(), b"<html>"), true, false),
            (refusal(504, &HeaderMap::new(), b""), true, false),
            (refused(502), false, false),
            (refused(504), false, false),
            (refused(500), false, false),
            (refused(409), false, false),
            (Error::SnapshotChanged, false, false),
        ] {
            assert_eq!((may_repeat(true, &failure), may_repeat(false, &failure)), (safe, unsafe_too), "{failure:?}");
        }
        let repeats = |method| Request::new(method, Route::new("/x")).repeatable;
        assert!([Method::GET, Method::PUT, Method::DELETE].into_iter().all(repeats));
        assert!(![Method::POST, Method::PATCH].into_iter().any(repeats));
        assert!(Request::post(Route::new("/x")).keyed(None).repeatable);
    }

    #[test]
    fn pauses_grow_are_spread_and_bounded() {
        let tries = |failed| Tries { failed, retries: 4, pause_max: Duration::from_secs(20) };
        assert_eq!(tries(0).pause(None, 1.0), Duration::from_millis(250));
        assert_eq!(tries(3).pause(None, 0.0), Duration::from_millis(1000));
        assert_eq!(tries(30).pause(None, 1.0), Duration::from_secs(20));
        assert_eq!(tries(0).pause(Some(Duration::from_secs(4)), 1.0), Duration::from_secs(5));
        assert_eq!(tries(0).pause(Some(Duration::from_secs(4)), 0.0), Duration::from_secs(4));
        assert_eq!(tries(0).pause(Some(Duration::from_secs(3600)), 0.0), Duration::from_secs(20));
        assert!((0.0..=1.0).contains(&chance()));
    }

    #[tokio::test]
    async fn attempts_are_bounded() {
        let mut tries = Tries { failed: 0, retries: 2, pause_max: Duration::ZERO };
        for _ in 0..2 {
            tries.again(true, broken()).await.unwrap();
        }
        assert!(tries.again(true, broken()).await.is_err());
    }
}
