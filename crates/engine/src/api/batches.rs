//! Several writes to pending work at once.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Encoding, Mode, Oid, Path};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PendingVerb {
    /// Writes `content`.
    Put,
    /// The path must exist.
    Delete,
    /// `from` must exist and `path` must not.
    Move,
    /// The path must exist; `mode` must be given.
    Chmod,
    /// Replaces `old_string` by `new_string`.
    Edit,
    /// Applies `diff`, of one file.
    Patch,
}

/// What to do where the view is not what an operation expects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMismatch {
    /// The operation fails.
    #[default]
    Fail,
    /// What was sent is merged with what the view has; what does not merge is a conflict, and stays in local history.
    Merge,
}

fn yes() -> bool {
    true
}

/// A field that may be missing, null or a value.
pub(super) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PendingOp {
    /// What to do.
    pub op: PendingVerb,
    /// Where.
    pub path: String,
    /// For `move`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For `put`: the new bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Of `content`; `utf-8` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// For `put`, `move` and `chmod`; kept if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// For `edit`: occurs exactly once, unless `replace_all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_string: Option<String>,
    /// For `edit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_string: Option<String>,
    /// For `edit`.
    #[serde(default)]
    pub replace_all: bool,
    /// For `patch`: a unified diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// What the view must have at the path (at `from` for a move); null = nothing.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub expected_oid: Option<Option<Oid>>,
    /// The blob that the edit started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Oid>,
}

/// Body of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PendingBatch {
    /// In order; a later one sees what an earlier one did.
    pub ops: Vec<PendingOp>,
    /// All or nothing; else each has its own result.
    #[serde(default = "yes")]
    pub atomic: bool,
    /// The workspace's revision that the caller last saw. An operation without `expected_oid` and `base` does not expect a row that
    /// changed since.
    #[serde(default)]
    pub base_revision: Option<i64>,
    /// What to do where the view is not what an operation expects.
    #[serde(default)]
    pub on_conflict: OnMismatch,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpStatus {
    /// Done as asked.
    Applied,
    /// What was sent and what the view had were merged.
    Merged,
    /// The view has it already.
    Duplicate,
    /// It does not merge. Nothing changed; what was sent is in local history.
    Conflict,
    /// It cannot be done; `error` says why.
    Failed,
    /// Another operation of an atomic batch failed.
    NotApplied,
}

/// Why an operation was not done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpError {
    /// Stable, as in problems.
    pub code: String,
    /// A sentence that says what to do.
    pub detail: String,
    /// How often the text to replace occurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrences: Option<usize>,
    /// The hunk that does not apply, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hunk: Option<usize>,
    /// Of a conflict: the blobs that do not merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<OpConflict>,
}

/// The sides of a conflict; `null` = no file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpConflict {
    /// What the edit started from.
    pub base: Option<Oid>,
    /// What was sent.
    pub ours: Option<Oid>,
    /// What the view has.
    pub theirs: Option<Oid>,
    /// The version of local history that has what was sent, to be read and restored.
    pub version: Option<String>,
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpResult {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What became of it.
    pub status: OpStatus,
    /// What the view has at the path now; `null` = no file.
    pub oid: Option<Oid>,
    /// Bytes, where the operation made or named them.
    pub size: Option<u64>,
    /// Six octal digits.
    pub mode: Option<Mode>,
    /// The blob that the pending change starts from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's change.
    pub revision: Option<i64>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError>,
}

/// Answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchAnswer {
    /// Revision of the workspace.
    pub revision: i64,
    /// In the order of the operations.
    pub results: Vec<OpResult>,
}

/// An atomic batch that was refused: nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRefused {
    /// The operation that fails.
    pub index: usize,
    /// In the order of the operations.
    pub results: Vec<OpResult>,
}

impl BatchRefused {
    /// Why the operation fails.
    pub fn error(&self) -> OpError {
        self.results.get(self.index).and_then(|result| result.error.clone()).unwrap_or_default()
    }
}
