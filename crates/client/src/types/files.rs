//! Files of a snapshot: lists, batch reads, search, blame.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Content, Mode, Oid, Person, TreePath};

/// Where a file's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The commit.
    Committed,
    /// The user's pending work.
    Pending,
}

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// Six octal digits.
    pub mode: Mode,
    /// Blob id (commit id for a gitlink).
    pub oid: Oid,
    /// Bytes; 0 for a gitlink.
    pub size: u64,
    /// Where it comes from.
    pub source: Source,
}

/// A list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    /// The snapshot's commit; `null` on an unborn branch.
    pub commit: Option<Oid>,
    /// Revision of the user's workspace, with `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// In byte order of the path.
    pub files: Vec<FileEntry>,
    /// Give it as `cursor` to go on; it is bound to this snapshot's commit.
    pub next_cursor: Option<String>,
}

/// One file of a batch read, as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReadPath {
    /// The whole file.
    Whole(String),
    /// Some lines, both ends included, counted from 1.
    Lines(LineRange),
}

/// Some lines of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LineRange {
    /// From the root.
    pub path: String,
    /// First line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u64>,
    /// Last line, included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u64>,
}

/// Body of a batch read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReadRequest {
    /// At most 10,000.
    pub paths: Vec<ReadPath>,
    /// Branch, tag, full ref name or full commit oid.
    #[serde(rename = "ref")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Overlay this user's pending work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Uuid>,
    /// Budget for contents, bytes (of content, before encoding); at most 64 MiB, which it is if not given. An answer holds at least one
    /// character (one byte of a binary file) of the first file that has any, also with 0, so that cursors come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// From the last answer: go on where it stopped, at the same snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How content is written in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// As text.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// For anything that is not UTF-8.
    #[serde(rename = "base64")]
    Base64,
}

/// Why one path of a batch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    /// As the `code` of a problem.
    pub code: String,
    /// A sentence that says what to do.
    pub detail: String,
}

/// One file of a batch read's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReadItem {
    /// It was found.
    File(ReadFile),
    /// It was not, or could not be read; the others are not affected.
    Failed {
        /// As asked.
        path: String,
        /// Why.
        error: ItemError,
    },
}

/// A file of a batch read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// As asked.
    pub path: String,
    /// Blob id.
    pub oid: Oid,
    /// Six octal digits.
    pub mode: Mode,
    /// Bytes of the whole file.
    pub size: u64,
    /// Where it comes from.
    pub source: Source,
    /// The file, or the lines asked for, or what fitted the budget (then `truncated`).
    #[serde(flatten)]
    pub content: Content,
    /// First line of `content`, if a range was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u64>,
    /// Last line of `content`, if a range was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u64>,
    /// Lines of the whole file, if a range was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_lines: Option<u64>,
    /// The budget cut this file: the answer's `next_cursor` goes on inside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Lines that follow each other and came together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlameRange {
    /// The first one, from 1.
    pub start_line: u64,
    /// How many.
    pub lines: u64,
    /// They are the user's, not committed yet; then nothing else is said of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// The commit that they came with.
    #[serde(flatten)]
    pub origin: Option<BlameOrigin>,
}

/// Where lines came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlameOrigin {
    /// The commit.
    pub commit: Oid,
    /// Its author.
    pub author: Person,
    /// First line of its message.
    pub summary: String,
    /// The file's path in it.
    pub original_path: String,
    /// The first line's number in it, from 1.
    pub original_line: u64,
    /// The history is cut off here: the lines may be older.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub boundary: bool,
    /// The work for one request was reached here: the lines may be older. The blame of `original_path` at `commit` goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
}

/// The lines of a file and where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    /// The snapshot's commit; `null` on an unborn branch.
    pub commit: Option<Oid>,
    /// Revision of the user's workspace, with a user.
    pub revision: Option<i64>,
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// Blob id.
    pub oid: Oid,
    /// Lines of the whole file.
    pub total_lines: u64,
    /// All lines that were asked for, in order.
    pub ranges: Vec<BlameRange>,
}
