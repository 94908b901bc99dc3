//! The description of one route and method.

use std::collections::BTreeMap;

use http::Method;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::limits::{self, Limit};
use super::parameters::{Parameter, Place, header_name};
use super::problems;
use super::schemas::Schemas;
use crate::app::ServerConfig;

/// A route of the list that router and document are made from.
pub(crate) struct Described {
    pub(crate) method: Method,
    /// As the router has it.
    pub(crate) path: &'static str,
    pub(crate) describe: fn() -> Operation,
}

/// Which routes stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Projects,
    Files,
    Pending,
    Versions,
    Commits,
    History,
    Refs,
    Remote,
    Feed,
    Agents,
    Objects,
    Exports,
    Git,
    Operations,
}

impl Group {
    pub(super) const ALL: [Self; 14] = [
        Self::Projects,
        Self::Files,
        Self::Pending,
        Self::Versions,
        Self::Commits,
        Self::History,
        Self::Refs,
        Self::Remote,
        Self::Feed,
        Self::Agents,
        Self::Objects,
        Self::Exports,
        Self::Git,
        Self::Operations,
    ];

    pub(super) fn name(self) -> &'static str {
        self.told().0
    }

    pub(super) fn about(self) -> &'static str {
        self.told().1
    }

    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Projects => ("Projects", "A project is a repository: refs, pending work, perhaps a remote."),
            Self::Files => (
                "Files",
                "Read, list and search the files of a snapshot, a user's view of it included; commit one file.",
            ),
            Self::Pending => (
                "Pending work",
                "Edits that are not committed: durable when answered, one workspace per user and branch.",
            ),
            Self::Versions => {
                ("Local history", "Versions of pending files that were saved lately, and named checkpoints.")
            }
            Self::Commits => ("Commits", "From pending work, or from a list of actions."),
            Self::History => ("History", "What changed, when, and by whom."),
            Self::Refs => ("Refs", "Branches and tags, moved by compare-and-swap, and what they were."),
            Self::Remote => ("Remote", "Pull, push, pull requests, webhooks."),
            Self::Feed => ("Change feed", "Everything that happens to a project, by one cursor."),
            Self::Agents => ("Agents", "The Model Context Protocol, for agents that speak it."),
            Self::Objects => ("Git objects", "In the shapes of GitHub's git database API, or as they are."),
            Self::Exports => ("Exports", "Everything leaves in formats that others read."),
            Self::Git => ("Git", "Git's smart HTTP protocol, for stock clients."),
            Self::Operations => ("Operations", "For those who run the server."),
        }
    }
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Key,
    Anybody,
    Git,
    Signature,
}

type Shape = Box<dyn FnOnce(&mut Schemas) -> Value>;

struct Body {
    kind: &'static str,
    shape: Shape,
    required: bool,
    about: String,
    example: Option<Value>,
}

struct Answer {
    about: &'static str,
    contents: Vec<(&'static str, Shape, Option<Value>)>,
    headers: Vec<&'static str>,
}

/// What a route takes, answers and refuses. Made in `routes/`, one function for each handler, with the handler's name.
pub(crate) struct Operation {
    id: &'static str,
    group: Group,
    summary: &'static str,
    about: &'static str,
    access: Access,
    admitted: bool,
    parameters: Vec<Parameter>,
    body: Option<Body>,
    answers: BTreeMap<u16, Answer>,
    refusals: BTreeMap<u16, Vec<&'static str>>,
    limits: Vec<Limit>,
}

impl Operation {
    /// `id` is unique: generated clients name their methods after it.
    pub(super) fn new(group: Group, id: &'static str, summary: &'static str) -> Self {
        let operation = Self {
            id,
            group,
            summary,
            about: "",
            access: Access::Key,
            admitted: true,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            limits: Vec::new(),
        };
        operation.refuses(401, &["unauthorized"]).refuses(500, &["internal"])
    }

    /// What the summary does not say, in Markdown.
    pub(super) fn says(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// No key is asked for.
    pub(super) fn open(mut self) -> Self {
        self.refusals.remove(&401);
        Self { access: Access::Anybody, ..self }
    }

    /// Git's own credentials instead of the header.
    pub(super) fn git(self) -> Self {
        Self { access: Access::Git, ..self }
    }

    /// A signature over the body instead of a key.
    pub(super) fn signed(mut self) -> Self {
        self.refusals.remove(&401);
        Self { access: Access::Signature, ..self }.refuses(401, &["bad_signature"])
    }

    /// It is never made to wait, and so never refused for want of room.
    pub(super) fn unhurried(self) -> Self {
        Self { admitted: false, ..self }
    }

    pub(super) fn parameter(mut self, parameter: Parameter) -> Self {
        for &(status, codes) in parameter.refusals {
            self = self.refuses(status, codes);
        }
        self.parameters.push(parameter);
        self
    }

    pub(super) fn parameters(self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        parameters.into_iter().fold(self, Self::parameter)
    }

    /// Refusals with this status: codes of `problems.rs`.
    pub(super) fn refuses(mut self, status: u16, codes: &[&'static str]) -> Self {
        let known = self.refusals.entry(status).or_default();
        let new = codes.iter().copied().filter(|code| !known.contains(code)).collect::<Vec<_>>();
        known.extend(new);
        self
    }

    pub(super) fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self.refuses(413, &["too_large"])
    }

    /// A JSON body that must be there.
    pub(super) fn json_body<T: JsonSchema + 'static>(self, example: Value) -> Self {
        self.json::<T>(true, example)
    }

    /// A JSON body; none at all stands for `{}`.
    pub(super) fn optional_json_body<T: JsonSchema + 'static>(self, example: Value) -> Self {
        self.json::<T>(false, example)
    }

    fn json<T: JsonSchema + 'static>(self, required: bool, example: Value) -> Self {
        let about = if required { "" } else { "No body at all stands for `{}`." }.to_owned();
        let shape: Shape = Box::new(Schemas::add_asked::<T>);
        let body = Body { kind: "application/json", shape, required, about, example: Some(example) };
        Self { body: Some(body), ..self }
            .read()
            .refuses(400, &["bad_json"])
            .refuses(415, &["unsupported_media_type"])
            .refuses(422, &["bad_shape"])
    }

    /// A body that is the bytes themselves, whatever its Content-Type.
    pub(super) fn bytes_body(self, kind: &'static str, about: &str) -> Self {
        let shape: Shape = Box::new(|_| json!({"type": "string", "format": "binary"}));
        Self { body: Some(Body { kind, shape, required: false, about: about.to_owned(), example: None }), ..self }
            .read()
    }

    fn read(self) -> Self {
        self.refuses(400, &["bad_body", "bad_header"])
            .refuses(408, &["body_timeout"])
            .refuses(413, &["too_large"])
            .refuses(415, &["unsupported_encoding"])
    }

    /// An answer in JSON.
    pub(super) fn answers<T: JsonSchema + 'static>(self, status: u16, about: &'static str) -> Self {
        self.content(status, about, "application/json", Schemas::add_answered::<T>)
    }

    /// An answer without a body.
    pub(super) fn answers_nothing(mut self, status: u16, about: &'static str) -> Self {
        self.answers.entry(status).or_insert(Answer { about, contents: Vec::new(), headers: Vec::new() });
        self
    }

    /// An answer that is lines of JSON, where the caller prefers them: the shapes that a line can have.
    pub(super) fn or_lines(self, status: u16, lines: fn(&mut Schemas) -> Vec<Value>) -> Self {
        self.content(status, "", "application/x-ndjson", move |schemas| {
            let lines = lines(schemas);
            json!({"type": "string", "description": "A JSON value on each line.", "x-treehold-line": {"anyOf": lines}})
        })
    }

    /// An answer that is no JSON.
    pub(super) fn answers_with(self, status: u16, about: &'static str, kind: &'static str, schema: Value) -> Self {
        self.content(status, about, kind, move |_| schema)
    }

    fn content(
        mut self,
        status: u16,
        about: &'static str,
        kind: &'static str,
        shape: impl FnOnce(&mut Schemas) -> Value + 'static,
    ) -> Self {
        let answer = self.answers.entry(status).or_insert(Answer { about, contents: Vec::new(), headers: Vec::new() });
        answer.contents.push((kind, Box::new(shape), None));
        self
    }

    /// An example of the JSON answer with this status.
    pub(super) fn example(mut self, status: u16, example: Value) -> Self {
        let content = self.answers.get_mut(&status).and_then(|answer| answer.contents.first_mut());
        content.expect("an answer to give an example of").2 = Some(example);
        self
    }

    /// A header of the answer: a name of [`super::parameters::answer_headers`].
    pub(super) fn sends(mut self, status: u16, headers: &[&'static str]) -> Self {
        self.answers.get_mut(&status).expect("an answer to send it with").headers.extend(headers);
        self
    }

    /// The names that its query may have; `None`: any, since others say what stands there (git clients, agents, webhooks), or nobody
    /// reads it (health, pages).
    pub(crate) fn query(&self) -> Option<Vec<&'static str>> {
        let ours = self.access == Access::Key && !matches!(self.group, Group::Agents | Group::Operations);
        let names = self.parameters.iter().filter(|parameter| parameter.place == Place::Query);
        ours.then(|| names.map(|parameter| parameter.name).collect())
    }

    /// The operation as the document has it.
    pub(super) fn into_json(
        mut self,
        method: &Method,
        captured: &[&str],
        config: &ServerConfig,
        schemas: &mut Schemas,
    ) -> Value {
        if self.access == Access::Key {
            self = self.refuses(403, &["forbidden", "key_required", "scope_missing"]).refuses(429, &["rate_limited"]);
        }
        if self.query().is_some() {
            self = self.refuses(400, &["bad_parameter", "bad_encoding"]);
        }
        if self.admitted {
            self = self
                .refuses(429, &["too_many_requests"])
                .refuses(503, &["busy", "unavailable"])
                .refuses(504, &["timeout"]);
        }
        for parameter in self.parameters.iter_mut().filter(|parameter| parameter.place == Place::Path) {
            parameter.slashes = captured.iter().any(|name| name.strip_prefix('*') == Some(parameter.name));
        }
        let paths: Vec<&str> = self.parameters.iter().filter(|p| p.place == Place::Path).map(|p| p.name).collect();
        let named: Vec<&str> = captured.iter().map(|name| name.trim_start_matches('*')).collect();
        assert_eq!(paths, named, "the parameters in the path of {}, in their order", self.id);
        let head = *method == Method::HEAD;
        let id = if head { format!("{}_head", self.id) } else { self.id.to_owned() };
        let about = if head { "As GET, without the body." } else { self.about };
        let mut told = json!({
            "operationId": id,
            "tags": [self.group.name()],
            "summary": self.summary,
            "description": about,
            "parameters": self.parameters.into_iter().map(Parameter::into_json).collect::<Vec<_>>(),
        });
        let security = match self.access {
            Access::Key => None,
            Access::Anybody => Some(json!([])),
            Access::Git => Some(json!([{"git": []}])),
            Access::Signature => Some(json!([{"signature": []}])),
        };
        if let Some(security) = security {
            told["security"] = security;
        }
        if let Some(body) = self.body {
            told["requestBody"] = body.into_json(schemas);
        }
        if !self.limits.is_empty() {
            told["x-treehold-limits"] = limits::shown(&self.limits, config);
        }
        let mut responses = Map::new();
        for (status, answer) in self.answers {
            responses.insert(status.to_string(), answer.into_json(head, schemas));
        }
        let plain = self.access == Access::Git;
        for (status, codes) in self.refusals {
            let refusal = problems::response(schemas, status, codes, plain, head);
            match responses.get_mut(&status.to_string()) {
                Some(answer) => beside(answer, refusal, schemas),
                None => _ = responses.insert(status.to_string(), refusal),
            }
        }
        told["responses"] = Value::Object(responses);
        told
    }
}

/// Puts a refusal beside an answer with the same status: what both say, and the body of either.
fn beside(answer: &mut Value, refusal: Value, schemas: &Schemas) {
    let refusal = schemas.refusal(&refusal).cloned().unwrap_or(refusal);
    let told = [&answer["description"], &refusal["description"]].map(|told| told.as_str().unwrap_or_default());
    answer["description"] = told.join("\n\n").into();
    for part in ["content", "headers"] {
        for (name, value) in refusal[part].as_object().into_iter().flatten() {
            answer[part][name] = value.clone();
        }
    }
}

impl Body {
    fn into_json(self, schemas: &mut Schemas) -> Value {
        let mut content = json!({"schema": (self.shape)(schemas)});
        if let Some(example) = self.example {
            content["example"] = example;
        }
        let kind = self.kind;
        json!({"required": self.required, "description": self.about, "content": {kind: content}})
    }
}

impl Answer {
    fn into_json(self, head: bool, schemas: &mut Schemas) -> Value {
        let mut told = json!({"description": self.about});
        let names = self.headers.into_iter().chain(["x-request-id"]);
        let headers =
            names.map(|name| (header_name(name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")})));
        told["headers"] = Value::Object(headers.collect());
        if head || self.contents.is_empty() {
            return told;
        }
        told["content"] = json!({});
        for (kind, shape, example) in self.contents {
            let shape = shape(schemas);
            // A route may have two answers of one kind.
            let schema = match told["content"].get(kind) {
                Some(other) => json!({"anyOf": [other["schema"], shape]}),
                None => shape,
            };
            told["content"][kind] = json!({"schema": schema});
            if let Some(example) = example {
                told["content"][kind]["example"] = example;
            }
        }
        told
    }
}
