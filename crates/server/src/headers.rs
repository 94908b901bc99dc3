//! Request headers of ours, and content negotiation.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use treehold_engine::Secret;
use treehold_engine::api::Origin;

use crate::error::Problem;

/// Longest `Idempotency-Key`, bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Longest `X-Remote-Token`, bytes.
const REMOTE_TOKEN_BYTES_MAX: usize = 4_096;
/// Longest `Last-Event-ID`, bytes.
const EVENT_ID_BYTES_MAX: usize = 255;
/// Longest `Treehold-Device`, bytes.
const DEVICE_BYTES_MAX: usize = 100;
/// Longest `Treehold-Actor`, bytes.
const ACTOR_BYTES_MAX: usize = 200;
/// Longest `Treehold-Session`, bytes.
const SESSION_BYTES_MAX: usize = 200;
/// Longest `X-Hub-Signature-256`, bytes; right ones have 71.
const SIGNATURE_BYTES_MAX: usize = 128;
/// Longest header that names a project, a branch or an author, bytes.
const NAME_BYTES_MAX: usize = 500;
/// Longest header that names an event or a delivery, bytes.
const NEEDED_BYTES_MAX: usize = 100;

/// The one value of a header, which must be printable ASCII without spaces at its ends.
fn printable<'a>(headers: &'a HeaderMap, name: &'static str, longest: usize) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad_header(name, format!("{name} was given more than once")));
    }
    match value.to_str() {
        Ok(text) if (1..=longest).contains(&text.len()) && !text.contains('\t') => Ok(Some(text)),
        _ => Err(Problem::bad_header(name, format!("{name} must be 1 to {longest} printable ASCII characters"))),
    }
}

/// `Idempotency-Key`.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    Ok(printable(headers, "Idempotency-Key", IDEMPOTENCY_KEY_BYTES_MAX)?.map(str::to_owned))
}

/// `X-Remote-Token`: for this request only.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<Option<Secret>, Problem> {
    Ok(printable(headers, "X-Remote-Token", REMOTE_TOKEN_BYTES_MAX)?.map(|token| Secret::new(token.to_owned())))
}

/// Text that is shown to others: UTF-8, nothing that moves a cursor or turns text around (Unicode's Bidi_Control).
fn shown(headers: &HeaderMap, name: &'static str, longest: usize) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad_header(name, format!("{name} was given more than once")));
    }
    let plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) if (1..=longest).contains(&text.len()) && text.chars().all(plain) => Ok(Some(text.to_owned())),
        _ => Err(Problem::bad_header(name, format!("{name} must be 1 to {longest} bytes of printable UTF-8"))),
    }
}

/// `Last-Event-ID`: where a client that comes back to a stream was.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    printable(headers, "Last-Event-ID", EVENT_ID_BYTES_MAX)
}

/// `Treehold-Device`, `Treehold-Actor` and `Treehold-Session`: where an edit comes from.
pub(crate) fn origin(headers: &HeaderMap) -> Result<Origin, Problem> {
    let actor = shown(headers, "Treehold-Actor", ACTOR_BYTES_MAX)?;
    let kind =
        actor.as_deref().map(|actor| actor.split_once(':').map_or((actor, None), |(kind, name)| (kind, Some(name))));
    if kind.is_some_and(|(kind, name)| !["person", "agent", "service"].contains(&kind) || name == Some("")) {
        return Err(Problem::bad_header(
            "Treehold-Actor",
            "Treehold-Actor must be `person`, `agent` or `service`, and may go on with `:` and a name",
        ));
    }
    let device = shown(headers, "Treehold-Device", DEVICE_BYTES_MAX)?;
    Ok(Origin { device, actor, session: shown(headers, "Treehold-Session", SESSION_BYTES_MAX)? })
}

/// A header that names something, such as a project: UTF-8, as [`shown`].
pub(crate) fn named(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Problem> {
    shown(headers, name, NAME_BYTES_MAX)
}

/// `X-Hub-Signature-256`, if there is one.
pub(crate) fn signature(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    printable(headers, "X-Hub-Signature-256", SIGNATURE_BYTES_MAX)
}

/// A header without which a request cannot be understood.
pub(crate) fn needed<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Problem> {
    printable(headers, name, NEEDED_BYTES_MAX)?
        .ok_or_else(|| Problem::bad_header(name, format!("send {name}, as GitHub does")))
}

/// Refuses bodies that are not the bytes themselves: parts, and compressed ones (which would be stored compressed).
pub(crate) fn plain_body(headers: &HeaderMap) -> Result<(), Problem> {
    let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "send the body without Content-Encoding",
        ));
    }
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Problem::bad_header("Content-Range", "send the whole file; parts of files cannot be written"));
    }
    Ok(())
}

/// Whether the body says that it is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Which of the media types that we `offer` (the default first) the caller likes best. Where it likes none, it gets the
/// default all the same, as RFC 9110 section 12.4.1 allows.
pub(crate) fn negotiate(headers: &HeaderMap, offer: &[&'static str]) -> usize {
    let accept: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    let mut best = (0, (0.0, 0));
    for (index, kind) in offer.iter().enumerate() {
        let quality = quality(&accept, kind);
        if quality.0 > 0.0 && quality > best.1 {
            best = (index, quality);
        }
    }
    best.0
}

/// The weight of a media type, by the most specific range that matches, and how specific that is: of two that are liked alike, the one that is
/// named is meant (many clients send `application/json, */*`).
fn quality(accept: &str, kind: &str) -> (f32, u8) {
    let (class, _) = kind.split_once('/').unwrap_or((kind, ""));
    let mut found = (0, 0.0);
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let range = parts.next().unwrap_or("").to_ascii_lowercase();
        let specific = match range.as_str() {
            range if range == kind => 3,
            range if range.strip_suffix("/*").is_some_and(|range| range == class) => 2,
            "*/*" => 1,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0));
        if specific > found.0 {
            found = (specific, weight);
        }
    }
    (found.1, found.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn accept_decides_with_weights_and_the_default_wins_ties() {
        let offer = ["application/json", "text/event-stream"];
        let chosen = |accept: &str| negotiate(&headers(&[("accept", accept)]), &offer);
        assert_eq!(negotiate(&HeaderMap::new(), &offer), 0);
        for first in ["*/*", "application/json", "text/html", "", "text/event-stream;q=0", "text/*;q=0.1, */*"] {
            assert_eq!(chosen(first), 0, "{first}");
        }
        for second in
            ["text/event-stream", "text/*", "TEXT/Event-Stream; q=0.5", "application/json;q=0.1, text/*;q=0.2"]
        {
            assert_eq!(chosen(second), 1, "{second}");
        }
        assert_eq!(chosen("text/event-stream;q=0, */*;q=0.1"), 0);
        // What axios sends, with a route whose default is another type.
        let offer = ["text/x-diff", "application/json"];
        let chosen = |accept: &str| negotiate(&headers(&[("accept", accept)]), &offer);
        for named in ["application/json, text/plain, */*", "*/*, application/json", "application/*, */*"] {
            assert_eq!(chosen(named), 1, "{named}");
        }
        assert_eq!(chosen("application/json;q=0.9, */*"), 0);
    }

    #[test]
    fn json_is_recognised_by_its_type() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(is_json(&headers(&[("content-type", yes)])), "{yes}");
        }
        for no in ["text/plain", "application/x-www-form-urlencoded", "", "json", "text/json", "application/jsonp"] {
            assert!(!is_json(&headers(&[("content-type", no)])), "{no}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn idempotency_keys_are_bounded_and_printable() {
        let key = |value: &str| idempotency_key(&headers(&[("idempotency-key", value)]));
        assert_eq!(key("a b-1").unwrap().as_deref(), Some("a b-1"));
        assert_eq!(key(&"k".repeat(255)).unwrap().map(|key| key.len()), Some(255));
        for bad in ["", &"k".repeat(256), "\u{e9}", "a\tb"] {
            assert_eq!(key(bad).unwrap_err().code(), "bad_header", "{bad:?}");
        }
        let mut twice = headers(&[("idempotency-key", "a")]);
        twice.append("idempotency-key", "a".parse().unwrap());
        assert_eq!(idempotency_key(&twice).unwrap_err().body()["header"], "Idempotency-Key");
    }

    #[test]
    fn a_problem_about_a_token_does_not_show_it() {
        let problem = credentials(&headers(&[("x-remote-token", "canary\u{e9}token")])).unwrap_err();
        assert!(!problem.body().to_string().contains("canary"));
        assert!(!format!("{problem:?}").contains("canary"));
        assert_eq!(credentials(&headers(&[("x-remote-token", "t")])).unwrap().unwrap().expose(), "t");
    }

    #[test]
    fn an_origin_is_short_and_printable() {
        let of = |name: &'static str, value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            origin(&headers).map_err(|problem| (problem.code(), problem.body()["header"].clone()))
        };
        assert_eq!(origin(&HeaderMap::new()).unwrap(), Origin::default());
        let device = |value: &str| of("treehold-device", value.as_bytes()).map(|origin| origin.device);
        assert_eq!(device("Ann\u{e9}'s laptop").unwrap().as_deref(), Some("Ann\u{e9}'s laptop"));
        assert!(device(&"d".repeat(100)).is_ok());
        for bad in ["", &"d".repeat(101), "a\tb", "a\u{202e}b", "a\u{85}b"] {
            assert_eq!(device(bad), Err(("bad_header", "Treehold-Device".into())), "{bad:?}");
        }
        assert!(of("treehold-device", b"\xff").is_err());
        assert!(of("treehold-session", &[b's'; 201]).is_err());
        let actor = |value: &str| of("treehold-actor", value.as_bytes()).map(|origin| origin.actor);
        for good in ["person", "agent", "service:backup", "agent:a:b"] {
            assert_eq!(actor(good).unwrap().as_deref(), Some(good));
        }
        for bad in ["", "robot", "agent:", "Agent", "agent name", &format!("agent:{}", "a".repeat(195))] {
            assert_eq!(actor(bad), Err(("bad_header", "Treehold-Actor".into())), "{bad:?}");
        }
        let mut twice = headers(&[("treehold-device", "a")]);
        twice.append("treehold-device", "a".parse().unwrap());
        assert_eq!(origin(&twice).unwrap_err().code(), "bad_header");
    }

    #[test]
    fn encoded_and_partial_bodies_are_refused() {
        assert!(plain_body(&headers(&[("content-encoding", "identity")])).is_ok());
        assert_eq!(plain_body(&headers(&[("content-encoding", "gzip")])).unwrap_err().status(), 415);
        assert_eq!(plain_body(&headers(&[("content-range", "bytes 0-1/3")])).unwrap_err().status(), 400);
    }
}
