//! Objects and stores to test with.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use treehold_object::Kind;
use treehold_object::pack::Span;
use treehold_store::{
    Bucket, FinishedPack, Location, Object, ObjectStore, PackEntry, StoreError, StoreOptions, pack_key,
};

pub fn seeded() -> StdRng {
    StdRng::seed_from_u64(treehold_store::conformance::test_seed())
}

pub fn object(kind: Kind, content: impl Into<Bytes>) -> Object {
    let content = content.into();
    Object { oid: treehold_object::hash(kind, &content).unwrap(), kind, content }
}

/// Blobs of sizes from nothing to some 100 KB, that compress more or less.
pub fn blobs(rng: &mut StdRng, count: usize) -> Vec<Object> {
    let blob = |number| {
        let mut content = format!("blob {number} {}\n", rng.random::<u64>()).repeat(1 << rng.random_range(0..12));
        content.truncate(if number == 0 { 0 } else { content.len() - rng.random_range(0..10) });
        object(Kind::Blob, content)
    };
    (0..count).map(blob).collect()
}

/// One commit whose tree names all `blobs`.
pub fn history(blobs: &[Object]) -> Vec<Object> {
    let mut tree = Vec::new();
    for (number, blob) in blobs.iter().enumerate() {
        tree.extend_from_slice(format!("100644 file-{number:06}\0").as_bytes());
        tree.extend_from_slice(blob.oid.as_slice());
    }
    let tree = object(Kind::Tree, tree);
    let commit = format!("tree {}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nfirst\n", tree.oid);
    let commit = object(Kind::Commit, commit);
    let tag = format!("object {}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nx\n", commit.oid);
    vec![tree, commit, object(Kind::Tag, tag)]
}

pub fn options() -> (tempfile::TempDir, StoreOptions) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(dir.path().join("spool"));
    (dir, options)
}

/// What an entry rests on, nearest first.
fn bases(pack: &FinishedPack, entry: &PackEntry) -> Vec<Span> {
    let mut bases = Vec::new();
    let mut next = entry.base;
    while let Some(offset) = next {
        let base = pack.entries.iter().find(|entry| entry.offset == offset).unwrap();
        bases.push(Span { offset, length: base.length });
        next = base.base;
    }
    bases
}

pub fn locations(pack: &FinishedPack, key: &str) -> Vec<Location> {
    let location = |entry: &PackEntry| Location {
        oid: entry.oid,
        kind: entry.kind,
        size: entry.size,
        key: key.to_owned(),
        offset: entry.offset,
        length: entry.length,
        bases: bases(pack, entry),
    };
    pack.entries.iter().map(location).collect()
}

/// Packs the objects and puts the pack; answers its key and where the objects are.
pub async fn put_pack(store: &ObjectStore, objects: &[Object], uuid: u8) -> (String, Vec<Location>) {
    let pack = store.build_pack(objects.to_vec()).await.unwrap();
    let key = pack_key(&pack.checksum, [uuid; 16]);
    store.put_pack(&pack, &key).await.unwrap();
    let locations = locations(&pack, &key);
    (key, locations)
}

/// Asserts that every answer is the object.
pub fn assert_objects(answers: Vec<Result<Object, StoreError>>, objects: &[Object]) {
    assert_eq!(answers.len(), objects.len());
    for (answer, object) in answers.into_iter().zip(objects) {
        assert!(answer.unwrap() == *object, "{}", object.oid);
    }
}

/// Copies every value of a bucket into a directory.
pub async fn copy_out(bucket: &Arc<dyn Bucket>, directory: &std::path::Path) {
    let mut after = None;
    loop {
        let page = bucket.list("", after.as_deref(), 100).await.unwrap();
        for (key, size) in page.entries {
            let value = bucket.get(&key, None).await.unwrap().unwrap();
            assert_eq!(value.len() as u64, size);
            std::fs::create_dir_all(directory.join(&key).parent().unwrap()).unwrap();
            std::fs::write(directory.join(&key), value).unwrap();
        }
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}
