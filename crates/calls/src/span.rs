//! Spans, as OpenTelemetry's semantic conventions name what is in them (HTTP and database spans 1.3x; `otel.*` is read by
//! `tracing-opentelemetry`). Nothing that a caller sent is in one: no path, no name, no token, no SQL. The spans of requests are the
//! server's.

use tracing::{Level, Span};

/// All spans here have this target and level TRACE, so that one filter has them, and logs at DEBUG are as they were.
pub const TARGET: &str = "treehold_calls";

/// Whether anybody listens.
fn heard() -> bool {
    tracing::span_enabled!(target: TARGET, Level::TRACE, "call")
}

/// Whether a call is to have a span: somebody listens, and it is made for something that has one.
fn asked() -> bool {
    heard() && !Span::current().is_none()
}

/// Something that this process does by itself, or for an operator. It has no parent.
pub fn root(name: &'static str) -> Span {
    tracing::trace_span!(
        target: TARGET,
        parent: None,
        "upkeep",
        "otel.name" = name,
        "otel.kind" = "internal",
        "error.type" = tracing::field::Empty,
        "otel.status_code" = tracing::field::Empty,
    )
}

/// A call to the database `system` (`postgresql`, `sqlite`).
pub fn catalog(system: &'static str, operation: &'static str) -> Span {
    if !asked() {
        return Span::none();
    }
    tracing::trace_span!(
        target: TARGET,
        "catalog",
        "otel.name" = operation,
        "otel.kind" = "client",
        "db.system.name" = system,
        "db.operation.name" = operation,
        "error.type" = tracing::field::Empty,
        "otel.status_code" = tracing::field::Empty,
    )
}

/// A call to the bucket, which is of this kind (`s3`, `directory`, `memory`).
pub fn store(kind: &'static str, operation: &'static str) -> Span {
    if !asked() {
        return Span::none();
    }
    let (name, method) = match operation {
        "put" => ("store put", "PutObject"),
        "get" => ("store get", "GetObject"),
        "head" => ("store head", "HeadObject"),
        "list" => ("store list", "ListObjectsV2"),
        _ => ("store delete", "DeleteObject"),
    };
    let span = tracing::trace_span!(
        target: TARGET,
        "store",
        "otel.name" = name,
        "otel.kind" = "client",
        "treehold.store.kind" = kind,
        "treehold.store.bytes" = tracing::field::Empty,
        "rpc.system" = tracing::field::Empty,
        "rpc.service" = tracing::field::Empty,
        "rpc.method" = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        "otel.status_code" = tracing::field::Empty,
    );
    if kind == "s3" {
        span.record("rpc.system", "aws-api").record("rpc.service", "S3").record("rpc.method", method);
    }
    span
}

/// How much content a call to the bucket moved.
pub fn bytes(span: &Span, bytes: u64) {
    span.record("treehold.store.bytes", i64::try_from(bytes).unwrap_or(i64::MAX));
}

/// A call to a remote; `server` is the name of its host, and nothing else of its URL.
pub fn remote(name: &'static str, server: Option<&str>) -> Span {
    if !asked() {
        return Span::none();
    }
    tracing::trace_span!(
        target: TARGET,
        "remote",
        "otel.name" = name,
        "otel.kind" = "client",
        "server.address" = server,
        "http.request.method" = tracing::field::Empty,
        "http.response.status_code" = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        "otel.status_code" = tracing::field::Empty,
    )
}

/// It failed in this way.
pub fn fail(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}
