//! Results on stdout.

use std::io::{self, Write};

use serde_json::Value;

use crate::failure::Failure;

/// Writes the text and a line end. A reader that went away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match text.ends_with('\n') || text.is_empty() {
        true => write!(out, "{text}"),
        false => writeln!(out, "{text}"),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// JSON for people and programs.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// A member as text: strings without quotes, `-` for what is not there. Control characters, which a name from a
/// foreign repository may hold, are escaped.
pub fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Number(number) => match number.as_u64() {
            Some(count) => grouped(count),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Escapes control characters: what is printed must not drive the terminal.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// 1234567 as `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a unit.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Rows of a label and a value, the labels padded.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    rows.iter().map(|(label, value)| format!("{label:<width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        let shown: Vec<String> = [0, 999, 1000, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let value = serde_json::json!({"name": "a\u{1b}[2Jb\nc", "none": null});
        assert_eq!(text(&value, "name"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(text(&value, "none"), "-");
    }
}
