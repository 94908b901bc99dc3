//! What must be true when everybody has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use treehold_tests::git::Repo;

use super::book::{Book, Commit, Fate};
use super::text::marks;

/// Text files of a commit: path and content.
pub fn texts(repo: &Repo, revision: &str) -> BTreeMap<String, String> {
    let lines = repo.ls_tree(revision);
    let contents = repo.git().bytes_with(
        ["cat-file", "--batch"],
        lines.iter().map(|line| format!("{}\n", line.oid)).collect::<String>().as_bytes(),
    );
    let mut rest = contents.as_slice();
    let mut found = BTreeMap::new();
    for line in lines {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("a header");
        let header = std::str::from_utf8(&rest[..end]).expect("ASCII");
        let size: usize = header.rsplit(' ').next().and_then(|size| size.parse().ok()).expect("a size");
        let text = String::from_utf8(rest[end + 1..end + 1 + size].to_vec()).expect("UTF-8");
        rest = &rest[end + size + 2..];
        found.insert(String::from_utf8(line.path).expect("UTF-8"), text);
    }
    found
}

/// All edits in a commit; each file is as its rules say.
pub fn edits_in(repo: &Repo, revision: &str) -> BTreeSet<String> {
    texts(repo, revision).values().flat_map(|text| marks(text)).collect()
}

/// Each commit holds what was answered before it was asked for, brings only what its user sent, takes away nothing but what was
/// withdrawn, and changes the files that its answer names.
pub fn commits(repo: &Repo, book: &Book) {
    let edits = book.edits();
    let all = book.all_commits();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for commit in &all {
        for revision in [&commit.oid, &commit.parent] {
            known.entry(revision.clone()).or_insert_with(|| edits_in(repo, revision));
        }
        let (has, had) = (&known[&commit.oid], &known[&commit.parent]);
        for (mark, edit) in &edits {
            assert!(!edit.is_due_in(commit) || has.contains(mark), "{mark} is not in {commit:?}");
        }
        for mark in has.difference(had) {
            assert!(edits[mark].may_come_with(commit), "{mark} came with {commit:?}");
        }
        for mark in had.difference(has) {
            let withdrawn = edits[mark].fate == Fate::Withdrawn && edits[mark].user == commit.user;
            assert!(withdrawn, "{mark} went with {commit:?}\n{}", around(repo, commit, mark));
        }
        assert_eq!(changed(repo, commit), commit.files, "{commit:?}");
    }
}

/// What a commit and its parent have where the edit was.
fn around(repo: &Repo, commit: &Commit, mark: &str) -> String {
    let (before, after) = (texts(repo, &commit.parent), texts(repo, &commit.oid));
    let there = before.iter().filter(|(_, text)| marks(text).contains(mark));
    there
        .map(|(path, text)| format!("{path} before:\n{text}\nafter:\n{}\n", after.get(path).map_or("", |text| text)))
        .collect()
}

/// What stock git says that a commit changed.
fn changed(repo: &Repo, commit: &Commit) -> BTreeMap<String, Option<String>> {
    let raw = repo.git().run(["diff-tree", "-r", "--no-renames", &commit.parent, &commit.oid]);
    let line = |line: &str| {
        let (fields, path) = line.split_once('\t').expect("a tab");
        let oid = fields.split(' ').nth(3).expect("four fields");
        (path.to_owned(), Some(oid.to_owned()).filter(|oid| !oid.bytes().all(|byte| byte == b'0')))
    };
    raw.lines().map(line).collect()
}
