//! Sync with the remote, and push to it.

use serde_json::json;
use treehold_engine::api::{PushAnswer, SyncAnswer, SyncRequest};

use super::seen;
use crate::handlers::remote::PushRequest;
use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{accept, project, remote_token};

/// What a remote can do to a request.
fn talking(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Group::Remote, id, summary)
        .parameters([project(), remote_token()])
        .refuses(403, &["remote_not_allowed"])
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["diverged", "head_moved", "conflict"])
        .refuses(422, &["bad_ref", "no_remote"])
        .refuses(429, &["remote_rate_limited"])
        .refuses(502, &["remote_auth", "remote_failed", "remote_invalid"])
        .refuses(504, &["remote_timeout"])
}

pub(crate) fn sync() -> Operation {
    talking("sync", "Pull from the remote")
        .says(
            "Pending work is never touched; the answer says which of it the change meets. With `text/event-stream` there are `progress` events \
             `{step, done, total}` and then one `result` (the answer) or `problem`.",
        )
        .parameter(accept(&["application/json", "text/event-stream"]))
        .optional_json_body::<SyncRequest>(json!({"depth": 1}))
        .answers::<SyncAnswer>(200, "What changed.")
        .example(200, json!({
            "branch": "main", "from": seen::BEFORE, "to": seen::COMMIT, "changed": [{
                "path": "README.md", "action": "modified", "old_oid": seen::BLOB, "new_oid": seen::EDIT, "old_mode": "100644",
                "new_mode": "100644",
            }],
            "changed_count": 1, "objects": 3, "bytes": 412, "pending": [],
        }))
        .answers_with(200, "", "text/event-stream", json!({}))
        .limit(Limit::PackBytes)
        .limit(Limit::PackObjects)
        .limit(Limit::InflatedBytes)
        .limit(Limit::Refs)
        .refuses(409, &["ref_conflict"])
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["path_conflict", "bad_path", "unsafe_content", "shallow_history"])
}

pub(crate) fn push() -> Operation {
    talking("push", "Push to the remote")
        .says("What was committed and not pushed leaves. Repeating it is safe: what has arrived is not sent again.")
        .optional_json_body::<PushRequest>(json!({"branch": "main"}))
        .answers::<PushAnswer>(200, "What was sent.")
        .example(
            200,
            json!({
                "branch": "main", "from": seen::BEFORE, "to": seen::COMMIT, "commits": 1, "objects": 3, "pushed": true,
            }),
        )
        .refuses(422, &["ephemeral_branch", "nothing_to_push", "push_rejected"])
        .refuses(504, &["push_unknown"])
}
