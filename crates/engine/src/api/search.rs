//! Search in the files of a snapshot.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Oid, Path, Source};

/// Whether case counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// What to look for; at most 4,096 bytes.
    pub query: String,
    /// The query is a regular expression (the syntax of Rust's `regex`: no look-around, no back references). Else it is literal.
    #[serde(default)]
    pub regex: bool,
    /// Default `sensitive`.
    #[serde(default)]
    pub case: SearchCase,
    /// Only whole words.
    #[serde(default)]
    pub word: bool,
    /// Matches may go over several lines.
    #[serde(default)]
    pub multiline: bool,
    /// Globs as in `.gitignore`, at most 100, the last one that matches decides: `*.rs`, `/docs/**`, `!*.lock` (with `!`: not these).
    /// One that matches a directory covers all below it. If one has no `!`, files that none matches are left out.
    #[serde(default)]
    pub globs: Vec<String>,
    /// Only paths that start with this.
    pub prefix: Option<String>,
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Overlay this user's pending work.
    pub user: Option<Uuid>,
    /// The branch whose pending work is meant; the same as `ref`.
    pub branch: Option<String>,
    /// Lines shown before and after each match; at most 100.
    pub context: Option<u64>,
    /// Lines before, instead of `context`.
    pub before: Option<u64>,
    /// Lines after, instead of `context`.
    pub after: Option<u64>,
    /// Matching lines shown of one file; the last one says where there are more.
    pub max_matches_per_file: Option<u64>,
    /// Matches (files) in one answer: 1 to 10,000, default 1,000; in a stream no limit but the one given.
    pub limit: Option<usize>,
    /// Budget for the shown text, bytes: at most 16 MiB, default 4 MiB; in a stream none but the one given. One match is always shown.
    pub max_bytes: Option<u64>,
    /// From the last answer, with the same request: go on where it stopped, at the same snapshot.
    pub cursor: Option<String>,
    /// What to answer.
    #[serde(default)]
    pub mode: SearchMode,
    /// Search binary files, too (those with a NUL among the first 8,000 bytes).
    #[serde(default)]
    pub include_binary: bool,
}

impl SearchRequest {
    /// What an answer in one piece shows at most, bytes (its last match may go beyond).
    pub fn shown_max(&self) -> u64 {
        self.max_bytes.unwrap_or(4 << 20).clamp(1, 16 << 20)
    }
}

/// Some bytes of a file, in JSON `text`; where they are not UTF-8, in base64 with `"encoding": "base64"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The bytes shown, without the last line end.
    pub bytes: Vec<u8>,
    /// Bytes of the line that were left out before these; with `truncated`.
    pub start: u64,
    /// Something was left out, before or after.
    pub truncated: bool,
}

impl Serialize for Excerpt {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => map.serialize_entry("text", text)?,
            Err(_) => {
                map.serialize_entry("encoding", "base64")?;
                map.serialize_entry("text", &BASE64_STANDARD.encode(&self.bytes))?;
            }
        }
        if self.truncated {
            map.serialize_entry("truncated", &true)?;
            map.serialize_entry("text_start", &self.start)?;
        }
        map.end()
    }
}

impl JsonSchema for Excerpt {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Excerpt".into()
    }

    /// Its fields become those of what it is part of.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "What is shown, without the last line end."},
                "encoding": {"const": "base64", "description": "`text` is base64: the bytes are not UTF-8."},
                "truncated": {"const": true, "description": "Something of a long line was left out, before or after."},
                "text_start": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Bytes of the line that were left out before `text`; with `truncated`.",
                },
            },
            "required": ["text"],
        })
    }
}

/// A match within the text shown: bytes of it (before base64), the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Submatch {
    /// First byte.
    pub start: u64,
    /// After the last byte.
    pub end: u64,
}

/// A line beside a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ContextLine {
    /// From 1.
    pub line: u64,
    /// The line.
    #[serde(flatten)]
    pub text: Excerpt,
}

/// A matching line, or with `multiline` the lines of a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<ContextLine>,
    /// The lines after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ContextLine>,
    /// The file has more matches, which `max_matches_per_file` leaves out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_in_file: bool,
}

/// One entry of a search's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Found {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// Blob id.
    pub oid: Oid,
    /// Where it comes from.
    pub source: Source,
    /// The match, in the mode `matches`.
    #[serde(flatten)]
    pub hit: Option<Hit>,
    /// How many lines match, in the mode `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Files that were not searched though they were meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Skipped {
    /// A NUL among the first 8,000 bytes.
    pub binary: u64,
    /// Over 16 MiB.
    pub too_large: u64,
    /// Damaged where they are stored; the operator's log names them.
    pub unreadable: u64,
}

/// The end of a search's answer. It counts what this answer has searched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SearchEnd {
    /// Paths whose search began in this answer.
    pub files_searched: u64,
    /// Bytes that were searched: of each content once, at however many paths it is.
    pub bytes_searched: u64,
    /// What was left out.
    pub skipped: Skipped,
    /// Give it as `cursor` to go on: a limit or the work for one request was reached.
    pub next_cursor: Option<String>,
}
