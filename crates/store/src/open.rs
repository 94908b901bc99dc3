//! Opening a bucket by its URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::bucket::{Bucket, Payload, Put};
use crate::directory::DirectoryBucket;
use crate::error::StoreError;
use crate::memory::MemoryBucket;
use crate::s3::{S3Bucket, S3Options};

/// Why a bucket could not be opened. Messages never repeat the URL, which may hold what should not be logged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none that names a bucket.
    #[error("the store's URL is wrong: {0}")]
    Url(String),
    /// The bucket itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Url(why.into()))
}

/// What a store's URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`: gone with the process, for tests.
    Memory,
    /// `file:///absolute/path`.
    Directory(PathBuf),
    /// `s3://bucket/prefix?endpoint=…&region=…&path_style=true`, everything after the bucket's name optional.
    S3(S3Options),
}

impl std::str::FromStr for StoreUrl {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, OpenError> {
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(err) => return wrong(format!("{err}; expected file:///absolute/path or s3://bucket/prefix")),
        };
        if url.fragment().is_some() {
            return wrong("it has a #fragment");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("credentials do not belong in it; they come from the environment, as for every AWS client");
        }
        match url.scheme() {
            "memory" if text == "memory:" => Ok(Self::Memory),
            "memory" => wrong("memory: stands alone"),
            "file" => directory(text, &url),
            "s3" => s3(&url),
            other => {
                wrong(format!("{other}: is no kind of store; expected file:///absolute/path or s3://bucket/prefix"))
            }
        }
    }
}

fn directory(text: &str, url: &Url) -> Result<StoreUrl, OpenError> {
    if !text.starts_with("file:///") || url.host().is_some() {
        return wrong("file: needs an absolute path on this host, as in file:///var/lib/treehold");
    }
    if url.query().is_some() {
        return wrong("file: takes no ?options");
    }
    match url.to_file_path() {
        Ok(path) => Ok(StoreUrl::Directory(path)),
        Err(()) => wrong("its path is none of this host"),
    }
}

fn s3(url: &Url) -> Result<StoreUrl, OpenError> {
    let Some(bucket) = url.host_str().filter(|bucket| !bucket.is_empty()) else {
        return wrong("s3: needs a bucket's name, as in s3://bucket/prefix");
    };
    if url.port().is_some() {
        return wrong("the bucket's name has a port; a server is named by ?endpoint=");
    }
    let prefix = url.path().trim_matches('/');
    if !prefix.is_empty() && (!crate::key::is_key(prefix) || prefix.len() > 80 || prefix.contains('%')) {
        return wrong("its prefix is no path of at most 80 plain ASCII characters");
    }
    let mut options = S3Options { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..S3Options::default() };
    let mut seen = Vec::new();
    for (name, value) in url.query_pairs() {
        if seen.contains(&name) {
            return wrong(format!("?{name}= stands twice"));
        }
        match (name.as_ref(), value.as_ref()) {
            ("endpoint", value) => options.endpoint = Some(endpoint(value)?),
            ("region", "") => return wrong("?region= is empty"),
            ("region", value) => options.region = Some(value.to_owned()),
            ("path_style", "true") => options.path_style = true,
            ("path_style", "false") => options.path_style = false,
            ("path_style", _) => return wrong("?path_style= is neither true nor false"),
            _ => return wrong(format!("?{name}= is unknown; there are endpoint, region and path_style")),
        }
        seen.push(name);
    }
    Ok(StoreUrl::S3(options))
}

fn endpoint(value: &str) -> Result<String, OpenError> {
    match Url::parse(value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong("credentials do not belong in ?endpoint=")
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => wrong("?endpoint= is no http:// or https:// URL"),
    }
}

/// Opens a bucket by its URL ([`StoreUrl`]): once, without retries or counts around it.
///
/// `temp_dir` is for files under way of a directory bucket: outside of it, on the same file system, this program's own.
/// For S3 the credentials come from the standard chain (environment, profile, web identity, instance); nothing is
/// asked of the server yet.
pub async fn open_bucket(url: &str, temp_dir: &Path) -> Result<Arc<dyn Bucket>, OpenError> {
    match url.parse()? {
        StoreUrl::Memory => Ok(Arc::new(MemoryBucket::new())),
        StoreUrl::Directory(root) => {
            let temp_dir = temp_dir.to_owned();
            let opened = tokio::task::spawn_blocking(move || DirectoryBucket::open(&root, &temp_dir)).await;
            let unfinished = |err: tokio::task::JoinError| StoreError::Unavailable {
                action: "open",
                store: "directory",
                source: err.into(),
            };
            Ok(Arc::new(opened.map_err(unfinished)??))
        }
        StoreUrl::S3(options) => Ok(Arc::new(S3Bucket::connect(options).await)),
    }
}

/// Whether the bucket keeps the first value of a key, tried out on a key of its own that git passes over.
///
/// `false`: a second `put` replaces the first (servers without conditional writes). Nothing breaks, since callers never
/// use a key twice, but an operator's mistake has one guard less: warn and go on.
/// For S3; a directory bucket always does, and an embedded store has no place for the key.
pub async fn keeps_first_value(bucket: &dyn Bucket) -> Result<bool, StoreError> {
    const KEY: &str = "objects/info/treehold-first-value";
    for value in ["first", "second"] {
        match bucket.put(KEY, Payload::Bytes(value.into())).await {
            Ok(Put::Created | Put::AlreadyThere) if value == "second" => return Ok(false),
            Ok(_) | Err(StoreError::Occupied { .. }) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StoreUrl, String> {
        text.parse().map_err(|err: OpenError| err.to_string())
    }

    #[test]
    fn urls_name_buckets() {
        assert_eq!(parse("memory:"), Ok(StoreUrl::Memory));
        assert_eq!(parse("file:///var/lib/a%20b"), Ok(StoreUrl::Directory("/var/lib/a b".into())));
        let plain = S3Options { bucket: "bucket".into(), ..S3Options::default() };
        assert_eq!(parse("s3://bucket"), Ok(StoreUrl::S3(plain.clone())));
        let full = S3Options {
            prefix: "a/b".into(),
            endpoint: Some("http://127.0.0.1:9000".into()),
            region: Some("eu-1".into()),
            path_style: true,
            ..plain
        };
        let text = "s3://bucket/a/b/?endpoint=http://127.0.0.1:9000/&region=eu-1&path_style=true";
        assert_eq!(parse(text), Ok(StoreUrl::S3(full)));
    }

    #[test]
    fn wrong_urls_are_refused_with_the_reason_and_without_secrets() {
        for (text, why) in [
            ("", "expected file:///absolute/path"),
            ("/var/lib/x", "expected file:///absolute/path"),
            ("file:relative", "absolute path"),
            ("file://host/path", "absolute path on this host"),
            ("file:///x?fsync=off", "no ?options"),
            ("file:///x#y", "#fragment"),
            ("memory:x", "stands alone"),
            ("gs://bucket", "gs: is no kind of store"),
            ("s3:///prefix", "bucket's name"),
            ("s3://bucket:9000/x", "port"),
            ("s3://key:hunter2@bucket", "credentials do not belong"),
            ("s3://bucket?endpoint=http://key:hunter2@host", "credentials do not belong"),
            ("s3://bucket?endpoint=host:9000", "no http://"),
            ("s3://bucket?endpoint=ftp://host", "no http://"),
            ("s3://bucket?path_style=yes", "neither true nor false"),
            ("s3://bucket?region=", "empty"),
            ("s3://bucket?region=a&region=b", "stands twice"),
            ("s3://bucket?Region=a", "?Region= is unknown"),
            ("s3://bucket/a//b", "prefix"),
            ("s3://bucket/a%20b", "prefix"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(why) && !message.contains("hunter2"), "{text}: {message}");
        }
    }
}
