//! A proxy in front of the S3 server: every call waits, and is counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use treehold_tests::serving::Serving;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The proxy. It changes nothing in a call, so that its signature stays right. Dropped, it stops.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    serving: Serving,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    latency: Duration,
    counts: Mutex<Counts>,
}

/// What passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls by method.
    pub calls: BTreeMap<String, u64>,
    /// Bytes of bodies towards the server.
    pub bytes_up: u64,
    /// Bytes of bodies towards the client.
    pub bytes_down: u64,
}

impl Counts {
    /// Calls of one method.
    pub fn of(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or(0)
    }

    /// All calls.
    pub fn all(&self) -> u64 {
        self.calls.values().sum()
    }
}

impl Proxy {
    /// Stands before the server at `upstream`; each call waits `latency` before it goes there.
    pub fn start(upstream: SocketAddr, latency: Duration) -> Self {
        let shared = Arc::new(Shared { upstream, latency, counts: Mutex::default() });
        let mut connector = HttpConnector::new();
        // Without it a small body waits 40 ms for a delayed acknowledgement.
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let to_handle = Arc::clone(&shared);
        let serving = Serving::start(Serving::ANY_PORT, move |stream| {
            let (shared, client) = (Arc::clone(&to_handle), client.clone());
            let service = hyper::service::service_fn(move |request| pass(Arc::clone(&shared), client.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            async move { drop(connection.await) }
        });
        Self { shared, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// What passed since the last call of this.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut *self.shared.counts())
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error makes hyper close the connection, as it would close without a proxy.
async fn pass(
    shared: Arc<Shared>,
    client: Client<HttpConnector, Body>,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    *shared.counts().calls.entry(request.method().to_string()).or_default() += 1;
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    // The Host header stays: it is signed. Only the address to connect to is another.
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::try_from(format!("http://{}{path}", shared.upstream))?;
    let up = Arc::clone(&shared);
    let body = counted(body, move |bytes| up.counts().bytes_up += bytes);
    let response = client.request(Request::from_parts(head, body)).await?;
    Ok(response.map(|body| counted(body, move |bytes| shared.counts().bytes_down += bytes)))
}

fn counted(body: Incoming, count: impl Fn(u64) + Send + 'static) -> Body {
    let body = body.map_frame(move |frame| {
        count(frame.data_ref().map_or(0, |data| data.len() as u64));
        frame
    });
    body.map_err(BoxError::from).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::s3::Bucket;
    use std::time::Instant;
    use treehold_tests::s3::S3Server;

    /// Goal: a signed call passes unchanged, waits, and is counted with its bytes.
    #[tokio::test]
    async fn calls_pass_wait_and_are_counted() {
        let s3 = S3Server::start().await;
        s3.create_bucket("bucket");
        let latency = Duration::from_millis(20);
        let proxy = Proxy::start(s3.url().trim_start_matches("http://").parse().unwrap(), latency);
        let endpoint = format!("http://{}", proxy.address());
        let bucket = Bucket::connect(&endpoint, "bucket", s3.access_key(), s3.secret_key());
        let content = vec![7; 100_000];
        bucket.put("a b/ü", content.clone()).await.unwrap();
        let put = proxy.take_counts();
        assert_eq!((put.of("PUT"), put.all()), (1, 1));
        assert!(put.bytes_up >= 100_000 && put.bytes_down < 10_000, "{put:?}");
        let started = Instant::now();
        assert_eq!(bucket.get("a b/ü").await.unwrap(), content);
        assert!(started.elapsed() >= latency, "the call did not wait");
        let got = proxy.take_counts();
        assert_eq!((got.of("GET"), got.bytes_up, got.bytes_down), (1, 0, 100_000));
        assert!(bucket.get("missing").await.is_err());
        assert_eq!(proxy.take_counts().all(), 1);
        assert_eq!(proxy.take_counts(), Counts::default());
    }
}
