//! Search.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Encoding, Oid, Source, TreePath};

/// Whether case counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchCase {
    /// It does.
    #[default]
    Sensitive,
    /// It does not.
    Insensitive,
    /// It does if the query has an upper-case letter, as ripgrep's `--smart-case`.
    Smart,
}

/// What a search answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// Each matching line.
    #[default]
    Matches,
    /// Each file that has one.
    Files,
    /// Each file that has one, and how many lines match, as `git grep --count`.
    Count,
}

/// Body of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SearchRequest {
    /// What to look for; at most 4,096 bytes.
    pub query: String,
    /// The query is a regular expression (the syntax of Rust's `regex`: no look-around, no back references). Else it is literal.
    pub regex: bool,
    /// Default `sensitive`.
    pub case: SearchCase,
    /// Only whole words.
    pub word: bool,
    /// Matches may go over several lines.
    pub multiline: bool,
    /// Globs as in `.gitignore`, at most 100, the last one that matches decides: `*.rs`, `/docs/**`, `!*.lock` (with `!`: not these).
    /// One that matches a directory covers all below it. If one has no `!`, files that none matches are left out.
    pub globs: Vec<String>,
    /// Only paths that start with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    #[serde(rename = "ref")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Overlay this user's pending work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Uuid>,
    /// The branch whose pending work is meant; the same as `ref`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Lines shown before and after each match; at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Lines before, instead of `context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Lines after, instead of `context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Matching lines shown of one file; the last one says where there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_matches_per_file: Option<u64>,
    /// Matches (files) in one answer: 1 to 10,000, default 1,000; in a stream no limit but the one given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Budget for the shown text, bytes: at most 16 MiB, default 4 MiB; in a stream none but the one given. One match is always shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// From the last answer, with the same request: go on where it stopped, at the same snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What to answer.
    pub mode: SearchMode,
    /// Search binary files, too (those with a NUL among the first 8,000 bytes).
    pub include_binary: bool,
}

/// A match within the text shown: bytes of it (before base64), the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submatch {
    /// First byte.
    pub start: u64,
    /// After the last byte.
    pub end: u64,
}

/// A line beside a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextLine {
    /// From 1.
    pub line: u64,
    /// The line.
    #[serde(flatten)]
    pub text: Excerpt,
}

/// A matching line, or with `multiline` the lines of a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The first line, from 1.
    pub line: u64,
    /// Where the first match begins in it: bytes, from 1.
    pub column: u64,
    /// The line.
    #[serde(flatten)]
    pub text: Excerpt,
    /// The matches in what is shown of it.
    pub submatches: Vec<Submatch>,
    /// The lines before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<ContextLine>,
    /// The lines after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ContextLine>,
    /// The file has more matches, which `max_matches_per_file` leaves out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_in_file: bool,
}

/// One entry of a search's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// From the root.
    #[serde(flatten)]
    pub path: TreePath,
    /// Blob id.
    pub oid: Oid,
    /// Where it comes from.
    pub source: Source,
    /// The match, in the mode `matches`.
    #[serde(flatten)]
    pub hit: Option<Hit>,
    /// How many lines match, in the mode `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Files that were not searched though they were meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// A NUL among the first 8,000 bytes.
    pub binary: u64,
    /// Over 16 MiB.
    pub too_large: u64,
    /// Damaged where they are stored; the operator's log names them.
    pub unreadable: u64,
}

/// The end of a search's answer. It counts what this answer has searched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchEnd {
    /// Paths whose search began in this answer.
    pub files_searched: u64,
    /// Bytes that were searched: of each content once, at however many paths it is.
    pub bytes_searched: u64,
    /// What was left out.
    pub skipped: Skipped,
    /// Give it as `cursor` to go on: a limit or the work for one request was reached.
    #[serde(deserialize_with = "Option::deserialize")]
    pub next_cursor: Option<String>,
}

/// Some bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// What is shown, without the last line end.
    pub text: String,
    /// `base64` where the bytes are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Something of a long line was left out, before or after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Bytes of the line that were left out before `text`; with `truncated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_start: Option<u64>,
}
