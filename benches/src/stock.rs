//! The same work by stock git, on the bare repository that was imported.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use treehold_tests::git::Repo;

/// One file of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the root.
    pub path: String,
    /// Six octal digits.
    pub mode: String,
    /// 40 hex digits.
    pub oid: String,
    /// Bytes.
    pub size: u64,
}

/// `git ls-tree -r -l`: all files of `main` in git's order, and the time that git took.
pub fn list(repo: &Repo) -> anyhow::Result<(Vec<File>, Duration)> {
    let started = Instant::now();
    let listing = repo.git().bytes(["ls-tree", "-r", "-l", "-z", "--full-tree", "main"]);
    let took = started.elapsed();
    let listing = String::from_utf8(listing).context("generated paths are UTF-8")?;
    let file = |line: &str| {
        let (head, path) = line.split_once('\t')?;
        let mut head = head.split_ascii_whitespace();
        let (mode, _kind, oid, size) = (head.next()?, head.next()?, head.next()?, head.next()?);
        Some(File { path: path.to_owned(), mode: mode.into(), oid: oid.into(), size: size.parse().ok()? })
    };
    let files: Option<Vec<File>> = listing.split_terminator('\0').map(file).collect();
    Ok((files.context("git ls-tree printed something else")?, took))
}

/// `git cat-file --batch` as a new process for this batch: the time that git took.
pub fn read_batch(repo: &Repo, files: &[&File]) -> anyhow::Result<Duration> {
    let input: String = files.iter().map(|file| format!("main:{}\n", file.path)).collect();
    let started = Instant::now();
    let output = repo.git().bytes_with(["cat-file", "--batch"], input.as_bytes());
    let took = started.elapsed();
    let content: u64 = files.iter().map(|file| file.size).sum();
    ensure!(output.len() as u64 > content, "git cat-file printed too little");
    Ok(took)
}

/// `git cat-file blob` as a new process for one file: the time that git took.
pub fn read_one(repo: &Repo, file: &File) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let output = repo.git().bytes(["cat-file", "blob", &format!("main:{}", file.path)]);
    let took = started.elapsed();
    ensure!(output.len() as u64 == file.size, "git cat-file printed another size than git ls-tree");
    Ok(took)
}

/// `git cat-file --batch-command`, kept running and flushed once a batch: the fastest that git can be. Dropped, it is killed.
pub struct CatFile {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl CatFile {
    /// Starts it.
    pub fn start(repo: &Repo) -> anyhow::Result<Self> {
        let mut command = repo.git().command(["cat-file", "--batch-command", "--buffer"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run git cat-file")?;
        let stdin = child.stdin.take().context("git cat-file has no input")?;
        let stdout = BufReader::with_capacity(1 << 16, child.stdout.take().context("git cat-file has no output")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Reads files: the time that git took.
    pub fn read(&mut self, files: &[&File]) -> anyhow::Result<Duration> {
        let mut input: String = files.iter().map(|file| format!("contents main:{}\n", file.path)).collect();
        input.push_str("flush\n");
        let started = Instant::now();
        // It fits into the pipe, so that writing cannot wait for reading.
        self.stdin.write_all(input.as_bytes()).context("write to git cat-file")?;
        let mut content = Vec::new();
        for file in files {
            let mut line = String::new();
            self.stdout.read_line(&mut line).context("read from git cat-file")?;
            ensure!(line == format!("{} blob {}\n", file.oid, file.size), "git cat-file printed {line:?}");
            content.resize(usize::try_from(file.size)? + 1, 0);
            self.stdout.read_exact(&mut content).context("read from git cat-file")?;
        }
        Ok(started.elapsed())
    }
}

impl Drop for CatFile {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
