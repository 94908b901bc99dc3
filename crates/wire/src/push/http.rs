//! What an HTTP status says about a push or fetch that it answers.

/// How to go on after an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpAnswer {
    /// The body has git's own answer.
    Read,
    /// The credentials are missing, wrong or not enough (a private repository may hide as 404).
    Credentials,
    /// The body was too large for the server.
    TooLarge,
    /// Too many requests: the same again, after so many seconds if the server named them.
    Limited {
        /// Whole seconds from `Retry-After`.
        retry_after_s: Option<u64>,
    },
    /// The server does not do this, and repeating will not change it.
    Refused,
    /// Whether a push took effect is open: only the remote's refs can tell.
    Unknown,
}

/// Classifies an HTTP `status` with the value of its `Retry-After`, if there is one.
pub fn classify_http(status: u16, retry_after: Option<&str>) -> HttpAnswer {
    // A date instead of seconds needs a clock; the caller's own backoff serves as well.
    let retry_after_s = retry_after.and_then(|value| value.trim().parse().ok());
    match status {
        200 => HttpAnswer::Read,
        // GitHub's secondary limits answer 403 with Retry-After.
        429 => HttpAnswer::Limited { retry_after_s },
        403 if retry_after.is_some() => HttpAnswer::Limited { retry_after_s },
        401 | 403 | 404 | 407 => HttpAnswer::Credentials,
        413 => HttpAnswer::TooLarge,
        // Timeouts: the server may have begun.
        408 | 499 | 500.. => HttpAnswer::Unknown,
        300..=499 => HttpAnswer::Refused,
        _ => HttpAnswer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_fall_into_what_the_caller_does() {
        use HttpAnswer::*;
        for (status, retry_after, answer) in [
            (200, None, Read),
            (204, None, Unknown),
            (302, None, Refused),
            (401, None, Credentials),
            (403, None, Credentials),
            (403, Some("60"), Limited { retry_after_s: Some(60) }),
            (404, None, Credentials),
            (408, None, Unknown),
            (413, None, TooLarge),
            (415, None, Refused),
            (429, None, Limited { retry_after_s: None }),
            (429, Some("Wed, 21 Oct 2015 07:28:00 GMT"), Limited { retry_after_s: None }),
            (500, None, Unknown),
            (503, Some("1"), Unknown),
        ] {
            assert_eq!(classify_http(status, retry_after), answer, "{status}");
        }
    }
}
