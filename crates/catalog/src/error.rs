//! Why a catalog operation failed.

/// Any error of the database library.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a catalog operation failed. A variant exists only where a caller acts differently.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database cannot be reached, is shutting down or did not answer in time. Nothing was acknowledged; repeating is safe.
    #[error("the database is unavailable ({action})")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// The cause, for the log.
        source: BoxError,
    },
    /// The operation was closed or overtaken by the collector (docs/reliability.md, W4, W5): begin a new one and repeat.
    #[error("the operation was overtaken and must be repeated")]
    OpLost,
    /// The ledger holds another object under the same id (other type, size or SHA-256): an attack or damage.
    #[error("object {0} is already known with other content")]
    Collision(treehold_object::ObjectId),
    /// The project is gone.
    #[error("the project does not exist")]
    NoProject,
    /// The project would have more refs than it may. Nothing changed.
    #[error("the project may not have more than {limit} refs")]
    TooManyRefs {
        /// How many it may have.
        limit: usize,
    },
    /// A new ref cannot be beside another one of the project ([`treehold_object::refname::Conflict`]). Nothing changed.
    #[error("the ref {name:?} cannot be beside {existing:?}")]
    RefConflict {
        /// The new one.
        name: String,
        /// The other one.
        existing: String,
    },
    /// A stored row does not decode: damage, or a newer schema.
    #[error("a stored {what} row is invalid")]
    Invalid {
        /// The kind of row.
        what: &'static str,
    },
    /// The database refused a statement for a reason that repeating will not cure.
    #[error("the database failed ({action})")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// The cause, for the log.
        source: BoxError,
    },
}
