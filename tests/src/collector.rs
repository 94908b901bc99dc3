//! A collector of traces: OTLP over HTTP with protobuf bodies, read with the types that OpenTelemetry publishes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message as _;

use crate::serving::Serving;

/// The server.
#[derive(Debug)]
pub struct Collector {
    received: Arc<Mutex<Received>>,
    serving: Serving,
}

/// How it treats batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It takes them.
    Takes,
    /// It answers 503.
    Refuses,
    /// It never answers.
    Hangs,
}

#[derive(Debug, Default)]
struct Received {
    bodies: Vec<Bytes>,
    headers: Vec<HashMap<String, String>>,
}

/// One span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 of them.
    pub id: String,
    /// The same, empty for a root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `internal`, `server`, `client`, or a number.
    pub kind: String,
    /// Whether its status is an error.
    pub failed: bool,
    /// Its attributes as texts.
    pub attributes: HashMap<String, String>,
    /// Those of whoever sent it.
    pub resource: HashMap<String, String>,
    /// How many events it has.
    pub events: usize,
}

impl Span {
    /// An attribute, empty if it has none of this name.
    pub fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }
}

fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Collector {
    /// Listens on a free port.
    pub fn start(manner: Manner) -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let kept = received.clone();
        let serving = Serving::start(Serving::ANY_PORT, move |stream| {
            let kept = kept.clone();
            let service = hyper::service::service_fn(move |request| answer(kept.clone(), manner, request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            async move { drop(connection.await) }
        });
        Self { received, serving }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// The bodies of all requests so far, as they came.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).bodies.clone()
    }

    /// Their headers.
    pub fn headers(&self) -> Vec<HashMap<String, String>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).headers.clone()
    }

    /// Every span so far. Panics if a body is not what a collector is sent.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for body in self.bodies() {
            let request = ExportTraceServiceRequest::decode(body).expect("an ExportTraceServiceRequest");
            for group in request.resource_spans {
                let resource = texts(&group.resource.expect("a resource").attributes);
                for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    let kind = match span.kind {
                        1 => "internal".to_owned(),
                        2 => "server".to_owned(),
                        3 => "client".to_owned(),
                        other => other.to_string(),
                    };
                    spans.push(Span {
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        name: span.name,
                        kind,
                        failed: span.status.is_some_and(|status| status.code == 2),
                        attributes: texts(&span.attributes),
                        resource: resource.clone(),
                        events: span.events.len(),
                    });
                }
            }
        }
        spans
    }
}

async fn answer(
    received: Arc<Mutex<Received>>,
    manner: Manner,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let as_it_should = head.method == "POST"
        && head.uri.path() == "/v1/traces"
        && head.headers.get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
    let answer = |status: StatusCode, body: Vec<u8>| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        Ok(response)
    };
    if !as_it_should {
        return answer(StatusCode::BAD_REQUEST, Vec::new());
    }
    {
        let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
        received.headers.push(headers.collect());
        received.bodies.push(body);
    }
    match manner {
        Manner::Takes => answer(StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec()),
        Manner::Refuses => answer(StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
        Manner::Hangs => std::future::pending().await,
    }
}
