//! Values in S3, or in anything that speaks its protocol.
//!
//! The SDK's own retries are off: [`crate::Retrying`] repeats, and knows which calls. Writes are conditional
//! (`If-None-Match: *`) where the server can, which guards against a mistake; correctness never rests on it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectVersion};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::Bytes;

use crate::bucket::{Bucket, ListPage, Payload, Put, Version};
use crate::error::StoreError;
use crate::key;
use crate::payload::clip;
use crate::s3_errors::{Answer, NAME, classify, failure, io_failure, no_versions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one whole call: 64 MiB at 2 Mbit/s. Transfers that stand still end much earlier (stalled stream protection).
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// Servers answer at most as many keys at once.
const LIST_MAX: usize = 1000;
/// Pages of versions of one key that are read: delete markers fill them, too.
const VERSION_PAGES: usize = 10;
/// How much is compared at once where a key turns out to be in use, bytes.
const COMPARE_PIECE: u64 = 8 << 20;

/// Where ranges end that have no end.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// Which bucket, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// Keys start with this and a slash, unless it is empty. No slash at either end.
    pub prefix: String,
    /// `http://…` or `https://…` of a server that is not AWS.
    pub endpoint: Option<String>,
    /// Default: what the environment says, else `us-east-1`.
    pub region: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
}

/// A bucket in S3.
#[derive(Debug, Clone)]
pub struct S3Bucket {
    client: Client,
    bucket: String,
    /// With its slash, or empty.
    prefix: String,
    /// Cleared once by a server that does not implement conditional writes.
    conditional: std::sync::Arc<AtomicBool>,
}

/// Whether a bucket keeps what its keys had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// It does.
    Enabled,
    /// It did once.
    Suspended,
    /// It never did.
    Off,
}

/// Plain connections need neither certificates nor the time to read them.
fn http_client(endpoint: Option<&String>) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder.build_http()
    } else {
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    }
}

impl S3Bucket {
    /// With credentials from the standard chain. Asks nothing of the server.
    pub async fn connect(options: S3Options) -> Self {
        // The chain may ask an https:// service of AWS, whatever the endpoint is.
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(None));
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let config = loader.load().await;
        let region = config.region().cloned();
        Self::build(options, region, aws_sdk_s3::config::Builder::from(&config))
    }

    /// With the given credentials, for tests and tools.
    pub fn with_credentials(options: S3Options, access_key: &str, secret_key: &str) -> Self {
        let credentials = Credentials::new(access_key, secret_key, None, None, "given");
        let config = aws_sdk_s3::config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        Self::build(options, None, config)
    }

    fn build(options: S3Options, region: Option<Region>, config: aws_sdk_s3::config::Builder) -> Self {
        let S3Options { bucket, prefix, endpoint, region: chosen, path_style } = options;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(CALL_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let region = chosen.map(Region::new).or(region).unwrap_or_else(|| Region::new("us-east-1"));
        let mut config = config
            .http_client(http_client(endpoint.as_ref()))
            .region(region)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .force_path_style(path_style)
            // Checksums of the new kind confuse older servers; every object is verified by its id anyway.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
        let conditional = std::sync::Arc::new(AtomicBool::new(true));
        Self { client: Client::from_conf(config.build()), bucket, prefix, conditional }
    }

    /// Whether the bucket keeps versions, if the server and the credentials let that be asked (`s3:GetBucketVersioning`).
    pub async fn versioning(&self) -> Result<Versioning, StoreError> {
        let answer = self.client.get_bucket_versioning().bucket(&self.bucket).send().await;
        Ok(match answer.map_err(|err| failure("ask for the versioning of", err))?.status {
            Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
            Some(_) => Versioning::Suspended,
            None => Versioning::Off,
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// One GET of the value, or of one of its versions. `range` is not empty.
    async fn fetch(
        &self,
        key: &str,
        version: Option<&str>,
        range: Option<Range<u64>>,
    ) -> Result<Option<Bytes>, StoreError> {
        // HTTP's ranges include their last byte. Servers count in 63 bits; no value has as many bytes.
        let header = range.as_ref().map(|range| match (range.start.min(MAX_OFFSET), range.end) {
            (start, MAX_OFFSET..) => format!("bytes={start}-"),
            (start, end) => format!("bytes={start}-{}", end - 1),
        });
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key));
        match request.set_version_id(version.map(str::to_owned)).set_range(header).send().await {
            Ok(output) => body(output, range.as_ref()).await.map(Some),
            Err(err) => match classify(&err) {
                Answer::Absent => Ok(None),
                Answer::PastEnd if range.is_some() => Ok(Some(Bytes::new())),
                _ => Err(failure("get", err)),
            },
        }
    }

    /// One PUT. `Err` carries what the answer means.
    async fn put_once(&self, key: &str, payload: &Payload, conditional: bool) -> Result<(), (Answer, StoreError)> {
        let final_error = |err: StoreError| (Answer::Final, err);
        let mut request = self.client.put_object().bucket(&self.bucket).key(self.key(key));
        request = match payload {
            Payload::Bytes(bytes) => request.body(ByteStream::from(bytes.clone())),
            Payload::File(path) => {
                // Bytes in memory are covered by the signature, a streamed file is not: send its checksum along.
                let sha256 = file_sha256(path.clone()).await.map_err(final_error)?;
                let body = ByteStream::from_path(path).await;
                let body = body.map_err(|err| final_error(io_failure("put", err)))?;
                request.body(body).checksum_sha256(aws_smithy_types::base64::encode(sha256))
            }
        };
        request = request.set_if_none_match(conditional.then(|| "*".to_owned()));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(err) => Err((classify(&err), failure("put", err))),
        }
    }

    /// What a `put` to a key in use answers: this server's word for "in use" may be the echo of our own first try.
    async fn occupied(&self, key: &str, payload: &Payload) -> Result<Put, StoreError> {
        let vanished = || StoreError::Unavailable {
            action: "put",
            store: NAME,
            source: format!("{key} was in use and is gone").into(),
        };
        let size = self.head(key).await?.ok_or_else(vanished)?;
        let expected = payload.size().map_err(|err| io_failure("put", err))?;
        let mut start = 0;
        let mut same = size == expected;
        while same && start < size {
            let range = start..size.min(start.saturating_add(COMPARE_PIECE));
            let there = self.get(key, Some(range.clone())).await?.ok_or_else(vanished)?;
            same = there == piece(payload.clone(), range.clone()).await?;
            start = range.end;
        }
        if same { Ok(Put::AlreadyThere) } else { Err(StoreError::Occupied { key: key.to_owned() }) }
    }
}

/// The bytes `range` of a payload.
async fn piece(payload: Payload, range: Range<u64>) -> Result<Bytes, StoreError> {
    let path = match payload {
        Payload::Bytes(bytes) => return Ok(clip(&bytes, Some(range))),
        Payload::File(path) => path,
    };
    blocking(move || {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    })
    .await
}

async fn file_sha256(path: std::path::PathBuf) -> Result<[u8; 32], StoreError> {
    blocking(move || {
        use sha2::Digest;
        let mut sha256 = sha2::Sha256::new();
        std::io::copy(&mut std::fs::File::open(path)?, &mut sha256)?;
        Ok(sha256.finalize().into())
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other).flatten().map_err(|err| io_failure("put", err))
}

/// The body of an answer, which must be what its header announces.
async fn body(output: GetObjectOutput, range: Option<&Range<u64>>) -> Result<Bytes, StoreError> {
    let unavailable = |source: crate::error::BoxError| StoreError::Unavailable { action: "get", store: NAME, source };
    let (ranged, announced) = (output.content_range.is_some(), output.content_length);
    let bytes = output.body.collect().await.map_err(|err| unavailable(err.into()))?.into_bytes();
    if announced.is_some_and(|announced| u64::try_from(announced) != Ok(bytes.len() as u64)) {
        return Err(unavailable("the body is not as long as announced".into()));
    }
    // A server that knows no ranges answers the whole value.
    Ok(if ranged { bytes } else { clip(&bytes, range.cloned()) })
}

fn version(listed: ObjectVersion) -> Option<Version> {
    let size = u64::try_from(listed.size?).ok()?;
    Some(Version { id: listed.version_id?, size, current: listed.is_latest == Some(true) })
}

#[async_trait]
impl Bucket for S3Bucket {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        key::check(NAME, "put", key)?;
        if self.conditional.load(Relaxed) {
            match self.put_once(key, &payload, true).await {
                Ok(()) => return Ok(Put::Created),
                Err((Answer::InUse, _)) => return self.occupied(key, &payload).await,
                // A server that says "in use" before it has read a large body closes the connection, and the answer
                // is lost behind the broken write: without this question every repetition would end the same way.
                Err((Answer::Broken, err)) => {
                    let there = self.head(key).await.ok().flatten().is_some();
                    return if there { self.occupied(key, &payload).await } else { Err(err) };
                }
                Err((Answer::NotImplemented, _)) => {
                    tracing::warn!("the store knows no conditional writes; a key that is in use is noticed late");
                    self.conditional.store(false, Relaxed);
                }
                Err((_, err)) => return Err(err),
            }
        }
        // Not atomic, but callers never use a key twice; this finds what an earlier try of the same call wrote.
        if self.head(key).await?.is_some() {
            return self.occupied(key, &payload).await;
        }
        self.put_once(key, &payload, false).await.map(|()| Put::Created).map_err(|(_, err)| err)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        key::check(NAME, "get", key)?;
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        self.fetch(key, None, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        key::check(NAME, "head", key)?;
        match self.client.head_object().bucket(&self.bucket).key(self.key(key)).send().await {
            Ok(output) => Ok(Some(output.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default())),
            Err(err) if classify(&err) == Answer::Absent => Ok(None),
            Err(err) => Err(failure("head", err)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let limit = limit.clamp(1, LIST_MAX);
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.key(prefix))
            .set_start_after(after.map(|after| self.key(after)))
            .max_keys(i32::try_from(limit).unwrap_or(i32::MAX));
        let output = request.send().await.map_err(|err| failure("list", err))?;
        let mut page = ListPage::default();
        let mut last = None;
        for object in output.contents.unwrap_or_default() {
            let Some(key) = object.key.as_deref().and_then(|key| key.strip_prefix(&self.prefix)) else { continue };
            last = Some(key.to_owned());
            // Some tools make "directories": empty values whose names end in a slash.
            if key::is_key(key) {
                let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                page.entries.push((key.to_owned(), size));
            }
        }
        page.next = last.filter(|_| output.is_truncated == Some(true));
        Ok(page)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check(NAME, "delete", key)?;
        match self.client.delete_object().bucket(&self.bucket).key(self.key(key)).send().await {
            Ok(_) => Ok(()),
            Err(err) if classify(&err) == Answer::Absent => Ok(()),
            Err(err) => Err(failure("delete", err)),
        }
    }

    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        Ok(self.versioning().await? != Versioning::Off)
    }

    async fn versions(&self, key: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        key::check(NAME, "list versions", key)?;
        let name = self.key(key);
        let (mut versions, mut markers) = (Vec::new(), (None, None));
        for _ in 0..VERSION_PAGES {
            let (after, after_version) = markers;
            let request = self.client.list_object_versions().bucket(&self.bucket).prefix(&name);
            let request = request.set_key_marker(after).set_version_id_marker(after_version);
            let output = request.max_keys(i32::try_from(LIST_MAX).unwrap_or(i32::MAX)).send().await;
            let output = output.map_err(no_versions)?;
            // Of all keys that begin with the name it is itself the first one.
            let listed = output.versions.unwrap_or_default().into_iter();
            versions.extend(listed.filter(|listed| listed.key.as_ref() == Some(&name)).filter_map(version));
            let more = output.is_truncated == Some(true) && output.next_key_marker.as_ref() == Some(&name);
            if !more || versions.len() >= limit {
                break;
            }
            markers = (output.next_key_marker, output.next_version_id_marker);
        }
        versions.truncate(limit);
        Ok(versions)
    }

    async fn get_version(&self, key: &str, id: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        key::check(NAME, "get", key)?;
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Some(Bytes::new()));
        }
        self.fetch(key, Some(id), range).await
    }
}
