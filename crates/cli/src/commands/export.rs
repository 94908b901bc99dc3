//! `treehold export`

use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use super::report;
use crate::failure::Failure;
use crate::operation::Operation;
use crate::output::{clean, size, table, text};
use crate::settings::Settings;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id or name of the project
    project: String,
    /// Directory of the bare repository to make: new or empty
    #[arg(value_name = "DIR", required_unless_present = "bundle")]
    dir: Option<PathBuf>,
    /// Also (without DIR: only) write a git bundle
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Write this user's pending work as refs/pending/USER
    #[arg(long, value_name = "USER", requires = "dir", value_parser = super::user_id)]
    user: Option<Uuid>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: Args, settings: &Settings) -> Result<(), Failure> {
    let dir = args.dir.as_deref().map(absolute).transpose()?;
    let bundle = args.bundle.as_deref().map(absolute).transpose()?;
    let operation = Operation::Export { project: args.project, dir, bundle, user: args.user };
    report(settings, operation, args.json, shown).await
}

/// Another process may write it.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn shown(answer: &Value) -> String {
    let mut rows = Vec::new();
    if answer["dir"].is_string() {
        rows.push(("repository", text(answer, "dir")));
        rows.push(("refs", text(answer, "refs")));
        rows.push(("objects", text(answer, "objects")));
        rows.push(("pack", size(answer["bytes"].as_u64().unwrap_or(0))));
        let history = if answer["shallow"] == true { "cut off, as it was imported" } else { "complete" };
        rows.push(("history", history.to_owned()));
    }
    if let Some(file) = answer["bundle"]["file"].as_str() {
        let bytes = answer["bundle"]["bytes"].as_u64().unwrap_or(0);
        rows.push(("bundle", format!("{} ({})", clean(file), size(bytes))));
    }
    table(&rows)
}
