//! Conflicts, and what becomes of them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChangeState, Content, Encoding, Mode, Oid, PendingAction, TreePath};

/// One side of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeSide {
    /// The blob.
    pub oid: Oid,
    /// Six octal digits; `null` for the base of an edit from before modes were kept.
    pub mode: Option<Mode>,
    /// Bytes; `null` where the blob cannot be read any more.
    pub size: Option<u64>,
    /// Why there is no content here: `binary`, `too_large`, `unavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<String>,
    /// The text.
    #[serde(flatten)]
    pub content: Option<Content>,
}

/// Lines that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedText {
    /// The text; where it does not merge, with git's conflict markers in it.
    pub content: String,
    /// What does not merge; empty: the text is whole.
    pub hunks: Vec<ConflictHunk>,
}

/// Somebody else's pending work on the same path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictFile {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// How the change stands to the branch.
    pub state: ChangeState,
    /// What the edit started from; `null` = the path did not exist.
    pub base: Option<MergeSide>,
    /// The edit; `null` = it deletes the file.
    pub ours: Option<MergeSide>,
    /// What the branch has; `null` = nothing.
    pub theirs: Option<MergeSide>,
    /// The three texts merged; `null` where one is missing, binary or too large.
    pub merged: Option<MergedText>,
    /// Others who have pending work on the path.
    pub others: Vec<OtherWork>,
}

/// A page of conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What a file becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// The edit as it is, on top of what the branch has now.
    #[default]
    Ours,
    /// What the branch has: the edit goes.
    Theirs,
    /// Both merged, where they merge.
    Merged,
    /// The given `content`.
    Text,
}

/// How one file is resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ResolveFile {
    /// From the root.
    pub path: String,
    /// What it becomes.
    pub take: Take,
    /// For `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Of `content`; `utf-8` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Kept if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What the branch had when the caller decided (`null`: nothing): another one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs: Option<Option<Oid>>,
}
