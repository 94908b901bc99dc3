//! Both tiers against a model, restarts, and a file system that fails on demand.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use treehold_object::Kind;

use super::medium::{FileSystem, Medium};
use super::*;

const MIB: u64 = 1 << 20;

fn seeded() -> StdRng {
    StdRng::seed_from_u64(crate::conformance::test_seed())
}

fn object(rng: &mut StdRng, size_max: usize) -> Object {
    let kind = *[Kind::Blob, Kind::Tree, Kind::Commit, Kind::Tag].choose(rng).unwrap();
    let size = rng.random_range(0..=size_max);
    let mut content = rng.random::<u128>().to_le_bytes().repeat(size.div_ceil(16));
    content.truncate(size);
    Object { oid: treehold_object::hash(kind, &content).unwrap(), kind, content: content.into() }
}

fn objects(rng: &mut StdRng, count: usize, size_max: usize) -> Vec<Object> {
    (0..count).map(|_| object(rng, size_max)).collect()
}

fn oids(objects: &[Object]) -> Vec<ObjectId> {
    objects.iter().map(|object| object.oid).collect()
}

/// Only on disk: nothing fits into this memory.
fn on_disk(dir: &Path, bytes: u64) -> CacheOptions {
    CacheOptions { memory_bytes: 0, disk: Some(DiskOptions { dir: dir.to_owned(), bytes }) }
}

/// Opens the cache once whoever had the directory before has let it go.
async fn opened(options: &CacheOptions) -> ObjectCache {
    for _ in 0..500 {
        let cache = ObjectCache::new(options).unwrap();
        cache.flush();
        if cache.stats().disk.unwrap().trouble.is_none() {
            return cache;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the directory was not let go");
}

/// How many of the objects are found; each of them must be the right one.
async fn found(cache: &ObjectCache, objects: &[Object]) -> usize {
    let answers = cache.lookup(&oids(objects), true, u64::MAX).await;
    assert_eq!(answers.len(), objects.len());
    let found = answers.into_iter().zip(objects).filter(|(answer, object)| match answer {
        Some(answer) => {
            assert!(answer == *object, "{} is not what was asked for", object.oid);
            true
        }
        None => false,
    });
    found.count()
}

#[derive(Debug, Default)]
struct Failing {
    /// Bytes until the disk is full.
    room: AtomicI64,
    create: AtomicBool,
    read: AtomicBool,
    failed: AtomicU64,
}

impl Failing {
    fn with_room(bytes: i64) -> Arc<Self> {
        Arc::new(Self { room: bytes.into(), ..Self::default() })
    }

    fn fail<T>(&self, kind: io::ErrorKind) -> io::Result<T> {
        self.failed.fetch_add(1, Relaxed);
        Err(kind.into())
    }
}

impl Medium for Failing {
    fn create(&self, path: &Path) -> io::Result<File> {
        if self.create.load(Relaxed) {
            return self.fail(io::ErrorKind::ReadOnlyFilesystem);
        }
        FileSystem.create(path)
    }

    fn read(&self, file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
        if self.read.load(Relaxed) {
            return self.fail(io::ErrorKind::Other);
        }
        FileSystem.read(file, into, at)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let room = self.room.fetch_sub(bytes.len() as i64, Relaxed);
        if room < bytes.len() as i64 {
            // As a full disk does, it takes what fits.
            let part = usize::try_from(room).unwrap_or(0).min(bytes.len());
            FileSystem.write(file, &bytes[..part], at)?;
            return self.fail(io::ErrorKind::StorageFull);
        }
        FileSystem.write(file, bytes, at)
    }
}

#[test]
fn memory_is_bounded_and_right() {
    let mut rng = seeded();
    for capacity in [200, 4000, MIB, 3 * MIB] {
        let memory = MemoryTier::new(capacity);
        let object_max = (capacity / 64) as usize;
        let mut model: HashMap<ObjectId, Object> = HashMap::new();
        let mut hits = 0;
        for _ in 0..4000 {
            if rng.random_bool(0.5) {
                let object = object(&mut rng, object_max + object_max / 4 + 1);
                memory.insert(&object);
                let kept = memory.contains(&object.oid);
                assert!(!kept || object.content.len() <= object_max);
                model.insert(object.oid, object);
            } else if let Some(known) = model.values().next() {
                let got = memory.get(&known.oid);
                hits += usize::from(got.is_some());
                assert!(got.is_none_or(|got| got == *known));
            }
            let (_, bytes, _) = memory.counts();
            assert!(bytes <= capacity, "{bytes} of {capacity} bytes");
        }
        let (count, bytes, evicted) = memory.counts();
        if capacity >= MIB {
            assert!(hits > 0 && evicted > 0 && count > 0 && bytes > capacity / 2, "{hits} {evicted} {count} {bytes}");
        }
    }
}

#[test]
fn what_is_read_again_outlives_a_walk_through_everything() {
    let mut rng = seeded();
    let memory = MemoryTier::new(4 * MIB);
    let hot = objects(&mut rng, 200, 4000);
    for _ in 0..3 {
        for object in &hot {
            if memory.get(&object.oid).is_none() {
                memory.insert(object);
            }
        }
    }
    for object in objects(&mut rng, 10_000, 4000) {
        memory.insert(&object);
    }
    let kept = hot.iter().filter(|object| memory.contains(&object.oid)).count();
    assert!(kept > 150, "{kept} of 200 were kept");
}

#[tokio::test]
async fn the_disk_is_bounded_and_right_and_keeps_what_is_in_use() {
    let (mut rng, dir) = (seeded(), tempfile::tempdir().unwrap());
    let bytes = 6 * MIB;
    let cache = opened(&on_disk(dir.path(), bytes)).await;
    let hot = objects(&mut rng, 20, 10_000);
    let mut all: Vec<Object> = Vec::new();
    let mut cold = Vec::new();
    for round in 0..60 {
        for object in hot.iter().cloned().chain(objects(&mut rng, 60, 10_000)) {
            cache.fill(&object);
            all.push(object);
        }
        cache.flush();
        let on_disk: u64 = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(on_disk <= bytes, "{on_disk} of {bytes} bytes in round {round}");
        let index = cache.stats().disk.unwrap().objects;
        assert!(index <= bytes / 4096 + MIB / 48, "{index} objects in the index");
        assert!(round > 40 || found(&cache, &hot).await == hot.len(), "what is in use was put out in round {round}");
        if round == 0 {
            cold = all.clone();
        }
    }
    let stats = cache.stats().disk.unwrap();
    assert!(stats.evicted > 500 && stats.damaged == 0 && stats.failures == 0 && stats.dropped == 0, "{stats:?}");
    let last = all.split_off(all.len() - 100);
    assert_eq!(found(&cache, &last).await, last.len(), "the newest are there");
    cold.retain(|object| !hot.contains(object));
    assert_eq!(found(&cache, &cold).await, 0, "the oldest, which nobody read, are not");
}

#[tokio::test]
async fn entries_survive_a_stop_and_a_crash() {
    let (mut rng, dir, crashed) = (seeded(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (options, stored) = (on_disk(dir.path(), 64 * MIB), objects(&mut rng, 400, 20_000));
    let cache = opened(&options).await;
    stored.iter().for_each(|object| cache.fill(object));
    cache.flush();
    assert!(cache.stats().disk.unwrap().bytes > 3 * MIB, "several segments, one of them open");
    // What the file system holds if the process is killed now. A few bytes of the next record may be there, too.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
    }
    let last =
        std::fs::read_dir(crashed.path()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some());
    let last = last.max().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    record::write_record(record::Header { oid: stored[0].oid, kind: Kind::Blob, size: 5000 }, &[7; 100], &mut bytes);
    std::fs::write(&last, bytes).unwrap();
    drop(cache);
    for options in [on_disk(dir.path(), 64 * MIB), on_disk(crashed.path(), 64 * MIB), on_disk(crashed.path(), 64 * MIB)]
    {
        let cache = opened(&options).await;
        assert_eq!(found(&cache, &stored).await, stored.len());
        let more = objects(&mut rng, 5, 1000);
        more.iter().for_each(|object| cache.fill(object));
        cache.flush();
        assert_eq!(found(&cache, &more).await, more.len());
        assert_eq!(cache.stats().disk.unwrap().damaged, 0);
    }
    // With less room the oldest go, at once.
    let cache = opened(&on_disk(crashed.path(), 2 * MIB)).await;
    let left = found(&cache, &stored).await;
    assert!(left < stored.len() && cache.stats().disk.unwrap().bytes <= 2 * MIB, "{left} objects");
}

#[tokio::test]
async fn damage_is_found_and_never_served() {
    let mut rng = seeded();
    for round in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let stored = objects(&mut rng, 120, 6000);
        let cache = opened(&on_disk(dir.path(), 64 * MIB)).await;
        stored.iter().for_each(|object| cache.fill(object));
        cache.flush();
        assert_eq!(found(&cache, &stored).await, stored.len());
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            for _ in 0..200 {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            if round % 3 == 0 {
                bytes.truncate(rng.random_range(0..bytes.len()));
            }
            std::fs::write(&path, bytes).unwrap();
        }
        // Under the running process, then for the next one.
        let under = found(&cache, &stored).await;
        let damaged = cache.stats().disk.unwrap().damaged;
        assert!(under < stored.len() && damaged >= (stored.len() - under) as u64, "{under} found, {damaged} damaged");
        stored.iter().for_each(|object| cache.fill(object));
        cache.flush();
        let healed = found(&cache, &stored).await;
        assert_eq!(healed, stored.len(), "what was damaged is written again");
        drop(cache);
        found(&opened(&on_disk(dir.path(), 64 * MIB)).await, &stored).await;
    }
}

#[tokio::test]
async fn a_full_disk_costs_entries_and_gives_room_back() {
    let (mut rng, dir) = (seeded(), tempfile::tempdir().unwrap());
    let medium = Failing::with_room(5 * MIB as i64 / 2);
    let cache = ObjectCache::over(&on_disk(dir.path(), 64 * MIB), medium.clone()).unwrap();
    let stored = objects(&mut rng, 1000, 10_000);
    for part in stored.chunks(20) {
        part.iter().for_each(|object| cache.fill(object));
        cache.flush();
    }
    let stats = cache.stats().disk.unwrap();
    assert!(stats.failures > 0 && stats.dropped > 0 && stats.trouble.is_some(), "{stats:?}");
    assert_eq!(medium.failed.load(Relaxed), stats.failures);
    assert!(stats.failures < 10, "after a failure it pauses: {stats:?}");
    assert!(stats.bytes < 5 * MIB / 2, "room was given back: {stats:?}");
    found(&cache, &stored).await;
    medium.room.store(i64::MAX, Relaxed);
    let more = objects(&mut rng, 3000, 100);
    for part in more.chunks(100) {
        part.iter().for_each(|object| cache.fill(object));
        cache.flush();
    }
    let stats = cache.stats().disk.unwrap();
    assert!(stats.trouble.is_none() && stats.damaged == 0, "it goes on once there is room: {stats:?}");
    assert!(found(&cache, &more).await > 0);
    drop(cache);
    let cache = opened(&on_disk(dir.path(), 64 * MIB)).await;
    assert!(found(&cache, &more).await > 0);
    found(&cache, &stored).await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_or_written_is_a_miss() {
    let (mut rng, dir) = (seeded(), tempfile::tempdir().unwrap());
    let medium = Failing::with_room(i64::MAX);
    medium.create.store(true, Relaxed);
    let cache = ObjectCache::over(&on_disk(dir.path(), 64 * MIB), medium.clone()).unwrap();
    let stored = objects(&mut rng, 100, 1000);
    stored.iter().for_each(|object| cache.fill(object));
    cache.flush();
    assert_eq!(found(&cache, &stored).await, 0);
    assert!(medium.failed.load(Relaxed) > 0 && cache.stats().disk.unwrap().trouble.is_some());
    medium.create.store(false, Relaxed);
    for _ in 0..10 {
        stored.iter().for_each(|object| cache.fill(object));
        cache.flush();
    }
    assert_eq!(found(&cache, &stored).await, stored.len());
    medium.read.store(true, Relaxed);
    assert_eq!(found(&cache, &stored[..50]).await, 0);
    assert_eq!(cache.stats().disk.unwrap().damaged, 50);
    medium.read.store(false, Relaxed);
    assert_eq!(found(&cache, &stored[50..]).await, 50);
}

#[tokio::test]
async fn a_directory_that_was_removed_is_made_again() {
    let (mut rng, dir) = (seeded(), tempfile::tempdir().unwrap());
    let cache = opened(&on_disk(&dir.path().join("cache"), 64 * MIB)).await;
    let stored = objects(&mut rng, 100, 1000);
    stored.iter().for_each(|object| cache.fill(object));
    cache.flush();
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    // Some objects are let go before the next attempt.
    for _ in 0..4 {
        let more = objects(&mut rng, 100, 1000);
        more.iter().for_each(|object| cache.fill(object));
        cache.flush();
    }
    stored.iter().for_each(|object| cache.fill(object));
    cache.flush();
    assert_eq!(found(&cache, &stored).await, stored.len());
    let there = std::fs::read_dir(dir.path().join("cache")).unwrap();
    assert!(there.count() >= 2, "the lock and a segment");
    assert!(cache.stats().disk.unwrap().trouble.is_none());
}

#[tokio::test]
async fn new_objects_are_kept_only_under_their_own_name_and_in_reason() {
    let mut rng = seeded();
    let cache = ObjectCache::new(&CacheOptions { memory_bytes: 4 * MIB, disk: None }).unwrap();
    let (good, mut wrong) = (object(&mut rng, 1000), object(&mut rng, 1000));
    wrong.content = Bytes::from_static(b"something else");
    cache.keep(&[good.clone(), wrong.clone()]);
    assert_eq!(cache.lookup(&[good.oid, wrong.oid], true, u64::MAX).await, [Some(good), None]);
    let many = objects(&mut rng, 1000, 10_000);
    cache.keep(&many);
    assert_eq!(found(&cache, &many).await, 0, "an import does not put out everything else");
}

#[tokio::test]
async fn a_lookup_ends_where_its_bytes_are_used_up() {
    let (mut rng, dir) = (seeded(), tempfile::tempdir().unwrap());
    for memory_bytes in [0, 16 * MIB] {
        let options = CacheOptions { memory_bytes, ..on_disk(dir.path(), 64 * MIB) };
        let cache = opened(&options).await;
        let stored = objects(&mut rng, 100, 10_000);
        stored.iter().for_each(|object| cache.fill(object));
        cache.flush();
        assert_eq!(found(&cache, &stored).await, stored.len());
        let answers = cache.lookup(&oids(&stored), true, 50_000).await;
        let bytes: usize = answers.iter().flatten().map(|object| object.content.len()).sum();
        assert!((30_000..60_000 + 10_000).contains(&bytes), "{bytes} bytes");
        let first_absent = answers.iter().position(Option::is_none).unwrap();
        assert!(answers[first_absent..].iter().all(Option::is_none));
    }
}
