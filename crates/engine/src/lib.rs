//! The product's verbs, without HTTP: read, edit, commit, sync, push, export.
//!
//! An [`Engine`] stands on a catalog (refs, trees, pending work), an object store (bytes) and a remote. It keeps no state
//! of its own: any number of engines may share one catalog and one bucket.

pub mod api;
pub mod config;
pub mod error;
pub mod remote;
mod surface;

use std::sync::Arc;

use treehold_catalog::Catalog;

pub use config::{Ambient, EngineConfig, Limits};
pub use error::EngineError;
pub use remote::{Remote, Secret};

/// The verbs' result.
pub type Result<T> = std::result::Result<T, EngineError>;

/// The product's verbs.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) config: Arc<EngineConfig>,
}
