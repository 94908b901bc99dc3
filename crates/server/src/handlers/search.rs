//! Search.

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use treehold_engine::api::SearchRequest;

use crate::app::App;
use crate::body::{Expect, read_json};
use crate::context::holding;
use crate::params::Params;
use crate::rates::Acting;
use crate::respond::Answer;
use crate::searched::SearchPieces;
use crate::stream::{self, Shape};

/// Memory for a byte that is shown: its text in JSON, which grows while it is written.
const ANSWER_FACTOR: u64 = 2;

/// `POST /projects/{project}/search`: what matches in the files of one snapshot, as JSON or a line each, as it is found.
pub(crate) async fn search(
    State(app): State<App>,
    acting: Acting,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let project = params.text("project")?.to_owned();
    let request: SearchRequest = read_json(&app, &headers, body, Expect::SMALL).await?;
    acting.for_user(&app, request.user)?;
    let (mode, shape) = (request.mode, Shape::asked(&headers));
    // A stream holds a piece of its answer at a time.
    let answer = (shape == Shape::Object).then(|| request.shown_max().saturating_mul(ANSWER_FACTOR));
    let memory = answer.map(|bytes| app.reserve(bytes)).transpose()?;
    let searching = app.reading(app.engine().search(&project, request, shape == Shape::Lines)).await?;
    let response = stream::send(&app, shape, SearchPieces::new(searching, mode, shape)).await?;
    Ok(response.map(|body| holding(body, memory)))
}
