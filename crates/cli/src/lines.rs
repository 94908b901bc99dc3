//! The log: one line for each event, whatever texts of others stand in it.
//!
//! What remotes and stores say is told in errors, and a line end in it would begin a line that nobody logged.

use std::borrow::Cow;
use std::io::{self, Write};

/// Takes an event with each write, as the formatter hands them over, and escapes the control characters in it.
pub struct Lines<W> {
    to: W,
    /// The formatter's own escape sequences stay: those of texts are escaped where they come in.
    colours: bool,
}

impl<W: Write> Lines<W> {
    pub fn new(to: W, colours: bool) -> Self {
        Self { to, colours }
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event.strip_suffix(b"\n").unwrap_or(event));
        match one_line(&text, self.colours) {
            Cow::Borrowed(_) => self.to.write_all(event)?,
            Cow::Owned(mut line) => {
                line.push('\n');
                self.to.write_all(line.as_bytes())?;
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Also without what some readers take for the end of a line.
fn one_line(text: &str, colours: bool) -> Cow<'_, str> {
    let escapes = |c: char| match c {
        '\u{1b}' => !colours,
        '\u{2028}' | '\u{2029}' => true,
        c => c.is_control(),
    };
    if !text.contains(escapes) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match escapes(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, write by write.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Goal: texts of others make no lines and move no cursor. Method: the formatter that the program uses, in front of it.
    #[test]
    fn an_event_is_a_line() {
        let kept = Kept::default();
        let to = kept.clone();
        let log = tracing_subscriber::fmt().with_writer(move || Lines::new(to.clone(), false)).with_ansi(false);
        tracing::subscriber::with_default(log.finish(), || {
            for said in
                ["no\n2026-01-01T00:00:00Z  INFO treehold: forged", "a\r\u{1b}[2Jb\u{9b}c\u{2028}d", "plain – ü 日本"]
            {
                tracing::warn!(error = %said, "told: {said}");
            }
        });
        let lines = kept.0.lock().unwrap();
        assert_eq!(lines.len(), 3);
        for line in lines.iter() {
            let text = line.strip_suffix('\n').unwrap();
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");
            assert_eq!(text.matches("WARN").count(), 1, "{line:?}");
        }
        assert!(lines[0].contains(r"no\n2026-01-01T00:00:00Z  INFO treehold: forged"), "{}", lines[0]);
        assert!(lines[2].contains("told: plain – ü 日本"), "{}", lines[2]);
    }

    #[test]
    fn the_formatters_colours_stay() {
        let kept = Kept::default();
        let mut lines = Lines::new(kept.clone(), true);
        lines.write_all(b"\x1b[33m WARN\x1b[0m a\nb\n").unwrap();
        lines.write_all(b"no end").unwrap();
        lines.flush().unwrap();
        assert_eq!(*kept.0.lock().unwrap(), ["\u{1b}[33m WARN\u{1b}[0m a\\nb\n", "no end"]);
    }
}
