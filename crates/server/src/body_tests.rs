use super::*;
use treehold_engine::api::{ActionsRequest, CommitRequest, ProjectSpec, ReadRequest, SyncRequest};

const PATHS: Expect = Expect { bytes: 1 << 20, optional: false, list: Some(("paths", 2)) };

fn code<T: DeserializeOwned + JsonSchema>(text: &str, expect: Expect) -> (u16, &'static str) {
    match parse::<T>(text.as_bytes(), expect) {
        Ok(_) => (200, ""),
        Err(problem) => (problem.status().as_u16(), problem.code()),
    }
}

#[test]
fn broken_json_is_400_whatever_its_shape() {
    for bad in [
        "",
        " ",
        "{",
        "[1,",
        "nul",
        "{\"a\" 1}",
        "{} {}",
        "{}x",
        "{\"name\": 1, }",
        "[] x",
        "\"",
        "{\"name\":\"\\u12\"}",
        "{\"name\":\"\\ud800\"}",
    ] {
        assert_eq!(code::<ProjectSpec>(bad, Expect::SMALL), (400, "bad_json"), "{bad}");
    }
    assert_eq!(parse::<ProjectSpec>(b"{\"name\":\"\xff\"}", Expect::SMALL).unwrap_err().code(), "bad_json");
}

#[test]
fn json_of_another_shape_is_422() {
    for wrong in
        ["[]", "null", "1", "\"x\"", "true", "{\"name\": 1}", "{\"nmae\": \"x\"}", "{\"name\":\"a\",\"name\":\"b\"}"]
    {
        assert_eq!(code::<ProjectSpec>(wrong, Expect::SMALL), (422, "bad_shape"), "{wrong}");
    }
    assert_eq!(code::<SyncRequest>("[]", Expect::SMALL), (422, "bad_shape"));
    assert_eq!(code::<CommitRequest>("{\"user\":\"me\"}", Expect::SMALL), (422, "bad_shape"));
}

#[test]
fn what_no_shape_can_hold_is_422_if_it_is_json() {
    let deep = format!(r#"{{"paths":[{}{}]}}"#, "[".repeat(200), "]".repeat(200));
    for (text, at) in [
        (r#"{"paths":["a"],"max_bytes":1e999}"#, "max_bytes"),
        (r#"{"paths":[{"path":"a","start_line":-1e999}]}"#, "paths[0]"),
        (r#"{"paths":1e999}"#, "paths"),
        (deep.as_str(), "paths[0]"),
    ] {
        let problem = parse::<ReadRequest>(text.as_bytes(), PATHS).unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (422, "bad_shape"), "{text}");
        assert!(problem.body()["at"].as_str().is_some_and(|told| told.starts_with(at)), "{:?}", problem.body());
    }
    for broken in [
        r#"{"paths":["a"],"max_bytes":1e999"#,
        r#"{"paths":1e999"#,
        &deep[..deep.len() - 1],
        r#"{"paths":["a"],"max_bytes":1e}"#,
    ] {
        assert_eq!(code::<ReadRequest>(broken, PATHS), (400, "bad_json"), "{broken}");
    }
}

#[test]
fn a_shape_problem_says_where() {
    let text = r#"{"message":"m","author":{"name":"n","email":"e"},"actions":[{"action":"create","path":"a"},{"action":"paint","path":"b"}]}"#;
    let problem = parse::<ActionsRequest>(text.as_bytes(), Expect::SMALL).unwrap_err();
    assert_eq!(problem.body()["at"], "actions[1].action");
}

#[test]
fn what_is_missing_is_named_with_its_shape() {
    let user = r#""user":"11111111-2222-4333-8444-555555555555""#;
    let author = r#""author":{"name":"n","email":"e"}"#;
    for (text, at, told) in [
        (format!(r#"{{{user},"message":"m"}}"#), "author", "it is missing; give an object with `name` and `email`"),
        (format!(r#"{{{user},{author}}}"#), "message", "it is missing; give a string"),
        (format!(r#"{{{user},"message":"m","author":{{"name":"n"}}}}"#), "author.email", "it is missing"),
        (format!(r#"{{"message":"m",{author}}}"#), "user", "it is missing; give a string"),
    ] {
        let problem = parse::<CommitRequest>(text.as_bytes(), Expect::SMALL).unwrap_err().body();
        assert_eq!(problem["at"], at, "{text}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.ends_with(&format!("at `{at}`: {told}")), "{detail}");
    }
    let problem =
        parse::<ActionsRequest>(format!(r#"{{"message":"m",{author}}}"#).as_bytes(), Expect::SMALL).unwrap_err();
    assert_eq!(problem.body()["at"], "actions");
    assert!(problem.body()["detail"].as_str().is_some_and(|detail| detail.ends_with("give a list")));
}

#[test]
fn shapes_are_read() {
    assert_eq!(code::<ProjectSpec>(" {} ", Expect::SMALL), (200, ""));
    assert_eq!(code::<ReadRequest>(r#"{"paths":["a",{"path":"b","start_line":1}]}"#, PATHS), (200, ""));
}

#[test]
fn lists_are_counted_before_they_are_built() {
    assert_eq!(code::<ReadRequest>(r#"{"paths":["a","b","c"]}"#, PATHS), (413, "too_large"));
    assert_eq!(code::<ReadRequest>(r#"{"paths":["a","b","c"],"paths":[]}"#, PATHS), (413, "too_large"));
    assert_eq!(code::<ReadRequest>(r#"{"p\u0061ths":["a","b","c"]}"#, PATHS), (413, "too_large"));
    let problem = parse::<ReadRequest>(br#"{"paths":[1,2,3]}"#, PATHS).unwrap_err();
    assert_eq!((&problem.body()["limit"], &problem.body()["unit"]), (&2.into(), &"paths".into()));
    for other in ["1", "-1", "1.5", "\"x\"", "null", "true", "{\"a\":[1,2,3]}"] {
        assert_eq!(code::<ReadRequest>(&format!("{{\"paths\":{other}}}"), PATHS), (422, "bad_shape"), "{other}");
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = format!("{{\"paths\":{}", "[".repeat(100_000));
    assert_eq!(code::<ReadRequest>(&deep, PATHS), (400, "bad_json"));
}
