//! What only GitHub has: App tokens, pull requests, facts about repositories, webhooks, rate limits.
//!
//! [`GitHub`] is a [`Forge`](treehold_engine::remote::Forge) for github.com or one GitHub Enterprise server. Nothing is kept but in
//! memory. Formats and rules are those of GitHub's REST API documentation, version 2022-11-28.

mod app;
mod client;
mod commits;
mod facts;
mod forge;
mod limits;
mod place;
mod pulls;
mod webhook;

use std::sync::Arc;

use treehold_engine::{Ambient, Secret};

pub use client::GitHub;

/// The API of github.com.
pub const DEFAULT_API_URL: &str = "https://api.github.com";

/// What an operator says about GitHub.
#[derive(Debug, Clone)]
pub struct GitHubConfig {
    /// Of the REST API: `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server.
    pub api_url: String,
    /// Who we are, if an App.
    pub app: Option<AppConfig>,
    /// What webhooks are signed with; `None` = none are taken.
    pub webhook_secret: Option<Secret>,
}

/// A GitHub App.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Its id or client id.
    pub id: String,
    /// Its private key, PEM (PKCS #1 as GitHub gives it out, or PKCS #8).
    pub key_pem: Secret,
}

/// Why a configuration does not work. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The API's URL.
    #[error("`github_api_url` must be an http:// or https:// URL without user name, query or fragment")]
    ApiUrl,
    /// The App's key.
    #[error("`github_app_key_file` holds no RSA private key in PEM that can be used ({0})")]
    Key(String),
}

impl GitHub {
    /// Checks the configuration; no network is used.
    pub fn new(config: &GitHubConfig, ambient: Arc<dyn Ambient>) -> Result<Self, ConfigError> {
        let api = place::api_url(&config.api_url).ok_or(ConfigError::ApiUrl)?;
        let app = config.app.as_ref().map(app::App::new).transpose()?;
        let webhook_secret = config.webhook_secret.as_ref().map(webhook::key);
        Ok(Self::assemble(api, app, webhook_secret, ambient))
    }
}
