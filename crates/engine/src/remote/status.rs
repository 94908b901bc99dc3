//! What an HTTP status other than 200 means.

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};

use super::transport::TransportError;

/// Longest wait that a remote can ask for, seconds.
const WAIT_MAX: i64 = 24 * 3_600;

/// The failure that a status stands for; `text` is the remote's, printable.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap, text: &str) -> TransportError {
    let told = || if text.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {text}") };
    if let Some(wait) = limited(status, headers, text) {
        return TransportError::Limited(wait);
    }
    match status.as_u16() {
        401 | 403 | 404 => TransportError::Auth,
        408 | 500.. => TransportError::Server(told()),
        413 => TransportError::Refused(format!("too large for the remote: {}", told())),
        400.. => TransportError::Refused(told()),
        // 206, 304 and others that make no sense here. The remote may have acted.
        _ => TransportError::Invalid(told()),
    }
}

/// Whether the answer asks to come back later, and in how many seconds if it says so.
pub fn limited(status: StatusCode, headers: &HeaderMap, text: &str) -> Option<Option<u64>> {
    let limited = status.as_u16() == 429 || (status.as_u16() == 403 && is_rate_limit(headers, text));
    limited.then(|| wait(headers))
}

/// GitHub's primary and secondary limits come as 403 too.
fn is_rate_limit(headers: &HeaderMap, text: &str) -> bool {
    headers.contains_key(header::RETRY_AFTER)
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || text.to_ascii_lowercase().contains("rate limit")
}

/// How many seconds to wait, by `Retry-After` or GitHub's header. Times count from the remote's own `Date`.
fn wait(headers: &HeaderMap) -> Option<u64> {
    let now = || time(headers, header::DATE.as_str());
    // Every answer of GitHub tells when the hour's requests come back, which says nothing of other limits while some are left.
    let used_up = number(headers, "x-ratelimit-remaining").is_none_or(|left| left <= 0);
    let reset = || Some(number(headers, "x-ratelimit-reset").filter(|_| used_up)? - now()?);
    let seconds = number(headers, header::RETRY_AFTER.as_str())
        .or_else(|| Some(time(headers, header::RETRY_AFTER.as_str())? - now()?))
        .or_else(reset)?;
    u64::try_from(seconds.clamp(0, WAIT_MAX)).ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn time(headers: &HeaderMap, name: &str) -> Option<i64> {
    Some(jiff::fmt::rfc2822::parse(headers.get(name)?.to_str().ok()?).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, headers: &[(&'static str, &str)], text: &str) -> String {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        format!("{:?}", classify(StatusCode::from_u16(status).unwrap(), &headers, text))
    }

    #[test]
    fn statuses_mean_what_they_should() {
        for status in [401, 403, 404] {
            assert_eq!(classified(status, &[], "Repository not found."), "Auth");
        }
        assert_eq!(classified(429, &[], ""), "Limited(None)");
        assert_eq!(classified(429, &[("retry-after", "17")], ""), "Limited(Some(17))");
        assert_eq!(classified(403, &[("retry-after", "17")], ""), "Limited(Some(17))");
        assert_eq!(classified(403, &[], "You have exceeded a secondary rate limit."), "Limited(None)");
        let date = ("date", "Mon, 05 Jan 2026 10:00:00 GMT");
        let later = ("retry-after", "Mon, 05 Jan 2026 10:00:30 GMT");
        assert_eq!(classified(429, &[date, later], ""), "Limited(Some(30))");
        let reset = [date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767607245")];
        assert_eq!(classified(403, &reset, ""), "Limited(Some(45))");
        let secondary = [date, ("x-ratelimit-remaining", "4311"), ("x-ratelimit-reset", "1767607245")];
        assert_eq!(classified(403, &secondary, "You have exceeded a secondary rate limit."), "Limited(None)");
        assert_eq!(classified(429, &secondary, ""), "Limited(None)");
        assert_eq!(classified(429, &[("retry-after", "-5")], ""), "Limited(Some(0))");
        assert_eq!(classified(429, &[("retry-after", "999999999999")], ""), "Limited(Some(86400))");
        for (status, kind) in [
            (400, "Refused"),
            (405, "Refused"),
            (410, "Refused"),
            (413, "Refused"),
            (422, "Refused"),
            (408, "Server"),
            (500, "Server"),
            (502, "Server"),
            (503, "Server"),
            (504, "Server"),
            (206, "Invalid"),
            (304, "Invalid"),
        ] {
            assert!(classified(status, &[], "words").starts_with(kind), "{status}");
        }
    }
}
