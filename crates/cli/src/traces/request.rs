//! Requests as OpenTelemetry's semantic conventions for HTTP servers describe them.

use std::collections::HashMap;

use opentelemetry::Value;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SpanData;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use treehold_server::{TracedAnswer, TracedRequest, Traces};

/// The span of a request's log lines.
const NAME: &str = "request";

/// Whether a span is a request's.
pub(super) fn is_one(metadata: &Metadata<'_>) -> bool {
    metadata.name() == NAME && metadata.target().starts_with("treehold_server")
}

/// Gives a request's span the name and the kind that the conventions want, which are known at its end.
pub(super) fn name(span: &mut SpanData) {
    if span.name != NAME {
        return;
    }
    let find = |key: &str| span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    let text = |key| find(key).map(|attribute| attribute.value.as_str().into_owned());
    let method = text("http.request.method").filter(|method| method != "_OTHER").unwrap_or_else(|| "HTTP".to_owned());
    span.name = match text("http.route") {
        Some(route) => format!("{method} {route}").into(),
        None => method.into(),
    };
    span.span_kind = SpanKind::Server;
}

/// Puts on a request's span what may be known of it.
#[derive(Debug)]
pub struct Requests;

impl Traces for Requests {
    fn begin(&self, span: &Span, request: &TracedRequest<'_>) {
        if let Some(parent) = request.parent {
            let mut carrier = HashMap::from([("traceparent".to_owned(), parent.parent.to_owned())]);
            carrier.extend(parent.state.map(|state| ("tracestate".to_owned(), state.to_owned())));
            // What is no trace context is none; the span was not entered yet, and so takes it.
            let _taken = span.set_parent(TraceContextPropagator::new().extract(&carrier));
        }
        span.set_attribute("http.request.method", request.method);
        span.set_attribute("url.scheme", "http");
        span.set_attribute("network.protocol.version", request.version);
        span.set_attribute("treehold.request.id", request.id.to_owned());
    }

    fn end(&self, span: &Span, answer: &TracedAnswer<'_>) {
        if let Some(route) = answer.route {
            span.set_attribute("http.route", route.to_owned());
        }
        span.set_attribute("http.response.status_code", i64::from(answer.status));
        let code: Option<Value> = match (answer.status, answer.code) {
            (400.., "") => Some(answer.status.to_string().into()),
            (400.., code) => Some(code.into()),
            _ => None,
        };
        if let Some(code) = code {
            span.set_attribute("error.type", code);
        }
        // What a caller did wrong is no failure of a server's span.
        if answer.status >= 500 {
            span.set_status(Status::error(""));
        }
    }
}
