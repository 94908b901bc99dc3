//! `treehold import`

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report;
use crate::failure::Failure;
use crate::operation::Operation;
use crate::output::{size, table, text};
use crate::settings::Settings;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An https:// URL, or the path of a local repository
    #[arg(value_name = "URL|PATH")]
    source: String,
    /// Name of the project; found if it exists, else made [default: the last part of the URL]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Branch to fetch [default: what the repository's HEAD names]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Commits of history to fetch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::count, allow_negative_numbers = true)]
    depth: usize,
    /// Fetch the whole history
    #[arg(long, conflicts_with = "depth")]
    full: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: Args, settings: &Settings) -> Result<(), Failure> {
    let source = source(&args.source)?;
    let depth = if args.full { 0 } else { u32::try_from(args.depth).unwrap_or(u32::MAX) };
    let operation = Operation::Import { source, project: args.project, branch: args.branch, depth };
    report(settings, operation, args.json, shown).await
}

fn shown(answer: &Value) -> String {
    let project = &answer["project"];
    let history = if answer["shallow"] == true { "cut off (import with --full for all of it)" } else { "complete" };
    let mut lines = vec![
        ("project", format!("{} ({})", text(project, "name"), text(project, "id"))),
        ("branch", text(answer, "branch")),
        ("head", text(answer, "head")),
        ("files", text(answer, "files")),
        ("objects", text(answer, "objects")),
        ("received", size(answer["bytes"].as_u64().unwrap_or(0))),
        ("history", history.to_owned()),
    ];
    if answer["remote_set"] == true {
        let remote = text(&project["remote"], "url");
        lines.push((
            "remote",
            format!("{remote} from now on: the project had none, and pulls from it and pushes to it"),
        ));
    }
    table(&lines)
}

/// A URL stays; a path becomes absolute, since another process may open it.
fn source(text: &str) -> Result<String, Failure> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let path = std::path::absolute(text).map_err(|error| Failure::usage(format!("{text}: {error}")))?;
    if !path.exists() {
        let hint = match text.split_once(':') {
            Some((host, rest)) if !host.contains('/') => {
                let host = host.rsplit('@').next().unwrap_or(host);
                format!("; Treehold speaks git over HTTP: try https://{host}/{rest}")
            }
            _ => String::new(),
        };
        return Err(Failure::usage(format!("there is no repository at {}{hint}", path.display())));
    }
    // One repository has one name: without a slash at the end, and without the `.git` of its work tree.
    let plain: PathBuf = path.components().collect();
    let plain = plain.parent().filter(|_| plain.ends_with(".git")).map(Path::to_owned).unwrap_or(plain);
    plain.into_os_string().into_string().map_err(|_| Failure::usage("the path must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_absolute_and_plain() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("docs/.git")).unwrap();
        let plain = dir.path().join("docs").to_str().unwrap().to_owned();
        for (given, expected) in [("", ""), ("/", ""), ("/.", ""), ("/.git", ""), ("/.git/", "")] {
            assert_eq!(source(&format!("{plain}{given}")).unwrap(), format!("{plain}{expected}"));
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_a_way_out() {
        let message = source("git@example.org:o/docs.git").unwrap_err().message;
        assert!(message.ends_with("try https://example.org/o/docs.git"), "{message}");
        assert!(source("no/such/repository").unwrap_err().message.starts_with("there is no repository at /"));
        assert_eq!(source("https://x/y").unwrap(), "https://x/y");
    }
}
