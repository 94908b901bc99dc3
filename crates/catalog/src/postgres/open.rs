//! Connections.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor};

use crate::admin::{Admin, MigrationReport, migrate, newest};
use crate::bells::Bells;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::{Catalog, cores};

use super::dialect::{SYSTEM, Transaction};
use super::group::Groups;
use super::wakeups::Wakeups;

/// Ledger numbers in one block of the sequence.
pub(super) const BLOCK: i64 = 1024;
/// Connections that are there from the start, as many as the questions of the first reads are asked on at the start.
const CONNECTIONS_MIN: u32 = 4;
/// A connection that was idle for longer is tried before it is used.
const IDLE_UNTRIED: Duration = Duration::from_secs(1);

/// Limits of a [`PostgresCatalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Connections at most.
    pub connections_max: u32,
    /// How long an operation waits for a connection, milliseconds.
    pub acquire_timeout_ms: u64,
    /// How long one statement may take, milliseconds.
    pub statement_timeout_ms: u64,
    /// How long it may wait for a row that another transaction has, milliseconds: who waits holds a connection.
    pub lock_timeout_ms: u64,
    /// Transactions of grouped autosaves at a time, enough to keep the database's log busy, few enough for groups to form; 0: by
    /// the cores of this machine.
    pub write_lanes: usize,
}

impl PostgresOptions {
    /// For a small machine.
    pub const DEFAULT: Self = Self {
        connections_max: 16,
        acquire_timeout_ms: 5_000,
        statement_timeout_ms: 30_000,
        lock_timeout_ms: 10_000,
        write_lanes: 0,
    };

    /// Transactions of grouped autosaves at a time: the database has about as many cores as we do, and a group per core is what it
    /// can take.
    pub(super) fn lanes(&self) -> usize {
        if self.write_lanes == 0 { cores().clamp(2, 8) } else { self.write_lanes }
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The catalog in a PostgreSQL database.
///
/// Transactions are READ COMMITTED with explicit row locks and durable when they return (`synchronous_commit=on`).
/// Only a primary is talked to. Where something between here and the server leaves those settings out, nothing is.
#[derive(Debug, Clone)]
pub struct PostgresCatalog {
    pool: PgPool,
    groups: Arc<Groups>,
    bells: Arc<Bells>,
    wakeups: Arc<Wakeups>,
    write_lanes: usize,
}

impl PostgresCatalog {
    /// Connects to `postgres://user:password@host:port/database?…`. A socket directory is given as `?host=/directory`,
    /// a schema as `?options[search_path]=name` or `?options=-c%20search_path%3Dname`.
    ///
    /// `Unavailable` if the server cannot be reached, `Failed` if the URL is wrong or the server refuses.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, CatalogError> {
        run!("connect", Self::open(url, options))
    }

    async fn open(url: &str, options: PostgresOptions) -> Result<Self, Fault> {
        let connect = PgConnectOptions::from_str(url)?
            .application_name("treehold")
            // Later settings win, so that the protocol does not depend on those of the URL or the role.
            .options([
                ("statement_timeout", options.statement_timeout_ms.to_string()),
                ("lock_timeout", options.lock_timeout_ms.to_string()),
                ("idle_in_transaction_session_timeout", "60s".to_owned()),
                ("default_transaction_isolation", "read committed".to_owned()),
                ("synchronous_commit", "on".to_owned()),
            ])
            .statement_cache_capacity(200);
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            // Opened before the first request, which would wait for a backend to be forked and for its role to be asked.
            .min_connections(options.connections_max.min(CONNECTIONS_MIN))
            .acquire_timeout(Duration::from_millis(options.acquire_timeout_ms))
            .test_before_acquire(false)
            .before_acquire(|connection, idle| {
                Box::pin(async move {
                    if idle.idle_for > IDLE_UNTRIED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| Box::pin(refuse_unsound(connection)))
            .connect_with(connect)
            .await?;
        Ok(Self {
            pool,
            groups: Arc::default(),
            bells: Arc::default(),
            wakeups: Arc::default(),
            write_lanes: options.lanes(),
        })
    }

    /// Where single statements read.
    pub(super) fn reader(&self) -> &PgPool {
        &self.pool
    }

    /// Transactions of grouped writes at a time.
    pub(super) fn write_lanes(&self) -> usize {
        self.write_lanes
    }

    /// Calls that wait to be answered together.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Who follows feeds in this process.
    pub(super) fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// What other instances are told.
    pub(super) fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }

    /// Where single statements write.
    pub(super) fn writer(&self) -> &PgPool {
        &self.pool
    }

    /// Its pools, by what they are for.
    pub(super) fn pools(&self) -> [(&'static str, &PgPool); 1] {
        [("any", &self.pool)]
    }

    /// A transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, Fault> {
        Ok(self.pool.begin().await?)
    }

    /// A transaction that reads one moment, however long it takes.
    pub(super) async fn begin_snapshot(&self) -> Result<Transaction, Fault> {
        let mut tx = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        tx.execute("SET LOCAL statement_timeout = 0").await?;
        Ok(tx)
    }

    /// `count` ledger numbers that were never given before, in runs of consecutive ones.
    pub(super) async fn take_numbers(tx: &mut Transaction, count: i64) -> Result<Vec<i64>, Fault> {
        let blocks = (count + BLOCK - 1) / BLOCK;
        let blocks: Vec<i64> =
            sqlx::query_scalar("SELECT nextval('object_blocks') FROM generate_series(1, $1::bigint)")
                .bind(blocks)
                .fetch_all(&mut **tx)
                .await?;
        let numbers = blocks.into_iter().flat_map(|block| block * BLOCK..(block + 1) * BLOCK);
        Ok(numbers.take(usize::try_from(count).unwrap_or(0)).collect())
    }

    async fn read_version(&self) -> Result<i64, Fault> {
        let table: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::text").fetch_one(&self.pool).await?;
        if table.is_none() {
            return Ok(0);
        }
        let version = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success");
        Ok(version.fetch_one(&self.pool).await?)
    }

    async fn apply_migrations(&self) -> Result<MigrationReport, Fault> {
        // A connection of its own: the advisory lock ends with it, whatever happens, and building an index or waiting
        // for another instance may take longer than a statement should.
        let mut connection = self.pool.acquire().await?.detach();
        connection.execute("SET statement_timeout = 0; SET lock_timeout = 0").await?;
        let report = migrate(sqlx::migrate!("../../migrations/postgres"), &mut connection).await;
        connection.close().await?;
        report
    }

    async fn read_clock(&self) -> Result<Option<i64>, Fault> {
        let clock = sqlx::query_scalar("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)");
        Ok(Some(clock.fetch_one(&self.pool).await?))
    }

    async fn answer(&self) -> Result<(), Fault> {
        let mut connection = self.pool.acquire().await?;
        refuse_unsound(&mut connection).await?;
        Ok(())
    }

    async fn read_unsafe_settings(&self) -> Result<Vec<String>, Fault> {
        let off = "SELECT name FROM pg_settings
                   WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name";
        Ok(sqlx::query_scalar(off).fetch_all(&self.pool).await?)
    }
}

/// Collection, authorisation and compare-and-swap are decided by the primary alone, and what it answers must be durable. What is read under a
/// lock must be as it is then: at a higher level a transaction sees what was before it waited. A pooler may not hand on what was asked for at
/// the start, and then the role's or the database's own settings count.
async fn refuse_unsound(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let ask = "SELECT pg_is_in_recovery(), current_setting('synchronous_commit'),
                      current_setting('default_transaction_isolation')";
    let (standby, commit, isolation): (bool, String, String) = sqlx::query_as(ask).fetch_one(connection).await?;
    if standby {
        return Err(sqlx::Error::Protocol("this server is a standby".to_owned()));
    }
    let (setting, found, asked) = match (commit.as_str(), isolation.as_str()) {
        // To PostgreSQL these two levels are one.
        ("on" | "remote_apply", "read committed" | "read uncommitted") => return Ok(()),
        ("on" | "remote_apply", _) => ("default_transaction_isolation", &isolation, "read committed"),
        _ => ("synchronous_commit", &commit, "on"),
    };
    Err(sqlx::Error::Protocol(format!(
        "{setting} is {found:?}, and {asked:?} was asked for: a pooler in between must hand on `options`"
    )))
}

#[async_trait]
impl Admin for PostgresCatalog {
    async fn migrate(&self) -> Result<MigrationReport, CatalogError> {
        run!("migrate", self.apply_migrations())
    }

    async fn schema_version(&self) -> Result<i64, CatalogError> {
        run!("read the schema version", self.read_version())
    }

    async fn ping(&self) -> Result<(), CatalogError> {
        run!("ping", self.answer())
    }

    fn schema_known(&self) -> i64 {
        newest(&sqlx::migrate!("../../migrations/postgres"))
    }

    async fn clock_ms(&self) -> Result<Option<i64>, CatalogError> {
        run!("read the clock", self.read_clock())
    }

    async fn unsafe_settings(&self) -> Result<Vec<String>, CatalogError> {
        run!("read the settings", self.read_unsafe_settings())
    }

    async fn copy_to(&self, _file: &Path) -> Result<bool, CatalogError> {
        Ok(false)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl Catalog for PostgresCatalog {}
