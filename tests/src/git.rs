//! Stock git, run in a clean and deterministic environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// The time of the first commit that a [`Repo`] makes; each further one is a minute later.
const FIRST_COMMIT_S: i64 = 1_700_000_000;

/// Where git is. A bare name beside a `PATH` of the command's own makes the standard library fork, and not `posix_spawn`: that takes the
/// longer the larger a test process has become.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|file| file.is_file());
        found.unwrap_or_else(|| "git".into())
    })
}

/// How to run git: where, with which environment and configuration. No configuration, hook, template, locale or
/// identity of the user or the machine has any influence.
#[derive(Debug, Clone)]
pub struct Git {
    directory: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    configuration: Vec<(String, String)>,
}

impl Git {
    /// Git with `directory` as its working directory.
    pub fn at(directory: impl Into<PathBuf>) -> Git {
        let environment = [
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            // A server that says nothing any more fails the test instead of holding it for ever.
            ("GIT_HTTP_LOW_SPEED_LIMIT", "1"),
            ("GIT_HTTP_LOW_SPEED_TIME", "240"),
            ("GIT_AUTHOR_NAME", "A U Thor"),
            ("GIT_AUTHOR_EMAIL", "author@example.org"),
            ("GIT_COMMITTER_NAME", "C O Mitter"),
            ("GIT_COMMITTER_EMAIL", "committer@example.org"),
        ];
        let configuration = [
            ("init.defaultBranch", "main"),
            ("init.templateDir", ""),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("safe.directory", "*"),
            ("protocol.file.allow", "always"),
            ("core.quotePath", "false"),
            ("advice.detachedHead", "false"),
        ];
        let git = Git { directory: directory.into(), environment: BTreeMap::new(), configuration: Vec::new() };
        let git = environment.into_iter().fold(git, |git, (name, value)| git.env(name, value));
        configuration.into_iter().fold(git, |git, (name, value)| git.config(name, value)).at_time(FIRST_COMMIT_S)
    }

    /// The same with an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Git {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// The same with a setting, as `-c name=value`, which child processes of git see too.
    pub fn config(mut self, name: &str, value: &str) -> Git {
        self.configuration.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with author and committer time `time_s` (Unix seconds, +0000).
    pub fn at_time(self, time_s: i64) -> Git {
        let date = format!("@{time_s} +0000");
        self.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", date)
    }

    /// The command, not yet run; it inherits nothing but `PATH` and `TMPDIR`.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(&self.directory).stdin(Stdio::null()).env_clear();
        command.envs(["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.environment).env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (index, (name, value)) in self.configuration.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), name).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }

    /// Runs git and returns its answer, whatever it is.
    pub fn output<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.command(arguments).output().expect("run git")
    }

    /// The same with `input` as standard input.
    pub fn output_of<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run git");
        let mut stdin = child.stdin.take().expect("a piped standard input");
        std::thread::scope(|scope| {
            // On a thread: git may answer more than a pipe holds before it has read everything.
            // It may also stop reading early; its exit status says whether that was right.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().expect("wait for git")
        })
    }

    /// Runs git, which must succeed, and returns what it printed, without the last line feed.
    ///
    /// # Panics
    /// If git fails, with its words.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        text(self.bytes(arguments))
    }

    /// The same with `input` as standard input.
    #[track_caller]
    pub fn run_with<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, input: &[u8]) -> String {
        text(self.bytes_with(arguments, input))
    }

    /// Runs git, which must succeed, and returns what it printed, byte for byte.
    #[track_caller]
    pub fn bytes<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Vec<u8> {
        self.bytes_with(arguments, b"")
    }

    /// The same with `input` as standard input.
    #[track_caller]
    pub fn bytes_with<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, input: &[u8]) -> Vec<u8> {
        let arguments: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let output = self.output_of(&arguments, input);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?} in {}: {words}", self.directory.display());
        output.stdout
    }
}

fn text(bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).expect("git printed UTF-8");
    text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
}

/// A repository on disk.
#[derive(Debug)]
pub struct Repo {
    git: Git,
    clock_s: AtomicI64,
}

/// One line of `git ls-tree`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeLine {
    /// The path from the root, raw bytes.
    pub path: Vec<u8>,
    /// Six octal digits.
    pub mode: String,
    /// `blob`, `tree` or `commit`.
    pub kind: String,
    /// 40 hex digits.
    pub oid: String,
}

impl Repo {
    /// An empty repository with a work tree at `directory`, on the unborn branch `main`.
    pub fn init(directory: impl AsRef<Path>) -> Repo {
        Repo::initialized(directory.as_ref(), &["init", "-q"])
    }

    /// An empty bare repository at `directory`, whose `HEAD` names the unborn branch `main`.
    pub fn init_bare(directory: impl AsRef<Path>) -> Repo {
        Repo::initialized(directory.as_ref(), &["init", "-q", "--bare"])
    }

    fn initialized(directory: &Path, arguments: &[&str]) -> Repo {
        std::fs::create_dir_all(directory).expect("make the repository's directory");
        let repo = Repo::open(directory);
        repo.git.run(arguments);
        repo
    }

    /// The repository that lies at `directory`.
    pub fn open(directory: impl AsRef<Path>) -> Repo {
        Repo { git: Git::at(directory.as_ref()), clock_s: AtomicI64::new(FIRST_COMMIT_S) }
    }

    /// A repository with a work tree and several hundred files, made from `seed`; see [`crate::sample`].
    pub fn sample(directory: impl AsRef<Path>, seed: u64) -> Repo {
        let repo = Repo::init(directory);
        repo.git.run_with(["fast-import", "--quiet"], &crate::sample::fast_import_stream(seed));
        repo.git.run(["reset", "-q", "--hard"]);
        repo
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.git.directory
    }

    /// Git in this repository, for everything that has no method here.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// A bare clone with all branches and tags.
    pub fn bare_clone(&self, to: impl AsRef<Path>) -> Repo {
        let directory = std::path::absolute(to).expect("an absolute path");
        self.git.run([
            OsStr::new("clone"),
            OsStr::new("-q"),
            OsStr::new("--bare"),
            OsStr::new("--no-local"),
            OsStr::new("."),
            directory.as_os_str(),
        ]);
        Repo::open(directory)
    }

    /// Writes one file in the work tree and commits it; returns the commit's oid.
    pub fn commit_file(&self, path: &str, content: impl AsRef<[u8]>) -> String {
        self.commit_files(&[(path, Some(content.as_ref()))], &format!("Change {path}"))
    }

    /// Writes files (`None` removes one) in the work tree and commits them; returns the commit's oid.
    pub fn commit_files(&self, files: &[(&str, Option<&[u8]>)], message: &str) -> String {
        for &(path, content) in files {
            let file = self.path().join(path);
            match content {
                Some(content) => {
                    std::fs::create_dir_all(file.parent().expect("a file in the work tree")).expect("make directories");
                    std::fs::write(file, content).expect("write the file");
                }
                None => std::fs::remove_file(file).expect("remove the file"),
            }
            self.git.run(["add", "--force", "--", path]);
        }
        let time_s = self.clock_s.fetch_add(60, Ordering::Relaxed);
        self.git.clone().at_time(time_s).run(["commit", "-q", "--allow-empty", "-m", message]);
        self.rev_parse("HEAD")
    }

    /// The oid that `revision` names.
    #[track_caller]
    pub fn rev_parse(&self, revision: &str) -> String {
        self.git.run(["rev-parse", "--verify", "--end-of-options", revision])
    }

    /// All refs (not `HEAD`) with the oids they name.
    pub fn refs(&self) -> BTreeMap<String, String> {
        let lines = self.git.run(["for-each-ref", "--format=%(refname) %(objectname)"]);
        lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, oid)| (name.to_owned(), oid.to_owned()))
            .collect()
    }

    /// Every file, symlink and gitlink of `revision`, in git's order.
    pub fn ls_tree(&self, revision: &str) -> Vec<TreeLine> {
        let listing = self.git.bytes(["ls-tree", "-r", "-z", "--full-tree", revision]);
        let line = |line: &[u8]| {
            let tab = line.iter().position(|&byte| byte == b'\t').expect("git ls-tree puts a tab before the path");
            let head = std::str::from_utf8(&line[..tab]).expect("git ls-tree prints ASCII before the path");
            let [mode, kind, oid] = head.split(' ').collect::<Vec<_>>().try_into().expect("mode, type and oid");
            TreeLine { path: line[tab + 1..].to_vec(), mode: mode.into(), kind: kind.into(), oid: oid.into() }
        };
        listing.split(|&byte| byte == 0).filter(|part| !part.is_empty()).map(line).collect()
    }

    /// The raw content of an object, of whatever kind (`git cat-file`).
    #[track_caller]
    pub fn cat_file(&self, revision: &str) -> Vec<u8> {
        let kind = self.git.run(["cat-file", "-t", revision]);
        self.git.bytes(["cat-file", kind.as_str(), revision])
    }

    /// Writes an object without any check, as a hostile peer would send it; returns its oid.
    pub fn hash_object_literally(&self, kind: &str, content: &[u8]) -> String {
        self.git.run_with(["hash-object", "--literally", "-w", "-t", kind, "--stdin"], content)
    }

    /// The oids of all objects that the repository's refs reach.
    pub fn reachable(&self) -> Vec<String> {
        let listing = self.git.run(["rev-list", "--objects", "--no-object-names", "--all"]);
        listing.lines().map(str::to_owned).collect()
    }

    /// Checks everything as strictly as git can.
    ///
    /// # Panics
    /// If git finds any fault or anything missing.
    #[track_caller]
    pub fn fsck_strict(&self) {
        let output = self.git.output(["fsck", "--strict", "--full", "--no-dangling"]);
        let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // An unborn HEAD is told as a notice; it is no fault.
        let faults: Vec<&str> = words.lines().filter(|line| !line.starts_with("notice: ")).collect();
        assert!(output.status.success() && faults.is_empty(), "git fsck of {}: {words}", self.path().display());
    }
}
