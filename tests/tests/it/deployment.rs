//! Treehold as users run it: the real binary, in both set-ups, with a real git remote beside it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use treehold_tests::git::{Git, Repo};
use treehold_tests::git_http::GitHttp;
use treehold_tests::postgres::Postgres;
use treehold_tests::s3::S3Server;
use uuid::Uuid;

use crate::contract;

pub const API_KEY: &str = "test-key-0123456789abcdef0123456789abcdef";
pub const REMOTE_USER: &str = "x-access-token";
pub const REMOTE_TOKEN: &str = "remote-token-canary-4f1d";

/// What takes longer than this hangs: the test fails, with the server's last words, instead of holding all others for ever.
const HANGS_AFTER: Duration = Duration::from_secs(300);

/// What the store and the database are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// SQLite and a directory.
    Embedded,
    /// Postgres and S3.
    Cluster,
}

/// The binary under test. `cargo test --workspace` builds it beside the tests; other commands may leave an old one there, which is
/// refused. `TREEHOLD_BINARY` names another one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("TREEHOLD_BINARY") {
            return binary.into();
        }
        let me = std::env::current_exe().expect("a test binary");
        let binary = me.ancestors().nth(2).expect("target/debug").join("treehold");
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("crates");
        let built = std::fs::metadata(&binary).and_then(|meta| meta.modified()).ok();
        let fresh = built.is_some_and(|built| newest(&crates) <= built);
        assert!(fresh, "{} is missing or old: run the tests with `cargo test --workspace`", binary.display());
        binary
    })
}

/// When the newest source below `dir` was written.
fn newest(dir: &Path) -> SystemTime {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let times = entries.filter_map(|path| match path.is_dir() {
        true if path.file_name().is_some_and(|name| name == "tests") => None,
        true => Some(newest(&path)),
        false if path.extension().is_some_and(|extension| extension == "rs") => path.metadata().ok()?.modified().ok(),
        false => None,
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A running server with everything that it stands on.
pub struct Deployment {
    pub setup: Setup,
    pub data: TempDir,
    pub remotes: TempDir,
    pub git: GitHttp,
    pub prefix: String,
    pub database_url: Option<String>,
    binary: PathBuf,
    settings: Vec<(String, String)>,
    own: Option<Own>,
    server: Option<Child>,
    base: String,
    client: reqwest::Client,
}

/// A Postgres and an S3 server of one deployment's own, for tests that take them down.
pub struct Own {
    pub postgres: Postgres,
    pub s3: S3Server,
}

impl Deployment {
    pub async fn start(setup: Setup) -> Self {
        Self::start_on(setup, None, binary()).await
    }

    /// Of another version of the binary.
    pub async fn start_version(setup: Setup, binary: PathBuf) -> Self {
        Self::start_on(setup, None, &binary).await
    }

    /// On a Postgres and an S3 server that no other test uses.
    pub async fn start_alone() -> Self {
        let own = Own { postgres: Postgres::start().await, s3: S3Server::start().await };
        Self::start_on(Setup::Cluster, Some(own), binary()).await
    }

    async fn start_on(setup: Setup, own: Option<Own>, binary: &Path) -> Self {
        _ = rustls::crypto::ring::default_provider().install_default();
        let remotes = tempfile::tempdir().expect("a directory for remotes");
        let git = GitHttp::start(remotes.path(), REMOTE_USER, REMOTE_TOKEN).await;
        let prefix = Uuid::new_v4().simple().to_string();
        let database_url = match (setup, &own) {
            (Setup::Embedded, _) => None,
            (Setup::Cluster, Some(own)) => Some(own.postgres.schema_url().await),
            (Setup::Cluster, None) => Some(Postgres::shared().await.schema_url().await),
        };
        let data = tempfile::tempdir().expect("a data directory");
        let client = reqwest::Client::builder().no_proxy().timeout(HANGS_AFTER).build().expect("a client");
        let (binary, settings, base) = (binary.to_owned(), Vec::new(), String::new());
        let mut deployment =
            Self { setup, data, remotes, git, prefix, database_url, binary, settings, own, server: None, base, client };
        if setup == Setup::Cluster {
            deployment.s3().await.create_bucket("treehold");
        }
        deployment.up().await;
        deployment
    }

    /// What this deployment alone stands on.
    pub fn own(&self) -> &Own {
        self.own.as_ref().expect("a deployment that was started alone")
    }

    async fn s3(&self) -> &S3Server {
        match &self.own {
            Some(own) => &own.s3,
            None => S3Server::shared().await,
        }
    }

    /// The bucket's `objects` directory.
    pub async fn objects_dir(&self) -> PathBuf {
        match self.setup {
            Setup::Embedded => self.data.path().join("store/objects"),
            Setup::Cluster => self.s3().await.directory().join("treehold").join(&self.prefix).join("objects"),
        }
    }

    /// Another setting, from the next command or start on.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.settings.retain(|(known, _)| known != variable);
        self.settings.push((variable.to_owned(), value.to_owned()));
    }

    /// A command of the binary with the deployment's settings.
    pub async fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&self.binary, arguments).await
    }

    /// The same of another version of the binary.
    pub async fn command_of(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TREEHOLD_DATA_DIR", self.data.path()).env("TREEHOLD_API_KEY", API_KEY);
        command.env("TREEHOLD_ALLOW_REMOTE", self.git.url("").trim_end_matches(".git"));
        command.envs(self.settings.iter().map(|(variable, value)| (variable, value)));
        if self.setup == Setup::Cluster {
            let s3 = self.s3().await;
            command.env("TREEHOLD_STORE_URL", s3.store_url("treehold", &self.prefix));
            command.env("TREEHOLD_DATABASE_URL", self.database_url.as_deref().expect("a database"));
            command.env("AWS_ACCESS_KEY_ID", s3.access_key()).env("AWS_SECRET_ACCESS_KEY", s3.secret_key());
        }
        command
    }

    /// Starts the server and waits for its line.
    pub async fn up(&mut self) {
        assert!(self.up_unless_it_dies().await, "no address: {}", self.log());
    }

    /// The same; `false` = it ended before it could be reached.
    pub async fn up_unless_it_dies(&mut self) -> bool {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]).await;
        let log = std::fs::File::options().create(true).append(true).open(self.data.path().join("server.log"));
        if !self.settings.iter().any(|(variable, _)| variable == "TREEHOLD_LOG") {
            command.env("TREEHOLD_LOG", "trace");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(log.expect("a log")).spawn().expect("the server starts");
        let (said, line) = mpsc::channel();
        let stdout = child.stdout.take().expect("stdout");
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            said.send(read.map(|_| line))
        });
        let Ok(line) = line.recv_timeout(HANGS_AFTER) else {
            child.kill().expect("kill");
            panic!("the server does not start: {}", self.last_words());
        };
        let line = line.expect("a line");
        let Some(base) = line.trim().strip_prefix("listening on ") else {
            child.wait().expect("its end");
            return false;
        };
        self.base = base.to_owned();
        self.server = Some(child);
        true
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("kill");
            server.wait().expect("wait");
        }
    }

    /// Asks the server to end, and waits until it has.
    pub async fn stop(&mut self) {
        let mut server = self.server.take().expect("a running server");
        let pid = i32::try_from(server.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        let ended = tokio::task::spawn_blocking(move || server.wait()).await.expect("a thread");
        assert!(ended.expect("its end").success());
    }

    pub fn server_pid(&self) -> u32 {
        self.server.as_ref().expect("a running server").id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("server.log")).unwrap_or_default()
    }

    /// The end of the log.
    fn last_words(&self) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(40);
        log.lines().skip(skip).fold(String::from("\n"), |words, line| words + line + "\n")
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A bare remote with a sample repository, and its working clone's handle.
    pub fn remote(&self, name: &str, seed: u64) -> Repo {
        let bare = self.remotes.path().join(format!("{name}.git"));
        Repo::sample(self.remotes.path().join(format!("{name}-work")), seed).bare_clone(bare)
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.client.request(method, self.url(path)).header("X-Internal-API-Key", API_KEY)
    }

    /// Sends and reads everything. Whatever comes back must be as `/openapi.json` says.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = client.execute(request).await.unwrap_or_else(|error| panic!("{error:?}: {}", self.last_words()));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("a body").to_vec();
        let reply = Reply { status, headers, body };
        contract::check(&method, &path, &reply);
        reply
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request("DELETE", path)).await
    }

    pub async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.request("PUT", path).body(body)).await
    }

    pub async fn put_json(&self, path: &str, body: Value) -> Reply {
        self.send(json_body(self.request("PUT", path), &body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(json_body(self.request("POST", path), &body).header("X-Remote-Token", REMOTE_TOKEN)).await
    }

    /// A project on a remote, synced.
    pub async fn connect(&self, remote: &str) -> Uuid {
        let project = Uuid::new_v4();
        let body = json!({"remote": {"url": self.git.url(remote)}});
        self.put_json(&format!("/projects/{project}"), body).await.ok(201);
        self.post(&format!("/projects/{project}/sync"), json!({})).await.ok(200);
        project
    }

    /// A project without remote.
    pub async fn local_project(&self) -> Uuid {
        let project = Uuid::new_v4();
        self.put_json(&format!("/projects/{project}"), json!({})).await.ok(201);
        project
    }

    /// Exports a project and checks it with stock git.
    pub async fn export(&self, project: Uuid) -> (TempDir, Repo) {
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("export.git");
        let out = self.cli(&["export", &project.to_string(), to.to_str().expect("utf-8")]).await;
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let repo = Repo::open(&to);
        repo.fsck_strict();
        (dir, repo)
    }

    /// Runs a command of the binary to its end.
    pub async fn cli(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::from(self.command(arguments).await);
        let running = tokio::time::timeout(HANGS_AFTER, command.kill_on_drop(true).output());
        let ended = running.await.unwrap_or_else(|_| panic!("{arguments:?} hangs: {}", self.last_words()));
        ended.expect("the binary runs")
    }

    /// Stock git in a fresh clone of the remote.
    pub fn clone_remote(&self, name: &str) -> (TempDir, Repo) {
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("clone");
        let from = self.remotes.path().join(format!("{name}.git"));
        Git::at(dir.path()).run(["clone", "--quiet", from.to_str().expect("utf-8"), to.to_str().expect("utf-8")]);
        (dir, Repo::open(to))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.kill();
        let secret = [REMOTE_TOKEN, API_KEY];
        let log = self.log();
        if !std::thread::panicking() {
            for secret in secret {
                assert!(!log.contains(secret), "a secret is in the server's log");
            }
        }
    }
}

/// A request with a JSON body.
pub fn json_body(request: reqwest::RequestBuilder, body: &Value) -> reqwest::RequestBuilder {
    request.header("Content-Type", "application/json").body(body.to_string())
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status must be this one; the JSON body, `null` if it is none.
    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A problem with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.ok(status);
        assert_eq!(body["code"], code, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        body
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

/// The oid that stock git gives a blob.
pub fn blob_oid(content: &[u8]) -> String {
    treehold_object::hash(treehold_object::Kind::Blob, content).expect("no collision").to_string()
}

/// Runs a test in both set-ups.
#[macro_export]
macro_rules! both {
    ($($(#[$doc:meta])* async fn $name:ident($deployment:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            use $crate::deployment::{Deployment, Setup};

            $(#[$doc])*
            async fn run($deployment: Deployment) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                run(Deployment::start(Setup::Embedded).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cluster() {
                run(Deployment::start(Setup::Cluster).await).await;
            }
        }
    )*};
}
