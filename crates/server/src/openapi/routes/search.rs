//! Search.

use serde_json::{Value, json};
use treehold_engine::api::{Found, SearchEnd, SearchRequest};

use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{accept, project};
use crate::openapi::schemas::Schemas;
use crate::openapi::shapes::{SearchAnswer, StreamHead};

pub(crate) fn search() -> Operation {
    Operation::new(Group::Files, "search_files", "Search files")
        .says(
            "Literal or a regular expression, over a ref or a user's view at one snapshot. Columns and submatches count bytes. The files are \
             those that `git grep` searches. As NDJSON matches come as they are found.",
        )
        .parameter(project())
        .parameter(accept(&["application/json", "application/x-ndjson"]))
        .json_body::<SearchRequest>(json!({
            "query": "fn poll_\\w+ready", "regex": true, "globs": ["*.rs", "!tests/"], "context": 1, "limit": 100,
        }))
        .answers::<SearchAnswer>(200, "What was found.")
        .example(200, json!({
            "commit": seen::BEFORE, "revision": null,
            "matches": [{
                "path": "src/io.rs", "oid": seen::BLOB, "source": "committed", "line": 12, "column": 5, "text": "    fn poll_read_ready(",
                "submatches": [{"start": 4, "end": 22}], "before": [{"line": 11, "text": "impl Io {"}],
            }],
            "files_searched": 40, "bytes_searched": 123456, "skipped": {"binary": 1, "too_large": 0, "unreadable": 0}, "next_cursor": null,
        }))
        .or_lines(200, lines)
        .refuses(400, &["bad_request"])
        .refuses(404, &["ref_not_found"])
        .refuses(409, &["snapshot_moved"])
        .refuses(413, &["too_large"])
        .refuses(422, &["not_a_branch", "not_a_commit", "bad_ref", "bad_regex", "bad_glob"])
}

fn lines(schemas: &mut Schemas) -> Vec<Value> {
    vec![schemas.add_answered::<StreamHead>(), schemas.add_answered::<Found>(), schemas.add_answered::<SearchEnd>()]
}
