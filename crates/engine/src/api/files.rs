//! Files of a snapshot: lists and batch reads.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Serialize};
use treehold_catalog::Project;
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

use super::{Mode, Oid, Path};
use crate::objects::Blob;

/// Which version of the files is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    pub reference: Option<String>,
    /// Overlay this user's pending work (then `reference` must be a branch).
    pub user: Option<Uuid>,
}

/// Where a file's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The commit.
    Committed,
    /// The user's pending work.
    Pending,
}

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// Six octal digits.
    pub mode: Mode,
    /// Blob id (commit id for a gitlink).
    pub oid: Oid,
    /// Bytes; 0 for a gitlink.
    pub size: u64,
    /// Where it comes from.
    pub source: Source,
}

/// One file of a list, where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// From the root.
    pub path: &'a [u8],
    /// Git file mode.
    pub mode: Mode,
    /// Blob id (commit id for a gitlink).
    pub oid: Oid,
    /// Bytes; 0 for a gitlink.
    pub size: u64,
    /// Where it comes from.
    pub source: Source,
}

impl From<Listed<'_>> for FileEntry {
    fn from(file: Listed<'_>) -> Self {
        let Listed { path, mode, oid, size, source } = file;
        Self { path: Path(path.into()), mode, oid, size, source }
    }
}

/// A list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileList {
    /// The snapshot's commit; `null` on an unborn branch.
    pub commit: Option<Oid>,
    /// Revision of the user's workspace, with `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// In byte order of the path.
    pub files: Vec<FileEntry>,
    /// Give it as `cursor` to go on; it is bound to this snapshot's commit.
    pub next_cursor: Option<String>,
}

/// Options of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only paths that start with these bytes.
    pub prefix: Option<String>,
    /// Clamped to 1 ..= 100,000; default 1,000.
    pub limit: Option<usize>,
    /// The answer is taken as a stream: then there is no limit but the one given.
    pub streamed: bool,
    /// From the last page.
    pub cursor: Option<String>,
}

/// A file that was found.
#[derive(Debug, Clone)]
pub struct FileMeta {
    /// Where its bytes are, in which project.
    pub(crate) held: Held,
    /// The snapshot's commit; `None` on an unborn branch.
    pub commit: Option<ObjectId>,
    /// From the root.
    pub path: BString,
    /// Git file mode.
    pub mode: u32,
    /// Blob id.
    pub oid: ObjectId,
    /// Bytes.
    pub size: u64,
    /// Where it comes from.
    pub source: Source,
}

/// How the bytes of a [`FileMeta`] are reached.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Committed(Blob),
    Pending(Project),
}

/// One file of a batch read, as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReadPath {
    /// The whole file.
    Whole(String),
    /// Some lines, both ends included, counted from 1.
    Lines(LineRange),
}

/// Some lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineRange {
    /// From the root.
    pub path: String,
    /// First line, from 1.
    pub start_line: Option<u64>,
    /// Last line, included.
    pub end_line: Option<u64>,
}

/// Body of a batch read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// At most 10,000.
    pub paths: Vec<ReadPath>,
    /// Branch, tag, full ref name or full commit oid.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Overlay this user's pending work.
    pub user: Option<Uuid>,
    /// Budget for contents, bytes (of content, before encoding); at most 64 MiB, which it is if not given. An answer holds at least one
    /// character (one byte of a binary file) of the first file that has any, also with 0, so that cursors come to an end.
    pub max_bytes: Option<u64>,
    /// From the last answer: go on where it stopped, at the same snapshot.
    pub cursor: Option<String>,
}

/// How content is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    /// As text.
    #[serde(rename = "utf-8")]
    Utf8,
    /// For anything that is not UTF-8.
    #[serde(rename = "base64")]
    Base64,
}

/// Content of a file in JSON: `encoding` and `content`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    encoding: Encoding,
    bytes: Bytes,
}

impl Content {
    /// Bytes, and how they are to be written.
    pub fn new(encoding: Encoding, bytes: Bytes) -> Self {
        Self { encoding, bytes }
    }

    /// How they are to be written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("encoding", &self.encoding)?;
        match self.encoding {
            Encoding::Utf8 => {
                map.serialize_entry("content", std::str::from_utf8(&self.bytes).map_err(S::Error::custom)?)?;
            }
            Encoding::Base64 => map.serialize_entry("content", &BASE64_STANDARD.encode(&self.bytes))?,
        }
        map.end()
    }
}

impl JsonSchema for Content {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Content".into()
    }

    /// Its fields become those of what it is part of.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "encoding": generator.subschema_for::<Encoding>(),
                "content": {"type": "string", "description": "The bytes, written as `encoding` says."},
            },
            "required": ["encoding", "content"],
        })
    }
}

/// Why one path of a batch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ItemError {
    /// As the `code` of a problem.
    pub code: &'static str,
    /// A sentence that says what to do.
    pub detail: String,
}

/// One file of a batch read's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u64>,
    /// Last line of `content`, if a range was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u64>,
    /// Lines of the whole file, if a range was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_lines: Option<u64>,
    /// The budget cut this file: the answer's `next_cursor` goes on inside it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}
