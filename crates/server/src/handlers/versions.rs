//! Local history.

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, Method, StatusCode};
use treehold_engine::Against;
use treehold_engine::api::Nothing;

use crate::app::App;
use crate::body::{Expect, read_json};
use crate::conditions::condition;
use crate::error::Problem;
use crate::handlers::history::{DIFF_FACTOR, compared};
use crate::headers::origin;
use crate::params::{Params, Query};
use crate::respond::{Answer, FileHead, ok};

/// `GET /projects/{project}/history?user&branch&path&limit&cursor`
pub(crate) async fn list(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user) = (params.text("project")?, query.required_uuid("user")?);
    let (branch, path) = (query.text("branch")?, query.text("path")?);
    let (cursor, limit) = (query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().versions(project, user, branch, path, cursor, limit)).await?)
}

/// `GET, HEAD /projects/{project}/history/{id}?user`: the bytes of a version.
pub(crate) async fn read(
    State(app): State<App>,
    method: Method,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Answer {
    let (project, id) = (params.text("project")?.to_owned(), params.text("id")?.to_owned());
    let user = query.required_uuid("user")?;
    let found = app.reading_within(1, |engine| async move { engine.version_file(&project, user, &id).await }).await?;
    let ((entry, content), room) = found;
    let (Some(oid), Some(mode)) = (entry.oid, entry.mode) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "version_deletion", "the version is a deletion of the file"));
    };
    FileHead::of_pending(oid, mode, entry.revision, &content).answer(&method, &headers, content, room)
}

/// `GET /projects/{project}/history/{id}/diff?user&against`: `current` if not given, `head`, or the id of another version.
pub(crate) async fn diff(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, id) = (params.text("project")?.to_owned(), params.text("id")?.to_owned());
    let user = query.required_uuid("user")?;
    let against = query.parse("against")?.unwrap_or(Against::Current);
    let read = app
        .reading_within(DIFF_FACTOR, |engine| async move { engine.version_diff(&project, user, &id, &against).await });
    compared(read.await?, &headers)
}

/// `POST /projects/{project}/history/{id}/restore?user`, with `If-Match` as for an autosave.
pub(crate) async fn restore(
    State(app): State<App>,
    params: Params,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (project, id) = (params.text("project")?.to_owned(), params.text("id")?.to_owned());
    let (user, condition) = (query.required_uuid("user")?, condition(&headers)?);
    let origin = origin(&headers)?;
    let Nothing {} = read_json(&app, &headers, body, Expect::OPTIONAL).await?;
    let engine = app.engine().clone();
    ok(&app.writing(async move { engine.restore_version(&project, user, &id, condition, origin).await }).await?)
}
