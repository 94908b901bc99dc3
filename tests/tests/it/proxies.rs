//! Behind a real proxy that keeps its connections to the server: requests that the two could read differently. The proxy lets only one
//! part of the API through and adds the key; what is hidden in a body must never be taken for a request of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::deployment::{API_KEY, Deployment, Setup};

/// How long an attacker waits for an answer that may not come.
const HASTE: Duration = Duration::from_millis(100);
/// How long others do: their connections are closed after the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stock nginx before a server, as lax as it can be made.
struct Nginx {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Nginx {
    async fn start(d: &Deployment) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let upstream = d.url("").replace("http://", "");
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, configuration(dir.path(), &free.to_string(), &upstream)).expect("a file");
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(program)
            .args(["-p", dir.path().to_str().expect("utf-8"), "-e", "error.log", "-c"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is missing: install nginx-light to test what stands before a server");
        let nginx = Self { child, address: free.to_string(), _dir: dir };
        for _ in 0..200 {
            if TcpStream::connect(&nginx.address).await.is_ok() {
                return nginx;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nginx does not start");
    }

    /// Sends bytes and reads what comes back, until the end or until nothing came for so long.
    async fn send(&self, bytes: &[u8], patience: Duration) -> String {
        let mut stream = TcpStream::connect(&self.address).await.expect("a connection");
        stream.write_all(bytes).await.expect("sent");
        let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(Ok(read @ 1..)) = tokio::time::timeout(patience, stream.read(&mut chunk)).await {
            answer.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

fn configuration(dir: &Path, listen: &str, upstream: &str) -> String {
    let dir = dir.display();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
        .collect();
    format!(
        "daemon off; master_process off; pid {dir}/pid;
events {{ worker_connections 64; }}
http {{
    access_log off; {places}
    ignore_invalid_headers off; underscores_in_headers on;
    upstream treehold {{ server {upstream}; keepalive 1; }}
    server {{
        listen {listen};
        location / {{ return 403; }}
        location /files/ {{
            proxy_pass http://treehold;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header X-Internal-API-Key {API_KEY};
            proxy_request_buffering off;
        }}
    }}
}}
"
    )
}

/// Heads and bodies around what is hidden, `@`; `#` stands for its length.
const ATTACKS: &[&str] = &[
    "Content-Length: #\r\n\r\n@",
    "Content-Length: 0\r\n\r\n@",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nTransfer-Encoding: xchunked\r\n\r\n@",
    "Content-Length: #\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n@",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n@",
    "Transfer-Encoding: identity, chunked\r\nContent-Length: #\r\n\r\n0\r\n\r\n@",
    "Content-Length: #\r\nContent-Length: 0\r\n\r\n@",
    "Content-Length: 0\r\nContent-Length: #\r\n\r\n@",
    "Content-Length: +#\r\n\r\n@",
    "Content-Length: 0, #\r\n\r\n@",
    "Content-Length: 0x0\r\n\r\n@",
    "Content-Length : #\r\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n0;x\n\r\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n0\n\n@",
    "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: #\r\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\n@",
    "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n00000000000000000\r\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n1\r\nZZ0\r\n\r\n@",
    "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n@",
    "Expect: 100-continue\r\nContent-Length: #\r\n\r\n@",
    "Connection: Content-Length\r\nContent-Length: #\r\n\r\n@",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: #\r\n\r\n@",
    "Content-Length: #\r\nX-HTTP-Method-Override: DELETE\r\n\r\n@",
];

/// Goal: nobody reaches through a proxy what it does not let through, and nobody gets another one's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_hides_in_another() {
    let d = Deployment::start(Setup::Embedded).await;
    let (project, victim) = (d.local_project().await, Uuid::new_v4());
    for (path, text) in [("a.txt", "the text of a\n"), ("b.txt", "the text of b\n")] {
        d.put(&format!("/files/{project}/{path}?message=Begin"), text).await.ok(200);
    }
    let nginx = Nginx::start(&d).await;
    let closed = nginx.send(format!("GET /projects/{project} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), HASTE).await;
    assert!(closed.starts_with("HTTP/1.1 403"), "{closed}");
    let hidden = format!(
        "PUT /pending/{project}/{victim}/hidden.txt HTTP/1.1\r\nHost: x\r\nX-Internal-API-Key: {API_KEY}\r\nContent-Length: 1\r\n\r\nx"
    );
    for (method, version) in [("GET", "1.1"), ("PUT", "1.1"), ("GET", "1.0"), ("DELETE", "1.1")] {
        for attack in ATTACKS {
            let target = format!("/files/{project}/c.txt?message=c");
            let rest = attack.replace('#', &hidden.len().to_string()).replace('@', &hidden);
            let request = format!("{method} {target} HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\n{rest}");
            nginx.send(request.as_bytes(), HASTE).await;
            // Whoever comes next on the connection that the proxy keeps.
            for name in ["a", "b"] {
                let request =
                    format!("GET /files/{project}/{name}.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                let answer = nginx.send(request.as_bytes(), PATIENCE).await;
                let own = answer.ends_with(&format!("\r\n\r\nthe text of {name}\n"));
                assert!(own && answer.starts_with("HTTP/1.1 200"), "after {method} {attack:?}: {answer}");
            }
            let list = d.get(&format!("/pending/{project}/{victim}")).await.ok(200);
            assert_eq!(list["revision"], 0, "{method} {attack:?} was taken for two requests");
        }
    }
    // What was hidden is a request that does what was looked for, where it is seen.
    let mut stream = TcpStream::connect(d.url("").replace("http://", "")).await.expect("a connection");
    stream.write_all(hidden.as_bytes()).await.expect("sent");
    assert!(stream.read(&mut [0; 64]).await.expect("an answer") > 0);
    assert_eq!(d.get(&format!("/pending/{project}/{victim}")).await.ok(200)["revision"], 1);
}
