//! Raw git objects.

use serde_json::json;

use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{accept, captured_oid, project, reading};
use crate::openapi::shapes::{GitBlob, GitCommit, GitTree};

fn object(id: &'static str, summary: &'static str) -> Operation {
    let [if_none_match, if_match, ..] = reading();
    Operation::new(Group::Objects, id, summary)
        .says("Only if the project's refs or pending work reach it: else it is as if it had never been.")
        .parameters([project(), captured_oid("The object's id."), if_none_match, if_match])
        .parameter(accept(&["application/json", "application/octet-stream"]))
        .refuses(404, &["not_found"])
        .refuses(412, &["precondition_failed"])
        .refuses(413, &["too_large"])
}

fn raw(operation: Operation) -> Operation {
    operation
        .answers_with(200, "", "application/octet-stream", json!({"type": "string", "format": "binary"}))
        .sends(200, &["etag", "vary"])
        .answers_nothing(304, "The caller has it.")
        .sends(304, &["etag", "vary"])
}

pub(crate) fn blob() -> Operation {
    raw(object("git_blob", "Read a blob").answers::<GitBlob>(200, "In GitHub's shape, or its bytes."))
}

pub(crate) fn tree() -> Operation {
    raw(object("git_tree", "Read a tree").answers::<GitTree>(200, "In GitHub's shape, or git's."))
}

pub(crate) fn commit() -> Operation {
    raw(object("git_commit", "Read a commit").answers::<GitCommit>(200, "In GitHub's shape, or git's."))
}
