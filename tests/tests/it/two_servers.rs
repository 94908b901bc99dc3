//! Two servers on one Postgres and one bucket: work through both at once on one branch.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::deployment::{API_KEY, Deployment, REMOTE_TOKEN, Setup, binary};
use crate::remote_tools::*;

/// The second server, with a data directory of its own.
pub struct Second {
    child: Child,
    base: String,
    client: reqwest::Client,
    _data: TempDir,
}

impl Second {
    pub async fn start(d: &Deployment) -> Self {
        Self::start_version(d, binary()).await
    }

    /// Of a version of the binary that may be another one than the first server's.
    pub async fn start_version(d: &Deployment, binary: &Path) -> Self {
        let data = tempfile::tempdir().expect("a data directory");
        let mut command = d.command_of(binary, &["serve", "--listen", "127.0.0.1:0"]).await;
        let mut child = command
            .env("TREEHOLD_DATA_DIR", data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the second server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let base = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { child, base, client, _data: data }
    }
}

impl Second {
    pub fn base(&self) -> &str {
        &self.base
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

/// Sends to one of the two, again while it is busy or does not know yet, as clients do.
async fn send(d: &Deployment, second: &Second, n: usize, method: &str, path: &str, body: String, key: &str) -> Value {
    let base = if n.is_multiple_of(2) { d.url("") } else { second.base.clone() };
    for _ in 0..20 {
        let request = second.client.request(method.parse().expect("a method"), format!("{base}{path}"));
        let request = request.header("X-Internal-API-Key", API_KEY).header("X-Remote-Token", REMOTE_TOKEN);
        let request = request.header("Content-Type", "application/json").header("Idempotency-Key", key);
        let response = request.body(body.clone()).send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        if [200, 201].contains(&status) {
            return serde_json::from_str(&text).expect("JSON");
        }
        // One server may take over what the other is pushing: then the answer is to ask again, which is safe.
        let again = status == 503 || (status == 504 && text.contains("\"push_unknown\""));
        assert!(again, "{method} {path}: {status} {text}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("busy for ever");
}

/// Goal: local commits and autosaves through two servers lose nothing and make one line of history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_commits() {
    let d = Deployment::start(Setup::Cluster).await;
    let second = Second::start(&d).await;
    let project = d.local_project().await;
    let user = Uuid::new_v4();
    let work = (0..8).map(|n| {
        let (d, second) = (&d, &second);
        async move {
            let path = format!("/files/{project}/by/{n}.txt");
            send(d, second, n, "PUT", &path, format!("{n}\n"), &format!("file-{n}")).await;
            let path = format!("/pending/{project}/{user}/saved/{n}.txt");
            send(d, second, n + 1, "PUT", &path, format!("{n}\n"), "-").await;
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(pending(&d, project, user).await.len(), 8);
    let body = with(commit_body(user, "All"), json!({"push": false})).to_string();
    send(&d, &second, 1, "POST", &format!("/projects/{project}/commit"), body, "all").await;
    assert_eq!(pending(&d, project, user).await, Vec::<String>::new());
    let (_dir, export) = d.export(project).await;
    assert_eq!(export.git().run(["rev-list", "--count", "main"]), "9");
    assert_eq!(export.git().run(["rev-list", "--merges", "main"]), "");
    assert_eq!(export.ls_tree("main").len(), 16);
}

/// Goal: pushed commits of many users through two servers land once each, in one line, here and at the remote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_commits() {
    let d = Deployment::start(Setup::Cluster).await;
    let second = Second::start(&d).await;
    let remote = small_remote(&d, "docs");
    let project = d.connect("docs").await;
    let users: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    let work = users.iter().enumerate().map(|(n, user)| {
        let (d, second) = (&d, &second);
        async move {
            for round in 0..2 {
                let path = format!("/pending/{project}/{user}/by/{n}.txt");
                send(d, second, n + round, "PUT", &path, format!("{n} {round}\n"), "-").await;
                let body = commit_body(*user, &format!("{n} {round}")).to_string();
                let path = format!("/projects/{project}/commit");
                let key = format!("{n}-{round}");
                let first = send(d, second, n + round, "POST", &path, body.clone(), &key).await;
                assert_eq!(first["pushed"], json!(true));
                assert_eq!(send(d, second, n + round + 1, "POST", &path, body, &key).await, first);
            }
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(remote.count(), 3 + 8);
    assert_eq!(remote.bare.git().run(["rev-list", "--merges", "main"]), "");
    for (n, user) in users.iter().enumerate() {
        assert_eq!(remote.file(&format!("by/{n}.txt")), format!("{n} 1\n"));
        assert_eq!(pending(&d, project, *user).await, Vec::<String>::new());
    }
    remote.bare.fsck_strict();
    assert_eq!(head(&d, project).await, remote.head());
    let (_dir, export) = d.export(project).await;
    assert_eq!(export.rev_parse("main"), remote.head());
}
