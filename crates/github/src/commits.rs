//! Commits that GitHub makes and signs itself: the mutation `createCommitOnBranch` of its GraphQL API.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};
use treehold_engine::remote::{ForgeSite, HostedCommit, Hosting, RemoteError};
use treehold_engine::{EngineError, Result};
use treehold_object::ObjectId;

use crate::client::{Call, GitHub, judged, words};

const MUTATION: &str =
    "mutation($input: CreateCommitOnBranchInput!) { createCommitOnBranch(input: $input) { commit { oid } } }";

/// The mutation's field, alone in its document.
const FIELD: &str = "createCommitOnBranch";
/// Types of errors that say nothing of what became of the mutation: GitHub itself is in trouble.
const TROUBLE: [&str; 4] = ["INTERNAL", "INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"];

impl GitHub {
    /// One call. It is never repeated here: GitHub's own compare of the head makes a repetition safe, but the caller looks first.
    pub(crate) async fn make(&self, at: &ForgeSite, commit: &HostedCommit) -> Result<Hosting> {
        let repository = self.repository(&at.url)?;
        let added =
            |(path, content): &(String, bytes::Bytes)| json!({"path": path, "contents": BASE64.encode(content)});
        let additions: Vec<Value> = commit.additions.iter().map(added).collect();
        let deletions: Vec<Value> = commit.deletions.iter().map(|path| json!({"path": path})).collect();
        let input = json!({
            "branch": {
                "repositoryNameWithOwner": format!("{}/{}", repository.owner, repository.name),
                "branchName": commit.branch,
            },
            "message": {"headline": commit.words.0, "body": commit.words.1},
            "expectedHeadOid": commit.parent.to_string(),
            "fileChanges": {"additions": additions, "deletions": deletions},
        });
        let answer = match self.call(at, &Call::graphql(MUTATION, json!({"input": input}))).await {
            // A gateway that lost patience has a page for it, which is no JSON.
            Ok(answer) if answer.status >= 500 || answer.status == 408 => {
                return Ok(Hosting::Unknown(format!("GitHub answers HTTP {}: {}", answer.status, words(&answer.body))));
            }
            Ok(answer) => answer,
            Err(error @ (RemoteError::Timeout | RemoteError::Failed(_) | RemoteError::Invalid(_))) => {
                return Ok(Hosting::Unknown(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let body = judged(answer)?;
        let oid = made(&body)["commit"]["oid"].as_str();
        match oid.and_then(|oid| ObjectId::from_hex(oid.as_bytes()).ok()) {
            Some(oid) => Ok(Hosting::Made(oid)),
            None => refusal(&body),
        }
    }
}

fn made(body: &Value) -> &Value {
    &body["data"][FIELD]
}

fn errors(body: &Value) -> &[Value] {
    body["errors"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether GitHub refused a mutation for its rate, which it tells with status 200 too. It has not begun then.
pub(crate) fn limits(body: &Value) -> bool {
    let told = |said: &Value| said.as_str().is_some_and(|said| said.to_ascii_lowercase().contains("rate limit"));
    let limits = |error: &Value| match error["type"].as_str() {
        Some(kind) => matches!(kind, "RATE_LIMIT" | "RATE_LIMITED"),
        None => told(&error["message"]),
    };
    made(body).is_null() && (errors(body).iter().any(limits) || told(&body["message"]))
}

/// Whether an error says that the mutation did nothing. `begun`: it was executed, or may have been.
///
/// Where GitHub's time ran out, or it broke, the error has no type ("Something went wrong while executing your query"), and the commit may be
/// there. An error of a field below the mutation comes after it.
fn is_refusal(error: &Value, begun: bool) -> bool {
    let of_the_mutation = error["path"].is_null() || error["path"] == json!([FIELD]);
    of_the_mutation
        && match error["type"].as_str() {
            Some(kind) => !TROUBLE.contains(&kind),
            // What does not fit the schema is told before anything is executed: without `data`, and with what does not fit.
            None => !begun && error["extensions"].is_object(),
        }
}

/// What errors of the GraphQL API mean: they come with status 200. Only what is known to have done nothing is a refusal.
fn refusal(body: &Value) -> Result<Hosting> {
    let errors = errors(body);
    if errors.is_empty() {
        return Ok(Hosting::Unknown("the answer names no commit".to_owned()));
    }
    let begun = body.get("data").is_some();
    if !made(body).is_null() || !errors.iter().all(|error| is_refusal(error, begun)) {
        return Ok(Hosting::Unknown(words(&with_message(body, "GitHub does not say whether it made the commit"))));
    }
    let is = |kind: &str| errors.iter().any(|error| error["type"] == kind);
    match () {
        () if is("STALE_DATA") => Ok(Hosting::Moved),
        () if is("NOT_FOUND") || is("FORBIDDEN") || is("INSUFFICIENT_SCOPES") => {
            Err(EngineError::RemoteAuth { attempt: None, commit: None })
        }
        () => {
            let message = words(&with_message(body, "GitHub refuses to make the commit"));
            Err(EngineError::PushRejected { attempt: None, commit: None, message })
        }
    }
}

/// GraphQL has no message over its errors.
fn with_message(body: &Value, message: &str) -> Value {
    json!({"message": message, "errors": body["errors"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &Value) -> String {
        match refusal(body) {
            Ok(hosting) => format!("{hosting:?}"),
            Err(error) => format!("{}: {error}", error.code()),
        }
    }

    /// As the mutation itself is refused.
    fn refused(kind: &str, message: &str) -> Value {
        let error = json!({"type": kind, "path": [FIELD], "locations": [], "message": message});
        json!({"data": {FIELD: null}, "errors": [error]})
    }

    #[test]
    fn errors_of_graphql_mean_what_they_should() {
        let stale = "Expected branch to point to \"1\" but it did not. Pull and try again.";
        assert_eq!(told(&refused("STALE_DATA", stale)), "Moved");
        for kind in ["NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"] {
            assert!(
                told(&refused(kind, "Resource not accessible by integration")).starts_with("remote_auth"),
                "{kind}"
            );
        }
        for kind in ["UNPROCESSABLE", "BRANCH_PROTECTION_RULE_VIOLATION"] {
            let rejected = told(&refused(kind, "A path was requested for deletion which does not exist"));
            assert!(rejected.starts_with("push_rejected") && rejected.contains("requested for deletion"), "{rejected}");
        }
        // Before it is executed.
        let unfit = json!({"errors": [{"message": "Variable $input was provided invalid value for branch",
            "locations": [{"line": 1, "column": 10}], "extensions": {"value": {}, "problems": []}}]});
        assert!(told(&unfit).starts_with("push_rejected"), "{unfit}");
    }

    /// Goal: an answer that leaves open whether the commit was made is no refusal.
    #[test]
    fn what_may_have_been_made_is_unknown() {
        let wrong = "Something went wrong while executing your query. This may be the result of a timeout, or it could be a GitHub bug.";
        let below = json!([FIELD, "commit", "oid"]);
        for body in [
            json!({}),
            json!({"data": null, "errors": []}),
            json!({"data": null, "errors": [{"message": wrong}]}),
            json!({"errors": [{"message": wrong}]}),
            json!({"data": {FIELD: null}, "errors": [{"message": wrong, "extensions": {}}]}),
            json!({"data": {FIELD: null}, "errors": [{"type": null, "message": wrong}]}),
            json!({"data": {FIELD: null}, "errors": ["wrong"]}),
            refused("SERVICE_UNAVAILABLE", "Try again later"),
            // The commit was made, and may not be shown.
            json!({"data": {FIELD: null}, "errors": [{"type": "FORBIDDEN", "path": below, "message": "hidden"}]}),
            json!({"data": {FIELD: {"commit": null}}, "errors": [{"type": "NOT_FOUND", "path": [FIELD], "message": "gone"}]}),
            // One that is known beside one that is not.
            json!({"data": null, "errors": [{"type": "UNPROCESSABLE", "message": "no"}, {"message": wrong}]}),
        ] {
            assert!(told(&body).starts_with("Unknown"), "{body}: {}", told(&body));
            assert!(!limits(&body), "{body}");
        }
    }

    #[test]
    fn limits_are_told_with_status_200() {
        let used_up = "API rate limit already exceeded for user ID 1.";
        for body in [
            json!({"errors": [{"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": used_up}]}),
            json!({"data": null, "errors": [{"type": "RATE_LIMITED", "message": used_up}]}),
            json!({"errors": [{"message": "You have exceeded a secondary rate limit."}]}),
            json!({"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}),
        ] {
            assert!(limits(&body), "{body}");
        }
        let made = json!({"data": {FIELD: {"commit": {"oid": "1".repeat(40)}}}, "errors": [{"type": "RATE_LIMIT"}]});
        assert!(!limits(&made));
        assert!(!limits(&refused("UNPROCESSABLE", "docs/rate limit.md is not there")));
    }
}
