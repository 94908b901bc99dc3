//! Several writes to pending work at once.

use serde_json::json;
use treehold_engine::api::{BatchAnswer, PendingBatch, ResolveRequest};

use super::seen;
use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{branch, idempotency_key, origin, project, whose};

pub(crate) fn write() -> Operation {
    Operation::new(Group::Pending, "save_batch", "Make several edits")
        .says(
            "Put, delete, move, chmod, edits by exact text and unified diffs, in order; a later one sees what an earlier one did. Atomic unless \
             it says otherwise: then each has its own result. A device that was away replays its edits here, and each is applied, merged, a \
             duplicate, or a conflict whose both texts are kept. `file_not_found`, `no_match`, `ambiguous_match` and the like are codes of an \
             operation's own `error`.",
        )
        .parameters([project(), whose(), branch(), idempotency_key()])
        .parameters(origin())
        .json_body::<PendingBatch>(json!({
            "ops": [
                {"op": "put", "path": "notes.md", "content": "# Notes\n"},
                {"op": "edit", "path": "README.md", "old_string": "Docs", "new_string": "Documents", "expected_oid": seen::BLOB},
                {"op": "delete", "path": "old.txt"},
            ],
            "atomic": false, "on_conflict": "merge",
        }))
        .answers::<BatchAnswer>(200, "A result for each operation.")
        .example(200, json!({
            "revision": 3,
            "results": [{
                "path": "notes.md", "status": "applied", "oid": seen::EDIT, "size": 8, "mode": "100644", "base_oid": null, "revision": 2,
            }],
        }))
        .limit(Limit::BatchPaths)
        .limit(Limit::JsonBytes)
        .limit(Limit::FileBytes)
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["conflict"])
        .refuses(412, &["precondition_failed"])
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["batch_failed"])
}

pub(crate) fn resolve() -> Operation {
    Operation::new(Group::Pending, "resolve_conflicts", "Resolve conflicts")
        .says("What conflicting files become: all or none.")
        .parameter(project())
        .parameters(origin())
        .json_body::<ResolveRequest>(json!({
            "user": seen::USER, "files": [{"path": "README.md", "take": "text", "content": "# Both\n", "theirs": seen::BLOB}],
        }))
        .answers::<BatchAnswer>(200, "A result for each file.")
        .limit(Limit::BatchPaths)
        .limit(Limit::JsonBytes)
        .limit(Limit::FileBytes)
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["conflict", "head_moved"])
        .refuses(412, &["precondition_failed"])
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["batch_failed", "bad_ref", "nothing_pending", "bad_path"])
}
