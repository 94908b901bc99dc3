//! What refusals mean: each `code`, with its status, said once.

use serde_json::{Map, Value, json};

use super::schemas::Schemas;

/// Status, code, meaning; in order of the status.
const PROBLEMS: &[(u16, &str, &str)] = &[
    (400, "bad_body", "The body broke off or is badly framed."),
    (400, "bad_cursor", "The cursor is damaged, or of another project."),
    (400, "bad_encoding", "A part of the URL is not percent-encoded UTF-8."),
    (400, "bad_header", "A header has a value that it cannot have; `header` names it."),
    (400, "bad_json", "The body is not JSON."),
    (400, "bad_mcp_request", "The message is none that the Model Context Protocol takes here."),
    (400, "bad_oid", "`parameter` must be an oid of 40 hex digits."),
    (
        400,
        "bad_parameter",
        "`parameter` has a value that it cannot have, was given more than once, or is none that the route takes.",
    ),
    (400, "bad_request", "The request contradicts itself, or its cursor is of another one."),
    (400, "bad_uuid", "`parameter` must be a UUID."),
    (401, "bad_signature", "The signature is missing, or does not fit the body."),
    (401, "unauthorized", "No accepted key was sent."),
    (403, "forbidden", "The token is for the pending work of another user."),
    (403, "key_required", "The route is about more than one project: it takes a key, not a token."),
    (403, "origin_not_allowed", "The route is for agents, not for web pages."),
    (403, "read_only", "The token is for reading."),
    (403, "remote_not_allowed", "The server may not sync with this remote."),
    (403, "scope_missing", "The key or token lacks the scope that `scope` names."),
    (403, "smart_http_only", "Only git's smart HTTP protocol is served here."),
    (404, "checkpoint_not_found", "The user has no such checkpoint."),
    (404, "file_not_found", "There is no file at this path."),
    (404, "is_directory", "There is a directory at this path."),
    (404, "is_submodule", "There is a submodule at this path."),
    (404, "not_found", "No object of this kind and id is reachable from the project."),
    (404, "nothing_pending", "Nothing is pending at this path."),
    (404, "pending_deletion", "The file is pending as deleted."),
    (404, "project_not_found", "There is no such project."),
    (404, "pull_not_found", "There is no such pull request."),
    (404, "ref_not_found", "The project has no such branch, tag or reachable commit."),
    (404, "route_not_found", "There is no such route."),
    (404, "version_deletion", "The version is a deletion of the file."),
    (404, "version_not_found", "The user has no such version, or it is not kept any more."),
    (404, "webhooks_off", "The server takes no webhooks."),
    (405, "method_not_allowed", "The route does not take this method; `Allow` names those that it takes."),
    (406, "bad_mcp_request", "The caller takes neither JSON nor event streams."),
    (408, "body_timeout", "The body came too slowly."),
    (409, "checkpoint_exists", "The workspace has a checkpoint of this name."),
    (409, "conflict", "The edits do not merge with what is there now; nothing changed."),
    (409, "diverged", "Both sides have commits that the other lacks."),
    (409, "head_moved", "The branch is not where the caller expects it."),
    (409, "name_taken", "Another project has this name."),
    (409, "not_ephemeral", "The branch is one that stays."),
    (409, "not_fast_forward", "The ref can move there only with `force`."),
    (409, "not_pushed", "The remote does not have the branch, or not its last commits."),
    (409, "project_exists", "A project with this id exists, and is another one."),
    (409, "ref_conflict", "A new ref would lie above or below another one, or only case tells them apart."),
    (409, "ref_moved", "The ref is not what the caller expects."),
    (409, "snapshot_moved", "The user's pending work changed while pages of it were read; begin again."),
    (410, "cursor_expired", "Events after the cursor are not kept any more."),
    (412, "precondition_failed", "What is there is not what the caller expects; `oid` is what it is."),
    (
        413,
        "quota_exceeded",
        "The project would hold more than it may: `quota` has `used_bytes`, `quota_bytes` and what this would add, `adds_bytes`.",
    ),
    (413, "too_large", "`what` is over `limit` `unit`."),
    (415, "unsupported_encoding", "The body is encoded in a way that is not taken."),
    (415, "unsupported_media_type", "The body's Content-Type is not taken."),
    (416, "range_not_satisfiable", "The range lies outside of the file."),
    (422, "bad_action", "An action lacks what it needs, or has what it cannot have."),
    (422, "bad_author", "The author's name, address or date cannot stand in a commit."),
    (422, "bad_content", "Content is not in the encoding that it says."),
    (422, "bad_glob", "A glob is malformed."),
    (422, "bad_lifetime", "An ephemeral branch cannot live that long, or its kind cannot be ephemeral."),
    (422, "bad_message", "The message is empty, too long, or holds a NUL."),
    (422, "bad_mode", "The file's mode is none that GitHub gives files of its own commits."),
    (422, "bad_name", "The name is empty, too long, or has characters that names cannot have."),
    (422, "bad_path", "The path is not one that a file can have here."),
    (422, "bad_ref", "The name cannot be that of a ref."),
    (422, "bad_regex", "The regular expression is malformed or too large."),
    (422, "bad_shape", "The body is JSON of another shape; `at` says where."),
    (422, "bad_sign", "`sign` was asked for with what does not go with it."),
    (422, "bad_title", "The title is empty."),
    (422, "bad_version", "The id is not that of a version."),
    (
        422,
        "batch_failed",
        "An operation cannot be done, and so none was; `index`, `error` and `results` say which and why.",
    ),
    (422, "binary_file", "The file has no lines."),
    (422, "collision", "The content is an attack on git's hash."),
    (422, "default_branch", "The default branch cannot be deleted."),
    (422, "duplicate_path", "Two actions name the same path."),
    (422, "empty_project", "The project has no commits."),
    (422, "ephemeral_branch", "The branch is ephemeral and does not leave for the remote; promote it first."),
    (422, "export_failed", "What was to be exported is not whole."),
    (422, "file_exists", "The path exists already."),
    (422, "file_missing", "The path does not exist."),
    (422, "idempotency_key_reused", "The key was used with another request."),
    (422, "no_remote", "The project has no remote."),
    (422, "not_a_branch", "With a user the ref must be a branch."),
    (422, "not_a_commit", "The ref does not point to a commit."),
    (422, "not_a_ref", "A bundle takes the name of a ref, not the oid of a commit."),
    (422, "not_github", "The project's remote is not on GitHub."),
    (422, "nothing_pending", "The user has nothing pending there."),
    (422, "nothing_to_commit", "The commit would change nothing."),
    (422, "nothing_to_push", "The branch has no commit yet."),
    (422, "path_conflict", "A file cannot be where a directory is."),
    (422, "push_rejected", "The remote refused the push for good; `message` has its words."),
    (422, "remote_refused", "GitHub refused the request."),
    (422, "same_branch", "Head and base of a pull request are the same branch."),
    (422, "shallow_history", "The project's history is cut off."),
    (422, "too_many_checkpoints", "The workspace has as many checkpoints as it may."),
    (422, "unknown_base", "`base` is no blob that the project reaches."),
    (422, "unknown_oid", "The oid is no commit that the project reaches."),
    (422, "unknown_ref", "The source has no such branch."),
    (422, "unsafe_content", "The content could harm those who check it out."),
    (429, "rate_limited", "The user, or the project, has asked as often as it may in this minute."),
    (429, "remote_rate_limited", "The remote asks to wait."),
    (429, "too_many_requests", "The project has as many requests at work as it may."),
    (500, "damaged", "What is stored is damaged; an operator must restore it."),
    (500, "internal", "A defect of the server; it was logged under the request's id."),
    (502, "remote_auth", "The remote did not accept the credentials."),
    (502, "remote_failed", "The remote failed."),
    (502, "remote_invalid", "The remote sent what does not pass the checks."),
    (503, "busy", "The server is busy."),
    (503, "unavailable", "Database or store do not answer."),
    (504, "push_unknown", "Whether the push arrived is not known yet; repeat the request, or look at the status."),
    (504, "remote_timeout", "The remote did not answer in time."),
    (504, "timeout", "The request took too long."),
];

fn meaning(status: u16, code: &str) -> &'static str {
    let known = PROBLEMS.iter().find(|problem| (problem.0, problem.1) == (status, code));
    known.unwrap_or_else(|| panic!("describe {status} {code} in openapi/problems.rs")).2
}

/// Codes that so many routes share are described once.
const FEW: usize = 2;

/// Refusals with one status as the document has them: `plain` where a person reads them, without a body for HEAD.
pub(super) fn response(
    schemas: &mut Schemas,
    status: u16,
    mut codes: Vec<&'static str>,
    plain: bool,
    head: bool,
) -> Value {
    codes.sort_unstable();
    if codes.len() > FEW || plain || head {
        return told(status, &codes, plain, head);
    }
    schemas.add_refusal(format!("{status}.{}", codes.join(".")), || told(status, &codes, false, false))
}

fn told(status: u16, codes: &[&'static str], plain: bool, head: bool) -> Value {
    let meanings: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", meaning(status, code))).collect();
    let mut headers = Map::new();
    headers.insert("X-Request-Id".into(), json!({"$ref": "#/components/headers/x-request-id"}));
    if matches!(status, 429 | 503) {
        headers.insert("Retry-After".into(), json!({"$ref": "#/components/headers/retry-after"}));
    }
    if status == 416 {
        headers.insert("Content-Range".into(), json!({"$ref": "#/components/headers/content-range"}));
    }
    let mut response = json!({"description": meanings.join("\n\n"), "headers": headers});
    if plain {
        response["content"] =
            json!({"text/plain": {"schema": {"type": "string", "description": "The sentence alone."}}});
    } else if !head {
        let schema = json!({
            "allOf": [{"$ref": "#/components/schemas/Problem"}],
            "properties": {"code": {"enum": codes}, "status": {"const": status}},
        });
        response["content"] = json!({"application/problem+json": {"schema": schema}});
    }
    response
}

/// Every status and code, for the tests.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (u16, &'static str)> {
    PROBLEMS.iter().map(|problem| (problem.0, problem.1))
}
