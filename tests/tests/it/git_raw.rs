//! Git's protocol as bytes, for clients that stock git is not: requests made by hand, packs made by hand, answers taken apart.

use std::collections::BTreeMap;

use treehold_object::pack::{self, EntryHeader, EntryKind, PackWriter};
use treehold_object::zlib::{Deflater, Inflater};
use treehold_object::{Kind, ObjectId};
use uuid::Uuid;

use crate::deployment::{API_KEY, Deployment, Reply};

pub const FLUSH: &[u8] = b"0000";
pub const DELIM: &[u8] = b"0001";
pub const ZERO: &str = "0000000000000000000000000000000000000000";

pub fn pkt(data: &[u8]) -> Vec<u8> {
    [format!("{:04x}", data.len() + 4).as_bytes(), data].concat()
}

fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    lines.into_iter().flat_map(|line| pkt(format!("{line}\n").as_bytes())).collect()
}

/// Lines, each of which starts with `word`.
fn each(word: &str, oids: &[&str]) -> Vec<u8> {
    oids.iter().flat_map(|oid| pkt(format!("{word} {oid}\n").as_bytes())).collect()
}

/// A `fetch` of v2.
pub fn fetch_v2(wants: &[&str], haves: &[&str], more: &[&str]) -> Vec<u8> {
    let head = lines(["command=fetch", "agent=test", "object-format=sha1"]);
    [head, DELIM.to_vec(), lines(more.iter().copied()), each("want", wants), each("have", haves), FLUSH.to_vec()]
        .concat()
}

/// A request before v2.
pub fn fetch_v0(wants: &[&str], haves: &[&str], capabilities: &str) -> Vec<u8> {
    let mut request = Vec::new();
    for (at, want) in wants.iter().enumerate() {
        let words = if at == 0 { format!(" {capabilities}") } else { String::new() };
        request.extend(pkt(format!("want {want}{words}\n").as_bytes()));
    }
    [request, FLUSH.to_vec(), each("have", haves), lines(["done"])].concat()
}

/// The head of a push: old, new and name of each ref.
pub fn push_head(commands: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut head = Vec::new();
    for (at, (old, new, name)) in commands.iter().enumerate() {
        let words = if at == 0 { "\0 report-status" } else { "" };
        head.extend(pkt(format!("{old} {new} {name}{words}").as_bytes()));
    }
    head.extend(FLUSH);
    head
}

/// Sends a request to one of git's services with the key.
pub fn request(d: &Deployment, project: Uuid, service: &str, version: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
    let request = d.request("POST", &format!("/git/{project}.git/{service}")).basic_auth("git", Some(API_KEY));
    let request = request.header("Content-Type", format!("application/x-{service}-request"));
    let request = if version == "0" { request } else { request.header("Git-Protocol", format!("version={version}")) };
    request.body(body)
}

pub async fn upload_pack(d: &Deployment, project: Uuid, version: &str, body: Vec<u8>) -> Reply {
    d.send(request(d, project, "git-upload-pack", version, body)).await
}

pub async fn receive_pack(d: &Deployment, project: Uuid, body: Vec<u8>) -> Reply {
    d.send(request(d, project, "git-receive-pack", "0", body)).await
}

/// The pack in an answer whose pack comes in side-band packets.
#[track_caller]
pub fn pack_of(answer: &[u8]) -> Vec<u8> {
    let (mut rest, mut pack) = (answer, Vec::new());
    while rest.len() >= 4 {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..4]).expect("digits"), 16).expect("a length").max(4);
        match rest.get(4) {
            Some(1) if len > 4 => pack.extend_from_slice(&rest[5..len]),
            Some(3) if len > 4 => panic!("{}", String::from_utf8_lossy(&rest[5..len])),
            _ => {}
        }
        rest = &rest[len..];
    }
    assert!(pack.starts_with(b"PACK"), "{}", String::from_utf8_lossy(answer));
    pack
}

/// How many entries a pack has, and which objects outside of it they are deltas against.
pub fn bases_of(bytes: &[u8]) -> (u32, Vec<ObjectId>) {
    let count = pack::parse_header(bytes[..12].try_into().expect("a header")).expect("a pack");
    let (mut at, mut inflater, mut bases) = (12, Inflater::default(), Vec::new());
    for _ in 0..count {
        let (header, len) = EntryHeader::decode(&bytes[at..]).expect("an entry").expect("a whole header");
        if let EntryKind::RefDelta { base } = header.kind {
            bases.push(base);
        }
        if let EntryKind::OfsDelta { distance } = header.kind {
            assert!(distance <= at as u64 - 12, "a base before the pack");
        }
        at += len;
        at += inflater.inflate(&bytes[at..], header.size).expect("a zlib stream").1;
    }
    assert_eq!(at + 20, bytes.len(), "nothing between the last entry and the checksum");
    (count, bases)
}

/// An entry of a pack made by hand.
pub enum Entry<'a> {
    Whole(Kind, &'a [u8]),
    /// A delta, as it is, against this object.
    Delta(ObjectId, &'a [u8]),
    /// A file with so many empty blocks in its zlib stream, five bytes each.
    Padded(&'a [u8], usize),
}

/// A pack of these entries.
pub fn pack(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut writer = PackWriter::new(Vec::new(), u32::try_from(entries.len()).expect("few"), 6).expect("a writer");
    let nobody = ObjectId::Sha1([0; 20]);
    for entry in entries {
        match entry {
            Entry::Whole(kind, content) => writer.add(nobody, *kind, content).expect("an entry"),
            Entry::Delta(base, delta) => {
                let mut zlib = Vec::new();
                Deflater::new(9).deflate(&[delta], &mut zlib);
                let header = EntryHeader { kind: EntryKind::RefDelta { base: *base }, size: delta.len() as u64 };
                writer.add_entry(nobody, header, &zlib).expect("an entry")
            }
            Entry::Padded(content, blocks) => {
                let (mut zlib, empty) = (Vec::new(), b"\0\0\0\xff\xff".repeat(*blocks));
                Deflater::new(9).deflate(&[content], &mut zlib);
                let zlib = [&zlib[..2], &empty[..], &zlib[2..]].concat();
                writer.add_compressed(nobody, Kind::Blob, content.len() as u64, &zlib).expect("an entry")
            }
        };
    }
    writer.finish().expect("a pack").0
}

/// A size as deltas write it.
pub fn varint(mut size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while size >= 0x80 {
        out.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
    out
}

pub fn oid(kind: Kind, content: &[u8]) -> ObjectId {
    treehold_object::hash(kind, content).expect("no collision")
}

/// A commit of one file, from nothing: its oid and its objects.
pub fn commit_of(blob: ObjectId, parent: Option<&str>) -> (String, Vec<u8>, Vec<u8>) {
    let tree = [b"100644 file\0", blob.as_slice()].concat();
    let parent = parent.map(|oid| format!("parent {oid}\n")).unwrap_or_default();
    let who = "A <a@example.org> 1700000000 +0000";
    let commit = format!("tree {}\n{parent}author {who}\ncommitter {who}\n\nx\n", oid(Kind::Tree, &tree)).into_bytes();
    (oid(Kind::Commit, &commit).to_string(), commit, tree)
}

/// Everything that an answer says but for time, request and these words.
pub fn said(reply: &Reply, words: &[&str]) -> (u16, BTreeMap<String, String>, String) {
    let blot = |text: &str| words.iter().fold(text.to_owned(), |text, word| text.replace(word, "WORD"));
    // How a streamed body is framed depends on how soon its parts come; the body itself is compared whole.
    let apart = ["date", "x-request-id", "content-length", "transfer-encoding"];
    let headers = reply.headers.iter().filter(|(name, _)| !apart.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), blot(&String::from_utf8_lossy(value.as_bytes()))));
    (reply.status, headers.collect(), blot(&reply.text()))
}
