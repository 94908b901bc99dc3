//! Ref names: how to make odd ones, and which git can have beside each other.

use crate::oracle::{Oracle, joined};
use rand::rngs::StdRng;
use treehold_object::Kind;
use treehold_object::refname::{self, RefNameError};

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

/// What may stand after `refs/tags/`, or may not.
pub fn name(random: &mut StdRng) -> Vec<u8> {
    joined(random, &PIECES, 5)
}

/// Whether `refs/tags/<name>` breaks a rule that git has too.
pub fn is_refused(name: &[u8]) -> bool {
    // `check_tag` knows `@`; git judges `refs/tags/@`, which is a name.
    let verdict = refname::check_full([b"refs/tags/", name].concat());
    verdict.is_err_and(|error| !OURS.contains(&error))
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
