//! The seam between git's protocol and what carries it: one request with one streamed answer, over HTTP or by a
//! local git. Here are the request, the answer, its timeouts and how it can fail.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use super::{Pushed, RemoteError};

/// Longest text of a remote that is passed on, bytes.
pub(super) const TEXT_LEN_MAX: usize = 4 << 10;
/// Bytes read from a pack at a time.
const PORTION_LEN: usize = 64 << 10;

/// How long a remote may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteTimeouts {
    /// Until a connection stands, name resolution and TLS included.
    pub connect: Duration,
    /// Between two signs of life while something is read.
    pub idle: Duration,
    /// Between two signs of life of a push: after the upload the remote checks the pack and runs its hooks.
    pub push_idle: Duration,
    /// For all of a list of refs.
    pub refs: Duration,
    /// For all of a fetch or push.
    pub transfer: Duration,
}

impl Default for RemoteTimeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            idle: seconds(30),
            push_idle: seconds(120),
            refs: seconds(60),
            transfer: seconds(3_600),
        }
    }
}

/// Which of git's two services to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    UploadPack,
    ReceivePack,
}

impl Service {
    /// The name in URLs and content types, without `git-` also the command's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }
}

/// What is sent: some bytes, and for a push a pack behind them.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    pub(super) head: Bytes,
    pub(super) pack: Option<PathBuf>,
}

/// A body that is ready to go.
pub(super) struct OpenBody {
    pub(super) reader: Pin<Box<dyn AsyncRead + Send>>,
    pub(super) bytes: u64,
}

impl Body {
    /// Opens the pack; its length counts as of now, so that what is announced is what is sent.
    pub(super) async fn open(&self) -> Result<OpenBody, TransportError> {
        let head = std::io::Cursor::new(self.head.clone());
        let head_bytes = self.head.len() as u64;
        let Some(path) = &self.pack else {
            return Ok(OpenBody { reader: Box::pin(head), bytes: head_bytes });
        };
        let file = tokio::fs::File::open(path).await.map_err(TransportError::Spool)?;
        let pack_bytes = file.metadata().await.map_err(TransportError::Spool)?.len();
        Ok(OpenBody { reader: Box::pin(head.chain(file.take(pack_bytes))), bytes: head_bytes + pack_bytes })
    }
}

impl OpenBody {
    /// The body as a stream that notes its progress.
    pub(super) fn into_stream(self, activity: Arc<Activity>) -> BoxStream<'static, std::io::Result<Bytes>> {
        ReaderStream::with_capacity(self.reader, PORTION_LEN).inspect(move |_| activity.sent()).boxed()
    }
}

/// Signs of life of one exchange.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    last_ms: AtomicU64,
    sent: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), last_ms: AtomicU64::new(0), sent: AtomicBool::new(false) })
    }

    /// A part of the request was taken by the connection.
    pub(super) fn sent(&self) {
        self.sent.store(true, Ordering::SeqCst);
        self.touch();
    }

    /// Whether any of the body may have left.
    pub(super) fn any_sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }

    fn touch(&self) {
        self.last_ms.store(self.start.elapsed().as_millis() as u64, Ordering::SeqCst);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::SeqCst))
    }
}

/// When to give up on one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) idle: Duration,
    pub(super) end: Instant,
}

impl Deadlines {
    pub(super) fn new(idle: Duration, total: Duration) -> Self {
        Self { idle, end: Instant::now() + total }
    }

    /// Waits for `future` as long as `activity` shows life.
    pub(super) async fn watch<F: Future>(&self, activity: &Activity, future: F) -> Result<F::Output, TransportError> {
        tokio::pin!(future);
        activity.touch();
        loop {
            let limit = (activity.last() + self.idle).min(self.end);
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                () = tokio::time::sleep_until(limit) => {}
            }
            let now = Instant::now();
            if now >= self.end || now >= activity.last() + self.idle {
                return Err(TransportError::Timeout { sent: activity.any_sent() });
            }
        }
    }
}

/// The streamed body of a successful answer.
pub(super) struct Answer {
    pub(super) stream: BoxStream<'static, Result<Bytes, TransportError>>,
    pub(super) activity: Arc<Activity>,
    pub(super) deadlines: Deadlines,
}

impl Answer {
    /// The next bytes; `None` = the answer is complete.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.deadlines.watch(&self.activity, self.stream.next()).await?.transpose()
    }
}

/// Why an exchange failed. No text holds credentials, and what is the remote's is printable and short.
#[derive(Debug)]
pub(super) enum TransportError {
    /// Forbidden by the allow-list; the remote did not act.
    NotAllowed(String),
    /// The name has no address that may be connected to, for now; nothing was sent.
    NoAddress(String),
    /// There was no connection; nothing was sent.
    Connect(String),
    /// No sign of life in time. Without `sent` the remote cannot have acted.
    Timeout { sent: bool },
    /// It broke off, at whatever point.
    Broken(String),
    /// 401, 403, 404.
    Auth,
    /// 429 and its kin.
    Limited(Option<u64>),
    /// 5xx: the remote's own trouble; it may have acted.
    Server(String),
    /// Another status or a redirect that is not followed: the remote did not act.
    Refused(String),
    /// The answer is not what git sends.
    Invalid(String),
    /// Our own file could not be read.
    Spool(std::io::Error),
}

impl TransportError {
    /// Whether the same read may succeed at once on a new connection.
    pub(super) fn is_connection_failure(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_))
    }

    /// What it means for a push.
    pub(super) fn into_pushed(self) -> Pushed {
        match self {
            Self::NotAllowed(text) | Self::Refused(text) => Pushed::Rejected(text),
            Self::Connect(text) | Self::NoAddress(text) => Pushed::Unreachable(text),
            Self::Timeout { sent: false } => Pushed::Unreachable("the remote did not answer in time".into()),
            Self::Timeout { sent: true } => Pushed::Unknown("the remote did not answer in time".into()),
            Self::Auth => Pushed::Auth,
            Self::Limited(seconds) => Pushed::Limited(seconds),
            Self::Broken(text) | Self::Server(text) | Self::Invalid(text) => Pushed::Unknown(text),
            Self::Spool(error) => Pushed::Unreachable(format!("the pack could not be read: {error}")),
        }
    }
}

impl From<TransportError> for RemoteError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::NotAllowed(text) | TransportError::NoAddress(text) => Self::NotAllowed(text),
            TransportError::Connect(text) | TransportError::Broken(text) => Self::Failed(text),
            TransportError::Refused(text) | TransportError::Server(text) => Self::Failed(text),
            TransportError::Timeout { .. } => Self::Timeout,
            TransportError::Auth => Self::Auth,
            TransportError::Limited(seconds) => Self::Limited(seconds),
            TransportError::Invalid(text) => Self::Invalid(text),
            TransportError::Spool(error) => Self::Spool(error),
        }
    }
}
