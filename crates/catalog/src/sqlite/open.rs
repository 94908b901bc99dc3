//! Connections.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use crate::admin::{Admin, MigrationReport, migrate, newest};
use crate::bells::Bells;
use crate::error::CatalogError;
use crate::fault::{Fault, run};
use crate::{Catalog, cores};

use super::dialect::{SYSTEM, Transaction};
use super::group::Groups;

/// The fewest connections that read, and the most. They never wait for the writer.
const READERS: std::ops::RangeInclusive<u32> = 4..=16;
/// Pages that the writer keeps in memory, as `PRAGMA cache_size` takes it (KiB below 0). A transaction touches few pages, but of a large ledger
/// (three indexes, ids at random) seldom the same ones; with the default of 2 MiB the inner pages of the indexes are read again each time.
const WRITER_CACHE: &str = "-16384";
/// The same of each reader.
const READER_CACHE: &str = "-8192";
/// Pages in the log after which a commit carries them over into the file, 32 MiB. With the default of 1,000 one commit of a busy store in
/// twenty-five did, while everybody waited; pages that change often are carried over less often, too.
const CHECKPOINT_PAGES: &str = "8000";
/// Rows that the thread of a connection finds ahead of who reads them; with few, the two threads take turns.
const ROWS_AHEAD: usize = 1024;
/// How long a statement waits for another process (an online backup, a shell) that has the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a transaction waits for its turn.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Versions before this one can corrupt a WAL that two connections checkpoint at once.
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// The catalog in one SQLite file.
///
/// Write transactions are serial (`BEGIN IMMEDIATE` on the only connection that writes) and durable when they return
/// (a WAL, `synchronous=FULL`, `fullfsync`). The caller keeps other processes away from the file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog {
    writer: SqlitePool,
    readers: SqlitePool,
    groups: Arc<Groups>,
    bells: Arc<Bells>,
}

impl SqliteCatalog {
    /// Opens the file, or creates an empty one in an existing directory. [`Admin::migrate`] makes the tables.
    ///
    /// `Unavailable` if it cannot be opened; `Invalid` if the SQLite library is older than 3.51.3; `Failed` if there can be no WAL.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        run!("open", Self::connect(path))
    }

    async fn connect(path: &Path) -> Result<Self, Fault> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Where `fsync` leaves the drive's own cache alone (macOS) there is a call that does not; elsewhere this changes nothing.
            .pragma("fullfsync", "ON")
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("temp_store", "MEMORY")
            .pragma("journal_size_limit", "67108864")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .row_buffer_size(ROWS_AHEAD)
            .statement_cache_capacity(200);
        let pool = || {
            SqlitePoolOptions::new()
                .test_before_acquire(false)
                // Where SQLite has rolled back by itself, as where a commit finds the disk full, sqlx takes the transaction for open ever
                // after, and begins no other.
                .before_acquire(|connection, _| {
                    let over = !connection.is_in_transaction();
                    Box::pin(async move { Ok(over) })
                })
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        // The writer comes first: it makes the file and puts it into WAL mode.
        let writing = options.clone().pragma("cache_size", WRITER_CACHE);
        let writer = pool().max_connections(1).min_connections(1).connect_with(writing).await?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&writer).await?;
        if !new_enough(&version) {
            return Err(CatalogError::Invalid { what: "SQLite version" }.into());
        }
        // What cannot be had is not refused: SQLite goes on with another journal, whose commits are not all durable, and readers wait.
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&writer).await?;
        if journal != "wal" {
            let source = format!("the file can have no WAL where it is, only a journal of mode {journal:?}").into();
            return Err(CatalogError::Failed { action: "open", source }.into());
        }
        let read_only = options.pragma("query_only", "ON").pragma("cache_size", READER_CACHE);
        let count = u32::try_from(cores()).unwrap_or(u32::MAX).clamp(*READERS.start(), *READERS.end());
        // All at once: each has a thread, of the priority of who opened it, and who is first to read may be of a low one.
        let readers = pool().max_connections(count).min_connections(count).connect_with(read_only).await?;
        Ok(Self { writer, readers, groups: Arc::default(), bells: Arc::default() })
    }

    /// Where single statements read.
    pub(super) fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Transactions of grouped writes at a time: there is one writer.
    pub(super) fn write_lanes(&self) -> usize {
        1
    }

    /// Calls that wait to be answered together.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Who follows feeds in this process, which is all that there is.
    pub(super) fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// There are no other instances to tell.
    pub(super) fn announce(&self, _positions: &[(Uuid, i64)]) {}

    /// Nor to listen to.
    pub(super) fn listen(&self) {}

    /// Where single statements write. What they give back is read to its end, also where it is one row: only then they are committed, and sqlx
    /// leaves an error of that unsaid where it is asked for the first row.
    pub(super) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Its pools, by what they are for.
    pub(super) fn pools(&self) -> [(&'static str, &SqlitePool); 2] {
        [("write", &self.writer), ("read", &self.readers)]
    }

    /// A transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, Fault> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A transaction that reads one moment, however long it takes.
    pub(super) async fn begin_snapshot(&self) -> Result<Transaction, Fault> {
        Ok(self.readers.begin().await?)
    }

    /// The first of `count` consecutive ledger numbers that were never given before.
    pub(super) async fn take_numbers(tx: &mut Transaction, count: i64) -> Result<Vec<i64>, Fault> {
        let first: i64 =
            sqlx::query_scalar("UPDATE object_numbers SET next = next + $1 WHERE id = 1 RETURNING next - $1")
                .bind(count)
                .fetch_one(&mut **tx)
                .await?;
        Ok((first..first + count).collect())
    }

    async fn read_version(&self) -> Result<i64, Fault> {
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_one(&self.readers)
            .await?;
        if tables == 0 {
            return Ok(0);
        }
        let version = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success");
        Ok(version.fetch_one(&self.readers).await?)
    }

    async fn apply_migrations(&self) -> Result<MigrationReport, Fault> {
        let mut connection = self.writer.acquire().await?;
        migrate(sqlx::migrate!("../../migrations/sqlite"), &mut *connection).await
    }

    /// On a connection of its own: it reads, and must keep neither the writer nor a reader from others.
    async fn copy(&self, file: &Path) -> Result<bool, Fault> {
        let path = file.to_str().ok_or(CatalogError::Invalid { what: "name of the copy" })?;
        let mut connection = (*self.writer.connect_options()).clone().connect().await?;
        let copied = sqlx::query("VACUUM INTO $1").bind(path).execute(&mut connection).await;
        connection.close().await?;
        copied?;
        // SQLite leaves the copy to the system's caches.
        let synced = tokio::fs::File::open(file).await.map_err(sqlx::Error::Io)?.sync_all().await;
        synced.map_err(sqlx::Error::Io)?;
        Ok(true)
    }

    async fn answer(&self) -> Result<(), Fault> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => (major, minor, patch) >= VERSION_MIN,
        _ => false,
    }
}

#[async_trait]
impl Admin for SqliteCatalog {
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
        newest(&sqlx::migrate!("../../migrations/sqlite"))
    }

    async fn clock_ms(&self) -> Result<Option<i64>, CatalogError> {
        Ok(None)
    }

    async fn unsafe_settings(&self) -> Result<Vec<String>, CatalogError> {
        Ok(Vec::new())
    }

    async fn copy_to(&self, file: &Path) -> Result<bool, CatalogError> {
        run!("copy the database", self.copy(file))
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Catalog for SqliteCatalog {}

#[cfg(test)]
mod tests {
    use super::super::attempts::{open_of_user, open_on_branch};
    use super::super::collect::stale_within;
    use super::super::pending::{below_sql, page_sql};
    use super::super::thin::taking_sql;
    use super::*;
    use crate::{
        AttemptChange, AttemptState, Attempts, Collect, Jobs, NewProject, PolicyChange, ProjectKey, Projects,
        ReceivePolicy,
    };

    #[test]
    fn versions_with_the_wal_bug_are_refused() {
        for (version, expected) in
            [("3.51.2", false), ("3.51.3", true), ("3.9.0", false), ("4.0.0", true), ("3.52.0", true), ("?", false)]
        {
            assert_eq!(new_enough(version), expected, "{version}");
        }
    }

    /// Goal: a commit is on the medium when it returns, whatever caches are in between, also where no test of a power cut runs.
    #[tokio::test]
    async fn commits_pass_every_cache() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA fullfsync", 1)] {
            let set: i64 = sqlx::query_scalar(pragma).fetch_one(&catalog.writer).await.expect(pragma);
            assert_eq!(set, expected, "{pragma}");
        }
    }

    /// Goal: where SQLite can have no WAL it is not taken for durable. Method: a database in memory, which never has one.
    #[tokio::test]
    async fn no_other_journal_will_do() {
        let opened = SqliteCatalog::open(Path::new(":memory:")).await;
        assert!(matches!(opened, Err(CatalogError::Failed { action: "open", .. })), "{opened:?}");
    }

    /// Goal: where SQLite rolled a transaction back by itself the next one begins as ever. Method: a hook that refuses the commit, of which SQLite
    /// makes the same as of one that cannot be written.
    #[tokio::test]
    async fn a_commit_that_fails_is_over() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        let mut connection = catalog.writer.acquire().await.expect("the writer");
        connection.lock_handle().await.expect("its handle").set_commit_hook(|| false);
        drop(connection);
        assert!(catalog.begin().await.expect("begin").commit().await.is_err());
        catalog.begin().await.expect("begin again").commit().await.expect("commit");
    }

    /// Goal: what a single statement gives back is committed. Method: the same hook, which comes after the row.
    #[tokio::test]
    async fn what_is_given_back_is_committed() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        catalog.migrate().await.expect("migrate");
        let id = Uuid::nil();
        let new = NewProject {
            id,
            name: None,
            default_branch: "main".to_owned(),
            remote_url: None,
            receive: ReceivePolicy::default(),
            quota_bytes: None,
            bytes: 0,
            created_at_ms: 0,
        };
        catalog.create_project(&new).await.expect("create");
        let insert = "INSERT INTO attempts (id, project, branch, pending_branch, push, tree, commit_oid, raw, snapshot,
                                            objects, state, fence, created_at, updated_at)
                      VALUES ($1, $1, 'main', 'main', 1, x'', x'', x'', '[]', x'', 'STORED', 0, 1, 1)";
        sqlx::query(insert).bind(id).execute(&catalog.writer).await.expect("insert");
        let project = catalog.project(&ProjectKey::Id(id)).await.expect("read").expect("the project");
        let (to, last_error, waits) = (AttemptState::Pushing, None, None);
        let change = AttemptChange { id, fence: 0, to, in_doubt: false, last_error, waits };
        let mut connection = catalog.writer.acquire().await.expect("the writer");
        connection.lock_handle().await.expect("its handle").set_commit_hook(|| false);
        drop(connection);
        assert!(catalog.change_attempt(&change, 1).await.is_err());
        assert!(catalog.take_job("job", id, 1, 2).await.is_err());
        assert!(catalog.next_epoch().await.is_err());
        assert!(catalog.set_store_id(id, true).await.is_err());
        assert!(catalog.set_policy(id, &PolicyChange::default()).await.is_err());
        assert!(catalog.update_project(&project).await.is_err());
    }

    /// Goal: a collection looks ranges up; it does not go through the whole ledger for each question.
    #[tokio::test]
    async fn ranges_are_searched_for() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        catalog.migrate().await.expect("migrate");
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", stale_within()));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).bind(1).bind(1).bind("[]").fetch_all(&catalog.readers).await.expect("explain");
        let searched = plan.iter().any(|(.., step)| step.starts_with("SEARCH o USING INTEGER PRIMARY KEY"));
        assert!(searched, "{plan:?}");
    }

    /// Goal: whoever asks what is open on a branch, or of a user, looks it up, however many attempts there were.
    #[tokio::test]
    async fn open_attempts_are_looked_up() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        catalog.migrate().await.expect("migrate");
        for (query, index) in [
            (open_on_branch(), "attempts_open_branch (project=? AND branch=?)"),
            (open_of_user(), "attempts_open_user (project=? AND pending_branch=? AND user_id=?)"),
        ] {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
                .bind(Option::<i64>::None)
                .bind(Option::<i64>::None)
                .bind(Option::<i64>::None)
                .fetch_all(&catalog.readers)
                .await
                .expect("explain");
            assert!(plan.iter().any(|(.., step)| step.ends_with(index)), "{plan:?}");
            assert!(!plan.iter().any(|(.., step)| step.contains("TEMP B-TREE")), "{plan:?}");
        }
    }

    /// Goal: a page of pending work, or what is pending in a directory, costs as much as it has, however much else is pending.
    #[tokio::test]
    async fn parts_of_a_workspace_are_searched_for() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        catalog.migrate().await.expect("migrate");
        for (query, keys) in [
            (page_sql(), &["(workspace=? AND path>?)"][..]),
            (below_sql(), &["(workspace=? AND path>? AND path<?)", "(workspace=? AND path=?)"]),
        ] {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(explain).fetch_all(&catalog.readers).await.expect("explain");
            let steps: Vec<&str> = plan.iter().map(|(.., step)| step.as_str()).collect();
            for key in keys {
                assert!(steps.iter().any(|step| step.starts_with("SEARCH p ") && step.ends_with(key)), "{steps:?}");
            }
            assert!(!steps.iter().any(|step| step.starts_with("SCAN p ")), "{steps:?}");
        }
    }

    /// Goal: whoever thins local history looks at commits under way, not at all that the project ever had.
    #[tokio::test]
    async fn commits_under_way_are_searched_for() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.expect("open");
        catalog.migrate().await.expect("migrate");
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", taking_sql()));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).bind(Uuid::nil()).bind("[]").fetch_all(&catalog.readers).await.expect("explain");
        let steps: Vec<&str> = plan.iter().map(|(.., step)| step.as_str()).collect();
        assert!(steps.iter().any(|step| step.ends_with("a USING INDEX attempts_open")), "{steps:?}");
        assert!(steps.iter().any(|step| step.starts_with("SEARCH w USING")), "{steps:?}");
    }
}
