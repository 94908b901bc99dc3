//! `treehold import`

use std::path::Path;

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
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
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
    let project = match args.project {
        Some(name) => name,
        None => name_of(&source)?,
    };
    let depth = if args.full { 0 } else { args.depth };
    let operation = Operation::Import { source, project: Some(project), branch: args.branch, depth };
    report(settings, operation, args.json, shown).await
}

fn shown(answer: &Value) -> String {
    let project = &answer["project"];
    let history = if answer["shallow"] == true { "cut off (import with --full for all of it)" } else { "complete" };
    table(&[
        ("project", format!("{} ({})", text(project, "name"), text(project, "id"))),
        ("branch", text(answer, "branch")),
        ("head", text(answer, "head")),
        ("files", text(answer, "files")),
        ("objects", text(answer, "objects")),
        ("received", size(answer["bytes"].as_u64().unwrap_or(0))),
        ("history", history.to_owned()),
    ])
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
    path.into_os_string().into_string().map_err(|_| Failure::usage("the path must be UTF-8"))
}

/// `https://host/owner/docs.git` is `docs`; `/x/docs/.git` too.
fn name_of(source: &str) -> Result<String, Failure> {
    let path = match source.contains("://") {
        true => match url::Url::parse(source) {
            Ok(url) => url.path().to_owned(),
            Err(error) => return Err(Failure::usage(format!("the URL cannot be read: {error}"))),
        },
        false => source.to_owned(),
    };
    let mut parts = Path::new(&path).components().rev().filter_map(|part| match part {
        std::path::Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let name = parts.find(|name| *name != ".git").map(|name| name.strip_suffix(".git").unwrap_or(name));
    match name {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Failure::usage("no name can be taken from the URL: give one with --project")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_part() {
        let cases = [
            ("https://github.com/o/docs", "docs"),
            ("https://github.com/o/docs.git", "docs"),
            ("https://github.com/o/docs/", "docs"),
            ("/srv/git/docs.git", "docs"),
            ("/home/u/docs/.git", "docs"),
            ("/home/u/docs/.", "docs"),
        ];
        for (source, name) in cases {
            assert_eq!(name_of(source).unwrap(), name, "{source}");
        }
        assert!(name_of("https://github.com/").unwrap_err().message.contains("--project"));
    }

    #[test]
    fn what_is_not_there_is_said_with_a_way_out() {
        let message = source("git@example.org:o/docs.git").unwrap_err().message;
        assert!(message.ends_with("try https://example.org/o/docs.git"), "{message}");
        assert!(source("no/such/repository").unwrap_err().message.starts_with("there is no repository at /"));
        assert_eq!(source("https://x/y").unwrap(), "https://x/y");
    }
}
