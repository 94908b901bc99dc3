//! Archives and bundles.

use serde_json::json;

use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{at, project, text, user};

fn exported(operation: Operation, kind: &'static str) -> Operation {
    operation
        .answers_with(200, "The file.", kind, json!({"type": "string", "format": "binary"}))
        .sends(200, &["content-disposition"])
        .refuses(413, &["too_large"])
        .refuses(422, &["export_failed"])
        .refuses(500, &["damaged"])
}

fn archive(id: &'static str, summary: &'static str, kind: &'static str) -> Operation {
    let operation = Operation::new(Group::Exports, id, summary)
        .says("The files of a ref, or of a user's view.")
        .parameter(project())
        .parameters(at())
        .limit(Limit::ArchiveBytes);
    exported(operation, kind).sends(200, &["git-commit"])
}

pub(crate) fn tar_gz() -> Operation {
    archive("archive_tar_gz", "Archive as tar.gz", "application/gzip")
}

pub(crate) fn zip() -> Operation {
    archive("archive_zip", "Archive as zip", "application/zip")
}

pub(crate) fn bundle() -> Operation {
    let reference = text("ref", "Only this branch, tag or full ref name (no oid); all refs if not given.");
    let reference = reference.refused(&[
        (400, &["bad_parameter", "bad_encoding"]),
        (404, &["ref_not_found"]),
        (422, &["not_a_ref"]),
    ]);
    let user = user(
        "This user's pending work on that branch, too, as a commit under `refs/pending/`; `ref` must be a branch.",
    );
    let user = user.refused(&[(400, &["bad_parameter", "bad_encoding", "bad_uuid"]), (422, &["not_a_branch"])]);
    let operation = Operation::new(Group::Exports, "bundle", "Bundle")
        .says("All refs, or one, with their history, as `git bundle` writes it.")
        .parameters([project(), reference, user]);
    exported(operation, "application/x-git-bundle").refuses(422, &["shallow_history", "empty_project"])
}
