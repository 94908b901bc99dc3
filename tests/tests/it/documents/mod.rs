//! The commands of the documents, run as they stand there: every ```console block of a page, in order, in one shell with a server of
//! its own. A command must succeed, and its answer must have what the page shows of it. What a page tells to happen in between is in a
//! comment of the page (`<!-- meanwhile … -->`); a block after `<!-- not run: why -->` needs what no test has.

mod page;
mod stage;

use std::path::{Path, PathBuf};

use page::Page;
use stage::{Foundation, Stage};

async fn follow(page: &str, foundation: Foundation) {
    let page = Page::read(page);
    assert!(!page.commands.is_empty(), "{} has no commands", page.name);
    Stage::new(foundation).await.play(&page);
}

/// Goal: whoever follows the walk-throughs sees what they show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn walk_throughs() {
    follow("README.md", Foundation::Embedded).await;
}

/// Goal: the commands of the other pages work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages() {
    for page in ["docs/access.md", "docs/agents.md", "docs/operations.md"] {
        follow(page, Foundation::Embedded).await;
    }
}

/// Goal: the deployment on Postgres and S3 works as it is written, and whatever a page tells an operator of one to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployment() {
    follow("docs/deployment.md", Foundation::PostgresAndS3).await;
}

/// Goal: no page with commands is left out.
#[test]
fn every_page_is_followed() {
    let followed = include_str!("mod.rs");
    let left_out: Vec<_> = Page::all().into_iter().filter(|name| !followed.contains(&format!("\"{name}\""))).collect();
    assert!(left_out.is_empty(), "{left_out:?} have commands that nobody runs");
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            files_below(&entry, found);
        } else {
            found.push(entry);
        }
    }
}

/// Whether it names a function, a module or the like, and is no word that may stand anywhere.
fn is_item(name: &str) -> bool {
    name.contains('_') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

/// Goal: the page that says what keeps each law and what meets each threat, and what notices where that fails, names nothing that is gone.
#[test]
fn what_the_laws_and_the_threats_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = std::fs::read_to_string(root.join("docs/reliability.md")).expect("the page");
    let (before, threats) = page.split_once("\n## Threats\n").expect("both tables");
    let mut there = Vec::new();
    for dir in ["crates", "tests/tests"] {
        files_below(&root.join(dir), &mut there);
    }
    let sources = there.iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    let source: String = sources.map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    let is_law = |line: &&str| {
        line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let laws: Vec<&str> = before.lines().filter(is_law).collect();
    assert_eq!(laws.len(), 9);
    let threats = threats.lines().filter(|line| line.starts_with("| "));
    for row in laws.into_iter().chain(threats) {
        for name in row.split('`').skip(1).step_by(2) {
            let is_there = match name.ends_with(".rs") {
                true => there.iter().any(|path| path.ends_with(name)),
                false => !is_item(name) || name.rsplit("::").next().is_some_and(|item| source.contains(item)),
            };
            assert!(is_there, "{name} is not there: {row}");
        }
    }
}
