//! Raw single-row upserts, as `pgbench` would run them: prepared, one transaction each, nothing but the row.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

/// What one connection writes.
pub struct Writes {
    /// Part of the key.
    pub user: Uuid,
    /// Path and content, in order.
    pub saves: Vec<(String, Vec<u8>)>,
}

/// A table to write to.
pub enum Upserts {
    /// A connection for each writer.
    Postgres(String),
    /// One connection that the writers take in turn: SQLite has one writer at a time, and waiting for it in here costs
    /// least.
    Sqlite(Arc<Mutex<SqliteConnection>>),
}

const TABLE_POSTGRES: &str =
    "CREATE TABLE upserts (who uuid, path text, content bytea NOT NULL, PRIMARY KEY (who, path))";
const UPSERT_POSTGRES: &str = "INSERT INTO upserts VALUES ($1, $2, $3)
    ON CONFLICT (who, path) DO UPDATE SET content = excluded.content";
const TABLE_SQLITE: &str = "CREATE TABLE upserts (who BLOB, path TEXT, content BLOB NOT NULL, PRIMARY KEY (who, path))";
const UPSERT_SQLITE: &str = "INSERT INTO upserts VALUES (?, ?, ?)
    ON CONFLICT (who, path) DO UPDATE SET content = excluded.content";

impl Upserts {
    /// In the schema that `url` names. Fails unless answered writes are durable there.
    pub async fn postgres(url: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("connect to Postgres")?;
        for (setting, query) in [("fsync", "SHOW fsync"), ("synchronous_commit", "SHOW synchronous_commit")] {
            let value: String = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
            ensure!(value == "on", "{setting} is {value}: answered writes would not be durable");
        }
        sqlx::query(TABLE_POSTGRES).execute(&mut connection).await.context("make the table")?;
        Ok(Self::Postgres(url.to_owned()))
    }

    /// In a new file, with a log that is synced at each commit.
    pub async fn sqlite(file: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options).await.context("open SQLite")?;
        sqlx::query(TABLE_SQLITE).execute(&mut connection).await.context("make the table")?;
        Ok(Self::Sqlite(Arc::new(Mutex::new(connection))))
    }

    /// Runs all writers at once: each write's time, and the time of all together. Connections are made before.
    pub async fn run(&self, all: Vec<Writes>) -> anyhow::Result<(Vec<Duration>, Duration)> {
        let mut writers = JoinSet::new();
        let barrier = Arc::new(tokio::sync::Barrier::new(all.len() + 1));
        for writes in all {
            let (barrier, table) = (Arc::clone(&barrier), self.open().await?);
            writers.spawn(async move {
                barrier.wait().await;
                table.write_all(writes).await
            });
        }
        barrier.wait().await;
        let started = Instant::now();
        let times: Vec<Vec<Duration>> = writers.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
        Ok((times.concat(), started.elapsed()))
    }

    async fn open(&self) -> anyhow::Result<Writer> {
        match self {
            Self::Postgres(url) => {
                Ok(Writer::Postgres(Box::new(PgConnection::connect(url).await.context("connect to Postgres")?)))
            }
            Self::Sqlite(connection) => Ok(Writer::Sqlite(Arc::clone(connection))),
        }
    }

    /// How many rows there are.
    pub async fn count(&self) -> anyhow::Result<usize> {
        let query = "SELECT count(*) FROM upserts";
        let count: i64 = match self {
            Self::Postgres(url) => sqlx::query_scalar(query).fetch_one(&mut PgConnection::connect(url).await?).await?,
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(&mut *connection.lock().await).await?,
        };
        Ok(usize::try_from(count)?)
    }
}

enum Writer {
    Postgres(Box<PgConnection>),
    Sqlite(Arc<Mutex<SqliteConnection>>),
}

impl Writer {
    async fn write_all(mut self, writes: Writes) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(writes.saves.len());
        for (path, content) in &writes.saves {
            let started = Instant::now();
            match &mut self {
                Self::Postgres(connection) => {
                    let query = sqlx::query(UPSERT_POSTGRES).bind(writes.user).bind(path).bind(content);
                    query.execute(connection.as_mut()).await.context("upsert")?;
                }
                Self::Sqlite(connection) => {
                    let query = sqlx::query(UPSERT_SQLITE).bind(writes.user).bind(path).bind(content);
                    query.execute(&mut *connection.lock().await).await.context("upsert")?;
                }
            }
            times.push(started.elapsed());
        }
        Ok(times)
    }
}
