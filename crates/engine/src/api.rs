//! The shapes of questions and answers: what callers of the engine pass in and get back. They serialise as the HTTP API
//! shows them (snake_case JSON, oids as 40 hex digits), since idempotent answers are stored and repeated word for word.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use treehold_object::{BString, ObjectId};
use uuid::Uuid;

/// An object id that reads and writes as 40 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(pub ObjectId);

impl std::fmt::Display for Oid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Oid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 40 {
            return Err("an oid is 40 hex digits");
        }
        ObjectId::from_hex(text.as_bytes()).map(Oid).map_err(|_| "an oid is 40 hex digits")
    }
}

impl From<ObjectId> for Oid {
    fn from(id: ObjectId) -> Self {
        Oid(id)
    }
}

impl Serialize for Oid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Oid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A path in an answer: `path` as text, and `path_b64` beside it where the bytes are not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(pub BString);

impl Serialize for Path {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        match std::str::from_utf8(&self.0) {
            Ok(text) => map.serialize_entry("path", text)?,
            Err(_) => {
                map.serialize_entry("path", &String::from_utf8_lossy(&self.0))?;
                map.serialize_entry("path_b64", &base64::prelude::BASE64_STANDARD.encode(&self.0))?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        #[derive(Deserialize)]
        struct Shape {
            path: String,
            path_b64: Option<String>,
        }
        let shape = Shape::deserialize(deserializer)?;
        match shape.path_b64 {
            None => Ok(Path(shape.path.into())),
            Some(text) => {
                base64::prelude::BASE64_STANDARD.decode(text).map(|p| Path(p.into())).map_err(serde::de::Error::custom)
            }
        }
    }
}

/// A file mode that reads and writes as six octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode(pub u32);

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06o}", self.0)
    }
}

impl std::str::FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "100644" => Ok(Mode(0o100644)),
            "100755" => Ok(Mode(0o100755)),
            "120000" => Ok(Mode(0o120000)),
            _ => Err("mode must be 100644, 100755 or 120000"),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u32::from_str_radix(&text, 8).map(Mode).map_err(serde::de::Error::custom)
    }
}

/// Where a project's remote is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSpec {
    /// Without user name or password.
    pub url: String,
}

/// Body of project creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectSpec {
    /// Unique name.
    pub name: Option<String>,
    /// Short branch name; `main` if not given.
    pub default_branch: Option<String>,
    /// The remote, if there is one.
    pub remote: Option<RemoteSpec>,
}

/// A project as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectView {
    /// Its id.
    pub id: Uuid,
    /// Its unique name, if it has one.
    pub name: Option<String>,
    /// Short branch name.
    pub default_branch: String,
    /// The remote, if there is one.
    pub remote: Option<RemoteSpec>,
    /// Commit of the default branch; `null` while it is unborn.
    pub head: Option<Oid>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectPage {
    /// In order of id.
    pub projects: Vec<ProjectView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// Which version of the files is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// Branch, tag, full ref name or full commit oid; the default branch if not given.
    pub reference: Option<String>,
    /// Overlay this user's pending work (then `reference` must be a branch).
    pub user: Option<Uuid>,
}

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// A list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Clamped to 1 ..= 10,000; default 1,000.
    pub limit: Option<usize>,
    /// From the last page.
    pub cursor: Option<String>,
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
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

/// One file of a batch read, as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReadPath {
    /// The whole file.
    Whole(String),
    /// Some lines, both ends included, counted from 1.
    Lines(LineRange),
}

/// Some lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// At most 10,000.
    pub paths: Vec<ReadPath>,
    /// Branch, tag, full ref name or full commit oid.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Overlay this user's pending work.
    pub user: Option<Uuid>,
    /// Budget for contents, bytes (of content, before encoding); 64 MiB if not given.
    pub max_bytes: Option<u64>,
    /// From the last answer: go on where it stopped, at the same snapshot.
    pub cursor: Option<String>,
}

/// How content is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// As text.
    #[serde(rename = "utf-8")]
    Utf8,
    /// For anything that is not UTF-8.
    #[serde(rename = "base64")]
    Base64,
}

/// Why one path of a batch failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemError {
    /// As the `code` of a problem.
    pub code: &'static str,
    /// A sentence that says what to do.
    pub detail: String,
}

/// One file of a batch read's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Of `content`.
    pub encoding: Encoding,
    /// The file, or the lines asked for, or what fitted the budget (then `truncated`).
    pub content: String,
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

/// Answer of a batch read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadAnswer {
    /// The snapshot's commit.
    pub commit: Option<Oid>,
    /// Revision of the user's workspace, with `user`; else `null`.
    pub revision: Option<i64>,
    /// In request order.
    pub files: Vec<ReadItem>,
    /// The budget was reached: give it as `cursor` with the same paths to go on.
    pub next_cursor: Option<String>,
}

/// Condition of a write, from `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match: "oid"`: the caller's view of the path must be one of these. `Some(vec![])` never matches.
    pub if_match: Option<Vec<ObjectId>>,
    /// `If-Match: *`: the path must exist.
    pub if_match_any: bool,
    /// `If-None-Match: *`: the path must not exist.
    pub if_none_match_any: bool,
}

/// What an autosave writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingBody {
    /// The file's bytes.
    Content(Bytes),
    /// The file is to go.
    Deleted,
}

/// An autosave.
#[derive(Debug, Clone)]
pub struct PutPending {
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// Git file mode; kept from the view if not given, 100644 for a new file.
    pub mode: Option<Mode>,
    /// The blob that the edit started from.
    pub base: Option<ObjectId>,
    /// Condition.
    pub condition: Condition,
    /// What to write.
    pub body: PendingBody,
}

/// What a pending change does, in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingAction {
    /// The path exists in the head.
    Modified,
    /// It does not.
    Created,
    /// It is to go.
    Deleted,
    /// Nothing is pending: the write equals the head.
    None,
}

/// Answer to an autosave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingAnswer {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What is pending now.
    pub action: PendingAction,
    /// Six octal digits; `null` for a deletion.
    pub mode: Option<Mode>,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's last change (of the workspace, where nothing is pending).
    pub revision: i64,
    /// Whether a pending row came into being (201) or not (200).
    #[serde(skip)]
    pub created: bool,
}

/// One pending change of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What it does.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub mode: Option<Mode>,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// Bytes.
    pub size: u64,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// Revision of the row's last change.
    pub revision: i64,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// The pending work of a user on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingList {
    /// Revision of the workspace.
    pub revision: i64,
    /// In byte order of the path.
    pub changes: Vec<PendingEntry>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// Answer to dropping pending work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DropAnswer {
    /// Revision of the workspace.
    pub revision: i64,
    /// How many changes went.
    pub dropped: u64,
}

/// How a pending change stands to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeState {
    /// The head still has the base.
    Clean,
    /// The head moved, and the change merges by itself.
    Outdated,
    /// The head moved, and it does not.
    Conflict,
}

/// One pending change of a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusEntry {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What it does.
    pub action: PendingAction,
    /// `null` for a deletion.
    pub oid: Option<Oid>,
    /// The blob that the edit started from.
    pub base_oid: Option<Oid>,
    /// What the head has at the path.
    pub head_oid: Option<Oid>,
    /// How it stands to the head.
    pub state: ChangeState,
    /// Revision of the row's last change.
    pub revision: i64,
}

/// Status of a branch for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Short name.
    pub branch: String,
    /// Our commit.
    pub head: Option<Oid>,
    /// What the remote last had.
    pub remote_head: Option<Oid>,
    /// Commits that we have and the remote lacks.
    pub ahead: u64,
    /// Commits that the remote was seen to have and we lack.
    pub behind: u64,
    /// Revision of the workspace.
    pub revision: i64,
    /// In byte order of the path.
    pub changes: Vec<StatusEntry>,
    /// Commit attempts of this user on this branch that are not settled.
    pub attempts: Vec<AttemptView>,
}

/// An unsettled commit attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// Its id.
    pub attempt: Uuid,
    /// The commit that it made.
    pub commit: Oid,
    /// `pushing`, `unknown`, `paused` …
    pub state: String,
}

/// Who made a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What an action of a commit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Body of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncRequest {
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// Commits of history for the first sync, 0 = all; 1 if not given. Later ones keep the boundary.
    pub depth: Option<u32>,
    /// Report, but change nothing.
    pub dry_run: bool,
    /// `merge`: where both sides moved, make a merge commit on our branch.
    pub on_conflict: Option<OnConflict>,
}

/// One path that a sync or a diff changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedFile {
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// What happened to it.
    pub action: PendingAction,
    /// Before; `null` = it did not exist.
    pub old_oid: Option<Oid>,
    /// After; `null` = it is gone.
    pub new_oid: Option<Oid>,
    /// Before.
    pub old_mode: Option<Mode>,
    /// After.
    pub new_mode: Option<Mode>,
}

/// Pending work that a sync touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TouchedPending {
    /// Whose.
    pub user: Uuid,
    /// From the root.
    #[serde(flatten)]
    pub path: Path,
    /// How it stands to the new head.
    pub state: ChangeState,
}

/// Answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncAnswer {
    /// Short branch name.
    pub branch: String,
    /// Our head before.
    pub from: Option<Oid>,
    /// Our head after.
    pub to: Option<Oid>,
    /// Paths that differ between the two. On a first sync every path is new: the list stays empty, `changed_count` counts them.
    pub changed: Vec<ChangedFile>,
    /// How many paths differ.
    pub changed_count: u64,
    /// Objects received.
    pub objects: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Pending work on paths that changed.
    pub pending: Vec<TouchedPending>,
}

/// Answer to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushAnswer {
    /// Short branch name.
    pub branch: String,
    /// What the remote had.
    pub from: Option<Oid>,
    /// What it has now.
    pub to: Oid,
    /// Commits sent.
    pub commits: u64,
    /// Objects sent.
    pub objects: u64,
    /// Whether anything was sent.
    pub pushed: bool,
}

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

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// The project.
    pub project: ProjectView,
    /// Short branch name.
    pub branch: String,
    /// Its commit.
    pub head: Option<Oid>,
    /// Objects received.
    pub objects: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Files at the head.
    pub files: u64,
    /// Whether history was cut off.
    pub shallow: bool,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    /// Refs written.
    pub refs: u64,
    /// Objects written.
    pub objects: u64,
    /// Bytes of the pack.
    pub bytes: u64,
    /// Whether the history is cut off.
    pub shallow: bool,
}
