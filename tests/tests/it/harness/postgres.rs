use sqlx::{Connection, PgConnection, Row};
use treehold_tests::postgres::Postgres;

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[tokio::test]
async fn schemas_and_databases_are_apart() {
    let postgres = Postgres::shared().await;
    let mut names = Vec::new();
    for url in [postgres.schema_url().await, postgres.schema_url().await, postgres.database_url().await] {
        let mut connection = connect(&url).await;
        // Would fail if two of them saw the same namespace.
        sqlx::raw_sql("CREATE TABLE t (a int)").execute(&mut connection).await.unwrap();
        let row = sqlx::query("SELECT current_database() || '.' || current_schema(), current_setting('fsync')")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        names.push(row.get::<String, _>(0));
        assert_eq!(row.get::<String, _>(1), "on");
    }
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[tokio::test]
async fn answered_transactions_survive_kill_9() {
    let postgres = Postgres::start().await;
    let url = postgres.schema_url().await;
    let mut connection = connect(&url).await;
    sqlx::raw_sql("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").execute(&mut connection).await.unwrap();
    postgres.kill9();
    // A backend outlives its postmaster until it looks.
    let mut alive = true;
    for _ in 0..200 {
        alive = sqlx::query("SELECT 1").execute(&mut connection).await.is_ok();
        if !alive {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!alive, "the server is gone");
    assert!(PgConnection::connect(&url).await.is_err(), "and takes no connections");
    postgres.restart().await;
    let row = sqlx::query("SELECT a FROM t").fetch_one(&mut connect(&url).await).await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 7);
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let postgres = Postgres::start().await;
    let url = postgres.url();
    let socket = url.split("host=").nth(1).unwrap().split('&').next().unwrap().replace("%2F", "/");
    let directory = std::path::Path::new(&socket);
    assert!(directory.join("data/postmaster.pid").exists());
    drop(postgres);
    assert!(!directory.exists());
}
