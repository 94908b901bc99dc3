//! Goal: connections behave: limits hold before memory is spent, refused bodies close the connection without losing the
//! answer, requests that could be read in two ways are refused, and stopping lets work end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use treehold_server::{AdmissionConfig, ServerConfig};

use crate::harness::{KEY, Server, USER, limits, parse};

/// Sends bytes, then reads until the server closes.
async fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = server.connect().await;
    stream.write_all(bytes).await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    raw
}

fn responses(raw: &[u8]) -> usize {
    String::from_utf8_lossy(raw).matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_with_the_limit_named() {
    let server = Server::start().await;
    let project = server.project().await;
    let target = format!("/pending/{project}/{USER}/big");
    let limit = usize::try_from(limits().file_bytes).unwrap();
    assert_eq!(server.send("PUT", &target, &[], vec![b'x'; limit]).await.status, 201);
    // Far more than socket buffers hold: the answer must arrive all the same.
    for len in [limit + 1, 20_000_000] {
        let reply = server.send("PUT", &target, &[], vec![b'x'; len]).await;
        assert_eq!(reply.problem(), (413, "too_large".into()));
        assert_eq!(reply.json()["limit"], limits().file_bytes);
        assert_eq!(reply.header("connection"), Some("close"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_without_length_is_counted_while_it_comes() {
    let server = Server::start().await;
    let project = server.project().await;
    let head = |path: &str| {
        format!(
            "PUT /pending/{project}/{USER}/{path} HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    let small = format!("{}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", head("small"));
    let mut stream = server.connect().await;
    stream.write_all(small.as_bytes()).await.unwrap();
    let mut raw = vec![0; 4_096];
    let len = stream.read(&mut raw).await.unwrap();
    let reply = parse(&raw[..len]);
    assert_eq!((reply.status, &reply.json()["size"]), (201, &5.into()));
    let chunk = format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000));
    let raw = exchange(&server, format!("{}{}", head("big"), chunk.repeat(10)).as_bytes()).await;
    assert_eq!(parse(&raw).problem(), (413, "too_large".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_goes_on_after_an_answer_and_ends_after_an_unread_body() {
    let server = Server::start().await;
    let get = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    assert_eq!(responses(&exchange(&server, format!("{get}{get}{last}").as_bytes()).await), 3);
    let refused = format!("PUT /projects/x HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", last.len());
    let raw = exchange(&server, format!("{refused}{last}").as_bytes()).await;
    assert_eq!((responses(&raw), parse(&raw).status), (1, 401), "the body is not taken for a request");
    server.stop().await;
}

#[tokio::test]
async fn requests_that_read_in_two_ways_are_refused() {
    let server = Server::start().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    let heads = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X: a\nY: b\r\n",
        "X: a\rY: b\r\n",
        "X\0: a\r\n",
        "X: a\0\r\n",
        "Content-Length: 5\n",
    ];
    for head in heads {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: t\r\n{head}\r\n0\r\n\r\n{smuggled}");
        let raw = exchange(&server, request.as_bytes()).await;
        assert_eq!((responses(&raw), parse(&raw).status), (1, 400), "{head:?}: {:?}", String::from_utf8_lossy(&raw));
    }
    for request in [
        "GET /healthz HTTP/1.1\nHost: t\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: t\n\n",
        "GET  /healthz HTTP/1.1\r\n\r\n",
    ] {
        let raw = exchange(&server, format!("{request}{smuggled}").as_bytes()).await;
        assert_eq!((responses(&raw), parse(&raw).status), (1, 400), "{request:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn chunks_that_read_in_two_ways_are_refused() {
    let server = Server::start().await;
    let project = server.project().await;
    let last = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        // To who takes a bare LF for the end of a line another request follows, to others more trailers.
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX: a\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\n\n",
        "5\r\nhello\r\n0\r\nX: a\r\n\n",
        "5\r\nhello\r\n0\r\nX: a\n\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ] {
        let request = format!(
            "PUT /pending/{project}/{USER}/x HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{body}{last}"
        );
        let raw = exchange(&server, request.as_bytes()).await;
        assert_eq!((responses(&raw), parse(&raw).status), (1, 400), "{body:?}: {:?}", String::from_utf8_lossy(&raw));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let idle = Duration::from_millis(200);
    let server = Server::with(ServerConfig { body_idle_timeout: idle, ..ServerConfig::default() }).await;
    let project = server.project().await;
    let head = format!(
        "PUT /pending/{project}/{USER}/x HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Length: 9\r\n\r\nabc"
    );
    assert_eq!(parse(&exchange(&server, head.as_bytes()).await).problem(), (408, "body_timeout".into()));
    let missing = server.get(&format!("/pending/{project}/{USER}/x")).await;
    assert_eq!(missing.status, 404, "nothing of it was kept");
    server.stop().await;
}

#[tokio::test]
async fn expecting_callers_are_refused_before_they_send() {
    let server = Server::start().await;
    let head = "PUT /projects/x HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 999999999\r\n\r\n";
    let raw = exchange(&server, head.as_bytes()).await;
    assert_eq!((responses(&raw), parse(&raw).status), (1, 401));
    server.stop().await;
}

/// Goal: who says how much comes hears at once that it never fits, over the limit for files and over that for memory alike.
#[tokio::test]
async fn what_never_fits_is_refused_before_it_is_sent() {
    let admission = AdmissionConfig { memory_bytes: 200_000, ..AdmissionConfig::for_cores(2) };
    let server = Server::with(ServerConfig { admission, ..ServerConfig::default() }).await;
    let project = server.project().await;
    for (length, limit) in [(150_000, 98_304), (200_001, 200_000)] {
        let head = format!(
            "PUT /pending/{project}/{USER}/x HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        );
        let raw = exchange(&server, head.as_bytes()).await;
        let reply = parse(&raw);
        assert_eq!((responses(&raw), reply.status), (1, 413), "{length}");
        assert_eq!(reply.json()["limit"], limit);
    }
    server.stop().await;
}

#[tokio::test]
async fn stopping_lets_a_request_at_work_end() {
    let server = Server::start().await;
    let project = server.project().await;
    let mut stream = server.connect().await;
    let head = format!(
        "PUT /pending/{project}/{USER}/x HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Length: 6\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let stopping = tokio::spawn(server.stop());
    tokio::task::yield_now().await;
    stream.write_all(b"abcdef").await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    assert_eq!(parse(&raw).status, 201);
    stopping.await.unwrap();
}
