//! A repository that looks like a project's: several hundred files, some dozens of commits, and everything that
//! git can hold which a store could get wrong.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::fmt::Write;

const AREAS: [&str; 8] =
    ["src", "src/net/http", "docs/guide", "docs/ref/api/v2", "tests/data", "tools", "web/app/ui", "lib/a/b/c/d"];
const STEMS: [&str; 12] =
    ["parser", "index", "intro", "session", "README", "cache", "util", "schema", "router", "token", "naïve", "日本語"];
const EXTENSIONS: [&str; 6] = ["rs", "md", "txt", "json", "py", "c"];
const WORDS: [&str; 24] = [
    "the", "object", "store", "reads", "a", "tree", "and", "writes", "every", "change", "once", "while", "server",
    "answers", "with", "path", "index", "branch", "merge", "before", "after", "value", "returns", "error",
];
const COMMITS: usize = 40;

/// A stream for `git fast-import`: branches `main` and `topic/…`, merged; tags `v1.0` (annotated) and `light`.
///
/// Has text files of realistic sizes, an empty file, a binary one, CRLF, a 300 KB file, renames, deletions, mode
/// changes, executables, symlinks, a submodule with its gitlink, and names in Unicode and with spaces.
pub fn fast_import_stream(seed: u64) -> Vec<u8> {
    let mut sample =
        Sample { random: StdRng::seed_from_u64(seed), stream: Vec::new(), files: BTreeMap::new(), marks: 0 };
    let mut changes = sample.first_files();
    let mut main = sample.commit("refs/heads/main", "Start the project", None, None, &changes);
    for number in 1..=COMMITS {
        if number % 8 == 0 {
            main = sample.merge_a_topic(number, main);
        } else {
            changes = sample.some_changes();
            let message = format!("Change {} files\n\nStep {number}: {}", changes.len(), sentence(&mut sample.random));
            main = sample.commit("refs/heads/main", &message, Some(main), None, &changes);
        }
    }
    let tagger = "tagger T Agger <tagger@example.org> 1700090000 +0100";
    sample.text(&format!("tag v1.0\nfrom :{main}\n{tagger}\ndata 12\nVersion 1.0\n\n"));
    sample.text(&format!("reset refs/tags/light\nfrom :{main}\n\n"));
    sample.stream
}

struct Sample {
    random: StdRng,
    stream: Vec<u8>,
    /// The files on `main` that may still change, with their modes.
    files: BTreeMap<String, &'static str>,
    marks: usize,
}

enum Change {
    Write(String, &'static str, Vec<u8>),
    Link(String, &'static str),
    Delete(String),
    Rename(String, String),
}

impl Sample {
    fn text(&mut self, text: &str) {
        self.stream.extend_from_slice(text.as_bytes());
    }

    fn write(&mut self, path: String) -> Change {
        let mode = *self.files.entry(path.clone()).or_insert("100644");
        Change::Write(path, mode, prose(&mut self.random))
    }

    fn first_files(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (number, area) in (0..300).zip(AREAS.iter().cycle()) {
            let stem = STEMS.choose(&mut self.random).copied().unwrap_or_default();
            let extension = EXTENSIONS.choose(&mut self.random).copied().unwrap_or_default();
            let path = format!("{area}/{stem}_{number}.{extension}");
            if number % 25 == 0 {
                self.files.insert(path.clone(), "100755");
            }
            changes.push(self.write(path));
        }
        let gitlink = "0123456789abcdef0123456789abcdef01234567";
        let modules = b"[submodule \"vendor/dep\"]\n\tpath = vendor/dep\n\turl = https://example.org/dep.git\n";
        let fixed: [(&str, &'static str, Vec<u8>); 9] = [
            (".gitmodules", "100644", modules.to_vec()),
            (".gitattributes", "100644", b"*.bin binary\n".to_vec()),
            ("empty", "100644", Vec::new()),
            ("assets/logo.bin", "100644", (0..5000u32).map(|byte| ((byte * byte) >> 3) as u8).collect()),
            ("assets/windows.txt", "100644", b"one\r\ntwo\r\nno end".to_vec()),
            ("assets/large.csv", "100644", table(&mut self.random)),
            ("a file with spaces.txt", "100644", b"spaces\n".to_vec()),
            ("docs/latest", "120000", b"guide".to_vec()),
            ("bin/run", "120000", b"../tools/start.sh".to_vec()),
        ];
        changes.extend(fixed.map(|(path, mode, content)| Change::Write(path.into(), mode, content)));
        changes.push(Change::Link("vendor/dep".into(), gitlink));
        // `a`, `a.c` and `a/`: git sorts a directory as if its name ended in a slash.
        changes.extend(
            ["order/a.c", "order/a/x", "order/a0"].map(|path| Change::Write(path.into(), "100644", b"x\n".to_vec())),
        );
        changes
    }

    fn pick(&mut self) -> String {
        let index = self.random.random_range(0..self.files.len());
        self.files.keys().nth(index).cloned().unwrap_or_default()
    }

    fn some_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..self.random.random_range(1..6) {
            let path = self.pick();
            changes.push(self.write(path));
        }
        // Each of the rarer changes takes a path out of play, so that no change names a path twice.
        match self.random.random_range(0..4) {
            0 => {
                let path = self.pick();
                self.files.remove(&path);
                changes.push(Change::Delete(path));
            }
            1 => {
                let (from, number) = (self.pick(), self.marks);
                let to = format!("moved/{number}/{}", from.rsplit('/').next().unwrap_or_default());
                self.files.remove(&from);
                changes.push(Change::Rename(from, to));
            }
            2 => {
                let path = self.pick();
                self.files.insert(path.clone(), "100755");
                changes.push(self.write(path));
            }
            _ => {
                let path = format!("notes/{}.md", self.marks);
                changes.push(self.write(path));
            }
        }
        changes
    }

    /// Two commits on a topic branch, one beside them on `main`, and the merge of both.
    fn merge_a_topic(&mut self, number: usize, base: usize) -> usize {
        let branch = format!("refs/heads/topic/{number}");
        let mut merged = Vec::new();
        let mut topic = base;
        for step in 0..2 {
            let content = prose(&mut self.random);
            let path = format!("topics/{number}/step_{step}.md");
            let change = [Change::Write(path.clone(), "100644", content.clone())];
            topic = self.commit(&branch, &format!("Work on topic {number}"), Some(topic), None, &change);
            merged.push(Change::Write(path, "100644", content));
        }
        let path = self.pick();
        let beside = [self.write(path)];
        let main = self.commit("refs/heads/main", "Meanwhile on main", Some(base), None, &beside);
        self.commit("refs/heads/main", &format!("Merge topic/{number}"), Some(main), Some(topic), &merged)
    }

    fn commit(
        &mut self,
        branch: &str,
        message: &str,
        from: Option<usize>,
        merge: Option<usize>,
        changes: &[Change],
    ) -> usize {
        self.marks += 1;
        let mark = self.marks;
        let time_s = 1_700_000_000 + mark * 600;
        self.text(&format!("commit {branch}\nmark :{mark}\nauthor Ünal Author <author@example.org> {time_s} +0530\n"));
        self.text(&format!("committer C O Mitter <committer@example.org> {} -0800\n", time_s + 30));
        self.text(&format!("data {}\n{message}\n\n", message.len() + 1));
        self.text(&from.map(|from| format!("from :{from}\n")).unwrap_or_default());
        self.text(&merge.map(|merge| format!("merge :{merge}\n")).unwrap_or_default());
        for change in changes {
            match change {
                Change::Write(path, mode, content) => {
                    self.text(&format!("M {mode} inline {path}\ndata {}\n", content.len()));
                    self.stream.extend_from_slice(content);
                    self.text("\n");
                }
                Change::Link(path, oid) => self.text(&format!("M 160000 {oid} {path}\n")),
                Change::Delete(path) => self.text(&format!("D {path}\n")),
                Change::Rename(from, to) => self.text(&format!("R \"{from}\" {to}\n")),
            }
        }
        self.text("\n");
        mark
    }
}

fn sentence(random: &mut StdRng) -> String {
    let words: Vec<&str> = (0..random.random_range(4..14)).filter_map(|_| WORDS.choose(random).copied()).collect();
    words.join(" ") + "."
}

/// Some lines of text; most files are small and a few are large, as in real projects.
fn prose(random: &mut StdRng) -> Vec<u8> {
    let lines = if random.random_ratio(1, 20) { random.random_range(200..600) } else { random.random_range(1..60) };
    let mut text = String::new();
    for _ in 0..lines {
        text.push_str(&sentence(random));
        text.push('\n');
    }
    text.into_bytes()
}

fn table(random: &mut StdRng) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..12_000 {
        let _ = writeln!(text, "{row},{},{:.4}", random.random_range(0..1_000_000), random.random::<f64>());
    }
    text.into_bytes()
}
