//! Status, diff, log.

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode, header};
use treehold_engine::api::{Diff, DiffRequest};

use crate::app::App;
use crate::context::holding;
use crate::headers::negotiate;
use crate::params::{Params, Query};
use crate::respond::{Answer, ok};

/// Memory for a byte of what is compared: itself, and its line in the answer.
pub(crate) const DIFF_FACTOR: u64 = 2;

/// `GET /projects/{project}/status?user&branch`
pub(crate) async fn status(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (project, user) = (params.text("project")?, query.required_uuid("user")?);
    ok(&app.reading(app.engine().status(project, user, query.text("branch")?)).await?)
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
    compared(&diff, &headers).map(|response| response.map(|body| holding(body, room)))
}

/// Unified text, or JSON if that is preferred.
pub(crate) fn compared(diff: &Diff, headers: &HeaderMap) -> Answer {
    match negotiate(headers, &["text/x-diff", "application/json"]) {
        0 => {
            let kind = [(header::CONTENT_TYPE, "text/x-diff; charset=utf-8")];
            Ok((StatusCode::OK, kind, diff.to_unified()).into_response())
        }
        _ => ok(diff),
    }
}

/// `GET /projects/{project}/log?ref&limit&cursor`
pub(crate) async fn log(State(app): State<App>, params: Params, query: Query) -> Answer {
    let (reference, cursor, limit) = (query.text("ref")?, query.cursor()?, query.limit()?);
    ok(&app.reading(app.engine().log(params.text("project")?, reference, cursor, limit)).await?)
}
