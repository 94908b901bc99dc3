//! Three texts merged, with what does not merge marked and told apart.

use std::num::NonZeroU8;

use gix_diff::blob::{Algorithm, InternedInput};
use gix_merge::blob::builtin_driver::text::{Conflict, ConflictStyle, Labels, Options};

use crate::api::ConflictHunk;

/// Length of git's own markers.
const MARKER: u8 = 7;
const MARKERS: [u8; 4] = [b'<', b'|', b'=', b'>'];

/// The merged text with markers as `git merge-file` writes them, and its conflicts, in order. `None`: a text is not UTF-8, or has lines of
/// more than 250 marker characters, among which ours could not be told.
pub(crate) fn merge_marked(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<(String, Vec<ConflictHunk>)> {
    // Markers that no line of the texts begins with.
    let longest = [base, ours, theirs].iter().map(|text| longest_run(text)).max()?;
    let size = longest.max(usize::from(MARKER)) + 1;
    let marker_size = NonZeroU8::new(u8::try_from(size).ok()?)?;
    let conflict = Conflict::Keep { style: ConflictStyle::ZealousDiff3, marker_size };
    let options = Options { diff_algorithm: Algorithm::Histogram, conflict };
    let (mut merged, mut input) = (Vec::new(), InternedInput::default());
    gix_merge::blob::builtin_driver::text(&mut merged, &mut input, Labels::default(), ours, base, theirs, options);
    told_apart(std::str::from_utf8(&merged).ok()?, size)
}

/// The most marker characters of one kind that a line begins with.
fn longest_run(text: &[u8]) -> usize {
    let run = |line: &[u8]| match line.first() {
        Some(first) if MARKERS.contains(first) => line.iter().take_while(|byte| *byte == first).count(),
        _ => 0,
    };
    text.split(|byte| *byte == b'\n').map(run).max().unwrap_or(0)
}

/// The text with git's own markers, without the base, and what stands between markers of this length.
fn told_apart(merged: &str, size: usize) -> Option<(String, Vec<ConflictHunk>)> {
    let (mut text, mut lines, mut hunks) = (String::with_capacity(merged.len()), 0, Vec::new());
    let mut show = |shown: &str| {
        text.push_str(shown);
        lines += 1;
        lines
    };
    let mut open: Option<(u8, ConflictHunk)> = None;
    for line in merged.split_inclusive('\n') {
        let marker = line.bytes().next().filter(|_| longest_run(line.as_bytes()) >= size);
        let end = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
        match (marker, &mut open) {
            (Some(b'<'), None) => {
                let line = show(&format!("<<<<<<< pending{end}"));
                open = Some((
                    b'<',
                    ConflictHunk { line, base: String::new(), ours: String::new(), theirs: String::new() },
                ));
            }
            (Some(b'>'), Some((_, hunk))) => {
                show(&format!(">>>>>>> branch{end}"));
                hunks.push(hunk.clone());
                open = None;
            }
            (Some(marker), Some((part, _))) => {
                *part = marker;
                if marker == b'=' {
                    show(&format!("======={end}"));
                }
            }
            (None, Some((b'|', hunk))) => hunk.base.push_str(line),
            (None, Some((part, hunk))) => {
                show(line);
                let side = if *part == b'<' { &mut hunk.ours } else { &mut hunk.theirs };
                side.push_str(line);
            }
            (None, None) => _ = show(line),
            // Markers come in order, or they are not ours.
            (Some(_), None) => return None,
        }
    }
    Some((text, hunks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_merges_has_no_hunks() {
        let (text, hunks) = merge_marked(b"a\nb\nc\nd\ne\n", b"A\nb\nc\nd\ne\n", b"a\nb\nc\nd\nE\n").unwrap();
        assert_eq!((text.as_str(), hunks), ("A\nb\nc\nd\nE\n", Vec::new()));
    }

    #[test]
    fn what_does_not_is_told_side_by_side() {
        let (text, hunks) =
            merge_marked(b"a\nb\nc\n1\n2\n3\nd\n", b"a\nours\nc\n1\n2\n3\nx\n", b"a\ntheirs\nc\n1\n2\n3\ny\n").unwrap();
        let expected = "a\n<<<<<<< pending\nours\n=======\ntheirs\n>>>>>>> branch\nc\n1\n2\n3\n<<<<<<< pending\nx\n=======\ny\n>>>>>>> branch\n";
        assert_eq!(text, expected);
        let hunk = |line, base: &str, ours: &str, theirs: &str| ConflictHunk {
            line,
            base: base.to_owned(),
            ours: ours.to_owned(),
            theirs: theirs.to_owned(),
        };
        assert_eq!(hunks, [hunk(2, "b\n", "ours\n", "theirs\n"), hunk(11, "d\n", "x\n", "y\n")]);
    }

    #[test]
    fn texts_that_hold_markers_are_no_trouble() {
        let marked = "<<<<<<< pending\nx\n=======\ny\n>>>>>>> branch\n";
        let text = |word: &str| format!("{marked}{word}\n<<<<<<<<<<<<<<<<\n");
        let (merged, hunks) = merge_marked(text("b").as_bytes(), text("o").as_bytes(), text("t").as_bytes()).unwrap();
        assert!(merged.starts_with(marked));
        assert_eq!((hunks.len(), hunks[0].line), (1, 6));
        assert_eq!((hunks[0].ours.as_str(), hunks[0].theirs.as_str()), ("o\n", "t\n"));
        assert_eq!(merge_marked(b"b\n", "<".repeat(255).as_bytes(), b"t\n"), None);
    }
}
