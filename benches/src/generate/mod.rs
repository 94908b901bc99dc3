//! Repositories that look like a project's, of any size, made from a seed and a text.

pub mod garbage;
mod paths;
mod text;

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use treehold_tests::git::Repo;

pub use text::Text;

/// Files that a commit after the first changes, on average.
const CHANGED: usize = 10;
const FIRST_COMMIT_S: usize = 1_700_000_000;

/// Makes a bare repository with `files` files on `main` and `history` commits after the first, packed as a server would have it.
pub fn repository(directory: &Path, files: usize, history: usize, seed: u64, text: &Text) -> anyhow::Result<Repo> {
    let repo = Repo::init_bare(directory);
    import(&repo, |out| History::new(files, seed, text).write(history, out))?;
    repo.git().run(["repack", "-a", "-d", "-q"]);
    Ok(repo)
}

/// A bare repository of `files` files of some bytes each: as wide and as deep as a real one, and quickly made.
pub fn skeleton(directory: &Path, files: usize, seed: u64) -> anyhow::Result<Repo> {
    let repo = Repo::init_bare(directory);
    import(&repo, |out| {
        let paths = paths::paths(files, &mut StdRng::seed_from_u64(seed), &paths::Names::invented());
        commit_head(out, "main", 0, "Begin\n", None)?;
        for (number, path) in paths.iter().enumerate() {
            file(out, path, format!("{number}\n").as_bytes())?;
        }
        Ok(())
    })?;
    Ok(repo)
}

/// Makes `count` branches `fork-N` of `main`, each with another hundredth of its files edited.
pub fn forks(repo: &Repo, count: usize, seed: u64, text: &Text) -> anyhow::Result<()> {
    let paths: Vec<String> =
        repo.ls_tree("main").into_iter().filter_map(|line| String::from_utf8(line.path).ok()).collect();
    let head = repo.rev_parse("main");
    let mut random = StdRng::seed_from_u64(seed ^ 0xf0f0);
    let changed = paths.len().div_ceil(100);
    // Whole objects, without deltas: their size on disk is what a change costs at least where each stands alone.
    let mut stream = Vec::new();
    for number in 0..count {
        commit_head(&mut stream, &format!("fork-{number}"), number, "Change a hundredth\n", Some(&head))?;
        for index in rand::seq::index::sample(&mut random, paths.len(), changed) {
            let before = repo.cat_file(&format!("main:{}", paths[index]));
            file(&mut stream, &paths[index], &text.edited(&before, &mut random))?;
        }
    }
    stream.extend_from_slice(b"done\n");
    repo.git().run_with(["fast-import", "--quiet", "--done", "--depth=0"], &stream);
    Ok(())
}

fn import(repo: &Repo, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut child = repo
        .git()
        .command(["fast-import", "--quiet", "--done"])
        .stdin(Stdio::piped())
        .spawn()
        .context("run git fast-import")?;
    let stdin = child.stdin.take().context("git fast-import has no input")?;
    let mut out = BufWriter::with_capacity(1 << 16, stdin);
    let written = write(&mut out).and_then(|()| out.write_all(b"done\n")).and_then(|()| out.flush());
    drop(out);
    let status = child.wait().context("wait for git fast-import")?;
    written.context("write to git fast-import")?;
    ensure!(status.success(), "git fast-import failed");
    Ok(())
}

/// What [`repository`] writes. Only files that changed are kept; the others are made again from the seed.
struct History<'t> {
    seed: u64,
    text: &'t Text,
    paths: Vec<String>,
    random: StdRng,
    changed: HashMap<usize, Vec<u8>>,
}

impl<'t> History<'t> {
    fn new(files: usize, seed: u64, text: &'t Text) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let paths = paths::paths(files, &mut random, &text.names);
        Self { seed, text, paths, random, changed: HashMap::new() }
    }

    fn write(mut self, commits: usize, out: &mut dyn Write) -> std::io::Result<()> {
        commit_head(out, "main", 0, "Begin\n", None)?;
        for index in 0..self.paths.len() {
            file(out, &self.paths[index], &self.first(index))?;
        }
        for number in 1..=commits {
            let most = (2 * CHANGED - 1).min(self.paths.len());
            let count = self.random.random_range(1..=most);
            commit_head(out, "main", number, &format!("Change {count} files\n"), None)?;
            for index in self.pick(count) {
                let before = self.changed.remove(&index).unwrap_or_else(|| self.first(index));
                let after = self.text.edited(&before, &mut self.random);
                file(out, &self.paths[index], &after)?;
                self.changed.insert(index, after);
            }
        }
        Ok(())
    }

    /// The file's first content, always the same.
    fn first(&self, index: usize) -> Vec<u8> {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64);
        self.text.file(&mut StdRng::seed_from_u64(seed))
    }

    /// Different files that lie near each other: a change concerns a part of a project.
    fn pick(&mut self, count: usize) -> Vec<usize> {
        let window = (count * 20).min(self.paths.len());
        let start = self.random.random_range(0..=self.paths.len() - window);
        rand::seq::index::sample(&mut self.random, window, count).into_iter().map(|index| start + index).collect()
    }
}

/// `from` is the parent of a branch that begins; one that goes on needs none.
fn commit_head(
    out: &mut dyn Write,
    branch: &str,
    number: usize,
    message: &str,
    from: Option<&str>,
) -> std::io::Result<()> {
    let time_s = FIRST_COMMIT_S + number * 3_600;
    writeln!(out, "commit refs/heads/{branch}\ncommitter Ann Author <ann@example.org> {time_s} +0000")?;
    writeln!(out, "data {}\n{message}", message.len())?;
    from.map_or(Ok(()), |from| writeln!(out, "from {from}"))
}

fn file(out: &mut dyn Write, path: &str, content: &[u8]) -> std::io::Result<()> {
    writeln!(out, "M 100644 inline {path}\ndata {}", content.len())?;
    out.write_all(content)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_made_from_its_seed() {
        let directory = tempfile::tempdir().unwrap();
        let make =
            |name: &str, seed| repository(&directory.path().join(name), 300, 8, seed, &Text::invented()).unwrap();
        let (one, same, other) = (make("one", 7), make("same", 7), make("other", 8));
        assert_eq!(one.rev_parse("main"), same.rev_parse("main"));
        assert_ne!(one.rev_parse("main"), other.rev_parse("main"));
        assert_eq!(one.ls_tree("main").len(), 300);
        assert_eq!(one.git().run(["rev-list", "--count", "main"]), "9");
        one.fsck_strict();
    }

    #[test]
    fn forks_change_a_hundredth_each() {
        let directory = tempfile::tempdir().unwrap();
        let repo = repository(&directory.path().join("repo"), 250, 2, 1, &Text::invented()).unwrap();
        forks(&repo, 3, 1, &Text::invented()).unwrap();
        for number in 0..3 {
            let fork = format!("fork-{number}");
            let changed = repo.git().run(["diff-tree", "-r", "--name-only", "main", fork.as_str()]);
            assert_eq!(changed.lines().count(), 3, "{changed}");
            assert_eq!(repo.rev_parse(&format!("{fork}^")), repo.rev_parse("main"));
        }
        repo.fsck_strict();
    }

    #[test]
    fn a_skeleton_has_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let repo = skeleton(&directory.path().join("repo"), 1_000, 3).unwrap();
        assert_eq!(repo.ls_tree("main").len(), 1_000);
        repo.fsck_strict();
    }
}
