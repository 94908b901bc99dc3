//! The mutation `createCommitOnBranch` of the GraphQL API.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Body, Shared, Trouble, Who, failure, full, header, now_s, reply, used_up};
use crate::git::Repo;

pub(super) fn answer(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let credentials = header(headers, "authorization").and_then(|text| text.strip_prefix("Bearer "));
    let Some(who) = credentials.and_then(|token| shared.who(token)) else {
        return failure(StatusCode::UNAUTHORIZED, "Bad credentials", None);
    };
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if !body["query"].as_str().is_some_and(|query| query.contains("createCommitOnBranch(input: $input)")) {
        return failure(StatusCode::BAD_REQUEST, "Problems parsing JSON", None);
    }
    let input = &body["variables"]["input"];
    let trouble = shared.state().troubles.pop_front();
    if let Some(trouble) = trouble {
        return troubled(shared, who, input, trouble);
    }
    match commit(shared, who, input) {
        Ok(oid) => {
            let made = json!({"createCommitOnBranch": {"commit": {"oid": oid}}});
            reply(StatusCode::OK, &json!({ "data": made }))
        }
        Err((kind, message)) => {
            let error = json!({"type": kind, "path": ["createCommitOnBranch"], "message": message});
            reply(StatusCode::OK, &json!({"data": {"createCommitOnBranch": null}, "errors": [error]}))
        }
    }
}

fn troubled(shared: &Shared, who: Who, input: &Value, trouble: Trouble) -> Response<Body> {
    if let Trouble::MadeAndTimedOut | Trouble::MadeBehindGateway = trouble {
        commit(shared, who, input).expect("a commit that can be made");
    }
    match trouble {
        Trouble::MadeAndTimedOut | Trouble::NotMadeAndTimedOut => {
            let message = "Something went wrong while executing your query. This may be the result of a timeout, or it could be a \
                           GitHub bug. Please include `A5F0:0E5E` when reporting this issue.";
            reply(StatusCode::OK, &json!({"data": null, "errors": [{"message": message}]}))
        }
        Trouble::MadeBehindGateway => {
            let mut response = Response::new(full("<html><body><h1>502 Bad Gateway</h1></body></html>"));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
        Trouble::Limited(seconds) => {
            let message = "API rate limit already exceeded for installation ID 314159.";
            let error = json!({"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": message});
            let mut response = reply(StatusCode::OK, &json!({ "errors": [error] }));
            response.headers_mut().insert("x-ratelimit-reset", HeaderValue::from(now_s() + seconds));
            used_up(&mut response);
            response
        }
        Trouble::Forbidden => {
            let message = "Repository rule violations found\n\nChanges must be made through a pull request.";
            let error = json!({"type": "UNPROCESSABLE", "path": ["createCommitOnBranch"], "message": message});
            reply(StatusCode::OK, &json!({"data": {"createCommitOnBranch": null}, "errors": [error]}))
        }
    }
}

/// Makes the commit as GitHub does: on top of what is expected or not at all, plain files only, its own author.
fn commit(shared: &Shared, who: Who, input: &Value) -> Result<String, (&'static str, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, branch) = (text(&input["branch"]["repositoryNameWithOwner"]), text(&input["branch"]["branchName"]));
    let (owner, repo) = name.split_once('/').unwrap_or_default();
    if who == Who::Stranger || !shared.exists(owner, repo) {
        return Err(("NOT_FOUND", format!("Could not resolve to a Repository with the name '{name}'.")));
    }
    let repo = Repo::open(shared.repositories.join(owner).join(format!("{repo}.git")));
    let full = format!("refs/heads/{branch}");
    let tip = repo.refs().get(&full).cloned();
    let tip = tip.ok_or_else(|| ("NOT_FOUND", format!("No ref exists for '{branch}'")))?;
    let expected = text(&input["expectedHeadOid"]);
    if tip != expected {
        let message = format!("Expected branch to point to \"{expected}\" but it did not. Pull and try again.");
        return Err(("STALE_DATA", message));
    }
    let index = repo.path().join("api-index");
    let _ = std::fs::remove_file(&index);
    let git = repo.git().clone().env("GIT_INDEX_FILE", &index);
    git.run(["read-tree", &tip]);
    let changes = |name: &str| input["fileChanges"][name].as_array().cloned().unwrap_or_default();
    for addition in changes("additions") {
        let content = BASE64.decode(text(&addition["contents"])).map_err(|_| ("UNPROCESSABLE", "bad base64".into()))?;
        let blob = git.run_with(["hash-object", "-w", "--stdin"], &content);
        let entry = format!("100644,{},{}", blob.trim(), text(&addition["path"]));
        git.run(["update-index", "--add", "--cacheinfo", &entry]);
    }
    for deletion in changes("deletions") {
        let path = text(&deletion["path"]);
        if !git.output(["cat-file", "-e", &format!("{tip}:{path}")]).status.success() {
            return Err(("UNPROCESSABLE", "A path was requested for deletion which does not exist".into()));
        }
        // Mode 0 takes an entry out; `--force-remove` wants a work tree.
        let gone = format!("0 {}\t{path}\n", "0".repeat(40));
        git.run_with(["update-index", "--index-info"], gone.as_bytes());
    }
    let tree = git.run(["write-tree"]);
    let words = format!("{}\n\n{}", text(&input["message"]["headline"]), text(&input["message"]["body"]));
    let git = ["AUTHOR", "COMMITTER"].into_iter().fold(git, |git, who| {
        git.env(format!("GIT_{who}_NAME"), "GitHub").env(format!("GIT_{who}_EMAIL"), "noreply@github.example")
    });
    let made = git.run_with(["commit-tree", tree.trim(), "-p", &tip], words.as_bytes());
    git.run(["update-ref", &full, made.trim(), &tip]);
    if std::mem::take(&mut shared.state().undo_next) {
        git.run(["update-ref", &full, &tip, made.trim()]);
    }
    Ok(made.trim().to_owned())
}
