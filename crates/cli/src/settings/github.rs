//! What is said about GitHub.

use treehold_engine::Secret;
use treehold_github::{AppConfig, DEFAULT_API_URL, GitHubConfig};

use super::{Values, check_scheme};
use crate::failure::Failure;

/// Largest file that is taken for a key, bytes.
const KEY_LEN_MAX: usize = 64 << 10;

/// The App's id and key come together or not at all. The key is read here, once.
pub(super) fn github(values: &mut Values) -> Result<GitHubConfig, Failure> {
    let api_url = values.text("github_api_url", || DEFAULT_API_URL.to_owned());
    check_scheme("github_api_url", &api_url, &["https", "http"])?;
    let given = |name| values.given.get(name).map(|(text, _)| text.trim().to_owned()).filter(|text| !text.is_empty());
    let webhook_secret = given("github_webhook_secret").map(Secret::new);
    let app = match (given("github_app_id"), given("github_app_key_file")) {
        (None, None) => None,
        (Some(_), None) => return Err(values.wrong("github_app_id", "needs `github_app_key_file` beside it")),
        (None, Some(_)) => return Err(values.wrong("github_app_key_file", "needs `github_app_id` beside it")),
        (Some(id), Some(path)) => {
            let unreadable = |why: &str| values.wrong("github_app_key_file", &format!("cannot be used: {path}: {why}"));
            let key = std::fs::read(&path).map_err(|error| unreadable(&error.to_string()))?;
            let key = String::from_utf8(key).ok().filter(|key| key.len() <= KEY_LEN_MAX);
            let key_pem = Secret::new(key.ok_or_else(|| unreadable("it is no PEM file"))?);
            Some(AppConfig { id, key_pem })
        }
    };
    Ok(GitHubConfig { api_url, app, webhook_secret })
}
