//! The effective configuration as `config-check` shows it: secrets are counted, never shown.

use serde_json::{Value, json};

use super::Settings;
use super::keys::{KEYS, Key, Kind};

/// One line per key: name, value as TOML would write it, origin.
pub fn lines(settings: &Settings) -> Vec<String> {
    let shown: Vec<(String, String)> = KEYS
        .iter()
        .map(|key| match settings.given.get(key.name) {
            Some((text, origin)) => {
                (format!("{} = {}", key.name, toml_text(key, &masked(key, text))), origin.to_string())
            }
            None => (format!("# {} is not set", key.name), "default".to_owned()),
        })
        .collect();
    let width = shown.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0).min(72);
    shown.into_iter().map(|(left, origin)| format!("{left:<width$}  # {origin}")).collect()
}

/// The same as JSON: `{"options": [{"key", "value", "origin"}]}`.
pub fn json(settings: &Settings) -> Value {
    let options: Vec<Value> = KEYS
        .iter()
        .map(|key| match settings.given.get(key.name) {
            Some((text, origin)) => {
                json!({"key": key.name, "value": masked(key, text), "origin": origin.to_string()})
            }
            None => json!({"key": key.name, "value": null, "origin": "default"}),
        })
        .collect();
    json!({ "options": options })
}

fn toml_text(key: &Key, text: &str) -> String {
    match key.kind {
        Kind::Number | Kind::Ratio => text.to_owned(),
        Kind::List if !key.secret => {
            let items: Vec<String> = text.split(',').map(|item| toml::Value::from(item.trim()).to_string()).collect();
            format!("[{}]", items.join(", "))
        }
        _ => toml::Value::from(text).to_string(),
    }
}

/// The text without secrets.
fn masked(key: &Key, text: &str) -> String {
    if !key.secret {
        return if key.name.ends_with("_url") || key.name == "allow_remote" || key.name == "server" {
            mask_url(text)
        } else {
            text.to_owned()
        };
    }
    match (key.kind, text.split(',').filter(|item| !item.trim().is_empty()).count()) {
        (Kind::List, count) if count != 1 => format!("(hidden, {count} values)"),
        _ => "(hidden)".to_owned(),
    }
}

/// A URL without its password and without query values that are named like secrets.
pub fn mask_url(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return text.to_owned() };
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["password", "secret", "token", "key"].iter().any(|word| name.contains(word))
    };
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if url.password().is_none() && !pairs.iter().any(|(name, _)| secret(name)) {
        return text.to_owned();
    }
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "(hidden)".to_owned();
    }
    if !pairs.is_empty() {
        let mut query = url.query_pairs_mut();
        query.clear();
        for (name, value) in &pairs {
            query.append_pair(name, if secret(name) { "***" } else { value });
        }
        drop(query);
    }
    url.into()
}
