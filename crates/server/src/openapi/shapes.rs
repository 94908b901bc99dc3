//! Shapes of answers that are put together here and not by the engine. They only describe: nothing makes a value of them.

#![expect(dead_code, reason = "their fields are what the document tells, and nothing reads them")]

use schemars::JsonSchema;
use treehold_engine::api::{Conflict, Found, Oid, OpError, OpResult, ReadItem, SearchEnd};
use uuid::Uuid;

/// Why a request was refused (RFC 9457). Which of the details there are depends on the code.
#[derive(JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody {
    /// Always `about:blank`.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// Stable: what programs look at.
    code: String,
    /// A sentence that says what to do.
    detail: String,
    /// The parameter that has a value which it cannot have.
    #[schemars(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// The header that has a value which it cannot have.
    #[schemars(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// Where in the body its shape is wrong.
    #[schemars(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// What is too large.
    #[schemars(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    /// How much would be taken, in `unit`.
    #[schemars(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Of `limit`: `bytes`, `paths` …
    #[schemars(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// With `scope_missing`: the scope.
    #[schemars(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// With `rate_limited`: how often what may be done.
    #[schemars(skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    /// With `quota_exceeded`: the figures.
    #[schemars(skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
    /// With `precondition_failed`: what the path or the ref has now; `null` = nothing.
    #[schemars(skip_serializing_if = "Option::is_none")]
    oid: Option<Option<Oid>>,
    /// With `precondition_failed`: the workspace's revision.
    #[schemars(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// With `conflict`, of a commit: what does not merge.
    #[schemars(skip_serializing_if = "Option::is_none")]
    conflicts: Option<Vec<Conflict>>,
    /// Of an atomic batch: the operation that fails, from 0.
    #[schemars(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// Of an atomic batch: why it fails.
    #[schemars(skip_serializing_if = "Option::is_none")]
    error: Option<OpError>,
    /// Of an atomic batch: each operation; nothing was written.
    #[schemars(skip_serializing_if = "Option::is_none")]
    results: Option<Vec<OpResult>>,
    /// With `push_rejected`: the remote's words, control characters escaped.
    #[schemars(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// With `push_rejected`: what they mean, as far as it is known.
    #[schemars(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The commit attempt that keeps the work.
    #[schemars(skip_serializing_if = "Option::is_none")]
    attempt: Option<Uuid>,
    /// The commit that it made.
    #[schemars(skip_serializing_if = "Option::is_none")]
    commit: Option<Oid>,
    /// With `push_unknown`: the attempt's state.
    #[schemars(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// Why a project takes no more, logical bytes.
#[derive(JsonSchema)]
struct Quota {
    /// What it holds.
    used_bytes: u64,
    /// What it may hold.
    quota_bytes: u64,
    /// What would come.
    adds_bytes: u64,
}

/// How often something may be done.
#[derive(JsonSchema)]
struct Rate {
    /// `reads`, `writes` or `syncs`.
    name: String,
    /// So many requests…
    requests: u32,
    /// … in so many seconds.
    seconds: u32,
}

/// Answer to a batch read.
#[derive(JsonSchema)]
pub(super) struct ReadAnswer {
    /// The snapshot's commit; `null` on an unborn branch.
    commit: Option<Oid>,
    /// Revision of the user's workspace, with `user`; else `null`.
    revision: Option<i64>,
    /// In the order of the request.
    files: Vec<ReadItem>,
    /// Give it as `cursor` to go on where the budget ended.
    next_cursor: Option<String>,
}

/// The first line of a stream.
#[derive(JsonSchema)]
pub(super) struct StreamHead {
    /// The snapshot's commit; `null` on an unborn branch.
    commit: Option<Oid>,
    /// Revision of the user's workspace, with `user`; else `null`.
    revision: Option<i64>,
}

/// The last line of a stream: without it the answer is not complete.
#[derive(JsonSchema)]
pub(super) struct StreamEnd {
    /// Give it as `cursor` to go on.
    next_cursor: Option<String>,
}

/// Answer to a search: what was found, and how far it came.
#[derive(JsonSchema)]
pub(super) struct SearchAnswer {
    /// The snapshot's commit; `null` on an unborn branch.
    commit: Option<Oid>,
    /// Revision of the user's workspace, with `user`; else `null`.
    revision: Option<i64>,
    /// In the mode `matches`: in byte order of the path, and in order of the lines.
    #[schemars(skip_serializing_if = "Option::is_none")]
    matches: Option<Vec<Found>>,
    /// In the modes `files` and `count`: in byte order of the path.
    #[schemars(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<Found>>,
    #[schemars(flatten)]
    end: SearchEnd,
}

/// A blob, as GitHub shows it.
#[derive(JsonSchema)]
pub(super) struct GitBlob {
    /// Its id.
    sha: Oid,
    /// Bytes.
    size: u64,
    /// Always `base64`.
    encoding: String,
    /// The bytes.
    content: String,
}

/// A tree, as GitHub shows it: one level.
#[derive(JsonSchema)]
pub(super) struct GitTree {
    /// Its id.
    sha: Oid,
    /// In git's order.
    tree: Vec<GitTreeEntry>,
    /// Always `false`.
    truncated: bool,
}

/// An entry of a tree.
#[derive(JsonSchema)]
pub(super) struct GitTreeEntry {
    /// Its name.
    path: String,
    /// Its bytes in base64, only where they are not UTF-8.
    #[schemars(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    /// Six octal digits.
    mode: String,
    /// What it names.
    r#type: GitKind,
    /// Its id.
    sha: Oid,
    /// A blob's bytes.
    #[schemars(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// What an entry of a tree names.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum GitKind {
    /// A file or a symbolic link.
    Blob,
    /// A directory.
    Tree,
    /// A submodule's commit.
    Commit,
}

/// A commit, as GitHub shows it.
#[derive(JsonSchema)]
pub(super) struct GitCommit {
    /// Its id.
    sha: Oid,
    /// Its tree.
    tree: GitSha,
    /// Its parents.
    parents: Vec<GitSha>,
    /// Who wrote it.
    author: GitPerson,
    /// Who committed it.
    committer: GitPerson,
    /// Whole; bytes that are not UTF-8 are replaced.
    message: String,
}

/// Names an object.
#[derive(JsonSchema)]
pub(super) struct GitSha {
    /// Its id.
    sha: Oid,
}

/// A person and a time.
#[derive(JsonSchema)]
pub(super) struct GitPerson {
    /// Name.
    name: String,
    /// E-mail address.
    email: String,
    /// RFC 3339, UTC; `null` where the commit has none that is one.
    date: Option<String>,
}

/// What became of a webhook.
#[derive(JsonSchema)]
pub(super) struct WebhookAnswer {
    /// As GitHub named it.
    event: String,
    /// `pong`, `noted`, `repeated` (it was told before) or `ignored` (nothing here depends on it).
    result: String,
}

/// The server is well.
#[derive(JsonSchema)]
pub(super) struct Health {
    /// `ok`: the process answers. `ready`: so do database and store.
    status: String,
}
