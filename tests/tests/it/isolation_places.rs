//! Every place of `/openapi.json`, and of the schemas of agents' tools, where a request may name an object of another project, found in the
//! document itself: a new parameter or field is probed without being added to any list. What becomes of an answer later, and what a cursor
//! of another project shows, is asked in [`crate::isolation`].

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both;
use crate::deployment::{Deployment, Reply, json_body};
use crate::isolation::{foreign, nobodys, own_project};

/// Where in a request a text stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    /// `path`, `query` or `header`, and the name.
    Parameter(String, String),
    /// From the root of the body; `[]` is each item of an array.
    Field(Vec<String>),
}

/// A text that a request may have.
#[derive(Debug, Clone)]
struct Place {
    spot: Spot,
    /// It is described as an oid, and as nothing else: with one the request is well formed.
    is_oid: bool,
    /// It may be one: all kinds of objects are tried.
    may_be_oid: bool,
}

/// An operation that concerns one project.
struct Operation<'a> {
    method: String,
    template: &'a str,
    told: &'a Value,
    places: Vec<Place>,
}

/// A project of one file with all that paths can name, equal to every other one made so.
struct World {
    project: Uuid,
    user: Uuid,
    head: String,
    version: String,
    checkpoint: String,
}

impl World {
    async fn new(d: &Deployment) -> World {
        let (project, user) = (own_project(d).await, Uuid::new_v4());
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let head = text(&d.get(&format!("/projects/{project}")).await.ok(200)["head"]);
        let branch = json!({"oid": head, "ephemeral": true});
        d.put_json(&format!("/projects/{project}/refs/heads/other"), branch).await.ok(201);
        d.put(&format!("/pending/{project}/{user}/own.txt"), "mine\n").await.ok(201);
        let checkpoint = json!({"user": user, "name": "before"});
        let checkpoint = text(&d.post(&format!("/projects/{project}/checkpoints"), checkpoint).await.ok(201)["id"]);
        let history = d.get(&format!("/projects/{project}/history?user={user}")).await.ok(200);
        World { project, user, head, version: text(&history["versions"][0]["id"]), checkpoint }
    }

    /// What stands at a capture of the path.
    fn captured(&self, template: &str, name: &str) -> String {
        match name {
            "project" => self.project.to_string(),
            "user" => self.user.to_string(),
            "path" => "own.txt".into(),
            "name" => "heads/main".into(),
            "oid" => self.head.clone(),
            "id" if template.contains("/checkpoints/") => self.checkpoint.clone(),
            "id" => self.version.clone(),
            _ => "1".into(),
        }
    }

    /// A body that is taken; the document's own example where it does not speak of files.
    fn body(&self, operation: &Operation<'_>, example: &Value) -> Value {
        let (user, author) = (self.user, json!({"name": "B", "email": "b@example.org"}));
        match (operation.method.as_str(), operation.template) {
            ("POST", "/pending/{project}/{user}") => {
                json!({"ops": [{"op": "put", "path": "own.txt", "content": "x\n"}]})
            }
            ("PUT", "/projects/{project}") => json!({}),
            ("POST", "/projects/{project}/checkpoints") => json!({"user": user, "name": "c"}),
            ("POST", "/projects/{project}/commit") => json!({"user": user, "message": "m", "author": author}),
            ("POST", "/projects/{project}/commits") => json!({
                "message": "m", "author": author, "actions": [{"action": "update", "path": "own.txt", "content": "x\n"}],
            }),
            ("POST", "/projects/{project}/fork") => json!({"name": format!("z{}", self.project)}),
            ("POST", "/projects/{project}/promote") => json!({"branch": "other", "into": "main"}),
            ("POST", "/projects/{project}/read") => json!({"paths": ["own.txt"]}),
            ("PUT", "/projects/{project}/refs/{name}") => json!({"oid": self.head}),
            ("POST", "/projects/{project}/resolve") => json!({
                "user": user, "files": [{"path": "own.txt", "take": "text", "content": "x\n"}],
            }),
            ("POST", "/projects/{project}/search") => json!({"query": "secret"}),
            _ => example.clone(),
        }
    }

    /// The request that has `oid` at `spot`, and else what it needs.
    fn ask(&self, d: &Deployment, operation: &Operation<'_>, spot: &Spot, oid: &str) -> reqwest::RequestBuilder {
        let (mut path, mut query) = (operation.template.to_owned(), Vec::new());
        for parameter in operation.told["parameters"].as_array().into_iter().flatten() {
            let (place, name) = (parameter["in"].as_str().expect("in"), parameter["name"].as_str().expect("a name"));
            let is_probed = *spot == Spot::Parameter(place.to_owned(), name.to_owned());
            let value = if is_probed { oid.to_owned() } else { self.captured(operation.template, name) };
            match place {
                "path" => path = path.replace(&format!("{{{name}}}"), &value),
                "query" if is_probed || parameter["required"] == true => query.push(format!("{name}={value}")),
                _ => {}
            }
        }
        let mut request = d.request(&operation.method, &format!("{path}?{}", query.join("&")));
        if let Spot::Parameter(place, name) = spot
            && place == "header"
        {
            let value = if name.starts_with("If-") { format!("\"{oid}\"") } else { oid.to_owned() };
            request = request.header(name, value);
        }
        let content = &operation.told["requestBody"]["content"];
        match content.get("application/json") {
            Some(described) => {
                let mut body = self.body(operation, &described["example"]);
                if let Spot::Field(steps) = spot {
                    set(&mut body, steps, oid);
                }
                json_body(request, &body)
            }
            None if content.is_object() => request.body("x\n"),
            None => request,
        }
    }

    /// A message to the door of agents, about this project and user.
    async fn agent(&self, d: &Deployment, method: &str, parameters: Value) -> Reply {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
        let request =
            json_body(d.request("POST", "/mcp"), &message).header("Accept", "application/json, text/event-stream");
        let request = request.header("Treehold-Project", self.project.to_string());
        d.send(request.header("Treehold-User", self.user.to_string())).await
    }

    /// Everything that an answer says, without what is another project's by nature: ids, times, oids that depend on times.
    fn told(&self, reply: &Reply, oid: &str) -> (u16, Vec<(String, String)>, Value) {
        let plain = |text: &str| {
            let text = text.replace(oid, "OID").replace(&self.project.to_string(), "PROJECT");
            let text = text.replace(&self.user.to_string(), "USER");
            let is_word = |word: &str| !is_oid(word) && Uuid::parse_str(word).is_err();
            let ends = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '-');
            text.split(ends).map(|word| if is_word(word) { word } else { "ID" }).collect::<Vec<_>>().join(" ")
        };
        let kind = reply.header("content-type");
        let body = match serde_json::from_slice::<Value>(&reply.body) {
            Ok(body) => blotted(body, &plain),
            Err(_) if kind.starts_with("text/") || kind.contains("json") => plain(&reply.text()).into(),
            // Compressed, with the project's name in it.
            Err(_) => Value::Null,
        };
        let is_told = |name: &str| !["date", "x-request-id", "content-length", "etag"].contains(&name);
        let headers = reply.headers.iter().filter(|(name, _)| is_told(name.as_str()));
        let mut headers: Vec<(String, String)> = headers
            .map(|(name, value)| (name.to_string(), plain(&String::from_utf8_lossy(value.as_bytes()))))
            .collect();
        headers.sort();
        (reply.status, headers, body)
    }
}

/// What a tool cannot do without.
fn arguments(tool: &str) -> Value {
    match tool {
        "read_multiple_files" => json!({"paths": ["own.txt"]}),
        "search" => json!({"query": "secret"}),
        "edit" => json!({"path": "own.txt", "old_string": "mine\n", "new_string": "x\n"}),
        "write_file" => json!({"path": "own.txt", "content": "x\n"}),
        "delete_file" | "discard" => json!({"path": "own.txt"}),
        "move_file" => json!({"from": "own.txt", "path": "moved.txt"}),
        "resolve" => json!({"files": [{"path": "own.txt", "take": "text", "content": "x\n"}]}),
        "commit" => json!({"message": "m"}),
        _ => json!({}),
    }
}

fn is_oid(word: &str) -> bool {
    word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The value without times, ids and cursors; other texts as `plain` makes them.
fn blotted(value: Value, plain: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => "TIME".into(),
        Value::String(text) => plain(&text).into(),
        Value::Array(items) => items.into_iter().map(|item| blotted(item, plain)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let is_ours = value.is_string() && (name == "id" || name.ends_with("cursor"));
                let value = if is_ours { "ID".into() } else { blotted(value, plain) };
                (name, value)
            })
            .collect(),
        other => other,
    }
}

/// Puts the oid into the body. What is not there on the way is made.
fn set(body: &mut Value, steps: &[String], oid: &str) {
    match steps {
        [] => *body = oid.into(),
        [step, rest @ ..] if step == "[]" => {
            if body.as_array().is_none_or(Vec::is_empty) {
                *body = json!([null]);
            }
            for item in body.as_array_mut().into_iter().flatten() {
                set(item, rest, oid);
            }
        }
        [step, rest @ ..] => {
            if !body.is_object() {
                *body = json!({});
            }
            set(&mut body[step.as_str()], rest, oid);
        }
    }
}

/// Whether the schema is that of a text of the caller's choice; and if so, whether it must be an oid.
fn text_of(schema: &Value) -> Option<bool> {
    let is_text = match &schema["type"] {
        Value::Array(types) => types.iter().any(|kind| kind == "string"),
        kind => kind == "string",
    };
    let is_free = ["enum", "const", "format"].iter().all(|word| schema.get(word).is_none());
    let is_oid = schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("{40}"));
    (is_text && is_free).then_some(is_oid)
}

/// All fields below a schema that take a text.
fn fields(document: &Value, schema: &Value, steps: &[String], found: &mut Vec<Place>) {
    assert!(steps.len() < 8, "a shape without end: {steps:?}");
    if let Some(shape) = schema["$ref"].as_str() {
        let shape = shape.strip_prefix('#').and_then(|place| document.pointer(place));
        return fields(document, shape.expect("what is referred to"), steps, found);
    }
    if let Some(is_oid) = text_of(schema) {
        let spot = Spot::Field(steps.to_vec());
        if !found.iter().any(|place| place.spot == spot) {
            found.push(Place { spot, is_oid, may_be_oid: is_oid || speaks_of_oids(schema) });
        }
    }
    for choice in ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema[*word].as_array()).flatten() {
        fields(document, choice, steps, found);
    }
    let below = |step: &str| [steps, &[step.to_owned()]].concat();
    if schema["items"].is_object() {
        fields(document, &schema["items"], &below("[]"), found);
    }
    // A cursor is a place in a list: of two that are made up, one may stand before an entry and one behind it.
    let named = schema["properties"].as_object().into_iter().flatten();
    for (name, field) in named.filter(|(name, _)| name.as_str() != "cursor") {
        fields(document, field, &below(name), found);
    }
}

fn speaks_of_oids(told: &Value) -> bool {
    told["description"].as_str().is_some_and(|about| about.to_lowercase().contains("oid"))
}

/// The operations that concern a project, each with the texts that it takes; those first that must be oids.
fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        if !template.contains("{project}") {
            continue;
        }
        for (method, told) in item.as_object().expect("methods") {
            let mut places = Vec::new();
            for parameter in told["parameters"].as_array().into_iter().flatten() {
                let text = |field: &str| parameter[field].as_str().expect("a text").to_owned();
                let Some(is_oid) = text_of(&parameter["schema"]) else { continue };
                if !["project", "cursor"].contains(&text("name").as_str()) {
                    let spot = Spot::Parameter(text("in"), text("name"));
                    places.push(Place { spot, is_oid, may_be_oid: is_oid || speaks_of_oids(parameter) });
                }
            }
            let body = &told["requestBody"]["content"]["application/json"]["schema"];
            if body.is_object() {
                fields(document, body, &[], &mut places);
            }
            places.sort_by_key(|place| !place.is_oid);
            operations.push(Operation { method: method.to_uppercase(), template, told, places });
        }
    }
    operations
}

both! {
    /// Goal: a foreign oid answers as one that nobody has, wherever a request can carry it.
    async fn every_place(d) {
        let document = d.get("/openapi.json").await.ok(200);
        let a = foreign(&d).await;
        let victims = [&a.commit, &a.tree, &a.blobs[1]];
        let random = victims.map(|_| nobodys());
        // Reads change nothing and share their projects; each write has its own.
        let readers = [World::new(&d).await, World::new(&d).await];
        let (mut oids, mut texts) = (Vec::new(), 0);
        for operation in operations(&document) {
            let is_read = ["GET", "HEAD"].contains(&operation.method.as_str());
            let writers = if is_read || operation.places.is_empty() { None } else { Some([World::new(&d).await, World::new(&d).await]) };
            let [foreign_to, unknown_to] = writers.as_ref().unwrap_or(&readers);
            for place in &operation.places {
                let count = if place.may_be_oid { victims.len() } else { 1 };
                for (victim, random) in victims.into_iter().zip(&random).take(count) {
                    let foreign = d.send(foreign_to.ask(&d, &operation, &place.spot, victim)).await;
                    let unknown = d.send(unknown_to.ask(&d, &operation, &place.spot, random)).await;
                    let what = format!("{} {} with an oid at {:?}", operation.method, operation.template, place.spot);
                    assert!(foreign.status < 500, "{what}: {}", foreign.text());
                    assert!(!place.is_oid || foreign.status != 400, "{what} is no request: {}", foreign.text());
                    let (foreign, unknown) = (foreign_to.told(&foreign, victim), unknown_to.told(&unknown, random));
                    assert_eq!(foreign, unknown, "{what}: {victim} of another project, {random} of nobody");
                }
                texts += 1;
                if place.is_oid {
                    let Operation { method, template, .. } = &operation;
                    oids.push(format!("{method} {template} {:?}", place.spot));
                }
            }
        }
        println!("{texts} texts, of which must be oids: {oids:#?}");
        // That they are found at all: a capture, a parameter, a field, one of an item.
        for known in ["GET /projects/{project}/git/blobs/{oid}", "PUT /pending/{project}/{user}/{path}", "PUT /projects/{project}/refs/{name}", "POST /pending/{project}/{user} "] {
            assert!(oids.iter().any(|place| place.starts_with(known)), "{known} takes no oid: {oids:?}");
        }
        assert!(texts > 2 * oids.len(), "{texts} texts");
    }

    /// Goal: the same for the tools of agents. Method: each text that their schemas have.
    async fn every_argument(d) {
        let a = foreign(&d).await;
        let victims = [&a.commit, &a.tree, &a.blobs[1]];
        let random = victims.map(|_| nobodys());
        let listed = World::new(&d).await.agent(&d, "tools/list", json!({})).await.ok(200);
        let mut texts = 0;
        for tool in listed["result"]["tools"].as_array().expect("tools") {
            let (name, schema) = (tool["name"].as_str().expect("a name"), &tool["inputSchema"]);
            let mut places = Vec::new();
            fields(schema, schema, &[], &mut places);
            let worlds = [World::new(&d).await, World::new(&d).await];
            for place in &places {
                let Spot::Field(steps) = &place.spot else { panic!("{place:?}") };
                for (victim, random) in victims.into_iter().zip(&random) {
                    let mut told = Vec::new();
                    for (world, oid) in worlds.iter().zip([victim, random]) {
                        let mut arguments = arguments(name);
                        set(&mut arguments, steps, oid);
                        let call = json!({"name": name, "arguments": arguments});
                        let reply = world.agent(&d, "tools/call", call).await;
                        assert_eq!(reply.status, 200, "{name} {steps:?}: {}", reply.text());
                        told.push(world.told(&reply, oid));
                    }
                    assert_eq!(told[0], told[1], "{name} with an oid at {steps:?}: {victim} of another project, {random} of nobody");
                }
                texts += 1;
            }
        }
        assert!(texts > 30, "{texts} texts");
    }
}
