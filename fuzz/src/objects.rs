//! What objects say, and whether git would take them.

use treehold_object::fsck::check;
use treehold_object::{Kind, ObjectId, Policy, TreeEntry, encode_tree, parse_commit, parse_tag, parse_tree};

/// What a push may bring, an import may too.
fn judged(kind: Kind, content: &[u8]) -> bool {
    let oid = ObjectId::Sha1([1; 20]);
    let push = check(kind, &oid, content, Policy::Push);
    let import = check(kind, &oid, content, Policy::Import);
    if let Ok(checked) = &push {
        let import = import.unwrap();
        assert_eq!(checked.git_files, import.git_files);
    }
    push.is_ok()
}

/// A commit that fsck accepts can be read.
pub fn commit(data: &[u8]) {
    let good = judged(Kind::Commit, data);
    match parse_commit(data) {
        Ok(commit) => {
            let lines = data.split(|byte| *byte == b'\n').count();
            assert!(commit.parents.len() + commit.extra.len() < lines && data.ends_with(&commit.message));
        }
        Err(error) => assert!(!good, "{error}"),
    }
}

/// A tag that fsck accepts can be read.
pub fn tag(data: &[u8]) {
    let good = judged(Kind::Tag, data);
    match parse_tag(data) {
        Ok(tag) => assert!(data.ends_with(&tag.message)),
        Err(error) => assert!(!good, "{error}"),
    }
}

/// A tree that fsck accepts can be read, and is what we would write ourselves of its entries.
pub fn tree(data: &[u8]) {
    let good = judged(Kind::Tree, data);
    let entries = match parse_tree(data) {
        Ok(entries) => entries,
        Err(error) => return assert!(!good, "{error}"),
    };
    let in_order = entries.is_sorted_by(|a, b| a.cmp_in_tree(b).is_le());
    let written = encode_tree(entries.iter().copied());
    if good {
        assert!(in_order);
        let same = |a: &[TreeEntry<'_>], b: &[u8]| parse_tree(b).is_ok_and(|b| a == b);
        assert!(same(&entries, &written.unwrap()));
    } else if let Ok(written) = written {
        // What we write is in order, without duplicates, and has the same entries.
        let read = parse_tree(&written).unwrap();
        assert!(read.len() == entries.len() && read.is_sorted_by(|a, b| a.cmp_in_tree(b).is_lt()));
    }
}
