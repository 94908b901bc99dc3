//! Files: read, list, read many, and commits of one file.

use serde_json::{Value, json};
use treehold_engine::api::{CommitAnswer, FileEntry, FileList, ReadItem, ReadRequest};

use super::{commits, seen};
use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{accept, at, idempotency_key, page, path, project, query, reading, text, writing};
use crate::openapi::schemas::Schemas;
use crate::openapi::shapes::{ReadAnswer, StreamEnd, StreamHead};

/// The bytes of a file, whole or in part, with what [`crate::respond::FileHead`] says of them.
pub(super) fn sends_file(operation: Operation, headers: &[&'static str]) -> Operation {
    let bytes = || json!({"type": "string", "format": "binary"});
    let kind = "application/octet-stream";
    let headers = [&["etag", "git-mode", "accept-ranges"], headers].concat();
    operation
        .parameters(reading())
        .answers_with(200, "The bytes.", kind, bytes())
        .sends(200, &headers)
        .answers_with(206, "The bytes of the range.", kind, bytes())
        .sends(206, &headers)
        .sends(206, &["content-range"])
        .answers_nothing(304, "The caller has it.")
        .sends(304, &headers)
        .refuses(413, &["too_large"])
}

pub(crate) fn list() -> Operation {
    let entry = json!({"path": "README.md", "mode": "100644", "oid": seen::BLOB, "size": 9304, "source": "committed"});
    Operation::new(Group::Files, "list_files", "List files")
        .says(
            "Recursive, an entry for everything but directories, in byte order of the path; bound to one commit from page to page. \
             As NDJSON all of it streams: a line with `commit` and `revision`, one for each file, one with `next_cursor`.",
        )
        .parameter(project())
        .parameters(at())
        .parameter(text("prefix", "Only paths that start with this."))
        .parameters(page("Files of a page: 1 to 100,000, default 1,000; in a stream no limit but the one given."))
        .parameter(accept(&["application/json", "application/x-ndjson"]))
        .answers::<FileList>(200, "A page.")
        .example(200, json!({"commit": seen::BEFORE, "files": [entry], "next_cursor": null}))
        .or_lines(200, lines::<FileEntry>)
        .refuses(409, &["snapshot_moved"])
}

fn lines<Entry: schemars::JsonSchema>(schemas: &mut Schemas) -> Vec<Value> {
    vec![schemas.add_answered::<StreamHead>(), schemas.add_answered::<Entry>(), schemas.add_answered::<StreamEnd>()]
}

pub(crate) fn read() -> Operation {
    let operation = Operation::new(Group::Files, "read_file", "Read a file")
        .says("The bytes as they are stored. With `user`, that user's view: pending work over the branch.")
        .parameters([project(), path()])
        .parameters(at());
    sends_file(operation, &["git-commit", "x-treehold-source"])
        .refuses(404, &["file_not_found", "is_directory", "is_submodule", "pending_deletion"])
}

fn committing(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Group::Files, id, summary)
        .parameters([project(), path()])
        .parameters([
            text("branch", "Short branch name; the project's default if not given."),
            text("message", "The commit's message; a sentence is made if not given."),
            text("author_name", "The configured author if not given."),
            text("author_email", "The configured author if not given."),
        ])
        .parameters(writing())
        .parameters([idempotency_key(), crate::openapi::parameters::remote_token()])
        .answers::<CommitAnswer>(200, "The commit, not pushed.")
        .example(200, commits::committed())
        .limit(Limit::MessageBytes)
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["head_moved", "ref_conflict"])
        .refuses(422, &["bad_ref", "bad_author", "bad_message", "nothing_to_commit", "path_conflict", "unsafe_content"])
}

pub(crate) fn write() -> Operation {
    let mode = json!({"type": "string", "enum": ["100644", "100755", "120000"]});
    committing("write_file", "Commit a file")
        .says("The body becomes the file in one commit on the branch, which is not pushed.")
        .parameter(query("mode", mode, "Git's file mode; kept if not given, 100644 for a new file."))
        .bytes_body("application/octet-stream", "The file, under any Content-Type.")
        .sends(200, &["etag"])
        .limit(Limit::FileBytes)
        .refuses(413, &["quota_exceeded"])
        .refuses(422, &["collision"])
}

pub(crate) fn delete() -> Operation {
    let mode = json!({"type": "string", "enum": ["100644", "100755", "120000"]});
    committing("delete_file", "Commit the deletion of a file")
        .says("The file goes in one commit on the branch, which is not pushed.")
        .parameter(query("mode", mode, "Of no effect."))
        .refuses(404, &["file_not_found"])
}

pub(crate) fn read_batch() -> Operation {
    Operation::new(Group::Files, "read_files", "Read many files")
        .says(
            "One snapshot, answered in the order of the request. A path that cannot be read fails by itself. `max_bytes` is a budget: what it \
             cuts is marked `truncated`, and `next_cursor` goes on. As NDJSON it streams, a line each.",
        )
        .parameter(project())
        .parameter(accept(&["application/json", "application/x-ndjson"]))
        .json_body::<ReadRequest>(json!({
            "paths": ["README.md", {"path": "src/lib.rs", "start_line": 1, "end_line": 3}, "no/such"], "max_bytes": 10000,
        }))
        .answers::<ReadAnswer>(200, "The files.")
        .example(200, json!({
            "commit": seen::BEFORE, "revision": null, "next_cursor": null,
            "files": [
                {"path": "README.md", "oid": seen::BLOB, "mode": "100644", "size": 6, "source": "committed",
                 "encoding": "utf-8", "content": "# Docs"},
                {"path": "no/such", "error": {"code": "file_not_found", "detail": "There is no file at this path."}},
            ],
        }))
        .or_lines(200, lines::<ReadItem>)
        .limit(Limit::BatchPaths)
        .limit(Limit::BatchBytes)
        .refuses(400, &["bad_request"])
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["snapshot_moved"])
        .refuses(422, &["not_a_branch", "not_a_commit", "bad_ref"])
}
