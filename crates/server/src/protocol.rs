//! Which HTTP a connection speaks, and HTTP/2 itself.
//!
//! TLS ends at the proxy in front, so that there is no ALPN here: a client that wants HTTP/2 begins with its preface (RFC 9113 section
//! 3.3, prior knowledge), and everything else is HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::context::Linger;
use crate::serve::ServeOptions;
use crate::watched::{Verdict, Watch, judge, watched};

/// What an HTTP/2 connection begins with, and no HTTP/1.1 request can.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests at the same time on one connection.
const STREAMS_MAX: u32 = 256;
/// Bytes of an answer that wait for their connection.
const SEND_BYTES_MAX: usize = 512 << 10;
/// How often, and for how long, a silent caller is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(20);

/// What is written goes to the stream inside, `io`, as it is: all of [`AsyncWrite`] but its end.
macro_rules! writes_through {
    () => {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.io).poll_write(cx, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.io).poll_write_vectored(cx, parts)
        }

        fn is_write_vectored(&self) -> bool {
            self.io.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }
    };
}
pub(crate) use writes_through;

/// A connection whose first bytes were read already.
pub(crate) struct Begun<I> {
    io: I,
    read: Vec<u8>,
    given: usize,
}

impl<I> Begun<I> {
    /// Whether it begins with the preface of HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.read == PREFACE
    }
}

/// Reads as much as tells the protocols apart: a connection that ends before is of either.
pub(crate) async fn begin<I: AsyncRead + Unpin>(mut io: I) -> io::Result<Begun<I>> {
    let mut read = Vec::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        let mut rest = [0; PREFACE.len()];
        let most = PREFACE.len() - read.len();
        let count = io.read(&mut rest[..most]).await?;
        if count == 0 {
            break;
        }
        read.extend_from_slice(&rest[..count]);
    }
    Ok(Begun { io, read, given: 0 })
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = &self.read[self.given..];
        if rest.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    writes_through!();

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Serves a connection that begins with the preface, until its caller leaves, was idle for too long or takes nothing of an answer, or `stop`.
pub(crate) async fn http2<I>(
    io: Begun<I>,
    router: Router,
    stop: CancellationToken,
    options: &ServeOptions,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Arc::new(Watch::default());
    let at_work = Arc::clone(&watch);
    let service = tower::service_fn(move |request: http::Request<Incoming>| {
        let stream = at_work.begin();
        let mut request = request.map(Body::new);
        // The frames of other requests follow: nothing of this connection is left unread.
        request.extensions_mut().insert(Linger::default());
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response: Response| response.map(|body| watched(body, stream))) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(options.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BYTES_MAX);
    let served = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        ended = served.as_mut() => return ended,
        () = stop.cancelled() => {}
        verdict = judge(&watch, options.head_timeout, options.send_timeout) => {
            if verdict == Verdict::Stuck {
                tracing::debug!("a caller does not take its answer; its connection is closed");
                return Ok(());
            }
        }
    }
    served.as_mut().graceful_shutdown();
    served.await
}
