//! A diff as the unified text that git writes.

use std::fmt::Write as _;

use treehold_engine::api::{Diff, DiffFile, Oid};

/// The whole diff, with git's extended headers and full oids (as `git diff --full-index`).
pub(crate) fn unified(diff: &Diff) -> String {
    let mut text = String::new();
    for file in &diff.files {
        write_file(file, &mut text);
    }
    text
}

fn write_file(file: &DiffFile, text: &mut String) {
    let change = &file.change;
    let (a, b) = (quoted("a/", &change.path.0), quoted("b/", &change.path.0));
    let _ = writeln!(text, "diff --git {a} {b}");
    match (change.old_mode, change.new_mode) {
        (None, Some(new)) => _ = writeln!(text, "new file mode {new}"),
        (Some(old), None) => _ = writeln!(text, "deleted file mode {old}"),
        (Some(old), Some(new)) if old != new => _ = writeln!(text, "old mode {old}\nnew mode {new}"),
        _ => {}
    }
    if change.old_oid == change.new_oid {
        return;
    }
    let same = change.old_mode.filter(|old| Some(*old) == change.new_mode);
    let mode = same.map_or_else(String::new, |mode| format!(" {mode}"));
    let _ = writeln!(text, "index {}..{}{mode}", hex(change.old_oid), hex(change.new_oid));
    let from = if change.old_oid.is_some() { a.as_str() } else { "/dev/null" };
    let to = if change.new_oid.is_some() { b.as_str() } else { "/dev/null" };
    if file.binary {
        let _ = writeln!(text, "Binary files {from} and {to} differ");
    } else if !file.patch.is_empty() {
        let _ = writeln!(text, "--- {}\n+++ {}", marked(from), marked(to));
        text.push_str(&file.patch);
        if !file.patch.ends_with('\n') {
            text.push('\n');
        }
    }
}

fn hex(oid: Option<Oid>) -> String {
    oid.map_or_else(|| "0".repeat(40), |oid| oid.to_string())
}

/// git puts a tab after names with spaces, so that `patch` finds their end.
fn marked(name: &str) -> String {
    if name.contains(' ') && !name.starts_with('"') { format!("{name}\t") } else { name.to_owned() }
}

/// A name as git shows it: quoted as in C if it has bytes that are not printable ASCII (`core.quotePath`).
fn quoted(prefix: &str, path: &[u8]) -> String {
    let plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\';
    if path.iter().all(|byte| plain(byte)) {
        return format!("{prefix}{}", String::from_utf8_lossy(path));
    }
    let mut text = format!("\"{prefix}");
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            11 => text.push_str("\\v"),
            12 => text.push_str("\\f"),
            byte if plain(byte) => text.push(char::from(*byte)),
            byte => _ = write!(text, "\\{byte:03o}"),
        }
    }
    text.push('"');
    text
}
