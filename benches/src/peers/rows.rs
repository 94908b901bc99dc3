//! Content in Postgres alone: a row for each file with its bytes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, PgConnection};

/// Rows in one INSERT.
const ROWS: usize = 200;

/// The table and one connection, with binary results.
pub struct Rows {
    connection: PgConnection,
}

impl Rows {
    /// Makes the table in the schema that `url` names, and fills it.
    pub async fn create(url: &str, contents: &HashMap<String, Vec<u8>>) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("connect to Postgres")?;
        let table = "CREATE TABLE row_files (path text PRIMARY KEY, content bytea NOT NULL)";
        sqlx::query(table).execute(&mut connection).await.context("make the table")?;
        let all: Vec<(&String, &Vec<u8>)> = contents.iter().collect();
        for some in all.chunks(ROWS) {
            let (paths, contents): (Vec<&str>, Vec<&[u8]>) =
                some.iter().map(|(path, content)| (path.as_str(), content.as_slice())).unzip();
            let insert = "INSERT INTO row_files SELECT * FROM unnest($1::text[], $2::bytea[])";
            let query = sqlx::query(insert).bind(paths).bind(contents);
            query.execute(&mut connection).await.context("fill the table")?;
        }
        sqlx::query("ANALYZE row_files").execute(&mut connection).await.context("analyze the table")?;
        Ok(Self { connection })
    }

    /// All rows of `paths` by one prepared query.
    pub async fn read(&mut self, paths: &[&str]) -> anyhow::Result<(Vec<(String, Vec<u8>)>, Duration)> {
        let started = Instant::now();
        let query = sqlx::query_as("SELECT path, content FROM row_files WHERE path = ANY($1)").bind(paths);
        let rows: Vec<(String, Vec<u8>)> = query.fetch_all(&mut self.connection).await.context("read the rows")?;
        let took = started.elapsed();
        ensure!(rows.len() == paths.len(), "{} rows for {} paths", rows.len(), paths.len());
        Ok((rows, took))
    }
}
