//! What waits to be exported: so much and no more, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use treehold_calls::EXPORTED;

use super::request;

/// Spans that may wait, a few megabytes; the standard variable OTEL_BSP_MAX_QUEUE_SIZE does not count.
const WAITING_MAX: usize = 8_192;
/// Spans of a batch.
const BATCH: usize = 1_024;

/// Batches go when they are full or the oldest span is a few seconds old (OTEL_BSP_SCHEDULE_DELAY, milliseconds).
pub(super) fn processor(exporter: impl SpanExporter + 'static) -> impl SpanProcessor + 'static {
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Counting { exporter, waiting: waiting.clone() };
    let config = BatchConfigBuilder::default().with_max_queue_size(WAITING_MAX).with_max_export_batch_size(BATCH);
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
    Bounded { batches, waiting }
}

/// Knows how many wait, and so what there is no room for.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.batches.on_start(span, cx);
    }

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Relaxed);
            EXPORTED.dropped.fetch_add(1, Relaxed);
            return;
        }
        request::name(&mut span);
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what left the queue.
#[derive(Debug)]
struct Counting<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // On its way it takes room no longer: the next batch waits meanwhile.
        self.waiting.fetch_sub(count, Relaxed);
        let exported = self.exporter.export(batch).await;
        let counter = if exported.is_ok() { &EXPORTED.sent } else { &EXPORTED.failed };
        counter.fetch_add(count as u64, Relaxed);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
