use std::collections::BTreeSet;
use treehold_tests::git::{Git, Repo};

#[test]
fn the_sample_has_what_git_can_hold() {
    let directory = tempfile::tempdir().unwrap();
    let sample = Repo::sample(directory.path().join("sample"), 7);
    sample.fsck_strict();
    let files = sample.ls_tree("main");
    assert!(files.len() > 300, "{}", files.len());
    let modes: BTreeSet<&str> = files.iter().map(|file| file.mode.as_str()).collect();
    assert_eq!(modes, BTreeSet::from(["100644", "100755", "120000", "160000"]));
    assert!(files.iter().any(|file| !file.path.is_ascii()));
    assert!(files.iter().any(|file| file.path.iter().filter(|&&byte| byte == b'/').count() >= 5));
    let merges: usize = sample.git().run(["rev-list", "--count", "--merges", "main"]).parse().unwrap();
    let commits: usize = sample.git().run(["rev-list", "--count", "main"]).parse().unwrap();
    assert!(merges >= 5 && commits >= 40, "{merges} merges in {commits} commits");
    assert!(sample.git().run(["log", "--summary", "-M", "main"]).contains("rename"));
    assert!(sample.git().run(["status", "--porcelain"]).is_empty());

    let again = Repo::sample(directory.path().join("again"), 7);
    assert_eq!(again.refs(), sample.refs(), "the same seed makes the same repository");
    let other = Repo::sample(directory.path().join("other"), 8);
    assert_ne!(other.refs(), sample.refs());
}

#[test]
fn commits_are_made_and_cloned() {
    let directory = tempfile::tempdir().unwrap();
    let repo = Repo::init(directory.path().join("repo"));
    let first = repo.commit_file("a/b.txt", "one\n");
    let second = repo.commit_files(&[("a/b.txt", None), ("c", Some(b"two"))], "Move on");
    assert_eq!(repo.rev_parse("HEAD^"), first);
    assert_eq!(repo.cat_file("HEAD:c"), b"two");
    assert_eq!(repo.ls_tree("HEAD").len(), 1);
    let bare = repo.bare_clone(directory.path().join("bare.git"));
    assert_eq!(bare.refs(), repo.refs());
    assert_eq!(bare.rev_parse("main"), second);
    assert_eq!(bare.reachable().len(), 7, "two commits, two trees and a subtree, two blobs");
    bare.fsck_strict();
}

#[test]
#[should_panic(expected = "git fsck")]
fn fsck_strict_sees_a_bad_tree() {
    let directory = tempfile::tempdir().unwrap();
    let repo = Repo::init_bare(directory.path());
    repo.hash_object_literally("tree", b"40000 .git\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    repo.fsck_strict();
}

#[test]
fn nothing_of_the_machine_shows() {
    let directory = tempfile::tempdir().unwrap();
    Repo::init(directory.path());
    let scopes = Git::at(directory.path()).run(["config", "--list", "--show-scope"]);
    assert!(scopes.lines().all(|line| line.starts_with("command") || line.starts_with("local")), "{scopes}");
    assert!(!directory.path().join(".git/hooks").exists());
}
