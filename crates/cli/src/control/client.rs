//! The command's side of the control socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use treehold_engine::Progress;

use super::{Event, MCP, MCP_PROTOCOL, PREFIX, short_path};
use crate::commands::mcp;
use crate::failure::Failure;
use crate::home::Home;
use crate::operation::Operation;
use crate::stdio;

/// Longest line of an answer, bytes: a list of all projects is one line.
const LINE_BYTES_MAX: usize = 1 << 30;

/// A connection to the running server, or `None` if nobody listens there.
pub async fn connect(home: &Home) -> Result<Option<UnixStream>, Failure> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let socket = home.socket();
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot reach the running server through {}: {error}", socket.display()))
    };
    let (path, _dir) = match short_path(&socket) {
        Ok(path) => path,
        Err(error) if error.kind() == NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Some(stream)),
        // Refused: the file was left behind by a server that was killed.
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Has the server run the operation.
pub async fn call(stream: UnixStream, operation: &Operation, progress: &dyn Progress) -> Result<Value, Failure> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| gone().because(error))?;
    let exchange = async {
        let request = request(operation)?;
        let response = sender.send_request(request).await.map_err(|error| gone().because(error))?;
        answer(response.into_body(), progress).await
    };
    let mut connection = Box::pin(connection);
    tokio::pin!(exchange);
    let outcome = tokio::select! {
        outcome = &mut exchange => Some(outcome),
        _ = &mut connection => None,
    };
    // The connection may end right after the last byte was handed over. What waits for it still learns of its end only when it is gone.
    drop(connection);
    match outcome {
        Some(outcome) => outcome,
        None => exchange.await,
    }
}

/// Has the server serve the client on our stdin and stdout, until either hangs up.
pub async fn mcp(stream: UnixStream, args: &mcp::Args) -> Result<(), Failure> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| gone().because(error))?;
    let connection = tokio::spawn(connection.with_upgrades());
    let body = serde_json::to_vec(args).map_err(|error| gone().because(error))?;
    let request = http::Request::post(format!("{PREFIX}{MCP}"))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("connection", "upgrade")
        .header("upgrade", MCP_PROTOCOL)
        .body(Full::<Bytes>::from(body))
        .map_err(|error| gone().because(error))?;
    let mut response = sender.send_request(request).await.map_err(|error| gone().because(error))?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return answer(response.into_body(), &()).await.map(|_| ());
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| gone().because(error))?;
    let (mut from_server, mut to_server) = tokio::io::split(TokioIo::new(upgraded));
    let no_stdio = |error| Failure::failed("cannot use stdin and stdout").because(error);
    let (mut input, mut output) = (stdio::input().map_err(no_stdio)?, stdio::output().map_err(no_stdio)?);
    // Said before the server can learn of it: what it ends then, it ends because the client has gone.
    let hung_up = Arc::new(AtomicBool::new(false));
    let ended = hung_up.clone();
    let asking = async move {
        tokio::io::copy(&mut input, &mut to_server).await?;
        ended.store(true, Ordering::Release);
        tokio::io::AsyncWriteExt::shutdown(&mut to_server).await
    };
    // What was asked before the client hung up is still answered.
    let asking = tokio::spawn(asking);
    let answered = tokio::io::copy(&mut from_server, &mut output).await;
    asking.abort();
    connection.abort();
    match answered {
        Ok(_) if hung_up.load(Ordering::Acquire) => Ok(()),
        Ok(_) => Err(Failure::failed("the running server ended the connection; look at its log and connect again")),
        Err(error) => Err(gone().because(error)),
    }
}

fn gone() -> Failure {
    Failure::failed("the running server went away before it answered; look at its log and repeat the command")
}

fn request(operation: &Operation) -> Result<http::Request<Full<Bytes>>, Failure> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::failed("the request cannot be written for the running server").because(error)
    };
    let tagged = serde_json::to_value(operation).map_err(|error| broken(error.into()))?;
    http::Request::post(format!("{PREFIX}{}", operation.verb()))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::from(tagged["args"].to_string()))
        .map_err(|error| broken(error.into()))
}

async fn answer(mut body: Incoming, progress: &dyn Progress) -> Result<Value, Failure> {
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| gone().because(error))?;
        let Some(mut data) = frame.data_ref().map(|data| &data[..]) else { continue };
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&data[..end]);
            data = &data[end + 1..];
            if let Some(outcome) = event(&line, progress)? {
                return outcome;
            }
            line.clear();
        }
        line.extend_from_slice(data);
        if line.len() > LINE_BYTES_MAX {
            return Err(Failure::failed("the running server's answer is too long"));
        }
    }
    Err(gone())
}

/// The outcome, if this line is the last one.
fn event(line: &[u8], progress: &dyn Progress) -> Result<Option<Result<Value, Failure>>, Failure> {
    let event: Event = serde_json::from_slice(line).map_err(|error| {
        Failure::failed("the running server speaks another version: use the same release, or stop it first")
            .because(error)
    })?;
    Ok(match event {
        Event::Progress { what, done, total } => {
            progress.step(&what, done, total);
            None
        }
        Event::Result(value) => Some(Ok(value)),
        Event::Error { status, code, message, causes } => Some(Err(Failure { status, code, message, causes })),
    })
}
