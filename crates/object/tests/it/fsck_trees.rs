//! Trees: how to make odd ones, and one of each fault.

use crate::oracle::{Oracle, joined};
use bstr::ByteSlice;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use treehold_object::{Kind, ObjectId, Policy, fsck};

/// Pieces of which the names are made that some file system takes for another.
const PIECES: [&[u8]; 42] = [
    b"a",
    b"b",
    b"a.c",
    b".",
    b"..",
    b" ",
    b"/",
    b"\\",
    b":",
    b"~1",
    b"~4",
    b"~9",
    b"~12",
    b"~",
    b".git",
    b".GIT",
    b"git~1",
    b"GIT~1",
    b"gitmod~1",
    b".gitmodules",
    b".GitModules",
    b"gi7eba~1",
    b"gi7eb~12",
    b"gi7~1234",
    b".gitattributes",
    b"gitatt~2",
    b"gi7d29~3",
    b".gitignore",
    b"gitign~1",
    b".mailmap",
    b"maba30~1",
    b"mailma~1",
    "\u{200c}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{206a}".as_bytes(),
    "\u{2010}".as_bytes(),
    b"\xff",
    "\u{fffe}".as_bytes(),
    b"\xe2\x80",
    "\u{131}".as_bytes(),
    b"g",
];
const MODES: [&str; 14] = [
    "100644", "100644", "100755", "120000", "40000", "40000", "160000", "100664", "0100644", "040000", "100600",
    "120777", "0", "170000",
];

fn entry(random: &mut StdRng, oids: &[ObjectId]) -> Vec<u8> {
    let most = random.random_range(1..4);
    let name = joined(random, &PIECES, most);
    let mut entry = MODES.choose(random).copied().unwrap_or_default().as_bytes().to_vec();
    entry.push(b' ');
    entry.extend_from_slice(&name);
    entry.push(0);
    let oid =
        if random.random_ratio(1, 30) { ObjectId::null(gix_hash::Kind::Sha1) } else { *oids.choose(random).unwrap() };
    entry.extend_from_slice(oid.as_slice());
    entry
}

fn sort_key(entry: &[u8]) -> Vec<u8> {
    let (mode, rest) = entry.split_once_str(" ").unwrap_or_default();
    let name = rest.split_str("\0").next().unwrap_or_default();
    let slash: &[u8] = if mode.ends_with(b"40000") { b"/" } else { b"" };
    [name, slash].concat()
}

/// A tree of a few entries, each of which names one of `oids`; mostly in git's order, seldom cut short.
pub fn generated(random: &mut StdRng, oids: &[ObjectId]) -> Vec<u8> {
    let count = random.random_range(1..4);
    let mut entries: Vec<Vec<u8>> = (0..count).map(|_| entry(random, oids)).collect();
    if random.random_ratio(9, 10) {
        entries.sort_by_key(|entry| sort_key(entry));
    }
    let mut content = entries.concat();
    if random.random_ratio(1, 50) {
        content.truncate(random.random_range(0..content.len()));
    }
    content
}

/// A tree for each fault that one can have, with git's name for it. The entries name `oid`, a blob.
pub fn faulty(oid: &ObjectId) -> Vec<(Vec<u8>, &'static str)> {
    let null = ObjectId::null(gix_hash::Kind::Sha1);
    let entry = |mode: &str, name: &str, oid: &ObjectId| {
        [mode.as_bytes(), b" ", name.as_bytes(), b"\0", oid.as_slice()].concat()
    };
    let file = |name: &str| entry("100644", name, oid);
    vec![
        (file("a")[..20].to_vec(), "badTree"),
        ([file("b"), file("a")].concat(), "treeNotSorted"),
        ([file("a"), file("a")].concat(), "duplicateEntries"),
        ([file("a"), file("a.c"), entry("40000", "a", oid)].concat(), "duplicateEntries"),
        (entry("100644", "a", &null), "nullSha1"),
        (file("."), "hasDot"),
        (file(".."), "hasDotdot"),
        (file(".git"), "hasDotgit"),
        (file("GIT~1 ."), "hasDotgit"),
        (file(".g\u{200c}it"), "hasDotgit"),
        (file("a/b"), "fullPathname"),
        (file(&"x".repeat(4097)), "largePathname"),
        (entry("100664", "a", oid), "badFilemode"),
        (entry("120000", ".gitmodules", oid), "gitmodulesSymlink"),
        (entry("120000", "GITMOD~1", oid), "gitmodulesSymlink"),
    ]
}

#[test]
fn named_faults() {
    let oracle = Oracle::new();
    let blob = oracle.put(Kind::Blob, b"");
    let faulty: Vec<_> =
        faulty(&blob).into_iter().map(|(content, id)| (oracle.put(Kind::Tree, &content), content, id)).collect();
    let complaints = oracle.complaints();
    for (oid, content, expected) in faulty {
        let error = fsck::check(Kind::Tree, &oid, &content, Policy::Push).expect_err(expected);
        assert_eq!((error.oid, error.fault.id()), (oid, expected), "{:?}", content.as_bstr());
        assert!(complaints[&oid].contains(expected), "git finds {:?}, not {expected}", complaints[&oid]);
    }
}

#[test]
fn long_names() {
    let oracle = Oracle::new();
    let blob = oracle.put(Kind::Blob, b"");
    for (length, is_taken) in [(4096, true), (4097, false)] {
        let mut content = [b"100644 ", "x".repeat(length).as_bytes(), b"\0"].concat();
        content.extend_from_slice(blob.as_slice());
        let oid = oracle.put(Kind::Tree, &content);
        assert_eq!(oracle.complaints().contains_key(&oid), !is_taken, "git, {length}");
        for policy in [Policy::Push, Policy::Import] {
            assert_eq!(fsck::check(Kind::Tree, &oid, &content, policy).is_ok(), is_taken, "{length}");
        }
    }
}
