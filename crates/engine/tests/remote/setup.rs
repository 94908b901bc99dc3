use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use futures::TryStreamExt;
use treehold_engine::remote::{
    Endpoint, FetchSpec, Fetching, GitRemote, PushSpec, Pushed, Remote, RemoteError, RemoteTimeouts, Secret,
};
use treehold_object::ObjectId;
use treehold_tests::git::Repo;
use treehold_tests::git_http::GitHttp;

/// The token of every test.
pub const CANARY: &str = "ghs_CANARYcanary/+0123456789==";

/// Everything that was logged so far in this process, at TRACE.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn start() -> Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            log
        })
        .clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Fails if `text` has the token in any form.
#[track_caller]
pub fn assert_no_token(what: &str, text: &str) {
    let base64 = base64::engine::general_purpose::STANDARD;
    let pair = base64.encode(format!("x-access-token:{CANARY}"));
    let alone = base64.encode(CANARY);
    let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
    for form in [CANARY, &CANARY[4..20], &pair, &pair[24..], &alone, &encoded] {
        if let Some(at) = text.find(form) {
            let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            panic!("the token is in {what}: {}", &text[line..(at + form.len())]);
        }
    }
}

/// A git server with a repository, and a remote that may use it.
pub struct Setup {
    pub directory: tempfile::TempDir,
    pub server: GitHttp,
    /// What `project.git` was made of, with a work tree.
    pub origin: Repo,
    pub remote: GitRemote,
    log: Log,
}

pub fn timeouts() -> RemoteTimeouts {
    RemoteTimeouts::default()
}

/// For tests of what hangs: short, and long enough for a busy machine to answer everything else.
pub fn impatient() -> RemoteTimeouts {
    let idle = Duration::from_secs(3);
    RemoteTimeouts { idle, push_idle: idle, ..RemoteTimeouts::default() }
}

pub fn remote(allow: &[&str], spool: &Path, timeouts: RemoteTimeouts) -> GitRemote {
    // Fails when another test was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    GitRemote::new(allow.iter().map(|text| (*text).to_owned()).collect(), spool.to_owned(), timeouts).unwrap()
}

impl Setup {
    pub async fn new() -> Setup {
        Setup::with(timeouts(), &[]).await
    }

    pub async fn with(timeouts: RemoteTimeouts, configuration: &[(&str, &str)]) -> Setup {
        let log = Log::start();
        let directory = tempfile::tempdir().unwrap();
        let origin = Repo::init(directory.path().join("origin"));
        for n in 1..=4 {
            origin.commit_file(&format!("file{n}"), format!("content {n}\n").repeat(50));
        }
        origin.git().run(["tag", "-a", "-m", "A tag", "v1"]);
        origin.git().run(["branch", "side", "HEAD~1"]);
        origin.bare_clone(directory.path().join("served/project.git"));
        let server =
            GitHttp::start_with(directory.path().join("served"), "x-access-token", CANARY, configuration).await;
        let url = server.url("project");
        let remote = remote(&[url.strip_suffix("project.git").unwrap()], &directory.path().join("spool"), timeouts);
        Setup { directory, server, origin, remote, log }
    }

    pub fn served(&self) -> Repo {
        Repo::open(self.server.repositories().join("project.git"))
    }

    pub fn at(&self) -> Endpoint {
        endpoint(&self.server.url("project"))
    }

    /// Asks for the refs once, so that the server is known.
    pub async fn known(&self) {
        self.remote.refs(&self.at(), &[]).await.unwrap();
        self.server.reset_requests();
    }

    /// Method and service of each request so far.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.server.requests();
        requests.iter().map(|r| format!("{} {}", r.method, r.service.as_deref().unwrap_or("?"))).collect()
    }

    /// A commit on top of the origin's `main`, as a push.
    pub fn push_of(&self, name: &str, old: Option<&str>) -> PushSpec {
        let new = self.origin.commit_file("new", format!("new for {name}"));
        let base = old.map_or_else(|| self.origin.rev_parse("HEAD~1"), str::to_owned);
        push_spec(&self.origin, self.directory.path(), name, old, &new, &format!("{new}\n^{base}\n"))
    }

    /// What a test must end with.
    pub fn finish(self) {
        let left: Vec<_> = std::fs::read_dir(self.directory.path().join("spool")).unwrap().collect();
        assert!(left.is_empty(), "left in the spool: {left:?}");
        let log = self.log.text();
        assert!(log.contains("starting new connection"), "the HTTP client's log is not captured");
        assert_no_token("the log", &log);
    }
}

/// A spec whose pack has the objects of `revisions`, whole by itself.
pub fn push_spec(from: &Repo, directory: &Path, name: &str, old: Option<&str>, new: &str, revisions: &str) -> PushSpec {
    let pack = from.git().bytes_with(["pack-objects", "-q", "--revs", "--stdout"], revisions.as_bytes());
    let path: PathBuf = directory.join(format!("push-{new}.pack"));
    std::fs::write(&path, pack).unwrap();
    PushSpec { name: name.into(), old: old.map(oid), new: oid(new), pack: path }
}

pub fn endpoint(url: &str) -> Endpoint {
    Endpoint { url: url.into(), credentials: Some(Secret::new(CANARY.into())), operator: false }
}

pub fn oid(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).unwrap()
}

pub fn want(hex: &str) -> FetchSpec {
    FetchSpec { wants: vec![oid(hex)], pack_bytes_max: 100 << 20, ..FetchSpec::default() }
}

/// What came, all of it.
#[derive(Debug)]
pub struct Fetched {
    pub pack: tempfile::NamedTempFile,
    pub bytes: u64,
    pub shallow: Vec<ObjectId>,
    pub unshallow: Vec<ObjectId>,
}

pub async fn fetch(remote: &GitRemote, at: &Endpoint, spec: &FetchSpec) -> Result<Fetched, RemoteError> {
    fetch_telling(remote, at, spec, |_| {}).await
}

/// Fetches, and tells how many bytes there are after each part.
pub async fn fetch_telling(
    remote: &GitRemote,
    at: &Endpoint,
    spec: &FetchSpec,
    mut told: impl FnMut(u64),
) -> Result<Fetched, RemoteError> {
    let fetched = async {
        let Fetching { pack, shallow, unshallow, mut rest, .. } = remote.fetch(at, spec).await?;
        let mut bytes = 0;
        while let Some(arrived) = rest.try_next().await? {
            bytes = arrived;
            told(bytes);
        }
        Ok(Fetched { pack, bytes, shallow, unshallow })
    };
    let fetched = fetched.await;
    if let Err(error) = &fetched {
        assert_no_token("an error", &format!("{error} {error:?}"));
    }
    fetched
}

pub async fn push(remote: &GitRemote, at: &Endpoint, spec: &PushSpec) -> Pushed {
    let pushed = remote.push(at, spec).await;
    assert_no_token("an outcome", &format!("{pushed:?} {at:?} {remote:?}"));
    pushed
}

/// Bytes that do not compress.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
