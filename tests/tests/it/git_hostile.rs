//! Clients that break off, stall, lie or send garbage: a clear answer where one can be given, and nothing is left afterwards: no file, no
//! place, no memory. Others are served meanwhile.

use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, pack::crc32};
use uuid::Uuid;

use crate::both;
use crate::deployment::{API_KEY, Deployment};
use crate::git_raw::*;
use crate::git_tools::*;

/// Memory that may stay with the server after a storm, bytes: threads, allocator, caches.
const SLACK: u64 = 96 << 20;

/// What the server has in memory now, bytes.
fn resident(d: &Deployment) -> u64 {
    memory(d, "VmRSS:")
}

/// The most that it ever had.
fn peak(d: &Deployment) -> u64 {
    memory(d, "VmHWM:")
}

fn memory(d: &Deployment, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", d.server_pid())).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a figure of memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Files below the spool directory.
fn spooled(d: &Deployment) -> usize {
    let files = std::fs::read_dir(d.data.path().join("spool")).map(|entries| entries.count());
    files.unwrap_or(0)
}

/// Nothing of the storm is left, and the project is served as before: clone, push, read.
async fn calm(d: &Deployment, project: Uuid, clone: &Clone, before: u64) {
    for _ in 0..100 {
        if spooled(d) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(spooled(d), 0, "a spool file is left");
    for _ in 0..5 {
        clone.run(&["commit", "--quiet", "--allow-empty", "-m", "calm"]);
        clone.run(&["push", "--quiet", &url(d, project), "main"]);
        assert_eq!(Clone::of_project(d, project, "2", &["--mirror"]).rev_parse("main"), clone.rev_parse("main"));
    }
    assert_eq!(api_refs(d, project).await.len(), 1, "only main");
    let after = resident(d);
    assert!(after < before + SLACK, "it grew from {before} to {after} bytes");
    assert!(!d.log().contains("panicked"), "the server panicked");
}

/// A server with few places, and a project with one commit.
async fn start(d: &mut Deployment) -> (Uuid, Clone, u64) {
    d.kill();
    for (name, value) in [("MAX_IN_FLIGHT", "6"), ("MAX_COMMITS", "3"), ("MAX_EXPORTS", "3")] {
        d.set(&format!("TREEHOLD_{name}"), value);
    }
    d.up().await;
    let project = d.local_project().await;
    let clone = Clone::empty(false);
    clone.commit_file("file", "content\n".repeat(10_000));
    clone.run(&["push", "--quiet", &url(d, project), "main"]);
    (project, clone, resident(d))
}

/// A connection on which a request was begun: head, and what is given of the body.
async fn begun(d: &Deployment, project: Uuid, service: &str, lines: &str, body: &[u8]) -> TcpStream {
    let key = base64::prelude::BASE64_STANDARD.encode(format!("git:{API_KEY}"));
    let head = format!(
        "POST /git/{project}.git/{service} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {key}\r\n\
         Content-Type: application/x-{service}-request\r\n{lines}"
    );
    sent(d, &[head.as_bytes(), body].concat()).await
}

async fn sent(d: &Deployment, bytes: &[u8]) -> TcpStream {
    let address = d.url("").replace("http://", "");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("send");
    stream
}

/// What comes back, until the end or for two seconds.
async fn heard(mut stream: TcpStream) -> String {
    let (mut answer, mut part) = (Vec::new(), vec![0; 4096]);
    while let Ok(Ok(len @ 1..)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut part)).await {
        answer.extend_from_slice(&part[..len]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn push_of(pack: &[u8], tip: &str) -> Vec<u8> {
    [push_head(&[(ZERO, tip, "refs/heads/evil")]), pack.to_vec()].concat()
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rand::fill(&mut noise[..]);
    noise
}

/// A pack of one commit with a large file that does not compress.
fn honest(bytes: usize) -> (String, Vec<u8>) {
    let content = noise(bytes);
    let (tip, commit, tree) = commit_of(oid(Kind::Blob, &content), None);
    let entries =
        [Entry::Whole(Kind::Commit, &commit), Entry::Whole(Kind::Tree, &tree), Entry::Whole(Kind::Blob, &content)];
    (tip, pack(&entries))
}

/// A blob of 16 MiB of zeros, and a delta of a few bytes that makes `copies` times as much of it.
fn delta_bomb(copies: usize) -> (String, Vec<u8>) {
    let base = vec![0; 0xff_ffff];
    let delta = [varint(base.len()), varint(base.len() * copies), b"\xf0\xff\xff\xff".repeat(copies)].concat();
    let (tip, commit, tree) = commit_of(oid(Kind::Blob, &base), None);
    let entries = [
        Entry::Whole(Kind::Commit, &commit),
        Entry::Whole(Kind::Tree, &tree),
        Entry::Whole(Kind::Blob, &base),
        Entry::Delta(oid(Kind::Blob, &base), &delta),
    ];
    (tip, pack(&entries))
}

/// A commit with `count` large `.gitattributes`, each with a line that git does not read.
fn attributes_bomb(count: usize) -> (String, Vec<u8>) {
    const LEN: usize = 20 << 20;
    let content = |at: usize| {
        let mut content = format!("# {at}\n{}\n", "x".repeat(3_000)).into_bytes();
        content.extend(b"x text\n".repeat(LEN / 7));
        content
    };
    let blobs: Vec<Vec<u8>> = (0..count).map(content).collect();
    let tree = |blob: &Vec<u8>| [b"100644 .gitattributes\0", oid(Kind::Blob, blob).as_slice()].concat();
    let trees: Vec<Vec<u8>> = blobs.iter().map(tree).collect();
    let entry = |(at, tree): (usize, &Vec<u8>)| {
        [format!("40000 d{at:02}\0").as_bytes(), oid(Kind::Tree, tree).as_slice()].concat()
    };
    let root: Vec<u8> = trees.iter().enumerate().flat_map(entry).collect();
    let who = "A <a@example.org> 1700000000 +0000";
    let commit = format!("tree {}\nauthor {who}\ncommitter {who}\n\nx\n", oid(Kind::Tree, &root)).into_bytes();
    let mut entries = vec![Entry::Whole(Kind::Commit, &commit), Entry::Whole(Kind::Tree, &root)];
    entries.extend(trees.iter().map(|tree| Entry::Whole(Kind::Tree, tree)));
    entries.extend(blobs.iter().map(|blob| Entry::Whole(Kind::Blob, blob)));
    (oid(Kind::Commit, &commit).to_string(), pack(&entries))
}

/// A commit, and `count` more that name it 40,000 times each as their parent: a few kilobytes for each of these. The last one's oid.
fn parents_bomb(count: usize) -> (String, Vec<u8>) {
    let (root, first, tree) = commit_of(oid(Kind::Blob, b"x"), None);
    let who = "A <a@example.org> 1700000000 +0000";
    let parents = format!("parent {root}\n").repeat(40_000);
    let of = oid(Kind::Tree, &tree);
    let commits: Vec<Vec<u8>> = (0..count)
        .map(|at| format!("tree {of}\n{parents}author {who}\ncommitter {who}\n\n{at}\n").into_bytes())
        .collect();
    let mut entries =
        vec![Entry::Whole(Kind::Blob, b"x"), Entry::Whole(Kind::Tree, &tree), Entry::Whole(Kind::Commit, &first)];
    entries.extend(commits.iter().map(|commit| Entry::Whole(Kind::Commit, commit)));
    let tip = commits.last().map(|commit| oid(Kind::Commit, commit)).expect("some commits");
    (tip.to_string(), pack(&entries))
}

/// The pack with another object count, and a checksum that fits or does not.
fn counting(mut pack: Vec<u8>, count: u32) -> Vec<u8> {
    pack[8..12].copy_from_slice(&count.to_be_bytes());
    pack
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let crc = crc32(&[content]);
    let mut zlib = Vec::new();
    Deflater::new(9).deflate(&[content], &mut zlib);
    let size = content.len() as u32;
    [b"\x1f\x8b\x08\0\0\0\0\0\0\x03", &zlib[2..zlib.len() - 4], &crc.to_le_bytes(), &size.to_le_bytes()].concat()
}

both! {
    /// Goal: who stalls in the middle of anything keeps nobody else out, and leaves nothing when the connection ends.
    async fn stalls_and_cuts(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        let (tip, pack) = honest(600_000);
        let push = push_of(&pack, &tip);
        let length = format!("Content-Length: {}\r\n\r\n", push.len());
        let fetch = fetch_v2(&[&clone.rev_parse("main")], &[], &["done"]);
        let mut held = Vec::new();
        held.push(sent(&d, b"POST /git/x.git/git-rec").await);
        held.push(begun(&d, project, "git-receive-pack", "", b"").await);
        for part in [0, 3, 40, 80, push.len() - pack.len(), push.len() - pack.len() + 6, push.len() / 2, push.len() - 1] {
            held.push(begun(&d, project, "git-receive-pack", &length, &push[..part]).await);
        }
        held.push(begun(&d, project, "git-receive-pack", "Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n0000").await);
        for part in [0, 10, fetch.len() - 1] {
            let length = format!("Git-Protocol: version=2\r\nContent-Length: {}\r\n\r\n", fetch.len());
            held.push(begun(&d, project, "git-upload-pack", &length, &fetch[..part]).await);
        }
        // Another project is served while they hang.
        let other = pushed(&d, &clone).await;
        assert_eq!(Clone::of_project(&d, other, "2", &[]).rev_parse("HEAD"), clone.rev_parse("HEAD"));
        drop(held);
        calm(&d, project, &clone, before).await;
    }

    /// Goal: who stops reading a pack, or goes away in the middle of one, leaves nothing.
    async fn readers_who_leave(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        let (tip, pack) = honest(8 << 20);
        receive_pack(&d, project, push_of(&pack, &tip)).await.ok(200);
        let fetch = fetch_v2(&[&tip], &[], &["done"]);
        let mut held = Vec::new();
        for read in [0, 1, 100_000, 1_000_000] {
            let length = format!("Git-Protocol: version=2\r\nContent-Length: {}\r\n\r\n", fetch.len());
            let mut stream = begun(&d, project, "git-upload-pack", &length, &fetch).await;
            let mut part = vec![0; read];
            stream.read_exact(&mut part).await.expect("a part of the answer");
            held.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(held);
        clone.run(&["push", "--quiet", &url(&d, project), ":evil"]);
        calm(&d, project, &clone, before + (16 << 20)).await;
    }

    /// Goal: broken packs are told what is wrong with them; no ref moves, and nothing is stored.
    async fn broken_packs(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        let (tip, good) = honest(5_000);
        let flipped = |at: usize| { let mut pack = good.clone(); pack[at] ^= 0x40; pack };
        let mut cases = vec![
            ("nothing", Vec::new()), ("garbage", b"this is no pack, but it is longer than thirty-two bytes are".to_vec()),
            ("a cut header", good[..7].to_vec()), ("a cut entry", good[..60].to_vec()), ("without checksum", good[..good.len() - 20].to_vec()),
            ("a cut checksum", good[..good.len() - 1].to_vec()), ("more behind", [&good[..], b"more"].concat()),
            ("another checksum", flipped(good.len() - 5)), ("a broken entry", flipped(14)), ("broken content", flipped(200)),
            ("version 9", { let mut pack = good.clone(); pack[7] = 9; pack }),
            ("too many", counting(good.clone(), u32::MAX)), ("one more", counting(good.clone(), 4)), ("one less", counting(good.clone(), 2)),
            ("none", counting(good.clone(), 0)),
        ];
        let blob = oid(Kind::Blob, b"nowhere");
        cases.push(("a base that is nowhere", pack(&[Entry::Delta(blob, b"\x07\x01\x01x")])));
        cases.push(("an empty delta", pack(&[Entry::Whole(Kind::Blob, b"nowhere"), Entry::Delta(blob, b"")])));
        cases.push(("a copy beyond the base", pack(&[Entry::Whole(Kind::Blob, b"nowhere"), Entry::Delta(blob, b"\x07\x09\x90\x09")])));
        for (what, pack) in cases {
            let reply = receive_pack(&d, project, push_of(&pack, &tip)).await;
            let text = reply.text();
            assert_eq!(reply.status, 200, "{what}: {text}");
            assert!(text.contains("unpack ") && !text.contains("unpack ok") && text.contains("ng refs/heads/evil"), "{what}: {text}");
            for oid in [tip.clone(), blob.to_string()] {
                assert!(upload_pack(&d, project, "2", fetch_v2(&[&oid], &[], &["done"])).await.text().contains("not our ref"), "{what}");
            }
        }
        calm(&d, project, &clone, before).await;
        assert!(receive_pack(&d, project, push_of(&good, &tip)).await.text().contains("ok refs/heads/evil"));
    }

    /// Goal: what is small and becomes large is stopped before it is large.
    async fn bombs(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        for copies in [16, 128, 1_000] {
            let (tip, bomb) = delta_bomb(copies);
            assert!(bomb.len() < 25_000, "{}", bomb.len());
            let text = receive_pack(&d, project, push_of(&bomb, &tip)).await.text();
            assert!(text.contains("ng refs/heads/evil") && !text.contains("unpack ok"), "{copies}: {text}");
        }
        // A file of three bytes that would be stored, and read again, as twenty megabytes.
        let (tip, commit, tree) = commit_of(oid(Kind::Blob, b"few"), None);
        let entries = [Entry::Whole(Kind::Commit, &commit), Entry::Whole(Kind::Tree, &tree), Entry::Padded(b"few", 4_000_000)];
        let text = receive_pack(&d, project, push_of(&pack(&entries), &tip)).await.text();
        assert!(text.contains("ng refs/heads/evil") && text.contains("zlib stream"), "{text}");
        let large = resident(&d);
        assert!(large < before + 2 * SLACK, "it grew from {before} to {large} bytes");
        // As a body that is small only while it is compressed.
        let ones = gzip(&vec![b'1'; 80 << 20]);
        for (service, version) in [("git-upload-pack", "2"), ("git-upload-pack", "0"), ("git-receive-pack", "0")] {
            let reply = d.send(request(&d, project, service, version, ones.clone()).header("Content-Encoding", "gzip")).await;
            assert!(reply.status == 413 || reply.text().contains("ERR "), "{}: {}", reply.status, reply.text());
        }
        let wants: Vec<String> = (0..600_000_u32).map(|n| format!("{n:040x}")).collect();
        let wants: Vec<&str> = wants.iter().map(String::as_str).collect();
        let many = d.send(request(&d, project, "git-upload-pack", "2", fetch_v2(&wants, &[], &["done"]))).await;
        assert!(many.text().contains("500000 wants"), "{} {}", many.status, many.text());
        calm(&d, project, &clone, before + SLACK).await;
    }

    /// Goal: files that git acts on are looked at one at a time, however many of them a push brings.
    async fn large_attributes(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        let (tip, bomb) = attributes_bomb(20);
        assert!(bomb.len() < 2 << 20, "{}", bomb.len());
        let text = receive_pack(&d, project, push_of(&bomb, &tip)).await.text();
        assert!(text.contains("ng refs/heads/evil") && text.contains("gitattributes"), "{text}");
        let peak = peak(&d);
        assert!(peak < before + (300 << 20), "it grew from {before} to {peak} bytes");
        calm(&d, project, &clone, before + SLACK).await;
    }

    /// Goal: rows of commits count as memory before they are made: a small pack that names millions of parents is refused.
    async fn many_parents(d) {
        let mut d = d;
        d.set("TREEHOLD_MAX_MEMORY_BYTES", &(128_u64 << 20).to_string());
        let (project, clone, before) = start(&mut d).await;
        let (tip, bomb) = parents_bomb(40);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let text = receive_pack(&d, project, push_of(&bomb, &tip)).await.text();
        assert!(text.contains("ng refs/heads/evil") && !text.contains("unpack ok"), "{text}");
        let (tip, few) = parents_bomb(1);
        let text = receive_pack(&d, project, push_of(&few, &tip)).await.text();
        assert!(text.contains("ok refs/heads/evil"), "{text}");
        clone.run(&["push", "--quiet", &url(&d, project), ":evil"]);
        calm(&d, project, &clone, before + SLACK).await;
    }

    /// Goal: a directory of a million names is refused before it is looked at: it would be large in memory wherever it is read.
    async fn huge_trees(d) {
        let project = d.local_project().await;
        let (content, blob) = (b"x", oid(Kind::Blob, b"x"));
        let names = (0..1_000_000_u32).flat_map(|n| [format!("100644 {n:07}\0").as_bytes(), blob.as_slice()].concat());
        let tree: Vec<u8> = names.collect();
        assert!(tree.len() > 32 << 20);
        let tip = oid(Kind::Tree, &tree).to_string();
        let pack = pack(&[Entry::Whole(Kind::Blob, content), Entry::Whole(Kind::Tree, &tree)]);
        let body = [push_head(&[(ZERO, &tip, "refs/tags/huge")]), pack].concat();
        let text = receive_pack(&d, project, body).await.text();
        assert!(text.contains("longer than 33554432 bytes") && text.contains("ng refs/tags/huge"), "{text}");
        d.get(&format!("/projects/{project}/git/trees/{tip}")).await.problem(404, "not_found");
    }

    /// Goal: requests that are no git requests get an answer that says so, of the right kind.
    async fn nonsense(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        let tip = clone.rev_parse("main");
        let fetch = || fetch_v2(&[&tip], &[], &["done"]);
        let good = d.send(request(&d, project, "git-upload-pack", "2", gzip(&fetch())).header("Content-Encoding", "gzip")).await;
        pack_of(&good.body);
        let cut = gzip(&fetch());
        let cases = [
            (request(&d, project, "git-upload-pack", "2", cut[..cut.len() - 9].to_vec()).header("Content-Encoding", "gzip"), 400, "gzip"),
            (request(&d, project, "git-upload-pack", "2", fetch()).header("Content-Encoding", "gzip"), 400, "gzip"),
            (request(&d, project, "git-upload-pack", "2", fetch()).header("Content-Encoding", "br"), 415, "gzip"),
            (request(&d, project, "git-receive-pack", "0", cut).header("Content-Encoding", "deflate"), 415, "gzip"),
            (d.request("POST", &format!("/git/{project}.git/git-upload-pack")).basic_auth("git", Some(API_KEY)).body(fetch()), 415, "Content-Type"),
            (request(&d, project, "git-upload-pack", "2", b"hello, is this git?".to_vec()), 200, "ERR "),
            (request(&d, project, "git-upload-pack", "0", b"hello, is this git?".to_vec()), 200, "ERR "),
            (request(&d, project, "git-receive-pack", "0", b"hello, is this git?".to_vec()), 200, "ERR "),
            (request(&d, project, "git-upload-pack", "2", pkt(b"command=explode")), 200, "ERR "),
            (request(&d, project, "git-upload-pack", "2", fetch_v2(&["12345"], &[], &["done"])), 200, "ERR "),
            (request(&d, project, "git-upload-pack", "2", fetch_v2(&[&tip], &[], &["deepen 0", "done"])), 200, "ERR "),
            (request(&d, project, "git-upload-pack", "2", fetch_v2(&[&tip], &[], &["filter sparse:path=x", "done"])), 200, "ERR "),
            (request(&d, project, "git-receive-pack", "0", push_head(&[(ZERO, &tip, "refs/heads/a"), (ZERO, &tip, "refs/heads/a")])), 200, "ERR "),
            (d.request("GET", &format!("/git/{project}.git/info/refs")).basic_auth("git", Some(API_KEY)), 403, "smart"),
            (d.request("GET", &format!("/git/{project}.git/info/refs?service=git-evil")).basic_auth("git", Some(API_KEY)), 403, "smart"),
            (d.request("GET", &format!("/git/{project}.git/HEAD")).basic_auth("git", Some(API_KEY)), 403, "smart"),
            (d.request("GET", &format!("/git/{project}.git/objects/info/packs")).basic_auth("git", Some(API_KEY)), 403, "smart"),
            (d.request("DELETE", &format!("/git/{project}.git/git-receive-pack")).basic_auth("git", Some(API_KEY)), 405, "POST"),
        ];
        for (at, (request, status, says)) in cases.into_iter().enumerate() {
            let reply = d.send(request).await;
            assert_eq!(reply.status, status, "case {at}: {}", reply.text());
            assert!(reply.text().contains(says), "case {at}: {}", reply.text());
        }
        for service in ["git-upload-pack", "git-receive-pack"] {
            for body in [b"".to_vec(), FLUSH.to_vec()] {
                let reply = d.send(request(&d, project, service, "0", body)).await;
                assert_eq!((reply.status, reply.body.len()), (200, 0), "as clients try their credentials");
            }
        }
        for lines in ["Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length: -1\r\n\r\n",
            "Transfer-Encoding: gzip\r\n\r\n"] {
            let answer = heard(begun(&d, project, "git-receive-pack", lines, b"0\r\n\r\n").await).await;
            assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{lines}: {answer}");
        }
        calm(&d, project, &clone, before).await;
    }

    /// Goal: commands beyond the limits are refused; so many as are allowed are carried out, or all refused, in good time.
    async fn long_lists(d) {
        let mut d = d;
        let (project, clone, before) = start(&mut d).await;
        let tip = clone.rev_parse("main");
        let list = |count: usize, name: &str| -> Vec<u8> {
            let names: Vec<String> = (0..count).map(|n| format!("refs/heads/{name}{n}")).collect();
            push_head(&names.iter().map(|name| (ZERO, tip.as_str(), name.as_str())).collect::<Vec<_>>())
        };
        let reply = receive_pack(&d, project, [list(50_001, "many"), pack(&[])].concat()).await;
        assert!(reply.text().contains("ERR ") && reply.text().contains("50000 commands"), "{}", &reply.text()[..200.min(reply.text().len())]);
        let long = "n".repeat(70_000);
        for name in ["x".repeat(300), "y".repeat(4_000), "z".repeat(5_000), long[..60_000].to_owned()] {
            let name = format!("refs/heads/{name}");
            let reply = receive_pack(&d, project, [push_head(&[(ZERO, &tip, &name)]), pack(&[])].concat()).await;
            assert!(reply.text().contains("ERR ") || reply.text().contains("ng refs/heads/"), "{}", reply.status);
        }
        let began = std::time::Instant::now();
        let reply = receive_pack(&d, project, [list(5_000, "fine"), pack(&[])].concat()).await;
        assert_eq!(reply.text().matches("ok refs/heads/fine").count(), 5_000);
        let gone: Vec<String> = (0..5_000).map(|n| format!("refs/heads/fine{n}")).collect();
        let gone: Vec<(&str, &str, &str)> = gone.iter().map(|name| (tip.as_str(), ZERO, name.as_str())).collect();
        let reply = receive_pack(&d, project, push_head(&gone)).await;
        assert_eq!(reply.text().matches("ok refs/heads/fine").count(), 5_000);
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
        calm(&d, project, &clone, before).await;
    }

    /// Goal: a large push that is refused early still ends in words that git shows.
    async fn refusals_are_heard(d) {
        let (project, clone) = { let project = d.local_project().await; (project, Clone::empty(false)) };
        let bad = clone.hash_object_literally("commit", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a> 1 +0000\n\nx\n");
        clone.git().run_with(["mktree"], b"");
        let noise = noise(24 << 20);
        clone.commit_file("noise", noise);
        clone.run(&["update-ref", "--no-deref", "refs/tags/bad", &bad]);
        let words = clone.refused(&["push", &url(&d, project), "main", "bad"], "remote rejected");
        assert!(words.contains("unpack"), "{words}");
        let words = clone.refused(&["push", &url(&d, project), "main:refs/nowhere/x"], "only branches");
        assert!(!words.contains("RPC failed"), "{words}");
        let reader = d.cli(&["token", "create", &project.to_string(), "--json"]).await;
        let reader: serde_json::Value = serde_json::from_slice(&reader.stdout).expect("JSON");
        let words = clone.refused(&["push", &url_with(&d, project, reader["secret"].as_str().expect("a secret")), "main"], "for reading");
        assert!(!words.contains("RPC failed"), "{words}");
    }
}
