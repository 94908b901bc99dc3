//! Trees, merges and history compared with stock git over random cases. Each test prints its seed; `TREEHOLD_TEST_SEED` replays it.

mod graphs;
mod lists;
mod merges;
mod patches;
mod paths;
mod searches;
mod trees;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use treehold_object::ObjectId;
use treehold_store::{MemoryBucket, ObjectStore, StoreOptions};
use treehold_tests::git::{Git, Repo};
use uuid::Uuid;

use crate::remote::{GitRemote, RemoteTimeouts};
use crate::{Ambient, Engine, EngineConfig, Limits};

/// Memory for decoded trees: none, room for a few of them, and enough.
const CACHES: [u64; 3] = [0, 1_500, EngineConfig::TREE_CACHE_BYTES];

/// Names whose order depends on whether they are directories, and some that are not ASCII.
const NAMES: [&str; 9] = ["a", "a.c", "a-b", "a0", "ab", "b", "a b", "ü", "日本"];

/// Files by path: mode and content.
type Files = BTreeMap<String, (&'static str, String)>;

/// Randomness from `TREEHOLD_TEST_SEED`, or from a fresh seed; printed, so that a failure can be replayed.
fn random() -> StdRng {
    let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TREEHOLD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[derive(Debug)]
struct Fixed;

impl Ambient for Fixed {
    fn now_ms(&self) -> i64 {
        1_800_000_000_000
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}

/// An engine in this process, and the git repository that it is compared with.
pub(crate) struct World {
    dir: TempDir,
    repo: Repo,
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) async fn new() -> World {
        Self::with_cache(EngineConfig::TREE_CACHE_BYTES).await
    }

    /// With so much memory for decoded trees, bytes.
    async fn with_cache(tree_cache_bytes: u64) -> World {
        _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a directory");
        let spool_dir = dir.path().join("spool");
        std::fs::create_dir(&spool_dir).expect("a spool directory");
        let url = format!("sqlite://{}", dir.path().join("catalog.sqlite").display());
        let catalog = treehold_catalog::open_catalog(&url).await.expect("a catalog");
        catalog.migrate().await.expect("a schema");
        // So small a cache that things come and go, and some never fit.
        let mut options = StoreOptions::new(spool_dir.clone());
        options.cache.memory_bytes = 30_000;
        let store = ObjectStore::new(Arc::new(MemoryBucket::new()), options);
        let remote = GitRemote::new(Vec::new(), spool_dir.clone(), RemoteTimeouts::default()).expect("a remote");
        let config = EngineConfig {
            limits: Limits::default(),
            spool_dir,
            remote_token: None,
            author: ("T".to_owned(), "t@example.org".to_owned()),
            merge_attempts: 1,
            sole: true,
            op_timeout: Duration::from_secs(60),
            feed: crate::FeedRetention::default(),
            key_grace: Duration::from_secs(3600),
            tree_cache_bytes,
        };
        let engine = Engine::new(catalog, store, Arc::new(remote), Arc::new(Fixed), config);
        let repo = Repo::init_bare(dir.path().join("repo.git"));
        World { dir, repo, engine }
    }

    /// Takes the repository's branch `main` over: all of it, or `depth` commits.
    async fn import(&self, name: &str, depth: u32) -> Uuid {
        let source = self.repo.path().to_str().expect("utf-8").to_owned();
        let report = self.engine.import(&source, Some(name), Some("main"), depth, &()).await.expect("an import");
        report.project.id
    }

    /// Commits on `main`, one on the other, with these files; their trees.
    fn commit_all(&self, versions: &[Files]) -> Vec<ObjectId> {
        let mut stream = String::new();
        for (number, files) in versions.iter().enumerate() {
            let time = 1_700_000_000 + number;
            stream.push_str(&format!("commit refs/heads/main\nmark :{}\n", number + 1));
            stream.push_str(&format!("committer T <t@example.org> {time} +0000\ndata 1\nx\n"));
            if number > 0 {
                stream.push_str(&format!("from :{number}\n"));
            }
            stream.push_str("deleteall\n");
            for (path, (mode, content)) in files {
                stream.push_str(&format!("M {mode} inline {path}\ndata {}\n{content}\n", content.len()));
            }
        }
        self.git().run_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
        let trees = self.git().run(["log", "--reverse", "--format=%T", "main"]);
        trees.lines().map(oid).collect()
    }

    fn git(&self) -> &Git {
        self.repo.git()
    }

    /// Git with an index of its own.
    fn indexed(&self) -> Git {
        let index = self.dir.path().join(format!("index-{}", Uuid::new_v4()));
        self.git().clone().env("GIT_INDEX_FILE", index)
    }
}

fn oid(text: &str) -> ObjectId {
    ObjectId::from_hex(text.trim().as_bytes()).expect("an oid")
}

fn some_path(random: &mut StdRng) -> String {
    let depth = random.random_range(1..=4);
    let name = |_| *NAMES.choose(random).expect("a name");
    (0..depth).map(name).collect::<Vec<_>>().join("/")
}

fn some_file(random: &mut StdRng) -> (&'static str, String) {
    let mode = *["100644", "100644", "100755", "120000"].choose(random).expect("a mode");
    let content = random.random_range(0..40_u32);
    (mode, if mode == "120000" { format!("to{content}") } else { format!("content {content}\n") })
}

/// Puts a file, and takes away what cannot be beside it: a file above it, or a directory in its place.
fn put(files: &mut Files, path: &str, file: (&'static str, String)) {
    let below = format!("{path}/");
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
    files.insert(path.to_owned(), file);
}

fn some_files(random: &mut StdRng, most: usize) -> Files {
    let mut files = Files::new();
    for _ in 0..random.random_range(0..=most) {
        let path = some_path(random);
        put(&mut files, &path, some_file(random));
    }
    files
}

/// Some more files, some changed, some gone, whole directories gone, and files in the place of directories and back.
fn edited(random: &mut StdRng, files: &Files) -> Files {
    let mut files = files.clone();
    for _ in 0..random.random_range(0..8) {
        let there: Vec<String> = files.keys().cloned().collect();
        match (random.random_range(0..5), there.choose(random)) {
            (0, Some(path)) => _ = files.remove(path),
            (1, Some(path)) => {
                let dir = path.rsplit_once('/').map_or(path.clone(), |(dir, _)| format!("{dir}/"));
                files.retain(|other, _| !other.starts_with(&dir));
            }
            (2, Some(path)) => {
                let above = path.rsplit_once('/').map_or(path.as_str(), |(dir, _)| dir).to_owned();
                put(&mut files, &above, some_file(random));
            }
            (3, Some(path)) => put(&mut files, &format!("{path}/b"), some_file(random)),
            _ => {
                let path = some_path(random);
                put(&mut files, &path, some_file(random));
            }
        }
    }
    files
}
