//! Commits of pending work and of actions.

use serde_json::{Value, json};
use treehold_engine::api::{ActionsRequest, CommitAnswer, CommitRequest};

use super::seen;
use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{idempotency_key, project, remote_token};

pub(super) fn committed() -> Value {
    json!({
        "commit": seen::COMMIT, "tree": seen::TREE, "parents": [seen::BEFORE], "branch": "main", "pushed": true,
        "files": [{"path": "README.md", "action": "modified", "oid": seen::EDIT}], "objects": 3,
    })
}

/// What a commit that may be pushed is refused for.
fn committing(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Group::Commits, id, summary)
        .parameters([project(), idempotency_key(), remote_token()])
        .answers::<CommitAnswer>(200, "The commit.")
        .example(200, committed())
        .limit(Limit::JsonBytes)
        .limit(Limit::CommitChanges)
        .limit(Limit::MessageBytes)
        .limit(Limit::Refs)
        .refuses(403, &["remote_not_allowed"])
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["conflict", "head_moved", "diverged", "ref_conflict"])
        .refuses(422, &["bad_author", "bad_message", "bad_path", "bad_ref", "no_remote", "push_rejected"])
        .refuses(422, &["path_conflict", "unsafe_content", "nothing_to_commit", "ephemeral_branch"])
        .refuses(429, &["remote_rate_limited"])
        .refuses(502, &["remote_auth", "remote_failed", "remote_invalid"])
        .refuses(504, &["push_unknown", "remote_timeout"])
}

pub(crate) fn commit() -> Operation {
    committing("commit", "Commit pending work")
        .says(
            "The pending work of a user on a branch becomes one commit, whose id is the one that `git commit` would have given it. Where the \
             branch or the remote moved, it is merged file by file. It is pushed if the project has a remote, and pending work goes only when \
             the push is known to have arrived.",
        )
        .json_body::<CommitRequest>(json!({
            "user": seen::USER, "message": "Say it shorter", "author": {"name": "Ann", "email": "ann@example.org"},
        }))
        .refuses(409, &["not_pushed"])
        .refuses(422, &["bad_mode", "bad_sign", "not_github"])
}

pub(crate) fn commit_actions() -> Operation {
    committing("commit_actions", "Commit many files")
        .says("One commit of many files without pending work: all of it or nothing.")
        .json_body::<ActionsRequest>(json!({
            "message": "Add a guide", "author": {"name": "Ann", "email": "ann@example.org"},
            "actions": [
                {"action": "create", "path": "guide/intro.md", "content": "# Hello\n"},
                {"action": "move", "path": "guide/old.md", "from": "old.md"},
            ],
        }))
        .limit(Limit::FileBytes)
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["bad_action", "bad_content", "duplicate_path", "file_exists", "file_missing", "collision"])
        .refuses(412, &["precondition_failed"])
}
