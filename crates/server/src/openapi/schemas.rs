//! The shapes of bodies and answers, derived from the types that are read and written.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Where the document keeps them.
const PLACE: &str = "#/components/schemas/";
/// Behind the name of a type that is read in another shape than it is written in (defaults, unknown fields).
const ASKED: &str = "Asked";

/// Collects the shapes of all operations, and the refusals that many of them share.
pub(super) struct Schemas {
    asked: SchemaGenerator,
    answered: SchemaGenerator,
    refusals: Map<String, Value>,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            settings
        };
        let asked = settings().for_deserialize().into_generator();
        Self { asked, answered: settings().for_serialize().into_generator(), refusals: Map::new() }
    }

    /// A reference to the shape that is read. It is marked, as it may have to get a name of its own.
    pub(super) fn add_asked<T: JsonSchema>(&mut self) -> Value {
        let mut schema = self.asked.subschema_for::<T>().to_value();
        mark(&mut schema, &|_| true);
        schema
    }

    /// A reference to the shape that is written.
    pub(super) fn add_answered<T: JsonSchema>(&mut self) -> Value {
        self.answered.subschema_for::<T>().to_value()
    }

    /// A reference to a refusal of this name, which is always the same.
    pub(super) fn add_refusal(&mut self, name: String, refusal: impl FnOnce() -> Value) -> Value {
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        self.refusals.entry(name).or_insert_with(refusal);
        reference
    }

    /// What a reference to a shared refusal refers to; `None`: it is none.
    pub(super) fn refusal(&self, reference: &Value) -> Option<&Value> {
        self.refusals.get(reference["$ref"].as_str()?.rsplit('/').next()?)
    }

    /// The shared refusals by name.
    pub(super) fn refusals(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.refusals)
    }

    /// All shapes by name. Where a type is read and written in two shapes, what is read is called `…Asked`.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut answered = self.answered.take_definitions(true);
        let mut asked = self.asked.take_definitions(true);
        for schema in asked.values_mut() {
            mark(schema, &|_| true);
        }
        for (name, schema) in asked {
            answered.insert(format!("{name}{ASKED}"), schema);
        }
        answered
    }
}

/// Renames the marked shapes that are the same on both sides back, here and wherever the document refers to them.
pub(super) fn join(document: &mut Value) {
    let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") else { return };
    let plain = |name: &str| name.strip_suffix(ASKED).map(str::to_owned);
    // Those that nothing else is written as, or that are written in another shape, keep apart; so do those that refer to them.
    let mut apart: BTreeSet<String> = BTreeSet::new();
    loop {
        let differs = |name: &String, schema: &Value| {
            let mut schema = schema.clone();
            unmark(&mut schema, &|name| !apart.contains(name));
            plain(name).is_some_and(|plain| schemas.get(&plain).is_some_and(|written| *written != schema))
        };
        let more: Vec<String> = schemas
            .iter()
            .filter(|(name, _)| !apart.contains(*name))
            .filter(|(n, s)| differs(n, s))
            .map(|(n, _)| n.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        apart.extend(more);
    }
    let joined = std::mem::take(schemas).into_iter().map(|(name, schema)| match plain(&name) {
        Some(plain) if !apart.contains(&name) => (plain, schema),
        _ => (name, schema),
    });
    *schemas = joined.collect();
    unmark(document, &|name| !apart.contains(name));
}

fn mark(schema: &mut Value, which: &dyn Fn(&str) -> bool) {
    references(schema, &|name| which(name).then(|| format!("{name}{ASKED}")));
}

fn unmark(schema: &mut Value, which: &dyn Fn(&str) -> bool) {
    references(schema, &|name| name.strip_suffix(ASKED).filter(|_| which(name)).map(str::to_owned));
}

/// Renames what is referred to.
fn references(value: &mut Value, renamed: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "$ref" => {
                        if let Some(name) = text.strip_prefix(PLACE).and_then(renamed) {
                            *text = format!("{PLACE}{name}");
                        }
                    }
                    value => references(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| references(item, renamed)),
        _ => {}
    }
}
