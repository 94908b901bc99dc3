//! Branches and tags.

use serde_json::json;
use treehold_engine::api::{PromoteRequest, Promoted, RefList, RefRequest, RefView, ReflogPage};

use super::seen;
use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{Parameter, absent, captured, expected, oid_query, page, project, text};

fn name() -> Parameter {
    let about = "`heads/…` or `tags/…`; its slashes may stand as they are.";
    captured("name", json!({"type": "string", "examples": ["heads/main"]}), about)
}

pub(crate) fn list() -> Operation {
    Operation::new(Group::Refs, "list_refs", "List refs")
        .parameters([project(), text("prefix", "Only full names that start with this.")])
        .parameters(page("Refs of a page: 1 to 10,000, default 1,000."))
        .answers::<RefList>(200, "A page, in byte order of the full name.")
        .example(200, json!({"refs": [{"name": "refs/heads/main", "oid": seen::COMMIT}], "next_cursor": null}))
}

pub(crate) fn reflog() -> Operation {
    Operation::new(Group::Refs, "reflog", "What refs were")
        .parameters([project(), text("ref", "Only this ref's.")])
        .parameters(page("Moves of a page: 1 to 1,000, default 100."))
        .answers::<ReflogPage>(200, "A page, newest first.")
        .example(200, json!({
            "entries": [{"name": "refs/heads/main", "from": seen::BEFORE, "to": seen::COMMIT, "reason": "commit", "at": seen::TIME}],
            "next_cursor": null,
        }))
        .refuses(422, &["bad_ref"])
}

pub(crate) fn write() -> Operation {
    Operation::new(Group::Refs, "put_ref", "Make or move a ref")
        .says(
            "By compare-and-swap. Without an expected oid it is made if it is absent, else fast-forwarded. Another value than the expected one is \
             409 `ref_moved`; where a header asks for it, 412.",
        )
        .parameters([project(), name(), expected(), absent()])
        .json_body::<RefRequest>(json!({"oid": seen::COMMIT, "expected_oid": seen::BEFORE}))
        .answers::<RefView>(200, "It moved.")
        .example(200, json!({"name": "refs/heads/main", "oid": seen::COMMIT}))
        .answers::<RefView>(201, "It was made.")
        .limit(Limit::Refs)
        .refuses(400, &["bad_request"])
        .refuses(409, &["ref_moved", "not_fast_forward", "ref_conflict"])
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["bad_lifetime", "bad_ref", "unknown_oid"])
}

pub(crate) fn promote() -> Operation {
    Operation::new(Group::Refs, "promote", "Keep an ephemeral branch")
        .says("It stays from now on; or another branch is fast-forwarded to where it is, and it ends unless somebody has pending work on it.")
        .parameter(project())
        .json_body::<PromoteRequest>(json!({"branch": "try/1", "into": "main", "expected_oid": seen::BEFORE}))
        .answers::<Promoted>(200, "Where its work is now.")
        .example(200, json!({"name": "refs/heads/main", "oid": seen::COMMIT}))
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["not_ephemeral", "not_fast_forward", "ref_conflict", "ref_moved"])
        .refuses(422, &["bad_ref"])
}

pub(crate) fn delete() -> Operation {
    Operation::new(Group::Refs, "delete_ref", "Delete a ref")
        .says("Its reflog stays, and brings it back.")
        .parameters([project(), name(), oid_query("expected_oid", "What the ref must be."), expected(), absent()])
        .answers_nothing(204, "It is gone.")
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["ref_moved"])
        .refuses(422, &["bad_ref", "default_branch"])
}
