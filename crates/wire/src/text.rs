//! Text from the other side, made safe to show.

/// `bytes` as text of at most about `len_max` bytes for messages and logs.
///
/// What is not UTF-8 is replaced; control characters (but LF) and characters that reorder text are escaped, so that
/// no remote can forge a log line's colours or a terminal's title. A cut is marked with `…`.
pub fn printable(bytes: &[u8], len_max: usize) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(&bytes[..bytes.len().min(len_max.saturating_add(4))]).chars() {
        if text.len() + c.len_utf8() > len_max {
            text.push('…');
            return text;
        }
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\n') || reorders {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    if bytes.len() > len_max {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(printable(b"ok\nnext", 100), "ok\nnext");
        assert_eq!(printable(b"\x1b[31mred\r\x07", 100), "\\u{1b}[31mred\\u{d}\\u{7}");
        assert_eq!(printable("a\u{202e}b".as_bytes(), 100), "a\\u{202e}b");
        assert_eq!(printable(b"abcdef", 3), "abc…");
        assert_eq!(printable(b"\xff", 100), "\u{fffd}");
        assert!(printable(&[0; 1 << 20], 1000).len() < 1020);
    }
}
