//! Where the commands of a page run: an empty home, the binary on the path, a repository to begin with, and for pages about
//! Postgres and S3 a real one of each.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use treehold_tests::git::Git;
use treehold_tests::postgres::Postgres;
use treehold_tests::s3::S3Server;

use super::page::Page;
use crate::deployment::binary;

/// What the server stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foundation {
    Embedded,
    PostgresAndS3,
}

pub struct Stage {
    home: TempDir,
    /// What a page says, and what is there instead.
    instead: Vec<(String, String)>,
    variables: Vec<(String, String)>,
}

/// A port that nothing listens on. It is taken seconds later: so it is none of those that the kernel gives to whoever asks for any
/// (from 32768 on).
fn free_port() -> u16 {
    let (first, ports) = (20_000_u16, 12_000_u16);
    let start = rand::random_range(0..ports);
    let mut candidates = (0..ports).map(|nth| first + (start + nth) % ports);
    candidates.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port")
}

/// The repository that the walk-throughs begin with: some of its files have the names that they use.
fn repository(home: &Path) {
    let work = home.join("work");
    let write = |path: &str, text: &str| {
        let path = work.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        std::fs::write(path, text).expect("a file");
    };
    write("README.md", "# Tokio\n\nA runtime.\n");
    write("tokio/Cargo.toml", &"# a line\n".repeat(197));
    let functions = "pub struct Barrier;\n\nfn poll_read_ready() {}\n\nfn poll_write_ready() {}\n";
    for name in ["barrier", "mutex", "notify"] {
        write(&format!("tokio/src/sync/{name}.rs"), functions);
    }
    let git = Git::at(&work);
    git.run(["init", "-q", "-b", "master"]);
    git.run(["add", "-A"]);
    git.run(["commit", "-q", "-m", "Begin"]);
    git.run(["clone", "-q", "--bare", ".", "../tokio.git"]);
    git.run(["remote", "add", "origin", "../tokio.git"]);
}

impl Stage {
    pub async fn new(foundation: Foundation) -> Self {
        let home = tempfile::tempdir().expect("a home");
        std::fs::create_dir_all(home.path().join("bin")).expect("a directory");
        std::os::unix::fs::symlink(binary(), home.path().join("bin/treehold")).expect("a link");
        repository(home.path());
        let port = free_port();
        let under = |path: &str| home.path().join(path).to_str().expect("utf-8").to_owned();
        let mut instead = vec![
            ("127.0.0.1:3001".to_owned(), format!("127.0.0.1:{port}")),
            ("0.0.0.0:3001".to_owned(), format!("127.0.0.1:{port}")),
            ("/mnt/".to_owned(), under("mnt/")),
            ("/var/lib/".to_owned(), under("var/")),
        ];
        let mut variables = vec![("TREEHOLD_LISTEN".to_owned(), format!("127.0.0.1:{port}"))];
        if foundation == Foundation::PostgresAndS3 {
            let (postgres, s3) = (Postgres::shared().await, S3Server::shared().await);
            s3.create_bucket("treehold-objects");
            let prefix = uuid::Uuid::new_v4().simple().to_string();
            instead.push(("postgres://treehold@db.internal/treehold".into(), postgres.schema_url().await));
            instead.push((
                "s3://treehold-objects/prod?region=eu-central-1".into(),
                s3.store_url("treehold-objects", &prefix),
            ));
            variables.push(("AWS_ACCESS_KEY_ID".into(), s3.access_key().into()));
            variables.push(("AWS_SECRET_ACCESS_KEY".into(), s3.secret_key().into()));
        }
        Self { home, instead, variables }
    }

    /// Runs all commands of a page in one shell. Each writes to a file of its own; a server that a command leaves behind ends with it.
    pub fn play(&self, page: &Page) {
        let mut script = String::from("set +e\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n");
        for (nth, command) in page.commands.iter().enumerate() {
            let text = self.instead.iter().fold(command.text.clone(), |text, (from, to)| text.replace(from, to));
            // A stream has no end: it is looked at for a while.
            let stream = text.contains("curl -sN");
            let text = if stream { text.replace("curl -sN", "timeout 3 curl -sN") } else { text };
            let _infallible = write!(script, "{{ {text}\n}} >out.{nth} 2>&1\ns=$?\n");
            if stream {
                script.push_str("[ $s = 124 ] && s=0\n");
            }
            let _infallible = writeln!(script, "echo $s >status.{nth}");
            if command.text.starts_with("treehold serve") {
                let _infallible =
                    writeln!(script, "for _ in $(seq 300); do grep -q listening out.{nth} && break; sleep 0.1; done");
            }
        }
        let path = std::env::var("PATH").expect("a path");
        let mut shell = Command::new("timeout");
        shell.args(["300", "bash", "-c", &script]).current_dir(self.home.path()).env_clear();
        shell.env("HOME", self.home.path()).env("PATH", format!("{}/bin:{path}", self.home.path().display()));
        shell.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C.UTF-8");
        for name in ["AUTHOR", "COMMITTER"] {
            shell.env(format!("GIT_{name}_NAME"), "Ann").env(format!("GIT_{name}_EMAIL"), "ann@example.org");
        }
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        shell.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("bash");
        self.compare(page);
    }

    fn compare(&self, page: &Page) {
        let read = |name: String| {
            let bytes = std::fs::read(self.home.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        for (nth, command) in page.commands.iter().enumerate() {
            let (answer, status) = (read(format!("out.{nth}")), read(format!("status.{nth}")));
            let place = format!("{}:{}: {}", page.name, command.line, command.text);
            assert_eq!(status.trim(), "0", "{place}\nanswers\n{answer}");
            assert!(
                !answer.contains("\"status\":4") && !answer.contains("\"status\":5"),
                "{place}\nis refused\n{answer}"
            );
            let missing = command.missing(&answer);
            assert!(missing.is_empty(), "{place}\nanswers without {missing:?}\n{answer}");
        }
    }
}
