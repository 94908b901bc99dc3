//! `treehold project`

use std::io::{IsTerminal, Write};

use serde_json::Value;
use treehold_engine::api::ReceiveSpec;
use uuid::Uuid;

use super::report;
use crate::failure::Failure;
use crate::operation::{Operation, Quota, quota};
use crate::output::{table, text};
use crate::settings::Settings;

/// What to do with projects.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an empty project
    Create {
        /// Unique name
        name: Option<String>,
        /// Use this id instead of a new one; repeating the command is safe
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
        /// Name of its first branch [default: main]
        #[arg(long, value_name = "BRANCH")]
        default_branch: Option<String>,
        /// URL that it syncs with and pushes to; must be on the allow-list
        #[arg(long, value_name = "URL")]
        remote: Option<String>,
        /// Refuse pushes that move a branch back or aside
        #[arg(long)]
        deny_non_fast_forwards: bool,
        /// Refuse pushes that delete branches or tags
        #[arg(long)]
        deny_deletes: bool,
        /// What it may hold, logical bytes [default: the server's `project_quota_bytes`]
        #[arg(long, value_name = "N", value_parser = quota, allow_negative_numbers = true)]
        quota_bytes: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List projects in order of their ids
    List {
        /// At most so many
        #[arg(long, value_name = "N", value_parser = super::count, allow_negative_numbers = true)]
        limit: Option<usize>,
        /// Go on after an earlier list
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one project
    Show {
        /// Its id or name
        project: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what pushes a project refuses, and what it may hold; what is not named stays as it is
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// Its id or name
        project: String,
        /// Refuse pushes that move a branch back or aside: true or false
        #[arg(long, value_name = "BOOL", group = "change")]
        deny_non_fast_forwards: Option<bool>,
        /// Refuse pushes that delete branches or tags: true or false
        #[arg(long, value_name = "BOOL", group = "change")]
        deny_deletes: Option<bool>,
        /// What it may hold, logical bytes, or `default`
        #[arg(long, value_name = "N", group = "change", allow_negative_numbers = true)]
        quota_bytes: Option<Quota>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Drop local history now: what was replaced or discarded cannot be restored any more, and no longer counts for the quota. Final
    ///
    /// Pending work, checkpoints and commits stay.
    ForgetHistory {
        /// Its id or name
        project: String,
        /// Only what this user replaced or discarded
        #[arg(long, value_name = "UUID", value_parser = super::user_id)]
        user: Option<Uuid>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a project, its refs and all pending work in it: final
    Delete {
        /// Its id or name
        project: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Create {
            name,
            id,
            default_branch,
            remote,
            deny_non_fast_forwards,
            deny_deletes,
            quota_bytes,
            json,
        } => {
            // What is not asked for is not said: then repeating the command is safe after a change.
            let receive = (deny_non_fast_forwards || deny_deletes).then(|| ReceiveSpec {
                deny_non_fast_forwards: deny_non_fast_forwards.then_some(true),
                deny_deletes: deny_deletes.then_some(true),
            });
            let operation = Operation::ProjectCreate { name, id, default_branch, remote, receive, quota_bytes };
            report(settings, operation, json, shown).await
        }
        Command::List { limit, cursor, json } => {
            report(settings, Operation::ProjectList { limit, cursor }, json, listed).await
        }
        Command::Show { project, json } => report(settings, Operation::ProjectShow { project }, json, shown).await,
        Command::Set { project, deny_non_fast_forwards, deny_deletes, quota_bytes, json } => {
            let receive = ReceiveSpec { deny_non_fast_forwards, deny_deletes };
            report(settings, Operation::ProjectSet { project, receive, quota_bytes }, json, shown).await
        }
        Command::ForgetHistory { project, user, yes, json } => {
            let whose = user.map_or_else(String::new, |user| format!(" of user {user}"));
            if !yes && !confirmed(&format!("Drop all replaced and discarded edits{whose} in project {project}?"))? {
                return Err(Failure::failed("nothing was dropped"));
            }
            report(settings, Operation::ProjectForgetHistory { project, user }, json, forgotten).await
        }
        Command::Delete { project, yes, json } => {
            if !yes && !confirmed(&format!("Delete project {project} with all its pending work?"))? {
                return Err(Failure::failed("nothing was deleted"));
            }
            let operation = Operation::ProjectDelete { project };
            report(settings, operation, json, |answer| format!("deleted {}", text(answer, "id"))).await
        }
    }
}

fn shown(project: &Value) -> String {
    table(&[
        ("id", text(project, "id")),
        ("name", text(project, "name")),
        ("default branch", text(project, "default_branch")),
        ("head", text(project, "head")),
        ("remote", text(&project["remote"], "url")),
        ("refused pushes", refused(&project["receive"])),
        ("holds", held(&project["usage"])),
        ("created", text(project, "created_at")),
    ])
}

fn held(usage: &Value) -> String {
    match usage["quota_bytes"].as_u64() {
        Some(quota) => format!("{} of {quota} bytes", usage["bytes"]),
        None => format!("{} bytes", usage["bytes"]),
    }
}

fn refused(receive: &Value) -> String {
    let refused = [("deny_non_fast_forwards", "non-fast-forwards"), ("deny_deletes", "deletes")];
    let refused = refused.into_iter().filter(|(flag, _)| receive[*flag] == true).map(|(_, what)| what);
    match refused.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "-".to_owned(),
        some => some,
    }
}

fn listed(answer: &Value) -> String {
    let projects = answer["projects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> =
        projects.iter().map(|p| format!("{}  {:<40}  {}", text(p, "id"), text(p, "head"), text(p, "name"))).collect();
    if projects.is_empty() {
        lines.push("no projects yet: make one with `treehold import` or `treehold project create`".into());
    }
    if !answer["next_cursor"].is_null() {
        lines.push(format!("more with --cursor {}", text(answer, "next_cursor")));
    }
    lines.join("\n")
}

fn forgotten(answer: &Value) -> String {
    table(&[
        ("versions", text(answer, "versions")),
        ("contents", text(answer, "contents")),
        ("holds", held(&answer["usage"])),
    ])
}

/// Asks on a terminal; a script that gives the command means it.
fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    eprint!("{question} This is final. [y/N] ");
    let mut answer = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
