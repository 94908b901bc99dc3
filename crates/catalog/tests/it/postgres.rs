//! PostgreSQL: the suite on a real server, and instances that come and go.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use treehold_catalog::conformance::{self, Backend};
use treehold_catalog::{
    Action, Admin, Catalog, CatalogError, Content, Feed, NewProject, Origin, Pending, PendingChange, PendingWrite,
    PostgresCatalog, PostgresOptions, ProjectKey, Projects, ReceivePolicy, RowExpectation, WorkspaceKey,
};
use treehold_tests::postgres::Postgres;
use uuid::Uuid;

struct Schema {
    catalog: Arc<dyn Catalog>,
    collector: PgPool,
}

#[async_trait]
impl Backend for Schema {
    fn catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }

    async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.collector).await.expect(sql).rows_affected()
    }
}

/// A few connections each: the suite makes many catalogs in one server.
const OPTIONS: PostgresOptions =
    PostgresOptions { connections_max: 8, acquire_timeout_ms: 30_000, write_lanes: 4, ..PostgresOptions::DEFAULT };

async fn fresh() -> Arc<dyn Backend> {
    let url = Postgres::shared().await.schema_url().await;
    let catalog = PostgresCatalog::connect(&url, OPTIONS).await.expect("connect");
    catalog.migrate().await.expect("migrate");
    let collector = PgPoolOptions::new().max_connections(1).connect(&url).await.expect("connect");
    Arc::new(Schema { catalog: Arc::new(catalog), collector })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_every_guarantee() {
    conformance::run(fresh).await;
}

/// Goal: a usual commit takes the short way, a statement for what would be many.
/// Method: triggers write down which statement prepares the attempt, registers the objects and moves the branch.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_usual_commit_is_few_statements() {
    let backend = fresh().await;
    for sql in [
        "CREATE TABLE written (at bigint GENERATED ALWAYS AS IDENTITY, query text NOT NULL)",
        "CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO written (query) VALUES (current_query()); RETURN NULL; END $$",
        "CREATE TRIGGER prepared AFTER INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION write_down()",
        "CREATE TRIGGER registered AFTER INSERT ON commits FOR EACH ROW EXECUTE FUNCTION write_down()",
        "CREATE TRIGGER moved AFTER UPDATE ON refs FOR EACH ROW EXECUTE FUNCTION write_down()",
        "CREATE TRIGGER done AFTER UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION write_down()",
    ] {
        backend.execute(sql).await;
    }
    conformance::usual_commit(backend.clone()).await;
    // The last two are of one statement.
    for (sql, rows) in [
        ("DELETE FROM written WHERE query LIKE 'WITH seen AS%INSERT INTO s3_keys%INSERT INTO attempts%'", 1),
        ("DELETE FROM written WHERE query LIKE 'WITH home AS%UPDATE ops%INSERT INTO objects%INSERT INTO commits%'", 1),
        ("DELETE FROM written WHERE query LIKE 'WITH swapped AS%UPDATE attempts%'", 2),
        ("DELETE FROM written", 0),
    ] {
        assert_eq!(backend.execute(sql).await, rows, "{sql}");
    }
}

/// Goal: instances that start together migrate once. Method: start eight on an empty schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_instances_migrate_once() {
    let url = Postgres::shared().await.schema_url().await;
    let mut starting = Vec::new();
    for _ in 0..8 {
        let url = url.clone();
        starting.push(tokio::spawn(async move {
            let options = PostgresOptions { connections_max: 1, ..OPTIONS };
            let catalog = PostgresCatalog::connect(&url, options).await.expect("connect");
            let report = catalog.migrate().await.expect("migrate");
            assert_eq!(catalog.schema_version().await.expect("version"), report.current);
            report
        }));
    }
    let mut applied = 0;
    for instance in starting {
        let report = instance.await.expect("an instance");
        assert!(report.current >= 1);
        applied += usize::from(!report.applied.is_empty());
    }
    assert_eq!(applied, 1, "the others found it done");
}

/// Goal: a server that dies is `Unavailable` while it is away and harmless afterwards. Method: kill -9 and restart it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_server_is_unavailable_and_then_back() {
    let server = Postgres::start().await;
    let options = PostgresOptions { acquire_timeout_ms: 1_000, ..OPTIONS };
    let catalog = PostgresCatalog::connect(&server.url(), options).await.expect("connect");
    catalog.migrate().await.expect("migrate");
    let version = catalog.schema_version().await.expect("version");
    server.kill9();
    let away = catalog.ping().await;
    assert!(matches!(away, Err(CatalogError::Unavailable { .. })), "{away:?}");
    let away = catalog.schema_version().await;
    assert!(matches!(away, Err(CatalogError::Unavailable { .. })), "{away:?}");
    server.restart().await;
    // Connections that died with the server may each fail once.
    let mut back = catalog.schema_version().await;
    for _ in 0..OPTIONS.connections_max {
        if back.is_ok() {
            break;
        }
        back = catalog.schema_version().await;
    }
    assert_eq!(back.expect("the server is back"), version);
    let gone = PostgresCatalog::connect("postgres://nobody@127.0.0.1:1/nothing", options).await;
    assert!(matches!(gone, Err(CatalogError::Unavailable { .. })), "{gone:?}");
}

/// The socket of a server, or of what stands in for one, in its directory.
fn socket(dir: &Path) -> PathBuf {
    dir.join(".s.PGSQL.5432")
}

/// Hands connections on without the settings that they ask for, as PgBouncer does with `ignore_startup_parameters = options`.
async fn pool_without_options(listener: UnixListener, server: PathBuf) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = UnixStream::connect(&server).await.expect("the server");
        tokio::spawn(async move {
            let length = client.read_u32().await.expect("a length");
            let mut asked = vec![0; length as usize - 4];
            client.read_exact(&mut asked).await.expect("a startup message");
            // The version; then names and values, each with a NUL behind it, and one more.
            let (version, pairs) = asked.split_at(4);
            let words: Vec<&[u8]> = pairs.split(|byte| *byte == 0).collect();
            let kept = words.chunks_exact(2).filter(|pair| !pair[0].is_empty() && pair[0] != b"options");
            let mut startup = version.to_vec();
            for word in kept.flatten() {
                startup.extend_from_slice(word);
                startup.push(0);
            }
            startup.push(0);
            server.write_u32(startup.len() as u32 + 4).await.expect("a server that listens");
            server.write_all(&startup).await.expect("a server that listens");
            _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// Goal: what is answered is durable, and what is read under a lock is as it is then, whatever the role's or the database's own settings are;
/// or nothing is answered. Method: databases with other settings, directly and through a pooler that does not hand on what a connection asks
/// for; and one with none through the same pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_pooler_leaves_out_is_missed() {
    let server = Postgres::shared().await;
    let usual = server.database_url().await;
    let options = PostgresOptions { connections_max: 2, acquire_timeout_ms: 2_000, ..OPTIONS };
    let dir = tempfile::tempdir().expect("a directory");
    let sockets = PgConnectOptions::from_str(&usual).expect("a URL").get_socket().cloned().expect("a socket");
    let listener = UnixListener::bind(socket(dir.path())).expect("a socket");
    let pooler = tokio::spawn(pool_without_options(listener, socket(&sockets)));
    let through = |url: &str| {
        let from = sockets.to_string_lossy().replace('/', "%2F");
        url.replace(&from, &dir.path().to_string_lossy().replace('/', "%2F"))
    };
    for setting in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_isolation = 'serializable'",
    ] {
        let careless = server.database_url().await;
        let admin = PgPoolOptions::new().max_connections(1).connect(&careless).await.expect("connect");
        let name: String =
            sqlx::query_scalar("SELECT quote_ident(current_database())").fetch_one(&admin).await.expect("a name");
        let set = format!("ALTER DATABASE {name} SET {setting}");
        sqlx::query(sqlx::AssertSqlSafe(set)).execute(&admin).await.expect(setting);
        let direct = PostgresCatalog::connect(&careless, options).await.expect("connect");
        direct.ping().await.expect("its own setting counts");
        let refused = PostgresCatalog::connect(&through(&careless), options).await;
        assert!(matches!(refused, Err(CatalogError::Unavailable { .. })), "{setting}: {refused:?}");
    }
    let sound = PostgresCatalog::connect(&through(&usual), options).await.expect("connect");
    sound.ping().await.expect("the server's settings");
    pooler.abort();
}

/// Goal: a server that does not sync what it writes is told from one that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_do_not_sync_are_known() {
    let sound = PostgresCatalog::connect(&Postgres::shared().await.url(), OPTIONS).await.expect("connect");
    assert_eq!(sound.unsafe_settings().await.expect("read"), Vec::<String>::new());
    let server = Postgres::start_with(&["fsync=off"]).await;
    let unsound = PostgresCatalog::connect(&server.url(), OPTIONS).await.expect("connect");
    assert_eq!(unsound.unsafe_settings().await.expect("read"), ["fsync"]);
}

/// Goal: who waits for a row or for a connection is told in time, and neither keeps a connection. Method: a transaction beside
/// the catalog locks a table that the catalog's only connection then waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_waits_for_ever() {
    let url = Postgres::shared().await.schema_url().await;
    let options = PostgresOptions {
        connections_max: 1,
        acquire_timeout_ms: 200,
        lock_timeout_ms: 2_000,
        ..PostgresOptions::DEFAULT
    };
    let catalog = Arc::new(PostgresCatalog::connect(&url, options).await.expect("connect"));
    catalog.migrate().await.expect("migrate");
    let other = PgPoolOptions::new().max_connections(1).connect(&url).await.expect("connect");
    let mut lock = other.begin().await.expect("begin");
    sqlx::query("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.expect("lock");
    let key = ProjectKey::Id(Uuid::from_u128(1));
    let waiting = tokio::spawn({
        let (catalog, key) = (catalog.clone(), key.clone());
        async move { catalog.project(&key).await.map(|_| ()) }
    });
    // Until the other one has the connection, it is there.
    while catalog.ping().await.is_ok() {}
    let exhausted = catalog.schema_version().await;
    let locked = waiting.await.expect("a task");
    for refused in [exhausted.map(|_| ()), locked] {
        assert!(matches!(refused, Err(CatalogError::Unavailable { .. })), "{refused:?}");
    }
    lock.rollback().await.expect("rollback");
    assert!(catalog.project(&key).await.expect("free again").is_none());
}

/// Goal: whoever follows a feed through one instance hears of what another one writes, also after the connection that listens was
/// cut, and if nobody is told at all. Method: two instances; the server ends every connection that listens; a writer that no
/// catalog knows of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_hear_of_each_other() {
    let url = Postgres::shared().await.schema_url().await;
    let writer = PostgresCatalog::connect(&url, OPTIONS).await.expect("connect");
    let reader = PostgresCatalog::connect(&url, OPTIONS).await.expect("connect");
    writer.migrate().await.expect("migrate");
    let other = PgPoolOptions::new().max_connections(1).connect(&url).await.expect("connect");
    let project = Uuid::new_v4();
    let new = NewProject {
        id: project,
        name: None,
        default_branch: "main".to_owned(),
        remote_url: None,
        receive: ReceivePolicy::default(),
        quota_bytes: None,
        bytes: 0,
        created_at_ms: 1,
    };
    writer.create_project(&new).await.expect("create");
    let key = WorkspaceKey { project, branch: "main".to_owned(), user: Uuid::new_v4() };
    let mut following = reader.follow(project);
    let write = async |content: &'static [u8]| {
        let oid = treehold_object::hash(treehold_object::Kind::Blob, content).expect("harmless content");
        let change = PendingChange::Set {
            action: Action::Created,
            mode: 0o100644,
            oid: Some(oid),
            size: content.len() as u64,
            base_oid: None,
            base_mode: None,
            content: Content::Inline(content.into()),
        };
        let (expect, origin) = (RowExpectation::Any, Origin::default());
        let write = PendingWrite { path: "a".into(), expect, change, origin };
        writer.write_pending(&key, None, &[write], 2).await.expect("write");
    };
    write(b"1").await;
    following.beyond(1).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
        AND pid <> pg_backend_pid()";
    let gone: i64 = sqlx::query_scalar(cut).fetch_one(&other).await.expect("cut");
    assert!(gone >= 1, "somebody listens");
    write(b"2").await;
    following.beyond(2).await;
    sqlx::query("UPDATE feeds SET last = last + 1").execute(&other).await.expect("write");
    following.beyond(3).await;
    // Waiting takes no connection from the pool.
    let many: Vec<_> = (0..100).map(|_| reader.follow(project)).collect();
    reader.ping().await.expect("a connection");
    assert!(writer.delete_project(project).await.expect("delete"));
    for mut one in many {
        one.beyond(3).await;
    }
}
