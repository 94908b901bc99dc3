//! `treehold token`

use serde_json::Value;
use treehold_engine::api::{Scope, Scopes};
use uuid::Uuid;

use super::{report, seconds};
use crate::failure::Failure;
use crate::operation::Operation;
use crate::output::{table, text};
use crate::settings::Settings;

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a token for one project; its secret is shown once, and kept only as a hash
    Create {
        /// The project's id or name
        project: String,
        /// For git clients, pushes included: as `--scopes git:write`
        #[arg(long, conflicts_with = "scopes")]
        write: bool,
        /// What it allows, separated by commas: files:read, files:write, pending, git:read, git:write, admin
        #[arg(long, value_name = "SCOPE,…", default_value = "git:read")]
        scopes: Scopes,
        /// The one user whose pending work it opens [default: everybody's]
        #[arg(long, value_name = "UUID", value_parser = super::user_id)]
        user: Option<Uuid>,
        /// What you call it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// How long it is accepted, such as 90d or 12h [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List tokens, expired ones too, without their secrets
    List {
        /// Those of this project alone: its id or name
        project: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: git's routes refuse it from the next request on, the others within a second
    Revoke {
        /// Its id, from the list
        id: Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Create { project, write, scopes, user, name, expires, json } => {
            let scopes = if write { [Scope::GitWrite].into_iter().collect() } else { scopes };
            let operation = Operation::TokenCreate { project, user, name, scopes, lifetime_s: expires };
            report(settings, operation, json, made).await
        }
        Command::List { project, json } => report(settings, Operation::TokenList { project }, json, listed).await,
        Command::Revoke { id, json } => {
            let operation = Operation::TokenRevoke { id };
            report(settings, operation, json, |answer| format!("revoked {}", text(answer, "id"))).await
        }
    }
}

fn made(token: &Value) -> String {
    let rows = table(&[
        ("id", text(token, "id")),
        ("project", project(token)),
        ("name", text(token, "name")),
        ("scopes", scopes(token)),
        ("user", text(token, "user")),
        ("expires", text(token, "expires_at")),
        ("secret", text(token, "secret")),
    ]);
    format!(
        "{rows}keep the secret now, it is not shown again: send it as Bearer; git sends it as the password, with any user name"
    )
}

fn listed(answer: &Value) -> String {
    let tokens = answer["tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    if tokens.is_empty() {
        return "no tokens: make one with `treehold token create`".into();
    }
    let line = |token: &Value| {
        let expires = match token["expired"].as_bool() {
            Some(true) => "expired".to_owned(),
            _ => text(token, "expires_at"),
        };
        let (id, scopes, user) = (text(token, "id"), scopes(token), text(token, "user"));
        format!("{id}  {scopes}  {expires:<24}  {}  {user}  {}", project(token), text(token, "name"))
    };
    tokens.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The scopes as they are given.
fn scopes(token: &Value) -> String {
    let scopes = token["scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
    scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// The project's name, or its id if it has none.
fn project(token: &Value) -> String {
    let project = &token["project"];
    text(project, if project["name"].is_null() { "id" } else { "name" })
}
