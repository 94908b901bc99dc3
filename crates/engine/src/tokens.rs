//! Tokens: made, listed, revoked, recognised.
//!
//! A secret is 256 random bits, shown once and kept as its SHA-256. So no slow hash is needed against guesses, and finding it by its
//! hash takes a time that tells nothing about it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use treehold_catalog::{FoundToken, ProjectKey, Token, TokenHash};
use uuid::Uuid;

use crate::api::{Authorized, NewToken, TokenPage, TokenProject, TokenSpec, TokenView};
use crate::text::{page, read_id, rfc3339};
use crate::{Engine, EngineError, Result, Secret};

/// What secrets begin with, so that they are known for what they are where they should not be.
const PREFIX: &str = "thd_";
/// Characters of a secret: the prefix, and 32 bytes in base64url without padding.
const SECRET_LEN: usize = PREFIX.len() + 43;
const NAME_BYTES_MAX: usize = 200;
/// Longest lifetime, 100 years: beyond it times do not show as dates.
const LIFETIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Engine {
    /// Makes a token for one project. Its secret is in the answer and nowhere else.
    pub async fn create_token(&self, project: &str, spec: &TokenSpec) -> Result<NewToken> {
        check_name(spec.name.as_deref())?;
        if spec.scopes.is_empty() {
            let detail = "A token needs a scope: files:read, files:write, pending, git:read, git:write or admin.";
            return Err(EngineError::unprocessable("bad_scopes", detail));
        }
        let now_ms = self.ambient.now_ms();
        let expires_at_ms = spec.lifetime.map(|lifetime| end(now_ms, lifetime)).transpose()?;
        let project = self.find_project(project).await?;
        let secret = Secret::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(self.ambient.random())));
        let token = Token {
            id: self.ambient.uuid(),
            project: project.id,
            name: spec.name.clone(),
            user: spec.user,
            scopes: spec.scopes,
            created_at_ms: now_ms,
            expires_at_ms,
        };
        self.catalog.create_token(&token, &hash(&secret)).await?;
        Ok(NewToken { token: view(token, project.name, now_ms), secret })
    }

    /// A page of a project's tokens, or of all of them, in order of id.
    pub async fn list_tokens(
        &self,
        project: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<TokenPage> {
        let limit = limit.unwrap_or(100).clamp(1, 1000);
        let after = cursor.map(read_id).transpose()?;
        let project = match project {
            Some(project) => Some(self.find_project(project).await?),
            None => None,
        };
        let of = project.as_ref().map(|project| project.id);
        let mut names: HashMap<Uuid, Option<String>> = project.into_iter().map(|p| (p.id, p.name)).collect();
        let mut found = self.catalog.tokens(of, after, limit as u32 + 1).await?;
        let next_cursor = page(&mut found, limit).map(|last| last.id.to_string());
        let now_ms = self.ambient.now_ms();
        let mut tokens = Vec::with_capacity(found.len());
        for token in found {
            let name = match names.entry(token.project) {
                Entry::Occupied(name) => name.get().clone(),
                Entry::Vacant(slot) => {
                    let project = self.catalog.project(&ProjectKey::Id(token.project)).await?;
                    slot.insert(project.and_then(|project| project.name)).clone()
                }
            };
            tokens.push(view(token, name, now_ms));
        }
        Ok(TokenPage { tokens, next_cursor })
    }

    /// Revokes a token: it is refused from the next request on.
    pub async fn revoke_token(&self, id: Uuid) -> Result<()> {
        match self.catalog.revoke_token(id).await? {
            true => Ok(()),
            false => Err(EngineError::not_found("token_not_found", "There is no such token.")),
        }
    }

    /// Whether a text looks like a secret of ours.
    pub fn is_token(text: &str) -> bool {
        text.len() == SECRET_LEN && text.starts_with(PREFIX)
    }

    /// The time by which tokens end, Unix milliseconds: for what was found a moment ago.
    pub fn token_clock_ms(&self) -> i64 {
        self.ambient.now_ms()
    }

    /// What the token of this secret allows now; `None` if there is none, or none any more.
    pub async fn authorize_token(&self, secret: &Secret) -> Result<Option<Authorized>> {
        // What cannot be one of ours is not asked for.
        if !Self::is_token(secret.expose()) {
            return Ok(None);
        }
        let now_ms = self.ambient.now_ms();
        let found = self.catalog.find_token(&hash(secret)).await?;
        let valid = found.filter(|found| !has_expired(&found.token, now_ms));
        Ok(valid.map(|FoundToken { token, project_name }| Authorized {
            token: token.id,
            project: token.project,
            project_name,
            user: token.user,
            scopes: token.scopes,
            expires_at_ms: token.expires_at_ms,
        }))
    }
}

fn hash(secret: &Secret) -> TokenHash {
    Sha256::digest(secret.expose().as_bytes()).into()
}

fn has_expired(token: &Token, now_ms: i64) -> bool {
    token.expires_at_ms.is_some_and(|end_ms| end_ms <= now_ms)
}

fn view(token: Token, project: Option<String>, now_ms: i64) -> TokenView {
    TokenView {
        id: token.id,
        project: TokenProject { id: token.project, name: project },
        user: token.user,
        scopes: token.scopes,
        created_at: rfc3339(token.created_at_ms),
        expires_at: token.expires_at_ms.map(rfc3339),
        expired: has_expired(&token, now_ms),
        name: token.name,
    }
}

fn end(now_ms: i64, lifetime: Duration) -> Result<i64> {
    let bad = || EngineError::unprocessable("bad_lifetime", "A token may live for 1 second to 100 years.");
    if lifetime < Duration::from_secs(1) || lifetime > LIFETIME_MAX {
        return Err(bad());
    }
    i64::try_from(lifetime.as_millis()).ok().and_then(|lifetime_ms| now_ms.checked_add(lifetime_ms)).ok_or_else(bad)
}

fn check_name(name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let detail = "A token's name must have 1 to 200 bytes and no control characters.";
        return Err(EngineError::unprocessable("bad_name", detail));
    }
    Ok(())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
