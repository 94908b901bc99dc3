//! Schema and readiness.

use std::path::Path;

use async_trait::async_trait;
use sqlx::migrate::{Migrate, MigrateError, Migrator};

use crate::error::CatalogError;
use crate::fault::Fault;

/// What [`Admin::migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// Numbers of the migrations that this call applied, in order; empty if there was nothing to do.
    pub applied: Vec<i64>,
    /// The schema version now.
    pub current: i64,
}

/// Schema and readiness.
#[async_trait]
pub trait Admin {
    /// Applies the migrations that are missing, each in its own transaction, under a lock: of several callers one
    /// applies them and the others wait. Migrations that are newer than this program are left alone (a release works
    /// with the schema of the next one). Repeating is safe.
    async fn migrate(&self) -> Result<MigrationReport, CatalogError>;
    /// Number of the newest migration applied; 0 for an empty database.
    async fn schema_version(&self) -> Result<i64, CatalogError>;
    /// Whether the database answers and takes writes here.
    async fn ping(&self) -> Result<(), CatalogError>;
    /// The newest schema that this program knows.
    fn schema_known(&self) -> i64;
    /// The database's clock, Unix milliseconds; `None` = it has none but ours.
    async fn clock_ms(&self) -> Result<Option<i64>, CatalogError>;
    /// Names of the server's settings with which a power cut may take what was answered; none where all is well.
    async fn unsafe_settings(&self) -> Result<Vec<String>, CatalogError>;
    /// Writes a copy of everything, as of one moment, into a new file, beside readers and writers; durable on return. `false`: this
    /// database is not one file, and has better means.
    async fn copy_to(&self, file: &Path) -> Result<bool, CatalogError>;
    /// Ends all connections, after what is at work on them; everything is in its file then, if it is one.
    async fn close(&self);
}

/// The number of the last migration.
pub(crate) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

fn fault(error: MigrateError) -> Fault {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => sqlx::Error::Migrate(Box::new(other)).into(),
    }
}

/// Runs `migrator` on a connection that nobody else uses.
pub(crate) async fn migrate<C: Migrate>(mut migrator: Migrator, connection: &mut C) -> Result<MigrationReport, Fault> {
    let table = migrator.table_name.clone().into_owned();
    // The lock is taken here, around the lists as well, so that the report names what this call did.
    migrator.set_locking(false).set_ignore_missing(true);
    connection.lock().await.map_err(fault)?;
    connection.ensure_migrations_table(&table).await.map_err(fault)?;
    let before = versions(connection, &table).await?;
    migrator.run_direct(None, connection, false).await.map_err(fault)?;
    let mut applied = versions(connection, &table).await?;
    connection.unlock().await.map_err(fault)?;
    let current = applied.last().copied().unwrap_or(0);
    applied.retain(|version| !before.contains(version));
    Ok(MigrationReport { applied, current })
}

async fn versions<C: Migrate>(connection: &mut C, table: &str) -> Result<Vec<i64>, Fault> {
    let applied = connection.list_applied_migrations(table).await.map_err(fault)?;
    Ok(applied.iter().map(|migration| migration.version).collect())
}
