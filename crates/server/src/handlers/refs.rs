//! Branches and tags.

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode};
use treehold_engine::api::{Oid, PromoteRequest, RefRequest};
use treehold_object::ObjectId;

use crate::app::App;
use crate::body::{Expect, read_json};
use crate::conditions::{condition, expected};
use crate::error::Problem;
use crate::params::{Params, Query};
use crate::respond::{Answer, json, ok};

/// `GET /projects/{project}/refs?prefix&limit&cursor`
pub(crate) async fn list(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (prefix, cursor, limit) = (query.text("prefix")?, query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().refs(params.text("project")?, prefix, cursor, limit)).await?)
}

/// `GET /projects/{project}/reflog?ref&limit&cursor`: what refs were.
pub(crate) async fn reflog(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (name, cursor, limit) = (query.text("ref")?, query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().reflog(params.text("project")?, name, cursor, limit)).await?)
}

/// `PUT /projects/{project}/refs/{*name}`: creates or moves it. `If-Match: "oid"` stands for `expected_oid`, and `If-None-Match: *` for one of
/// zeros: there must be none.
pub(crate) async fn write(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let (project, name) = (params.text("project")?.to_owned(), params.text("name")?.to_owned());
    let held = match condition(&headers)?.if_none_match_any {
        true => Some(Oid(ObjectId::from([0; 20]))),
        false => expected(&headers)?.map(Oid),
    };
    let mut request: RefRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    request.expected_oid = agreed(request.expected_oid, held)?;
    let engine = app.engine().clone();
    let (moved, created) = app.writing(async move { engine.put_ref(&project, &name, &request).await }).await?;
    json(if created { StatusCode::CREATED } else { StatusCode::OK }, &moved)
}

/// `DELETE /projects/{project}/refs/{*name}?expected_oid`
pub(crate) async fn delete(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, name) = (params.text("project")?.to_owned(), params.text("name")?.to_owned());
    let given = query.oid("expected_oid")?.map(Oid);
    let expected = agreed(given, expected(&headers)?.map(Oid))?.map(|oid| oid.0);
    let engine = app.engine().clone();
    app.writing(async move { engine.delete_ref(&project, &name, expected).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /projects/{project}/promote`: an ephemeral branch stays from now on, or another one moves to where it is.
pub(crate) async fn promote(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let request: PromoteRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    let engine = app.engine().clone();
    ok(&app.writing(async move { engine.promote(&project, &request).await }).await?)
}

/// The expected value may be given in two places, but not two values.
fn agreed(given: Option<Oid>, header: Option<Oid>) -> Result<Option<Oid>, Problem> {
    match (given, header) {
        (Some(given), Some(header)) if given != header => {
            Err(Problem::bad_header("If-Match", "If-Match or If-None-Match and expected_oid say different things"))
        }
        (given, header) => Ok(given.or(header)),
    }
}
