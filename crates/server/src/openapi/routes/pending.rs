//! Pending work: autosave, list, read, drop.

use serde_json::{Value, json};
use treehold_engine::api::{DropAnswer, PendingAnswer, PendingList};

use super::files::sends_file;
use super::seen;
use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{branch, oid_query, origin, page, path, project, query, whose, writing};

fn saved() -> Value {
    json!({
        "path": "README.md", "action": "modified", "mode": "100644", "oid": seen::EDIT, "size": 16, "base_oid": seen::BLOB, "revision": 1,
    })
}

pub(crate) fn write() -> Operation {
    let mode = json!({"type": "string", "enum": ["100644", "100755", "120000"]});
    Operation::new(Group::Pending, "save_file", "Save an edit")
        .says(
            "Durable when it is answered. Without `If-Match` the last write wins, and what it replaced stays in local history. A write that \
             equals the head leaves nothing pending: `action` is `none`. `base` = the head's oid marks a conflict as resolved.",
        )
        .parameters([project(), whose(), path()])
        .parameters([
            branch(),
            query("mode", mode, "Git's file mode; kept from the view if not given, 100644 for a new file."),
            oid_query("base", "The blob that the edit started from."),
            query("action", json!({"type": "string", "enum": ["deleted"]}), "`deleted`, without a body: the file is to go."),
        ])
        .parameters(writing())
        .parameters(origin())
        .bytes_body("application/octet-stream", "The file, under any Content-Type.")
        .answers::<PendingAnswer>(200, "It replaced or removed what was pending.")
        .sends(200, &["etag"])
        .example(200, saved())
        .answers::<PendingAnswer>(201, "It is the first pending change of the path.")
        .sends(201, &["etag"])
        .example(201, saved())
        .limit(Limit::FileBytes)
        .refuses(404, &["ref_not_found", "file_not_found"])
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["path_conflict", "unsafe_content", "unknown_base", "collision"])
}

pub(crate) fn list() -> Operation {
    let mut change = saved();
    change["updated_at"] = seen::TIME.into();
    Operation::new(Group::Pending, "list_pending", "List pending changes")
        .parameters([project(), whose(), branch()])
        .parameters(page("Changes of a page: 1 to 10,000, default 1,000."))
        .answers::<PendingList>(200, "A page, in byte order of the path.")
        .example(200, json!({"revision": 1, "changes": [change], "next_cursor": null}))
        .refuses(404, &["ref_not_found"])
}

pub(crate) fn read() -> Operation {
    let operation = Operation::new(Group::Pending, "read_pending", "Read a pending file")
        .says("What is pending at the path, and only that.")
        .parameters([project(), whose(), path(), branch()]);
    sends_file(operation, &["x-treehold-revision"])
        .refuses(404, &["nothing_pending", "pending_deletion", "ref_not_found"])
}

fn dropping(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Group::Pending, id, summary)
        .answers::<DropAnswer>(200, "How many changes went.")
        .example(200, json!({"revision": 2, "dropped": 1}))
        .refuses(404, &["ref_not_found"])
}

pub(crate) fn drop_one() -> Operation {
    dropping("drop_pending", "Drop a pending change")
        .says("It stays in local history. With `If-Match` only what the caller saw goes; repeating it is safe then.")
        .parameters([project(), whose(), path(), branch()])
        .parameters(writing())
        .parameters(origin())
        .refuses(404, &["nothing_pending"])
}

pub(crate) fn drop_all() -> Operation {
    dropping("drop_all_pending", "Drop all pending changes")
        .says("What goes stays in local history. There is no tag for all of it: `If-Match` and `If-None-Match` are refused (400).")
        .parameters([project(), whose(), branch()])
        .parameters(origin())
}
