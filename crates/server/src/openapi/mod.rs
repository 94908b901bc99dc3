//! `/openapi.json`: the API as an OpenAPI 3.1 document (<https://spec.openapis.org/oas/v3.1.1>).
//!
//! A route is one line in `router.rs`, `METHOD "/path" => group::name;`, which joins three things of that name: the template, the
//! handler in `handlers/group.rs`, and the [`Operation`] in `openapi/routes/group.rs` that describes it. The router and the document
//! are made from that one list, so a route without a description does not compile. What bodies and answers look like is derived
//! from the engine's own types with their docstrings; what a refusal means is said once, in `problems.rs`. The end-to-end tests
//! hold every answer that they get against the document.

mod limits;
mod operation;
mod parameters;
mod problems;
mod routes;
mod schemas;
mod shapes;

use serde_json::{Map, Value, json};

pub(crate) use operation::{Described, Operation};
pub(crate) use routes::*;

use crate::app::ServerConfig;
use operation::Group;
use schemas::Schemas;

/// What holds for all routes.
const ABOUT: &str = "\
A git-native, content-addressed object store: read many files of a snapshot, save edits without a clone, commit and push them.

**Key.** Every route but the health checks, this document and the pages needs one of the server's keys in `X-Internal-API-Key`, or a token \
of the project as `Authorization: Bearer`. Git clients give either as the password.

**Projects** are named by their UUID or their unique name, **users** by a UUID that is yours. An **oid** is a git object's id. A **ref** is \
a branch, a tag, a full ref name or the full oid of a commit. A **workspace** is the pending work of one user on one branch.

**Paths** in URLs are percent-encoded and decoded exactly once; the slashes of a file's path may stand as they are or as `%2F`. Nothing \
is normalised: a path that is not in its plain form is refused.

**Pages.** Lists take `limit` (clamped, never refused) and `cursor`; `next_cursor` of an answer is the `cursor` of the next page, `null` at \
the end. A query parameter that a route does not know is refused, and so is one that is given twice.

**Refusals** are `application/problem+json` (RFC 9457) with a stable `code` and a sentence in `detail` that says what to do. Nothing in a \
problem differs from request to request. With `Retry-After` the same request may be repeated after so many seconds.

**HEAD** is answered wherever GET is, with the same status and headers. A URL that is no route is 404 `route_not_found`, a method that \
a route does not take is 405 `method_not_allowed` with `Allow`.

**Names to log.** Every answer has an `X-Request-Id`, yours if you send a short plain one. Fields may be added to answers and codes to refusals; clients ignore what they do not know.";

/// The document for a server that is configured so.
pub(crate) fn document(routes: &[Described], config: &ServerConfig) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in routes {
        let (path, captured) = template(route.path);
        let operation = (route.describe)().into_json(&route.method, &captured, config, &mut schemas);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    schemas.add_answered::<shapes::ProblemBody>();
    let mut document = json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Treehold",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A git-native, content-addressed object store.",
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that sent this document."}],
        "security": [{"key": []}, {"token": []}],
        "tags": Group::ALL.map(|group| json!({"name": group.name(), "description": group.about()})),
        "paths": paths,
        "components": {
            "responses": schemas.refusals(),
            "schemas": schemas.finish(),
            "headers": parameters::answer_headers(),
            "securitySchemes": {
                "key": {
                    "type": "apiKey", "in": "header", "name": "X-Internal-API-Key",
                    "description": "One of the configured keys, once.",
                },
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "A token of the project, with the scopes that the route needs; routes about all projects take a key.",
                },
                "git": {
                    "type": "http", "scheme": "basic",
                    "description": "Any user name; the password is a key, or a token of the project.",
                },
                "signature": {
                    "type": "apiKey", "in": "header", "name": "X-Hub-Signature-256",
                    "description": "`sha256=` and the HMAC of the body in hex, made with the webhook's secret.",
                },
            },
        },
        "x-treehold-limits": limits::all(config),
    });
    schemas::join(&mut document);
    document
}

/// A template as OpenAPI writes it, and the names in it; with `*`, where they may have slashes.
fn template(path: &str) -> (String, Vec<&str>) {
    let captured = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    (path.replace("{*", "{"), captured.collect())
}

#[cfg(test)]
mod tests;
