//! Why a verb failed.

use treehold_catalog::CatalogError;
use treehold_object::ObjectId;
use treehold_store::StoreError;
use uuid::Uuid;

use crate::api::{BatchRefused, Conflict, Oid};

/// Why a verb failed. A variant exists only where a caller acts differently; `code` is the stable name in problem bodies.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// The cursor is none of this project's feed.
    #[error("the cursor is damaged or of another project; ask without `since` for one, or with `since=start`")]
    BadCursor,
    /// Events after the cursor are gone.
    #[error(
        "events after the cursor are not kept any more; list what you need again, and go on from a new cursor (ask without `since`)"
    )]
    CursorExpired,
    /// The request is understood but cannot be done as it is. The code says which rule.
    #[error("{detail}")]
    Unprocessable {
        /// Stable code, such as `bad_path`.
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// Something that the request names does not exist for this project.
    #[error("{detail}")]
    NotFound {
        /// Stable code: `project_not_found`, `ref_not_found`, `file_not_found`, `pending_deletion`, `not_found` …
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// The remote is not on the allow-list, or its address is not allowed.
    #[error("{0}")]
    RemoteNotAllowed(String),
    /// The state is in the way (project exists otherwise, head moved, diverged); repeating without a change will not help.
    #[error("{detail}")]
    Conflict {
        /// Stable code: `head_moved`, `diverged`, `project_exists`, `name_taken` …
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// A ref is not what the caller expects.
    #[error("The ref {name:?} is not what the request expects; look again.")]
    RefMoved {
        /// Its full name.
        name: String,
        /// What it is; `None` = there is none.
        oid: Option<Oid>,
    },
    /// The edits do not merge. Nothing changed.
    #[error("{} path(s) do not merge with what the branch has now; resolve them and commit again", .0.len())]
    MergeConflict(Vec<Conflict>),
    /// Commits of ours and of the remote do not merge. Nothing changed.
    #[error(
        "{} path(s) were committed here and at the remote in ways that do not merge; save the remote's text of each as an edit, commit it with push false, and sync again",
        .0.len()
    )]
    Diverged(Vec<Conflict>),
    /// An operation of an atomic batch cannot be done. Nothing was written.
    #[error("operation {} cannot be done, and so nothing was written: {}", .0.index, .0.error().detail)]
    Batch(Box<BatchRefused>),
    /// A condition of the request does not hold.
    #[error("what is there is not what the request expects; read it again and repeat")]
    Precondition {
        /// What the caller's view has now; `None` = nothing.
        oid: Option<Oid>,
        /// Revision of the caller's workspace, for pending work.
        revision: Option<i64>,
    },
    /// Something is larger than its limit.
    #[error("{what} is over the limit of {limit} {unit}")]
    TooLarge {
        /// What is too large, such as `the file`.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// `bytes`, `paths` …
        unit: &'static str,
    },
    /// The project would hold more than it may. Nothing was stored.
    #[error(
        "the project holds {used} bytes of the {quota} that it may, and this would add {adds}: discard what is not needed (local history \
         counts until it is thinned, what was committed while a ref reaches it), or have its quota raised"
    )]
    QuotaExceeded {
        /// What it holds, logical bytes.
        used: u64,
        /// What it may hold, logical bytes.
        quota: u64,
        /// What would come, logical bytes.
        adds: u64,
    },
    /// The remote refused the push for good; pending work is kept.
    #[error("the remote refused the push: {message}")]
    PushRejected {
        /// The attempt that is kept.
        attempt: Option<Uuid>,
        /// Its commit.
        commit: Option<ObjectId>,
        /// The remote's words, control characters escaped.
        message: String,
    },
    /// The remote did not accept the credentials, or none were given; pending work is kept.
    #[error("the remote did not accept the credentials")]
    RemoteAuth {
        /// The attempt that waits, if a commit was made.
        attempt: Option<Uuid>,
        /// Its commit.
        commit: Option<ObjectId>,
    },
    /// It is not known whether the push arrived; it will be settled, and repeating the request is safe.
    #[error(
        "the remote did not answer; whether the push arrived is not known yet. Repeat the request, or look at the status"
    )]
    PushUnknown {
        /// The attempt.
        attempt: Uuid,
        /// Its commit.
        commit: ObjectId,
        /// `unknown`
        state: String,
    },
    /// The remote failed: unreachable, broken answer, an object that does not pass the checks.
    #[error("{detail}")]
    RemoteFailed {
        /// Stable code: `remote_failed`, `remote_invalid`, `remote_timeout`, `remote_rate_limited`.
        code: &'static str,
        /// What happened, control characters escaped.
        detail: String,
        /// When to try again, seconds.
        retry_after_s: Option<u64>,
    },
    /// The store or the database is unavailable; nothing was acknowledged.
    #[error("{what} is unavailable; try again soon")]
    Unavailable {
        /// `the store` or `the database`.
        what: &'static str,
        /// The cause, for the log.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too much at once.
    #[error("too many requests at once; try again soon")]
    Busy,
    /// What an export needs is damaged where it is stored; repeating cannot help.
    #[error("the stored {what} is damaged; restore it from a backup of the bucket, or import the repository again")]
    Damaged {
        /// `object` or `pack`, and its id or key.
        what: String,
        /// The cause, for the log.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Damage or a defect of ours. The cause is for the log, never for the caller.
    #[error("an internal error occurred; it was logged under the request id")]
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl EngineError {
    /// There is no such project, or none for who asks.
    pub fn no_project() -> Self {
        crate::view::no_project()
    }

    /// The stable `code` of problem bodies.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::BadCursor => "bad_cursor",
            Self::CursorExpired => "cursor_expired",
            Self::Unprocessable { code, .. }
            | Self::NotFound { code, .. }
            | Self::Conflict { code, .. }
            | Self::RemoteFailed { code, .. } => code,
            Self::RemoteNotAllowed(_) => "remote_not_allowed",
            Self::RefMoved { .. } => "ref_moved",
            Self::MergeConflict(_) | Self::Diverged(_) => "conflict",
            Self::Batch(refused) => match refused.error().code.as_str() {
                "conflict" => "conflict",
                "precondition_failed" => "precondition_failed",
                "too_large" => "too_large",
                _ => "batch_failed",
            },
            Self::Precondition { .. } => "precondition_failed",
            Self::TooLarge { .. } => "too_large",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::PushRejected { .. } => "push_rejected",
            Self::RemoteAuth { .. } => "remote_auth",
            Self::PushUnknown { .. } => "push_unknown",
            Self::Unavailable { .. } => "unavailable",
            Self::Busy => "busy",
            Self::Damaged { .. } => "damaged",
            Self::Internal(_) => "internal",
        }
    }

    /// A defect or damage, with its cause for the log.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// As [`From<StoreError>`], for operators: damage names what is damaged. `oid` was asked for.
    pub(crate) fn of_damage(error: StoreError, oid: Option<&ObjectId>) -> Self {
        let what = match (&error, oid) {
            (StoreError::Corrupt { id, .. }, _) => format!("object {id}"),
            (StoreError::Missing { key }, _) if key.ends_with(".pack") => format!("pack {key}"),
            (StoreError::Missing { .. }, Some(oid)) => format!("object {oid}"),
            (StoreError::Missing { key }, None) => format!("object {key}"),
            _ => return error.into(),
        };
        Self::Damaged { what, source: Box::new(error) }
    }

    /// Understood but impossible.
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Unprocessable { code, detail: detail.into() }
    }

    /// Not there.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::NotFound { code, detail: detail.into() }
    }
}

impl From<CatalogError> for EngineError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unavailable { .. } | CatalogError::OpLost => {
                Self::Unavailable { what: "the database", source: Box::new(error) }
            }
            CatalogError::NoProject => crate::view::no_project(),
            CatalogError::TooManyRefs { limit } => {
                Self::TooLarge { what: "the project", limit: limit as u64, unit: "refs" }
            }
            CatalogError::RefConflict { name, existing } => crate::refs::ref_conflict(&name, &existing),
            CatalogError::Collision(_) | CatalogError::Invalid { .. } | CatalogError::Failed { .. } => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

impl From<treehold_fault::Injected> for EngineError {
    fn from(injected: treehold_fault::Injected) -> Self {
        Self::Unavailable { what: "the store", source: Box::new(injected) }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::Refused { .. } => {
                Self::Unavailable { what: "the store", source: Box::new(error) }
            }
            StoreError::Corrupt { .. } | StoreError::Missing { .. } | StoreError::Occupied { .. } => {
                Self::Internal(Box::new(error))
            }
        }
    }
}
