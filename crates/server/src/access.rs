//! What each route needs: one table, and its judge.
//!
//! A key opens every route, or those for which it has the scopes. A token opens those of its project for which it has the scopes, with the pending work of its user, if it
//! has one. Where the user is named in the path or the query it is judged here; the five routes that name it in their body ask
//! for it themselves ([`names_user_in_body`]). What is in no line of the table is for keys of all scopes alone.

use axum::extract::{MatchedPath, OriginalUri, Request};
use http::{HeaderValue, Method, StatusCode, header};
use treehold_engine::EngineError;
use treehold_engine::api::{Authorized, Scope};
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Problem;
use crate::params::{Query, captures};

/// What a caller needs for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: health, pages that are the same for everybody, and what is signed by other means.
    Nothing,
    /// A key, with [`Scope::Admin`]: it is about all projects, or makes one.
    Key,
    /// A key, or a token of the project with all of these.
    Scopes(&'static [Scope]),
}

const KEY: Needs = Needs::Key;
const OPEN: Needs = Needs::Nothing;
/// Every token of the project.
const OWN: Needs = Needs::Scopes(&[]);
const READ: Needs = Needs::Scopes(&[Scope::FilesRead]);
const WRITE: Needs = Needs::Scopes(&[Scope::FilesWrite]);
const PENDING: Needs = Needs::Scopes(&[Scope::Pending]);
/// Uncommitted work beside what was committed.
const VIEW: Needs = Needs::Scopes(&[Scope::FilesRead, Scope::Pending]);
const COMMIT: Needs = Needs::Scopes(&[Scope::FilesWrite, Scope::Pending]);
const ADMIN: Needs = Needs::Scopes(&[Scope::Admin]);

/// Every route by its template, with each of its methods (`HEAD` is as `GET`). Wherever `user` is in a query, [`Scope::Pending`] is
/// needed, too. What git's routes need they judge by themselves (`git/mod.rs`), in git's own words.
pub(crate) const ROUTES: &[(&str, &[(&str, Needs)])] = &[
    ("/projects", &[("POST", KEY), ("GET", KEY)]),
    ("/projects/{project}", &[("PUT", KEY), ("GET", OWN), ("PATCH", ADMIN), ("DELETE", ADMIN)]),
    ("/projects/{project}/fork", &[("POST", KEY)]),
    ("/projects/{project}/read", &[("POST", READ)]),
    ("/projects/{project}/search", &[("POST", READ)]),
    ("/projects/{project}/status", &[("GET", PENDING)]),
    ("/projects/{project}/conflicts", &[("GET", VIEW)]),
    ("/projects/{project}/resolve", &[("POST", PENDING)]),
    ("/projects/{project}/diff", &[("GET", READ)]),
    ("/projects/{project}/log", &[("GET", READ)]),
    ("/projects/{project}/changes", &[("GET", VIEW)]),
    ("/projects/{project}/blame/", &[("GET", READ)]),
    ("/projects/{project}/blame/{*path}", &[("GET", READ)]),
    ("/projects/{project}/commit", &[("POST", COMMIT)]),
    ("/projects/{project}/commits", &[("POST", WRITE)]),
    ("/projects/{project}/sync", &[("POST", WRITE)]),
    ("/projects/{project}/push", &[("POST", WRITE)]),
    ("/projects/{project}/pulls", &[("POST", WRITE), ("GET", READ)]),
    ("/projects/{project}/pulls/{number}", &[("PATCH", WRITE)]),
    ("/projects/{project}/remote", &[("GET", READ)]),
    ("/webhooks/github", &[("POST", OPEN)]),
    ("/projects/{project}/refs", &[("GET", READ)]),
    ("/projects/{project}/reflog", &[("GET", READ)]),
    ("/projects/{project}/promote", &[("POST", WRITE)]),
    ("/projects/{project}/refs/", &[("PUT", WRITE), ("DELETE", WRITE)]),
    ("/projects/{project}/refs/{*name}", &[("PUT", WRITE), ("DELETE", WRITE)]),
    ("/projects/{project}/history", &[("GET", PENDING)]),
    ("/projects/{project}/history/{id}", &[("GET", PENDING)]),
    ("/projects/{project}/history/{id}/diff", &[("GET", VIEW)]),
    ("/projects/{project}/history/{id}/restore", &[("POST", PENDING)]),
    ("/projects/{project}/checkpoints", &[("GET", PENDING), ("POST", PENDING)]),
    ("/projects/{project}/checkpoints/{id}", &[("GET", PENDING), ("DELETE", PENDING)]),
    ("/projects/{project}/checkpoints/{id}/diff", &[("GET", VIEW)]),
    ("/projects/{project}/checkpoints/{id}/restore", &[("POST", PENDING)]),
    ("/projects/{project}/git/blobs/{oid}", &[("GET", READ)]),
    ("/projects/{project}/git/trees/{oid}", &[("GET", READ)]),
    ("/projects/{project}/git/commits/{oid}", &[("GET", READ)]),
    ("/projects/{project}/archive.tar.gz", &[("GET", READ)]),
    ("/projects/{project}/archive.zip", &[("GET", READ)]),
    ("/projects/{project}/bundle", &[("GET", READ)]),
    ("/files/{project}", &[("GET", READ)]),
    ("/files/{project}/", &[("GET", READ), ("PUT", WRITE), ("DELETE", WRITE)]),
    ("/files/{project}/{*path}", &[("GET", READ), ("PUT", WRITE), ("DELETE", WRITE)]),
    ("/pending/{project}/{user}", &[("GET", PENDING), ("POST", PENDING), ("DELETE", PENDING)]),
    ("/pending/{project}/{user}/", &[("GET", PENDING), ("PUT", PENDING), ("DELETE", PENDING)]),
    ("/pending/{project}/{user}/{*path}", &[("GET", PENDING), ("PUT", PENDING), ("DELETE", PENDING)]),
    (AGENTS, &[("POST", VIEW)]),
    ("/healthz", &[("GET", OPEN)]),
    ("/readyz", &[("GET", OPEN)]),
    ("/metrics", &[("GET", KEY)]),
    ("/openapi.json", &[("GET", OPEN)]),
    ("/docs", &[("GET", OPEN)]),
    ("/docs/{name}", &[("GET", OPEN)]),
    ("/", &[("GET", OPEN)]),
    ("/console", &[("GET", OPEN)]),
    ("/console/", &[("GET", OPEN)]),
    ("/console/{name}", &[("GET", OPEN)]),
];

/// The route that names project and user in headers. A token's own stand for them: its handler binds the request to nothing else.
const AGENTS: &str = "/mcp";

/// Whether a route's user is in its body: then its handler asks `rates::Acting` about it.
pub(crate) fn names_user_in_body(template: &str, method: &Method) -> bool {
    const ROUTES: [&str; 5] = ["/read", "/search", "/commit", "/resolve", "/checkpoints"];
    let rest = template.strip_prefix("/projects/{project}");
    *method == Method::POST && rest.is_some_and(|rest| ROUTES.contains(&rest))
}

/// The methods of a template.
fn methods(template: &str) -> Option<&'static [(&'static str, Needs)]> {
    ROUTES.iter().find(|(known, _)| *known == template).map(|(_, methods)| *methods)
}

/// What a route needs; `None` if the table has no such route or method.
pub(crate) fn needs(template: &str, method: &Method) -> Option<Needs> {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    methods(template)?.iter().find(|(known, _)| *known == method).map(|(_, needs)| *needs)
}

/// Whether a route answers whoever asks.
pub(crate) fn is_open(template: &str) -> bool {
    methods(template).is_some_and(|methods| methods.iter().all(|(_, needs)| *needs == Needs::Nothing))
}

/// Whether the request of a token, or of a key (`None`) that has not all scopes, may go on to its route. To a token nothing of other projects is asked for or told: they are as absent as those that
/// never were.
pub(crate) fn judge(token: Option<&Authorized>, caller: &Caller, request: &Request) -> Result<(), Problem> {
    let Some(template) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
    let template = template.as_str();
    let scopes = match (needs(template, request.method()), token) {
        (Some(Needs::Scopes(scopes)), _) => scopes,
        (Some(Needs::Nothing), _) => return Ok(()),
        (Some(Needs::Key), None) => &[Scope::Admin],
        (Some(Needs::Key), Some(_)) => return Err(key_required()),
        (None, _) => return Err(methods(template).map_or_else(key_required, method_not_allowed)),
    };
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |uri| &uri.0);
    let captured = captures(template, uri.path())?;
    let capture = |wanted: &str| captured.iter().find(|(name, _)| *name == wanted).map(|(_, value)| &**value);
    if let Some(token) = token
        && template != AGENTS
        && !capture("project").is_some_and(|name| is_of(token, name))
    {
        return Err(EngineError::no_project().into());
    }
    scopes.iter().try_for_each(|scope| caller.require(*scope))?;
    // What is no UUID is refused by the route.
    let in_path = capture("user").and_then(|user| Uuid::try_parse_ascii(user).ok());
    let in_query = Query::of(uri)?.uuid("user")?;
    in_path.into_iter().chain(in_query).try_for_each(|user| caller.may_open(user))
}

/// Whether what a path says is the token's project.
fn is_of(token: &Authorized, name: &[u8]) -> bool {
    match Uuid::try_parse_ascii(name) {
        Ok(id) => id == token.project,
        Err(_) => token.project_name.as_deref().is_some_and(|own| own.as_bytes() == name),
    }
}

fn key_required() -> Problem {
    let detail = "this route is about more than one project: it takes a key of the server, not a token";
    Problem::new(StatusCode::FORBIDDEN, "key_required", detail)
}

/// As the router says it, which is not asked.
fn method_not_allowed(methods: &[(&str, Needs)]) -> Problem {
    let mut allowed: Vec<&str> = methods.iter().map(|(method, _)| *method).collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let detail = "this route does not take this method; those it takes are in Allow";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    match HeaderValue::from_str(&allowed.join(",")) {
        Ok(allowed) => problem.header(header::ALLOW, allowed),
        Err(_) => problem,
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
