//! Tokens of git clients.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_catalog::Access as StoredAccess;
use uuid::Uuid;

use crate::Secret;

/// What a token allows in its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Fetch.
    Read,
    /// Fetch and push.
    Write,
}

impl From<StoredAccess> for Access {
    fn from(access: StoredAccess) -> Self {
        match access {
            StoredAccess::Read => Self::Read,
            StoredAccess::Write => Self::Write,
        }
    }
}

impl From<Access> for StoredAccess {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
        }
    }
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpec {
    /// What its owner calls it; need not be unique.
    pub name: Option<String>,
    /// What it allows.
    pub access: Access,
    /// How long; `None` = until it is revoked.
    pub lifetime: Option<Duration>,
}

/// A token as shown: never its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenView {
    /// Its id, by which it is revoked.
    pub id: Uuid,
    /// The one project that it opens.
    pub project: TokenProject,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What it allows.
    pub access: Access,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; from then on it is refused. `null` = it stays.
    pub expires_at: Option<String>,
    /// Whether that time has come.
    pub expired: bool,
}

/// The project of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenProject {
    /// Its id.
    pub id: Uuid,
    /// Its unique name, if it has one.
    pub name: Option<String>,
}

/// A token just made, the only time that its secret is there.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What is kept of it.
    pub token: TokenView,
    /// What the git client sends as its password: `thd_` and 43 characters of base64url.
    pub secret: Secret,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenPage {
    /// In order of id. Expired ones are among them until they are revoked.
    pub tokens: Vec<TokenView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// What an accepted token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorized {
    /// The one project that it opens.
    pub project: Uuid,
    /// What it allows there.
    pub access: Access,
}
