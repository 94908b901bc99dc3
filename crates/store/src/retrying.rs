//! Repeating what may pass.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::bucket::{Bucket, ListPage, Payload, Put, Version};
use crate::error::StoreError;
use crate::metered;

/// How often and how patiently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first included; 0 counts as 1.
    pub tries: u32,
    /// The first pause is a random part of this; every further one of twice as much.
    pub base: Duration,
    /// No pause is longer.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Six calls within about six seconds.
    fn default() -> Self {
        Self { tries: 6, base: Duration::from_millis(100), cap: Duration::from_secs(3) }
    }
}

impl RetryPolicy {
    /// Exponential back-off with full jitter: clients that failed together do not come back together.
    fn pause(&self, failures: u32) -> Duration {
        let factor = 2u32.saturating_pow(failures.saturating_sub(1));
        let longest = self.base.saturating_mul(factor).min(self.cap);
        longest.mul_f64(rand::random::<f64>())
    }
}

/// Repeats calls that came back as `Unavailable`; every other answer is final.
///
/// Repeating is safe: values never change, and a `put` that was executed although its answer was lost is found to be
/// [`Put::AlreadyThere`].
#[derive(Debug, Clone)]
pub struct Retrying {
    inner: Arc<dyn Bucket>,
    policy: RetryPolicy,
}

impl Retrying {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Bucket>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    async fn repeat<T, F>(&self, operation: &str, key: &str, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failures = 0;
        loop {
            let err = match call().await {
                Err(err @ StoreError::Unavailable { .. }) => err,
                answer => return answer,
            };
            failures += 1;
            if failures >= self.policy.tries {
                return Err(err);
            }
            let pause = self.policy.pause(failures);
            let source = std::error::Error::source(&err).map(ToString::to_string);
            tracing::warn!(key, failures, ?pause, %err, source, "repeating a call to the store");
            metered::call(operation).again();
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait]
impl Bucket for Retrying {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        self.repeat("put", key, || self.inner.put(key, payload.clone())).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.repeat("get", key, || self.inner.get(key, range.clone())).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.repeat("head", key, || self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.repeat("list", prefix, || self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.repeat("delete", key, || self.inner.delete(key)).await
    }

    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        self.repeat("head", "", || self.inner.keeps_versions()).await
    }

    async fn versions(&self, key: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.repeat("list", key, || self.inner.versions(key, limit)).await
    }

    async fn get_version(&self, key: &str, id: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.repeat("get", key, || self.inner.get_version(key, id, range.clone())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap() {
        let policy = RetryPolicy { tries: 9, base: Duration::from_millis(10), cap: Duration::from_millis(35) };
        for _ in 0..200 {
            assert!(policy.pause(1) <= Duration::from_millis(10));
            assert!(policy.pause(2) <= Duration::from_millis(20));
            assert!(policy.pause(u32::MAX) <= Duration::from_millis(35));
        }
        assert!((0..200).any(|_| policy.pause(9) > Duration::from_millis(20)));
    }
}
