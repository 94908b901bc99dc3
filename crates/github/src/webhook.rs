//! Webhooks: whether GitHub sent them, and what they say ("Validating webhook deliveries", "Webhook events and payloads").

use ring::hmac;
use serde::Deserialize;
use treehold_engine::remote::{Delivery, Reported};
use treehold_engine::{EngineError, Result, Secret};
use treehold_object::ObjectId;

/// What a deleted ref is said to be at.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// What we read of a push.
#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    name: String,
    after: String,
    repository: Repository,
}

#[derive(Deserialize)]
struct Repository {
    html_url: String,
    #[serde(default)]
    clone_url: Option<String>,
}

pub(crate) fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())
}

/// Whether `X-Hub-Signature-256` is that of the body; compared in constant time.
pub(crate) fn is_signed(key: &hmac::Key, delivery: &Delivery<'_>) -> bool {
    let signature = delivery.signature.and_then(|text| text.strip_prefix("sha256=")).and_then(unhex);
    signature.is_some_and(|signature| hmac::verify(key, delivery.body, &signature).is_ok())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// What a genuine delivery says.
pub(crate) fn reported(delivery: &Delivery<'_>) -> Result<Reported> {
    match delivery.event {
        "ping" => Ok(Reported::Ping),
        "push" => {
            let bad = |what: &str| EngineError::BadRequest(format!("The body is no push event: {what}."));
            let push: Push = serde_json::from_slice(delivery.body).map_err(|error| bad(&error.to_string()))?;
            let oid = match push.after.as_str() {
                NOTHING => None,
                after => Some(ObjectId::from_hex(after.as_bytes()).map_err(|_| bad("`after` is no commit's id"))?),
            };
            let urls = [Some(push.repository.html_url), push.repository.clone_url].into_iter().flatten().collect();
            Ok(Reported::Moved { urls, name: push.name, oid })
        }
        _ => Ok(Reported::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation.
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn signed(secret: &str, signature: Option<&str>, body: &[u8]) -> bool {
        is_signed(&key(&Secret::new(secret.to_owned())), &Delivery { event: "push", signature, body })
    }

    #[test]
    fn signatures_are_those_of_the_documentation() {
        let secret = "It's a Secret to Everybody";
        assert!(signed(secret, Some(SIGNATURE), b"Hello, World!"));
        assert!(!signed(secret, Some(SIGNATURE), b"Hello, World"));
        assert!(!signed("It's a Secret to Everybody?", Some(SIGNATURE), b"Hello, World!"));
        assert!(!signed(secret, None, b"Hello, World!"));
        let cut = &SIGNATURE[..SIGNATURE.len() - 2];
        let sha1 = SIGNATURE.replace("sha256", "sha1");
        for bad in ["", "sha256=", cut, &sha1, &SIGNATURE["sha256=".len()..], &format!("{SIGNATURE}00")] {
            assert!(!signed(secret, Some(bad), b"Hello, World!"), "{bad}");
        }
    }

    #[test]
    fn pushes_say_what_moved_and_others_say_nothing() {
        let read = |event, body: &str| reported(&Delivery { event, signature: None, body: body.as_bytes() });
        let push = |after: &str| {
            format!(
                r#"{{"ref":"refs/heads/main","after":"{after}","repository":{{"html_url":"https://h/o/r","x":1}}}}"#
            )
        };
        let oid = "1111111111111111111111111111111111111111";
        let moved = |oid| Reported::Moved { urls: vec!["https://h/o/r".into()], name: "refs/heads/main".into(), oid };
        assert_eq!(read("push", &push(oid)).unwrap(), moved(Some(ObjectId::from_hex(oid.as_bytes()).unwrap())));
        assert_eq!(read("push", &push(NOTHING)).unwrap(), moved(None));
        assert_eq!(read("ping", "no JSON").unwrap(), Reported::Ping);
        assert_eq!(read("star", "{}").unwrap(), Reported::Other);
        for bad in ["", "{}", &push("main"), "[]"] {
            assert_eq!(read("push", bad).unwrap_err().code(), "bad_request", "{bad}");
        }
    }
}
