//! `push`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::PushAnswer;

use super::{Call, Shown, show};
use crate::host::{Host, Refusal, Work};

/// Nothing: it is the branch of the connection that is pushed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    branch: String,
    /// What the remote had; null = it had no such branch.
    from: Option<String>,
    /// The branch's commit.
    to: String,
    /// Commits that the remote lacked.
    commits: u64,
    /// Whether anything was sent; false = the remote had all of it, or is ahead.
    pushed: bool,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, Args {}: Args) -> Result<Shown, Refusal> {
    let binding = call.binding;
    let (project, branch, credentials) = (binding.project.clone(), binding.branch.clone(), binding.credentials.clone());
    let pushed = call
        .host
        .run(Work::Remote, move |engine| async move { engine.push(&project, branch.as_deref(), credentials).await });
    match pushed.await {
        Ok(answer) => {
            let answer = told(answer);
            Ok(show(text(&answer), &answer))
        }
        Err(mut refusal) => {
            if refusal.code == "diverged" {
                refusal.detail =
                    "the remote moved: `sync` with on_diverged \"merge\", then push again; nothing was sent".to_owned();
            }
            Err(refusal)
        }
    }
}

fn told(answer: PushAnswer) -> Answer {
    Answer {
        branch: answer.branch,
        from: answer.from.map(|oid| oid.to_string()),
        to: answer.to.to_string(),
        commits: answer.commits,
        pushed: answer.pushed,
    }
}

fn text(answer: &Answer) -> String {
    let Answer { branch, to, commits, .. } = answer;
    match (answer.pushed, answer.from.as_deref()) {
        (true, from) => format!("Pushed {branch}: {} to {to} ({commits} commits)", from.unwrap_or("nothing")),
        (false, Some(from)) if from != to => {
            format!("Nothing was pushed: the remote is ahead of {branch} ({to}) at {from}")
        }
        (false, _) => format!("Nothing to push: the remote has all of {branch} ({to})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_says_why() {
        let oid = |digit: &str| digit.repeat(40);
        let said = |from: Option<&str>, pushed| {
            let (branch, to) = ("main".to_owned(), oid("1"));
            text(&Answer { branch, from: from.map(oid), to, commits: 2, pushed })
        };
        assert_eq!(said(None, true), format!("Pushed main: nothing to {} (2 commits)", oid("1")));
        assert!(said(Some("1"), false).starts_with("Nothing to push: "));
        assert!(said(Some("2"), false).ends_with(&format!("at {}", oid("2"))));
    }
}
