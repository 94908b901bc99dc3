//! A bucket whose calls wait at the gate, may fail before or after, and may take effect long after they failed.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use treehold_fault::{Faults, Injected, Moment};
use treehold_store::{Bucket, ListPage, Payload, Put, StoreError, Version};

use crate::gate::Gate;

/// A call that was given up by its caller and is still on its way.
#[derive(Debug)]
enum Late {
    Put(String, Bytes),
    Delete(String),
}

#[derive(Debug)]
pub struct StormyBucket {
    /// The bucket as it is.
    pub sound: Arc<dyn Bucket>,
    /// The same, which cuts and spoils what it answers now and then.
    spoiled: Arc<dyn Bucket>,
    gate: Arc<Gate>,
    late: Mutex<Vec<Late>>,
}

impl StormyBucket {
    pub fn new(sound: Arc<dyn Bucket>, spoiled: Arc<dyn Bucket>, gate: &Arc<Gate>) -> StormyBucket {
        StormyBucket { sound, spoiled, gate: Arc::clone(gate), late: Mutex::default() }
    }

    fn inner(&self) -> &dyn Bucket {
        if self.gate.is_calm() { &*self.sound } else { &*self.spoiled }
    }

    async fn suffer<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
        late: impl FnOnce() -> Option<Late>,
    ) -> Result<T, StoreError> {
        let lost = |lost: Injected| StoreError::Unavailable { action, store: self.sound.name(), source: lost.into() };
        if let Err(before) = self.gate.decide(action, Moment::Before).await {
            if self.gate.roll(30)
                && let Some(late) = late()
            {
                self.late.lock().expect("a lock").push(late);
            }
            return Err(lost(before));
        }
        let answer = call.await;
        self.gate.decide(action, Moment::After).await.map_err(lost)?;
        answer
    }

    /// What is still on its way arrives.
    pub async fn arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().expect("a lock"));
        for call in late {
            // Nobody listens any more.
            match call {
                Late::Put(key, value) => _ = self.sound.put(&key, Payload::Bytes(value)).await,
                Late::Delete(key) => _ = self.sound.delete(&key).await,
            }
        }
    }
}

#[async_trait]
impl Bucket for StormyBucket {
    fn name(&self) -> &'static str {
        self.sound.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        let value = match &payload {
            Payload::Bytes(bytes) => bytes.clone(),
            Payload::File(path) => std::fs::read(path).expect("the caller's file").into(),
        };
        let late = || Some(Late::Put(key.to_owned(), value));
        self.suffer("put", self.inner().put(key, payload), late).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.suffer("get", self.inner().get(key, range), || None).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.suffer("head", self.inner().head(key), || None).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.suffer("list", self.inner().list(prefix, after, limit), || None).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let late = || Some(Late::Delete(key.to_owned()));
        self.suffer("delete", self.inner().delete(key), late).await
    }

    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        self.sound.keeps_versions().await
    }

    async fn versions(&self, key: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.suffer("list", self.inner().versions(key, limit), || None).await
    }

    async fn get_version(&self, key: &str, id: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.suffer("get", self.inner().get_version(key, id, range), || None).await
    }
}
