//! Goal: whatever becomes of a push, its place, its memory, its spool file and its operation are free again.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use treehold_object::pack::PackWriter;
use treehold_object::{Kind, ObjectId, hash};
use treehold_server::{AdmissionConfig, Bounds, ServerConfig};

use crate::harness::{KEY, Server, parse};

const ZERO: &str = "0000000000000000000000000000000000000000";

/// The body of a push of a commit with one file that does not compress, and `spare` blobs that nothing needs; and how long its head is.
fn push(branch: &str, bytes: usize, spare: u32) -> (Vec<u8>, usize) {
    let mut blob = vec![0; bytes];
    rand::fill(&mut blob[..]);
    let named = |kind, content: &[u8]| hash(kind, content).unwrap();
    let tree = [b"100644 file\0", named(Kind::Blob, &blob).as_slice()].concat();
    let who = "A <a@example.org> 1700000000 +0000";
    let tree_oid = named(Kind::Tree, &tree);
    let commit = format!("tree {tree_oid}\nauthor {who}\ncommitter {who}\n\nx\n").into_bytes();
    let mut writer = PackWriter::new(Vec::new(), 3 + spare, 1).unwrap();
    for (kind, content) in [(Kind::Commit, &commit), (Kind::Tree, &tree), (Kind::Blob, &blob)] {
        writer.add(named(kind, content), kind, content).unwrap();
    }
    for number in 0..spare {
        writer.add(ObjectId::Sha1([0; 20]), Kind::Blob, &number.to_be_bytes()).unwrap();
    }
    let line = format!("{ZERO} {} refs/heads/{branch}\0report-status", named(Kind::Commit, &commit));
    let head = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
    let len = head.len();
    ([head, writer.finish().unwrap().0].concat(), len)
}

/// Sends so much of a push, and hears what is answered until the server ends the connection.
async fn sent(server: &Server, project: &str, body: &[u8], part: usize) -> String {
    let head = format!(
        "POST /git/{project}.git/git-receive-pack HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = server.connect().await;
    stream.write_all(&[head.as_bytes(), &body[..part]].concat()).await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    let reply = parse(&raw);
    format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body))
}

/// Waits until nothing of any push is left. A place is free a moment after the answer.
async fn nothing_left(server: &Server) {
    for _ in 0..500 {
        if server.spooled() == 0 && server.open_operations().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} spool files and {} operations are left", server.spooled(), server.open_operations().await);
}

/// Goal: a client that says nothing any more is given up by the server itself, wherever in the push it stopped.
#[tokio::test]
async fn a_stalled_push_is_given_up() {
    let one = Bounds { places: 1, queue: 0, queue_total: 0 };
    let admission = AdmissionConfig { commit: one, bulk: one, ..AdmissionConfig::for_cores(2) };
    let config = ServerConfig { body_idle_timeout: Duration::from_millis(300), admission, ..ServerConfig::default() };
    let server = Server::with(config).await;
    let project = server.project().await;
    let (body, head) = push("main", 150_000, 0);
    for part in [0, 3, 40, head, head + 8, head + 40, body.len() / 2, body.len() - 20, body.len() - 1] {
        let told = sent(&server, &project, &body, part).await;
        assert!(told.contains("came too slowly"), "after {part} bytes: {told}");
        nothing_left(&server).await;
    }
    // The only place is free, and what was cut short is no hindrance.
    let mut told = String::new();
    for _ in 0..500 {
        told = sent(&server, &project, &body, body.len()).await;
        if !told.starts_with("429") && !told.starts_with("503") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(told.contains("ok refs/heads/main"), "{told}");
    nothing_left(&server).await;
    server.stop().await;
}

/// Goal: a push of more objects than there is memory for is refused before it takes it, in words that git shows, and harms nobody.
#[tokio::test]
async fn a_push_of_too_many_objects_is_refused() {
    let admission = AdmissionConfig { memory_bytes: 4 << 20, ..AdmissionConfig::for_cores(2) };
    let server = Server::with(ServerConfig { admission, ..ServerConfig::default() }).await;
    let project = server.project().await;
    for _ in 0..3 {
        let (body, _) = push("many", 1_000, 40_000);
        let told = sent(&server, &project, &body, body.len()).await;
        assert!(told.contains("unpack the memory") && told.contains("ng refs/heads/many"), "{told}");
        nothing_left(&server).await;
    }
    for number in 0..20 {
        let branch = format!("few-{number}");
        let (body, _) = push(&branch, 1_000, 2_000);
        let told = sent(&server, &project, &body, body.len()).await;
        assert!(told.contains(&format!("ok refs/heads/{branch}")), "{told}");
    }
    nothing_left(&server).await;
    server.stop().await;
}
