//! What the engine is told at start. It reads no environment itself.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use uuid::Uuid;

pub use crate::feed::FeedRetention;
use crate::remote::Secret;

/// Limits that a deployment may change. All are enforced before memory is spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One file, bytes.
    pub file_bytes: u64,
    /// One batch read or pending batch, paths.
    pub batch_paths: usize,
    /// One commit, changes.
    pub commit_changes: usize,
    /// Refs of one project.
    pub refs: usize,
    /// One commit message, bytes.
    pub message_bytes: usize,
    /// Content of one batch read's answer, bytes; `max_bytes` can only ask for less.
    pub batch_bytes: u64,
    /// Pending content up to this size is kept in the database, bytes.
    pub inline_bytes: u64,
    /// One received pack, bytes.
    pub pack_bytes: u64,
    /// Objects of one received pack.
    pub pack_objects: u64,
    /// All objects of one received pack, inflated, bytes.
    pub inflated_bytes: u64,
    /// One archive, and the content that it is made of, bytes.
    pub archive_bytes: u64,
    /// What a project may hold that has no quota of its own, logical bytes; `None` = any number.
    pub project_bytes: Option<u64>,
    /// How long replaced versions of pending files stay.
    pub history: HistoryKeep,
}

/// How long replaced versions of pending files stay, counted from when they were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryKeep {
    /// Every version.
    pub all: Duration,
    /// From then on the newest of each hour of a path.
    pub hourly: Duration,
    /// From then on the newest of each day of a path. Older ones go.
    pub daily: Duration,
}

impl Default for HistoryKeep {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        let days = |days| Duration::from_secs(days * DAY);
        Self { all: days(1), hourly: days(7), daily: days(30) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 100 << 20,
            batch_paths: 10_000,
            commit_changes: 100_000,
            refs: treehold_object::limits::REFS_MAX,
            message_bytes: 1 << 20,
            batch_bytes: 64 << 20,
            inline_bytes: 100_000,
            pack_bytes: 4 << 30,
            pack_objects: 20_000_000,
            inflated_bytes: 256 << 30,
            archive_bytes: 4 << 30,
            project_bytes: None,
            history: HistoryKeep::default(),
        }
    }
}

/// The engine's configuration.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Limits.
    pub limits: Limits,
    /// Where packs are spooled; on the same disk as the embedded store, outside of it.
    pub spool_dir: PathBuf,
    /// Credentials for remotes, if a request brings none.
    pub remote_token: Option<Secret>,
    /// Author of commits that name none: name and e-mail address.
    pub author: (String, String),
    /// How often an attempt is made again when the remote moved meanwhile.
    pub merge_attempts: u32,
    /// No other process uses this catalog (the embedded set-up): whatever says it is in progress and is not ours is dead.
    pub sole: bool,
    /// Memory for decoded trees, bytes; 0 keeps none.
    pub tree_cache_bytes: u64,
    /// How old an operation's last sign of life may be before it counts as dead.
    pub op_timeout: Duration,
    /// How long the bytes of a key stay after the last object moved out of it: longer than any read takes, and than the time that
    /// a restored database may be set back.
    pub key_grace: Duration,
    /// How long events of the change feed are kept.
    pub feed: FeedRetention,
}

impl EngineConfig {
    /// Memory for decoded trees where nobody says otherwise: those of a repository of a million files.
    pub const TREE_CACHE_BYTES: u64 = 64 << 20;
}

/// Time, ids and randomness, so that tests can pin them.
pub trait Ambient: Send + Sync + std::fmt::Debug + 'static {
    /// Unix milliseconds.
    fn now_ms(&self) -> i64;
    /// A fresh UUID.
    fn uuid(&self) -> Uuid;
    /// 256 bits that nobody can guess.
    fn random(&self) -> [u8; 32];
    /// Comes back once so much time has passed: for who waits for what another engine does.
    fn rest(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}
