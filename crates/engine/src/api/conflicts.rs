//! What stands between pending work and a branch: sides, merged text, who else is at it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChangeState, Content, Encoding, Mode, Oid, Path, PendingAction};

/// What pending work is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MergeWith {
    /// Our branch as it is.
    #[default]
    Head,
    /// The remote's branch as it was last seen: what a pull would bring.
    Remote,
}

/// Which conflicts are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConflictsRequest {
    /// Whose pending work.
    pub user: Uuid,
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// Only this path, whatever its state.
    pub path: Option<Vec<u8>>,
    /// What it is compared with.
    pub against: MergeWith,
    /// From the last answer.
    pub cursor: Option<String>,
    /// Files of a page, at most.
    pub limit: Option<usize>,
}

/// One side of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MergeSide {
    /// The blob.
    pub oid: Oid,
    /// Six octal digits; `null` for the base of an edit from before modes were kept.
    pub mode: Option<Mode>,
    /// Bytes; `null` where the blob cannot be read any more.
    pub size: Option<u64>,
    /// Why there is no content here: `binary`, `too_large`, `unavailable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["binary", "too_large", "unavailable"]))]
    pub omitted: Option<&'static str>,
    /// The text.
    #[serde(flatten)]
    pub content: Option<Content>,
}

/// Lines that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConflictHunk {
    /// Where its first marker stands in the merged text, from 1.
    pub line: u64,
    /// The base's lines.
    pub base: String,
    /// The edit's lines.
    pub ours: String,
    /// The branch's lines.
    pub theirs: String,
}

/// A merged text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MergedText {
    /// The text; where it does not merge, with git's conflict markers in it.
    pub content: String,
    /// What does not merge; empty: the text is whole.
    pub hunks: Vec<ConflictHunk>,
}

/// Somebody else's pending work on the same path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OtherWork {
    /// Whose.
    pub user: Uuid,
    /// What it does.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// A pending change and what the branch has at its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConflictFile {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// How the change stands to the branch.
    pub state: ChangeState,
    /// What the edit started from; `null` = the path did not exist.
    pub base: Option<MergeSide>,
    /// The edit; `null` = it deletes the file.
    pub ours: Option<MergeSide>,
    /// What the branch has; `null` = nothing.
    pub theirs: Option<MergeSide>,
    /// The mode that merging gives, six octal digits; `null` where one side has no file, or they are of different types.
    pub mode: Option<Mode>,
    /// The three texts merged; `null` where one is missing, binary or too large.
    pub merged: Option<MergedText>,
    /// Others who have pending work on the path.
    pub others: Vec<OtherWork>,
}

/// What a file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// The edit as it is, on top of what the branch has now.
    Ours,
    /// What the branch has: the edit goes.
    Theirs,
    /// Both merged, where they merge.
    Merged,
    /// The given `content`.
    Text,
}

/// How one file is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveFile {
    /// From the root.
    pub path: String,
    /// What it becomes.
    pub take: Take,
    /// For `text`.
    #[serde(default)]
    pub content: Option<String>,
    /// Of `content`; `utf-8` if not given.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Merged from both sides if not given.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What the branch had when the caller decided (`null`: nothing): another one is refused.
    #[serde(default, deserialize_with = "super::nullable", skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Option<Oid>>,
}

/// Body of a resolution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// Whose pending work.
    pub user: Uuid,
    /// Short branch name; the project's default if not given.
    #[serde(default)]
    pub branch: Option<String>,
    /// All or none.
    pub files: Vec<ResolveFile>,
}

/// A page of conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConflictPage {
    /// Short branch name.
    pub branch: String,
    /// Revision of the workspace.
    pub revision: i64,
    /// The commit that the work is compared with; `null` = the branch is unborn.
    pub against: Option<Oid>,
    /// In byte order of the path.
    pub files: Vec<ConflictFile>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}
