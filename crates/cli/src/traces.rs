//! Traces, exported to an OpenTelemetry collector: OTLP over HTTP with protobuf bodies.
//!
//! Requests never wait for it. Spans that ended wait in a bounded queue and go in batches from a thread of their own; what finds the
//! queue full is dropped and counted, a batch that the collector does not take is lost and counted, and the log says so once a minute.

mod queue;
mod request;
mod sender;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

use crate::failure::Failure;

pub use request::Requests;

/// Longest wait for the collector to take a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for what is still queued when the server ends: after the requests at work, and all within the 30 s that service
/// managers give.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Where traces go, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// The whole URL, `…/v1/traces`.
    pub url: String,
    /// Of the traces that begin here, the part that is recorded, from 0 to 1.
    pub sample: f64,
}

/// What exports them.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Requests to the collector run on `runtime`. Nothing is sent yet.
    pub fn new(collector: &Collector, runtime: Handle) -> Result<Self, Failure> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender::Sender::new(runtime))
            .with_endpoint(&collector.url)
            .with_timeout(SEND_TIMEOUT)
            // What was not taken is lost: who comes next does not wait for it.
            .with_retry_policy(RetryPolicy::default().with_max_retries(0))
            .build();
        let exporter = exporter.map_err(|error| Failure::usage(format!("traces cannot be exported: {error}")))?;
        let name = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
        // Attributes of the standard variables (OTEL_RESOURCE_ATTRIBUTES) come along.
        let resource = Resource::builder()
            .with_service_name(name.unwrap_or_else(|| "treehold".to_owned()))
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
            ])
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(collector.sample)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue::processor(exporter))
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What listens to spans: those of requests and of calls, and no events, which may say anything.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let wanted = |metadata: &Metadata<'_>| {
            metadata.is_span() && (metadata.target() == treehold_calls::TARGET || request::is_one(metadata))
        };
        OpenTelemetryLayer::new(self.0.tracer("treehold"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(filter_fn(wanted))
    }

    /// Sends what is queued, for a while.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(END_TIMEOUT)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
