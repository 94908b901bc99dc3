//! Every backend runs the conformance suite; what only one of them has is tested here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use treehold_store::conformance::{self, Gaps};
use treehold_store::{Bucket, DirectoryBucket, MemoryBucket, RetryPolicy, Retrying, S3Bucket, S3Options};
use treehold_tests::s3::S3Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    let buckets: Mutex<HashMap<&str, Arc<MemoryBucket>>> = Mutex::default();
    conformance::run(Gaps::default(), |name| buckets.lock().unwrap().entry(name).or_default().clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(Gaps::default(), |name| {
        // One process cleans the files under way of another only when it starts: give each its own.
        let temp_dir = tempfile::tempdir_in(dir.path()).unwrap().keep();
        Arc::new(DirectoryBucket::open(&dir.path().join(name), &temp_dir).unwrap())
    })
    .await;
}

pub fn s3_bucket(server: &S3Server, bucket: &str, prefix: &str) -> S3Bucket {
    server.create_bucket(bucket);
    let options = S3Options {
        bucket: bucket.into(),
        prefix: prefix.into(),
        endpoint: Some(server.url()),
        region: Some("us-east-1".into()),
        path_style: true,
    };
    S3Bucket::with_credentials(options, server.access_key(), server.secret_key())
}

/// Buckets do not retry, and a connection from the pool may just have been closed (by a `put` that was cut off).
fn patient(bucket: S3Bucket) -> Arc<dyn Bucket> {
    let policy = RetryPolicy { tries: 5, base: Duration::from_millis(1), cap: Duration::from_millis(20) };
    Arc::new(Retrying::new(Arc::new(bucket), policy))
}

const S3S_FS: Gaps = Gaps { directories_are_errors: true };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_conforms_with_a_prefix() {
    let server = S3Server::start().await;
    conformance::run(S3S_FS, |name| patient(s3_bucket(&server, "conformance", name))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_conforms_without_a_prefix() {
    let server = S3Server::start().await;
    conformance::run(S3S_FS, |name| patient(s3_bucket(&server, name, ""))).await;
}
