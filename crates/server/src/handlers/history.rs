//! Status, diff, log.

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode, header};
use treehold_engine::api::{Against, ConflictsRequest, DiffRequest};

use crate::app::App;
use crate::context::holding;
use crate::error::Problem;
use crate::headers::negotiate;
use crate::params::{Params, Query};
use crate::respond::{Answer, ok};

/// Memory for a byte of what is compared: itself, and its line in the answer.
const DIFF_FACTOR: u64 = 2;
/// The same for a byte of a text that is merged: itself, in the merged text, in a hunk, and in the answer.
const CONFLICT_FACTOR: u64 = 4;

/// `GET /projects/{project}/status?user&branch`
pub(crate) async fn status(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user) = (params.text("project")?, query.required_uuid("user")?);
    ok(&app.reading(app.engine().status(project, user, query.text("branch")?)).await?)
}

/// `GET /projects/{project}/conflicts?user&branch&path&against&limit&cursor`: sides and merged texts of what is not clean.
pub(crate) async fn conflicts(State(app): State<App>, params: Params, query: Query) -> Answer {
    let against = match query.text("against")? {
        None | Some("head") => Against::Head,
        Some("remote") => Against::Remote,
        Some(_) => {
            return Err(Problem::bad_parameter("bad_parameter", "against", "`against` can be `head` or `remote`"));
        }
    };
    let request = ConflictsRequest {
        user: query.required_uuid("user")?,
        branch: query.string("branch")?,
        path: query.string("path")?.map(String::into_bytes),
        against,
        cursor: query.cursor()?.map(str::to_owned),
        limit: query.limit()?,
    };
    let project = params.text("project")?.to_owned();
    let (page, room) =
        app.reading_within(CONFLICT_FACTOR, |engine| async move { engine.conflicts(&project, &request).await }).await?;
    Ok(ok(&page)?.map(|body| holding(body, room)))
}

/// `GET /projects/{project}/diff?user&branch` or `?from&to`: unified text, or JSON if that is preferred.
pub(crate) async fn diff(State(app): State<App>, params: Params, query: Query, headers: HeaderMap) -> Answer {
    let request = DiffRequest {
        user: query.uuid("user")?,
        branch: query.string("branch")?,
        from: query.string("from")?,
        to: query.string("to")?,
    };
    let project = params.text("project")?.to_owned();
    let (diff, room) =
        app.reading_within(DIFF_FACTOR, |engine| async move { engine.diff(&project, &request).await }).await?;
    let response = match negotiate(&headers, &["text/x-diff", "application/json"]) {
        0 => {
            let kind = [(header::CONTENT_TYPE, "text/x-diff; charset=utf-8")];
            (StatusCode::OK, kind, diff.to_unified()).into_response()
        }
        _ => ok(&diff)?,
    };
    Ok(response.map(|body| holding(body, room)))
}

/// `GET /projects/{project}/log?ref&limit&cursor`
pub(crate) async fn log(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (reference, cursor, limit) = (query.text("ref")?, query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().log(params.text("project")?, reference, cursor, limit)).await?)
}
