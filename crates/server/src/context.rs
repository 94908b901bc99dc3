//! Around every request: its id, its log line, and what becomes of the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::app::App;
use crate::error::Logged;
use crate::meters::NO_ROUTE;
use crate::traces::Tracing;

/// The header that names a request.
const REQUEST_ID: &str = "x-request-id";

/// Set where the connection is to be closed with the caller possibly still sending: then what it sends is read for a
/// while, so that it sees the answer instead of a reset.
#[derive(Debug, Clone, Default)]
pub(crate) struct Linger(pub(crate) Arc<AtomicBool>);

/// The outermost layer.
pub(crate) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let started = Instant::now();
    let method = request.method().clone();
    let version = request.version();
    let linger = request.extensions().get::<Linger>().cloned();
    let unread = watch_body(&mut request);
    let span = tracing::info_span!("request", id = %id);
    let traced = Tracing::begin(&app, &span, &id, &request);
    let (mut response, route) =
        async { next.run(request).await }.instrument(span.clone()).await.into_parts_with_route();
    let template = route.as_ref().map(MatchedPath::as_str);
    // In HTTP/2 the rest of a body is reset, and the connection serves on.
    if version < Version::HTTP_2 && unread.is_some_and(|read| !read.load(Ordering::Acquire)) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(linger) = linger {
            linger.0.store(true, Ordering::Release);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let took = started.elapsed();
    let route = template.unwrap_or(NO_ROUTE);
    app.meters().count(route, &method, response.status().as_u16(), took);
    span.in_scope(|| log(&method, route, took, &response));
    match traced {
        Some(traced) => traced.end(template, response),
        None => response,
    }
}

/// Remembers which route answered; the innermost layer, where the route is known.
pub(crate) async fn name_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned().map(Route);
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// The route's template, never the URL: that may hold names.
#[derive(Debug, Clone)]
struct Route(MatchedPath);

trait IntoPartsWithRoute {
    fn into_parts_with_route(self) -> (Response, Option<MatchedPath>);
}

impl IntoPartsWithRoute for Response {
    fn into_parts_with_route(mut self) -> (Response, Option<MatchedPath>) {
        let route = self.extensions_mut().remove::<Route>().map(|route| route.0);
        (self, route)
    }
}

/// One line a request. What the caller did wrong is for those who debug; what we did wrong is for everybody.
fn log(method: &Method, route: &str, took: Duration, response: &Response) {
    let status = response.status().as_u16();
    let elapsed_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let logged = response.extensions().get::<Logged>();
    let code = logged.map_or("", |logged| logged.code);
    let cause = logged.and_then(|logged| logged.cause.as_deref()).unwrap_or("");
    if status >= 500 {
        tracing::warn!(%method, route, status, code, cause, elapsed_us, "request failed");
    } else {
        tracing::debug!(%method, route, status, code, elapsed_us, "request answered");
    }
}

/// An incoming id is used if it is short and plain, else a new one is made.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |text: &&str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte))
    };
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain) {
        Some(id) => id.to_owned(),
        None => Uuid::now_v7().to_string(),
    }
}

/// Watches whether the body is read to its end; `None` if there is none.
fn watch_body(request: &mut Request) -> Option<Arc<AtomicBool>> {
    if request.body().is_end_stream() {
        return None;
    }
    let read = Arc::new(AtomicBool::new(false));
    let body = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(Watched { inner: body, read: Arc::clone(&read) });
    Some(read)
}

/// A request body that tells when it was read to its end.
struct Watched {
    inner: Body,
    read: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || (polled.is_ready() && self.inner.is_end_stream()) {
            self.read.store(true, Ordering::Release);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body that holds something (a place, memory) until its last byte is written or given up. The HTTP library takes
/// a piece long before it has written it, so each piece holds on too.
pub(crate) fn holding<T: Send + Sync + 'static>(body: Body, held: T) -> Body {
    Body::new(Holding { inner: body, held: Arc::new(held) })
}

struct Holding<T> {
    inner: Body,
    held: Arc<T>,
}

struct Piece<T> {
    bytes: Bytes,
    _held: Arc<T>,
}

impl<T> AsRef<[u8]> for Piece<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Send + Sync + 'static> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let held = &self.held;
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| frame.map_data(|bytes| Bytes::from_owner(Piece { bytes, _held: Arc::clone(held) })))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_plain_short_id_is_echoed() {
        assert_eq!(id_for(b"abc-123_x.y"), "abc-123_x.y");
    }

    #[test]
    fn any_other_id_is_replaced() {
        for given in [b"".as_slice(), b"a b", b"a\"b", "\u{e9}".as_bytes(), &[b'a'; 65]] {
            let id = id_for(given);
            assert!(Uuid::parse_str(&id).is_ok(), "{id}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
