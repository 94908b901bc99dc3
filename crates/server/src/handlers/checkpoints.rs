//! Named checkpoints of a workspace.

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode};
use treehold_engine::api::{CheckpointRequest, Nothing};
use uuid::Uuid;

use crate::app::App;
use crate::body::{Expect, read_json};
use crate::error::Problem;
use crate::handlers::history::{DIFF_FACTOR, compared};
use crate::headers::origin;
use crate::params::{Params, Query};
use crate::rates::Acting;
use crate::respond::{Answer, json, ok};

/// `POST /projects/{project}/checkpoints`
pub(crate) async fn create(
    State(app): State<App>,
    acting: Acting,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let project = params.text("project")?.to_owned();
    let request: CheckpointRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    acting.for_user(&app, Some(request.user))?;
    let engine = app.engine().clone();
    let made = app.writing(async move { engine.create_checkpoint(&project, &request).await }).await?;
    json(StatusCode::CREATED, &made)
}

/// `GET /projects/{project}/checkpoints?user&branch&limit&cursor`
pub(crate) async fn list(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user) = (params.text("project")?, query.required_uuid("user")?);
    let (branch, cursor, limit) = (query.text("branch")?, query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().checkpoints(project, user, branch, cursor, limit)).await?)
}

fn named(params: &Params, query: &Query) -> Result<(String, Uuid, Uuid), Problem> {
    Ok((params.text("project")?.to_owned(), query.required_uuid("user")?, params.uuid("id")?))
}

/// `GET /projects/{project}/checkpoints/{id}?user`
pub(crate) async fn show(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user, id) = named(&params, &query)?;
    ok(&app.reading(app.engine().checkpoint(&project, user, id)).await?)
}

/// `GET /projects/{project}/checkpoints/{id}/diff?user`: from the checkpoint to the user's view now.
pub(crate) async fn diff(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, user, id) = named(&params, &query)?;
    let read =
        app.reading_within(DIFF_FACTOR, |engine| async move { engine.checkpoint_diff(&project, user, id).await });
    compared(read.await?, &headers)
}

/// `POST /projects/{project}/checkpoints/{id}/restore?user`
pub(crate) async fn restore(
    State(app): State<App>,
    params: Params,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (project, user, id) = named(&params, &query)?;
    let origin = origin(&headers)?;
    let Nothing {} = read_json(&app, &headers, body, Expect::OPTIONAL).await?;
    let engine = app.engine().clone();
    ok(&app.writing(async move { engine.restore_checkpoint(&project, user, id, origin).await }).await?)
}

/// `DELETE /projects/{project}/checkpoints/{id}?user`
pub(crate) async fn delete(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user, id) = named(&params, &query)?;
    let engine = app.engine().clone();
    app.writing(async move { engine.delete_checkpoint(&project, user, id).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
