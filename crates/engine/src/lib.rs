//! The product's verbs, without HTTP: read, edit, commit, sync, push, export.
//!
//! An [`Engine`] stands on a catalog (refs, trees, pending work), an object store (bytes) and a remote. What it keeps in memory is
//! for speed only: any number of engines may share one catalog and one bucket.

pub mod api;
mod archive;
mod batch;
mod blame;
mod commit;
mod compare;
pub mod config;
mod conflicts;
mod cut;
mod diff;
mod ephemeral;
pub mod error;
mod export;
mod feed;
mod files;
mod forge;
mod forget;
mod fork;
mod gc;
mod graph;
mod housekeep;
mod import;
mod intake;
mod keys;
mod landed;
mod lease;
mod lens;
mod list;
mod log;
mod manifest;
mod mark;
mod modes;
mod names;
mod objects;
mod outgoing;
mod pending;
mod progress;
mod project;
#[cfg(test)]
mod properties;
mod push;
mod quota;
mod raw;
mod rebuild;
mod receive;
mod reflog;
mod refs;
pub mod remote;
mod repack;
mod room;
mod search;
mod sign;
mod spool;
mod status;
mod store_id;
mod sync;
mod text;
mod tokens;
mod totals;
mod tree;
mod upload;
mod verify;
mod view;
mod vitals;
mod warm;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use treehold_catalog::Catalog;
use treehold_object::ObjectId;
use treehold_store::{Object, ObjectStore};
use uuid::Uuid;

pub use batch::Reading;
pub use config::{Ambient, EngineConfig, HistoryKeep, Limits};
pub use error::EngineError;
pub use feed::{Feed, FeedRetention};
pub use forge::Delivered;
pub use gc::{GcKept, GcOptions, GcReport};
pub use import::name_of as project_name_of;
pub use intake::SpoolWriter;
pub use list::Listing;
pub use manifest::ManifestReport;
pub use pending::Against;
pub use progress::Progress;
pub use rebuild::{BucketFinding, ManifestChoice, RebuildOptions, RebuildReport};
pub use receive::PushedPack;
pub use remote::{Remote, Secret};
pub use repack::{RepackOptions, RepackReport};
pub use room::Room;
pub use search::{Globs, Searching};
pub use sign::{CommitSigner, SigningKeyError};
pub use spool::Space;
pub use store_id::{STORE_ID_KEY, store_id_in};
pub use totals::Totals;
pub use treehold_catalog::{Connections, Vitals};
pub use upload::{Advertised, Upload, Uploaded};
pub use verify::{Checked, Code, Finding, Level, VerifyOptions, VerifyReport};
pub use vitals::{Watched, WatchedJob, attempt_state};

/// The verbs' result.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Work for the processor or the disk, on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(EngineError::internal)?
}

type BranchLocks = Mutex<HashMap<(Uuid, String), Weak<tokio::sync::Mutex<()>>>>;

/// The product's verbs.
#[derive(Debug, Clone)]
pub struct Engine {
    catalog: Arc<dyn Catalog>,
    store: ObjectStore,
    remote: Arc<dyn Remote>,
    forge: Arc<dyn remote::Forge>,
    signer: Option<Arc<CommitSigner>>,
    ambient: Arc<dyn Ambient>,
    config: Arc<EngineConfig>,
    locks: Arc<BranchLocks>,
    chores: Arc<housekeep::Chores>,
    room: Arc<dyn Room>,
    /// Objects in memory that reads find as if they were stored.
    made: Arc<HashMap<ObjectId, Object>>,
    trees: Arc<tree::TreeCache>,
    layouts: Arc<outgoing::Layouts>,
    offers: Arc<upload::Offers>,
    searches: Arc<search::Turns>,
    tails: Arc<feed::Tails>,
    cuts: Arc<cut::CutHistories>,
}

impl Engine {
    /// An engine on its three legs. The catalog's schema must be up to date.
    pub fn new(
        catalog: Arc<dyn Catalog>,
        store: ObjectStore,
        remote: Arc<dyn Remote>,
        ambient: Arc<dyn Ambient>,
        config: EngineConfig,
    ) -> Self {
        let chores = Arc::new(housekeep::Chores::new(ambient.now_ms()));
        let trees = Arc::new(tree::TreeCache::new(config.tree_cache_bytes));
        Self {
            catalog,
            store,
            remote: Arc::new(remote::Traced(remote)),
            forge: Arc::new(remote::NoForge),
            signer: None,
            ambient,
            config: Arc::new(config),
            locks: Arc::default(),
            chores,
            trees,
            layouts: Arc::default(),
            offers: Arc::default(),
            searches: Arc::default(),
            tails: Arc::default(),
            cuts: Arc::default(),
            room: Arc::new(()),
            made: Arc::default(),
        }
    }

    /// The same engine, whose reads ask `room` before they take memory for contents.
    #[must_use]
    pub fn within(&self, room: Arc<dyn Room>) -> Self {
        Self { room, ..self.clone() }
    }

    /// The same engine, whose reads also find these objects, which are not stored.
    fn with_made(&self, objects: Vec<writer::NewBytes>) -> Self {
        let objects =
            objects.into_iter().map(|writer::NewBytes { oid, kind, content }| (oid, Object { oid, kind, content }));
        Self { made: Arc::new(objects.collect()), ..self.clone() }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Whose name commits bear that name none.
    pub fn default_author(&self) -> api::Author {
        let (name, email) = self.config.author.clone();
        api::Author { name, email, date: None }
    }

    /// How long the bytes of emptied keys stay.
    pub fn key_grace(&self) -> std::time::Duration {
        self.config.key_grace
    }

    /// Commits to one branch take turns in this process, so that they do not waste work on losing races. Safety does not rest on
    /// it: other processes race by compare-and-swap.
    fn branch_lock(&self, project: Uuid, branch: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let slot = locks.entry((project, branch.to_owned())).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let lock = Arc::default();
            *slot = Arc::downgrade(&lock);
            lock
        })
    }
}
