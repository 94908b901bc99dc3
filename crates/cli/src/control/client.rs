//! The command's side of the control socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use treehold_engine::Progress;

use super::{Event, PREFIX, short_path};
use crate::failure::Failure;
use crate::home::Home;
use crate::operation::Operation;

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
