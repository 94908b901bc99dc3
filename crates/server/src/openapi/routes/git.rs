//! Git's smart HTTP. One route serves them all; here they stand apart, as git asks for them.

use serde_json::{Value, json};

use crate::openapi::limits::Limit;
use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{captured, header, query};

fn bytes() -> Value {
    json!({"type": "string", "format": "binary"})
}

fn git(id: &'static str, summary: &'static str) -> Operation {
    let about = "The project's UUID or name, and `.git`, which may be left out.";
    Operation::new(Group::Git, id, summary)
        .git()
        .parameter(captured("repo", json!({"type": "string", "examples": ["docs.git"]}), about))
        .parameter(header(
            "Git-Protocol",
            json!({"type": "string", "examples": ["version=2"]}),
            "The protocol's version, as git says it.",
        ))
        .refuses(404, &["project_not_found"])
}

/// What its two services have in common.
fn service(id: &'static str, summary: &'static str) -> Operation {
    git(id, summary)
        .refuses(400, &["bad_body", "bad_header", "bad_request"])
        .refuses(408, &["body_timeout"])
        .refuses(413, &["too_large"])
        .refuses(415, &["unsupported_media_type", "unsupported_encoding"])
}

pub(crate) fn info_refs() -> Operation {
    let services = json!({"type": "string", "enum": ["git-upload-pack", "git-receive-pack"]});
    git("git_info_refs", "Refs, as git asks for them")
        .says("What `git clone`, `fetch` and `push` ask first (gitprotocol-http).")
        .parameter(
            query("service", services, "Which service; without one the old protocol is meant, which is not served.")
                .required(),
        )
        .answers_with(200, "The advertisement.", "application/x-git-upload-pack-advertisement", bytes())
        .answers_with(200, "", "application/x-git-receive-pack-advertisement", bytes())
        .refuses(403, &["smart_http_only", "read_only"])
        .refuses(413, &["too_large"])
}

pub(crate) fn upload_pack() -> Operation {
    service("git_upload_pack", "Fetch")
        .says("Protocol v0 to v2, shallow and partial clones.")
        .bytes_body("application/x-git-upload-pack-request", "Packets, as git writes them; gzip is taken.")
        .answers_with(200, "Packets.", "application/x-git-upload-pack-result", bytes())
}

pub(crate) fn receive_pack() -> Operation {
    service("git_receive_pack", "Push")
        .says("Refs move as the client says, by compare-and-swap; pending work stays. What is refused stands in git's own report.")
        .bytes_body("application/x-git-receive-pack-request", "Packets and a pack, as git writes them; gzip is taken.")
        .answers_with(200, "A report.", "application/x-git-receive-pack-result", bytes())
        .limit(Limit::PackBytes)
        .limit(Limit::PackObjects)
        .limit(Limit::InflatedBytes)
        .limit(Limit::Refs)
        .refuses(403, &["read_only"])
}
