//! The key or token that every route but the health checks needs, and how git clients send it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use treehold_engine::Secret;
use treehold_engine::api::{Authorized, Scope, Scopes};
use uuid::Uuid;

use crate::app::App;
use crate::error::Problem;
use crate::{access, git};

/// The header that carries the key.
pub(crate) const KEY_HEADER: &str = "x-internal-api-key";

/// What the templates of all git routes begin with.
const GIT: &str = "/git/";

/// SHA-256 of each accepted key, and what it opens.
pub(crate) struct Keys(Vec<([u8; 32], Scopes)>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Keys that open everything, and others that open what their scopes say.
    pub(crate) fn new(keys: &[Secret], scoped: &[(Secret, Scopes)]) -> Self {
        let whole = keys.iter().map(|key| (key, Scopes::all()));
        let all = whole.chain(scoped.iter().map(|(key, scopes)| (key, *scopes)));
        let all = all.filter(|(key, _)| !key.expose().is_empty());
        Self(all.map(|(key, scopes)| (digest(key.expose().as_bytes()), scopes)).collect())
    }

    /// What the key opens that is in its header, once.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Option<Scopes> {
        self.accept(only_key(headers)?)
    }

    /// What the key opens. Compares with all keys, in a time that depends on neither; hashing first hides the keys' lengths too.
    fn accept(&self, given: &[u8]) -> Option<Scopes> {
        let given = digest(given);
        let compared = self.0.iter().map(|(key, scopes)| (bool::from(key.ct_eq(&given)), *scopes));
        compared.fold(None, |found, (equal, scopes)| if equal { Some(scopes) } else { found })
    }
}

pub(crate) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Who sent a request, and what it may do: an extension of every request that a key or a token opened. Handlers take it as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The one project that is there for it; `None` = all of them.
    pub(crate) project: Option<Uuid>,
    /// The one user whose pending work it may see and change; `None` = everybody's.
    pub(crate) user: Option<Uuid>,
    /// What it may do.
    pub(crate) scopes: Scopes,
    /// The token that it showed; `None` = a key.
    pub(crate) token: Option<Uuid>,
}

impl Caller {
    /// Whoever has a key of all scopes: a trusted service, which may do everything.
    pub(crate) fn with_key() -> Self {
        Self::with_scoped_key(Scopes::all())
    }

    fn with_scoped_key(scopes: Scopes) -> Self {
        Self { project: None, user: None, scopes, token: None }
    }

    fn with_token(token: &Authorized) -> Self {
        Self { project: Some(token.project), user: token.user, scopes: token.scopes, token: Some(token.token) }
    }

    /// 403 `scope_missing` without this scope.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.has(scope) {
            return Ok(());
        }
        let what = if self.token.is_some() { "token" } else { "key" };
        let detail = format!("this {what} lacks the scope {}; use one that was made with it", scope.name());
        Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail).with("scope", scope.name()))
    }

    /// 403 unless it may see and change this user's pending work. The same for users who have some, have none, or are none.
    pub(crate) fn may_open(&self, user: Uuid) -> Result<(), Problem> {
        self.require(Scope::Pending)?;
        if self.sees(user) {
            return Ok(());
        }
        let detail = "this token is for the pending work of one user, and the request names another one";
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }

    /// The same where a request need not name anybody: `None` is what was committed, which is nobody's.
    pub(crate) fn may_open_view(&self, user: Option<Uuid>) -> Result<(), Problem> {
        user.map_or(Ok(()), |user| self.may_open(user))
    }

    /// Whether this user's pending work may be told of.
    pub(crate) fn sees(&self, user: Uuid) -> bool {
        self.scopes.has(Scope::Pending) && self.user.is_none_or(|own| own == user)
    }

    /// Whether everybody's may.
    pub(crate) fn sees_everybody(&self) -> bool {
        self.scopes.has(Scope::Pending) && self.user.is_none()
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // It is there behind the layers below; without it nothing is opened.
        parts.extensions.get().cloned().ok_or_else(unauthorized)
    }
}

/// Refuses requests without a key or a token before anything else about them is looked at, and those whose token does not open the
/// route.
pub(crate) async fn require_credentials(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let template = template(&request);
    if template.starts_with(GIT) {
        return let_git_in(&app, request, next).await;
    }
    if access::is_open(template) {
        return next.run(request).await;
    }
    let judged = match opened_by(&app, request.headers()).await {
        // What is in no line of the table is for these.
        Ok(Opener::Key(scopes)) if scopes == Scopes::all() => Ok(Caller::with_key()),
        Ok(Opener::Key(scopes)) => {
            let caller = Caller::with_scoped_key(scopes);
            access::judge(None, &caller, &request).map(|()| caller)
        }
        Ok(Opener::Token(token)) => {
            let caller = Caller::with_token(&token);
            access::judge(Some(&token), &caller, &request).map(|()| caller)
        }
        Err(problem) => Err(problem),
    };
    match judged {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Git clients send their key or token in another way, and are refused in their own words. What a project allows them is up to the
/// routes.
async fn let_git_in(app: &App, mut request: Request, next: Next) -> Response {
    let access = git_access(app, request.headers()).await;
    match access {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// The route that a request is for; empty if there is none.
fn template(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str)
}

/// What a request shows.
enum Opener {
    Key(Scopes),
    Token(Arc<Authorized>),
}

async fn opened_by(app: &App, headers: &HeaderMap) -> Result<Opener, Problem> {
    if let Some(scopes) = app.keys().admit(headers) {
        return Ok(Opener::Key(scopes));
    }
    let secret = credentials(headers).ok_or_else(unauthorized)?;
    app.tokens().find(app, &secret).await?.ok_or_else(unauthorized).map(Opener::Token)
}

/// The one value of `X-Internal-API-Key`, if it is there, else that of `Authorization: Bearer`, where a token can be, but no key.
fn credentials(headers: &HeaderMap) -> Option<Secret> {
    match headers.contains_key(KEY_HEADER) {
        true => Some(Secret::new(std::str::from_utf8(only_key(headers)?).ok()?.to_owned())),
        false => bearer(headers),
    }
}

/// The value of exactly one header.
fn only_key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

fn unauthorized() -> Problem {
    const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="treehold""#);
    let detail = "send one of the configured keys, once, as X-Internal-API-Key, or a token as Bearer";
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).header(header::WWW_AUTHENTICATE, CHALLENGE)
}

/// What a git client may do: an extension of every request on git's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GitAccess {
    /// Its password is a key: all projects.
    Key(Scopes),
    /// Its password is a token: one project.
    Project {
        /// The only one; every other is to be answered as if it did not exist.
        id: Uuid,
        /// What it may do there.
        scopes: Scopes,
    },
}

impl GitAccess {
    /// Whether this project is there for the client at all.
    pub(crate) fn knows(self, project: Uuid) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Project { id, .. } => id == project,
        }
    }

    /// Whether it may fetch from it.
    pub(crate) fn may_read(self, project: Uuid) -> bool {
        self.knows(project) && self.has(Scope::GitRead)
    }

    /// Whether it may push to it.
    pub(crate) fn may_write(self, project: Uuid) -> bool {
        self.knows(project) && self.has(Scope::GitWrite)
    }

    /// Whether it may have uncommitted work: a token opens what was committed.
    pub(crate) fn may_read_pending(self) -> bool {
        matches!(self, Self::Key(scopes) if scopes.has(Scope::Pending))
    }

    fn has(self, scope: Scope) -> bool {
        match self {
            Self::Key(scopes) | Self::Project { scopes, .. } => scopes.has(scope),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for GitAccess {
    type Rejection = GitRefused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, GitRefused> {
        // As with `Caller`.
        parts.extensions.get().copied().ok_or(GitRefused::Unauthorized)
    }
}

/// Why a git client is not let in.
#[derive(Debug)]
pub(crate) enum GitRefused {
    /// No credentials, or none that are accepted: git asks its user and comes again.
    Unauthorized,
    /// It could not be found out.
    Failed(Problem),
}

impl IntoResponse for GitRefused {
    /// Git shows its user what comes as plain text, and nothing else.
    fn into_response(self) -> Response {
        const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Basic realm="treehold", charset="UTF-8""#);
        const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
        const SENTENCE: &str =
            "Give a token of this project, or a key of this server, as the password; any user name will do.\n";
        match self {
            Self::Unauthorized => {
                let headers = [
                    (header::WWW_AUTHENTICATE, CHALLENGE),
                    (header::CONTENT_TYPE, TEXT),
                    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                ];
                (StatusCode::UNAUTHORIZED, headers, SENTENCE).into_response()
            }
            Self::Failed(problem) => git::text(problem),
        }
    }
}

/// Who is asking on a git route: the password of `Authorization: Basic` (with any user name) or the text of `Bearer`, once, is a
/// key or a token.
async fn git_access(app: &App, headers: &HeaderMap) -> Result<GitAccess, GitRefused> {
    let password = password(headers).ok_or(GitRefused::Unauthorized)?;
    if let Some(scopes) = app.keys().accept(password.expose().as_bytes()) {
        return Ok(GitAccess::Key(scopes));
    }
    let found = app.tokens().find_now(app, &password).await.map_err(GitRefused::Failed)?;
    let authorized = found.ok_or(GitRefused::Unauthorized)?;
    Ok(GitAccess::Project { id: authorized.project, scopes: authorized.scopes })
}

/// What the one `Authorization` header carries (RFC 7617, RFC 6750).
fn password(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, credentials) = authorization(headers)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return bearer(headers);
    }
    let mut pair = BASE64.decode(credentials).ok().and_then(|pair| String::from_utf8(pair).ok())?;
    let colon = pair.find(':')?;
    Some(Secret::new(pair.split_off(colon + 1)))
}

/// The same where it must be Bearer.
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, credentials) = authorization(headers)?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(credentials.to_owned()))
}

fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    Some((scheme, credentials.trim_matches(' ')))
}

#[cfg(test)]
#[path = "git_access_tests.rs"]
pub(crate) mod git_access_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Keys {
        Keys::new(&keys.iter().map(|key| Secret::new((*key).to_owned())).collect::<Vec<_>>(), &[])
    }

    /// Whether headers of these names and values carry an accepted key.
    fn admits(keys: &Keys, given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        keys.admit(&headers).is_some()
    }

    #[test]
    fn any_configured_key_is_accepted_and_nothing_else() {
        let keys = keys(&["first", "second"]);
        assert!(admits(&keys, &[(KEY_HEADER, "first")]));
        assert!(admits(&keys, &[(KEY_HEADER, "second")]));
        for wrong in ["", "firs", "first2", "FIRST", "first,second"] {
            assert!(!admits(&keys, &[(KEY_HEADER, wrong)]), "{wrong:?}");
        }
        assert!(!admits(&keys, &[]));
        assert!(!admits(&keys, &[("authorization", "Bearer first")]), "that is the way of tokens");
    }

    #[test]
    fn a_repeated_header_is_refused_even_if_both_are_right() {
        let given = |given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(*name, value.parse().unwrap());
            }
            credentials(&headers).map(|secret| secret.expose().to_owned())
        };
        for (name, value) in [(KEY_HEADER, "first"), ("authorization", "Bearer first")] {
            assert_eq!(given(&[(name, value)]).as_deref(), Some("first"));
            assert_eq!(given(&[(name, value), (name, value)]), None);
            assert_eq!(given(&[(name, "wrong"), (name, value)]), None);
        }
        assert!(!admits(&keys(&["first"]), &[(KEY_HEADER, "first"), (KEY_HEADER, "first")]));
        assert!(!admits(&keys(&["first"]), &[(KEY_HEADER, "wrong"), (KEY_HEADER, "first")]));
    }

    #[test]
    fn of_two_headers_that_of_the_key_counts() {
        let keys = keys(&["first"]);
        assert!(admits(&keys, &[(KEY_HEADER, "first"), ("authorization", "Bearer of-somebody-else")]));
        assert!(!admits(&keys, &[(KEY_HEADER, "wrong"), ("authorization", "Bearer first")]));
    }

    #[test]
    fn an_empty_key_is_no_key() {
        assert!(!admits(&keys(&[""]), &[(KEY_HEADER, "")]));
        assert!(!admits(&keys(&[]), &[(KEY_HEADER, "")]));
    }

    #[test]
    fn a_key_opens_what_its_scopes_say() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let scoped = |text: &str, scopes: &str| (secret(text), scopes.parse().unwrap());
        let keys = Keys::new(&[secret("whole")], &[scoped("reader", "files:read"), scoped("", "admin")]);
        assert_eq!(keys.accept(b"whole"), Some(Scopes::all()));
        assert_eq!(keys.accept(b"reader"), Some("files:read".parse().unwrap()));
        assert_eq!((keys.accept(b""), keys.accept(b"readerwhole")), (None, None));
    }

    #[test]
    fn debug_shows_no_hash() {
        assert_eq!(format!("{:?}", keys(&["first"])), "Keys(1)");
    }

    #[test]
    fn a_caller_sees_what_its_scopes_and_user_allow() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let caller = |user, scopes: &str| Caller {
            project: Some(Uuid::nil()),
            user,
            scopes: scopes.parse().unwrap(),
            token: Some(Uuid::nil()),
        };
        let all = Caller::with_key();
        assert!(all.sees(own) && all.sees_everybody() && all.may_open(other).is_ok());
        let anybody = caller(None, "pending");
        assert!(anybody.sees(own) && anybody.sees_everybody());
        let bound = caller(Some(own), "pending");
        assert!(bound.may_open(own).is_ok() && bound.may_open_view(None).is_ok() && !bound.sees_everybody());
        assert_eq!(bound.may_open(other).unwrap_err().code(), "forbidden");
        assert_eq!(bound.may_open_view(Some(other)).unwrap_err().code(), "forbidden");
        let reader = caller(Some(own), "files:write");
        assert_eq!(reader.may_open(own).unwrap_err().code(), "scope_missing");
        assert!(!reader.sees(own) && reader.require(Scope::FilesRead).is_ok());
        assert_eq!(reader.require(Scope::Admin).unwrap_err().body()["scope"], "admin");
    }
}
