//! Trees: read and written as git does.

use crate::oracle::random;
use rand::Rng;
use rand::seq::SliceRandom;
use treehold_object::tree::{self, TreeError, mode};
use treehold_object::{BString, ObjectId, TreeEntry, encode_tree, parse_tree};
use treehold_tests::git::Repo;

#[test]
fn every_tree_of_the_sample_is_written_as_it_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let repo = Repo::sample(directory.path(), 5);
    let mut random = random();
    let trees = repo.git().run(["rev-list", "--objects", "--all", "--no-object-names", "--filter=object:type=tree"]);
    let mut count = 0;
    for oid in trees.lines() {
        let content = repo.git().bytes(["cat-file", "tree", oid]);
        let mut entries = parse_tree(&content).unwrap();
        entries.shuffle(&mut random);
        assert_eq!(encode_tree(entries).unwrap(), content);
        count += 1;
    }
    assert!(count > 20, "{count} trees");
}

#[test]
fn what_is_no_tree() {
    let oid = "\u{1}".repeat(20);
    for (content, expected) in [
        ("1".to_owned(), TreeError::Short),
        ("100644 a".to_owned(), TreeError::Short),
        (format!("100644 a\0{}", &oid[1..]), TreeError::Short),
        (format!("100644 \0{oid}"), TreeError::Name),
        (format!(" a\0{oid}"), TreeError::Mode),
        (format!("100648 a\0{oid}"), TreeError::Mode),
        (format!("-100644 a\0{oid}"), TreeError::Mode),
        (format!("40000000000 a\0{oid}"), TreeError::Mode),
        (format!("100644 a\0{oid}100644 b"), TreeError::Short),
    ] {
        assert_eq!(parse_tree(content.as_bytes()), Err(expected), "{content:?}");
        assert!(tree::entries(content.as_bytes()).count() <= 2, "it ends after the error");
    }
    assert_eq!(parse_tree(b""), Ok(vec![]));
}

#[test]
fn what_makes_no_tree() {
    let entry = |mode: u32, name: &'static str| TreeEntry {
        mode,
        name: name.into(),
        oid: ObjectId::null(gix_hash::Kind::Sha1),
    };
    assert_eq!(encode_tree([entry(mode::FILE, "a"), entry(mode::FILE, "a")]), Err(TreeError::Duplicate));
    let apart = [entry(mode::FILE, "a"), entry(mode::FILE, "a.c"), entry(mode::TREE, "a")];
    assert_eq!(encode_tree(apart), Err(TreeError::Duplicate));
    for name in ["", "a/b", "a\0"] {
        assert_eq!(encode_tree([entry(mode::FILE, name)]), Err(TreeError::Name));
    }
    let mut random = random();
    let name = BString::from(vec![b'x'; random.random_range(1..5000)]);
    let long =
        encode_tree([TreeEntry { mode: mode::TREE, name: name.as_ref(), oid: ObjectId::null(gix_hash::Kind::Sha1) }])
            .unwrap();
    assert_eq!(parse_tree(&long).unwrap()[0].name, name);
    assert!(long.starts_with(b"40000 x"), "without the zero in front");
}
