//! The server's side of the control socket.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use treehold_engine::Progress;
use treehold_mcp::Binding;
use treehold_server::{App, mcp_over};

use super::{Event, MCP, MCP_PROTOCOL, PREFIX, short_path};
use crate::commands::mcp;
use crate::failure::Failure;
use crate::home::Home;
use crate::open::Opened;
use crate::operation::Operation;

/// Longest request, bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long operations may go on after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The bound socket.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's name, removed when nobody listens there any more.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Control {
    /// Binds the socket. Only under the data directory's lock: a file that is there was left behind and is replaced.
    pub fn bind(home: &Home) -> Result<Self, Failure> {
        let path = home.socket();
        let listener = bind(home, &path)
            .map_err(|error| Failure::failed(format!("cannot make the control socket {}: {error}", path.display())))?;
        Ok(Self { listener, file: SocketFile(path) })
    }

    /// Answers until `stop`, then lets running operations end for a while.
    pub async fn serve(self, opened: Arc<Opened>, app: App, stop: CancellationToken) {
        let Self { listener, file } = self;
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = running.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(running.spawn(connection(stream, opened.clone(), app.clone(), stop.clone()))),
                    Err(error) => {
                        tracing::warn!(%error, "the control socket could not accept a command");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        // From here on commands wait for the lock instead.
        drop((listener, file));
        let drained = tokio::time::timeout(DRAIN, async { while running.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("commands were cut off because the server stops");
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "the control socket's file was gone already");
        }
    }
}

/// Binds under a private name, then renames: nobody else can connect before the mode is set, and a stale file is
/// replaced in one step.
fn bind(home: &Home, path: &std::path::Path) -> std::io::Result<UnixListener> {
    let private = home.temp_dir().join("control");
    if private.symlink_metadata().is_ok() {
        std::fs::remove_file(&private)?;
    }
    let (short, _dir) = short_path(&private)?;
    let listener = UnixListener::bind(short)?;
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&private, path)?;
    Ok(listener)
}

async fn connection(stream: UnixStream, opened: Arc<Opened>, app: App, stop: CancellationToken) {
    let ending = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (opened, app, ending) = (opened.clone(), app.clone(), ending.clone());
        async move {
            Ok::<_, Infallible>(match request.uri().path().strip_prefix(PREFIX) == Some(MCP) {
                true => serve_mcp(request, app, ending).await,
                false => respond(request, opened).await,
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let connection = connection.with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a command hung up");
    }
}

async fn respond(request: Request<Incoming>, opened: Arc<Opened>) -> Response<Body> {
    match operation(request).await {
        Ok(operation) => {
            tracing::info!(verb = operation.verb(), "a command runs through the control socket");
            stream(operation, opened)
        }
        Err((status, failure)) => refusal(status, failure),
    }
}

fn refusal(status: StatusCode, failure: Failure) -> Response<Body> {
    let line = Bytes::from(line(&Event::from(Err(failure))));
    let mut response = Response::new(http_body_util::Full::new(line).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Gives the socket to the tools of the Model Context Protocol, for one client.
async fn serve_mcp(mut request: Request<Incoming>, app: App, stop: CancellationToken) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let binding = match bound(request, &app).await {
        Ok(binding) => binding,
        Err(failure) => return refusal(StatusCode::BAD_REQUEST, failure),
    };
    tracing::info!("an agent is served through the control socket");
    tokio::spawn(async move {
        let ended = match upgrade.await {
            Ok(socket) => {
                let (read, write) = tokio::io::split(TokioIo::new(socket));
                mcp_over(&app, binding, read, write, stop).await
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = ended {
            tracing::debug!(why, "an agent hung up");
        }
    });
    let mut response = Response::new(http_body_util::Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("upgrade"));
    headers.insert(http::header::UPGRADE, http::HeaderValue::from_static(MCP_PROTOCOL));
    response
}

/// What the client is bound to, if that is there.
async fn bound(request: Request<Incoming>, app: &App) -> Result<Binding, Failure> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let bytes = body.map_err(|error| Failure::usage(format!("the command did not arrive: {error}")))?.to_bytes();
    let args: mcp::Args =
        serde_json::from_slice(&bytes).map_err(|error| Failure::usage(format!("not understood: {error}")))?;
    let binding = args.binding()?;
    mcp::check(app.engine(), &binding).await?;
    Ok(binding)
}

async fn operation(request: Request<Incoming>) -> Result<Operation, (StatusCode, Failure)> {
    let unknown = || {
        let text = "the running server does not know this command: use the release that it runs, or stop it first";
        (StatusCode::NOT_FOUND, Failure::failed(text))
    };
    let verb = match request.uri().path().strip_prefix(PREFIX) {
        Some(verb) if request.method() == Method::POST => verb.to_owned(),
        _ => return Err(unknown()),
    };
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let malformed = |text: String| (StatusCode::BAD_REQUEST, Failure::usage(text));
    let bytes = body.map_err(|error| malformed(format!("the command did not arrive: {error}")))?.to_bytes();
    let args: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(format!("not JSON: {error}")))?;
    serde_json::from_value(json!({"verb": verb, "args": args})).map_err(|error| unknown_because(unknown(), error))
}

fn unknown_because(refusal: (StatusCode, Failure), error: serde_json::Error) -> (StatusCode, Failure) {
    (refusal.0, refusal.1.because(error))
}

/// Runs the operation for as long as somebody listens, and sends its events.
fn stream(operation: Operation, opened: Arc<Opened>) -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(64);
    tokio::spawn(async move {
        let span = treehold_calls::span::root(operation.verb());
        let steps = Steps { sender: sender.clone(), last: Mutex::new(None) };
        let outcome = tokio::select! {
            outcome = operation.run(&opened, &steps).instrument(span) => outcome,
            // The command was interrupted: so is the operation, exactly as if it had run there.
            () = sender.closed() => return,
        };
        if let Err(failure) = &outcome {
            tracing::warn!(verb = operation.verb(), code = failure.code, causes = ?failure.causes, "{}", failure.message);
        }
        let _gone = sender.send(line(&Event::from(outcome))).await;
    });
    let frames =
        futures::stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.map(|line| (line, receiver)) },
        );
    let body = StreamBody::new(frames.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line)))));
    let mut response = Response::new(body.boxed_unsync());
    let ndjson = http::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(http::header::CONTENT_TYPE, ndjson);
    response
}

fn line(event: &Event) -> Vec<u8> {
    // An `Event` holds nothing but text, numbers and JSON: it always has a JSON form.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Sends steps, ten a second at most; a step that finds the pipe full is left out.
struct Steps {
    sender: mpsc::Sender<Vec<u8>>,
    last: Mutex<Option<(String, Instant)>>,
}

impl Progress for Steps {
    fn step(&self, what: &str, done: u64, total: Option<u64>) {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let same = last.as_ref().filter(|(shown, _)| shown == what);
            let soon = same.is_some_and(|(_, at)| now.duration_since(*at) < Duration::from_millis(100));
            if soon && total != Some(done) {
                return;
            }
            *last = Some((what.to_owned(), now));
        }
        let event = Event::Progress { what: what.to_owned(), done, total };
        let _full = self.sender.try_send(line(&event));
    }
}
