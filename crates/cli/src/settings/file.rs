//! The TOML file of `--config`.

use std::path::{Path, PathBuf};

use super::keys::{self, KEYS, Key, Kind};
use crate::failure::Failure;

/// Reads the file: every key with its text (list items joined by commas), paths made absolute.
pub fn read(path: &Path) -> Result<Vec<(&'static Key, String)>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read the configuration file {}: {error}", path.display())))?;
    let base = std::path::absolute(path).ok().and_then(|p| p.parent().map(Path::to_owned)).unwrap_or_default();
    parse(&text, &base).map_err(|message| Failure::usage(format!("{}: {message}", path.display())))
}

/// Parses the file's text; relative paths count from `base`.
pub fn parse(text: &str, base: &Path) -> Result<Vec<(&'static Key, String)>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // Only the message: the default text quotes the line, which may hold a secret.
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map(|n| format!("line {n}: ")).unwrap_or_default();
        format!("{place}{}", error.message())
    })?;
    let mut given = Vec::new();
    for (name, value) in &table {
        let key = keys::find(name).ok_or_else(|| unknown(name))?;
        given.push((key, text_of(key, value, base)?));
    }
    Ok(given)
}

fn unknown(name: &str) -> String {
    let plain = name.replace('-', "_");
    let hint = match KEYS.iter().find(|key| key.name == plain || distance(key.name, &plain) <= 2) {
        Some(key) => format!("did you mean `{}`?", key.name),
        None => "`treehold config-check` lists the known ones".to_owned(),
    };
    format!("unknown key `{name}`; {hint}")
}

fn text_of(key: &Key, value: &toml::Value, base: &Path) -> Result<String, String> {
    let text = match (key.kind, value) {
        (Kind::Text, toml::Value::String(text)) => text.clone(),
        (Kind::Path, toml::Value::String(text)) => {
            let path: PathBuf = base.join(text);
            path.to_str().map(str::to_owned).ok_or_else(|| format!("`{}` must be UTF-8", key.name))?
        }
        (Kind::Number | Kind::Ratio, toml::Value::Integer(number)) => number.to_string(),
        (Kind::Ratio, toml::Value::Float(number)) => number.to_string(),
        (Kind::List, toml::Value::String(text)) => text.clone(),
        (Kind::List, toml::Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.ok_or_else(|| format!("`{}` must be an array of strings", key.name))?.join(",")
        }
        (Kind::Text | Kind::Path, _) => return Err(format!("`{}` must be a string", key.name)),
        (Kind::Ratio, _) => return Err(format!("`{}` must be a number", key.name)),
        (Kind::Number, _) => return Err(format!("`{}` must be a whole number", key.name)),
        (Kind::List, _) => return Err(format!("`{}` must be a string or an array of strings", key.name)),
    };
    Ok(text)
}

/// Levenshtein distance of two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse(text, Path::new("/etc/treehold")).unwrap_err()
    }

    #[test]
    fn lists_paths_and_numbers_become_texts() {
        let text = "api_key = ['a', 'b']\ndata_dir = 'x'\nlimit_file_bytes = 7\nallow_remote = 'https://a/,https://b/'";
        let mut given: Vec<_> =
            parse(text, Path::new("/etc/treehold")).unwrap().into_iter().map(|(key, text)| (key.name, text)).collect();
        given.sort();
        let expected = [
            ("allow_remote", "https://a/,https://b/"),
            ("api_key", "a,b"),
            ("data_dir", "/etc/treehold/x"),
            ("limit_file_bytes", "7"),
        ];
        assert_eq!(given, expected.map(|(name, text)| (name, text.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(message("lisen = 'x'"), "unknown key `lisen`; did you mean `listen`?");
        assert_eq!(message("data-dir = 'x'"), "unknown key `data-dir`; did you mean `data_dir`?");
        assert!(message("zebra = 1").starts_with("unknown key `zebra`; `treehold config-check`"));
        assert_eq!(message("limit_file_bytes = 'x'"), "`limit_file_bytes` must be a whole number");
        assert_eq!(message("api_key = [1]"), "`api_key` must be an array of strings");
        assert_eq!(message("listen = 1"), "`listen` must be a string");
    }

    #[test]
    fn broken_files_name_the_line_and_quote_nothing() {
        let message = message("listen = 'x'\nremote_token = s3cr3t-value");
        assert!(message.starts_with("line 2: "), "{message}");
        assert!(!message.contains("s3cr3t"), "{message}");
    }
}
