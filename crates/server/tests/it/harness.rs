//! A server on a free port, and a plain client that sends bytes as they are.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use treehold_engine::remote::{GitRemote, RemoteTimeouts};
use treehold_engine::{Ambient, Engine, EngineConfig, Limits, Secret};
use treehold_server::{App, ServerConfig};
use treehold_store::{MemoryBucket, ObjectStore, StoreOptions};
use uuid::Uuid;

pub const KEY: &str = "key-for-tests-0123456789";
pub const USER: &str = "11aa0000-0000-4000-8000-000000000001";

#[derive(Debug)]
struct Host;

impl Ambient for Host {
    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn random(&self) -> [u8; 32] {
        rand::random()
    }
}

/// Everything that was logged so far in this process, at TRACE.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// The log of this process, begun with the first call.
pub fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let begin = || {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    };
    LOG.get_or_init(begin).clone()
}

/// A running server; it stops when dropped.
pub struct Server {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<std::io::Result<()>>>,
    database: String,
    directory: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks that it is a problem as the contract describes, and gives status and code.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{self:?}");
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {self:?}");
        }
        (self.status, body["code"].as_str().unwrap().to_owned())
    }
}

pub fn limits() -> Limits {
    Limits { file_bytes: 200_000, batch_paths: 5, commit_changes: 5, ..Limits::default() }
}

impl Server {
    pub async fn start() -> Server {
        Self::with(ServerConfig::default()).await
    }

    pub async fn with(config: ServerConfig) -> Server {
        Self::with_keys(&["another-key", KEY], config).await
    }

    pub async fn with_keys(keys: &[&str], config: ServerConfig) -> Server {
        Self::build(keys, &[], config).await
    }

    /// A server that may use remotes whose URLs start with `prefix`.
    pub async fn with_remote(prefix: &str, config: ServerConfig) -> Server {
        Self::build(&[KEY], &[prefix], config).await
    }

    async fn build(keys: &[&str], allow: &[&str], config: ServerConfig) -> Server {
        let _ = log();
        let directory = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", directory.path().join("db").display());
        let catalog = treehold_catalog::open_catalog(&database).await.unwrap();
        catalog.migrate().await.unwrap();
        let spool_dir = directory.path().join("spool");
        std::fs::create_dir_all(&spool_dir).unwrap();
        // Fails when another test was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allow = allow.iter().map(|prefix| (*prefix).to_owned()).collect();
        let remote = GitRemote::new(allow, spool_dir.clone(), RemoteTimeouts::default()).unwrap();
        let store = ObjectStore::new(Arc::new(MemoryBucket::new()), StoreOptions::new(spool_dir.clone()));
        let engine = EngineConfig {
            limits: limits(),
            spool_dir,
            remote_token: None,
            author: ("Treehold".into(), "treehold@localhost".into()),
            merge_attempts: 3,
            sole: true,
            op_timeout: Duration::from_secs(60),
            feed: treehold_engine::FeedRetention::default(),
            key_grace: Duration::from_secs(3600),
            tree_cache_bytes: EngineConfig::TREE_CACHE_BYTES,
        };
        let engine = Engine::new(catalog, store, Arc::new(remote), Arc::new(Host), engine);
        let keys = keys.iter().map(|key| Secret::new((*key).to_owned())).collect();
        let app = App::new(engine, ServerConfig { api_keys: keys, limits: limits(), ..config });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(treehold_server::serve(listener, app, stopped, Duration::from_secs(20)));
        Server { address, stop: Some(stop), task: Some(task), database, directory }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    /// Files below the spool directory.
    pub fn spooled(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("spool")).unwrap().count()
    }

    /// Operations that are open, by the database.
    pub async fn open_operations(&self) -> u64 {
        let catalog = treehold_catalog::open_catalog(&self.database).await.unwrap();
        catalog.vitals().await.unwrap().ops.map_or(0, |(open, _)| open)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request with the key.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let mut all = vec![("X-Internal-API-Key", KEY)];
        all.extend_from_slice(headers);
        self.send_plain(method, target, &all, body).await
    }

    /// Sends a request as it is said, on a connection of its own.
    pub async fn send_plain(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Reply {
        let body = body.as_ref();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || ["PUT", "POST"].contains(&method) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut stream = self.connect().await;
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).await.unwrap();
        parse(&raw)
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], "").await
    }

    pub async fn json(&self, method: &str, target: &str, body: &Value) -> Reply {
        self.send(method, target, &[("Content-Type", "application/json")], body.to_string()).await
    }

    /// A project to work in.
    pub async fn project(&self) -> String {
        let id = Uuid::new_v4().to_string();
        let reply = self.send("PUT", &format!("/projects/{id}"), &[], "").await;
        assert_eq!(reply.status, 201, "{reply:?}");
        id
    }
}

/// Takes a response apart; chunks are joined.
pub fn parse(raw: &[u8]) -> Reply {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no response in {:?}", String::from_utf8_lossy(raw)));
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let mut reply = Reply { status, headers, body: raw[end + 4..].to_vec() };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = unchunk(&reply.body);
    }
    reply
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|window| window == b"\r\n").expect("a chunk size");
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 4 + size..];
    }
}
