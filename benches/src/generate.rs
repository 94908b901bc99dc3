//! A repository that looks like a project's, of any size, made from a seed.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use treehold_tests::git::Repo;

const STEMS: [&str; 16] = [
    "parser", "index", "intro", "session", "readme", "cache", "schema", "router", "token", "layout", "worker",
    "client", "errors", "config", "model", "query",
];
const EXTENSIONS: [&str; 8] = ["rs", "md", "ts", "json", "py", "c", "txt", "css"];
const WORDS: [&str; 32] = [
    "the", "object", "store", "reads", "return", "tree", "and", "writes", "every", "change", "let", "while", "server",
    "answers", "with", "path", "index", "branch", "if", "before", "after", "value", "fn", "error", "match", "self",
    "bytes", "limit", "=", "->", "{", "}",
];
/// Lines that files are put together from; a number makes each its own.
const LINES: usize = 4_096;
/// Files in a directory, on average.
const FILES_PER_DIRECTORY: f64 = 12.0;
const DEPTH_MAX: usize = 9;
/// The median of the files' sizes, bytes; the mean is about 2.7 times as much.
const SIZE_MEDIAN: f64 = 2_200.0;
const SIZE_SIGMA: f64 = 1.4;
const SIZE_MAX: f64 = 400_000.0;
/// Commits after the first, and files that each of them changes.
const COMMITS: usize = 20;
const CHANGED: usize = 10;

/// Makes a bare repository with `files` files on `main`, packed as a server would have it.
pub fn repository(directory: &Path, files: usize, seed: u64) -> anyhow::Result<Repo> {
    let repo = Repo::init_bare(directory);
    let mut child =
        repo.git().command(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().context("run git fast-import")?;
    let stdin = child.stdin.take().context("git fast-import has no input")?;
    let written = write_history(BufWriter::with_capacity(1 << 16, stdin), files, seed);
    let status = child.wait().context("wait for git fast-import")?;
    written.context("write to git fast-import")?;
    ensure!(status.success(), "git fast-import failed");
    repo.git().run(["repack", "-a", "-d", "-q"]);
    Ok(repo)
}

fn write_history(mut out: impl Write, files: usize, seed: u64) -> std::io::Result<()> {
    let mut text = Text::new(seed);
    let paths = paths(files, &mut text.random);
    let all: Vec<usize> = (0..paths.len()).collect();
    for number in 0..=COMMITS {
        let some: Vec<usize> = match number {
            0 => all.clone(),
            _ => rand::seq::index::sample(&mut text.random, paths.len(), CHANGED.min(paths.len())).into_vec(),
        };
        let time_s = 1_700_000_000 + number * 3_600;
        let message = format!("Change {} files\n", some.len());
        writeln!(out, "commit refs/heads/main\ncommitter Ann Author <ann@example.org> {time_s} +0000")?;
        write!(out, "data {}\n{message}", message.len())?;
        for index in some {
            let content = text.file();
            writeln!(out, "M 100644 inline {}\ndata {}", paths[index], content.len())?;
            out.write_all(&content)?;
            out.write_all(b"\n")?;
        }
    }
    out.write_all(b"done\n")?;
    out.flush()
}

/// Distinct paths in a tree of directories that grows as a project's does: most directories are small, some are deep.
fn paths(files: usize, random: &mut StdRng) -> Vec<String> {
    let mut directories = vec![(String::new(), 0)];
    let mut paths = Vec::with_capacity(files);
    for number in 0..files {
        if random.random_bool(1.0 / FILES_PER_DIRECTORY) {
            let (parent, depth) = directories[random.random_range(0..directories.len())].clone();
            if depth < DEPTH_MAX {
                let stem = STEMS[random.random_range(0..STEMS.len())];
                directories.push((format!("{parent}{stem}{}/", directories.len()), depth + 1));
            }
        }
        // Files go to the directories made last more often, so that no directory keeps growing with the repository.
        let last = directories.len() - 1;
        let back = random.random_range(0.0f64..1.0).powi(3) * last as f64;
        let (directory, _) = &directories[last - back as usize];
        let stem = STEMS[random.random_range(0..STEMS.len())];
        let extension = EXTENSIONS[random.random_range(0..EXTENSIONS.len())];
        paths.push(format!("{directory}{stem}_{number}.{extension}"));
    }
    paths
}

/// A source of text.
pub struct Text {
    random: StdRng,
    lines: Vec<String>,
}

impl Text {
    /// The same seed gives the same text.
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut line = || {
            let indent = "    ".repeat(random.random_range(0..4));
            let words: Vec<&str> =
                (0..random.random_range(2..14)).filter_map(|_| WORDS.choose(&mut random).copied()).collect();
            format!("{indent}{}", words.join(" "))
        };
        let lines = (0..LINES).map(|_| line()).collect();
        Self { random, lines }
    }

    /// A file whose size is drawn from a log-normal distribution.
    pub fn file(&mut self) -> Vec<u8> {
        // Box and Muller's way to a normal distribution.
        let (a, b): (f64, f64) = (self.random.random_range(f64::EPSILON..1.0), self.random.random_range(0.0..1.0));
        let normal = (-2.0 * a.ln()).sqrt() * (2.0 * std::f64::consts::PI * b).cos();
        let size = (SIZE_MEDIAN * (SIZE_SIGMA * normal).exp()).clamp(20.0, SIZE_MAX);
        self.of_size(size as usize)
    }

    /// Text of exactly `size` bytes.
    pub fn of_size(&mut self, size: usize) -> Vec<u8> {
        let mut content = Vec::with_capacity(size + 128);
        while content.len() < size {
            let number: u32 = self.random.random_range(0..1_000_000);
            content.extend_from_slice(self.lines[number as usize % LINES].as_bytes());
            content.extend_from_slice(format!(" {number}\n").as_bytes());
        }
        content.truncate(size);
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_made_from_its_seed() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, seed| repository(&directory.path().join(name), 300, seed).unwrap();
        let (one, same, other) = (make("one", 7), make("same", 7), make("other", 8));
        assert_eq!(one.rev_parse("main"), same.rev_parse("main"));
        assert_ne!(one.rev_parse("main"), other.rev_parse("main"));
        assert_eq!(one.ls_tree("main").len(), 300);
        assert_eq!(one.git().run(["rev-list", "--count", "main"]), (COMMITS + 1).to_string());
        one.fsck_strict();
    }

    #[test]
    fn text_has_the_size_asked_for() {
        let mut text = Text::new(1);
        for size in [0, 1, 4_096] {
            assert_eq!(text.of_size(size).len(), size);
        }
    }
}
