//! The plain layout: a key per project and path in S3, a row for each file in Postgres.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::git::File;
use super::s3::Bucket;

/// GETs and PUTs at once.
const PARALLEL: usize = 100;
/// Bytes of a path that is a key as it is.
const PATH_MAX: usize = 120;
/// Rows in one INSERT.
const ROWS: usize = 10_000;

/// The plain layout of one project.
pub struct Plain {
    project: Uuid,
    url: String,
    connection: PgConnection,
    bucket: Bucket,
}

impl Plain {
    /// Makes the table, in the schema that `url` names.
    pub async fn create(url: &str, bucket: Bucket) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("connect to Postgres")?;
        let table = "CREATE TABLE plain_files (project uuid NOT NULL, path text NOT NULL, key text NOT NULL,
                     oid text NOT NULL, size bigint NOT NULL, PRIMARY KEY (project, path))";
        sqlx::query(table).execute(&mut connection).await.context("make the table")?;
        Ok(Self { project: Uuid::new_v4(), url: url.to_owned(), connection, bucket })
    }

    /// A row for each of `files`.
    pub async fn fill(&mut self, files: &[File]) -> anyhow::Result<()> {
        let insert =
            "INSERT INTO plain_files SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])";
        for files in files.chunks(ROWS) {
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            let keys: Vec<String> = paths.iter().map(|path| self.key(path)).collect();
            let oids: Vec<&str> = files.iter().map(|file| file.oid.as_str()).collect();
            let sizes: Vec<i64> = files.iter().map(|file| file.size.unwrap_or(0) as i64).collect();
            let query = sqlx::query(insert).bind(self.project).bind(paths).bind(keys).bind(oids).bind(sizes);
            query.execute(&mut self.connection).await.context("fill the table")?;
        }
        sqlx::query("ANALYZE plain_files").execute(&mut self.connection).await.context("analyze the table")?;
        Ok(())
    }

    /// Objects, for what will be read.
    pub async fn put(&self, contents: &HashMap<String, Vec<u8>>) -> anyhow::Result<()> {
        let puts = contents.iter().map(|(path, content)| {
            let (bucket, key) = (self.bucket.clone(), self.key(path));
            async move { bucket.put(&key, content.clone()).await }
        });
        futures::stream::iter(puts).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// The S3 server keeps a key as one file name of its own; long ones give way to their hash.
    fn key(&self, path: &str) -> String {
        let project = &self.project.simple().to_string()[..8];
        match path.len() <= PATH_MAX {
            true => format!("plain/{project}/{path}"),
            false => format!(
                "plain-long/{project}/{}",
                treehold_object::second_opinion(treehold_object::Kind::Blob, path.as_bytes())
            ),
        }
    }

    /// Forgets all connections: the next batch is read as by a new process.
    pub async fn restart(&mut self, bucket: Bucket) -> anyhow::Result<()> {
        self.connection = PgConnection::connect(&self.url).await.context("connect to Postgres")?;
        self.bucket = bucket;
        Ok(())
    }

    /// Reads a batch: one query, then a GET for each file, 100 at once. In order of `paths`.
    pub async fn read(&mut self, paths: &[&str]) -> anyhow::Result<(Vec<Vec<u8>>, Duration)> {
        let started = Instant::now();
        let query = "SELECT path, key FROM plain_files WHERE project = $1 AND path = ANY($2)";
        let query = sqlx::query_as::<_, (String, String)>(query).bind(self.project).bind(paths);
        let keys: HashMap<String, String> =
            query.fetch_all(&mut self.connection).await.context("look up the keys")?.into_iter().collect();
        ensure!(keys.len() == paths.len(), "{} rows for {} paths", keys.len(), paths.len());
        let gets = paths.iter().filter_map(|&path| keys.get(path)).map(|key| self.bucket.get(key));
        let contents = futures::stream::iter(gets).buffered(PARALLEL).try_collect().await?;
        Ok((contents, started.elapsed()))
    }
}
