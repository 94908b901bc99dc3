//! Ref names: git's verdict on generated names.

use crate::oracle::{Oracle, joined, random};
use std::collections::BTreeMap;
use treehold_object::refname::{self, RefNameError};
use treehold_object::{Kind, ObjectId};

const PIECES: [&[u8]; 27] = [
    b"a",
    b"B",
    b"/",
    b"/",
    b".",
    b"..",
    b".lock",
    b".lock/",
    b"-",
    b"@",
    b"{",
    b"@{",
    b"~",
    b"^",
    b":",
    b"?",
    b"*",
    b"[",
    b"\\",
    b" ",
    b"\t",
    b"\x7f",
    b"\x01",
    "é".as_bytes(),
    b"\xff",
    b"HEAD",
    b"main",
];

/// Names that break nothing but rules that git does not have.
const OURS: [RefNameError; 3] = [RefNameError::LeadingDash, RefNameError::Head, RefNameError::TooLong];

#[test]
fn git_takes_the_same_names() {
    let mut random = random();
    let oracle = Oracle::new();
    let target = oracle.put(Kind::Blob, b"");
    // A tag object has a name that `git fsck` judges as `git check-ref-format refs/tags/<name>` does, thousands in one run.
    let mut names: BTreeMap<ObjectId, Vec<u8>> = BTreeMap::new();
    for _ in 0..1500 {
        let name = joined(&mut random, &PIECES, 5);
        let mut tag = format!("object {target}\ntype blob\ntag ").into_bytes();
        tag.extend_from_slice(&name);
        tag.extend_from_slice(b"\ntagger A <a@b> 0 +0000\n\nmessage\n");
        names.insert(oracle.put(Kind::Tag, &tag), name);
    }
    let complaints = oracle.complaints();
    let (mut good, mut bad) = (0, 0);
    for (oid, name) in names {
        let git_refuses = complaints.get(&oid).is_some_and(|ids| ids.contains("badTagName"));
        // `check_tag` knows `@`; git judges `refs/tags/@`, which is a name.
        let verdict = refname::check_full([b"refs/tags/", name.as_slice()].concat());
        let we_refuse = verdict.is_err_and(|error| !OURS.contains(&error));
        assert_eq!(we_refuse, git_refuses, "{:?}: {verdict:?}", String::from_utf8_lossy(&name));
        *(if git_refuses { &mut bad } else { &mut good }) += 1;
    }
    assert!(good > 30 && bad > 100, "{good} good and {bad} bad names");
}

#[test]
fn git_makes_branches_of_the_same_names() {
    let oracle = Oracle::new();
    for name in ["main", "a/b", "-a", "HEAD", "a@{0}", "x.lock", ".x", "a..b", "ü", "a/-b", "@x", "HEAD/x"] {
        let git = oracle.git().output(["check-ref-format", "--branch", name]).status.success();
        assert_eq!(refname::check_branch(name).is_ok(), git, "{name:?}");
    }
    // To git it is a short way to write HEAD.
    assert_eq!(refname::check_branch("@"), Err(RefNameError::At));
}

#[test]
fn git_sees_the_same_directory_file_conflicts() {
    let oracle = Oracle::new();
    let blob = oracle.put(Kind::Blob, b"");
    let git = oracle.git();
    let all = ["refs/tags/a", "refs/tags/a/b", "refs/tags/ab", "refs/tags/a/b/c", "refs/tags/b"];
    for existing in all {
        git.run(["update-ref", existing, &blob.to_string()]);
        for new in all.into_iter().filter(|&new| new != existing) {
            let possible = git.output(["update-ref", new, &blob.to_string()]).status.success();
            let conflict = refname::conflicts([existing.as_bytes()], new);
            assert_eq!(conflict.is_none(), possible, "{new} beside {existing}");
            git.output(["update-ref", "-d", new]);
        }
        git.run(["update-ref", "-d", existing]);
    }
}
