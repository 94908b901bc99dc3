//! Buckets that keep versions: what a key had before it was overwritten or deleted stays, in memory.
//!
//! PutObject and DeleteObject keep it; copies, multipart uploads and DeleteObjects do not. No version can be deleted.

use super::Server;
use bytes::Bytes;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The id of what was written before the bucket kept versions.
const NULL: &str = "null";
/// As many versions come at once, as with S3.
const PAGE_MAX: usize = 1000;

/// What one bucket keeps.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Ids of what keys have now; others are [`NULL`].
    current: BTreeMap<String, String>,
    /// What keys had before, and markers of deletions, oldest first.
    older: BTreeMap<String, Vec<Older>>,
    given: u64,
}

#[derive(Debug, Clone)]
struct Older {
    id: String,
    /// `None`: a delete marker.
    value: Option<Bytes>,
}

/// One line of a listing.
struct Listed {
    key: String,
    id: String,
    /// In bytes; `None`: a delete marker.
    size: Option<u64>,
    latest: bool,
}

impl Versions {
    fn fresh(&mut self) -> String {
        self.given += 1;
        format!("v{:06}", self.given)
    }

    fn current(&self, key: &str) -> &str {
        self.current.get(key).map_or(NULL, String::as_str)
    }

    /// The key has lost the value `before`, if it had one.
    fn lost(&mut self, key: &str, before: Option<Vec<u8>>) {
        if let Some(value) = before {
            let older = Older { id: self.current(key).to_owned(), value: Some(value.into()) };
            self.older.entry(key.to_owned()).or_default().push(older);
        }
        self.current.remove(key);
    }
}

impl Server {
    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.join(bucket).join(key)
    }

    fn keeps(&self, bucket: &str) -> bool {
        self.control.state().versions.contains_key(bucket)
    }

    pub(super) async fn put_one(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        if !self.keeps(&bucket) {
            return self.files.put_object(request).await;
        }
        let before = std::fs::read(self.path(&bucket, &key)).ok();
        let mut answer = self.files.put_object(request).await?;
        let mut state = self.control.state();
        let versions = state.versions.entry(bucket).or_default();
        versions.lost(&key, before);
        let id = versions.fresh();
        versions.current.insert(key, id.clone());
        answer.output.version_id = Some(id);
        Ok(answer)
    }

    pub(super) async fn delete_one(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        if request.input.version_id.is_some() {
            return Err(s3_error!(NotImplemented, "Versions cannot be deleted."));
        }
        if !self.keeps(&bucket) {
            return self.files.delete_object(request).await;
        }
        let before = std::fs::read(self.path(&bucket, &key)).ok();
        let mut answer = self.files.delete_object(request).await?;
        let mut state = self.control.state();
        let versions = state.versions.entry(bucket).or_default();
        versions.lost(&key, before);
        let id = versions.fresh();
        versions.older.entry(key).or_default().push(Older { id: id.clone(), value: None });
        answer.output.delete_marker = Some(true);
        answer.output.version_id = Some(id);
        Ok(answer)
    }

    pub(super) async fn get_one(
        &self,
        mut request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let Some(id) = request.input.version_id.take() else { return self.files.get_object(request).await };
        match self.older(&request.input.bucket, &request.input.key, &id) {
            Some(Older { value: Some(value), .. }) => answer(&value, request.input.range),
            Some(_) => Err(s3_error!(MethodNotAllowed, "A delete marker has no value.")),
            None if self.is_current(&request.input.bucket, &request.input.key, &id) => {
                self.files.get_object(request).await
            }
            None => Err(s3_error!(NoSuchVersion, "The specified version does not exist.")),
        }
    }

    fn older(&self, bucket: &str, key: &str, id: &str) -> Option<Older> {
        let state = self.control.state();
        state.versions.get(bucket)?.older.get(key)?.iter().find(|older| older.id == id).cloned()
    }

    fn is_current(&self, bucket: &str, key: &str, id: &str) -> bool {
        let state = self.control.state();
        state.versions.get(bucket).map_or(NULL, |versions| versions.current(key)) == id
    }

    pub(super) fn versioning(
        &self,
        input: &GetBucketVersioningInput,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let enabled = || BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED);
        let status = self.keeps(&input.bucket).then(enabled);
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    pub(super) fn set_versioning(
        &self,
        input: &PutBucketVersioningInput,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let status = input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str);
        if status != Some(BucketVersioningStatus::ENABLED) {
            return Err(s3_error!(NotImplemented, "Versioning cannot be suspended."));
        }
        self.control.state().versions.entry(input.bucket.clone()).or_default();
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    pub(super) fn list_versions(
        &self,
        input: &ListObjectVersionsInput,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let all = self.all_versions(&input.bucket, input.prefix.as_deref().unwrap_or_default());
        let start = match (&input.key_marker, &input.version_id_marker) {
            (None, _) => 0,
            (Some(key), None) => all.partition_point(|listed| listed.key <= *key),
            (Some(key), Some(id)) => {
                let marker = all.iter().position(|listed| (&listed.key, &listed.id) == (key, id));
                marker.map_or(all.len(), |marker| marker + 1)
            }
        };
        let limit = input.max_keys.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let end = all.len().min(start + limit);
        let page = &all[start..end];
        let last = page.last().filter(|_| end < all.len());
        let (mut versions, mut delete_markers) = (Vec::new(), Vec::new());
        for listed in page {
            let (key, version_id, is_latest) = (Some(listed.key.clone()), Some(listed.id.clone()), Some(listed.latest));
            match listed.size {
                Some(size) => {
                    let size = i64::try_from(size).ok();
                    versions.push(ObjectVersion { key, version_id, is_latest, size, ..Default::default() });
                }
                None => {
                    delete_markers.push(DeleteMarkerEntry { key, version_id, is_latest, ..Default::default() });
                }
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket.clone()),
            prefix: input.prefix.clone(),
            is_truncated: Some(last.is_some()),
            next_key_marker: last.map(|last| last.key.clone()),
            next_version_id_marker: last.map(|last| last.id.clone()),
            versions: Some(versions),
            delete_markers: Some(delete_markers),
            ..Default::default()
        }))
    }

    /// In order of keys, those of a key newest first.
    fn all_versions(&self, bucket: &str, prefix: &str) -> Vec<Listed> {
        let mut keys = BTreeSet::new();
        files(&self.root.join(bucket), "", &mut keys);
        let nothing = Versions::default();
        let state = self.control.state();
        let versions = state.versions.get(bucket).unwrap_or(&nothing);
        keys.extend(versions.older.keys().cloned());
        let mut all = Vec::new();
        for key in keys.into_iter().filter(|key| key.starts_with(prefix)) {
            let size = self.path(bucket, &key).metadata().ok().filter(std::fs::Metadata::is_file);
            let size = size.map(|metadata| metadata.len());
            if size.is_some() {
                all.push(Listed { key: key.clone(), id: versions.current(&key).to_owned(), size, latest: true });
            }
            let older = versions.older.get(&key).map(Vec::as_slice).unwrap_or_default();
            for (age, older) in older.iter().rev().enumerate() {
                let (id, latest) = (older.id.clone(), size.is_none() && age == 0);
                let size = older.value.as_ref().map(|value| value.len() as u64);
                all.push(Listed { key: key.clone(), id, size, latest });
            }
        }
        all
    }
}

/// The keys that are files below `dir`.
fn files(dir: &Path, below: &str, keys: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), keys);
        } else {
            keys.insert(name);
        }
    }
}

/// A value, or a range of it.
fn answer(value: &Bytes, range: Option<Range>) -> S3Result<S3Response<GetObjectOutput>> {
    let size = value.len() as u64;
    let (part, content_range) = match range {
        None => (value.clone(), None),
        Some(range) => {
            let part = range.check(size)?;
            let said = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            let places = usize::try_from(part.start).unwrap_or(0)..usize::try_from(part.end).unwrap_or(0);
            (value.slice(places), Some(said))
        }
    };
    let content_length = i64::try_from(part.len()).ok();
    let body = Some(StreamingBlob::from(s3s::Body::from(part)));
    Ok(S3Response::new(GetObjectOutput { body, content_length, content_range, ..Default::default() }))
}
