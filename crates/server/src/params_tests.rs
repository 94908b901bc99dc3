use super::*;

fn capture(template: &str, path: &str, name: &str) -> Vec<u8> {
    Params::of(captures(template, path).unwrap()).bytes(name).to_vec()
}

const FILE: &str = "/files/{project}/{*path}";

#[test]
fn segments_are_decoded_exactly_once() {
    assert_eq!(capture(FILE, "/files/p/a%2520b", "path"), b"a%20b");
    assert_eq!(capture(FILE, "/files/p/a%2Fb", "path"), b"a/b");
    assert_eq!(capture(FILE, "/files/p/a%2fb/c", "path"), b"a/b/c");
    assert_eq!(capture(FILE, "/files/a%2Fb/c", "project"), b"a/b");
    assert_eq!(capture(FILE, "/files/a%2Fb/c", "path"), b"c");
}

#[test]
fn nothing_is_normalised() {
    for path in ["..", "../x", "./x", "a//b", "/etc/passwd", "a/", "a/../b", "a+b", "%", "."] {
        let raw = path.replace('%', "%25");
        assert_eq!(capture(FILE, &format!("/files/p/{raw}"), "path"), path.as_bytes(), "{path}");
    }
    assert_eq!(capture(FILE, "/files/p/%2e%2e/x", "path"), b"../x");
}

#[test]
fn bytes_stay_bytes() {
    assert_eq!(capture(FILE, "/files/p/%FF%00%0a", "path"), b"\xff\0\n");
    assert_eq!(capture(FILE, "/files/p/\u{e9}", "path"), "\u{e9}".as_bytes());
    assert!(Params::of(captures(FILE, "/files/%FF/x").unwrap()).text("project").is_err());
}

#[test]
fn every_byte_survives() {
    for byte in 0..=255_u8 {
        assert_eq!(capture(FILE, &format!("/files/p/x%{byte:02x}"), "path"), [b'x', byte]);
        assert_eq!(capture(FILE, &format!("/files/p/x%{byte:02X}"), "path"), [b'x', byte]);
    }
}

#[test]
fn a_percent_sign_needs_two_hex_digits() {
    for path in ["%", "%2", "%g0", "%0g", "a%", "%%20", "% 20", "%+1", "%-1"] {
        let problem = captures(FILE, &format!("/files/p/{path}")).unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (400, "bad_encoding"), "{path}");
    }
}

#[test]
fn a_missing_tail_is_empty() {
    assert_eq!(capture("/files/{project}/", "/files/p/", "path"), b"");
    assert_eq!(capture("/files/{project}/", "/files/p/", "project"), b"p");
}

#[test]
fn captures_amid_literals() {
    let template = "/projects/{project}/git/blobs/{oid}";
    assert_eq!(capture(template, "/projects/a%20b/git/blobs/00", "project"), b"a b");
    assert_eq!(capture(template, "/projects/a%20b/git/blobs/00", "oid"), b"00");
}

fn query(text: &str) -> Query {
    Query::parse_text(text).unwrap()
}

#[test]
fn queries_decode_plus_and_percent_once() {
    assert_eq!(query("ref=a+b%2Bc%2520").text("ref").unwrap(), Some("a b+c%20"));
    assert_eq!(query("ref").text("ref").unwrap(), Some(""));
    assert_eq!(query("&&x=1&").text("x").unwrap(), Some("1"));
    assert_eq!(query("ref=a=b").text("ref").unwrap(), Some("a=b"));
    for bad in ["ref=%", "%zz=1", "ref=%FF"] {
        assert_eq!(Query::parse_text(bad).unwrap_err().code(), "bad_encoding", "{bad}");
    }
}

#[test]
fn only_what_a_route_knows_is_taken() {
    assert!(query("").only(&[]).is_ok());
    assert!(query("&ref=a&user=b&").only(&["user", "ref"]).is_ok());
    for (text, name, told) in [
        (
            "ref=a&brnach=b",
            "brnach",
            "`brnach` is no query parameter of this route; those that it takes: `ref`, `user`",
        ),
        ("REF=a", "REF", "`REF` is no query parameter of this route; those that it takes: `ref`, `user`"),
        ("=a", "", "`` is no query parameter of this route; those that it takes: `ref`, `user`"),
        ("ref=a&re%66=b", "ref", "`ref` was given more than once"),
    ] {
        let problem = query(text).only(&["ref", "user"]).unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (400, "bad_parameter"), "{text}");
        let body = problem.body();
        assert_eq!((&body["parameter"], &body["detail"]), (&name.into(), &told.into()), "{text}");
    }
    let long = query(&"x".repeat(10_000)).only(&[]).unwrap_err().body();
    assert_eq!(long["parameter"].as_str().map(str::len), Some(100));
    assert!(long["detail"].as_str().is_some_and(|detail| detail.ends_with("those that it takes: none")), "{long}");
}

#[test]
fn a_known_parameter_may_be_given_once() {
    let problem = query("ref=a&ref=a").at().unwrap_err();
    assert_eq!(problem.code(), "bad_parameter");
    assert_eq!(problem.body()["parameter"], "ref");
    assert!(query("other=a&other=b&ref=x").at().is_ok());
}

#[test]
fn wrong_values_name_their_parameter() {
    let problem = query("user=nobody").at().unwrap_err();
    assert_eq!((problem.status().as_u16(), problem.code()), (400, "bad_uuid"));
    assert_eq!(problem.body()["parameter"], "user");
    let problem = query("mode=644").parse::<treehold_engine::api::Mode>("mode").unwrap_err();
    assert_eq!((problem.code(), &problem.body()["parameter"]), ("bad_parameter", &"mode".into()));
    let problem = query("base=123").oid("base").unwrap_err();
    assert_eq!(problem.code(), "bad_oid");
    assert_eq!(query("").required_uuid("user").unwrap_err().code(), "bad_parameter");
}

#[test]
fn limits_are_numbers_of_any_size() {
    assert_eq!(query("limit=0").limit().unwrap(), Some(0));
    assert_eq!(query("limit=99999999999999999999999").limit().unwrap(), Some(usize::MAX));
    assert_eq!(query("limit=-1").limit().unwrap(), Some(0));
    assert_eq!(query("limit=-99999999999999999999999").limit().unwrap(), Some(0));
    for bad in ["limit=", "limit=-", "limit=--1", "limit=-1.5", "limit=1.5", "limit=x", "limit=%2B1"] {
        assert_eq!(query(bad).limit().unwrap_err().code(), "bad_parameter", "{bad}");
    }
}
