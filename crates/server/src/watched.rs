//! Requests of an HTTP/2 connection, watched: a caller that grants no window for an answer would hold its place and memory for ever,
//! as the HTTP library waits for the window without limit and the socket itself is never full.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// All requests of a connection.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    all: AtomicUsize,
    streams: Mutex<Vec<Weak<Stream>>>,
}

/// One of them, until its answer is sent or given up.
#[derive(Debug)]
pub(crate) struct Stream {
    watch: Arc<Watch>,
    /// When the caller's side last moved, milliseconds since the connection began.
    moved_ms: AtomicU64,
    /// It is we who are waited for.
    ours: AtomicBool,
}

impl Default for Watch {
    fn default() -> Self {
        Self { begun: Instant::now(), all: AtomicUsize::new(0), streams: Mutex::default() }
    }
}

impl Watch {
    /// A request begins; its answer is being made.
    pub(crate) fn begin(self: &Arc<Self>) -> Arc<Stream> {
        self.all.fetch_add(1, Ordering::AcqRel);
        let stream =
            Arc::new(Stream { watch: Arc::clone(self), moved_ms: AtomicU64::new(0), ours: AtomicBool::new(true) });
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&stream));
        stream
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Requests at work, and whether the caller has taken nothing of one of their answers for `patience`.
    fn look(&self, patience: Duration) -> (usize, bool) {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.now_ms();
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        let stuck = streams.iter().filter_map(Weak::upgrade).any(|stream| {
            !stream.ours.load(Ordering::Acquire)
                && now_ms.saturating_sub(stream.moved_ms.load(Ordering::Acquire)) > patience_ms
        });
        (streams.len(), stuck)
    }
}

/// Why a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No request was at work for a while.
    Idle,
    /// The caller does not take an answer.
    Stuck,
}

/// Ends once no request was at work for `idle`, or one is stuck for `patience`.
pub(crate) async fn judge(watch: &Watch, idle: Duration, patience: Duration) -> Verdict {
    let pause = (idle.min(patience) / 8).max(Duration::from_millis(10));
    let (mut seen, mut since) = (usize::MAX, Instant::now());
    loop {
        tokio::time::sleep(pause).await;
        let (now, stuck) = watch.look(patience);
        if stuck {
            return Verdict::Stuck;
        }
        let all = watch.all.load(Ordering::Acquire);
        if now > 0 || all != seen {
            (seen, since) = (all, Instant::now());
        } else if since.elapsed() >= idle {
            return Verdict::Idle;
        }
    }
}

impl Stream {
    fn moved(&self, ours: bool) {
        self.moved_ms.store(self.watch.now_ms(), Ordering::Release);
        self.ours.store(ours, Ordering::Release);
    }
}

/// The body of the answer to a watched request.
pub(crate) fn watched(body: Body, stream: Arc<Stream>) -> Body {
    stream.moved(false);
    Body::new(Watched { body, stream })
}

struct Watched {
    body: Body,
    stream: Arc<Stream>,
}

/// A piece on its way; its end is a movement of the caller's side.
struct Piece {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.stream.moved_ms.store(self.stream.watch.now_ms(), Ordering::Release);
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.stream.moved(frame.is_pending());
        let stream = &self.stream;
        frame.map(|frame| {
            frame.map(|frame| {
                frame
                    .map(|frame| frame.map_data(|bytes| Bytes::from_owner(Piece { bytes, stream: Arc::clone(stream) })))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
