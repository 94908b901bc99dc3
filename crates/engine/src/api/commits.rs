//! Commits.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Condition, Encoding, Mode, Oid, Path, PendingAction};

/// Who made a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// RFC 3339 or `@unix +zzzz`; now in +0000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// What to do where the head or the remote moved under the edits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Merge per file; refuse what does not merge.
    #[default]
    Merge,
    /// Refuse.
    Fail,
    /// Merge; what does not merge goes to a branch of its own.
    Branch,
}

/// Body of a commit of pending work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitRequest {
    /// Whose pending work.
    pub user: Uuid,
    /// Without the final LF.
    pub message: String,
    /// Also the committer.
    pub author: Author,
    /// Short branch name.
    #[serde(default)]
    pub branch: Option<String>,
    /// Only these paths.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// The head must be this commit.
    #[serde(default)]
    pub expected_head_sha: Option<Oid>,
    /// What to do where the head or the remote moved.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Whether to push; true if the project has a remote.
    #[serde(default)]
    pub push: Option<bool>,
    /// Compute and answer, but change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Add a trailer to the message for each actor, session and device that made one of the edits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trailers: bool,
    /// Have the commit made and signed by somebody else. Not told in the request's hash where it is not used, so that keys of before count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<SignBy>,
}

/// Who makes and signs a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignBy {
    /// GitHub, as whose token it is, on the branch itself.
    Github,
}

/// What an action of a commit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// The path must not exist.
    Create,
    /// The path must exist.
    Update,
    /// The path must exist.
    Delete,
    /// `from` must exist and `path` must not; `content` may change with it.
    Move,
    /// The path must exist; `mode` must be given.
    Chmod,
}

/// One action of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitAction {
    /// What to do.
    pub action: ActionKind,
    /// Where.
    pub path: String,
    /// For `move`.
    #[serde(default)]
    pub from: Option<String>,
    /// For `create`, `update`, `chmod`, `move`.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Of `content`; `utf-8` if not given.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// The new bytes.
    #[serde(default)]
    pub content: Option<String>,
    /// The path (`from` for a move) must have this blob.
    #[serde(default)]
    pub expected_oid: Option<Oid>,
}

/// Body of a commit with actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionsRequest {
    /// Short branch name.
    #[serde(default)]
    pub branch: Option<String>,
    /// Without the final LF.
    pub message: String,
    /// Also the committer.
    pub author: Author,
    /// The head must be this commit.
    #[serde(default)]
    pub expected_head_sha: Option<Oid>,
    /// Whether to push; true if the project has a remote.
    #[serde(default)]
    pub push: Option<bool>,
    /// At most 100,000, on different paths.
    pub actions: Vec<CommitAction>,
}

/// A one-file commit.
#[derive(Debug, Clone)]
pub struct FileCommit {
    /// Short branch name.
    pub branch: Option<String>,
    /// A sentence is made if not given.
    pub message: Option<String>,
    /// The configured author if not given.
    pub author_name: Option<String>,
    /// The configured author if not given.
    pub author_email: Option<String>,
    /// Kept if not given, 100644 for a new file.
    pub mode: Option<Mode>,
    /// Condition on the committed file.
    pub condition: Condition,
    /// What to write; `None` = delete.
    pub content: Option<Bytes>,
}

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommittedFile {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What happened to it.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
}

/// Answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitAnswer {
    /// The new commit.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// Its parent, or none.
    pub parents: Vec<Oid>,
    /// Where it went (differs from the asked one after `on_conflict: "branch"`).
    pub branch: String,
    /// Whether the remote has it.
    pub pushed: bool,
    /// What it changes.
    pub files: Vec<CommittedFile>,
    /// Number of objects made.
    pub objects: u64,
}

/// A path that does not merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// The blob that the edit started from.
    pub base: Option<Oid>,
    /// The edit.
    pub ours: Option<Oid>,
    /// What the branch has now.
    pub theirs: Option<Oid>,
}
