//! A repository to show things with: several hundred source and text files, several directories deep, with history.
//! The same on every machine and every run.

use std::fmt::Write as _;

/// Files of the first commit that later ones change and add to.
const COMMITS: usize = 24;
/// 2024-03-04 09:00 UTC, Unix seconds.
const BEGAN: u64 = 1_709_542_800;

const AREAS: [&str; 8] = ["accounts", "billing", "catalog", "delivery", "inventory", "orders", "search", "sessions"];
const TOPICS: [&str; 12] = [
    "getting-started",
    "concepts",
    "configuration",
    "deployment",
    "permissions",
    "webhooks",
    "rate-limits",
    "backups",
    "monitoring",
    "upgrades",
    "troubleshooting",
    "glossary",
];
const NOUNS: [&str; 16] = [
    "account", "address", "basket", "batch", "cursor", "invoice", "label", "ledger", "message", "order", "parcel",
    "policy", "quota", "record", "session", "voucher",
];
const VERBS: [&str; 12] = [
    "apply", "build", "check", "collect", "dispatch", "expand", "find", "group", "merge", "render", "resolve", "settle",
];
const CLAUSES: [&str; 10] = [
    "is written once and never changed",
    "is checked before anything else happens",
    "belongs to exactly one account",
    "expires after thirty days unless it is renewed",
    "may be repeated safely with the same key",
    "is kept until the nightly run has seen it",
    "is read by every region and written by one",
    "carries the id of the request that made it",
    "is listed in the order in which it arrived",
    "counts against the quota of its owner",
];
const PEOPLE: [(&str, &str); 3] =
    [("Ada Quill", "ada@example.org"), ("Grace Moor", "grace@example.org"), ("Lin Park", "lin@example.org")];

/// One file: where it is, what kind, and which commits touched it.
#[derive(Debug)]
struct File {
    path: String,
    kind: Kind,
    born: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Markdown,
    Rust,
    TypeScript,
    Toml,
    Shell,
}

/// Splitmix64: small, and the same everywhere for ever.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// Seeded by a text, so that a file does not depend on those before it.
    fn of(text: &str, version: usize) -> Self {
        let seed = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(seed ^ (version as u64) << 48)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.roll(words.len())]
    }
}

/// The repository as a stream for `git fast-import`.
pub fn fast_import(branch: &str) -> String {
    let files = files();
    let mut stream = String::new();
    for commit in 0..COMMITS {
        let mut dice = Dice::of("commit", commit);
        let (name, email) = PEOPLE[commit % PEOPLE.len()];
        let time = BEGAN + commit as u64 * 86_400 + dice.roll(28_000) as u64;
        let message = message(commit, &mut dice);
        // Writing into a `String` cannot fail.
        let _ = writeln!(stream, "commit refs/heads/{branch}");
        let _ = write!(stream, "author {name} <{email}> {time} +0000\ncommitter {name} <{email}> {time} +0000\n");
        let _ = write!(stream, "data {}\n{message}", message.len());
        for file in files.iter().filter(|file| file.touched_by(commit)) {
            let mode = if matches!(file.kind, Kind::Shell) { "100755" } else { "100644" };
            let text = file.text(commit);
            let _ = write!(stream, "M {mode} inline {}\ndata {}\n{text}", file.path, text.len());
        }
        stream.push('\n');
    }
    stream.push_str("done\n");
    stream
}

/// Paths of the head, in no particular order.
pub fn paths() -> Vec<String> {
    files().into_iter().map(|file| file.path).collect()
}

/// How many commits there are.
pub fn commits() -> usize {
    COMMITS
}

fn message(commit: usize, dice: &mut Dice) -> String {
    if commit == 0 {
        return "Lay out the shop\n".to_owned();
    }
    let (area, verb, noun) = (dice.pick(&AREAS), dice.pick(&VERBS), dice.pick(&NOUNS));
    let mut verb = verb.to_owned();
    if let Some(first) = verb.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!("{verb} the {noun} in {area}\n\nThe {noun} {}.\n", dice.pick(&CLAUSES))
}

fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut add = |path: String, kind: Kind| {
        let mut dice = Dice::of(&path, 0);
        // Two files of three are there from the start.
        let born = if dice.roll(3) < 2 { 0 } else { 1 + dice.roll(COMMITS - 1) };
        files.push(File { path, kind, born });
    };
    add("README.md".into(), Kind::Markdown);
    for topic in TOPICS {
        for part in ["guide", "reference", "operations"] {
            add(format!("docs/{part}/{topic}.md"), Kind::Markdown);
        }
    }
    for area in AREAS {
        add(format!("services/{area}/README.md"), Kind::Markdown);
        add(format!("services/{area}/service.toml"), Kind::Toml);
        add(format!("scripts/{area}/deploy.sh"), Kind::Shell);
        for noun in NOUNS {
            add(format!("services/{area}/src/{noun}.rs"), Kind::Rust);
            add(format!("web/app/{area}/components/{noun}/view.ts"), Kind::TypeScript);
        }
        for noun in &NOUNS[..8] {
            add(format!("services/{area}/tests/it/{noun}.rs"), Kind::Rust);
            add(format!("docs/areas/{area}/objects/{noun}.md"), Kind::Markdown);
        }
    }
    files
}

impl File {
    fn touched_by(&self, commit: usize) -> bool {
        commit == self.born || (commit > self.born && Dice::of(&self.path, commit).roll(16) == 0)
    }

    /// The text as of this commit: a head, then one part for the birth and one for every change.
    fn text(&self, commit: usize) -> String {
        let mut text = self.head();
        for version in (self.born..=commit).filter(|version| self.touched_by(*version)) {
            let mut dice = Dice::of(&self.path, version + 1000);
            for part in 0..2 + dice.roll(5) {
                text.push_str(&self.part(&mut dice, version, part));
            }
        }
        text
    }

    fn subject(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }

    fn head(&self) -> String {
        match self.kind {
            Kind::Markdown => format!("# {}\n", self.subject().replace('-', " ")),
            Kind::Rust => format!("//! Everything about `{}`.\n", self.subject()),
            Kind::TypeScript => format!("// Shows `{}`.\nimport {{ html }} from \"../../../html\";\n", self.subject()),
            Kind::Toml => "[service]\nport = 8080\n".to_owned(),
            Kind::Shell => "#!/bin/sh\nset -eu\n".to_owned(),
        }
    }

    fn part(&self, dice: &mut Dice, version: usize, part: usize) -> String {
        let (verb, noun, other) = (dice.pick(&VERBS), dice.pick(&NOUNS), dice.pick(&NOUNS));
        let number = version * 10 + part;
        let clause = dice.pick(&CLAUSES);
        match self.kind {
            Kind::Markdown => {
                let more: Vec<String> = (0..3 + dice.roll(5))
                    .map(|_| format!("The {} {}.", dice.pick(&NOUNS), dice.pick(&CLAUSES)))
                    .collect();
                format!("\n## How to {verb} the {noun}\n\nThe {noun} {clause}.\n{}\n", more.join("\n"))
            }
            Kind::Rust => format!(
                "\n/// The {noun} {clause}.\npub fn {verb}_{noun}_{number}({other}s: &[u64], limit: usize) -> Option<u64> {{\n    \
                 let mut total = {};\n    for {other} in {other}s.iter().take(limit) {{\n        \
                 total += {other} * {};\n    }}\n    (total > 0).then_some(total)\n}}\n",
                dice.roll(9),
                dice.roll(90) + 1
            ),
            Kind::TypeScript => format!(
                "\n/** The {noun} {clause}. */\nexport function {verb}{number}({noun}: Record<string, string>) {{\n  \
                 return html`<section class=\"{noun}-{}\">${{{noun}.{other}}}</section>`;\n}}\n",
                dice.roll(100)
            ),
            Kind::Toml => format!("\n[{verb}.{noun}-{number}]\n# The {noun} {clause}.\nlimit = {}\n", dice.roll(1000)),
            Kind::Shell => format!("\n# The {noun} {clause}.\necho \"{verb} {noun} {number}\"\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hundred_files_deep_and_always_the_same() {
        let mut all = paths();
        all.sort();
        all.dedup();
        assert!((400..1000).contains(&all.len()), "{}", all.len());
        assert!(all.iter().any(|path| path.matches('/').count() >= 5));
        assert!(all.iter().all(|path| path.bytes().all(|b| b.is_ascii_lowercase() || b"/-.README".contains(&b))));
        let stream = fast_import("main");
        assert_eq!(stream, fast_import("main"));
        assert_eq!(stream.matches("commit refs/heads/main\n").count(), COMMITS);
        assert!(stream.len() > 500_000, "{}", stream.len());
    }

    #[test]
    fn later_commits_change_and_add() {
        let files = files();
        assert!(files.iter().any(|file| file.born > 0));
        assert!((1..COMMITS).all(|commit| files.iter().any(|file| file.touched_by(commit))), "an empty commit");
        let changed = files.iter().find(|file| (file.born + 1..COMMITS).any(|c| file.touched_by(c))).unwrap();
        assert!(changed.text(COMMITS - 1).starts_with(&changed.text(changed.born)));
    }
}
