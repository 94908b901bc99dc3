use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::problems;
use crate::app::ServerConfig;

/// Answers of an operator's verbs and of the command line, which no route gives.
const NOT_HERE: [&str; 19] = [
    "bad_scopes",
    "bad_manifest",
    "bad_op",
    "bad_diff",
    "ambiguous_match",
    "no_match",
    "patch_failed",
    "empty_history",
    "foreign_store",
    "gc_brake",
    "gc_running",
    "ledger_empty",
    "ledger_not_empty",
    "manifest_not_found",
    "not_our_ref",
    "rebuild_running",
    "rebuild_unfinished",
    "taken_over",
    "token_not_found",
];

fn document() -> Value {
    crate::router::document(&ServerConfig::default())
}

/// `(METHOD, path, operation)`
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &'_ Value)| {
        (path.clone(), item.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
    };
    let named = paths.iter().flat_map(|item| {
        let (path, methods) = of(item);
        methods.into_iter().map(move |method| (method, path.clone()))
    });
    named.map(|(method, path)| (method.to_uppercase(), path.clone(), &document["paths"][&path][&method])).collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every `"lower_case"` in a source that stands where refusals have their code.
fn codes(source: &str) -> BTreeSet<String> {
    let before = [
        "unprocessable(",
        "not_found(",
        "bad_request(",
        "bad_parameter(",
        "refused(",
        "Refused::new(",
        "EditError::new(",
        "code: ",
        "conflict(",
        "let code = ",
    ];
    let mut found = BTreeSet::new();
    for (at, _) in source.match_indices('"') {
        let lead = source[..at].trim_end();
        let code = source[at + 1..].split('"').next().unwrap_or("");
        let plain = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let status = lead.strip_suffix(',').is_some_and(|lead| {
            let name = lead.rsplit("StatusCode::").next().unwrap_or("");
            !matches!(name, "OK" | "ACCEPTED") && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        });
        if plain && (status || before.iter().any(|before| lead.ends_with(before.trim_end()))) {
            found.insert(code.to_owned());
        }
    }
    found
}

/// Goal: no refusal is left out, and none is made up. Method: the codes that stand in the sources, against the table; the table, against
/// what the routes say.
#[test]
fn every_code_is_described_and_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for part in ["server/src", "engine/src", "github/src"] {
        sources(&root.join(part), &mut files);
    }
    let known: BTreeSet<&str> = problems::all().map(|(_, code)| code).collect();
    let mut seen = BTreeSet::new();
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("test")) {
        let source = std::fs::read_to_string(file).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for code in codes(source) {
            let told = known.contains(code.as_str()) || NOT_HERE.contains(&code.as_str());
            assert!(
                told,
                "{} refuses with {code:?}: add it to openapi/problems.rs and to the routes that do",
                file.display()
            );
            seen.insert(code);
        }
    }
    for code in NOT_HERE {
        assert!(seen.contains(code), "nothing refuses with {code:?} any more: take it out of NOT_HERE");
    }
    assert!(seen.len() > 60, "the sources were not read: {seen:?}");
    let document = document();
    let mut used = BTreeSet::new();
    for (_, _, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let place = response["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
            let response = place.map_or(response, |place| document.pointer(place).unwrap());
            let told = response["description"]
                .as_str()
                .unwrap()
                .split("\n\n")
                .filter_map(|line| line.strip_prefix('`')?.split('`').next());
            used.extend(told.map(|code| (status.parse::<u16>().unwrap(), code)));
        }
    }
    // Not an operation's: the table has it for those who read about it in `info`.
    used.insert((405, "method_not_allowed"));
    for problem in problems::all() {
        assert!(
            used.contains(&problem),
            "no route refuses with {problem:?}: take it out of openapi/problems.rs, or say which does"
        );
    }
    assert!(problems::all().is_sorted(), "openapi/problems.rs is in order of status and code");
}

#[test]
fn operations_are_told_apart_and_explained() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{method} {path}: another operation is called {id}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} has no summary");
        let mut names = BTreeSet::new();
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(
                parameter["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{method} {path}: {parameter}"
            );
            assert!(
                names.insert((parameter["name"].to_string(), parameter["in"].to_string())),
                "{method} {path}: twice {parameter}"
            );
        }
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path} never succeeds");
    }
}

/// Goal: every field of a body or answer says what it is.
#[test]
fn every_field_is_explained() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        let fields = schema["properties"].as_object();
        for (field, shape) in fields.into_iter().flatten() {
            let told = shape["description"].is_string() || shape["const"].is_string() || shape["$ref"].is_string();
            assert!(told, "{name}.{field} has no description: give it a docstring");
        }
    }
    let apart: Vec<&String> = schemas.keys().filter(|name| name.ends_with("Asked")).collect();
    assert_eq!(apart, ["ModeAsked"], "shapes that are read and written differently: is it meant to be so?");
}

/// Goal: what a handler's docstring says of its route is what the document says: `METHOD /path?query`.
#[test]
fn docstrings_of_handlers_name_their_routes() {
    let handlers = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/handlers");
    let mut files = Vec::new();
    sources(&handlers, &mut files);
    let document = document();
    let told: BTreeMap<(String, String), &Value> =
        operations(&document).into_iter().map(|(method, path, operation)| ((method, path), operation)).collect();
    let mut seen = 0;
    for line in files
        .iter()
        .flat_map(|file| std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let Some((methods, rest)) =
            line.strip_prefix("/// `").and_then(|line| line.split('`').next()?.split_once(" /"))
        else {
            continue;
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = format!("/{}", path.replace("{*", "{"));
        for method in methods.split(", ") {
            let operation = told.get(&(method.to_owned(), path.clone()));
            let operation = operation.unwrap_or_else(|| panic!("{line:?} is no route: compare router.rs"));
            let known = |name: &str| {
                operation["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == name)
            };
            for name in query.split('&').filter(|name| !name.is_empty()) {
                assert!(known(name), "{line:?}: openapi/routes says nothing about {name}");
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} docstrings were read");
}

#[test]
fn limits_are_those_of_the_running_server() {
    let mut config = ServerConfig::default();
    config.limits.file_bytes = 12_345;
    let document = crate::router::document(&config);
    assert_eq!(document["x-treehold-limits"]["file_bytes"]["value"], 12_345);
    assert_eq!(document["paths"]["/files/{project}/{path}"]["put"]["x-treehold-limits"]["file_bytes"]["value"], 12_345);
}

/// The routes of `docs/api.md`, with the names of their query parameters.
fn routes_of_the_page() -> BTreeMap<(String, String), BTreeSet<String>> {
    let page = include_str!("../../../../docs/api.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.filter_map(|(route, rest)| Some((route.rsplit_once(' ')?, rest.split_once(" |")?.0)));
    let routes = rows.flat_map(|((methods, path), query)| {
        let query: BTreeSet<_> = query.split('`').filter(|name| !name.trim().is_empty()).map(str::to_owned).collect();
        methods.split(", ").map(move |method| ((method.to_owned(), path.to_owned()), query.clone()))
    });
    routes.collect()
}

/// Goal: the page that lists the routes lists them all, with all query parameters, and no others.
#[test]
fn the_page_of_routes_agrees() {
    let document = document();
    let shared = |parameter: &Value| match parameter["$ref"].as_str() {
        Some(pointer) => document.pointer(&pointer[1..]).expect("a parameter").clone(),
        None => parameter.clone(),
    };
    let served: BTreeMap<_, _> = operations(&document)
        .into_iter()
        .map(|(method, path, operation)| {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let query = parameters.iter().map(shared).filter(|parameter| parameter["in"] == "query");
            ((method, path), query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect())
        })
        .collect();
    assert_eq!(routes_of_the_page(), served);
}
