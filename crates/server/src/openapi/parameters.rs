//! Parameters and headers that several routes share, each with what it is refused for.

use serde_json::{Value, json};

/// Statuses, and the codes with them.
type Refusals = &'static [(u16, &'static [&'static str])];

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// A parameter of a request.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    required: bool,
    about: &'static str,
    schema: Value,
    pub(super) refusals: Refusals,
    /// It goes on to the end of the path, slashes included.
    pub(super) slashes: bool,
}

const BAD_VALUE: Refusals = &[(400, &["bad_parameter", "bad_encoding"])];
const BAD_HEADER: Refusals = &[(400, &["bad_header"])];
/// Of a condition that does not hold.
const UNMET: Refusals = &[(400, &["bad_header"]), (412, &["precondition_failed"])];

impl Parameter {
    fn new(place: Place, name: &'static str, schema: Value, about: &'static str) -> Self {
        let refusals = if place == Place::Header { BAD_HEADER } else { BAD_VALUE };
        Self { name, place, required: place == Place::Path, about, schema, refusals, slashes: false }
    }

    /// There is no answer without it.
    pub(super) fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(super) fn refused(self, refusals: Refusals) -> Self {
        Self { refusals, ..self }
    }

    pub(super) fn into_json(self) -> Value {
        let place = match self.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        };
        let mut told = json!({"name": self.name, "in": place, "required": self.required, "description": self.about, "schema": self.schema});
        if self.slashes {
            told["x-treehold-slashes"] = true.into();
        }
        told
    }
}

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid", "examples": ["11111111-2222-4333-8444-555555555555"]})
}

fn oid() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-fA-F]{40}$"})
}

/// A parameter of the query.
pub(super) fn query(name: &'static str, schema: Value, about: &'static str) -> Parameter {
    Parameter::new(Place::Query, name, schema, about)
}

/// One of the query that is text.
pub(super) fn text(name: &'static str, about: &'static str) -> Parameter {
    query(name, json!({"type": "string"}), about)
}

/// `true` or `false`.
pub(super) fn flag(name: &'static str, default: bool, about: &'static str) -> Parameter {
    query(name, json!({"type": "boolean", "default": default}), about)
}

/// One of a few words; the first is the default.
pub(super) fn choice(name: &'static str, words: &[&str], about: &'static str) -> Parameter {
    query(name, json!({"type": "string", "enum": words, "default": words[0]}), about)
}

/// An oid of the query.
pub(super) fn oid_query(name: &'static str, about: &'static str) -> Parameter {
    query(name, oid(), about).refused(&[(400, &["bad_parameter", "bad_encoding", "bad_oid"])])
}

/// A capture of the path.
pub(super) fn captured(name: &'static str, schema: Value, about: &'static str) -> Parameter {
    Parameter::new(Place::Path, name, schema, about).refused(&[(400, &["bad_encoding"])])
}

/// A capture that is a UUID.
pub(super) fn captured_uuid(name: &'static str, about: &'static str) -> Parameter {
    captured(name, uuid(), about).refused(&[(400, &["bad_encoding", "bad_uuid"])])
}

/// A capture that is an oid.
pub(super) fn captured_oid(about: &'static str) -> Parameter {
    captured("oid", oid(), about).refused(&[(400, &["bad_encoding", "bad_oid"])])
}

/// `{project}`.
pub(super) fn project() -> Parameter {
    let schema = json!({"type": "string", "examples": ["docs", "01a20ada-56ed-71ec-902d-7b9e9f6d51c4"]});
    captured("project", schema, "The project's UUID or its unique name.")
        .refused(&[(400, &["bad_encoding"]), (404, &["project_not_found"])])
}

/// `{user}` in the path.
pub(super) fn whose() -> Parameter {
    captured_uuid("user", "Whose pending work.")
}

/// `{*path}`.
pub(super) fn path() -> Parameter {
    let schema = json!({"type": "string", "examples": ["guide/intro.md"]});
    let about = "The file's path from the root, percent-encoded; its slashes may stand as they are.";
    captured("path", schema, about).refused(&[(400, &["bad_encoding"]), (422, &["bad_path"])])
}

/// `user`, where there is no answer without.
pub(super) fn user_needed() -> Parameter {
    user("Whose pending work.").required()
}

/// `user`.
pub(super) fn user(about: &'static str) -> Parameter {
    query("user", uuid(), about).refused(&[(400, &["bad_parameter", "bad_encoding", "bad_uuid"])])
}

/// `branch`.
pub(super) fn branch() -> Parameter {
    text("branch", "Short branch name; the project's default if not given.")
        .refused(&[(400, &["bad_parameter", "bad_encoding"]), (422, &["bad_ref"])])
}

/// `ref` and `user`: which version of the files is meant.
pub(super) fn at() -> [Parameter; 2] {
    let reference = text("ref", "Branch, tag, full ref name or full commit oid; the default branch if not given.");
    let reference = reference.refused(&[
        (400, &["bad_parameter", "bad_encoding"]),
        (404, &["ref_not_found"]),
        (422, &["not_a_commit", "bad_ref"]),
    ]);
    let user = user("Overlay this user's pending work; then `ref` must be a branch.");
    [reference, user.refused(&[(400, &["bad_parameter", "bad_encoding", "bad_uuid"]), (422, &["not_a_branch"])])]
}

/// `limit` and `cursor`.
pub(super) fn page(about_limit: &'static str) -> [Parameter; 2] {
    let cursor = text("cursor", "`next_cursor` of the page before; empty = the first page.");
    let cursor = cursor.refused(&[(400, &["bad_parameter", "bad_encoding", "bad_request"])]);
    [query("limit", json!({"type": "integer"}), about_limit), cursor]
}

/// A header of the request.
pub(super) fn header(name: &'static str, schema: Value, about: &'static str) -> Parameter {
    Parameter::new(Place::Header, name, schema, about)
}

fn tags(name: &'static str, about: &'static str) -> Parameter {
    header(name, json!({"type": "string", "examples": ["\"210a26421a8b0e6f3e6a4b7d3f5f0f4a2f9b7f0e\"", "*"]}), about)
}

/// Conditions and ranges of a read.
pub(super) fn reading() -> [Parameter; 4] {
    [
        tags("If-None-Match", "Oids in double quotes: 304 if the file still has one of them."),
        tags("If-Match", "Oids in double quotes: 412 unless the file has one of them.").refused(UNMET),
        header(
            "Range",
            json!({"type": "string", "examples": ["bytes=0-1023"]}),
            "One range of bytes; others are ignored.",
        )
        .refused(&[(416, &["range_not_satisfiable"])]),
        tags("If-Range", "Send the range only if the file still has this oid, else the whole file.").refused(&[]),
    ]
}

/// Conditions of a write.
pub(super) fn writing() -> [Parameter; 2] {
    [
        tags("If-Match", "The oid that the caller last saw, in double quotes; `*`: the path must exist.")
            .refused(UNMET),
        header("If-None-Match", json!({"type": "string", "examples": ["*"]}), "Only `*`: the path must not exist.")
            .refused(UNMET),
    ]
}

/// The condition of a ref that is made.
pub(super) fn absent() -> Parameter {
    let about = "Only `*`: there must be no such ref; stands for an `expected_oid` of zeros.";
    header("If-None-Match", json!({"type": "string", "examples": ["*"]}), about).refused(UNMET)
}

/// The condition of a moved ref.
pub(super) fn expected() -> Parameter {
    tags("If-Match", "The one oid that the ref must have, in double quotes; stands for `expected_oid`.").refused(UNMET)
}

/// `Idempotency-Key`.
pub(super) fn idempotency_key() -> Parameter {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
    let about =
        "Unique in the project: the same key and request get the first final answer again, whatever happened since.";
    header("Idempotency-Key", schema, about).refused(&[(400, &["bad_header"]), (422, &["idempotency_key_reused"])])
}

/// `X-Remote-Token`.
pub(super) fn remote_token() -> Parameter {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 4096});
    header("X-Remote-Token", schema, "Credentials for the remote, for this request only; else the configured ones.")
}

/// Where an edit comes from.
pub(super) fn origin() -> [Parameter; 3] {
    let shown = |most: u32| json!({"type": "string", "minLength": 1, "maxLength": most});
    let actor = json!({"type": "string", "maxLength": 200, "pattern": "^(person|agent|service)(:.+)?$", "examples": ["agent:reviewer"]});
    [
        header("Treehold-Device", shown(100), "The device's name, shown to others. UTF-8, at most 100 bytes."),
        header(
            "Treehold-Actor",
            actor,
            "Who made it: `person`, `agent` or `service`, perhaps with `:` and a name. At most 200 bytes.",
        ),
        header("Treehold-Session", shown(200), "The session that it belongs to. UTF-8, at most 200 bytes."),
    ]
}

/// `Accept`, where there is a choice.
pub(super) fn accept(kinds: &[&str]) -> Parameter {
    let about = "What the caller prefers; the first of these if it does not say. What is not offered is ignored.";
    header("Accept", json!({"type": "string", "examples": kinds}), about).refused(&[])
}

/// As it is written; OpenAPI's components have no capitals by our choice.
pub(super) fn header_name(name: &str) -> &'static str {
    ANSWERED.iter().find(|(key, ..)| *key == name).expect("a header that is described").1
}

/// Headers of answers: component, name, what they say.
const ANSWERED: [(&str, &str, &str); 13] = [
    (
        "x-request-id",
        "X-Request-Id",
        "Names the request in the server's log: yours if it was short and plain, else a new one.",
    ),
    ("retry-after", "Retry-After", "When the same request may be repeated, seconds."),
    ("etag", "ETag", "The oid of the bytes, in double quotes."),
    ("git-mode", "Git-Mode", "The file's mode, six octal digits."),
    ("git-commit", "Git-Commit", "The commit that was read; absent on an unborn branch."),
    ("x-treehold-source", "X-Treehold-Source", "With `user`: `committed` or `pending`."),
    ("x-treehold-revision", "X-Treehold-Revision", "The workspace's revision with the file's last change."),
    ("content-range", "Content-Range", "Which bytes of how many these are."),
    ("accept-ranges", "Accept-Ranges", "Always `bytes`."),
    ("location", "Location", "Where it is."),
    ("content-disposition", "Content-Disposition", "A file name to save it under."),
    ("allow", "Allow", "The methods that the route takes."),
    ("vary", "Vary", "What the answer depends on."),
];

/// All of them, as components.
pub(super) fn answer_headers() -> Value {
    let told = ANSWERED.iter().map(|(key, _, about)| {
        let schema = match *key {
            "retry-after" => json!({"type": "integer", "minimum": 0}),
            "x-treehold-revision" => json!({"type": "integer"}),
            _ => json!({"type": "string"}),
        };
        ((*key).to_owned(), json!({"description": about, "schema": schema}))
    });
    Value::Object(told.collect())
}
