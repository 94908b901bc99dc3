//! Tokens: what lets a git client, a device or an agent into one project.

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::CatalogError;
use crate::scopes::Scopes;

/// SHA-256 of a token's secret.
pub type TokenHash = [u8; 32];

/// A token as stored, without its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Made by the caller.
    pub id: Uuid,
    /// The one project that it opens.
    pub project: Uuid,
    /// The one user whose pending work it opens; `None` = everybody's.
    pub user: Option<Uuid>,
    /// What its owner calls it; need not be unique.
    pub name: Option<String>,
    /// What it allows there.
    pub scopes: Scopes,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds; from then on it is none. `None` = it stays.
    pub expires_at_ms: Option<i64>,
}

/// A token that was found by its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// Itself.
    pub token: Token,
    /// The unique name of its project, if it has one.
    pub project_name: Option<String>,
}

/// Tokens. Secrets never get here: they are found by their hash, which tells nothing about them (they are random), so that the time
/// of a search tells nothing either.
#[async_trait]
pub trait Tokens {
    /// Keeps the token and the hash of its secret. Repeating it with the same id changes nothing. `NoProject` if there is none.
    async fn create_token(&self, token: &Token, hash: &TokenHash) -> Result<(), CatalogError>;
    /// Up to `limit` tokens of one project, or of all, with an id after `after`, in order of id. Expired ones are among them.
    async fn tokens(&self, project: Option<Uuid>, after: Option<Uuid>, limit: u32) -> Result<Vec<Token>, CatalogError>;
    /// The token whose secret has this hash, expired or not (the caller has the clock), with its project's name, by one query.
    async fn find_token(&self, hash: &TokenHash) -> Result<Option<FoundToken>, CatalogError>;
    /// Removes the token. `false`: there was none.
    async fn revoke_token(&self, id: Uuid) -> Result<bool, CatalogError>;
}
