//! Several servers on one Postgres and one S3 bucket; remotes over HTTP.

use std::process::Command;

use serde_json::{Value, json};
use treehold_tests::git_http::{Fault, GitHttp, On};
use treehold_tests::postgres::Postgres;
use treehold_tests::s3::S3Server;

use crate::program::{Bench, Ran, Server, git};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The program on one host: its own data directory, the shared database and bucket.
struct Host {
    bench: Bench,
    database: String,
    s3: &'static S3Server,
    store: String,
}

impl Host {
    /// Two hosts on an empty database and an empty bucket.
    fn two(bucket: &str) -> (Host, Host) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (database, s3) =
            runtime.block_on(async { (Postgres::shared().await.schema_url().await, S3Server::shared().await) });
        s3.create_bucket(bucket);
        let host =
            || Host { bench: Bench::new(), database: database.clone(), s3, store: s3.store_url(bucket, "store") };
        (host(), host())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bench.command(args);
        command
            .env("TREEHOLD_DATABASE_URL", &self.database)
            .env("TREEHOLD_STORE_URL", &self.store)
            .env("TREEHOLD_API_KEY", KEY)
            .env("AWS_ACCESS_KEY_ID", self.s3.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.s3.secret_key());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(args);
        assert_eq!(ran.status, 0, "{args:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    fn serve(&self) -> Server {
        Server::start(self.command(&["serve", "--listen", "127.0.0.1:0"]))
    }
}

#[test]
fn a_shared_database_is_migrated_when_that_is_asked_for() {
    let (host, _) = Host::two("migrated");
    let ran = host.run(&["project", "list"]);
    assert!(ran.status == 1 && ran.stderr.contains("treehold admin migrate"), "{}", ran.stderr);
    assert!(!host.json(&["admin", "migrate", "--json"])["applied"].as_array().unwrap().is_empty());
    assert_eq!(host.json(&["admin", "migrate", "--json"])["applied"], json!([]));
    assert_eq!(host.json(&["project", "list", "--json"])["projects"], json!([]));
}

#[test]
fn two_hosts_see_the_same() {
    let (one, two) = Host::two("hosts");
    let first = one.serve();
    // No data directory is locked, and no socket needed: the state is elsewhere.
    let second = two.serve();
    assert!(!one.bench.data().join("control.sock").exists());
    one.bench.repository("docs.git");
    let report = one.json(&["import", "docs.git", "--full", "--json"]);
    let head = report["head"].as_str().unwrap();
    for server in [&first, &second] {
        let (status, body) = server.request("GET", "/files/docs/docs/guide.md", Some(KEY), "");
        assert_eq!((status, body.as_str()), (200, "A guide.\n"));
    }
    let export = two.json(&["export", "docs", "out.git", "--json"]);
    assert_eq!(export["shallow"], false);
    let out = two.bench.path("out.git");
    git(&out, &["fsck", "--strict", "--full"]);
    assert_eq!(git(&out, &["rev-parse", "main"]).trim(), head);
    let listed = two.json(&["project", "list", "--json"]);
    assert_eq!(listed["projects"][0]["head"].as_str(), Some(head));
}

#[test]
fn an_import_over_http_uses_the_configured_token_and_shows_it_to_nobody() {
    let bench = Bench::new();
    let source = bench.repository("remotes/docs.git");
    let remotes = source.parent().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let remote = runtime.block_on(GitHttp::start(remotes, "x-access-token", "t0ken-of-the-remote"));
    let url = remote.url("docs");
    let message = bench.fail(1, &["import", &url]);
    assert!(message.contains("credentials"), "{message}");
    let mut command = bench.command(&["--verbose", "import", &url, "--json"]);
    command.env("TREEHOLD_REMOTE_TOKEN", "t0ken-of-the-remote").env("TREEHOLD_LOG", "trace");
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["project"]["name"], "docs");
    assert_eq!(report["project"]["remote"]["url"].as_str(), Some(url.as_str()));
    let shown = format!("{}{}", ran.stdout, ran.stderr);
    let encoded = "eC1hY2Nlc3MtdG9rZW46dDBrZW4";
    assert!(!shown.contains("t0ken") && !shown.contains(encoded), "the token is in the output or the log");
    assert!(remote.requests().iter().any(|request| request.authorization_ok));
}

#[test]
fn an_interrupted_command_ends_what_the_server_does_for_it() {
    let bench = Bench::new();
    let source = bench.repository("remotes/docs.git");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let remote = runtime.block_on(GitHttp::start(source.parent().unwrap(), "u", "p"));
    remote.fail_next(On::Any, 1000, Fault::Hang);
    let server = bench.serve();
    let mut command = bench.command(&["import", &remote.url("docs")]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("the server asks the remote", || !remote.requests().is_empty());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "error: interrupted\n"));
    assert_eq!(bench.json(&["project", "list", "--json"])["projects"], json!([]));
    // Nothing is at work any more: the server does not wait for it.
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

/// Until it holds: the test's own limit is that of the runner.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{what}: not within 30 s");
}
