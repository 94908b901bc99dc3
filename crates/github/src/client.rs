//! One call of the REST API: who asks, how long it may take, what a limit means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use ring::{digest, hmac};
use serde_json::Value;
use treehold_calls::{Call as Counted, Kind, span};
use treehold_engine::remote::{ForgeSite, RemoteError, limited};
use treehold_engine::{Ambient, EngineError, Secret};
use treehold_wire::printable;
use url::{Origin, Url};

use crate::app::App;
use crate::commits;
use crate::limits::{Asker, Limits};
use crate::place::{self, Repository};

static API: Counted = Counted::new(Kind::Remote, "github api");

const USER_AGENT: &str = concat!("treehold/", env!("CARGO_PKG_VERSION"));
/// The version of the API that this is written for.
const API_VERSION: &str = "2022-11-28";
/// Largest answer that is read of most calls, bytes.
const ANSWER_LEN_MAX: usize = 8 << 20;
/// Longest text of GitHub that is passed on, bytes.
const TEXT_LEN_MAX: usize = 1_000;
/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one exchange; GitHub itself gives up after 10 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A wait that GitHub asks for is waited for within the request if it is not longer, milliseconds.
const WAIT_MAX_MS: u64 = 5_000;
/// How often at most.
const WAITS_MAX: usize = 2;
/// What a redirect means.
pub(crate) const RENAMED: &str = "GitHub says that the repository was renamed. A project keeps its remote: fork it, with the new URL as the fork's remote.";
/// Answers kept to be asked for by their tag.
const TAGGED_MAX: usize = 1_000;
/// Longer ones are asked for anew, bytes.
const TAGGED_LEN_MAX: usize = 32 << 10;

/// GitHub, as one deployment sees it.
pub struct GitHub {
    pub(crate) api: Url,
    pub(crate) site: Origin,
    pub(crate) app: Option<App>,
    pub(crate) webhook_secret: Option<hmac::Key>,
    pub(crate) ambient: Arc<dyn Ambient>,
    http: OnceLock<Client>,
    tagged: Mutex<HashMap<TagKey, Tagged>>,
    limits: Limits,
}

/// The URL, and the SHA-256 of whose answer it is: others may not see what one may.
type TagKey = (String, Option<[u8; 32]>);

/// An answer with its tag.
#[derive(Clone)]
struct Tagged {
    tag: HeaderValue,
    body: Arc<Value>,
}

impl std::fmt::Debug for GitHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (app, webhooks) = (self.app.is_some(), self.webhook_secret.is_some());
        f.debug_struct("GitHub")
            .field("api", &self.api.as_str())
            .field("app", &app)
            .field("webhooks", &webhooks)
            .finish()
    }
}

/// One request, without who asks.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below the API's URL; each is escaped as one.
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Vec<(&'a str, String)>,
    pub(crate) body: Option<Value>,
    /// Ask only for what changed since it was asked last: that costs nothing of the limit.
    pub(crate) tagged: bool,
    /// It goes to the GraphQL API, which is beside the REST API.
    pub(crate) graphql: bool,
    /// Its token is a proof of the App's.
    pub(crate) proved: bool,
    /// Largest answer that is read, bytes.
    pub(crate) answer_len_max: usize,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: Vec<&'a str>) -> Self {
        let (query, body, answer_len_max) = (Vec::new(), None, ANSWER_LEN_MAX);
        Self { method, path, query, body, tagged: false, graphql: false, proved: false, answer_len_max }
    }

    pub(crate) fn get(path: Vec<&'a str>) -> Self {
        Self { tagged: true, ..Self::new(Method::GET, path) }
    }

    pub(crate) fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn json(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// For an answer that may be longer than most.
    pub(crate) fn answer_len_max(self, bytes: usize) -> Self {
        Self { answer_len_max: bytes.max(ANSWER_LEN_MAX), ..self }
    }

    pub(crate) fn proved(self) -> Self {
        Self { proved: true, ..self }
    }

    /// A GraphQL document with its variables.
    pub(crate) fn graphql(document: &str, variables: Value) -> Self {
        let call = Self { graphql: true, ..Self::new(Method::POST, Vec::new()) };
        call.json(serde_json::json!({"query": document, "variables": variables}))
    }

    fn url(&self, api: &Url) -> Url {
        let mut url = api.clone();
        if self.graphql {
            // `/api/v3` of an Enterprise server has it at `/api/graphql`, `https://api.github.com` at `/graphql`.
            let path = api.path().trim_end_matches('/');
            url.set_path(&format!("{}/graphql", path.strip_suffix("/v3").unwrap_or(path)));
            return url;
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `null` if it is not JSON.
    pub(crate) body: Arc<Value>,
}

impl GitHub {
    pub(crate) fn assemble(
        api: Url,
        app: Option<App>,
        webhook_secret: Option<hmac::Key>,
        ambient: Arc<dyn Ambient>,
    ) -> Self {
        let site = place::site_of(&api);
        let (http, tagged, limits) = (OnceLock::new(), Mutex::default(), Limits::default());
        Self { api, site, app, webhook_secret, ambient, http, tagged, limits }
    }

    /// The repository of a URL that was found to be one.
    pub(crate) fn repository(&self, url: &str) -> Result<Repository, EngineError> {
        place::repository(&self.site, url)
            .ok_or_else(|| EngineError::unprocessable("not_github", "The project's remote is not on GitHub."))
    }

    /// Calls as the request's own token, else as the App, else as whom is configured for all, also where GitHub does not know the App. Where
    /// the App's token is not accepted, once more with a fresh one: a 401 has changed nothing.
    pub(crate) async fn call(&self, at: &ForgeSite, call: &Call<'_>) -> Result<Answer, RemoteError> {
        if at.token.is_some() {
            return self.exchange(call, at.token.as_ref()).await;
        }
        let apps = match self.app_token(&at.url).await {
            Err(RemoteError::Auth) if at.fallback.is_some() => None,
            apps => apps?,
        };
        let token = apps.or_else(|| at.fallback.clone());
        let answer = self.exchange(call, token.as_ref()).await?;
        match (answer.status, token) {
            (401, Some(refused)) => match self.renew_app_token(&at.url, &refused).await? {
                Some(fresh) => self.exchange(call, Some(&fresh)).await,
                None => Ok(answer),
            },
            _ => Ok(answer),
        }
    }

    /// One exchange, and again after a wait that GitHub asks for, if that is short.
    pub(crate) async fn exchange(&self, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, RemoteError> {
        for _ in 0..WAITS_MAX {
            match self.send(call, token).await {
                Err(RemoteError::Limited(Some(seconds))) if seconds * 1_000 <= WAIT_MAX_MS => {
                    // Not all who wait come back at once.
                    let jitter_ms = u64::from(self.ambient.random()[0]) * 2;
                    tokio::time::sleep(Duration::from_millis(seconds * 1_000 + jitter_ms)).await;
                }
                done => return done,
            }
        }
        self.send(call, token).await
    }

    async fn send(&self, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, RemoteError> {
        let asker = Asker::of(call, token);
        if let Some(left_s) = self.limits.left_s(asker, self.ambient.now_ms()) {
            return Err(RemoteError::Limited(Some(left_s)));
        }
        let span = span::remote(API.operation(), self.api.host_str());
        span.record("http.request.method", call.method.as_str());
        let answer = API.watch(span.clone(), self.send_once(call, token), failure).await;
        match &answer {
            Ok(answer) => {
                span.record("http.response.status_code", i64::from(answer.status));
            }
            Err(RemoteError::Limited(wait_s)) => self.limits.note(asker, *wait_s, self.ambient.now_ms()),
            Err(_) => {}
        }
        answer
    }

    async fn send_once(&self, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, RemoteError> {
        let url = call.url(&self.api);
        let key = call.tagged.then(|| (url.to_string(), token.map(|token| sha256(token.expose()))));
        let known = key.as_ref().and_then(|key| self.tagged().get(key).cloned());
        let mut request = self.client()?.request(call.method.clone(), url).headers(headers(token)?);
        if let Some(known) = &known {
            request = request.header(header::IF_NONE_MATCH, known.tag.clone());
        }
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(send_error)?;
        let (status, headers) = (response.status(), response.headers().clone());
        if let (StatusCode::NOT_MODIFIED, Some(known)) = (status, known) {
            return Ok(Answer { status: 200, body: known.body });
        }
        let text = read(response, call.answer_len_max).await?;
        let small = text.len() <= TAGGED_LEN_MAX;
        let body: Arc<Value> = Arc::new(serde_json::from_slice(&text).unwrap_or_default());
        drop(text);
        let words = body["message"].as_str().unwrap_or_default();
        // The GraphQL API tells of limits with status 200.
        let told = if call.graphql && commits::limits(&body) { StatusCode::TOO_MANY_REQUESTS } else { status };
        if let Some(wait) = limited(told, &headers, words) {
            return Err(RemoteError::Limited(wait));
        }
        if let (Some(key), StatusCode::OK, Some(tag)) = (key, status, headers.get(header::ETAG))
            && small
        {
            let mut tagged = self.tagged();
            if tagged.len() >= TAGGED_MAX {
                tagged.clear();
            }
            tagged.insert(key, Tagged { tag: tag.clone(), body: body.clone() });
        }
        Ok(Answer { status: status.as_u16(), body })
    }

    fn tagged(&self) -> std::sync::MutexGuard<'_, HashMap<TagKey, Tagged>> {
        self.tagged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the system's certificates, hence only when GitHub is first asked.
    fn client(&self) -> Result<&Client, RemoteError> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(RemoteError::Failed("TLS is not set up in this process".into()));
        }
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .referer(false)
            // A redirect means that the repository was renamed: the token is not carried to wherever that is.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true);
        let client =
            builder.build().map_err(|error| RemoteError::Failed(format!("TLS could not be set up: {error}")))?;
        Ok(self.http.get_or_init(|| client))
    }
}

/// The kind of a failure. That GitHub refuses what it was asked for is an answer.
fn failure(answer: &Result<Answer, RemoteError>) -> Option<&'static str> {
    match answer {
        Ok(answer) if answer.status >= 500 => Some("server"),
        Ok(_) => None,
        Err(RemoteError::Timeout) => Some("timeout"),
        Err(RemoteError::Limited(_)) => Some("limited"),
        Err(RemoteError::Invalid(_)) => Some("invalid"),
        Err(_) => Some("failed"),
    }
}

pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

fn headers(token: Option<&Secret>) -> Result<HeaderMap, RemoteError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    headers.insert("x-github-api-version", HeaderValue::from_static(API_VERSION));
    if let Some(token) = token {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let mut bearer = bearer.map_err(|_| RemoteError::Auth)?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    Ok(headers)
}

async fn read(response: reqwest::Response, len_max: usize) -> Result<Vec<u8>, RemoteError> {
    let mut stream = response.bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(send_error)?;
        if body.len() + chunk.len() > len_max {
            return Err(RemoteError::Invalid("it is too long".into()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// No text of these holds a token: that is in a header, and headers are in no error.
fn send_error(error: reqwest::Error) -> RemoteError {
    if error.is_timeout() {
        return RemoteError::Timeout;
    }
    let error = error.without_url();
    RemoteError::Failed(printable(error.to_string().as_bytes(), TEXT_LEN_MAX))
}

/// The body of a good answer; else what the status means for a verb.
pub(crate) fn judged(answer: Answer) -> Result<Arc<Value>, EngineError> {
    let failed = |code, detail: String| EngineError::RemoteFailed { code, detail, retry_after_s: None };
    match answer.status {
        200..=299 => Ok(answer.body),
        401 | 403 | 404 => {
            tracing::debug!(status = answer.status, words = words(&answer.body), "GitHub refuses");
            Err(EngineError::RemoteAuth { attempt: None, commit: None })
        }
        301 | 302 | 307 | 308 => Err(failed("remote_failed", RENAMED.to_owned())),
        422 => Err(EngineError::unprocessable("remote_refused", format!("GitHub refuses: {}", words(&answer.body)))),
        status => Err(failed("remote_failed", format!("GitHub answers HTTP {status}: {}", words(&answer.body)))),
    }
}

/// What GitHub says, with its list of errors, printable and short.
pub(crate) fn words(body: &Value) -> String {
    let mut words = body["message"].as_str().unwrap_or("no reason is given").to_owned();
    for error in body["errors"].as_array().into_iter().flatten().take(10) {
        let said = match (error["message"].as_str(), error.as_str()) {
            (Some(message), _) | (None, Some(message)) => message.to_owned(),
            _ => {
                let part = |name: &str| error[name].as_str().unwrap_or("?").to_owned();
                format!("{} {}", part("field"), part("code"))
            }
        };
        words = format!("{words}; {said}");
    }
    printable(words.as_bytes(), TEXT_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_segments() {
        let api = place::api_url("https://ghe.example/api/v3/").unwrap();
        let call = Call::get(vec!["repos", "o", "r", "branches", "feature/a b?"]).query("head", "o:feature/é&x");
        let expected = "https://ghe.example/api/v3/repos/o/r/branches/feature%2Fa%20b%3F?head=o%3Afeature%2F%C3%A9%26x";
        assert_eq!(call.url(&api).as_str(), expected);
        let root = place::api_url("https://api.github.com").unwrap();
        assert_eq!(Call::get(vec!["app"]).url(&root).as_str(), "https://api.github.com/app");
        let graphql = Call::graphql("{}", Value::Null);
        assert_eq!(graphql.url(&api).as_str(), "https://ghe.example/api/graphql");
        assert_eq!(graphql.url(&root).as_str(), "https://api.github.com/graphql");
    }

    #[test]
    fn refusals_are_told_in_githubs_words() {
        let body = serde_json::json!({"message": "Validation Failed", "errors": [
            {"resource": "PullRequest", "code": "custom", "message": "No commits between main and main"},
            {"resource": "PullRequest", "field": "base", "code": "invalid"}, "plain\u{1b}"]});
        let told = judged(Answer { status: 422, body: Arc::new(body) }).unwrap_err();
        assert_eq!(told.code(), "remote_refused");
        let text = told.to_string();
        assert!(
            text.starts_with(
                "GitHub refuses: Validation Failed; No commits between main and main; base invalid; plain"
            )
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        for status in [401, 403, 404] {
            assert_eq!(judged(Answer { status, body: Arc::default() }).unwrap_err().code(), "remote_auth");
        }
    }
}
