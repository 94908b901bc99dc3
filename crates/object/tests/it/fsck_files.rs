//! What `.gitmodules` and `.gitattributes` hold: git's verdict on generated files.

use crate::oracle::{Oracle, joined, random};
use bstr::ByteSlice;
use rand::seq::IndexedRandom;
use std::collections::BTreeMap;
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

#[test]
fn git_judges_generated_gitmodules_alike() {
    let mut random = random();
    let oracle = Oracle::new();
    let mut files: BTreeMap<ObjectId, Vec<u8>> = BTreeMap::new();
    for _ in 0..3000 {
        let mut content = SECTIONS.choose(&mut random).copied().unwrap_or_default().as_bytes().to_vec();
        content.extend_from_slice(b"\n\t");
        content.extend_from_slice(KEYS.choose(&mut random).copied().unwrap_or_default().as_bytes());
        content.extend_from_slice([&b" = "[..], b"=", b" "].choose(&mut random).copied().unwrap_or_default());
        content.extend_from_slice(&joined(&mut random, &VALUES, 1));
        content.extend_from_slice([&b"\n"[..], b"\r\n", b""].choose(&mut random).copied().unwrap_or_default());
        let oid = oracle.put(Kind::Blob, &content);
        let tree = encode_tree([TreeEntry { mode: 0o100644, name: ".gitmodules".into(), oid }]).unwrap();
        oracle.put(Kind::Tree, &tree);
        files.insert(oid, content);
    }
    let complaints = oracle.complaints();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (oid, content) in &files {
        let ids: Vec<&str> = complaints.get(oid).into_iter().flatten().map(String::as_str).collect();
        let text = content.as_bstr();
        let verdict = check_git_file(GitFile::Modules, Kind::Blob, oid, content, Policy::Push);
        let carried = check_git_file(GitFile::Modules, Kind::Blob, oid, content, Policy::Import);
        assert_eq!(carried, Ok(if verdict.is_ok() { Flags::NONE } else { Flags::GITMODULES }));
        match verdict {
            Ok(_) => assert!(ids.is_empty(), "git finds {ids:?}, we nothing in {text:?}"),
            Err(error) => {
                let id = error.fault.id();
                *seen.entry(id).or_default() += 1;
                // A line break in a URL that no command reads is refused by us alone.
                let is_ours = ids.is_empty() && id == "gitmodulesUrl" && content.find("\\n").is_some();
                assert!(ids.contains(&id) || is_ours, "git finds {ids:?}, we {id} in {text:?}");
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.len() >= 3, "{seen:?}");
}

/// One by one, after git's t7450 and the CVEs.
#[test]
fn named_faults() {
    let oracle = Oracle::new();
    let cases = [
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
    let oids = cases.map(|(content, _)| oracle.put(Kind::Blob, content.as_bytes()));
    for oid in oids {
        oracle.put(Kind::Tree, &encode_tree([TreeEntry { mode: 0o100644, name: ".gitmodules".into(), oid }]).unwrap());
    }
    let complaints = oracle.complaints();
    for ((content, expected), oid) in cases.into_iter().zip(oids) {
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
