//! Unified diffs, applied by us and by stock git.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::random;
use crate::pending::{Patch, replace};

const CASES: usize = 150;

/// Few different lines, so that places are mistaken for each other.
const LINES: [&str; 7] = ["a", "b", "c", "", "  a", "{", "}"];

fn some_text(random: &mut StdRng) -> Vec<&'static str> {
    (0..random.random_range(0..40)).map(|_| *LINES.choose(random).expect("lines")).collect()
}

/// The text with some lines taken away, added and replaced.
fn edited(random: &mut StdRng, text: &[&'static str], changes: usize) -> Vec<&'static str> {
    let mut text = text.to_vec();
    for _ in 0..changes {
        let at = random.random_range(0..=text.len());
        match random.random_range(0..3) {
            0 if at < text.len() => _ = text.remove(at),
            1 if at < text.len() => text[at] = "changed",
            _ => text.insert(at, "added"),
        }
    }
    text
}

fn bytes(random: &mut StdRng, lines: &[&str]) -> Vec<u8> {
    let mut text = lines.join("\n").into_bytes();
    if !lines.is_empty() && random.random_range(0..4) > 0 {
        text.push(b'\n');
    }
    text
}

/// Goal: a diff of stock git is applied, or refused, as `git apply` does it, also to a text that is not the one it was made of.
#[test]
fn diffs_are_applied_as_git_applies_them() {
    let mut random = random();
    let dir = tempfile::tempdir().expect("a directory");
    let git = treehold_tests::git::Git::at(dir.path());
    let (mut applied, mut refused) = (0, 0);
    for case in 0..CASES {
        let lines = some_text(&mut random);
        let changes = random.random_range(1..5);
        let new = edited(&mut random, &lines, changes);
        let (old, new) = (bytes(&mut random, &lines), bytes(&mut random, &new));
        std::fs::write(dir.path().join("old"), &old).expect("write");
        std::fs::write(dir.path().join("new"), &new).expect("write");
        let context = format!("-U{}", random.random_range(1..4));
        let diff = git.output(["diff", "--no-index", "--no-color", "--no-renames", &context, "old", "new"]).stdout;
        if diff.is_empty() || old.is_empty() || new.is_empty() {
            continue;
        }
        // The text itself, or one that somebody else changed.
        let other = match case % 3 {
            0 => old.clone(),
            _ => {
                let changes = random.random_range(1..6);
                let mut other = edited(&mut random, &lines, changes).join("\n").into_bytes();
                other.push(b'\n');
                other
            }
        };
        // Beside a text that does not end its last line, git compares less strictly than we do.
        if case % 3 != 0 && diff.windows(12).any(|line| line == b"\\ No newline") {
            continue;
        }
        let name = String::from_utf8_lossy(&diff).replace("a/old", "a/f").replace("b/new", "b/f");
        std::fs::write(dir.path().join("f"), &other).expect("write");
        let theirs = git.output_of(["apply", "--whitespace=nowarn", "-"], name.as_bytes());
        let ours = Patch::parse(name.as_bytes()).and_then(|patch| patch.apply(&other));
        let shown = || format!("{name}\non\n{}", String::from_utf8_lossy(&other));
        match theirs.status.success() {
            true => {
                applied += 1;
                let expected = std::fs::read(dir.path().join("f")).expect("read");
                assert_eq!(ours.as_deref(), Ok(expected.as_slice()), "{}", shown());
            }
            false => {
                refused += 1;
                assert_eq!(ours.map_err(|error| error.code), Err("patch_failed"), "{}", shown());
            }
        }
    }
    assert!(applied > CASES / 4 && refused > 5, "{applied} applied and {refused} refused say too little");
}

/// Goal: what an edit changes is the string alone, and as often as it occurs.
#[test]
fn edits_change_what_they_name() {
    let mut random = random();
    for _ in 0..500 {
        let text = some_text(&mut random).join("\n");
        let old = some_text(&mut random).into_iter().take(2).collect::<Vec<_>>().join("\n");
        let occurrences = if old.is_empty() { 0 } else { text.matches(&old).count() };
        let all = random.random_bool(0.5);
        let ours = replace(text.as_bytes(), old.as_bytes(), b"new", all, 1 << 20);
        match occurrences {
            1 => assert_eq!(ours, Ok(text.replacen(&old, "new", 1).into_bytes())),
            2.. if all => assert_eq!(ours, Ok(text.replace(&old, "new").into_bytes())),
            _ if old.is_empty() => assert_eq!(ours.map_err(|error| error.code), Err("bad_op")),
            0 => assert_eq!(ours.map_err(|error| (error.code, error.occurrences)), Err(("no_match", Some(0)))),
            count => {
                assert_eq!(ours.map_err(|error| (error.code, error.occurrences)), Err(("ambiguous_match", Some(count))))
            }
        }
    }
}
