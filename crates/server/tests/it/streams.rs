//! Goal: answers that are made while they are sent are complete and in order, compressed or not, over HTTP/1.1 and HTTP/2; whoever
//! leaves in the middle leaves nothing behind.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use treehold_server::{AdmissionConfig, ServeOptions, ServerConfig};

use crate::harness::{KEY, Reply, Server, limits, parse};

/// Five files of nearly the largest size, text and not, in one commit.
async fn large_files(server: &Server) -> (String, Vec<(String, Vec<u8>)>) {
    let project = server.project().await;
    let size = limits().file_bytes as usize - 1_000;
    let line = |number: usize| {
        format!("line {number} of some text, \"quoted\" and \\ t\u{e9}xt\t{}\n", "x".repeat(number % 50))
    };
    let text: Vec<u8> = (0..).flat_map(|number| line(number).into_bytes()).take(size).collect();
    let text = String::from_utf8_lossy(&text).trim_end_matches('\u{fffd}').as_bytes().to_vec();
    let binary: Vec<u8> = (0..size).map(|at| (at * at / 255 % 256) as u8 | 0x80).collect();
    let files: Vec<(String, Vec<u8>)> = (0..5)
        .map(|number| {
            let content = if number % 2 == 0 { &text[number..] } else { &binary[number..] };
            (format!("dir/file {number}"), content.to_vec())
        })
        .collect();
    for (path, content) in &files {
        let path = path.replace(' ', "%20");
        let reply = server.send("PUT", &format!("/files/{project}/{path}"), &[], content).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    (project, files)
}

fn read_body(files: &[(String, Vec<u8>)]) -> String {
    json!({"paths": files.iter().map(|(path, _)| path).collect::<Vec<_>>()}).to_string()
}

fn check(read: &[Value], files: &[(String, Vec<u8>)]) {
    use base64::Engine as _;
    assert_eq!(read.len(), files.len());
    for (read, (path, content)) in read.iter().zip(files) {
        assert_eq!(&read["path"], path);
        let text = read["content"].as_str().unwrap();
        match read["encoding"].as_str().unwrap() {
            "utf-8" => assert!(text.as_bytes() == content, "{path}"),
            _ => assert!(&base64::prelude::BASE64_STANDARD.decode(text).unwrap() == content, "{path}"),
        }
    }
}

fn decoded(reply: &Reply) -> Vec<u8> {
    let mut plain = Vec::new();
    match reply.header("content-encoding") {
        None => plain.extend_from_slice(&reply.body),
        Some("gzip") => _ = flate2::read::GzDecoder::new(&reply.body[..]).read_to_end(&mut plain).unwrap(),
        Some(other) => panic!("coded as {other}"),
    }
    plain
}

#[tokio::test]
async fn large_batches_come_whole_in_every_shape_and_coding() {
    let server = Server::start().await;
    let (project, files) = large_files(&server).await;
    let (target, body) = (format!("/projects/{project}/read"), read_body(&files));
    for coding in ["identity", "gzip", "br", "br;q=1, gzip;q=0.5"] {
        let ask = async |accept: &str| {
            let headers = [("Content-Type", "application/json"), ("Accept", accept), ("Accept-Encoding", coding)];
            let reply = server.send("POST", &target, &headers, &body).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.header("content-type"), Some(accept));
            assert_eq!(reply.header("vary"), Some("accept-encoding"));
            let expected = match coding {
                "identity" | "br" => None,
                _ => Some("gzip"),
            };
            assert_eq!(reply.header("content-encoding"), expected);
            let plain = decoded(&reply);
            assert_eq!(expected.is_some(), reply.body.len() < plain.len() / 2);
            String::from_utf8(plain).unwrap()
        };
        let whole: Value = serde_json::from_str(&ask("application/json").await).unwrap();
        check(whole["files"].as_array().unwrap(), &files);
        assert_eq!((&whole["revision"], &whole["next_cursor"]), (&Value::Null, &Value::Null));
        let lines: Vec<Value> =
            ask("application/x-ndjson").await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"commit": whole["commit"], "revision": null}));
        check(&lines[1..lines.len() - 1], &files);
        assert_eq!(lines[lines.len() - 1], json!({"next_cursor": null}));
    }
    server.stop().await;
}

/// Goal: the bytes of a file, their tag, ranges and 304 are the same whatever codings a caller takes.
#[tokio::test]
async fn files_and_short_answers_are_never_coded() {
    let server = Server::start().await;
    let (project, files) = large_files(&server).await;
    let target = format!("/files/{project}/dir/file%200");
    let plain = server.get(&target).await;
    let tag = plain.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && plain.body == files[0].1);
    let coded = [("Accept-Encoding", "gzip, zstd")];
    let same = server.send("GET", &target, &coded, "").await;
    assert!(same.body == files[0].1 && same.header("content-encoding").is_none());
    assert_eq!(same.header("etag"), Some(tag.as_str()));
    assert_eq!(same.header("content-length"), Some(files[0].1.len().to_string().as_str()));
    let not_modified = server.send("GET", &target, &[coded[0], ("If-None-Match", &tag)], "").await;
    assert_eq!((not_modified.status, not_modified.header("etag")), (304, Some(tag.as_str())));
    assert!(not_modified.body.is_empty() && not_modified.header("content-encoding").is_none());
    let part = server.send("GET", &target, &[coded[0], ("Range", "bytes=5-5004")], "").await;
    assert!(part.status == 206 && part.body == files[0].1[5..5_005] && part.header("content-encoding").is_none());
    let short = server.send("GET", &format!("/projects/{project}"), &coded, "").await;
    assert!(short.header("content-encoding").is_none() && short.header("vary") == Some("accept-encoding"));
    assert_eq!(short.json()["id"], project);
    let archive = server.send("GET", &format!("/projects/{project}/archive.tar.gz"), &coded, "").await;
    assert_eq!((archive.header("content-encoding"), archive.header("content-type")), (None, Some("application/gzip")));
    server.stop().await;
}

/// Goal: readers that leave in the middle of an answer give back the memory that was set aside for it.
#[tokio::test]
async fn a_cut_connection_frees_its_memory() {
    // Room for one such answer at a time.
    let admission = AdmissionConfig { memory_bytes: 2_400_000, project_share: 100, ..AdmissionConfig::for_cores(2) };
    let server = Server::with(ServerConfig { admission, ..ServerConfig::default() }).await;
    let (project, files) = large_files(&server).await;
    let body = read_body(&files);
    let head = format!(
        "POST /projects/{project}/read HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..10 {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 15];
        // The one before may not be gone yet: then it is busy, and stays so for a moment.
        for attempt in 0.. {
            stream.read_exact(&mut start).await.unwrap();
            if start.starts_with(b"HTTP/1.1 200") {
                break;
            }
            assert!(attempt < 200, "memory is not given back: {}", String::from_utf8_lossy(&start));
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream = server.connect().await;
            stream.write_all(head.as_bytes()).await.unwrap();
        }
        drop(stream);
    }
    for attempt in 0.. {
        let headers = [("Content-Type", "application/json")];
        let reply = server.send("POST", &format!("/projects/{project}/read"), &headers, &body).await;
        if reply.status == 200 {
            check(reply.json()["files"].as_array().unwrap(), &files);
            break;
        }
        assert!(attempt < 200 && matches!(reply.status, 429 | 503), "{reply:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start().await;
    let project = server.project().await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let head = format!("GET /projects/{project} HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\n\r\n");
        // Byte by byte at first, as a slow client may.
        let (slow, rest) = head.split_at(6);
        for byte in slow.bytes() {
            stream.write_all(&[byte]).await.unwrap();
        }
        stream.write_all(rest.as_bytes()).await.unwrap();
        let mut raw = vec![0; 8 << 10];
        let mut len = 0;
        while !raw[..len].ends_with(b"}") {
            len += stream.read(&mut raw[len..]).await.unwrap();
        }
        let reply = parse(&raw[..len]);
        assert_eq!((reply.status, &reply.json()["id"]), (200, &json!(project)));
    }
    server.stop().await;
}

type Sender = http2::SendRequest<Full<Bytes>>;

async fn http2_client(server: &Server) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>) {
    let io = TokioIo::new(server.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn send(sender: &Sender, method: &str, target: &str, body: impl Into<Bytes>) -> Reply {
    let mut sender = sender.clone();
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://test{target}"))
        .header("x-internal-api-key", KEY)
        .header("content-type", "application/json");
    sender.ready().await.unwrap();
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let status = response.status().as_u16();
    let pairs = response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let headers = pairs.collect();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    Reply { status, headers, body }
}

/// Goal: an HTTP/2 caller that grants no window for an answer does not keep its place and connection for ever.
#[tokio::test]
async fn an_answer_without_a_window_is_given_up() {
    let connections = ServeOptions { send_timeout: Duration::from_millis(300), ..ServeOptions::default() };
    let server = Server::with(ServerConfig { connections, ..ServerConfig::default() }).await;
    let (project, files) = large_files(&server).await;
    let io = TokioIo::new(server.connect().await);
    let handshake = http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(0).handshake(io);
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://test/projects/{project}/read"))
        .header("x-internal-api-key", KEY)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(read_body(&files))));
    let untaken = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(untaken.status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    assert!(ended.is_ok(), "the connection is still open");
    drop(untaken);
    server.stop().await;
}

#[tokio::test]
async fn http2_serves_requests_side_by_side() {
    let server = Server::start().await;
    let (project, files) = large_files(&server).await;
    let (sender, connection) = http2_client(&server).await;
    let (target, body) = (format!("/projects/{project}/read"), read_body(&files));
    let batches = futures::future::join_all((0..8).map(|_| send(&sender, "POST", &target, body.clone()))).await;
    for reply in batches {
        check(reply.json()["files"].as_array().unwrap(), &files);
        assert_eq!(reply.header("connection"), None);
    }
    // A refused body ends its request and nothing else.
    let large = vec![b'x'; limits().file_bytes as usize + 1];
    let refused = send(&sender, "PUT", &format!("/files/{project}/large"), large).await;
    assert_eq!(refused.problem(), (413, "too_large".into()));
    let one = send(&sender, "GET", &format!("/files/{project}/dir/file%203"), "").await;
    assert!(one.body == files[3].1);
    assert_eq!(send(&sender, "GET", "/nowhere", "").await.problem(), (404, "route_not_found".into()));
    // Stopping ends the connection in good order.
    server.stop().await;
    connection.await.unwrap().unwrap();
}
