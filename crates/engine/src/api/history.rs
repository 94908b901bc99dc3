//! Refs, logs, diffs, raw objects, archives.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_object::ObjectId;
use uuid::Uuid;

use super::{ChangedFile, Oid};

/// A ref in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefView {
    /// Full name.
    pub name: String,
    /// What it points to.
    pub oid: Oid,
}

/// A list of refs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefList {
    /// In byte order of the name.
    pub refs: Vec<RefView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// Body of a move of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// A move of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReflogPage {
    /// Newest first.
    pub entries: Vec<ReflogView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// A person and a time, in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// RFC 3339 with the recorded offset.
    pub date: String,
}

/// One commit of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogPage {
    /// Newest first.
    pub commits: Vec<LogEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
    /// The walk met a commit whose parents were cut off by a shallow fetch.
    pub shallow: bool,
}

/// What a diff compares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffRequest {
    /// This user's view against the head of `branch`.
    pub user: Option<Uuid>,
    /// Short branch name, with `user`.
    pub branch: Option<String>,
    /// A ref or commit oid.
    pub from: Option<String>,
    /// A ref or commit oid.
    pub to: Option<String>,
}

/// One file of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffFile {
    /// Paths, oids and modes.
    #[serde(flatten)]
    pub change: ChangedFile,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The commit compared from.
    pub from: Option<Oid>,
    /// The commit compared to (with `user`: the same; the pending work is on top).
    pub to: Option<Oid>,
    /// In byte order of the path.
    pub files: Vec<DiffFile>,
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
