//! Tokens.

use std::time::Duration;

use serde::Serialize;
pub use treehold_catalog::{Scope, Scopes};
use uuid::Uuid;

use crate::Secret;

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpec {
    /// What its owner calls it; need not be unique.
    pub name: Option<String>,
    /// The one user whose pending work it opens; `None` = everybody's.
    pub user: Option<Uuid>,
    /// What it allows.
    pub scopes: Scopes,
    /// How long; `None` = until it is revoked.
    pub lifetime: Option<Duration>,
}

/// A token as shown: never its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenView {
    /// Its id, by which it is revoked.
    pub id: Uuid,
    /// The one project that it opens.
    pub project: TokenProject,
    /// What its owner calls it.
    pub name: Option<String>,
    /// The one user whose pending work it opens; `null` = everybody's.
    pub user: Option<Uuid>,
    /// What it allows.
    pub scopes: Scopes,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; from then on it is refused. `null` = it stays.
    pub expires_at: Option<String>,
    /// Whether that time has come.
    pub expired: bool,
}

/// The project of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// What callers send as Bearer, and git clients as their password: `thd_` and 43 characters of base64url.
    pub secret: Secret,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenPage {
    /// In order of id. Expired ones are among them until they are revoked.
    pub tokens: Vec<TokenView>,
    /// Give it as `cursor` to go on.
    pub next_cursor: Option<String>,
}

/// What an accepted token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// The token's id.
    pub token: Uuid,
    /// The one project that it opens.
    pub project: Uuid,
    /// That project's unique name, if it has one.
    pub project_name: Option<String>,
    /// The one user whose pending work it opens; `None` = everybody's.
    pub user: Option<Uuid>,
    /// What it allows there.
    pub scopes: Scopes,
    /// Unix milliseconds; from then on it is none.
    pub expires_at_ms: Option<i64>,
}
