//! Pull requests, facts about the remote, webhooks.

use serde_json::{Value, json};
use treehold_engine::api::{OpenedPull, PullChange, PullPage, PullSpec, PullView, RemoteView};

use super::seen;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{branch, captured, choice, header, page, project, remote_token, text};
use crate::openapi::shapes::WebhookAnswer;

fn shown() -> Value {
    json!({
        "number": 7, "url": "https://api.github.com/repos/o/docs/pulls/7", "html_url": "https://github.com/o/docs/pull/7", "state": "open",
        "title": "Say it shorter", "draft": false, "merged": false, "head": "shorter", "head_sha": seen::COMMIT, "base": "main",
    })
}

/// What GitHub can do to a request.
fn asking(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Group::Remote, id, summary)
        .parameters([project(), remote_token()])
        .refuses(403, &["remote_not_allowed"])
        .refuses(422, &["no_remote", "not_github", "remote_refused", "bad_ref"])
        .refuses(429, &["remote_rate_limited"])
        .refuses(502, &["remote_auth", "remote_failed", "remote_invalid"])
        .refuses(504, &["remote_timeout"])
}

pub(crate) fn open() -> Operation {
    let mut opened = shown();
    opened["created"] = true.into();
    asking("open_pull", "Open a pull request")
        .says("On GitHub. Repeating it is safe: it answers with the one that is open for the same branches.")
        .json_body::<PullSpec>(json!({"title": "Say it shorter", "head": "shorter"}))
        .answers::<OpenedPull>(201, "It was opened.")
        .example(201, opened)
        .answers::<OpenedPull>(200, "One was open already.")
        .refuses(409, &["not_pushed"])
        .refuses(422, &["bad_title", "same_branch"])
}

pub(crate) fn list() -> Operation {
    asking("list_pulls", "List pull requests")
        .parameter(choice("state", &["open", "closed", "all"], "Which ones."))
        .parameter(text("head", "Only those of this branch, by its short name."))
        .parameters(page("Of a page: 1 to 100, default 30."))
        .answers::<PullPage>(200, "A page, newest first.")
        .example(200, json!({"pulls": [shown()], "next_cursor": null}))
}

pub(crate) fn change() -> Operation {
    asking("change_pull", "Change a pull request")
        .says("What the body does not name stays as it is.")
        .parameter(captured("number", json!({"type": "integer", "minimum": 0}), "Its number in the repository."))
        .json_body::<PullChange>(json!({"state": "closed"}))
        .answers::<PullView>(200, "The pull request as it is now.")
        .example(200, shown())
        .refuses(400, &["bad_parameter"])
        .refuses(404, &["pull_not_found"])
        .refuses(422, &["bad_title"])
}

pub(crate) fn show() -> Operation {
    asking("show_remote", "Show the remote")
        .says("Where it is, and what GitHub says of it and of a branch.")
        .parameter(branch())
        .answers::<RemoteView>(200, "The remote.")
}

pub(crate) fn webhook() -> Operation {
    let event = json!({"type": "string", "minLength": 1, "maxLength": 100});
    Operation::new(Group::Remote, "github_webhook", "Take a webhook of GitHub")
        .says(
            "Pushes are noted for every project on that remote, as a hint that it moved. A body that came before is not noted again, \
             whatever its `X-GitHub-Delivery` says: that is not signed. At most 4 MiB.",
        )
        .signed()
        .parameter(header("X-GitHub-Event", event, "What happened.").required())
        .bytes_body("application/json", "As GitHub sends it.")
        .answers::<WebhookAnswer>(200, "A ping.")
        .answers::<WebhookAnswer>(202, "It was taken.")
        .example(202, json!({"event": "push", "result": "noted"}))
        .refuses(400, &["bad_request"])
        .refuses(404, &["webhooks_off"])
        .refuses(415, &["unsupported_media_type"])
}
