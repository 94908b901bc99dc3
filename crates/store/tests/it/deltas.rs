//! Packs that hold deltas: read in few ranges, verified, and packs like those of stock git.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use treehold_object::{Kind, delta, hash};
use treehold_store::{
    Bucket, FinishedPack, Location, MemoryBucket, Metered, Object, ObjectStore, Payload, RawBase, StoreError,
    StoreOptions, pack_key,
};

use crate::sample::{assert_objects, locations, object, options, seeded};

/// Versions of some files: each one is the one before with a few lines changed.
fn versions(rng: &mut StdRng, files: usize, versions: usize) -> Vec<Vec<Object>> {
    let file = |number: usize, rng: &mut StdRng| {
        let mut lines: Vec<String> =
            (0..60).map(|line| format!("file {number} line {line} {}\n", rng.random::<u64>())).collect();
        let version = |_| {
            let at = rng.random_range(0..lines.len());
            lines[at] = format!("changed {}\n", rng.random::<u64>());
            object(Kind::Blob, lines.concat())
        };
        (0..versions).map(version).collect()
    };
    (0..files).map(|number| file(number, rng)).collect()
}

/// A pack of chains: the first version of each file is whole, each next one a delta against the one before.
fn chains(store: &ObjectStore, files: &[Vec<Object>]) -> FinishedPack {
    let mut builder = store.pack_builder();
    for file in files {
        assert!(builder.add(file[0].oid, Kind::Blob, &file[0].content).unwrap());
        for pair in file.windows(2) {
            let (base, new) = (&pair[0], &pair[1]);
            let made = delta::create(&base.content, &new.content).unwrap();
            let sha256 = hash::sha256(Kind::Blob, &new.content);
            let size = new.content.len() as u64;
            assert!(builder.add_delta(new.oid, Kind::Blob, size, sha256, &base.oid, &made).unwrap());
            assert!(!builder.add_delta(new.oid, Kind::Blob, size, sha256, &base.oid, &made).unwrap(), "it is there");
        }
    }
    let stranger = object(Kind::Blob, "not in the pack");
    assert!(!builder.add_delta(stranger.oid, Kind::Blob, 1, [0; 32], &stranger.oid, b"").unwrap());
    builder.finish().unwrap()
}

struct Stored {
    _dir: tempfile::TempDir,
    bucket: Arc<dyn Bucket>,
    metered: Arc<Metered>,
    store: ObjectStore,
    key: String,
    objects: Vec<Object>,
    locations: Vec<Location>,
}

async fn stored(files: usize, length: usize) -> Stored {
    let mut rng = seeded();
    let (dir, options) = options();
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
    let metered = Arc::new(Metered::new(Arc::clone(&bucket)));
    let store = ObjectStore::new(Arc::clone(&metered) as Arc<dyn Bucket>, options);
    let files = versions(&mut rng, files, length);
    let pack = chains(&store, &files);
    let key = pack_key(&pack.checksum, [1; 16]);
    store.put_pack(&pack, &key).await.unwrap();
    let locations = locations(&pack, &key);
    Stored { _dir: dir, bucket, metered, store, key, objects: files.concat(), locations }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_come_back_in_the_order_asked_for() {
    let Stored { store, objects, locations, .. } = &stored(7, 30).await;
    let mut rng = seeded();
    for _ in 0..20 {
        let mut asked: Vec<usize> = (0..objects.len()).collect();
        asked.shuffle(&mut rng);
        asked.truncate(rng.random_range(1..40));
        asked.push(asked[0]);
        let wanted: Vec<Location> = asked.iter().map(|at| locations[*at].clone()).collect();
        let expected: Vec<Object> = asked.iter().map(|at| objects[*at].clone()).collect();
        assert_objects(store.get_many(&wanted).await, &expected);
        for (entry, object) in store.get_entries(&wanted).await.into_iter().zip(&expected) {
            let entry = entry.unwrap();
            let (content, _) = treehold_object::zlib::Inflater::default().inflate(&entry.zlib, entry.size).unwrap();
            assert_eq!((entry.oid, content.as_slice()), (object.oid, object.content.as_ref()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_costs_one_request() {
    let Stored { store, objects, locations, metered, .. } = &stored(3, 50).await;
    let last = locations.len() - 1;
    assert_eq!(locations[last].bases.len(), 49);
    let before = metered.snapshot().get.calls;
    assert_eq!(store.get(&locations[last]).await.unwrap(), objects[last]);
    assert_eq!(metered.snapshot().get.calls - before, 1);
    assert_objects(store.get_many(locations).await, objects);
    assert_eq!(metered.snapshot().get.calls - before, 3, "all deltas with one request, all whole objects with another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_a_base_shows_in_what_rests_on_it_and_nowhere_else() {
    let Stored { bucket, store, key, objects, locations, .. } = &stored(4, 12).await;
    let spool_dir = store.options().spool_dir.clone();
    let mut rng = seeded();
    let whole = bucket.get(key, None).await.unwrap().unwrap().to_vec();
    for _ in 0..40 {
        let hit = rng.random_range(0..locations.len());
        let (start, length) = (locations[hit].offset as usize, locations[hit].length as usize);
        let mut value = whole.clone();
        value[start + rng.random_range(0..length)] ^= 0xff;
        let damaged = MemoryBucket::new();
        damaged.put(key, Payload::Bytes(value.into())).await.unwrap();
        let store = ObjectStore::new(Arc::new(damaged), StoreOptions::new(spool_dir.clone()));
        for (at, answer) in store.get_many(locations).await.into_iter().enumerate() {
            let touched = at == hit || locations[at].bases.iter().any(|base| base.offset == start as u64);
            match answer {
                Ok(read) => assert!(!touched && read == objects[at], "{at} with {hit} damaged"),
                Err(StoreError::Corrupt { id, .. }) => assert!(touched && id == objects[at].oid, "{at} with {hit}"),
                Err(err) => panic!("{err:?}"),
            }
        }
    }
    let lied = Location { bases: locations[5].bases[1..].to_vec(), ..locations[5].clone() };
    assert!(matches!(store.get(&lied).await, Err(StoreError::Corrupt { .. })), "a chain with a gap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_takes_the_pack_and_writes_the_same_index() {
    let Stored { bucket, key, objects, .. } = &stored(5, 20).await;
    let repository = tempfile::tempdir().unwrap();
    crate::git::git(repository.path(), &["init", "--bare", "--quiet", "."], b"");
    crate::sample::copy_out(bucket, repository.path()).await;
    let pack = repository.path().join(key);
    let again = repository.path().join("again.idx");
    crate::git::git(
        repository.path(),
        &["index-pack", "--strict", "-o", again.to_str().unwrap(), pack.to_str().unwrap()],
        b"",
    );
    assert!(std::fs::read(pack.with_extension("idx")).unwrap() == std::fs::read(&again).unwrap());
    for object in objects {
        let content = crate::git::git(repository.path(), &["cat-file", "blob", &object.oid.to_string()], b"");
        assert!(content == object.content);
    }
}

#[tokio::test]
async fn entries_are_copied_as_they_stand() {
    let stored = stored(3, 12).await;
    let whole = stored.bucket.get(&stored.key, None).await.unwrap().unwrap();
    let pack = stored.store.raw_pack(&stored.key).await.unwrap();
    let count = stored.locations.len();
    assert_eq!((pack.entries().len(), pack.span(0).offset), (count, 12));
    assert_eq!(pack.span(count - 1).offset + pack.span(count - 1).length, whole.len() as u64 - 20);
    let (mut deltas, mut located) = (0, stored.locations.clone());
    located.sort_by_key(|location| location.offset);
    for places in [0..count, 2..3, 5..20, 4..4] {
        let run = pack.read(places.clone()).await.unwrap();
        let end = run.start as usize + run.bytes.len();
        assert_eq!(run.bytes, whole[run.start as usize..end]);
        assert_eq!(run.entries.len(), places.len());
        for (entry, location) in run.entries.iter().zip(&located[places]) {
            assert_eq!((entry.oid, entry.span.length), (location.oid, location.length));
            assert_eq!(entry.span.offset + run.start, location.offset);
            let base = location.bases.first().map_or(RawBase::Whole, |base| RawBase::At(base.offset));
            assert_eq!(entry.base, base);
            deltas += usize::from(base != RawBase::Whole);
        }
    }
    assert!(deltas > count / 2);
}

#[tokio::test]
async fn an_index_is_read_once() {
    let stored = stored(1, 5).await;
    stored.store.raw_pack(&stored.key).await.unwrap();
    let idx_key = treehold_store::idx_key(&stored.key).unwrap();
    stored.bucket.delete(&idx_key).await.unwrap();
    stored.store.raw_pack(&stored.key).await.unwrap();
    let other = ObjectStore::new(stored.bucket.clone(), stored.store.options().clone());
    assert!(matches!(other.raw_pack(&stored.key).await, Err(StoreError::Missing { .. })));
}

/// Goal: nothing damaged is copied, and what is damaged is named. Method: a bit of every byte of the entries flipped in turn.
#[tokio::test]
async fn damaged_entries_are_not_copied() {
    let stored = stored(1, 5).await;
    let idx_key = treehold_store::idx_key(&stored.key).unwrap();
    let whole = stored.bucket.get(&stored.key, None).await.unwrap().unwrap();
    let idx = stored.bucket.get(&idx_key, None).await.unwrap().unwrap();
    let failing = Arc::new(MemoryBucket::new());
    failing.damage(&stored.key, whole.clone());
    failing.damage(&idx_key, idx.clone());
    let over = || ObjectStore::new(Arc::clone(&failing) as Arc<dyn Bucket>, stored.store.options().clone());
    let pack = over().raw_pack(&stored.key).await.unwrap();
    let count = pack.entries().len();
    let flipped = |bytes: &[u8], at: usize| {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1 << (at % 8);
        bad
    };
    for at in 12..whole.len() - 20 {
        failing.damage(&stored.key, flipped(&whole, at).into());
        let hit = pack.entries().iter().rfind(|entry| entry.offset as usize <= at).unwrap();
        match pack.read(0..count).await {
            Err(StoreError::Corrupt { id, .. }) => assert_eq!(id, hit.oid),
            other => panic!("flipped at {at}: {other:?}"),
        }
    }
    failing.damage(&stored.key, whole.clone());
    assert!(pack.read(0..count).await.is_ok());
    failing.damage(&idx_key, flipped(&idx, idx.len() - 60).into());
    assert!(matches!(over().raw_pack(&stored.key).await, Err(StoreError::Corrupt { .. })));
    failing.delete(&stored.key).await.unwrap();
    assert!(matches!(pack.read(0..count).await, Err(StoreError::Missing { .. })));
}
