//! What a pack may make the receiver read, write and remember, and which of its objects refs lead to.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use treehold_object::pack::EntryKind;
use treehold_object::{Kind, ObjectId, second_opinion};
use treehold_wire::ingest::{Bases, INFLATED_BYTES_FREE, Whole};
use treehold_wire::{IngestError, IngestLimits, IngestOptions, Quarantine, ingest};

use crate::git::{history, seed, spool};
use crate::hostile::{Forge, delta};
use crate::ingesting::options;

fn blob(content: &[u8]) -> ObjectId {
    second_opinion(Kind::Blob, content)
}

/// Objects that a sender can reach, and how many bytes of them were read at once.
#[derive(Default)]
struct Shelf {
    objects: HashMap<ObjectId, Bytes>,
    read: Mutex<Vec<usize>>,
}

impl Bases for Shelf {
    fn sizes(&self, oids: &[ObjectId]) -> io::Result<Vec<Option<u64>>> {
        Ok(oids.iter().map(|oid| self.objects.get(oid).map(|content| content.len() as u64)).collect())
    }

    fn read(&self, oids: &[ObjectId]) -> io::Result<Vec<Option<Whole>>> {
        let found: Vec<Option<Bytes>> = oids.iter().map(|oid| self.objects.get(oid).cloned()).collect();
        self.read.lock().unwrap().push(found.iter().flatten().map(Bytes::len).sum());
        Ok(found.into_iter().map(|content| content.map(|content| (Kind::Blob, content))).collect())
    }
}

/// Blobs of this size, and a pack of a small delta on each.
fn deltas(count: u32, size: usize) -> (Shelf, Vec<u8>) {
    let (mut shelf, mut forge) = (Shelf::default(), Forge::new());
    for at in 0..count {
        let mut content = vec![0; size];
        content[..4].copy_from_slice(&at.to_be_bytes());
        forge.ref_delta(blob(&content), &delta(size as u64, 4, &[0x90, 4]));
        shelf.objects.insert(blob(&content), content.into());
    }
    (shelf, forge.finish())
}

/// Goal: a few bytes of deltas do not have a whole store read, written and hashed again.
#[test]
fn what_deltas_rest_on_counts_before_it_is_read() {
    let limits = IngestLimits { inflated_ratio: 1_000, object_bytes: 5 << 20, ..IngestLimits::default() };
    let (shelf, pack) = deltas(40, 4 << 20);
    let refused = ingest(spool(&pack), &IngestOptions { bases: Some(&shelf), ..options(limits) });
    assert!(matches!(refused, Err(IngestError::Limit { limit, .. }) if limit >= INFLATED_BYTES_FREE), "{refused:?}");
    assert!(shelf.read.lock().unwrap().is_empty(), "nothing was read for that");
    let (shelf, pack) = deltas(12, 4 << 20);
    let taken = ingest(spool(&pack), &IngestOptions { bases: Some(&shelf), ..options(limits) }).unwrap();
    assert_eq!((taken.len(), taken.borrowed().count()), (24, 12));
    let read = shelf.read.lock().unwrap();
    assert!(read.iter().all(|bytes| *bytes <= 8 << 20) && read.iter().sum::<usize>() == 48 << 20, "{read:?}");
    drop(read);
    // One that is as large as an object may be is always within bounds.
    let limits = IngestLimits { inflated_ratio: 1, object_bytes: 100 << 20, ..IngestLimits::default() };
    let (shelf, pack) = deltas(1, 99 << 20);
    assert!(ingest(spool(&pack), &IngestOptions { bases: Some(&shelf), ..options(limits) }).is_ok());
    let tight = IngestLimits { inflated_bytes: 99 << 20, ..limits };
    let refused = ingest(spool(&pack), &IngestOptions { bases: Some(&shelf), ..options(tight) });
    assert!(matches!(refused, Err(IngestError::Limit { what: "inflated bytes", .. })), "{refused:?}");
}

/// Goal: nobody can have the same bases made again and again, in whichever order objects are read; reading all in the order of the
/// pack's deltas is not concerned.
#[test]
fn reads_have_a_budget() {
    const LEN: usize = 256 << 10;
    let count = 300_u32;
    let mut forge = Forge::new();
    forge.entry(EntryKind::Whole(Kind::Blob), LEN as u64, &vec![0; LEN]);
    for at in 1..count {
        // Four bytes of its own, then all but the first four of the one before.
        let ops = [&[4_u8][..], &at.to_be_bytes(), &[0xf1, 4, 0xfc, 0xff, 0x03]].concat();
        forge.ofs_delta(at as usize - 1, &delta(LEN as u64, LEN as u64, &ops));
    }
    let limits = IngestLimits { inflated_ratio: 20_000, ..IngestLimits::default() };
    let pack = forge.finish();
    let take = |cache_bytes| ingest(spool(&pack), &IngestOptions { cache_bytes, ..options(limits) }).unwrap();
    let read_all = |taken: &Quarantine| taken.oids(Kind::Blob).try_for_each(|oid| taken.read(&oid).map(|_| ()));
    // What the cache holds is made once, however often it is read.
    let taken = take(0);
    for _ in 0..20 {
        read_all(&taken).unwrap();
    }
    // 300 times 150 of them are 11 GiB.
    let taken = take(1);
    let refused = read_all(&taken);
    assert!(matches!(refused, Err(IngestError::Limit { .. })), "{refused:?}");
    let mut bytes = 0;
    let visited = taken.visit(|_, content| {
        bytes += content.len();
        Ok::<(), ()>(())
    });
    visited.unwrap();
    assert_eq!(bytes, count as usize * LEN);
}

/// Goal: a history of large files in chains as git makes them can be read once, also where it inflates to all that it may and nothing of it
/// fits the cache.
#[test]
fn usual_chains_are_within_the_budget() {
    const LEN: usize = 256 << 10;
    const CHAINS: u32 = 6;
    const DELTAS: u32 = 50;
    let mut forge = Forge::new();
    for chain in 0..CHAINS {
        let id = |at: u32| ((chain << 8) | at).to_be_bytes();
        let mut content = vec![0; LEN];
        content[..4].copy_from_slice(&id(0));
        forge.entry(EntryKind::Whole(Kind::Blob), LEN as u64, &content);
        for at in 1..=DELTAS {
            let ops = [&[4_u8][..], &id(at), &[0xf1, 4, 0xfc, 0xff, 0x03]].concat();
            let base = chain * (DELTAS + 1) + at - 1;
            forge.ofs_delta(base as usize, &delta(LEN as u64, LEN as u64, &ops));
        }
    }
    let objects = u64::from(CHAINS * (DELTAS + 1));
    let limits = IngestLimits { inflated_bytes: objects * (LEN as u64 + 64), ..IngestLimits::default() };
    let taken = ingest(spool(&forge.finish()), &IngestOptions { cache_bytes: 1, ..options(limits) }).unwrap();
    assert_eq!(taken.len() as u64, objects);
    for oid in taken.oids(Kind::Blob) {
        assert_eq!(taken.read(&oid).unwrap().unwrap().1.len(), LEN);
    }
}

/// Goal: memory for the table of objects is asked for before it is used; without it the pack is refused.
#[test]
fn memory_is_asked_for() {
    let mut forge = Forge::new();
    let count = 20_000;
    for at in 0..count {
        let content = format!("{at}");
        forge.entry(EntryKind::Whole(Kind::Blob), content.len() as u64, content.as_bytes());
    }
    let pack = forge.finish();
    for threads in [1, 3] {
        let asked = AtomicU64::new(0);
        let most = AtomicU64::new(u64::MAX);
        let room = |bytes| asked.fetch_add(bytes, Ordering::Relaxed) + bytes <= most.load(Ordering::Relaxed);
        let options = IngestOptions { room: Some(&room), threads, ..options(IngestLimits::default()) };
        assert_eq!(ingest(spool(&pack), &options).unwrap().len(), count);
        let needed = asked.swap(0, Ordering::Relaxed);
        assert!((100..500).contains(&(needed / count as u64)), "{needed} bytes");
        most.store(needed - 1, Ordering::Relaxed);
        assert!(matches!(ingest(spool(&pack), &options), Err(IngestError::NoRoom)));
    }
    // A small pack asks for little.
    let asked = AtomicU64::new(0);
    let room = |bytes| asked.fetch_add(bytes, Ordering::Relaxed) < u64::MAX;
    let pack = Forge::new().entry(EntryKind::Whole(Kind::Blob), 1, b"x").finish();
    ingest(spool(&pack), &IngestOptions { room: Some(&room), ..options(IngestLimits::default()) }).unwrap();
    assert!(asked.into_inner() < 64 << 10);
}

/// Goal: what refs lead to within a pack is what git says that they do, and it is known without reading whether that is all.
#[test]
fn what_tips_lead_to() {
    let repo = history(40, seed(21));
    repo.git(&["repack", "-adfq"]);
    let pack = std::fs::read(repo.pack_file()).unwrap();
    let none = HashSet::new();
    let quarantine = ingest(spool(&pack), &options(IngestLimits::default())).unwrap();
    let tips: Vec<ObjectId> = repo.git(&["for-each-ref", "--format=%(objectname)"]).lines().map(oid).collect();
    assert_eq!(quarantine.reached(&tips, &none).unwrap(), None);
    for tip in ["main", "main~7", "main^{tree}", "main~3^{tree}"] {
        let tip = repo.oid(tip);
        let listed = repo.git(&["rev-list", "--objects", "--no-object-names", &tip.to_string()]);
        let expected: HashSet<ObjectId> = listed.lines().map(oid).collect();
        match quarantine.reached(&[tip], &none).unwrap() {
            None => assert_eq!(expected.len(), quarantine.len()),
            Some(reached) => assert_eq!(reached.into_iter().collect::<HashSet<_>>(), expected),
        }
    }
    // History ends where it is cut, and nothing is led to by nothing.
    let (tip, cut) = (repo.oid("main"), repo.oid("main~1"));
    let reached = quarantine.reached(&[tip], &HashSet::from([tip, cut])).unwrap().unwrap();
    assert!(!reached.contains(&cut) && reached.contains(&tip));
    assert_eq!(quarantine.reached(&[], &none).unwrap(), Some(Vec::new()));
    // A blob beside them, once and twice, and a pack in which all stands twice.
    let mut forge = Forge::new();
    let tree = [b"100644 a\0", blob(b"named").as_slice()].concat();
    let tree_oid = second_opinion(Kind::Tree, &tree);
    for _ in 0..2 {
        for (kind, content) in [(Kind::Blob, &b"named"[..]), (Kind::Tree, &tree)] {
            forge.entry(EntryKind::Whole(kind), content.len() as u64, content);
        }
        let quarantine = ingest(spool(&forge.finish()), &options(IngestLimits::default())).unwrap();
        assert_eq!(quarantine.reached(&[tree_oid], &none).unwrap(), None);
        let mut more = forge.clone();
        for _ in 0..2 {
            more.entry(EntryKind::Whole(Kind::Blob), 5, b"spare");
            let quarantine = ingest(spool(&more.finish()), &options(IngestLimits::default())).unwrap();
            let mut reached = quarantine.reached(&[tree_oid], &none).unwrap().unwrap();
            reached.sort_unstable();
            let mut expected = [tree_oid, blob(b"named")];
            expected.sort_unstable();
            assert_eq!(reached, expected);
        }
    }
}

fn oid(text: &str) -> ObjectId {
    ObjectId::from_hex(text.as_bytes()).unwrap()
}
