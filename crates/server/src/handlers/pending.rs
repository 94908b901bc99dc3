//! Pending work: autosave, list, read, drop.

use axum::body::Body;
use axum::extract::{Request, State};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use treehold_engine::api::{PendingAnswer, PendingBody, PutPending};

use crate::app::App;
use crate::body;
use crate::conditions::{condition, etag, unconditional};
use crate::error::Problem;
use crate::headers::origin;
use crate::params::{Params, Query};
use crate::respond::{Answer, FileHead, json, ok, value};

/// `PUT /pending/{project}/{user}/{*path}?branch&mode&base&action`: autosave.
pub(crate) async fn write(State(app): State<App>, params: Params, query: Query, request: Request) -> Answer {
    let (Parts { headers, .. }, body) = request.into_parts();
    let (project, user) = (params.text("project")?.to_owned(), params.uuid("user")?);
    let path = params.bytes("path").to_owned();
    let (branch, mode, base) = (query.string("branch")?, query.parse("mode")?, query.oid("base")?);
    let (condition, origin) = (condition(&headers)?, origin(&headers)?);
    let deleted = match query.text("action")? {
        None => false,
        Some("deleted") => true,
        Some(_) => {
            return Err(Problem::bad_parameter("bad_parameter", "action", "`action` can only be `deleted`"));
        }
    };
    let (content, memory) = if deleted {
        no_content(&app, body).await?;
        (PendingBody::Deleted, None)
    } else {
        let upload = body::file(&app, &headers, body).await?;
        (PendingBody::Content(upload.bytes), upload.memory)
    };
    let put = PutPending { branch, mode, base, condition, body: content, origin };
    let server = app.clone();
    let saved = app.writing(async move {
        let _memory = memory;
        server.engine().put_pending(&project, user, &path, put).await
    });
    answer(&saved.await?)
}

/// A recorded deletion has no bytes; some would be lost without a word.
async fn no_content(app: &App, body: Body) -> Result<(), Problem> {
    match body::read(app, body, 0, "the body of a deletion").await {
        Ok(_) => Ok(()),
        Err(problem) if problem.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::bad_parameter("bad_parameter", "action", "`action=deleted` takes no body"))
        }
        Err(problem) => Err(problem),
    }
}

fn answer(saved: &PendingAnswer) -> Answer {
    let mut response = json(if saved.created { StatusCode::CREATED } else { StatusCode::OK }, saved)?;
    if let Some(tag) = saved.oid.and_then(|oid| value(&etag(&oid.0))) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// `GET /pending/{project}/{user}?branch&limit&cursor`
pub(crate) async fn list(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user) = (params.text("project")?, params.uuid("user")?);
    let (branch, cursor, limit) = (query.text("branch")?, query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().list_pending(project, user, branch, cursor, limit)).await?)
}

/// `GET, HEAD /pending/{project}/{user}/{*path}?branch`: what is pending there, and only that.
pub(crate) async fn read(State(app): State<App>, params: Params, query: Query, request: Request) -> Answer {
    let (Parts { method, headers, .. }, _) = request.into_parts();
    let (project, user) = (params.text("project")?.to_owned(), params.uuid("user")?);
    let (branch, path) = (query.string("branch")?, params.bytes("path").to_owned());
    let found = app
        .reading_within(1, |engine| async move { engine.pending_file(&project, user, branch.as_deref(), &path).await });
    let ((entry, content), room) = found.await?;
    let (Some(oid), Some(mode)) = (entry.oid, entry.mode) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "pending_deletion", "the file is pending as deleted"));
    };
    FileHead::of_pending(oid, mode, entry.revision, &content).answer(&method, &headers, content, room)
}

/// `DELETE /pending/{project}/{user}/{*path}?branch`: one change goes.
pub(crate) async fn drop_one(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, user) = (params.text("project")?.to_owned(), params.uuid("user")?);
    let (branch, path) = (query.string("branch")?, params.bytes("path").to_owned());
    let (condition, origin) = (condition(&headers)?, origin(&headers)?);
    let engine = app.engine().clone();
    let dropped =
        app.writing(
            async move { engine.drop_pending(&project, user, branch.as_deref(), &path, &condition, origin).await },
        );
    ok(&dropped.await?)
}

/// `DELETE /pending/{project}/{user}?branch`: all changes go.
pub(crate) async fn drop_all(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, user) = (params.text("project")?.to_owned(), params.uuid("user")?);
    let (branch, origin) = (query.string("branch")?, origin(&headers)?);
    unconditional(&headers)?;
    let engine = app.engine().clone();
    let dropped = app.writing(async move { engine.drop_all_pending(&project, user, branch.as_deref(), origin).await });
    ok(&dropped.await?)
}
