//! Raw git objects, in the shapes of GitHub's git database API, or as they are.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use treehold_engine::api::RawObject;
use treehold_object::tree::mode;
use treehold_object::{Commit, Kind, ObjectId, Signature, TreeEntry, parse_commit, parse_tree};

use crate::app::App;
use crate::auth::Caller;
use crate::conditions::{Verdict, etag, judge};
use crate::context::holding;
use crate::error::Problem;
use crate::handlers::files::CONTENT_FACTOR;
use crate::headers::negotiate;
use crate::params::Params;
use crate::respond::{Answer, not_expected, ok, value};

/// Who asks, how, and for what.
type Asked = (Caller, Params, HeaderMap);

/// `GET /projects/{project}/git/blobs/{oid}`
pub(crate) async fn blob(State(app): State<App>, asked: Asked) -> Answer {
    object(&app, Kind::Blob, asked).await
}

/// `GET /projects/{project}/git/trees/{oid}`
pub(crate) async fn tree(State(app): State<App>, asked: Asked) -> Answer {
    object(&app, Kind::Tree, asked).await
}

/// `GET /projects/{project}/git/commits/{oid}`
pub(crate) async fn commit(State(app): State<App>, asked: Asked) -> Answer {
    object(&app, Kind::Commit, asked).await
}

async fn object(app: &App, kind: Kind, (caller, params, headers): Asked) -> Answer {
    let (project, oid) = (params.text("project")?.to_owned(), params.oid("oid")?);
    let everything = caller.sees_everybody();
    let read = app.reading_within(CONTENT_FACTOR, |engine| async move {
        match everything {
            true => engine.raw_object(&project, kind, oid).await,
            false => engine.raw_committed(&project, kind, oid).await,
        }
    });
    let (raw, room) = read.await?;
    match judge(&headers, &oid)? {
        Verdict::Failed => return Err(not_expected(oid)),
        Verdict::NotModified => return Ok((StatusCode::NOT_MODIFIED, tag(&oid)).into_response()),
        Verdict::Send => {}
    }
    let mut response = match negotiate(&headers, &["application/json", "application/octet-stream"]) {
        0 => ok(&shape(&raw, &sizes_in(app, params.text("project")?, &raw).await?)?)?,
        _ => {
            let kind = HeaderValue::from_static("application/octet-stream");
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], raw.content).into_response()
        }
    };
    response.headers_mut().extend(tag(&oid));
    Ok(response.map(|body| holding(body, room)))
}

fn tag(oid: &ObjectId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Some(tag) = value(&etag(oid)) {
        headers.insert(header::ETAG, tag);
    }
    headers
}

/// The sizes of a tree's files.
async fn sizes_in(app: &App, project: &str, raw: &RawObject) -> Result<HashMap<ObjectId, u64>, Problem> {
    if raw.kind != Kind::Tree {
        return Ok(HashMap::new());
    }
    let tree = parse_tree(&raw.content).map_err(|error| Problem::internal(&error))?;
    let blobs = tree.iter().filter(|entry| kind_of(entry.mode) == "blob").map(|entry| entry.oid);
    let blobs: Vec<ObjectId> = blobs.collect();
    let sizes = app.reading(app.engine().object_sizes(project, &blobs)).await?;
    Ok(blobs.into_iter().zip(sizes).filter_map(|(oid, size)| Some((oid, size?))).collect())
}

fn shape(raw: &RawObject, sizes: &HashMap<ObjectId, u64>) -> Result<Value, Problem> {
    let sha = raw.oid.to_string();
    Ok(match raw.kind {
        Kind::Blob => json!({
            "sha": sha,
            "size": raw.content.len(),
            "encoding": "base64",
            "content": BASE64_STANDARD.encode(&raw.content),
        }),
        Kind::Tree => {
            let tree = parse_tree(&raw.content).map_err(|error| Problem::internal(&error))?;
            json!({"sha": sha, "tree": tree.iter().map(|entry| shape_entry(entry, sizes)).collect::<Vec<_>>(), "truncated": false})
        }
        Kind::Commit => commit_shape(&sha, &parse_commit(&raw.content).map_err(|error| Problem::internal(&error))?),
        Kind::Tag => json!({"sha": sha}),
    })
}

fn shape_entry(entry: &TreeEntry<'_>, sizes: &HashMap<ObjectId, u64>) -> Value {
    let mut shaped = Map::new();
    shaped.insert("path".into(), String::from_utf8_lossy(entry.name).into());
    if std::str::from_utf8(entry.name).is_err() {
        shaped.insert("path_b64".into(), BASE64_STANDARD.encode(entry.name).into());
    }
    shaped.insert("mode".into(), format!("{:06o}", entry.mode).into());
    shaped.insert("type".into(), kind_of(entry.mode).into());
    shaped.insert("sha".into(), entry.oid.to_string().into());
    if let Some(size) = sizes.get(&entry.oid).filter(|_| kind_of(entry.mode) == "blob") {
        shaped.insert("size".into(), (*size).into());
    }
    Value::Object(shaped)
}

fn kind_of(value: u32) -> &'static str {
    if mode::is_tree(value) {
        "tree"
    } else if mode::is_gitlink(value) {
        "commit"
    } else {
        "blob"
    }
}

fn commit_shape(sha: &str, commit: &Commit) -> Value {
    let named = |oid: &ObjectId| json!({"sha": oid.to_string()});
    json!({
        "sha": sha,
        "tree": named(&commit.tree),
        "parents": commit.parents.iter().map(named).collect::<Vec<_>>(),
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "message": String::from_utf8_lossy(&commit.message),
    })
}

/// The date in UTC as GitHub shows it, `null` where it is none.
fn person(who: &Signature) -> Value {
    let date = jiff::Timestamp::from_second(who.time_s).ok().map(|date| date.to_string());
    json!({"name": String::from_utf8_lossy(&who.name), "email": String::from_utf8_lossy(&who.email), "date": date})
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
        let shape = super::shape(&raw(Kind::Blob, b"\xff\0hi"), &HashMap::new()).unwrap();
        assert_eq!(shape, json!({"sha": "11".repeat(20), "size": 4, "encoding": "base64", "content": "/wBoaQ=="}));
    }

    #[test]
    fn trees_list_their_entries() {
        let content = tree_of(&[("100644", b"a b"), ("40000", b"dir"), ("160000", b"sub"), ("120000", b"\xff")]);
        let shape = super::shape(&raw(Kind::Tree, &content), &[(raw(Kind::Tree, b"").oid, 7)].into()).unwrap();
        let sha = "11".repeat(20);
        assert_eq!(shape["truncated"], false);
        assert_eq!(shape["tree"][0], json!({"path": "a b", "mode": "100644", "type": "blob", "sha": sha, "size": 7}));
        assert_eq!(shape["tree"][1], json!({"path": "dir", "mode": "040000", "type": "tree", "sha": sha}));
        assert_eq!(shape["tree"][2]["type"], "commit");
        assert_eq!(shape["tree"][3]["path_b64"], "/w==");
        assert_eq!(shape["tree"][3]["mode"], "120000");
        assert_eq!(super::shape(&raw(Kind::Tree, b""), &HashMap::new()).unwrap()["tree"], json!([]));
    }

    #[test]
    fn damage_is_ours() {
        assert_eq!(shape(&raw(Kind::Tree, b"x\0 y"), &HashMap::new()).unwrap_err().code(), "internal");
        assert_eq!(shape(&raw(Kind::Commit, b"tree x\n"), &HashMap::new()).unwrap_err().code(), "internal");
    }

    #[test]
    fn commits_are_taken_apart() {
        let content = b"tree 2222222222222222222222222222222222222222\n\
            parent 3333333333333333333333333333333333333333\n\
            author A <B> C <a@example.org> 1700000000 +0230\n\
            committer D <d@example.org> 1700000001 -0000\n\
            gpgsig -----BEGIN\n author fake <x@y> 1 +0000\n -----END\n\nSubject\n\nBody\n";
        let shape = super::shape(&raw(Kind::Commit, content), &HashMap::new()).unwrap();
        assert_eq!(shape["tree"]["sha"], "2".repeat(40));
        assert_eq!(shape["parents"], json!([{"sha": "3".repeat(40)}]));
        assert_eq!(shape["author"]["date"], "2023-11-14T22:13:20Z");
        assert_eq!(shape["committer"], json!({"name": "D", "email": "d@example.org", "date": "2023-11-14T22:13:21Z"}));
        assert_eq!(shape["message"], "Subject\n\nBody\n");
    }
}
