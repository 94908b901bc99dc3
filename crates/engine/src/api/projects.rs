//! Projects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Oid;

/// Where a project's remote is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteSpec {
    /// Without user name or password.
    pub url: String,
}

/// What pushes of git clients are refused; what is not given is `false`, or in a change stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveSpec {
    /// Branches move only to descendants of what they point to.
    pub deny_non_fast_forwards: Option<bool>,
    /// Refs stay.
    pub deny_deletes: Option<bool>,
}

/// What pushes of git clients are refused. Commits, pulls and changes of refs over the API are not bound by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiveView {
    /// Branches move only to descendants of what they point to.
    pub deny_non_fast_forwards: bool,
    /// Refs stay.
    pub deny_deletes: bool,
}

/// Body of project creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectSpec {
    /// Unique name.
    pub name: Option<String>,
    /// Short branch name; `main` if not given.
    pub default_branch: Option<String>,
    /// The remote, if there is one.
    pub remote: Option<RemoteSpec>,
    /// What pushes are refused; nothing if not given.
    pub receive: Option<ReceiveSpec>,
    /// What it may hold, logical bytes; the server's default if not given.
    pub quota_bytes: Option<u64>,
}

/// Body of a fork.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForkSpec {
    /// The fork's id; ours if not given.
    pub id: Option<Uuid>,
    /// Unique name.
    pub name: Option<String>,
    /// Short name of a branch of the source; its default branch if not given.
    pub default_branch: Option<String>,
    /// The fork's own remote; none if not given.
    pub remote: Option<RemoteSpec>,
    /// What pushes are refused; nothing if not given.
    pub receive: Option<ReceiveSpec>,
}

/// Body of a project's change: what is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectChange {
    /// What pushes are refused.
    pub receive: Option<ReceiveSpec>,
    /// What it may hold, logical bytes; `null`: the server's default.
    #[serde(deserialize_with = "super::nullable", skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<Option<u64>>,
}

/// What a project holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageView {
    /// Logical bytes: the sizes of the objects that its refs reach and of the contents of its pending work, with local history and checkpoints.
    pub bytes: u64,
    /// What it may hold, its own quota or the server's default; `null` = any number.
    pub quota_bytes: Option<u64>,
}

/// What is gone of a project's local history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Forgotten {
    /// The project.
    pub id: Uuid,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Versions that were replaced or discarded, and cannot be restored any more.
    pub versions: u64,
    /// Contents that went with them: nothing else of the project's pending work names them.
    pub contents: u64,
    /// What the project holds now.
    pub usage: UsageView,
}

/// A project as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectView {
    /// Its id.
    pub id: Uuid,
    /// Its unique name, if it has one.
    pub name: Option<String>,
    /// Short branch name.
    pub default_branch: String,
    /// The remote, if there is one.
    pub remote: Option<RemoteSpec>,
    /// What pushes are refused.
    pub receive: ReceiveView,
    /// Commit of the default branch; `null` while it is unborn.
    pub head: Option<Oid>,
    /// What it holds, and may hold.
    pub usage: UsageView,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProjectPage {
    /// In order of id.
    pub projects: Vec<ProjectView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}
