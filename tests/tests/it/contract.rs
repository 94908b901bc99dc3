//! The document that the server serves about itself, `/openapi.json`, as the judge of its answers.
//!
//! [`check`] is asked about every answer that a test gets through [`crate::deployment::Deployment::send`]: route, status, content type,
//! headers, and the body's shape must be those that the document tells. Shapes are closed for this: a field that the document does
//! not have fails the test, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};
use treehold_server::ServerConfig;

use crate::both;
use crate::deployment::{API_KEY, Reply};

/// Headers of which every one that is sent must be described.
const OURS: [&str; 9] = [
    "etag",
    "retry-after",
    "location",
    "content-range",
    "content-disposition",
    "git-mode",
    "git-commit",
    "x-treehold-source",
    "x-treehold-revision",
];
/// Refusals that are no operation's: the path or method is no route's, or the request could not be read at all.
const NOWHERE: [&str; 3] = ["route_not_found", "method_not_allowed", "bad_encoding"];

struct Contract {
    document: Value,
    /// The document's shapes, closed.
    closed: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let document = treehold_server::document(&ServerConfig::default());
        let mut closed = document["components"].clone();
        close(&mut closed);
        Contract { document, closed, validators: Mutex::default() }
    })
}

/// Lets objects have the fields that are described, and no others. What is put together of several shapes is closed as a whole.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields.iter_mut() {
                if !matches!(name.as_str(), "allOf" | "anyOf" | "oneOf") {
                    close(inner);
                }
            }
            if fields.get("properties").is_some_and(Value::is_object) && fields.get("type") == Some(&json!("object")) {
                fields.insert("unevaluatedProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Whether a path fits a template; the more of it stands there word for word, the better.
fn fit(template: &str, item: &Value, path: &str) -> Option<usize> {
    let many =
        item.as_object()?.values().next()?["parameters"].as_array()?.iter().any(|p| p["x-treehold-slashes"] == true);
    let (mut wanted, mut words) = (template.split('/').peekable(), 0);
    let mut given = path.split('/');
    while let Some(segment) = wanted.next() {
        let here = given.next()?;
        if segment.starts_with('{') && (!here.is_empty() || many) {
            if many && wanted.peek().is_none() {
                return Some(words);
            }
        } else if segment == here {
            words += 1;
        } else {
            return None;
        }
    }
    given.next().is_none().then_some(words)
}

impl Contract {
    /// The template and its methods.
    fn route(&self, path: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object().expect("paths");
        let fitting = paths.iter().filter_map(|(template, item)| Some((fit(template, item, path)?, template, item)));
        fitting.max_by_key(|(words, ..)| *words).map(|(_, template, item)| (template.as_str(), item))
    }

    /// What is described once for several routes.
    fn resolved<'a>(&'a self, part: &'a Value) -> &'a Value {
        let place = part["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
        place.map_or(part, |place| self.document.pointer(place).expect("what is referred to"))
    }

    /// The closed shapes that a schema rests on. Each of some hundred validators keeps its own: all shapes in each of them would make the
    /// process so large that every command which a test starts takes long to fork.
    fn needed(&self, schema: &Value) -> Value {
        let (mut needed, mut left) = (json!({}), vec![schema]);
        while let Some(value) = left.pop() {
            match value {
                Value::Array(items) => left.extend(items),
                Value::Object(fields) => left.extend(fields.values()),
                Value::String(text) => {
                    let Some((kind, name)) = text.strip_prefix("#/components/").and_then(|place| place.split_once('/'))
                    else {
                        continue;
                    };
                    let shape = &self.closed[kind][name];
                    if needed[kind].get(name).is_none() && !shape.is_null() {
                        needed[kind][name] = shape.clone();
                        left.push(shape);
                    }
                }
                _ => {}
            }
        }
        needed
    }

    fn validator(&self, name: String, schema: &Value) -> Arc<Validator> {
        let mut known = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let root = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema", "components": self.needed(schema), "allOf": [schema],
            });
            Arc::new(jsonschema::validator_for(&root).expect("a valid schema"))
        };
        Arc::clone(known.entry(name).or_insert_with(make))
    }

    fn judge(&self, name: String, schema: &Value, body: &Value) {
        let validator = self.validator(name.clone(), schema);
        let wrong: Vec<String> = validator
            .iter_errors(body)
            .map(|error| format!("{} at {:?}", error, error.instance_path().to_string()))
            .collect();
        assert!(wrong.is_empty(), "{name} is not as /openapi.json says: {wrong:#?}\n{body:#}");
    }
}

/// Holds an answer against the document.
pub fn check(method: &str, path: &str, reply: &Reply) {
    let contract = contract();
    let code =
        || serde_json::from_slice::<Value>(&reply.body).ok().and_then(|body| Some(body["code"].as_str()?.to_owned()));
    let nowhere = || code().is_some_and(|code| NOWHERE.contains(&code.as_str())) || method == "HEAD";
    let Some((template, item)) = contract.route(path) else {
        assert!(
            reply.status >= 400,
            "{method} {path} is answered with {}, and /openapi.json has no such route",
            reply.status
        );
        return;
    };
    let told = item.get(method.to_ascii_lowercase()).or_else(|| item.get("get").filter(|_| method == "HEAD"));
    let Some(operation) = told else {
        assert!(
            matches!(reply.status, 401 | 405),
            "{method} {template} is answered with {}, and not in /openapi.json",
            reply.status
        );
        return;
    };
    let name = format!("{method} {template} {}", reply.status);
    let Some(response) =
        operation["responses"].get(reply.status.to_string()).map(|response| contract.resolved(response))
    else {
        assert!(nowhere(), "{name} is not in /openapi.json: add it in server/src/openapi/routes: {}", reply.text());
        return;
    };
    for header in OURS.iter().filter(|header| reply.headers.contains_key(**header)) {
        let known = response["headers"]
            .as_object()
            .is_some_and(|known| known.keys().any(|name| name.eq_ignore_ascii_case(header)));
        assert!(known, "{name} sends {header}, which /openapi.json does not say");
    }
    if method == "HEAD" || reply.body.is_empty() {
        return;
    }
    let kind = reply.header("content-type").split(';').next().unwrap_or("");
    let Some(content) = response["content"].get(kind) else {
        let described = response["content"].as_object().map(|kinds| kinds.keys().cloned().collect::<Vec<_>>());
        panic!("{name} is {kind:?}, and /openapi.json says {described:?}");
    };
    match kind {
        "application/json" | "application/problem+json" => {
            let body =
                serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{name}: {error}: {}", reply.text()));
            contract.judge(format!("{name} {kind}"), &content["schema"], &body);
        }
        "application/x-ndjson" => {
            for line in reply.text().lines() {
                let line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
                contract.judge(format!("{name} {kind}"), &content["schema"]["x-treehold-line"], &line);
            }
        }
        _ => {}
    }
}

/// Goal: the document is what tools take for OpenAPI 3.1. Method: the OpenAPI Initiative's own schema; each shape is a schema.
#[test]
fn the_document_is_openapi() {
    let schema: Value = serde_json::from_str(include_str!("../../openapi/oas-3.1-2022-10-07.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema of OpenAPI 3.1");
    let wrong: Vec<String> = validator
        .iter_errors(&contract().document)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut broken = contract().document.clone();
    broken["paths"]["/projects"]["get"]["responses"]["200"]["description"] = Value::Null;
    assert!(!validator.is_valid(&broken), "the validator takes anything");
    for (name, shape) in contract().document["components"]["schemas"].as_object().expect("schemas") {
        assert!(jsonschema::meta::is_valid(shape), "{name} is no JSON Schema");
    }
}

/// Goal: examples are true. Method: each against the schema beside it, closed.
#[test]
fn examples_fit_their_schemas() {
    let contract = contract();
    let mut count = 0;
    for (path, item) in contract.document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let answers = operation["responses"].as_object().expect("responses").values();
            for content in answers
                .chain([&operation["requestBody"]])
                .filter_map(|part| part["content"]["application/json"].as_object())
            {
                if let Some(example) = content.get("example") {
                    count += 1;
                    contract.judge(format!("example {count} of {method} {path}"), &content["schema"], example);
                }
            }
        }
    }
    assert!(count > 50, "{count} examples");
}

/// Goal: the judge judges. Method: answers that differ a little from real ones.
#[test]
fn an_answer_that_differs_is_noticed() {
    let judged = |method: &str, path: &str, status: u16, kind: &str, body: Value| {
        let headers = [("content-type".parse().expect("a name"), kind.parse().expect("a value"))].into_iter().collect();
        let reply = Reply { status, headers, body: body.to_string().into_bytes() };
        let (method, path) = (method.to_owned(), path.to_owned());
        std::panic::catch_unwind(move || check(&method, &path, &reply)).is_ok()
    };
    let (json_kind, problem) = ("application/json", "application/problem+json");
    let refused = |code: &str| json!({"type": "about:blank", "title": "x", "status": 404, "code": code, "detail": "x"});
    assert!(judged("GET", "/healthz", 200, json_kind, json!({"status": "ok"})));
    assert!(judged("GET", "/projects/x", 404, problem, refused("project_not_found")));
    assert!(!judged("GET", "/projects/x", 404, problem, refused("file_not_found")), "a code of another route");
    assert!(!judged("GET", "/projects/x", 404, json_kind, refused("project_not_found")), "another type");
    assert!(
        !judged("GET", "/healthz", 200, json_kind, json!({"status": "ok", "more": 1})),
        "a field that is not described"
    );
    assert!(!judged("GET", "/healthz", 200, json_kind, json!({})), "a field that is missing");
    assert!(!judged("GET", "/healthz", 418, json_kind, json!({})), "a status that is not described");
    assert!(!judged("GET", "/nowhere", 200, json_kind, json!({})), "a route that is not described");
    assert!(!judged("POST", "/healthz", 200, json_kind, json!({})), "a method that is not described");
}

both! {
    /// Goal: router and document agree. Method: every path with every method; what the document has is served, what it does not have is
    /// refused, and `Allow` names the rest.
    async fn router_and_document_agree(d) {
        let served = d.get("/openapi.json").await.ok(200);
        assert_eq!(served["paths"], contract().document["paths"], "what is served is what is judged by");
        let paths = served["paths"].as_object().expect("paths");
        for (template, item) in paths {
            let path = template.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
            let path = path.collect::<Vec<_>>().join("/");
            let told: Vec<String> = item.as_object().expect("methods").keys().map(|method| method.to_uppercase()).collect();
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
                let reply = d.send(d.request(method, &path).basic_auth("git", Some(API_KEY))).await;
                if told.iter().any(|told| told == method) {
                    let served = reply.status != 405 && (template == "/docs/{name}" || !reply.text().contains("\"code\":\"route_not_found\""));
                    assert!(served, "{method} {template} is described and not served");
                    continue;
                }
                assert_eq!(reply.status, 405, "{method} {template} is served and not described");
                let mut allowed: Vec<&str> = reply.header("allow").split(',').map(str::trim).collect();
                allowed.retain(|method| *method != "HEAD" || told.iter().any(|told| told == "HEAD"));
                allowed.sort_unstable();
                assert_eq!(allowed, told, "Allow of {template}");
            }
        }
    }

    /// Goal: who has no key can read the document and its page, which reach nothing else.
    async fn the_page_needs_no_key_and_no_network(d) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let kinds = [
            ("/openapi.json", "application/json"),
            ("/docs", "text/html; charset=utf-8"),
            ("/docs/docs.css", "text/css; charset=utf-8"),
            ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ];
        for (path, kind) in kinds {
            let response = client.get(d.url(path)).send().await.expect("an answer");
            assert_eq!(response.status(), 200, "{path}");
            let header = |name: &str| response.headers()[name].to_str().expect("ASCII").to_owned();
            assert_eq!(header("content-type"), kind);
            assert!(header("content-security-policy").starts_with("default-src 'none'"));
            let tag = header("etag");
            let text = response.text().await.expect("a body");
            if path == "/openapi.json" {
                let document: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(document["openapi"], "3.1.1");
            } else {
                assert!(!text.contains("//") || !text.contains("http"), "{path} names another server");
                assert!(!text.contains(".innerHTML"), "{path} makes HTML of text");
            }
            let again = client.get(d.url(path)).header("If-None-Match", tag).send().await.expect("an answer");
            assert_eq!(again.status(), 304, "{path}");
        }
        let refused = client.get(d.url("/docs/other")).send().await.expect("an answer");
        assert_eq!(refused.status(), 404);
    }
}
