//! `treehold admin`

use std::path::PathBuf;

use serde_json::Value;

use super::{bytes, report, reported, seconds};
use crate::backup;
use crate::failure::Failure;
use crate::operation::Operation;
use crate::output::{self, clean, grouped, table, text};
use crate::progress::Bar;
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
    /// Say which objects nothing names any more, and with --apply give them up: condemned first, collected after the grace; safe beside
    /// running servers
    Gc {
        /// Do it; else only say what would be done
        #[arg(long)]
        apply: bool,
        /// How long objects stay after they were condemned, and bytes after nothing was left in their key, such as 24h, 7d or 0s [default:
        /// 24h; bytes 7d with Postgres]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u64>,
        /// Only what this project reached once and does not any more
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Forget the project's reflog and do not wait between the steps: what was deleted from it goes at once
        #[arg(long, requires = "project")]
        now: bool,
        /// Go on where more than a fifth of all objects would go
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Coalesce small packs, drop dead weight, and delete what was emptied longer ago than the grace; safe beside running servers
    Repack {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// How long the bytes of emptied keys stay, such as 24h, 7d or 0s [default: 24h embedded, 7d with Postgres]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare what is on record with what is there, and say what is damaged (exit status 1); safe beside running servers
    #[command(visible_alias = "fsck")]
    Verify(Verify),
    /// Make the ledger, the commit graph and everybody's reach again from the store, after the database was lost; no server may run
    Rebuild {
        /// Give up what the ledger has, and read the whole store again
        #[arg(long)]
        force: bool,
        /// Where projects, refs and pending work come from: `none` = the database; `latest` = the newest manifest in the store, or a
        /// manifest's commit, for projects that the database lacks; `auto` = the newest manifest if the database has no project;
        /// after a cut, what the rebuild that was cut off took
        #[arg(long, value_name = "WHICH", default_value = "auto")]
        manifest: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write projects, refs and pending work into the store as a manifest, as `serve` does now and then
    Manifest {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy the embedded database and store into DIR, beside a running server too; what is there from the last time is not copied again
    Backup {
        /// Made if missing
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the data directory from a backup
    Restore {
        /// The directory of `backup`
        #[arg(required_unless_present = "fence")]
        backup: Option<PathBuf>,
        /// Copy nothing: the database was set back by other means (point-in-time recovery, pg_restore); fence off what was under way
        #[arg(long, conflicts_with = "backup")]
        fence: bool,
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

/// What to verify, and how.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Only what this project reaches (id or name)
    #[arg(long)]
    project: Option<String>,
    /// Read every byte of every object; else only commits, trees and tags are read, and packs are looked at from outside
    #[arg(long)]
    full: bool,
    /// Where another good copy of something damaged is found, store it anew; nothing is deleted
    #[arg(long)]
    repair: bool,
    /// Begin anew, also where a run was stopped before its end
    #[arg(long)]
    restart: bool,
    /// Read no more bytes per second from the store, such as 500K, 50M or 1G
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_rate: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Migrate { json } => report(settings, Operation::AdminMigrate {}, json, migrated).await,
        Command::Gc { apply, grace, project, now, force, json } => {
            let operation = Operation::AdminGc { apply, grace_s: grace, project, now, force };
            report(settings, operation, json, collected).await
        }
        Command::Repack { dry_run, grace, json } => {
            let answer = reported(settings, Operation::AdminRepack { dry_run, grace_s: grace }, json, counted).await?;
            match answer["damaged"].as_u64() {
                None | Some(0) => Ok(()),
                Some(damaged) => Err(Failure::failed(format!(
                    "{damaged} objects are damaged and stay where they are; the log names them: restore their packs from a copy of the store"
                ))),
            }
        }
        Command::Verify(verify) => verified(verify, settings).await,
        Command::Rebuild { force, manifest, json } => {
            let answer = reported(settings, Operation::AdminRebuild { force, manifest }, json, rebuilt).await?;
            match answer["damage"].as_u64() {
                None | Some(0) => Ok(()),
                Some(damage) => Err(Failure::failed(format!("{damage} of the findings are damage: see the list"))),
            }
        }
        Command::Manifest { json } => report(settings, Operation::AdminManifest {}, json, counted).await,
        Command::Backup { dir, json } => {
            let dir = std::path::absolute(&dir).map_err(|error| Failure::usage(format!("the directory: {error}")))?;
            report(settings, Operation::AdminBackup { dir }, json, counted).await
        }
        Command::Restore { backup: Some(backup), json, .. } => {
            let bar = Bar::new();
            let answer = backup::restore(settings, &backup, &bar).await;
            bar.finish();
            let answer = answer?;
            output::print(&if json { output::pretty(&answer) } else { counted(&answer) })
        }
        Command::Restore { json, .. } => report(settings, Operation::AdminFence {}, json, counted).await,
        Command::Stats { json } => report(settings, Operation::AdminStats {}, json, counted).await,
    }
}

async fn verified(verify: Verify, settings: &Settings) -> Result<(), Failure> {
    let Verify { project, full, repair, restart, max_rate: rate, json } = verify;
    let operation = Operation::AdminVerify { project, full, repair, restart, rate };
    let answer = reported(settings, operation, json, findings).await?;
    match (answer["errors"].as_u64().unwrap_or(0), answer["repaired"].as_u64().unwrap_or(0)) {
        (0, _) => Ok(()),
        (errors, 0) => Err(Failure::failed(format!("damage was found: {errors} errors"))),
        (errors, repaired) => Err(Failure::failed(format!(
            "damage was found: {errors} errors; {repaired} findings were repaired: verify again to see what is left"
        ))),
    }
}

/// The findings, each with what to do about it, then the counts.
fn findings(answer: &Value) -> String {
    let mut shown = String::new();
    for finding in answer["findings"].as_array().into_iter().flatten() {
        let repaired = if finding["repaired"] == true { " (repaired)" } else { "" };
        let [level, code, subject] = ["level", "code", "subject"].map(|name| text(finding, name));
        let [detail, remedy] = ["detail", "remedy"].map(|name| text(finding, name));
        shown.push_str(&format!("{level}{repaired}: {code} {subject}: {detail}\n  {remedy}\n"));
    }
    let mut counts = answer.clone();
    if let Some(members) = counts.as_object_mut() {
        members.remove("findings");
    }
    shown + &counted(&counts)
}

fn migrated(answer: &Value) -> String {
    match answer["applied"].as_array().map(Vec::len).unwrap_or(0) {
        0 => format!("the schema is up to date (version {})", text(answer, "current")),
        count => format!("{count} migration(s) applied; the schema is at version {}", text(answer, "current")),
    }
}

fn collected(answer: &Value) -> String {
    let mut text = counted(answer);
    let dry_run = answer["dry_run"].as_bool() == Some(true);
    let kept = |reason: &str| answer["kept"][reason].as_u64().is_some_and(|objects| objects > 0);
    if kept("objects") {
        text += match dry_run {
            true => "\nwhat `kept` counts is named elsewhere: end that first, since --now forgets what the project had",
            false => {
                "\nwhat `kept` counts is named elsewhere: once that has ended, `treehold admin gc --apply --grace 0s` and \
                 `treehold admin repack --grace 0s` take it"
            }
        };
    }
    for (reason, hint) in [
        ("history", "\n  local history: `treehold project forget-history PROJECT`"),
        ("checkpoints", "\n  checkpoints: their users delete them"),
        ("others", "\n  if manifests: `treehold admin manifest` twice"),
    ] {
        if kept(reason) {
            text += hint;
        }
    }
    if dry_run {
        text += "\nnothing was changed: --apply does it";
    }
    text
}

/// Counts, then a line for each finding.
fn rebuilt(answer: &Value) -> String {
    let mut counts = answer.clone();
    let findings = counts.as_object_mut().and_then(|counts| counts.remove("findings"));
    let findings = findings.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines = findings.iter().map(|finding| format!("{}\n", clean(&finding.to_string())));
    counted(&counts) + &lines.collect::<String>()
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
