//! Values in memory: for tests, and stricter than any real store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::bucket::{Bucket, ListPage, Payload, Put, Version};
use crate::error::StoreError;
use crate::{key, payload};

const NAME: &str = "memory";

/// A bucket that lives as long as the process.
///
/// Beyond what every bucket does it refuses a name that was deleted before, and a key that is a directory of another
/// key: real stores let the first pass until it costs data, and some servers the second.
#[derive(Debug, Default)]
pub struct MemoryBucket {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<String, Bytes>,
    burnt: BTreeSet<String>,
    /// What keys had before, oldest first; `None`: nothing is kept.
    older: Option<BTreeMap<String, Vec<Bytes>>>,
}

impl MemoryBucket {
    /// An empty bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty bucket that keeps what its keys had before.
    pub fn with_versions() -> Self {
        Self { state: Mutex::new(State { older: Some(BTreeMap::new()), ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a stored value behind the contract's back, as a failing disk would. For tests of what is served then.
    pub fn damage(&self, key: &str, value: Bytes) {
        let mut state = self.state();
        state.keep(key);
        state.values.insert(key.to_owned(), value);
    }
}

impl State {
    /// Keeps the value of a key that is about to lose it.
    fn keep(&mut self, key: &str) {
        if let Some(older) = &mut self.older {
            older.entry(key.to_owned()).or_default().extend(self.values.get(key).cloned());
        }
    }

    /// All values of a key, oldest first; their ids are their places.
    fn versions(&self, key: &str) -> Vec<Bytes> {
        let Some(older) = &self.older else { return Vec::new() };
        older.get(key).into_iter().flatten().chain(self.values.get(key)).cloned().collect()
    }

    fn put(&mut self, key: &str, value: Bytes) -> Result<Put, StoreError> {
        let refused = |why: String| StoreError::Refused { action: "put", store: NAME, source: why.into() };
        if self.burnt.contains(key) {
            return Err(refused(format!("the name {key} was used before")));
        }
        match self.values.get(key) {
            Some(there) if *there == value => return Ok(Put::AlreadyThere),
            Some(_) => return Err(StoreError::Occupied { key: key.to_owned() }),
            None => {}
        }
        let below = format!("{key}/");
        let next = self.values.range::<str, _>((Bound::Excluded(below.as_str()), Bound::Unbounded)).next();
        let above = key.match_indices('/').any(|(at, _)| self.values.contains_key(&key[..at]));
        if above || next.is_some_and(|(next, _)| next.starts_with(&below)) {
            return Err(refused(format!("{key} is both a key and a directory")));
        }
        self.values.insert(key.to_owned(), value);
        Ok(Put::Created)
    }
}

#[async_trait]
impl Bucket for MemoryBucket {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        key::check(NAME, "put", key)?;
        let value =
            payload.read().map_err(|err| StoreError::Refused { action: "put", store: NAME, source: err.into() });
        self.state().put(key, value?)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        key::check(NAME, "get", key)?;
        Ok(self.state().values.get(key).map(|value| payload::clip(value, range)))
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        key::check(NAME, "head", key)?;
        Ok(self.state().values.get(key).map(|value| value.len() as u64))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.state();
        let mut matching =
            state.values.range::<str, _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        let entries: Vec<_> =
            matching.by_ref().take(limit.max(1)).map(|(key, value)| (key.clone(), value.len() as u64)).collect();
        let next = matching.next().and(entries.last()).map(|(key, _)| key.clone());
        Ok(ListPage { entries, next })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check(NAME, "delete", key)?;
        let mut state = self.state();
        state.keep(key);
        state.values.remove(key);
        state.burnt.insert(key.to_owned());
        Ok(())
    }

    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        Ok(self.state().older.is_some())
    }

    async fn versions(&self, key: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        key::check(NAME, "list versions", key)?;
        let state = self.state();
        let (values, there) = (state.versions(key), state.values.contains_key(key));
        let newest = values.len().saturating_sub(1);
        let versions = values.iter().enumerate().rev().take(limit);
        let version = |(at, value): (usize, &Bytes)| Version {
            id: at.to_string(),
            size: value.len() as u64,
            current: there && at == newest,
        };
        Ok(versions.map(version).collect())
    }

    async fn get_version(&self, key: &str, id: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        key::check(NAME, "get", key)?;
        let values = self.state().versions(key);
        let value = id.parse::<usize>().ok().and_then(|at| values.get(at));
        Ok(value.map(|value| payload::clip(value, range)))
    }
}
