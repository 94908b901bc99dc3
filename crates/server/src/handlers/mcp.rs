//! The Model Context Protocol over HTTP (its transport "Streamable HTTP"), for one project and user a request.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use treehold_engine::EngineError;
use treehold_engine::api::Scope;
use treehold_mcp::{Access, Binding, MESSAGE_BYTES_MAX, Tools, agent_name, author};
use uuid::Uuid;

use crate::admission::{MCP_METHOD, listens};
use crate::app::App;
use crate::auth::Caller;
use crate::body::read;
use crate::context::holding;
use crate::error::Problem;
use crate::headers::{credentials, is_json, named, origin, plain_body};
use crate::mcp::{Kept, McpHost};
use crate::rates::{Limited, Payer};
use crate::respond::Answer;

/// What a client sends with every request after the first. Ours says the client's name: nothing is kept for it here, and so any
/// instance can answer.
const SESSION: &str = "mcp-session-id";
/// Headers that the protocol knows. No others go on to its library, which logs what it is given.
const PASSED: [&str; 5] = ["accept", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name"];
/// The largest message that subscribes, bytes: what it takes is held as long as its stream lasts.
const LISTEN_BYTES_MAX: usize = 256 << 10;
/// The code of an error where a header says something else than the message (the protocol's version 2026-07-28, SEP-2243).
const HEADER_MISMATCH: i32 = -32_020;
/// Memory for a byte of a message: as text, as JSON, and as what a tool takes.
const MESSAGE_FACTOR: u64 = 3;

/// What a request is bound to: it sees this project as this user sees it, and nothing else.
///
/// A server's key may act for any user of any project, and says for whom in headers. A token's own project and user stand for them, and
/// headers can name no others; without `files:write` it gets the tools that only read.
fn binding(headers: &HeaderMap, caller: &Caller) -> Result<Binding, Problem> {
    let project = named(headers, "Treehold-Project")?;
    let project = match caller.project {
        Some(own) if project.as_deref().is_none_or(|named| named == own.to_string()) => own.to_string(),
        Some(_) => return Err(EngineError::no_project().into()),
        None => {
            project.ok_or_else(|| Problem::bad_header("Treehold-Project", "send Treehold-Project: its name or id"))?
        }
    };
    let user = match named(headers, "Treehold-User")? {
        Some(named) => Uuid::try_parse(&named).ok(),
        None => caller.user,
    };
    let user = user.ok_or_else(|| Problem::bad_header("Treehold-User", "send Treehold-User: the user's UUID"))?;
    caller.require(Scope::FilesRead)?;
    caller.may_open(user)?;
    let author = named(headers, "Treehold-Author")?.map(|text| {
        let how = "Treehold-Author must look like `Name <name@example.org>`";
        author(&text).ok_or_else(|| Problem::bad_header("Treehold-Author", how))
    });
    let mut bound = Binding {
        branch: named(headers, "Treehold-Branch")?,
        origin: origin(headers)?,
        author: author.transpose()?,
        credentials: credentials(headers)?,
        sees_others: caller.sees_everybody(),
        ..Binding::new(project, user)
    };
    if !caller.scopes.has(Scope::FilesWrite) {
        bound.access = Access::Read;
    }
    Ok(bound)
}

/// `POST /mcp`: one message; its answer as JSON, or as an event stream once there is progress to tell.
pub(crate) async fn answer(State(app): State<App>, caller: Caller, request: Request<Body>) -> Answer {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(header::ORIGIN) {
        // A page whose name was made to point here could otherwise speak to a server on its reader's own machine.
        let why = "this route is for agents, not for web pages: send no Origin";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", why));
    }
    let mut bound = binding(&head.headers, &caller)?;
    if !is_json(&head.headers) {
        let how = "send one JSON-RPC message, with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", how));
    }
    plain_body(&head.headers)?;
    let bytes_max = if listens(&head.headers) { LISTEN_BYTES_MAX } else { MESSAGE_BYTES_MAX };
    let upload = read(&app, body, bytes_max as u64, "the message").await?;
    let mut memory = upload.memory;
    app.reserve_more(&mut memory, upload.bytes.len() as u64 * (MESSAGE_FACTOR - 1))?;
    if let Some(refusal) = contradicted(&head.headers, &upload.bytes) {
        return Ok(refusal);
    }
    let session = Session::of(&head.headers);
    bound.origin.session = bound.origin.session.or_else(|| session.as_ref().map(|session| session.id.clone()));
    let client = session.as_ref().and_then(|session| session.client.clone());
    let begins = begins(&upload.bytes);
    let message = upload.bytes.clone();

    let kept = Kept::default();
    let host = McpHost::new(app.clone(), &bound.project).within_request(kept.clone());
    let host = match head.extensions.get::<Limited>() {
        Some(Limited) => host.paid_by(Payer::new(caller, &bound.project, bound.user)),
        None => host,
    };
    // Older clients do not say it in a header; a stream for them would take the place of a light request.
    let listens = head.headers.contains_key(MCP_METHOD);
    let mut passed = Request::new(Full::new(upload.bytes));
    *passed.method_mut() = head.method;
    for name in PASSED {
        passed
            .headers_mut()
            .extend(head.headers.get(name).map(|value| (header::HeaderName::from_static(name), value.clone())));
    }
    passed.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    let stop = CancellationToken::new();
    // An event stream has no end of its own while a call is at work.
    let ending = stop.clone().drop_guard();
    let closing = (app.clone(), stop.clone());
    app.spawn(async move {
        let (app, stop) = closing;
        tokio::select! {
            () = app.closing() => stop.cancel(),
            () = stop.cancelled() => {}
        }
    });
    let told = treehold_mcp::answer(Tools::new(host, bound).for_request(client, listens), passed, stop).await;
    let mut told = refused(told.map(Body::new), &message).await?;
    if let Some(name) = begins.filter(|_| told.status().is_success()) {
        told.headers_mut().extend(Session::begin(&name).map(|value| (header::HeaderName::from_static(SESSION), value)));
    }
    told.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(told.map(|body| holding(body, (memory, kept, ending))))
}

/// What the library refuses before it comes to a message is plain text: a problem, as everywhere else. It takes what is no message for a
/// wrong type of content, which was judged before: that is an error of JSON-RPC (<https://www.jsonrpc.org/specification#error_object>).
async fn refused(told: Response, message: &[u8]) -> Result<Response, Problem> {
    let json =
        told.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if told.status().is_success() || json {
        return Ok(told);
    }
    let status = told.status();
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return Ok(no_message(message));
    }
    let body = told.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let detail: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(500).collect();
    let code = if status.is_server_error() { "internal" } else { "bad_mcp_request" };
    Err(Problem::new(status, code, detail))
}

/// Why something is no message of the protocol.
fn no_message(message: &[u8]) -> Response {
    let (code, why) = match serde_json::from_slice::<IgnoredAny>(message) {
        Err(error) => (-32700, format!("the message is not JSON: {error}")),
        Ok(_) => (-32600, "the message is JSON, but none of JSON-RPC's: send one request or notification".to_owned()),
    };
    let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": why}});
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

/// The refusal of a message of which its header says that it asks for something else. The request has its place by the header, so this
/// is asked whatever version of the protocol it speaks; the library asks only in the newest one.
fn contradicted(headers: &HeaderMap, message: &[u8]) -> Option<Response> {
    #[derive(Deserialize)]
    struct Message {
        id: Option<Value>,
        method: Option<String>,
    }
    let told = headers.get(MCP_METHOD)?;
    let Ok(Message { id, method }) = serde_json::from_slice(message) else { return Some(no_message(message)) };
    if method.as_ref().is_some_and(|method| told == method.as_str()) {
        return None;
    }
    let why = "the header Mcp-Method says something else than the message: send the message's own method";
    let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": HEADER_MISMATCH, "message": why}});
    Some((StatusCode::BAD_REQUEST, Json(error)).into_response())
}

/// The client's name, if this is the message by which it begins.
fn begins(message: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        method: String,
        params: Params,
    }
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "clientInfo")]
        client: Client,
    }
    #[derive(Deserialize)]
    struct Client {
        name: String,
    }
    let message: Message = serde_json::from_slice(message).ok()?;
    (message.method == "initialize").then_some(message.params.client.name)
}

/// What a session id says. Whoever sends another one is believed: it is shown to others, and nothing rests on it.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    id: String,
    client: Option<String>,
}

impl Session {
    /// An id that nobody had before, with the client's name in it.
    fn begin(client: &str) -> Option<HeaderValue> {
        let name = agent_name(client).unwrap_or_default();
        HeaderValue::from_str(&format!("{}.{}", Uuid::new_v4().simple(), BASE64.encode(name))).ok()
    }

    /// The one of a request; `None` if it is none of ours.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (id, name) = headers.get(SESSION)?.to_str().ok()?.split_once('.')?;
        let id = Uuid::try_parse(id).ok()?.simple().to_string();
        let name = BASE64.decode(name).ok().and_then(|name| String::from_utf8(name).ok())?;
        Some(Self { id, client: agent_name(&name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_request_is_bound_by_its_headers() {
        let user = "11111111-2222-4333-8444-555555555555";
        let of = |pairs: &[(&'static str, &str)]| binding(&headers(pairs), &Caller::with_key());
        let bound = of(&[
            ("treehold-project", "docs"),
            ("treehold-user", user),
            ("treehold-branch", "next"),
            ("treehold-session", "s1"),
            ("treehold-author", "Ann <ann@example.org>"),
            ("x-remote-token", "t"),
        ])
        .unwrap();
        assert_eq!((bound.project.as_str(), bound.user.to_string().as_str()), ("docs", user));
        assert_eq!((bound.branch.as_deref(), bound.origin.session.as_deref()), (Some("next"), Some("s1")));
        assert_eq!(bound.author.unwrap().email, "ann@example.org");
        assert_eq!(bound.credentials.unwrap().expose(), "t");
        for (bad, named) in [
            (&[("treehold-user", user)][..], "Treehold-Project"),
            (&[("treehold-project", "docs")], "Treehold-User"),
            (&[("treehold-project", "docs"), ("treehold-user", "ann")], "Treehold-User"),
            (&[("treehold-project", "docs"), ("treehold-user", user), ("treehold-author", "ann")], "Treehold-Author"),
        ] {
            let problem = of(bad).unwrap_err();
            assert_eq!((problem.code(), &problem.body()["header"]), ("bad_header", &named.into()));
        }
    }

    #[test]
    fn a_tokens_own_project_and_user_stand_for_headers() {
        let (project, user, other) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3).to_string());
        let caller = |scopes: &str, user| Caller {
            project: Some(project),
            user,
            scopes: scopes.parse().unwrap(),
            token: Some(Uuid::nil()),
        };
        let writer = caller("files:write,pending", Some(user));
        let bound = binding(&HeaderMap::new(), &writer).unwrap();
        assert_eq!((bound.project, bound.user, bound.access), (project.to_string(), user, Access::Write));
        assert!(!bound.sees_others);
        assert_eq!(binding(&HeaderMap::new(), &caller("files:read,pending", Some(user))).unwrap().access, Access::Read);
        let code = |headers: HeaderMap, caller: &Caller| binding(&headers, caller).unwrap_err().code();
        assert_eq!(code(headers(&[("treehold-project", &other)]), &writer), "project_not_found");
        assert_eq!(code(headers(&[("treehold-user", &other)]), &writer), "forbidden");
        assert_eq!(code(HeaderMap::new(), &caller("files:write,pending", None)), "bad_header");
        let anybody = caller("files:write,pending", None);
        assert!(binding(&headers(&[("treehold-user", &other)]), &anybody).unwrap().sees_others);
        for lacking in ["files:write", "pending", "git:write"] {
            assert_eq!(code(HeaderMap::new(), &caller(lacking, Some(user))), "scope_missing", "{lacking}");
        }
    }

    #[test]
    fn a_session_id_carries_the_clients_name_and_nothing_else_is_believed() {
        let id = Session::begin("my \u{e9}ditor\n").unwrap();
        let session = Session::of(&headers(&[("mcp-session-id", id.to_str().unwrap())])).unwrap();
        assert_eq!(session.client.as_deref(), Some("my \u{e9}ditor"));
        for strange in ["", "x", "x.y", "11111111222243338444555555555555.!", "11111111222243338444555555555555"] {
            assert_eq!(Session::of(&headers(&[("mcp-session-id", strange)])), None, "{strange}");
        }
    }

    #[test]
    fn a_header_says_what_the_message_asks_for_or_the_message_is_refused() {
        let refused = |header: &str, message: &str| {
            contradicted(&headers(&[("mcp-method", header)]), message.as_bytes())
                .map(|refusal| refusal.status().as_u16())
        };
        let listen = "subscriptions/listen";
        assert_eq!(refused(listen, r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions\/listen"}"#), None);
        assert!(contradicted(&HeaderMap::new(), br#"{"method":"tools/call"}"#).is_none(), "older clients say nothing");
        for message in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}]"#,
            "{",
        ] {
            assert_eq!(refused(listen, message), Some(400), "{message}");
        }
    }

    #[test]
    fn only_the_first_message_begins() {
        let first =
            br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"clientInfo":{"name":"a","version":"1"}}}"#;
        assert_eq!(begins(first).as_deref(), Some("a"));
        assert_eq!(begins(br#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#), None);
        assert_eq!(begins(b"["), None);
    }
}
