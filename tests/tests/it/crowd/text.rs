//! The texts that everybody edits: lines that stay, and between them marks, each of which is one edit.

use std::collections::BTreeSet;

/// Lines of a file that nobody ever takes away.
pub const ANCHORS: usize = 10;

/// A file before anybody edits it.
pub fn fresh() -> String {
    (0..ANCHORS).map(anchor).collect()
}

/// A line that stays.
pub fn anchor(nth: usize) -> String {
    format!("line {nth}\n")
}

/// The text with one more edit, after a line that stays.
pub fn insert(text: &str, mark: &str, after: usize) -> String {
    let anchor = anchor(after);
    let at = text.find(&anchor).map_or(0, |at| at + anchor.len());
    format!("{}{mark}\n{}", &text[..at], &text[at..])
}

/// All edits that a text has. Panics where one stands twice, where a line that stays is missing or moved, or where there is
/// anything else.
pub fn marks(text: &str) -> BTreeSet<String> {
    let (mut found, mut anchors) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        match line.starts_with("line ") {
            true => anchors += &format!("{line}\n"),
            false => {
                assert!(line.starts_with("edit-"), "a line that nobody wrote, {line:?}, in:\n{text}");
                assert!(found.insert(line.to_owned()), "{line} stands twice in:\n{text}");
            }
        }
    }
    assert_eq!(anchors, fresh(), "lines that stay did not:\n{text}");
    found
}

/// What a person makes of two texts: `theirs`, with the edits that only `ours` has, each after the line where it stood.
pub fn both(ours: &str, theirs: &str) -> String {
    let has = marks(theirs);
    let (mut text, mut after) = (theirs.to_owned(), 0);
    for line in ours.lines() {
        match line.strip_prefix("line ") {
            Some(nth) => after = nth.parse().expect("a number"),
            None if has.contains(line) => {}
            None => text = insert(&text, line, after),
        }
    }
    text
}
