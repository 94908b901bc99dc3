use treehold_engine::remote::{Endpoint, FetchSpec, Pushed, Remote, RemoteError};
use treehold_tests::git::{Git, Repo};

use crate::read::index;
use crate::setup::{fetch, fetch_telling, noise, oid, push, push_spec, remote, timeouts, want};

fn operator(path: impl Into<String>) -> Endpoint {
    Endpoint { url: path.into(), credentials: None, operator: true }
}

#[tokio::test]
async fn an_operator_reads_and_pushes_a_repository_of_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Repo::sample(directory.path().join("origin with space"), 7);
    let bare = origin.bare_clone(directory.path().join("bare.git"));
    let here = remote(&[], &directory.path().join("spool"), timeouts());
    let head = origin.rev_parse("main");
    let path = bare.path().to_str().unwrap().to_owned();
    for url in [path.clone(), format!("file://{path}"), origin.path().to_str().unwrap().to_owned()] {
        let refs = here.refs(&operator(url.clone()), &["refs/".into()]).await.unwrap();
        assert_eq!(refs.head.as_deref(), Some("refs/heads/main"), "{url}");
        assert!(refs.refs.contains(&("refs/heads/main".into(), oid(&head))), "{url}");
    }

    let repo = Repo::init_bare(directory.path().join("fresh"));
    let fetched = fetch(&here, &operator(path.clone()), &want(&head)).await.unwrap();
    index(&repo, &fetched);
    repo.git().run(["update-ref", "refs/heads/main", &head]);
    repo.fsck_strict();
    let shallow = fetch(&here, &operator(path.clone()), &FetchSpec { depth: Some(1), ..want(&head) }).await.unwrap();
    assert_eq!(shallow.shallow, [oid(&head)]);
    // What is asked for by name comes without what it refers to, where the repository's settings allow it.
    bare.git().run(["config", "uploadpack.allowFilter", "true"]);
    let other = remote(&[], &directory.path().join("spool"), timeouts());
    let tree = origin.rev_parse("main^{tree}");
    let alone = fetch(&other, &operator(path.clone()), &FetchSpec { alone: true, ..want(&tree) }).await.unwrap();
    let pack = std::fs::read(alone.pack.path()).unwrap();
    assert_eq!(pack[8..12], 1u32.to_be_bytes(), "one object");

    let new = origin.commit_file("more", "more");
    let revisions = format!("{new}\n^{head}\n");
    let spec = push_spec(&origin, directory.path(), "refs/heads/main", Some(&head), &new, &revisions);
    assert_eq!(push(&here, &operator(path.clone()), &spec).await, Pushed::Landed);
    assert_eq!(bare.rev_parse("main"), new);
    bare.fsck_strict();
    let again = push(&here, &operator(path), &spec).await;
    assert!(matches!(again, Pushed::Stale(_)), "{again:?}");
}

#[tokio::test]
async fn what_is_no_repository_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let here = remote(&["https://github.com/"], &directory.path().join("spool"), timeouts());
    for url in
        ["/no/such/place", "ext::sh -c id", "ssh://host/x", "-x", "", "git@host:x", "file://host/etc", "https://u@h/"]
    {
        let error = here.refs(&operator(url), &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::NotAllowed(_)), "{url}: {error:?}");
    }
    let plain = directory.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let error = here.refs(&operator(plain.to_str().unwrap()), &[]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("not appear to be a git")), "{error:?}");

    let sha256 = directory.path().join("sha256");
    Git::at(directory.path()).run(["init", "-q", "--object-format=sha256", "sha256"]);
    let error = here.refs(&operator(sha256.to_str().unwrap()), &[]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Invalid(text) if text.contains("SHA-1")), "{error:?}");
    let empty = Repo::init(directory.path().join("empty"));
    empty.git().run(["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    let refs = here.refs(&operator(empty.path().to_str().unwrap()), &[]).await.unwrap();
    assert_eq!((refs.head.as_deref(), refs.refs.len()), (Some("refs/heads/trunk"), 0));

    // Paths are for operators alone.
    let bare = Repo::init_bare(directory.path().join("bare.git"));
    let path = bare.path().to_str().unwrap();
    for url in [path.to_owned(), format!("file://{path}")] {
        let error = here.refs(&Endpoint { operator: false, ..operator(url) }, &[]).await.unwrap_err();
        assert!(matches!(error, RemoteError::NotAllowed(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_limit_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Repo::sample(directory.path().join("origin"), 7);
    let spool = directory.path().join("spool");
    let here = remote(&[], &spool, timeouts());
    let at = operator(origin.path().to_str().unwrap());
    let spec = FetchSpec { pack_bytes_max: 1000, ..want(&origin.rev_parse("main")) };
    let error = fetch(&here, &at, &spec).await.unwrap_err();
    assert!(matches!(error, RemoteError::Invalid(_)), "{error:?}");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
}

/// Processes that have `directory` in their command line.
fn processes(directory: &str) -> usize {
    let of_process = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.ok()?.path().join("cmdline")).ok();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(of_process);
    lines.filter(|line| String::from_utf8_lossy(line).contains(directory)).count()
}

/// Goal: a request that is given up leaves no process and no file.
/// Method: drop a fetch when its first bytes have come, from a repository that no pipe can hold.
#[tokio::test]
async fn a_dropped_fetch_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Repo::init(directory.path().join("origin"));
    let head = origin.commit_file("noise", noise(20_000_000));
    let spool = directory.path().join("spool");
    let here = remote(&[], &spool, timeouts());
    let (at, spec) = (operator(origin.path().to_str().unwrap()), want(&head));
    let first = tokio::sync::Notify::new();
    tokio::select! {
        biased;
        () = first.notified() => {}
        done = fetch_telling(&here, &at, &spec, |_| first.notify_one()) => panic!("not dropped: {done:?}"),
    }
    let directory = directory.path().to_str().unwrap();
    for _ in 0..500 {
        if processes(directory) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(processes(directory), 0);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
}
