//! How batches get to the collector: one HTTP client, on the program's own threads.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use super::SEND_TIMEOUT;

/// Pause between two lines in the log about batches that were not taken.
const TELL_PAUSE: Duration = Duration::from_secs(60);

/// The client. The exporter's thread is none of the runtime's, which is where connections live.
#[derive(Debug)]
pub(super) struct Sender {
    runtime: Handle,
    client: OnceLock<reqwest::Client>,
    told: Mutex<Option<Instant>>,
}

impl Sender {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, client: OnceLock::new(), told: Mutex::new(None) }
    }

    /// Reads the system's certificates, hence only when there is something to send.
    fn client(&self) -> Result<&reqwest::Client, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("treehold/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .referer(false)
            // Its headers may hold the collector's credentials.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(SEND_TIMEOUT)
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let request = self.client()?.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
        let sent = self.runtime.spawn(async move {
            let response = request.send().await?;
            let status = response.status();
            // What it says is not needed; read to its end, the connection serves again.
            let _words = response.bytes().await;
            Ok::<_, reqwest::Error>(status)
        });
        let status = sent.await?.map_err(reqwest::Error::without_url)?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        Ok(response)
    }

    /// Once a minute, whatever happens.
    fn tell(&self, why: &str) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.duration_since(told) >= TELL_PAUSE) {
            *told = Some(now);
            tracing::warn!(why, "the collector does not take traces, which are lost (see treehold_trace_spans_total)");
        }
    }
}

/// An error and what it rests on.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request).await;
        match &sent {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => self.tell(&format!("it answers HTTP {}", response.status().as_u16())),
            Err(error) => self.tell(&chain(&**error)),
        }
        sent
    }
}
