//! The change feed.

use serde_json::json;
use treehold_engine::api::ChangePage;

use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{accept, header, project, query, text, user};

pub(crate) fn changes() -> Operation {
    let whole = || json!({"type": "integer"});
    Operation::new(Group::Feed, "changes", "Follow a project")
        .says(
            "Pending changes, refs, syncs and pushes in the order in which they were done. With `text/event-stream` they come as they happen: \
             each event has its cursor as id, its kind as name and its JSON as data; a comment each 15 seconds is a sign of life. The last \
             event is `expired`, `gone` or `problem` where the stream cannot go on.",
        )
        .parameter(project())
        .parameters([
            text("since", "After this cursor; `start`: from the oldest event that is kept; not given: from now on."),
            query("wait", whole(), "Wait so long for something to happen, seconds: clamped to 30."),
            user("Only this user's pending changes; refs, syncs and pushes are for everybody."),
            query("limit", whole(), "Events of a page: clamped to 1 to 1,000, default 100."),
            header("Last-Event-ID", json!({"type": "string", "minLength": 1, "maxLength": 255}), "For streams: instead of `since`."),
            accept(&["application/json", "text/event-stream"]),
        ])
        .answers::<ChangePage>(200, "What happened.")
        .example(200, json!({
            "events": [{
                "cursor": "AQAAAAAAAAAB", "at": seen::TIME, "kind": "pending", "user": seen::USER, "branch": "main", "path": "README.md",
                "action": "modified", "mode": "100644", "oid": seen::EDIT, "base_oid": seen::BLOB, "revision": 1, "device": "laptop",
            }],
            "next_cursor": "AQAAAAAAAAAB", "more": false,
        }))
        .answers_with(200, "", "text/event-stream", json!({}))
        .refuses(400, &["bad_cursor"])
        .refuses(410, &["cursor_expired"])
}
