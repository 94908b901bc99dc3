//! Paths against git's own `verify_path`, with the protection of all file systems on.

use crate::oracle::{Oracle, joined, random};
use bstr::ByteSlice;
use treehold_object::path::{self, PathError};
use treehold_object::{Kind, RepoPath, tree::mode};
use treehold_tests::git::Git;

pub const PIECES: [&[u8]; 30] = [
    b"a",
    b"B",
    b"/",
    b"/",
    b".",
    b"..",
    b" ",
    b"\\",
    b":",
    b".git",
    b".GIT",
    b"git~1",
    b".gitmodules",
    b"\x01",
    b"\r",
    b"\x7f",
    "\u{200c}".as_bytes(),
    b"\xff",
    b"con",
    b"COM1",
    b".txt",
    "é".as_bytes(),
    b"\"",
    b"*",
    b"~",
    b"-",
    b"git",
    b"~1",
    b"x",
    b"@",
];

/// git, with the protection of all file systems on.
pub fn protected(git: &Git) -> Git {
    git.clone().config("core.protectHFS", "true").config("core.protectNTFS", "true")
}

fn index_info(paths: &[Vec<u8>], mode: u32, oid: impl std::fmt::Display) -> Vec<u8> {
    let line = |path: &Vec<u8>| [format!("{mode:06o} {oid}\t").as_bytes(), path, b"\0"].concat();
    paths.iter().flat_map(line).collect()
}

#[test]
fn what_we_take_git_takes() {
    let mut random = random();
    let oracle = Oracle::new();
    let blob = oracle.put(Kind::Blob, b"");
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for _ in 0..30_000 {
        let path = joined(&mut random, &PIECES, 6);
        let existing = path::check_existing(&path);
        assert_eq!(
            RepoPath::new(path.clone()).is_ok(),
            existing.is_ok() || existing == Err(PathError::DotGit),
            "{:?}",
            path.as_bstr()
        );
        if path::check_new_name(&path, mode::FILE).is_ok() {
            assert_eq!(existing, Ok(()), "{:?}", path.as_bstr());
            taken.push(path);
        }
    }
    taken.sort();
    taken.dedup();
    assert!(taken.len() > 300, "{}", taken.len());
    // `--replace` lets a file take the place of a directory; the last one of each such pair stays.
    let added = protected(oracle.git())
        .output_of(["update-index", "-z", "--replace", "--index-info"], &index_info(&taken, mode::FILE, blob));
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
}

#[test]
fn what_git_refuses_we_refuse() {
    let mut random = random();
    let oracle = Oracle::new();
    let blob = oracle.put(Kind::Blob, b"");
    let git = protected(oracle.git());
    let mut refused = 0;
    for _ in 0..150 {
        let path = joined(&mut random, &PIECES, 4);
        for mode in [mode::FILE, mode::SYMLINK] {
            let added = git.output_of(
                ["update-index", "-z", "--replace", "--index-info"],
                &index_info(std::slice::from_ref(&path), mode, blob),
            );
            let is_taken = added.stderr.is_empty() && added.status.success();
            refused += usize::from(!is_taken);
            assert!(
                is_taken || path::check_new_name(&path, mode).is_err(),
                "git refuses {:?} {mode:o}",
                path.as_bstr()
            );
        }
    }
    assert!(refused > 30, "{refused}");
}
