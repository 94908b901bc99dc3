//! The Model Context Protocol.

use serde_json::json;

use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{accept, header, origin, remote_token};

pub(crate) fn answer() -> Operation {
    let text = || json!({"type": "string", "minLength": 1, "maxLength": 255});
    let failed = json!({
        "type": "object", "required": ["jsonrpc", "error"],
        "properties": {
            "jsonrpc": {"const": "2.0"}, "id": {"type": ["string", "number", "null"]},
            "error": {
                "type": "object", "required": ["code", "message"],
                "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "data": {}},
            },
        },
    });
    Operation::new(Group::Agents, "mcp", "Speak the Model Context Protocol")
        .says(
            "One JSON-RPC message of the transport \"Streamable HTTP\", answered as JSON, or as an event stream once there is progress to tell. \
             Nothing is kept between requests: each says for which project and user it is, and any server can answer it. What the tools take \
             and answer, the protocol itself tells (`tools/list`).",
        )
        .parameters([
            header("Treehold-Project", text(), "Its name or id.").required(),
            header("Treehold-User", text(), "The user's UUID: what is read and edited is this user's view.").required(),
            header("Treehold-Branch", text(), "The default branch unless given."),
            header("Treehold-Author", text(), "`Name <name@example.org>`: the author of commits that name none."),
            accept(&["application/json", "text/event-stream"]),
            remote_token(),
        ])
        .parameters(origin())
        .bytes_body("application/json", "One JSON-RPC 2.0 message.")
        .answers_with(200, "The answer.", "application/json", json!({"type": "object"}))
        .answers_with(200, "", "text/event-stream", json!({}))
        .answers_nothing(202, "A message that has no answer was taken.")
        .answers_with(400, "What was sent is no message (JSON-RPC's error -32700 or -32600), or its header `Mcp-Method` says something else than it does (-32020).", "application/json", failed)
        .refuses(400, &["bad_header", "bad_mcp_request"])
        .refuses(403, &["origin_not_allowed"])
        .refuses(406, &["bad_mcp_request"])
        .refuses(413, &["too_large"])
        .refuses(415, &["unsupported_media_type"])
}
