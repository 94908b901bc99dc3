//! Goal: above its limits the server refuses early and says when to come back, and one project's flood is not another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use treehold_server::{AdmissionConfig, Bounds, RateLimits, ServerConfig};

use crate::harness::{KEY, Reply, Server, USER, parse};

/// Long enough that no test waits for its end, unless it means to.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(50);

fn bounds(places: usize, queue: usize) -> Bounds {
    Bounds { places, queue, queue_total: 1_000 }
}

async fn server(light: Bounds, bulk: Bounds, queue_timeout: Duration) -> Server {
    let admission = AdmissionConfig { light, commit: bulk, bulk, queue_timeout, ..AdmissionConfig::for_cores(2) };
    Server::with(ServerConfig { admission, ..ServerConfig::default() }).await
}

/// A request that has its place, and waits for the one byte of its body.
async fn hold(server: &Server, method: &str, target: &str) -> TcpStream {
    let mut stream = server.connect().await;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: t\r\nX-Internal-API-Key: {KEY}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 25]).await.unwrap();
    stream
}

async fn finish(mut stream: TcpStream) -> Reply {
    stream.write_all(b"1\r\na\r\n0\r\n\r\n").await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    parse(&raw)
}

/// A refusal for the time being, and how many seconds it names.
#[track_caller]
fn refused(reply: &Reply) -> (u16, String, u64) {
    let (status, code) = reply.problem();
    (status, code, reply.header("retry-after").expect("a time to wait").parse().unwrap())
}

/// Repeats a read until it is not refused: a place is free a moment after the answer that held it.
async fn settled(server: &Server, target: &str) -> Reply {
    for _ in 0..1_000 {
        let reply = server.get(target).await;
        if ![429, 503].contains(&reply.status) {
            return reply;
        }
        refused(&reply);
    }
    panic!("{target} is refused for ever");
}

#[tokio::test]
async fn a_project_over_its_share_is_told_so_and_others_work() {
    let server = server(bounds(8, 2), bounds(4, 0), SHORT).await;
    let (a, b) = (server.project().await, server.project().await);
    let mut held = Vec::new();
    for number in 0..4 {
        held.push(hold(&server, "PUT", &format!("/pending/{a}/{USER}/{number}")).await);
    }
    for _ in 0..3 {
        let reply = server.get(&format!("/projects/{a}")).await;
        assert_eq!(refused(&reply), (429, "too_many_requests".into(), 1));
        assert_eq!(server.get(&format!("/projects/{b}")).await.status, 200);
    }
    // By its UUID in another spelling it is the same project.
    assert_eq!(server.get(&format!("/projects/{}", a.replace('-', ""))).await.status, 429);
    let reply = server.send("PUT", &format!("/pending/{a}/{USER}/x"), &[], vec![b'x'; 150_000]).await;
    assert_eq!(refused(&reply).0, 429, "refused before the body is read, and told all the same");
    for stream in held {
        assert_eq!(finish(stream).await.status, 201);
    }
    assert_eq!(settled(&server, &format!("/projects/{a}")).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_is_busy_but_alive() {
    let server = server(bounds(1, 10), bounds(1, 0), SHORT).await;
    let project = server.project().await;
    let held = hold(&server, "PUT", &format!("/pending/{project}/{USER}/x")).await;
    assert_eq!(refused(&server.get("/projects").await), (503, "busy".into(), 1));
    for health in ["/healthz", "/readyz"] {
        assert_eq!(server.get(health).await.status, 200, "a busy server is alive");
    }
    assert_eq!(finish(held).await.status, 201);
    assert_eq!(settled(&server, "/projects").await.status, 200);
    server.stop().await;
}

/// Goal: who is not let in, or asks too often, is told so without a place; and every refusal has an id, and says what it depends on.
#[tokio::test]
async fn keys_and_rates_come_before_places() {
    let admission = AdmissionConfig { light: bounds(1, 10), queue_timeout: SHORT, ..AdmissionConfig::for_cores(2) };
    let rates = RateLimits { reads: 1, ..RateLimits::OFF };
    let server = Server::with(ServerConfig { admission, rates, ..ServerConfig::default() }).await;
    let (busy, asked) = (server.project().await, server.project().await);
    let held = hold(&server, "PUT", &format!("/pending/{busy}/{USER}/x")).await;
    let target = format!("/files/{asked}?user={USER}");
    let unknown = server.send_plain("GET", &target, &[], "").await;
    let (counted, over) = (server.get(&target).await, server.get(&target).await);
    assert_eq!(unknown.problem(), (401, "unauthorized".into()));
    assert_eq!(counted.problem(), (503, "busy".into()));
    assert_eq!(over.problem(), (429, "rate_limited".into()));
    for reply in [unknown, counted, over] {
        assert!(reply.header("x-request-id").is_some(), "{reply:?}");
        assert_eq!(reply.header("vary"), Some("accept-encoding"), "{reply:?}");
    }
    assert_eq!(finish(held).await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn whoever_waits_gets_the_place_that_becomes_free() {
    let server = Arc::new(server(bounds(1, 10), bounds(1, 0), LONG).await);
    let project = server.project().await;
    let held = hold(&server, "PUT", &format!("/pending/{project}/{USER}/x")).await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (server, target) = (Arc::clone(&server), format!("/projects/{project}"));
            tokio::spawn(async move { server.get(&target).await.status })
        })
        .collect();
    assert_eq!(finish(held).await.status, 201);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 200);
    }
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test]
async fn heavy_verbs_do_not_take_the_places_of_light_ones() {
    let config = AdmissionConfig {
        light: bounds(4, 10),
        commit: bounds(4, 10),
        bulk: bounds(2, 0),
        queue_timeout: LONG,
        ..AdmissionConfig::for_cores(2)
    };
    let server = Server::with(ServerConfig { admission: config, ..ServerConfig::default() }).await;
    let (a, b, c) = (server.project().await, server.project().await, server.project().await);
    // Without a length, a batch read counts as a large one.
    let held = hold(&server, "POST", &format!("/projects/{a}/read")).await;
    let archive = |project: &str| format!("/projects/{project}/archive.zip");
    assert_eq!(refused(&server.get(&archive(&a)).await), (429, "too_many_requests".into(), 5));
    let other = hold(&server, "POST", &format!("/projects/{b}/read")).await;
    assert_eq!(refused(&server.get(&archive(&c)).await), (503, "busy".into(), 5));
    for project in [&a, &b, &c] {
        let saved = server.send("PUT", &format!("/pending/{project}/{USER}/x"), &[], "x").await;
        assert_eq!(saved.status, 201);
        assert_eq!(
            server.send("PUT", &format!("/files/{project}/y"), &[], "y").await.status,
            200,
            "a class of its own"
        );
    }
    for held in [held, other] {
        assert_eq!(finish(held).await.problem(), (400, "bad_json".into()));
    }
    assert_eq!(settled(&server, &archive(&a)).await.status, 200);
    server.stop().await;
}

/// Method: more connections of one project than there are places, each of which waits as it is told and repeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_refuses_none_of_the_others_and_all_of_it_is_answered_in_the_end() {
    let server = Arc::new(server(bounds(4, 1), bounds(4, 0), LONG).await);
    let (a, b) = (server.project().await, server.project().await);
    let held = hold(&server, "PUT", &format!("/pending/{a}/{USER}/held")).await;
    let (refusals, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let flood: Vec<_> = (0..24)
        .map(|number| {
            let (server, refusals, over) = (Arc::clone(&server), Arc::clone(&refusals), Arc::clone(&over));
            let target = format!("/pending/{a}/{USER}/{number}");
            tokio::spawn(async move {
                for _ in 0..200 {
                    let reply = server.send("PUT", &target, &[], "x").await;
                    if reply.status / 100 == 2 && over.load(Ordering::Relaxed) {
                        return true;
                    }
                    if reply.status / 100 != 2 {
                        let (status, _, seconds) = refused(&reply);
                        assert_eq!(status, 429);
                        refusals.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                    }
                }
                over.load(Ordering::Relaxed)
            })
        })
        .collect();
    for number in 0..100 {
        let target = format!("/pending/{b}/{USER}/{number}");
        let reply = server.send("PUT", &target, &[], "x").await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    for _ in 0..6_000 {
        if refusals.load(Ordering::Relaxed) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refusals.load(Ordering::Relaxed) > 0, "none of the flood is refused");
    over.store(true, Ordering::Relaxed);
    assert_eq!(finish(held).await.status, 201);
    for one in flood {
        assert!(one.await.unwrap(), "one of the flood was never answered");
    }
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test]
async fn memory_is_shared_and_given_back_too() {
    let admission = AdmissionConfig { memory_bytes: 1 << 20, ..AdmissionConfig::for_cores(2) };
    let server = Server::with(ServerConfig { admission, ..ServerConfig::default() }).await;
    let (a, b) = (server.project().await, server.project().await);
    for project in [&a, &b] {
        for (name, len) in [("f", 100_000), ("g", 40_000)] {
            let made = server.send("PUT", &format!("/files/{project}/{name}"), &[], vec![b'x'; len]).await;
            assert_eq!(made.status, 200, "{made:?}");
        }
    }
    // Bodies that came in part: 400 KiB of the project's 512.
    let mut held = Vec::new();
    for number in 0..3 {
        let mut stream = hold(&server, "PUT", &format!("/pending/{a}/{USER}/{number}")).await;
        stream.write_all(format!("20000\r\n{}\r\n", "x".repeat(0x20000)).as_bytes()).await.unwrap();
        held.push(stream);
    }
    let read = json!({"paths": ["f"]});
    let target = |project: &str| format!("/projects/{project}/read");
    let mut refusal = server.json("POST", &target(&a), &read).await;
    // What was sent may not be there yet.
    for _ in 0..1_000 {
        if refusal.status != 200 {
            break;
        }
        refusal = server.json("POST", &target(&a), &read).await;
    }
    assert_eq!(refused(&refusal), (429, "too_many_requests".into(), 1));
    assert_eq!(server.json("POST", &target(&b), &json!({"paths": ["g"]})).await.status, 200);
    drop(held);
    let mut reply = server.json("POST", &target(&a), &read).await;
    for _ in 0..1_000 {
        if reply.status == 200 {
            break;
        }
        refused(&reply);
        reply = server.json("POST", &target(&a), &read).await;
    }
    assert_eq!(reply.json()["files"][0]["content"].as_str().unwrap().len(), 100_000);
    server.stop().await;
}
