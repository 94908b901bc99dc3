//! What is left after a crash: open operations, the bucket as stock git sees it, its size.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use treehold_tests::git::Repo;

use crate::deployment::{Deployment, Setup};

/// The random numbers of a test; the seed is printed, and `TREEHOLD_TEST_SEED` replays it.
pub fn random(test: &str) -> StdRng {
    let seed = std::env::var("TREEHOLD_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("{test}: TREEHOLD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How many times a test crashes the server.
pub fn rounds(setup: Setup) -> usize {
    match setup {
        Setup::Embedded => 10,
        Setup::Cluster => 4,
    }
}

/// kill -9 after up to `longest_ms`.
pub async fn kill_within(pid: u32, random: &mut StdRng, longest_ms: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..longest_ms))).await;
    kill(pid);
}

/// kill -9 of a process that this test started and has not waited for yet.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill -9");
}

/// Asks until the answer is yes.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

/// A number from the deployment's database.
pub async fn count(d: &Deployment, query: &'static str) -> i64 {
    match &d.database_url {
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.expect("Postgres");
            sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a number")
        }
        None => {
            let url = format!("sqlite://{}", d.data.path().join("treehold.db").display());
            let mut connection = SqliteConnection::connect(&url).await.expect("SQLite");
            sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a number")
        }
    }
}

/// Statements in the deployment's database, as an operator who knows what they do would run them.
pub async fn execute(d: &Deployment, statements: &[&'static str]) {
    match &d.database_url {
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.expect("Postgres");
            for statement in statements {
                connection.execute(*statement).await.expect(statement);
            }
        }
        None => {
            let url = format!("sqlite://{}", d.data.path().join("treehold.db").display());
            let mut connection = SqliteConnection::connect(&url).await.expect("SQLite");
            for statement in statements {
                connection.execute(*statement).await.expect(statement);
            }
            connection.close().await.expect("close");
        }
    }
}

/// Ids of all objects in the ledger.
pub async fn oids(d: &Deployment) -> BTreeSet<String> {
    let query = "SELECT oid FROM objects";
    let oids: Vec<Vec<u8>> = match &d.database_url {
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.expect("Postgres");
            sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("oids")
        }
        None => {
            let url = format!("sqlite://{}", d.data.path().join("treehold.db").display());
            let mut connection = SqliteConnection::connect(&url).await.expect("SQLite");
            sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("oids")
        }
    };
    oids.iter().map(|oid| oid.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

/// What the crash left open is ended by the server that runs now. Where others may use the database too, only the age of its last
/// sign of life says that an operation is dead; so the clock of those is set back first.
pub async fn reaped(d: &mut Deployment) {
    if let Some(url) = d.database_url.clone() {
        d.kill();
        let mut connection = PgConnection::connect(&url).await.expect("Postgres");
        sqlx::query("UPDATE ops SET heartbeat_at = 0").execute(&mut connection).await.expect("an update");
        d.up().await;
    }
    until("no open operation, no reserved key", async || {
        count(d, "SELECT count(*) FROM ops WHERE state = 'open'").await == 0
            && count(d, "SELECT count(*) FROM s3_keys WHERE state IN ('reserved')").await == 0
            && count(d, "SELECT count(*) FROM s3_keys WHERE state = 'doomed' AND kept = 0").await == 0
    })
    .await;
    let attempts = "SELECT count(*) FROM attempts WHERE state IN ('prepared', 'stored')";
    if d.setup == Setup::Embedded {
        until("no attempt half done", async || count(d, attempts).await == 0).await;
    }
}

/// Copies the bucket into a bare repository: stock git finds every object whole.
pub async fn bucket_fsck(d: &Deployment) -> (TempDir, Repo) {
    let dir = tempfile::tempdir().expect("a directory");
    let repo = Repo::init_bare(dir.path().join("bucket.git"));
    copy(&d.objects_dir().await, &repo.path().join("objects"));
    let checked = repo.git().output(["fsck", "--full", "--no-dangling"]);
    let words = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "git fsck of the bucket: {words}");
    (dir, repo)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            // A sweep may be at work.
            false => drop(std::fs::copy(entry.path(), to)),
        }
    }
}

/// Bytes in the bucket.
pub async fn bucket_bytes(d: &Deployment) -> u64 {
    fn size(dir: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let sizes = entries.flatten().map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |meta| meta.len()),
        });
        sizes.sum()
    }
    size(&d.objects_dir().await)
}

/// A repository of `files` files of incompressible content, as the bare remote `name`.
pub fn big_remote(d: &Deployment, name: &str, files: usize, random: &mut StdRng) -> Repo {
    let repo = Repo::init_bare(d.remotes.path().join(format!("{name}.git")));
    let mut stream = Vec::new();
    stream.extend_from_slice(b"commit refs/heads/main\ncommitter A <a@example.org> 1700000000 +0000\ndata 4\nBig\n");
    for file in 0..files {
        let content: Vec<u8> = (0..random.random_range(100..1500)).map(|_| random.random::<u8>()).collect();
        let path = format!("d{}/e{}/f{file}.bin", file % 40, file % 7);
        stream.extend_from_slice(format!("M 100644 inline {path}\ndata {}\n", content.len()).as_bytes());
        stream.extend_from_slice(&content);
        stream.push(b'\n');
    }
    repo.git().run_with(["fast-import", "--quiet"], &stream);
    repo
}

/// The history of a branch: every commit has one parent at most; messages, newest first.
pub fn linear_history(repo: &Repo, branch: &str) -> Vec<String> {
    let lines = repo.git().run(["log", "--format=%P%x09%s", branch]);
    let message = |line: &str| {
        let (parents, message) = line.split_once('\t').expect("a tab");
        assert!(!parents.contains(' '), "a merge in {lines}");
        message.to_owned()
    };
    lines.lines().map(message).collect()
}

/// The same as the server tells it, all pages.
pub async fn log_of(d: &Deployment, project: uuid::Uuid) -> Vec<String> {
    let mut messages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = d.get(&format!("/projects/{project}/log?limit=1000{cursor}")).await.ok(200);
        for commit in page["commits"].as_array().expect("commits") {
            messages.push(commit["message"].as_str().expect("a message").trim_end().to_owned());
        }
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return messages,
        }
    }
}
