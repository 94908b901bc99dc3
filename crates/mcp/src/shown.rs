//! How paths and refusals are written in text for a model.

use std::fmt::Write as _;

use serde_json::Value;
use treehold_engine::api::Mode;

use crate::binding::plain;
use crate::host::Refusal;

/// A path on one line: as it is, or quoted and escaped where it holds what could be taken for something else.
pub(crate) fn path(path: &str) -> String {
    let usual = path.chars().all(plain) && !path.contains('"') && path.trim() == path && !path.is_empty();
    if usual {
        return path.to_owned();
    }
    let mut text = String::with_capacity(path.len() + 2);
    text.push('"');
    for c in path.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if plain(c) => text.push(c),
            c => text.extend(c.escape_default()),
        }
    }
    text.push('"');
    text
}

/// Whether a plain file of this mode is executable; `None` for what is no plain file.
pub(crate) fn executable(mode: Mode) -> Option<bool> {
    match mode.0 {
        0o100_755 => Some(true),
        0o100_644 | 0o100_664 => Some(false),
        _ => None,
    }
}

/// A path of bytes, and in base64 where they are not UTF-8.
pub(crate) fn path_bytes(bytes: &[u8]) -> (String, Option<String>) {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => {
            let base64 = base64::prelude::BASE64_STANDARD.encode(bytes);
            (String::from_utf8_lossy(bytes).into_owned(), Some(base64))
        }
    }
}

/// The end of an answer that was cut.
pub(crate) fn goes_on(text: &mut String, cursor: &str, why: &str) {
    _ = write!(text, "\n[{why}. Call again with the same arguments and cursor {cursor:?} for the rest.]");
}

/// A refusal: code, sentence, and what else is known.
pub(crate) fn refusal(refusal: &Refusal) -> String {
    let mut text = format!("{}: {}", refusal.code, refusal.detail);
    for (name, value) in &refusal.details {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let (value, cut) = crate::bounds::cut(&value, 4_000);
        _ = write!(text, "\n{name}: {value}{}", if cut { " [cut]" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_pretend_to_be_something_else() {
        assert_eq!(path("src/a b.rs"), "src/a b.rs");
        assert_eq!(path("caf\u{e9}"), "caf\u{e9}");
        assert_eq!(path("a\n==> b"), "\"a\\n==> b\"");
        assert_eq!(path("a\"b\\c"), "\"a\\\"b\\\\c\"");
        assert_eq!(path("a\u{202e}txt"), "\"a\\u{202e}txt\"");
        assert_eq!((path(""), path(" a")), ("\"\"".to_owned(), "\" a\"".to_owned()));
    }

    #[test]
    fn bytes_that_are_no_text_are_also_told_in_base64() {
        assert_eq!(path_bytes(b"a"), ("a".to_owned(), None));
        assert_eq!(path_bytes(b"\xff"), ("\u{fffd}".to_owned(), Some("/w==".to_owned())));
    }

    #[test]
    fn a_refusal_begins_with_its_code_and_is_bounded() {
        let mut told = Refusal::new("precondition_failed", "read it again");
        told.details.insert("oid".to_owned(), "ab".into());
        told.details.insert("long".to_owned(), "x".repeat(9_000).into());
        let text = refusal(&told);
        assert!(text.starts_with("precondition_failed: read it again\n"), "{text}");
        assert!(text.contains("\noid: ab") && text.contains(" [cut]") && text.len() < 4_200);
    }
}
