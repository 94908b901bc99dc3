//! Packs that git made, against what git says is in them.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use treehold_object::{Kind, ObjectId};
use treehold_wire::{Arrival, IngestError, IngestLimits, IngestOptions, Quarantine, ingest, ingest_arriving};

use crate::git::{Numbers, Repo, history, seed, spool};

pub fn options(limits: IngestLimits) -> IngestOptions<'static> {
    IngestOptions { limits, ..IngestOptions::default() }
}

pub fn objects(quarantine: &Quarantine) -> Vec<(ObjectId, Kind, u64)> {
    let mut objects: Vec<_> = quarantine.iter().map(|object| (object.oid, object.kind, object.size)).collect();
    objects.sort();
    objects
}

/// Compares everything that a quarantine says with what git says of the same pack.
fn compare(repo: &Repo, options: &IngestOptions<'_>) -> Quarantine {
    let path = repo.pack_file();
    let quarantine = ingest(File::open(&path).unwrap(), options).unwrap();
    assert_eq!(objects(&quarantine), repo.all_objects());
    assert_eq!(quarantine.external(), []);
    // The index that git wrote beside its pack, byte for byte.
    let index = treehold_object::idx::write(&quarantine.index_entries(), &quarantine.checksum()).unwrap();
    assert_eq!(index, std::fs::read(path.with_extension("idx")).unwrap());
    // Every content hashes to its id, whichever way it is read.
    let mut order: Vec<_> = quarantine.iter().collect();
    let mut numbers = Numbers(7);
    (1..order.len()).for_each(|at| order.swap(at, numbers.next(at + 1)));
    let mut whole = 0;
    for object in order {
        let (kind, content) = quarantine.read(&object.oid).unwrap().unwrap();
        assert_eq!((kind, content.len() as u64), (object.kind, object.size));
        assert_eq!(treehold_object::second_opinion(kind, &content), object.oid);
        match quarantine.compressed(&object.oid).unwrap() {
            Some((kind, size, zlib)) => {
                let (inflated, len) = treehold_object::zlib::Inflater::default().inflate(&zlib, size).unwrap();
                assert_eq!((kind, inflated.as_slice(), len), (object.kind, content.as_ref(), zlib.len()));
                assert_eq!((object.base, quarantine.bases(&object.oid)), (None, Some(Vec::new())));
                whole += 1;
            }
            None => assert!(object.base.is_some()),
        }
    }
    assert!(whole > 0 && whole < quarantine.len(), "the pack has whole objects and deltas");
    let mut visited = Vec::new();
    let visit = quarantine.visit(|object, content| {
        assert_eq!(treehold_object::second_opinion(object.kind, content), object.oid);
        visited.push((object.oid, object.kind, content.len() as u64));
        Ok::<_, ()>(())
    });
    visit.unwrap();
    visited.sort();
    assert_eq!(visited, repo.all_objects());
    quarantine
}

#[test]
fn every_object_gets_gits_id_from_deep_and_from_reference_deltas() {
    let repo = history(60, seed(11));
    for (offsets, depth) in [("true", "250"), ("true", "4"), ("false", "250")] {
        repo.git(&[
            "-c",
            &format!("repack.useDeltaBaseOffset={offsets}"),
            "repack",
            "-adfq",
            "--window=60",
            &format!("--depth={depth}"),
        ]);
        for (threads, cache_bytes) in [(0, 0), (2, 0), (3, 1), (1, 4_000)] {
            let options = IngestOptions { threads, cache_bytes, ..options(IngestLimits::default()) };
            let quarantine = compare(&repo, &options);
            assert!(!quarantine.has_duplicates());
            assert_eq!(quarantine.pack_len(), std::fs::metadata(repo.pack_file()).unwrap().len());
            let mut commits = Repo::git(&repo, &["rev-list", "--all"]).lines().map(str::to_owned).collect::<Vec<_>>();
            commits.sort();
            assert_eq!(quarantine.commits().iter().map(ObjectId::to_string).collect::<Vec<_>>(), commits);
        }
    }
}

#[test]
fn a_pack_of_one_path_with_a_long_chain_resolves() {
    let repo = Repo::bare();
    let mut numbers = Numbers(seed(5));
    let mut lines: Vec<String> =
        (0..400).map(|line| format!("line {line} of the file {}\n", numbers.next(9999))).collect();
    let mut oids = String::new();
    for round in 0..600 {
        let at = numbers.next(lines.len());
        lines[at] = format!("round {round}\n");
        let oid = repo.git_with(&["hash-object", "-w", "--stdin"], lines.concat().as_bytes());
        oids.push_str(&String::from_utf8(oid).unwrap());
    }
    let pack = repo.git_with(
        &["pack-objects", "--stdout", "-q", "--window=2", "--depth=4000", "--delta-base-offset"],
        oids.as_bytes(),
    );
    let quarantine = ingest(spool(&pack), &options(IngestLimits::default())).unwrap();
    assert_eq!(objects(&quarantine), repo.all_objects());
    let shallow = IngestLimits { delta_depth: 20, ..IngestLimits::default() };
    let refused = ingest(spool(&pack), &options(shallow));
    assert!(matches!(refused, Err(IngestError::Limit { limit: 20, .. })), "{refused:?}");
}

#[test]
fn references_to_the_outside_are_reported_once_and_exactly() {
    let repo = history(20, seed(3));
    let tips = ["main~6", "main"].map(|name| repo.oid(name));
    let range = format!("{}\n^{}\n", tips[1], tips[0]);
    let pack = repo.git_with(&["pack-objects", "--stdout", "-q", "--revs", "--delta-base-offset"], range.as_bytes());
    let quarantine = ingest(spool(&pack), &options(IngestLimits::default())).unwrap();
    // By git: everything that the objects of the pack name, less the pack.
    let inside: HashSet<ObjectId> = quarantine.iter().map(|object| object.oid).collect();
    let mut expected = HashSet::new();
    for object in quarantine.iter() {
        let oid = object.oid.to_string();
        match object.kind {
            Kind::Tree => {
                for line in repo.git(&["ls-tree", &oid]).lines() {
                    let words: Vec<_> = line.split([' ', '\t']).collect();
                    if words[1] != "commit" {
                        expected.insert((ObjectId::from_hex(words[2].as_bytes()).unwrap(), words[1].to_owned()));
                    }
                }
            }
            Kind::Commit => {
                expected.insert((repo.oid(&format!("{oid}^{{tree}}")), "tree".to_owned()));
                for parent in repo.git(&["rev-parse", &format!("{oid}^@")]).lines() {
                    expected.insert((ObjectId::from_hex(parent.as_bytes()).unwrap(), "commit".to_owned()));
                }
            }
            _ => {}
        }
    }
    let mut expected: Vec<_> = expected.into_iter().filter(|(oid, _)| !inside.contains(oid)).collect();
    expected.sort();
    let external: Vec<_> = quarantine.external().iter().map(|(oid, kind)| (*oid, kind.to_string())).collect();
    assert_eq!(external, expected);
    assert!(external.iter().any(|(oid, _)| *oid == tips[0]) && external.len() > 5);

    // At the boundary of a shallow fetch the parents are not expected.
    let shallow: HashSet<ObjectId> = quarantine.commits().into_iter().collect();
    let options_shallow = IngestOptions { shallow: Some(&shallow), ..options(IngestLimits::default()) };
    let quarantine = ingest(spool(&pack), &options_shallow).unwrap();
    assert!(quarantine.external().iter().all(|(_, kind)| *kind != Kind::Commit));
    assert!(!quarantine.external().is_empty());

    let few = IngestLimits { external: external.len() as u64 - 1, ..IngestLimits::default() };
    assert!(matches!(ingest(spool(&pack), &options(few)), Err(IngestError::Limit { .. })));
}

#[test]
fn thin_packs_are_told_apart_by_the_base_they_lack() {
    let repo = history(12, seed(4));
    repo.git(&["repack", "-adfq"]);
    let range = format!("{}\n^{}\n", repo.oid("main"), repo.oid("main~3"));
    let thin = repo.git_with(&["pack-objects", "--stdout", "-q", "--revs", "--thin"], range.as_bytes());
    match ingest(spool(&thin), &options(IngestLimits::default())) {
        Err(IngestError::Unresolved { count, base }) => {
            assert!(count > 0);
            assert_eq!(repo.git(&["cat-file", "-e", &base.to_string()]), "");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_check_sees_every_object_and_can_refuse() {
    let repo = history(15, seed(6));
    repo.git(&["repack", "-adfq"]);
    let open = || File::open(repo.pack_file()).unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let (told, cancel) = (AtomicU64::new(0), AtomicBool::new(false));
    let check = |kind: Kind, oid: &ObjectId, content: &[u8]| {
        seen.lock().unwrap().push((*oid, kind, content.len() as u64));
        Ok(())
    };
    let progress = |done: u64, total: u64| {
        told.fetch_max(if done == total { total } else { 0 }, Ordering::Relaxed);
    };
    let all = IngestOptions {
        check: Some(&check),
        progress: Some(&progress),
        cancel: Some(&cancel),
        threads: 2,
        ..options(IngestLimits::default())
    };
    let count = ingest(open(), &all).unwrap().len() as u64;
    let mut checked = std::mem::take(&mut *seen.lock().unwrap());
    checked.sort();
    assert_eq!(checked, repo.all_objects());
    assert_eq!(told.load(Ordering::Relaxed), count);

    let victim = checked.iter().rfind(|(_, kind, _)| *kind == Kind::Tree).unwrap().0;
    let refuse = |_: Kind, oid: &ObjectId, _: &[u8]| if *oid == victim { Err("no".to_owned()) } else { Ok(()) };
    match ingest(open(), &IngestOptions { check: Some(&refuse), ..all }) {
        Err(IngestError::BadObject { oid, kind: Kind::Tree, reason }) => {
            assert_eq!((oid, reason.as_str()), (victim, "no"))
        }
        other => panic!("{other:?}"),
    }
    cancel.store(true, Ordering::Relaxed);
    assert!(matches!(ingest(open(), &all), Err(IngestError::Cancelled)));
}

#[test]
fn many_threads_read_one_quarantine() {
    let repo = history(25, seed(8));
    repo.git(&["repack", "-adfq", "--depth=50"]);
    let small = IngestOptions { cache_bytes: 30_000, ..options(IngestLimits::default()) };
    let quarantine = ingest(File::open(repo.pack_file()).unwrap(), &small).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for object in quarantine.iter() {
                    let (kind, content) = quarantine.read(&object.oid).unwrap().unwrap();
                    assert_eq!(treehold_object::second_opinion(kind, &content), object.oid);
                }
            });
        }
    });
    let mut before = 3;
    let stopped = quarantine.visit(|_, _| {
        before -= 1;
        if before == 0 { Err("enough") } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(treehold_wire::ingest::VisitError::Stopped("enough"))));
    let absent = ObjectId::Sha1([9; 20]);
    assert!(quarantine.read(&absent).unwrap().is_none() && quarantine.compressed(&absent).unwrap().is_none());
    assert!(!quarantine.contains(&absent) && quarantine.get(&absent).is_none());
}

/// Writes `pack` to a file in parts of up to `part` bytes while it is taken in; in the end says what `end` does.
fn arriving(pack: &[u8], part: usize, threads: usize, end: fn(&Arrival)) -> Result<Quarantine, IngestError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (mut written, arrival) = (file.reopen().unwrap(), Arrival::default());
    let options = IngestOptions { threads, ..options(IngestLimits { pack_bytes: 1 << 20, ..IngestLimits::default() }) };
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| ingest_arriving(file.reopen().unwrap(), &arrival, &options));
        let mut numbers = Numbers(seed(23));
        let mut len = 0;
        while len < pack.len() {
            let next = pack.len().min(len + 1 + numbers.next(part));
            written.write_all(&pack[len..next]).unwrap();
            len = next;
            arrival.grown(len as u64);
        }
        end(&arrival);
        taken.join().unwrap()
    })
}

#[test]
fn a_pack_is_read_while_it_arrives() {
    let repo = history(40, seed(22));
    repo.git(&["repack", "-adq"]);
    let pack = std::fs::read(repo.pack_file()).unwrap();
    for (part, threads) in [(7, 2), (5_000, 1), (100_000, 3), (1 << 20, 2)] {
        let quarantine = arriving(&pack, part, threads, Arrival::finish).unwrap();
        assert_eq!(objects(&quarantine), repo.all_objects());
        assert_eq!(quarantine.pack_len(), pack.len() as u64);
    }
}

/// Goal: nothing that ends early, or does not end where it should, is taken for a pack, and nobody waits for ever.
#[test]
fn what_arrives_in_part_or_with_more_behind_it_is_refused() {
    let repo = history(3, seed(24));
    repo.git(&["repack", "-adq"]);
    let pack = std::fs::read(repo.pack_file()).unwrap();
    for end in [0, 5, 20, 31, 32, pack.len() / 2, pack.len() - 20, pack.len() - 1] {
        let cut = arriving(&pack[..end], 100, 2, Arrival::cut);
        assert!(matches!(cut, Err(IngestError::Cancelled)), "{cut:?}");
        let short = arriving(&pack[..end], 100, 2, Arrival::finish);
        assert!(matches!(short, Err(IngestError::Damaged { .. })), "{short:?}");
    }
    // The writer may say that it is gone after it said that all is there.
    let whole = arriving(&pack, 100, 2, |arrival| (arrival.finish(), arrival.cut()).0);
    assert_eq!(objects(&whole.unwrap()), repo.all_objects());
    let longer = arriving(&[&pack[..], &[0; 30]].concat(), 100, 2, Arrival::finish);
    assert!(matches!(longer, Err(IngestError::Damaged { .. })), "{longer:?}");
    let endless = arriving(&[&pack[..pack.len() - 20], &vec![0; 2 << 20]].concat(), 1 << 16, 2, Arrival::finish);
    assert!(endless.is_err(), "{endless:?}");
}
