//! The sending side of a connection, with an end to patience: a caller that does not read its answer would hold the answer's
//! memory and its place for ever, as the HTTP library waits for it without limit.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a caller must at least take within the time, bytes, while there is more for it.
const PROGRESS: usize = 64 << 10;

/// A connection whose writes fail once the other side takes nearly nothing for too long.
#[derive(Debug)]
pub(crate) struct Sending<I> {
    io: I,
    patience: Duration,
    /// Set while the other side is behind: until when it must have taken [`PROGRESS`], and what it has taken.
    behind: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<I> Sending<I> {
    pub(crate) fn new(io: I, patience: Duration) -> Self {
        Self { io, patience, behind: None }
    }

    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                if let Some((_, taken)) = &mut self.behind {
                    *taken += bytes;
                    if *taken >= PROGRESS {
                        self.behind = None;
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let patience = self.patience;
                let (until, _) = self.behind.get_or_insert_with(|| (Box::pin(tokio::time::sleep(patience)), 0));
                if until.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the caller does not take its answer",
                    )));
                }
            }
        }
        written
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Sending<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Sending<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Called once all that there was is written: then nobody is behind.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.behind = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
