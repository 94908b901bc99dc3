//! SQLite: the suite, durability settings, and readers beside a writer.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tempfile::TempDir;
use treehold_catalog::conformance::{self, Backend};
use treehold_catalog::{Admin, Catalog, CatalogError, SqliteCatalog, open_catalog};

struct File {
    catalog: Arc<dyn Catalog>,
    collector: SqlitePool,
    _dir: TempDir,
}

#[async_trait]
impl Backend for File {
    fn catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }

    async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.collector).await.expect(sql).rows_affected()
    }
}

fn scratch() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a temporary directory");
    let path = dir.path().join("catalog.db");
    (dir, path)
}

async fn collector(path: &PathBuf) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path);
    SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("open the file")
}

async fn fresh() -> Arc<dyn Backend> {
    let (dir, path) = scratch();
    let catalog = open_catalog(&format!("sqlite://{}", path.display())).await.expect("open");
    catalog.migrate().await.expect("migrate");
    Arc::new(File { catalog, collector: collector(&path).await, _dir: dir })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_every_guarantee() {
    conformance::run(fresh).await;
}

/// Goal: what was answered survives the process. Method: forget the catalog without closing it and open the file again.
#[tokio::test]
async fn an_empty_file_becomes_a_catalog_and_stays_one() {
    let (_dir, path) = scratch();
    let catalog = SqliteCatalog::open(&path).await.expect("open");
    assert_eq!(catalog.schema_version().await.expect("version"), 0);
    let report = catalog.migrate().await.expect("migrate");
    assert_eq!(report.applied.last(), Some(&report.current));
    assert_eq!(catalog.schema_version().await.expect("version"), report.current);
    std::mem::forget(catalog);
    let again = SqliteCatalog::open(&path).await.expect("open again");
    assert!(again.migrate().await.expect("migrate").applied.is_empty());
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&collector(&path).await).await.expect("journal mode");
    assert_eq!(mode, "wal");
}

/// Goal: what servers of before said in words of an attempt is in its columns after the migration.
/// Method: the tables of before, with attempts of all kinds; then the migrations that are left.
#[tokio::test]
async fn attempts_of_before_are_carried_over() {
    let (_dir, path) = scratch();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true).foreign_keys(false);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("make the file");
    sqlx::migrate!("../../migrations/sqlite").run_to(12, &pool).await.expect("the tables of before");
    let insert = "INSERT INTO attempts (id, project, branch, pending_branch, push, tree, commit_oid, raw, snapshot, objects, state, fence,
                                        last_error, created_at, updated_at)
                  VALUES (randomblob(16), zeroblob(16), 'main', 'main', $1, x'', x'', x'', $2, $3, $4, 0, $5, 1, 1)";
    let (some, waits) = (r#"[["61",1,null,0]]"#, "our branch cannot go there before a merge");
    for (push, snapshot, objects, state, words) in [
        (1, some, vec![0_u8; 20], "LANDED", Some(waits)),
        (1, some, vec![0_u8; 20], "LANDED", None),
        (1, some, vec![0_u8; 20], "PAUSED", Some("words")),
        (0, some, Vec::new(), "PREPARED", None),
        (0, some, vec![0_u8; 20], "PREPARED", None),
        (1, "[]", Vec::new(), "PREPARED", None),
    ] {
        let insert = sqlx::query(insert).bind(push).bind(snapshot).bind(objects).bind(state).bind(words);
        insert.execute(&pool).await.expect("insert");
    }
    let catalog = SqliteCatalog::open(&path).await.expect("open");
    assert_eq!(catalog.migrate().await.expect("migrate").applied.first(), Some(&13));
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT waits, hosted FROM attempts ORDER BY seq").fetch_all(&pool).await.expect("the rows");
    assert_eq!(rows, [(1, 0), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0)]);
}

/// Goal: reads do not wait for the writer. Method: hold a write transaction open and read.
#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let (_dir, path) = scratch();
    let catalog = SqliteCatalog::open(&path).await.expect("open");
    catalog.migrate().await.expect("migrate");
    let catalog: Arc<dyn Catalog> = Arc::new(catalog);
    let other = collector(&path).await;
    let mut writing = other.begin_with("BEGIN IMMEDIATE").await.expect("begin");
    sqlx::query("UPDATE gc_state SET epoch = 7").execute(&mut *writing).await.expect("write");
    assert_eq!(catalog.projects(None, 10).await.expect("read"), []);
    catalog.ping().await.expect("ping");
    writing.rollback().await.expect("roll back");
}

#[tokio::test]
async fn a_place_that_cannot_be_opened_is_unavailable() {
    let missing = open_catalog("sqlite:///nowhere/at/all/catalog.db").await;
    assert!(matches!(missing, Err(CatalogError::Unavailable { .. })), "{missing:?}");
    assert!(open_catalog("mysql://localhost/x").await.is_err());
}

/// Goal: a copy taken beside a writer is one moment of the database, whole, in one file.
#[tokio::test]
async fn a_copy_is_whole_by_itself() {
    let (dir, path) = scratch();
    let catalog = SqliteCatalog::open(&path).await.expect("open");
    catalog.migrate().await.expect("migrate");
    let copy = dir.path().join("it's a copy.db");
    assert!(catalog.copy_to(&copy).await.expect("copy"));
    assert!(catalog.copy_to(&copy).await.is_err(), "never over something that is there");
    let names =
        || std::fs::read_dir(dir.path()).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names().filter(|name| name.to_string_lossy().starts_with("it's")).count(), 1);
    let opened = SqliteCatalog::open(&copy).await.expect("open the copy");
    assert_eq!(opened.schema_version().await.expect("version"), opened.schema_known());
    opened.close().await;
    assert_eq!(names().filter(|name| name.to_string_lossy().starts_with("it's")).count(), 1, "closed, it is one file");
}
