use std::collections::BTreeMap;

use proptest::prelude::*;
use treehold_object::BString;

use super::*;
use crate::tree::encode;

/// Names whose order depends on whether they are directories.
fn some_name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["a", "a.c", "a-b", "a0", "ab", "a b", "b", "ü", "A"]).prop_map(str::to_owned),
        "[a-c./0-]{1,3}".prop_filter("a component", |name| !name.contains('/')),
    ]
}

fn some_entries() -> impl Strategy<Value = BTreeMap<BString, Item>> {
    let mode = prop::sample::select(vec![0o100644, 0o100755, 0o120000, TREE, GITLINK]);
    let item = (mode, any::<[u8; 20]>()).prop_map(|(mode, oid)| Item { mode, oid: ObjectId::Sha1(oid) });
    prop::collection::btree_map(some_name().prop_map(BString::from), item, 0..40)
}

fn id(number: u32) -> ObjectId {
    let mut oid = [0; 20];
    oid[..4].copy_from_slice(&number.to_be_bytes());
    ObjectId::Sha1(oid)
}

proptest! {
    /// Goal: a decoded tree says what the raw one says, for names that are there and names that are not.
    #[test]
    fn decoded_trees_agree_with_raw_ones(entries in some_entries(), others in prop::collection::vec(some_name(), 10)) {
        let raw = encode(entries.iter().map(|(name, item)| (name, *item))).unwrap();
        let tree = Tree::decode(raw.clone()).unwrap();
        prop_assert!(tree.sorted);
        let read: Vec<(BString, Item)> = super::entries(&raw).map(|entry| entry.unwrap()).map(|(name, item)| (name.to_owned(), item)).collect();
        let decoded: Vec<(BString, Item)> = tree.entries().map(|(name, item)| (name.to_owned(), item)).collect();
        prop_assert_eq!(&decoded, &read);
        for (index, (name, item)) in read.iter().enumerate() {
            prop_assert_eq!(tree.get(index), Some((name.as_ref(), *item)));
        }
        prop_assert_eq!(tree.get(read.len()), None);
        let names = entries.keys().cloned().chain(others.iter().map(|name| name.as_str().into()));
        for name in names.chain([BString::default(), "a/".into()]) {
            prop_assert_eq!(tree.find(&name), entries.get(&name).copied(), "{}", name);
        }
        tree.set_sizes(tree.blobs().enumerate().map(|(at, _)| at as u64 + 1));
        let sized: Vec<u64> = tree.sizes().unwrap().iter().copied().filter(|size| *size > 0).collect();
        prop_assert_eq!(sized, (1..=tree.blobs().count() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn trees_out_of_order_are_searched_one_by_one() {
    let mut raw = Vec::new();
    for name in ["b", "a", "c"] {
        raw.extend_from_slice(format!("100644 {name}\0").as_bytes());
        raw.extend_from_slice(id(u32::from(name.as_bytes()[0])).as_slice());
    }
    let tree = Tree::decode(raw.into()).unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(tree.find(name.as_bytes()).map(|item| item.oid), Some(id(u32::from(name.as_bytes()[0]))));
    }
    assert_eq!(tree.find(b"d"), None);
    assert!(Tree::decode(Bytes::from_static(b"100644 cut")).is_err());
}
