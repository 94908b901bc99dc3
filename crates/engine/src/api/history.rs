//! Refs, logs, diffs, raw objects, archives.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::{Mode, Oid, Path};

/// A ref in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefView {
    /// Full name.
    pub name: String,
    /// What it points to.
    pub oid: Oid,
    /// When an ephemeral branch ends, RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A list of refs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefList {
    /// In byte order of the name.
    pub refs: Vec<RefView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// Body of a move of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefRequest {
    /// The new target: a commit that this project reaches.
    pub oid: Oid,
    /// What the ref must be now; all zeros = it must not exist. Not given: created if absent, else fast-forwarded.
    #[serde(default)]
    pub expected_oid: Option<Oid>,
    /// Allow a move that is not a fast-forward (needs `expected_oid`).
    #[serde(default)]
    pub force: bool,
    /// Bring a deleted ref back: the oid is one that it had before, by its reflog.
    #[serde(default)]
    pub restore: bool,
    /// `true`: a branch that ends a week after its last move, or when `expires_in` says. `false`: one that stays. Not given: as it is, a
    /// new one stays.
    #[serde(default)]
    pub ephemeral: Option<bool>,
    /// Makes it ephemeral: seconds after its last move, 1 to 31,536,000.
    #[serde(default)]
    pub expires_in: Option<u64>,
}

/// Body of a promotion of an ephemeral branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// Short name of the ephemeral branch.
    pub branch: String,
    /// Short name of the branch that moves to where it is, by a fast-forward; then the ephemeral one goes, unless
    /// somebody has pending work on it. Not given: it becomes one that stays, under its own name.
    #[serde(default)]
    pub into: Option<String>,
    /// What the branch that is to move or to stay must be now.
    #[serde(default)]
    pub expected_oid: Option<Oid>,
}

/// What became of an ephemeral branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Promoted {
    /// Full name of the branch that has its work now.
    pub name: String,
    /// Where that is.
    pub oid: Oid,
}

/// A move of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReflogView {
    /// Full name.
    pub name: String,
    /// What it was; `null` = it did not exist.
    pub from: Option<Oid>,
    /// What it became; `null` = it was deleted.
    pub to: Option<Oid>,
    /// `commit`, `sync`, `push`, `update`, `delete`, `restore`, `fork` …
    pub reason: String,
    /// RFC 3339, UTC.
    pub at: String,
}

/// One page of a reflog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReflogPage {
    /// Newest first.
    pub entries: Vec<ReflogView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// A person and a time, in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Person {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// RFC 3339 with the recorded offset.
    pub date: String,
}

/// One commit of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogEntry {
    /// Its id.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// Parents that it names (a shallow project may not have them).
    pub parents: Vec<Oid>,
    /// Author.
    pub author: Person,
    /// Committer.
    pub committer: Person,
    /// Whole message.
    pub message: String,
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogPage {
    /// Newest first. A page may be shorter than its limit, or empty with a path, and go on.
    pub commits: Vec<LogEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
    /// The walk met a commit whose parents were cut off by a shallow fetch.
    pub shallow: bool,
}

/// What a diff compares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffRequest {
    /// Compared to this user's view of `branch`; from its head if `from` is not given.
    pub user: Option<Uuid>,
    /// Short branch name, with `user`.
    pub branch: Option<String>,
    /// A ref, or the oid of a commit or tree that the project reaches.
    pub from: Option<String>,
    /// The same.
    pub to: Option<String>,
    /// Only paths that start with this.
    pub prefix: Option<String>,
    /// Tell of files that moved and kept their content.
    pub renames: bool,
    /// Files on a page: 1 to 10,000. Where texts are compared and it is not given, all of them.
    pub limit: Option<usize>,
    /// From the last page.
    pub cursor: Option<String>,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TreeChange {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// `created`, `deleted`, `modified` or `renamed`.
    #[schemars(extend("enum" = ["created", "deleted", "modified", "renamed"]))]
    pub action: &'static str,
    /// Where a renamed file was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// The same, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_path_b64: Option<String>,
    /// Before; `null` = it did not exist.
    pub old_oid: Option<Oid>,
    /// After; `null` = it is gone.
    pub new_oid: Option<Oid>,
    /// Before.
    pub old_mode: Option<Mode>,
    /// After.
    pub new_mode: Option<Mode>,
    /// The bytes of `old_path`.
    #[serde(skip)]
    pub old_name: Option<BString>,
}

/// What differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TreeDiff {
    /// The commit or tree compared from.
    pub from: Option<Oid>,
    /// The commit or tree compared to (with a user: the commit under the pending work).
    pub to: Option<Oid>,
    /// The tree compared from: who holds it needs no more than what differs.
    pub from_tree: Option<Oid>,
    /// The tree compared to; `null` with a user, whose view has none.
    pub to_tree: Option<Oid>,
    /// Revision of the user's workspace, with a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// In byte order of the path.
    pub files: Vec<TreeChange>,
    /// Give it as `cursor` to go on; it is bound to both sides.
    pub next_cursor: Option<String>,
}

/// What a log shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    pub reference: Option<String>,
    /// Only commits that changed this file or directory, as `git log -- path` picks them.
    pub path: Option<Vec<u8>>,
    /// Go from a merge to its first parent only.
    pub first_parent: bool,
    /// From the last page.
    pub cursor: Option<String>,
    /// Commits on a page: 1 to 1,000, default 30.
    pub limit: Option<usize>,
}

/// One file of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiffFile {
    /// Paths, oids and modes.
    #[serde(flatten)]
    pub change: TreeChange,
    /// Neither side is shown as text.
    pub binary: bool,
    /// Lines added.
    pub additions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Hunks as git writes them, without the file header; empty for binary files.
    pub patch: String,
}

/// A diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diff {
    /// The commit or tree compared from.
    pub from: Option<Oid>,
    /// The commit or tree compared to (with `user`: the commit under the pending work).
    pub to: Option<Oid>,
    /// In byte order of the path.
    pub files: Vec<DiffFile>,
    /// Give it as `cursor` to go on; it is bound to both sides.
    pub next_cursor: Option<String>,
}

/// A raw object that the project reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawObject {
    /// Its id.
    pub oid: ObjectId,
    /// Its type.
    pub kind: treehold_object::Kind,
    /// Its content, without the header.
    pub content: Bytes,
}

/// Format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// `application/gzip`
    TarGz,
    /// `application/zip`
    Zip,
}
