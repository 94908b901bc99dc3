//! Whether the server lives, and whether it can work.

use serde_json::json;

use crate::openapi::operation::{Group, Operation};
use crate::openapi::shapes::Health;

pub(crate) fn alive() -> Operation {
    Operation::new(Group::Operations, "healthz", "Whether the process answers")
        .open()
        .unhurried()
        .answers::<Health>(200, "It does.")
        .example(200, json!({"status": "ok"}))
}

pub(crate) fn ready() -> Operation {
    Operation::new(Group::Operations, "readyz", "Whether the server can work")
        .says("Asks database and store.")
        .open()
        .unhurried()
        .answers::<Health>(200, "It can.")
        .example(200, json!({"status": "ready"}))
        .refuses(503, &["unavailable"])
        .refuses(504, &["timeout"])
}
