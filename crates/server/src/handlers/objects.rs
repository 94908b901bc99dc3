//! Raw git objects, in the shapes of GitHub's git database API, or as they are.

use std::borrow::Cow;

use axum::extract::State;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use treehold_engine::api::{Mode, Oid, RawObject};
use treehold_object::tree::mode;
use treehold_object::{Kind, ObjectId, Signature, TreeEntry, parse_commit, parse_tree};

use crate::app::App;
use crate::auth::Caller;
use crate::conditions::{Verdict, etag, judge};
use crate::context::holding;
use crate::error::Problem;
use crate::handlers::files::CONTENT_FACTOR;
use crate::headers::negotiate;
use crate::params::Params;
use crate::respond::{Answer, not_expected, ok, value};

/// What the answer to a tree takes, for each byte of the tree: entries, their sizes, and text.
const TREE_FACTOR: u64 = 8;

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
    let json = negotiate(&headers, &["application/json", "application/octet-stream"]) == 0;
    let factor = if kind == Kind::Tree && json { TREE_FACTOR } else { CONTENT_FACTOR };
    let read = app.reading_within(factor, |engine| async move {
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
    let mut response = match (json, kind) {
        (true, Kind::Tree) => list(app, params.text("project")?, &raw).await?,
        (true, Kind::Commit) => ok(&commit_shape(&raw)?)?,
        // No route asks for a tag.
        (true, Kind::Blob | Kind::Tag) => ok(&blob_shape(&raw))?,
        (false, _) => {
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

/// A tree, with the sizes of its files.
async fn list(app: &App, project: &str, raw: &RawObject) -> Answer {
    let entries = parse_tree(&raw.content).map_err(|error| Problem::internal(&error))?;
    let files = files_of(&entries);
    let sizes = match files.is_empty() {
        true => Vec::new(),
        false => app.reading(app.engine().object_sizes(project, &files)).await?,
    };
    let sizes = beside(&entries, sizes);
    ok(&TreeShape { sha: Oid(raw.oid), tree: Entries { entries: &entries, sizes: &sizes }, truncated: false })
}

/// What has a size to show, in order.
fn files_of(entries: &[TreeEntry<'_>]) -> Vec<ObjectId> {
    entries.iter().filter(|entry| is_file(entry)).map(|entry| entry.oid).collect()
}

/// The sizes of the files among the entries, each beside its entry.
fn beside(entries: &[TreeEntry<'_>], sizes: Vec<Option<u64>>) -> Vec<Option<u64>> {
    let mut sizes = sizes.into_iter();
    entries.iter().map(|entry| if is_file(entry) { sizes.next().flatten() } else { None }).collect()
}

fn is_file(entry: &TreeEntry<'_>) -> bool {
    kind_of(entry.mode) == "blob"
}

fn blob_shape(raw: &RawObject) -> Value {
    json!({
        "sha": raw.oid.to_string(),
        "size": raw.content.len(),
        "encoding": "base64",
        "content": BASE64_STANDARD.encode(&raw.content),
    })
}

#[derive(Serialize)]
struct TreeShape<'a> {
    sha: Oid,
    tree: Entries<'a>,
    truncated: bool,
}

/// Entries and their sizes, written one by one: there may be a million.
struct Entries<'a> {
    entries: &'a [TreeEntry<'a>],
    sizes: &'a [Option<u64>],
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.entries.iter().zip(self.sizes).map(|(entry, size)| EntryShape::of(entry, *size)))
    }
}

#[derive(Serialize)]
struct EntryShape<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    mode: Mode,
    r#type: &'static str,
    sha: Oid,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl<'a> EntryShape<'a> {
    fn of(entry: &TreeEntry<'a>, size: Option<u64>) -> Self {
        let path = String::from_utf8_lossy(entry.name);
        Self {
            path_b64: matches!(path, Cow::Owned(_)).then(|| BASE64_STANDARD.encode(entry.name)),
            path,
            mode: Mode(entry.mode),
            r#type: kind_of(entry.mode),
            sha: Oid(entry.oid),
            size,
        }
    }
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

fn commit_shape(raw: &RawObject) -> Result<Value, Problem> {
    let commit = parse_commit(&raw.content).map_err(|error| Problem::internal(&error))?;
    let named = |oid: &ObjectId| json!({"sha": oid.to_string()});
    Ok(json!({
        "sha": raw.oid.to_string(),
        "tree": named(&commit.tree),
        "parents": commit.parents.iter().map(named).collect::<Vec<_>>(),
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "message": String::from_utf8_lossy(&commit.message),
    }))
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
        let shape = blob_shape(&raw(Kind::Blob, b"\xff\0hi"));
        assert_eq!(shape, json!({"sha": "11".repeat(20), "size": 4, "encoding": "base64", "content": "/wBoaQ=="}));
    }

    #[test]
    fn trees_list_their_entries() {
        let content = tree_of(&[("100644", b"a b"), ("40000", b"dir"), ("160000", b"sub"), ("120000", b"\xff")]);
        let shape = |content: &[u8]| {
            let entries = parse_tree(content).unwrap();
            let files = files_of(&entries);
            let sizes = beside(&entries, (7..).take(files.len()).map(Some).collect());
            let tree = Entries { entries: &entries, sizes: &sizes };
            serde_json::to_value(TreeShape { sha: Oid(raw(Kind::Tree, b"").oid), tree, truncated: false }).unwrap()
        };
        let empty = shape(b"");
        let shape = shape(&content);
        let sha = "11".repeat(20);
        assert_eq!(shape["truncated"], false);
        assert_eq!(shape["tree"][0], json!({"path": "a b", "mode": "100644", "type": "blob", "sha": sha, "size": 7}));
        assert_eq!(shape["tree"][1], json!({"path": "dir", "mode": "040000", "type": "tree", "sha": sha}));
        assert_eq!(shape["tree"][2]["type"], "commit");
        assert_eq!(shape["tree"][3]["path_b64"], "/w==");
        assert_eq!((&shape["tree"][3]["mode"], &shape["tree"][3]["size"]), (&json!("120000"), &json!(8)));
        assert_eq!(empty["tree"], json!([]));
    }

    #[test]
    fn damage_is_ours() {
        assert_eq!(commit_shape(&raw(Kind::Commit, b"tree x\n")).unwrap_err().code(), "internal");
    }

    #[test]
    fn commits_are_taken_apart() {
        let content = b"tree 2222222222222222222222222222222222222222\n\
            parent 3333333333333333333333333333333333333333\n\
            author A <B> C <a@example.org> 1700000000 +0230\n\
            committer D <d@example.org> 1700000001 -0000\n\
            gpgsig -----BEGIN\n author fake <x@y> 1 +0000\n -----END\n\nSubject\n\nBody\n";
        let shape = commit_shape(&raw(Kind::Commit, content)).unwrap();
        assert_eq!(shape["tree"]["sha"], "2".repeat(40));
        assert_eq!(shape["parents"], json!([{"sha": "3".repeat(40)}]));
        assert_eq!(shape["author"]["date"], "2023-11-14T22:13:20Z");
        assert_eq!(shape["committer"], json!({"name": "D", "email": "d@example.org", "date": "2023-11-14T22:13:21Z"}));
        assert_eq!(shape["message"], "Subject\n\nBody\n");
    }
}
