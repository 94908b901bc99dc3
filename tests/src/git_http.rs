//! A git server: real HTTP in front of stock `git http-backend`, with a request log and faults on demand.

mod cgi;
mod fault;

pub use fault::{Fault, Lie, On};

use crate::git::Git;
use crate::serving::Serving;
use base64::Engine;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// One request, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path, as it was sent.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// `git-upload-pack` or `git-receive-pack`, if the request names one.
    pub service: Option<String>,
    /// The `Git-Protocol` header.
    pub git_protocol: Option<String>,
    /// The status that was sent; 0 if the connection was closed (or still hangs) without an answer.
    pub status: u16,
    /// Bytes of the request's body that were read, as they came over the wire (perhaps gzip).
    pub bytes_in: u64,
    /// Bytes of the response's body that were handed to the connection.
    pub bytes_out: u64,
    /// Whether the right user and password came with the request.
    pub authorization_ok: bool,
    /// Whether it names a trace, which is nobody's business here.
    pub trace_context: bool,
}

/// The server. Serves every bare repository under a directory to one user, with protocol versions 0 to 2, partial
/// clone, any wanted oid, and push.
#[derive(Debug)]
pub struct GitHttp {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Serving>,
}

#[derive(Debug)]
struct Shared {
    repositories: PathBuf,
    user: String,
    password: String,
    configuration: Vec<(String, String)>,
    log: Mutex<Vec<Logged>>,
    faults: Mutex<Vec<fault::Planned>>,
}

impl GitHttp {
    /// Serves the bare repositories under `repositories` to `user` with `password`.
    pub async fn start(repositories: impl AsRef<Path>, user: &str, password: &str) -> GitHttp {
        GitHttp::start_with(repositories, user, password, &[]).await
    }

    /// The same with further git settings for the server's side, e.g. `("receive.fsckObjects", "true")`.
    pub async fn start_with(
        repositories: impl AsRef<Path>,
        user: &str,
        password: &str,
        configuration: &[(&str, &str)],
    ) -> GitHttp {
        let shared = Arc::new(Shared {
            repositories: std::path::absolute(repositories).expect("an absolute path"),
            user: user.to_owned(),
            password: password.to_owned(),
            configuration: configuration.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            log: Mutex::default(),
            faults: Mutex::default(),
        });
        let serving = serve(Serving::ANY_PORT, &shared);
        GitHttp { address: serving.address(), shared, serving: Mutex::new(serving) }
    }

    /// `http://127.0.0.1:PORT/repo.git`, whether `repo` is given with `.git` or without.
    pub fn url(&self, repo: &str) -> String {
        format!("http://{}/{}.git", self.address, repo.strip_suffix(".git").unwrap_or(repo))
    }

    /// The same with user and password in it, for stock git. They must need no percent-encoding.
    pub fn url_with_credentials(&self, repo: &str) -> String {
        self.url(repo).replacen("://", &format!("://{}:{}@", self.shared.user, self.shared.password), 1)
    }

    /// The directory of repositories.
    pub fn repositories(&self) -> &Path {
        &self.shared.repositories
    }

    /// All requests since the start or the last [`GitHttp::reset_requests`], in order of arrival.
    pub fn requests(&self) -> Vec<Logged> {
        self.shared.log().clone()
    }

    /// Forgets the requests so far; nothing may be under way.
    pub fn reset_requests(&self) {
        self.shared.log().clear();
    }

    /// Gives the next `count` requests that match `on` the fault (`usize::MAX`: all, until [`GitHttp::heal`]).
    /// Earlier plans are used up first.
    pub fn fail_next(&self, on: On, count: usize, fault: Fault) {
        self.shared.faults().push(fault::Planned { on, count, fault });
    }

    /// Forgets all planned faults.
    pub fn heal(&self) {
        self.shared.faults().clear();
    }

    /// Takes the server down: connections break, new ones are refused.
    pub fn stop(&self) {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).stop();
    }

    /// Brings the server up again at the same address.
    pub fn restart(&self) {
        self.stop();
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = serve(self.address, &self.shared);
    }
}

fn serve(address: SocketAddr, shared: &Arc<Shared>) -> Serving {
    let shared = Arc::clone(shared);
    Serving::start(address, move |stream| {
        let shared = Arc::clone(&shared);
        let service = hyper::service::service_fn(move |request| answer(Arc::clone(&shared), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        async move { drop(connection.await) }
    })
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Vec<Logged>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Vec<fault::Planned>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Git as the server runs it.
    fn git(&self) -> Git {
        let git = Git::at(&self.repositories)
            .env("GIT_PROJECT_ROOT", &self.repositories)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .config("http.receivepack", "true")
            .config("uploadpack.allowFilter", "true")
            .config("uploadpack.allowAnySHA1InWant", "true")
            .config("receive.advertisePushOptions", "true");
        self.configuration.iter().fold(git, |git, (name, value)| git.config(name, value))
    }

    fn is_authorized(&self, request: &Request<Incoming>) -> bool {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password));
        let header = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        header == Some(format!("Basic {credentials}").as_bytes())
    }

    fn first_entry(&self, request: &Request<Incoming>) -> Logged {
        let query = request.uri().query().unwrap_or_default();
        let services = ["git-upload-pack", "git-receive-pack"];
        let names = |service: &&str| {
            request.uri().path().ends_with(&format!("/{service}")) || query.contains(&format!("service={service}"))
        };
        let protocol = request.headers().get("git-protocol").and_then(|value| value.to_str().ok());
        Logged {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: query.to_owned(),
            service: services.into_iter().find(names).map(str::to_owned),
            git_protocol: protocol.map(str::to_owned),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            authorization_ok: self.is_authorized(request),
            trace_context: ["traceparent", "tracestate", "baggage"]
                .iter()
                .any(|name| request.headers().contains_key(*name)),
        }
    }
}

/// A place in the log, to be completed while the request is answered.
#[derive(Debug, Clone)]
struct Entry {
    shared: Arc<Shared>,
    index: usize,
}

impl Entry {
    fn update(&self, update: impl FnOnce(&mut Logged)) {
        if let Some(logged) = self.shared.log().get_mut(self.index) {
            update(logged);
        }
    }
}

/// Answers one request. An error makes hyper close the connection without an answer.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let logged = shared.first_entry(&request);
    let authorized = logged.authorization_ok;
    let fault = fault::take(&mut shared.faults(), &logged);
    let entry = {
        let mut log = shared.log();
        log.push(logged);
        Entry { shared: Arc::clone(&shared), index: log.len() - 1 }
    };
    let response = match fault {
        Some(fault) => fault.answer(&entry, request, authorized).await?,
        None => honest_answer(&entry, request, authorized).await?,
    };
    entry.update(|logged| logged.status = response.status().as_u16());
    let counted = entry.clone();
    Ok(response.map(|body| {
        body.map_frame(move |frame| {
            let length = frame.data_ref().map_or(0, Bytes::len);
            counted.update(|logged| logged.bytes_out += length as u64);
            frame
        })
        .boxed_unsync()
    }))
}

async fn honest_answer(
    entry: &Entry,
    request: Request<Incoming>,
    authorized: bool,
) -> Result<Response<Body>, BoxError> {
    if !authorized {
        let mut response = plain(StatusCode::UNAUTHORIZED, "Authorization is needed.\n");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic realm=\"git\""));
        return Ok(response);
    }
    if ![Method::GET, Method::POST].contains(request.method()) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "Git uses GET and POST.\n"));
    }
    cgi::run(entry, request).await
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}
