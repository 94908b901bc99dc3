//! Traces of requests: what whoever exports them is told. How they are exported is decided elsewhere; the span of a request is that of its
//! log lines, and the attributes go to the exporter alone, so that logs are as they were.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tracing::Span;

use crate::app::App;
use crate::error::Logged;
use crate::meters;

/// Who traces requests.
pub trait Traces: Send + Sync + std::fmt::Debug + 'static {
    /// A request begins; `span` was not entered yet.
    fn begin(&self, span: &Span, request: &TracedRequest<'_>);
    /// Its answer begins. The span ends when the answer was sent and nothing works for it any more.
    fn end(&self, span: &Span, answer: &TracedAnswer<'_>);
}

/// A request, without what only its caller should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracedRequest<'a> {
    /// Its `X-Request-Id`.
    pub id: &'a str,
    /// A method that HTTP knows, else `_OTHER`.
    pub method: &'static str,
    /// `1.1` or `2`.
    pub version: &'static str,
    /// The trace that it continues.
    pub parent: Option<TraceParent<'a>>,
}

/// W3C trace context as it came, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent<'a> {
    /// `traceparent`.
    pub parent: &'a str,
    /// `tracestate`.
    pub state: Option<&'a str>,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracedAnswer<'a> {
    /// As in the request.
    pub method: &'static str,
    /// The route's template, never the URL; `None` = there is none.
    pub route: Option<&'a str>,
    /// The HTTP status.
    pub status: u16,
    /// The problem's code, else empty.
    pub code: &'static str,
}

fn method(method: &Method) -> &'static str {
    match meters::name(method) {
        "other" => "_OTHER",
        known => known,
    }
}

/// The trace that a request may continue: only who has a key decides what is sampled here. A token may be in anybody's hands.
fn parent<'a>(app: &App, headers: &'a HeaderMap) -> Option<TraceParent<'a>> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    app.keys().admit(headers)?;
    let state = headers.get("tracestate").and_then(|state| state.to_str().ok());
    Some(TraceParent { parent: parent.to_str().ok()?, state })
}

/// Where requests are traced.
pub(crate) struct Tracing {
    traces: Arc<dyn Traces>,
    span: Span,
    method: &'static str,
}

impl Tracing {
    /// `None` = nobody does.
    pub(crate) fn begin(app: &App, span: &Span, id: &str, request: &Request) -> Option<Self> {
        let traces = Arc::clone(app.config().traces.as_ref()?);
        let method = method(request.method());
        let version = if request.version() < Version::HTTP_2 { "1.1" } else { "2" };
        let parent = parent(app, request.headers());
        traces.begin(span, &TracedRequest { id, method, version, parent });
        Some(Self { traces, span: span.clone(), method })
    }

    /// What is still done while the answer is sent belongs to the request.
    pub(crate) fn end(self, route: Option<&str>, response: Response) -> Response {
        let code = response.extensions().get::<Logged>().map_or("", |logged| logged.code);
        let status = response.status().as_u16();
        self.traces.end(&self.span, &TracedAnswer { method: self.method, route, status, code });
        response.map(|body| Body::new(Traced { body, span: self.span }))
    }
}

struct Traced {
    body: Body,
    span: Span,
}

impl HttpBody for Traced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.span.in_scope(|| Pin::new(&mut this.body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
