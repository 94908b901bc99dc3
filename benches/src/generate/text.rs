//! Text for made repositories: real text where there is any, else invented.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use treehold_tests::git::Repo;

use super::paths::Names;

/// The median of the files' sizes, bytes; the mean is about 2.7 times as much.
const SIZE_MEDIAN: f64 = 2_200.0;
const SIZE_SIGMA: f64 = 1.4;
const SIZE_MIN: f64 = 20.0;
const SIZE_MAX: f64 = 400_000.0;
/// Real text is read up to this, bytes.
const READ_MAX: usize = 48 << 20;
/// Larger files are tables of numbers or generated.
const FILE_MAX: u64 = 300_000;
/// Directories are followed so deep.
const DEPTH_MAX: usize = 24;
const TEXTS: [&str; 16] =
    ["rs", "md", "toml", "c", "h", "cc", "cpp", "hpp", "py", "js", "ts", "go", "java", "json", "yml", "txt"];
const WORDS: [&str; 32] = [
    "the", "object", "store", "reads", "return", "tree", "and", "writes", "every", "change", "let", "while", "server",
    "answers", "with", "path", "index", "branch", "if", "before", "after", "value", "fn", "error", "match", "self",
    "bytes", "limit", "=", "->", "{", "}",
];
/// Invented texts, and lines in each.
const INVENTED: [usize; 2] = [64, 1_000];

/// Texts that files are cut out of.
#[derive(Debug)]
pub struct Text {
    /// Where it comes from, for the report.
    pub about: String,
    /// Names that go with it.
    pub names: Names,
    texts: Vec<Vec<u8>>,
}

impl Text {
    /// Words in a row, the same for everybody.
    pub fn invented() -> Self {
        let mut random = StdRng::seed_from_u64(0x7e87);
        let mut line = || {
            let indent = "    ".repeat(random.random_range(0..4));
            let words: Vec<&str> =
                (0..random.random_range(2..14)).filter_map(|_| WORDS.choose(&mut random).copied()).collect();
            format!("{indent}{} {}\n", words.join(" "), random.random_range(0..1_000_000))
        };
        let texts = (0..INVENTED[0]).map(|_| (0..INVENTED[1]).map(|_| line()).collect::<String>().into_bytes());
        Self { about: "invented".to_owned(), names: Names::invented(), texts: texts.collect() }
    }

    /// The text files at `path`: those of a directory, or of the head of a repository without a work tree.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        let is_bare = path.join("HEAD").is_file() && path.join("objects").is_dir();
        let files = if is_bare { of_repository(path)? } else { of_directory(path) };
        let names =
            Names { stems: words(&files, |path| path.file_stem()), extensions: words(&files, |path| path.extension()) };
        let texts: Vec<Vec<u8>> = files.into_iter().map(|(_, content)| content).collect();
        ensure!(texts.len() >= 10, "there are only {} text files at {}", texts.len(), path.display());
        let bytes: usize = texts.iter().map(Vec::len).sum();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let about = format!("{} files, {:.1} MiB of {name}", texts.len(), bytes as f64 / 1_048_576.0);
        Ok(Self { about, names, texts })
    }

    /// Real text that is on this machine: what cargo fetched, the toolchain's documents, or this checkout.
    pub fn found() -> anyhow::Result<Self> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
        let registry = home.map(|home| home.join("registry/src"));
        for path in [registry, checkout].into_iter().flatten() {
            if let Ok(text) = Self::at(&path) {
                return Ok(text);
            }
        }
        anyhow::bail!("there is no text on this machine: name some with --text")
    }

    /// A file whose size is drawn from a log-normal distribution.
    pub fn file(&self, random: &mut StdRng) -> Vec<u8> {
        // Box and Muller's way to a normal distribution.
        let (a, b): (f64, f64) = (random.random_range(f64::EPSILON..1.0), random.random_range(0.0..1.0));
        let normal = (-2.0 * a.ln()).sqrt() * (2.0 * std::f64::consts::PI * b).cos();
        let size = (SIZE_MEDIAN * (SIZE_SIGMA * normal).exp()).clamp(SIZE_MIN, SIZE_MAX);
        self.of_size(size as usize, random)
    }

    /// Text of exactly `size` bytes, from the start of a line somewhere.
    pub fn of_size(&self, size: usize, random: &mut StdRng) -> Vec<u8> {
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            let Some(text) = self.texts.choose(random) else { break };
            let from = line_start(text, random.random_range(0..text.len()));
            let end = text.len().min(from + size - content.len());
            content.extend_from_slice(&text[from..end]);
        }
        // A character that was cut would make it binary.
        if let Err(error) = std::str::from_utf8(&content) {
            content.truncate(error.valid_up_to());
        }
        content.resize(size, b'\n');
        content
    }

    /// `content` with some of its lines replaced.
    pub fn edited(&self, content: &[u8], random: &mut StdRng) -> Vec<u8> {
        let lines: Vec<&[u8]> = content.split_inclusive(|&byte| byte == b'\n').collect();
        let first = random.random_range(0..=lines.len());
        let replaced = random.random_range(0..=5).min(lines.len() - first);
        let fresh: usize = random.random_range(30..300);
        let mut edited: Vec<u8> = lines[..first].concat();
        edited.extend(self.of_size(fresh, random));
        edited.push(b'\n');
        edited.extend(lines[first + replaced..].concat());
        edited
    }
}

fn line_start(text: &[u8], near: usize) -> usize {
    text[..near].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// In order of the path, so that the same directory gives the same text.
fn of_directory(root: &Path) -> Files {
    let (mut files, mut bytes) = (Vec::new(), 0);
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        entries.sort_unstable_by(|a, b| b.cmp(a));
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() && depth < DEPTH_MAX && !name.starts_with('.') && name != "target" {
                open.push((path, depth + 1));
            } else if metadata.is_file() && metadata.len() <= FILE_MAX && bytes < READ_MAX {
                let content = std::fs::read(&path).unwrap_or_default();
                bytes += keep(&mut files, path, content);
            }
        }
    }
    files
}

fn of_repository(path: &Path) -> anyhow::Result<Files> {
    let repo = Repo::open(path);
    let (mut files, mut bytes) = (Vec::new(), 0);
    let mut lines = repo.ls_tree("HEAD");
    lines.retain(|line| line.mode.starts_with("100") && is_text(Path::new(&*String::from_utf8_lossy(&line.path))));
    let input: String = lines.iter().map(|line| format!("{}\n", line.oid)).collect();
    let mut output = &repo.git().bytes_with(["cat-file", "--batch"], input.as_bytes())[..];
    for line in lines {
        let head = output.iter().position(|&byte| byte == b'\n').context("git cat-file printed no line")?;
        let size = std::str::from_utf8(&output[..head])?.rsplit(' ').next().unwrap_or_default().parse::<usize>();
        let (size, content) = (size.context("git cat-file printed no size")?, &output[head + 1..]);
        ensure!(content.len() > size, "git cat-file printed too little");
        if size as u64 <= FILE_MAX && bytes < READ_MAX {
            let path = PathBuf::from(String::from_utf8_lossy(&line.path).into_owned());
            bytes += keep(&mut files, path, content[..size].to_vec());
        }
        output = &content[size + 1..];
    }
    Ok(files)
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| TEXTS.iter().any(|text| extension == *text))
}

/// Keeps what is text; how many bytes that were.
fn keep(files: &mut Files, path: PathBuf, content: Vec<u8>) -> usize {
    let is_text =
        is_text(&path) && !content.is_empty() && !content.contains(&0) && std::str::from_utf8(&content).is_ok();
    if !is_text {
        return 0;
    }
    let bytes = content.len();
    files.push((path, content));
    bytes
}

/// Names that no rule of any file system could refuse, as often as they occur.
fn words<'f>(files: &'f Files, of: impl Fn(&'f Path) -> Option<&'f std::ffi::OsStr>) -> Vec<String> {
    let plain = |word: &&str| word.len() <= 30 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let words = files.iter().filter_map(|(path, _)| of(path)?.to_str()).filter(plain);
    let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if words.is_empty() { vec!["file".to_owned()] } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn text_has_the_size_asked_for_and_is_text() {
        for text in [Text::invented(), Text::at(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()] {
            for size in [0, 1, 4_096, 1_000_003] {
                let content = text.of_size(size, &mut random());
                assert_eq!(content.len(), size);
                assert!(std::str::from_utf8(&content).is_ok());
            }
            let (content, mut random) = (text.of_size(4_096, &mut random()), random());
            assert_ne!(text.edited(&content, &mut random), content);
            assert!(!text.edited(b"", &mut random).is_empty());
        }
    }

    #[test]
    fn sizes_are_spread_around_a_median() {
        let (text, mut random) = (Text::invented(), random());
        let mut sizes: Vec<usize> = (0..2_001).map(|_| text.file(&mut random).len()).collect();
        sizes.sort_unstable();
        assert!((1_900..2_500).contains(&sizes[1_000]), "the median is {}", sizes[1_000]);
        assert!(sizes[20] < 400 && sizes[1_980] > 20_000, "{} to {}", sizes[20], sizes[1_980]);
    }

    #[test]
    fn a_bare_repository_gives_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let repo = Repo::init_bare(directory.path());
        let mut stream = String::from("commit refs/heads/main\ncommitter A <a@example.org> 1 +0000\ndata 2\nA\n");
        for number in 0..12 {
            stream.push_str(&format!("M 100644 inline src/name_{}.rs\ndata 3\nfn\n\n", "x".repeat(number)));
        }
        stream.push_str("M 100644 inline image.png\ndata 3\n\0\0\0\n");
        repo.git().run_with(["fast-import", "--quiet"], stream.as_bytes());
        let text = Text::at(directory.path()).unwrap();
        assert_eq!((text.texts.len(), text.names.extensions.len()), (12, 12));
        assert!(Text::at(&directory.path().join("missing")).is_err());
    }
}
