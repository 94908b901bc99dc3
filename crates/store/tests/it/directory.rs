//! What only a directory has: a disk that fills and fails, left-overs, kill -9.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use treehold_store::{Bucket, DirectoryBucket, Payload, Put, StoreError, keeps_first_value, open_bucket};

/// Names the directory in which a process started by [`again`] works.
const CHILD: &str = "TREEHOLD_TEST_CHILD_DIR";

fn open(dir: &Path) -> DirectoryBucket {
    DirectoryBucket::open(&dir.join("store"), &dir.join("temp")).unwrap()
}

/// This test once more, in a process of its own that finds [`CHILD`] set.
fn again(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// What a put of `number` writes.
fn value(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(50_000)
}

/// Goal: a killed writer leaves whole values and none, and what it answered is there.
/// Method: a child puts values and prints each answer; it is killed at some point, ten times.
#[tokio::test]
async fn kill_9_leaves_whole_values() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let bucket = open(Path::new(&dir));
        let start = bucket.list("", None, usize::MAX - 1).await.unwrap().entries.len();
        for number in u32::try_from(start).unwrap().. {
            bucket.put(&format!("objects/{number:06}"), Payload::Bytes(value(number).into())).await.unwrap();
            println!("put {number}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut answered = 0;
    for round in 0..10 {
        let mut child = again("directory::kill_9_leaves_whole_values", dir.path()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut puts = lines.filter_map(|line| line.split("put ").nth(1).and_then(|number| number.parse::<u32>().ok()));
        for _ in 0..=round {
            answered = puts.next().expect("the child puts values");
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        answered = puts.last().unwrap_or(answered);
        let bucket = open(dir.path());
        assert_eq!(entries(&dir.path().join("temp")), 0, "left-overs are removed");
        let listed = bucket.list("", None, 100_000).await.unwrap().entries;
        assert!(listed.len() > answered as usize, "{answered} was answered, {} are there", listed.len());
        for (number, (key, _)) in listed.iter().enumerate() {
            let there = bucket.get(key, None).await.unwrap().unwrap();
            assert!(there == value(u32::try_from(number).unwrap()), "{key} is not whole");
        }
    }
}

/// Goal: no answer after a failed fsync.
/// Method: the payload is a pipe, which cannot be synced; the process that puts it must die.
#[tokio::test]
async fn a_failed_fsync_ends_the_process() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let (pipe, _writer) = std::io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        let bucket = open(Path::new(&dir));
        // Were it to go on, it would read from the pipe for ever.
        let put = bucket.put("objects/x", Payload::File(path.into()));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(10), put).await;
        println!("answered {answer:?}");
        std::process::exit(0);
    }
    let dir = tempfile::tempdir().unwrap();
    let output = again("directory::a_failed_fsync_ends_the_process", dir.path()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(6), "{stdout}");
    assert!(!stdout.contains("answered"), "{stdout}");
    assert_eq!(open(dir.path()).head("objects/x").await.unwrap(), None);
}

#[tokio::test]
async fn files_are_read_only_and_large_ones_are_linked() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = open(dir.path());
    let file = dir.path().join("pack");
    std::fs::write(&file, "content").unwrap();
    bucket.put("objects/linked", Payload::File(file.clone())).await.unwrap();
    bucket.put("objects/written", Payload::Bytes("content".into())).await.unwrap();
    let metadata = |path: &Path| std::fs::metadata(path).unwrap();
    assert_eq!(metadata(&dir.path().join("store/objects/linked")).ino(), metadata(&file).ino());
    for key in ["linked", "written"] {
        let mode = metadata(&dir.path().join("store/objects").join(key)).permissions().mode();
        assert_eq!(mode & 0o777, 0o400, "{key}");
    }
    std::fs::remove_file(file).unwrap();
    assert_eq!(bucket.get("objects/linked", None).await.unwrap().as_deref(), Some(&b"content"[..]));
}

#[tokio::test]
async fn a_file_of_another_file_system_is_copied() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let file = other.path().join("pack");
    std::fs::write(&file, "content").unwrap();
    assert_ne!(std::fs::metadata(&file).unwrap().dev(), std::fs::metadata(dir.path()).unwrap().dev());
    assert_eq!(open(dir.path()).put("objects/x", Payload::File(file)).await.unwrap(), Put::Created);
    assert_eq!(open(dir.path()).get("objects/x", None).await.unwrap().as_deref(), Some(&b"content"[..]));
    assert_eq!(entries(&dir.path().join("temp")), 0);

    let refused = DirectoryBucket::open(&dir.path().join("store"), other.path()).unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(matches!(refused, StoreError::Refused { .. }) && source.contains("another file system"), "{source}");
}

#[tokio::test]
async fn places_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    for (root, temp_dir) in [
        (&store, &store.join("temp")),
        (&store, &store),
        (&"/proc/no-such-place".into(), &dir.path().join("temp")),
        (&"/dev/null/store".into(), &dir.path().join("temp")),
    ] {
        let answer = DirectoryBucket::open(root, temp_dir);
        assert!(matches!(answer, Err(StoreError::Refused { action: "open", .. })), "{root:?} {temp_dir:?}");
    }
}

#[tokio::test]
async fn what_an_operator_does_meanwhile_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = open(dir.path());
    bucket.put("objects/ab/one", Payload::Bytes("1".into())).await.unwrap();
    bucket.delete("objects/ab/one").await.unwrap();
    // git's own housekeeping removes empty directories.
    std::fs::remove_dir(dir.path().join("store/objects/ab")).unwrap();
    let first = bucket.put("objects/ab/two", Payload::Bytes("2".into())).await;
    assert!(matches!(first, Err(StoreError::Unavailable { .. })), "{first:?}");
    assert_eq!(bucket.put("objects/ab/two", Payload::Bytes("2".into())).await.unwrap(), Put::Created);
    // Foreign files are no keys; neither are links, nor what stands where a directory should be.
    std::fs::write(dir.path().join("store/objects/a b"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("store/objects/link")).unwrap();
    std::fs::write(dir.path().join("store/objects/cd"), "x").unwrap();
    let listed = bucket.list("", None, 10).await.unwrap().entries;
    assert_eq!(listed, [("objects/ab/two".to_owned(), 1), ("objects/cd".to_owned(), 1)]);
    let refused = bucket.put("objects/cd/x", Payload::Bytes("x".into())).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    let gone = bucket.put("objects/x", Payload::File(dir.path().join("no-such-file"))).await;
    assert!(gone.is_err());
    assert_eq!(bucket.head("objects/x").await.unwrap(), None);
}

#[tokio::test]
async fn urls_open_directories_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/some%20store", dir.path().display());
    let bucket = open_bucket(&url, &dir.path().join("temp")).await.unwrap();
    assert_eq!(bucket.name(), "directory");
    assert!(keeps_first_value(&*bucket).await.unwrap() && keeps_first_value(&*bucket).await.unwrap());
    assert!(dir.path().join("some store/objects/info").is_dir());
    let memory = open_bucket("memory:", dir.path()).await.unwrap();
    assert_eq!(memory.name(), "memory");
    assert!(keeps_first_value(&*memory).await.unwrap());
    assert!(open_bucket("file:///proc/x", dir.path()).await.is_err());
}
