//! What a server stands on: a database, a store, a git remote.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use treehold_tests::git::Repo;
use treehold_tests::git_http::GitHttp;
use treehold_tests::postgres::Postgres;
use treehold_tests::s3::S3Server;
use uuid::Uuid;

use crate::machine::memory_mib;

/// Opens every measured server. Nothing but this machine can reach one.
pub const API_KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";
/// Opens the git remote.
pub const REMOTE_TOKEN: &str = "bench-remote-token";
const REMOTE_USER: &str = "x-access-token";
const BUCKET: &str = "treehold";
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
    /// The repository that the git server serves as `remote`.
    pub remote: Repo,
    /// Where scratch directories go.
    pub work: PathBuf,
    binary: PathBuf,
    git: GitHttp,
    cluster: Option<(Postgres, S3Server)>,
    /// Removed last.
    _remotes: TempDir,
}

impl Setup {
    /// Starts the servers; the git server has a clone of `repository`.
    pub async fn start(kind: Kind, binary: &Path, work: &Path, repository: &Repo) -> anyhow::Result<Self> {
        let remotes = tempfile::tempdir_in(work).context("make a directory for remotes")?;
        let remote = repository.bare_clone(remotes.path().join("remote.git"));
        let git = GitHttp::start(remotes.path(), REMOTE_USER, REMOTE_TOKEN).await;
        let cluster = match kind {
            Kind::Embedded => None,
            Kind::PostgresS3 => {
                let s3 = S3Server::start().await;
                s3.create_bucket(BUCKET);
                Some((Postgres::start().await, s3))
            }
        };
        Ok(Self { kind, remote, work: work.to_owned(), binary: binary.to_owned(), git, cluster, _remotes: remotes })
    }

    /// URL of the served repository.
    pub fn remote_url(&self) -> String {
        self.git.url("remote")
    }

    /// An empty store and an empty database.
    pub async fn place(&self) -> anyhow::Result<Place> {
        let directory = tempfile::tempdir_in(&self.work).context("make a data directory")?;
        let allowed = self.git.url("");
        let mut environment = vec![
            ("TREEHOLD_DATA_DIR", directory.path().join("data").to_string_lossy().into_owned()),
            ("TREEHOLD_API_KEY", API_KEY.to_owned()),
            ("TREEHOLD_ALLOW_REMOTE", allowed.trim_end_matches(".git").to_owned()),
        ];
        if let Some((postgres, s3)) = &self.cluster {
            environment.push(("TREEHOLD_DATABASE_URL", postgres.schema_url().await));
            environment.push(("TREEHOLD_STORE_URL", s3.store_url(BUCKET, &Uuid::new_v4().simple().to_string())));
            environment.push(("AWS_ACCESS_KEY_ID", s3.access_key().to_owned()));
            environment.push(("AWS_SECRET_ACCESS_KEY", s3.secret_key().to_owned()));
        }
        Ok(Place { binary: self.binary.clone(), environment, directory })
    }
}

/// A store and a database, and the binary that works on them.
pub struct Place {
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
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
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.context("open a log")?).kill_on_drop(true);
        Ok(command)
    }

    /// What was logged here, its end.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_096)..]).into_owned()
    }

    /// Runs a command that prints JSON to its end.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Ran> {
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
        ensure!(output.status.success(), "a command of the binary failed: {}", self.log());
        let answer = serde_json::from_slice(&output.stdout).context("the command printed no JSON")?;
        Ok(Ran { took, answer, peak_mib })
    }
}
