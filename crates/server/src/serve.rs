//! Connections: accepting, timeouts, and an orderly end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::{Listener, ListenerExt as _};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::app::App;
use crate::context::Linger;
use crate::gate::Gate;
use crate::protocol::{self, writes_through};
use crate::sending::Sending;

/// How connections are treated.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Longest wait for the head of a request, also the longest idle time between two. More than a load balancer's idle
    /// timeout (60 s for most, 120 s where answers may take long to begin), so that it is the balancer that closes.
    pub head_timeout: Duration,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Largest head of a request, bytes; then 431. Also what a connection may buffer. At least 8 KiB.
    pub head_bytes: usize,
    /// Longest time in which a caller takes nearly nothing of its answer; then the connection is closed, so that what the
    /// answer holds is free again.
    pub send_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(135),
            connections_max: 8_192,
            head_bytes: 64 << 10,
            send_timeout: Duration::from_secs(60),
        }
    }
}

/// Serves the public API over HTTP/1.1, and HTTP/2 for clients that begin with it, until `shutdown` ends, then lets the requests at
/// work, and the writes that outlive theirs, come to their end, for at most `drain`.
///
/// # Errors
/// None today: what a connection suffers is its own, and failures to accept are waited out.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> io::Result<()> {
    // Threads that the first heavy request would else wait for.
    app.heavy();
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
    });
    let options = app.config().connections.clone();
    let ending = app.clone();
    let shutdown = async move {
        shutdown.await;
        ending.close();
    };
    let until = serve_on(listener, app.router(), shutdown, (options, drain)).await;
    if tokio::time::timeout_at(until, app.drained()).await.is_err() {
        tracing::warn!("gave up waiting for writes at work; they are settled at the next start");
    }
    Ok(())
}

/// Serves the connections. Returns when the draining is to end at the latest.
async fn serve_on<L: Listener>(
    mut listener: L,
    router: Router,
    shutdown: impl Future<Output = ()>,
    (options, drain): (ServeOptions, Duration),
) -> Instant {
    let stop = CancellationToken::new();
    let kill = CancellationToken::new();
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(options.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await.0, place)
        };
        let (io, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let connection = connection(io, router.clone(), stop.clone(), options.clone());
        let kill = kill.clone();
        tasks.spawn(async move {
            kill.run_until_cancelled_owned(connection).await;
            drop(place);
        });
    }
    drop(listener);
    let until = Instant::now() + drain;
    stop.cancel();
    tasks.close();
    if tokio::time::timeout_at(until, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "gave up waiting for requests at work");
        kill.cancel();
        tasks.wait().await;
    }
    until
}

async fn connection<I>(io: I, router: Router, stop: CancellationToken, options: ServeOptions)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = Sending::new(io, options.send_timeout);
    let begun = tokio::select! {
        begun = tokio::time::timeout(options.head_timeout, protocol::begin(io)) => begun,
        () = stop.cancelled() => return,
    };
    let ended = match begun {
        Ok(Ok(io)) if io.is_http2() => protocol::http2(io, router, stop, &options).await,
        Ok(Ok(io)) => http1(io, router, stop, options).await,
        // Nobody asked for anything.
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(error = %crate::error::chain(&error), "connection failed");
    }
}

async fn http1<I>(io: I, router: Router, stop: CancellationToken, options: ServeOptions) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let linger = Linger::default();
    let io = TokioIo::new(Lingering::new(io, Arc::clone(&linger.0)));
    let service = TowerToHyperService::new(router.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(linger.clone());
        request
    }));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(options.head_bytes.max(8 << 10))
        .serve_connection(io, service);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}

/// Longest pause while reading what a caller still sends.
const LINGER_IDLE: Duration = Duration::from_secs(2);
/// Longest time for all of it.
const LINGER_TOTAL: Duration = Duration::from_secs(30);

/// A connection behind the [`Gate`], which, closed before its caller has sent everything, reads on for a while. Without that the kernel answers
/// the rest with a reset, and the caller loses the response that told it why.
struct Lingering<I> {
    io: I,
    wanted: Arc<AtomicBool>,
    gate: Gate,
    state: State,
}

enum State {
    Open,
    Reading { idle: Pin<Box<Sleep>>, until: Instant },
    Closed,
}

impl<I> Lingering<I> {
    fn new(io: I, wanted: Arc<AtomicBool>) -> Self {
        Self { io, wanted, gate: Gate::new(), state: State::Open }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Lingering<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if !self.gate.check(&mut buffer.filled_mut()[before..]) {
            self.wanted.store(true, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<I> {
    writes_through!();

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => {
                    std::task::ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                    let now = Instant::now();
                    this.state = if this.wanted.load(Ordering::Acquire) {
                        State::Reading {
                            idle: Box::pin(tokio::time::sleep_until(now + LINGER_IDLE)),
                            until: now + LINGER_TOTAL,
                        }
                    } else {
                        State::Closed
                    };
                }
                State::Reading { idle, until } => {
                    let mut space = [std::mem::MaybeUninit::uninit(); 16 << 10];
                    let mut buffer = ReadBuf::uninit(&mut space);
                    match Pin::new(&mut this.io).poll_read(cx, &mut buffer) {
                        Poll::Ready(Ok(())) if !buffer.filled().is_empty() && Instant::now() < *until => {
                            idle.as_mut().reset((Instant::now() + LINGER_IDLE).min(*until));
                        }
                        Poll::Ready(_) => this.state = State::Closed,
                        Poll::Pending => {
                            std::task::ready!(idle.as_mut().poll(cx));
                            this.state = State::Closed;
                        }
                    }
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}
