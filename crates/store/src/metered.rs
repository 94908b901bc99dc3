//! Counting calls and bytes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;

use crate::bucket::{Bucket, ListPage, Payload, Put};
use crate::error::StoreError;

/// What became of one kind of call so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Calls that ended.
    pub calls: u64,
    /// Of these, how many ended in an error.
    pub failures: u64,
    /// Bytes of values written or read by the others; for `list`, the number of keys.
    pub amount: u64,
}

/// All counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Writes.
    pub put: OpCounts,
    /// Reads.
    pub get: OpCounts,
    /// Questions for a size.
    pub head: OpCounts,
    /// Pages of listings.
    pub list: OpCounts,
    /// Deletions.
    pub delete: OpCounts,
}

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicU64,
    failures: AtomicU64,
    amount: AtomicU64,
}

impl Counter {
    fn count<T>(&self, answer: &Result<T, StoreError>, amount: impl FnOnce(&T) -> u64) {
        match answer {
            Ok(value) => self.amount.fetch_add(amount(value), Relaxed),
            Err(_) => self.failures.fetch_add(1, Relaxed),
        };
        self.calls.fetch_add(1, Relaxed);
    }

    fn read(&self) -> OpCounts {
        OpCounts {
            calls: self.calls.load(Relaxed),
            failures: self.failures.load(Relaxed),
            amount: self.amount.load(Relaxed),
        }
    }
}

/// Counts what passes through. Under [`crate::Retrying`] it counts every try, above it every call.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Bucket>,
    put: Counter,
    get: Counter,
    head: Counter,
    list: Counter,
    delete: Counter,
}

impl Metered {
    /// Wraps `inner`; keep a second `Arc` of the result to read the counts.
    pub fn new(inner: Arc<dyn Bucket>) -> Self {
        let counter = Counter::default;
        Self { inner, put: counter(), get: counter(), head: counter(), list: counter(), delete: counter() }
    }

    /// The counts since the start.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            put: self.put.read(),
            get: self.get.read(),
            head: self.head.read(),
            list: self.list.read(),
            delete: self.delete.read(),
        }
    }
}

#[async_trait]
impl Bucket for Metered {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        let size = payload.size().unwrap_or_default();
        let answer = self.inner.put(key, payload).await;
        self.put.count(&answer, |_| size);
        answer
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        let answer = self.inner.get(key, range).await;
        self.get.count(&answer, |value| value.as_ref().map_or(0, |value| value.len() as u64));
        answer
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let answer = self.inner.head(key).await;
        self.head.count(&answer, |_| 0);
        answer
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let answer = self.inner.list(prefix, after, limit).await;
        self.list.count(&answer, |page| page.entries.len() as u64);
        answer
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let answer = self.inner.delete(key).await;
        self.delete.count(&answer, |()| 0);
        answer
    }
}
