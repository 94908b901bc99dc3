//! Projects.

use serde_json::{Value, json};
use treehold_engine::api::{ForkSpec, ProjectChange, ProjectPage, ProjectSpec, ProjectView};

use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{captured_uuid, page, project};

fn shown() -> Value {
    json!({
        "id": seen::PROJECT, "name": "docs", "default_branch": "main",
        "remote": {"url": "https://github.com/o/docs"},
        "receive": {"deny_non_fast_forwards": false, "deny_deletes": false},
        "head": seen::BEFORE, "usage": {"bytes": 815_223, "quota_bytes": null}, "created_at": seen::TIME,
    })
}

fn making(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Group::Projects, id, summary)
        .optional_json_body::<ProjectSpec>(json!({"name": "docs", "remote": {"url": "https://github.com/o/docs"}}))
        .answers::<ProjectView>(201, "It was made.")
        .sends(201, &["location"])
        .example(201, shown())
        .refuses(403, &["remote_not_allowed"])
        .refuses(409, &["name_taken"])
        .refuses(422, &["bad_name", "bad_ref"])
}

pub(crate) fn create() -> Operation {
    making("create_project", "Make a project")
        .says("Its id is ours. It needs neither a remote nor a branch: the first write makes the root commit.")
}

pub(crate) fn create_with_id() -> Operation {
    making("create_project_with_id", "Make a project with your id")
        .says("Repeating it is safe: 200 if the project is there already as the body describes it.")
        .parameter(captured_uuid("project", "The project's id, chosen by the caller."))
        .answers::<ProjectView>(200, "It was there already.")
        .sends(200, &["location"])
        .refuses(409, &["project_exists"])
}

pub(crate) fn list() -> Operation {
    Operation::new(Group::Projects, "list_projects", "List projects")
        .parameters(page("Projects of a page: 1 to 1,000, default 100."))
        .answers::<ProjectPage>(200, "A page, in order of id.")
        .example(200, json!({"projects": [shown()], "next_cursor": null}))
}

pub(crate) fn show() -> Operation {
    Operation::new(Group::Projects, "show_project", "Show a project")
        .parameter(project())
        .answers::<ProjectView>(200, "The project.")
        .example(200, shown())
}

pub(crate) fn change() -> Operation {
    Operation::new(Group::Projects, "change_project", "Change a project")
        .says("What the body does not name stays as it is.")
        .parameter(project())
        .json_body::<ProjectChange>(json!({"receive": {"deny_deletes": true}}))
        .answers::<ProjectView>(200, "The project as it is now.")
        .example(200, shown())
}

pub(crate) fn delete() -> Operation {
    Operation::new(Group::Projects, "delete_project", "Delete a project")
        .says("Final. Refs and pending work go at once, bytes that nothing else names with the next collection.")
        .parameter(project())
        .answers_nothing(204, "It is gone.")
}

pub(crate) fn fork() -> Operation {
    Operation::new(Group::Projects, "fork_project", "Fork a project")
        .says("A new project that begins with all refs of this one and shares its objects. It costs as much as there are refs.")
        .parameter(project())
        .optional_json_body::<ForkSpec>(json!({"name": "try"}))
        .answers::<ProjectView>(201, "The fork.")
        .sends(201, &["location"])
        .example(201, shown())
        .refuses(403, &["remote_not_allowed"])
        .refuses(409, &["project_exists", "name_taken"])
        .refuses(422, &["bad_name", "bad_ref", "unknown_ref"])
}
