//! What is put comes back, with few calls.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use rand::Rng;
use rand::seq::SliceRandom;
use treehold_object::Kind;
use treehold_object::zlib::Inflater;
use treehold_store::{MemoryBucket, Metered, ObjectStore, StoreError, pack_key};

use crate::sample::{assert_objects, blobs, history, locations, object, options, put_pack, seeded};

fn metered() -> (Arc<Metered>, ObjectStore, tempfile::TempDir) {
    let (dir, options) = options();
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    (Arc::clone(&bucket), ObjectStore::new(bucket, options), dir)
}

#[tokio::test]
async fn loose_objects_come_back() {
    let (meter, store, _dir) = metered();
    let mut objects = blobs(&mut seeded(), 10);
    objects.extend(history(&objects));
    // Over the limit for work on the spot.
    objects.push(object(Kind::Blob, Bytes::from(vec![5; 1_000_000])));
    let stored = store.put_loose_many(objects.clone()).await.unwrap();
    for (stored, object) in stored.iter().zip(&objects) {
        assert_eq!((stored.oid, stored.kind, stored.offset), (object.oid, object.kind, 0));
        assert_eq!(stored.key, treehold_store::loose_key(&object.oid));
        assert_eq!(stored.sha256, treehold_object::hash::sha256(object.kind, &object.content));
        assert_eq!(store.bucket().head(&stored.key).await.unwrap(), Some(stored.length));
        let again = store.put_loose(object.oid, object.kind, object.content.clone()).await.unwrap();
        assert_eq!(again, *stored);
    }
    let asked: Vec<_> = stored.iter().map(|stored| stored.location()).collect();
    let before = meter.snapshot().get.calls;
    assert_objects(store.get_many(&asked).await, &objects);
    assert_eq!(meter.snapshot().get.calls - before, objects.len() as u64);
    assert!(store.get(&asked[3]).await.unwrap() == objects[3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_come_back_in_any_order_with_few_reads() {
    let mut rng = seeded();
    let (meter, store, _dir) = metered();
    let objects = blobs(&mut rng, 700);
    let (one, rest) = objects.split_at(300);
    let (_, mut asked) = put_pack(&store, one, 1).await;
    asked.extend(put_pack(&store, rest, 2).await.1);
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.shuffle(&mut rng);
    // Asked for twice is answered twice.
    order.push(order[0]);
    let asked: Vec<_> = order.iter().map(|at| asked[*at].clone()).collect();
    let expected: Vec<_> = order.iter().map(|at| objects[*at].clone()).collect();
    assert_objects(store.get_many(&asked).await, &expected);
    assert!(meter.snapshot().get.calls < 10, "{:?}", meter.snapshot().get);

    let streamed: Vec<_> = store.stream_many(asked).collect().await;
    assert_objects(streamed, &expected);
    assert!(store.get_many(&[]).await.is_empty());
    assert_eq!(store.stream_many(Vec::new()).count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_hold_little_and_keep_the_order() {
    let (meter, store, _dir) = metered();
    // 40 MB of content in objects of 2 MB, and one larger than a window.
    let mut objects: Vec<_> = (0..20u8).map(|byte| object(Kind::Blob, vec![byte; 2 << 20])).collect();
    objects.insert(7, object(Kind::Blob, vec![99; 12 << 20]));
    let (_, asked) = put_pack(&store, &objects, 1).await;
    let mut stream = Box::pin(store.stream_many(asked));
    let first = stream.next().await.unwrap().unwrap();
    assert!(first == objects[0]);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let early = meter.snapshot().get.calls;
    assert!(early <= 3, "{early} reads although nobody asked for more");
    let rest: Vec<_> = stream.collect().await;
    assert_objects(rest, &objects[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_can_be_copied_into_another_pack() {
    let (_, store, _dir) = metered();
    let objects = blobs(&mut seeded(), 60);
    let (loose, packed) = objects.split_at(10);
    let (_, packed) = put_pack(&store, packed, 1).await;
    let stored = store.put_loose_many(loose.to_vec()).await.unwrap();
    let asked: Vec<_> = stored.iter().map(|stored| stored.location()).chain(packed).collect();

    let mut copy = store.pack_builder();
    for (entry, object) in store.get_entries(&asked).await.into_iter().zip(&objects) {
        let entry = entry.unwrap();
        assert_eq!((entry.oid, entry.kind, entry.size), (object.oid, object.kind, object.content.len() as u64));
        let (content, used) = Inflater::default().inflate(&entry.zlib, entry.size).unwrap();
        assert!(content == object.content && used == entry.zlib.len());
        let sha256 = treehold_object::hash::sha256(object.kind, &object.content);
        assert!(copy.add_compressed(entry.oid, entry.kind, entry.size, sha256, &entry.zlib).unwrap());
        assert!(!copy.add_compressed(entry.oid, entry.kind, entry.size, sha256, &entry.zlib).unwrap());
        assert!(!copy.add(object.oid, object.kind, &object.content).unwrap());
    }
    let copy = copy.finish().unwrap();
    let fresh = store.build_pack(objects.clone()).await.unwrap();
    assert_eq!((copy.checksum, &copy.entries, &copy.idx), (fresh.checksum, &fresh.entries, &fresh.idx));
    let streamed: Vec<_> = store.stream_entries(asked).map(|entry| entry.unwrap().oid).collect().await;
    assert!(streamed.iter().eq(objects.iter().map(|object| &object.oid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_packs_go_through_the_spool_directory_and_leave_nothing() {
    let mut rng = seeded();
    let (_, store, dir) = metered();
    // Noise does not compress: 3 MB.
    let objects: Vec<_> =
        (0..30).map(|_| object(Kind::Blob, (0..100_000).map(|_| rng.random()).collect::<Vec<u8>>())).collect();
    let mut builder = store.pack_builder();
    for object in &objects {
        assert!(builder.add(object.oid, object.kind, &object.content).unwrap());
        assert!(builder.contains(&object.oid));
    }
    assert!((builder.len(), builder.is_empty(), builder.is_full()) == (30, false, false));
    let spooled = || std::fs::read_dir(dir.path().join("spool")).unwrap().count();
    assert_eq!(spooled(), 1);
    let bytes = builder.bytes();
    let pack = builder.finish().unwrap();
    assert_eq!(pack.size, bytes + 20);
    let key = pack_key(&pack.checksum, [9; 16]);
    store.put_pack(&pack, &key).await.unwrap();
    store.put_pack(&pack, &key).await.unwrap();
    assert_eq!(store.bucket().head(&key).await.unwrap(), Some(pack.size));
    assert_objects(store.get_many(&locations(&pack, &key)).await, &objects);
    drop(pack);
    assert_eq!(spooled(), 0);
    let mut dropped = store.pack_builder();
    objects.iter().for_each(|object| assert!(dropped.add(object.oid, object.kind, &object.content).unwrap()));
    assert_eq!(spooled(), 1);
    drop(dropped);
    assert_eq!(spooled(), 0);
}

#[tokio::test]
async fn packs_are_full_at_their_size() {
    let (_dir, mut options) = options();
    options.pack_bytes = 1000;
    let store = ObjectStore::new(Arc::new(MemoryBucket::new()), options);
    let mut builder = store.pack_builder();
    for number in 0.. {
        if builder.is_full() {
            assert!(number > 10 && (1000..1100).contains(&builder.bytes()));
            break;
        }
        let blob = object(Kind::Blob, format!("number {number}"));
        builder.add(blob.oid, blob.kind, &blob.content).unwrap();
    }
}

#[tokio::test]
async fn what_is_gone_is_missing_and_what_is_in_use_occupied() {
    let (_, store, _dir) = metered();
    let objects = blobs(&mut seeded(), 5);
    let (key, mut asked) = put_pack(&store, &objects, 1).await;
    let stored = store.put_loose(objects[1].oid, Kind::Blob, objects[1].content.clone()).await.unwrap();
    asked.push(stored.location());

    let other = store.build_pack(objects[..2].to_vec()).await.unwrap();
    assert!(matches!(store.put_pack(&other, &key).await, Err(StoreError::Occupied { .. })));
    assert!(matches!(store.put_pack(&other, "objects/pack/x").await, Err(StoreError::Refused { .. })));

    for _ in 0..2 {
        store.delete(&key).await.unwrap();
    }
    let answers = store.get_many(&asked).await;
    assert!(answers[5].is_ok());
    for answer in &answers[..5] {
        assert!(matches!(answer, Err(StoreError::Missing { key: named }) if *named == key), "{answer:?}");
    }
    store.delete(&stored.key).await.unwrap();
    assert!(store.bucket().list("", None, 10).await.unwrap().entries.is_empty());
}
