//! The Common Gateway Interface (RFC 3875), as far as `git http-backend` uses it. Bodies stream both ways.

use super::{Body, BoxError, Entry};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, header};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};

const CHUNK_BYTES: usize = 64 * 1024;

/// Runs the backend for one request. The answer comes as soon as the backend has written its headers.
pub(super) async fn run(entry: &Entry, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let mut command = Command::from(command(entry, &request));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A caller that goes away does not stop a push that has begun; so it is with real servers.
    command.kill_on_drop(false);
    // `git` runs the backend as a child of its own.
    command.process_group(0);
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (stdin, stdout) = stdin.zip(stdout).ok_or("the backend has no pipes")?;
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    tokio::spawn(feed(entry.clone(), request.into_body(), stdin, (child.id(), declared)));

    let mut stdout = BufReader::with_capacity(CHUNK_BYTES, stdout);
    let response = read_headers(&mut stdout).await?;
    let body = futures::stream::try_unfold((stdout, child), |(mut stdout, mut child)| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let length = stdout.read(&mut chunk).await?;
        if length == 0 {
            child.wait().await?;
            return Ok::<_, BoxError>(None);
        }
        chunk.truncate(length);
        Ok(Some((Frame::data(Bytes::from(chunk)), (stdout, child))))
    });
    Ok(response.body(StreamBody::new(body.boxed()).boxed_unsync())?)
}

fn command(entry: &Entry, request: &Request<Incoming>) -> std::process::Command {
    let uri = request.uri();
    let path = percent_decoded(uri.path());
    let git = entry
        .shared
        .git()
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REMOTE_USER", &entry.shared.user);
    let headers = [
        ("CONTENT_TYPE", header::CONTENT_TYPE),
        // Absent for a chunked body: then the backend reads to the end of its input.
        ("CONTENT_LENGTH", header::CONTENT_LENGTH),
        ("HTTP_CONTENT_ENCODING", header::CONTENT_ENCODING),
        ("HTTP_ACCEPT_ENCODING", header::ACCEPT_ENCODING),
        ("GIT_PROTOCOL", header::HeaderName::from_static("git-protocol")),
    ];
    let header = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let git = headers.into_iter().fold(git, |git, (variable, name)| match header(name) {
        Some(value) => git.env(variable, value),
        None => git,
    });
    git.command(["http-backend"])
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Copies the request's body into the backend. A backend that has read enough does not stop the copy: a client may
/// read the answer only after it has sent everything.
///
/// A body that ends before its declared length leaves the backend reading for ever, and busily so: it is killed.
async fn feed(entry: Entry, mut body: Incoming, stdin: ChildStdin, (pid, declared): (Option<u32>, Option<u64>)) {
    let mut stdin = Some(stdin);
    let mut fed = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        fed += data.len() as u64;
        entry.update(|logged| logged.bytes_in += data.len() as u64);
        if let Some(pipe) = &mut stdin
            && pipe.write_all(&data).await.is_err()
        {
            stdin = None;
        }
    }
    let cut = declared.is_some_and(|declared| fed < declared);
    let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid.filter(|_| cut) {
        // It may have ended by itself.
        let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// Reads up to the empty line. `Status: 404 Not Found` sets the status; all else is passed on.
async fn read_headers(stdout: &mut BufReader<ChildStdout>) -> Result<hyper::http::response::Builder, BoxError> {
    let mut response = Response::builder();
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line).await? == 0 {
            return Err("the backend ended before its headers did".into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(':').ok_or("the backend wrote a header without a colon")?;
        let value = value.trim();
        response = if name.eq_ignore_ascii_case("status") {
            response.status(value.split(' ').next().unwrap_or_default())
        } else {
            response.header(name, value)
        };
    }
}
