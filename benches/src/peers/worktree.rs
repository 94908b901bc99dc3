//! Stock git with a work tree: what an editor's server would do in a clone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use treehold_tests::git::Repo;

/// A clone with all files checked out, and an index that is up to date.
pub struct Worktree {
    repo: Repo,
}

/// What a commit took.
pub struct Committed {
    /// `git add` of the files and `git commit`.
    pub took: Duration,
    /// The commit.
    pub oid: String,
}

impl Worktree {
    /// Clones `url` to `directory`.
    pub fn clone(url: &str, directory: &Path) -> anyhow::Result<Self> {
        let directory = directory.to_str().context("a UTF-8 path")?;
        treehold_tests::git::Git::at("/").run(["clone", "-q", "--no-local", "--branch", "main", url, directory]);
        let repo = Repo::open(directory);
        repo.git().run(["update-index", "-q", "--really-refresh"]);
        Ok(Self { repo })
    }

    /// Writes files, then adds and commits them; only the latter is timed.
    pub fn commit(&self, files: &[(String, Vec<u8>)]) -> anyhow::Result<Committed> {
        let before = self.repo.rev_parse("HEAD");
        for (path, content) in files {
            std::fs::write(self.repo.path().join(path), content).with_context(|| format!("write {path}"))?;
        }
        let mut arguments = vec!["--literal-pathspecs", "add", "--"];
        arguments.extend(files.iter().map(|(path, _)| path.as_str()));
        let started = Instant::now();
        self.repo.git().run(arguments);
        self.repo.git().run(["commit", "-q", "-m", "Change ten files"]);
        let took = started.elapsed();
        let changed = self.repo.git().run(["diff-tree", "-r", "--name-only", &before, "HEAD"]);
        ensure!(changed.lines().count() == files.len(), "git committed other files: {changed}");
        Ok(Committed { took, oid: self.repo.rev_parse("HEAD") })
    }

    /// Takes over what the server has.
    pub fn follow(&self) {
        self.repo.git().run(["pull", "-q", "--ff-only", "origin", "main"]);
    }

    /// `git push` of `main`: its time.
    pub fn push(&self) -> Duration {
        let started = Instant::now();
        self.repo.git().run(["push", "-q", "origin", "main"]);
        started.elapsed()
    }
}
