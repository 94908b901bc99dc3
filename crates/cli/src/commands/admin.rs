//! `treehold admin`

use serde_json::Value;

use super::report;
use crate::failure::Failure;
use crate::operation::Operation;
use crate::output::{clean, grouped, table, text};
use crate::settings::Settings;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date (`serve` does so at start)
    Migrate {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Count projects, objects, bytes and pending work
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Migrate { json } => report(settings, Operation::AdminMigrate {}, json, migrated).await,
        Command::Stats { json } => report(settings, Operation::AdminStats {}, json, counted).await,
    }
}

fn migrated(answer: &Value) -> String {
    match answer["applied"].as_array().map(Vec::len).unwrap_or(0) {
        0 => format!("the schema is up to date (version {})", text(answer, "current")),
        count => format!("{count} migration(s) applied; the schema is at version {}", text(answer, "current")),
    }
}

/// Members as rows, nested ones with dots.
fn counted(answer: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", answer, &mut rows);
    let rows: Vec<(&str, String)> = rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    table(&rows)
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                flatten(&name, value, rows);
            }
        }
        Value::Number(number) => rows.push((name.into(), number.as_u64().map_or(number.to_string(), grouped))),
        Value::String(text) => rows.push((name.into(), clean(text))),
        other => rows.push((name.into(), other.to_string())),
    }
}
