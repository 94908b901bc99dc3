//! Who wrote the lines of a file.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{Oid, Path, Person};

/// Which lines of which version are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlameRequest {
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    pub reference: Option<String>,
    /// This user's view of it (then `reference` must be a branch).
    pub user: Option<Uuid>,
    /// First line, from 1.
    pub start_line: Option<u64>,
    /// Last line, included.
    pub end_line: Option<u64>,
}

/// Lines that follow each other and came together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BlameRange {
    /// The first one, from 1.
    pub start_line: u64,
    /// How many.
    pub lines: u64,
    /// They are the user's, not committed yet; then nothing else is said of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// The commit that they came with.
    #[serde(flatten)]
    pub origin: Option<BlameOrigin>,
}

/// Where lines came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub boundary: bool,
    /// The work for one request was reached here: the lines may be older. The blame of `original_path` at `commit` goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
}

/// The lines of a file and where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Blame {
    /// The snapshot's commit; `null` on an unborn branch.
    pub commit: Option<Oid>,
    /// Revision of the user's workspace, with a user.
    pub revision: Option<i64>,
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// Blob id.
    pub oid: Oid,
    /// Lines of the whole file.
    pub total_lines: u64,
    /// All lines that were asked for, in order.
    pub ranges: Vec<BlameRange>,
}
