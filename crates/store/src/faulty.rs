//! Failing on purpose: for tests.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bucket::{Bucket, ListPage, Payload, Put, Version};
use crate::error::StoreError;
use crate::payload::clip;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// `Unavailable`, and nothing was done.
    Before,
    /// `Unavailable`, although it was done.
    After,
    /// `Refused`, and nothing was done.
    Refuse,
    /// A `get` answers the first half of its bytes as if that were all; other calls as [`Fault::After`].
    Cut,
    /// A `get` answers with one bit wrong; other calls as [`Fault::None`].
    Flip,
    /// It takes longer.
    Delay(Duration),
}

/// How likely faults are, in percent of calls. The rest goes well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// Of [`Fault::Before`].
    pub before: u32,
    /// Of [`Fault::After`].
    pub after: u32,
    /// Of [`Fault::Cut`].
    pub cut: u32,
    /// Of [`Fault::Flip`].
    pub flip: u32,
    /// Of [`Fault::Delay`], up to `delay_max`.
    pub delay: u32,
    /// The longest delay.
    pub delay_max: Duration,
}

#[derive(Debug)]
enum Source {
    Script(VecDeque<Fault>),
    Seeded(Box<StdRng>, FaultRates),
}

/// A bucket that fails by a script or by a seed.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Bucket>,
    source: Mutex<Source>,
}

impl Faulty {
    /// The calls suffer these faults in order; those after the last go well.
    pub fn scripted(inner: Arc<dyn Bucket>, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { inner, source: Mutex::new(Source::Script(faults.into_iter().collect())) }
    }

    /// Faults by chance; the same seed and the same order of calls give the same faults.
    pub fn seeded(inner: Arc<dyn Bucket>, seed: u64, rates: FaultRates) -> Self {
        Self { inner, source: Mutex::new(Source::Seeded(Box::new(StdRng::seed_from_u64(seed)), rates)) }
    }

    /// From here on the calls suffer these faults.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Source::Script(faults.into_iter().collect());
    }

    fn next(&self) -> (Fault, u64) {
        match &mut *self.source.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::Script(faults) => (faults.pop_front().unwrap_or(Fault::None), 7),
            Source::Seeded(rng, rates) => {
                let (mut dice, bit) = (rng.random_range(0..100), rng.random());
                let delay = rates.delay_max.mul_f64(rng.random());
                for (rate, fault) in [
                    (rates.before, Fault::Before),
                    (rates.after, Fault::After),
                    (rates.cut, Fault::Cut),
                    (rates.flip, Fault::Flip),
                    (rates.delay, Fault::Delay(delay)),
                ] {
                    if dice < rate {
                        return (fault, bit);
                    }
                    dice -= rate;
                }
                (Fault::None, bit)
            }
        }
    }

    async fn suffer<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
        spoil: impl FnOnce(T, Fault, u64) -> Option<T>,
    ) -> Result<T, StoreError> {
        let store = self.inner.name();
        let unavailable = |source: &str| StoreError::Unavailable { action, store, source: source.into() };
        let (fault, bit) = self.next();
        match fault {
            Fault::Before => return Err(unavailable("injected before the call")),
            Fault::Refuse => return Err(StoreError::Refused { action, store, source: "injected".into() }),
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::None | Fault::After | Fault::Cut | Fault::Flip => {}
        }
        let value = call.await?;
        match fault {
            Fault::After => Err(unavailable("injected after the call")),
            Fault::Cut | Fault::Flip => {
                spoil(value, fault, bit).ok_or_else(|| unavailable("injected while the answer came"))
            }
            _ => Ok(value),
        }
    }
}

/// Spoils what is not content: only a cut can be noticed.
fn plain<T>(value: T, fault: Fault, _: u64) -> Option<T> {
    (fault != Fault::Cut).then_some(value)
}

/// Spoils content.
#[allow(clippy::unnecessary_wraps, reason = "the answer to a get is an Option already")]
fn content(value: Option<Bytes>, fault: Fault, bit: u64) -> Option<Option<Bytes>> {
    let Some(bytes) = value else { return Some(None) };
    if fault == Fault::Cut {
        let half = bytes.len() as u64 / 2;
        return Some(Some(clip(&bytes, Some(0..half))));
    }
    let mut bytes = bytes.to_vec();
    let at = bit / 8 % (bytes.len() as u64).max(1);
    if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
    Some(Some(bytes.into()))
}

#[async_trait]
impl Bucket for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        self.suffer("put", self.inner.put(key, payload), plain).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.suffer("get", self.inner.get(key, range), content).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.suffer("head", self.inner.head(key), plain).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.suffer("list", self.inner.list(prefix, after, limit), plain).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.suffer("delete", self.inner.delete(key), plain).await
    }

    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        self.suffer("ask for the versioning of", self.inner.keeps_versions(), plain).await
    }

    async fn versions(&self, key: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.suffer("list versions", self.inner.versions(key, limit), plain).await
    }

    async fn get_version(&self, key: &str, id: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.suffer("get", self.inner.get_version(key, id, range), content).await
    }
}
