//! Commits and tags: how to break them, and the named bad ones of git's own tests.

use crate::oracle::Oracle;
use bstr::ByteSlice;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use treehold_object::{Flags, Kind, ObjectId, Policy, fsck, hash};

pub const COMMIT: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent PARENT\nauthor A U Thor <author@example.org> 1700000000 +0100\n\
    committer C <c@example.org> 1700000001 -0000\n\nSubject\n\nBody\n";
pub const TAG: &str = "object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntype tree\ntag v1\ntagger T <t@example.org> 1700000000 +0100\n\nMessage\n";

/// Put in somewhere, they break something.
const SPLINTERS: [&str; 30] = [
    "",
    " ",
    "\n",
    "\n\n",
    "\0",
    "<",
    ">",
    "0",
    "00",
    "-",
    "+",
    "\t",
    "x",
    "99999999999999999999",
    "9223372036854775807",
    "9223372036854775808",
    "tree ",
    "parent ",
    "author ",
    "author A <a@b> 1 +0000\n",
    "committer ",
    "committer A <a@b> 1 +0000\n",
    "gpgsig x\n y\n",
    "encoding x\n",
    "tagger ",
    "type blob\n",
    "\r",
    "\u{e9}",
    "ABCDEF",
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
];

/// Cuts a bit out, at a place where something ends or begins more often than not, and puts a splinter there.
pub fn broken(random: &mut StdRng, good: &[u8]) -> Vec<u8> {
    let mut content = good.to_vec();
    for _ in 0..random.random_range(1..3) {
        let headers_end = content.find("\n\n").unwrap_or(content.len());
        let seams: Vec<usize> =
            (0..=headers_end).filter(|&at| content.get(at).is_none_or(|byte| b" \n<>".contains(byte))).collect();
        let at = match random.random_range(0..4) {
            0 => random.random_range(0..=content.len()),
            _ => seams.choose(random).copied().unwrap_or(0) + random.random_range(0..2),
        }
        .min(content.len());
        let end = (at + [0, 0, 1, 1, 2, 6].choose(random).copied().unwrap_or(0)).min(content.len());
        let splinter = SPLINTERS.choose(random).copied().unwrap_or_default();
        content.splice(at..end, splinter.bytes());
    }
    content
}

/// After git's t1450, one by one, each with git's name for the fault.
pub fn faulty(parent: &ObjectId) -> Vec<(Kind, String, &'static str)> {
    let commit = COMMIT.replace("PARENT", &parent.to_string());
    let person = "A U Thor <author@example.org> 1700000000 +0100";
    let in_commit = |from: &str, to: &str| (Kind::Commit, commit.replacen(from, to, 1));
    let as_author = |line: &str| in_commit(person, line);
    let in_tag = |from: &str, to: &str| (Kind::Tag, TAG.replacen(from, to, 1));
    let cases = [
        (as_author("A U Thor author@example.org 1 +0000"), "missingEmail"),
        (as_author("<author@example.org> 1 +0000"), "missingNameBeforeEmail"),
        (as_author("A U Thor<author@example.org> 1 +0000"), "missingSpaceBeforeEmail"),
        (as_author("A > U Thor <author@example.org> 1 +0000"), "badName"),
        (as_author("A U Thor <author@ex<ample.org> 1 +0000"), "badEmail"),
        (as_author("A U Thor <author@example.org 1 +0000"), "badEmail"),
        (as_author("A U Thor <author@example.org> +0000"), "badDate"),
        (as_author("A U Thor <author@example.org> "), "badDate"),
        (as_author("A U Thor <author@example.org> 1x +0000"), "badDate"),
        (as_author("A U Thor <author@example.org> 01 +0000"), "zeroPaddedDate"),
        (as_author("A U Thor <author@example.org> 18446744073709551617 +0000"), "badDateOverflow"),
        (in_commit("author ", "author x <x@y> 1 +0000\nauthor "), "multipleAuthors"),
        (in_commit("author ", "xauthor "), "missingAuthor"),
        (in_commit("committer ", "xcommitter "), "missingCommitter"),
        (in_commit("tree ", "xtree "), "missingTree"),
        (in_commit("tree 4", "tree x"), "badTreeSha1"),
        (in_commit("tree 4", "tree "), "badTreeSha1"),
        (in_commit("parent ", "parent x"), "badParentSha1"),
        (in_commit("Subject", "Sub\0ject"), "nulInCommit"),
        (in_commit("author A", "author \0A"), "nulInHeader"),
        ((Kind::Commit, commit.split("\n\n").next().unwrap_or_default().to_owned()), "unterminatedHeader"),
        (in_tag("object ", "xobject "), "missingObject"),
        (in_tag("object 4", "object x"), "badObjectSha1"),
        (in_tag("type ", "xtype "), "missingTypeEntry"),
        (in_tag("type tree", "type trie"), "badType"),
        (in_tag("tag v1", "xtag v1"), "missingTagEntry"),
        (in_tag("<t@example.org>", "t@example.org"), "missingEmail"),
        (in_tag("v1", "v\x001"), "nulInHeader"),
    ];
    cases.into_iter().map(|((kind, content), id)| (kind, content, id)).collect()
}

#[test]
fn named_faults() {
    let oracle = Oracle::new();
    let parent = hash(Kind::Tree, b"").unwrap();
    for (kind, content, expected) in faulty(&parent) {
        let oid = hash(kind, content.as_bytes()).unwrap();
        let error = fsck::check(kind, &oid, content.as_bytes(), Policy::Push).expect_err(&content);
        assert_eq!((error.oid, error.fault.id()), (oid, expected), "{content:?}");
        assert_eq!(oracle.complaint(kind, content.as_bytes()).as_deref(), Some(expected), "git, {content:?}");
    }
}

#[test]
fn what_each_policy_takes() {
    let commit = COMMIT.replace("PARENT", "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    let zone = commit.replace("+0100", "+051800");
    let glued = commit.replace("org> 17", "org>17");
    let anonymous = commit.replace("A U Thor <author@example.org>", "");
    let nul = commit.replace("Body", "Bo\0dy");
    let tags = [TAG.replace("tagger T <t@example.org> 1700000000 +0100\n", ""), TAG.replace("tag v1", "tag v..1")];
    let verdict = |kind: Kind, content: &str, policy: Policy| {
        fsck::check(kind, &hash(kind, content.as_bytes()).unwrap(), content.as_bytes(), policy)
            .ok()
            .map(|checked| checked.flags)
    };
    for (content, write, push, import) in [
        (&commit, Some(Flags::NONE), Some(Flags::NONE), Some(Flags::NONE)),
        (&zone, None, Some(Flags::IDENT), Some(Flags::IDENT)),
        (&glued, None, Some(Flags::IDENT), Some(Flags::IDENT)),
        (&anonymous, None, None, Some(Flags::IDENT)),
        (&nul, None, None, Some(Flags::NUL_IN_MESSAGE)),
    ] {
        let found = [Policy::Write, Policy::Push, Policy::Import].map(|policy| verdict(Kind::Commit, content, policy));
        assert_eq!(found, [write, push, import], "{content:?}");
    }
    for tag in tags {
        assert_eq!(verdict(Kind::Tag, &tag, Policy::Push), Some(Flags::NONE), "but notices to git: {tag:?}");
    }
}
