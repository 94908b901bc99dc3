//! `/openapi.json`, and `/docs`, a page that shows it.
//!
//! The page is small and its own: it loads the document from the server, shows it with a search box, and reaches nothing else. Its
//! parts are served beside it, so that no script or style needs to stand in the page (`Content-Security-Policy`).

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use treehold_object::{Kind, ObjectId, hash};

use crate::app::App;
use crate::conditions::{Verdict, etag, judge};
use crate::error::Problem;
use crate::params::Params;
use crate::respond::{Answer, value};

const HTML: &str = "text/html; charset=utf-8";

/// Nothing but what comes from here; no frames, no forms.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Bytes with the tag that names them.
#[derive(Debug)]
pub(crate) struct Page {
    kind: &'static str,
    bytes: Bytes,
    /// Their blob id, as for every other entity; `None` where hashing refuses them, which it does for attacks only.
    oid: Option<ObjectId>,
}

impl Page {
    /// JSON.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new("application/json", Bytes::from(value.to_string()))
    }

    fn new(kind: &'static str, bytes: Bytes) -> Self {
        let oid = hash(Kind::Blob, &bytes).ok();
        Self { kind, bytes, oid }
    }

    fn send(&self, method: &Method, headers: &HeaderMap) -> Answer {
        let verdict = self.oid.map_or(Ok(Verdict::Send), |oid| judge(headers, &oid))?;
        let mut response: Response = match verdict {
            Verdict::Failed => {
                let detail = "the document is another by now; ask without If-Match";
                return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail));
            }
            Verdict::NotModified => StatusCode::NOT_MODIFIED.into_response(),
            Verdict::Send => {
                let body = if *method == Method::HEAD { Body::empty() } else { Body::from(self.bytes.clone()) };
                (StatusCode::OK, [(header::CONTENT_TYPE, self.kind)], body).into_response()
            }
        };
        let told = response.headers_mut();
        told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        told.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        told.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if let Some(tag) = self.oid.and_then(|oid| value(&etag(&oid))) {
            told.insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

/// `GET /openapi.json`
pub(crate) async fn document(State(app): State<App>, method: Method, headers: HeaderMap) -> Answer {
    app.document().send(&method, &headers)
}

/// `GET /docs`
pub(crate) async fn page(method: Method, headers: HeaderMap) -> Answer {
    Page::new(HTML, Bytes::from_static(include_bytes!("docs/docs.html"))).send(&method, &headers)
}

/// `GET /docs/{name}`
pub(crate) async fn asset(method: Method, params: Params, headers: HeaderMap) -> Answer {
    let (kind, bytes): (_, &'static [u8]) = match params.text("name")? {
        "docs.css" => ("text/css; charset=utf-8", include_bytes!("docs/docs.css")),
        "docs.js" => ("text/javascript; charset=utf-8", include_bytes!("docs/docs.js")),
        _ => return Err(crate::router::no_route()),
    };
    Page::new(kind, Bytes::from_static(bytes)).send(&method, &headers)
}
