//! Damaged bytes are never served.

use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use treehold_object::Kind;
use treehold_store::{Bucket, Location, MemoryBucket, Object, ObjectStore, StoreError, Version};

use crate::sample::{blobs, object, options, put_pack, seeded};

struct Damaged {
    bucket: Arc<MemoryBucket>,
    store: ObjectStore,
    _dir: tempfile::TempDir,
}

impl Damaged {
    fn new() -> Self {
        let (dir, options) = options();
        let bucket = Arc::new(MemoryBucket::new());
        let store = ObjectStore::new(Arc::clone(&bucket) as Arc<dyn Bucket>, options);
        Self { bucket, store, _dir: dir }
    }

    async fn value(&self, key: &str) -> Vec<u8> {
        self.bucket.get(key, None).await.unwrap().unwrap().to_vec()
    }

    /// Reads everything with `value` under `key`: an answer is the object, or that it is corrupt. Counts the latter.
    async fn corrupt(&self, key: &str, value: Vec<u8>, asked: &[Location], objects: &[Object]) -> usize {
        self.bucket.damage(key, value.into());
        let mut corrupt = 0;
        let entries = self.store.get_entries(asked).await;
        let answers = self.store.get_many(asked).await;
        for ((answer, entry), object) in answers.into_iter().zip(entries).zip(objects) {
            assert_eq!(answer.is_ok(), entry.is_ok());
            match answer {
                Ok(answer) => assert!(answer == *object, "wrong bytes were served"),
                Err(StoreError::Corrupt { id, key: named }) => {
                    assert_eq!((id, named.as_str()), (object.oid, key));
                    corrupt += 1;
                }
                Err(err) => panic!("{err:?}"),
            }
        }
        corrupt
    }
}

#[tokio::test]
async fn every_byte_of_a_small_object_counts() {
    let small = object(Kind::Blob, "some content, some more content\n");
    for packed in [false, true] {
        let damaged = Damaged::new();
        let stored = damaged.store.put_loose(small.oid, small.kind, small.content.clone()).await.unwrap();
        let asked = match packed {
            false => vec![stored.location()],
            true => put_pack(&damaged.store, std::slice::from_ref(&small), 1).await.1,
        };
        let Location { key, offset, length, .. } = asked[0].clone();
        let whole = damaged.value(&key).await;
        let objects = std::slice::from_ref(&small);
        let mut harmless = 0;
        for at in usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap() {
            for bit in 0..8 {
                let mut value = whole.clone();
                value[at] ^= 1 << bit;
                harmless += 1 - damaged.corrupt(&key, value, &asked, objects).await;
            }
            assert_eq!(damaged.corrupt(&key, whole[..at].to_vec(), &asked, objects).await, 1, "cut at {at}");
        }
        // Deflate fills its last byte up with bits that mean nothing; whatever else changes is noticed.
        assert!(harmless <= 7, "{harmless} bits could be changed unnoticed");
        assert_eq!(damaged.corrupt(&key, whole, &asked, objects).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_packs_give_what_is_whole_and_nothing_else() {
    let mut rng = seeded();
    let damaged = Damaged::new();
    let objects = blobs(&mut rng, 120);
    let (key, asked) = put_pack(&damaged.store, &objects, 1).await;
    let whole = damaged.value(&key).await;
    for round in 0..60 {
        let mut value = whole.clone();
        let at = rng.random_range(12..whole.len() - 20);
        let hit = asked.iter().position(|asked| asked.offset + asked.length > at as u64).unwrap();
        // All bits: single ones can be the filling behind a stream.
        value[at] ^= 0xff;
        assert_eq!(damaged.corrupt(&key, value, &asked, &objects).await, 1, "round {round} byte {at} object {hit}");

        let cut = damaged.corrupt(&key, whole[..at].to_vec(), &asked, &objects).await;
        assert_eq!(cut, objects.len() - hit, "cut at {at}");

        // A block of zeros, as after a lost write; a block that was moved.
        let end = (at + 4096).min(whole.len());
        let mut zeros = whole.clone();
        zeros[at..end].fill(0);
        assert!(damaged.corrupt(&key, zeros, &asked, &objects).await >= 1);
        let mut moved = whole.clone();
        moved.remove(at);
        assert!(damaged.corrupt(&key, moved, &asked, &objects).await >= objects.len() - hit - 1);
    }
    assert_eq!(damaged.corrupt(&key, whole, &asked, &objects).await, 0);
}

#[tokio::test]
async fn swapped_values_and_wrong_locations_are_corrupt() {
    let damaged = Damaged::new();
    let two = [object(Kind::Blob, "one"), object(Kind::Blob, "two")];
    let stored = damaged.store.put_loose_many(two.to_vec()).await.unwrap();
    let asked: Vec<Location> = stored.iter().map(|stored| stored.location()).collect();
    let (one, other) = (damaged.value(&asked[0].key).await, damaged.value(&asked[1].key).await);
    assert_eq!(damaged.corrupt(&asked[0].key, other, &asked[..1], &two[..1]).await, 1);
    damaged.bucket.damage(&asked[0].key, one.into());

    let (_, packed) = put_pack(&damaged.store, &two, 1).await;
    for right in [&asked[0], &packed[0]] {
        assert!(damaged.store.get(right).await.is_ok());
        let wrong: [fn(&mut Location); 9] = [
            |wrong| wrong.kind = Kind::Tree,
            |wrong| wrong.size += 1,
            |wrong| wrong.size -= 1,
            |wrong| wrong.size = u64::MAX,
            |wrong| wrong.length -= 1,
            |wrong| wrong.length = 0,
            |wrong| wrong.offset += 1,
            |wrong| wrong.offset = u64::MAX,
            |wrong| wrong.oid = treehold_object::hash(Kind::Blob, b"three").unwrap(),
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            let mut wrong = right.clone();
            change(&mut wrong);
            let answer = damaged.store.get(&wrong).await;
            assert!(matches!(answer, Err(StoreError::Corrupt { .. })), "{number}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_bomb_is_not_inflated() {
    let damaged = Damaged::new();
    let bomb = object(Kind::Blob, Bytes::from(vec![0; 50 << 20]));
    let stored = damaged.store.put_loose(bomb.oid, bomb.kind, bomb.content.clone()).await.unwrap();
    assert!(stored.length < 1 << 20);
    // The ledger says 10 bytes: nothing like 50 MiB is reserved, and what would come out is not served.
    let lied = Location { size: 10, ..stored.location() };
    assert!(matches!(damaged.store.get(&lied).await, Err(StoreError::Corrupt { .. })));
    assert!(damaged.store.get(&stored.location()).await.unwrap() == bomb);
}

/// Goal: what a pack was before it was overwritten and deleted can be read entry by entry, and what it was after that gives nothing.
#[tokio::test]
async fn an_older_version_of_a_pack_is_read_by_its_index() {
    let (_dir, options) = options();
    let bucket = Arc::new(MemoryBucket::with_versions());
    let store = ObjectStore::new(Arc::clone(&bucket) as Arc<dyn Bucket>, options);
    let objects = blobs(&mut seeded(), 10);
    let (key, _) = put_pack(&store, &objects, 1).await;
    let idx_key = treehold_store::idx_key(&key).unwrap();
    let idx = bucket.get(&idx_key, None).await.unwrap().unwrap();
    let size = bucket.head(&key).await.unwrap().unwrap();
    bucket.damage(&key, vec![7; usize::try_from(size).unwrap()].into());
    bucket.delete(&key).await.unwrap();
    let versions = bucket.versions(&key, 9).await.unwrap();
    assert_eq!(versions.len(), 2);
    let [overwritten, first] = [&versions[0], &versions[1]];
    let pack = store.raw_pack_version(&key, first, idx.clone()).await.unwrap();
    let count = pack.entries().len();
    assert_eq!(pack.read(0..count).await.unwrap().entries.len(), count);
    let pack = store.raw_pack_version(&key, overwritten, idx.clone()).await.unwrap();
    assert!(matches!(pack.read(0..count).await, Err(StoreError::Corrupt { .. })));
    let small = Version { size: 40, ..first.clone() };
    assert!(matches!(store.raw_pack_version(&key, &small, idx).await, Err(StoreError::Corrupt { .. })));
    let unknown = Version { id: "99".to_owned(), ..first.clone() };
    let idx = bucket.get(&idx_key, None).await.unwrap().unwrap();
    let pack = store.raw_pack_version(&key, &unknown, idx).await.unwrap();
    assert!(matches!(pack.read(0..count).await, Err(StoreError::Missing { .. })));
}
