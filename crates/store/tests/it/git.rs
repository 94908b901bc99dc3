//! The bucket is a git object database: copied into a repository, stock git reads and checks it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use treehold_object::Kind;
use treehold_store::{Bucket, DirectoryBucket, MemoryBucket, Object, ObjectStore};
use treehold_tests::s3::S3Server;

use crate::buckets::s3_bucket;
use crate::sample::{blobs, copy_out, history, object, options, put_pack, seeded};

/// Runs git without anybody's configuration; answers its standard output.
pub fn git(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = feed.join();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("error") && !stderr.contains("warning"), "{args:?}: {stderr}");
    output.stdout
}

/// Stores a history as loose objects, a small and a spooled pack; answers all objects and the commit.
async fn fill(store: &ObjectStore) -> (Vec<Object>, Object) {
    let mut rng = seeded();
    let mut objects = blobs(&mut rng, 400);
    let noise = |seed: u32| (0..500_000u32).map(|at| (at.wrapping_mul(seed) >> 13) as u8).collect::<Vec<u8>>();
    objects.extend([2_654_435_761, 2_246_822_519, 3_266_489_917].map(|seed| object(Kind::Blob, noise(seed))));
    let loose = history(&objects);
    let (small, large) = objects.split_at(100);
    put_pack(store, small, 1).await;
    // The same objects in two packs, as after a repack.
    put_pack(store, &[&small[..20], large].concat(), 2).await;
    store.put_loose_many(loose.clone()).await.unwrap();
    let commit = loose[1].clone();
    (objects.into_iter().chain(loose).collect(), commit)
}

async fn is_a_git_object_database(bucket: Arc<dyn Bucket>) {
    let (_dir, options) = options();
    let (objects, commit) = fill(&ObjectStore::new(Arc::clone(&bucket), options)).await;
    let repository = tempfile::tempdir().unwrap();
    git(repository.path(), &["init", "--bare", "--quiet", "."], b"");
    copy_out(&bucket, repository.path()).await;
    git(repository.path(), &["update-ref", "refs/heads/main", &commit.oid.to_string()], b"");
    git(repository.path(), &["fsck", "--strict", "--full", "--no-dangling"], b"");

    let names: String = objects.iter().map(|object| format!("{}\n", object.oid)).collect();
    let mut expected = Vec::new();
    for Object { oid, kind, content } in &objects {
        expected.extend_from_slice(format!("{oid} {kind} {}\n", content.len()).as_bytes());
        expected.extend_from_slice(content);
        expected.push(b'\n');
    }
    assert!(git(repository.path(), &["cat-file", "--batch"], names.as_bytes()) == expected);
    // The indexes, too: git's own rev-list finds everything, and git would write the same index.
    let reached = git(repository.path(), &["rev-list", "--objects", "refs/heads/main"], b"");
    assert_eq!(reached.split(|byte| *byte == b'\n').count() - 1, objects.len() - 1);
    let packs = std::fs::read_dir(repository.path().join("objects/pack")).unwrap();
    let packs: Vec<_> =
        packs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == "pack").collect();
    assert_eq!(packs.len(), 2);
    for pack in packs {
        let idx = repository.path().join("again.idx");
        git(repository.path(), &["index-pack", "--strict", "-o", idx.to_str().unwrap(), pack.to_str().unwrap()], b"");
        assert!(std::fs::read(pack.with_extension("idx")).unwrap() == std::fs::read(&idx).unwrap());
        std::fs::remove_file(idx).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_reads_a_copy_of_memory() {
    is_a_git_object_database(Arc::new(MemoryBucket::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_reads_a_copy_of_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = DirectoryBucket::open(&dir.path().join("store"), &dir.path().join("under-way")).unwrap();
    is_a_git_object_database(Arc::new(bucket)).await;
    let names: Vec<_> =
        std::fs::read_dir(dir.path().join("store")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["objects"], "the store holds exactly one directory");
    assert_eq!(std::fs::read_dir(dir.path().join("under-way")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_reads_a_copy_of_s3() {
    let server = S3Server::start().await;
    is_a_git_object_database(Arc::new(s3_bucket(&server, "git", "some/prefix"))).await;
}
