//! Branches and tags.

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode};
use treehold_engine::EngineError;
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
    let held = held(&headers)?;
    let mut request: RefRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    request.expected_oid = agreed(request.expected_oid, held)?;
    let engine = app.engine().clone();
    let moved =
        app.writing(async move { engine.put_ref(&project, &name, &request).await.map_err(|error| unmet(error, held)) });
    let (moved, created) = moved.await?;
    json(if created { StatusCode::CREATED } else { StatusCode::OK }, &moved)
}

/// `DELETE /projects/{project}/refs/{*name}?expected_oid`
pub(crate) async fn delete(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let (project, name) = (params.text("project")?.to_owned(), params.text("name")?.to_owned());
    let given = query.oid("expected_oid")?.map(Oid);
    let held = held(&headers)?;
    let expected = agreed(given, held)?.map(|oid| oid.0);
    let engine = app.engine().clone();
    let deleted = app
        .writing(async move { engine.delete_ref(&project, &name, expected).await.map_err(|error| unmet(error, held)) });
    deleted.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /projects/{project}/promote`: an ephemeral branch stays from now on, or another one moves to where it is.
pub(crate) async fn promote(State(app): State<App>, params: Params, headers: HeaderMap, body: Body) -> Answer {
    let project = params.text("project")?.to_owned();
    let request: PromoteRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    let engine = app.engine().clone();
    ok(&app.writing(async move { engine.promote(&project, &request).await }).await?)
}

/// What the headers ask the ref to be; zeros = there must be none.
fn held(headers: &HeaderMap) -> Result<Option<Oid>, Problem> {
    match condition(headers)?.if_none_match_any {
        true => Ok(Some(Oid(ObjectId::from([0; 20])))),
        false => Ok(expected(headers)?.map(Oid)),
    }
}

/// A condition of the headers that does not hold is a failed precondition (412); the same in `expected_oid` is a conflict (409).
fn unmet(error: EngineError, held: Option<Oid>) -> EngineError {
    let holds = |held: Oid, oid: Option<Oid>| oid.map_or(held.0.is_null(), |oid| oid == held);
    match (error, held) {
        (EngineError::RefMoved { oid, .. }, Some(held)) if !holds(held, oid) => {
            EngineError::Precondition { oid, revision: None }
        }
        (error, _) => error,
    }
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
