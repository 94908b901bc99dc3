//! Real git: repositories made by scripts, its servers as child processes, its answers to compare with.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use treehold_object::{Kind, ObjectId};

/// A repository that goes away with the value.
pub struct Repo {
    dir: TempDir,
}

impl Repo {
    pub fn bare() -> Self {
        let repo = Self { dir: tempfile::tempdir().unwrap() };
        repo.git(&["init", "-q", "--template=", "--bare", "-b", "main", "."]);
        repo
    }

    pub fn new() -> Self {
        let repo = Self { dir: tempfile::tempdir().unwrap() };
        repo.git(&["init", "-q", "--template=", "-b", "main", "."]);
        repo
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(args).current_dir(self.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        for (name, value) in [
            ("HOME", "/nonexistent"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.fsync"),
            ("GIT_CONFIG_VALUE_0", "none"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
            ("GIT_AUTHOR_DATE", "1700000000 +0000"),
            ("GIT_COMMITTER_DATE", "1700000000 +0000"),
        ] {
            command.env(name, value);
        }
        command
    }

    /// Runs git with `input`, whatever comes of it.
    pub fn try_git(&self, args: &[&str], input: &[u8]) -> Output {
        self.run(self.command(args), input)
    }

    fn run(&self, mut command: Command, input: &[u8]) -> Output {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A server may end before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub fn git_with(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.try_git(args, input);
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn git(&self, args: &[&str]) -> String {
        String::from_utf8(self.git_with(args, b"")).unwrap().trim_end().to_owned()
    }

    pub fn oid(&self, revision: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", revision]).as_bytes()).unwrap()
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits everything in the worktree.
    pub fn commit(&self, message: &str) -> ObjectId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.oid("HEAD")
    }

    /// What a stateless server answers to one request.
    pub fn serve(&self, service: &str, request: &[u8]) -> Output {
        let mut command = self.command(&[service, "--stateless-rpc", "."]);
        command.env("GIT_PROTOCOL", "version=2");
        self.run(command, request)
    }

    /// What `git -c <config> <service> <option> .` answers to one request, asked for a version of the protocol.
    pub fn serve_with(&self, config: &[&str], service: [&str; 2], protocol: u8, request: &[u8]) -> Output {
        let mut args: Vec<&str> = config.iter().flat_map(|config| ["-c", config]).collect();
        args.extend(service.into_iter().chain(["."]));
        let mut command = self.command(&args);
        command.env("GIT_PROTOCOL", format!("version={protocol}"));
        self.run(command, request)
    }

    /// Every object, by git: id, kind, size; sorted by id.
    pub fn all_objects(&self) -> Vec<(ObjectId, Kind, u64)> {
        let text = self.git(&["cat-file", "--batch-all-objects", "--batch-check"]);
        parse_objects(&text)
    }

    pub fn content(&self, kind: Kind, oid: &ObjectId) -> Vec<u8> {
        self.git_with(&["cat-file", &kind.to_string(), &oid.to_string()], b"")
    }

    /// The only pack of the repository.
    pub fn pack_file(&self) -> PathBuf {
        let git_dir = self.git(&["rev-parse", "--absolute-git-dir"]);
        let packs: Vec<_> = std::fs::read_dir(Path::new(&git_dir).join("objects/pack"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "pack"))
            .collect();
        assert_eq!(packs.len(), 1);
        packs[0].clone()
    }
}

pub fn parse_objects(text: &str) -> Vec<(ObjectId, Kind, u64)> {
    let mut objects: Vec<_> = text
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let oid = ObjectId::from_hex(words[0].as_bytes()).unwrap();
            (oid, Kind::from_bytes(words[1].as_bytes()).unwrap(), words[2].parse().unwrap())
        })
        .collect();
    objects.sort();
    objects
}

/// A file with these bytes that nobody else can see.
pub fn spool(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Numbers that look random and come from a seed.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// The seed of a random test: from `TREEHOLD_TEST_SEED`, else the one given. Printed, so that a failure shows it.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    println!("TREEHOLD_TEST_SEED={seed}");
    seed.max(1)
}

/// A history with directories, edits, renames, deletions, merges, symlinks, a gitlink and tags.
pub fn history(commits: usize, seed: u64) -> Repo {
    let repo = Repo::new();
    let mut numbers = Numbers(seed);
    let text = |numbers: &mut Numbers, lines: usize| {
        (0..lines).map(|line| format!("{line}: {}\n", numbers.next(1_000_000))).collect::<String>()
    };
    for file in 0..12 {
        let lines = 30 + numbers.next(200);
        repo.write(&format!("dir{}/sub{}/file{file}.txt", file % 3, file % 2), text(&mut numbers, lines));
    }
    std::os::unix::fs::symlink("dir0", repo.path().join("link")).unwrap();
    let first = repo.commit("first");
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},module")]);
    repo.git(&["commit", "-q", "-m", "gitlink"]);
    for round in 0..commits {
        let file = numbers.next(12);
        let path = format!("dir{}/sub{}/file{file}.txt", file % 3, file % 2);
        let old = std::fs::read_to_string(repo.path().join(&path)).unwrap_or_default();
        let mut lines: Vec<String> = old.lines().map(|line| format!("{line}\n")).collect();
        let at = numbers.next(lines.len() + 1);
        lines.insert(at, format!("round {round}\n"));
        repo.write(&path, lines.concat());
        if round % 7 == 3 {
            repo.git(&["mv", "-k", &format!("dir1/sub{}", round % 2), &format!("dir2/moved{round}")]);
        }
        repo.commit_tracked(&format!("round {round}"));
        if round % 9 == 5 {
            repo.git(&["checkout", "-q", "-b", &format!("side{round}"), "HEAD~1"]);
            repo.write(&format!("side{round}.txt"), text(&mut numbers, 40));
            repo.commit_tracked("side");
            repo.git(&["checkout", "-q", "main"]);
            repo.git(&["merge", "-q", "--no-edit", &format!("side{round}")]);
            repo.git(&["tag", "-a", "-m", "a tag", &format!("v{round}")]);
        }
    }
    repo.git(&["tag", "-a", "-m", "tag of a tag", "nested", "HEAD"]);
    repo.git(&["tag", "-a", "-m", "tag of a tag", "nested2", "nested"]);
    repo
}

impl Repo {
    /// Commits the worktree without touching the gitlink, which has no directory.
    fn commit_tracked(&self, message: &str) {
        self.git(&["add", "-A", "--", ".", ":!module"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }
}
