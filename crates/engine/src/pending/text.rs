//! Edits of a text: one exact string for another, and unified diffs.
//!
//! A diff is applied as `git apply` does it: each hunk must match byte for byte, with all of its context (no fuzz), but may lie elsewhere
//! than its header says; the nearest place wins, the later one of two. Hunks that begin at line 1, or have no context after them, are
//! tied to that end of the file. No hunk touches what another one left. (git's apply.c, `find_pos` and `match_fragment`.)

use treehold_object::ByteSlice;

use crate::api::Mode;

/// Lines that may be compared or moved for one diff: what is hostile ends here, what is honest never comes near.
const STEPS_MAX: u64 = 1 << 25;
/// Lines of a text or a diff, each of which takes some memory of its own.
const LINES_MAX: usize = 1 << 20;

/// Why a text could not be edited. `code` is stable; the sentence says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EditError {
    pub code: &'static str,
    pub detail: String,
    /// How often the text to replace occurs.
    pub occurrences: Option<usize>,
    /// The hunk that does not apply, from 1.
    pub hunk: Option<usize>,
}

impl EditError {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), occurrences: None, hunk: None }
    }
}

/// Replaces `old`, which must occur exactly once unless `all` are meant; the result has at most `limit` bytes.
pub(crate) fn replace(text: &[u8], old: &[u8], new: &[u8], all: bool, limit: u64) -> Result<Vec<u8>, EditError> {
    if old.is_empty() {
        return Err(EditError::new("bad_op", "`old_string` must not be empty; use `put` to write a whole file."));
    }
    let occurrences = text.find_iter(old).count();
    let refused =
        |code, detail: &str| Err(EditError { occurrences: Some(occurrences), ..EditError::new(code, detail) });
    // Before memory is spent on it.
    let size = (text.len() - occurrences * old.len()).saturating_add(occurrences.saturating_mul(new.len()));
    match occurrences {
        1.. if (all || occurrences == 1) && size as u64 > limit => {
            Err(EditError::new("too_large", format!("The file would be over the limit of {limit} bytes.")))
        }
        0 => refused("no_match", "`old_string` does not occur in the file; read it again."),
        1 => Ok(text.replace(old, new)),
        _ if all => Ok(text.replace(old, new)),
        _ => refused(
            "ambiguous_match",
            "`old_string` occurs more than once; give more of what is around it, or `replace_all`.",
        ),
    }
}

/// A unified diff of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch<'a> {
    /// The file must not exist.
    pub creates: bool,
    /// The file goes.
    pub deletes: bool,
    /// The file's new mode.
    pub mode: Option<Mode>,
    hunks: Vec<Hunk<'a>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Hunk<'a> {
    old_start: usize,
    new_start: usize,
    /// Lines with their line ends.
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    /// Lines of context at the end.
    trailing: usize,
}

/// A line of a text that is being patched.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    text: &'a [u8],
    /// A hunk has put it there, so that no other one may match it.
    patched: bool,
}

fn bad(detail: impl Into<String>) -> EditError {
    EditError::new("bad_diff", detail)
}

fn check_lines(text: &[u8]) -> Result<(), EditError> {
    match text.iter().filter(|byte| **byte == b'\n').count() > LINES_MAX {
        true => {
            Err(EditError::new("too_large", format!("A text of more than {LINES_MAX} lines takes no diff; use `put`.")))
        }
        false => Ok(()),
    }
}

impl<'a> Patch<'a> {
    /// Reads a diff. Names in its headers do not count: the operation says which file is meant.
    pub(crate) fn parse(diff: &'a [u8]) -> Result<Self, EditError> {
        check_lines(diff)?;
        let mut patch = Self::default();
        let mut lines = diff.lines_with_terminator().peekable();
        let mut files = 0;
        while let Some(line) = lines.next() {
            if line.starts_with(b"@@ ") {
                patch.hunks.push(hunk(line, &mut lines)?);
                continue;
            }
            let begins = line.starts_with(b"diff --git ") || (line.starts_with(b"--- ") && !patch.hunks.is_empty());
            files += usize::from(begins);
            if files > 1 || (begins && !patch.hunks.is_empty()) {
                return Err(bad("The diff is of more than one file; give each an operation of its own."));
            }
            // Lines that a hunk's header did not announce would be lost without a word. The one that mail ends a patch with is none.
            if !patch.hunks.is_empty() && b" +-".contains(&line[0]) && line.trim_end() != b"--" {
                return Err(bad("A hunk has more lines than its header says."));
            }
            patch.header(line)?;
        }
        if patch.hunks.is_empty() && patch.mode.is_none() && !patch.deletes {
            return Err(bad("The diff has no hunks."));
        }
        Ok(patch)
    }

    fn header(&mut self, line: &[u8]) -> Result<(), EditError> {
        let line = line.trim_end();
        let refused = [
            (&b"rename "[..], "A renamed file is a `move`."),
            (b"copy ", "A copied file is a `put`."),
            (b"GIT binary patch", "Binary patches are not taken; use `put`."),
            (b"Binary files ", "The diff says that the files are binary, but not how they differ; use `put`."),
        ];
        if let Some((_, detail)) = refused.iter().find(|(start, _)| line.starts_with(start)) {
            return Err(bad(*detail));
        }
        let mode = line.strip_prefix(b"new file mode ").or_else(|| line.strip_prefix(b"new mode "));
        if let Some(mode) = mode {
            let mode = std::str::from_utf8(mode).ok().and_then(|mode| mode.parse().ok());
            self.mode = Some(mode.ok_or_else(|| bad("The diff's new mode is not 100644, 100755 or 120000."))?);
        }
        self.creates |= line.starts_with(b"new file mode ") || line == b"--- /dev/null";
        self.deletes |= line.starts_with(b"deleted file mode ") || line == b"+++ /dev/null";
        Ok(())
    }

    /// The new text; `None` as the old one stands for an empty file.
    pub(crate) fn apply(&self, text: &[u8]) -> Result<Vec<u8>, EditError> {
        check_lines(text)?;
        let mut image: Vec<Line<'_>> = text.lines_with_terminator().map(|text| Line { text, patched: false }).collect();
        let mut steps = 0;
        for (number, hunk) in self.hunks.iter().enumerate() {
            steps += image.len() as u64 / 16;
            let at = hunk.find(&image, &mut steps).ok_or_else(|| EditError {
                hunk: Some(number + 1),
                ..EditError::new(
                    "patch_failed",
                    format!("Hunk {} does not apply: its lines are not in the file. Read it again.", number + 1),
                )
            })?;
            let new = hunk.new.iter().map(|text| Line { text, patched: true });
            image.splice(at..at + hunk.old.len(), new);
        }
        let lines: Vec<&[u8]> = image.iter().map(|line| line.text).collect();
        let text = lines.concat();
        match self.deletes && !text.is_empty() {
            true => Err(EditError::new("patch_failed", "The diff deletes the file, but not all that is in it.")),
            false => Ok(text),
        }
    }
}

impl Hunk<'_> {
    /// Where its old lines are, nearest to where it says.
    fn find(&self, image: &[Line<'_>], steps: &mut u64) -> Option<usize> {
        let at_start = self.old_start <= 1;
        let at_end = self.trailing == 0;
        let last = image.len().checked_sub(self.old.len())?;
        let fits = |at: usize, steps: &mut u64| {
            let alike = image[at..].iter().zip(&self.old);
            let alike = alike.take_while(|(line, old)| !line.patched && line.text == **old).count();
            *steps += alike as u64 + 1;
            alike == self.old.len() && !(at_start && at != 0) && !(at_end && at != last)
        };
        if at_start || at_end {
            let at = if at_start { 0 } else { last };
            return fits(at, steps).then_some(at);
        }
        let start = self.new_start.saturating_sub(1).min(image.len());
        for distance in 0..=image.len() {
            let after = start.checked_add(distance).filter(|at| *at <= last);
            let before = start.checked_sub(distance).filter(|at| *at <= last && distance > 0);
            for at in [after, before].into_iter().flatten() {
                if *steps > STEPS_MAX {
                    return None;
                }
                if fits(at, steps) {
                    return Some(at);
                }
            }
        }
        None
    }
}

type Lines<'a, I> = std::iter::Peekable<I>;

/// `-1,5` or `+3`: where, and how many lines.
fn range(text: &[u8], sign: u8) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(text.strip_prefix(&[sign])?).ok()?;
    match text.split_once(',') {
        None => Some((text.parse().ok()?, 1)),
        Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
    }
}

fn hunk<'a, I: Iterator<Item = &'a [u8]>>(head: &[u8], lines: &mut Lines<'a, I>) -> Result<Hunk<'a>, EditError> {
    let wrong = || bad(format!("A hunk's header or lines are not those of a unified diff, at {:?}.", head.as_bstr()));
    let mut parts = head.split(|byte| *byte == b' ').skip(1);
    let (old_start, old_count) = parts.next().and_then(|part| range(part, b'-')).ok_or_else(wrong)?;
    let (new_start, new_count) = parts.next().and_then(|part| range(part, b'+')).ok_or_else(wrong)?;
    if !parts.next().is_some_and(|part| part.starts_with(b"@@")) {
        return Err(wrong());
    }
    let mut hunk = Hunk { old_start, new_start, ..Hunk::default() };
    while hunk.old.len() < old_count || hunk.new.len() < new_count {
        let line = lines.next().ok_or_else(wrong)?;
        let ends = lines.next_if(|next| next.starts_with(b"\\")).is_some();
        let (sign, text) = match line {
            // Some programs strip the blank from an empty line of context.
            b"\n" => (b' ', line),
            _ => (line[0], &line[1..]),
        };
        let text = if ends { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        match sign {
            b' ' => {
                hunk.old.push(text);
                hunk.new.push(text);
                hunk.trailing += 1;
            }
            b'-' => hunk.old.push(text),
            b'+' => hunk.new.push(text),
            _ => return Err(wrong()),
        }
        if sign != b' ' {
            hunk.trailing = 0;
        }
    }
    match (hunk.old.len(), hunk.new.len()) == (old_count, new_count) {
        true => Ok(hunk),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_must_occur_once() {
        assert_eq!(replace(b"one two", b"two", b"2", false, 9), Ok(b"one 2".to_vec()));
        assert_eq!(replace(b"a a", b"a", b"b", true, 9), Ok(b"b b".to_vec()));
        let refused = |text: &[u8], old: &[u8]| replace(text, old, b"x", false, 9).map_err(|e| (e.code, e.occurrences));
        assert_eq!(refused(b"a a a", b"a"), Err(("ambiguous_match", Some(3))));
        assert_eq!(refused(b"a", b"b"), Err(("no_match", Some(0))));
        assert_eq!(refused(b"a", b""), Err(("bad_op", None)));
        let huge = replace(b"aaaa", b"a", &[b'x'; 100], true, 399).map_err(|error| error.code);
        assert_eq!(huge, Err("too_large"));
        assert_eq!(replace(b"\xff\xfe", b"\xff", b"", false, 9), Ok(b"\xfe".to_vec()), "any bytes");
    }

    fn applied(diff: &str, text: &str) -> Result<String, (&'static str, Option<usize>)> {
        let patch = Patch::parse(diff.as_bytes()).map_err(|error| (error.code, error.hunk))?;
        let text = patch.apply(text.as_bytes()).map_err(|error| (error.code, error.hunk))?;
        Ok(String::from_utf8(text).expect("text"))
    }

    #[test]
    fn hunks_are_found_elsewhere_but_never_fuzzily() {
        let diff = "--- a/f\n+++ b/f\n@@ -2,3 +2,3 @@ f()\n b\n-c\n+C\n d\n";
        assert_eq!(applied(diff, "a\nb\nc\nd\ne\n").as_deref(), Ok("a\nb\nC\nd\ne\n"));
        assert_eq!(applied(diff, "0\n1\n2\na\nb\nc\nd\n").as_deref(), Ok("0\n1\n2\na\nb\nC\nd\n"));
        assert_eq!(applied(diff, "a\nB\nc\nd\n"), Err(("patch_failed", Some(1))));
        assert_eq!(applied(diff, ""), Err(("patch_failed", Some(1))));
        let last = "@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file";
        assert_eq!(applied(last, "a\n").as_deref(), Ok("b"));
        assert_eq!(applied(last, "a"), Err(("patch_failed", Some(1))), "a line end is part of its line");
    }

    #[test]
    fn what_is_no_diff_of_one_file_is_refused() {
        for diff in [
            "",
            "@@ -1 +1 @@\n-a\n",
            "@@ -1,x +1 @@\n-a\n+b\n",
            "@@ -1 +1\n-a\n+b\n",
            "@@ -1 +1 @@\n-a\n-b\n+c\n",
            "@@ -1 +1 @@\n-a\n?b\n",
            "--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n--- c\n+++ d\n@@ -1 +1 @@\n-a\n+b\n",
            "diff --git a/x b/y\nrename from x\nrename to y\n",
            "diff --git a/x b/x\nindex 1..2\nGIT binary patch\n",
            "diff --git a/x b/x\nnew mode 160000\n",
            "@@ -18446744073709551616 +1 @@\n-a\n+b\n",
        ] {
            assert_eq!(applied(diff, "a\n"), Err(("bad_diff", None)), "{diff:?}");
        }
        let huge = "@@ -1,18446744073709551615 +1 @@\n-a\n+b\n";
        assert_eq!(applied(huge, "a\n"), Err(("bad_diff", None)));
        let more = "@@ -1,2 +1,2 @@\n a\n-b\n+c\n d\n";
        assert_eq!(applied(more, "a\nb\n"), Err(("bad_diff", None)));
        let far = "@@ -18446744073709551615,2 +18446744073709551615,2 @@\n-b\n+c\n d\n";
        assert_eq!(applied(far, "a\nb\nd\n").as_deref(), Ok("a\nc\nd\n"), "its place is a hint");
    }

    #[test]
    fn headers_say_what_becomes_of_the_file() {
        let parse = |diff: &'static str| Patch::parse(diff.as_bytes()).expect("a diff");
        let made = parse("diff --git a/f b/f\nnew file mode 100755\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n");
        assert_eq!((made.creates, made.deletes, made.mode), (true, false, Some(Mode(0o100755))));
        let gone = parse("diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n");
        assert_eq!((gone.creates, gone.deletes, gone.apply(b"x\n")), (false, true, Ok(Vec::new())));
        let mode = parse("diff --git a/f b/f\nold mode 100644\nnew mode 100755\n");
        assert_eq!((mode.mode, mode.apply(b"x")), (Some(Mode(0o100755)), Ok(b"x".to_vec())));
    }
}
