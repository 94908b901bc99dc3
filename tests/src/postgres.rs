//! A private, throw-away Postgres cluster.

use crate::scratch::Scratch;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take until it answers, on a machine that is busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const PID_FILE: &str = "data/postmaster.pid";

/// A running cluster: Unix socket only, `fsync` on, superuser `postgres` without a password.
///
/// It stops, and its directory goes, when the value is dropped or the test process ends.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    /// User and group to run as; `None` unless we are root, as whom Postgres refuses to run.
    identity: Option<(u32, u32)>,
    options: Vec<String>,
    postmaster: Mutex<Option<Child>>,
    scratch: Scratch,
}

impl Postgres {
    /// The cluster that all tests of this process share; give each test a schema or a database of its own.
    ///
    /// # Panics
    /// If there are no Postgres binaries or the server does not start.
    pub async fn shared() -> &'static Postgres {
        static SHARED: tokio::sync::OnceCell<Postgres> = tokio::sync::OnceCell::const_new();
        SHARED.get_or_init(Postgres::start).await
    }

    /// A cluster of the caller's own, for tests that kill it.
    pub async fn start() -> Postgres {
        Postgres::start_with(&[]).await
    }

    /// The same with settings (`name=value`), e.g. `max_connections=20`.
    pub async fn start_with(options: &[&str]) -> Postgres {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        blocking(move || {
            let postgres = Postgres::initialize(options);
            postgres.launch();
            postgres
        })
        .await
    }

    fn initialize(options: Vec<String>) -> Postgres {
        let binaries = binaries();
        let identity = unprivileged_identity();
        let scratch = Scratch::with_server("treehold-pg-", Some(PID_FILE)).expect("a temporary directory");
        if let Some((user, group)) = identity {
            chown(scratch.path(), Some(user), Some(group)).expect("give the directory to the user postgres");
        }
        let postgres = Postgres { binaries, identity, options, postmaster: Mutex::new(None), scratch };
        let initdb = postgres
            .command("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D", "data"])
            .output()
            .expect("run initdb");
        assert!(initdb.status.success(), "initdb failed: {}", String::from_utf8_lossy(&initdb.stderr));
        postgres
    }

    fn command(&self, binary: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.binaries.join(binary));
        command.current_dir(self.scratch.path()).stdin(Stdio::null());
        // The caller's PGHOST, PGOPTIONS and so on must not reach a cluster that is meant to be private.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Some((user, group)) = self.identity {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the postmaster and waits until it takes connections. After a kill -9 its orphans hold the shared
    /// memory for some milliseconds more, and it refuses to start; so this tries again until the deadline.
    fn launch(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.launched(deadline) {
            assert!(Instant::now() < deadline, "Postgres did not start; its log ends:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts the postmaster once; `false` if it ended, or was not ready by the deadline.
    fn launched(&self, deadline: Instant) -> bool {
        let mut postmaster = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        let child = postmaster.insert(self.spawn_postmaster());
        while Instant::now() < deadline && child.try_wait().expect("wait for postgres").is_none() {
            if self.is_ready(child.id()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn spawn_postmaster(&self) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.scratch.path().join("log"));
        let mut command = self.command("postgres");
        command.args([
            "-D",
            "data",
            "-c",
            "listen_addresses=",
            "-c",
            "shared_buffers=64MB",
            "-c",
            "max_connections=300",
        ]);
        command.arg("-k").arg(self.scratch.path());
        for option in &self.options {
            command.args(["-c", option]);
        }
        command
            .stdout(Stdio::null())
            .stderr(log.expect("open the server's log"))
            // Not for the terminal's interrupt, which would be a smart shutdown that waits for our own connections.
            .process_group(0)
            .spawn()
            .expect("run postgres")
    }

    /// The pid file's first line is the postmaster's pid; its eighth says `ready` once connections are taken.
    fn is_ready(&self, pid: u32) -> bool {
        let pid_file = fs::read_to_string(self.scratch.path().join(PID_FILE)).unwrap_or_default();
        let lines: Vec<&str> = pid_file.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Kills the server as a crash does. Committed transactions are in the WAL and nowhere else.
    pub fn kill9(&self) {
        if let Some(mut postmaster) = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = postmaster.kill();
            let _ = postmaster.wait();
        }
    }

    /// Starts the server again over the same data, at the same address (killing it first if it runs).
    pub async fn restart(&self) {
        self.kill9();
        // Blocks this thread for some 100 ms; a crash test has nothing else to do meanwhile.
        self.launch();
    }

    /// URL of the cluster's own database, for administration.
    pub fn url(&self) -> String {
        self.url_of("postgres", "")
    }

    /// URL of a fresh schema in the shared database: connections made with it find and create everything there.
    /// A few milliseconds.
    pub async fn schema_url(&self) -> String {
        let schema = unique_name();
        self.execute("postgres", &format!("CREATE SCHEMA {schema}")).await;
        self.url_of("postgres", &format!("&options=-c%20search_path%3D{schema}"))
    }

    /// URL of a fresh database, for tests that need more than a schema (advisory locks, `pg_dump`). Some 100 ms.
    pub async fn database_url(&self) -> String {
        let database = unique_name();
        self.execute("postgres", &format!("CREATE DATABASE {database}")).await;
        self.url_of(&database, "")
    }

    fn url_of(&self, database: &str, parameters: &str) -> String {
        let socket = self.scratch.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres@localhost/{database}?host={socket}&sslmode=disable{parameters}")
    }

    async fn execute(&self, database: &str, sql: &str) {
        let psql = self
            .command("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql, "-h"])
            .arg(self.scratch.path())
            .output()
            .expect("run psql");
        assert!(psql.status.success(), "psql failed: {}", String::from_utf8_lossy(&psql.stderr));
    }
}

impl Drop for Postgres {
    /// An immediate shutdown, which also removes the shared memory segment; a kill would leave it to the host.
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let pid = i32::try_from(postmaster.id()).ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::QUIT));
            let _ = postmaster.wait();
        }
        // Left behind by a crash test it would name a process that is no longer ours.
        let _ = fs::remove_file(self.scratch.path().join(PID_FILE));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

fn unique_name() -> String {
    format!("t_{}", uuid::Uuid::new_v4().simple())
}

/// `PGBIN`, or the newest of Debian's `/usr/lib/postgresql/*/bin`, or wherever `initdb` is on `PATH`.
fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os("PGBIN") {
        return directory.into();
    }
    let has_initdb = |directory: &PathBuf| directory.join("initdb").exists();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).filter(has_initdb).collect();
    installed.sort_by_key(|bin| bin.parent().and_then(Path::file_name).and_then(OsStr::to_str)?.parse::<u32>().ok());
    let path = std::env::var_os("PATH").unwrap_or_default();
    installed.pop().or_else(|| std::env::split_paths(&path).find(has_initdb)).expect(
        "Postgres is missing: install it (Debian: `apt-get install postgresql`) or set PGBIN to the directory of initdb",
    )
}

fn unprivileged_identity() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == "postgres");
    let fields = fields.expect("Postgres refuses to run as root and there is no user named postgres to run it as");
    let id = |text: &str| text.parse().expect("numeric ids in /etc/passwd");
    Some((id(fields[2]), id(fields[3])))
}
