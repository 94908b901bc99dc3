//! What a server stands on: a database, a store, a git remote.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::process::Command;
use treehold_tests::git::Repo;
use treehold_tests::git_http::GitHttp;
use treehold_tests::postgres::Postgres;
use treehold_tests::s3::S3Server;
use uuid::Uuid;

use crate::generate::garbage;
use crate::machine::memory_mib;
use crate::peers::{git, s3};
use crate::proxy::Proxy;

/// Opens every measured server. Nothing but this machine can reach one.
pub const API_KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";
/// Opens the git remote.
pub const REMOTE_TOKEN: &str = "bench-remote-token";
const REMOTE_USER: &str = "x-access-token";
const BUCKET: &str = "treehold";
/// Exit status of a command that was used wrongly.
const USAGE: i32 = 2;
/// A command that takes longer is stopped and fails the run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1_800);
/// How often the memory of a command is looked at. The kernel keeps the maximum; what grows in a command's last moments is missed.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What the store and the database are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SQLite and a directory.
    Embedded,
    /// Postgres and S3.
    PostgresS3,
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "SQLite + directory",
            Self::PostgresS3 => "Postgres + S3",
        }
    }
}

/// The servers of one set-up. They stop when it is dropped.
pub struct Setup {
    /// What they are.
    pub kind: Kind,
    /// The repository that the git server serves as `remote`: what projects sync with and push to.
    pub remote: Repo,
    /// Where scratch directories go.
    pub work: PathBuf,
    /// Stock `git http-backend`. Serves `origin` (never written to), `remote`, and `peer` (stock git pushes there).
    pub git: GitHttp,
    /// Postgres and S3.
    pub cluster: Option<Cluster>,
    binary: PathBuf,
    /// Removed last.
    remotes: TempDir,
}

/// A private Postgres (`fsync` on), and an S3 server behind the proxy.
pub struct Cluster {
    /// The database.
    pub postgres: Postgres,
    /// What stands before the bucket.
    pub proxy: Proxy,
    s3: S3Server,
}

impl Cluster {
    async fn start(latency: Duration) -> anyhow::Result<Self> {
        let s3 = S3Server::start().await;
        s3.create_bucket(BUCKET);
        let address = s3.url().trim_start_matches("http://").parse().context("the S3 server's address")?;
        Ok(Self { postgres: Postgres::start().await, proxy: Proxy::start(address, latency), s3 })
    }

    /// A new client of the bucket, through the proxy.
    pub fn bucket(&self) -> s3::Bucket {
        let endpoint = format!("http://{}", self.proxy.address());
        s3::Bucket::connect(&endpoint, BUCKET, self.s3.access_key(), self.s3.secret_key())
    }

    fn store_url(&self, prefix: &str) -> String {
        let address = self.proxy.address();
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{address}&region=us-east-1&path_style=true")
    }
}

impl Setup {
    /// Starts the servers; the git server has copies of `repository`.
    pub async fn start(
        kind: Kind,
        binary: &Path,
        work: &Path,
        repository: &Repo,
        s3_latency: Duration,
    ) -> anyhow::Result<Self> {
        let remotes = tempfile::tempdir_in(work).context("make a directory for remotes")?;
        for name in ["origin.git", "peer.git"] {
            git::copy(repository, &remotes.path().join(name))?;
        }
        let remote = git::copy(repository, &remotes.path().join("remote.git"))?;
        let served = GitHttp::start(remotes.path(), REMOTE_USER, REMOTE_TOKEN).await;
        let cluster = match kind {
            Kind::Embedded => None,
            Kind::PostgresS3 => Some(Cluster::start(s3_latency).await?),
        };
        Ok(Self { kind, remote, work: work.to_owned(), binary: binary.to_owned(), git: served, cluster, remotes })
    }

    /// Where the served repositories lie.
    pub fn served(&self, name: &str) -> PathBuf {
        self.remotes.path().join(format!("{name}.git"))
    }

    /// An empty store and an empty database, with the schema in it.
    pub async fn place(&self) -> anyhow::Result<Place> {
        let directory = tempfile::tempdir_in(&self.work).context("make a data directory")?;
        let allowed = self.git.url("");
        let mut environment = vec![
            ("TREEHOLD_API_KEY", API_KEY.to_owned()),
            ("TREEHOLD_ALLOW_REMOTE", allowed.trim_end_matches(".git").to_owned()),
            ("TREEHOLD_REMOTE_TOKEN", REMOTE_TOKEN.to_owned()),
        ];
        let mut stored = directory.path().join("data/store");
        let mut database = None;
        if let Some(cluster) = &self.cluster {
            let prefix = Uuid::new_v4().simple().to_string();
            stored = cluster.s3.directory().join(BUCKET).join(&prefix);
            let url = cluster.postgres.schema_url().await;
            environment.push(("TREEHOLD_DATABASE_URL", url.clone()));
            database = Some(url);
            environment.push(("TREEHOLD_STORE_URL", cluster.store_url(&prefix)));
            environment.push(("AWS_ACCESS_KEY_ID", cluster.s3.access_key().to_owned()));
            environment.push(("AWS_SECRET_ACCESS_KEY", cluster.s3.secret_key().to_owned()));
        }
        let place = Place { binary: self.binary.clone(), environment, stored, database, directory };
        if place.database.is_some() {
            // A shared database gets its schema from a server or from an operator, never by the way.
            place.run(["admin", "migrate", "--json"]).await?;
        }
        Ok(place)
    }

    /// Another instance on the database and the store of `place`: it has cached nothing yet.
    pub fn instance(&self, place: &Place) -> anyhow::Result<Place> {
        ensure!(place.database.is_some(), "an embedded store has one instance");
        let directory = tempfile::tempdir_in(&self.work).context("make a data directory")?;
        Ok(Place {
            binary: place.binary.clone(),
            environment: place.environment.clone(),
            stored: place.stored.clone(),
            database: place.database.clone(),
            directory,
        })
    }
}

/// The binary has no such command.
pub struct Unknown;

/// A store and a database, and the binary that works on them.
pub struct Place {
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// The directory of stored values, here or in the S3 server.
    stored: PathBuf,
    /// URL of the database, unless it is SQLite.
    database: Option<String>,
    directory: TempDir,
}

/// What a command did.
pub struct Ran {
    /// From its start to its end.
    pub took: Duration,
    /// What it printed, as JSON.
    pub answer: Value,
    /// The most memory that it had, MiB.
    pub peak_mib: f64,
}

impl Place {
    /// The binary with this place's settings and nothing else from the environment. It dies with its handle.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Command> {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        let mut command = Command::new(&self.binary);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TREEHOLD_DATA_DIR", self.directory.path().join("data"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.context("open a log")?).kill_on_drop(true);
        Ok(command)
    }

    /// What was logged here, its end.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_096)..]).into_owned()
    }

    /// Runs a command that prints JSON to its end, unless the binary has no such command.
    pub async fn try_run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Result<Ran, Unknown>> {
        let mut command = self.command(arguments)?;
        let started = Instant::now();
        let child = command.spawn().context("start the binary")?;
        let pid = child.id().context("the command has no pid")?;
        let end = child.wait_with_output();
        tokio::pin!(end);
        let mut peak_mib = 0.0_f64;
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let output = loop {
            tokio::select! {
                output = &mut end => break output.context("wait for the command")?,
                // Once it has ended there is nothing to read.
                _ = tick.tick() => peak_mib = memory_mib(pid, "VmHWM").map_or(peak_mib, |now| now.max(peak_mib)),
            }
            if started.elapsed() > COMMAND_TIMEOUT {
                bail!("a command of the binary took longer than {COMMAND_TIMEOUT:?}");
            }
        };
        let took = started.elapsed();
        if output.status.code() == Some(USAGE) {
            return Ok(Err(Unknown));
        }
        ensure!(output.status.success(), "a command of the binary failed: {}", self.log());
        let answer = serde_json::from_slice(&output.stdout).context("the command printed no JSON")?;
        Ok(Ok(Ran { took, answer, peak_mib }))
    }

    /// Runs a command that prints JSON to its end.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Ran> {
        let ran = self.try_run(arguments).await?;
        ran.map_err(|Unknown| anyhow::anyhow!("the binary does not know the command: {}", self.log()))
    }

    /// Bytes of all stored values, as the bucket or the directory has them.
    pub fn stored_bytes(&self) -> anyhow::Result<u64> {
        let (mut bytes, mut open) = (0, vec![self.stored.clone()]);
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    open.push(entry.path());
                } else {
                    bytes += metadata.len();
                }
            }
        }
        Ok(bytes)
    }

    /// Adds `blobs` blobs that nothing names to the store, and makes the ledger again from it. What that took.
    pub async fn add_garbage(&self, blobs: u64) -> anyhow::Result<Ran> {
        garbage::packs(&self.stored, blobs)?;
        self.run(["admin", "rebuild", "--force", "--manifest", "none", "--json"]).await
    }

    /// Bytes of the database: all tables with their indexes, or SQLite's files.
    pub async fn database_bytes(&self) -> anyhow::Result<u64> {
        if let Some(url) = &self.database {
            let mut connection = sqlx::PgConnection::connect(url).await.context("connect to Postgres")?;
            let query = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
                         WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace";
            let bytes: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
            return Ok(u64::try_from(bytes)?);
        }
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.directory.path().join("data"))? {
            let entry = entry?;
            let is_database = entry.file_name().to_string_lossy().starts_with("treehold.db");
            bytes += if is_database && entry.metadata()?.is_file() { entry.metadata()?.len() } else { 0 };
        }
        Ok(bytes)
    }
}
