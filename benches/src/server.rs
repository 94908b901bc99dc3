//! A running `treehold serve`, and requests to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::machine::{forget_peak, memory_mib};
use crate::setup::{API_KEY, Place, REMOTE_TOKEN};

/// A server that takes longer to start or to stop fails the run.
const PATIENCE: Duration = Duration::from_secs(60);
/// So does a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(900);
/// Everything in a path of a URL but what needs no escape.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A running server. Dropped, it is killed.
pub struct Server {
    /// From the start of the process to the first 200 of `/healthz`.
    pub start: Duration,
    child: Child,
    pid: u32,
    http: Http,
}

impl Server {
    /// Starts one and waits for its first answer.
    pub async fn start(place: &Place) -> anyhow::Result<Self> {
        let client = client()?;
        let mut command = place.command(["serve", "--listen", "127.0.0.1:0"])?;
        let started = Instant::now();
        let mut child = command.spawn().context("start the server")?;
        let pid = child.id().context("the server has no pid")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        let read = tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await;
        read.context("the server said nothing")?.context("read the server's output")?;
        let Some(base) = line.trim().strip_prefix("listening on ") else {
            bail!("the server did not start: {}", place.log());
        };
        let http = Http { client, base: base.to_owned() };
        while !http.send(http.request(Method::GET, "/healthz")).await.is_ok_and(|reply| reply.status == 200) {
            ensure!(started.elapsed() < PATIENCE, "the server did not answer /healthz: {}", place.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self { start: started.elapsed(), child, pid, http })
    }

    /// Requests to it.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// A figure of its memory, MiB; see [`memory_mib`].
    pub fn memory_mib(&self, name: &str) -> anyhow::Result<f64> {
        memory_mib(self.pid, name)
    }

    /// `VmHWM` starts again from what is resident now.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        forget_peak(self.pid)
    }

    /// Stops it in order, as an operator would.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid.try_into()?).context("the server's pid is 0")?;
        kill_process(pid, Signal::TERM).context("stop the server")?;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.context("the server did not stop")?.context("wait for the server")?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// A client with the server's address and key. Connections are kept open.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    base: String,
}

fn client() -> anyhow::Result<Client> {
    Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().context("make an HTTP client")
}

impl Http {
    /// To the same server, with connections of its own.
    pub fn on_its_own(&self) -> anyhow::Result<Self> {
        Ok(Self { client: client()?, base: self.base.clone() })
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(API_KEY, method, path)
    }

    /// A request with another key.
    pub fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).header("X-Internal-API-Key", key)
    }

    /// A request with a JSON body and the remote's credentials.
    pub fn json(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        let request = self.request(method, path).header("X-Remote-Token", REMOTE_TOKEN);
        request.header("Content-Type", "application/json").body(body.to_string())
    }

    /// Where stock git finds a project, with credentials.
    pub fn git_url(&self, project: &str) -> String {
        format!("{}/git/{project}.git", self.base.replacen("://", &format!("://git:{API_KEY}@"), 1))
    }

    /// A request of git's protocol, version 2.
    pub fn git_request(&self, project: &str, service: &str, body: String) -> RequestBuilder {
        let request = self.client.post(format!("{}/git/{project}.git/{service}", self.base));
        let request = request.basic_auth("git", Some(API_KEY)).header("Git-Protocol", "version=2");
        request.header("Content-Type", format!("application/x-{service}-request")).body(body)
    }

    /// Sends it and reads everything.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Reply> {
        let started = Instant::now();
        let response = request.send().await.context("no answer")?;
        let status = response.status().as_u16();
        let body = response.bytes().await.context("the answer broke off")?.to_vec();
        Ok(Reply { status, body, took: started.elapsed() })
    }
}

/// An answer.
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    /// All of it.
    pub body: Vec<u8>,
    /// From sending the request to the last byte of the body.
    pub took: Duration,
}

impl Reply {
    /// The body as JSON, if the request succeeded.
    pub fn json(&self) -> anyhow::Result<Value> {
        self.ok()?;
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// Fails with the server's words unless the request succeeded.
    pub fn ok(&self) -> anyhow::Result<()> {
        let words = || String::from_utf8_lossy(&self.body).chars().take(1_000).collect::<String>();
        ensure!((200..300).contains(&self.status), "status {}: {}", self.status, words());
        Ok(())
    }
}

/// A path as it stands in a URL.
pub fn escaped(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}
