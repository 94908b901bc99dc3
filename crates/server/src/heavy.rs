//! Threads for heavy requests: those that keep a core busy (batch reads, diffs, exports) run away from the threads that serve
//! connections and everything light, and make their answers there, too.
//!
//! There are no more of these threads than cores, and the operating system gives them what the others leave: a thread of lower
//! priority yields its core to one that wakes, wherever it is in its work, at the latest once its slice of a few milliseconds is over. So a
//! light request waits neither for a heavy one to come to a pause, nor for its turn among them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

/// How much the threads give way: at 5 they get a quarter of a core for which another one competes, and all of one that is free.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;
/// Polls of tasks between two looks at what is ready to be read; each may take a millisecond.
const POLLS_PER_LOOK: u32 = 4;

/// The threads. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Heavy(Option<Runtime>);

impl Heavy {
    /// Starts them. Where that fails, heavy requests run where all others do.
    pub(crate) fn start() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Without priorities one core is left to the others.
        let threads = if cfg!(target_os = "linux") { cores } else { cores.saturating_sub(1).max(1) };
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("heavy")
            .event_interval(POLLS_PER_LOOK)
            .on_thread_start(give_way)
            .enable_all()
            .build();
        Self(runtime.inspect_err(|error| tracing::warn!(%error, "cannot start threads for heavy requests")).ok())
    }

    /// Runs `work` there. It ends with its caller.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match &self.0 {
            None => work.await,
            Some(runtime) => match AbortOnDropHandle::new(runtime.spawn(work.in_current_span())).await {
                Ok(done) => done,
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The server is going away, and the connection with it.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }

    /// A body that is made there, at most a piece ahead of what was taken.
    pub(crate) fn body(&self, body: Body) -> Body {
        let whole = body.is_end_stream() || body.size_hint().exact().is_some();
        let Some(runtime) = self.0.as_ref().filter(|_| !whole) else { return body };
        let (sender, pieces) = mpsc::channel(1);
        let making = runtime.spawn(make(body, sender).in_current_span());
        Body::new(Made { pieces, _making: AbortOnDropHandle::new(making), ended: false })
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        // Nothing is waited for: what runs here only reads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(target_os = "linux")]
fn give_way() {
    // On Linux this is the thread's own. To lower it needs no privilege; who has it must not raise it, either.
    let niceness = rustix::process::getpriority_process(None).map_or(NICENESS, |now| now.max(NICENESS));
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::debug!(%error, "a thread for heavy requests keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

/// A frame of a body; `None` is its end, so that a body that broke off is not taken for a whole one.
type Piece = Option<Result<Frame<Bytes>, axum::Error>>;

async fn make(mut body: Body, pieces: mpsc::Sender<Piece>) {
    while let Ok(room) = pieces.reserve().await {
        let piece = body.frame().await;
        let more = matches!(piece, Some(Ok(_)));
        room.send(piece);
        if !more {
            return;
        }
    }
}

struct Made {
    pieces: mpsc::Receiver<Piece>,
    _making: AbortOnDropHandle<()>,
    ended: bool,
}

impl HttpBody for Made {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let broke = || Some(Err(axum::Error::new(io::Error::other("the answer could not be completed"))));
        let piece = ready!(self.pieces.poll_recv(cx)).unwrap_or_else(broke);
        self.ended = !matches!(piece, Some(Ok(_)));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt as _;

    use super::*;

    fn name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn work_runs_on_other_threads() {
        let heavy = Heavy::start();
        assert_eq!(heavy.run(async { name() }).await, "heavy");
        assert_eq!(Heavy(None).run(async { name() }).await, name());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_threads_give_way_and_no_other_does() {
        let heavy = Heavy::start();
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        assert_eq!(heavy.run(async move { priority() }).await, NICENESS.max(before));
        let blocking = heavy.run(async move { tokio::task::spawn_blocking(priority).await.unwrap() }).await;
        assert_eq!(blocking, NICENESS.max(before));
        assert_eq!(priority(), before);
    }

    #[tokio::test]
    async fn a_body_is_made_as_it_is_taken() {
        let heavy = Heavy::start();
        let (made, mut seen) = mpsc::unbounded_channel();
        let pieces = futures::stream::iter(0..5u8).map(move |number| {
            made.send((number, name())).unwrap();
            Ok::<_, io::Error>(Bytes::from(vec![number]))
        });
        let mut body = heavy.body(Body::from_stream(pieces));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(seen.try_recv(), Ok((0, "heavy".to_owned())));
        assert!(seen.try_recv().is_err(), "more than a piece ahead");
        for number in 0..5 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), vec![number]);
        }
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_fails_or_breaks_is_not_taken_for_a_whole_one() {
        let heavy = Heavy::start();
        let pieces = [Ok(Bytes::from_static(b"a")), Err(io::Error::other("no more"))];
        let body = heavy.body(Body::from_stream(futures::stream::iter(pieces)));
        assert!(body.collect().await.is_err());
        let broken = futures::stream::once(async { panic!("on purpose") }).map(|never: io::Result<Bytes>| never);
        assert!(heavy.body(Body::from_stream(broken)).collect().await.is_err());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_ends() {
        let heavy = Heavy::start();
        let (held, mut gone) = mpsc::channel::<()>(1);
        let begun = heavy.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), begun).await.is_err());
        assert!(gone.recv().await.is_none());
    }
}
