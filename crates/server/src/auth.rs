//! The key that every route but the health checks and the console's files needs, and what git clients send instead.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use treehold_engine::Secret;
use treehold_engine::api::Access;
use uuid::Uuid;

use crate::app::App;
use crate::console::ROUTE;
use crate::error::Problem;

/// The header that carries the key.
pub(crate) const KEY_HEADER: &str = "x-internal-api-key";

/// Routes that answer without a key. Webhooks are signed instead; the document and its page say nothing about what is stored.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/webhooks/github", "/openapi.json", "/docs"];

/// What the parts of the page begin with.
const PARTS: &str = "/docs/";

/// The console's page and what it loads: the same for everybody.
fn is_console(path: &str) -> bool {
    path.strip_prefix(ROUTE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What all git routes begin with.
const GIT: &str = "/git/";

/// SHA-256 of each accepted key.
pub(crate) struct Keys(Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    pub(crate) fn new(keys: &[Secret]) -> Self {
        Self(keys.iter().filter(|key| !key.expose().is_empty()).map(|key| digest(key.expose().as_bytes())).collect())
    }

    /// Compares with all keys, in a time that depends on neither; hashing first hides the keys' lengths too.
    fn accept(&self, given: &[u8]) -> bool {
        let given = digest(given);
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&given)).into()
    }

    /// Exactly one header, with an accepted key.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(KEY_HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => self.accept(value.as_bytes()),
            _ => false,
        }
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Refuses requests without a key before anything else about them is looked at.
pub(crate) async fn require_key(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Git clients send their key or token in another way, and the git routes ask for it themselves.
    let open = OPEN.contains(&path) || path.starts_with(PARTS) || is_console(path) || path.starts_with(GIT);
    if open || app.keys().admit(request.headers()) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send one of the configured keys, once, as X-Internal-API-Key",
    )
    .into_response()
}

/// What a git client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GitAccess {
    /// Its password is a key: everything.
    All,
    /// Its password is a token: one project.
    Project {
        /// The only one; every other is to be answered as if it did not exist.
        id: Uuid,
        /// Whether it may push.
        write: bool,
    },
}

impl GitAccess {
    /// Whether this project is there for the client at all.
    pub(crate) fn may_read(self, project: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Project { id, .. } => id == project,
        }
    }

    /// Whether it may push to it.
    pub(crate) fn may_write(self, project: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Project { id, write } => write && id == project,
        }
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
            Self::Failed(problem) => problem.into_response(),
        }
    }
}

/// Who is asking on a git route: the password of `Authorization: Basic` (with any user name) or the text of `Bearer`, once, is a
/// key or a token.
pub(crate) async fn git_access(app: &App, headers: &HeaderMap) -> Result<GitAccess, GitRefused> {
    let password = password(headers).ok_or(GitRefused::Unauthorized)?;
    if app.keys().accept(password.expose().as_bytes()) {
        return Ok(GitAccess::All);
    }
    let found = app.reading(app.engine().authorize_token(&password)).await.map_err(GitRefused::Failed)?;
    let authorized = found.ok_or(GitRefused::Unauthorized)?;
    Ok(GitAccess::Project { id: authorized.project, write: authorized.access == Access::Write })
}

/// What the one `Authorization` header carries (RFC 7617, RFC 6750).
fn password(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(credentials.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut pair = BASE64.decode(credentials).ok().and_then(|pair| String::from_utf8(pair).ok())?;
    let colon = pair.find(':')?;
    Some(Secret::new(pair.split_off(colon + 1)))
}

#[cfg(test)]
#[path = "git_access_tests.rs"]
mod git_access_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Keys {
        Keys::new(&keys.iter().map(|key| Secret::new((*key).to_owned())).collect::<Vec<_>>())
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY_HEADER, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn any_configured_key_is_accepted_and_nothing_else() {
        let keys = keys(&["first", "second"]);
        assert!(keys.admit(&headers(&["first"])));
        assert!(keys.admit(&headers(&["second"])));
        for wrong in ["", "firs", "first2", "FIRST", "first,second"] {
            assert!(!keys.admit(&headers(&[wrong])), "{wrong:?}");
        }
        assert!(!keys.admit(&headers(&[])));
    }

    #[test]
    fn a_repeated_header_is_refused_even_if_both_are_right() {
        assert!(!keys(&["first"]).admit(&headers(&["first", "first"])));
        assert!(!keys(&["first"]).admit(&headers(&["wrong", "first"])));
    }

    #[test]
    fn only_the_console_itself_is_open() {
        assert!(["/console", "/console/", "/console/console.js"].into_iter().all(is_console));
        assert!(!["/consoles", "/projects/console", "/", "/console.js"].into_iter().any(is_console));
    }

    #[test]
    fn an_empty_key_is_no_key() {
        assert!(!keys(&[""]).admit(&headers(&[""])));
        assert!(!keys(&[]).admit(&headers(&[""])));
    }

    #[test]
    fn debug_shows_no_hash() {
        assert_eq!(format!("{:?}", keys(&["first"])), "Keys(1)");
    }
}
