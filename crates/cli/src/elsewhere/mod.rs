//! A server elsewhere: what an operator asks for, over its HTTP API.
//!
//! The answers are those of the same operation here. What needs the operator's own machine is refused, with a sentence.

mod export;
mod import;

use serde::Serialize;
use serde_json::{Value, json};
use treehold_client::{Error, Options, ProjectChange, ProjectSpec, ProjectView, ReceiveSpec, RemoteSpec, Treehold};
use treehold_engine::{Progress, Secret, api};
use url::{Host, Url};

use crate::cli::Command;
use crate::commands::project;
use crate::failure::Failure;
use crate::operation::Operation;
use crate::settings::Settings;

/// What every token begins with.
const TOKEN_BEGINS: &str = "thd_";

/// Attempts after the first one: a person waits.
const RETRIES: u32 = 2;

/// A server elsewhere, and the way to it.
#[derive(Debug)]
pub struct Elsewhere {
    treehold: Treehold,
    options: Options,
    url: String,
    /// Credentials for remotes, sent along where the server would use its own.
    remote_token: Option<Secret>,
    shown: Shown,
}

/// What is shown to a server, and what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Token,
    /// What `--token` has begins as no token does.
    TokenLikeKey,
    Key,
    /// What `--api-key` has begins as tokens do.
    KeyLikeToken,
}

impl Shown {
    fn token(text: &str) -> Self {
        if text.trim().starts_with(TOKEN_BEGINS) { Self::Token } else { Self::TokenLikeKey }
    }

    fn key(text: &str) -> Self {
        if text.trim().starts_with(TOKEN_BEGINS) { Self::KeyLikeToken } else { Self::Key }
    }

    /// What to do where it was not accepted.
    pub fn advice(self) -> String {
        match self {
            Self::Token => "check --token".to_owned(),
            Self::Key => "check --api-key".to_owned(),
            Self::TokenLikeKey => {
                format!(
                    "what --token gives does not begin with `{TOKEN_BEGINS}` as tokens do; if it is one of the server's keys, give it as --api-key"
                )
            }
            Self::KeyLikeToken => {
                format!("what --api-key gives begins with `{TOKEN_BEGINS}` as tokens do; give it as --token")
            }
        }
    }
}

/// Refuses a command that works on this machine only, where a server elsewhere is named.
pub fn check(settings: &Settings, command: &Command) -> Result<(), Failure> {
    let Some(url) = &settings.server else { return Ok(()) };
    let (command, instead) = match command {
        Command::Serve(_) => ("serve", String::new()),
        Command::Quickstart(_) => ("quickstart", String::new()),
        Command::Admin(_) => ("admin", "; run it where the server runs".to_owned()),
        Command::Token(_) => ("token", "; no route of the API makes tokens: run it where the server runs".to_owned()),
        Command::Mcp(_) => ("mcp", format!("; connect the agent to {}/mcp", url.trim_end_matches('/'))),
        Command::Project(project::Command::ForgetHistory { .. }) => {
            ("project forget-history", "; run it where the server runs".to_owned())
        }
        Command::Project(_)
        | Command::Import(_)
        | Command::Export(_)
        | Command::Doctor(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::ConfigCheck(_) => return Ok(()),
    };
    Err(Failure::usage(format!("`treehold {command}` works on this machine, and --server names another one{instead}")))
}

impl Elsewhere {
    /// The server that the settings name, if they name one.
    pub fn named(settings: &Settings) -> Result<Option<Self>, Failure> {
        let Some(url) = &settings.server else { return Ok(None) };
        let options = Options::new(url.clone()).retries(RETRIES);
        let (options, shown) = match (&settings.token, settings.api_keys.first()) {
            (Some(token), _) => (options.token(token.expose()), Shown::token(token.expose())),
            (None, Some(key)) => (options.key(key.expose()), Shown::key(key.expose())),
            (None, None) => {
                return Err(Failure::usage("a server elsewhere wants to know who asks: give --token or --api-key"));
            }
        };
        let options = options?;
        let treehold = Treehold::new(options.clone())?;
        if in_the_clear(url) {
            tracing::warn!("the key goes to this server unencrypted; use https unless nobody can listen");
        }
        Ok(Some(Self {
            treehold,
            options,
            url: url.trim_end_matches('/').to_owned(),
            remote_token: settings.remote_token.clone(),
            shown,
        }))
    }

    /// The way to it.
    pub fn treehold(&self) -> &Treehold {
        &self.treehold
    }

    /// The same way, on which nothing is sent twice.
    fn once(&self) -> Result<Treehold, Failure> {
        Ok(Treehold::new(self.options.clone().retries(0))?)
    }

    /// What to do where the key or token was not accepted.
    pub fn advice(&self) -> String {
        self.shown.advice()
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs the operation there. The answer is what `--json` prints.
    pub async fn run(&self, operation: &Operation, progress: &dyn Progress) -> Result<Value, Failure> {
        match operation {
            Operation::ProjectCreate { name, id, default_branch, remote, receive, quota_bytes } => {
                let remote = remote.clone().map(|url| RemoteSpec { url });
                let receive = receive.as_ref().map(told);
                let (name, default_branch) = (name.clone(), default_branch.clone());
                let spec = ProjectSpec { name, default_branch, remote, receive, quota_bytes: *quota_bytes };
                let (view, created) =
                    self.treehold.create_or_find_project(*id, &spec).await.map_err(|error| self.failed(error))?;
                let mut answer = value(&view)?;
                answer["created"] = json!(created);
                Ok(answer)
            }
            Operation::ProjectSet { project, receive, quota_bytes } => {
                let quota_bytes = quota_bytes.map(|quota| quota.bytes);
                let change = ProjectChange { receive: Some(told(receive)), quota_bytes };
                let changed = self.treehold.project(project).change(&change).await;
                value(&changed.map_err(|error| self.failed(error))?)
            }
            Operation::ProjectList { limit, cursor } => self.list(*limit, cursor.clone()).await,
            Operation::ProjectShow { project } => value(&self.show(project).await?),
            Operation::ProjectDelete { project } => {
                let view = self.show(project).await?;
                self.treehold.project(view.id).delete().await.map_err(|error| self.failed(error))?;
                Ok(json!({"deleted": true, "id": view.id, "name": view.name}))
            }
            Operation::Import { source, project, branch, depth } => {
                self.import(source, project.as_deref(), branch.as_deref(), *depth, progress).await
            }
            Operation::Export { project, dir, bundle, user: _ } => {
                self.export(project, dir.as_deref(), bundle.as_deref(), progress).await
            }
            // `check` has said so before.
            operation => Err(Failure::usage(format!("`{}` works where the server runs", operation.verb()))),
        }
    }

    async fn show(&self, project: &str) -> Result<ProjectView, Failure> {
        self.treehold.project(project).show().await.map_err(|error| self.failed(error))
    }

    /// All pages, or as many as `limit` asks for.
    async fn list(&self, limit: Option<usize>, mut cursor: Option<String>) -> Result<Value, Failure> {
        let mut projects: Vec<ProjectView> = Vec::new();
        loop {
            let wanted = limit.map(|limit| limit.saturating_sub(projects.len()));
            if wanted == Some(0) {
                break;
            }
            let page = self.treehold.projects(wanted).page(cursor.as_deref()).await;
            let page = page.map_err(|error| self.failed(error))?;
            projects.extend(page.projects);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(json!({"projects": value(&projects)?, "next_cursor": cursor}))
    }

    /// A failure, with where it happened if that is what is wrong.
    pub fn failed(&self, error: Error) -> Failure {
        let mut failure = Failure::from(error);
        match failure.code.as_str() {
            "unreachable" => {
                failure.message = format!("{} ({}): check --server, and that it runs", failure.message, self.url);
            }
            "bad_answer" => failure.message = format!("{} ({}): check --server", failure.message, self.url),
            "unauthorized" => {
                failure.message = format!("{} did not accept the key or token: {}", self.url, self.shown.advice());
            }
            _ => {}
        }
        failure
    }

    fn remote(&self) -> Result<treehold_client::Remote, Failure> {
        let token = self.remote_token.as_ref().map(|token| treehold_client::Secret::new(token.expose())).transpose()?;
        Ok(treehold_client::Remote { token, idempotency_key: None })
    }
}

fn value(answer: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| Failure::failed("the answer cannot be written as JSON").because(error))
}

fn told(receive: &api::ReceiveSpec) -> ReceiveSpec {
    let api::ReceiveSpec { deny_non_fast_forwards, deny_deletes } = *receive;
    ReceiveSpec { deny_non_fast_forwards, deny_deletes }
}

/// Whether others on the way can read along.
fn in_the_clear(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => true,
    };
    url.scheme() == "http" && !here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_that_were_mixed_up_are_told() {
        for (shown, expected, words) in [
            (Shown::token("thd_x"), Shown::Token, "--token"),
            (Shown::token("secret"), Shown::TokenLikeKey, "give it as --api-key"),
            (Shown::key("secret"), Shown::Key, "--api-key"),
            (Shown::key(" thd_x"), Shown::KeyLikeToken, "give it as --token"),
        ] {
            assert_eq!(shown, expected);
            assert!(shown.advice().ends_with(words), "{}", shown.advice());
        }
    }

    #[test]
    fn only_other_machines_without_tls_are_in_the_clear() {
        for (url, clear) in [
            ("http://127.0.0.1:1", false),
            ("http://[::1]:1", false),
            ("http://localhost", false),
            ("https://store.example.org", false),
            ("http://store.example.org", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(in_the_clear(url), clear, "{url}");
        }
    }
}
