//! What S3's answers mean to a caller.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::StoreError;

pub(crate) const NAME: &str = "s3";

/// What an error answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The key is unknown.
    Absent,
    /// The condition of a write failed: the key is in use.
    InUse,
    /// The range starts past the end.
    PastEnd,
    /// The server does not know a header of the request.
    NotImplemented,
    /// There was none: the connection broke or was never made.
    Broken,
    /// Trying again may help.
    Passing,
    /// It will not.
    Final,
}

/// What `err` means.
pub(crate) fn classify<E: ProvideErrorMetadata>(err: &SdkError<E, HttpResponse>) -> Answer {
    match err {
        SdkError::ServiceError(answer) => {
            by_status(answer.raw().status().as_u16(), ProvideErrorMetadata::code(answer.err()))
        }
        SdkError::ConstructionFailure(_) => Answer::Final,
        SdkError::DispatchFailure(_) => Answer::Broken,
        // Timeouts, answers that make no sense.
        _ => Answer::Passing,
    }
}

fn by_status(status: u16, code: Option<&str>) -> Answer {
    match (status, code) {
        (_, Some("NoSuchBucket")) => Answer::Final,
        // The bytes changed on the way, the connection was idle, or credentials were just being replaced.
        (_, Some("BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "RequestTimeout" | "ExpiredToken")) => {
            Answer::Passing
        }
        (404 | 410, _) => Answer::Absent,
        (412, _) => Answer::InUse,
        (416, _) => Answer::PastEnd,
        (501, _) => Answer::NotImplemented,
        // 409: two conditional writes met (`ConditionalRequestConflict`).
        (408 | 409 | 425 | 429, _) => Answer::Passing,
        (300..=499, _) => Answer::Final,
        _ => Answer::Passing,
    }
}

/// The error that a caller sees.
pub(crate) fn failure<E>(action: &'static str, err: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let answer = classify(&err);
    let source = describe(&err).into();
    match answer {
        Answer::Final | Answer::Absent | Answer::NotImplemented => StoreError::Refused { action, store: NAME, source },
        _ => StoreError::Unavailable { action, store: NAME, source },
    }
}

/// Versions could not be listed. A server that does not know them may answer with a list of another kind: asking again does not help.
pub(crate) fn no_versions<E>(err: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let other = matches!(&err, SdkError::ServiceError(answer) if answer.raw().status().is_success());
    match failure("list versions", err) {
        StoreError::Unavailable { action, store, source } if other => StoreError::Refused { action, store, source },
        failure => failure,
    }
}

/// One line with every cause. The SDK's own words are either "service error" or a page with headers and bodies, in
/// which a server may quote what was signed.
fn describe<E>(err: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let SdkError::ServiceError(answer) = err {
        let (code, message) = (answer.err().code().unwrap_or("no code"), answer.err().message().unwrap_or_default());
        return format!("{} {code}: {message}", answer.raw().status());
    }
    let mut line = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(next) = cause {
        line = format!("{line}: {next}");
        cause = next.source();
    }
    line
}

/// A local file that was to be sent.
pub(crate) fn io_failure(action: &'static str, err: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable { action, store: NAME, source: err.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (status, code, answer) in [
            (404, None, Answer::Absent),
            (404, Some("NoSuchKey"), Answer::Absent),
            (404, Some("NoSuchBucket"), Answer::Final),
            (412, Some("PreconditionFailed"), Answer::InUse),
            (409, Some("ConditionalRequestConflict"), Answer::Passing),
            (416, Some("InvalidRange"), Answer::PastEnd),
            (501, Some("NotImplemented"), Answer::NotImplemented),
            (403, Some("AccessDenied"), Answer::Final),
            (403, Some("SignatureDoesNotMatch"), Answer::Final),
            (400, Some("InvalidRequest"), Answer::Final),
            (400, Some("BadDigest"), Answer::Passing),
            (400, Some("RequestTimeout"), Answer::Passing),
            (301, Some("PermanentRedirect"), Answer::Final),
            (429, None, Answer::Passing),
            (500, Some("InternalError"), Answer::Passing),
            (503, Some("SlowDown"), Answer::Passing),
        ] {
            assert_eq!(by_status(status, code), answer, "{status} {code:?}");
        }
    }
}
