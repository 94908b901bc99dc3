//! Pull requests, and what a forge knows of a repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Oid;

/// Body of `POST /projects/{project}/pulls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullSpec {
    /// One line.
    pub title: String,
    /// Short name of the branch with the changes; the project's default branch if not given.
    #[serde(default)]
    pub head: Option<String>,
    /// Short name of the branch that they are for; the project's default branch if not given.
    #[serde(default)]
    pub base: Option<String>,
    /// Markdown.
    #[serde(default)]
    pub body: Option<String>,
    /// Not to be merged yet.
    #[serde(default)]
    pub draft: bool,
    /// Whether maintainers of the base may push to the head.
    #[serde(default)]
    pub maintainer_can_modify: Option<bool>,
    /// Where one is open already: give it this title and body.
    #[serde(default)]
    pub update: bool,
}

/// Body of `PATCH /projects/{project}/pulls/{number}`: what it does not name stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PullChange {
    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Markdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Close it, or open it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PullState>,
    /// Short name of another branch that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Whether a pull request is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullState {
    /// It is.
    Open,
    /// It was closed or merged.
    Closed,
}

/// Which pull requests to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullFilter {
    /// `None` = open and closed ones.
    pub state: Option<PullState>,
    /// Short name of the branch with the changes.
    pub head: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most of them on a page, 1 to 100; 30 if not given.
    pub limit: Option<usize>,
}

impl PullFilter {
    /// Most of them on the page.
    pub fn page_len(&self) -> usize {
        self.limit.unwrap_or(30).clamp(1, 100)
    }
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PullView {
    /// Its number in the repository.
    pub number: u64,
    /// In the forge's API.
    pub url: String,
    /// For people.
    pub html_url: String,
    /// Whether it is open.
    pub state: PullState,
    /// One line.
    pub title: String,
    /// Not to be merged yet.
    pub draft: bool,
    /// Whether it was merged.
    pub merged: bool,
    /// Short name of the branch with the changes.
    pub head: String,
    /// Its commit, as the forge has it.
    pub head_sha: Option<Oid>,
    /// Short name of the branch that they are for.
    pub base: String,
}

/// Answer to the request to open one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OpenedPull {
    /// What is open now.
    #[serde(flatten)]
    pub pull: PullView,
    /// `false`: one was open for these branches already.
    pub created: bool,
}

/// A page of pull requests, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PullPage {
    /// The page.
    pub pulls: Vec<PullView>,
    /// For the next one; `null` = this was the last.
    pub next_cursor: Option<String>,
}

/// Answer to `GET /projects/{project}/remote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemoteView {
    /// As it was given.
    pub url: String,
    /// Of that URL, with the port if it is not the scheme's own; `null` = a path on the server.
    pub host: Option<String>,
    /// What GitHub says; `null` = the remote is not there.
    pub github: Option<GithubFacts>,
}

/// What GitHub says of a repository, and of one branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GithubFacts {
    /// `owner/name`, as GitHub writes it now.
    pub full_name: String,
    /// Whether only members see it.
    pub private: bool,
    /// Short name.
    pub default_branch: String,
    /// Whether it is read-only.
    pub archived: bool,
    /// By GitHub's count, kibibytes.
    pub size_kb: u64,
    /// What the credentials allow; `null` = GitHub does not say.
    pub permissions: Option<GithubPermissions>,
    /// Short name of the branch that the following is about.
    pub branch: String,
    /// Whether rules protect it; `null` = there is no such branch.
    pub protected: Option<bool>,
    /// Whether its commits must be signed; `null` = these credentials do not show it.
    pub requires_signed_commits: Option<bool>,
}

/// What credentials allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GithubPermissions {
    /// Read.
    #[serde(default)]
    pub pull: bool,
    /// Write.
    #[serde(default)]
    pub push: bool,
    /// Change settings.
    #[serde(default)]
    pub admin: bool,
}
