//! `log`

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{LogEntry, LogRequest};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
/// Of a message, bytes; names are cut sooner.
const MESSAGE_BYTES: usize = 900;
const NAME_BYTES: usize = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// Branch, tag or commit to start from. Left out: your branch.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Only commits that changed this file or directory.
    path: Option<String>,
    /// Most commits (default 20, at most 100). A page may be shorter, or empty with a path, and go on.
    limit: Option<usize>,
    /// `next_cursor` of the last answer, with the same arguments.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    /// Newest first.
    commits: Vec<Commit>,
    /// History ends here because only a part of it was fetched.
    shallow: bool,
    /// There are more: call again with it.
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Commit {
    commit: String,
    parents: Vec<String>,
    author: String,
    /// RFC 3339.
    date: String,
    message: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    message_truncated: bool,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    let work = match args.path.is_some() {
        true => Work::Batch { factor: 0, bytes: bounds::memory(bounds::BUDGET_DEFAULT) },
        false => Work::Light,
    };
    let request = LogRequest {
        reference: args.reference.or_else(|| call.binding.branch.clone()),
        path: args.path.map(String::into_bytes),
        first_parent: false,
        cursor: args.cursor,
        limit: Some(bounds::limit(args.limit, LIMIT_DEFAULT, LIMIT_MAX)),
    };
    let project = call.binding.project.clone();
    let page = call.host.run(work, move |engine| async move { engine.log(&project, &request).await }).await?;
    let commits = page.commits.iter().map(commit).collect();
    let answer = Answer { commits, shallow: page.shallow, next_cursor: page.next_cursor };
    Ok(show(text(&answer), &answer))
}

fn commit(entry: &LogEntry) -> Commit {
    let (message, message_truncated) = bounds::cut(&entry.message, MESSAGE_BYTES);
    let author = format!("{} <{}>", entry.author.name, entry.author.email);
    Commit {
        commit: entry.commit.to_string(),
        // A merge of very many is no reason to tell all of them.
        parents: entry.parents.iter().take(16).map(ToString::to_string).collect(),
        author: bounds::cut(&author, NAME_BYTES).0.to_owned(),
        date: entry.author.date.clone(),
        message: message.to_owned(),
        message_truncated,
    }
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for commit in &answer.commits {
        _ = writeln!(text, "{} {} {}", commit.commit, commit.date, shown::path(&commit.author));
        for line in commit.message.trim_end().lines() {
            _ = writeln!(text, "    {line}");
        }
        if commit.message_truncated {
            text.push_str("    [message cut]\n");
        }
    }
    if answer.commits.is_empty() && answer.next_cursor.is_none() {
        text.push_str("[No commit.]\n");
    }
    if answer.shallow {
        text.push_str("[History ends here: only a part of it was fetched.]\n");
    }
    if let Some(cursor) = &answer.next_cursor {
        shown::goes_on(&mut text, cursor, "There may be more commits");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{Oid, Person};

    #[test]
    fn long_messages_are_cut_and_say_so() {
        let oid: Oid = "0000000000000000000000000000000000000001".parse().unwrap();
        let person =
            || Person { name: "Ann".to_owned(), email: "a@b".to_owned(), date: "2026-01-02T03:04:05Z".to_owned() };
        let message = format!("Say it\n\n{}", "x".repeat(5_000));
        let entry =
            LogEntry { commit: oid, tree: oid, parents: vec![oid; 40], author: person(), committer: person(), message };
        let commit = commit(&entry);
        assert!(commit.message.len() <= MESSAGE_BYTES && commit.message_truncated && commit.parents.len() == 16);
        let told = text(&Answer { commits: vec![commit], shallow: true, next_cursor: None });
        assert!(told.starts_with(&format!("{oid} 2026-01-02T03:04:05Z Ann <a@b>\n    Say it\n")), "{told}");
        assert!(told.contains("[message cut]") && told.contains("only a part"));
    }
}
