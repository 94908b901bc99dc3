//! What stands between client and server: a judge of every answer, and a wire that can be cut.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use treehold_tests::serving::Serving;

use crate::contract;
use crate::deployment::Reply;

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// What is answered instead of asking the server.
pub struct Instead {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: &'static str,
    /// Whether the server is asked all the same: then its answer is lost.
    pub done: bool,
}

impl Instead {
    /// A refusal, as the server would say it.
    pub fn refusal(status: u16, retry_after: Option<u64>) -> Self {
        let headers = retry_after.map(|seconds| ("retry-after", seconds.to_string())).into_iter().collect();
        Self { status, headers, body: r#"{"code":"busy","detail":"Come back.","status":503}"#, done: false }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub what: String,
    pub key: Option<String>,
    pub at: std::time::Instant,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    instead: VecDeque<Instead>,
    wrong: Vec<String>,
}

/// An HTTP proxy that holds every answer against the contract; streams of events go through as they come.
pub struct Judge {
    serving: Serving,
    seen: Arc<Mutex<Seen>>,
}

impl Judge {
    pub fn before(server: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let (server, shared) = (server.to_owned(), Arc::clone(&seen));
        let serving = Serving::start(Serving::ANY_PORT, move |stream| {
            let (server, seen, client) = (server.clone(), Arc::clone(&shared), client.clone());
            async move {
                let service = hyper::service::service_fn(move |request| {
                    let (server, seen, client) = (server.clone(), Arc::clone(&seen), client.clone());
                    async move { Ok::<_, Infallible>(pass(&server, &seen, &client, request).await) }
                });
                let _gone =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { serving, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// The next requests are answered so.
    pub fn next(&self, instead: impl IntoIterator<Item = Instead>) {
        self.seen().instead.extend(instead);
    }

    /// What came since this was asked last.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.seen().asked)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.seen().wrong, Vec::<String>::new(), "answers that are not as /openapi.json says");
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn whole(status: u16, headers: &[(&str, String)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()).expect("a response")
}

async fn pass(
    server: &str,
    seen: &Mutex<Seen>,
    client: &reqwest::Client,
    request: Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let what = parts.uri.path_and_query().expect("a path").to_string();
    let key = parts.headers.get("idempotency-key").map(|key| key.to_str().expect("ASCII").to_owned());
    let instead = {
        let mut seen = lock(seen);
        let asked = Asked { method: parts.method.to_string(), what: what.clone(), key, at: std::time::Instant::now() };
        seen.asked.push(asked);
        seen.instead.pop_front()
    };
    let body = body.collect().await.expect("a whole request").to_bytes();
    let mut headers = parts.headers;
    headers.remove("host");
    let asked = client.request(parts.method.clone(), format!("{server}{what}")).headers(headers).body(body);
    if let Some(instead) = instead {
        if instead.done {
            asked.send().await.expect("an answer").bytes().await.expect("a body");
        }
        return whole(instead.status, &instead.headers, instead.body);
    }
    let response = asked.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let told: Vec<(&str, String)> = headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "transfer-encoding" | "connection" | "content-length"))
        .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII").to_owned()))
        .collect();
    if headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        let body = StreamBody::new(response.bytes_stream().map_ok(Frame::data)).boxed_unsync();
        return whole(status, &told, "").map(|_| body);
    }
    let reply = Reply { status, headers: headers.clone(), body: response.bytes().await.expect("a body").to_vec() };
    let body = reply.body.clone();
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| contract::check(&method, &path, &reply)));
    if judged.is_err() {
        lock(seen).wrong.push(format!("{method} {path} {status}: {}", reply.text()));
    }
    whole(status, &told, body)
}

/// A TCP relay that can be cut.
pub struct Wire {
    serving: Serving,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    down: AtomicBool,
    /// Bytes of answers that still pass, then everything is cut once.
    left: AtomicU64,
    open: AtomicUsize,
    cuts: AtomicUsize,
    cut: Notify,
}

impl Wire {
    pub fn to(url: &str) -> Self {
        let target = url.strip_prefix("http://").expect("an http URL").parse().expect("an address");
        let state = Arc::new(State {
            target,
            down: AtomicBool::new(false),
            left: AtomicU64::new(u64::MAX),
            open: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            cut: Notify::new(),
        });
        let shared = Arc::clone(&state);
        let serving = Serving::start(Serving::ANY_PORT, move |stream| relayed(Arc::clone(&shared), stream));
        Self { serving, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// Cuts a connection once, when so many bytes of answers have passed.
    pub fn cut_after(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// Cuts all connections, and lets no new ones through.
    pub fn cut(&self) {
        self.state.down.store(true, Ordering::SeqCst);
        self.state.cut.notify_waiters();
    }

    pub fn mend(&self) {
        self.state.down.store(false, Ordering::SeqCst);
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// How often a connection was cut by [`Self::cut_after`].
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

async fn relayed(state: Arc<State>, near: TcpStream) {
    if state.down.load(Ordering::SeqCst) {
        return;
    }
    state.open.fetch_add(1, Ordering::SeqCst);
    tokio::select! {
        () = copied(&state, near) => {}
        () = state.cut.notified() => {}
    }
    state.open.fetch_sub(1, Ordering::SeqCst);
}

async fn copied(state: &State, near: TcpStream) {
    let Ok(far) = TcpStream::connect(state.target).await else { return };
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let asking = async {
        let _gone = tokio::io::copy(&mut from_near, &mut to_far).await;
    };
    let answering = async {
        let mut piece = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from_far.read(&mut piece).await {
            let left = state.left.load(Ordering::SeqCst);
            if read as u64 >= left {
                let pass = usize::try_from(left).expect("less than a piece");
                let _gone = to_near.write_all(&piece[..pass]).await;
                state.left.store(u64::MAX, Ordering::SeqCst);
                state.cuts.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if left != u64::MAX {
                state.left.store(left - read as u64, Ordering::SeqCst);
            }
            if to_near.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = asking => {}, () = answering => {} }
}
