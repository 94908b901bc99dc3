//! Looks behind the API: requests as bytes, rows of the database, objects in the bucket.

use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::deployment::{API_KEY, Deployment, Reply, Setup};

/// Sends a request whose target stands on the wire exactly as it is given: clients normalise theirs.
pub async fn raw(d: &Deployment, method: &str, target: &str, body: &[u8]) -> Reply {
    let key = format!("X-Internal-API-Key: {API_KEY}\r\n");
    raw_head(d, method, target, &format!("{key}Content-Length: {}\r\n", body.len()), body).await
}

/// The same with header lines of the caller's choice, each with its CRLF.
pub async fn raw_head(d: &Deployment, method: &str, target: &str, lines: &str, body: &[u8]) -> Reply {
    let url = d.url("");
    let address = url.strip_prefix("http://").expect("an http URL");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a complete head");
    let head = std::str::from_utf8(&answer[..end]).expect("an ASCII head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").expect("a header line");
        (name.parse().expect("a name"), value.parse().expect("a value"))
    });
    Reply { status: status.parse().expect("a status"), headers: headers.collect(), body: answer[end + 4..].to_vec() }
}

/// The first column, which must be text, of each row. The statement is written for both databases by [`uuid`] and [`hex`].
pub async fn rows(d: &Deployment, sql: String) -> Vec<String> {
    match &d.database_url {
        None => {
            let url = format!("sqlite://{}?mode=ro", d.data.path().join("treehold.db").display());
            let pool = sqlx::SqlitePool::connect(&url).await.expect("the database");
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.expect("rows")
        }
        Some(url) => {
            let pool = sqlx::PgPool::connect(url).await.expect("the database");
            let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.expect("rows");
            pool.close().await;
            rows
        }
    }
}

/// A UUID as it stands in a statement.
pub fn uuid(d: &Deployment, id: Uuid) -> String {
    match d.setup {
        Setup::Embedded => format!("X'{}'", id.simple()),
        Setup::Cluster => format!("'{id}'::uuid"),
    }
}

/// A column of bytes as text.
pub fn hex(d: &Deployment, column: &str) -> String {
    match d.setup {
        Setup::Embedded => format!("lower(hex({column}))"),
        Setup::Cluster => format!("encode({column}, 'hex')"),
    }
}

/// How many rows of a table belong to a project.
pub async fn count(d: &Deployment, table: &str, project: Uuid) -> u64 {
    let sql = format!("SELECT CAST(count(*) AS text) FROM {table} WHERE project = {}", uuid(d, project));
    rows(d, sql).await[0].parse().expect("a number")
}

/// Whether the bucket has the value in which the ledger says that the object is.
pub async fn in_bucket(d: &Deployment, oid: &str) -> bool {
    let sql = format!(
        "SELECT k.s3_key FROM objects o JOIN s3_keys k ON k.key_id = o.key_id WHERE {} = '{oid}'",
        hex(d, "o.oid")
    );
    let objects = d.objects_dir().await;
    rows(d, sql).await.iter().any(|key| objects.join(key.strip_prefix("objects/").expect("a key")).is_file())
}
