//! Files: read, list, read many, and commits of one file.

use axum::body::Body;
use axum::extract::{Request, State};
use http::request::Parts;
use http::{HeaderMap, header};
use treehold_engine::api::{FileCommit, ListOptions, Mode, ReadRequest};

use crate::app::{App, Reserved};
use crate::body::{self, Expect, read_json};
use crate::conditions::{condition, etag};
use crate::context::holding;
use crate::error::Problem;
use crate::headers::{credentials, idempotency_key};
use crate::params::{Params, Query};
use crate::rates::Acting;
use crate::respond::{Answer, FileHead, Next, ok, value};
use crate::stream::{self, ListPieces, ReadPieces, Shape};

/// Room that a path takes in the body of a batch read, bytes: its own limit, and what JSON adds.
const PATH_BYTES: u64 = 4_096 + 128;

/// Memory for a byte of content in JSON: itself, as text, and the text in the answer, which grows while it is written.
pub(crate) const CONTENT_FACTOR: u64 = 4;

/// `GET /files/{project}?ref&user&prefix&limit&cursor`: a page as JSON, or everything as a line each.
pub(crate) async fn list(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let shape = Shape::asked(&headers);
    let options = ListOptions {
        prefix: query.string("prefix")?,
        limit: query.limit()?,
        streamed: shape == Shape::Lines,
        cursor: query.cursor()?.map(str::to_owned),
    };
    let at = query.at()?;
    let listing = app.reading(app.engine().open_list(params.text("project")?, &at, &options)).await?;
    stream::send(&app, shape, ListPieces::new(listing, shape)).await
}

/// `GET, HEAD /files/{project}/{*path}?ref&user`
pub(crate) async fn read(State(app): State<App>, params: Params, query: Query, request: Request) -> Answer {
    let (Parts { method, headers, .. }, _) = request.into_parts();
    let (project, at) = (params.text("project")?, query.at()?);
    let meta = app.reading(app.engine().find_file(project, params.bytes("path"), &at)).await?;
    let head = FileHead {
        oid: meta.oid,
        mode: Mode(meta.mode),
        size: meta.size,
        commit: meta.commit,
        source: at.user.map(|_| meta.source),
        revision: None,
    };
    match head.judge(&method, &headers)? {
        Next::Done(response) => Ok(response),
        Next::Content(part) => {
            let memory = app.reserve(meta.size)?;
            let content = app.reading(app.engine().file_content(&meta)).await?;
            Ok(head.send(content, part).map(|body| holding(body, memory)))
        }
    }
}

/// `PUT /files/{project}/{*path}?branch&message&author_name&author_email&mode`: the body becomes the file, in one commit.
pub(crate) async fn write(
    State(app): State<App>,
    params: Params,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let mut change = change(&query, &headers)?;
    let asked = Asked::new(&params, &headers)?;
    let upload = body::file(&app, &headers, body).await?;
    change.content = Some(upload.bytes);
    asked.commit(&app, change, upload.memory).await
}

/// `DELETE /files/{project}/{*path}?branch&message&author_name&author_email`: the file goes, in one commit.
pub(crate) async fn delete(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let change = change(&query, &headers)?;
    Asked::new(&params, &headers)?.commit(&app, change, None).await
}

fn change(query: &Query, headers: &HeaderMap) -> Result<FileCommit, Problem> {
    Ok(FileCommit {
        branch: query.string("branch")?,
        message: query.string("message")?,
        author_name: query.string("author_name")?,
        author_email: query.string("author_email")?,
        mode: query.parse("mode")?,
        condition: condition(headers)?,
        content: None,
    })
}

/// What a commit of one file needs besides the change.
struct Asked {
    project: String,
    path: Vec<u8>,
    credentials: Option<treehold_engine::Secret>,
    key: Option<String>,
}

impl Asked {
    fn new(params: &Params, headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            project: params.text("project")?.to_owned(),
            path: params.bytes("path").to_owned(),
            credentials: credentials(headers)?,
            key: idempotency_key(headers)?,
        })
    }

    async fn commit(self, app: &App, change: FileCommit, memory: Option<Reserved>) -> Answer {
        let engine = app.engine().clone();
        let answer = app.writing(async move {
            let _memory = memory;
            engine.commit_file(&self.project, &self.path, change, self.credentials, self.key.as_deref()).await
        });
        let answer = answer.await?;
        let mut response = ok(&answer)?;
        if let [file] = answer.files.as_slice()
            && let Some(tag) = file.oid.and_then(|oid| value(&etag(&oid.0)))
        {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

/// `POST /projects/{project}/read`: many files of one snapshot, as JSON or a line each.
pub(crate) async fn read_batch(
    State(app): State<App>,
    acting: Acting,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let project = params.text("project")?.to_owned();
    let most = app.config().limits.batch_paths;
    let bytes = (u64::try_from(most).unwrap_or(u64::MAX)).saturating_mul(PATH_BYTES).min(app.config().json_bytes);
    let expect = Expect { bytes: bytes.max(Expect::SMALL.bytes), optional: false, list: Some(("paths", most)) };
    let request: ReadRequest = read_json(&app, &headers, body, expect).await?;
    acting.for_user(&app, request.user)?;
    let reading = app.reading(app.engine().batch_read(&project, request)).await?;
    let shape = Shape::asked(&headers);
    stream::send(&app, shape, ReadPieces::new(reading, shape)).await
}
