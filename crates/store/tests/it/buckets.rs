//! Every backend runs the conformance suite; what only one of them has is tested here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
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

/// Another client of the same server, which overwrites what it likes.
pub fn plain_client(server: &S3Server) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(server.url())
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(server.access_key(), server.secret_key(), None, None, "tests"))
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

#[tokio::test]
async fn memory_keeps_versions_where_it_is_told_to() {
    let bucket = Arc::new(MemoryBucket::with_versions());
    let replace = async |key: &str, value: Bytes| bucket.damage(key, value);
    conformance::run_versions(bucket.clone(), replace).await;
    assert!(!MemoryBucket::new().keeps_versions().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_versions() {
    let server = S3Server::start().await;
    let client = plain_client(&server);
    for prefix in ["", "p"] {
        let name = format!("versions-{}", prefix.len());
        let bucket = s3_bucket(&server, &name, prefix);
        assert!(!bucket.keeps_versions().await.unwrap(), "not yet");
        server.keep_versions(&name);
        let replace = async |key: &str, value: Bytes| {
            let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") };
            client.put_object().bucket(&name).key(key).body(value.into()).send().await.unwrap();
        };
        conformance::run_versions(patient(bucket), replace).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_versions_are_put_together() {
    let server = S3Server::start().await;
    let bucket = s3_bucket(&server, "pages", "");
    server.keep_versions("pages");
    let client = plain_client(&server);
    // Each deletion leaves a marker, which fills a page as a value does.
    for number in 0..600 {
        client.put_object().bucket("pages").key("objects/x").body(vec![0u8; number].into()).send().await.unwrap();
        client.delete_object().bucket("pages").key("objects/x").send().await.unwrap();
    }
    let sizes: Vec<u64> =
        bucket.versions("objects/x", 1000).await.unwrap().iter().map(|version| version.size).collect();
    assert_eq!(sizes, (0..600).rev().collect::<Vec<u64>>());
    assert_eq!(server.requests()["list_object_versions"], 2);
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
