//! A page as a list of commands and of what it shows of their answers.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What happens next.
#[derive(Debug)]
pub struct Command {
    /// Lines of shell.
    pub text: String,
    /// What the page shows of the answer.
    pub shown: String,
    pub line: usize,
}

#[derive(Debug)]
pub struct Page {
    pub name: String,
    pub commands: Vec<Command>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// What a line of a page belongs to.
enum Place {
    Prose,
    /// A comment with commands.
    Meanwhile,
    Block {
        run: bool,
    },
}

impl Page {
    /// The pages that have commands, by their paths.
    pub fn all() -> Vec<String> {
        let docs = std::fs::read_dir(root().join("docs")).expect("docs");
        let docs = docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().to_string_lossy()));
        let pages = docs.filter(|name| name.ends_with(".md")).chain(["README.md".to_owned()]);
        pages.filter(|name| !Self::read(name).commands.is_empty()).collect()
    }

    pub fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).expect("a page");
        let mut commands: Vec<Command> = Vec::new();
        let (mut place, mut skip, mut open) = (Place::Prose, false, false);
        for (at, line) in text.lines().enumerate() {
            match place {
                Place::Prose if line == "```console" => place = Place::Block { run: !std::mem::take(&mut skip) },
                Place::Prose if line == "<!-- meanwhile" => place = Place::Meanwhile,
                Place::Prose => skip |= line.starts_with("<!-- not run: "),
                Place::Meanwhile if line == "-->" => place = Place::Prose,
                Place::Meanwhile => {
                    commands.push(Command { text: line.to_owned(), shown: String::new(), line: at + 1 });
                }
                Place::Block { .. } if line == "```" => place = Place::Prose,
                Place::Block { run: false } => {}
                Place::Block { run: true } => {
                    if let Some(text) = line.strip_prefix("$ ") {
                        commands.push(Command { text: text.to_owned(), shown: String::new(), line: at + 1 });
                        open = text.ends_with('\\');
                        continue;
                    }
                    let last =
                        commands.last_mut().unwrap_or_else(|| panic!("{name}:{}: no command before this", at + 1));
                    let grows = if open { &mut last.text } else { &mut last.shown };
                    grows.push('\n');
                    grows.push_str(line);
                    open = open && line.ends_with('\\');
                }
            }
        }
        Self { name: name.to_owned(), commands }
    }
}

impl Command {
    /// What the page shows and the answer lacks: members of JSON, and the first word of each line of text.
    pub fn missing(&self, answer: &str) -> BTreeSet<String> {
        members(&self.shown).difference(&members(answer)).cloned().chain(self.words_not_in(answer)).collect()
    }

    fn words_not_in(&self, answer: &str) -> Vec<String> {
        let texts = self.shown.lines().filter(|line| !line.starts_with(['{', ' ', '[']));
        let is_id = |word: &str| word.chars().all(|c| c.is_ascii_hexdigit() || c == '…');
        let first = texts.filter_map(|line| line.split_whitespace().find(|word| !is_id(word)));
        let told = first.filter_map(|word| word.split('…').next());
        told.filter(|word| !answer.contains(word)).map(str::to_owned).collect()
    }
}

/// Names of members in a text that holds JSON, cut or not.
fn members(text: &str) -> BTreeSet<String> {
    let named = text.split('"').zip(text.split('"').skip(1));
    named.filter(|(_, after)| after.starts_with(':')).map(|(name, _)| name.to_owned()).collect()
}
