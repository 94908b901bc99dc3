//! Named checkpoints of a workspace.

use serde_json::{Value, json};
use treehold_engine::api::{
    CheckpointDetail, CheckpointEntry, CheckpointList, CheckpointRequest, CheckpointRestored, Diff, Nothing,
};

use super::history::or_text;
use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{Parameter, branch, captured_uuid, origin, page, project, user_needed};

fn id() -> Parameter {
    captured_uuid("id", "The checkpoint's id.")
}

fn shown() -> Value {
    json!({
        "id": seen::CHECKPOINT, "branch": "main", "name": "before the rewrite", "message": "", "revision": 4, "changes": 2,
        "created_at": seen::TIME,
    })
}

pub(crate) fn create() -> Operation {
    Operation::new(Group::Versions, "create_checkpoint", "Make a checkpoint")
        .says("It holds everything that is pending in the workspace.")
        .parameter(project())
        .json_body::<CheckpointRequest>(json!({"user": seen::USER, "name": "before the rewrite"}))
        .answers::<CheckpointEntry>(201, "It was made.")
        .example(201, shown())
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["checkpoint_exists"])
        .refuses(422, &["bad_ref", "bad_name", "bad_message", "too_many_checkpoints"])
}

pub(crate) fn list() -> Operation {
    Operation::new(Group::Versions, "list_checkpoints", "List checkpoints")
        .parameters([project(), user_needed(), branch()])
        .parameters(page("Checkpoints of a page: 1 to 1,000, default 100."))
        .answers::<CheckpointList>(200, "A page, newest first.")
        .example(200, json!({"checkpoints": [shown()], "next_cursor": null}))
        .refuses(404, &["ref_not_found"])
}

pub(crate) fn show() -> Operation {
    Operation::new(Group::Versions, "show_checkpoint", "Show a checkpoint")
        .parameters([project(), id(), user_needed()])
        .answers::<CheckpointDetail>(200, "The checkpoint with its changes.")
        .refuses(404, &["checkpoint_not_found"])
}

pub(crate) fn diff() -> Operation {
    let operation = Operation::new(Group::Versions, "diff_checkpoint", "Compare a checkpoint")
        .says("From the checkpoint to the user's view now.")
        .parameters([project(), id(), user_needed()]);
    or_text::<Diff>(operation).refuses(404, &["checkpoint_not_found", "ref_not_found"])
}

pub(crate) fn restore() -> Operation {
    Operation::new(Group::Versions, "restore_checkpoint", "Restore a checkpoint")
        .says("The workspace becomes what it was. What was pending is kept in a checkpoint of its own, so that it can be undone.")
        .parameters([project(), id(), user_needed()])
        .parameters(origin())
        .optional_json_body::<Nothing>(json!({}))
        .answers::<CheckpointRestored>(200, "What changed.")
        .refuses(404, &["checkpoint_not_found", "ref_not_found"])
        .refuses(422, &["path_conflict", "bad_path", "too_many_checkpoints"])
}

pub(crate) fn delete() -> Operation {
    Operation::new(Group::Versions, "delete_checkpoint", "Delete a checkpoint")
        .parameters([project(), id(), user_needed()])
        .answers_nothing(204, "It is gone.")
        .refuses(404, &["checkpoint_not_found"])
}
