use std::collections::BTreeMap;

use treehold_object::BString;

use super::*;
use crate::tree::{Item, encode};

fn blob_tree(number: u32, names: usize) -> (ObjectId, Arc<Tree>) {
    let entries: BTreeMap<BString, Item> = (0..names)
        .map(|name| (format!("{number:08}-{name:06}").into(), Item { mode: 0o100644, oid: id(number) }))
        .collect();
    let raw = encode(entries.iter().map(|(name, item)| (name, *item))).unwrap();
    (id(number), Arc::new(Tree::decode(raw).unwrap()))
}

fn id(number: u32) -> ObjectId {
    let mut oid = [0; 20];
    oid[..4].copy_from_slice(&number.to_be_bytes());
    ObjectId::Sha1(oid)
}

/// Goal: the cache stays within its bound whatever goes in, and gives back only what was put under an id.
#[test]
fn the_cache_keeps_its_bound() {
    let bound = 1 << 20;
    let cache = TreeCache::new(bound);
    for number in 0..5_000_u32 {
        let (oid, tree) = blob_tree(number, (number as usize * 7) % 90);
        cache.insert(oid, tree);
        assert!(cache.weight() <= bound, "{} after {number}", cache.weight());
        for probe in [number, number / 2, number.wrapping_mul(31) % 5_000] {
            if let Some(tree) = cache.get(&id(probe)) {
                assert_eq!(tree.raw(), blob_tree(probe, (probe as usize * 7) % 90).1.raw());
            }
        }
    }
    assert!(cache.weight() > bound / 2, "it is used");
    let (oid, tree) = blob_tree(9_999, 60_000);
    cache.insert(oid, tree);
    assert!(cache.weight() <= bound && cache.get(&id(9_999)).is_none(), "a tree larger than all of it is not kept");
    let none = TreeCache::new(0);
    let (oid, tree) = blob_tree(1, 3);
    none.insert(oid, tree);
    assert!(none.get(&oid).is_none());
}

/// Goal: a list of everything, once, leaves trees that are used often where they are.
#[test]
fn a_scan_leaves_what_is_used() {
    let cache = TreeCache::new(1 << 20);
    for number in 0..100 {
        let (oid, tree) = blob_tree(number, 30);
        cache.insert(oid, tree);
    }
    for _ in 0..3 {
        assert!((0..100).all(|number| cache.get(&id(number)).is_some()));
    }
    for number in 1_000..20_000 {
        let (oid, tree) = blob_tree(number, 30);
        cache.insert(oid, tree);
    }
    let kept = (0..100).filter(|number| cache.get(&id(*number)).is_some()).count();
    assert!(kept >= 95, "{kept} of 100 trees are left");
}
