//! Stock git's judgement of many objects at once, and reproducible randomness.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use treehold_object::loose;
use treehold_object::pack::PackWriter;
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, ObjectId, hash};
use treehold_tests::git::{Git, Repo};

/// `TREEHOLD_TEST_SEED`, or any number.
pub fn seed() -> u64 {
    match std::env::var("TREEHOLD_TEST_SEED") {
        Ok(seed) => seed.parse().expect("TREEHOLD_TEST_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// Randomness from a seed that is printed if the test fails.
pub fn seeded(seed: u64) -> StdRng {
    println!("replay with TREEHOLD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Randomness from `TREEHOLD_TEST_SEED`, or from a seed that is printed if the test fails.
pub fn random() -> StdRng {
    seeded(seed())
}

/// Up to `most` pieces, joined.
pub fn joined(random: &mut StdRng, pieces: &[&[u8]], most: usize) -> Vec<u8> {
    let count = random.random_range(1..=most);
    (0..count).filter_map(|_| pieces.choose(random).copied()).collect::<Vec<&[u8]>>().concat()
}

/// A repository to put objects of any kind into and have them judged.
pub struct Oracle {
    _directory: tempfile::TempDir,
    repo: Repo,
}

impl Oracle {
    pub fn new() -> Oracle {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let repo = Repo::init_bare(directory.path().join("repo.git"));
        let oracle = Oracle { _directory: directory, repo };
        oracle.put(Kind::Tree, b"");
        oracle.put(Kind::Blob, b"");
        oracle
    }

    pub fn git(&self) -> &Git {
        self.repo.git()
    }

    /// Stores an object as it is.
    pub fn put(&self, kind: Kind, content: &[u8]) -> ObjectId {
        let oid = hash(kind, content).expect("no collision");
        let file = self.repo.path().join(loose::key(&oid));
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("make the directory");
        std::fs::write(file, loose::encode(kind, content, &mut Deflater::new(1))).expect("write the object");
        oid
    }

    /// Stores many objects as they are, in this order, as one pack.
    pub fn put_all<'a>(&self, objects: impl ExactSizeIterator<Item = (ObjectId, Kind, &'a [u8])>) {
        let count = objects.len().try_into().expect("fewer than 2^32 objects");
        let mut pack = PackWriter::new(Vec::<u8>::new(), count, 1).expect("a pack").without_index();
        for (oid, kind, content) in objects {
            pack.add(oid, kind, content).expect("an entry");
        }
        let (pack, _) = pack.finish().expect("a pack");
        self.git().bytes_with(["index-pack", "--stdin"], &pack);
    }

    /// What git finds first in one object, by its name for it, where it judges nothing but these bytes; also what
    /// [`Oracle::complaints`] leaves out.
    pub fn complaint(&self, kind: Kind, content: &[u8]) -> Option<String> {
        let kind = kind.to_string();
        let output = self.git().output_of(["hash-object", "-t", kind.as_str(), "--stdin"], content);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut told = words.lines().filter_map(|line| line.strip_prefix("error: object fails fsck: "));
        let id = told.next().and_then(|fault| fault.split(": ").next()).map(str::to_owned);
        assert_eq!(output.status.success(), id.is_none(), "git hash-object: {words}");
        id
    }

    /// Git's complaints about each object, by git's names for them; `parse` where git gives no name.
    /// As for a push: strict, but three faults ignored, and odd modes an error. `badTagName` is but a warning, and told too.
    pub fn complaints(&self) -> BTreeMap<ObjectId, BTreeSet<String>> {
        let git = ["badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode"]
            .iter()
            .fold(self.git().clone(), |git, id| git.config(&format!("fsck.{id}"), "ignore"))
            .config("fsck.badFilemode", "error");
        let output = git.output(["fsck", "--strict", "--full", "--no-dangling"]);
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let mut complaints: BTreeMap<ObjectId, BTreeSet<String>> = BTreeMap::new();
        for line in words.lines() {
            let oid = |word: &str| ObjectId::from_hex(word.trim_matches(':').as_bytes()).ok();
            let Some(oid) = line.split(' ').find_map(oid) else { continue };
            // `error in tree <oid>: treeNotSorted: not properly sorted`
            let told = line.strip_prefix("error in ").or_else(|| line.strip_prefix("warning in "));
            let id = told.and_then(|rest| rest.split(": ").nth(1)).unwrap_or("parse");
            // What an object points to is not judged here.
            if (line.starts_with("error") && id != "broken links") || id == "badTagName" {
                complaints.entry(oid).or_default().insert(id.to_owned());
            }
        }
        complaints
    }
}
