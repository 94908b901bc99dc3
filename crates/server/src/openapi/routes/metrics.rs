//! What an operator watches.

use serde_json::json;

use crate::openapi::operation::{Group, Operation};

pub(crate) fn read() -> Operation {
    Operation::new(Group::Operations, "metrics", "Metrics")
        .unhurried()
        .answers_with(200, "Prometheus' text format.", "text/plain", json!({"type": "string"}))
        .refuses(503, &["unavailable"])
}
