//! Projects.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Oid;

/// Where a project's remote is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteSpec {
    /// Without user name or password.
    pub url: String,
}

/// What pushes of git clients are refused; what is not given is `false`, or in a change stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReceiveSpec {
    /// Branches move only to descendants of what they point to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_non_fast_forwards: Option<bool>,
    /// Refs stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_deletes: Option<bool>,
}

/// What pushes of git clients are refused. Commits, pulls and changes of refs over the API are not bound by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveView {
    /// Branches move only to descendants of what they point to.
    pub deny_non_fast_forwards: bool,
    /// Refs stay.
    pub deny_deletes: bool,
}

/// Body of project creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProjectSpec {
    /// Unique name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Short branch name; `main` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// The remote, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteSpec>,
    /// What pushes are refused; nothing if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<ReceiveSpec>,
    /// What it may hold, logical bytes; the server's default if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
}

/// Body of a fork.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForkSpec {
    /// The fork's id; ours if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Unique name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Short name of a branch of the source; its default branch if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// The fork's own remote; none if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteSpec>,
    /// What pushes are refused; nothing if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<ReceiveSpec>,
}

/// Body of a project's change: what is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProjectChange {
    /// What pushes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<ReceiveSpec>,
    /// What it may hold, logical bytes; `Some(None)`: the server's default again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<Option<u64>>,
}

/// What a project holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    /// Logical bytes.
    pub bytes: u64,
    /// What it may hold; `null` = any number.
    pub quota_bytes: Option<u64>,
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
    /// What pushes are refused.
    pub receive: ReceiveView,
    /// Commit of the default branch; `null` while it is unborn.
    pub head: Option<Oid>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// What it holds; not told by servers of before quotas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageView>,
    /// What a newer server says besides.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectPage {
    /// In order of id.
    pub projects: Vec<ProjectView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}
