//! Counting calls and bytes, and telling the process what was called and how long it took.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use treehold_calls::{Call, Kind, span};

use crate::bucket::{Bucket, ListPage, Payload, Put, Version};
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

static PUT: Call = Call::new(Kind::Store, "put");
static GET: Call = Call::new(Kind::Store, "get");
static HEAD: Call = Call::new(Kind::Store, "head");
static LIST: Call = Call::new(Kind::Store, "list");
static DELETE: Call = Call::new(Kind::Store, "delete");

/// The process's count of a kind of call, by its name.
pub(crate) fn call(operation: &str) -> &'static Call {
    match operation {
        "put" => &PUT,
        "get" => &GET,
        "head" => &HEAD,
        "list" => &LIST,
        _ => &DELETE,
    }
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

/// Counts what passes through. Under [`crate::Retrying`] it counts every try, above it every call. The same goes to `treehold_calls`,
/// for this process's metrics and traces.
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

    async fn watch<T>(
        &self,
        call: &'static Call,
        work: impl Future<Output = Result<T, StoreError>>,
        moved: impl FnOnce(&T) -> u64,
    ) -> Result<T, StoreError> {
        let span = span::store(self.inner.name(), call.operation());
        let answer = call.watch(span.clone(), work, failure).await;
        if let Ok(value) = &answer {
            span::bytes(&span, moved(value));
        }
        answer
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

/// The kind of a failure. That the key is taken is an answer.
fn failure<T>(answer: &Result<T, StoreError>) -> Option<&'static str> {
    match answer {
        Ok(_) | Err(StoreError::Occupied { .. }) => None,
        Err(StoreError::Corrupt { .. }) => Some("corrupt"),
        Err(StoreError::Missing { .. }) => Some("missing"),
        Err(StoreError::Unavailable { .. }) => Some("unavailable"),
        Err(StoreError::Refused { .. }) => Some("refused"),
    }
}

#[async_trait]
impl Bucket for Metered {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        let size = payload.size().unwrap_or_default();
        let answer = self.watch(&PUT, self.inner.put(key, payload), |_| size).await;
        if answer.is_ok() {
            PUT.sent(size);
        }
        self.put.count(&answer, |_| size);
        answer
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| value.len() as u64);
        let answer = self.watch(&GET, self.inner.get(key, range), size).await;
        GET.received(answer.as_ref().map_or(0, size));
        self.get.count(&answer, size);
        answer
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let answer = self.watch(&HEAD, self.inner.head(key), |_| 0).await;
        self.head.count(&answer, |_| 0);
        answer
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let answer = self.watch(&LIST, self.inner.list(prefix, after, limit), |_| 0).await;
        self.list.count(&answer, |page| page.entries.len() as u64);
        answer
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let answer = self.watch(&DELETE, self.inner.delete(key), |()| 0).await;
        self.delete.count(&answer, |()| 0);
        answer
    }

    /// Asked once by a run that repairs: not counted.
    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        self.inner.keeps_versions().await
    }

    async fn versions(&self, key: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        let answer = self.watch(&LIST, self.inner.versions(key, limit), |_| 0).await;
        self.list.count(&answer, |versions| versions.len() as u64);
        answer
    }

    async fn get_version(&self, key: &str, id: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| value.len() as u64);
        let answer = self.watch(&GET, self.inner.get_version(key, id, range), size).await;
        GET.received(answer.as_ref().map_or(0, size));
        self.get.count(&answer, size);
        answer
    }
}
