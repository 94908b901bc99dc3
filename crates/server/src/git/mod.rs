//! `/git/{project}.git/…`: git's smart HTTP (gitprotocol-http), for stock clients.
//!
//! `fetch.rs` and `push.rs` are the two services; `request.rs` reads what clients send, `packets.rs` streams what they get. Which
//! words mean what is `wire`'s, and everything about objects and refs is the engine's.

mod fetch;
mod packets;
mod push;
mod request;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use treehold_engine::EngineError;
use treehold_wire::serve::{self, Protocol};

use crate::app::App;
use crate::auth::GitAccess;
use crate::context::holding;
use crate::error::Problem;
use crate::params::{Params, Query};
use crate::respond::Answer;

/// What we call ourselves.
const AGENT: &str = concat!("treehold/", env!("CARGO_PKG_VERSION"));
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, max-age=0, must-revalidate");

/// Which of git's two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    UploadPack,
    ReceivePack,
}

impl Service {
    fn named(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::UploadPack),
            "git-receive-pack" => Some(Self::ReceivePack),
            _ => None,
        }
    }

    fn request_type(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-request",
            Self::ReceivePack => "application/x-git-receive-pack-request",
        }
    }

    fn result_type(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-result",
            Self::ReceivePack => "application/x-git-receive-pack-result",
        }
    }

    fn advertisement_type(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-advertisement",
            Self::ReceivePack => "application/x-git-receive-pack-advertisement",
        }
    }
}

/// `/git/{repo}/{*rest}`: all that git clients ask for.
pub(crate) async fn serve(
    State(app): State<App>,
    access: GitAccess,
    params: Params,
    query: Result<Query, Problem>,
    request: Request,
) -> Response {
    answer(&app, access, &params, query, request).await.unwrap_or_else(text)
}

async fn answer(
    app: &App,
    access: GitAccess,
    params: &Params,
    query: Result<Query, Problem>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let ((project, ephemeral), rest) = (repository(params.text("repo")?), params.text("rest")?);
    let protocol = protocol(&parts.headers);
    match (&parts.method, rest) {
        (&Method::GET | &Method::HEAD, "info/refs") => {
            let service = query?.text("service")?.and_then(Service::named).ok_or_else(dumb)?;
            let project = enter(app, access, project, service).await?;
            advertise(app, &project, ephemeral, service, protocol).await
        }
        (&Method::POST, "git-upload-pack") => {
            request::judge(&parts.headers, Service::UploadPack)?;
            let project = enter(app, access, project, Service::UploadPack).await?;
            let request = request::read(app, &parts.headers, body).await?;
            let asker = fetch::Asker { app, project: &project, ephemeral, pending: access.may_read_pending() };
            asker.answer(protocol, request).await
        }
        (&Method::POST, "git-receive-pack") => {
            request::judge(&parts.headers, Service::ReceivePack)?;
            let project = enter(app, access, project, Service::ReceivePack).await?;
            push::answer(app, &project, &parts.headers, body).await
        }
        (_, "info/refs" | "git-upload-pack" | "git-receive-pack") => {
            let detail = "git asks with GET for info/refs and with POST for git-upload-pack and git-receive-pack";
            let allowed = HeaderValue::from_static(if rest == "info/refs" { "GET, HEAD" } else { "POST" });
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            Err(problem.header(header::ALLOW, allowed))
        }
        _ => Err(dumb()),
    }
}

/// What asks for ephemeral branches, too, behind a project's name, which cannot have it itself.
const EPHEMERAL: &str = "+ephemeral";

/// The project's name or id, and whether ephemeral branches are asked for; `.git` behind it is how git writes URLs.
fn repository(name: &str) -> (&str, bool) {
    let name = name.strip_suffix(".git").unwrap_or(name);
    name.strip_suffix(EPHEMERAL).map_or((name, false), |name| (name, true))
}

fn protocol(headers: &HeaderMap) -> Protocol {
    let header = headers.get(HeaderName::from_static("git-protocol"));
    Protocol::from_header(header.map_or(b"", HeaderValue::as_bytes))
}

fn dumb() -> Problem {
    let detail = "only git's smart HTTP protocol is served here; use a git client of version 1.6.6 or newer";
    Problem::new(StatusCode::FORBIDDEN, "smart_http_only", detail)
}

/// The project's id, if the client may use the service on it. Who has a token for another project learns nothing of this one. From here
/// on only the id counts: a name may come to mean another project while a request lasts.
async fn enter(app: &App, access: GitAccess, project: &str, service: Service) -> Result<String, Problem> {
    let absent = || EngineError::NotFound {
        code: "project_not_found",
        detail: format!("There is no project {project:?} for these credentials."),
    };
    let id = match app.reading(app.engine().project_id(project)).await {
        Ok(id) => id,
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => return Err(absent().into()),
        Err(problem) => return Err(problem),
    };
    if !access.knows(id) {
        return Err(absent().into());
    }
    if service == Service::ReceivePack && !access.may_write(id) {
        let detail = match access.may_read(id) {
            true => "this token is for reading; pushing needs one that was made with --write",
            false => "this token or key is not for git; pushing needs one with the scope git:write",
        };
        return Err(Problem::new(StatusCode::FORBIDDEN, "read_only", detail));
    }
    if !access.may_read(id) {
        let detail = "this token or key is not for git; fetching needs one with the scope git:read";
        return Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail));
    }
    Ok(id.to_string())
}

/// `GET info/refs?service=…`
async fn advertise(app: &App, project: &str, ephemeral: bool, service: Service, protocol: Protocol) -> Answer {
    let kind = service.advertisement_type();
    if (service, protocol) == (Service::UploadPack, Protocol::V2) {
        let body = serve::upload_pack_v2(AGENT).map_err(|error| Problem::internal(&error))?;
        return Ok(result(kind, Body::from(body)));
    }
    let (named, peel) = (project.to_owned(), service == Service::UploadPack);
    let read = app.reading_within(1, |engine| async move { engine.advertise(&named, peel, ephemeral).await });
    let (found, room) = read.await?;
    let body = match service {
        Service::UploadPack => serve::upload_pack(protocol, &found.refs, &found.shallow, AGENT),
        Service::ReceivePack => serve::receive_pack(protocol, &found.refs, &found.shallow, AGENT, true),
    };
    let body = body.map_err(|error| Problem::internal(&error))?;
    Ok(result(kind, holding(Body::from(body), room)))
}

fn result(kind: &'static str, body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, NO_CACHE)];
    (StatusCode::OK, headers, body).into_response()
}

/// A problem as git shows it to its user: plain text.
pub(crate) fn text(problem: Problem) -> Response {
    let sentence = problem.body()["detail"].as_str().map(|detail| format!("{detail}\n"));
    let mut response = problem.into_response();
    *response.body_mut() = Body::from(sentence.unwrap_or_default());
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
