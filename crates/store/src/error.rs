//! Why a store operation failed.

use treehold_object::ObjectId;

/// Any error of a backend's library.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store operation failed. A variant exists only where a caller acts differently.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Stored bytes do not hash to `id`. Retrying cannot help; an operator must run `verify`.
    #[error("object {id} is corrupt in {key}")]
    Corrupt {
        /// The object that was asked for.
        id: ObjectId,
        /// Where it was read from.
        key: String,
    },
    /// The ledger names a location that the bucket does not have: damage, never "not found".
    #[error("{key} is missing from the bucket")]
    Missing {
        /// The key that should be there.
        key: String,
    },
    /// The key already holds other bytes. Keys are written once.
    #[error("{key} already holds other bytes")]
    Occupied {
        /// The key that was to be written.
        key: String,
    },
    /// The backend failed in a way that may pass. The outcome is unknown; repeating the call is safe.
    #[error("could not {action} in the {store} store")]
    Unavailable {
        /// What was attempted, such as `put`.
        action: &'static str,
        /// `memory`, `directory`, `s3`, or `spool` for a pack under way.
        store: &'static str,
        /// The cause, for the log.
        source: BoxError,
    },
    /// The backend refused for good: wrong credentials, no such bucket, a read-only directory.
    #[error("the {store} store refused to {action}")]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// `memory`, `directory` or `s3`.
        store: &'static str,
        /// The cause, for the log.
        source: BoxError,
    },
}
