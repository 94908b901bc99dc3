//! Errors as `application/problem+json` (RFC 9457).

use std::error::Error;
use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use treehold_engine::EngineError;
use treehold_engine::api::Oid;
use treehold_engine::remote::Rejection;

/// Why a request failed, as its caller sees it.
///
/// The body is `{"type": "about:blank", "title", "status", "code", "detail", …details}`. Nothing in it differs from request
/// to request; the request id is the header `X-Request-Id`. Causes are for the log alone.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    details: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

/// What the log says about a response that is a problem; travels as an extension of the response.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    /// As in the body.
    pub(crate) code: &'static str,
    /// The chain of causes, control characters escaped.
    pub(crate) cause: Option<String>,
}

impl Problem {
    /// A problem with a stable `code` and a sentence that says what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), details: Map::new(), headers: Vec::new(), cause: None }
    }

    /// Adds a detail; values that do not serialise are left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.details.insert(name.to_owned(), value);
        }
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// For how many seconds, if it does.
    pub(crate) fn seconds_to_wait(&self) -> Option<u64> {
        let told = self.headers.iter().find(|(name, _)| *name == header::RETRY_AFTER);
        told.and_then(|(_, value)| value.to_str().ok()?.parse().ok())
    }

    /// A defect of ours; the cause goes to the log only.
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an internal error occurred; it was logged under the request id",
        );
        problem.cause = Some(chain(cause));
        problem
    }

    /// The request is malformed.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// A query parameter or path segment has a value that it cannot have.
    pub(crate) fn bad_parameter(code: &'static str, name: &str, detail: impl Into<String>) -> Self {
        Self::bad_request(code, detail).with("parameter", name)
    }

    /// A header has a value that it cannot have.
    pub(crate) fn bad_header(name: &'static str, detail: impl Into<String>) -> Self {
        Self::bad_request("bad_header", detail).with("header", name)
    }

    /// Something is larger than its limit.
    pub(crate) fn too_large(what: &'static str, limit: u64, unit: &'static str) -> Self {
        EngineError::TooLarge { what, limit, unit }.into()
    }

    /// Whether the same request may succeed in a while.
    pub(crate) fn passes(&self) -> bool {
        matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The body.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("code".into(), self.code.into());
        body.insert("detail".into(), self.detail.clone().into());
        for (name, value) in &self.details {
            body.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(body)
    }

    /// The body, where the status of the answer is sent already: so what went wrong is logged here.
    pub(crate) fn told(&self) -> Value {
        let status = self.status.as_u16();
        let logged = self.logged();
        if status >= 500 {
            let cause = logged.cause.as_deref().unwrap_or("");
            tracing::warn!(status, code = logged.code, cause, "stream failed");
        } else {
            tracing::debug!(status, code = logged.code, "stream refused");
        }
        self.body()
    }

    /// For the log.
    pub(crate) fn logged(&self) -> Logged {
        Logged { code: self.code, cause: self.cause.clone() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let logged = self.logged();
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response.extensions_mut().insert(logged);
        response
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let cause = match &error {
            EngineError::Unavailable { source, .. } => Some(chain(source.as_ref())),
            EngineError::Internal(source) | EngineError::Damaged { source, .. } => Some(chain(source.as_ref())),
            _ => None,
        };
        let mut problem = Self::new(status(&error), error.code(), error.to_string());
        problem.cause = cause;
        describe(problem, error)
    }
}

/// The one place that turns the engine's errors into status codes.
fn status(error: &EngineError) -> StatusCode {
    match error {
        EngineError::BadRequest(_) | EngineError::BadCursor => StatusCode::BAD_REQUEST,
        EngineError::CursorExpired => StatusCode::GONE,
        EngineError::Unprocessable { .. } | EngineError::PushRejected { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        EngineError::NotFound { .. } => StatusCode::NOT_FOUND,
        EngineError::RemoteNotAllowed(_) => StatusCode::FORBIDDEN,
        EngineError::Conflict { .. }
        | EngineError::RefMoved { .. }
        | EngineError::MergeConflict(_)
        | EngineError::Diverged(_) => StatusCode::CONFLICT,
        EngineError::Batch(_) => match error.code() {
            "conflict" => StatusCode::CONFLICT,
            "precondition_failed" => StatusCode::PRECONDITION_FAILED,
            "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        },
        EngineError::Precondition { .. } => StatusCode::PRECONDITION_FAILED,
        EngineError::TooLarge { .. } | EngineError::QuotaExceeded { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        EngineError::RemoteAuth { .. } => StatusCode::BAD_GATEWAY,
        EngineError::PushUnknown { .. } => StatusCode::GATEWAY_TIMEOUT,
        EngineError::RemoteFailed { code, .. } => match *code {
            "remote_rate_limited" => StatusCode::TOO_MANY_REQUESTS,
            "remote_timeout" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        },
        EngineError::Unavailable { .. } | EngineError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        EngineError::Internal(_) | EngineError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Adds the details that callers act on.
fn describe(problem: Problem, error: EngineError) -> Problem {
    match error {
        EngineError::MergeConflict(conflicts) | EngineError::Diverged(conflicts) => {
            problem.with("conflicts", conflicts)
        }
        EngineError::Batch(refused) => {
            problem.with("index", refused.index).with("error", refused.error()).with("results", &refused.results)
        }
        EngineError::Precondition { oid, revision } => match revision {
            Some(revision) => problem.with("oid", oid).with("revision", revision),
            None => problem.with("oid", oid),
        },
        EngineError::TooLarge { what, limit, unit } => {
            problem.with("what", what).with("limit", limit).with("unit", unit)
        }
        EngineError::QuotaExceeded { used, quota, adds } => {
            let figures = json!({"used_bytes": used, "quota_bytes": quota, "adds_bytes": adds});
            problem.with("quota", figures)
        }
        EngineError::PushRejected { attempt, commit, message } => {
            let reason = Rejection::of(&message).name();
            kept(problem.with("message", message).with("reason", reason), attempt, commit.map(Oid))
        }
        EngineError::RemoteAuth { attempt, commit } => kept(problem, attempt, commit.map(Oid)),
        EngineError::PushUnknown { attempt, commit, state } => {
            kept(problem, Some(attempt), Some(Oid(commit))).with("state", state)
        }
        EngineError::RemoteFailed { code, retry_after_s, .. } => match retry_after_s {
            Some(seconds) => problem.retry_after(seconds),
            None if code == "remote_rate_limited" => problem.retry_after(60),
            None => problem,
        },
        EngineError::Unavailable { .. } => problem.retry_after(2),
        EngineError::Busy => problem.retry_after(1),
        EngineError::BadRequest(_)
        | EngineError::BadCursor
        | EngineError::CursorExpired
        | EngineError::Unprocessable { .. }
        | EngineError::NotFound { .. }
        | EngineError::RemoteNotAllowed(_)
        | EngineError::Conflict { .. }
        | EngineError::RefMoved { .. }
        | EngineError::Damaged { .. }
        | EngineError::Internal(_) => problem,
    }
}

/// Names the attempt that keeps the work.
fn kept(problem: Problem, attempt: Option<uuid::Uuid>, commit: Option<Oid>) -> Problem {
    let problem = match attempt {
        Some(attempt) => problem.with("attempt", attempt),
        None => problem,
    };
    match commit {
        Some(commit) => problem.with("commit", commit),
        None => problem,
    }
}

/// An error and what caused it, for the log: control characters escaped, bounded.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    for depth in 0..16 {
        let Some(error) = next else { break };
        if depth > 0 {
            text.push_str(": ");
        }
        for character in error.to_string().chars().take(2_000) {
            if character.is_control() {
                let _ = write!(text, "{}", character.escape_default());
            } else {
                text.push(character);
            }
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
