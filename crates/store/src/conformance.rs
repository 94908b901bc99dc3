//! What every [`Bucket`] guarantees, tested by number.
//!
//! A backend's test calls [`run`] with a function that opens one of its buckets by name. Every test takes a name of its
//! own and opens it more than once, as several processes would. Failures panic with the number of the guarantee.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng, RngCore as _, SeedableRng};

use crate::bucket::{Bucket, Payload, Put};
use crate::error::StoreError;

/// The seed in `TREEHOLD_TEST_SEED`, else a new one; printed, so that a failure can be replayed.
pub fn test_seed() -> u64 {
    let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TREEHOLD_TEST_SEED={seed}");
    seed
}

/// What a backend is known not to do. Every gap is a sentence in its documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Reading a name that is a directory of keys, or below a key, is an error rather than absence (servers that
    /// keep keys as files). Treehold has no such names.
    pub directories_are_errors: bool,
}

/// Runs the whole suite. `open` gives a handle of its own to the bucket of that name, which is empty at first.
pub async fn run(gaps: Gaps, open: impl Fn(&'static str) -> Arc<dyn Bucket>) {
    let mut rng = StdRng::seed_from_u64(test_seed());
    atomic(open("atomic"), open("atomic")).await;
    cut_off(open("cut-off"), &mut rng).await;
    durable(&open).await;
    visible(open("visible"), open("visible")).await;
    written_once(open("once"), open("once")).await;
    written_once_in_a_race(&open, &mut rng).await;
    exact_ranges(open("ranges")).await;
    absence(gaps, open("absence")).await;
    listing(open("listing"), &mut rng).await;
    listing_while_others_write(open("busy"), open("busy")).await;
    only_keys(open("keys")).await;
}

/// Tests guarantee 8 for backends that keep versions. `replace` gives a key of the (empty) bucket another value, behind the contract's back.
pub async fn run_versions(bucket: Arc<dyn Bucket>, replace: impl AsyncFn(&str, Bytes)) {
    assert!(bucket.keeps_versions().await.expect("8: whether any are kept"));
    let key = "objects/pack/pack-1.pack";
    let listed = async |limit| {
        let versions = bucket.versions(key, limit).await.expect("8: versions");
        versions.iter().map(|version| (version.size, version.current)).collect::<Vec<_>>()
    };
    assert_eq!(listed(9).await, [], "8: never written");
    bucket.put(key, bytes(&b"first"[..])).await.expect("8: put");
    // Neighbours whose names begin alike.
    for neighbour in ["objects/pack/pack-1.pack2", "objects/pack/pack-1"] {
        bucket.put(neighbour, bytes("x")).await.expect("8: put");
        bucket.delete(neighbour).await.expect("8: delete");
    }
    assert_eq!(listed(9).await, [(5, true)]);
    replace(key, Bytes::from_static(b"second value")).await;
    assert_eq!(listed(9).await, [(12, true), (5, false)]);
    bucket.delete(key).await.expect("8: delete");
    assert_eq!(bucket.get(key, None).await.expect("8: get"), None);
    assert_eq!(listed(9).await, [(12, false), (5, false)], "8: deleted");
    assert_eq!(listed(1).await, [(12, false)], "8: the newest one");
    replace(key, Bytes::from_static(b"third")).await;
    let versions = bucket.versions(key, 9).await.expect("8: versions");
    let values: [&[u8]; 3] = [b"third", b"second value", b"first"];
    assert_eq!(versions.iter().map(|version| version.current).collect::<Vec<_>>(), [true, false, false]);
    for (version, value) in versions.iter().zip(values) {
        let got = bucket.get_version(key, &version.id, None).await.expect("8: get");
        assert_eq!(got.as_deref(), Some(value));
        for range in [0..1, 2..5, 3..99, 99..100, 0..u64::MAX] {
            let got = bucket.get_version(key, &version.id, Some(range.clone())).await.expect("8: get");
            let expected = crate::payload::clip(&Bytes::from_static(value), Some(range.clone()));
            assert_eq!(got, Some(expected), "8: {range:?} of {} bytes", value.len());
        }
    }
}

fn bytes(value: impl Into<Bytes>) -> Payload {
    Payload::Bytes(value.into())
}

/// The payload twice: in memory and in a file.
fn both(value: &[u8]) -> (Payload, Payload, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(value).expect("write the temporary file");
    (bytes(value.to_vec()), Payload::File(file.path().into()), file)
}

fn random_value(rng: &mut StdRng, size: usize) -> Vec<u8> {
    let mut value = vec![0; size];
    rng.fill_bytes(&mut value);
    value
}

/// 1: a reader sees a whole value or none while it is written.
async fn atomic(writer: Arc<dyn Bucket>, reader: Arc<dyn Bucket>) {
    const SIZE: usize = 2 << 20;
    let keys: Vec<String> = (0..8).map(|number| format!("objects/pack/pack-{number}.pack")).collect();
    let reading = tokio::spawn({
        let keys = keys.clone();
        async move {
            for key in &keys {
                loop {
                    let size = reader.head(key).await.expect("1: head");
                    assert!(size.is_none_or(|size| size == SIZE as u64), "1: {key} was seen with {size:?} bytes");
                    let value = reader.get(key, None).await.expect("1: get");
                    let tail = reader.get(key, Some(SIZE as u64 - 1..SIZE as u64)).await.expect("1: get");
                    assert!(value.is_none() || tail.is_some_and(|tail| tail.len() == 1), "1: {key} has no tail");
                    if let Some(value) = value {
                        assert_eq!(value.len(), SIZE, "1: {key} was seen in part");
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    for (number, key) in keys.iter().enumerate() {
        let value = vec![u8::try_from(number).unwrap_or_default(); SIZE];
        assert_eq!(writer.put(key, bytes(value)).await.expect("1: put"), Put::Created);
    }
    reading.await.expect("1: the reader");
}

/// 1: a `put` whose caller went away has happened or not, and can be repeated.
async fn cut_off(bucket: Arc<dyn Bucket>, rng: &mut StdRng) {
    for number in 0..20 {
        let (key, value) = (format!("objects/cut/{number}"), random_value(rng, 300_000));
        let put = tokio::spawn({
            let (bucket, key, value) = (Arc::clone(&bucket), key.clone(), value.clone());
            async move { bucket.put(&key, bytes(value)).await }
        });
        let turns = rng.random_range(0..40);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        put.abort();
        let there = bucket.get(&key, None).await.expect("1: get");
        assert!(there.is_none_or(|there| there == value), "1: {key} is there in part");
        bucket.put(&key, bytes(value.clone())).await.expect("1: repeated put");
        assert_eq!(bucket.get(&key, None).await.expect("1: get"), Some(value.into()));
    }
}

/// 2: what was put is there after everything was closed and opened again. (No crash is simulated here.)
async fn durable(open: &impl Fn(&'static str) -> Arc<dyn Bucket>) {
    let keep = open("durable");
    let (in_memory, in_file, file) = both(b"from a file");
    for (key, payload) in [("objects/aa/memory", in_memory), ("objects/bb/file", in_file)] {
        assert_eq!(open("durable").put(key, payload).await.expect("2: put"), Put::Created);
    }
    drop(file);
    for key in ["objects/aa/memory", "objects/bb/file"] {
        let value = open("durable").get(key, None).await.expect("2: get");
        assert_eq!(value.as_deref(), Some(&b"from a file"[..]), "2: {key}");
    }
    drop(keep);
}

/// 3: visible to everybody on return.
async fn visible(writer: Arc<dyn Bucket>, reader: Arc<dyn Bucket>) {
    for number in 0..50 {
        let key = format!("objects/{number:02}/x");
        assert_eq!(reader.head(&key).await.expect("3: head"), None);
        writer.put(&key, bytes(key.clone())).await.expect("3: put");
        assert_eq!(reader.get(&key, None).await.expect("3: get"), Some(key.clone().into()), "3: {key} is not visible");
        let page = reader.list(&key, None, 10).await.expect("3: list");
        assert_eq!(page.entries, [(key.clone(), key.len() as u64)], "3: {key} is not listed");
    }
}

/// 4: the first value stays.
async fn written_once(one: Arc<dyn Bucket>, two: Arc<dyn Bucket>) {
    for (number, first) in [&b"first"[..], b"", &[7; 100_000]].into_iter().enumerate() {
        let key = format!("objects/once/{number}");
        let (in_memory, in_file, _file) = both(first);
        assert_eq!(one.put(&key, in_memory.clone()).await.expect("4: put"), Put::Created);
        for payload in [in_memory, in_file] {
            assert_eq!(two.put(&key, payload).await.expect("4: put again"), Put::AlreadyThere);
        }
        let mut same_length = first.to_vec();
        if let Some(last) = same_length.last_mut() {
            *last ^= 1;
        }
        let longer = [first, b"x"].concat();
        let shorter = first.get(1..).unwrap_or(b"other").to_vec();
        for other in [same_length, longer, shorter].into_iter().filter(|other| other != first) {
            let (in_memory, in_file, _file) = both(&other);
            for payload in [in_memory, in_file] {
                let answer = two.put(&key, payload).await;
                let occupied = matches!(&answer, Err(StoreError::Occupied { key: named }) if *named == key);
                assert!(occupied, "4: {} other bytes: {answer:?}", other.len());
            }
        }
        assert_eq!(one.get(&key, None).await.expect("4: get").as_deref(), Some(first), "4: the first value is gone");
    }
}

/// 4: of many writers one wins, and everybody learns the truth.
async fn written_once_in_a_race(open: &impl Fn(&'static str) -> Arc<dyn Bucket>, rng: &mut StdRng) {
    let mut buckets = Vec::new();
    for _ in 0..8 {
        buckets.push(open("race"));
    }
    for round in 0..10 {
        let key = format!("objects/race/{round}");
        // In even rounds everybody writes the same.
        let values: Vec<Vec<u8>> = (0..8u8).map(|who| vec![if round % 2 == 0 { 0 } else { who }; 5000]).collect();
        let mut order: Vec<usize> = (0..8).collect();
        order.shuffle(rng);
        let puts = order.iter().map(|who| {
            let (bucket, key, value) = (Arc::clone(&buckets[*who]), key.clone(), values[*who].clone());
            tokio::spawn(async move { bucket.put(&key, bytes(value)).await })
        });
        let mut winners = Vec::new();
        for (who, put) in order.iter().zip(puts.collect::<Vec<_>>()) {
            match settle(put.await.expect("4: the writer"), &buckets[*who], &key, &values[*who]).await {
                Ok(Put::Created) => winners.push(*who),
                Ok(Put::AlreadyThere) => assert!(round % 2 == 0, "4: other bytes count as already there"),
                Err(StoreError::Occupied { .. }) => assert!(round % 2 == 1, "4: the same bytes count as other bytes"),
                Err(err) => panic!("4: {err:?}"),
            }
        }
        assert!(winners.len() <= 1, "4: {winners:?} all won round {round}");
        let there = buckets[0].get(&key, None).await.expect("4: get").expect("4: nobody won");
        assert!(winners.iter().all(|winner| values[*winner] == there), "4: the winner's value is not there");
    }
}

/// In a race a server may answer "try again".
async fn settle(
    first: Result<Put, StoreError>,
    bucket: &Arc<dyn Bucket>,
    key: &str,
    value: &[u8],
) -> Result<Put, StoreError> {
    let mut answer = first;
    for _ in 0..20 {
        match answer {
            Err(StoreError::Unavailable { .. }) => answer = bucket.put(key, bytes(value.to_vec())).await,
            settled => return settled,
        }
    }
    answer
}

/// 5: exactly the bytes asked for, as far as there are any.
async fn exact_ranges(bucket: Arc<dyn Bucket>) {
    let value = b"0123456789";
    bucket.put("objects/ranges", bytes(&value[..])).await.expect("5: put");
    bucket.put("objects/empty", bytes(&b""[..])).await.expect("5: put");
    for start in 0..13usize {
        for end in (0..13).chain([u32::MAX as usize]) {
            let range = start as u64..end as u64;
            let expected = value.get(start.min(10)..end.min(10)).unwrap_or_default();
            let got = bucket.get("objects/ranges", Some(range.clone())).await.expect("5: get");
            assert_eq!(got.as_deref(), Some(expected), "5: {range:?}");
            let got = bucket.get("objects/empty", Some(range.clone())).await.expect("5: get");
            assert_eq!(got.as_deref(), Some(&b""[..]), "5: {range:?} of nothing");
        }
    }
    let all = bucket.get("objects/ranges", Some(0..u64::MAX)).await.expect("5: get");
    assert_eq!(all.as_deref(), Some(&value[..]), "5: an open end");
    let none = bucket.get("objects/ranges", Some(u64::MAX - 1..u64::MAX)).await.expect("5: get");
    assert_eq!(none.as_deref(), Some(&b""[..]), "5: far past the end");
}

/// 6: absence is an answer, for names that look like others too.
async fn absence(gaps: Gaps, bucket: Arc<dyn Bucket>) {
    for there in ["objects/ab/cd", "objects/abc"] {
        bucket.put(there, bytes("x")).await.expect("6: put");
    }
    let mut unknown = vec!["objects/ab/ce", "objects/abcd", "other/x"];
    if !gaps.directories_are_errors {
        unknown.extend(["objects/ab", "objects", "objects/ab/cd/ef"]);
    }
    for key in unknown {
        assert_eq!(bucket.get(key, None).await.expect("6: get"), None, "6: {key}");
        assert_eq!(bucket.get(key, Some(0..1)).await.expect("6: get"), None, "6: {key}");
        assert_eq!(bucket.get(key, Some(3..3)).await.expect("6: get"), None, "6: {key}");
        assert_eq!(bucket.head(key).await.expect("6: head"), None, "6: {key}");
    }
    for _ in 0..2 {
        bucket.delete("objects/ab/cd").await.expect("6: delete");
        bucket.delete("objects/zz/never").await.expect("6: delete of nothing");
        assert_eq!(bucket.get("objects/ab/cd", None).await.expect("6: get"), None, "6: deleted");
        assert_eq!(bucket.list("objects/ab/", None, 9).await.expect("6: list").entries, [], "6: deleted");
    }
    assert_eq!(bucket.head("objects/abc").await.expect("6: head"), Some(1), "6: a neighbour was deleted");
}

/// All keys under `prefix` after `after`, page by page.
async fn all(bucket: &Arc<dyn Bucket>, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<(String, u64)>, usize) {
    let (mut entries, mut after, mut pages) = (Vec::new(), after.map(str::to_owned), 0);
    loop {
        let page = bucket.list(prefix, after.as_deref(), limit).await.expect("7: list");
        assert!(page.entries.len() <= limit, "7: a page of {} keys, not {limit}", page.entries.len());
        entries.extend(page.entries);
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => return (entries, pages),
        }
    }
}

/// 7: complete, in byte order, without repeats, for every prefix, start and size of page.
async fn listing(bucket: Arc<dyn Bucket>, rng: &mut StdRng) {
    let mut expected = BTreeMap::new();
    // `-` and `.` sort before `/`: a store that sorts directory by directory gets these wrong.
    for key in ["a/b", "a-b", "a.b", "a0", "a/b-", "ab/c", "objects/pack/pack-1.idx", "objects/pack/pack-1.pack"] {
        expected.insert(key.to_owned(), key.len() as u64);
    }
    while expected.len() < 60 {
        let key = format!("objects/{:02x}/{:x}", rng.random_range(0..6u8), rng.random::<u32>());
        let size = rng.random_range(0..20u64);
        expected.insert(key, size);
    }
    for (key, size) in &expected {
        let value = vec![b'x'; usize::try_from(*size).unwrap_or_default()];
        bucket.put(key, bytes(value)).await.expect("7: put");
    }
    let keys: Vec<&String> = expected.keys().collect();
    let mut prefixes =
        vec!["", "a", "a/", "a/b", "o", "objects/", "objects/0", "objects/03/", "objects/pack/pack-1.", "z"];
    prefixes.push(keys[rng.random_range(0..keys.len())]);
    for prefix in prefixes {
        let mut afters = vec![
            None,
            Some("a"),
            Some("a/"),
            Some("a/b"),
            Some("objects/03/"),
            Some("objects/02/ffffffffff"),
            Some("zz"),
        ];
        afters.push(keys.choose(rng).map(|key| key.as_str()));
        for after in afters {
            let matching = expected.iter().filter(|(key, _)| key.starts_with(prefix));
            let matching = matching.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
            let matching: Vec<(String, u64)> = matching.map(|(key, size)| (key.clone(), *size)).collect();
            for limit in [if matching.len() < 9 { 1 } else { 7 }, matching.len().max(1)] {
                let (listed, _) = all(&bucket, prefix, after, limit).await;
                assert_eq!(listed, matching, "7: prefix {prefix:?} after {after:?} by {limit}");
            }
        }
    }
}

/// 7: complete for what was there before, whatever comes and goes meanwhile.
async fn listing_while_others_write(bucket: Arc<dyn Bucket>, other: Arc<dyn Bucket>) {
    let before: Vec<String> = (0..40).map(|number| format!("objects/{:02}/before-{number}", number % 5)).collect();
    for key in &before {
        bucket.put(key, bytes("x")).await.expect("7: put");
    }
    let others = tokio::spawn(async move {
        for number in 0..40 {
            let key = format!("objects/{:02}/a-{number}", number % 7);
            other.put(&key, bytes("y")).await.expect("7: put");
            if number % 2 == 0 {
                other.delete(&key).await.expect("7: delete");
            }
        }
    });
    for _ in 0..10 {
        let (listed, _) = all(&bucket, "objects/", None, 6).await;
        let keys: Vec<&String> = listed.iter().map(|(key, _)| key).collect();
        assert!(keys.is_sorted_by(|one, two| one < two), "7: out of order or repeated: {keys:?}");
        assert!(before.iter().all(|key| keys.contains(&key)), "7: a key is missing");
    }
    others.await.expect("7: the other writer");
}

/// What is no key is refused, whatever is to be done with it.
async fn only_keys(bucket: Arc<dyn Bucket>) {
    let long = "x".repeat(crate::key::KEY_LEN_MAX + 1);
    for key in ["", "/objects/x", "objects/../x", "objects/./x", "objects//x", "objects/x/", "objects/ä", "a\0b", &long]
    {
        let refused = |what: &str, answer: Option<StoreError>| {
            assert!(matches!(answer, Some(StoreError::Refused { .. })), "keys: {what} of {key:?}: {answer:?}");
        };
        refused("put", bucket.put(key, bytes("x")).await.err());
        refused("get", bucket.get(key, None).await.err());
        refused("head", bucket.head(key).await.err());
        refused("delete", bucket.delete(key).await.err());
    }
    let longest = format!("objects/{}", "k".repeat(crate::key::KEY_LEN_MAX - 8 - 40));
    bucket.put(&longest, bytes("x")).await.expect("keys: a long key");
    assert_eq!(bucket.head(&longest).await.expect("keys: head"), Some(1));
    assert_eq!(all(&bucket, "", None, 10).await.0, [(longest, 1)], "keys: something else was written");
}
