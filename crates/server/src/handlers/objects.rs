//! Raw git objects, in the shapes of GitHub's git database API, or as they are.

use axum::extract::State;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use treehold_engine::api::RawObject;
use treehold_object::{Kind, ObjectId};

use crate::app::App;
use crate::conditions::{Verdict, etag, judge};
use crate::error::Problem;
use crate::headers::negotiate;
use crate::params::Params;
use crate::respond::{Answer, ok, value};

/// `GET /projects/{project}/git/blobs/{oid}`
pub(crate) async fn blob(State(app): State<App>, method: Method, params: Params, headers: HeaderMap) -> Answer {
    object(&app, Kind::Blob, &method, &params, &headers).await
}

/// `GET /projects/{project}/git/trees/{oid}`
pub(crate) async fn tree(State(app): State<App>, method: Method, params: Params, headers: HeaderMap) -> Answer {
    object(&app, Kind::Tree, &method, &params, &headers).await
}

/// `GET /projects/{project}/git/commits/{oid}`
pub(crate) async fn commit(State(app): State<App>, method: Method, params: Params, headers: HeaderMap) -> Answer {
    object(&app, Kind::Commit, &method, &params, &headers).await
}

async fn object(app: &App, kind: Kind, method: &Method, params: &Params, headers: &HeaderMap) -> Answer {
    let (project, oid) = (params.text("project")?, params.oid("oid")?);
    let raw = app.reading(app.engine().raw_object(project, kind, oid)).await?;
    if method != Method::HEAD && judge(headers, &oid)? == Verdict::NotModified {
        return Ok((StatusCode::NOT_MODIFIED, tag(&oid)).into_response());
    }
    let mut response = match negotiate(headers, &["application/json", "application/octet-stream"]) {
        0 => ok(&shape(&raw)?)?,
        _ => {
            let kind = HeaderValue::from_static("application/octet-stream");
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], raw.content).into_response()
        }
    };
    response.headers_mut().extend(tag(&oid));
    Ok(response)
}

fn tag(oid: &ObjectId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Some(tag) = value(&etag(oid)) {
        headers.insert(header::ETAG, tag);
    }
    headers
}

fn shape(raw: &RawObject) -> Result<Value, Problem> {
    let sha = raw.oid.to_string();
    let shaped = match raw.kind {
        Kind::Blob => Some(json!({
            "sha": sha,
            "size": raw.content.len(),
            "encoding": "base64",
            "content": BASE64_STANDARD.encode(&raw.content),
        })),
        Kind::Tree => entries(&raw.content).map(|tree| json!({"sha": sha, "tree": tree, "truncated": false})),
        Kind::Commit => commit_shape(&sha, &raw.content),
        Kind::Tag => None,
    };
    shaped.ok_or_else(|| Problem::internal(&Unreadable(raw.oid)))
}

/// A stored object that is not what git writes.
#[derive(Debug)]
struct Unreadable(ObjectId);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "object {} cannot be read as what it is said to be", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// The entries of a tree: `mode SP name NUL oid`, over and over (git's tree format).
fn entries(mut content: &[u8]) -> Option<Vec<Value>> {
    let mut entries = Vec::new();
    while !content.is_empty() {
        let space = content.iter().position(|byte| *byte == b' ')?;
        let nul = content.iter().position(|byte| *byte == 0).filter(|nul| *nul > space)?;
        let mode = u32::from_str_radix(std::str::from_utf8(&content[..space]).ok()?, 8).ok()?;
        let oid = ObjectId::try_from(content.get(nul + 1..nul + 21)?).ok()?;
        let name = &content[space + 1..nul];
        let mut entry = Map::new();
        entry.insert("path".into(), String::from_utf8_lossy(name).into());
        if std::str::from_utf8(name).is_err() {
            entry.insert("path_b64".into(), BASE64_STANDARD.encode(name).into());
        }
        entry.insert("mode".into(), format!("{mode:06o}").into());
        entry.insert("type".into(), kind_of(mode).into());
        entry.insert("sha".into(), oid.to_string().into());
        entries.push(Value::Object(entry));
        content = &content[nul + 21..];
    }
    Some(entries)
}

fn kind_of(mode: u32) -> &'static str {
    match mode & 0o170_000 {
        0o040_000 => "tree",
        0o160_000 => "commit",
        _ => "blob",
    }
}

/// `name value` lines (those that go on start with a space), an empty line, the message (git's commit format).
fn commit_shape(sha: &str, content: &[u8]) -> Option<Value> {
    let (mut tree, mut author, mut committer) = (None, None, None);
    let mut parents = Vec::new();
    let mut rest = content;
    let message = loop {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or(&[]);
        if line.is_empty() {
            break rest;
        }
        let split = line.iter().position(|byte| *byte == b' ')?;
        let text = String::from_utf8_lossy(&line[split + 1..]);
        match &line[..split] {
            b"tree" if tree.is_none() => tree = Some(json!({"sha": text})),
            b"parent" => parents.push(json!({"sha": text})),
            b"author" if author.is_none() => author = Some(person(&text)),
            b"committer" if committer.is_none() => committer = Some(person(&text)),
            _ => {}
        }
    };
    Some(json!({
        "sha": sha,
        "tree": tree?,
        "parents": parents,
        "author": author?,
        "committer": committer?,
        "message": String::from_utf8_lossy(message),
    }))
}

/// `Name <email> seconds zone`; the date in UTC as GitHub shows it, `null` where it is none.
fn person(text: &str) -> Value {
    let (name, rest) = text.split_once('<').unwrap_or((text, ""));
    let (email, time) = rest.rsplit_once('>').unwrap_or((rest, ""));
    let seconds = time.split_whitespace().next().and_then(|seconds| seconds.parse::<i64>().ok());
    let date = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).map(|date| date.to_string());
    json!({"name": name.trim_end(), "email": email, "date": date})
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: [u8; 20] = [0x11; 20];

    fn raw(kind: Kind, content: &[u8]) -> RawObject {
        RawObject { oid: ObjectId::try_from(OID.as_slice()).unwrap(), kind, content: content.to_vec().into() }
    }

    fn tree_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        entries.iter().flat_map(|(mode, name)| [mode.as_bytes(), b" ", *name, b"\0", OID.as_slice()].concat()).collect()
    }

    #[test]
    fn blobs_are_base64() {
        let shape = shape(&raw(Kind::Blob, b"\xff\0hi")).unwrap();
        assert_eq!(shape, json!({"sha": "11".repeat(20), "size": 4, "encoding": "base64", "content": "/wBoaQ=="}));
    }

    #[test]
    fn trees_list_their_entries() {
        let content = tree_of(&[("100644", b"a b"), ("40000", b"dir"), ("160000", b"sub"), ("120000", b"\xff")]);
        let shape = shape(&raw(Kind::Tree, &content)).unwrap();
        let sha = "11".repeat(20);
        assert_eq!(shape["truncated"], false);
        assert_eq!(shape["tree"][0], json!({"path": "a b", "mode": "100644", "type": "blob", "sha": sha}));
        assert_eq!(shape["tree"][1], json!({"path": "dir", "mode": "040000", "type": "tree", "sha": sha}));
        assert_eq!(shape["tree"][2]["type"], "commit");
        assert_eq!(shape["tree"][3]["path_b64"], "/w==");
        assert_eq!(shape["tree"][3]["mode"], "120000");
        assert_eq!(entries(b"").unwrap().len(), 0);
    }

    #[test]
    fn broken_trees_are_no_panic() {
        let whole = tree_of(&[("100644", b"a"), ("40000", b"b")]);
        for len in 1..whole.len() {
            if len != whole.len() / 2 && tree_of(&[("100644", b"a")]).len() != len {
                assert!(entries(&whole[..len]).is_none(), "{len}");
            }
        }
        assert_eq!(shape(&raw(Kind::Tree, b"x\0 y")).unwrap_err().code(), "internal");
    }

    #[test]
    fn commits_are_taken_apart() {
        let content = b"tree 2222222222222222222222222222222222222222\n\
            parent 3333333333333333333333333333333333333333\n\
            author A <B> C <a@example.org> 1700000000 +0230\n\
            committer D <d@example.org> 1700000001 -0000\n\
            gpgsig -----BEGIN\n author fake <x@y> 1 +0000\n -----END\n\nSubject\n\nBody\n";
        let shape = shape(&raw(Kind::Commit, content)).unwrap();
        assert_eq!(shape["tree"]["sha"], "2".repeat(40));
        assert_eq!(shape["parents"], json!([{"sha": "3".repeat(40)}]));
        assert_eq!(shape["author"]["date"], "2023-11-14T22:13:20Z");
        assert_eq!(shape["committer"], json!({"name": "D", "email": "d@example.org", "date": "2023-11-14T22:13:21Z"}));
        assert_eq!(shape["message"], "Subject\n\nBody\n");
        assert!(commit_shape("", b"tree x\n").is_none());
    }
}
