//! Goal: nobody keeps a connection, a place or memory by doing nothing. All over real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use treehold_server::{AdmissionConfig, Bounds, ServeOptions, ServerConfig};

use crate::harness::{KEY, Server, USER, parse};

const SHORT: Duration = Duration::from_millis(100);
const GET: &str = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";

async fn server(connections: ServeOptions) -> Server {
    Server::with(ServerConfig { connections, ..ServerConfig::default() }).await
}

/// One place for each class, for which all wait as long as it takes.
fn single() -> AdmissionConfig {
    let one = Bounds { places: 1, queue: 10, queue_total: 10 };
    let queue_timeout = Duration::from_secs(600);
    AdmissionConfig { light: one, commit: one, bulk: one, queue_timeout, ..AdmissionConfig::for_cores(2) }
}

async fn answer(stream: &mut TcpStream) -> u16 {
    let mut raw = vec![0; 4_096];
    let len = stream.read(&mut raw).await.unwrap();
    parse(&raw[..len]).status
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut raw = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut raw).await;
    raw
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_ends() {
    let server = server(ServeOptions { connections_max: 2, ..ServeOptions::default() }).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for stream in [&mut one, &mut two] {
        stream.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(answer(stream).await, 200);
    }
    let mut three = server.connect().await;
    three.write_all(GET.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(SHORT, three.readable()).await;
    assert!(early.is_err(), "it is not accepted while two are open");
    drop(one);
    assert_eq!(answer(&mut three).await, 200);
    drop((two, three));
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_and_a_connection_that_does_nothing_are_closed() {
    let server = server(ServeOptions { head_timeout: SHORT, ..ServeOptions::default() }).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n").await.unwrap();
    let (mut reader, mut writer) = slow.into_split();
    // One header after the other, and never an end: it is the whole head that has a time.
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let mut raw = Vec::new();
    let _ = reader.read_to_end(&mut raw).await;
    assert!(raw.is_empty() || parse(&raw).status == 408, "{:?}", String::from_utf8_lossy(&raw));
    trickle.await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut idle).await, 200);
    assert_eq!(rest(&mut idle).await, b"", "closed after the answer, without another");
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, b"");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_trickles_has_an_end() {
    let config = ServerConfig { body_timeout: 4 * SHORT, ..ServerConfig::default() };
    let server = Server::with(config).await;
    let project = server.project().await;
    let mut stream = server.connect().await;
    let head = format!(
        "PUT /pending/{project}/{USER}/x HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Length: 9999\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        // Never idle for long.
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let mut raw = Vec::new();
    let _ = reader.read_to_end(&mut raw).await;
    assert_eq!(parse(&raw).problem(), (408, "body_timeout".into()));
    trickle.abort();
    server.stop().await;
}

#[tokio::test]
async fn large_heads_are_refused() {
    let server = server(ServeOptions { head_bytes: 16 << 10, ..ServeOptions::default() }).await;
    let get = |bytes: usize| {
        format!("GET /healthz HTTP/1.1\r\nHost: t\r\nX: {}\r\nConnection: close\r\n\r\n", "y".repeat(bytes))
    };
    let mut stream = server.connect().await;
    stream.write_all(get(12 << 10).as_bytes()).await.unwrap();
    assert_eq!(parse(&rest(&mut stream).await).status, 200);
    let mut stream = server.connect().await;
    let _ = stream.write_all(get(1 << 20).as_bytes()).await;
    let mut raw = vec![0; 4_096];
    let len = stream.read(&mut raw).await.unwrap();
    assert_eq!(parse(&raw[..len]).status, 431);
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let mut stream = server.connect().await;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: t\r\n{many}\r\n").as_bytes()).await.unwrap();
    assert_eq!(parse(&rest(&mut stream).await).status, 431, "many headers are a large head too");
    server.stop().await;
}

/// HTTP/2 begins with its preface; an upgrade from HTTP/1.1 is not taken up.
#[tokio::test]
async fn an_upgrade_is_not_taken_up() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let upgrade = "GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await, 200);
    drop(stream);
    server.stop().await;
}

/// Method: ask for more than the sockets hold, read nothing, and let another one wait for the only place.
#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let connections = ServeOptions { send_timeout: SHORT, ..ServeOptions::default() };
    let config = ServerConfig { connections, admission: single(), ..ServerConfig::default() };
    let server = Server::with(config).await;
    let project = server.project().await;
    let target = format!("/files/{project}/f");
    assert_eq!(server.send("PUT", &target, &[], vec![b'x'; 200_000]).await.status, 200);
    let mut stream = server.connect().await;
    let get = format!("GET {target} HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\n\r\n");
    stream.write_all(get.repeat(200).as_bytes()).await.unwrap();
    // Answers begin to come; then nothing is read.
    stream.readable().await.unwrap();
    for _ in 0..20 {
        assert_eq!(server.get(&target).await.status, 200);
    }
    let raw = rest(&mut stream).await;
    assert!(raw.len() < 200 * 200_000, "it was cut off");
    server.stop().await;
}

#[tokio::test]
async fn a_slow_reader_that_reads_on_gets_everything() {
    let connections = ServeOptions { send_timeout: 10 * SHORT, ..ServeOptions::default() };
    let server = server(connections).await;
    let project = server.project().await;
    let target = format!("/files/{project}/f");
    assert_eq!(server.send("PUT", &target, &[], vec![b'x'; 200_000]).await.status, 200);
    let get = format!("GET {target} HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\n\r\n");
    let mut slow = server.connect().await;
    slow.write_all(get.repeat(20).as_bytes()).await.unwrap();
    let (mut taken, mut piece) = (0, vec![0; 128 << 10]);
    while taken < 20 * 200_000 {
        tokio::time::sleep(SHORT / 20).await;
        let len = slow.read(&mut piece).await.unwrap();
        assert!(len > 0, "cut off after {taken} bytes");
        taken += len;
    }
    drop(slow);
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_place() {
    let server = Server::with(ServerConfig { admission: single(), ..ServerConfig::default() }).await;
    let project = server.project().await;
    for _ in 0..5 {
        let mut stream = server.connect().await;
        let head = format!(
            "PUT /pending/{project}/{USER}/x HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Length: 9\r\n\
             Expect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 25]).await.unwrap();
        drop(stream);
        assert_eq!(server.get(&format!("/projects/{project}")).await.status, 200);
    }
    server.stop().await;
}

/// Method: a remote that is under the test's control keeps a sync at work; its caller goes; then the remote lets it go.
#[tokio::test]
async fn a_write_goes_on_without_its_caller_and_keeps_its_place() {
    let remote = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let prefix = format!("http://{}/", remote.local_addr().unwrap());
    let one = Bounds { places: 1, queue: 0, queue_total: 0 };
    let admission = AdmissionConfig { commit: one, ..AdmissionConfig::for_cores(2) };
    let server = Server::with_remote(&prefix, ServerConfig { admission, ..ServerConfig::default() }).await;
    let body = serde_json::json!({"remote": {"url": format!("{prefix}x")}});
    let made = server.json("POST", "/projects", &body).await.json();
    let target = format!("/projects/{}/sync", made["id"].as_str().unwrap());
    let mut caller = server.connect().await;
    let head = format!("POST {target} HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Length: 0\r\n\r\n");
    caller.write_all(head.as_bytes()).await.unwrap();
    let (mut asked, _) = remote.accept().await.unwrap();
    drop(caller);
    for _ in 0..10 {
        let reply = server.send("POST", &target, &[], "").await;
        assert_eq!((reply.problem(), reply.header("retry-after")), ((429, "too_many_requests".into()), Some("2")));
    }
    // The connection to the remote is still open: nothing was cancelled.
    let mut request = vec![0; 65_536];
    assert!(asked.read(&mut request).await.unwrap() > 0);
    asked.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    drop(asked);
    drop(remote);
    let mut reply = server.send("POST", &target, &[], "").await;
    for _ in 0..6_000 {
        if reply.status != 429 {
            break;
        }
        tokio::time::sleep(SHORT / 10).await;
        reply = server.send("POST", &target, &[], "").await;
    }
    assert_eq!(reply.status, 502, "the next one is at work again: {reply:?}");
    server.stop().await;
}
