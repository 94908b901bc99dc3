//! The store with a cache in front of the bucket: who asks the bucket, and what happens to the cache's directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use treehold_object::Kind;
use treehold_store::{
    Bucket, CacheOptions, CacheStats, DiskOptions, DiskStats, ListPage, Location, MemoryBucket, Metered, Object,
    ObjectStore, Payload, Put, StoreError,
};

use crate::sample::{assert_objects, blobs, object, options, put_pack, seeded};

const MIB: u64 = 1 << 20;

/// Answers `get` only when told to, and sometimes with an error.
#[derive(Debug)]
struct Gate {
    inner: MemoryBucket,
    gets: AtomicU64,
    failing: AtomicU64,
    open: Semaphore,
}

impl Gate {
    fn closed() -> Arc<Self> {
        let (gets, failing) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { inner: MemoryBucket::new(), gets, failing, open: Semaphore::new(0) })
    }

    async fn reached(&self, gets: u64) {
        until("the bucket is asked", || self.gets.load(Relaxed) >= gets).await;
    }
}

/// Waits until it holds; not for ever, so that a test fails instead of hanging.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..30_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

#[async_trait]
impl Bucket for Gate {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &str, payload: Payload) -> Result<Put, StoreError> {
        self.inner.put(key, payload).await
    }

    async fn get(&self, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        self.gets.fetch_add(1, Relaxed);
        self.open.acquire().await.unwrap().forget();
        if self.failing.load(Relaxed) > 0 {
            self.failing.fetch_sub(1, Relaxed);
            return Err(StoreError::Unavailable { action: "get", store: "memory", source: "as told".into() });
        }
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

fn cached_store(bucket: Arc<dyn Bucket>, memory_bytes: u64, disk: Option<&Path>) -> (tempfile::TempDir, ObjectStore) {
    let (spool, mut options) = options();
    let disk = disk.map(|dir| DiskOptions { dir: dir.to_owned(), bytes: 64 * MIB });
    options.cache = CacheOptions { memory_bytes, disk };
    (spool, ObjectStore::new(bucket, options))
}

fn stats(store: &ObjectStore) -> CacheStats {
    store.cache_stats().unwrap()
}

fn disk(store: &ObjectStore) -> DiskStats {
    stats(store).disk.unwrap()
}

/// A store over the bucket whose cache has the directory; a cache before it may take a moment to let go.
async fn with_directory(bucket: &Arc<Metered>, dir: &Path) -> (tempfile::TempDir, ObjectStore) {
    for _ in 0..500 {
        let (spool, store) = cached_store(bucket.clone(), 0, Some(dir));
        store.flush_cache().await;
        if disk(&store).trouble.is_none() {
            return (spool, store);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the directory was not let go");
}

async fn gets(bucket: &Metered, store: &ObjectStore, locations: &[Location], objects: &[Object]) -> u64 {
    let before = bucket.snapshot().get.calls;
    assert_objects(store.get_many(locations).await, objects);
    store.flush_cache().await;
    bucket.snapshot().get.calls - before
}

#[tokio::test]
async fn many_who_want_the_same_ask_the_bucket_once() {
    let gate = Gate::closed();
    let (_spool, store) = cached_store(gate.clone(), 16 * MIB, None);
    let blobs = blobs(&mut seeded(), 40);
    let (_, locations) = put_pack(&store, &blobs, 1).await;
    let loose = object(Kind::Blob, "alone");
    let alone = store.put_loose(loose.oid, loose.kind, loose.content.clone()).await.unwrap().location();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let (store, locations, alone) = (store.clone(), locations.clone(), alone.clone());
        waiting.push(tokio::spawn(async move { (store.get_many(&locations).await, store.get(&alone).await) }));
    }
    gate.reached(1).await;
    gate.open.add_permits(1000);
    for answers in join_all(waiting).await {
        let (many, one) = answers.unwrap();
        assert_objects(many, &blobs);
        assert_eq!(one.unwrap(), loose);
    }
    assert_eq!(gate.gets.load(Relaxed), 2);
    let stats = stats(&store);
    assert!(stats.misses == 41 && stats.shared >= 40, "{stats:?}");
    assert_eq!(stats.misses + stats.shared + stats.memory_hits, 50 * 41);
    // A batch that overlaps reads what is missing only, and answers in its own order.
    let asked = vec![locations[3].clone(), alone, locations[3].clone()];
    assert_objects(store.get_many(&asked).await, &[blobs[3].clone(), loose, blobs[3].clone()]);
    assert_eq!(gate.gets.load(Relaxed), 2);
}

#[tokio::test]
async fn a_leader_who_leaves_takes_nothing_away() {
    let gate = Gate::closed();
    let (_spool, store) = cached_store(gate.clone(), 16 * MIB, None);
    let blob = object(Kind::Blob, "content");
    let location = store.put_loose(blob.oid, blob.kind, blob.content.clone()).await.unwrap().location();
    let read = || {
        let (store, location) = (store.clone(), location.clone());
        tokio::spawn(async move { store.get(&location).await })
    };
    let leader = read();
    gate.reached(1).await;
    let waiter = read();
    // The waiter has a seat once it was polled; the leader is gone before the bucket answers.
    until("the waiter has a seat", || stats(&store).shared > 0).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.open.add_permits(1);
    assert_eq!(waiter.await.unwrap().unwrap(), blob);
    assert_eq!(gate.gets.load(Relaxed), 1);
}

#[tokio::test]
async fn a_read_that_nobody_wants_any_more_ends_and_is_not_waited_for() {
    let gate = Gate::closed();
    let (_spool, store) = cached_store(gate.clone(), 16 * MIB, None);
    let blob = object(Kind::Blob, "content");
    let location = store.put_loose(blob.oid, blob.kind, blob.content.clone()).await.unwrap().location();
    let first = tokio::spawn({
        let (store, location) = (store.clone(), location.clone());
        async move { store.get(&location).await }
    });
    gate.reached(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open.add_permits(2);
    assert_eq!(store.get(&location).await.unwrap(), blob);
    assert_eq!(gate.gets.load(Relaxed), 2);
}

#[tokio::test]
async fn an_error_is_shared_and_not_kept() {
    let gate = Gate::closed();
    let (_spool, store) = cached_store(gate.clone(), 16 * MIB, None);
    let blob = object(Kind::Blob, "content");
    let location = store.put_loose(blob.oid, blob.kind, blob.content.clone()).await.unwrap().location();
    gate.failing.store(1, Relaxed);
    let reads: Vec<_> = (0..10).map(|_| store.get(&location)).collect();
    let release = async {
        gate.reached(1).await;
        gate.open.add_permits(1);
    };
    let (answers, ()) = tokio::join!(join_all(reads), release);
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable { .. }))), "{answers:?}");
    gate.open.add_permits(1);
    assert_eq!(store.get(&location).await.unwrap(), blob);
    // A lost place fails only those who look there.
    let gone = Location { key: "objects/pack/pack-0.pack".into(), ..location.clone() };
    store.delete(&location.key).await.unwrap();
    assert_eq!(store.get(&gone).await.unwrap(), blob, "it is at hand, wherever the ledger believes it is");
    let wrong = Location { size: location.size + 1, ..location };
    gate.open.add_permits(2);
    assert!(store.get(&wrong).await.is_err(), "what is at hand is not what this location announces");
}

#[tokio::test]
async fn a_walk_through_everything_uses_the_cache_and_leaves_it_alone() {
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    let dir = tempfile::tempdir().unwrap();
    let (_spool, store) = cached_store(bucket.clone(), 16 * MIB, Some(dir.path()));
    let blobs = blobs(&mut seeded(), 60);
    let (_, locations) = put_pack(&store, &blobs, 1).await;
    let walked: Vec<Object> = store.stream_many(locations.clone()).try_collect().await.unwrap();
    assert!(walked == blobs);
    assert_eq!(store.stream_entries(locations.clone()).count().await, blobs.len());
    store.flush_cache().await;
    assert_eq!((stats(&store).memory_objects, disk(&store).objects), (0, 0));
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 1);
    let before = bucket.snapshot().get.calls;
    let walked: Vec<Object> = store.stream_many(locations.clone()).try_collect().await.unwrap();
    assert!(walked == blobs && bucket.snapshot().get.calls == before);
    // So do those who ask for what is at hand.
    let unknown = object(Kind::Blob, "unknown");
    let mut oids: Vec<_> = blobs.iter().map(|blob| blob.oid).collect();
    oids.push(unknown.oid);
    let mut at_hand = store.cached(&oids, u64::MAX).await;
    assert_eq!(at_hand.pop(), Some(None));
    assert!(at_hand.into_iter().map(Option::unwrap).eq(blobs));
    assert_eq!(bucket.snapshot().get.calls, before);
}

#[tokio::test]
async fn what_was_just_stored_is_at_hand() {
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    let (_spool, store) = cached_store(bucket.clone(), 16 * MIB, None);
    let blobs: Vec<Object> = blobs(&mut seeded(), 10);
    let (_, locations) = put_pack(&store, &blobs, 1).await;
    store.keep(blobs.clone()).await;
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0);
}

#[tokio::test]
async fn a_restart_finds_what_was_read_and_damage_costs_only_speed() {
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(&mut seeded(), 60);
    let (spool, store) = with_directory(&bucket, dir.path()).await;
    let (_, locations) = put_pack(&store, &blobs, 1).await;
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 1);
    drop((spool, store));
    let (spool, store) = with_directory(&bucket, dir.path()).await;
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0);
    for round in 0..4 {
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().skip(40 + round).step_by(3000).for_each(|byte| *byte ^= 0x10);
            std::fs::write(&path, bytes).unwrap();
        }
        let damaged = disk(&store).damaged;
        assert!(gets(&bucket, &store, &locations, &blobs).await > 0, "round {round}");
        assert!(disk(&store).damaged > damaged, "round {round}");
        assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0, "round {round}");
    }
    drop((spool, store));
    // Cut off, and replaced by something else altogether.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        std::fs::write(entry.unwrap().path(), "not a cache at all, but long enough to look at").unwrap();
    }
    std::fs::write(dir.path().join("00000000000000ff.segment"), "").unwrap();
    std::fs::create_dir(dir.path().join("0000000000000fff.segment")).unwrap();
    let (_spool, store) = with_directory(&bucket, dir.path()).await;
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 1);
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0);
}

/// Reads so many different objects that a pause after a failure is over.
async fn let_time_pass(store: &ObjectStore, name: &str) {
    let blobs: Vec<Object> = (0..300).map(|number| object(Kind::Blob, format!("{name} {number}"))).collect();
    let (_, locations) = put_pack(store, &blobs, name.len() as u8 + 99).await;
    for part in locations.chunks(50) {
        assert!(store.get_many(part).await.iter().all(Result::is_ok));
        store.flush_cache().await;
    }
}

#[tokio::test]
async fn a_directory_that_is_taken_missing_or_no_directory_is_done_without() {
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("cache/objects");
    std::fs::create_dir(dir.path().join("cache")).unwrap();
    std::fs::write(&place, "a file").unwrap();
    let blobs = blobs(&mut seeded(), 30);
    let (spool, store) = cached_store(bucket.clone(), 0, Some(&place));
    let (_, locations) = put_pack(&store, &blobs, 1).await;
    for _ in 0..2 {
        assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 1);
    }
    assert!(disk(&store).trouble.is_some() && disk(&store).objects == 0);
    assert_eq!(std::fs::read(&place).unwrap(), b"a file");
    std::fs::remove_file(&place).unwrap();
    let_time_pass(&store, "first").await;
    assert_eq!(disk(&store).trouble, None);
    gets(&bucket, &store, &locations, &blobs).await;
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0, "it is made and used as soon as it can be");
    // A second one does without as long as the first is there.
    let (_second_spool, second) = cached_store(bucket.clone(), 0, Some(&place));
    assert_eq!(gets(&bucket, &second, &locations, &blobs).await, 1);
    assert!(disk(&second).trouble.unwrap().contains("another process"));
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0);
    // Deleted under the running process: open files can be read still, new ones are made in a new directory.
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    assert_eq!(gets(&bucket, &store, &locations, &blobs).await, 0);
    let large: Vec<Object> = (0u8..12).map(|byte| object(Kind::Blob, vec![byte; 500_000])).collect();
    for (number, object) in (2..).zip(&large) {
        let (_, at) = put_pack(&store, std::slice::from_ref(object), number).await;
        gets(&bucket, &store, &at, std::slice::from_ref(object)).await;
    }
    assert!(disk(&store).failures > 0 && !place.exists(), "{:?}", disk(&store));
    let_time_pass(&store, "second").await;
    assert!(disk(&store).trouble.is_none() && place.exists(), "{:?}", disk(&store));
    // Once the first has gone the second takes over.
    drop((spool, store));
    for number in 0..100 {
        let_time_pass(&second, &format!("later {number}")).await;
        if disk(&second).trouble.is_none() {
            break;
        }
    }
    assert_eq!(disk(&second).trouble, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_and_evictions_get_along() {
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    let dir = tempfile::tempdir().unwrap();
    let (_spool, mut options) = options();
    let disk_options = DiskOptions { dir: dir.path().join("objects"), bytes: 3 * MIB };
    options.cache = CacheOptions { memory_bytes: MIB, disk: Some(disk_options) };
    let store = ObjectStore::new(bucket.clone(), options);
    let blobs: Vec<Object> = (0..600).map(|number| object(Kind::Blob, format!("{number} ").repeat(3000))).collect();
    let (_, locations) = put_pack(&store, &blobs, 1).await;
    let readers = (0..4usize).map(|reader| {
        let (store, blobs, locations) = (store.clone(), blobs.clone(), locations.clone());
        tokio::spawn(async move {
            for round in 0..60 {
                let start = (reader * 151 + round * 37) % 560;
                let range = start..start + 40;
                assert_objects(store.get_many(&locations[range.clone()]).await, &blobs[range]);
            }
        })
    });
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    store.flush_cache().await;
    let (stats, disk) = (stats(&store), disk(&store));
    assert!(stats.memory_evicted > 0 && disk.evicted > 0 && stats.disk_hits > 0 && stats.memory_hits > 0, "{stats:?}");
    assert_eq!((disk.damaged, disk.failures), (0, 0));
    assert!(store.get(&locations[0]).now_or_never().is_none_or(|answer| answer.is_ok()));
}
