//! A stand-in for GitHub over real HTTP: the part of its REST API (version 2022-11-28) that is used here, as it is documented, errors
//! included; repositories by git, through a [`GitHttp`] behind it.
//!
//! The API is at `/api/v3`, as on an Enterprise server, the repositories are beside it. One App exists ([`APP_ID`], [`APP_KEY_PEM`]) and
//! is installed on all repositories until [`GitHub::uninstall`]; its proofs are verified with the public key.

mod api;
mod app;
mod git;
mod graphql;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::git_http::GitHttp;
use crate::serving::Serving;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The App's id.
pub const APP_ID: &str = "271828";
/// Its private key, made for these tests and used nowhere else.
pub const APP_KEY_PEM: &str = include_str!("github/app-key.pem");
/// A personal access token with access to everything.
pub const PERSONAL_TOKEN: &str = "ghp_personal-canary-77aa";
/// A personal access token of somebody who may see nothing.
pub const STRANGERS_TOKEN: &str = "ghp_stranger-canary-12cd";
/// The App's first installation.
const INSTALLATION: u64 = 314_159;

/// The server.
#[derive(Debug)]
pub struct GitHub {
    shared: Arc<Shared>,
    serving: Serving,
}

/// One request, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query, without `/api/v3`.
    pub what: String,
    /// The status that was sent.
    pub status: u16,
}

/// How the next request of the API is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The hour's requests are used up; they come back in so many seconds.
    Primary(i64),
    /// Too much at once, with `Retry-After`.
    Secondary(u64),
    /// Too much at once, told by the message alone.
    SecondaryInWords,
}

/// What goes wrong with the next commit that GitHub is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is made, and GitHub's time runs out: status 200 and an error without a type.
    MadeAndTimedOut,
    /// The same answer, and it is not made.
    NotMadeAndTimedOut,
    /// It is made, and a gateway answers 502 with a page.
    MadeBehindGateway,
    /// It is not made: the hour's points are used up for so many seconds, told with status 200.
    Limited(i64),
    /// It is not made: rules of the repository forbid it.
    Forbidden,
}

#[derive(Debug)]
struct Shared {
    address: Mutex<Option<SocketAddr>>,
    /// Where git is, and its `Authorization`.
    upstream: (String, HeaderValue),
    repositories: std::path::PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    installed: bool,
    installation: u64,
    /// Seconds that a token lives.
    lifetime_s: i64,
    /// Every token that was made, and when it ends, Unix seconds.
    tokens: HashMap<String, i64>,
    pulls: Vec<Value>,
    /// Protected branches, and whether they want signatures.
    protected: HashMap<String, bool>,
    limits: VecDeque<Limit>,
    troubles: VecDeque<Trouble>,
    lose_next: bool,
    undo_next: bool,
    /// Whether lists are of all pull requests, whatever is asked for.
    unfiltered: bool,
    asked: Vec<Asked>,
}

impl GitHub {
    /// Serves the repositories of `git` (which takes `user` and `password`).
    pub async fn start(git: &GitHttp, user: &str, password: &str) -> GitHub {
        let shared = Arc::new(Shared {
            address: Mutex::default(),
            upstream: (git.url("x").trim_end_matches("/x.git").to_owned(), git::basic(user, password)),
            repositories: git.repositories().to_owned(),
            state: Mutex::new(State {
                installed: true,
                installation: INSTALLATION,
                lifetime_s: 3_600,
                tokens: HashMap::new(),
                pulls: Vec::new(),
                protected: HashMap::new(),
                limits: VecDeque::new(),
                troubles: VecDeque::new(),
                lose_next: false,
                undo_next: false,
                unfiltered: false,
                asked: Vec::new(),
            }),
        });
        let served = shared.clone();
        let serving = Serving::start(Serving::ANY_PORT, move |stream| {
            let shared = served.clone();
            let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            async move { drop(connection.await) }
        });
        *shared.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(serving.address());
        GitHub { shared, serving }
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// Of the REST API.
    pub fn api_url(&self) -> String {
        format!("{}/api/v3", self.origin())
    }

    /// Of a repository, such as `o/docs`.
    pub fn url(&self, repository: &str) -> String {
        format!("{}/{repository}", self.origin())
    }

    /// Tokens made from now on live so many seconds.
    pub fn tokens_live(&self, seconds: i64) {
        self.shared.state().lifetime_s = seconds;
    }

    /// All tokens end now.
    pub fn expire_tokens(&self) {
        self.shared.state().tokens.values_mut().for_each(|until_s| *until_s = 0);
    }

    /// Every App token that was ever made.
    pub fn tokens(&self) -> Vec<String> {
        self.shared.state().tokens.keys().cloned().collect()
    }

    /// The App is taken away; its tokens end.
    pub fn uninstall(&self) {
        self.shared.state().installed = false;
        self.expire_tokens();
    }

    /// The App is taken away and installed anew: under another id, and without its tokens.
    pub fn reinstall(&self) {
        self.shared.state().installation += 1;
        self.expire_tokens();
    }

    /// The branch is protected from now on.
    pub fn protect(&self, branch: &str, signatures: bool) {
        self.shared.state().protected.insert(branch.to_owned(), signatures);
    }

    /// The next requests of the API are answered so.
    pub fn limit_next(&self, limits: &[Limit]) {
        self.shared.state().limits.extend(limits);
    }

    /// The next commits that are asked for go so.
    pub fn trouble_next(&self, troubles: &[Trouble]) {
        self.shared.state().troubles.extend(troubles);
    }

    /// The next commit is made, and the answer lost.
    pub fn lose_next_answer(&self) {
        self.shared.state().lose_next = true;
    }

    /// The next commit is made and answered, and the branch set back before anybody can fetch it.
    pub fn undo_next_commit(&self) {
        self.shared.state().undo_next = true;
    }

    /// So many pull requests more are open, with this description.
    pub fn describe(&self, count: usize, description: &str) {
        let mut state = self.shared.state();
        for _ in 0..count {
            let number = state.pulls.len() + 1;
            let side = |name: String| json!({"label": format!("o:{name}"), "ref": name, "sha": "1".repeat(40)});
            state.pulls.push(json!({
                "id": number, "number": number, "state": "open", "title": "Long", "body": description, "merged_at": null, "draft": false,
                "url": "https://api.example/", "html_url": "https://example/", "head": side(format!("long-{number}")),
                "base": side("main".to_owned()),
            }));
        }
    }

    /// Lists of pull requests are not filtered by their branches from now on.
    pub fn ignore_branches(&self) {
        self.shared.state().unfiltered = true;
    }

    /// What was asked of the API since the start or the last call of this.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.state().asked)
    }

    /// The pull requests, as the API shows them.
    pub fn pulls(&self) -> Vec<Value> {
        self.shared.state().pulls.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origin(&self) -> String {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        address.map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// Who a token is. `None` = nobody: bad credentials.
    fn who(&self, token: &str) -> Option<Who> {
        match token {
            PERSONAL_TOKEN => Some(Who::Member),
            STRANGERS_TOKEN => Some(Who::Stranger),
            _ => self.state().tokens.get(token).filter(|until_s| **until_s > now_s()).map(|_| Who::App),
        }
    }

    /// Whether there is such a repository.
    fn exists(&self, owner: &str, name: &str) -> bool {
        let plain = |part: &str| !part.is_empty() && !part.contains(['/', '\\']) && !part.starts_with('.');
        plain(owner) && plain(name) && self.repositories.join(owner).join(format!("{name}.git")).is_dir()
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Member,
    Stranger,
    App,
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a sane clock")
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    if request.uri().path() == "/api/graphql" {
        let headers = request.headers().clone();
        let body = request.into_body().collect().await?.to_bytes();
        let made = graphql::answer(&shared, &headers, &body);
        let status = made.status().as_u16();
        shared.state().asked.push(Asked { method: "POST".into(), what: "/graphql".into(), status });
        let lost = std::mem::take(&mut shared.state().lose_next);
        return if lost { Err("the connection breaks".into()) } else { Ok(made) };
    }
    let Some(what) = request.uri().path_and_query().and_then(|what| what.as_str().strip_prefix("/api/v3")) else {
        return git::answer(&shared, request).await;
    };
    let (method, what) = (request.method().to_string(), what.to_owned());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await?.to_bytes();
    let limit = shared.state().limits.pop_front();
    let response = match limit {
        Some(limit) => limited(limit),
        None => api::answer(&shared, &method, &what, &headers, &body),
    };
    let status = response.status().as_u16();
    shared.state().asked.push(Asked { method, what, status });
    Ok(response)
}

fn limited(limit: Limit) -> Response<Body> {
    let primary = "API rate limit exceeded for installation ID 314159.";
    let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    let (message, header) = match limit {
        Limit::Primary(seconds) => (primary, Some(("x-ratelimit-reset", now_s() + seconds))),
        Limit::Secondary(seconds) => (secondary, Some(("retry-after", i64::try_from(seconds).expect("a short wait")))),
        Limit::SecondaryInWords => (secondary, None),
    };
    let mut response = failure(StatusCode::FORBIDDEN, message, None);
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from(value));
    }
    if let Limit::Primary(_) = limit {
        used_up(&mut response);
    }
    response
}

/// Says that nothing is left, and what time it is: the reset counts from GitHub's own clock.
fn used_up(response: &mut Response<Body>) {
    let date = jiff::fmt::rfc2822::DateTimePrinter::new();
    let now = jiff::Timestamp::from_second(now_s()).expect("a time");
    let date = date.timestamp_to_rfc9110_string(&now).expect("a date");
    response.headers_mut().insert("x-ratelimit-remaining", HeaderValue::from(0));
    response.headers_mut().insert("date", HeaderValue::from_str(&date).expect("ASCII"));
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// An error as GitHub sends it.
fn failure(status: StatusCode, message: &str, errors: Option<Value>) -> Response<Body> {
    let mut body = json!({
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": status.as_u16().to_string(),
    });
    if let Some(errors) = errors {
        body["errors"] = errors;
    }
    reply(status, &body)
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
