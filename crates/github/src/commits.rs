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
            Ok(answer) if answer.status >= 500 => return Ok(Hosting::Unknown(words(&answer.body))),
            Ok(answer) => answer,
            Err(error @ (RemoteError::Timeout | RemoteError::Failed(_) | RemoteError::Invalid(_))) => {
                return Ok(Hosting::Unknown(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let body = judged(answer)?;
        let oid = body["data"]["createCommitOnBranch"]["commit"]["oid"].as_str();
        match oid.and_then(|oid| ObjectId::from_hex(oid.as_bytes()).ok()) {
            Some(oid) => Ok(Hosting::Made(oid)),
            None => refusal(&body),
        }
    }
}

/// What errors of the GraphQL API mean: they come with status 200.
fn refusal(body: &Value) -> Result<Hosting> {
    let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |kind: &str| errors.iter().any(|error| error["type"] == kind);
    let limited = EngineError::RemoteFailed {
        code: "remote_rate_limited",
        detail: "GitHub asks to come back later.".to_owned(),
        retry_after_s: None,
    };
    match () {
        () if is("STALE_DATA") => Ok(Hosting::Moved),
        () if is("RATE_LIMITED") => Err(limited),
        () if is("NOT_FOUND") || is("FORBIDDEN") => Err(EngineError::RemoteAuth { attempt: None, commit: None }),
        () if errors.is_empty() => Ok(Hosting::Unknown("the answer names no commit".to_owned())),
        () => Err(EngineError::PushRejected { attempt: None, commit: None, message: words(&with_message(body)) }),
    }
}

/// GraphQL has no message over its errors.
fn with_message(body: &Value) -> Value {
    json!({"message": "GitHub refuses to make the commit", "errors": body["errors"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_graphql_mean_what_they_should() {
        let told = |kind: &str, message: &str| {
            let outcome = refusal(&json!({"data": null, "errors": [{"type": kind, "message": message}]}));
            match outcome {
                Ok(hosting) => format!("{hosting:?}"),
                Err(error) => format!("{}: {error}", error.code()),
            }
        };
        let stale = "Expected branch to point to \"1\" but it did not. Pull and try again.";
        assert_eq!(told("STALE_DATA", stale), "Moved");
        assert!(told("RATE_LIMITED", "API rate limit exceeded").starts_with("remote_rate_limited"));
        assert!(told("NOT_FOUND", "Could not resolve to a Repository").starts_with("remote_auth"));
        assert!(told("FORBIDDEN", "Resource not accessible by integration").starts_with("remote_auth"));
        let rejected = told("UNPROCESSABLE", "A path was requested for deletion which does not exist");
        assert!(rejected.starts_with("push_rejected") && rejected.contains("requested for deletion"), "{rejected}");
        assert!(format!("{:?}", refusal(&json!({})).unwrap()).starts_with("Unknown"));
    }
}
