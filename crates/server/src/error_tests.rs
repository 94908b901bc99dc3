use super::*;
use treehold_engine::api::{Conflict, Path};
use treehold_object::ObjectId;
use uuid::Uuid;

fn oid() -> ObjectId {
    ObjectId::from_hex(b"1111111111111111111111111111111111111111").unwrap()
}

fn boxed(text: &str) -> Box<dyn Error + Send + Sync> {
    text.into()
}

/// One error of every kind, with the status and code that the contract names.
fn all() -> Vec<(EngineError, u16, &'static str)> {
    let remote = |code, retry_after_s| EngineError::RemoteFailed { code, detail: "d".into(), retry_after_s };
    let conflict = Conflict { path: Path("a".into()), base: None, ours: Some(Oid(oid())), theirs: None };
    vec![
        (EngineError::BadRequest("b".into()), 400, "bad_request"),
        (EngineError::unprocessable("bad_path", "d"), 422, "bad_path"),
        (EngineError::not_found("file_not_found", "d"), 404, "file_not_found"),
        (EngineError::RemoteNotAllowed("d".into()), 403, "remote_not_allowed"),
        (EngineError::Conflict { code: "head_moved", detail: "d".into() }, 409, "head_moved"),
        (EngineError::RefMoved { name: "refs/heads/a".into(), oid: None }, 409, "ref_moved"),
        (EngineError::MergeConflict(vec![conflict]), 409, "conflict"),
        (EngineError::Precondition { oid: Some(Oid(oid())), revision: Some(7) }, 412, "precondition_failed"),
        (EngineError::TooLarge { what: "the file", limit: 9, unit: "bytes" }, 413, "too_large"),
        (
            EngineError::PushRejected { attempt: Some(Uuid::nil()), commit: Some(oid()), message: "no".into() },
            422,
            "push_rejected",
        ),
        (EngineError::RemoteAuth { attempt: None, commit: None }, 502, "remote_auth"),
        (
            EngineError::PushUnknown { attempt: Uuid::nil(), commit: oid(), state: "unknown".into() },
            504,
            "push_unknown",
        ),
        (remote("remote_failed", None), 502, "remote_failed"),
        (remote("remote_invalid", Some(3)), 502, "remote_invalid"),
        (remote("remote_timeout", None), 504, "remote_timeout"),
        (remote("remote_rate_limited", None), 429, "remote_rate_limited"),
        (EngineError::Unavailable { what: "the database", source: boxed("secret cause") }, 503, "unavailable"),
        (EngineError::Busy, 503, "busy"),
        (EngineError::Internal(boxed("secret cause")), 500, "internal"),
    ]
}

#[test]
fn every_error_has_its_status_and_code() {
    for (error, status, code) in all() {
        let problem = Problem::from(error);
        let body = problem.body();
        assert_eq!((problem.status().as_u16(), problem.code()), (status, code));
        assert_eq!((&body["status"], &body["code"]), (&status.into(), &code.into()));
        assert_eq!(body["type"], "about:blank");
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert!(!body.to_string().contains("secret cause"), "{code}");
    }
}

#[test]
fn who_can_come_back_is_told_when() {
    for (error, status, code) in all() {
        let response = Problem::from(error).into_response();
        let told = response.headers().contains_key(header::RETRY_AFTER);
        assert_eq!(told, [429, 503].contains(&status) || code == "remote_invalid", "{code}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

#[test]
fn details_carry_what_callers_act_on() {
    let hex = oid().to_string();
    let body = |code: &str| {
        let (error, ..) = all().into_iter().find(|(_, _, other)| *other == code).unwrap();
        Problem::from(error).body()
    };
    let precondition = body("precondition_failed");
    assert_eq!((&precondition["oid"], &precondition["revision"]), (&hex.clone().into(), &7.into()));
    assert_eq!(body("conflict")["conflicts"][0]["path"], "a");
    assert_eq!(body("conflict")["conflicts"][0]["ours"], hex);
    assert_eq!(body("too_large")["limit"], 9);
    let unknown = body("push_unknown");
    assert_eq!((&unknown["attempt"], &unknown["commit"]), (&Uuid::nil().to_string().into(), &hex.clone().into()));
    assert_eq!(unknown["state"], "unknown");
    assert_eq!(body("push_rejected")["message"], "no");
    assert_eq!(body("push_rejected")["commit"], hex);
    assert!(body("remote_auth").get("attempt").is_none());
    let gone = Problem::from(EngineError::Precondition { oid: None, revision: None }).body();
    assert!(gone["oid"].is_null() && gone.get("oid").is_some() && gone.get("revision").is_none());
}

#[test]
fn details_cannot_replace_the_standard_members() {
    let body = Problem::bad_request("bad_request", "d").with("status", 200).with("code", "x").body();
    assert_eq!((&body["status"], &body["code"]), (&400.into(), &"bad_request".into()));
}

#[test]
fn causes_are_for_the_log_and_cannot_forge_lines() {
    let problem = Problem::from(EngineError::Internal(boxed("disk\nfull\u{1b}[31m")));
    assert_eq!(problem.logged().cause.as_deref(), Some("disk\\nfull\\u{1b}[31m"));
    let response = problem.into_response();
    assert!(response.extensions().get::<Logged>().is_some_and(|logged| logged.code == "internal"));
}
