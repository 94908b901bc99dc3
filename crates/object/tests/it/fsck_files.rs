//! What `.gitmodules` and `.gitattributes` hold: how to make odd ones, and one of each fault.

use crate::oracle::{Oracle, joined};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use treehold_object::fsck::{GitFile, check_git_file};
use treehold_object::{Flags, Kind, ObjectId, Policy, TreeEntry, encode_tree};

const SECTIONS: [&str; 12] = [
    "[submodule \"a\"]",
    "[submodule \"../a\"]",
    "[submodule \"a/..\"]",
    "[submodule \"a\\\\..\\\\b\"]",
    "[submodule \"..a\"]",
    "[submodule \"\"]",
    "[submodule]",
    "[Submodule \"x\"]",
    "[submodule.a]",
    "[other \"../x\"]",
    "[submodule \"a\"",
    "[submodule \"a\\\"b\"]",
];
const KEYS: [&str; 9] = ["url", "URL", "path", "update", "ignore", "x.y", "1", "url ", "\tpath"];
const VALUES: [&[u8]; 45] = [
    b"https://example.org/x.git",
    b"http://example.org",
    b"https://",
    b"https:///x",
    b"https://:80/x",
    b"https://example.org:0/",
    b"https://example.org:99999/",
    b"https://example.org:042949672961/",
    b"https://user@/x",
    b"https://u:p@h/x",
    b"-x",
    b"--upload-pack=x",
    b"\"-x\"",
    b"./x",
    b"../x",
    b"../../x",
    b"../:x",
    b"..//x",
    b"./../:x",
    b"../x%0ay",
    b"./x%0Ay",
    b"git://h/%0a",
    b"git@h:x",
    b"ssh://h/%0a",
    b"https://h/%0a",
    b"https://h/%zz",
    b"https::-x",
    b"https::https://h/x",
    b"https::h",
    b"\"a\\nb\"",
    b"\"https://h/a\\nb\"",
    b"!cmd",
    b"checkout",
    b"none",
    b"a/b",
    b"file:///x",
    b"ftp://h/../x",
    b"https://h/a/../x",
    b"https://h/a/../../x",
    b"https://[::1]/x",
    b"http://h\\x/",
    b"\"unclosed",
    b"a\\q",
    b"x # -y",
    b"",
];

/// A `.gitmodules` of one setting.
pub fn modules(random: &mut StdRng) -> Vec<u8> {
    let mut content = SECTIONS.choose(random).copied().unwrap_or_default().as_bytes().to_vec();
    content.extend_from_slice(b"\n\t");
    content.extend_from_slice(KEYS.choose(random).copied().unwrap_or_default().as_bytes());
    content.extend_from_slice([&b" = "[..], b"=", b" "].choose(random).copied().unwrap_or_default());
    content.extend_from_slice(&joined(random, &VALUES, 1));
    content.extend_from_slice([&b"\n"[..], b"\r\n", b""].choose(random).copied().unwrap_or_default());
    content
}

/// A `.gitattributes` with lines about as long as git reads.
pub fn attributes(random: &mut StdRng) -> Vec<u8> {
    let mut content = Vec::new();
    for _ in 0..random.random_range(1..4) {
        let length = random.random_range(2040..2052);
        content.extend_from_slice(b"*.x ");
        content.extend(std::iter::repeat_n(b'y', length - 4));
        content.extend_from_slice([&b"\n"[..], b"\r\n", b"\0", b""].choose(random).copied().unwrap_or_default());
    }
    content
}

/// After git's t7450 and the CVEs, one by one: what `.gitmodules` holds, and git's name for the fault.
pub const FAULTY: [(&str, &str); 12] = [
    ("[submodule \"../x\"]\n\tpath = a\n", "gitmodulesName"),
    ("[submodule \"a/../b\"]\n\tpath = a\n", "gitmodulesName"),
    ("[submodule \"\"]\n\tpath = a\n", "gitmodulesName"),
    ("[submodule \"a\"]\n\turl = -u\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\turl = \"-u\"\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\turl = https://one.example.com?%0ahost=two.example.com\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\turl = https:///host/path\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\turl = ../../../../:host/path\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\turl = git://host/%0a\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\turl = https://host:42949672961/\n", "gitmodulesUrl"),
    ("[submodule \"a\"]\n\tpath = -x\n", "gitmodulesPath"),
    ("[submodule \"a\"]\n\tUpdate = !cmd\n", "gitmodulesUpdate"),
];

#[test]
fn named_faults() {
    let oracle = Oracle::new();
    let oids = FAULTY.map(|(content, _)| oracle.put(Kind::Blob, content.as_bytes()));
    for oid in oids {
        oracle.put(Kind::Tree, &encode_tree([TreeEntry { mode: 0o100644, name: ".gitmodules".into(), oid }]).unwrap());
    }
    let complaints = oracle.complaints();
    for ((content, expected), oid) in FAULTY.into_iter().zip(oids) {
        let error = check_git_file(GitFile::Modules, Kind::Blob, &oid, content.as_bytes(), Policy::Push).unwrap_err();
        assert_eq!(error.fault.id(), expected, "{content:?}");
        assert!(complaints[&oid].contains(expected), "git, {content:?}");
    }
}

#[test]
fn carriage_returns_are_refused_by_us() {
    let refused = |content: &str| {
        let oid = ObjectId::null(gix_hash::Kind::Sha1);
        let verdict = check_git_file(GitFile::Modules, Kind::Blob, &oid, content.as_bytes(), Policy::Push);
        verdict.err().map(|error| error.fault.id())
    };
    assert_eq!(refused("[submodule \"a\"]\n\tpath = \"sub\r\"\n"), Some("gitmodulesPath"));
    assert_eq!(refused("[submodule \"a\"]\n\turl = https://h/%0d\n"), Some("gitmodulesUrl"));
    assert_eq!(refused("[submodule \"a\"]\r\n\tpath = sub\r\n"), None, "CRLF is a line's end");
    let large = format!("[submodule \"a\"]\n{}", "#\n".repeat(1 << 19));
    assert_eq!(refused(&large), Some("gitmodulesLarge"));
}

#[test]
fn git_judges_gitattributes_alike() {
    let oracle = Oracle::new();
    let line = |length: usize| format!("*.x {}", "y".repeat(length - 4));
    let cases = [
        (line(2047), true),
        (line(2048), false),
        (format!("{}\n{}\n", line(2047), line(2047)), true),
        (format!("a b\n{}\n", line(2048)), false),
        (format!("a\0{}", line(4000)), true),
        (String::new(), true),
    ];
    let oids: Vec<ObjectId> = cases.iter().map(|(content, _)| oracle.put(Kind::Blob, content.as_bytes())).collect();
    for oid in &oids {
        oracle.put(
            Kind::Tree,
            &encode_tree([TreeEntry { mode: 0o100644, name: ".gitattributes".into(), oid: *oid }]).unwrap(),
        );
    }
    let complaints = oracle.complaints();
    for ((content, is_good), oid) in cases.iter().zip(&oids) {
        assert_eq!(!complaints.contains_key(oid), *is_good, "git");
        let ours = check_git_file(GitFile::Attributes, Kind::Blob, oid, content.as_bytes(), Policy::Push);
        assert_eq!(ours.map(Flags::is_empty), if *is_good { Ok(true) } else { Err(ours.unwrap_err()) });
        let carried = check_git_file(GitFile::Attributes, Kind::Blob, oid, content.as_bytes(), Policy::Import);
        assert_eq!(carried, Ok(if *is_good { Flags::NONE } else { Flags::GITATTRIBUTES }));
    }
    let not_a_blob = check_git_file(GitFile::Modules, Kind::Tree, &oids[0], b"", Policy::Push).unwrap_err();
    assert_eq!(not_a_blob.fault.id(), "gitmodulesBlob");
}
