//! The key that every route but the health checks needs.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use treehold_engine::Secret;

use crate::app::App;
use crate::error::Problem;

/// The header that carries the key.
pub(crate) const KEY_HEADER: &str = "x-internal-api-key";

/// Routes that answer without a key.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

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
    if OPEN.contains(&request.uri().path()) || app.keys().admit(request.headers()) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send one of the configured keys, once, as X-Internal-API-Key",
    )
    .into_response()
}

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
    fn an_empty_key_is_no_key() {
        assert!(!keys(&[""]).admit(&headers(&[""])));
        assert!(!keys(&[]).admit(&headers(&[""])));
    }

    #[test]
    fn debug_shows_no_hash() {
        assert_eq!(format!("{:?}", keys(&["first"])), "Keys(1)");
    }
}
