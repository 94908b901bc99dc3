//! Status, conflicts, diff, log, blame.

use schemars::JsonSchema;
use serde_json::json;
use treehold_engine::api::{Blame, ConflictPage, Diff, LogPage, Status, TreeDiff};

use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{
    accept, at, branch, choice, flag, page, path, project, query, text, user, user_needed,
};

/// A diff as unified text, or as JSON where that is preferred.
pub(super) fn or_text<T: JsonSchema + 'static>(operation: Operation) -> Operation {
    operation
        .parameter(accept(&["text/x-diff", "application/json"]))
        .answers_with(
            200,
            "A unified diff, as `git diff` writes it, or JSON.",
            "text/x-diff",
            json!({"type": "string"}),
        )
        .answers::<T>(200, "")
        .refuses(413, &["too_large"])
}

pub(crate) fn status() -> Operation {
    Operation::new(Group::History, "status", "Status of a branch for a user")
        .says("Where the branch and its remote are, and how each pending change stands to the head.")
        .parameters([project(), user("Whose pending work; without it none is shown."), branch()])
        .answers::<Status>(200, "The status.")
        .example(200, json!({
            "branch": "main", "head": seen::BEFORE, "remote_head": seen::BEFORE, "remote_moved": false, "remote_head_reported": null,
            "remote_reported_at": null, "ahead": 0, "behind": 0, "revision": 1,
            "changes": [{
                "path": "README.md", "action": "modified", "oid": seen::EDIT, "base_oid": seen::BLOB, "head_oid": seen::BLOB,
                "mode": "100644", "head_mode": "100644", "base_mode": "100644", "state": "clean", "revision": 1,
            }],
            "attempts": [],
        }))
        .refuses(404, &["ref_not_found"])
}

pub(crate) fn conflicts() -> Operation {
    Operation::new(Group::History, "list_conflicts", "Show conflicts")
        .says("What is not clean, with all sides and the merged text, against the head or against what a pull would bring.")
        .parameters([project(), user_needed(), branch()])
        .parameters([
            text("path", "Only this file, whatever its state."),
            choice("against", &["head", "remote"], "What the pending work is compared with."),
        ])
        .parameters(page("Files of a page: 1 to 100, default 20."))
        .answers::<ConflictPage>(200, "A page, in byte order of the path.")
        .refuses(404, &["ref_not_found", "nothing_pending"])
        .refuses(409, &["snapshot_moved"])
        .refuses(413, &["too_large"])
        .refuses(422, &["bad_path", "no_remote"])
}

pub(crate) fn diff() -> Operation {
    let operation = Operation::new(Group::History, "diff", "Compare two trees")
        .says(
            "`from` and `to`, or a user's view with its head (`user`), or with `from`. With `patch=false` only what differs is told, as JSON, \
             in time that follows what differs and not how large the trees are.",
        )
        .parameter(project())
        .parameters([
            user("To this user's view of `branch`; from its head if `from` is not given."),
            branch(),
            text("from", "A ref, or the oid of a commit or tree that the project reaches."),
            text("to", "The same."),
            text("prefix", "Only paths that start with this."),
            flag("renames", false, "Tell of files that moved and kept their content."),
            flag("patch", true, "Compare the texts, too."),
        ])
        .parameters(page("Files of a page: 1 to 10,000; all of them if it is not given and texts are compared. Not for text."));
    or_text::<Diff>(operation)
        .answers::<TreeDiff>(200, "")
        .refuses(400, &["bad_request"])
        .refuses(404, &["ref_not_found", "not_found"])
        .refuses(409, &["snapshot_moved"])
        .refuses(422, &["not_a_branch", "not_a_commit"])
}

pub(crate) fn log() -> Operation {
    let author = json!({"name": "Ann", "email": "ann@example.org", "date": "2026-03-14T10:26:53+01:00"});
    Operation::new(Group::History, "log", "Log of a branch or a path")
        .parameter(project())
        .parameters([
            text("ref", "Branch, tag, full ref name or full commit oid; the default branch if not given."),
            text("path", "Only commits that changed this file or directory, as `git log -- path` picks them."),
            flag("first_parent", false, "Go from a merge to its first parent only."),
        ])
        .parameters(page("Commits of a page: 1 to 1,000, default 30. A page may be shorter, or empty with a path, and go on."))
        .answers::<LogPage>(200, "A page, newest first.")
        .example(200, json!({
            "commits": [{
                "commit": seen::COMMIT, "tree": seen::TREE, "parents": [seen::BEFORE], "author": author, "committer": author,
                "message": "Say it shorter\n",
            }],
            "next_cursor": null, "shallow": false,
        }))
        .refuses(404, &["ref_not_found"])
        .refuses(422, &["not_a_commit", "bad_ref", "bad_path"])
}

pub(crate) fn blame() -> Operation {
    let line = || json!({"type": "integer", "minimum": 1});
    Operation::new(Group::History, "blame", "Whose lines")
        .says("The commits that a file's lines came with. With `user`, lines that are not committed say so.")
        .parameters([project(), path()])
        .parameters(at())
        .parameters([
            query("start_line", line(), "First line, from 1."),
            query("end_line", line(), "Last line, included."),
        ])
        .answers::<Blame>(200, "All lines that were asked for, in order.")
        .refuses(400, &["bad_request"])
        .refuses(404, &["file_not_found", "is_directory", "is_submodule", "pending_deletion"])
        .refuses(413, &["too_large"])
        .refuses(422, &["binary_file"])
}
