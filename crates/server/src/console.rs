//! The console: one page and what it loads, all of it in the binary (`console/` has the sources and makes the bundle).
//!
//! It needs no key: the page asks its user for one and sends it with its requests. The policy in its head lets it load nothing and
//! speak with nobody but this server, and run no script that is not a file of ours.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use treehold_object::{Kind, ObjectId, second_opinion};

use crate::compress::takes_gzip;
use crate::conditions::{Verdict, etag, judge};
use crate::error::Problem;
use crate::params::Params;
use crate::respond::{Answer, value};

/// Where it is served: the page here, what it loads below.
pub(crate) const ROUTE: &str = "/console";

/// The editor's own styles are constructed by script in shadow roots, which a policy does not forbid: so no nonce is needed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = "index.html";

/// A file as it is, and compressed where that pays.
struct Asset {
    name: &'static str,
    kind: HeaderValue,
    plain: (Bytes, ObjectId),
    gzip: Option<(Bytes, ObjectId)>,
}

macro_rules! embedded {
    ($($name:literal: $kind:literal),+ $(,)?) => {
        [$(($name, HeaderValue::from_static($kind), include_bytes!(concat!("../assets/console/", $name)).as_slice())),+]
    };
}

/// Compressed once, when the first of them is asked for.
static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = embedded! {
        "index.html": "text/html; charset=utf-8",
        "console.js": "text/javascript; charset=utf-8",
        "console.css": "text/css; charset=utf-8",
        "icon.svg": "image/svg+xml",
        "licences.txt": "text/plain; charset=utf-8",
    };
    files.into_iter().map(|(name, kind, content)| Asset::new(name, kind, content)).collect()
});

impl Asset {
    fn new(name: &'static str, kind: HeaderValue, content: &'static [u8]) -> Self {
        let compressed = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(content).ok()?;
            encoder.finish().ok().filter(|gzip| gzip.len() < content.len())
        };
        Self {
            name,
            kind,
            plain: named(Bytes::from_static(content)),
            gzip: compressed().map(|gzip| named(gzip.into())),
        }
    }
}

/// Bytes and the id that is their tag.
fn named(content: Bytes) -> (Bytes, ObjectId) {
    // Files of ours are no attack on SHA-1.
    let oid = second_opinion(Kind::Blob, &content);
    (content, oid)
}

/// `GET, HEAD /`: who opens the server's address looks for a page.
pub(crate) async fn front() -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "console")]).into_response()
}

/// `GET, HEAD /console`
pub(crate) async fn page(method: Method, headers: HeaderMap) -> Answer {
    send(PAGE, &method, &headers)
}

/// `GET, HEAD /console/{name}`
pub(crate) async fn asset(method: Method, params: Params, headers: HeaderMap) -> Answer {
    match params.text("name")? {
        // Its links are relative to the page.
        "" | PAGE => Ok((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "../console")]).into_response()),
        name => send(name, &method, &headers),
    }
}

fn send(name: &str, method: &Method, headers: &HeaderMap) -> Answer {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "route_not_found", "the console has no such file"));
    };
    let gzip = asset.gzip.as_ref().filter(|_| takes_gzip(headers));
    let (content, oid) = gzip.unwrap_or(&asset.plain);
    let (status, body) = match judge(headers, oid)? {
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, Bytes::new()),
        Verdict::Failed => {
            let why = "the console's file is not what the request expects; read it without a condition";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", why));
        }
        Verdict::Send if method == Method::HEAD => (StatusCode::OK, Bytes::new()),
        Verdict::Send => (StatusCode::OK, content.clone()),
    };
    let mut response = (status, Body::from(body)).into_response();
    describe(&mut response, asset, oid, gzip.is_some());
    if status == StatusCode::OK {
        response.headers_mut().insert(header::CONTENT_LENGTH, content.len().into());
    }
    Ok(response)
}

fn describe(response: &mut Response, asset: &Asset, oid: &ObjectId, gzip: bool) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, asset.kind.clone());
    headers.extend(value(&etag(oid)).map(|tag| (header::ETAG, tag)));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let fixed: [(HeaderName, &'static str); 7] = [
        // Another server, or the next release of this one, may have another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, text) in fixed {
        headers.insert(name, HeaderValue::from_static(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;

    async fn get(name: &str, pairs: &[(HeaderName, &str)]) -> (Response, Bytes) {
        let headers = pairs.iter().map(|(name, text)| (name.clone(), text.parse().unwrap())).collect();
        let (parts, body) = send(name, &Method::GET, &headers).into_response().into_parts();
        (Response::from_parts(parts, Body::empty()), body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn every_file_comes_plain_and_compressed_and_only_if_it_changed() {
        for asset in ASSETS.iter() {
            let (plain, content) = get(asset.name, &[]).await;
            assert_eq!(plain.status(), 200, "{}", asset.name);
            assert!(!content.is_empty());
            assert!(
                plain.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'")
            );
            let tag = plain.headers()[header::ETAG].to_str().unwrap().to_owned();
            let (same, nothing) = get(asset.name, &[(header::IF_NONE_MATCH, &tag)]).await;
            assert_eq!((same.status().as_u16(), nothing.len()), (304, 0));
            let (gzip, packed) = get(asset.name, &[(header::ACCEPT_ENCODING, "gzip, br")]).await;
            if gzip.headers().contains_key(header::CONTENT_ENCODING) {
                let mut unpacked = Vec::new();
                flate2::read::GzDecoder::new(packed.as_ref()).read_to_end(&mut unpacked).unwrap();
                assert_eq!(unpacked, content);
                assert_ne!(gzip.headers()[header::ETAG], tag, "other bytes have another tag");
            }
        }
    }

    #[tokio::test]
    async fn the_page_loads_only_files_that_are_there_and_has_no_script_or_style_of_its_own() {
        let (_, page) = get(PAGE, &[]).await;
        let page = std::str::from_utf8(&page).unwrap();
        let loaded: Vec<_> = page.split("\"console/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(loaded.len() >= 3, "{loaded:?}");
        assert!(loaded.iter().all(|name| ASSETS.iter().any(|asset| asset.name == *name)), "{loaded:?}");
        assert!(!page.contains("<style") && !page.contains("style=") && !page.contains("onload="));
        assert_eq!(get("no-such.js", &[]).await.0.status(), 404);
    }
}
