//! Projects.

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode, header};
use treehold_engine::api::{ForkSpec, ProjectChange, ProjectSpec, ProjectView};
use uuid::Uuid;

use crate::app::App;
use crate::body::{Expect, read_json};
use crate::params::{Params, Query};
use crate::respond::{Answer, json, ok, value};

/// `POST /projects`: the id is ours.
pub(crate) async fn create(State(app): State<App>, headers: HeaderMap, body: Body) -> Answer {
    make(&app, None, &headers, body).await
}

/// `PUT /projects/{project}`: the id is the caller's; repeating it is safe.
pub(crate) async fn create_with_id(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    make(&app, Some(params.uuid("project")?), &headers, body).await
}

async fn make(app: &App, id: Option<Uuid>, headers: &HeaderMap, body: Body) -> Answer {
    let spec: ProjectSpec = read_json(app, headers, body, Expect::OPTIONAL).await?;
    let engine = app.engine().clone();
    let (project, created) = app.writing(async move { engine.create_project(id, &spec).await }).await?;
    made(if created { StatusCode::CREATED } else { StatusCode::OK }, &project)
}

fn made(status: StatusCode, project: &ProjectView) -> Answer {
    let mut response = json(status, project)?;
    if let Some(location) = value(&format!("/projects/{}", project.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `POST /projects/{project}/fork`: a new project with the same refs.
pub(crate) async fn fork(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let source = params.text("project")?.to_owned();
    let spec: ForkSpec = read_json(&app, &headers, body, Expect::OPTIONAL).await?;
    let engine = app.engine().clone();
    made(StatusCode::CREATED, &app.writing(async move { engine.fork_project(&source, &spec).await }).await?)
}

/// `PATCH /projects/{project}`: what the body does not name stays as it is.
pub(crate) async fn change(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let change: ProjectChange = read_json(&app, &headers, body, Expect::SMALL).await?;
    let engine = app.engine().clone();
    ok(&app.writing(async move { engine.change_project(&project, &change).await }).await?)
}

/// `GET /projects/{project}`
pub(crate) async fn show(State(app): State<App>, params: Params) -> Answer {
    ok(&app.reading(app.engine().show_project(params.text("project")?)).await?)
}

/// `GET /projects?limit&cursor`
pub(crate) async fn list(State(app): State<App>, query: Query) -> Answer {
    ok(&app.reading(app.engine().list_projects(query.cursor()?, query.limit()?)).await?)
}

/// `DELETE /projects/{project}`: final.
pub(crate) async fn delete(State(app): State<App>, params: Params) -> Answer {
    let project = params.text("project")?.to_owned();
    let engine = app.engine().clone();
    app.writing(async move { engine.delete_project(&project).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
