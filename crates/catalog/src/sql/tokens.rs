//! Tokens.

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::codec;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::rows::sql;
use crate::scopes::Scopes;
use crate::tokens::{FoundToken, Token, TokenHash, Tokens};

const COLUMNS: &str = "id, project, user_id, name, access, scopes, created_at, expires_at";

/// The same where `tokens` is `t` among other tables.
const TOKEN: &str = "t.id, t.project, t.user_id, t.name, t.access, t.scopes, t.created_at, t.expires_at";

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    project: Uuid,
    user_id: Option<Uuid>,
    name: Option<String>,
    access: Option<String>,
    scopes: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Hashed {
    #[sqlx(flatten)]
    row: Row,
    hash: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct Found {
    #[sqlx(flatten)]
    row: Row,
    project_name: Option<String>,
}

impl Row {
    fn token(self) -> Result<Token, Fault> {
        let Self { id, project, user_id: user, name, created_at: created_at_ms, expires_at: expires_at_ms, .. } = self;
        let scopes = match (self.scopes, self.access) {
            (Some(scopes), _) => Scopes::stored(&scopes),
            (None, Some(access)) => codec::access(&access)?,
            (None, None) => return Err(CatalogError::Invalid { what: "token" }.into()),
        };
        Ok(Token { id, project, user, name, scopes, created_at_ms, expires_at_ms })
    }
}

impl Db {
    async fn create_token_once(&self, token: &Token, hash: &TokenHash) -> Result<(), Fault> {
        match insert(self.writer(), token, hash).await {
            // Of two that come at once with the same token, the second may meet the secret of the first before its id.
            Err(fault) if fault.is_unique_violation() => insert(self.writer(), token, hash).await,
            inserted => inserted,
        }
    }

    async fn list_tokens(&self, project: Option<Uuid>, after: Option<Uuid>, limit: u32) -> Result<Vec<Token>, Fault> {
        // No id is before the nil one, and none is that.
        let after = after.unwrap_or(Uuid::nil());
        let query = match project {
            Some(project) => sqlx::query_as::<Database, Row>(sql!(
                "SELECT {COLUMNS} FROM tokens WHERE id > $1 AND project = $3 ORDER BY id LIMIT $2"
            ))
            .bind(after)
            .bind(i64::from(limit))
            .bind(project),
            None => {
                sqlx::query_as::<Database, Row>(sql!("SELECT {COLUMNS} FROM tokens WHERE id > $1 ORDER BY id LIMIT $2"))
                    .bind(after)
                    .bind(i64::from(limit))
            }
        };
        query.fetch_all(self.reader()).await?.into_iter().map(Row::token).collect()
    }

    async fn token_of(&self, hash: &TokenHash) -> Result<Option<FoundToken>, Fault> {
        let query = sqlx::query_as::<Database, Found>(sql!(
            "SELECT {TOKEN}, p.name AS project_name FROM tokens t JOIN projects p ON p.id = t.project WHERE t.hash = $1"
        ));
        let found = query.bind(&hash[..]).fetch_optional(self.reader()).await?;
        let token = |found: Found| Ok(FoundToken { token: found.row.token()?, project_name: found.project_name });
        found.map(token).transpose()
    }

    async fn revoke_token_once(&self, id: Uuid) -> Result<bool, Fault> {
        let gone = sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id).execute(self.writer()).await?;
        Ok(gone.rows_affected() == 1)
    }
}

/// Nothing happens if there is a token with this id.
pub(super) async fn insert<'e, E>(db: E, token: &Token, hash: &TokenHash) -> Result<(), Fault>
where
    E: sqlx::Executor<'e, Database = Database>,
{
    sqlx::query(sql!(
        "INSERT INTO tokens ({COLUMNS}, hash) VALUES ($1, $2, $3, $4, NULL, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING"
    ))
    .bind(token.id)
    .bind(token.project)
    .bind(token.user)
    .bind(&token.name)
    .bind(token.scopes.to_string())
    .bind(token.created_at_ms)
    .bind(token.expires_at_ms)
    .bind(&hash[..])
    .execute(db)
    .await?;
    Ok(())
}

/// All tokens of a project, with the hashes of their secrets.
pub(super) async fn with_hashes(tx: &mut Transaction, project: Uuid) -> Result<Vec<(Token, TokenHash)>, Fault> {
    let rows: Vec<Hashed> = sqlx::query_as(sql!("SELECT {COLUMNS}, hash FROM tokens WHERE project = $1 ORDER BY id"))
        .bind(project)
        .fetch_all(&mut **tx)
        .await?;
    let token = |row: Hashed| {
        let hash = TokenHash::try_from(&row.hash[..]).map_err(|_| CatalogError::Invalid { what: "token" })?;
        Ok((row.row.token()?, hash))
    };
    rows.into_iter().map(token).collect()
}

#[async_trait]
impl Tokens for Db {
    async fn create_token(&self, token: &Token, hash: &TokenHash) -> Result<(), CatalogError> {
        run!("create a token", self.create_token_once(token, hash))
    }

    async fn tokens(&self, project: Option<Uuid>, after: Option<Uuid>, limit: u32) -> Result<Vec<Token>, CatalogError> {
        run!("list tokens", self.list_tokens(project, after, limit))
    }

    async fn find_token(&self, hash: &TokenHash) -> Result<Option<FoundToken>, CatalogError> {
        run!("find a token", self.token_of(hash))
    }

    async fn revoke_token(&self, id: Uuid) -> Result<bool, CatalogError> {
        run!("revoke a token", self.revoke_token_once(id))
    }
}
