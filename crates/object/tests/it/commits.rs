//! Commits: written as git writes them, read as git reads them.

use crate::oracle::{Oracle, joined, random};
use proptest::prelude::*;
use rand::Rng;
use treehold_object::commit::{CommitError, CommitSpec, parse_commit};
use treehold_object::ident::{TIME_S_MAX, parse_date};
use treehold_object::{BString, Kind, ObjectId, Policy, Signature, fsck, hash, parse_tag};
use treehold_tests::git::{Git, Repo};

fn empty_tree() -> ObjectId {
    hash(Kind::Tree, b"").unwrap()
}

fn someone(time_s: i64, offset_minutes: i32) -> Signature {
    Signature::new("A U Thor", "author@example.org", time_s, offset_minutes).unwrap()
}

fn spec(message: &str) -> CommitSpec {
    let parents = Vec::new();
    CommitSpec {
        tree: empty_tree(),
        parents,
        author: someone(1, 0),
        committer: someone(2, -90),
        message: message.into(),
    }
}

#[test]
fn git_commit_tree_writes_the_same_bytes() {
    let mut random = random();
    let oracle = Oracle::new();
    let parent = oracle.put(Kind::Commit, &spec("root").encode().unwrap()).to_string();
    let names: [&[u8]; 9] = [b"A", b" ", b",", b";", b"\"", b"'", "é".as_bytes(), b".", b"\\"];
    let messages: [&[u8]; 6] = [b"Subject", b"\n", b"\n\nBody\n", b"  spaces  ", "日本語".as_bytes(), b"# no comment"];
    let mut compared = 0;
    for _ in 0..60 {
        let [name, email, committer] = [(); 3].map(|()| String::from_utf8(joined(&mut random, &names, 6)).unwrap());
        let message = String::from_utf8(joined(&mut random, &messages, 4)).unwrap();
        let (time_s, offset_minutes) =
            (random.random_range(100_000_000..=TIME_S_MAX / 4), random.random_range(-720..840));
        let email = format!("{email}@b");
        let author = Signature::new(&name, &email, time_s, offset_minutes);
        let committer_ident = Signature::new(&committer, &email, time_s + 1, -offset_minutes);
        let parents = if random.random() { vec![parent.clone()] } else { vec![] };

        let zone = |minutes: i32| {
            let sign = if minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}{:02}", minutes.abs() / 60, minutes.abs() % 60)
        };
        let git = git_as(oracle.git(), "AUTHOR", &name, &email, &format!("@{time_s} {}", zone(offset_minutes)));
        let git = git_as(&git, "COMMITTER", &committer, &email, &format!("@{} {}", time_s + 1, zone(-offset_minutes)));
        let mut arguments = vec!["commit-tree".to_owned(), empty_tree().to_string()];
        arguments.extend(parents.iter().flat_map(|parent| ["-p".to_owned(), parent.clone()]));
        let trimmed = format!("{}\n", message.trim_end_matches('\n'));
        let written = git.output_of(&arguments, trimmed.as_bytes());
        let (Ok(author), Ok(committer)) = (author, committer_ident) else {
            assert!(!written.status.success(), "git takes {name:?} and {committer:?}, we do not");
            continue;
        };
        assert!(written.status.success(), "{name:?}: {}", String::from_utf8_lossy(&written.stderr));
        let parents = parents.iter().map(|parent| ObjectId::from_hex(parent.as_bytes()).unwrap()).collect();
        let spec = CommitSpec { tree: empty_tree(), parents, author, committer, message: message.clone().into() };
        let ours = spec.encode().unwrap();
        let oid = String::from_utf8(written.stdout).unwrap();
        let theirs = oracle.git().bytes(["cat-file", "commit", oid.trim()]);
        // A message of nothing but line feeds is one line feed to `git commit-tree` and nothing to us.
        if !message.trim_end_matches('\n').is_empty() {
            assert_eq!(BString::from(ours), BString::from(theirs));
            compared += 1;
        }
    }
    assert!(compared > 3, "{compared} commits were compared");
}

fn git_as(git: &Git, role: &str, name: &str, email: &str, date: &str) -> Git {
    let git = git.clone().env(format!("GIT_{role}_NAME"), name).env(format!("GIT_{role}_EMAIL"), email);
    git.env(format!("GIT_{role}_DATE"), date)
}

#[test]
fn git_commit_writes_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let repo = Repo::init(directory.path());
    repo.git().run(["commit", "-q", "--allow-empty", "-m", "Subject\n\nBody"]);
    let commit = parse_commit(&repo.cat_file("HEAD")).unwrap();
    let again = CommitSpec {
        tree: commit.tree,
        parents: commit.parents,
        author: commit.author,
        committer: commit.committer,
        message: "Subject\n\nBody".into(),
    };
    assert_eq!(again.encode().unwrap(), repo.cat_file("HEAD"));
}

#[test]
fn what_is_refused() {
    assert_eq!(spec("a\0b").encode(), Err(CommitError::MessageNul));
    let not_utf8 = CommitSpec { message: b"\xff".into(), ..spec("") };
    assert_eq!(not_utf8.encode(), Err(CommitError::MessageNotUtf8));
    let mut injected = spec("m");
    injected.author.name = "A\nparent 0000000000000000000000000000000000000000".into();
    assert!(matches!(injected.encode(), Err(CommitError::Ident(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No name, address or message can make another header: what is written reads back as the same fields, and
    /// `fsck` finds nothing.
    #[test]
    fn fields_survive(
        name in "\\PC{1,20}", email in "\\PC{1,20}", message in "(\\PC|\n){0,60}",
        time_s in 0..=TIME_S_MAX, offset_minutes in -1439..1440i32, parents in prop::collection::vec(any::<[u8; 20]>(), 0..4),
    ) {
        let Ok(author) = Signature::new(&name, &email, time_s, offset_minutes) else { return Ok(()) };
        let parents: Vec<ObjectId> = parents.iter().map(|bytes| ObjectId::from_bytes_or_panic(bytes)).collect();
        let spec = CommitSpec { parents, author: author.clone(), committer: author, ..spec(&message) };
        let content = spec.encode().unwrap();
        let commit = parse_commit(&content).unwrap();
        prop_assert_eq!((&commit.tree, &commit.parents), (&spec.tree, &spec.parents));
        prop_assert_eq!((&commit.author, &commit.committer), (&spec.author, &spec.committer));
        prop_assert!(commit.extra.is_empty());
        let trimmed = message.trim_end_matches('\n');
        let expected = if trimmed.is_empty() { String::new() } else { format!("{trimmed}\n") };
        prop_assert_eq!(commit.message, expected);
        let oid = hash(Kind::Commit, &content).unwrap();
        prop_assert!(fsck::check(Kind::Commit, &oid, &content, Policy::Write).is_ok());
    }

    /// Any bytes are read or refused, without a panic.
    #[test]
    fn any_bytes_are_no_harm(content in prop::collection::vec(any::<u8>(), 0..200), head in prop::sample::select(vec![
        "", "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n", "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor ",
        "object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntype tree\ntag x\ntagger ",
    ])) {
        let content = [head.as_bytes(), &content].concat();
        for kind in [Kind::Commit, Kind::Tag, Kind::Tree] {
            for policy in [Policy::Write, Policy::Push, Policy::Import] {
                let _ = fsck::check(kind, &empty_tree(), &content, policy);
            }
        }
        let _ = (parse_commit(&content), parse_tag(&content), treehold_object::parse_tree(&content));
        let _ = parse_date(&String::from_utf8_lossy(&content));
    }
}

#[test]
fn history_reads_as_git_log_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let repo = Repo::sample(directory.path(), 3);
    let log = repo.git().run(["log", "-z", "--all", "--format=%H%n%T%n%P%n%an%n%ae%n%at%n%cn%n%ce%n%ct%n%B"]);
    let mut count = 0;
    for shown in log.split('\0').filter(|shown| !shown.is_empty()) {
        let fields: Vec<&str> = shown.splitn(10, '\n').collect();
        let content = repo.cat_file(fields[0]);
        let commit = parse_commit(&content).unwrap();
        let parents: Vec<String> = commit.parents.iter().map(ToString::to_string).collect();
        let person = |who: &Signature| format!("{}\n{}\n{}", who.name, who.email, who.time_s);
        let message = commit.message.to_string();
        let ours =
            [commit.tree.to_string(), parents.join(" "), person(&commit.author), person(&commit.committer)].join("\n");
        assert_eq!(ours, fields[1..9].join("\n"));
        assert_eq!(message.trim_end(), fields[9].trim_end());
        assert_eq!((commit.author.offset_minutes, commit.committer.offset_minutes), (330, -480));
        count += 1;
    }
    assert!(count > 40, "{count}");

    let tag = parse_tag(&repo.cat_file("refs/tags/v1.0")).unwrap();
    assert_eq!((tag.target.to_string(), tag.kind), (repo.rev_parse("refs/tags/v1.0^{}"), Kind::Commit));
    assert_eq!((tag.name, tag.message), ("v1.0".into(), "Version 1.0\n".into()));
    assert_eq!(tag.tagger.unwrap().offset_minutes, 60);
}

#[test]
fn headers_that_we_do_not_write_are_kept() {
    let content = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\
        encoding latin1\ngpgsig -----BEGIN-----\n line\n \n -----END-----\nflag\n\nm\xe9ssage";
    let commit = parse_commit(content).unwrap();
    let extra = [("encoding", "latin1"), ("gpgsig", "-----BEGIN-----\nline\n\n-----END-----"), ("flag", "")];
    assert_eq!(commit.extra, extra.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(commit.message, &b"m\xe9ssage"[..]);
}
