//! This document, and the page that shows it.

use serde_json::json;

use crate::openapi::operation::{Group, Operation};
use crate::openapi::parameters::{captured, reading};

fn open(id: &'static str, summary: &'static str, kind: &'static str) -> Operation {
    let [if_none_match, if_match, ..] = reading();
    Operation::new(Group::Operations, id, summary)
        .open()
        .unhurried()
        .parameters([if_none_match, if_match])
        .answers_with(200, "It.", kind, json!({"type": if kind == "application/json" { "object" } else { "string" }}))
        .sends(200, &["etag"])
        .answers_nothing(304, "The caller has it.")
        .sends(304, &["etag"])
}

pub(crate) fn document() -> Operation {
    open("openapi", "This document", "application/json").says("OpenAPI 3.1, with the limits of the running server.")
}

pub(crate) fn page() -> Operation {
    open("docs", "This document as a page", "text/html").says("Everything it needs comes from this server.")
}

pub(crate) fn asset() -> Operation {
    let name = captured("name", json!({"type": "string", "enum": ["docs.css", "docs.js"]}), "Which part.");
    open("docs_asset", "A part of the page", "text/css")
        .answers_with(200, "", "text/javascript", json!({"type": "string"}))
        .parameter(name)
        .refuses(404, &["route_not_found"])
}
