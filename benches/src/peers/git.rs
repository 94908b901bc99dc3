//! Stock git on the bare repository that was imported.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use treehold_tests::git::Repo;

const WAY_OUT: [&str; 6] = ["http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "GIT_SSL_CAINFO"];

/// One file of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the root.
    pub path: String,
    /// Six octal digits.
    pub mode: String,
    /// 40 hex digits.
    pub oid: String,
    /// Bytes; `None` for a submodule.
    pub size: Option<u64>,
}

impl File {
    /// Whether it can be read and edited like any other: no link, and nothing that git itself reads.
    pub fn is_plain(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.mode.starts_with("100") && !name.starts_with(".git") && !self.path.contains(['\n', '"'])
    }

    fn bytes(&self) -> u64 {
        self.size.unwrap_or(0)
    }
}

/// A bare clone of one branch of `source` (a path or a URL), which is called `main` in it.
pub fn take(source: &str, to: &Path) -> anyhow::Result<Repo> {
    let directory = to.to_str().context("a UTF-8 path")?;
    let arguments = ["clone", "-q", "--bare", "--no-local", "--single-branch", "--no-tags", "--", source, directory];
    // The only thing that may need the network, and what leads there.
    let git = WAY_OUT
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .fold(treehold_tests::git::Git::at(std::env::current_dir()?), |git, (name, value)| git.env(name, value));
    let output = git.output(arguments);
    ensure!(output.status.success(), "git clone {source}: {}", String::from_utf8_lossy(&output.stderr));
    let repo = Repo::open(to);
    let branch = repo.git().run(["symbolic-ref", "--short", "HEAD"]);
    if branch != "main" {
        repo.git().run(["branch", "-m", branch.as_str(), "main"]);
    }
    repo.git().run(["remote", "remove", "origin"]);
    Ok(repo)
}

/// A bare copy that shares the files of `repo`'s packs.
pub fn copy(repo: &Repo, to: &Path) -> anyhow::Result<Repo> {
    let (from, to_text) = (repo.path().to_str().context("a UTF-8 path")?, to.to_str().context("a UTF-8 path")?);
    repo.git().run(["clone", "-q", "--bare", "--local", from, to_text]);
    Ok(Repo::open(to))
}

/// `git clone --bare` of `url`, as a stock client does it: its time. The clone must have `head`.
pub fn clone(url: &str, work: &Path, head: &str) -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir_in(work)?;
    let git = treehold_tests::git::Git::at(directory.path());
    let started = Instant::now();
    git.run(["clone", "-q", "--bare", "--no-local", url, "clone.git"]);
    let took = started.elapsed();
    ensure!(Repo::open(directory.path().join("clone.git")).rev_parse("main") == head, "git cloned another head");
    Ok(took)
}

/// What of a clone no server can take away: git reads, checks and indexes the pack of everything that `repo` would send.
pub fn index_everything(repo: &Repo, work: &Path) -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir_in(work)?;
    let pack = directory.path().join("all.pack");
    let arguments = ["pack-objects", "-q", "--all", "--delta-base-offset", "--stdout"];
    std::fs::write(&pack, repo.git().bytes(arguments)).context("write a pack")?;
    let empty = Repo::init_bare(directory.path().join("empty.git"));
    // As `git clone` calls it.
    let arguments = ["index-pack", "--stdin", "--fix-thin", "--check-self-contained-and-connected"];
    let mut command = empty.git().command(arguments);
    command.stdin(std::fs::File::open(pack).context("open the pack")?);
    let started = Instant::now();
    let output = command.output().context("run git")?;
    let took = started.elapsed();
    ensure!(output.status.success(), "git index-pack: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// Bytes of the pack that `git gc` makes of it.
pub fn gc_pack_bytes(repo: &Repo, work: &Path) -> anyhow::Result<u64> {
    let directory = tempfile::tempdir_in(work)?;
    let copy = copy(repo, &directory.path().join("copy.git"))?;
    copy.git().run(["gc", "-q", "--prune=now"]);
    let mut bytes = 0;
    for entry in std::fs::read_dir(copy.path().join("objects/pack"))? {
        let entry = entry?;
        let is_pack = entry.path().extension().is_some_and(|extension| extension == "pack");
        bytes += if is_pack { entry.metadata()?.len() } else { 0 };
    }
    ensure!(bytes > 0, "git gc left no pack");
    Ok(bytes)
}

/// Bytes on disk of what `branch` has and `main` has not.
pub fn bytes_beyond_main(repo: &Repo, branch: &str) -> anyhow::Result<u64> {
    let objects = repo.git().run(["rev-list", "--objects", "--no-object-names", branch, "^main"]);
    let input: String = objects.lines().map(|oid| format!("{oid}\n")).collect();
    let sizes = repo.git().run_with(["cat-file", "--batch-check=%(objectsize:disk)"], input.as_bytes());
    let sizes: Result<Vec<u64>, _> = sizes.lines().map(str::parse).collect();
    Ok(sizes.context("git cat-file printed no size")?.iter().sum())
}

/// `git ls-tree -r -l`: all files of `main` in git's order, and the time that git took.
pub fn list(repo: &Repo) -> anyhow::Result<(Vec<File>, Duration)> {
    let started = Instant::now();
    let listing = repo.git().bytes(["ls-tree", "-r", "-l", "-z", "--full-tree", "main"]);
    let took = started.elapsed();
    let listing = String::from_utf8(listing).context("a repository with a path that is not UTF-8")?;
    let file = |line: &str| {
        let (head, path) = line.split_once('\t')?;
        let mut head = head.split_ascii_whitespace();
        let (mode, _kind, oid, size) = (head.next()?, head.next()?, head.next()?, head.next()?);
        Some(File { path: path.to_owned(), mode: mode.into(), oid: oid.into(), size: size.parse().ok() })
    };
    let files: Option<Vec<File>> = listing.split_terminator('\0').map(file).collect();
    Ok((files.context("git ls-tree printed something else")?, took))
}

/// `git grep` in all text files of `main`: `path:line` of each match, in git's order, and the time that git took.
pub fn grep(repo: &Repo, query: &str) -> anyhow::Result<(Vec<String>, Duration)> {
    let started = Instant::now();
    let output = repo.git().output(["grep", "-n", "-z", "-I", "-F", "-e", query, "main"]);
    let took = started.elapsed();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    // After each field is a NUL; the rest is the line.
    let place = |line: &str| {
        let mut fields = line.splitn(3, '\0');
        let (path, number) = (fields.next()?.strip_prefix("main:")?, fields.next()?);
        Some(format!("{path}:{number}"))
    };
    let places: Option<Vec<String>> = found.split_terminator('\n').map(place).collect();
    Ok((places.context("git grep printed something else")?, took))
}

/// `git cat-file --batch` as a new process for this batch: the time that git took.
pub fn read_batch(repo: &Repo, files: &[&File]) -> anyhow::Result<Duration> {
    let input: String = files.iter().map(|file| format!("main:{}\n", file.path)).collect();
    let started = Instant::now();
    let output = repo.git().bytes_with(["cat-file", "--batch"], input.as_bytes());
    let took = started.elapsed();
    let content: u64 = files.iter().map(|file| file.bytes()).sum();
    ensure!(output.len() as u64 > content, "git cat-file printed too little");
    Ok(took)
}

/// `git cat-file blob` as a new process for one file: the time that git took.
pub fn read_one(repo: &Repo, file: &File) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let output = repo.git().bytes(["cat-file", "blob", &format!("main:{}", file.path)]);
    let took = started.elapsed();
    ensure!(output.len() as u64 == file.bytes(), "git cat-file printed another size than git ls-tree");
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
            ensure!(line == format!("{} blob {}\n", file.oid, file.bytes()), "git cat-file printed {line:?}");
            content.resize(usize::try_from(file.bytes())? + 1, 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever its branch is called, a repository is taken as `main`, and nothing else of it comes along.
    #[test]
    fn a_repository_is_taken_as_main() {
        let directory = tempfile::tempdir().unwrap();
        let source = Repo::init(directory.path().join("source"));
        let head = source.commit_files(&[("a", Some(b"1\n")), ("sub/.gitattributes", Some(b"\n"))], "Begin");
        source.git().run(["branch", "-m", "trunk"]);
        source.git().run(["branch", "other"]);
        source.git().run(["tag", "v1"]);
        let taken = take(source.path().to_str().unwrap(), &directory.path().join("taken.git")).unwrap();
        assert_eq!(taken.refs().into_iter().collect::<Vec<_>>(), [("refs/heads/main".to_owned(), head)]);
        let (files, _) = list(&taken).unwrap();
        let plain: Vec<bool> = files.iter().map(File::is_plain).collect();
        assert_eq!((files[0].path.as_str(), files[0].size, plain), ("a", Some(2), vec![true, false]));
        assert!(take("/no/such", &directory.path().join("none")).is_err());
    }

    /// Goal: only what a branch has beyond `main` counts, and a copy's pack is that of the original.
    #[test]
    fn bytes_of_a_branch_and_of_a_pack_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let source = Repo::init(directory.path().join("source"));
        source.commit_file("a", "1\n".repeat(5_000));
        source.git().run(["branch", "same"]);
        source.git().run(["checkout", "-q", "-b", "more"]);
        source.commit_file("b", "2\n");
        let bare = source.bare_clone(directory.path().join("bare.git"));
        assert_eq!(bytes_beyond_main(&bare, "same").unwrap(), 0);
        let beyond = bytes_beyond_main(&bare, "more").unwrap();
        assert!((60..600).contains(&beyond), "a blob, a tree and a commit have {beyond} bytes");
        let pack = gc_pack_bytes(&bare, directory.path()).unwrap();
        assert!((200..2_000).contains(&pack), "six objects have {pack} bytes");
    }
}
