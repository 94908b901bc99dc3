//! Local history.

use serde_json::json;
use treehold_engine::api::{Diff, Nothing, OpResult, VersionList};

use super::files::sends_file;
use super::history::or_text;
use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{Parameter, branch, captured, origin, page, project, text, user_needed, writing};

fn id() -> Parameter {
    captured("id", json!({"type": "string"}), "The version's id, as lists have it.")
}

pub(crate) fn list() -> Operation {
    Operation::new(Group::Versions, "list_versions", "List versions")
        .says("What a user's pending files were, newest first.")
        .parameters([project(), user_needed(), branch(), text("path", "Only this file's.")])
        .parameters(page("Versions of a page: 1 to 1,000, default 100."))
        .answers::<VersionList>(200, "A page.")
        .example(200, json!({
            "versions": [{
                "id": seen::VERSION, "path": "README.md", "action": "modified", "oid": seen::EDIT, "mode": "100644", "size": 16,
                "base_oid": seen::BLOB, "revision": 4, "at": seen::TIME, "replaced_at": null,
            }],
            "next_cursor": null,
        }))
        .refuses(422, &["bad_path"])
        .refuses(404, &["ref_not_found"])
}

pub(crate) fn read() -> Operation {
    let operation =
        Operation::new(Group::Versions, "read_version", "Read a version").parameters([project(), id(), user_needed()]);
    sends_file(operation, &["x-treehold-revision"]).refuses(404, &["version_not_found", "version_deletion"])
}

pub(crate) fn diff() -> Operation {
    let against =
        text("against", "`current` (what the user's view has now, the default), `head`, or the id of another version.");
    let operation = Operation::new(Group::Versions, "diff_version", "Compare a version")
        .says("From the version to what it is compared with.")
        .parameters([project(), id(), user_needed(), against]);
    or_text::<Diff>(operation).refuses(404, &["version_not_found", "ref_not_found"]).refuses(422, &["bad_version"])
}

pub(crate) fn restore() -> Operation {
    Operation::new(Group::Versions, "restore_version", "Restore a version")
        .says("It becomes pending again, as if it were saved now; what it replaces stays in local history.")
        .parameters([project(), id(), user_needed()])
        .parameters(writing())
        .parameters(origin())
        .optional_json_body::<Nothing>(json!({}))
        .answers::<OpResult>(200, "What became of it, as of an operation of a batch.")
        .refuses(404, &["version_not_found", "ref_not_found"])
        .refuses(409, &["conflict"])
        .refuses(422, &["path_conflict", "bad_path", "batch_failed"])
}
