//! Why a call failed.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::{Map, Value};

/// What calls answer.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed. No text of it holds a key, a token or a URL's query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused it, and says why.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// It did not get through, or the answer did not.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What was answered is nothing that a server of ours would say: perhaps a proxy speaks.
    #[error("{detail}")]
    BadAnswer {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
    /// A list was cut, and what it lists has changed since: read it again.
    #[error("the list was cut, and has changed since; read it again")]
    SnapshotChanged,
    /// It was asked for in a way that no server could answer. Nothing was sent.
    #[error("{0}")]
    Usage(String),
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody answers there: nothing was sent.
    #[error("the server cannot be reached")]
    Unreachable(#[source] BoxError),
    /// The connection broke: whether the request was carried out is not known.
    #[error("the connection to the server broke")]
    Broken(#[source] BoxError),
    /// Nothing came for so long: whether the request was carried out is not known.
    #[error("the server was silent for {} s", .0.as_secs_f32())]
    Silent(Duration),
}

/// Any cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable.
    pub code: String,
    /// A sentence that says what to do, fit to be shown.
    pub detail: String,
    /// When the same request may succeed, where the server says so.
    pub retry_after: Option<Duration>,
    /// The server's id of the request, for its operator.
    pub request_id: Option<String>,
    /// What else it says: `conflicts`, `oid`, `revision`, `limit` …
    pub fields: Map<String, Value>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error {
    /// The refusal, if it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// The refusal's stable code, if it is one.
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }

    /// HTTP status, if anything was answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::BadAnswer { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it came from the way to the server or from its load, and the same request may succeed later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            _ => self.status().is_some_and(|status| status == 429 || status >= 502),
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.problem()?.retry_after
    }
}

/// What a status that is a failure means: the server's own words, or those of something before it.
pub(crate) fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    match told(status, body) {
        Some(mut problem) => {
            problem.retry_after = retry_after(headers, SystemTime::now());
            problem.request_id = text(headers, "x-request-id");
            Error::Refused(Box::new(problem))
        }
        None => Error::BadAnswer { status, detail: format!("the server answered {status} and did not say why") },
    }
}

/// A problem's JSON, also from within a stream. `status` 0 = it says itself.
pub(crate) fn told(status: u16, body: &[u8]) -> Option<Problem> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else { return None };
    let mut word = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (code, detail) = (word("code")?, word("detail")?);
    let _rest = (word("type"), word("title"));
    let own = fields.remove("status").and_then(|own| own.as_u64()).and_then(|own| u16::try_from(own).ok());
    let status = if status == 0 { own.unwrap_or(0) } else { status };
    Some(Problem { status, code, detail, retry_after: None, request_id: None, fields })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_refusal_says_what_the_server_says() {
        let body = br#"{"type":"about:blank","title":"x","status":412,"code":"precondition","detail":"Look.","oid":null,"revision":3}"#;
        let error = refusal(412, &headers("x-request-id", "r1"), body);
        assert_eq!(
            (error.status(), error.code(), error.to_string().as_str()),
            (Some(412), Some("precondition"), "Look.")
        );
        let problem = error.problem().unwrap();
        assert_eq!(problem.fields.keys().collect::<Vec<_>>(), ["oid", "revision"]);
        assert_eq!(problem.request_id.as_deref(), Some("r1"));
        assert!(!error.passes());
    }

    #[test]
    fn what_is_no_problem_is_not_taken_for_one() {
        for body in ["", "<html>", "[]", "{}", r#"{"code":7,"detail":"x"}"#, r#"{"code":"x"}"#] {
            let error = refusal(502, &HeaderMap::new(), body.as_bytes());
            assert!(matches!(error, Error::BadAnswer { status: 502, .. }), "{body}");
            assert!(error.passes());
        }
    }

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 12:00:00 GMT").unwrap();
        let asked = |text: &str| retry_after(&headers("retry-after", text), now);
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Thu, 26 Nov 2026 12:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Thu, 26 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
    }
}
